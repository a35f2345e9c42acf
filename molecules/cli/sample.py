"""``sample``: draw molecules, graphs or sequences from a trained model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    folder_of,
    given,
    load,
    sampler_of,
    scaffold_of,
    settings_of,
    taken,
)
from .results import known_beside, pictures, report, scores_of, table_of, write_samples

__all__ = ["arguments", "reading_of", "sample"]


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


def reading_of(model: Any, errors: str, alphabet: str | None) -> dict[str, Any]:
    """How --train and --reference are read beside the samples of a model."""
    from ..systems import kind_of

    if kind_of(model) == "sequences":
        return {"errors": errors, "alphabet": alphabet or getattr(model, "alphabet", None)}
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
            sampler=sampler_of(trained.sample, sampler),
            steps=steps,
            nodes=nodes,
            scaffold=scaffold_of(trained, scaffold),
            max_batch=max_batch,
            seed=seed,
            progress=progress,
        )
        known = known_beside(trained, train, reference, **reading_of(trained, errors, alphabet))
        folder = folder_of(out)
        begin = time.perf_counter()
        result = trained.sample(n, **asked)
        seconds = time.perf_counter() - begin
        written = write_samples(result, folder)
        scores = scores_of(result, known)
        typer.echo(table_of(scores) if scores else "no scores of these samples: give --train or --reference")
        written.append(
            report(
                folder,
                scores,
                model=None if model is None else str(model),
                system=type(trained).__name__,
                n=n,
                info=result.info,
                scaffold=scaffold,
                train=train,
                reference=reference,
                seconds=round(seconds, 2),
            )
        )
        label = type(trained).__name__
        written += pictures(result, folder, draw, known.reference, scores, label=label, highlight=scaffold)
        _tell(written)


def _tell(written: list[Path]) -> None:
    for path in written:
        typer.echo(f"wrote {path}")
