"""What steering by rewards of molecules has in common, whatever the states of a model are.

`SVDD` and `FeynmanKac` of the core know rewards of states; a user has one of molecules. A model wraps that into one of
its states, and after the run one walker of each group is what the user gets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core.hooks import Step
from ..core.noise import SlotNoise
from ..core.steering import SVDD, FeynmanKac
from ..core.steering.resampling import pick, uniforms
from .building import unsanitised
from .chem import molecule_of

__all__ = ["GraphReward", "Steering", "choose", "with_reward"]

Steering = SVDD | FeynmanKac


def with_reward(steering: Any, wrap: Callable[[Any], Any]) -> Steering:
    """The hook that a run takes: `steering` with a reward of states, which `wrap` makes of its own one of molecules.

    Raises:
        TypeError: neither `SVDD` nor `FeynmanKac`.
        ValueError: a learned value.
    """
    if not isinstance(steering, SVDD | FeynmanKac):
        raise TypeError(
            f"steering must be core.steering.SVDD(reward, ...) or FeynmanKac(reward, walkers, ...), got {steering!r}"
        )
    if isinstance(steering, SVDD) and steering.value is not None:
        raise ValueError("a learned value sees states, not molecules: use core.steering.svdd on the model's denoiser")
    reward = wrap(steering.reward)
    if isinstance(steering, FeynmanKac):
        return replace(steering, reward=reward, final="weights")  # one walker a group is chosen by `choose`
    return replace(steering, reward=reward)


def choose(hook: Steering, aux: dict[str, Tensor], size: int, seed: int, role: str) -> Tensor:
    """Which walker of each group is returned, (n,) long, of `size` walkers; `role` keys the draw."""
    starts = torch.arange(0, size, hook.group)
    if isinstance(hook, SVDD):
        return starts  # all walkers of a group are copies of the one that was kept
    log_w = aux[f"{hook.name}_log_w"].cpu().view(-1, hook.group)
    u = uniforms(SlotNoise(seed, range(size)), torch.empty(size), hook.group, 0, f"{role}/choose")
    return starts + pick(log_w, u)


@dataclass(frozen=True, eq=False)
class GraphReward:
    """A reward of states {"X", "A"} or {"A"}, from one of molecules (of adjacency matrices, where graphs are none).

    Molecules go through the protocol of :mod:`.chem`: corrected, largest fragment. From step to step most predictions
    are the same graph again: the rewards of the last call are kept.

    Attributes:
        function: molecule (or (n, n) array of 0 and 1) -> number, larger is better.
        read: data prediction and nodes (B, N) -> A (B, N, N), mask (B, N), types (B, N): what graph it is.
        vocabulary, hydrogens: of the graphs; hydrogens is None where they are no molecules.
        invalid: reward of what is no molecule.
        held: nodes of a scaffold, the first ones, which correction keeps.
    """

    function: Callable[[Any], float]
    read: Callable[[dict[str, Tensor], Tensor], tuple[Tensor, Tensor, Tensor]]
    vocabulary: tuple[str, ...] | None
    hydrogens: str | None
    invalid: float
    held: int = 0
    last: dict[bytes, float] = field(default_factory=dict, repr=False)

    def __call__(self, data: dict[str, Tensor], step: Step | None) -> list[float]:
        """The reward of each state, (B,)."""
        assert step is not None
        nodes = step.space.spaces["A"].mask.cpu().expand(len(data["A"]), -1)  # type: ignore[attr-defined]
        A, mask, types = self.read({name: leaf.cpu() for name, leaf in data.items()}, nodes)
        keys = [a[m][:, m].numpy().tobytes() + t[m].numpy().tobytes() for a, m, t in zip(A, mask, types, strict=True)]
        now: dict[bytes, float] = {}
        for i, key in enumerate(keys):
            if key not in now:
                now[key] = (
                    self.last[key] if key in self.last else self._reward(*(p[i : i + 1] for p in (A, mask, types)))
                )
        self.last.clear()
        self.last.update(now)
        return [now[key] for key in keys]

    def _reward(self, A: Tensor, mask: Tensor, types: Tensor) -> float:
        """The reward of one graph, (1, N, N), (1, N), (1, N)."""
        if self.hydrogens is None or self.vocabulary is None:
            n = int(mask.sum())
            return float(self.function(np.asarray(A[0, :n, :n])))
        mol = molecule_of(unsanitised(A, mask, types, self.vocabulary, self.hydrogens)[0], self.held).mol
        return self.invalid if mol is None else float(self.function(mol))
