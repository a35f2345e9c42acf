r"""The engine: samplers that are tables of rows, and the protocol that all samplers share.

A sampler never calls the network. It says what to evaluate (`query`), the loop in `sample`
evaluates, and the sampler goes on from there (`advance`). A linear sampler only writes rows; this
module runs them. Planning happens once, in float64, and is cached by (sampler, schedule, grid).

Notation of the planners: alpha, sigma; lam = log(alpha / sigma); kappa = sigma / alpha; from level s
to level t, h = lam_t - lam_s > 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import torch

from ..denoisers import Prediction
from ..grids import Grid, check
from ..noise import Noise
from ..schedules import ProductSchedule, Schedule
from ..spaces import Product, Space, projects
from ..tree import Tree, leaves, tree_map
from .plan import Plan, Row, VectorRow, merge, with_reference
from .state import Query, State

__all__ = ["Level", "LinearSampler", "Path", "Sampler"]


class Level(NamedTuple):
    """One time of a run with everything that planners need to know about it."""

    t: float
    alpha: Any
    sigma: Any
    lam: Any

    @property
    def kappa(self) -> Any:
        """sigma / alpha, the noise level of x / alpha; infinite where alpha = 0."""
        if isinstance(self.alpha, float):
            return self.sigma / self.alpha if self.alpha else math.inf
        return self.sigma / self.alpha


@dataclass(frozen=True)
class Path:
    """The times of a run as one leaf sees them.

    Args:
        schedule: the leaf's schedule.
        clock: the schedule that places inner stages (the same for all leaves of a product).
        times: the grid.
    """

    schedule: Schedule
    clock: Schedule | ProductSchedule
    times: tuple[float, ...]

    @property
    def steps(self) -> int:
        return len(self.times) - 1

    def level(self, t: float) -> Level:
        """The level at time `t`."""
        return Level(t, self.schedule.alpha(t), self.schedule.sigma(t), self.schedule.log_snr(t))

    def __getitem__(self, k: int) -> Level:
        return self.level(self.times[k])

    def between(self, k: int, r: float) -> Level:
        """The level at fraction `r` of step `k`, measured in the clock's log-SNR."""
        s, t = self.clock.clock(self.times[k]), self.clock.clock(self.times[k + 1])
        return self.level(self.clock.time_of_clock(s + r * (t - s)))

    def singular(self, k: int) -> bool:
        """Whether step `k` touches alpha = 0 or sigma = 0, where log-SNR is infinite, in any leaf (the rows
        of all leaves are of one kind)."""
        leaves = self.clock.leaves.values() if isinstance(self.clock, ProductSchedule) else [self.schedule]
        return not all(_finite(leaf.log_snr(self.times[j])) for leaf in leaves for j in (k, k + 1))


def _finite(lam: Any) -> bool:
    return math.isfinite(lam) if isinstance(lam, float) else bool(torch.isfinite(lam).all())


_INSTEAD = {
    "student": "use a deterministic sampler such as Heun() or DDIM()",
    "categorical": "use a sampler of tokens such as core.discrete.Ancestral()",
    "tokens": "it samples tokens; continuous data take a sampler such as DPMSolverPP()",
}
"""What to do about a sampler and a schedule of different noise families."""


@dataclass(frozen=True)
class Sampler:
    """What every sampler answers. Subclasses are frozen dataclasses: hashable, without state.

    Attributes:
        families: noise families of schedules that the method is valid for.
        vector_time: whether elements of one state may sit at different rows.
        invertible: whether `invert` goes back exactly.
        adaptive: whether the method chooses its own steps (a grid gives only the ends).
    """

    families: ClassVar[frozenset[str]] = frozenset({"gaussian", "student"})
    vector_time: ClassVar[bool] = False
    invertible: ClassVar[bool] = False
    adaptive: ClassVar[bool] = False

    @property
    def stochastic(self) -> bool:
        """Whether the method adds noise on the way."""
        return False

    def plan(self, schedule: Schedule | ProductSchedule, grid: Grid) -> Any:
        """Everything that can be computed before the first network call."""
        raise NotImplementedError

    def start(self, plan: Any, x: Tree, space: Space) -> State:
        """The state of a run that begins at `x`."""
        return State(x)

    def done(self, plan: Any, state: State) -> bool:
        """Whether no network call is left."""
        raise NotImplementedError

    def draw(self, plan: Any, state: State, space: Space, noise: Noise) -> Tree | None:
        """The noise of the next row, or None."""
        return None

    def query(self, plan: Any, state: State, z: Tree | None, space: Space, reference: Tree | None) -> Query:
        """What to ask the denoiser next."""
        raise NotImplementedError

    def advance(
        self,
        plan: Any,
        state: State,
        query: Query,
        pred: Prediction,
        z: Tree | None,
        space: Space,
        reference: Tree | None,
    ) -> State:
        """The state after the answer."""
        raise NotImplementedError

    def time(self, plan: Any, state: State) -> Any:
        """The level of `state.x`."""
        raise NotImplementedError

    def total(self, plan: Any) -> int | None:
        """Network calls of a whole run, or None where they are not known beforehand."""
        return None

    def check(self, schedule: Schedule | ProductSchedule, space: Space) -> None:
        """Refuse schedules and spaces that the method is not defined for."""
        whole = space
        leaves = getattr(schedule, "leaves", None)
        for name, one in [(None, schedule)] if leaves is None else leaves.items():
            space = whole.spaces[name] if name is not None and isinstance(whole, Product) else whole
            if one.family not in self.families:
                instead = _INSTEAD["tokens" if "categorical" in self.families else one.family]
                raise ValueError(
                    f"{type(self).__name__} is not defined for the {one.family} noise of {one!r}; {instead}"
                )
            if one.basis is not None and projects(space):
                raise ValueError(f"{one!r} acts on frequencies, where the constraint of {space!r} has no meaning")
            if one.elementwise and not space.elementwise:
                raise ValueError(
                    f"{one!r} has a coefficient for every element, which would leave {space!r}; use a schedule "
                    "with one number a time"
                )
        if self.stochastic and "student" in {getattr(schedule, "family", "gaussian")}:
            raise ValueError(
                f"{self!r} adds Gaussian noise, but {schedule!r} has Student-t noise; use a deterministic sampler"
            )


class LinearSampler(Sampler):
    """A sampler that is a table of rows. Methods implement `rows` and nothing else."""

    vector_time: ClassVar[bool] = True

    def rows(self, path: Path) -> Sequence[Sequence[Row]]:
        """`rows[i][age]` for x = alpha x0 + sigma n; the reference is added by the engine."""
        raise NotImplementedError

    @property
    def nominal_order(self) -> int:
        """Order of convergence of the method (0 for stochastic ones)."""
        return 0 if self.stochastic else 1

    def plan(self, schedule: Schedule | ProductSchedule, grid: Grid) -> Plan:
        """The table of rows, cached by (sampler, schedule, grid)."""
        return _plan(self, schedule, grid)

    def done(self, plan: Plan, state: State) -> bool:
        i = state.i
        return i >= len(plan.rows) if i.__class__ is int else bool((i >= len(plan.rows)).all())

    def total(self, plan: Plan) -> int:
        return plan.calls

    def time(self, plan: Plan, state: State) -> Any:
        return plan.time(state.i) if isinstance(state.i, int) else plan.gather(state.i, state.age).t

    def draw(self, plan: Plan, state: State, space: Space, noise: Noise) -> Tree | None:
        if isinstance(state.i, int):
            if not plan.row(state.i, state.age).noisy:
                return None
        elif not self.stochastic:
            return None
        return space.randn(noise, state.x, state.draws, "step")

    def query(self, plan: Plan, state: State, z: Tree | None, space: Space, reference: Tree | None) -> Query:
        if state.i.__class__ is int:
            row: Row | VectorRow = plan.row(state.i, state.age)
        else:
            row = plan.gather(state.i, state.age)
        if row.plain:
            return Query(state.x, row.t, None, state)
        letters = {"x": state.x, "z": z, "y": reference, **state.memory}
        x = space.lincomb([(c, letters[s]) for s, c in row.query.items() if letters[s] is not None])
        return Query(x, row.t, None, state)

    def advance(
        self,
        plan: Plan,
        state: State,
        query: Query,
        pred: Prediction,
        z: Tree | None,
        space: Space,
        reference: Tree | None,
    ) -> State:
        i = state.i
        if i.__class__ is not int:
            return self._advance_each(plan, state, query, pred, z, space, reference)
        row = plan.row(i, state.age)
        letters = {**state.memory, "x": state.x, "q": query.x}
        for source in row.outside:
            letters[source] = _letter(source, row, pred, z, reference)
        if space.plain and row.scalar:
            new = _registers(row, letters)
        else:
            new = {r: space.lincomb([(c, letters[s]) for s, c in terms]) for r, terms in row.program}
        x = new.pop("x", state.x)
        draws = state.draws if z is None else state.draws + 1
        return State(x, i + 1, state.age + row.gains, {**state.memory, **new}, state.aux, None, draws)

    def walk(
        self, plan: Plan, state: State, stop: int, ask: Callable[[Tree, float], Prediction], space: Space, noise: Noise,
        reference: Tree | None,
    ) -> State:  # fmt: skip
        """`draw`, `query`, `advance` from `state` to row `stop`, for runs that nobody looks into.

        The same numbers in the same order without a `State` a row, for plans of plain numbers
        (`plan.scalar`) and spaces of plain tensors (`space.plain`).
        """
        age, draws = state.age, state.draws
        letters = {**state.memory, "x": state.x}
        for i in range(state.i, stop):
            row = plan.row(i, age)
            x, z = letters["x"], None
            if row.noisy:
                z = space.randn(noise, x, draws, "step")
                draws += 1
            if not row.plain:
                given = {**letters, "z": z, "y": reference}
                x = space.lincomb([(c, given[s]) for s, c in row.query.items() if given[s] is not None])
                del given
            pred = ask(x, row.t)
            letters["q"] = x
            for source in row.outside:
                letters[source] = _letter(source, row, pred, z, reference)
            letters.update(_registers(row, letters))
            age += row.gains
            del pred, x, letters["q"]  # nothing but x and the registers lives through the next call
            for source in row.outside:
                del letters[source]
        return State(letters.pop("x"), stop, age, letters, state.aux, None, draws)

    def _advance_each(
        self,
        plan: Plan,
        state: State,
        query: Query,
        pred: Prediction,
        z: Tree | None,
        space: Space,
        reference: Tree | None,
    ) -> State:
        """`advance` for elements at different rows: coefficients are tensors of the shape of `i`."""
        if state.i.ndim > 1 and not space.elementwise:
            raise ValueError(f"one time an element would leave {space!r}; give one time a sample, of shape (B,)")
        row = plan.gather(state.i, state.age)
        letters: dict[str, Any] = {"x": state.x, "q": query.x}
        for name in plan.memory:
            letters[name] = state.memory.get(name) if name in state.memory else tree_map(torch.zeros_like, state.x)
        active = (state.i >= 0) & (state.i < len(plan.rows))

        def heard(leaf: torch.Tensor) -> torch.Tensor:
            """Predictions of elements that wait or are done may be infinite: they count as zero."""
            mask = active.to(leaf.device).reshape(*active.shape, *[1] * (leaf.ndim - active.ndim))
            return torch.where(mask, leaf, leaf.new_zeros(()))

        for terms in row.out.values():
            for source in terms:
                if source not in letters:
                    letter = _letter(source, row, pred, z, reference)
                    letters[source] = tree_map(heard, letter) if source in ("P", "D", "N", "V") else letter
        new = {
            register: space.lincomb([(c, letters[s]) for s, c in terms.items() if letters[s] is not None])
            for register, terms in row.out.items()
        }
        age = state.age + row.gains.to(state.age.device)
        draws = state.draws if z is None else state.draws + 1
        return State(new.pop("x"), state.i + (state.i < len(plan.rows)).long(), age, new, state.aux, None, draws)

    def stagger(self, plan: Plan, x: Tree, delay: torch.Tensor) -> State:
        """A state whose elements start `delay` calls late (streaming, diagonal denoising).

        Args:
            x: states at the first time of the plan.
            delay: long (B,) or (B, L), not negative.
        """
        if delay.is_floating_point() or bool((delay < 0).any()):
            raise ValueError("delay must hold integers >= 0, the number of calls that each element waits")
        shape = tuple(leaves(x)[0].shape)
        if delay.ndim not in (1, 2) or tuple(delay.shape) != shape[: delay.ndim]:
            raise ValueError(f"delay must have shape (B,) or (B, L) = {shape[:2]}, got {tuple(delay.shape)}")
        return State(x, -delay.long(), torch.zeros_like(delay.long()))


def _registers(row: Row, letters: dict[str, Any]) -> dict[str, Any]:
    """The new registers of a row of plain numbers on plain tensors."""
    new = {}
    for register, first, c, rest in row.scalar_program(letters["x"].dtype):
        value = letters[first]
        if c is not None:
            value = value * c
            for source, weight in rest:
                value.add_(letters[source], alpha=weight)
        new[register] = value
    return new


def _letter(source: str, row: Any, pred: Prediction, z: Tree | None, reference: Tree | None) -> Tree | None:
    if source == "P":
        return getattr(pred, row.use)
    if source == "z":
        return z
    if source == "y":
        if reference is None:
            raise ValueError("this schedule needs reference=, the known y")
        return reference
    if source == "D":
        return pred.data
    if source == "N":
        return pred.noise
    if source == "V":
        return pred.velocity
    raise ValueError(f"the row at t={row.t} reads register {source!r}, which the run does not hold")


@lru_cache(maxsize=64)
def _plan(sampler: LinearSampler, schedule: Schedule | ProductSchedule, grid: Grid) -> Plan:
    check(grid, schedule)
    if sampler.stochastic and not grid.descending:
        raise ValueError(f"{sampler!r} adds noise, so it cannot encode on a grid that ascends; use DDIM()")
    order, steps = getattr(sampler, "order", 1), len(grid)
    if order > steps and getattr(sampler, "method", "multistep") == "multistep":
        raise ValueError(
            f"{sampler!r} needs {order} steps for its order {order}, the grid has {steps}; lower the order"
        )
    if isinstance(schedule, ProductSchedule):
        plan = merge({name: _leaf_plan(sampler, leaf, schedule, grid) for name, leaf in schedule.leaves.items()})
    else:
        plan = _leaf_plan(sampler, schedule, schedule, grid)
    return plan


def _leaf_plan(sampler: LinearSampler, schedule: Schedule, clock: Any, grid: Grid) -> Plan:
    rows = tuple(tuple(ages) for ages in sampler.rows(Path(schedule, clock, grid.times)))
    if any(_nonzero(schedule.beta(t)) for t in grid.times):
        rows = with_reference(rows, schedule, grid.times[0])
    return Plan(rows, grid, sampler.nominal_order)


def _nonzero(beta: Any) -> bool:
    return beta != 0.0 if isinstance(beta, float) else bool((beta != 0).any())
