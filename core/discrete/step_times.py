r"""Importance-sampled steps: the steps whose losses are large and vary are asked for more often.

The bound in T steps is a sum of losses L_k of very different size. With steps drawn with probabilities p_k and losses
divided by T p_k the mean stays what it was,

    E_{k ~ p} [ T L_k / (T p_k) ] = sum_k E L_k,

and the variance is least for p_k ~ sqrt(E L_k^2) (A. Nichol and P. Dhariwal, "Improved denoising diffusion
probabilistic models", ICML 2021, section 3.3). That mean square is estimated on the way as in VQ-Diffusion (S. Gu et
al., CVPR 2022): a history h_k <- 0.9 h_k + 0.1 L_k^2, and uniform steps until every step was seen more than 10 times.

Four things differ from VQ-Diffusion's code. It divides L_k by p_k; here the loss is T L_k already (`discrete_elbo`) and
is divided by T p_k: the same number. It draws with sqrt(h_k) + 1e-4, whose meaning depends on the unit of the loss;
here

    p_k = (1 - eps) sqrt(h_k) / sum_j sqrt(h_j) + eps / T,

so that no loss is multiplied by more than 1 / eps. It gives the first step the probability of the second; here the
first keeps its own, being part of the bound like the others. And a step that occurs several times in a batch adds its
mean square once, so that the order within a batch means nothing.

A loss that is not finite is left out of the history, as if its step had not been drawn: one nan in it would stay for
ever. It stays in the training's loss, where it is noticed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..training.keys import Keys
from .objective import TokenObjective

__all__ = ["ImportanceObjective", "StepTimes"]


class StepTimes(nn.Module):
    """Steps 1..T drawn by the history of their losses, kept in buffers (saved and resumed with a training).

    Args:
        T: number of steps.
        rate: weight of the newest square in the history.
        seen: how often each step must have been seen before the history is used.
        floor: eps, the share of uniform steps.

    Raises:
        ValueError: for settings out of range.
    """

    history: Tensor
    counts: Tensor

    def __init__(self, T: int, rate: float = 0.1, seen: int = 10, floor: float = 0.01) -> None:
        super().__init__()
        if isinstance(T, bool) or not isinstance(T, int) or T < 1:
            raise ValueError(f"T is the number of steps, at least 1; got {T!r}")
        if not 0.0 < rate <= 1.0:
            raise ValueError(f"rate is the weight of the newest square, in (0, 1]; got {rate}")
        if not 0.0 < floor <= 1.0:
            raise ValueError(f"floor is the share of uniform steps, in (0, 1] (0 would leave steps out); got {floor}")
        self.T, self.rate, self.seen, self.floor = T, rate, seen, floor
        self.register_buffer("history", torch.zeros(T, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(T, dtype=torch.long))

    def extra_repr(self) -> str:
        return f"T={self.T}, rate={self.rate}, seen={self.seen}, floor={self.floor}"

    @property
    def ready(self) -> bool:
        """Whether every step was seen often enough."""
        return bool((self.counts > self.seen).all())

    def probs(self) -> Tensor:
        """p_k of the steps 1..T, float64, (T,)."""
        root = self.history.double().sqrt()
        total = root.sum()
        uniform = torch.full_like(root, 1.0 / self.T)
        if not self.ready or not bool(total > 0.0) or not bool(torch.isfinite(total)):
            return uniform
        return (1.0 - self.floor) * root / total + self.floor * uniform

    def draw(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Steps by uniforms, and the factor of their losses.

        Args:
            u: uniforms in (0, 1), float64, (B,).

        Returns:
            k in 1..T, long (B,), and 1 / (T p_k), float64 (B,).
        """
        p = self.probs()
        k = torch.searchsorted(p.cumsum(0), u.to(p), right=True).clamp_max(self.T - 1)
        return k + 1, 1.0 / (self.T * p[k])

    @torch.no_grad()
    def update(self, step: Tensor, loss: Tensor) -> None:
        """Take up losses, of all processes of a distributed training; those that are not finite are left out.

        Args:
            step: k in 1..T, long (B,).
            loss: the loss of each sample before its factor, (B,).
        """
        k = (step - 1).to(self.history.device)
        square = loss.detach().to(k.device, torch.float64).square()
        finite = torch.isfinite(square)
        sums = torch.zeros(2, self.T, dtype=torch.float64, device=k.device)
        sums[0].index_add_(0, k, torch.where(finite, square, 0.0))
        sums[1].index_add_(0, k, finite.double())
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
        new = sums[1] > 0
        mean = sums[0] / sums[1].clamp_min(1.0)
        self.history.copy_(torch.where(new, (1.0 - self.rate) * self.history + self.rate * mean, self.history))
        self.counts.add_(sums[1].long())


class ImportanceObjective(nn.Module):
    """A discrete objective whose training steps are drawn by importance.

    A module, so that the history is part of a training's saved state: killed and resumed it is the same training.
    Validation takes the objective as it is, at uniform steps, so that its losses compare.

    Args:
        objective: a `TokenObjective` (or one that derives from it) with loss="discrete".
        rate, seen, floor: of `StepTimes`.

    Raises:
        TypeError, ValueError: for objectives that have no steps, or times of their own.
    """

    def __init__(self, objective: TokenObjective, *, rate: float = 0.1, seen: int = 10, floor: float = 0.01) -> None:
        super().__init__()
        if not isinstance(objective, TokenObjective):
            raise TypeError(f"ImportanceObjective draws the steps of a TokenObjective, got {type(objective).__name__}")
        if objective.loss != "discrete":
            raise ValueError('importance is that of steps: use TokenObjective("discrete", T=...)')
        if objective.times is not None:
            raise ValueError(f"steps are drawn by importance here: leave out times={objective.times!r}")
        self.objective = objective
        self.times = StepTimes(objective.steps, rate, seen, floor)

    def forward(self, denoiser: Any, batch: Any, keys: Keys, *, training: bool = True) -> Tensor:
        """The loss of each sample, (B,); in training times 1 / (T p_k)."""
        if not training:
            return self.objective(denoiser, batch, keys, training=False)
        u = (keys.stratum + keys.uniforms("time")[:, 0]) / keys.strata
        step, factor = self.times.draw(u)
        loss = self.objective.at(denoiser, batch, keys, step.double() / self.objective.steps)
        self.times.update(step, loss)
        return loss * factor.to(loss)
