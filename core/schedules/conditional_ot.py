"""The straight path of rectified flow, with the time shift of Stable Diffusion 3.

x_t = (1 - u) x0 + u n with u = k t/(1 + (k - 1) t): kappa = u/(1 - u) = k t/(1 - t) is multiplied by the shift
k, which is what more pixels need. The shift belongs to the schedule and nowhere else: a network that is
told t sees shifted time exactly once.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import maths as m
from .base import Schedule, positive
from .maths import Scalar

__all__ = ["CondOT"]


@dataclass(frozen=True)
class CondOT(Schedule):
    """Conditional optimal transport (rectified flow): alpha = 1 - u, sigma = u.

    Flow Matching (Lipman et al., 2023), eq. 20-23; Flow Straight and Fast (Liu et al., 2023); the shift:
    Scaling Rectified Flow Transformers (Esser et al., 2024), eq. 23. No data is left at t = 1, so sampling
    starts by default a little before it (`t_start`, log-SNR -7).

    Args:
        shift: k, 1 for none; sqrt(m/n) from n to m pixels, 3 in Stable Diffusion 3.
    """

    shift: float = 1.0

    def __post_init__(self) -> None:
        positive("shift", self.shift)

    def alpha(self, t: Scalar) -> Scalar:
        return (1.0 - t) / (1.0 + (self.shift - 1.0) * t)

    def sigma(self, t: Scalar) -> Scalar:
        return self.shift * t / (1.0 + (self.shift - 1.0) * t)

    def log_snr(self, t: Scalar) -> Scalar:
        return m.log(1.0 - t) - m.log(self.shift * t)

    def time_of_log_snr(self, value: Scalar) -> Scalar:
        return m.div(1.0, 1.0 + self.shift * m.exp(value))

    def derivatives(self, t: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        rate = self.shift / (1.0 + (self.shift - 1.0) * t) ** 2
        return -rate, m.as_like(0.0, t), rate

    def drift(self, t: Scalar) -> Scalar:
        return m.div(-self.shift, (1.0 + (self.shift - 1.0) * t) * (1.0 - t))

    def g2(self, t: Scalar) -> Scalar:
        k = self.shift
        return m.div(2.0 * k * k * t, (1.0 + (k - 1.0) * t) ** 2 * (1.0 - t))
