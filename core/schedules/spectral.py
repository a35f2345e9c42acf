"""Shortest-path diffusion: every frequency has its own schedule, set by the data's power spectrum.

In an orthonormal Fourier basis a Gaussian model of the data has independent coefficients of power C0(f), and
white noise has power 1. Among the paths of covariances between the two the shortest one (Fisher metric) is the
geometric one, power C0^(1-t) at time t, which a variance-preserving process follows if

    alpha^2 = (1 - C0^(1-t))/(1 - C0) = expm1(c (1 - t))/expm1(c),        c = log C0,
    sigma^2 = expm1(-c t)/expm1(-c),                                      (c -> 0: 1 - t and t)

since alpha^2 C0 + sigma^2 = C0^(1-t). Weak (high) frequencies keep their little power longest and drown last
in absolute terms but first relative to the noise: an image loses detail before shape, as with blurring.

The state lives in the basis, the network sees pictures. The basis is the discrete Hartley transform, real part minus
imaginary part of the orthonormal Fourier transform: real, orthonormal, its own inverse, with bin k and bin -k
spanning cosine and sine of the same frequency, in any number of dimensions.

The scalar clock is the log-SNR of an imagined frequency with the geometric mean power, c = mean log C0; for it
v = sigma^2 inverts to t = -log1p(v expm1(-c))/c.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from . import maths as m
from .base import Schedule
from .maths import Scalar

__all__ = ["Hartley", "Spectral"]


@dataclass(frozen=True)
class Hartley:
    """The orthonormal discrete Hartley transform over some axes; its own inverse.

    Args:
        axes: axes counted from the end, as -1 or (-2, -1).
    """

    axes: tuple[int, ...] = (-1,)

    def __post_init__(self) -> None:
        if not self.axes or any(not isinstance(a, int) or a >= 0 for a in self.axes):
            raise ValueError(f"axes must be negative integers, counted from the end, got {self.axes!r}")
        if len(set(self.axes)) != len(self.axes):
            raise ValueError(f"axes repeat: {self.axes!r}")

    def forward(self, x: Tensor) -> Tensor:
        """Coefficients of x, same shape and dtype (half precision is transformed in float32)."""
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        c = torch.fft.fftn(wide, dim=self.axes, norm="ortho")
        return (c.real - c.imag).to(x.dtype)

    def inverse(self, x: Tensor) -> Tensor:
        """The same transform again."""
        return self.forward(x)


@dataclass(frozen=True, eq=False)
class Spectral(Schedule):
    """Shortest-path diffusion from a power spectrum.

    Image Generation with Shortest Path Diffusion (Das et al., 2023).

    Args:
        power: C0 for each coefficient, flattened; positive. White noise of variance 1 has power 1, so data
            should be scaled to a variance near 1.
        shape: shape of `power`, that of one sample; axes of length 1 are shared (channels).
        axes: axes of the transform, counted from the end.

    Raises:
        ValueError: for powers that are not positive, or do not fill the shape.
    """

    power: tuple[float, ...]
    shape: tuple[int, ...]
    axes: tuple[int, ...] = (-1,)
    elementwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if len(self.power) != math.prod(self.shape):
            raise ValueError(f"power has {len(self.power)} numbers, shape {self.shape} needs {math.prod(self.shape)}")
        for i, p in enumerate(self.power):
            if not (math.isfinite(p) and p > 0.0):
                raise ValueError(f"power[{i}] = {p} is not positive and finite")
        if any(-a > len(self.shape) for a in self.axes):
            raise ValueError(f"axes {self.axes} do not exist in samples of shape {self.shape}")
        object.__setattr__(self, "basis", Hartley(self.axes))

    @classmethod
    def from_data(
        cls, x: Tensor, axes: Sequence[int] = (-1,), per_channel: bool = False, floor: float = 1e-6
    ) -> Spectral:
        """Measure the power spectrum of a data set.

        Args:
            x: data (N, *features), scaled to a variance near 1.
            axes: axes of the transform, counted from the end: (-1,) series, (-2, -1) images.
            per_channel: a spectrum for each position of the other axes instead of one shared by all.
            floor: smallest power, relative to the mean, so that empty frequencies stay defined.
        """
        basis = Hartley(tuple(axes))
        if x.ndim < 2 or any(-a >= x.ndim for a in basis.axes):
            raise ValueError(
                f"x must be (N, *features) with the axes {tuple(axes)} among the features, got {tuple(x.shape)}"
            )
        if not bool(torch.isfinite(x).all()):
            raise ValueError("x contains values that are not finite")
        power = basis.forward(x.double()).square().mean(0)
        mirrored = power  # bins k and -k share a frequency
        for a in basis.axes:
            mirrored = mirrored.flip(a).roll(1, a)
        power = 0.5 * (power + mirrored)
        if not per_channel:
            others = [a for a in range(-power.ndim, 0) if a not in basis.axes]
            power = power.mean(others, keepdim=True) if others else power
        mean = float(power.mean())
        if mean <= 0.0:
            raise ValueError("x is zero everywhere: it has no spectrum")
        power = power.clamp(min=floor * mean)
        return cls(tuple(power.flatten().tolist()), tuple(power.shape), basis.axes)

    @classmethod
    def power_law(
        cls, shape: Sequence[int], axes: Sequence[int] = (-1,), c1: float = 1.59, c2: float = 0.0086, m: float = 2.0
    ) -> Spectral:
        """C0(f) = c1/(c2 + |f|)^m with f in cycles per window; the defaults are the paper's fit to images."""
        grid = torch.zeros([1] * len(shape), dtype=torch.float64)
        sizes = [shape[a] if a - len(shape) in tuple(axes) else 1 for a in range(len(shape))]
        for a in axes:
            n = shape[a]
            f = torch.fft.fftfreq(n, 1.0 / n, dtype=torch.float64)
            grid = grid + f.square().reshape([n if b == a % len(shape) else 1 for b in range(len(shape))])
        power = c1 / (c2 + grid.sqrt()) ** m
        return cls(tuple(power.expand(sizes).flatten().tolist()), tuple(sizes), tuple(axes))

    # ------------------------------------------------------------------ tables
    @cached_property
    def _hash(self) -> int:
        return hash(("Spectral", self.power, self.shape, self.axes))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Spectral) and (self.power, self.shape, self.axes) == (
            other.power,
            other.shape,
            other.axes,
        )

    def __repr__(self) -> str:
        return f"Spectral(shape={self.shape}, axes={self.axes}, power={min(self.power):.3g}...{max(self.power):.3g})"

    @cached_property
    def _c(self) -> Tensor:
        return torch.tensor(self.power, dtype=torch.float64).log().reshape(1, *self.shape)

    @cached_property
    def _mean_c(self) -> float:
        return math.fsum(math.log(p) for p in self.power) / len(self.power)

    def _at(self, t: Scalar) -> tuple[Tensor, Scalar]:
        """log C0 as (1, *shape) and t ready to broadcast against it."""
        if not isinstance(t, Tensor):
            return self._c, float(t)
        if t.ndim > 1:
            raise ValueError(f"times of a spectral schedule are per sample, () or (B,), got shape {tuple(t.shape)}")
        return self._c.to(t.device), t.double().reshape(-1, *[1] * len(self.shape))

    # ------------------------------------------------------------------ the schedule
    def alpha(self, t: Scalar) -> Tensor:
        c, u = self._at(t)
        return _share(c, 1.0 - u).sqrt()

    def sigma(self, t: Scalar) -> Tensor:
        c, u = self._at(t)
        return _share(-c, u).sqrt()

    def beta(self, t: Scalar) -> Scalar:
        c, u = self._at(t)
        return torch.zeros_like(c * u)

    def log_snr(self, t: Scalar) -> Tensor:
        c, u = self._at(t)
        return 0.5 * (_share(c, 1.0 - u).log() - _share(-c, u).log())

    def derivatives(self, t: Scalar) -> tuple[Tensor, Tensor, Tensor]:
        c, u = self._at(t)
        a, s = _share(c, 1.0 - u).sqrt(), _share(-c, u).sqrt()
        fall = _share_rate(c, 1.0 - u)
        return -0.5 * fall / a, torch.zeros_like(fall), 0.5 * _share_rate(-c, u) / s

    def drift(self, t: Scalar) -> Tensor:
        c, u = self._at(t)
        return -0.5 * _share_rate(c, 1.0 - u) / _share(c, 1.0 - u)

    def g2(self, t: Scalar) -> Tensor:
        return -2.0 * self.drift(t)

    def prior_std(self, t: Scalar) -> Scalar:
        return m.as_like(1.0, t)

    def time_of_log_snr(self, value: Scalar) -> Any:
        raise TypeError("a Spectral schedule has one log-SNR a frequency: use time_of_clock")

    def clock(self, t: Scalar) -> Scalar:
        """log-SNR of a frequency with the geometric mean power."""
        c = self._mean_c
        if isinstance(t, Tensor):
            u, wide = t.double(), torch.tensor(c, dtype=torch.float64, device=t.device)
            return (0.5 * (_share(wide, 1.0 - u).log() - _share(-wide, u).log())).to(t.dtype)
        return 0.5 * (m.log(_share_float(c, 1.0 - t)) - m.log(_share_float(-c, t)))

    def time_of_clock(self, value: Scalar) -> Scalar:
        c = self._mean_c
        noise, data = m.exp(-m.softplus(2.0 * value)), m.exp(-m.softplus(-2.0 * value))
        if abs(c) < 1e-12:
            return noise
        noisy = 1.0 - m.log1p(data * math.expm1(c)) / c
        clean = -m.log1p(noise * math.expm1(-c)) / c
        return m.where(value > 0.0, clean, noisy)

    def time_of_kappa(self, value: Scalar) -> Scalar:
        return self.time_of_clock(-m.log(value))

    @property
    def t_start(self) -> float:
        return float(self.time_of_clock(self.start_log_snr))


def _share(c: Tensor, u: Any) -> Tensor:
    """expm1(c u)/expm1(c), u where c = 0."""
    c = c.double()
    flat = c.abs() < 1e-12
    safe = torch.where(flat, torch.ones_like(c), c)
    return torch.where(flat, torch.zeros_like(c) + u, torch.expm1(safe * u) / torch.expm1(safe))


def _share_float(c: float, u: float) -> float:
    return u if abs(c) < 1e-12 else math.expm1(c * u) / math.expm1(c)


def _share_rate(c: Tensor, u: Any) -> Tensor:
    """Derivative of `_share` in u: c exp(c u)/expm1(c), 1 where c = 0."""
    flat = c.abs() < 1e-12
    safe = torch.where(flat, torch.ones_like(c), c)
    return torch.where(flat, torch.ones_like(c * u), safe * torch.exp(safe * u) / torch.expm1(safe))
