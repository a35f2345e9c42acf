"""What all samplers of tokens share: the family, the times of a run, and uniform numbers instead of normal ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ...grids import Grid
from ...noise import Noise
from ...samplers.base import Sampler
from ...samplers.state import Query, State
from ...spaces import Space
from ...tree import Tree
from ..categorical import uniforms
from ..denoiser import TokenPrediction
from ..process import Process, ProductProcess

__all__ = ["Steps", "TokenSampler", "each"]


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
