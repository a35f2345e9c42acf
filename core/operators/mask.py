"""Seen and unseen elements: inpainting, missing values."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from .base import SVD, LinearOperator

__all__ = ["Mask"]


class Mask(LinearOperator):
    """Some elements are seen, the others are not (inpainting, missing values); unseen ones read zero.

    Args:
        mask: boolean, True = seen; the shape of one sample, or (B, ...) of a batch with `batched`.
        batched: whether the mask's first dimension is the batch.
        leaf: the measured leaf of a product state.

    Raises:
        TypeError: if the mask is not boolean.
        ValueError: if nothing is seen.
    """

    def __init__(self, mask: Tensor, batched: bool = False, leaf: str | None = None) -> None:
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            raise TypeError(f"mask must be a boolean tensor (True = seen), got {getattr(mask, 'dtype', type(mask))}")
        mask = mask if batched else mask[None]
        if not bool(mask.flatten(1).any(1).all()):
            raise ValueError("the mask sees nothing of at least one sample")
        self.mask, self.leaf = mask, leaf
        self.shape = tuple(mask.shape[1:])

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(self.mask.to(x.device), x, x.new_zeros(()))

    def adjoint(self, v: Tensor) -> Tensor:
        return self.forward(v)

    def pinv(self, v: Tensor, iterations: int = 0, tolerance: float = 0.0) -> Tensor:
        """The seen values, zero elsewhere."""
        return self.forward(v)

    def norm(self, shape: Sequence[int] | None = None, iterations: int = 0, seed: int = 0) -> float:
        """One."""
        return 1.0

    def svd(self) -> SVD | None:
        """Ones and zeros (None for a batch of different masks)."""

        def same(x: Tensor) -> Tensor:
            return x

        return SVD(self.mask[0].double(), same, same, same, same) if self.mask.shape[0] == 1 else None

    def take(self, index: Any) -> Self:
        if self.mask.shape[0] == 1:
            return self
        other = copy.copy(self)
        other.mask = self.mask[index]
        return other

    def clean(self, y: Tensor) -> Tensor:
        return self.forward(y)

    def count(self, y: Tensor) -> Tensor:
        return self.mask.to(y.device).flatten(1).sum(1).expand(y.shape[0])
