"""``train``: a model of the user's molecules, graphs or sequences."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .messages import told
from .options import (
    Alphabet,
    Charges,
    Column,
    Errors,
    Fragments,
    Hydrogens,
    Isotopes,
    Limit,
    Lower,
    MaxAtoms,
    Progress,
    Radicals,
    Set,
    Stereo,
    Units,
    Unknown,
    Vocabulary,
    flag,
    folder_of,
    given,
    policy_of,
    read,
    settings_of,
)

__all__ = ["train"]


def train(
    system: Annotated[
        Literal["gdss", "digress", "pard", "edm", "gfmdiff", "sequence"],
        typer.Argument(metavar="SYSTEM", help="gdss, digress, pard: graphs; edm, gfmdiff: 3-D; sequence: DNA ..."),
    ],
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="File, folder or named set: qm9, spectre_community_small, enzymes ...")
    ],
    out: Annotated[Path, typer.Option(help="Folder: model/ (and best/), state/, losses.csv and .png, report.json.")],
    preset: Annotated[
        str | None,
        typer.Option(
            help="Settings by name: published ones by data set (qm9, moses, planar ...), or small, for a CPU (gdss is "
            "small as it is); default: of the published set most like the data. The others are printed."
        ),
    ] = None,
    settings: Set = None,
    split: Annotated[
        Literal["none", "random", "scaffold"],
        typer.Option(help="Hold data out: train, val and test go to data/ in --out; val chooses best/."),
    ] = "none",
    shares: Annotated[str, typer.Option(help="Shares of train, val and test.")] = "0.8,0.1,0.1",
    epochs: Annotated[float | None, typer.Option(help="Passes over the data; default: the preset's.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Optimizer steps in all, instead of epochs.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Over all processes; default: the preset's.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate; default: the preset's.")] = None,
    save_every: Annotated[
        int | None,
        typer.Option(
            help="Steps between checkpoints; default: a tenth of the training, at most 500. There is nothing to resume "
            "before the first."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides initial weights, order, noise and the split.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the training in --out.")] = False,
    limit: Limit = None,
    column: Column = None,
    properties: Annotated[
        list[str] | None,
        typer.Option(
            "--property",
            help="Column of numbers that samples can be asked for later, sample --condition (digress, edm, gfmdiff); "
            "may be repeated.",
        ),
    ] = None,
    vocabulary: Vocabulary = None,
    max_atoms: MaxAtoms = None,
    hydrogens: Hydrogens = None,
    fragments: Fragments = None,
    charges: Charges = None,
    stereo: Stereo = None,
    isotopes: Isotopes = None,
    radicals: Radicals = None,
    units: Units = None,
    alphabet: Alphabet = None,
    unknown: Unknown = None,
    lower: Lower = None,
    errors: Errors = "raise",
    devices: Annotated[str, typer.Option(help="'auto', a number or a list such as 0,2.")] = "auto",
    num_nodes: Annotated[int, typer.Option(help="Machines.")] = 1,
    strategy: Annotated[str, typer.Option(help="Lightning's: auto, ddp, fsdp ...")] = "auto",
    accelerator: Annotated[str, typer.Option(help="auto, cpu, gpu ...")] = "auto",
    precision: Annotated[str, typer.Option(help="32-true, bf16-mixed ...")] = "32-true",
    progress: Progress = True,
) -> None:
    """Train a model on your molecules, graphs or sequences.

    The preset is that of the published data set most like yours; --set key=value overrides any of its settings. An
    interrupted training goes on from its last checkpoint with --resume and otherwise the same options.

    \b
      scidiffuse molecules train edm mine.sdf --preset small --out runs/mine

    \b
      scidiffuse molecules train digress mine.csv --preset small --property logp --out runs/logp

    \b
      scidiffuse molecules train gdss qm9 --vocabulary CNOF --errors skip \\
          --split random --out runs/gdss-qm9
    """
    from ...core.messages import resumable
    from ...core.outputs import draw, write_json
    from ...core.training import hardware
    from ..plots import training_curve
    from ..systems import kind_of
    from ..systems import system as class_of

    begin = time.perf_counter()
    with told():
        folder = folder_of(out)
        with resumable(folder) as at:
            cls, kind = class_of(system), kind_of(system)
            everything = read(
                data,
                kind,
                errors,
                limit=limit,
                column=column,
                properties=properties,
                vocabulary=vocabulary,
                max_atoms=max_atoms,
                standardise=policy_of(
                    hydrogens=hydrogens,
                    fragments=fragments,
                    charges=charges,
                    stereo=stereo,
                    isotopes=isotopes,
                    radicals=radicals,
                ),
                units=units,
                alphabet=alphabet,
                unknown=unknown,
                lower=lower,
            )
            parts = _parts(everything, kind, split, shares, seed)
            name = preset or cls._fitting(everything)
            changes = _conditioned(cls, system, everything, properties, settings_of(settings))
            model = _untrained(cls, system, everything, name, changes)
            others = ", ".join(other for other in cls.config_class.presets if other != name)
            typer.echo(f"{system} with the settings {name!r} (--preset: {others})")
            if resume and at.before is None:
                typer.echo(f"there is no training in {folder} to go on with: a new one begins", err=True)

            def write_parts() -> None:
                for name, part in parts.items() if split != "none" else ():
                    _write_part(part, kind, folder / "data", name)

            model.fit(
                parts["train"],
                **given(
                    epochs=epochs,
                    max_steps=max_steps,
                    batch_size=batch_size,
                    lr=lr,
                    save_every=save_every,
                    val=parts.get("val"),
                ),
                seed=seed,
                out=folder,
                resume=resume,
                progress=progress,
                callbacks=[*at.callbacks(), *_at_the_start(write_parts)],
                **hardware(devices, num_nodes, strategy, accelerator, precision),
            )
        from ...core import checkpoint

        where = folder / ("best" if checkpoint.is_checkpoint(folder / "best") else "model")
        report = {
            "system": type(model).__name__,
            "data": data,
            "sizes": {name: len(part) for name, part in parts.items()},
            "preset": name,
            "config": asdict(model.config),
            "seed": seed,
            "steps": model.steps,
            "seconds": round(time.perf_counter() - begin, 1),
            "last": model.history[-1] if model.history else {},
        }
        write_json(report, folder / "report.json")
        if model.history:
            draw(training_curve(model.history), folder / "losses.png")
        done = f"already at step {model.steps}, nothing to do"
        if at.before != model.steps:
            done = f"trained to step {model.steps} on {len(parts['train'])} of {data}"
        typer.echo(f"{done}; the model is in {where}")


def _at_the_start(action: Callable[[], None]) -> list[Any]:
    """Callbacks that do something once a training has begun, in one process: `fit` has refused what it refuses before,
    and what is in the folder of another training stays as it is."""
    try:
        from lightning.pytorch.callbacks import LambdaCallback
    except ImportError:  # `fit` says so
        return []
    return [LambdaCallback(on_train_start=lambda trainer, _: action() if trainer.is_global_zero else None)]


def _conditioned(
    cls: Any, system: str, data: Any, properties: list[str] | None, changes: dict[str, Any]
) -> dict[str, Any]:
    """The single settings, with the properties that the model is to be told.

    Raises:
        ValueError: a system that cannot be asked for properties.
    """
    if not properties:
        return changes
    if "properties" not in {f.name for f in fields(cls.config_class)}:
        raise ValueError(f"--property: {system} cannot be asked for properties; digress, edm and gfmdiff can")
    for name in properties:
        missing = int(data.properties[name].isnan().sum())
        if missing:
            typer.echo(f"{missing} of {len(data)} have no value of {name}", err=True)
    return {"properties": tuple(properties)} | changes


def _untrained(cls: Any, name: str, data: Any, preset: str, changes: dict[str, Any]) -> Any:
    """A model for the data, with the preset and the single settings.

    Raises:
        ValueError: a setting that the system does not have, or one out of range.
    """
    model = cls.for_dataset(data, preset)
    known = sorted(f.name for f in fields(model.config))
    if strange := [key for key in changes if key not in known]:
        own = inspect.signature(train).parameters
        if strange[0] in own:
            raise ValueError(f"{flag(strange[0])} is an option of its own: give it there, not by --set")
        more = ", ".join(flag(key) for key in known if key in own)
        raise ValueError(
            f"--set {strange[0]}: {name} has no such setting; it has {', '.join(k for k in known if k not in own)}"
            + (f"; options of their own are {more}" if more else "")
        )
    return cls.for_dataset(data, preset, **changes) if changes else model


def _parts(data: Any, kind: str, split: str, shares: str, seed: int) -> dict[str, Any]:
    """Train, val and test; entries that are the same molecule or sequence stay in one part."""
    if split == "none":
        return {"train": data}
    from ..data import random_split, scaffold_split

    try:
        numbers = [float(s) for s in shares.split(",")]
    except ValueError:
        raise ValueError(f"--shares is three numbers such as 0.8,0.1,0.1, got {shares!r}") from None
    names = data.strings() if kind == "sequences" else getattr(data, "smiles", None)
    names = None if names is None else list(names)
    if split == "scaffold":
        if kind == "sequences" or names is None:
            raise ValueError("--split scaffold is of molecules, and these have no SMILES; use --split random")
        found = scaffold_split(names, numbers, seed=seed)
    elif kind == "sequences":
        found = _split_alike(names or [], numbers, seed)
    else:
        found = random_split(
            data if names is None else names, numbers, seed=seed, by=None if names is None else "inchikey"
        )
    rows = {"train": found.train, "val": found.val, "test": found.test}
    return {name: _take(data, kind, some) for name, some in rows.items() if len(some)}


def _split_alike(strings: list[str], shares: list[float], seed: int) -> Any:
    """A random split in which equal strings share their part."""
    import numpy as np

    from ..data import Split, random_split

    different = list(dict.fromkeys(strings))
    number = {text: k for k, text in enumerate(different)}
    some = random_split(different, shares, seed=seed, by=None)
    of = np.array([number[text] for text in strings])
    return Split(*(np.flatnonzero(np.isin(of, part)) for part in (some.train, some.val, some.test)))


def _take(data: Any, kind: str, rows: Any) -> Any:
    if kind != "sequences":
        return data[rows]
    from ..data import from_strings

    strings = data.strings()
    known = bool(data.known.equal(data.mask))
    return from_strings(
        [strings[r] for r in rows], data.alphabet, unknown="raise" if known else "keep", ids=[data.ids[r] for r in rows]
    )


def _write_part(part: Any, kind: str, folder: Path, name: str) -> None:
    """One part as the file that `sample --train` and `evaluate` take."""
    from ..data import write_fasta
    from ..data.files import write_text

    if kind == "sequences":
        write_fasta(part, folder / f"{name}.fasta")
    elif kind == "graphs" and part.smiles is not None:
        write_text(folder / f"{name}.smi", "".join(f"{s} {i}\n" for s, i in zip(part.smiles, part.ids, strict=True)))
    else:
        folder.mkdir(parents=True, exist_ok=True)
        part.save(folder / f"{name}.npz")
