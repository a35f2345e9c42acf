"""Tables of betas, as T-step models were trained with, made continuous.

A table b_0 ... b_{T-1} gives alpha_bar_i = prod_{j <= i} (1 - b_j). Here t = (i + 1)/T is index i and
t = 0 is clean data, alpha = 1 exactly; between the nodes log alpha is linear in t, so the process is the
variance-preserving one with a piecewise constant noise rate. With this rule "one step after index 0" is
t = 0 and no end point needs a convention.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from . import maths as m
from .base import VariancePreserving
from .maths import Scalar

__all__ = ["DiscreteBetas"]


@dataclass(frozen=True, eq=False)
class DiscreteBetas(VariancePreserving):
    """A table of T betas, interpolated in log alpha.

    Denoising Diffusion Probabilistic Models (Ho et al., 2020), section 2; index i is t = (i + 1)/T.

    Args:
        betas: T numbers in (0, 1), the first for the first noising step.

    Raises:
        ValueError: for an empty table or a beta outside (0, 1); beta = 1 (no data left at the last step)
            has no log-SNR: use `VPCosine`, which is exactly zero at t = 1.
    """

    betas: tuple[float, ...]

    def __post_init__(self) -> None:
        betas = tuple(float(b) for b in self.betas)
        if not betas:
            raise ValueError("betas is empty; a schedule needs at least one step")
        for i, b in enumerate(betas):
            if not 0.0 < b < 1.0:
                raise ValueError(f"betas[{i}] = {b} is not in (0, 1)")
        object.__setattr__(self, "betas", betas)

    # ------------------------------------------------------------------ the usual tables
    @classmethod
    def linear(cls, beta_start: float = 1e-4, beta_end: float = 0.02, num_steps: int = 1000) -> DiscreteBetas:
        """Betas evenly spaced from `beta_start` to `beta_end` (Ho et al., 2020, section 4)."""
        return cls(_linspace(beta_start, beta_end, num_steps))

    @classmethod
    def quadratic(cls, beta_start: float = 1e-4, beta_end: float = 0.5, num_steps: int = 50) -> DiscreteBetas:
        """Square roots of betas evenly spaced (the "quad" schedule of CSDI, Tashiro et al., 2021)."""
        return cls(tuple(b * b for b in _linspace(math.sqrt(beta_start), math.sqrt(beta_end), num_steps)))

    @classmethod
    def scaled_linear(cls, beta_start: float = 8.5e-4, beta_end: float = 0.012, num_steps: int = 1000) -> DiscreteBetas:
        """Square roots of betas evenly spaced, with latent diffusion's defaults (Rombach et al., 2022)."""
        return cls.quadratic(beta_start, beta_end, num_steps)

    @classmethod
    def squared_cosine(cls, num_steps: int = 1000, max_beta: float = 0.999, s: float = 0.008) -> DiscreteBetas:
        """1 - alpha_bar((i+1)/T)/alpha_bar(i/T), at most `max_beta` (Nichol & Dhariwal, 2021, section 3.2)."""
        if num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {num_steps}")

        def bar(t: float) -> float:
            return math.cos((t + s) / (1.0 + s) * math.pi / 2.0) ** 2

        steps = ((i / num_steps, (i + 1) / num_steps) for i in range(num_steps))
        return cls(tuple(min(1.0 - bar(after) / bar(before), max_beta) for before, after in steps))

    @classmethod
    def from_alphas_cumprod(cls, alphas_cumprod: Iterable[float] | Tensor) -> DiscreteBetas:
        """From a table of alpha_bar (length T, decreasing, below 1), as checkpoints often carry."""
        bars = [float(a) for a in alphas_cumprod]
        return cls(tuple(1.0 - b / a for a, b in zip([1.0, *bars], bars, strict=False)))

    # ------------------------------------------------------------------ tables
    @property
    def num_steps(self) -> int:
        """T, the number of noising steps."""
        return len(self.betas)

    @cached_property
    def log_alphas(self) -> tuple[float, ...]:
        """log alpha at t = 0, 1/T, ..., 1 (T + 1 numbers, the first 0)."""
        return tuple(accumulate((0.5 * math.log1p(-b) for b in self.betas), initial=0.0))

    @cached_property
    def alphas_cumprod(self) -> tuple[float, ...]:
        """alpha_bar_0 ... alpha_bar_{T-1}."""
        return tuple(math.exp(2.0 * v) for v in self.log_alphas[1:])

    @cached_property
    def _table(self) -> Tensor:
        return torch.tensor(self.log_alphas, dtype=torch.float64)

    @cached_property
    def _hash(self) -> int:
        return hash(("DiscreteBetas", self.betas))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, DiscreteBetas) and self.betas == other.betas)

    def __repr__(self) -> str:
        first, last = self.betas[0], self.betas[-1]
        return f"DiscreteBetas(num_steps={self.num_steps}, betas={first:.6g}...{last:.6g})"

    # ------------------------------------------------------------------ index and time
    def time_of_index(self, index: Scalar) -> Scalar:
        """t = (index + 1)/T; index -1 is clean data."""
        return (index + 1) / self.num_steps

    def index_of_time(self, t: Scalar) -> Scalar:
        """The (fractional) index T t - 1 that a T-step network is told."""
        return t * self.num_steps - 1.0

    # ------------------------------------------------------------------ the schedule
    def _segment(self, t: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        """log alpha at the left node, its increment to the right node, and the fraction of the way."""
        u = t * self.num_steps
        if isinstance(t, Tensor):
            table = self._table.to(t.device)
            i = (u.detach() + 1e-9).floor().long().clamp(0, self.num_steps - 1)
            left = table[i].to(t.dtype)
            return left, table[i + 1].to(t.dtype) - left, u - i
        j = min(max(math.floor(u + 1e-9), 0), self.num_steps - 1)
        start = self.log_alphas[j]
        return start, self.log_alphas[j + 1] - start, u - j

    def log_alpha(self, t: Scalar) -> Scalar:
        left, step, fraction = self._segment(t)
        return left + step * fraction

    def drift(self, t: Scalar) -> Scalar:
        return self._segment(t)[1] * self.num_steps

    def time_of_log_alpha(self, value: Scalar) -> Scalar:
        """Inverse of `log_alpha`; values beyond the table give t = 0 or t = 1."""
        top = self.num_steps
        if isinstance(value, Tensor):
            table = self._table.to(value.device)
            v = value.double()
            i = (torch.searchsorted(-table, -v.detach().contiguous(), right=True) - 1).clamp(0, top - 1)
            left = table[i]
            return ((i + ((v - left) / (table[i + 1] - left)).clamp(0.0, 1.0)) / top).to(value.dtype)
        j = min(max(bisect_right(self.log_alphas, -value, key=lambda a: -a) - 1, 0), top - 1)
        start = self.log_alphas[j]
        return (j + m.clip((value - start) / (self.log_alphas[j + 1] - start), 0.0, 1.0)) / top


def _linspace(start: float, end: float, steps: int) -> tuple[float, ...]:
    if steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {steps}")
    return tuple(start + (end - start) * (i / max(steps - 1, 1)) for i in range(steps))
