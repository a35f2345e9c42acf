"""Noise that is keyed, not streamed.

A random number here is a function of *(seed, slot, draw, role)* and of its position inside the
sample: `slot` is the index of the sample in the whole run, `draw` counts the draws of that run, and
`role` says what the number is for (prior, step, churn, corrector, ...). The same sample therefore
gets the same noise however a run is cut into batches or spread over processes, and a padded state
gets the same numbers as an unpadded one.

The generator is Philox-4x64 (J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC
2011), a counter-based generator whose key and counter hold the four integers without collisions.
Slots are drawn in blocks of eight, value-major, so that a longer sample only appends numbers.
Numbers are drawn on the CPU and then moved: every device sees the same noise.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .tree import Tree

__all__ = ["Noise", "Recorded", "SlotNoise", "family_noise", "keyed_generator"]

_MASK = (1 << 64) - 1


@lru_cache(maxsize=256)
def _code(role: str) -> int:
    return zlib.crc32(role.encode())


def keyed_generator(seed: int, role: str = "", *counter: int) -> np.random.Generator:
    """A generator that depends on nothing but its arguments.

    Args:
        seed: any integer (taken modulo 2**64).
        role: what the numbers are for; different roles give independent numbers.
        counter: up to three integers, for example (epoch, sample index).
    """
    if len(counter) > 3:
        raise ValueError(f"a key holds up to three counters, got {len(counter)}: {counter}")
    return np.random.Generator(np.random.Philox(key=_key(seed, role), counter=_words(*counter)))


def _key(seed: int, role: str) -> np.ndarray:
    return np.array([int(seed) & _MASK, _code(role)], dtype=np.uint64)


def _words(*counter: int) -> np.ndarray:
    words = np.zeros(4, dtype=np.uint64)
    for position, value in enumerate(counter, start=1):
        words[position] = int(value) & _MASK
    return words


class Noise(Protocol):
    """Standard normal numbers for one draw of a run."""

    def __call__(self, like: Tensor, draw: int, role: str) -> Tensor:
        """Numbers of the shape, type and device of `like` (B, ...)."""
        ...


@dataclass(frozen=True)
class SlotNoise:
    """Standard normal noise keyed by (seed, slot, draw, role).

    Args:
        seed: seed of the run.
        slots: indices of this batch's samples in the whole run; its length is the batch size.
        block: slots that share one key. A change of it changes all numbers.
    """

    seed: int
    slots: range
    block: int = 8

    def __post_init__(self) -> None:
        slots = self.slots
        if not isinstance(slots, range) or slots.step != 1 or slots.start < 0:
            raise ValueError(
                f"slots must be a range of consecutive indices >= 0, for example range(8, 16), got {slots!r}"
            )

    def __call__(self, like: Tensor, draw: int, role: str) -> Tensor:
        """Standard normal numbers of the shape (B, ...), type and device of `like`.

        Raises:
            ValueError: if the batch size is not the number of slots.
        """
        slots, block = self.slots, self.block
        if like.shape[0] != len(slots):
            raise ValueError(f"noise was keyed for {len(slots)} samples, the state holds {like.shape[0]}")
        size = math.prod(like.shape[1:])
        double = like.dtype == torch.float64
        low, high = slots.start // block, (slots.stop - 1) // block + 1
        numbers = np.empty((high - low, size, block), dtype=np.float64 if double else np.float32)
        # one generator, set to the key of each block: the numbers of `keyed_generator`, without building one a block
        bits = np.random.Philox(key=_key(self.seed, role), counter=_words(low, draw))
        generator = np.random.Generator(bits)
        fresh = bits.state  # with nothing left over from another block
        for k in range(low, high):
            if k > low:
                fresh["state"]["counter"] = _words(k, draw)
                bits.state = fresh
            generator.standard_normal(dtype=numbers.dtype, out=numbers[k - low])
        first = slots.start % block
        z = torch.from_numpy(numbers.transpose(0, 2, 1).reshape(-1, size)[first : first + len(slots)])
        return z.reshape(like.shape).to(device=like.device, dtype=like.dtype)


@dataclass
class Recorded:
    """Noise played back from a list, in the order in which it is asked for (for example a peer's).

    Asked again for the same draw and role, it answers the same: a run can be repeated.
    """

    draws: Sequence[Tensor]
    _places: dict[tuple[int, str], int] = field(default_factory=dict, repr=False)

    def __call__(self, like: Tensor, draw: int, role: str) -> Tensor:
        """The next recorded tensor.

        Raises:
            ValueError: if the list is used up or the shapes differ.
        """
        place = self._places.setdefault((draw, role), len(self._places))
        if place >= len(self.draws):
            raise ValueError(f"all {len(self.draws)} recorded draws are used up (asked for a {role!r} draw)")
        z = self.draws[place]
        if z.shape != like.shape:
            raise ValueError(f"recorded draw {place} has shape {tuple(z.shape)}, need {tuple(like.shape)}")
        return z.to(device=like.device, dtype=like.dtype)


def family_noise(schedule: Any, space: Any, noise: Noise, like: Tree, draw: int, role: str) -> Tree:
    """Noise n of the schedule's family: Gaussian, or multivariate Student-t for PFGM++.

    A Student-t vector with D degrees of freedom is z / sqrt(g), z standard normal and
    g ~ Gamma(D/2, rate D/2) one number a sample: here the mean square of D normal numbers (Y. Xu et
    al., "PFGM++: unlocking the potential of physics-inspired generative models", ICML 2023).
    """
    z = space.randn(noise, like, draw, role)
    if schedule.family == "gaussian":
        return z

    def scaled(leaf_schedule: Any, leaf: Tensor) -> Tensor:
        if leaf_schedule.family == "gaussian":
            return leaf
        g = noise(leaf.new_empty(leaf.shape[0], leaf_schedule.D), draw, role + "/gamma").square().mean(1)
        return leaf / g.sqrt().view(-1, *[1] * (leaf.ndim - 1))

    if isinstance(z, dict):
        schedules = getattr(schedule, "leaves", dict.fromkeys(z, schedule))
        return {name: scaled(schedules[name], leaf) for name, leaf in z.items()}
    return scaled(schedule, z)
