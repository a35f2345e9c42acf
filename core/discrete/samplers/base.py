"""What all samplers of tokens share: the family, the times of a run, and uniform numbers instead of normal ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ...grids import Grid
from ...noise import Noise
from ...samplers.base import Sampler
from ...samplers.state import Query, State
from ...schedules.maths import Scalar
from ...spaces import Product, Space, projects
from ...tree import Tree
from ..categorical import uniforms
from ..denoiser import TokenPrediction
from ..places import places
from ..process import Process, ProductProcess, at

__all__ = ["Steps", "TokenSampler", "among", "each", "leaf_processes", "own_places"]


@dataclass(frozen=True)
class Steps:
    """The plan of a run over a grid: from `times[i]` to `times[i + 1]` with each network call.

    Attributes:
        process: of the run.
        times: of the grid, falling.
    """

    process: Process | ProductProcess
    times: tuple[float, ...]


def each(pred: TokenPrediction, function: Callable[..., Tensor], *trees: Tree | None) -> Tree:
    """`function(process, rows of log p, leaf of each tree)`, leaf by leaf; rows as by `TokenPrediction.rows`."""
    process = pred.denoiser.process
    if isinstance(process, ProductProcess):
        return {
            name: function(leaf, pred.rows(name), *(None if t is None else t[name] for t in trees))
            for name, leaf in process.leaves.items()
        }
    return function(process, pred.rows(), *trees)


def leaf_processes(process: Process | ProductProcess) -> Iterable[Process]:
    """The process of every leaf of the state."""
    return process.leaves.values() if isinstance(process, ProductProcess) else [process]


def own_places(space: Space, x: Tree) -> Tree | None:
    """The tokens that a sample's law is over, as by `places`; None where that is all of them."""
    if isinstance(space, Product):
        return {name: own_places(one, x[name]) for name, one in space.spaces.items()}
    return places(space, x) if projects(space) else None


def among(
    own: Tensor | None, step: Callable[..., Tensor], rows: Any, x: Tensor, s: Scalar, t: Scalar, u: Tensor,
    tilt: Tensor | None,
) -> Tensor:  # fmt: skip
    """`step(rows, x, s, t, u, tilt)` with the tokens `own` alone, as if there were no others; those stay.

    Args:
        own: boolean (B, L, ...), or None for all.
        step: returns the new tokens.
        rows: index -> log p(x_0 | x_t) of those tokens, as by `TokenPrediction.rows`.
        x: x_t (B, L, ...), long.
        s, t: times, floats, (B,) or (B, L).
        u: uniforms (B, L, ...), or more of them for each token.
        tilt: (B, L, ..., S), or None.
    """
    if own is None:
        return step(rows, x, s, t, u, tilt)
    index = own.nonzero(as_tuple=True)
    if not len(index[0]):
        return x

    def chosen(which: Any) -> Tensor:
        part: Tensor = rows(tuple(i[which] for i in index))
        return part

    near, far = at(s, own, x.shape), at(t, own, x.shape)
    out = x.clone()
    out[own] = step(chosen, x[own], near, far, u[own], None if tilt is None else tilt[own])
    return out


@dataclass(frozen=True)
class TokenSampler(Sampler):
    """Base: one network call for each step of the grid, one uniform number for each token and step."""

    families: ClassVar[frozenset[str]] = frozenset({"categorical"})

    @property
    def stochastic(self) -> bool:
        return True

    def plan(self, schedule: Any, grid: Grid) -> Any:
        if not grid.descending:
            raise ValueError(f"{self!r} goes from noise to data: the grid must descend, got {grid.times[0]} first")
        for t in (grid.times[0], grid.times[-1]):
            schedule.check_time(t)
        return Steps(schedule, grid.times)

    def start(self, plan: Any, x: Tree, space: Space) -> State:
        plan.process.check(x)
        return State(x)

    def done(self, plan: Any, state: State) -> bool:
        return bool(state.i >= len(plan.times) - 1)

    def total(self, plan: Any) -> int | None:
        return len(plan.times) - 1

    def time(self, plan: Any, state: State) -> Any:
        return plan.times[min(state.i, len(plan.times) - 1)]

    def draw(self, plan: Any, state: State, space: Space, noise: Noise) -> Tree:
        return uniforms(noise, space, state.x, state.draws)

    def query(self, plan: Any, state: State, z: Tree | None, space: Space, reference: Tree | None) -> Query:
        return Query(state.x, self.time(plan, state), None, state)
