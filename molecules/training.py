"""What the trainings of all models share: how long they are, their data sets, and what models of graphs refuse."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any, Self

from torch import Tensor, tensor

from .data.graphs import Graphs

__all__ = ["Rows", "budget", "digest_of", "same_kind", "time_itself"]


class Rows:
    """A data set whose samples are row numbers: `collate` makes a batch of many rows in one go.

    A subclass defines ``__len__`` and ``batch``.
    """

    def __len__(self) -> int:
        raise NotImplementedError

    def batch(self, rows: Tensor) -> dict[str, Any]:
        """The batch of these rows, (B,) long."""
        raise NotImplementedError

    def __getitem__(self, index: int) -> tuple[Self, int]:
        return self, index

    @staticmethod
    def collate(items: Sequence[tuple[Rows, int]]) -> dict[str, Any]:
        """What `core.training.fit` takes to make batches."""
        return items[0][0].batch(tensor([row for _, row in items]))


def budget(
    config: Any, samples: int, epochs: float | None, max_steps: int | None, batch_size: int | None
) -> tuple[int, int]:
    """Size of the batches and number of steps of a training, of the settings where not given.

    Args:
        config: settings, with epochs and batch_size.
        samples: of the training set; a batch is never larger.
        epochs, max_steps: passes over it, or optimizer steps in all.

    Raises:
        ValueError: both, or epochs that are not positive.
    """
    if epochs is not None and max_steps is not None:
        raise ValueError(f"give epochs or max_steps, not both (got {epochs} and {max_steps})")
    size = min(config.batch_size if batch_size is None else batch_size, samples)
    if max_steps is None:
        epochs = config.epochs if epochs is None else epochs
        if not epochs > 0:
            raise ValueError(f"epochs must be positive, got {epochs}")
        max_steps = max(1, math.ceil(epochs * samples / size))
    return size, max_steps


def digest_of(graphs: Graphs) -> str:
    """The first 16 hex digits of SHA-256 over nodes, edges and X, by which a resumed training knows its data."""
    digest = hashlib.sha256(repr((graphs.vocabulary, graphs.hydrogens)).encode())
    for part in (graphs.A, graphs.mask, graphs.types, graphs.features):
        digest.update(b"-" if part is None else part.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def same_kind(graphs: Graphs, vocabulary: tuple[str, ...] | None, hydrogens: str | None) -> None:
    """Refuse graphs that are not of the kind that a model knows.

    Raises:
        ValueError: another vocabulary or kind of hydrogens.
    """
    for name, own in (("hydrogens", hydrogens), ("vocabulary", vocabulary)):
        came = getattr(graphs, name)
        if came != own:
            raise ValueError(
                f"the model is one of graphs with {name}={own!r}, these have {came!r}: read them with the same "
                "vocabulary and Standardise(hydrogens=...)"
            )


def time_itself(schedule: Any, t: Any) -> Any:
    """The label of networks that are told t as it is."""
    return t
