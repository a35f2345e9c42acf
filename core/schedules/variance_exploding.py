"""Schedules that add noise to data left as it is: VE and EDM (alpha = 1, f = 0, g^2 = d(sigma^2)/dt)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from . import maths as m
from .base import Schedule, positive
from .maths import Scalar

__all__ = ["EDM", "VE"]


@dataclass(frozen=True)
class _Exploding(Schedule):
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        positive("sigma_min", self.sigma_min)
        positive("sigma_max", self.sigma_max)
        if self.sigma_max <= self.sigma_min:
            raise ValueError(f"sigma_max must be above sigma_min={self.sigma_min}, got {self.sigma_max}")

    @property
    def domain(self) -> tuple[float, float]:  # type: ignore[override]
        """Twice the unit interval: churn raises the noise above sigma_max at the first step."""
        return (0.0, 2.0)

    def alpha(self, t: Scalar) -> Scalar:
        return m.as_like(1.0, t)

    def log_snr(self, t: Scalar) -> Scalar:
        return -m.log(self.sigma(t))

    def kappa(self, t: Scalar) -> Scalar:
        return self.sigma(t)

    def drift(self, t: Scalar) -> Scalar:
        return m.as_like(0.0, t)

    def time_of_log_snr(self, value: Scalar) -> Scalar:
        return self.time_of_kappa(m.exp(-value))


@dataclass(frozen=True)
class EDM(_Exploding):
    """sigma proportional to time: sigma(t) = sigma_max t, whose ODE is that of Karras et al.

    Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), table 1. The
    rho-spacing of the noise levels is the grid's (`grids.karras`), between `sigma_max` and `sigma_min`.

    Args:
        sigma_min: smallest noise level that grids and training visit before zero.
        sigma_max: noise level at t = 1.
    """

    def sigma(self, t: Scalar) -> Scalar:
        return self.sigma_max * t

    def time_of_kappa(self, value: Scalar) -> Scalar:
        return value / self.sigma_max

    def derivatives(self, t: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        return m.as_like(0.0, t), m.as_like(0.0, t), m.as_like(self.sigma_max, t)

    def g2(self, t: Scalar) -> Scalar:
        return 2.0 * self.sigma_max**2 * t


@dataclass(frozen=True)
class VE(_Exploding):
    """Geometric noise levels, started from clean data: sigma(t)^2 = sigma_min^2 (r^{2t} - 1).

    Score-Based Generative Modeling through SDEs (Song et al., 2021), eq. 9 and appendix C. The SDE
    dx = sigma_min r^t sqrt(2 log r) dw has exactly this variance; writing sigma_min r^t for it, as is
    usual, leaves noise sigma_min in the data at t = 0. r^2 = 1 + (sigma_max/sigma_min)^2 makes
    sigma(1) = sigma_max exact.

    Args:
        sigma_min: where the growth turns from sqrt(t) to geometric; grids end here before zero.
        sigma_max: noise level at t = 1.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    @property
    def _rate(self) -> float:
        """2 log r."""
        return math.log1p((self.sigma_max / self.sigma_min) ** 2)

    def sigma(self, t: Scalar) -> Scalar:
        return self.sigma_min * m.sqrt(m.expm1(self._rate * t))

    def time_of_kappa(self, value: Scalar) -> Scalar:
        return m.log1p((value / self.sigma_min) ** 2) / self._rate

    def g2(self, t: Scalar) -> Scalar:
        return self.sigma_min**2 * self._rate * m.exp(self._rate * t)

    def derivatives(self, t: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        zero = m.as_like(0.0, t)
        return zero, zero, m.div(0.5 * self.g2(t), self.sigma(t))
