r"""DDIM and DDPM: one step of the exact solution with a frozen prediction, with more or less noise.

    x_t = alpha_t D + sqrt(sigma_t^2 - sd^2) N + sd z,
    sd^2 = eta^2 (sigma_t^2 / sigma_s^2) (sigma_s^2 - (alpha_s / alpha_t)^2 sigma_t^2)

eta = 0 is DDIM, eta = 1 the ancestral posterior of DDPM. The form with D and N, each taken straight
from the network's output, holds from alpha = 0 to sigma = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .base import Level, LinearSampler, Path
from .exponential import root
from .plan import Row

__all__ = ["DDIM", "DDPM"]


def _transition_variance(s: Level, t: Level) -> Any:
    """Variance of q(x_s | x_t) for t closer to the data: sigma_s^2 - (alpha_s / alpha_t)^2 sigma_t^2."""
    return s.sigma * s.sigma - (s.alpha / t.alpha) ** 2 * t.sigma * t.sigma


def _posterior_sd(s: Level, t: Level) -> Any:
    """Standard deviation of q(x_t | x_s, x0)."""
    return t.sigma / s.sigma * root(_transition_variance(s, t))


@dataclass(frozen=True)
class DDIM(LinearSampler):
    """Denoising diffusion implicit models. Order 1 at eta = 0.

    J. Song, C. Meng, S. Ermon, "Denoising diffusion implicit models", ICLR 2021, equations 12, 16.
    Run on a reversed grid (data to noise) it encodes.

    Args:
        eta: 0 is deterministic, 1 has the variance of DDPM.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.eta <= 1.0:
            raise ValueError(f"eta must lie in [0, 1], got {self.eta}")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0.0

    def rows(self, path: Path) -> Sequence[Sequence[Row]]:
        rows = []
        for k in range(path.steps):
            s, t = path[k], path[k + 1]
            sd = self.eta * _posterior_sd(s, t) if self.eta else 0.0
            out = {"x": {"D": t.alpha, "N": root(t.sigma * t.sigma - sd * sd) if self.eta else t.sigma, "z": sd}}
            rows.append([Row(s.t, t.t, out, step=k, std=sd)])
        return rows


@dataclass(frozen=True)
class DDPM(LinearSampler):
    """Ancestral sampling of denoising diffusion probabilistic models.

    J. Ho, A. Jain, P. Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020, algorithm 2.
    Steps of any length: a coarse grid is the respaced chain. The last step adds no noise.

    Args:
        variance: "small" is the posterior's (beta tilde), "large" the transition's (beta).
    """

    variance: Literal["small", "large"] = "small"

    def __post_init__(self) -> None:
        if self.variance not in ("small", "large"):
            raise ValueError(f'variance must be "small" or "large", got {self.variance!r}')

    @property
    def stochastic(self) -> bool:
        return True

    def rows(self, path: Path) -> Sequence[Sequence[Row]]:
        rows = []
        for k in range(path.steps):
            s, t = path[k], path[k + 1]
            small = _posterior_sd(s, t)
            sd = small if self.variance == "small" else root(_transition_variance(s, t))
            sd = sd * (t.sigma > 0.0)
            out = {"x": {"D": t.alpha, "N": root(t.sigma * t.sigma - small * small), "z": sd}}
            rows.append([Row(s.t, t.t, out, step=k, std=sd)])
        return rows
