"""Predictions that are sure: all probability at one token."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["certain"]


def certain(log_probs: Tensor, tokens: Tensor) -> Tensor:
    """log p of being sure of `tokens`: 0 at them, -inf elsewhere.

    Args:
        log_probs: whose shape (..., S), type and device are taken.
        tokens: token ids (...), long.
    """
    return torch.full_like(log_probs, -torch.inf).scatter(-1, tokens.unsqueeze(-1), 0.0)
