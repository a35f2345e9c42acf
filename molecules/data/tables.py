"""Tables of text, ``.csv`` and ``.tsv``: one reader for all that is in columns.

What is no table is said with the file's name. The first column is never taken for an index, and a row with more fields
than the header is refused: from there on nothing stands in the column that it belongs to.
"""

from __future__ import annotations

import csv
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.files import existing
from .extras import pandas
from .files import check_limit, read_lines

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check_columns", "column_of_ids", "columns_of_numbers", "ids_of", "read_table"]

_IDS = ("id", "ids", "name", "names", "title", "identifier", "mol_id", "molecule_id", "compound_id", "compound")


def read_table(path: str | Path, *, separator: str | None = None, limit: int | None = None) -> pd.DataFrame:
    """The rows of a table with a header, also with ``.gz``.

    Args:
        path: the file. separator: of fields; None is a tab where the name ends in ``.tsv``, else a comma.
        limit: rows from the beginning.

    Raises:
        FileNotFoundError: no such file.
        ValueError: empty, no UTF-8 text, a damaged gzip, or a row with more fields than the header (it is named).
    """
    path = existing(path)
    check_limit(limit)
    if separator is None:
        separator = "\t" if path.name.lower().removesuffix(".gz").endswith(".tsv") else ","
    pd = pandas()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # pandas only warns of fields that it drops
            return pd.read_csv(path, sep=separator, nrows=limit, encoding="utf-8-sig", index_col=False)
    except (pd.errors.ParserWarning, pd.errors.ParserError) as error:
        surplus = _surplus(path, separator)
        raise ValueError(surplus or f"{path.name} is no table: {error}") from error
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path.name} is no table: {error}") from error


def _surplus(path: Path, separator: str) -> str | None:
    """What is wrong with the first row of more fields than the header, if there is one."""
    try:
        records = (fields for fields in csv.reader(read_lines(path), delimiter=separator) if fields)
        names = next(records, [])
        for row, fields in enumerate(records, start=1):
            if len(fields) > len(names) and any(fields[len(names) :]):
                blank = "tab" if separator == "\t" else repr(separator)
                return (
                    f"{path.name}, row {row}: {len(fields)} fields, the header names {len(names)} ({names}): quote a "
                    f"field that holds a {blank}, or name all columns"
                )
    except csv.Error:  # a field that is too long: what pandas says is kept
        return None
    return None


def check_columns(table: pd.DataFrame, names: Sequence[str | None], source: str) -> None:
    """Refuse a table that lacks a column; None asks for none.

    Raises:
        ValueError: it lacks one; those there are are listed.
    """
    there = [str(c) for c in table.columns]
    for name in names:
        if name is not None and name not in there:
            raise ValueError(f"{source} has no column {name!r}; it has {there}")


def column_of_ids(names: Sequence[str], asked: str | None = None, taken: str | None = None) -> str | None:
    """The column of names: the one that was asked for, else the first that is called so, if there is one.

    Args:
        names: of the columns. asked: one of them. taken: one that is none, as it holds the structures.
    """
    lower = {n.strip().lower(): n for n in reversed(names) if n != taken}
    return asked if asked is not None else next((lower[c] for c in _IDS if c in lower), None)


def ids_of(table: pd.DataFrame, column: str | None) -> list[Any] | None:
    """The names in a column, the number of the row where one is empty; None without a column."""
    if column is None:
        return None
    empty = table[column].isna()
    return [row if none else name for row, (name, none) in enumerate(zip(table[column], empty, strict=True), start=1)]


def columns_of_numbers(table: pd.DataFrame, names: Sequence[str], source: str) -> dict[str, np.ndarray]:
    """Columns as (rows,) float64; an empty field is NaN.

    Raises:
        ValueError: no such column, or text in it.
    """
    check_columns(table, names, source)
    try:
        return {name: table[name].to_numpy(dtype=float, copy=True) for name in names}
    except (ValueError, TypeError) as error:
        raise ValueError(f"{source}: a property must be a column of numbers: {error}") from error
