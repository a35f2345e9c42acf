r"""Euler, Heun and the stochastic sampler of EDM, planned in y = x / alpha over kappa = sigma / alpha.

In these variables the probability-flow ODE is dy/dkappa = N for every schedule (T. Karras et al.,
"Elucidating the design space of diffusion-based generative models", NeurIPS 2022, equation 4 with
their s(t) = alpha, sigma(t) = kappa). Rows written in (x - D)/sigma would be right for VE only.
With `variable="time"` the same methods step dx/dt = V in the schedule's own time, as is usual for
flows. A step that ends at sigma = 0 is an Euler step, for the slope is not defined there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from .base import Level, LinearSampler, Path
from .exponential import root
from .plan import Row

__all__ = ["EDMStochastic", "Euler", "Heun"]

Variable = Literal["sigma", "time"]


def _check(variable: str) -> None:
    if variable not in ("sigma", "time"):
        raise ValueError(f'variable must be "sigma" or "time", got {variable!r}')


def _euler(s: Level, t: Level, k: int, variable: str, source: str = "x") -> Row:
    if variable == "time":
        return Row(s.t, t.t, {"x": {source: 1.0, "P": t.t - s.t}}, use="velocity", step=k)
    # alpha_t (x / alpha_s + (kappa_t - kappa_s) N), in the form that also holds at alpha_s = 0
    return Row(s.t, t.t, {"x": {"D": t.alpha, "N": t.sigma}}, use="noise", step=k)


@dataclass(frozen=True)
class Euler(LinearSampler):
    """Euler's method on the probability-flow ODE. Order 1.

    Args:
        variable: "sigma" steps x / alpha over sigma / alpha (the deterministic EDM Euler, equal to
            DDIM); "time" steps dx/dt over the schedule's time (flow matching).
    """

    variable: Variable = "sigma"

    def __post_init__(self) -> None:
        _check(self.variable)

    def rows(self, path: Path) -> Sequence[Sequence[Row]]:
        return [[_euler(path[k], path[k + 1], k, self.variable)] for k in range(path.steps)]


@dataclass(frozen=True)
class Heun(LinearSampler):
    """Heun's method, two calls a step (Karras et al. 2022, algorithm 1). Order 2.

    Args:
        variable: as in `Euler`.
    """

    variable: Variable = "sigma"

    def __post_init__(self) -> None:
        _check(self.variable)

    @property
    def nominal_order(self) -> int:
        return 2

    def rows(self, path: Path) -> Sequence[Sequence[Row]]:
        rows = []
        for k in range(path.steps):
            s, t = path[k], path[k + 1]
            rows += [[row] for row in _heun(s, t, k, self.variable, "x", path.singular(k))]
        return rows


def _heun(s: Level, t: Level, k: int, variable: str, source: str, singular: bool) -> list[Row]:
    """Rows of a Heun step from the register `source` ("x", or "q" after churn) at level s."""
    if singular:
        return [_euler(s, t, k, variable, source)]
    if variable == "time":
        h = t.t - s.t
        first = {"x": {source: 1.0, "P": h}, "xs": {source: 1.0}, "P1": {"P": 1.0}}
        second = {"x": {"xs": 1.0, "P1": h / 2, "P": h / 2}}
    else:
        scale, slope = t.alpha / s.alpha, t.alpha * (t.kappa - s.kappa)
        first = {"x": {source: scale, "P": slope}, "xs": {source: 1.0}, "P1": {"P": 1.0}}
        second = {"x": {"xs": scale, "P1": slope / 2, "P": slope / 2}}
    use: Any = "velocity" if variable == "time" else "noise"
    return [
        Row(s.t, t.t, first, use=use, levels={"xs": s.t}, step=k, last=False),
        Row(t.t, t.t, second, use=use, step=k),
    ]


@dataclass(frozen=True)
class EDMStochastic(LinearSampler):
    """The stochastic sampler of EDM: raise the noise a little, then a Heun step down.

    Karras et al. 2022, algorithm 2; noise levels are kappa = sigma / alpha. Noise is raised as far as the schedule
    goes: a step that starts at the last time of its domain adds none.

    Args:
        churn: S_churn, total amount of noise added; per step gamma = min(churn / N, sqrt(2) - 1).
        s_min, s_max: noise levels between which noise is added (S_tmin, S_tmax).
        s_noise: inflation of the added noise (S_noise).
        heun: whether to correct (second call); without, it is the stochastic Euler method.
    """

    families: ClassVar[frozenset[str]] = frozenset({"gaussian"})

    churn: float = 40.0
    s_min: float = 0.05
    s_max: float = 50.0
    s_noise: float = 1.003
    heun: bool = True

    def __post_init__(self) -> None:
        if self.churn < 0.0 or self.s_noise < 0.0 or not 0.0 <= self.s_min <= self.s_max:
            raise ValueError(f"need churn >= 0, s_noise >= 0 and 0 <= s_min <= s_max, got {self}")

    @property
    def stochastic(self) -> bool:
        return self.churn > 0.0

    @property
    def nominal_order(self) -> int:
        return 0 if self.stochastic else (2 if self.heun else 1)

    def rows(self, path: Path) -> Sequence[Sequence[Row]]:
        rows: list[list[Row]] = []
        gamma = min(self.churn / path.steps, math.sqrt(2.0) - 1.0)
        last = path.clock.domain[1]  # no schedule has more noise than here
        for k in range(path.steps):
            s, t = path[k], path[k + 1]
            kappa = math.exp(-path.clock.clock(s.t))
            raised, query = s, {"x": 1.0}
            if gamma > 0.0 and self.s_min <= kappa <= self.s_max and s.t < last:
                lam = -math.log(kappa * (1.0 + gamma))
                raised = path.level(path.clock.time_of_clock(lam) if lam > path.clock.clock(last) else last)
                added = root(raised.kappa**2 - s.kappa**2)
                query = {"x": raised.alpha / s.alpha, "z": raised.alpha * added * self.s_noise}
            here = (
                _heun(raised, t, k, "sigma", "q", path.singular(k))
                if self.heun
                else [_euler(raised, t, k, "sigma", "q")]
            )
            first = replace(here[0], query=query)
            rows += [[row] for row in (first, *here[1:])]
        return rows
