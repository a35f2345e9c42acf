"""``sample``: draw molecules, graphs or sequences from a trained model."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from .messages import told
from .options import (
    Alphabet,
    Condition,
    Draw,
    Errors,
    GuidanceScale,
    MaxBatch,
    Model,
    Nodes,
    Number,
    Out,
    Progress,
    Reference,
    Sampler,
    Scaffold,
    Seed,
    Set,
    Steps,
    Train,
    condition_of,
    given,
    load,
    scaffold_of,
    settings_of,
    taken,
)
from .results import (
    clear,
    folder_for,
    known_beside,
    model_name,
    pictures,
    report,
    scores_of,
    table_of,
    write_samples,
)

if TYPE_CHECKING:
    from ...core.scores import Score

__all__ = ["arguments", "in_pieces", "reading_of", "sample", "sampler_for"]

#: The samplers of the core for systems with discrete states; others take those for continuous ones.
_DISCRETE = {
    "DiGress": ("Ancestral", "Euler", "TauLeaping"),
    "MaskedSequence": ("Ancestral", "ConfidenceOrdered", "Euler", "FirstHitting", "Remasking", "TauLeaping"),
}


def arguments(model: Any, settings: Mapping[str, Any], condition: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """What a model's `sample` is called with, checked against what it takes.

    Raises:
        ValueError: an option that this system does not have.
    """
    who = type(model).__name__
    asked = dict(given(**options))
    if twice := [key for key in settings if key in asked]:
        raise ValueError(f"--set {twice[0]}: it has an option of its own, give it there")
    return taken(model.sample, who, asked | dict(settings)) | dict(condition)


def sampler_for(model: Any, text: str | None) -> Any:
    """A sampler by the system's own name for it, or one of the core as it is written in Python, of those that can
    sample from this system.

    Raises:
        ValueError: a name that is none of them; they are listed.
    """
    parameter = inspect.signature(model.sample).parameters.get("sampler")
    if text is None or parameter is None or (text[:1].islower() and "str" in str(parameter.annotation)):
        return text
    from ...core import discrete, samplers
    from ...core.cli import ABSTRACT, parse

    names = _DISCRETE.get(type(model).__name__)
    package: Any = samplers if names is None else discrete
    known = {name: getattr(package, name) for name in names or package.__all__ if name not in ABSTRACT}
    known = {name: value for name, value in known.items() if isinstance(value, type) and hasattr(value, "plan")}
    try:
        return parse(text, known)
    except typer.BadParameter as error:
        raise ValueError(f"--sampler: {error.message}") from error


def reading_of(model: Any, errors: str, alphabet: str | None) -> dict[str, Any]:
    """How --train and --reference are read beside the samples of a model.

    Raises:
        ValueError: an alphabet that is not the model's.
    """
    from ..systems import kind_of

    if kind_of(model) == "sequences":
        from ..data.sequences import ALPHABETS

        own = getattr(model, "alphabet", None)
        if alphabet is not None and own is not None and ALPHABETS.get(alphabet, alphabet) != own:
            raise ValueError(f"--alphabet {alphabet}: the model's letters are {own}, and its samples have no others")
        return {"errors": errors, "alphabet": own or alphabet}
    if alphabet is not None:
        raise ValueError("--alphabet is of sequences")
    return {"errors": errors}


def sample(
    out: Out,
    n: Number = 100,
    model: Model = None,
    sampler: Sampler = None,
    steps: Steps = None,
    nodes: Nodes = None,
    scaffold: Scaffold = None,
    condition: Condition = None,
    guidance_scale: GuidanceScale = None,
    settings: Set = None,
    train: Train = None,
    reference: Reference = None,
    alphabet: Alphabet = None,
    errors: Errors = "skip",
    draw: Draw = 36,
    max_batch: MaxBatch = None,
    seed: Seed = 0,
    progress: Progress = True,
) -> None:
    """Draw molecules, graphs or sequences from a trained model.

    Writes the samples (.smi, .sdf, .xyz, .fasta, .npz), report.json (validity without and with correction, connected,
    unique, novel with --train, each with its n and interval), and pictures.

    \b
      scidiffuse molecules sample -n 200 --sampler s4 --steps 200 --out samples
      scidiffuse molecules sample --model runs/mine --train mine.smi --out samples
    """
    with told():
        if n < 1:
            raise ValueError(f"-n must be at least 1, got {n}")
        trained = load(model)
        asked = arguments(
            trained,
            settings_of(settings),
            condition_of(trained.sample, condition, guidance_scale),
            sampler=sampler_for(trained, sampler),
            steps=steps,
            nodes=nodes,
            scaffold=scaffold_of(trained, scaffold),
            max_batch=max_batch,
            seed=seed,
            progress=progress,
        )
        known = known_beside(trained, train, reference, **reading_of(trained, errors, alphabet))
        with folder_for(out) as folder:
            begin = time.perf_counter()
            result = trained.sample(n, **asked)
            seconds = time.perf_counter() - begin
            clear(folder)
            written = write_samples(result, folder)
            scores = scores_of(result, known)
            typer.echo(table_of(scores) if scores else "no scores of these samples: give --train or --reference")
            in_pieces(scores)
            facts = {
                "model": model_name(model),
                "system": type(trained).__name__,
                "n": n,
                "info": result.info,
                "scaffold": scaffold,
                "train": train,
                "reference": reference,
                "seconds": round(seconds, 2),
            }
            report(folder, scores, written, **facts)
            label = type(trained).__name__
            written += pictures(result, folder, draw, known.reference, scores, label=label, highlight=scaffold)
            written.append(report(folder, scores, written, **facts))
            for path in written:
                typer.echo(f"wrote {path}")


def in_pieces(scores: Mapping[str, Score]) -> None:
    """Say so where samples in space are valid, but not molecules in one piece."""
    valid, whole = scores.get("valid_rdkit"), scores.get("connected_edm")
    if valid is None or whole is None:
        return
    hits, pieces = round(valid.value * valid.n), round((valid.value - whole.value) * valid.n)
    if pieces > 0:
        typer.echo(
            f"valid, but loose atoms or fragments: {pieces} of {hits} samples; they count as unique and novel, too, so "
            "that connected_edm is the share to look at",
            err=True,
        )
