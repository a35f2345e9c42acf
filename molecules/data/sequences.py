"""Biological sequences: FASTA and tables, letters to tokens.

**Letters outside the alphabet.** A genome file has ``N`` (not known) and lower case (repeats, "soft masking"), a
protein file ``X``, ``B``, ``Z``, ``U``, ``*``. Nothing is changed in silence. ``unknown`` says what becomes of them:
``"raise"``, ``"skip"`` (the sequence is left out), or ``"keep"`` (token :data:`UNKNOWN`, -1, and False in ``known``: no
loss is computed there). ``lower`` says what lower case means: ``"raise"``, ``"upper"`` (the same letter), or
``"unknown"`` (masked repeats count as not known).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ...core.problems import Errors, Problems
from .files import check_limit, read_lines, write_text
from .graphs import check_lengths, rows_of
from .tables import check_columns, column_of_ids, columns_of_numbers, ids_of, read_table

__all__ = ["ALPHABETS", "UNKNOWN", "Sequences", "from_strings", "read_fasta", "read_sequence_table", "write_fasta"]

ALPHABETS = {"dna": "ACGT", "rna": "ACGU", "protein": "ACDEFGHIKLMNPQRSTVWY"}
"""The letters by name: their place is their token."""

UNKNOWN = -1
"""The token of a letter that is not known."""


@dataclass(frozen=True)
class Sequences:
    """B sequences, padded to L letters.

    Attributes:
        tokens: (B, L) long, the place of each letter in ``alphabet``; :data:`UNKNOWN` where not known, 0 after the end.
        mask: (B, L) bool, True up to the end of each sequence. alphabet: the letters.
        ids: a name for each sequence. properties: (B,) float64 each.

    Raises:
        ValueError: shapes that do not fit, tokens beyond the alphabet, or not one id and property a sequence.
    """

    tokens: Tensor
    mask: Tensor
    alphabet: str
    ids: tuple[Any, ...]
    properties: dict[str, Tensor]

    def __post_init__(self) -> None:
        if self.tokens.shape != self.mask.shape or self.tokens.ndim != 2 or self.mask.dtype != torch.bool:
            raise ValueError(
                f"expected tokens (B, L) and a bool mask of the same shape, got {tuple(self.tokens.shape)} and "
                f"{tuple(self.mask.shape)} {self.mask.dtype}"
            )
        inside = self.tokens[self.mask]
        if len(inside) and not UNKNOWN <= int(inside.min()) <= int(inside.max()) < len(self.alphabet):
            raise ValueError(
                f"tokens must be {UNKNOWN}..{len(self.alphabet) - 1}, got {int(inside.min())}..{int(inside.max())}"
            )
        check_lengths(len(self.tokens), "sequences", {"ids": self.ids, **self.properties})

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        return f"Sequences({len(self)} of up to {self.tokens.shape[1]} letters, alphabet {self.alphabet})"

    def __getitem__(self, index: Any) -> Sequences:
        """Some of the sequences: a slice, a list or tensor of numbers, a bool mask, or one number (a set of one)."""
        rows = rows_of(index, len(self))
        take = torch.as_tensor(rows, dtype=torch.long)  # also of no rows
        return replace(
            self,
            tokens=self.tokens[take],
            mask=self.mask[take],
            ids=tuple(self.ids[i] for i in rows),
            properties={k: v[take] for k, v in self.properties.items()},
        )

    @property
    def known(self) -> Tensor:
        """(B, L) bool: inside the sequence, and a letter of the alphabet."""
        return self.mask & (self.tokens != UNKNOWN)

    def strings(self, unknown: str | None = None) -> list[str]:
        """The sequences as text.

        Args:
            unknown: how a letter that is not known is written; default ``N``, or ``X`` in proteins.
        """
        blank = unknown if unknown is not None else ("X" if "N" in self.alphabet else "N")
        letters = np.array([*self.alphabet, blank])  # UNKNOWN is -1, the last
        return ["".join(letters[t[m]]) for t, m in zip(self.tokens.numpy(), self.mask.numpy(), strict=True)]


def from_strings(
    strings: Iterable[str],
    alphabet: str = "dna",
    *,
    unknown: Literal["raise", "skip", "keep"] = "raise",
    lower: Literal["raise", "upper", "unknown"] = "raise",
    ids: Sequence[Any] | None = None,
    properties: dict[str, Any] | None = None,
    errors: Errors = "raise",
    source: str = "the sequences",
) -> Sequences:
    """Sequences of text.

    Args:
        strings: the letters. alphabet: ``"dna"``, ``"rna"``, ``"protein"``, or the letters themselves.
        unknown, lower: see the module. ids: one a sequence. properties: one number a sequence each.
        errors: ``"skip"`` leaves bad sequences out and names them. source: for the messages.

    Raises:
        ValueError: an empty sequence, other letters or lower case where they are refused, or nothing left.
    """
    letters = ALPHABETS.get(alphabet, alphabet)
    if len(set(letters)) < max(len(letters), 2) or not (letters.isascii() and letters.isupper()):
        raise ValueError(f"an alphabet is {list(ALPHABETS)} or at least two different capitals, got {alphabet!r}")
    if unknown not in ("raise", "skip", "keep") or lower not in ("raise", "upper", "unknown"):
        raise ValueError(
            f"unknown is 'raise', 'skip' or 'keep', lower 'raise', 'upper' or 'unknown': {unknown!r}, {lower!r}"
        )
    table = np.full(256, UNKNOWN, dtype=np.int64)
    table[np.frombuffer(letters.encode("latin-1"), dtype=np.uint8)] = np.arange(len(letters))
    strings = [strings] if isinstance(strings, str) else list(strings)
    check_lengths(len(strings), "sequences", {"ids": ids, **(properties or {})})
    problems = Problems("skip" if unknown == "skip" else errors, source)
    found, rows = [], []
    for row, text in enumerate(strings):
        where = f"sequence {row if ids is None else ids[row]!r}"
        if unknown == "skip" and errors == "raise":  # only other letters are skipped; what else is bad is an error
            with Problems("raise", source).at(where):
                _check_text(text, lower)
        with problems.at(where):
            _check_text(text, lower)
            found.append(_tokens(text, table, letters, unknown, lower))
            rows.append(row)
    problems.done(len(found))
    size = max(map(len, found))
    tokens, mask = np.zeros((len(found), size), dtype=np.int64), np.zeros((len(found), size), dtype=bool)
    for b, row_tokens in enumerate(found):
        tokens[b, : len(row_tokens)] = row_tokens
        mask[b, : len(row_tokens)] = True
    return Sequences(
        torch.from_numpy(tokens),
        torch.from_numpy(mask),
        letters,
        tuple(rows) if ids is None else tuple(ids[r] for r in rows),
        {k: torch.from_numpy(np.array(v, dtype=np.float64)[rows]) for k, v in (properties or {}).items()},
    )


def _check_text(text: Any, lower: str) -> None:
    if not isinstance(text, str) or not text:
        raise ValueError(f"expected letters, got {text!r}")
    at = next((i for i, c in enumerate(text) if "a" <= c <= "z"), None)
    if lower == "raise" and at is not None:
        raise ValueError(
            f"lower case {text[at]!r} at letter {at + 1} (soft-masked repeats?): lower='upper' takes it for the same "
            "letter, lower='unknown' for a letter that is not known"
        )


def _tokens(text: str, table: np.ndarray, letters: str, unknown: str, lower: str) -> np.ndarray:
    raw = np.frombuffer(text.encode("latin-1", errors="replace"), dtype=np.uint8)
    small = (raw >= ord("a")) & (raw <= ord("z"))
    tokens = table[np.where(small, raw - 32, raw)]
    if lower == "unknown":
        tokens = np.where(small, UNKNOWN, tokens)
    other = (tokens == UNKNOWN) & ~(small & (lower == "unknown"))
    if other.any() and unknown != "keep":
        at = int(other.argmax())
        raise ValueError(
            f"letter {text[at]!r} at {at + 1} ({int(other.sum())} in all) is none of {letters}: {_guess(text)}"
            "unknown='keep' marks such letters, unknown='skip' leaves their sequences out"
        )
    return tokens


def _guess(text: str) -> str:
    """Which alphabet has all these letters, as a hint; nothing where none has, or where they may be IUPAC's codes of
    uncertain nucleotides."""
    came = set(text.upper())
    for name in ("dna", "rna", "protein"):
        if came <= set(ALPHABETS[name]) and (name != "protein" or came & set("EFILPQ")):  # those six are no such codes
            return f"a sequence of {name}? Then say so by alphabet= ({name}); else "
    return ""


def read_fasta(path: str | Path, alphabet: str = "dna", *, limit: int | None = None, **rules: Any) -> Sequences:
    """The records of a ``.fa`` or ``.fasta`` file, also with ``.gz``; ids are the first words of the headers.

    Args:
        path: the file. alphabet: as :func:`from_strings`. limit: records from the beginning.
        rules: ``unknown, lower, errors`` of :func:`from_strings`.

    Raises:
        FileNotFoundError: no such file. ValueError: letters before the first ``>``, and those of ``from_strings``.
    """
    check_limit(limit)
    ids: list[str] = []
    texts: list[list[str]] = []
    for at, line in enumerate(read_lines(path), start=1):
        line = line.strip()
        if line.startswith(">"):
            if limit is not None and len(ids) >= limit:
                break
            ids.append((line[1:].split() or [str(len(ids))])[0])
            texts.append([])
        elif line and not line.startswith(";"):
            if not ids:
                raise ValueError(f"{Path(path).name}, line {at}: expected a header '>name', got {line[:40]!r}")
            texts[-1].append(line)
    return from_strings(map("".join, texts), alphabet, ids=ids, source=Path(path).name, **rules)


def read_sequence_table(
    path: str | Path,
    column: str,
    alphabet: str = "dna",
    *,
    id_column: str | None = None,
    properties: Sequence[str] = (),
    limit: int | None = None,
    **rules: Any,
) -> Sequences:
    """Sequences in a column of a ``.csv`` or ``.tsv``, with numbers beside them (measured activities).

    Args:
        path: the file. column: of the letters. alphabet: as :func:`from_strings`. id_column: of names; one that is
            called so (``id``, ``name``, ...) when None, else ``"row 1"`` and so on. properties: columns of numbers.
        limit: rows from the beginning. rules: ``unknown, lower, errors`` of :func:`from_strings`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no table (see :func:`.tables.read_table`), a column that is not there, and those of
            ``from_strings``.
    """
    path = Path(path)
    tabs = path.name.lower().removesuffix(".gz").endswith((".tsv", ".txt"))
    table = read_table(path, separator="\t" if tabs else ",", limit=limit)
    check_columns(table, (column, id_column), path.name)
    numbers = columns_of_numbers(table, properties, path.name)
    names = column_of_ids([str(c) for c in table.columns], id_column, column)
    ids = ids_of(table, names) or [f"row {i + 1}" for i in range(len(table))]
    return from_strings(table[column].tolist(), alphabet, ids=ids, properties=numbers, source=path.name, **rules)


def write_fasta(sequences: Sequences, path: str | Path, *, width: int = 80) -> Path:
    """Write ``.fa`` or ``.fasta``, also ``.gz``, at once, ``width`` letters a line; returns the path.

    Raises:
        ValueError: another suffix.
    """
    path = Path(path)
    if not path.name.lower().removesuffix(".gz").endswith((".fa", ".fasta", ".fna", ".faa")):
        raise ValueError(f"cannot tell the format of {path.name}: expected .fa or .fasta, also with .gz")
    lines = []
    for name, text in zip(sequences.ids, sequences.strings(), strict=True):
        lines.append(f">{name}")
        lines += [text[i : i + width] for i in range(0, len(text), width)]
    return write_text(path, "\n".join(lines) + "\n")
