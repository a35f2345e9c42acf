"""Everything a run is: its `State`, and what a sampler asks for next: its `Query`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..tree import Tree, take, tree_map

__all__ = ["Query", "State"]


@dataclass(frozen=True, slots=True)
class State:
    """A run between two network calls. There is nothing else: no step counter hides anywhere.

    Attributes:
        x: the current states, batch first.
        i: index of the next row of the plan (the next network call); a long tensor (B,) or (B, L)
            when elements sit at different rows (negative: waiting).
        age: number of valid history nodes; same kinds as `i`.
        memory: the registers that the plan keeps between rows.
        aux: accumulators of hooks (log-weights, rewards, ...), each (B, ...).
        t: time of `x` for samplers that choose their own steps, else None (the plan knows).
        draws: number of noise draws so far.
    """

    x: Tree
    i: Any = 0
    age: Any = 0
    memory: dict[str, Tree] = field(default_factory=dict)
    aux: dict[str, Tensor] = field(default_factory=dict)
    t: Any = None
    draws: int = 0

    def take(self, index: Any) -> State:
        """The state of the walkers `index`, with everything that belongs to them."""

        def pick(value: Any) -> Any:
            return value[index] if isinstance(value, Tensor) and value.ndim else value

        return State(
            take(self.x, index),
            pick(self.i),
            pick(self.age),
            {name: take(value, index) for name, value in self.memory.items()},
            {name: value[index] for name, value in self.aux.items()},
            pick(self.t),
            self.draws,
        )

    def where(self, mask: Tensor, other: State) -> State:
        """This state for the walkers where `mask` (B,) holds, else `other` (accept or reject)."""

        def choose(a: Tensor, b: Tensor) -> Tensor:
            return torch.where(mask.view(-1, *[1] * (a.ndim - 1)), a, b)

        def scalars(a: Any, b: Any) -> Any:
            a, b = (torch.as_tensor(v, device=mask.device) for v in (a, b))
            like = max(mask, a, b, key=lambda v: v.ndim)
            return choose(*(v.reshape(*v.shape, *[1] * (like.ndim - v.ndim)).expand(like.shape) for v in (a, b)))

        def register(name: str) -> Tree:
            # dropped by a restart: never read, for those walkers are of age 0
            a, b = (s.memory.get(name, tree_map(torch.zeros_like, s.x)) for s in (self, other))
            return tree_map(choose, a, b)

        memory = {name: register(name) for name in {**self.memory, **other.memory}}
        aux = {n: choose(v, other.aux[n]) for n, v in self.aux.items() if n in other.aux}
        x = tree_map(choose, self.x, other.x)
        t = None if self.t is None else scalars(self.t, other.t)
        i, age = self.i, self.age
        if not (_equal(i, other.i) and _equal(age, other.age)):  # walkers sit at different rows from here on
            i, age = scalars(i, other.i), scalars(age, other.age)
        return State(x, i, age, memory, aux, t, max(self.draws, other.draws))

    def restart(self, x: Tree, i: Any = None) -> State:
        """An edit of `x`: the history does not belong to it any more and is dropped."""
        i = self.i if i is None else i
        return replace(self, x=x, i=i, age=torch.zeros_like(i) if isinstance(i, Tensor) else 0, memory={})


def _equal(a: Any, b: Any) -> bool:
    return not isinstance(a, Tensor) and not isinstance(b, Tensor) and bool(a == b)


class Query(NamedTuple):
    """What to ask the denoiser: the states `x`, their time `t`, and optionally another label.

    Attributes:
        x: states, batch first.
        t: level of `x`: a float, or a tensor (B,) or (B, L).
        label: what the network is told instead of the label of `t` (time shift), or None.
        state: the run's state, read only.
    """

    x: Tree
    t: Any
    label: Tensor | None = None
    state: State | None = None
