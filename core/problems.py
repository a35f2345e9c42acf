"""Bad input in a batch: refuse at once, or name it and go on.

A file of ten thousand entries with one bad row is still a file of 9,999 good ones. Every reader takes
``errors="raise"`` (the default: the first bad entry ends the call) or ``errors="skip"``: what is bad is left out, each
with its place and its reason, in one :class:`SkippedData` warning. What makes the whole input unreadable (no such file,
a missing column) is raised either way, and so is a batch of which nothing is left.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

__all__ = ["Errors", "Problems", "Skipped", "SkippedData"]

Errors = Literal["raise", "skip"]

_SHOWN = 10


@dataclass(frozen=True)
class Skipped:
    """One entry (series, row, molecule ...) that was left out.

    Attributes:
        where: ``"series 'a'"``, ``"row 7"``, ``"line 12"``.
        why: what is wrong with it.
    """

    where: str
    why: str

    def __str__(self) -> str:
        return self.why if self.where in self.why else f"{self.where}: {self.why}"


class SkippedData(UserWarning):
    """Some of the input was left out, by ``errors="skip"``."""


class Problems:
    """Collects what is bad, or raises it with its place.

    Args:
        errors: ``"raise"`` or ``"skip"``.
        source: what is read, for the messages: a file's name.

    Raises:
        ValueError: another word.
    """

    def __init__(self, errors: Errors = "raise", source: str = "the data") -> None:
        if errors not in ("raise", "skip"):
            raise ValueError(f"errors must be 'raise' or 'skip', got {errors!r}")
        self.errors, self.source = errors, source
        self.found: list[Skipped] = []

    @property
    def skip(self) -> bool:
        """Whether bad input is left out."""
        return self.errors == "skip"

    def add(self, where: str, why: str) -> None:
        """Note something that was left out."""
        self.found.append(Skipped(where, why))

    @contextmanager
    def at(self, where: str) -> Iterator[None]:
        """A ``ValueError`` or ``TypeError`` in the block is raised, with its place, or noted and swallowed."""
        try:
            yield
        except (ValueError, TypeError) as error:
            if self.skip:
                self.add(where, str(error))
                return
            if where in str(error):
                raise
            kind = ValueError if isinstance(error, ValueError) else TypeError
            raise kind(
                f"{self.source}, {where}: {error} (errors='skip' leaves such entries out and names them)"
            ) from error

    def done(self, kept: int, stacklevel: int = 3, *, counted: bool = True) -> tuple[Skipped, ...]:
        """Warn of what was left out and return it.

        Args:
            kept: entries that remain.
            stacklevel: of the warning, as seen from here.
            counted: whether what was left out is counted in the same entries, and can be told "of" their number.

        Raises:
            ValueError: nothing remains.
        """
        listing = "; ".join(str(s) for s in self.found[:_SHOWN])
        more = f"; and {len(self.found) - _SHOWN} more" if len(self.found) > _SHOWN else ""
        if kept == 0:
            raise ValueError(
                f"{self.source}: nothing is left, {len(self.found)} bad: {listing}{more}"
                if self.found
                else f"{self.source} holds no entry"
            )
        if self.found:
            of = f" of {kept + len(self.found)}" if counted else ""
            text = f"{self.source}: left out {len(self.found)}{of}: {listing}{more}"
            warnings.warn(text, SkippedData, stacklevel=stacklevel)
        return tuple(self.found)
