"""``convert``: between the formats of the field, under one stated policy, with counts of what was dropped."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from .carried import beside, fitting
from .messages import told
from .options import (
    FASTA,
    SDF,
    TABLES,
    XYZ,
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
    Properties,
    Radicals,
    Stereo,
    Units,
    Unknown,
    Vocabulary,
    given,
    policy_of,
    read,
    smiles_of,
    suffix_of,
)
from .results import kind_of_file

__all__ = ["convert"]


def convert(
    source: Annotated[str, typer.Argument(metavar="FROM", help="File, folder or named set.")],
    target: Annotated[
        Path, typer.Argument(metavar="TO", help=".smi, .csv, .npz, .sdf, .xyz or .fasta; text also with .gz.")
    ],
    embed: Annotated[
        bool, typer.Option("--embed", help="Make geometries of SMILES (RDKit's ETKDG, then MMFF94) for .sdf, .xyz.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of --embed.")] = 0,
    limit: Limit = None,
    column: Column = None,
    id_column: Annotated[str | None, typer.Option(help="Column of names in a table; found by its name.")] = None,
    properties: Properties = None,
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
) -> None:
    """Convert between formats, and say what was changed and dropped.

    SMILES and bonds become graphs (.npz) or SMILES (.smi, .csv) by the policy of standardisation; geometries stay as
    they are. Where an .xyz has no bonds and the other format needs them, RDKit perceives them from the distances.
    --embed keeps the stereo of SMILES.

    Names and columns of numbers (fields of an .sdf, key=value pairs of an .xyz) come along; what has no place in the
    other format is named.

    \b
      scidiffuse molecules convert clean.smi start.sdf --embed

    \b
      scidiffuse molecules convert mine.csv clean.smi --fragments largest \\
          --charges neutralise --errors skip
    """
    with told():
        from ..data import Atoms

        to = suffix_of(target)
        if to not in (*TABLES[:3], ".npz", *SDF[:2], *XYZ, *FASTA):
            raise ValueError(
                f"cannot tell the format of {target.name}: expected .smi, .csv, .npz, .sdf, .xyz or .fasta, the text "
                "formats also with .gz"
            )
        if target.exists() and Path(source).exists() and target.samefile(source):
            raise ValueError(f"FROM and TO are the same file, {target}: give the result another name")
        policy = policy_of(
            hydrogens=hydrogens,
            fragments=fragments,
            charges=charges,
            stereo=stereo,
            isotopes=isotopes,
            radicals=radicals,
        )
        numbers, text = (properties, []) if properties else beside(source, column, id_column, limit)
        carried, unfit = fitting(numbers, to)
        reading = given(
            limit=limit, column=column, id_column=id_column, properties=carried or properties, errors=errors
        )
        letters = given(alphabet=alphabet, unknown=unknown, lower=lower)
        bonds = given(vocabulary=vocabulary, max_atoms=max_atoms, standardise=policy)
        if letters or to in FASTA or suffix_of(source) in FASTA:
            if bonds or units:
                raise ValueError("sequences have no bonds, atoms or units: leave those options out")
            data: Any = read(source, "sequences", **reading, **letters)
        elif _keeps_geometry(source, to, bool(bonds)):
            data = read(source, "atoms", **reading, **given(units=units))
        else:
            if units and suffix_of(source) not in XYZ:
                raise ValueError("--units is of coordinates, which are not looked at here")
            if embed and (to in SDF or to in XYZ) and (suffix_of(source) in TABLES or source == "qm9"):
                # the geometry has the stereo that a graph has no place for
                bonds["standardise"] = _with_stereo(policy, stereo)
            data = _graphs(source, reading, bonds, given(units=units))
            if to != ".npz" and data.hydrogens is not None and data.smiles is None:
                data = _named_by_smiles(data, Path(source).name, errors)
        ready = _perceived(data) if to in SDF and isinstance(data, Atoms) else data
        count = _write(ready, target, to, embed, seed)
        more = "" if count == len(data) else f", {len(data) - count} dropped (no molecule could be made of them)"
        typer.echo(f"wrote {count} entries to {target}{more}")
        if text:
            typer.echo(f"left out, as they hold no numbers: {', '.join(text)}", err=True)
        if unfit:
            typer.echo(f"left out, as {to} has no place for them: {', '.join(unfit)}", err=True)


def _with_stereo(policy: Any, asked: str | None) -> Any:
    """The policy for molecules that are embedded: as asked for, stereo kept where nothing is said of it."""
    from ..data import Standardise

    return policy if asked else replace(policy or Standardise(), stereo="keep")


def _perceived(atoms: Any) -> Any:
    """Geometries with the bonds that RDKit perceives; those in which it finds no molecule are left out and named."""
    from ..data import Atoms

    if atoms.bonds is not None:
        return atoms
    mols = atoms.to_mols(bonds="perceive")
    kept = [i for i, mol in enumerate(mols) if mol is not None]
    _name_lost([atoms.ids[i] for i, mol in enumerate(mols) if mol is None], len(mols))
    if not kept:
        raise ValueError("no molecule could be perceived from the distances; is the total charge 0?")
    properties = {k: v[kept].numpy() for k, v in atoms.properties.items()}
    ids = [atoms.ids[i] for i in kept]
    return Atoms.from_mols([mols[i] for i in kept], ids=ids, properties=properties, units="angstrom")


def _name_lost(ids: list[Any], of: int) -> None:
    if ids:
        first = ", ".join(map(str, ids[:10]))
        typer.echo(f"warning: no bonds could be perceived in {len(ids)} of {of}: {first}", err=True)


def _keeps_geometry(source: str, to: str, bonds: bool) -> bool:
    """Whether coordinates are kept: from .sdf, .xyz or Atoms to .sdf, .xyz, or to .npz without a policy."""
    geometric = suffix_of(source) in XYZ or suffix_of(source) in SDF
    if not geometric and suffix_of(source) == ".npz":
        geometric = kind_of_file(source) == "atoms"
    if bonds and geometric and (to in SDF or to in XYZ):
        raise ValueError("geometries are not standardised: leave --vocabulary, --max-atoms and the policy out")
    return geometric and (to in SDF or to in XYZ or (to == ".npz" and not bonds))


def _graphs(source: str, reading: dict[str, Any], bonds: dict[str, Any], units: dict[str, Any]) -> Any:
    """Graphs of a file; of geometries without bonds those that RDKit perceives."""
    from .. import data

    suffix = suffix_of(source)
    if suffix not in XYZ and not (suffix == ".npz" and kind_of_file(source) == "atoms"):
        return read(source, "graphs", **reading, **bonds)
    atoms = read(source, "atoms", **reading, **units)
    mols = atoms.to_mols(bonds="given" if atoms.bonds is not None else "perceive")
    from ..chem import canonical
    from ..data.extras import chem
    from ..data.smiles import SmilesTable

    smiles = [None if m is None else canonical(chem().RemoveHs(m)) for m in mols]
    kept = [i for i, s in enumerate(smiles) if s]
    _name_lost([atoms.ids[i] for i, s in enumerate(smiles) if not s], len(smiles))
    if not kept:
        raise ValueError(f"{source}: no molecule could be perceived from the distances; is the total charge 0?")
    table = SmilesTable(
        [smiles[i] or "" for i in kept],
        [f"molecule {atoms.ids[i]!r}" for i in kept],
        [atoms.ids[i] for i in kept],
        {k: v[kept].tolist() for k, v in atoms.properties.items()},
        Path(source).name,
    )
    return data.from_smiles(table, errors=reading["errors"], **bonds)


def _named_by_smiles(graphs: Any, source: str, errors: Any) -> Any:
    """Graphs of molecules (samples) with their SMILES; what is no molecule is refused, or left out and named."""
    from ...core.problems import Problems

    problems, rows, smiles = Problems(errors, source), [], []
    for row, text in enumerate(smiles_of(graphs)):
        with problems.at(f"graph {row + 1} (id {graphs.ids[row]!r})"):
            if text is None:
                raise ValueError("its atoms and bonds are no molecule")
            rows.append(row)
            smiles.append(text)
    problems.done(len(rows))
    return replace(graphs[rows], smiles=tuple(smiles))


def _write(data: Any, target: Path, to: str, embed: bool, seed: int) -> int:
    """Write any container in any format that can hold it; returns how many entries."""
    from ..data import Atoms, Sequences, write_fasta
    from ..data.files import write_text

    if isinstance(data, Sequences):
        if to in FASTA:
            write_fasta(data, target)
        elif to == ".csv":
            _csv(target, {"id": data.ids, "sequence": data.strings(), **data.properties})
        else:
            raise ValueError(f"sequences are written as .fasta or .csv, not as {to}")
        return len(data)
    if to in FASTA:
        raise ValueError("molecules and graphs are no sequences")
    if isinstance(data, Atoms):
        if to == ".npz":
            data.save(target)
        else:
            (data.to_sdf if to in SDF else data.to_xyz)(target)
        return len(data)
    if to == ".npz":
        data.save(target)
        return len(data)
    if data.hydrogens is None:
        raise ValueError("these graphs are no molecules: they are written as .npz only")
    if to in SDF or to in XYZ:
        if not embed:
            raise ValueError(f"SMILES have no coordinates, and {to} needs them: --embed makes some")
        atoms = _embedded(data, seed)
        (atoms.to_sdf if to in SDF else atoms.to_xyz)(target)
        return len(atoms)
    if to == ".csv":
        _csv(target, {"smiles": data.smiles, "id": data.ids, **data.properties})
    else:
        write_text(target, "".join(f"{s} {i}\n" for s, i in zip(data.smiles, data.ids, strict=True)))
    return len(data)


@contextmanager
def _table(path: Path) -> Iterator[Any]:
    """A csv writer whose file appears when it is complete."""
    import gzip

    from ...core.files import replacing

    with replacing(path) as partial:
        zipped = path.name.lower().endswith(".gz")
        with gzip.open(partial, "wt") if zipped else partial.open("w", encoding="utf-8", newline="") as file:
            yield csv.writer(file, lineterminator="\n")


def _csv(path: Path, columns: dict[str, Any]) -> None:
    plain = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in columns.items()}
    plain = {k: ["" if isinstance(x, float) and math.isnan(x) else x for x in v] for k, v in plain.items()}
    with _table(path) as writer:
        writer.writerow(plain)
        writer.writerows(zip(*plain.values(), strict=True))


def _embedded(graphs: Any, seed: int) -> Any:
    """Geometries of molecules, with their stereo, by ETKDG and MMFF94; those that cannot be embedded are named."""
    from ..data import Atoms
    from ..data.extras import chem, quiet, rdkit

    Chem, distances, fields = chem(), rdkit("Chem.rdDistGeom"), rdkit("Chem.rdForceFieldHelpers")
    mols, rows, failed = [], [], []
    with quiet():
        for row, (name, text) in enumerate(zip(graphs.ids, graphs.smiles, strict=True)):
            mol = Chem.AddHs(Chem.MolFromSmiles(text))
            settings = distances.ETKDGv3()
            settings.randomSeed = seed
            if distances.EmbedMolecule(mol, settings) != 0:
                failed.append(str(name))
                continue
            fields.MMFFOptimizeMolecule(mol)
            mols.append(mol)
            rows.append(row)
    if failed:
        typer.echo(f"warning: {len(failed)} could not be embedded: {', '.join(failed[:10])}", err=True)
    if not mols:
        raise ValueError("none of the molecules could be embedded")
    properties = {k: v[rows].numpy() for k, v in graphs.properties.items()}
    return Atoms.from_mols(mols, ids=[graphs.ids[row] for row in rows], properties=properties)
