"""Operators made of operators: compositions, multiples, stacks."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from .base import SVD, LinearOperator

__all__ = ["Composition", "Scaled", "Stack"]


class Composition(LinearOperator):
    """(A B) x = A(B(x)), also written `A @ B`; any number of operators, the last acts first."""

    def __init__(self, *operators: LinearOperator) -> None:
        if not operators or not all(isinstance(o, LinearOperator) for o in operators):
            raise TypeError("Composition takes linear operators, the one that acts first last")
        self.operators = operators
        self.shape, self.leaf = operators[-1].shape, operators[-1].leaf

    def forward(self, x: Tensor) -> Tensor:
        for operator in reversed(self.operators):
            x = operator.forward(x)
        return x

    def adjoint(self, v: Tensor) -> Tensor:
        for operator in self.operators:
            v = operator.adjoint(v)
        return v

    def take(self, index: Any) -> Self:
        other = copy.copy(self)
        other.operators = tuple(operator.take(index) for operator in self.operators)
        return other

    def clean(self, y: Tensor) -> Tensor:
        return self.operators[0].clean(y)

    def count(self, y: Tensor) -> Tensor:
        return self.operators[0].count(y)

    def __repr__(self) -> str:
        return " @ ".join(repr(operator) for operator in self.operators)


class Scaled(LinearOperator):
    """`factor` times an operator, also written `factor * A` (units, or whitening: A / noise)."""

    def __init__(self, operator: LinearOperator, factor: float) -> None:
        self.operator, self.factor = operator, float(factor)
        self.shape, self.leaf = operator.shape, operator.leaf

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.operator.forward(x)

    def adjoint(self, v: Tensor) -> Tensor:
        return self.factor * self.operator.adjoint(v)

    def svd(self) -> SVD | None:
        svd, sign = self.operator.svd(), math.copysign(1.0, self.factor)
        if svd is None:
            return None
        return SVD(svd.values * abs(self.factor), lambda c: sign * svd.u(c), lambda y: sign * svd.ut(y), svd.v, svd.vt)

    def take(self, index: Any) -> Self:
        other = copy.copy(self)
        other.operator = self.operator.take(index)
        return other

    def clean(self, y: Tensor) -> Tensor:
        return self.operator.clean(y)

    def count(self, y: Tensor) -> Tensor:
        return self.operator.count(y)

    def __repr__(self) -> str:
        return f"{self.factor:g} * {self.operator!r}"


class Stack(LinearOperator):
    """Several measurements of one state, flattened one after the other, (B, m1 + m2 + ...).

    Args:
        operators: linear operators with one domain.
        shape: of one sample; needed where the operators do not know it.
    """

    def __init__(self, *operators: LinearOperator, shape: Sequence[int] | None = None) -> None:
        if not operators or not all(isinstance(o, LinearOperator) for o in operators):
            raise TypeError("Stack takes linear operators")
        known = {o.shape for o in operators if o.shape is not None} | ({tuple(shape)} if shape is not None else set())
        if len(known) != 1 or len({o.leaf for o in operators}) != 1:
            raise ValueError(
                f"stacked operators must measure the same thing; got domains {sorted(known)}, or different leaves"
            )
        self.operators, self.shape, self.leaf = operators, known.pop(), operators[0].leaf

    @cached_property
    def _ranges(self) -> list[tuple[int, ...]]:
        zero = torch.zeros(1, *self._domain(None))
        return [tuple(o.take(slice(0, 1)).forward(zero).shape[1:]) for o in self.operators]

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([operator.forward(x).flatten(1) for operator in self.operators], dim=1)

    def _split(self, v: Tensor) -> list[Tensor]:
        parts = v.split([math.prod(r) for r in self._ranges], dim=1)
        return [part.reshape(v.shape[0], *r) for part, r in zip(parts, self._ranges, strict=True)]

    def adjoint(self, v: Tensor) -> Tensor:
        parts = zip(self.operators, self._split(v), strict=True)
        total: Tensor = sum(operator.adjoint(part) for operator, part in parts)  # type: ignore[assignment]
        return total

    def take(self, index: Any) -> Self:
        other = copy.copy(self)
        other.operators = tuple(operator.take(index) for operator in self.operators)
        return other

    def clean(self, y: Tensor) -> Tensor:
        parts = zip(self.operators, self._split(y), strict=True)
        return torch.cat([operator.clean(part).flatten(1) for operator, part in parts], dim=1)

    def count(self, y: Tensor) -> Tensor:
        parts = zip(self.operators, self._split(y), strict=True)
        return torch.stack([operator.count(part) for operator, part in parts]).sum(0)
