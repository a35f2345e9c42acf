"""Mean pooling: super-resolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import SVD, LinearOperator

__all__ = ["Downsample"]


class Downsample(LinearOperator):
    """Means over blocks: `factor` elements along each of the last dimensions (super-resolution).

    Args:
        shape: of one sample, for example (channels, height, width).
        factor: edge of a block.
        dims: how many last dimensions are pooled.
        leaf: the measured leaf of a product state.

    Raises:
        ValueError: if a pooled size is not a multiple of the factor.
    """

    def __init__(self, shape: Sequence[int], factor: int, dims: int = 2, leaf: str | None = None) -> None:
        self.shape, self.factor, self.dims, self.leaf = tuple(shape), int(factor), int(dims), leaf
        if not 1 <= self.dims <= len(self.shape) or self.factor < 1:
            raise ValueError(f"cannot pool {dims} dimensions of a sample of shape {self.shape} by {factor}")
        for size in self.shape[-self.dims :]:
            if size % self.factor:
                raise ValueError(
                    f"size {size} in {self.shape} is not a multiple of the factor {factor}: pad or crop first"
                )

    def forward(self, x: Tensor) -> Tensor:
        n, f = self.dims, self.factor
        split = [k for size in x.shape[-n:] for k in (size // f, f)]
        x = x.reshape(*x.shape[:-n], *split)
        return x.mean(tuple(range(-2 * n + 1, 0, 2)))

    def adjoint(self, v: Tensor) -> Tensor:
        n, f = self.dims, self.factor
        for dim in range(v.ndim - n, v.ndim):
            v = v.repeat_interleave(f, dim)
        return v / f**n

    def pinv(self, v: Tensor, iterations: int = 0, tolerance: float = 0.0) -> Tensor:
        """Nearest-neighbour enlargement: A^+ = f^n A^T."""
        return self.adjoint(v) * self.factor**self.dims

    def svd(self) -> SVD:
        n, scale = self.dims, float(self.factor) ** (self.dims / 2)
        shape = self._domain(None)
        coarse = shape[: len(shape) - n] + tuple(size // self.factor for size in shape[-n:])
        values = torch.full(coarse, 1 / scale, dtype=torch.float64)

        def same(x: Tensor) -> Tensor:
            return x

        return SVD(values, same, same, lambda c: self.adjoint(c) * scale, lambda x: self.forward(x) * scale)
