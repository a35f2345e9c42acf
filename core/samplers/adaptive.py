r"""Adaptive DPM-Solver-12 and -23: steps as long as the error allows, for every sample its own.

A pair of methods that share network calls gives two answers for the same step, and their difference
tells whether the step was short enough (C. Lu et al., "DPM-Solver: a fast ODE solver for diffusion
probabilistic model sampling in around 10 steps", NeurIPS 2022, appendix C, algorithm "DPM-Solver-12
and -23"; here in the data-prediction form of DPM-Solver++, 2022). With h = lam_t - lam_s and w the
exponential weights of `exponential`,

    u_1   = (sigma_1 / sigma_s) x + alpha_1 w D_s                         at lam_s + r_1 h
    low   = (sigma_t / sigma_s) x + alpha_t (w_0 D_s [+ w_1 D_1])         order p - 1
    high  = (sigma_t / sigma_s) x + alpha_t (w_0 D_s + w_{p-1} D_{p-1})   order p

    E = rms((high - low) / max(atol, rtol max(|low|, |previous low|)))
    E <= 1: accept `high`;     either way  h <- min(theta h E^{-1/p}, what is left)

Pair 12 uses r_1 = 1/2, pair 23 uses r_1 = 1/3, r_2 = 2/3. D_s belongs to x, not to h: it is kept when
a step is rejected.

**One sample, one clock.** The published loop takes the largest error over the batch, so that a sample
depends on its neighbours. Here each sample has a time, a step size and a stage of its own, and each
network call serves all samples wherever they are: the result is that of every sample run alone.
Samples that have arrived are carried along untouched.

**Norms** count the elements of the space only (padding does not dilute the error). For point clouds
without centre of mass the tolerance is one number a point, its root-mean-square coordinate, so that
the steps do not depend on the orientation.

**Product states** share one time; h is measured in the clock's log-SNR and every leaf has the weights of
its own schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..denoisers import Prediction
from ..grids import Grid, _t_end, check
from ..schedules import ProductSchedule, Schedule
from ..spaces import Graph, Product, Space, ZeroCoM
from ..tree import Tree, batch_size, leaves, tree_map
from .base import Level, Sampler
from .exponential import adams
from .state import Query, State

__all__ = ["AdaptiveDPM", "Span"]


@dataclass(frozen=True)
class Span:
    """The plan of an adaptive run: where it starts, where it stops, and what is in between.

    Attributes:
        schedule: of the run.
        start, end: first and last time of the grid.
        stop: last time with noise; equal to `end` unless sigma(end) = 0.
    """

    schedule: Schedule | ProductSchedule
    start: float
    end: float
    stop: float

    @property
    def jump(self) -> bool:
        """Whether a last step to sigma = 0 lands on the data prediction."""
        return self.stop != self.end

    @property
    def sign(self) -> float:
        """Direction in log-SNR: 1 towards the data, -1 towards the noise."""
        return 1.0 if self.end < self.start else -1.0

    def leafwise(self, function: Callable[[Schedule], Any]) -> Any:
        """`function(schedule)` for each leaf: a dictionary for product states."""
        if isinstance(self.schedule, ProductSchedule):
            return {name: function(leaf) for name, leaf in self.schedule.leaves.items()}
        return function(self.schedule)


@dataclass(frozen=True)
class _Stages:
    """Times of the stages of one step of each sample, (B,) float64, and the bookkeeping of the step."""

    s: Tensor
    u: list[Tensor]
    t: Tensor
    h: Tensor
    rest: Tensor


def _level(schedule: Schedule, t: Any) -> Level:
    return Level(t, schedule.alpha(t), schedule.sigma(t), schedule.log_snr(t))


@dataclass(frozen=True)
class AdaptiveDPM(Sampler):
    """Adaptive DPM-Solver-12 (`order=2`) and DPM-Solver-23 (`order=3`), for every sample on its own.

    The grid gives the first and the last time only; `sample` needs neither `grid` nor `steps`. If
    sigma = 0 at the end, the run goes to `t_min` and lands on the data prediction there.

    Args:
        order: p, 2 or 3; also the network calls of an accepted step (one less after a rejection).
        atol, rtol: tolerances. The published 0.0078 is two grey values of images scaled to [-1, 1].
        h0: first step, in log-SNR.
        theta: safety factor of the step control, in (0, 1).
        t_min: last time with noise if sigma = 0 at the grid's end; default where sigma / alpha is the
            schedule's sigma_min, else 1e-3.
        h_min: smallest step in log-SNR; below it the run is given up.
        max_calls: largest number of network calls for one sample.

    Raises:
        ValueError: for parameters out of range, and for grids that start at alpha = 0 or sigma = 0.
        FloatingPointError: during a run, if a step collapses below `h_min` or the error is not finite.
        RuntimeError: during a run, after `max_calls` calls.
    """

    order: int = 3
    atol: float = 0.0078
    rtol: float = 0.05
    h0: float = 0.05
    theta: float = 0.9
    t_min: float | None = None
    h_min: float = 1e-6
    max_calls: int = 10_000

    adaptive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.order not in (2, 3):
            raise ValueError(f"order must be 2 (DPM-Solver-12) or 3 (DPM-Solver-23), got {self.order}")
        for name in ("atol", "rtol", "h0", "h_min"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        if not 0.0 < self.theta < 1.0:
            raise ValueError(f"theta must lie in (0, 1), got {self.theta}")
        if self.h_min > self.h0:
            raise ValueError(f"h_min={self.h_min} is larger than the first step h0={self.h0}")
        if self.max_calls < self.order:
            raise ValueError(f"max_calls must be at least {self.order}, the calls of one step, got {self.max_calls}")

    @property
    def fractions(self) -> tuple[float, ...]:
        """The inner stages r_1, ... in units of h."""
        return (0.5,) if self.order == 2 else (1.0 / 3.0, 2.0 / 3.0)

    # -- the run ---------------------------------------------------------------------------------
    def plan(self, schedule: Schedule | ProductSchedule, grid: Grid) -> Span:
        check(grid, schedule)
        start, end = grid.times[0], grid.times[-1]
        stop = end
        if _infinite(schedule, end):
            stop = _t_end(schedule) if self.t_min is None else self.t_min
            schedule.check_time(stop)
            if not end < stop < start:
                raise ValueError(
                    f"sigma = 0 at the grid's end t={end}: a last time with noise is needed before it and after the "
                    f"start t={start}; t_min gives {stop}"
                )
        for name, t in (("start", start), ("stop", stop)):
            if _infinite(schedule, t):
                raise ValueError(
                    f"log-SNR is infinite at the {name}, t={t}: an adaptive step has no length there; "
                    "start at schedule.t_start, or stop before"
                )
        return Span(schedule, start, end, stop)

    def start(self, plan: Span, x: Tree, space: Space) -> State:
        size, device = batch_size(x), leaves(x)[0].device
        zero = torch.zeros(size, dtype=torch.long, device=device)
        t = torch.full((size,), plan.start, dtype=torch.float64, device=device)
        return State(x, zero, zero, self._memory({}, x), t=t)

    def _memory(self, memory: dict[str, Tree], x: Tree) -> dict[str, Tree]:
        """The registers, with what an edit of x has dropped: h, the last low answer, D at x and inside."""
        size, device = batch_size(x), leaves(x)[0].device
        empty = tree_map(torch.zeros_like, x)
        fresh: dict[str, Tree] = {"h": torch.full((size,), self.h0, dtype=torch.float64, device=device), "low": x}
        fresh |= {f"D{j}": empty for j in range(self.order - 1)}
        return {name: memory.get(name, value) for name, value in fresh.items()}

    def done(self, plan: Span, state: State) -> bool:
        return bool((state.t == plan.end).all())

    def time(self, plan: Span, state: State) -> Any:
        return state.t

    def query(self, plan: Span, state: State, z: Tree | None, space: Space, reference: Tree | None) -> Query:
        memory = self._memory(state.memory, state.x)
        stage = self._stage(state)
        if not bool(stage.any()):
            return Query(state.x, self._asked(plan, state.t), None, state)
        stages = self._stages(plan, state, memory)
        t = stages.s
        for j, u in enumerate(stages.u, start=1):
            t = torch.where(stage == j, u, t)

        def coefficients(schedule: Schedule) -> list[Any]:
            s = _level(schedule, stages.s)
            out: list[Any] = [1.0, *[0.0] * (self.order - 1), 0.0]
            for j, u in enumerate(stages.u, start=1):
                out = [
                    _where(stage == j, new, old)
                    for new, old in zip(self._inner(schedule, s, u, stages, j), out, strict=True)
                ]
            return out

        names = ["x", *(f"D{j}" for j in range(self.order - 1)), "y"]
        letters = {"x": state.x, "y": reference, **memory}
        return Query(_combine(plan, space, coefficients, names, letters), self._asked(plan, t), None, state)

    def advance(
        self,
        plan: Span,
        state: State,
        query: Query,
        pred: Prediction,
        z: Tree | None,
        space: Space,
        reference: Tree | None,
    ) -> State:
        memory = self._memory(state.memory, state.x)
        stage, data = self._stage(state), pred.data
        running = state.t != plan.end
        calls = torch.as_tensor(state.i, device=stage.device) + running.long()
        x, t = state.x, state.t
        # D at x, and D at the inner stages that a later stage needs
        for j in range(self.order - 1):
            memory[f"D{j}"] = space.where(running & (stage == j), data, memory[f"D{j}"])
        arrived = running & (stage == 0) & (t == plan.stop) if plan.jump else torch.zeros_like(running)
        if bool(arrived.any()):
            x = space.where(arrived, self._land(plan, space, data, reference), x)
            t = torch.where(arrived, plan.end, t)
        last = running & (stage == self.order - 1)
        new_stage = torch.where(running & ~arrived, stage + 1, stage)
        if bool(last.any()):
            low, high, stages = self._both(plan, state, memory, data, space, reference)
            error = self._error(space, low, high, memory["low"])
            self._check(last, error, state.t)
            accept = last & (error <= 1.0)
            x = space.where(accept, high, x)
            t = torch.where(accept, stages.t, t)
            memory["low"] = space.where(accept, low, memory["low"])
            h = torch.where(last, self.theta * stages.h * error.clamp_min(1e-30) ** (-1.0 / self.order), memory["h"])
            memory["h"] = h
            new_stage = torch.where(last, torch.where(accept, 0, 1), new_stage)
            self._check_step(last & ~accept, h, state.t)
        self._check_calls(running & (t != plan.end), calls, t)
        return State(x, calls, new_stage, memory, state.aux, t, state.draws)

    # -- one step --------------------------------------------------------------------------------
    def _stage(self, state: State) -> Tensor:
        """Number of predictions of the current step that are there already, (B,)."""
        age = torch.as_tensor(state.age, device=leaves(state.x)[0].device)
        return age.expand(batch_size(state.x))

    @staticmethod
    def _asked(plan: Span, t: Tensor) -> Tensor:
        """Times to ask about: samples that have landed at sigma = 0 are asked where they came from."""
        return torch.where(t == plan.end, plan.stop, t) if plan.jump else t

    def _stages(self, plan: Span, state: State, memory: dict[str, Tree]) -> _Stages:
        schedule = plan.schedule
        s = self._asked(plan, state.t)
        lam, stop = schedule.clock(s), float(schedule.clock(plan.stop))
        rest = plan.sign * (stop - lam)
        final = memory["h"] > rest * (1.0 - 1e-9)  # no crumb is left behind
        h = torch.where(final, rest, memory["h"])
        # where nothing is left (arrived samples) any positive step keeps the arithmetic finite
        h = torch.where(rest > 0.0, h, self.h0)
        final = final & (rest > 0.0)
        move = plan.sign * h
        low, high = sorted((plan.start, plan.stop))

        def at(r: float) -> Tensor:
            return schedule.time_of_clock(lam + r * move).clamp(low, high)

        t = torch.where(final, plan.stop, at(1.0))
        return _Stages(s, [at(r) for r in self.fractions], t, h, rest)

    def _inner(self, schedule: Schedule, s: Level, u: Tensor, stages: _Stages, j: int) -> list[Any]:
        """Coefficients of (x, D_0, ..., y) in the state of inner stage j."""
        to = _level(schedule, u)
        h = _safe(to.lam - s.lam)
        if j == 1:
            w = adams(h, [0.0])
        else:
            first = _level(schedule, stages.u[0])
            w = adams(h, [0.0, (first.lam - s.lam) / h])
        return self._row(schedule, s, to, [*w, *[0.0] * (self.order - 1 - len(w))])

    @staticmethod
    def _row(schedule: Schedule, s: Level, t: Level, weights: list[Any]) -> list[Any]:
        keep = t.sigma / s.sigma
        return [keep, *(t.alpha * w for w in weights), schedule.beta(t.t) - keep * schedule.beta(s.t)]

    def _both(
        self, plan: Span, state: State, memory: dict[str, Tree], data: Tree, space: Space, reference: Tree | None
    ) -> tuple[Tree, Tree, _Stages]:
        """The answers of order p - 1 and p; `data` is the prediction at the last inner stage."""
        stages = self._stages(plan, state, memory)

        def coefficients(schedule: Schedule, high: bool) -> list[Any]:
            s, t = _level(schedule, stages.s), _level(schedule, stages.t)
            h = _safe(t.lam - s.lam)
            r = [(_level(schedule, u).lam - s.lam) / h for u in stages.u]
            w0 = adams(h, [0.0])[0]
            if self.order == 2:
                w = [w0 * (1.0 - 0.5 / _safe(r[0])), w0 * 0.5 / _safe(r[0])] if high else [w0, 0.0]
            elif high:
                a, b = adams(h, [0.0, r[1]])
                w = [a, 0.0, b]
            else:
                w = [w0 * (1.0 - 0.5 / _safe(r[0])), w0 * 0.5 / _safe(r[0]), 0.0]
            return self._row(schedule, s, t, w)

        names = ["x", *(f"D{j}" for j in range(self.order - 1)), "P", "y"]
        letters = {"x": state.x, "P": data, "y": reference, **memory}
        low, high = (
            _combine(plan, space, lambda schedule, flag=flag: coefficients(schedule, flag), names, letters)  # type: ignore[misc]
            for flag in (False, True)
        )
        return low, high, stages

    @staticmethod
    def _land(plan: Span, space: Space, data: Tree, reference: Tree | None) -> Tree:
        """The state at sigma = 0: alpha D + beta y."""

        def coefficients(schedule: Schedule) -> list[Any]:
            return [schedule.alpha(plan.end), schedule.beta(plan.end)]

        return _combine(plan, space, coefficients, ["D", "y"], {"D": data, "y": reference})

    def _error(self, space: Space, low: Tree, high: Tree, previous: Tree) -> Tensor:
        """E of each sample, (B,) float64."""
        if isinstance(space, Product):
            parts = [
                (self._square(s, low[name], high[name], previous[name]), s.ndof(low[name]).double())
                for name, s in space.spaces.items()
            ]
            squares, counts = (torch.stack(column) for column in zip(*parts, strict=True))
            return ((squares * counts).sum(0) / counts.sum(0).clamp_min(1.0)).sqrt()
        return self._square(space, low, high, previous).sqrt()

    def _square(self, space: Space, low: Tensor, high: Tensor, previous: Tensor) -> Tensor:
        """Mean over the space's elements of the squared, scaled difference."""

        def size(x: Tensor) -> Tensor:
            return x.square().mean(-1, keepdim=True).sqrt() if isinstance(space, ZeroCoM) else x.abs()

        scale = (self.rtol * torch.maximum(size(low), size(previous))).clamp_min(self.atol)
        total = ((high - low) / scale).flatten(1).double().square().sum(1)
        return total / counted(space, low).clamp_min(1.0)

    # -- when it goes wrong ----------------------------------------------------------------------
    def _check(self, last: Tensor, error: Tensor, t: Tensor) -> None:
        bad = last & ~torch.isfinite(error)
        if bool(bad.any()):
            k = int(bad.nonzero()[0])
            raise FloatingPointError(
                f"the error estimate of sample {k} is not finite in the step from t={float(t[k]):.6g}: "
                "the network's output, or the state, is not; check the network there, or start with a smaller h0"
            )

    def _check_step(self, rejected: Tensor, h: Tensor, t: Tensor) -> None:
        bad = rejected & (h < self.h_min)
        if bool(bad.any()):
            k = int(bad.nonzero()[0])
            raise FloatingPointError(
                f"the step of sample {k} collapsed to {float(h[k]):.3g} in log-SNR (h_min={self.h_min:g}) at "
                f"t={float(t[k]):.6g}: the tolerances atol={self.atol:g}, rtol={self.rtol:g} cannot be met there; "
                "raise them, use dtype=torch.float64, or stop the grid before"
            )

    def _check_calls(self, running: Tensor, calls: Tensor, t: Tensor) -> None:
        bad = running & (calls >= self.max_calls)
        if bool(bad.any()):
            k = int(bad.nonzero()[0])
            raise RuntimeError(
                f"sample {k} is at t={float(t[k]):.6g} after max_calls={self.max_calls} network calls; raise max_calls "
                f"or the tolerances atol={self.atol:g}, rtol={self.rtol:g}"
            )


def counted(space: Space, x: Tensor) -> Tensor:
    """Degrees of freedom as often as a sum of squares counts them (both triangles of a graph), (B,) float64."""
    return space.ndof(x).double() * (2.0 if isinstance(space, Graph) else 1.0)


def _infinite(schedule: Schedule | ProductSchedule, t: float) -> bool:
    """Whether any leaf (or element) has an infinite log-SNR at t."""
    value = schedule.log_snr(t)
    parts = value.values() if isinstance(value, dict) else [value]
    return not all(bool(torch.isfinite(torch.as_tensor(v, dtype=torch.float64)).all()) for v in parts)


def _safe(h: Tensor) -> Tensor:
    """Divisors of samples that do not move: any number but zero."""
    return torch.where(h == 0.0, torch.ones_like(h), h)


def _where(mask: Tensor, a: Any, b: Any) -> Tensor:
    """`a` for the samples where `mask` (B,) holds, else `b`; floats or tensors (B, ...)."""
    a, b = (torch.as_tensor(v, dtype=torch.float64, device=mask.device) for v in (a, b))
    ndim = max(a.ndim, b.ndim, 1)
    a, b = (v.reshape(*v.shape, *[1] * (ndim - v.ndim)) if v.ndim else v for v in (a, b))
    return torch.where(mask.view(-1, *[1] * (ndim - 1)), a, b)


def _combine(
    plan: Span, space: Space, coefficients: Callable[[Schedule], list[Any]], names: list[str], letters: dict[str, Any]
) -> Tree:
    """The linear combination of `letters` with coefficients a leaf; absent letters and zeros drop out."""
    table = plan.leafwise(coefficients)
    terms = []
    for k, name in enumerate(names):
        if letters[name] is None:
            continue
        c = {leaf: row[k] for leaf, row in table.items()} if isinstance(table, dict) else table[k]
        if all(isinstance(v, float) and v == 0.0 for v in (c.values() if isinstance(c, dict) else [c])):
            continue
        terms.append((c, letters[name]))
    return space.lincomb(terms)
