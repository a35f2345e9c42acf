"""SDF (MDL mol blocks, V2000 and V3000), plain or gzipped: molecules with coordinates and bonds.

A record is read by itself, so that a bad one is named by its number and title, and the others remain. Data fields
(``>  <NAME>``) are kept as text with the molecule; numbers among them become properties where they are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ...core.problems import Errors, Problems
from .atoms import Atoms, Units, check_not_flat, converted, stack_atoms
from .extras import chem, quiet
from .files import check_limit, read_lines, write_text
from .graphs import Graphs
from .molecules import chemistry_problems, from_mols
from .standardise import Standardise

__all__ = ["read_sdf", "read_sdf_as_it_is", "read_sdf_graphs", "sdf_records", "write_sdf"]


def sdf_records(path: str | Path) -> Iterator[tuple[str, str, dict[str, str]]]:
    """The title, mol block and data fields of each record of a file, one at a time.

    Raises:
        FileNotFoundError: no such file. ValueError: no text, or a damaged gzip.
    """
    lines: list[str] = []
    for line in read_lines(path):
        if line.startswith("$$$$"):
            yield _record(lines)
            lines = []
        else:
            lines.append(line)
    if any(line.strip() for line in lines):  # the last `$$$$` may be missing; a single .mol file has none
        yield _record(lines)


def _record(lines: list[str]) -> tuple[str, str, dict[str, str]]:
    end = next((i for i, line in enumerate(lines) if line.startswith("M  END")), len(lines) - 1)
    fields: dict[str, str] = {}
    name = None
    for line in lines[end + 1 :]:
        if line.startswith(">") and "<" in line:
            name = line[line.index("<") + 1 : line.rindex(">")]
            fields[name] = ""
        elif name is not None and line.strip():
            fields[name] = f"{fields[name]}\n{line}".strip()
    return (lines[0].strip() if lines else "", "\n".join(lines[: end + 1]) + "\n", fields)


def _mols(
    path: str | Path, properties: Sequence[str], limit: int | None, problems: Problems
) -> tuple[list[Any], list[str], dict[str, list[float]]]:
    """Sanitised molecules with their hydrogens, their names, and numbers."""
    check_limit(limit)
    Chem = chem()
    mols: list[Any] = []
    names: list[str] = []
    numbers: dict[str, list[float]] = {p: [] for p in properties}
    with quiet():
        for count, (title, block, fields) in enumerate(islice(sdf_records(path), limit), start=1):
            with problems.at(f"record {count} ({title or 'no title'!r})"):
                mol = _mol(block)
                try:
                    Chem.SanitizeMol(mol)
                except (Chem.MolSanitizeException, ValueError) as error:
                    raise ValueError(f"no possible molecule: {chemistry_problems(mol)}") from error
                found = [_number(fields, p) for p in properties]
                mols.append(mol)
                names.append(title or str(count))
                for p, value in zip(properties, found, strict=True):
                    numbers[p].append(value)
    return mols, names, numbers


def _mol(block: str) -> Any:
    mol = chem().MolFromMolBlock(block, sanitize=False, removeHs=False)
    if mol is None:
        raise ValueError("no mol block: its counts, atoms or bonds cannot be read")
    return mol


def _number(fields: dict[str, str], name: str) -> float:
    text = fields.get(name, "")
    if not text:
        return math.nan
    try:
        return float(text.split()[0])
    except ValueError as error:
        raise ValueError(f"field {name!r} is {text!r}, expected a number") from error


def read_sdf(
    path: str | Path,
    *,
    properties: Sequence[str] = (),
    limit: int | None = None,
    units: Units | None = None,
    errors: Errors = "raise",
) -> Atoms:
    """Atoms with coordinates and bonds, every hydrogen of the file kept.

    Args:
        path: ``.sdf``, ``.mol``, also with ``.gz``. properties: data fields that are numbers; absent = NaN.
        limit: as many records, from the beginning. units: None checks that the coordinates are Å.
        errors: ``"skip"`` leaves bad records out and names them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a record that is no molecule, a flat drawing, distances that are not in Å, or nothing left.
    """
    problems = Problems(errors, Path(path).name)
    mols, names, numbers = _mols(path, properties, limit, problems)
    problems.done(len(mols))
    return Atoms.from_mols(mols, ids=names, properties=numbers, units=units, errors=errors, source=Path(path).name)


def read_sdf_as_it_is(
    path: str | Path, *, limit: int | None = None, units: Units | None = None, errors: Errors = "raise"
) -> Atoms:
    """Atoms with coordinates and bonds as they stand, whether they are a possible molecule or not, without SMILES: for
    samples that are to be judged. :func:`read_sdf` refuses what is no molecule, and radicals.

    Args:
        path: ``.sdf``, ``.mol``, also with ``.gz``. limit: as many records, from the beginning.
        units: None checks that the coordinates are Å, ``"angstrom"`` takes the file's word.
        errors: ``"skip"`` leaves records out that cannot be read, and names them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a record that is no mol block, a flat drawing, a bond without an order (an aromatic one that cannot
            be kekulised), distances that are not in Å, or nothing left.
    """
    check_limit(limit)
    problems = Problems(errors, Path(path).name)
    parts, names = [], []
    with quiet():
        for count, (title, block, _) in enumerate(islice(sdf_records(path), limit), start=1):
            with problems.at(f"record {count} ({title or 'no title'!r})"):
                mol = _mol(block)
                if mol.GetNumAtoms() == 0:
                    raise ValueError("a molecule without atoms")
                check_not_flat(mol)
                positions = converted(mol.GetConformer().GetPositions(), units)
                parts.append((*_as_drawn(mol), positions, _orders(mol)))
                names.append(title or str(count))
    problems.done(len(parts))
    return stack_atoms(parts, ids=tuple(names))


def _as_drawn(mol: Any) -> tuple[np.ndarray, np.ndarray]:
    """Atomic numbers and formal charges (n,)."""
    atoms = list(mol.GetAtoms())
    return np.array([a.GetAtomicNum() for a in atoms]), np.array([a.GetFormalCharge() for a in atoms])


def _orders(mol: Any) -> np.ndarray:
    """Bond orders (n, n) 0..3 of a molecule that need not be possible."""
    Chem = chem()
    if any(bond.GetIsAromatic() or bond.GetBondType() == Chem.BondType.AROMATIC for bond in mol.GetBonds()):
        try:
            mol = Chem.Mol(mol)
            Chem.SanitizeMol(mol)
            Chem.Kekulize(mol, clearAromaticFlags=True)
        except (Chem.MolSanitizeException, ValueError) as error:
            raise ValueError(f"aromatic bonds that cannot be kekulised: {str(error).strip()}") from error
    order = {Chem.BondType.SINGLE: 1, Chem.BondType.DOUBLE: 2, Chem.BondType.TRIPLE: 3}
    out = np.zeros((mol.GetNumAtoms(),) * 2, dtype=np.uint8)
    for bond in mol.GetBonds():
        if bond.GetBondType() not in order:
            raise ValueError(f"a bond of type {bond.GetBondType()}: expected single, double and triple bonds")
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        out[i, j] = out[j, i] = order[bond.GetBondType()]
    return out


def read_sdf_graphs(
    path: str | Path,
    vocabulary: str | Sequence[str] | None = None,
    *,
    properties: Sequence[str] = (),
    limit: int | None = None,
    max_atoms: int | None = None,
    standardise: Standardise | None = None,
    errors: Errors = "raise",
) -> Graphs:
    """Graphs of the bonds of an SDF; its coordinates are not looked at, so that drawings do as well.

    Arguments and errors as :func:`read_sdf` and :func:`.smiles.from_smiles`.
    """
    policy = standardise or Standardise()
    source = Path(path).name
    problems = Problems(errors, source)
    mols, names, numbers = _mols(path, properties, limit, problems)
    problems.done(len(mols))
    where = [f"molecule {name!r}" for name in names]
    kept, rows, _ = policy.apply(mols, errors=errors, names=where, source=source)
    return from_mols(
        kept,
        vocabulary,
        max_atoms=max_atoms,
        hydrogens=policy.hydrogens,
        stereo=policy.stereo == "keep",
        ids=[names[r] for r in rows],
        properties={k: [v[r] for r in rows] for k, v in numbers.items()},
        errors=errors,
        source=source,
    )


def write_sdf(atoms: Atoms, path: str | Path, *, complete: bool = False) -> Path:
    """Write ``.sdf`` or ``.sdf.gz`` at once: coordinates to 1e-4 Å (the format has no more), the bonds there are, and
    the properties as data fields to the last bit.

    Args:
        atoms: the molecules. path: the file.
        complete: whether all atoms are there, of a molecule without any hydrogen, too: readers are told to add none (by
            the valence field). False leaves the hydrogens of such a molecule to its bonds, as of files of heavy atoms.

    Raises:
        ValueError: another suffix.
    """
    path = Path(path)
    if not path.name.lower().removesuffix(".gz").endswith((".sdf", ".sd")):
        raise ValueError(f"cannot tell the format of {path.name}: expected .sdf or .sdf.gz")
    Chem = chem()
    text: list[str] = []
    mols = atoms.to_mols(bonds="none" if atoms.bonds is None else "given", sanitise=False)
    for b, mol in enumerate(mols):
        mol.SetProp("_Name", str(atoms.ids[b]))
        if complete:
            for atom in mol.GetAtoms():
                atom.SetNoImplicit(True)
        mol.UpdatePropertyCache(strict=False)
        for bond in mol.GetBonds():
            if bond.GetBondType() == Chem.BondType.DOUBLE:  # else it is written as "E or Z", which the coordinates say
                bond.SetStereo(Chem.BondStereo.STEREOZ)
        text.append(Chem.MolToMolBlock(mol, kekulize=False, includeStereo=False))
        fields = {k: repr(float(v[b])) for k, v in atoms.properties.items() if not math.isnan(float(v[b]))}
        text += [f">  <{name}>\n{value}\n\n" for name, value in fields.items()]
        text.append("$$$$\n")
    return write_text(path, "".join(text))
