"""Operators from Python functions, linear or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..tree import Tree
from .base import LinearOperator, Operator

__all__ = ["Function", "LinearFunction"]


class Function(Operator):
    """A nonlinear operator from Python functions on batches.

    Args:
        forward: x (B, ...) -> y (B, ...).
        vjp: (x, v) -> (dA/dx)^T v; without one automatic differentiation of `forward` is used.
        shape: of one sample, if known.
        leaf: the measured leaf of a product state.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        vjp: Callable[[Tensor, Tensor], Tensor] | None = None,
        shape: Sequence[int] | None = None,
        leaf: str | None = None,
    ) -> None:
        self._forward, self._vjp, self.leaf = forward, vjp, leaf
        self.shape = None if shape is None else tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(x)

    def vjp(self, x: Tree, v: Tensor) -> Tensor:
        return super().vjp(x, v) if self._vjp is None else self._vjp(self.pick(x), v)


class LinearFunction(LinearOperator):
    """A linear operator from Python functions on batches.

    Args:
        forward: x (B, *shape) -> y (B, ...).
        adjoint: the transpose; without one automatic differentiation of `forward` is used.
        shape: of one sample.
        leaf: the measured leaf of a product state.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        shape: Sequence[int],
        adjoint: Callable[[Tensor], Tensor] | None = None,
        leaf: str | None = None,
    ) -> None:
        self._forward, self._adjoint, self.shape, self.leaf = forward, adjoint, tuple(shape), leaf

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(x)

    def adjoint(self, v: Tensor) -> Tensor:
        if self._adjoint is not None:
            return self._adjoint(v)
        real = v.real.dtype if v.is_complex() else v.dtype
        zero = torch.zeros(v.shape[0], *self._domain(None), dtype=real, device=v.device)
        return Operator.vjp(self.on(None), zero, v)
