r"""Weights of groups of walkers: effective size, mean, and systematic resampling.

For log-weights l_1..l_K of a group, W_k = exp(l_k) / sum_j exp(l_j):

    effective size   1 / sum_k W_k^2, between 1 and K (A. Kong, J. Liu, W. Wong, "Sequential imputations and Bayesian
                     missing data problems", 1994);
    systematic       one uniform u; walker k is copied #{j : C_{k-1} <= (j + u)/K < C_k} times, C the cumulated weights
                     (J. Carpenter, P. Clifford, P. Fearnhead, "Improved particle filter for nonlinear problems", 1999):
                     K W_k copies on average, and never off by one or more.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..noise import Noise

__all__ = ["effective_size", "log_mean", "pick", "systematic", "uniforms"]


def effective_size(log_w: Tensor) -> Tensor:
    """Effective number of walkers, (G,), of log-weights (G, K)."""
    return 1.0 / log_w.softmax(-1).square().sum(-1)


def log_mean(log_w: Tensor) -> Tensor:
    """Logarithm of the mean weight, (G,), of log-weights (G, K)."""
    return log_w.logsumexp(-1) - math.log(log_w.shape[-1])


def _cumulated(log_w: Tensor) -> Tensor:
    c = log_w.softmax(-1).cumsum(-1)
    return c / c[..., -1:]


def systematic(log_w: Tensor, u: Tensor) -> Tensor:
    """Ancestors by systematic resampling.

    Args:
        log_w: log-weights (G, K).
        u: uniforms (G,) in [0, 1).

    Returns:
        long (G, K) of values 0..K-1, ascending in each group.
    """
    k = log_w.shape[-1]
    places = (torch.arange(k, device=log_w.device, dtype=log_w.dtype) + u.to(log_w)[:, None]) / k
    return torch.searchsorted(_cumulated(log_w), places.contiguous(), right=True).clamp_max(k - 1)


def pick(log_w: Tensor, u: Tensor) -> Tensor:
    """One walker a group with the probability of its weight: long (G,), for log-weights (G, K) and uniforms (G,)."""
    places = u.to(log_w)[:, None].contiguous()
    return torch.searchsorted(_cumulated(log_w), places, right=True).clamp_max(log_w.shape[-1] - 1).squeeze(1)


def uniforms(noise: Noise, like: Tensor, group: int, draw: int, role: str = "resample") -> Tensor:
    """One uniform number a group, (G,), from the run's keyed noise (of the first walker of each group).

    Args:
        noise: the run's noise.
        like: any tensor with the batch first.
        group: walkers a group.
        draw: counts the draws of this role.
    """
    z = noise(torch.empty(like.shape[0], 1), draw, role)[::group, 0].double()
    return torch.special.ndtr(z).clamp(0.0, 1.0 - 2.0**-53)
