r"""Data whose diffusion is known in closed form: the truth that samplers are held to.

For a mixture of isotropic Gaussians, x0 ~ sum_k w_k N(mu_k, c_k^2 I), the state at time t is again a
mixture with means alpha mu_k (+ beta y) and variances v_k = alpha^2 c_k^2 + sigma^2, and

    E[x0 | x] = sum_k r_k (mu_k + alpha c_k^2 / v_k (z - alpha mu_k)),      z = x - beta y,
    r = softmax(log w_k - (d/2) log v_k - |z - alpha mu_k|^2 / (2 v_k)).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .denoisers import Denoiser
from .schedules import Schedule
from .spaces import expand

__all__ = ["GaussianMixture"]


class GaussianMixture:
    """A mixture of K isotropic Gaussians in d dimensions.

    Args:
        means: (K, d).
        stds: (K,) positive.
        weights: (K,) positive; normalised here. Default: equal.

    Raises:
        ValueError: on shapes that do not fit or values that are not positive.
    """

    def __init__(self, means: Tensor, stds: Tensor, weights: Tensor | None = None) -> None:
        means, stds = torch.as_tensor(means, dtype=torch.float64), torch.as_tensor(stds, dtype=torch.float64)
        weights = torch.ones(len(means), dtype=torch.float64) if weights is None else torch.as_tensor(weights).double()
        if means.ndim != 2 or stds.shape != means.shape[:1] or weights.shape != stds.shape:
            raise ValueError(
                f"need means (K, d), stds (K,), weights (K,); got {tuple(means.shape)}, {tuple(stds.shape)}, "
                f"{tuple(weights.shape)}"
            )
        if bool((stds <= 0).any()) or bool((weights <= 0).any()):
            raise ValueError("stds and weights must be positive")
        self.means, self.stds, self.weights = means, stds, weights / weights.sum()

    def __repr__(self) -> str:
        return f"GaussianMixture(components={len(self.stds)}, dimension={self.means.shape[1]})"

    @classmethod
    def example(cls) -> GaussianMixture:
        """Three components in the plane: the standard test of this package."""
        return cls(
            torch.tensor([[1.2, 0.4], [-0.9, 0.8], [0.1, -1.1]]),
            torch.tensor([0.35, 0.5, 0.4]),
            torch.tensor([0.4, 0.35, 0.25]),
        )

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n exact draws, (n, d), float64."""
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        z = torch.randn(n, self.means.shape[1], generator=generator, dtype=torch.float64)
        return self.means[k] + self.stds[k, None] * z

    def _components(self, z: Tensor, a: Any, s: Any) -> tuple[Tensor, Tensor, Tensor]:
        """log(w_k N_k(z)) of shape (B, K), differences (B, K, d) and variances (B or 1, K)."""
        if not isinstance(a, Tensor):
            a, s = torch.tensor(a, dtype=torch.float64), torch.tensor(s, dtype=torch.float64)
        a, s = a.to(z).reshape(-1, 1), s.to(z).reshape(-1, 1)
        means, stds, weights = self.means.to(z), self.stds.to(z), self.weights.to(z)
        v = a * a * stds * stds + s * s
        d = z[:, None, :] - a[..., None] * means
        log = weights.log() - 0.5 * means.shape[1] * (2 * math.pi * v).log() - d.square().sum(-1) / (2 * v)
        return log, d, v

    def log_prob(self, x: Tensor, schedule: Schedule | None = None, t: Any = 0.0) -> Tensor:
        """log density of the state at time t (of the data without a schedule), shape (B,)."""
        a, s = (1.0, 0.0) if schedule is None else (schedule.alpha(t), schedule.sigma(t))
        return self._components(x, a, s)[0].logsumexp(1)

    def data(self, z: Tensor, a: Any, s: Any) -> Tensor:
        """E[x0 | z] for z = a x0 + s n, shape (B, d)."""
        log, d, v = self._components(z, a, s)
        a = expand(a, z) if isinstance(a, Tensor) else a
        stds = self.stds.to(z)
        gain = (a * stds * stds / v)[..., None]
        means = self.means.to(z) + gain * d
        return (log.softmax(1)[..., None] * means).sum(1)

    def denoiser(self, schedule: Schedule) -> Denoiser:
        """The exact denoiser for `schedule` (its "network" predicts data)."""

        def network(x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
            a, s = schedule.alpha(t.double()), schedule.sigma(t.double())
            z = x if y is None else x - expand(schedule.beta(t.double()), x) * y
            return self.data(z, a, s)

        return Denoiser(network, schedule, "data", label=_time)


def _time(schedule: Schedule, t: Any) -> Any:
    """Tell the network the time itself."""
    return t
