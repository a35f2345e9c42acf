r"""How long a token keeps its value: alpha(t), the probability that nothing has happened to it by time t.

alpha falls from 1 at t = 0 (data) to next to nothing at t = 1. Samplers and losses need its complement, the fraction
`lost` = 1 - alpha, near t = 0, where 1 - alpha cancels; so every schedule states `lost` in closed form, with its
derivative and its inverse:

===============  =============================  ==================================================================
schedule         alpha                          where it is used
===============  =============================  ==================================================================
`Linear`         1 - t                          masked diffusion (J. Austin et al., D3PM, NeurIPS 2021; S. Sahoo et
                                                al., MDLM, NeurIPS 2024); every other one is a change of its clock
`LogLinear`      1 - (1 - eps) t                MDLM: total noise -log alpha = -log(1 - (1 - eps) t)
`Cosine`         1 - sin(pi t / 2)              H. Chang et al., MaskGIT, CVPR 2022; J. Shi et al., MD4, NeurIPS 2024
`CosineSquared`  cos(pi t / 2)^2                the kinetic-optimal mixture path (N. Shaul et al., "Flow matching with
                                                general discrete paths", ICLR 2025); shifted: images and graphs
`CosineShifted`  cos h(t) / cos h(0),           h(t) = (pi / 2) (t + a) / (1 + a): the cosine schedule of images (A.
                                                Nichol and P. Dhariwal, ICML 2021) *not* squared, as L. Zhao et al.
                                                take it for graphs (PARD, NeurIPS 2024)
`Exponential`    exp(-s t)                      total noise linear in time; does not reach 0
`Table`          any, between nodes linear      chains of T steps given by their table of alphas
===============  =============================  ==================================================================

The law of samples at the data end does not depend on the schedule where the network is exact; how the steps of a
sampler are spread over the tokens does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..schedules import maths as m
from ..schedules.maths import Scalar

__all__ = ["Cosine", "CosineShifted", "CosineSquared", "Exponential", "Keep", "Linear", "LogLinear", "Table", "keep_of"]


@dataclass(frozen=True)
class Keep:
    """Base: functions of a time that is a float or a float64 tensor, of its kind and shape."""

    def lost(self, t: Scalar) -> Scalar:
        """1 - alpha(t), without cancellation."""
        raise NotImplementedError

    def speed(self, t: Scalar) -> Scalar:
        """d lost / dt."""
        raise NotImplementedError

    def time_of_lost(self, value: Scalar) -> Scalar:
        """The time at which lost = value."""
        raise NotImplementedError

    def alpha(self, t: Scalar) -> Scalar:
        """Probability that a token is still the data's."""
        return 1.0 - self.lost(t)


@dataclass(frozen=True)
class Linear(Keep):
    """alpha = 1 - t."""

    def lost(self, t: Scalar) -> Scalar:
        return 1.0 * t

    def speed(self, t: Scalar) -> Scalar:
        return m.as_like(1.0, t)

    def time_of_lost(self, value: Scalar) -> Scalar:
        return 1.0 * value


@dataclass(frozen=True)
class LogLinear(Keep):
    """alpha = 1 - (1 - eps) t.

    Args:
        eps: alpha at t = 1, in [0, 1).
    """

    eps: float = 1e-3

    def __post_init__(self) -> None:
        if not 0.0 <= self.eps < 1.0:
            raise ValueError(f"eps is what is left of the data at t = 1, in [0, 1); got {self.eps}")

    def lost(self, t: Scalar) -> Scalar:
        return (1.0 - self.eps) * t

    def speed(self, t: Scalar) -> Scalar:
        return m.as_like(1.0 - self.eps, t)

    def time_of_lost(self, value: Scalar) -> Scalar:
        return value / (1.0 - self.eps)


@dataclass(frozen=True)
class Cosine(Keep):
    """alpha = 1 - sin(pi t / 2): most tokens are decided late, when much is known already."""

    def lost(self, t: Scalar) -> Scalar:
        return m.sin(0.5 * math.pi * t)

    def speed(self, t: Scalar) -> Scalar:
        return 0.5 * math.pi * m.cos(0.5 * math.pi * t)

    def time_of_lost(self, value: Scalar) -> Scalar:
        return m.asin(value) / (0.5 * math.pi)

    def alpha(self, t: Scalar) -> Scalar:
        return 2.0 * m.sin(0.25 * math.pi * (1.0 - t)) ** 2


@dataclass(frozen=True)
class CosineSquared(Keep):
    """alpha = cos(h(t))^2 / cos(h(0))^2 with h(t) = (pi / 2) (t + a) / (1 + a).

    Args:
        a: the shift, >= 0: 0.008 in images (A. Nichol and P. Dhariwal, "Improved denoising diffusion probabilistic
            models", ICML 2021) and graphs (C. Vignac et al., DiGress, ICLR 2023). With it alpha is not flat at t = 0.
    """

    a: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.a) and self.a >= 0.0):
            raise ValueError(f"the shift a must be finite and not negative, got {self.a}")

    @property
    def _speed(self) -> float:
        """dh / dt."""
        return 0.5 * math.pi / (1.0 + self.a)

    @property
    def _start(self) -> float:
        """h(0)."""
        return self._speed * self.a

    def lost(self, t: Scalar) -> Scalar:
        d = self._speed * t  # cos^2 h(0) - cos^2 h(t) = sin(h(t) - h(0)) sin(h(t) + h(0))
        return m.sin(d) * m.sin(2.0 * self._start + d) / math.cos(self._start) ** 2

    def speed(self, t: Scalar) -> Scalar:
        return self._speed / math.cos(self._start) ** 2 * m.sin(2.0 * (self._start + self._speed * t))

    def time_of_lost(self, value: Scalar) -> Scalar:
        c, s = math.cos(self._start), math.sin(self._start)
        if self.a == 0.0:
            return m.asin(m.sqrt(value)) / self._speed
        # sin(h(t) - h(0)) = root c - s cos h(t), with sin h(t) = root; as a quotient, in which nothing cancels
        root, left = m.sqrt(s * s + c * c * value), c * m.sqrt(1.0 - value)
        return m.asin(c * c * value / (root * c + s * left)) / self._speed

    def alpha(self, t: Scalar) -> Scalar:
        return (m.sin(self._speed * (1.0 - t)) / math.cos(self._start)) ** 2


@dataclass(frozen=True)
class CosineShifted(Keep):
    """alpha = cos h(t) / cos h(0) with h(t) = (pi / 2) (t + a) / (1 + a).

    With d = h(t) - h(0), lost = 2 sin(h(0) + d / 2) sin(d / 2) / cos h(0); in tau = tan(d / 2) that is a quadratic
    equation, whose root is written so that nothing cancels near the data.

    Args:
        a: the shift, positive; without it alpha is flat at t = 0.
    """

    a: float = 0.008

    def __post_init__(self) -> None:
        if not (math.isfinite(self.a) and self.a > 0.0):
            raise ValueError(f"the shift a must be positive and finite, got {self.a}")

    @property
    def _speed(self) -> float:
        """dh / dt."""
        return 0.5 * math.pi / (1.0 + self.a)

    @property
    def _start(self) -> float:
        """h(0)."""
        return self._speed * self.a

    def lost(self, t: Scalar) -> Scalar:
        half = 0.5 * self._speed * t
        return 2.0 / math.cos(self._start) * m.sin(self._start + half) * m.sin(half)

    def speed(self, t: Scalar) -> Scalar:
        return self._speed / math.cos(self._start) * m.sin(self._start + self._speed * t)

    def time_of_lost(self, value: Scalar) -> Scalar:
        c, s = math.cos(self._start), math.sin(self._start)
        tau = c * value / (s + m.sqrt(s * s + c * c * value * (2.0 - value)))
        return 2.0 / self._speed * m.atan(tau)

    def alpha(self, t: Scalar) -> Scalar:
        return m.sin(self._speed * (1.0 - t)) / math.cos(self._start)


@dataclass(frozen=True)
class Exponential(Keep):
    """alpha = exp(-s t).

    Args:
        s: total noise at t = 1, positive; exp(-s) of the data is left there.
    """

    s: float = 10.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.s) and self.s > 0.0):
            raise ValueError(f"the total noise s must be positive and finite, got {self.s}")

    def lost(self, t: Scalar) -> Scalar:
        return 0.0 - m.expm1(-self.s * t)

    def speed(self, t: Scalar) -> Scalar:
        return self.s * m.exp(-self.s * t)

    def time_of_lost(self, value: Scalar) -> Scalar:
        return m.log1p(0.0 - value) / -self.s

    def alpha(self, t: Scalar) -> Scalar:
        return m.exp(-self.s * t)


@dataclass(frozen=True)
class Table(Keep):
    """alpha at t = 0, 1/T, ..., 1, linear in between.

    Args:
        alphas: T + 1 numbers, strictly decreasing from 1 at t = 0.
    """

    alphas: tuple[float, ...]

    def __post_init__(self) -> None:
        values = tuple(float(a) for a in self.alphas)
        if len(values) < 2 or values[0] != 1.0 or values[-1] < 0.0:
            raise ValueError(
                f"a table of alphas has T + 1 >= 2 numbers from alpha = 1 down to alpha >= 0, got {len(values)} from "
                f"{values[0] if values else None} to {values[-1] if values else None}"
            )
        for k in range(len(values) - 1):
            if not values[k + 1] < values[k]:
                raise ValueError(f"alphas must fall: alphas[{k}] = {values[k]}, alphas[{k + 1}] = {values[k + 1]}")
        object.__setattr__(self, "alphas", values)

    @cached_property
    def _nodes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Times, fractions lost, and slopes in between."""
        times, lost = np.linspace(0.0, 1.0, len(self.alphas)), 1.0 - np.array(self.alphas)
        return times, lost, np.diff(lost) / np.diff(times)

    def lost(self, t: Scalar) -> Scalar:
        times, lost, _ = self._nodes
        return _of_kind(np.interp(_numbers(t), times, lost), t)

    def speed(self, t: Scalar) -> Scalar:
        times, _, slopes = self._nodes
        return _of_kind(slopes[np.searchsorted(times[1:-1], _numbers(t))], t)

    def time_of_lost(self, value: Scalar) -> Scalar:
        times, lost, _ = self._nodes
        return _of_kind(np.interp(_numbers(value), lost, times), value)


def _numbers(x: Scalar) -> Any:
    return x.detach().cpu().numpy() if isinstance(x, Tensor) else x


def _of_kind(y: Any, like: Scalar) -> Scalar:
    return torch.as_tensor(y, dtype=like.dtype, device=like.device) if isinstance(like, Tensor) else float(y)


_NAMES = {
    "linear": Linear,
    "log_linear": LogLinear,
    "cosine": Cosine,
    "cosine_squared": CosineSquared,
    "cosine_shifted": CosineShifted,
}


def keep_of(keep: Keep | str) -> Keep:
    """A schedule from its name: "linear", "log_linear", "cosine", "cosine_squared" or "cosine_shifted".

    Raises:
        TypeError, ValueError: for anything that is neither a schedule nor one of these.
    """
    if isinstance(keep, Keep):
        return keep
    if not isinstance(keep, str):
        raise TypeError(f"keep must be a schedule such as Linear(), or its name; got {keep!r}")
    if keep not in _NAMES:
        raise ValueError(f"unknown schedule {keep!r}; expected one of {', '.join(_NAMES)}, or a schedule object")
    return _NAMES[keep]()
