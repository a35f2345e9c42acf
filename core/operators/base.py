r"""Measurement operators: y = A x0 + noise, with adjoints that are adjoints.

An operator acts on batches, (B, *domain) -> (B, *range), sample by sample. For states with several
leaves it sees one of them: `leaf="X"` picks it, and `adjoint` and `vjp` answer with that leaf alone.

* `Operator`: `A(x)` and `vjp(x, v)` = (dA/dx)^T v. All that nonlinear measurements have.
* `LinearOperator` adds `adjoint(v)`, also written `A.T(v)`; `pinv(v)`, the shortest least-squares
  solution, by conjugate gradients on the normal equations A^T A x = A^T v where no closed form is
  known; `norm()`, the largest singular value, by power iteration on A^T A; and `svd()` where there
  is a cheap one.

Inner products are real: <u, v> = sum of Re(conj(u) v). A real image with complex measurements
(magnetic resonance) therefore has the adjoint Re(A^H v), and counts two real measurements a number.

`check_adjoint` draws u in the domain and a v that leans on A u, and returns

    | <A u, v> - <u, A^T v> | / | <A u, v> |,      v = A u / |A u| + z / |z|,

so that a wrong scale shows at full size (for an independent v of m numbers it would shrink to 1/sqrt(m)).

The singular value decomposition of a circular blur is real: for a real kernel with Fourier
transform h, A = F* diag(h) F = [F* diag(h/|h|) F H] diag(|h|) H with the Hartley transform
H = Re F - Im F, orthonormal and its own inverse, because |h| is even (R. Bracewell, "Discrete Hartley
transform", 1983). Mean pooling by f in n dimensions has orthogonal rows: all singular values are
f^(-n/2) and V = f^(n/2) A^T.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from ..spaces import Space
from ..tree import Tree

__all__ = ["SVD", "LinearOperator", "Operator", "conjugate_gradient", "inner"]


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Real inner product of each sample, (B,)."""
    product = (a.conj() * b).real if a.is_complex() or b.is_complex() else a * b
    return product.flatten(1).sum(1)


def _column(c: Tensor, like: Tensor) -> Tensor:
    return c.view(-1, *[1] * (like.ndim - 1))


def conjugate_gradient(
    matvec: Callable[[Tensor], Tensor],
    rhs: Tensor,
    x: Tensor | None = None,
    iterations: int = 20,
    tolerance: float = 0.0,
) -> Tensor:
    """Solve M x = rhs for a symmetric positive semi-definite M, each sample on its own.

    M. Hestenes and E. Stiefel, "Methods of conjugate gradients for solving linear systems", 1952.

    Args:
        matvec: M, (B, ...) -> (B, ...).
        rhs: (B, ...).
        x: first guess; zero without one (then the result lies in the Krylov space of rhs).
        iterations: at most so many products with M (one more for a first guess).
        tolerance: stop when every sample's residual is below this fraction of its right-hand side.
    """
    r = rhs if x is None else rhs - matvec(x)
    x = torch.zeros_like(rhs) if x is None else x
    p, rr = r, inner(r, r)
    stop = max(tolerance * tolerance, torch.finfo(rr.dtype).eps ** 2) * inner(rhs, rhs)
    for _ in range(iterations):
        active = rr > stop
        if not bool(active.any()):
            break
        q = matvec(p)
        pq = inner(p, q)
        ok = active & (pq > 0)
        step = torch.where(ok, rr / torch.where(ok, pq, 1.0), 0.0)
        x = x + _column(step, p) * p
        r = r - _column(step, q) * q
        new = inner(r, r)
        p = r + _column(torch.where(ok, new / torch.where(ok, rr, 1.0), 0.0), p) * p
        rr = torch.where(ok, new, 0.0)
    return x


@dataclass(frozen=True)
class SVD:
    """A = U diag(values) V^T with as many columns as there are values (the thin form).

    Attributes:
        values: singular values >= 0, of the shape of one sample's coefficients.
        u, ut: coefficients (B, *values) -> measurements, and back (transpose).
        v, vt: coefficients -> states, and back. What V V^T leaves out is never measured.
    """

    values: Tensor
    u: Callable[[Tensor], Tensor]
    ut: Callable[[Tensor], Tensor]
    v: Callable[[Tensor], Tensor]
    vt: Callable[[Tensor], Tensor]


class Operator:
    """A measurement of a state, maybe nonlinear.

    Attributes:
        leaf: the leaf of a product state that is measured, or None for plain tensors.
        linear: whether A is linear (`LinearOperator`).
        shape: shape of one sample of the domain, without the batch, or None if unknown.
    """

    leaf: str | None = None
    linear: bool = False
    shape: tuple[int, ...] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """A(x) for a tensor (B, *shape)."""
        raise NotImplementedError

    def __call__(self, x: Tree) -> Tensor:
        """A(x); of a product state the leaf `leaf` is measured.

        Raises:
            ValueError: if the operator names a leaf that the state has not, or the reverse, or if
                the shape does not fit.
        """
        return self.forward(self.pick(x))

    def pick(self, x: Tree) -> Tensor:
        """The tensor that is measured."""
        if isinstance(x, dict):
            if self.leaf not in x:
                raise ValueError(
                    f"the state has leaves {sorted(x)}: name the measured one, {type(self).__name__}(..., leaf=...); "
                    f"got leaf={self.leaf!r}"
                )
            x = x[self.leaf]
        elif self.leaf is not None:
            raise ValueError(f"the operator measures leaf {self.leaf!r}, but the state is one tensor")
        if self.shape is not None and tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"{self!r} measures samples of shape {self.shape}, got {tuple(x.shape[1:])}")
        return x

    def vjp(self, x: Tree, v: Tensor) -> Tensor:
        """(dA/dx)^T v at x, of the shape of the measured leaf (automatic differentiation)."""
        with torch.enable_grad():
            leaf = self.pick(x).detach().requires_grad_()
            y = self.forward(leaf)
            if not y.requires_grad:
                raise ValueError(f"{self!r} cannot be differentiated by autograd: give it vjp=, or write it in torch")
            return torch.autograd.grad(y, leaf, v)[0]

    def take(self, index: Any) -> Self:
        """The operator of the batch elements `index` (for operators with one mask a sample)."""
        return self

    def clean(self, y: Tensor) -> Tensor:
        """Measurements with what was not measured set to zero."""
        return y

    def count(self, y: Tensor) -> Tensor:
        """Real numbers measured in each sample of y, (B,)."""
        size = y[0].numel() * (2 if y.is_complex() else 1)
        return torch.full((y.shape[0],), size, dtype=torch.long, device=y.device)

    def on(self, leaf: str | None) -> Self:
        """The same operator for the leaf `leaf` of a product state."""
        other = copy.copy(self)
        other.leaf = leaf
        return other

    def _domain(self, shape: Sequence[int] | None) -> tuple[int, ...]:
        found = tuple(shape) if shape is not None else self.shape
        if found is None:
            raise ValueError(
                f"{type(self).__name__} does not know the shape of a sample: give shape=(...) without the batch"
            )
        return found

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape})"


class LinearOperator(Operator):
    """Base of linear operators: subclasses write `forward` and `adjoint`, and more where it is cheap."""

    linear = True

    def adjoint(self, v: Tensor) -> Tensor:
        """A^T v, (B, *range) -> (B, *domain)."""
        raise NotImplementedError

    def vjp(self, x: Tree, v: Tensor) -> Tensor:
        """A^T v: the same everywhere."""
        return self.adjoint(v)

    def pinv(self, v: Tensor, iterations: int = 100, tolerance: float = 1e-8) -> Tensor:
        """A^+ v, the shortest x that minimises |A x - v|.

        From the singular values where `svd` gives them, else by conjugate gradients on the normal
        equations from zero; stopping early is then a regularisation (small singular values last).
        """
        svd = self.svd()
        if svd is None:
            return conjugate_gradient(
                lambda x: self.adjoint(self.forward(x)), self.adjoint(v), iterations=iterations, tolerance=tolerance
            )
        s = svd.values.to(device=v.device)
        cut = s.max() * s.numel() * torch.finfo(v.real.dtype if v.is_complex() else v.dtype).eps
        inverse = torch.where(s > cut, 1 / torch.where(s > cut, s, 1.0), 0.0)
        c = svd.ut(v)
        return svd.v(c * inverse.to(c.dtype))

    def svd(self) -> SVD | None:
        """The singular value decomposition, or None where there is no cheap one."""
        return None

    @property
    def T(self) -> LinearOperator:
        """The adjoint as an operator: `A.T(v)`."""
        return _Adjoint(self)

    def norm(self, shape: Sequence[int] | None = None, iterations: int = 50, seed: int = 0) -> float:
        """Largest singular value, by power iteration on A^T A (from below; float64).

        Args:
            shape: of one sample; needed where the operator does not know it.
            iterations: products with A^T A.
            seed: of the first vector.
        """
        svd = self.svd()
        if svd is not None:
            return float(svd.values.max())
        x = self._random(self._domain(shape), seed)
        value = 0.0
        for _ in range(iterations):
            size = float(x.norm())
            if size == 0.0:
                return 0.0
            x = self.adjoint(self.forward(x / size))
            value = float(x.norm())
        return math.sqrt(value)

    def _random(self, shape: tuple[int, ...], seed: int, like: Tensor | None = None) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(1, *shape, generator=generator, dtype=torch.float64)
        return x if like is None else x.to(like)

    def check_adjoint(
        self,
        shape: Sequence[int] | None = None,
        seed: int = 0,
        space: Space | None = None,
        like: Tensor | None = None,
    ) -> float:
        """How far `adjoint` is from the adjoint: relative mismatch of <A u, v> and <u, A^T v>, worst of three.

        About 1e-16 for exact float64 operators, 1e-7 in float32, 1e-2 for adjoints by interpolation.

        Args:
            shape: of one sample; needed where the operator does not know it.
            seed: of the vectors.
            space: where states live; u and A^T v are projected onto it (the inner product of the space).
            like: a tensor of the type and device to check in; default float64 on the CPU.
        """
        one = self.take(slice(0, 1))
        project = (lambda x: x) if space is None else space.project
        worst = 0.0
        for k in range(3):
            u = project(self._random(self._domain(shape), seed + 2 * k, like))
            au = one.forward(u)
            generator = torch.Generator().manual_seed(seed + 2 * k + 1)
            z = one.clean(torch.randn(au.shape, generator=generator, dtype=au.dtype).to(au.device))
            v = au / au.norm().clamp_min(1e-30) + z / z.norm().clamp_min(1e-30)
            left = inner(au, v).item()
            right = inner(u.double(), project(one.adjoint(v)).double()).item()
            worst = max(worst, abs(left - right) / max(abs(left), 1e-300) if left or right else 0.0)
        return worst

    def require_adjoint(
        self,
        shape: Sequence[int] | None = None,
        seed: int = 0,
        space: Space | None = None,
        tolerance: float = 1e-4,
        like: Tensor | None = None,
    ) -> Self:
        """The operator itself, if its adjoint is one.

        Raises:
            ValueError: if `check_adjoint` exceeds `tolerance`; the message says by how much.
        """
        found = self.check_adjoint(shape, seed, space, like)
        if not found <= tolerance:
            raise ValueError(
                f"the adjoint of {self!r} is not its adjoint: <A u, v> and <u, A^T v> differ by {found:.2e} of their "
                f"size (tolerance {tolerance:.0e}); conjugate gradients and guidance would walk in a wrong direction"
            )
        return self

    def __matmul__(self, other: LinearOperator) -> LinearOperator:
        from .combined import Composition  # made of operators, so they come first

        return Composition(self, other)

    def __rmul__(self, factor: float) -> LinearOperator:
        from .combined import Scaled

        return Scaled(self, factor)


class _Adjoint(LinearOperator):
    def __init__(self, operator: LinearOperator) -> None:
        self.operator = operator

    def forward(self, x: Tensor) -> Tensor:
        return self.operator.adjoint(x)

    def adjoint(self, v: Tensor) -> Tensor:
        return self.operator.forward(v)

    @property
    def T(self) -> LinearOperator:
        return self.operator

    def __repr__(self) -> str:
        return f"{self.operator!r}.T"
