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
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from .spaces import Space
from .tree import Tree

__all__ = [
    "SVD",
    "Blur",
    "Composition",
    "Downsample",
    "Function",
    "LinearFunction",
    "LinearOperator",
    "Mask",
    "Matrix",
    "Operator",
    "Scaled",
    "Stack",
    "conjugate_gradient",
    "inner",
]


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
        return x  # type: ignore[no-any-return]

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
            raise ValueError(f"{type(self).__name__} does not know the shape of a sample: give shape=(...) without the batch")
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
    def T(self) -> LinearOperator:  # noqa: N802
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

    def _random(self, shape: tuple[int, ...], seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(1, *shape, generator=generator, dtype=torch.float64)

    def check_adjoint(self, shape: Sequence[int] | None = None, seed: int = 0, space: Space | None = None) -> float:
        """How far `adjoint` is from the adjoint: relative mismatch of <A u, v> and <u, A^T v>, worst of three.

        About 1e-16 for exact float64 operators, 1e-7 in float32, 1e-2 for adjoints by interpolation.

        Args:
            shape: of one sample; needed where the operator does not know it.
            seed: of the vectors.
            space: where states live; u and A^T v are projected onto it (the inner product of the space).
        """
        one = self.take(slice(0, 1))
        project = (lambda x: x) if space is None else space.project
        worst = 0.0
        for k in range(3):
            u = project(self._random(self._domain(shape), seed + 2 * k))
            au = one.forward(u)
            generator = torch.Generator().manual_seed(seed + 2 * k + 1)
            z = one.clean(torch.randn(au.shape, generator=generator, dtype=au.dtype))
            v = au / au.norm().clamp_min(1e-300) + z / z.norm().clamp_min(1e-300)
            left = inner(au, v).item()
            right = inner(u.double(), project(one.adjoint(v)).double()).item()
            worst = max(worst, abs(left - right) / max(abs(left), 1e-300) if left or right else 0.0)
        return worst

    def require_adjoint(
        self, shape: Sequence[int] | None = None, seed: int = 0, space: Space | None = None, tolerance: float = 1e-4
    ) -> Self:
        """The operator itself, if its adjoint is one.

        Raises:
            ValueError: if `check_adjoint` exceeds `tolerance`; the message says by how much.
        """
        found = self.check_adjoint(shape, seed, space)
        if not found <= tolerance:
            raise ValueError(
                f"the adjoint of {self!r} is not its adjoint: <A u, v> and <u, A^T v> differ by {found:.2e} of their size "
                f"(tolerance {tolerance:.0e}); conjugate gradients and guidance would walk in a wrong direction"
            )
        return self

    def __matmul__(self, other: LinearOperator) -> LinearOperator:
        return Composition(self, other)

    def __rmul__(self, factor: float) -> LinearOperator:
        return Scaled(self, factor)


class _Adjoint(LinearOperator):
    def __init__(self, operator: LinearOperator) -> None:
        self.operator = operator

    def forward(self, x: Tensor) -> Tensor:
        return self.operator.adjoint(x)

    def adjoint(self, v: Tensor) -> Tensor:
        return self.operator.forward(v)

    @property
    def T(self) -> LinearOperator:  # noqa: N802
        return self.operator

    def __repr__(self) -> str:
        return f"{self.operator!r}.T"


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
                raise ValueError(f"size {size} in {self.shape} is not a multiple of the factor {factor}: pad or crop first")

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
        return SVD(values, lambda c: c, lambda y: y, lambda c: self.adjoint(c) * scale, lambda x: self.forward(x) * scale)


class Blur(LinearOperator):
    """Circular convolution along the last dimensions, by FFT.

    Args:
        shape: of one sample.
        kernel: weights with their centre in the middle (odd sizes), one dimension for each last
            dimension that is blurred.
        leaf: the measured leaf of a product state.

    Raises:
        ValueError: if the kernel is larger than the sample or has an even size.
    """

    def __init__(self, shape: Sequence[int], kernel: Tensor, leaf: str | None = None) -> None:
        self.shape, self.leaf, self.dims = tuple(shape), leaf, kernel.ndim
        sizes = self.shape[len(self.shape) - kernel.ndim :]
        if not 1 <= kernel.ndim <= len(self.shape) or any(k > n for k, n in zip(kernel.shape, sizes, strict=True)):
            raise ValueError(f"a kernel of shape {tuple(kernel.shape)} does not fit samples of shape {self.shape}")
        if any(k % 2 == 0 for k in kernel.shape):
            raise ValueError(f"kernel sizes must be odd, so that the kernel has a centre; got {tuple(kernel.shape)}")
        padded = torch.zeros(sizes, dtype=torch.float64)
        padded[tuple(slice(0, k) for k in kernel.shape)] = kernel.double()
        padded = torch.roll(padded, [-(k // 2) for k in kernel.shape], dims=list(range(kernel.ndim)))
        self.transfer = torch.fft.fftn(padded)

    def _filter(self, x: Tensor, gain: Tensor) -> Tensor:
        dims = tuple(range(x.ndim - self.dims, x.ndim))
        kind = torch.complex128 if x.dtype == torch.float64 else torch.complex64
        return torch.fft.ifftn(torch.fft.fftn(x, dim=dims) * gain.to(x.device, kind), dim=dims).real

    def forward(self, x: Tensor) -> Tensor:
        return self._filter(x, self.transfer)

    def adjoint(self, v: Tensor) -> Tensor:
        return self._filter(v, self.transfer.conj())

    def _hartley(self, x: Tensor) -> Tensor:
        f = torch.fft.fftn(x, dim=tuple(range(x.ndim - self.dims, x.ndim)), norm="ortho")
        return f.real - f.imag

    def svd(self) -> SVD:
        size = self.transfer.abs()
        phase = torch.where(size > 0, self.transfer / size.clamp_min(1e-300), 1.0)
        return SVD(
            size.expand(self._domain(None)),
            lambda c: self._filter(self._hartley(c), phase),
            lambda y: self._hartley(self._filter(y, phase.conj())),
            self._hartley,
            self._hartley,
        )


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
            raise ValueError(f"stacked operators must measure the same thing; got domains {sorted(known)}, or different leaves")
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
