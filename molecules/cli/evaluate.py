"""``evaluate``: score a file of samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .messages import told
from .options import (
    SDF,
    XYZ,
    Alphabet,
    Column,
    Draw,
    Errors,
    Limit,
    Reference,
    Train,
    Units,
    entries_of,
    flag,
    folder_of,
    given,
    known_of,
    read,
    strings_of,
    suffix_of,
)
from .results import kind_of_file, report, table_of

if TYPE_CHECKING:
    from ...core.scores import Score

__all__ = ["evaluate"]

SHOWN = 20


def evaluate(
    samples: Annotated[str, typer.Argument(metavar="SAMPLES", help="File of molecules, graphs or sequences.")],
    train: Train = None,
    reference: Reference = None,
    suite: Annotated[
        Literal["basic", "moses", "guacamol", "gdss", "drug"] | None,
        typer.Option(help="Of SMILES: the scores of a paper; drug: mean QED, logP, SA, weight [default: basic]."),
    ] = None,
    kernel: Annotated[
        Literal["emd", "tv"] | None,
        typer.Option(help="Of graphs: emd as GDSS, tv as SPECTRE and DiGress [default: emd]."),
    ] = None,
    planar: Annotated[bool, typer.Option("--planar", help="Of graphs: how many are planar and in one piece.")] = False,
    poses: Annotated[bool, typer.Option("--posebusters", help="Of geometries: PoseBusters' checks (slow).")] = False,
    strain: Annotated[bool, typer.Option("--strain", help="Of geometries: MMFF94 strain energy (slow).")] = False,
    kmer: Annotated[
        int | None, typer.Option(min=1, help="Of sequences: length of the words that are compared [default: 3].")
    ] = None,
    column: Column = None,
    limit: Limit = None,
    units: Units = None,
    alphabet: Alphabet = None,
    allow_small: Annotated[bool, typer.Option("--allow-small", help="FCD below 2,048 molecules, too.")] = False,
    errors: Errors = "raise",
    seed: Annotated[int, typer.Option(help="Of the bootstraps.")] = 0,
    draw: Draw = 36,
    out: Annotated[Path | None, typer.Option(help="Folder that receives report.json and pictures.")] = None,
) -> None:
    """Score samples beside training and reference data.

    What is scored follows from the file: SMILES by --suite, graphs by MMDs of their statistics and by how many are in
    one piece, different and (with --train) new, geometries by the stability of EDM (and --posebusters, --strain),
    sequences by k-mers. What is no molecule counts as invalid: SMILES and graphs are named, geometries are taken as
    they stand. --errors skip leaves out entries of other files that cannot be read and names them.

    \b
      scidiffuse molecules evaluate samples/samples.smi --suite moses \\
          --train train.smi --reference test.smi --out scores
    """
    with told():
        folder = None if out is None else folder_of(out)
        kind = kind_of_file(samples)
        flags = {"planar": planar, "poses": poses, "strain": strain, "allow_small": allow_small}
        words = {"suite": suite, "kernel": kernel, "kmer": kmer, "column": column, "units": units, "alphabet": alphabet}
        _fits(kind, **words, **{name: True for name, on in flags.items() if on})
        options: dict[str, Any] = {"errors": errors}
        facts: dict[str, Any] = {"samples": samples, "kind": kind, "train": train, "reference": reference}
        if kind == "smiles":
            scores = _molecules(samples, train, reference, suite or "basic", column, limit, allow_small, seed, facts)
        elif kind == "graphs":
            scores = _graphs(samples, train, reference, kernel or "emd", planar, limit, seed, options)
        elif kind == "atoms":
            scores = _geometries(
                samples, train, reference, poses, strain, seed, options | given(limit=limit, units=units)
            )
        else:
            reading = options | given(limit=limit, alphabet=alphabet, column=column)
            scores = _letters(samples, train, reference, kmer or 3, seed, reading)
        typer.echo(table_of(scores))
        if folder is not None:
            typer.echo(f"wrote {report(folder, scores, **facts)}")
            for path in _pictures(samples, kind, reference, scores, folder, draw, options | given(limit=limit)):
                typer.echo(f"wrote {path}")


def _fits(kind: str, **options: Any) -> None:
    """Refuse options that mean nothing for such a file."""
    homes = {
        "suite": ("smiles",),
        "allow_small": ("smiles",),
        "kernel": ("graphs",),
        "planar": ("graphs",),
        "poses": ("atoms",),
        "strain": ("atoms",),
        "units": ("atoms",),
        "kmer": ("sequences",),
        "alphabet": ("sequences",),
        "column": ("smiles", "sequences"),
    }
    words = {"poses": "--posebusters"}
    for name in given(**options):
        if kind not in homes[name]:
            raise ValueError(f"{words.get(name, flag(name))} is not for a file of {kind}: leave it out")


def _molecules(
    samples: str,
    train: str | None,
    reference: str | None,
    suite: str,
    column: str | None,
    limit: int | None,
    allow_small: bool,
    seed: int,
    facts: dict[str, Any],
) -> dict[str, Score]:
    from .. import metrics
    from ..chem import parse

    smiles = entries_of(samples, column=column, limit=limit)
    bad = [f"entry {k + 1}: {_shown(s)}" for k, s in enumerate(smiles) if not s or parse(s) is None]
    facts["invalid"] = bad[:SHOWN] + ([f"and {len(bad) - SHOWN} more"] if len(bad) > SHOWN else [])
    if bad:
        typer.echo(f"{len(bad)} of {len(smiles)} are no molecules: {'; '.join(facts['invalid'][:5])}", err=True)
    _needs(suite, train, reference)
    names = list(metrics.SUITES[suite])
    if train is None:  # what needs it is left out of the basic suite, and asked for by the others
        names = [n for n in names if suite != "basic" or n not in ("novel", "valid_unique_novel")]
    return metrics.evaluate(
        smiles,
        train=None if train is None else known_of(train, smiles),
        reference=None if reference is None else strings_of(reference),
        suite=names,
        allow_small=allow_small,
        seed=seed,
    )


def _needs(suite: str, train: str | None, reference: str | None) -> None:
    """Refuse a suite of which scores need a file that is not given; the basic one leaves those out.

    Raises:
        ValueError: that names them.
    """
    from ..metrics.report import SUITES, missing

    names = SUITES[suite] if suite != "basic" else ()
    for what, wanted in missing(names, train=train, reference=reference).items():
        raise ValueError(
            f"--suite {suite}: {', '.join(wanted)} cannot be computed without --{what}: give it, or take --suite "
            "basic or drug, which need none"
        )


def _shown(smiles: str | None) -> str:
    return "its atoms and bonds are no molecule" if smiles is None else repr(smiles)


def _graphs(
    samples: str,
    train: str | None,
    reference: str | None,
    kernel: Any,
    planar: bool,
    limit: int | None,
    seed: int,
    options: dict[str, Any],
) -> dict[str, Score]:
    from .. import metrics

    if reference is None:
        raise ValueError("graphs are scored by comparison: give --reference, a file or a named set")
    found = read(samples, "graphs", limit=limit, **options)
    held = read(reference, "graphs", **options)
    known = None if train is None else read(train, "graphs", **options)
    return metrics.graph_vun(found, known, planar=planar) | metrics.graph_mmd(found, held, kernel, seed=seed)


def _geometries(
    samples: str,
    train: str | None,
    reference: str | None,
    poses: bool,
    strain: bool,
    seed: int,
    options: dict[str, Any],
) -> dict[str, Score]:
    from .. import metrics
    from ..chem import canonical
    from ..data.extras import chem

    atoms = _samples_in_space(samples, **options)
    _say_distances(atoms, units=options.get("units"))
    trained = None if train is None else strings_of(train)
    held = None if reference is None else read(reference, "atoms", errors=options["errors"])
    scores = metrics.stability(atoms, seed=seed)
    mols = _with_bonds(atoms)
    with_none = [None if m is None else canonical(chem().RemoveHs(m)) for m in mols]
    names = ["valid_rdkit"] + (["unique_all"] if any(with_none) else [])
    names += ["novel", "valid_unique_novel"] if trained is not None and any(with_none) else []
    known: Any = None if trained is None else known_of(trained, with_none)
    scores |= metrics.evaluate(with_none, train=known, suite=names)
    if poses:
        scores |= metrics.posebusters(mols)
    if strain:
        found = metrics.strain(mols, seed=seed)
        scores[found.name] = found
    if held is not None:
        real = metrics.stability(held, seed=seed)
        scores |= {f"{name}, reference": score for name, score in real.items()}
    return scores


def _samples_in_space(name: str, units: Any = None, **options: Any) -> Any:
    """Geometries as they stand: what is no possible molecule is to be scored, not refused. In Å unless said."""
    from ..data.sdf import read_sdf_as_it_is

    suffix = suffix_of(name)
    if suffix in SDF:
        return read_sdf_as_it_is(name, units=units or "angstrom", **options)
    return read(name, "atoms", units=(units or "angstrom") if suffix in XYZ else units, **options)


def _say_distances(atoms: Any, units: Any) -> None:
    """Say how many samples have distances as if they were not in Å, where nobody said that they are."""
    from ..data.atoms import LONGEST, SHORTEST, check_distances

    odd = 0
    for positions, mask in zip(atoms.positions.numpy(), atoms.mask.numpy(), strict=True):
        try:
            check_distances(positions[mask])
        except ValueError:
            odd += 1
    if odd and units is None:
        typer.echo(
            f"warning: the shortest distance in {odd} of {len(atoms)} samples is not one of molecules in Å ({SHORTEST} "
            f"to {LONGEST}); they are scored as they are (--units bohr converts, --units angstrom says they are right)",
            err=True,
        )


def _with_bonds(atoms: Any) -> list[Any]:
    """Molecules by the bonds of the file, else by distance as EDM sees them; None where RDKit refuses."""
    from ..edm.samples import molecules_in

    if atoms.bonds is None:
        return molecules_in(atoms)[1]
    out: list[Any] = []
    for b in range(len(atoms)):
        try:
            out += atoms[b].to_mols()
        except ValueError:
            out.append(None)
    return out


def _letters(
    samples: str, train: str | None, reference: str | None, kmer: int, seed: int, reading: dict[str, Any]
) -> dict[str, Score]:
    from .. import metrics
    from .results import _share

    found = read(samples, "sequences", **reading)
    strings = found.strings()
    different = set(strings)
    scores = {"unique_sequences": _share("unique_sequences", len(different), len(strings), "different sequences")}
    other = {k: v for k, v in reading.items() if k != "limit"} | {"alphabet": found.alphabet}
    if train is not None:
        known = set(read(train, "sequences", **other).strings())
        new = len(different - known)
        text = f"different sequences not among the {len(known)} of training"
        scores["novel_sequences"] = _share("novel_sequences", new, len(different), text)
    if reference is not None:
        held = read(reference, "sequences", **other).strings()
        score = metrics.kmer_pearson(strings, held, kmer, alphabet=found.alphabet, seed=seed)
        scores[score.name] = score
    return scores


def _pictures(
    samples: str,
    kind: str,
    reference: str | None,
    scores: dict[str, Score],
    folder: Path,
    count: int,
    options: dict[str, Any],
) -> list[Path]:
    from types import SimpleNamespace

    from .results import pictures

    if kind == "smiles":
        from ..chem import canonical

        result = SimpleNamespace(smiles=[canonical(s) if s else None for s in entries_of(samples, **options)])
        return pictures(result, folder, count, None if reference is None else strings_of(reference), scores)
    if kind == "graphs":
        return pictures(SimpleNamespace(graphs=read(samples, "graphs", **options)), folder, count, None, scores)
    if kind == "atoms":
        atoms = _samples_in_space(samples, **options)
        return pictures(SimpleNamespace(atoms=atoms, smiles=None), folder, count, None, scores)
    sequences = read(samples, "sequences", **options)
    return pictures(SimpleNamespace(sequences=sequences), folder, count, None, scores)
