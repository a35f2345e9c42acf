"""Spaces: what kind of thing a state is.

A sampler only ever forms linear combinations of states with scalar coefficients. A linear subspace
(zero centre of mass, symmetric matrices, entries behind a mask) is therefore kept by every step as
soon as the noise, the network's output and the reference lie in it: `project` is applied to those
three and nowhere else, and masks live here, never in the state.

Noise is drawn as one stream of `ndof` numbers a sample and scattered to the places that count, so
padding changes nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .noise import Noise
from .tree import Tree, tree_map

__all__ = ["Coef", "Euclidean", "Graph", "Masked", "Product", "Space", "ZeroCoM", "default_space", "expand", "projects"]

Coef = Any
"""A float; a tensor with as many dimensions as the state; or a dictionary of those, one a leaf."""


def expand(c: Tensor, like: Tensor) -> Tensor:
    """View a coefficient of shape (B,) or (B, L) so that it multiplies `like` (B, L, ...)."""
    if 0 < c.ndim < like.ndim:
        c = c.reshape(*c.shape, *[1] * (like.ndim - c.ndim))
    return c.to(device=like.device, dtype=like.dtype)


def _combine(terms: Sequence[tuple[Coef, Tensor]]) -> Tensor:
    c, x = terms[0]
    if len(terms) == 1 and c.__class__ is float and c == 1.0:
        return x
    out = x * (c if c.__class__ is float else expand(c, x))
    for c, x in terms[1:]:
        if c.__class__ is float:
            out.add_(x, alpha=c)
        else:
            out = out.addcmul_(x, expand(c, x))
    return out


def _check_mask(mask: Tensor, name: str, ndim: int | None = None) -> Tensor:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        came = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"{name} must be a boolean tensor (True = real element), got {came}; use mask.bool()")
    if mask.ndim < 2 or (ndim is not None and mask.ndim != ndim):
        raise ValueError(f"{name} must have shape (B, {'N' if ndim == 2 else 'L, ...'}), got {tuple(mask.shape)}")
    empty = (~mask.flatten(1).any(1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"{name} hides every element of sample {empty[0]} ({len(empty)} such): drop those samples")
    return mask


class Space:
    """Base class: the unconstrained space.

    Attributes:
        elementwise: whether coefficients may vary inside a sample without leaving the space.
        plain: whether states are single tensors, so that samplers may add them up themselves.
    """

    elementwise: bool = True
    plain: bool = True

    def randn(self, noise: Noise, like: Tree, draw: int, role: str = "step") -> Tree:
        """Standard normal noise in the space, of the shape of `like`."""
        raise NotImplementedError

    def project(self, x: Tree) -> Tree:
        """Orthogonal projection of `x` onto the space."""
        return x

    def lincomb(self, terms: Sequence[tuple[Coef, Tree]]) -> Tree:
        """The sum of coefficient times state over `terms`; never writes into its arguments."""
        return _combine(terms)

    def norm(self, x: Tree) -> Tensor:
        """Euclidean norm of each sample over the elements that count, shape (B,)."""
        return self.project(x).reshape(x.shape[0], -1).norm(dim=1)

    def ndof(self, x: Tree) -> Tensor:
        """Degrees of freedom of each sample (the dimension of the space), long, shape (B,)."""
        raise NotImplementedError

    def take(self, index: Any) -> Space:
        """The space of the batch elements `index`."""
        return self

    def where(self, mask: Tensor, a: Tree, b: Tree) -> Tree:
        """`a` for the samples where `mask` (B,) holds, else `b`."""
        return tree_map(lambda p, q: torch.where(mask.view(-1, *[1] * (p.ndim - 1)), p, q), a, b)

    def check(self, x: Tree) -> None:
        """Raise a `ValueError` or `TypeError` if `x` is no state of this space."""


class Euclidean(Space):
    """Plain tensors of any shape (B, ...)."""

    def randn(self, noise: Noise, like: Tensor, draw: int, role: str = "step") -> Tensor:
        return noise(like, draw, role)

    def ndof(self, x: Tensor) -> Tensor:
        return torch.full((x.shape[0],), x[0].numel(), dtype=torch.long, device=x.device)

    def check(self, x: Tree) -> None:
        if not isinstance(x, Tensor):
            raise TypeError(f"a Euclidean state is one tensor, got {type(x).__name__}; use Product for several leaves")

    def __repr__(self) -> str:
        return "Euclidean()"


_EUCLIDEAN = Euclidean()


class _MaskSpace(Space):
    """Shared parts of the spaces with a mask of shape (B, ...) or (1, ...)."""

    mask: Tensor

    def take(self, index: Any) -> Space:
        if self.mask.shape[0] == 1:
            return self
        other = copy.copy(self)
        other.mask = self.mask[index]
        return other

    def _full(self, x: Tensor) -> Tensor:
        """The elements that count, as a mask of the full shape of `x`."""
        mask = self.mask.to(x.device)
        if mask.shape[0] not in (1, x.shape[0]) or mask.ndim > x.ndim or mask.shape[1:] != x.shape[1 : mask.ndim]:
            raise ValueError(f"mask of shape {tuple(mask.shape)} does not fit a state of shape {tuple(x.shape)}")
        return mask.reshape(*mask.shape, *[1] * (x.ndim - mask.ndim)).expand_as(x)

    def _scatter(self, noise: Noise, x: Tensor, where: Tensor, draw: int, role: str) -> Tensor:
        """Noise that fills the places `where` in order, sample by sample, zero elsewhere."""
        counts = where.flatten(1).sum(1)
        stream = noise(x.new_empty(x.shape[0], int(counts.max())), draw, role)
        valid = torch.arange(stream.shape[1], device=x.device) < counts[:, None]
        return torch.zeros_like(x).masked_scatter_(where, stream[valid])

    def check(self, x: Tree) -> None:
        if not isinstance(x, Tensor):
            raise TypeError(f"a {type(self).__name__} state is one tensor, got {type(x).__name__}")
        self._full(x)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(mask={tuple(self.mask.shape)})"


class Masked(_MaskSpace):
    """Tensors (B, L, ...) of which only the elements where `mask` holds are real; the rest is zero.

    Args:
        mask: boolean, (B, L), (B, L, M), ... or with B = 1 for one mask for all.

    Raises:
        TypeError: if the mask is not boolean.
        ValueError: if a sample has no real element.
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = _check_mask(mask, "mask")

    def randn(self, noise: Noise, like: Tensor, draw: int, role: str = "step") -> Tensor:
        return self._scatter(noise, like, self._full(like), draw, role)

    def project(self, x: Tensor) -> Tensor:
        return torch.where(self._full(x), x, x.new_zeros(()))

    def ndof(self, x: Tensor) -> Tensor:
        return self._full(x).flatten(1).sum(1)


class ZeroCoM(_MaskSpace):
    """Point clouds (B, N, d) whose centre of mass over the real points is zero.

    The space of E(3)-equivariant diffusion (E. Hoogeboom et al., "Equivariant diffusion for molecule
    generation in 3D", ICML 2022); its dimension is (n - 1) d.

    Args:
        mask: boolean (B, N), True = real point.

    Raises:
        ValueError: if a sample has fewer than two points (nothing is left of it).
    """

    elementwise = False

    def __init__(self, mask: Tensor) -> None:
        self.mask = _check_mask(mask, "mask", 2)
        single = (mask.sum(1) < 2).nonzero().flatten().tolist()
        if single:
            raise ValueError(
                f"sample {single[0]} has one point: without its centre of mass nothing is left of it; "
                "use Masked, or drop samples with a single point"
            )

    def randn(self, noise: Noise, like: Tensor, draw: int, role: str = "step") -> Tensor:
        return self.project(self._scatter(noise, like, self._full(like), draw, role))

    def project(self, x: Tensor) -> Tensor:
        weight = self._full(x).to(x.dtype)
        x = torch.where(weight.bool(), x, x.new_zeros(()))
        return x - weight * (x.sum(1, keepdim=True) / weight.sum(1, keepdim=True))

    def ndof(self, x: Tensor) -> Tensor:
        return self._full(x).flatten(1).sum(1) - x[0, 0].numel()


class Graph(_MaskSpace):
    """Adjacency tensors (B, N, N) or (B, N, N, C): symmetric, zero diagonal, zero at absent nodes.

    Noise has unit variance on every edge, as in J. Jo et al., "Score-based generative modeling of
    graphs via the system of stochastic differential equations" (GDSS), ICML 2022: the n (n-1)/2
    upper entries are drawn and mirrored.

    Args:
        mask: boolean node mask (B, N), True = the node exists (isolated nodes survive).
    """

    elementwise = False

    def __init__(self, mask: Tensor) -> None:
        self.mask = _check_mask(mask, "node mask", 2)

    def _upper(self, x: Tensor) -> Tensor:
        mask = self.mask.to(x.device)
        n = mask.shape[1]
        if x.ndim < 3 or x.shape[1:3] != (n, n) or mask.shape[0] not in (1, x.shape[0]):
            raise ValueError(f"a graph state has shape (B, {n}, {n}, ...), got {tuple(x.shape)}")
        pairs = (mask[:, :, None] & mask[:, None, :]).triu(1)
        return pairs.reshape(*pairs.shape, *[1] * (x.ndim - 3)).expand_as(x)

    def _full(self, x: Tensor) -> Tensor:
        upper = self._upper(x)
        return upper | upper.transpose(1, 2)

    def randn(self, noise: Noise, like: Tensor, draw: int, role: str = "step") -> Tensor:
        upper = self._upper(like)
        if not bool(upper.flatten(1).any()):  # single nodes only: no edge anywhere
            return torch.zeros_like(like)
        z = self._scatter(noise, like, upper, draw, role)
        return z + z.transpose(1, 2)

    def project(self, x: Tensor) -> Tensor:
        if not x.is_floating_point():  # token ids have no mean: the upper entries are mirrored
            upper = torch.where(self._upper(x), x, x.new_zeros(()))
            return upper + upper.transpose(1, 2)
        return torch.where(self._full(x), (x + x.transpose(1, 2)) / 2, x.new_zeros(()))

    def ndof(self, x: Tensor) -> Tensor:
        return self._upper(x).flatten(1).sum(1)


class Product(Space):
    """Several named leaves, each in its own space: `Product(X=Masked(m), A=Graph(m))`.

    States are dictionaries with exactly these names. Coefficients may be given once for all leaves
    or as a dictionary, one a leaf.
    """

    def __init__(self, **spaces: Space) -> None:
        if not spaces:
            raise ValueError("Product needs at least one named space, for example Product(X=Euclidean())")
        for name, space in spaces.items():
            if not isinstance(space, Space):
                raise TypeError(f"leaf {name!r}: expected a Space, got {type(space).__name__}")
        self.spaces = spaces

    plain = False

    @property
    def elementwise(self) -> bool:  # type: ignore[override]
        return all(space.elementwise for space in self.spaces.values())

    def randn(self, noise: Noise, like: Tree, draw: int, role: str = "step") -> Tree:
        return {name: s.randn(noise, like[name], draw, f"{role}/{name}") for name, s in self.spaces.items()}

    def project(self, x: Tree) -> Tree:
        return {name: s.project(x[name]) for name, s in self.spaces.items()}

    def lincomb(self, terms: Sequence[tuple[Coef, Tree]]) -> Tree:
        return {
            name: _combine([(c[name] if isinstance(c, dict) else c, x[name]) for c, x in terms]) for name in self.spaces
        }

    def norm(self, x: Tree) -> Tensor:
        total = torch.stack([s.norm(x[name]).square() for name, s in self.spaces.items()])
        return total.sum(0).sqrt()

    def ndof(self, x: Tree) -> Tensor:
        return torch.stack([s.ndof(x[name]) for name, s in self.spaces.items()]).sum(0)

    def take(self, index: Any) -> Space:
        return Product(**{name: s.take(index) for name, s in self.spaces.items()})

    def check(self, x: Tree) -> None:
        if not isinstance(x, dict) or set(x) != set(self.spaces):
            came = sorted(x) if isinstance(x, dict) else type(x).__name__
            raise TypeError(f"a product state is a dictionary with leaves {sorted(self.spaces)}, got {came}")
        for name, space in self.spaces.items():
            space.check(x[name])

    def __repr__(self) -> str:
        return f"Product({', '.join(f'{name}={space!r}' for name, space in self.spaces.items())})"


def default_space(x: Tree) -> Space:
    """Euclidean for a tensor, a Product of Euclidean leaves for a dictionary."""
    return Product(**dict.fromkeys(x, _EUCLIDEAN)) if isinstance(x, dict) else _EUCLIDEAN


def projects(space: Space) -> bool:
    """Whether the space constrains its states at all."""
    if isinstance(space, Product):
        return any(projects(s) for s in space.spaces.values())
    return type(space).project is not Space.project
