"""What a training sample is keyed by: (seed, epoch, sample index), and nothing else.

Shuffling, times, noise, condition dropout and augmentation are functions of these three integers. They do not depend on
the rank, the worker, the place in the batch or what was drawn before. So a training that is killed and resumed, or that
is spread over more processes, sees the same numbers.

The order of the samples is one endless stream: epoch e is a keyed permutation of the n samples, and step s takes the
stream's positions sG .. (s+1)G - 1 (G: global batch size). No batch is ever short, and where a training stands is told
by its step alone. The place of a sample inside that global batch is its *stratum*: a function of its position in the
epoch's permutation, used by stratified times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..noise import keyed_generator

__all__ = ["Augmented", "Key", "KeyedBatches", "KeyedDataset", "KeyedNoise", "Keys", "order"]


class Key(NamedTuple):
    """Where a sample (its index in the data set) stands in the stream."""

    epoch: int
    sample: int
    stratum: int


@lru_cache(maxsize=4)
def order(seed: int, epoch: int, n: int) -> np.ndarray:
    """The order of the `n` samples in `epoch`: a permutation keyed by (seed, epoch)."""
    return keyed_generator(seed, "shuffle", epoch).permutation(n)


@dataclass(frozen=True)
class KeyedNoise:
    """Standard normal noise keyed by (seed, epoch, index) of each sample, by draw and role; a `Noise`."""

    seed: int
    keys: tuple[Key, ...]

    def __call__(self, like: Tensor, draw: int = 0, role: str = "noise") -> Tensor:
        """Numbers of the shape (B, ...), type and device of `like`.

        Raises:
            ValueError: if the batch size is not the number of keys.
        """
        if like.shape[0] != len(self.keys):
            raise ValueError(f"noise was keyed for {len(self.keys)} samples, the state holds {like.shape[0]}")
        dtype = np.float64 if like.dtype == torch.float64 else np.float32
        z = np.empty((len(self.keys), like[0].numel()), dtype=dtype)
        for row, key in zip(z, self.keys, strict=True):
            generator = keyed_generator(self.seed, f"train/{role}", key.epoch, key.sample, draw)
            generator.standard_normal(dtype=dtype, out=row)
        return torch.from_numpy(z).reshape(like.shape).to(device=like.device, dtype=like.dtype)


@dataclass(frozen=True)
class Keys:
    """The keys of one batch: all the randomness that its loss may use.

    Attributes:
        seed: seed of the training.
        keys: one (epoch, index, stratum) a sample.
        strata: how many strata there are: the size of the global batch.
    """

    seed: int
    keys: tuple[Key, ...]
    strata: int

    @classmethod
    def of(cls, seed: int, epoch: int, indices: Sequence[int]) -> Keys:
        """Keys of a batch in a plain loop: `indices` of the data set, all of one epoch."""
        return cls(seed, tuple(Key(epoch, int(i), k) for k, i in enumerate(indices)), len(indices))

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def noise(self) -> KeyedNoise:
        """The noise of these samples."""
        return KeyedNoise(self.seed, self.keys)

    def uniforms(self, role: str, columns: int = 1) -> Tensor:
        """Uniform numbers strictly between 0 and 1, float64, (B, columns), on the CPU."""
        u = np.empty((len(self.keys), columns))
        for row, key in zip(u, self.keys, strict=True):
            keyed_generator(self.seed, f"train/{role}", key.epoch, key.sample).random(out=row)
        return torch.from_numpy(u).clamp_(min=2.0**-54)

    @property
    def stratum(self) -> Tensor:
        """Stratum of each sample, float64, (B,)."""
        return torch.tensor([key.stratum for key in self.keys], dtype=torch.float64)


class KeyedBatches:
    """A batch sampler: the endless stream, from a given step on, for one rank.

    Args:
        n: number of samples in the data set.
        batch_size: size G of the global batch, over all ranks.
        seed: seed of the training.
        start: the step to start from, read when the iteration begins.
        rank, world: this process and how many there are. Rank r takes places rG/world .. (r+1)G/world - 1.

    Raises:
        ValueError: for an empty data set, or a global batch that the ranks cannot share equally.
    """

    def __init__(
        self, n: int, batch_size: int, seed: int, start: Callable[[], int] = int, rank: int = 0, world: int = 1
    ) -> None:
        if n < 1:
            raise ValueError("the data set is empty: there is nothing to train on")
        if batch_size < 1 or batch_size % world:
            raise ValueError(
                f"batch_size={batch_size} is the global batch, shared by {world} processes: give a positive multiple "
                f"of {world}"
            )
        self.n, self.batch_size, self.seed, self.start, self.rank, self.world = n, batch_size, seed, start, rank, world

    def __iter__(self) -> Iterator[list[Key]]:
        local = self.batch_size // self.world
        step = self.start()
        while True:
            batch = []
            for stratum in range(self.rank * local, (self.rank + 1) * local):
                epoch, place = divmod(step * self.batch_size + stratum, self.n)
                batch.append(Key(epoch, int(order(self.seed, epoch, self.n)[place]), stratum))
            yield batch
            step += 1


@runtime_checkable
class Augmented(Protocol):
    """A data set whose samples are drawn anew in each epoch (random windows, crops, rotations).

    `draw(index, generator)` returns a sample and uses no other randomness than the keyed `generator`.
    """

    def __len__(self) -> int: ...

    def draw(self, index: int, generator: np.random.Generator) -> Any:
        """Sample `index`, augmented."""
        ...


class KeyedDataset(Dataset):
    """A map-style data set asked by `Key`: returns (sample, key). Uses `draw` where the data set has it."""

    def __init__(self, data: Any, seed: int) -> None:
        self.data, self.seed = data, seed
        self.augmented = isinstance(data, Augmented)

    def __getitem__(self, key: Key) -> tuple[Any, Key]:
        if self.augmented:
            return self.data.draw(key.sample, keyed_generator(self.seed, "augment", key.epoch, key.sample)), key
        return self.data[key.sample], key
