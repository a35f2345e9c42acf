r"""What was measured: y = A x0 + noise n, and the linear algebra that every solver shares.

Two solves cover all methods. With a A A^T + b I in the space of the measurements,

    A^T (a A A^T + b)^{-1} r = A^T U diag(1 / (a s^2 + b)) U^T r

by the singular values where the operator gives them (what lies outside of U is annihilated by A^T), else by
conjugate gradients, and

    argmin_x |y - A x|^2 + rho |x - z|^2 = z + A^T (A A^T + rho)^{-1} (y - A z).

A state that lives in a linear subspace (padding, zero centre of mass, symmetry) is measured by A P with
the projector P: the adjoint becomes P A^T, and every solution stays in the subspace.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..operators import SVD, LinearOperator, Operator, conjugate_gradient, inner
from ..spaces import Euclidean, Product, Space
from ..tree import Tree

__all__ = ["Bound", "Measurement"]


@dataclass(frozen=True, eq=False)
class Measurement:
    """A measurement and how it came about.

    Args:
        operator: A, an `Operator`.
        y: what was measured, (n, ...) with n = 1 or the batch of the states.
        noise: standard deviation of the noise in each real number of y.

    Raises:
        TypeError: if the operator is none.
        ValueError: for noise that is negative or not finite, and for measurements that are not finite.
    """

    operator: Operator
    y: Tensor
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.operator, Operator):
            raise TypeError(
                f"expected an operator of core.operators, got {type(self.operator).__name__}; "
                "wrap functions in LinearFunction(forward, shape) or Function(forward)"
            )
        if isinstance(self.noise, bool) or not isinstance(self.noise, int | float):
            raise TypeError(f"noise is one number, the standard deviation of y, got {type(self.noise).__name__}")
        if not (math.isfinite(self.noise) and self.noise >= 0.0):
            raise ValueError(f"noise is the standard deviation of y, 0 or more, got {self.noise}")
        clean = self.operator.clean(self.y)
        finite = torch.isfinite(clean).flatten(1).all(1)
        if not bool(finite.all()):
            bad = int((~finite).nonzero()[0])
            raise ValueError(
                f"measurement {bad} of {len(finite)} is not finite; mark missing values by a Mask operator"
            )
        object.__setattr__(self, "y", clean)

    def take(self, index: Any) -> Measurement:
        """The measurement of the batch elements `index`."""
        return replace(self, operator=self.operator.take(index), y=self.y[index])

    @property
    def expected_residual(self) -> Tensor:
        """noise * sqrt(m), the size of the residual at the truth, (n,)."""
        return self.noise * self.operator.count(self.y).to(torch.float64).sqrt()

    def on(self, space: Space | None, x: Tree) -> Bound:
        """The measurement of states like `x` in their space."""
        size = (next(iter(x.values())) if isinstance(x, dict) else x).shape[0]
        if self.y.shape[0] not in (1, size):
            raise ValueError(f"{self.y.shape[0]} measurements for {size} states; give one, or one for each")
        return Bound(self, space)


class Bound:
    """A measurement of the states of one space. Made by `Measurement.on`."""

    def __init__(self, measurement: Measurement, space: Space | None) -> None:
        self.measurement, self.operator, self.leaf = measurement, measurement.operator, measurement.operator.leaf
        if isinstance(space, Product):
            space = space.spaces.get(self.leaf or "")
        self.space = None if space is None or isinstance(space, Euclidean) else space

    @property
    def noise(self) -> float:
        return self.measurement.noise

    def y(self, like: Tensor) -> Tensor:
        """The measurement in the precision of `like`."""
        y = self.measurement.y
        if y.is_complex():
            return y.to(like.device, torch.complex128 if like.dtype == torch.float64 else torch.complex64)
        return y.to(like)

    def pick(self, x: Tree) -> Tensor:
        """The measured leaf."""
        return self.operator.pick(x)

    def put(self, x: Tree, leaf: Tensor) -> Tree:
        """`x` with another measured leaf."""
        return {**x, self.leaf: leaf} if isinstance(x, dict) else leaf

    def project(self, leaf: Tensor) -> Tensor:
        return leaf if self.space is None else self.space.project(leaf)

    def residual(self, data: Tree) -> Tensor:
        """y - A(data)."""
        leaf = self.operator.pick(data)
        return self.y(leaf) - self.operator.forward(leaf)

    def pull(self, data: Tree, v: Tensor) -> Tensor:
        """(dA/dx)^T v at `data`, in the leaf's space."""
        return self.project(self.operator.vjp(data, v))

    @property
    def linear(self) -> LinearOperator:
        """The operator, known to be linear."""
        if not isinstance(self.operator, LinearOperator):
            raise ValueError(f"this needs a linear operator, got {self.operator!r}")
        return self.operator

    def adjoint(self, v: Tensor) -> Tensor:
        return self.project(self.linear.adjoint(v))

    def svd(self) -> SVD | None:
        """The operator's decomposition, where it is also that of A P."""
        return self.linear.svd() if self.space is None else None

    def gram_solve(self, r: Tensor, a: Any, b: Any, iterations: int = 50) -> Tensor:
        """(a A A^T + b I)^{-1} r, up to what A^T annihilates; the pseudo-inverse for b = 0.

        `a` and `b` are floats, or tensors (B, 1, ...). Follow with `adjoint`.
        """
        svd = self.svd()
        if svd is None:
            operator = self.linear
            return conjugate_gradient(
                lambda v: a * operator.forward(self.adjoint(v)) + b * v, r, iterations=iterations, tolerance=1e-10
            )
        c = svd.ut(r)
        s2 = svd.values.to(c.real).square()
        floor = s2.max() * 1e-12
        whole = a * s2 + b
        inverse = torch.where((s2 > floor) | (whole > a * floor), 1 / whole.clamp_min(torch.finfo(s2.dtype).tiny), 0.0)
        return svd.u(c * inverse)

    def prox(self, z: Tree, rho: Any, iterations: int = 50) -> Tensor:
        """argmin_x |y - A x|^2 + rho |x - z|^2, the measured leaf."""
        return self.pick(z) + self.adjoint(self.gram_solve(self.residual(z), 1.0, rho, iterations))

    def pinv(self, v: Tensor, iterations: int = 100) -> Tensor:
        """The shortest least-squares solution inside the space."""
        if self.space is None:
            return self.linear.pinv(v, iterations)
        operator = self.linear
        return conjugate_gradient(
            lambda x: self.adjoint(operator.forward(x)), self.adjoint(v), iterations=iterations, tolerance=1e-8
        )

    def squared(self, r: Tensor) -> Tensor:
        """|r|^2 of each sample, (B,)."""
        return inner(r, r)
