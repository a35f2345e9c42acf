"""What `MaskedSequence` samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..data.sequences import Sequences, write_fasta

__all__ = ["SequenceSamples"]


@dataclass(frozen=True)
class SequenceSamples:
    """Sampled sequences.

    Attributes:
        strings: the letters of each sample.
        sequences: the same as tokens with a mask, :class:`..data.Sequences`.
        info: model, sampler, seed, network calls, steering, energy, template.
        records: what steering and energies recorded.
    """

    strings: list[str]
    sequences: Sequences
    info: dict[str, Any]
    records: dict[str, Any] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        first = self.strings[0] if self.strings else ""
        first = first if len(first) <= 20 else first[:20] + "..."
        return f"SequenceSamples({self.sequences!r}, the first: {first!r})"

    @property
    def tokens(self) -> Tensor:
        """(n, L) long, 0 after the end of a sequence."""
        return self.sequences.tokens

    @property
    def mask(self) -> Tensor:
        """(n, L) bool, True up to the end of each sequence."""
        return self.sequences.mask

    def __len__(self) -> int:
        return len(self.strings)

    def write(self, path: str | Path) -> Path:
        """Write ``.fasta`` (also .fa, .fna, .faa, .gz), whole or not at all; returns the path.

        Raises:
            ValueError: another suffix.
        """
        return write_fasta(self.sequences, path)
