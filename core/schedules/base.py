"""Schedules: how much data and how much noise a state holds at time t.

A schedule is the sentence

    x_t = alpha(t) x0 + beta(t) y + sigma(t) n,        t in [0, 1], 0 = data,

with data x0, a known reference y (a degraded image, a prior mean; beta = 0 without one) and noise n.
Everything that a sampler, a loss or a likelihood needs follows from the three functions:

    log-SNR            lambda = log(alpha / sigma), +inf at the data end, -inf where no data is left
    noise ratio        kappa  = sigma / alpha = exp(-lambda)
    forward SDE        dx = f x dt + (beta' - f beta) y dt + g dw,
                       f = alpha' / alpha,   g^2 = d(sigma^2)/dt - 2 f sigma^2 = -2 sigma^2 lambda'
    probability flow   dx/dt = alpha' x0 + beta' y + sigma' n,   with x0 and n as predicted.

Each schedule states these in closed form, arranged so that nothing cancels near t = 0, where sigma is
small and alpha is next to 1. Times are continuous; a network's integer labels are the denoiser's matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol

from torch import Tensor

from . import maths as m
from .maths import Scalar

__all__ = ["Basis", "ProductSchedule", "Schedule", "VariancePreserving"]


class Basis(Protocol):
    """An orthonormal change of coordinates in which a schedule acts."""

    def forward(self, x: Any) -> Any:
        """From the data's coordinates to those of the state."""
        ...

    def inverse(self, x: Any) -> Any:
        """From the state's coordinates back to the data's."""
        ...


class Schedule:
    """Base of all schedules: frozen dataclasses, hashable, comparable by value.

    A subclass defines `alpha`, `sigma`, `derivatives`, `drift`, `g2` and, where there is one, the closed
    form of `time_of_log_snr`. Every function of time takes a float and returns a float, or takes a
    floating-point tensor (float64 recommended) and returns a tensor of its shape. Times are not checked
    here: `check_time` does, once, where times enter.

    Attributes:
        family: "gaussian", or "student" (multivariate Student-t): no Gaussian score, hence no SDE form.
        domain: times on which the schedule is defined. Sampling starts at `t_start`, not at domain[1]:
            schedules that stochastic churn may push beyond t = 1 are defined there too.
        basis: orthonormal basis in which the state lives, or None.
        elementwise: True where alpha and sigma vary inside a sample; then a float time returns a float64
            tensor (1, *features) and times (B,) return (B, *features).
        start_log_snr: log-SNR at which sampling starts by default if next to no data is left at t = 1.
    """

    family: ClassVar[Literal["gaussian", "student"]] = "gaussian"
    domain: tuple[float, float] = (0.0, 1.0)
    basis: Basis | None = None
    elementwise: ClassVar[bool] = False
    start_log_snr: ClassVar[float] = -7.0

    # ------------------------------------------------------------------ what a subclass states
    def alpha(self, t: Scalar) -> Scalar:
        """Weight of the data."""
        raise NotImplementedError

    def sigma(self, t: Scalar) -> Scalar:
        """Scale of the noise."""
        raise NotImplementedError

    def beta(self, t: Scalar) -> Scalar:
        """Weight of the known reference; zero without one."""
        return m.as_like(0.0, t)

    def derivatives(self, t: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        """(alpha', beta', sigma') at t; sigma' is inf at t = 0 where sigma grows like sqrt(t)."""
        raise NotImplementedError

    def drift(self, t: Scalar) -> Scalar:
        """f = alpha' / alpha of the forward SDE (-inf where alpha = 0)."""
        raise NotImplementedError

    def g2(self, t: Scalar) -> Scalar:
        """Squared diffusion coefficient of the forward SDE, d(sigma^2)/dt - 2 f sigma^2."""
        raise NotImplementedError

    # ------------------------------------------------------------------ what follows
    def log_snr(self, t: Scalar) -> Scalar:
        """lambda = log(alpha / sigma), decreasing; +inf where sigma = 0, -inf where alpha = 0."""
        return m.log(self.alpha(t)) - m.log(self.sigma(t))

    def time_of_log_snr(self, value: Scalar) -> Scalar:
        """The time at which log(alpha / sigma) = value; bisection to the spacing of float64."""
        return m.finite_bisection(self.log_snr, value, *self.domain)

    def kappa(self, t: Scalar) -> Scalar:
        """sigma / alpha, the noise seen by a network whose input is rescaled to alpha = 1."""
        return m.div(self.sigma(t), self.alpha(t))

    def time_of_kappa(self, value: Scalar) -> Scalar:
        """The time at which sigma / alpha = value."""
        return self.time_of_log_snr(-m.log(value))

    def clock(self, t: Scalar) -> Scalar:
        """One scalar log-SNR for the whole state: where samplers place grids and inner stages."""
        return self.log_snr(t)

    def time_of_clock(self, value: Scalar) -> Scalar:
        """The time at which `clock` = value."""
        return self.time_of_log_snr(value)

    def prior_std(self, t: Scalar) -> Scalar:
        """Scale of a state without data: sigma(t), or the full marginal of unit-variance data where known."""
        return self.sigma(t)

    @property
    def t_start(self) -> float:
        """Where sampling starts by default: t = 1 (or the end of a shorter domain); where the log-SNR is
        `start_log_snr` if (almost) no data is left there, alpha < exp(start_log_snr)."""
        end = min(1.0, self.domain[1])
        return (
            end
            if self.alpha(end) >= math.exp(self.start_log_snr) * 0.99
            else float(self.time_of_clock(self.start_log_snr))
        )

    def check_time(self, t: Any) -> None:
        """Refuse times that are not continuous times of this schedule.

        Raises:
            TypeError: for integer tensors and anything that is not a number.
            ValueError: for times outside `domain`, nan included; the message names the first one.
        """
        low, high = self.domain
        if isinstance(t, Tensor):
            if not t.is_floating_point():
                raise TypeError(
                    f"times are continuous numbers in [{low:g}, {high:g}], got a tensor of {t.dtype}; "
                    "turn an index i of T steps into (i + 1) / T"
                )
            bad = t[~((t >= low) & (t <= high))]
            if bad.numel():
                raise ValueError(f"time {float(bad.flatten()[0])} is outside [{low:g}, {high:g}] of {self!r}")
            return
        if isinstance(t, bool) or not isinstance(t, int | float):
            raise TypeError(f"a time is a float or a floating-point tensor, got {type(t).__name__}")
        if not low <= t <= high:
            raise ValueError(f"time {t} is outside [{low:g}, {high:g}] of {self!r}")


class VariancePreserving(Schedule):
    """alpha^2 + sigma^2 = 1, given by L = log alpha and its derivative.

    sigma = sqrt(-expm1(2 L)), f = L', g^2 = -2 L', sigma' = -alpha^2 L' / sigma, and the inverse of the
    log-SNR is L = -log(1 + exp(-2 lambda)) / 2 followed by `time_of_log_alpha`.
    """

    def log_alpha(self, t: Scalar) -> Scalar:
        """L = log alpha(t)."""
        raise NotImplementedError

    def time_of_log_alpha(self, value: Scalar) -> Scalar:
        """The time at which log alpha = value."""
        raise NotImplementedError

    def alpha(self, t: Scalar) -> Scalar:
        return m.exp(self.log_alpha(t))

    def sigma(self, t: Scalar) -> Scalar:
        return m.sqrt(0.0 - m.expm1(2.0 * self.log_alpha(t)))

    def log_snr(self, t: Scalar) -> Scalar:
        log_alpha = self.log_alpha(t)
        return log_alpha - 0.5 * m.log(0.0 - m.expm1(2.0 * log_alpha))

    def time_of_log_snr(self, value: Scalar) -> Scalar:
        return self.time_of_log_alpha(-0.5 * m.softplus(-2.0 * value))

    def derivatives(self, t: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        log_alpha, rate = self.log_alpha(t), self.drift(t)
        sigma = m.sqrt(0.0 - m.expm1(2.0 * log_alpha))
        return rate * m.exp(log_alpha), m.as_like(0.0, t), m.div(-rate * m.exp(2.0 * log_alpha), sigma)

    def g2(self, t: Scalar) -> Scalar:
        return -2.0 * self.drift(t)

    def prior_std(self, t: Scalar) -> Scalar:
        return m.as_like(1.0, t)


class ProductBasis:
    """One basis a leaf; leaves without one are left alone."""

    def __init__(self, bases: Mapping[str, Basis | None]) -> None:
        self.bases = dict(bases)

    def forward(self, x: Mapping[str, Any]) -> dict[str, Any]:
        return {k: v if (b := self.bases.get(k)) is None else b.forward(v) for k, v in x.items()}

    def inverse(self, x: Mapping[str, Any]) -> dict[str, Any]:
        return {k: v if (b := self.bases.get(k)) is None else b.inverse(v) for k, v in x.items()}


class ProductSchedule(Schedule):
    """One schedule a leaf of the state, all at the same time t.

    `alpha`, `beta`, `sigma`, `log_snr`, `kappa`, `drift`, `g2` and `prior_std` return a dictionary of
    leaves, `derivatives` a triple of dictionaries. The scalar `clock` is that of one named leaf.

    Args:
        clock: name of the leaf whose log-SNR is the clock.
        **leaves: a schedule for each leaf of the state.

    Raises:
        ValueError: without leaves, for an unknown clock, or for nested products.
        TypeError: for a leaf that is not a schedule.
    """

    def __init__(self, *, clock: str, **leaves: Schedule) -> None:
        if not leaves:
            raise ValueError("ProductSchedule needs at least one leaf, as in ProductSchedule(X=VPLinear(), clock='X')")
        for name, leaf in leaves.items():
            if isinstance(leaf, ProductSchedule):
                raise ValueError(f"leaf {name!r} is itself a ProductSchedule; a state has one level of named leaves")
            if not isinstance(leaf, Schedule):
                raise TypeError(f"leaf {name!r} must be a Schedule, got {type(leaf).__name__}")
        if clock not in leaves:
            raise ValueError(f"clock={clock!r} is not one of the leaves {sorted(leaves)}")
        self.leaves: dict[str, Schedule] = dict(leaves)
        self.clock_leaf = clock
        self.family = "student" if any(s.family == "student" for s in leaves.values()) else "gaussian"  # type: ignore[misc]
        self.elementwise = any(s.elementwise for s in leaves.values())  # type: ignore[misc]
        self.domain = (max(s.domain[0] for s in leaves.values()), min(s.domain[1] for s in leaves.values()))
        bases = {name: s.basis for name, s in leaves.items()}
        self.basis = ProductBasis(bases) if any(b is not None for b in bases.values()) else None
        self._key = (clock, tuple(sorted(self.leaves.items(), key=lambda item: item[0])))

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProductSchedule) and self._key == other._key

    def __repr__(self) -> str:
        leaves = "".join(f", {name}={leaf!r}" for name, leaf in self.leaves.items())
        return f"ProductSchedule(clock={self.clock_leaf!r}{leaves})"

    def alpha(self, t: Scalar) -> dict[str, Scalar]:
        return {name: leaf.alpha(t) for name, leaf in self.leaves.items()}

    def beta(self, t: Scalar) -> dict[str, Scalar]:
        return {name: leaf.beta(t) for name, leaf in self.leaves.items()}

    def sigma(self, t: Scalar) -> dict[str, Scalar]:
        return {name: leaf.sigma(t) for name, leaf in self.leaves.items()}

    def log_snr(self, t: Scalar) -> dict[str, Scalar]:
        return {name: leaf.log_snr(t) for name, leaf in self.leaves.items()}

    def kappa(self, t: Scalar) -> dict[str, Scalar]:
        return {name: leaf.kappa(t) for name, leaf in self.leaves.items()}

    def drift(self, t: Scalar) -> dict[str, Scalar]:
        return {name: leaf.drift(t) for name, leaf in self.leaves.items()}

    def g2(self, t: Scalar) -> dict[str, Scalar]:
        return {name: leaf.g2(t) for name, leaf in self.leaves.items()}

    def prior_std(self, t: Scalar) -> dict[str, Scalar]:
        return {name: leaf.prior_std(t) for name, leaf in self.leaves.items()}

    def derivatives(self, t: Scalar) -> tuple[dict[str, Scalar], dict[str, Scalar], dict[str, Scalar]]:
        triples = {name: leaf.derivatives(t) for name, leaf in self.leaves.items()}
        a, b, s = ({name: triple[k] for name, triple in triples.items()} for k in range(3))
        return a, b, s

    def time_of_log_snr(self, value: Scalar) -> Scalar:
        raise TypeError(
            "each leaf of a ProductSchedule has its own log-SNR; use time_of_clock, or a leaf's time_of_log_snr"
        )

    def clock(self, t: Scalar) -> Scalar:
        return self.leaves[self.clock_leaf].clock(t)

    def time_of_clock(self, value: Scalar) -> Scalar:
        return self.leaves[self.clock_leaf].time_of_clock(value)

    def time_of_kappa(self, value: Scalar) -> Scalar:
        return self.leaves[self.clock_leaf].time_of_kappa(value)

    @property
    def t_start(self) -> float:
        return min(leaf.t_start for leaf in self.leaves.values())


def positive(name: str, value: float) -> None:
    """Refuse a parameter that is not a positive finite number."""
    if not (math.isfinite(value) and value > 0.0):
        raise ValueError(f"{name} must be positive and finite, got {value!r}")
