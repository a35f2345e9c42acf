"""What stands beside the molecules of a file: which columns ``convert`` carries along, and which have no place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

from .options import FASTA, SDF, TABLES, XYZ, suffix_of

__all__ = ["beside", "fitting"]

_TAKEN = ("smiles", "sequence", "id")  # columns that a written table has of its own


def beside(source: str, column: str | None, id_column: str | None, limit: int | None) -> tuple[list[str], list[str]]:
    """The columns of a table, fields of an SDF or keys of an XYZ beside structures and names.

    Args:
        source: a file; of any other format, and of a folder or a named set, there are none.
        column, id_column: of the structures and the names, None where they are found by their names.
        limit: as many entries, from the beginning.

    Returns:
        those that hold numbers (or nothing) in every entry, and all others.
    """
    suffix = suffix_of(source)
    if not Path(source).is_file():
        return [], []
    if suffix in (".csv", ".tsv"):
        return _columns(source, column, id_column, limit)
    if suffix in SDF:
        from ..data.sdf import sdf_records

        return _fields(fields for _, _, fields in islice(sdf_records(source), limit))
    if suffix in XYZ:
        from ..data.xyz import xyz_pairs

        return _fields(islice(xyz_pairs(source), limit))
    return [], []


def _columns(source: str, column: str | None, id_column: str | None, limit: int | None) -> tuple[list[str], list[str]]:
    from ..data.smiles import column_of_smiles
    from ..data.tables import column_of_ids, read_table

    table = read_table(source, limit=limit)
    names = [str(c) for c in table.columns]
    structures = column or column_of_smiles(names) or "sequence"
    own = (structures, column_of_ids(names, id_column, structures))
    others = [n for n in names if n not in own and not n.startswith("Unnamed: ")]  # pandas' word for no name
    numbers = [n for n in others if table[n].dtype.kind in "iufb" and n.lower() not in _TAKEN]
    return numbers, [n for n in others if n not in numbers]


def _fields(entries: Iterable[Mapping[str, str]]) -> tuple[list[str], list[str]]:
    good: dict[str, bool] = {}
    for fields in entries:
        for name, text in fields.items():
            good[name] = good.get(name, True) and (not text or _is_number(text))
    numbers = [n for n, fits in good.items() if fits and n.lower() not in _TAKEN]
    return numbers, [n for n in good if n not in numbers]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def fitting(names: list[str], to: str) -> tuple[list[str], list[str]]:
    """Names of numbers that a format with this suffix has a place for, and those that it has none for."""
    if to in FASTA or to in (*TABLES[2:],):
        return [], list(names)
    fits = [n for n in names if to not in XYZ or re.fullmatch(r"[\w/:-]+", n)]
    return fits, [n for n in names if n not in fits]
