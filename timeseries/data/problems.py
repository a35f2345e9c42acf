"""Bad input in a batch: refuse at once, or name it and go on.

A file of ten thousand series with one bad row is still a file of 9,999 good series. Every reader takes
``errors="raise"`` (the default: the first bad series or row ends the call) or ``errors="skip"``: what is bad is left
out, each with its place and its reason, in one :class:`SkippedData` warning and in ``Panel.skipped``. Nothing is ever
repaired. What makes the whole input unreadable (no such file, a missing column, mixed time zones) is raised either way,
and so is a batch of which nothing is left.
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
    """One series, row or line that was left out.

    Attributes:
        where: ``"series 'a'"``, ``"row 7"``, ``"line 12"``.
        why: the message that ``errors="raise"`` would have ended with.
    """

    where: str
    why: str

    def __str__(self) -> str:
        return self.why if self.where in self.why else f"{self.where}: {self.why}"


class SkippedData(UserWarning):
    """Some of the input was left out, by ``errors="skip"``."""


class Problems:
    """Collects what is bad, or raises it.

    Args:
        errors: ``"raise"`` or ``"skip"``.
        source: what is read, for the warning: a file's name.

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
        """A ``ValueError`` or ``TypeError`` in the block is raised, or noted and swallowed."""
        try:
            yield
        except (ValueError, TypeError) as error:
            if not self.skip:
                raise
            self.add(where, str(error))

    def done(self, kept: int, stacklevel: int = 3) -> tuple[Skipped, ...]:
        """Warn of what was left out and return it.

        Args:
            kept: series that remain.
            stacklevel: of the warning, as seen from here.

        Raises:
            ValueError: nothing remains.
        """
        if not self.found:
            return ()
        listing = "; ".join(str(s) for s in self.found[:_SHOWN])
        more = f"; and {len(self.found) - _SHOWN} more" if len(self.found) > _SHOWN else ""
        if kept == 0:
            raise ValueError(f"{self.source}: nothing is left, {len(self.found)} bad: {listing}{more}")
        warnings.warn(f"{self.source}: left out {len(self.found)}: {listing}{more}", SkippedData, stacklevel=stacklevel)
        return tuple(self.found)
