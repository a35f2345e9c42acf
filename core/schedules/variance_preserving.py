"""Schedules whose noise process shrinks the data: VP-linear, VP-cosine, sub-VP, GVP.

With B(t) = integral of the noise rate b(t), Song's variance-preserving process has

    alpha = exp(-B/2),  sigma^2 = 1 - exp(-B),          f = -b/2,  g^2 = b,

and its sub-VP relative keeps alpha but has sigma = 1 - exp(-B), hence g^2 = b (1 - exp(-2B)). In sub-VP
kappa = (1 - alpha^2)/alpha = 2 sinh(B/2), so that B = 2 asinh(kappa/2) inverts the log-SNR.

The cosine schedule is alpha = cos(a + w t)/cos(a) with w = (pi/2)/(1 + s), a = s w. Near t = 1 the
cosine is taken as sin(w (1 - t)), exactly zero at the end; near t = 0 the noise is
sigma^2 = sin(2a + w t) sin(w t)/cos(a)^2, which is the same thing without the cancellation of 1 - alpha^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from . import maths as m
from .base import Schedule, VariancePreserving, positive
from .maths import Scalar

__all__ = ["GVP", "SubVP", "VPCosine", "VPLinear"]


@dataclass(frozen=True)
class _LinearRate(Schedule):
    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        positive("beta_min", self.beta_min)
        positive("beta_max", self.beta_max)
        if self.beta_max < self.beta_min:
            raise ValueError(f"beta_max must not be below beta_min={self.beta_min}, got {self.beta_max}")

    def rate(self, t: Scalar) -> Scalar:
        """b(t) = beta_min + (beta_max - beta_min) t."""
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def integral(self, t: Scalar) -> Scalar:
        """B(t), the integral of the rate."""
        return t * (self.beta_min + 0.5 * (self.beta_max - self.beta_min) * t)

    def time_of_integral(self, value: Scalar) -> Scalar:
        """The time at which B(t) = value; the root of the quadratic that does not cancel."""
        slope = self.beta_max - self.beta_min
        return m.div(2.0 * value, self.beta_min + m.sqrt(self.beta_min**2 + 2.0 * slope * value))

    def drift(self, t: Scalar) -> Scalar:
        return -0.5 * self.rate(t)


@dataclass(frozen=True)
class VPLinear(_LinearRate, VariancePreserving):
    """Variance-preserving process with a linear noise rate.

    Score-Based Generative Modeling through SDEs (Song et al., 2021), eq. 11 and appendix C.

    Args:
        beta_min, beta_max: the rate at t = 0 and t = 1; positive, in order.
    """

    def log_alpha(self, t: Scalar) -> Scalar:
        return -0.5 * self.integral(t)

    def time_of_log_alpha(self, value: Scalar) -> Scalar:
        return self.time_of_integral(-2.0 * value)


@dataclass(frozen=True)
class SubVP(_LinearRate):
    """Song's sub-VP process: alpha = exp(-B/2), sigma = 1 - exp(-B), less noise than VP at every t > 0.

    Score-Based Generative Modeling through SDEs (Song et al., 2021), eq. 12.

    Args:
        beta_min, beta_max: the rate at t = 0 and t = 1; positive, in order.
    """

    def alpha(self, t: Scalar) -> Scalar:
        return m.exp(-0.5 * self.integral(t))

    def sigma(self, t: Scalar) -> Scalar:
        return 0.0 - m.expm1(-self.integral(t))

    def log_snr(self, t: Scalar) -> Scalar:
        integral = self.integral(t)
        return -0.5 * integral - m.log(-m.expm1(-integral))

    def time_of_log_snr(self, value: Scalar) -> Scalar:
        return self.time_of_integral(2.0 * m.asinh(0.5 * m.exp(-value)))

    def derivatives(self, t: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        integral, rate = self.integral(t), self.rate(t)
        return -0.5 * rate * m.exp(-0.5 * integral), m.as_like(0.0, t), rate * m.exp(-integral)

    def g2(self, t: Scalar) -> Scalar:
        return self.rate(t) * -m.expm1(-2.0 * self.integral(t))


@dataclass(frozen=True)
class VPCosine(VariancePreserving):
    """The cosine schedule in continuous time: alpha(t) = cos(w t + a)/cos(a), exactly zero at t = 1.

    Improved Denoising Diffusion Probabilistic Models (Nichol & Dhariwal, 2021), eq. 17.

    Args:
        s: the offset that keeps the noise rate from vanishing at t = 0.
        min_log_snr: end the schedule where log(alpha/sigma) falls to this value (DPM-Solver clips at -5.1),
            which shortens `domain`. None keeps all of [0, 1].
    """

    s: float = 0.008
    min_log_snr: float | None = None
    start_log_snr: ClassVar[float] = -5.1

    def __post_init__(self) -> None:
        positive("s", self.s)
        if self.min_log_snr is not None:
            if not math.isfinite(self.min_log_snr):
                raise ValueError(f"min_log_snr must be finite or None, got {self.min_log_snr}")
            object.__setattr__(self, "domain", (0.0, self.time_of_log_snr(self.min_log_snr)))

    @property
    def _wa(self) -> tuple[float, float]:
        w = 0.5 * math.pi / (1.0 + self.s)
        return w, self.s * w

    def alpha(self, t: Scalar) -> Scalar:
        w, a = self._wa
        return m.sin(w * (1.0 - t)) / math.cos(a)

    def log_alpha(self, t: Scalar) -> Scalar:
        return m.log(self.alpha(t))

    def sigma(self, t: Scalar) -> Scalar:
        w, a = self._wa
        return m.sqrt(m.sin(2.0 * a + w * t) * m.sin(w * t)) / math.cos(a)

    def log_snr(self, t: Scalar) -> Scalar:
        return m.log(self.alpha(t)) - m.log(self.sigma(t))

    def time_of_log_snr(self, value: Scalar) -> Scalar:
        w, a = self._wa
        alpha, variance = m.exp(-0.5 * m.softplus(-2.0 * value)), m.exp(-m.softplus(2.0 * value))
        # cos(a + w t) = alpha cos(a) and sin(a + w t)^2 = sigma^2 cos(a)^2 + sin(a)^2
        return (m.atan2(m.sqrt(variance * math.cos(a) ** 2 + math.sin(a) ** 2), alpha * math.cos(a)) - a) / w

    def time_of_log_alpha(self, value: Scalar) -> Scalar:
        return self.time_of_log_snr(value - 0.5 * m.log(-m.expm1(2.0 * value)))

    def derivatives(self, t: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        w, a = self._wa
        alpha_rate = -w * m.cos(w * (1.0 - t)) / math.cos(a)
        return alpha_rate, m.as_like(0.0, t), m.div(-self.alpha(t) * alpha_rate, self.sigma(t))

    def drift(self, t: Scalar) -> Scalar:
        w, _ = self._wa
        return m.div(-w * m.cos(w * (1.0 - t)), m.sin(w * (1.0 - t)))


@dataclass(frozen=True)
class GVP(VariancePreserving):
    """The trigonometric path alpha = cos(pi t/2), sigma = sin(pi t/2).

    Stochastic Interpolants (Albergo et al., 2023) call it trigonometric; SiT (Ma et al., 2024) GVP.
    """

    def alpha(self, t: Scalar) -> Scalar:
        return m.sin(0.5 * math.pi * (1.0 - t))

    def log_alpha(self, t: Scalar) -> Scalar:
        return m.log(self.alpha(t))

    def sigma(self, t: Scalar) -> Scalar:
        return m.sin(0.5 * math.pi * t)

    def log_snr(self, t: Scalar) -> Scalar:
        return m.log(self.alpha(t)) - m.log(self.sigma(t))

    def time_of_log_snr(self, value: Scalar) -> Scalar:
        return m.atan(m.exp(-value)) * (2.0 / math.pi)

    def time_of_log_alpha(self, value: Scalar) -> Scalar:
        return self.time_of_log_snr(value - 0.5 * m.log(-m.expm1(2.0 * value)))

    def derivatives(self, t: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        half = 0.5 * math.pi
        return -half * m.sin(half * t), m.as_like(0.0, t), half * m.sin(half * (1.0 - t))

    def drift(self, t: Scalar) -> Scalar:
        half = 0.5 * math.pi
        return m.div(-half * m.sin(half * t), m.sin(half * (1.0 - t)))
