"""Bad input in a batch: refuse at once, or name it and go on.

Every reader takes ``errors="raise"`` (the default: the first bad molecule ends the call) or ``errors="skip"``: what is
bad is left out, each with its place and its reason, in one :class:`SkippedData` warning. Nothing is repaired beyond the
stated policy (:class:`.Standardise`). What makes the whole input unreadable (no such file, a missing column) is raised
either way, and so is a batch of which nothing is left.
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
    """One molecule, graph or record that was left out: where it stood, and why."""

    where: str
    why: str

    def __str__(self) -> str:
        return f"{self.where}: {self.why}"


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

    @contextmanager
    def at(self, where: str) -> Iterator[None]:
        """A ``ValueError`` in the block is raised again with its place, or noted and swallowed."""
        try:
            yield
        except ValueError as error:
            if self.errors == "raise":
                raise ValueError(
                    f"{self.source}, {where}: {error} (errors='skip' leaves such entries out and names them)"
                ) from error
            self.found.append(Skipped(where, str(error)))

    def done(self, kept: int, stacklevel: int = 3) -> tuple[Skipped, ...]:
        """Warn of what was left out and return it.

        Args:
            kept: entries that remain.
            stacklevel: of the warning, as seen from here.

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
            text = f"{self.source}: left out {len(self.found)} of {kept + len(self.found)}: {listing}{more}"
            warnings.warn(text, SkippedData, stacklevel=stacklevel)
        return tuple(self.found)
