"""Schedules with a known reference y: mean-reverting (IR-SDE) and residual (RDDM).

Both drift from the data x0 to a reference (the degraded image, the prior mean), so that

    x_t = alpha x0 + (1 - alpha) y + sigma n,        alpha: 1 -> almost 0.

Mean-reverting. dx = theta (y - x) dt + g dw with g^2 = 2 theta s_max^2 and Theta = integral of theta gives
alpha = exp(-Theta), sigma^2 = s_max^2 (1 - alpha^2): on z = x - y it is a variance-preserving process of
noise scale s_max. Theta is scaled so that alpha(1) = eps. The three shapes h(t) = Theta(t)/Theta(1) are
constant theta, h = t; linear theta, from 1 to 200; and cosine, theta = 1 - cos(a + w t)^2/cos(a)^2, whose integral

    H(t) = [cos 2a (2 w t - sin 2 w t)/(2 w) + sin 2a sin(w t)^2/w] / (2 cos(a)^2)

is a sum of positive terms (w = (pi/2)/(1 + s), a = s w, s = 0.008).

Residual. x_t = x0 + A(t) (y - x0) + B(t) n, with A rising from 0 to 1 and B^2 to `sum_scale`, each by
increments that grow, shrink or stay; or taken over from a DDIM table, A = 1 - sqrt(abar), B = sqrt(1 - abar).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from . import maths as m
from .base import Schedule, VariancePreserving, positive
from .maths import Scalar

__all__ = ["MeanReverting", "Residual", "ResidualFrom"]

_S = 0.008
_W = 0.5 * math.pi / (1.0 + _S)
_A = _S * _W

Theta = Literal["cosine", "linear", "constant"]
Increments = Literal["decreased", "increased", "average"]


def _cosine_integral(t: Scalar) -> Scalar:
    u = 2.0 * _W * t
    bend = math.cos(2.0 * _A) * m.x_minus_sin(u) / (2.0 * _W) + math.sin(2.0 * _A) * m.sin(_W * t) ** 2 / _W
    return bend / (2.0 * math.cos(_A) ** 2)


@dataclass(frozen=True)
class MeanReverting(Schedule):
    """Mean-reverting process to a reference: alpha = exp(-Theta), beta = 1 - alpha, sigma = s_max sqrt(1 - alpha^2).

    Image Restoration with Mean-Reverting SDEs (Luo et al., 2023), eq. 3; solved by the ordinary samplers it
    is MRS, Fast Samplers for Inverse Problems in Mean-Reverting Diffusion (Li et al., 2025).

    Args:
        sigma_max: stationary noise scale, in the data's unit (10/255 to 50/255 for images in [0, 1]).
        eps: alpha(1), what is left of the data at the end.
        theta: shape of the reversion rate over time.
    """

    sigma_max: float = 50.0 / 255.0
    eps: float = 0.01
    theta: Theta = "cosine"

    def __post_init__(self) -> None:
        positive("sigma_max", self.sigma_max)
        if not 0.0 < self.eps < 1.0:
            raise ValueError(f"eps is the share of the data left at t = 1, in (0, 1); got {self.eps}")
        if self.theta not in get_args(Theta):
            raise ValueError(f"theta must be one of {get_args(Theta)}, got {self.theta!r}")

    def log_alpha(self, t: Scalar) -> Scalar:
        """-Theta(t)."""
        if self.theta == "constant":
            shape = t
        elif self.theta == "linear":
            shape = t * (1.0 + 99.5 * t) / 100.5
        else:
            shape = _cosine_integral(t) / _cosine_integral(1.0)
        return math.log(self.eps) * shape

    def rate(self, t: Scalar) -> Scalar:
        """theta(t), the reversion rate."""
        if self.theta == "constant":
            shape = m.as_like(1.0, t)
        elif self.theta == "linear":
            shape = (1.0 + 199.0 * t) / 100.5
        else:
            shape = m.sin(2.0 * _A + _W * t) * m.sin(_W * t) / math.cos(_A) ** 2 / _cosine_integral(1.0)
        return -math.log(self.eps) * shape

    def _time_of_shape(self, shape: Scalar) -> Scalar:
        if self.theta == "constant":
            return shape
        if self.theta == "linear":
            return 201.0 * shape / (1.0 + m.sqrt(1.0 + 398.0 * 100.5 * shape))
        total = _cosine_integral(1.0)
        return m.finite_bisection(lambda t: -_cosine_integral(t) / total, -shape, 0.0, 1.0)

    def alpha(self, t: Scalar) -> Scalar:
        return m.exp(self.log_alpha(t))

    def beta(self, t: Scalar) -> Scalar:
        return 0.0 - m.expm1(self.log_alpha(t))

    def sigma(self, t: Scalar) -> Scalar:
        return self.sigma_max * m.sqrt(0.0 - m.expm1(2.0 * self.log_alpha(t)))

    def log_snr(self, t: Scalar) -> Scalar:
        log_alpha = self.log_alpha(t)
        return log_alpha - math.log(self.sigma_max) - 0.5 * m.log(0.0 - m.expm1(2.0 * log_alpha))

    def time_of_log_snr(self, value: Scalar) -> Scalar:
        log_alpha = -0.5 * m.softplus(-2.0 * (value + math.log(self.sigma_max)))
        return self._time_of_shape(log_alpha / math.log(self.eps))

    def derivatives(self, t: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        theta, alpha = self.rate(t), self.alpha(t)
        fall = theta * alpha
        root = m.sqrt(0.0 - m.expm1(2.0 * self.log_alpha(t)))
        return -fall, fall, self.sigma_max * self._ratio(fall * alpha, root, t)

    def _ratio(self, top: Scalar, root: Scalar, t: Scalar) -> Scalar:
        """theta alpha^2 / sqrt(1 - alpha^2); with the cosine shape theta ~ t theta'(0) and the limit is finite."""
        if self.theta != "cosine":
            return m.div(top, root)
        slope = -math.log(self.eps) * math.sin(2.0 * _A) * _W / math.cos(_A) ** 2 / _cosine_integral(1.0)
        limit = m.as_like(math.sqrt(slope), t)  # theta = slope t and 1 - alpha^2 = slope t^2
        safe = m.where(root > 0.0, root, m.as_like(1.0, t))
        return m.where(root > 0.0, top / safe, limit)

    def drift(self, t: Scalar) -> Scalar:
        return -self.rate(t)

    def g2(self, t: Scalar) -> Scalar:
        return 2.0 * self.sigma_max**2 * self.rate(t)


@dataclass(frozen=True)
class Residual(Schedule):
    """x_t = x0 + A(t) (y - x0) + B(t) n: alpha = 1 - A, beta = A, sigma = B.

    Residual Denoising Diffusion Models (Liu et al., 2024). No data is left at t = 1, only
    the reference and noise; `from_ddim` builds the process that an existing variance-preserving one becomes.

    Args:
        shrink: increments of A: "decreased" (A = 2t - t^2), "increased" (t^2) or "average" (t).
        spread: increments of B^2, of the same shapes times `sum_scale`.
        sum_scale: B(1)^2; 0.01 for restoration, 1 for generation.
    """

    shrink: Increments = "decreased"
    spread: Increments = "increased"
    sum_scale: float = 0.01

    def __post_init__(self) -> None:
        for name, value in (("shrink", self.shrink), ("spread", self.spread)):
            if value not in get_args(Increments):
                raise ValueError(f"{name} must be one of {get_args(Increments)}, got {value!r}")
        positive("sum_scale", self.sum_scale)

    @staticmethod
    def from_ddim(base: VariancePreserving) -> ResidualFrom:
        """A = 1 - alpha and B = sigma of a variance-preserving schedule."""
        return ResidualFrom(base)

    @staticmethod
    def _shape(kind: Increments, t: Scalar) -> tuple[Scalar, Scalar]:
        """The shape and its derivative."""
        if kind == "decreased":
            return t * (2.0 - t), 2.0 * (1.0 - t)
        if kind == "increased":
            return t * t, 2.0 * t
        return t, m.as_like(1.0, t)

    def alpha(self, t: Scalar) -> Scalar:
        factor = {"decreased": 1.0 - t, "increased": 1.0 + t, "average": m.as_like(1.0, t)}[self.shrink]
        return (1.0 - t) * factor

    def beta(self, t: Scalar) -> Scalar:
        return self._shape(self.shrink, t)[0]

    def sigma(self, t: Scalar) -> Scalar:
        root = math.sqrt(self.sum_scale)
        return root * t if self.spread == "increased" else root * m.sqrt(self._shape(self.spread, t)[0])

    def derivatives(self, t: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        rise = self._shape(self.shrink, t)[1]
        root = math.sqrt(self.sum_scale)
        if self.spread == "increased":
            return -rise, rise, m.as_like(root, t)
        shape, rate = self._shape(self.spread, t)
        return -rise, rise, root * m.div(0.5 * rate, m.sqrt(shape))

    def drift(self, t: Scalar) -> Scalar:
        if self.shrink == "decreased":
            return m.div(-2.0, 1.0 - t)
        top = 2.0 * t / (1.0 + t) if self.shrink == "increased" else m.as_like(1.0, t)
        return m.div(-top, 1.0 - t)

    def g2(self, t: Scalar) -> Scalar:
        shape, rate = self._shape(self.spread, t)
        return self.sum_scale * (rate - 2.0 * self.drift(t) * shape)


@dataclass(frozen=True)
class ResidualFrom(Schedule):
    """A residual process with the coefficients of a variance-preserving one: A = 1 - alpha, B = sigma.

    Residual Denoising Diffusion Models (Liu et al., 2024), coefficient transformation from DDIM.

    Args:
        base: the variance-preserving schedule.
    """

    base: VariancePreserving

    def __post_init__(self) -> None:
        if not isinstance(self.base, VariancePreserving):
            raise TypeError(f"base must be a variance-preserving schedule, got {self.base!r}")
        object.__setattr__(self, "domain", self.base.domain)

    def alpha(self, t: Scalar) -> Scalar:
        return self.base.alpha(t)

    def beta(self, t: Scalar) -> Scalar:
        return 0.0 - m.expm1(self.base.log_alpha(t))

    def sigma(self, t: Scalar) -> Scalar:
        return self.base.sigma(t)

    def log_snr(self, t: Scalar) -> Scalar:
        return self.base.log_snr(t)

    def time_of_log_snr(self, value: Scalar) -> Scalar:
        return self.base.time_of_log_snr(value)

    def derivatives(self, t: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        alpha, _, sigma = self.base.derivatives(t)
        return alpha, -alpha, sigma

    def drift(self, t: Scalar) -> Scalar:
        return self.base.drift(t)

    def g2(self, t: Scalar) -> Scalar:
        return self.base.g2(t)
