"""PFGM++: the EDM process with Student-t noise.

Augmenting N-dimensional data by D coordinates and following the electric field of the data, as charges, from
radius r = sigma sqrt(D) gives the perturbation kernel p(x | x0) ~ (|x - x0|^2 + r^2)^(-(N + D)/2). That is a
multivariate Student-t with D degrees of freedom and scale sigma: Gaussian noise divided by one random number
a sample,

    x = x0 + sigma n,   n = z / sqrt(tau),   z ~ N(0, 1)^N,   tau ~ Gamma(D/2, rate D/2).

As D grows tau tends to 1 and the process to EDM; small D has heavy tails and forgives errors of the
network. Training and the deterministic samplers are those of EDM with this noise. There is no Gaussian score, so
stochastic samplers refuse (`family` is "student").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from .variance_exploding import EDM

__all__ = ["PFGMpp"]


@dataclass(frozen=True)
class PFGMpp(EDM):
    """EDM's noise levels with multivariate Student-t noise of D degrees of freedom.

    PFGM++: Unlocking the Potential of Physics-Inspired Generative Models (Xu et al., 2023), sections 3-4.

    Args:
        sigma_min: smallest noise scale that grids visit before zero.
        sigma_max: noise scale at t = 1.
        D: number of augmented dimensions, a positive whole number; 128 to 2048 in the paper.
    """

    D: int = 128
    family: ClassVar[Literal["gaussian", "student"]] = "student"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.D < 1 or int(self.D) != self.D:
            raise ValueError(f"D is a number of dimensions, a positive whole number; got {self.D}")
        object.__setattr__(self, "D", int(self.D))

    def noise_scale(self, tau: Tensor) -> Tensor:
        """1/sqrt(tau), the factor of the Gaussian noise for draws tau ~ Gamma(D/2, rate D/2)."""
        return tau.rsqrt()

    def draw_noise_scale(
        self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> Tensor:
        """n independent factors 1/sqrt(tau), shape (n,): one a sample, the same for all its elements."""
        shape = torch.full((n,), 0.5 * self.D, dtype=dtype, device=device)
        return self.noise_scale(torch._standard_gamma(shape, generator=generator) / (0.5 * self.D))
