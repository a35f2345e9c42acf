r"""Measured orders of convergence: what every sampler promises, held against data with a closed form.

For a mixture of Gaussians the denoiser is exact, so a run differs from the solution of the probability-flow ODE by
nothing but the sampler's error. In y = (x - beta y0)/alpha and lam = log(alpha/sigma) that ODE reads

    dy / dlam = -kappa N(x, t),        kappa = sigma/alpha = e^{-lam},

for every schedule (y0 is the known reference, N the noise prediction), and an explicit Runge-Kutta method of order 8
(DOP853, relative tolerance 1e-12) solves it independently of all samplers here. With e_N the root mean square over
the batch of the distance to that solution after N steps, the order between N and M steps is

    p = log(e_N / e_M) / log(M / N).

The grid is even in lam, starts at t_max < 1 where data are left, and ends at t_min > 0: an infinite log-SNR at either
end costs multistep methods an order. Multistep methods start with single steps of their own order, without which the
start-up's order is measured. All in float64.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from . import grids
from .closed_form import GaussianMixture
from .sample import sample
from .samplers import (
    BDIA,
    BELM,
    DDIM,
    IPNDM,
    PLMS,
    PNDM,
    DPMSolver,
    DPMSolverPP,
    EDMStochastic,
    Euler,
    Heun,
    Sampler,
    UniPC,
)
from .samplers.adaptive import AdaptiveDPM
from .schedules import VE, CondOT, Schedule, VPLinear

__all__ = [
    "METHODS",
    "STEPS",
    "TOLERANCES",
    "Measurement",
    "Method",
    "Problem",
    "measure",
    "measure_adaptive",
    "problems",
    "save",
    "table",
    "text",
]

STEPS = (48, 96, 192, 384, 768)
TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
_SINGLE: Literal["singlestep"] = "singlestep"


@dataclass(frozen=True)
class Method:
    """A sampler with the order that is promised for it.

    Attributes:
        name: as the paper calls it.
        sampler: the method.
        order: promised order of convergence.
    """

    name: str
    sampler: Sampler
    order: int

    @property
    def least(self) -> float:
        """The measured order that passes: 0.15 below the promise, 0.25 for order 4."""
        return self.order - (0.25 if self.order >= 4 else 0.15)


METHODS: tuple[Method, ...] = (
    Method("DDIM", DDIM(), 1),
    Method("Euler", Euler(), 1),
    Method("Euler, in t", Euler("time"), 1),
    Method("DPM-Solver-1", DPMSolver(1), 1),
    Method("DPM-Solver++1", DPMSolverPP(1), 1),
    Method("BDIA, γ = 0.5", BDIA(0.5), 1),
    Method("Heun", Heun(), 2),
    Method("Heun, in t", Heun("time"), 2),
    Method("EDM without churn", EDMStochastic(churn=0.0), 2),
    Method("PNDM", PNDM(), 2),
    Method("PLMS", PLMS(), 2),
    Method("iPNDM", IPNDM(), 2),
    Method("BDIA", BDIA(), 2),
    Method("BELM", BELM(), 2),
    Method("DPM-Solver-2S", DPMSolver(2), 2),
    Method("DPM-Solver++2S", DPMSolverPP(2, _SINGLE), 2),
    Method("DPM-Solver++2S, heun", DPMSolverPP(2, _SINGLE, "heun"), 2),
    Method("DPM-Solver-2M", DPMSolver(2, "multistep", startup=_SINGLE), 2),
    Method("DPM-Solver++2M", DPMSolverPP(2, startup=_SINGLE), 2),
    Method("DPM-Solver++2M, heun", DPMSolverPP(2, variant="heun", startup=_SINGLE), 2),
    Method("DPM-Solver++3M, published", DPMSolverPP(3, startup=_SINGLE, compat="published"), 2),
    Method("UniPC-1", UniPC(1, startup=_SINGLE), 2),
    Method("DPM-Solver-3S", DPMSolver(3), 3),
    Method("DPM-Solver++3S", DPMSolverPP(3, _SINGLE), 3),
    Method("DPM-Solver-3M", DPMSolver(3, "multistep", startup=_SINGLE), 3),
    Method("DPM-Solver++3M", DPMSolverPP(3, startup=_SINGLE), 3),
    Method("UniPC-2", UniPC(2, startup=_SINGLE), 3),
    Method("UniPC-2, bh1", UniPC(2, "bh1", startup=_SINGLE), 3),
    Method("UniPC-3", UniPC(3, startup=_SINGLE), 4),
)
"""Every deterministic sampler of this package, by promised order."""


@dataclass(frozen=True, eq=False)
class Problem:
    """One path from noise to data whose solution is known.

    Args:
        name: what the schedule is called in tables.
        schedule: a schedule with scalar coefficients.
        t_max, t_min: first and last time, 0 < t_min < t_max < 1.
        mixture: the data.
        batch: number of paths.
        seed: of the states at t_max, exact draws from their law.
        reference: the known y (batch, d) of mean-reverting and residual schedules.
    """

    name: str
    schedule: Schedule
    t_max: float
    t_min: float
    mixture: GaussianMixture = field(default_factory=GaussianMixture.example)
    batch: int = 16
    seed: int = 0
    reference: Tensor | None = None

    @cached_property
    def denoiser(self) -> Any:
        """The exact denoiser."""
        return self.mixture.denoiser(self.schedule)

    @property
    def condition(self) -> dict[str, Any]:
        """What the exact denoiser must be told besides state and time."""
        return {} if self.reference is None else {"y": self.reference}

    def levels(self, t: float) -> tuple[float, float, float]:
        """alpha, beta and sigma at `t`."""
        s = self.schedule
        return float(s.alpha(t)), float(s.beta(t)), float(s.sigma(t))

    @cached_property
    def start(self) -> Tensor:
        """States at t_max, (batch, d), float64."""
        generator = torch.Generator().manual_seed(self.seed)
        x0 = self.mixture.sample(self.batch, generator)
        a, b, s = self.levels(self.t_max)
        x = a * x0 + s * torch.randn(x0.shape, generator=generator, dtype=torch.float64)
        return x if self.reference is None else x + b * self.reference

    @cached_property
    def exact(self) -> Tensor:
        """The solution at t_min, (batch, d), to about 1e-11."""
        from scipy.integrate import solve_ivp

        shift = 0.0 if self.reference is None else self.reference
        shape = self.start.shape

        def slope(lam: float, flat: Any) -> Any:
            t = float(self.schedule.time_of_log_snr(lam))
            a, b, _ = self.levels(t)
            x = a * torch.from_numpy(flat).reshape(shape) + b * shift
            with torch.no_grad():
                pred = self.denoiser(x, t, reference=self.reference, **self.condition)
            return (-math.exp(-lam) * pred.noise).flatten().numpy()

        a, b, _ = self.levels(self.t_max)
        ends = [float(self.schedule.log_snr(t)) for t in (self.t_max, self.t_min)]
        y = ((self.start - b * shift) / a).flatten().numpy()
        found = solve_ivp(slope, ends, y, method="DOP853", rtol=1e-12, atol=1e-12)
        if not found.success:
            raise RuntimeError(f"the reference solution on {self.schedule!r} failed: {found.message}")
        a, b, _ = self.levels(self.t_min)
        return torch.from_numpy(found.y[:, -1].copy()).reshape(shape) * a + b * shift

    def error(self, x: Tensor) -> float:
        """Root mean square over the batch of the distance of `x` to the solution."""
        return (x.double() - self.exact).square().sum(1).mean().sqrt().item()


def problems(batch: int = 16) -> tuple[Problem, ...]:
    """The three paths of the table: variance-preserving, variance-exploding and conditional OT."""
    return (
        Problem("VP", VPLinear(), 0.95, 1e-3, batch=batch),
        Problem("VE", VE(), 0.9, 0.5 * math.log(2.0) / math.log(5000.0), batch=batch),  # to sigma = 0.01
        Problem("conditional OT", CondOT(), 0.97, 0.01, batch=batch),
    )


@dataclass(frozen=True)
class Measurement:
    """Errors of one method on one problem.

    Attributes:
        schedule: name of the problem.
        method: name of the method.
        steps: numbers of steps (for adaptive methods: none).
        errors: the error after as many.
        calls: network calls of each.
        order: promised order; None for other packages' solvers, which promise nothing here.
        least: the measured order that passes.
        package: where the method comes from.
        tolerances: of adaptive methods, one an error, decreasing.
    """

    schedule: str
    method: str
    steps: tuple[int, ...]
    errors: tuple[float, ...]
    calls: tuple[int, ...]
    order: int | None = None
    least: float = 0.0
    package: str = "scidiffuse"
    tolerances: tuple[float, ...] = ()

    @property
    def measured(self) -> float:
        """The order between the last two numbers of steps; nan with fewer than two, or an error of zero."""
        if len(self.steps) < 2 or min(self.errors[-2:]) <= 0.0:
            return math.nan
        return math.log(self.errors[-2] / self.errors[-1]) / math.log(self.steps[-1] / self.steps[-2])

    @property
    def passed(self) -> bool:
        """Whether the promise is kept: the order, or for adaptive methods an error that falls with the tolerance."""
        if self.tolerances:
            return all(b < a for a, b in pairwise(self.errors))
        return self.order is None or self.measured >= self.least


def measure(
    sampler: Sampler | Method,
    schedule: Schedule | Problem,
    steps: Sequence[int] = STEPS,
    *,
    t_max: float = 0.95,
    t_min: float = 1e-3,
    mixture: GaussianMixture | None = None,
    batch: int = 16,
    reference: Tensor | None = None,
) -> Measurement:
    """Errors of one sampler for several numbers of steps on the log-SNR grid.

    Args:
        sampler: a deterministic method, or a `Method` with its promise.
        schedule: a schedule, or a `Problem`, which then says everything below.
        steps: numbers of steps, increasing.
        t_max, t_min: first and last time, 0 < t_min < t_max < 1.
        mixture: the data; default `GaussianMixture.example()`.
        batch: number of paths.
        reference: the known y (batch, d) of mean-reverting and residual schedules.

    Raises:
        ValueError: for a stochastic method, steps that do not increase, or times out of order.
    """
    if not isinstance(sampler, Method):
        sampler = Method(repr(sampler), sampler, getattr(sampler, "nominal_order", 1))
    if not isinstance(schedule, Problem):
        if not 0.0 < t_min < t_max < 1.0:
            raise ValueError(
                f"need 0 < t_min < t_max < 1, where the log-SNR is finite; got t_min={t_min}, t_max={t_max}"
            )
        mixture = mixture or GaussianMixture.example()
        schedule = Problem(repr(schedule), schedule, t_max, t_min, mixture, batch, reference=reference)
    if sampler.sampler.stochastic:
        raise ValueError(f"{sampler.sampler!r} adds noise: it has no path to compare; its law is tested by moments")
    if not steps or any(b <= a for a, b in pairwise(steps)):
        raise ValueError(f"steps must increase, got {tuple(steps)}")
    errors, calls = [], []
    for n in steps:
        grid = grids.log_snr(schedule.schedule, n, schedule.t_max, schedule.t_min)
        result = sample(
            schedule.denoiser, sampler.sampler, grid, x=schedule.start, dtype=torch.float64,
            reference=schedule.reference, condition=schedule.condition,
        )  # fmt: skip
        errors.append(schedule.error(result.x))
        calls.append(result.calls)
    return Measurement(
        schedule.name, sampler.name, tuple(steps), tuple(errors), tuple(calls), sampler.order, sampler.least
    )


def measure_adaptive(order: int, problem: Problem, tolerances: Sequence[float] = TOLERANCES) -> Measurement:
    """Errors of `AdaptiveDPM(order)` against its tolerance, atol = rtol; calls are those of the slowest sample.

    Raises:
        ValueError: for tolerances that do not decrease.
    """
    if not tolerances or any(b >= a for a, b in pairwise(tolerances)):
        raise ValueError(f"tolerances must decrease, got {tuple(tolerances)}")
    ends = grids.Grid((problem.t_max, problem.t_min))
    errors, calls = [], []
    for tolerance in tolerances:
        result = sample(
            problem.denoiser, AdaptiveDPM(order, atol=tolerance, rtol=tolerance), ends, x=problem.start,
            dtype=torch.float64, reference=problem.reference, condition=problem.condition,
        )  # fmt: skip
        errors.append(problem.error(result.x))
        calls.append(result.calls)
    name = {2: "DPM-Solver++12, adaptive", 3: "DPM-Solver++23, adaptive"}[order]
    return Measurement(problem.name, name, (), tuple(errors), tuple(calls), tolerances=tuple(tolerances))


def table(
    steps: Sequence[int] = STEPS,
    methods: Iterable[Method] = METHODS,
    on: Iterable[Problem] | None = None,
    *,
    tolerances: Sequence[float] = TOLERANCES,
    progress: Callable[[str], None] | None = None,
) -> list[Measurement]:
    """Every method on every problem.

    Args:
        steps: numbers of steps, increasing; the order is that of the last two.
        methods: what is measured.
        on: the problems; default `problems()`.
        tolerances: of the adaptive methods, decreasing; none leaves them out.
        progress: called with the name of each problem before it is solved.
    """
    methods, rows = tuple(methods), []
    for problem in problems() if on is None else on:
        if progress is not None:
            progress(problem.name)
        rows += [measure(method, problem, steps) for method in methods]
        rows += [measure_adaptive(order, problem, tolerances) for order in (2, 3) if tolerances]
    return rows


def text(rows: Sequence[Measurement]) -> str:
    """A plain table: one line a method, with the measured order, the error and the calls at the most steps for each
    problem; then the adaptive methods, a line a tolerance."""
    adaptive = [row for row in rows if row.tolerances]
    rows = [row for row in rows if not row.tolerances]
    blocks = [block for block in (_fixed(rows), _adaptive(adaptive)) if block]
    return "\n\n".join("\n".join(block) for block in blocks)


def _adaptive(rows: Sequence[Measurement]) -> list[str]:
    where = list(dict.fromkeys(row.schedule for row in rows))
    lines: list[str] = []
    for method in dict.fromkeys(row.method for row in rows):
        mine = [row for row in rows if row.method == method]
        head = f"{method:26}" + "".join(f"   {w:^17}" for w in where)
        lines += ([""] if lines else []) + [head.rstrip(), f"{'tolerance':>26}" + "       error   calls" * len(where)]
        lines.append("-" * len(lines[-1]))
        for k, tolerance in enumerate(mine[0].tolerances):
            lines.append(f"{tolerance:26.0e}" + "".join(f"   {row.errors[k]:9.1e}   {row.calls[k]:>5}" for row in mine))
        missed = ", ".join(row.schedule for row in mine if not row.passed)
        if missed:
            lines.append(f"MISSED on {missed}: the error does not fall with the tolerance")
    return lines


def _fixed(rows: Sequence[Measurement]) -> list[str]:
    if not rows:
        return []
    where = list(dict.fromkeys(row.schedule for row in rows))
    names = list(dict.fromkeys((row.package, row.method) for row in rows))
    found = {(row.package, row.method, row.schedule): row for row in rows}
    width = max(len(_label(*name)) for name in names)
    blocks = [max(len(w), 15) for w in where]
    head = f"{'':{width}}          " + "".join(f"   {w:^{b}}" for w, b in zip(where, blocks, strict=True))
    under = f"{'method':{width}}  promised" + "".join(f"   {'order':>5} {'error':>{b - 6}}" for b in blocks)
    lines = [head.rstrip(), f"{under}   calls", "-" * (len(under) + 8)]
    for name in names:
        mine = [found.get((*name, w)) for w in where]
        first = next(row for row in mine if row is not None)
        promise = "-" if first.order is None else str(first.order)
        line = f"{_label(*name):{width}}  {promise:>8}"
        for row, b in zip(mine, blocks, strict=True):
            cells = ("", "") if row is None else (f"{row.measured:.2f}", f"{row.errors[-1]:.1e}")
            line += f"   {cells[0]:>5} {cells[1]:>{b - 6}}"
        missed = ", ".join(row.schedule for row in mine if row is not None and not row.passed)
        lines.append(f"{line}   {first.calls[-1]:>5}" + (f"   MISSED on {missed}" if missed else ""))
    return lines


def _label(package: str, method: str) -> str:
    return method if package == "scidiffuse" else f"{method} ({package})"


def save(rows: Sequence[Measurement], folder: str | Path) -> list[Path]:
    """Write the numbers to `folder`/convergence.json and, one line a run, convergence.csv; the folder is made."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    whole, flat = folder / "convergence.json", folder / "convergence.csv"
    records = [{**asdict(row), "measured": _json(row.measured), "passed": row.passed} for row in rows]
    whole.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with flat.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("schedule", "package", "method", "promised", "steps", "tolerance", "calls", "error"))
        for row in rows:
            for k, (calls, error) in enumerate(zip(row.calls, row.errors, strict=True)):
                steps = row.steps[k] if row.steps else ""
                tolerance = row.tolerances[k] if row.tolerances else ""
                promise = "" if row.order is None else row.order
                writer.writerow((row.schedule, row.package, row.method, promise, steps, tolerance, calls, error))
    return [whole, flat]


def _json(value: float) -> float | None:
    return None if math.isnan(value) else value
