"""A dense matrix as an operator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from .base import SVD, LinearOperator

__all__ = ["Matrix"]


class Matrix(LinearOperator):
    """A dense matrix on the flattened sample.

    Args:
        matrix: (m, d), real.
        shape: shape of one sample, of d elements; default (d,).
        leaf: the measured leaf of a product state.

    Raises:
        ValueError: if the matrix is not two-dimensional or does not fit the shape.
    """

    def __init__(self, matrix: Tensor, shape: Sequence[int] | None = None, leaf: str | None = None) -> None:
        if matrix.ndim != 2 or matrix.is_complex():
            raise ValueError(f"matrix must be real of shape (m, d), got {matrix.dtype} {tuple(matrix.shape)}")
        self.shape = (matrix.shape[1],) if shape is None else tuple(shape)
        if math.prod(self.shape) != matrix.shape[1]:
            raise ValueError(f"a matrix with {matrix.shape[1]} columns cannot act on samples of shape {self.shape}")
        self.matrix, self.leaf = matrix, leaf

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.matrix.to(x).T

    def adjoint(self, v: Tensor) -> Tensor:
        return (v @ self.matrix.to(v)).reshape(v.shape[0], *self._domain(None))

    @cached_property
    def _svd(self) -> tuple[Tensor, Tensor, Tensor]:
        u, s, vh = torch.linalg.svd(self.matrix.double(), full_matrices=False)
        return u, s, vh

    def svd(self) -> SVD:
        u, s, vh = self._svd
        shape = self._domain(None)
        return SVD(
            s,
            lambda c: c @ u.to(c).T,
            lambda y: y @ u.to(y),
            lambda c: (c @ vh.to(c)).reshape(c.shape[0], *shape),
            lambda x: x.flatten(1) @ vh.to(x).T,
        )
