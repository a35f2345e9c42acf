r"""At which times a denoiser is trained: each sampler is a map from uniform numbers to times.

If u is uniform on (0, 1), then t = Q(u) has the distribution whose quantile function is Q. Writing the samplers as such
maps keeps them free of random state: the same map serves keyed uniforms (training), streamed ones (a plain loop) and
stratified ones. Time runs from 0 (data) to 1 (noise).

==================  =======================================================================================
`Uniform`           t = low + (high - low) u
`Discrete`          t = (floor(T u) + 1) / T: the times of a schedule of T betas
`LogitNormal`       logit t ~ N(m, s^2). P. Esser et al., "Scaling rectified flow transformers for
                    high-resolution image synthesis" (SD3), ICML 2024
`Mode`              t = 1 - u - s (cos^2(pi u / 2) - 1 + u), same paper
`Shifted`           t -> k t / (1 + (k - 1) t) after any other sampler, same paper
`EDMLogNormal`      log(sigma/alpha) ~ N(-1.2, 1.2^2). T. Karras et al., "Elucidating the design space of
                    diffusion-based generative models", NeurIPS 2022, table 1
`Stratified`        u of the j-th of G samples is drawn from [j/G, (j+1)/G): fewer clusters, lower variance
`PerElement`        with probability p each element has its own time, else all share one. FVDM: Y. Liu et
                    al., "Redefining temporal modeling in video diffusion: the vectorized timestep
                    approach", 2024
==================  =======================================================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "Discrete",
    "EDMLogNormal",
    "LogitNormal",
    "Mode",
    "PerElement",
    "Shifted",
    "Stratified",
    "TimeSampler",
    "Uniform",
    "hold_known",
]

_TINY = 2.0**-54


class TimeSampler:
    """Base class. A sampler of one time a sample only writes `quantile`."""

    per_element: bool = False

    def quantile(self, u: Tensor) -> Tensor:
        """Times, elementwise, from uniforms u in (0, 1), float64."""
        raise NotImplementedError

    def columns(self, length: int) -> int:
        """How many uniforms a sample of `length` elements needs."""
        return 1

    def times(self, u: Tensor, stratum: Tensor | None = None, strata: int = 1) -> Tensor:
        """Times (B,), or (B, L) if `per_element`, from uniforms u (B, columns).

        Args:
            u: uniforms in (0, 1), float64.
            stratum: place of each sample in the global batch, (B,); read by `Stratified` only.
            strata: size of the global batch.
        """
        return self.quantile(u[:, 0])

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Times of `shape` (B,), or (B, L) if `per_element`, for a plain training loop; float64."""
        if len(shape) != 1 + self.per_element:
            raise ValueError(f"{self!r} draws times of shape {'(B, L)' if self.per_element else '(B,)'}, got {shape}")
        batch, length = shape[0], shape[-1] if self.per_element else 1
        u = torch.rand(batch, self.columns(length), generator=generator, dtype=torch.float64).clamp_(min=_TINY)
        return self.times(u, torch.arange(batch, dtype=torch.float64), batch)


@dataclass(frozen=True)
class Uniform(TimeSampler):
    """Uniform on [low, high]."""

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.low < self.high <= 1.0:
            raise ValueError(f"times need 0 <= low < high <= 1, got low={self.low}, high={self.high}")

    def quantile(self, u: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * u


@dataclass(frozen=True)
class Discrete(TimeSampler):
    """The T times (i + 1)/T of a discrete schedule, equally likely."""

    T: int

    def __post_init__(self) -> None:
        if self.T < 1:
            raise ValueError(f"a discrete schedule has at least one step, got T={self.T}")

    def quantile(self, u: Tensor) -> Tensor:
        return ((self.T * u).floor() + 1).clamp(max=self.T) / self.T


@dataclass(frozen=True)
class LogitNormal(TimeSampler):
    """t = sigmoid(m + s n), n standard normal; SD3's default is m = 0, s = 1."""

    m: float = 0.0
    s: float = 1.0

    def __post_init__(self) -> None:
        if not self.s > 0:
            raise ValueError(f"the scale s of a logit-normal is positive, got {self.s}")

    def quantile(self, u: Tensor) -> Tensor:
        return torch.sigmoid(self.m + self.s * torch.special.ndtri(u))


@dataclass(frozen=True)
class Mode(TimeSampler):
    """SD3's mode sampling with heavy tails; monotone for -1 <= s <= 2/(pi - 2)."""

    s: float = 1.29

    def __post_init__(self) -> None:
        if not -1.0 <= self.s <= 2.0 / (math.pi - 2.0):
            raise ValueError(f"mode sampling needs -1 <= s <= 2/(pi - 2) = 1.7519, got {self.s}")

    def quantile(self, u: Tensor) -> Tensor:
        t = 1 - u - self.s * (torch.cos(math.pi / 2 * u).square() - 1 + u)
        return t.clamp(0.0, 1.0)


@dataclass(frozen=True)
class Shifted(TimeSampler):
    """Times of `base`, moved towards noise (k > 1): t -> k t / (1 + (k - 1) t); SD3 uses k = 3 at high resolution."""

    base: TimeSampler
    k: float = 3.0

    def __post_init__(self) -> None:
        if not self.k > 0:
            raise ValueError(f"the time shift k is positive, got {self.k}")
        _refuse_nesting(self, self.base)

    def quantile(self, u: Tensor) -> Tensor:
        t = self.base.quantile(u)
        return self.k * t / (1 + (self.k - 1) * t)


@dataclass(frozen=True)
class EDMLogNormal(TimeSampler):
    """log(sigma/alpha) ~ N(mean, std^2), restricted to the noise levels that the schedule reaches.

    Args:
        schedule: turns the level into a time by its clock, `time_of_clock`.
        mean, std: P_mean and P_std of EDM, table 1.
    """

    schedule: Any
    mean: float = -1.2
    std: float = 1.2
    _range: tuple[float, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"the standard deviation of log sigma is positive, got {self.std}")
        low, high = (-float(self.schedule.clock(t)) for t in (0.0, 1.0))
        cdf = torch.special.ndtr((torch.tensor([low, high], dtype=torch.float64) - self.mean) / self.std)
        if not cdf[1] - cdf[0] > 1e-6:
            raise ValueError(
                f"log sigma ~ N({self.mean}, {self.std}^2) misses the schedule's range [{low:.3g}, {high:.3g}] of "
                "log(sigma/alpha): choose another mean or another schedule"
            )
        object.__setattr__(self, "_range", (float(cdf[0]), float(cdf[1])))

    def quantile(self, u: Tensor) -> Tensor:
        low, high = self._range
        log_sigma = self.mean + self.std * torch.special.ndtri(low + (high - low) * u)
        return torch.as_tensor(self.schedule.time_of_clock(-log_sigma)).clamp(0.0, 1.0)


@dataclass(frozen=True)
class Stratified(TimeSampler):
    """Times of `base`, one in each of G equal strata of probability, G the size of the global batch."""

    base: TimeSampler = field(default_factory=Uniform)

    def __post_init__(self) -> None:
        _refuse_nesting(self, self.base)

    def quantile(self, u: Tensor) -> Tensor:
        return self.base.quantile(u)

    def times(self, u: Tensor, stratum: Tensor | None = None, strata: int = 1) -> Tensor:
        if stratum is None:
            raise ValueError("stratified times need the place of each sample in the batch: pass `stratum` and `strata`")
        return self.base.quantile((stratum.to(u) + u[:, 0]) / strata)


@dataclass(frozen=True)
class PerElement(TimeSampler):
    """With probability `p` independent times of `base` for all elements of a sample, else one time for all of them.

    Args:
        base: any sampler of one time (also `Stratified`: then the shared time is stratified).
        p: FVDM trains with 0.2.
    """

    base: TimeSampler = field(default_factory=Uniform)
    p: float = 0.2

    per_element = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.p <= 1.0:
            raise ValueError(f"p is a probability, got {self.p}")
        if self.base.per_element:
            raise TypeError(f"PerElement needs a sampler of one time a sample, got {self.base!r}")

    def quantile(self, u: Tensor) -> Tensor:
        return self.base.quantile(u)

    def columns(self, length: int) -> int:
        return 2 + length

    def times(self, u: Tensor, stratum: Tensor | None = None, strata: int = 1) -> Tensor:
        shared = self.base.times(u[:, 1:2], stratum, strata)
        return torch.where(u[:, :1] < self.p, self.base.quantile(u[:, 2:]), shared[:, None])


def hold_known(t: Tensor, known: Tensor) -> Tensor:
    """Times (B, L) that are 0 (data) at the known elements: FVDM's training for continuation and in-betweening.

    Args:
        t: (B,) or (B, L).
        known: boolean (B, L), True = given as clean data.

    Raises:
        TypeError: if `known` is not boolean.
        ValueError: if the shapes do not fit.
    """
    if known.dtype != torch.bool:
        raise TypeError(f"known must be a boolean tensor (True = given), got {known.dtype}; use known.bool()")
    if known.ndim != 2 or known.shape[: t.ndim] != t.shape:
        raise ValueError(f"known must have shape (B, L) and fit t {tuple(t.shape)}, got {tuple(known.shape)}")
    t = t if t.ndim == 2 else t[:, None].expand(known.shape)
    return torch.where(known.to(t.device), t.new_zeros(()), t)


def _refuse_nesting(outer: TimeSampler, base: TimeSampler) -> None:
    if base.per_element or isinstance(base, Stratified):
        name = type(outer).__name__
        raise TypeError(
            f"{name} needs a sampler of one time a sample, got {base!r}: write PerElement and Stratified outside"
        )
