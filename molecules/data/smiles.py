"""Lists of SMILES: tables, ``.smi`` files, and the layouts of MOSES, GuacaMol and ZINC250k.

========================================  ==============================================================================
``.csv .csv.gz .tsv .tsv.gz``             a header; the SMILES in a column that is called so (``smiles``, ``SMILES``,
                                          ``canonical_smiles``, ...), or in the column that is named
``.smi .smiles .txt`` (``.gz``)           one SMILES a line, then optionally blank space and a name; a first line
                                          ``smiles ...`` is a header; GuacaMol's files are of this kind
MOSES                                     ``dataset_v1.csv`` (columns SMILES, SPLIT), or a folder with ``train.csv``,
                                          ``test.csv``, ``test_scaffolds.csv`` (``.gz``)
========================================  ==============================================================================

Blank space around a SMILES (ZINC250k's column ends in line breaks) is dropped; nothing else is repaired here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.files import existing
from ...core.problems import Errors
from .files import check_limit, read_lines
from .graphs import Graphs
from .molecules import from_mols
from .standardise import Standardise
from .tables import check_columns, column_of_ids, columns_of_numbers, ids_of, read_table

__all__ = [
    "SmilesTable",
    "column_of_smiles",
    "from_smiles",
    "is_header",
    "read_guacamol",
    "read_moses",
    "read_smiles",
    "read_smiles_table",
]

_COLUMNS = ("smiles", "canonical_smiles", "smile", "structure", "mol", "molecule")


@dataclass(frozen=True)
class SmilesTable:
    """What a file of SMILES says, unparsed.

    Attributes:
        smiles: one string a row. where: ``"row 3"`` or ``"line 3"``, for messages. ids: names, or row numbers.
        properties: the numeric columns that were asked for. source: the file's name.
    """

    smiles: list[str]
    where: list[str]
    ids: list[Any]
    properties: dict[str, list[float]] = field(default_factory=dict)
    source: str = "the SMILES"

    def __len__(self) -> int:
        return len(self.smiles)


def _suffix(path: Path) -> str:
    return "." + path.name.lower().removesuffix(".gz").rpartition(".")[2]


def read_smiles_table(
    path: str | Path,
    column: str | None = None,
    *,
    id_column: str | None = None,
    properties: Sequence[str] = (),
    limit: int | None = None,
) -> SmilesTable:
    """The strings of a file, not parsed yet.

    Args:
        path: see the module. column: where the SMILES are; found by its name when None.
        id_column: column of names; one that is called so (``id``, ``name``, ``title``, ...) when None, else row
            numbers. properties: columns of numbers. limit: as many rows as that, from the beginning.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown suffix, no column of SMILES (it lists those there are), a property that is no number.
    """
    path = existing(path)
    check_limit(limit)
    suffix = _suffix(path)
    if suffix in (".smi", ".smiles", ".txt"):
        if column or id_column or properties:
            raise ValueError(f"{path.name} has no columns: column=, id_column= and properties= are for .csv and .tsv")
        return _lines(path, limit)
    if suffix not in (".csv", ".tsv"):
        raise ValueError(
            f"cannot tell the format of {path.name}: expected .csv, .tsv, .smi, .smiles, .txt, also with .gz"
        )
    table = read_table(path, limit=limit)
    names = [str(c) for c in table.columns]
    found = column if column is not None else column_of_smiles(names)
    check_columns(table, (found, id_column), path.name)
    if found is None:
        raise ValueError(f"{path.name}: no column is called {' or '.join(_COLUMNS)}; name one of {names} with column=")
    numbers = {p: v.tolist() for p, v in columns_of_numbers(table, properties, path.name).items()}
    strings = _strings(table[found])
    rows = list(range(1, len(strings) + 1))
    ids = ids_of(table, column_of_ids(names, id_column, found)) or rows
    return SmilesTable(strings, [f"row {r}" for r in rows], ids, numbers, path.name)


def column_of_smiles(names: Sequence[str]) -> str | None:
    """The column of SMILES among these names of columns, None where none is called so."""
    lower = {n.strip().lower(): n for n in reversed(names)}
    return next((lower[c] for c in _COLUMNS if c in lower), None)


def _strings(column: Iterable[Any]) -> list[str]:
    """A column of SMILES; an empty field is ``""``, which is refused with its row where it is parsed."""
    return [s.strip() if isinstance(s, str) else "" for s in column]


def is_header(word: str) -> bool:
    """Whether the first word of a file of SMILES is no SMILES but the name of the column, as ``smiles``."""
    return word.lower() in _COLUMNS


def _lines(path: Path, limit: int | None) -> SmilesTable:
    smiles: list[str] = []
    where, ids = [], []
    for number, line in enumerate(read_lines(path), start=1):
        words = line.split()
        if not words or (number == 1 and is_header(words[0])):
            continue
        if limit is not None and len(smiles) >= limit:
            break
        smiles.append(words[0])
        where.append(f"line {number}")
        ids.append(" ".join(words[1:]) or number)
    return SmilesTable(smiles, where, ids, {}, path.name)


def from_smiles(
    smiles: Iterable[str] | SmilesTable,
    vocabulary: str | Sequence[str] | None = None,
    *,
    max_atoms: int | None = None,
    standardise: Standardise | None = None,
    errors: Errors = "raise",
) -> Graphs:
    """Graphs of SMILES.

    Args:
        smiles: strings, or what :func:`read_smiles_table` read.
        vocabulary: the atom types that are taken, ``"CNOF"`` or with charges ``"C N O N+ O-"``; default: all there are.
        max_atoms: the largest molecule that is taken, in nodes of the graph.
        standardise: the policy; default :class:`.Standardise` ().
        errors: ``"skip"`` leaves bad molecules out and names them with their row.

    Raises:
        ValueError: an unparsable SMILES (with its row), what the policy refuses, a type outside the vocabulary, too
            many atoms, or nothing left.
    """
    if not isinstance(smiles, SmilesTable):
        strings = [smiles] if isinstance(smiles, str) else list(smiles)
        smiles = SmilesTable(strings, [f"molecule {i}" for i in range(len(strings))], list(range(len(strings))))
    policy = standardise or Standardise()
    names = [f"{w} ({_shown(s)})" for w, s in zip(smiles.where, smiles.smiles, strict=True)]
    mols, rows, _ = policy.apply(smiles.smiles, errors=errors, names=names, source=smiles.source)
    return from_mols(
        mols,
        vocabulary,
        max_atoms=max_atoms,
        hydrogens=policy.hydrogens,
        stereo=policy.stereo == "keep",
        ids=[smiles.ids[r] for r in rows],
        properties={k: [v[r] for r in rows] for k, v in smiles.properties.items()},
        errors=errors,
        names=[names[r] for r in rows],
        source=smiles.source,
    )


def _shown(entry: Any) -> str:
    """An entry as messages show it, not longer than a line."""
    text = entry if isinstance(entry, str) else repr(entry)
    text = text if len(text) <= 60 else text[:57] + "..."
    return repr(text) if isinstance(entry, str) else text


def read_smiles(
    path: str | Path,
    vocabulary: str | Sequence[str] | None = None,
    *,
    column: str | None = None,
    id_column: str | None = None,
    properties: Sequence[str] = (),
    limit: int | None = None,
    max_atoms: int | None = None,
    standardise: Standardise | None = None,
    errors: Errors = "raise",
) -> Graphs:
    """Graphs of a file of SMILES: :func:`read_smiles_table`, then :func:`from_smiles`; arguments and errors of both."""
    table = read_smiles_table(path, column, id_column=id_column, properties=properties, limit=limit)
    return from_smiles(table, vocabulary, max_atoms=max_atoms, standardise=standardise, errors=errors)


def read_moses(path: str | Path, split: str = "train", *, limit: int | None = None) -> SmilesTable:
    """One split of MOSES (Polykovskiy et al., 2020), unparsed: 1.6 million molecules are many.

    Args:
        path: ``dataset_v1.csv``, or a folder with ``train.csv``, ``test.csv``, ``test_scaffolds.csv`` (also ``.gz``).
        split: ``"train"``, ``"test"`` or ``"test_scaffolds"``. limit: from the beginning.

    Raises:
        FileNotFoundError: the split has no file. ValueError: another word, or a table without SPLIT.
    """
    splits = ("train", "test", "test_scaffolds")
    if split not in splits:
        raise ValueError(f"MOSES has the splits {list(splits)}, got {split!r}")
    path = existing(path)
    check_limit(limit)
    if path.is_dir():
        for name in (f"{split}.csv", f"{split}.csv.gz"):
            if (path / name).exists():
                return read_smiles_table(path / name, limit=limit)
        raise FileNotFoundError(f"no {split}.csv or {split}.csv.gz in {path}")
    table = read_table(path)
    if not {"SMILES", "SPLIT"} <= set(table.columns):
        raise ValueError(
            f"{path.name}: expected the columns SMILES and SPLIT, it has {[str(c) for c in table.columns]}"
        )
    chosen = table[table["SPLIT"] == split]["SMILES"].head(limit if limit is not None else len(table))
    rows = [int(i) + 1 for i in chosen.index]
    return SmilesTable(_strings(chosen), [f"row {r}" for r in rows], rows, {}, path.name)


def read_guacamol(path: str | Path, split: str = "train", *, limit: int | None = None) -> SmilesTable:
    """One split of GuacaMol (Brown et al., 2019), unparsed.

    Args:
        path: the folder with ``guacamol_v1_train.smiles`` and so on, or one such file.
        split: ``"train"``, ``"valid"``, ``"test"`` or ``"all"``, where ``path`` is a folder. limit: from the beginning.

    Raises:
        FileNotFoundError: no such file. ValueError: another word.
    """
    splits = ("train", "valid", "test", "all")
    if split not in splits:
        raise ValueError(f"GuacaMol has the splits {list(splits)}, got {split!r}")
    path = existing(path)
    return read_smiles_table(path / f"guacamol_v1_{split}.smiles" if path.is_dir() else path, limit=limit)
