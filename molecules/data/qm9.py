"""QM9 (Ramakrishnan et al., "Quantum chemistry structures and properties of 134 kilo molecules", Sci. Data 2014).

133,885 molecules of up to nine atoms C, N, O, F, with the geometry and 15 properties by B3LYP/6-31G(2df,p). 3,054 of
them relaxed to another molecule than their SMILES (the "uncharacterised" ones), which leaves 130,831, the set that
models are trained on. From four kinds of files:

- the package ``qm9pack`` of the ``molecules`` extra (MIT, by the author of QM9; nothing is downloaded): exactly the
  130,831. Its csv files are read where they are installed: importing it would need ``pkg_resources``;
- ``gdb9.sdf`` with ``gdb9.sdf.csv``, as DeepChem and PyG download them;
- ``dsgdb9nsd_*.xyz``, as the authors published them, with numbers like ``1.2997*^-6``;
- PyG's processed file: :func:`.pyg.read_pyg`.

The SMILES of qm9pack have no stereo, all of them differ, and each comes back from its graph as the same molecule
(`benchmarks/molecules_roundtrip.py`). 3,891 molecules have the InChI of an earlier one: tautomers, which InChI does not
tell apart and which are different entries of QM9; a split by InChIKey keeps them together.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...core.files import existing
from ...core.problems import Errors, Problems
from .atoms import Atoms, converted, stack_atoms
from .extras import pandas
from .files import check_limit, read_lines
from .graphs import Graphs
from .sdf import read_sdf
from .smiles import SmilesTable, from_smiles
from .standardise import Standardise
from .tables import check_columns, columns_of_numbers, read_table
from .vocabulary import number_of
from .xyz import number

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PROPERTIES", "qm9_atoms", "qm9_graphs", "qm9_table", "read_qm9_raw", "uncharacterised"]

PROPERTIES = {
    "A": ("RotA_GHz", "GHz"),
    "B": ("RotB_GHz", "GHz"),
    "C": ("RotC_GHz", "GHz"),
    "mu": ("Dipole_debye", "D"),
    "alpha": ("Polarizability_bohr3", "Bohr^3"),
    "homo": ("HOMO_au", "Hartree"),
    "lumo": ("LUMO_au", "Hartree"),
    "gap": ("HOMO_LUMO_gap_au", "Hartree"),
    "r2": ("R2_bohr2", "Bohr^2"),
    "zpve": ("ZPVE_au", "Hartree"),
    "u0": ("InternalEnergy_0K_au", "Hartree"),
    "u298": ("InternalEnergy_298K_au", "Hartree"),
    "h298": ("Enthalphy_298K_au", "Hartree"),
    "g298": ("GibbsFreeEnergy_298K_au", "Hartree"),
    "cv": ("Heatcapacity_Cv_cal_mol_K", "cal/(mol K)"),
}
"""The 15 properties in the order of the original files: short name -> column of qm9pack, unit."""

_SIZE = 133_885


def qm9_table(columns: Sequence[str], limit: int | None = None) -> pd.DataFrame:
    """Columns of qm9pack's three files, one below the other.

    Args:
        columns: such as ``Index, SMILES, InChi, Elements, XYZ_Ang``, and those of :data:`PROPERTIES`.
        limit: rows from the beginning.

    Raises:
        ImportError: the package is not installed. ValueError: a column that is not there, or a limit below 1.
    """
    check_limit(limit)
    pd = pandas()
    spec = importlib.util.find_spec("qm9pack")  # finds the folder, executes nothing
    if spec is None or not spec.submodule_search_locations:
        raise ImportError('QM9 comes with qm9pack: pip install "scidiffuse[molecules]"')
    folder = Path(spec.submodule_search_locations[0]) / "data"
    tables: list[Any] = []
    for part in (1, 2, 3):
        left = None if limit is None else limit - sum(map(len, tables))
        if left is None or left > 0:
            tables.append(pd.read_csv(folder / f"qm9_part{part}.csv", usecols=list(columns), nrows=left))
    return pd.concat(tables, ignore_index=True)


def _columns(properties: Sequence[str]) -> dict[str, str]:
    unknown = [p for p in properties if p not in PROPERTIES]
    if unknown:
        raise ValueError(f"QM9 has no property {unknown[0]!r}; it has {list(PROPERTIES)}")
    return {p: PROPERTIES[p][0] for p in properties}


def qm9_graphs(
    limit: int | None = None,
    *,
    vocabulary: str | Sequence[str] | None = None,
    properties: Sequence[str] = (),
    standardise: Standardise | None = None,
    errors: Errors = "raise",
) -> Graphs:
    """QM9 of qm9pack as graphs; all 130,831 take about a minute of one core.

    Args:
        limit: molecules from the beginning (they are ordered by size). vocabulary: the atom types that are taken;
            default: all that occur. ``"CNOF"`` with ``errors="skip"`` leaves the zwitterions out.
        properties: of :data:`PROPERTIES`. standardise, errors: as :func:`.smiles.from_smiles`.

    Raises:
        ImportError: qm9pack is not installed. ValueError: an unknown property, or those of ``from_smiles``.
    """
    named = _columns(properties)
    table = qm9_table(["Index", "SMILES", *named.values()], limit)
    indices = table["Index"].tolist()
    numbers = {p: table[c].astype(float).tolist() for p, c in named.items()}
    where = [f"QM9 molecule {i}" for i in indices]
    strings = SmilesTable(table["SMILES"].tolist(), where, indices, numbers, "qm9pack")
    return from_smiles(strings, vocabulary, standardise=standardise, errors=errors)


def qm9_atoms(limit: int | None = None, *, properties: Sequence[str] = ()) -> Atoms:
    """QM9 of qm9pack with coordinates in Å and all hydrogens, without bonds; all take some twenty seconds of one core.

    Arguments and errors as :func:`qm9_graphs`.
    """
    named = _columns(properties)
    table = qm9_table(["Index", "SMILES", "Elements", "XYZ_Ang", *named.values()], limit)
    parts: list[tuple[np.ndarray, None, np.ndarray, None]] = []
    for elements, xyz in zip(table["Elements"], table["XYZ_Ang"], strict=True):
        symbols = elements.strip("[]").replace("'", "").split(",")
        positions = np.array(xyz.replace("[", "").replace("]", "").split(","), dtype=float).reshape(-1, 3)
        parts.append((np.array([number_of(s) for s in symbols]), None, positions, None))
    numbers = {p: table[c].to_numpy(dtype=float) for p, c in named.items()}
    return stack_atoms(
        parts, ids=tuple(table["Index"].tolist()), smiles=tuple(table["SMILES"].tolist()), properties=numbers
    )


@lru_cache(maxsize=1)
def uncharacterised() -> frozenset[int]:
    """The numbers of the 3,054 molecules that relaxed to another: those that qm9pack does not hold.

    Raises:
        ImportError: qm9pack is not installed.
    """
    return frozenset(range(1, _SIZE + 1)) - frozenset(qm9_table(["Index"])["Index"].tolist())


def _excluded(folder: Path) -> frozenset[int]:
    """The list of the folder (``uncharacterized.txt``), or of qm9pack."""
    listing = folder / "uncharacterized.txt"
    if not listing.exists():
        return uncharacterised()
    first = [line.split()[0] for line in read_lines(listing) if line.split()]
    found = frozenset(int(word) for word in first if word.isdigit())
    if not found:
        raise ValueError(f"{listing.name} names no molecule: expected lines that begin with a number")
    return found


def read_qm9_raw(
    folder: str | Path,
    *,
    properties: Sequence[str] = (),
    limit: int | None = None,
    keep_uncharacterised: bool = False,
    errors: Errors = "raise",
) -> Atoms:
    """The original files: a folder with ``gdb9.sdf`` (and ``gdb9.sdf.csv``), or with ``dsgdb9nsd_*.xyz``.

    Args:
        folder: where they are. properties: of :data:`PROPERTIES`. limit: as many molecules, in their order.
        keep_uncharacterised: keep the 3,054, which are left out by the list ``uncharacterized.txt`` of the folder, or,
            where it has none, because qm9pack does not hold them.
        errors: ``"skip"`` leaves bad records out and names them.

    Raises:
        FileNotFoundError: neither kind of file. ImportError: neither list nor qm9pack.
        ValueError: a file that is not of this kind, a property that is not there, a molecule without a row of
            properties, or nothing left.
    """
    folder = existing(folder)
    check_limit(limit)
    _columns(properties)
    excluded = frozenset() if keep_uncharacterised else _excluded(folder)
    sdf = next((folder / name for name in ("gdb9.sdf", "gdb9.sdf.gz") if (folder / name).exists()), None)
    if sdf is not None:
        return _gdb9(sdf, folder / "gdb9.sdf.csv", properties, limit, excluded, errors)
    files = sorted(folder.glob("dsgdb9nsd_*.xyz"))
    if not files:
        raise FileNotFoundError(f"neither gdb9.sdf nor dsgdb9nsd_*.xyz in {folder}")
    problems = Problems(errors, folder.name)
    parts: list[tuple[np.ndarray, None, np.ndarray, None]] = []
    ids, smiles, values = [], [], []
    for file in files:
        if limit is not None and len(parts) >= limit:
            break
        with problems.at(file.name):
            index, numbers, positions, row, text = _dsgdb9nsd(file)
            if index not in excluded:
                parts.append((numbers, None, converted(positions, None), None))
                ids.append(index)
                smiles.append(text)
                values.append([row[p] for p in properties])
    problems.done(len(parts))
    columns = np.array(values).reshape(len(parts), len(properties)).T
    return stack_atoms(
        parts, ids=tuple(ids), smiles=tuple(smiles), properties=dict(zip(properties, columns, strict=True))
    )


def _gdb9(
    sdf: Path, table: Path, properties: Sequence[str], limit: int | None, excluded: frozenset[int], errors: Errors
) -> Atoms:
    """gdb9.sdf, whose titles are ``gdb_1`` and so on; the properties are the rows of the csv."""
    more = None if limit is None else limit + len(excluded)
    atoms = read_sdf(sdf, limit=more, errors=errors)
    place, numbers = _rows_of_csv(table, properties) if properties else ({}, {})
    problems = Problems(errors, sdf.name)
    kept: list[int] = []
    index: list[int] = []
    rows: list[int] = []
    for b, title in enumerate(map(str, atoms.ids)):
        if limit is not None and len(kept) >= limit:
            break
        with problems.at(f"record {title!r}"):
            number = _gdb_number(title)
            if number in excluded:
                continue
            if properties and title not in place:
                raise ValueError(f"{table.name} has no row {title!r}")
            kept.append(b)
            index.append(number)
            rows.append(place.get(title, 0))
    if not kept and not problems.found:
        raise ValueError(f"{sdf.name}: every molecule is an uncharacterised one")
    problems.done(len(kept))
    values = {p: torch.from_numpy(v[rows]) for p, v in numbers.items()}
    return dataclasses.replace(atoms[kept], ids=tuple(index), properties=values)


def _rows_of_csv(table: Path, properties: Sequence[str]) -> tuple[dict[str, int], dict[str, np.ndarray]]:
    """The row of each molecule in ``gdb9.sdf.csv``, and the columns of numbers."""
    frame = read_table(table)
    check_columns(frame, ("mol_id",), table.name)
    names = [str(name) for name in frame["mol_id"].tolist()]
    place = {name: row for row, name in enumerate(names)}
    if len(place) < len(names):
        twice = next(name for row, name in enumerate(names) if place[name] != row)
        raise ValueError(f"{table.name} names {twice!r} in two rows")
    return place, columns_of_numbers(frame, properties, table.name)


def _gdb_number(title: str) -> int:
    digits = title.rpartition("_")[2]
    if not digits.isdigit():
        raise ValueError(f"a record of gdb9.sdf is called gdb_<number>, got {title!r}")
    return int(digits)


def _dsgdb9nsd(path: Path) -> tuple[int, np.ndarray, np.ndarray, dict[str, float], str]:
    """One file: number, atomic numbers, positions, properties, SMILES.

    Its lines: number of atoms; ``gdb <number>`` and 15 properties; the atoms with Mulliken charges; frequencies; SMILES
    of GDB-9 and of the relaxed geometry; InChI of the same.
    """
    lines: Iterator[str] = read_lines(path)
    try:
        size = int(next(lines))
        tag, index, *rest = next(lines).split()
        atoms = [next(lines).split() for _ in range(size)]
        next(lines)
        smiles = next(lines).split()[0]
    except (StopIteration, ValueError, IndexError) as error:
        raise ValueError("not of the layout of QM9's xyz files, or cut short") from error
    if size < 1 or tag != "gdb" or len(rest) != len(PROPERTIES) or any(len(a) < 4 for a in atoms):
        raise ValueError(f"expected 'gdb', a number and {len(PROPERTIES)} properties in line 2, atoms below")
    numbers = np.array([number_of(a[0]) for a in atoms])
    positions = np.array([[number(c) for c in a[1:4]] for a in atoms])
    return int(index), numbers, positions, dict(zip(PROPERTIES, map(number, rest), strict=True)), smiles
