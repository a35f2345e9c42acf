"""Grids: the N + 1 times that a sampler visits, both ends included.

A grid is data, not a rule: a strictly monotone tuple of times, decreasing from noise to data for sampling
and increasing for inversion. The functions below place the times:

    uniform      evenly in t
    quadratic    evenly in sqrt(t), denser near the data
    log_snr      evenly in the schedule's clock, the log-SNR
    karras       sigma/alpha evenly in its 1/rho-th power
    discrete     at the nodes of a table of betas, with the three spacings in use
    explicit     where the caller says

Two ends need care. At t = 0 there is no noise: the last step lands on the data prediction, and log-SNR
is infinite, so no rule that divides by sigma may place a node there except as the end (`final_zero`). At
the noisy end some schedules hold no data (conditional OT, cosine, GVP at t = 1), and a noise prediction says
nothing about the data there: by default grids start at `schedule.t_start`, a little before.

On tables of T betas, index i is t = (i + 1)/T and the step after the last index is t = 0. The usual index
lists are reproduced as they stand; the *differences* between them are taken from the list itself, where
some schedulers assume a constant stride of T // N (wrong whenever N does not divide T, and always for
linspace spacing).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

from torch import Tensor

from .schedules import DiscreteBetas, Schedule

__all__ = [
    "Grid",
    "check",
    "default",
    "discrete",
    "explicit",
    "from_indices",
    "karras",
    "log_snr",
    "quadratic",
    "uniform",
]

Spacing = Literal["leading", "trailing", "linspace"]


@dataclass(frozen=True, eq=False)
class Grid:
    """Strictly monotone times, ends included; hashable, compared by value. `len` is the number of steps.

    Args:
        times: at least two finite floats, strictly decreasing (sampling) or increasing (inversion).

    Raises:
        ValueError: for fewer than two times, a time that is not finite, or times out of order.
    """

    times: tuple[float, ...]

    def __post_init__(self) -> None:
        times = tuple(float(t) for t in self.times)
        if len(times) < 2:
            raise ValueError(f"a grid needs at least two times, its start and its end; got {times}")
        for i, t in enumerate(times):
            if not math.isfinite(t):
                raise ValueError(f"times[{i}] = {t} is not finite")
        sign = 1.0 if times[1] > times[0] else -1.0
        for i in range(len(times) - 1):
            if not sign * (times[i + 1] - times[i]) > 0.0:
                raise ValueError(
                    f"grid times must be strictly {'increasing' if sign > 0 else 'decreasing'}: "
                    f"times[{i}] = {times[i]} is followed by times[{i + 1}] = {times[i + 1]}"
                )
        object.__setattr__(self, "times", times)

    def __len__(self) -> int:
        return len(self.times) - 1

    @cached_property
    def _hash(self) -> int:
        return hash(("Grid", self.times))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Grid) and self.times == other.times)

    def __repr__(self) -> str:
        if len(self) <= 6:
            return f"Grid({', '.join(f'{t:.6g}' for t in self.times)})"
        head, tail = ", ".join(f"{t:.6g}" for t in self.times[:3]), ", ".join(f"{t:.6g}" for t in self.times[-2:])
        return f"Grid({head}, ..., {tail}; {len(self)} steps)"

    @property
    def steps(self) -> int:
        """Number of steps, one less than the number of times."""
        return len(self.times) - 1

    @property
    def start(self) -> float:
        """First time."""
        return self.times[0]

    @property
    def end(self) -> float:
        """Last time."""
        return self.times[-1]

    @property
    def inner(self) -> tuple[float, ...]:
        """The times between the ends."""
        return self.times[1:-1]

    @property
    def descending(self) -> bool:
        """True from noise to data, False for inversion."""
        return self.times[0] > self.times[-1]

    def pairs(self) -> tuple[tuple[float, float], ...]:
        """(from, to) of each step."""
        return tuple(pairwise(self.times))

    def reverse(self) -> Grid:
        """The same times the other way round."""
        return Grid(self.times[::-1])


def _count(steps: int, least: int = 1) -> int:
    if isinstance(steps, bool) or not isinstance(steps, int):
        raise TypeError(f"steps must be an integer, got {steps!r}")
    if steps < least:
        raise ValueError(f"steps must be at least {least}, got {steps}")
    return steps


def _snap(t: float, schedule: Schedule) -> float:
    """Rounding of an inverse must not push an end point out of the unit interval or the domain."""
    low, high = schedule.domain
    for end in (low, min(high, 1.0)):
        if abs(t - end) <= 1e-12:
            return end
    return t


def _leaves(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else [value]


def _least(value: Any) -> float:
    """Smallest entry over leaves and elements."""
    return min(float(v.min()) if isinstance(v, Tensor) else float(v) for v in _leaves(value))


def _clock_schedule(schedule: Schedule) -> Schedule:
    """The leaf that holds the clock."""
    leaves = getattr(schedule, "leaves", None)
    return leaves[schedule.clock_leaf] if leaves is not None else schedule  # type: ignore[attr-defined]


def _t_end(schedule: Schedule) -> float:
    """Where log-SNR grids stop by default: sigma_min if the schedule has one, else t = 1e-3."""
    sigma_min = getattr(_clock_schedule(schedule), "sigma_min", None)
    return float(schedule.time_of_kappa(sigma_min)) if sigma_min else 1e-3


def _spaced(a: float, b: float, steps: int) -> list[float]:
    return [a + (b - a) * (i / steps) for i in range(steps)] + [b]


def uniform(steps: int, start: float = 1.0, end: float = 0.0) -> Grid:
    """`steps` equal steps in t from `start` to `end`."""
    return Grid(tuple(_spaced(start, end, _count(steps))))


def quadratic(steps: int, start: float = 1.0, end: float = 0.0) -> Grid:
    """`steps` equal steps in sqrt(t) from `start` to `end`, both non-negative."""
    if start < 0.0 or end < 0.0:
        raise ValueError(f"quadratic spacing needs times that are not negative, got start={start}, end={end}")
    roots = _spaced(math.sqrt(start), math.sqrt(end), _count(steps))
    return Grid((float(start), *(r * r for r in roots[1:-1]), float(end)))


def log_snr(
    schedule: Schedule, steps: int, start: float | None = None, end: float | None = None, final_zero: bool = False
) -> Grid:
    """Equal steps in log(alpha/sigma) (the schedule's clock) from time `start` to time `end`.

    DPM-Solver (Lu et al., 2022), uniform logSNR steps.

    Args:
        schedule: the schedule whose `clock` is divided.
        steps: number of steps, the last one to zero included.
        start: first time; default `schedule.t_start`.
        end: last time with noise; default where sigma/alpha = sigma_min if the schedule has one, else 1e-3.
        final_zero: add a last step from `end` to t = 0.

    Raises:
        ValueError: if log-SNR is infinite at `start` or `end`.
    """
    steps = _count(steps, 2 if final_zero else 1)
    start = schedule.t_start if start is None else start
    end = _t_end(schedule) if end is None else end
    for name, t in (("start", start), ("end", end)):
        schedule.check_time(t)
        if not math.isfinite(float(schedule.clock(t))):
            raise ValueError(
                f"log-SNR is infinite at {name}={t}: no even spacing reaches it (for t = 0 use final_zero)"
            )
    n = steps - 1 if final_zero else steps
    levels = _spaced(float(schedule.clock(start)), float(schedule.clock(end)), n)
    times = [float(start), *(float(schedule.time_of_clock(v)) for v in levels[1:-1]), float(end)]
    return Grid((*times, 0.0) if final_zero else tuple(times))


def karras(
    schedule: Schedule,
    steps: int,
    rho: float = 7.0,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    final_zero: bool = True,
) -> Grid:
    """Noise levels kappa = sigma/alpha spaced evenly in kappa^(1/rho).

    Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), eq. 5.

    Args:
        schedule: gives the time at which sigma/alpha has each value.
        steps: number of steps; with `final_zero` the levels are `steps` and zero, as in the paper.
        rho: 7 in the paper; larger puts more levels near the data.
        sigma_min, sigma_max: ends in kappa; default the schedule's own, else those at t = 1e-3 and at
            `schedule.t_start`.
        final_zero: end with the step from sigma_min to t = 0.

    Raises:
        ValueError: for levels out of order or not positive.
    """
    n = _count(steps) - (1 if final_zero else 0)
    leaf = _clock_schedule(schedule)
    low = sigma_min if sigma_min is not None else getattr(leaf, "sigma_min", None) or math.exp(-float(leaf.clock(1e-3)))
    high = sigma_max if sigma_max is not None else getattr(leaf, "sigma_max", None)
    if high is None:
        high = math.exp(-float(leaf.clock(schedule.t_start)))
    if not (0.0 < low < high and math.isfinite(high)) or not rho > 0.0:
        raise ValueError(f"need 0 < sigma_min < sigma_max and rho > 0, got {low}, {high}, rho={rho}")
    if n == 0:
        levels = [high]
    else:
        roots = _spaced(high ** (1.0 / rho), low ** (1.0 / rho), n)
        levels = [high, *(r**rho for r in roots[1:-1]), low]
    times = [_snap(float(schedule.time_of_kappa(v)), schedule) for v in levels]
    return Grid((*times, 0.0) if final_zero else tuple(times))


def from_indices(schedule: DiscreteBetas, indices: Iterable[int], final_zero: bool = True) -> Grid:
    """The times (i + 1)/T of the given indices of a T-step table, then t = 0 if `final_zero`.

    Raises:
        TypeError: if the schedule is not a table of betas.
        ValueError: for an index outside 0..T-1, or indices that are not strictly decreasing.
    """
    if not isinstance(schedule, DiscreteBetas):
        raise TypeError(f"indices need a DiscreteBetas schedule, got {schedule!r}")
    top, times = schedule.num_steps, []
    for i in indices:
        if not 0 <= i < top:
            raise ValueError(f"index {i} is outside 0..{top - 1} of {schedule!r}")
        times.append((int(i) + 1) / top)
    return Grid((*times, 0.0) if final_zero else tuple(times))


def discrete(
    schedule: DiscreteBetas, steps: int, spacing: Spacing = "leading", offset: int = 0, final_zero: bool = True
) -> Grid:
    """The index lists in common use, as times.

    Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al., 2024), table 2:

        leading    i (T // N) + offset, i < N: always ends at the lowest index, rarely starts at the top
        trailing   round(T - i T/N) - 1: always starts at the top
        linspace   round of N numbers evenly from 0 to T - 1

    Args:
        schedule: table of T betas.
        steps: N, the number of indices visited (`final_zero` makes the last step end at t = 0; without
            it the grid ends at the last index and has N - 1 steps).
        spacing: "leading", "trailing" or "linspace".
        offset: added to every index of "leading" (1 in latent diffusion models).
        final_zero: end at t = 0.

    Raises:
        ValueError: for more steps than the table has, an unknown spacing, or an offset that leaves the table.
    """
    if not isinstance(schedule, DiscreteBetas):
        raise TypeError(f"discrete spacing needs a DiscreteBetas schedule, got {schedule!r}")
    top, n = schedule.num_steps, _count(steps)
    if n > top:
        raise ValueError(f"steps={n} is more than the {top} steps of {schedule!r}")
    if offset and spacing != "leading":
        raise ValueError(f'offset={offset} only makes sense with spacing="leading", got {spacing!r}')
    if spacing == "leading":
        indices = [i * (top // n) + offset for i in reversed(range(n))]
    elif spacing == "trailing":
        indices = [round(top - i * (top / n)) - 1 for i in range(n)]
    elif spacing == "linspace":
        indices = [round(i * ((top - 1) / (n - 1))) for i in reversed(range(n))] if n > 1 else [0]
    else:
        raise ValueError(f'spacing must be "leading", "trailing" or "linspace", got {spacing!r}')
    return from_indices(schedule, indices, final_zero)


def explicit(times: Iterable[float] | Tensor, schedule: Schedule | None = None) -> Grid:
    """The grid of the given times, checked against the schedule if there is one."""
    grid = Grid(tuple(float(t) for t in times))
    return grid if schedule is None else check(grid, schedule)


def default(schedule: Schedule, steps: int, allow_alpha_zero: bool = False) -> Grid:
    """A reasonable grid: karras for VE, EDM and PFGM++, else uniform in t from `schedule.t_start` to 0.

    Args:
        schedule: the schedule to sample.
        steps: number of steps.
        allow_alpha_zero: start at t = 1 even if no data is left there (conditional OT, cosine, GVP). Sound
            for data, velocity and flow predictions; a noise prediction determines no data at alpha = 0.
    """
    if getattr(_clock_schedule(schedule), "sigma_min", None):
        return karras(schedule, steps)
    return uniform(steps, min(1.0, schedule.domain[1]) if allow_alpha_zero else schedule.t_start, 0.0)


def check(grid: Grid, schedule: Schedule) -> Grid:
    """Refuse a grid that the schedule cannot walk; returns the grid.

    Raises:
        ValueError: for a time outside the schedule's domain, or sigma = 0 at a node that is not an end on
            the data side.
    """
    for t in grid.times:
        schedule.check_time(t)
    last = len(grid.times) - 1
    clean = last if grid.descending else 0
    for i, t in enumerate(grid.times):
        if i != clean and _least(schedule.sigma(t)) <= 0.0:
            where = "last" if grid.descending else "first"
            raise ValueError(f"sigma = 0 at times[{i}] = {t}: only the {where} node may be free of noise")
    return grid
