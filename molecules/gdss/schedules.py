r"""The diffusion processes of :mod:`.model`, one a leaf of the state (X, A).

    VP(b0, b1)      log alpha = -t b0/2 - t^2 (b1 - b0)/4,  sigma^2 = 1 - alpha^2
    subVP(b0, b1)   the same alpha,                         sigma = 1 - alpha^2
    VE(s0, s1)      alpha = 1,                              sigma = s0 (s1/s0)^t

VP and subVP are those of the core. The core's VE starts from clean data, sigma(0) = 0 without a jump; the published
code of GDSS writes s0 (s1/s0)^t for the spread of p_t, which leaves the noise s0 in the data (s0 is 0.1 or 0.2: a lot)
and takes it away in the last update, from s0 to 0. :class:`GeometricVE` is that process, with sigma(0) = 0 where the
data are.

**What the published constants mean.** With b from 0.1 to 1 the state at t = 1 is x_1 = 0.76 x_0 + 0.65 n, and under
VE with s1 = 1 it is x_0 + n. Neither is the noise N(0, I) that sampling starts from. :mod:`.model` can start from a
Gaussian with the mean and the variance of p_1 instead (``start="moments"``), or be given a process that does end in
noise, such as ``("VP", 0.1, 20.0)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ...core.schedules import ProductSchedule, Schedule, SubVP, VPLinear
from ...core.schedules import maths as m
from ...core.schedules.base import positive
from ...core.schedules.maths import Scalar

__all__ = ["GeometricVE", "Process", "Processes", "schedule_of", "schedules_of"]

Processes = Literal["VP", "VE", "subVP"]
Process = tuple[Processes, float, float]
"""Name, and its constant at t = 0 and at t = 1: noise rates of VP and subVP, noise levels of VE."""


@dataclass(frozen=True)
class GeometricVE(Schedule):
    """sigma = sigma_min (sigma_max / sigma_min)^t for t > 0, and no noise at t = 0; alpha = 1.

    Y. Song et al., "Score-based generative modeling through stochastic differential equations", ICLR 2021, as its
    levels are commonly written; the last step, from sigma_min to nothing, is a jump to the data prediction.

    Args:
        sigma_min: level as t goes to 0.
        sigma_max: level at t = 1.
    """

    sigma_min: float = 0.1
    sigma_max: float = 1.0

    def __post_init__(self) -> None:
        positive("sigma_min", self.sigma_min)
        positive("sigma_max", self.sigma_max)
        if self.sigma_max <= self.sigma_min:
            raise ValueError(f"sigma_max must be above sigma_min={self.sigma_min}, got {self.sigma_max}")

    @property
    def _rate(self) -> float:
        """log r."""
        return math.log(self.sigma_max / self.sigma_min)

    def alpha(self, t: Scalar) -> Scalar:
        return m.as_like(1.0, t)

    def sigma(self, t: Scalar) -> Scalar:
        level = self.sigma_min * m.exp(self._rate * t)
        if isinstance(t, Tensor):
            return torch.where(t > 0, level, torch.zeros_like(level))
        return level if t > 0 else 0.0

    def kappa(self, t: Scalar) -> Scalar:
        return self.sigma(t)

    def log_snr(self, t: Scalar) -> Scalar:
        return -m.log(self.sigma(t))

    def drift(self, t: Scalar) -> Scalar:
        return m.as_like(0.0, t)

    def g2(self, t: Scalar) -> Scalar:
        return 2.0 * self._rate * self.sigma_min**2 * m.exp(2.0 * self._rate * t)

    def derivatives(self, t: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        zero = m.as_like(0.0, t)
        return zero, zero, self._rate * self.sigma_min * m.exp(self._rate * t)

    def time_of_kappa(self, value: Scalar) -> Scalar:
        return m.log(value / self.sigma_min) / self._rate

    def time_of_log_snr(self, value: Scalar) -> Scalar:
        return self.time_of_kappa(m.exp(-value))


def schedule_of(process: Process, leaf: str = "the process") -> Schedule:
    """The schedule of a process.

    Raises:
        ValueError: an unknown name, or constants out of range or order.
    """
    if not isinstance(process, tuple) or len(process) != 3:
        raise ValueError(f"{leaf} is a name and two numbers, such as ('VP', 0.1, 1.0), got {process!r}")
    name, low, high = process
    if name not in get_args(Processes):
        raise ValueError(f"{leaf} must be one of {', '.join(get_args(Processes))}, got {name!r}")
    return {"VP": VPLinear, "VE": GeometricVE, "subVP": SubVP}[name](low, high)


def schedules_of(x: Process, a: Process) -> ProductSchedule:
    """The schedules of both leaves."""
    return ProductSchedule(X=schedule_of(x, "x_process"), A=schedule_of(a, "a_process"), clock="X")
