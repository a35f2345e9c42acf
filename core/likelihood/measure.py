r"""Volumes on spaces: inner products, normal densities, traces and probes.

A density needs coordinates. On `Euclidean`, `Masked` and `ZeroCoM` states they are orthonormal ones of
the space (real entries; the (n - 1) d directions without centre of mass), on `Graph` states the
n (n - 1)/2 entries above the diagonal, in which the space's noise is standard normal; a `Product` has the
coordinates of its leaves. In these coordinates

    <a, b>          = sum a b                   (half of it for the mirrored entries of a graph)
    log N(x; 0, 1)  = -(<x, x> + ndof log 2 pi) / 2
    tr J            = sum_k <e_k, J e_k> for an orthonormal basis e_k of the space
                    = E <u, J u> for probes u with E u u^T = 1 on the space.

The trace of an operator does not depend on the inner product, so every e_k and u here is orthonormal in
the plain Euclidean sense, which is how automatic differentiation contracts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from ..noise import Noise
from ..spaces import Euclidean, Graph, Masked, Product, Space, ZeroCoM, expand
from ..tree import Tree, tree_map

__all__ = ["Probe", "basis", "check_space", "contract", "inner", "log_normal", "log_scale", "probe", "shifted"]

Probe = Literal["rademacher", "gaussian"]


def check_space(space: Space) -> None:
    """Refuse spaces without a volume that is known here.

    Raises:
        ValueError: for a space that is none of Euclidean, Masked, ZeroCoM, Graph or a Product of those.
    """
    if isinstance(space, Product):
        for leaf in space.spaces.values():
            check_space(leaf)
    elif not isinstance(space, Euclidean | Masked | ZeroCoM | Graph):
        raise ValueError(
            f"a density on {space!r} is not defined here: likelihoods know Euclidean, Masked, ZeroCoM, Graph "
            "and Product of those"
        )


def _leaves(space: Space, *trees: Tree) -> Iterator[tuple[str | None, Space, tuple[Tensor, ...]]]:
    if isinstance(space, Product):
        for name, leaf in space.spaces.items():
            yield name, leaf, tuple(tree[name] for tree in trees)
    else:
        yield None, space, trees


def _share(space: Space) -> float:
    """Weight of one stored entry: entries of a graph are stored twice."""
    return 0.5 if isinstance(space, Graph) else 1.0


def inner(space: Space, a: Tree, b: Tree) -> Tensor:
    """<a, b> of each sample in the coordinates of the density, float64, (B,); a or b in the space."""
    parts = [_share(leaf) * (p * q).double().reshape(p.shape[0], -1).sum(1) for _, leaf, (p, q) in _leaves(space, a, b)]
    return torch.stack(parts).sum(0)


def _where(space: Space, x: Tensor) -> Tensor:
    """Which stored entries are real, (B, ...)."""
    if isinstance(space, Masked | ZeroCoM | Graph):
        return space._full(x)
    return torch.ones_like(x, dtype=torch.bool)


def log_scale(space: Space, x: Tree, scale: Any) -> Tensor:
    """log |det| of multiplying a state by `scale` (a number, (1 or B, features), or one of those a leaf), (B,)."""
    parts = []
    for name, leaf, (value,) in _leaves(space, x):
        c = scale[name] if isinstance(scale, dict) else scale
        if not isinstance(c, Tensor):
            parts.append(leaf.ndof(value).double() * math.log(c))
        elif c.numel() == c.shape[0]:  # one number a sample
            parts.append(leaf.ndof(value).double() * c.double().flatten().log().to(value.device))
        else:
            logs = c.double().log().to(value.device).expand(value.shape)
            parts.append(_share(leaf) * torch.where(_where(leaf, value), logs, 0.0).reshape(value.shape[0], -1).sum(1))
    return torch.stack(parts).sum(0)


def log_normal(space: Space, x: Tree, std: Any = 1.0) -> Tensor:
    """log density of std times the standard normal noise of the space at x, float64, (B,)."""

    def scaled(leaf: Tensor, c: Any) -> Tensor:
        return leaf.double() / (expand(c.double(), leaf.double()) if isinstance(c, Tensor) else c)

    z: Tree
    if isinstance(x, dict):
        z = {name: scaled(leaf, std[name] if isinstance(std, dict) else std) for name, leaf in x.items()}
    else:
        z = scaled(x, std)
    return -0.5 * (inner(space, z, z) + space.ndof(x).double() * math.log(2 * math.pi)) - log_scale(space, x, std)


def shifted(schedule: Any, x: Tree, t: Any, reference: Tree | None) -> Tree:
    """z = x - beta(t) y."""
    if reference is None:
        return x
    beta = schedule.beta(t)

    def minus(leaf: Tensor, y: Tensor, b: Any) -> Tensor:
        return leaf - (expand(b, leaf) if isinstance(b, Tensor) else b) * y

    if isinstance(x, dict):
        return {n: minus(leaf, reference[n], beta[n] if isinstance(beta, dict) else beta) for n, leaf in x.items()}
    return minus(x, reference, beta)


def basis(space: Space, x: Tree) -> Iterator[Tree]:
    """Vectors e_k of the shape of x with tr J = sum_k <e_k, J e_k> on the space.

    Coordinates that no sample has are skipped. Orthonormal except on `ZeroCoM`, where they are the
    projections of the coordinate vectors (one for each coordinate, with the same trace).
    """
    for name, leaf, (value,) in _leaves(space, x):
        real = leaf._upper(value) if isinstance(leaf, Graph) else _where(leaf, value)
        for index in real.any(0).nonzero().tolist():
            place = (slice(None), *index)
            e = torch.zeros_like(value)
            e[place] = real[place].to(value.dtype)
            if isinstance(leaf, Graph):
                e = (e + e.transpose(1, 2)) / math.sqrt(2.0)
            elif isinstance(leaf, ZeroCoM):
                e = leaf.project(e)
            yield e if name is None else {n: e if n == name else torch.zeros_like(v) for n, v in x.items()}


def probe(space: Space, kind: Probe, noise: Noise, x: Tree, draw: int) -> Tree:
    """A random u in the space with E u u^T the identity there: signs, or standard normal numbers."""

    def leaf(space: Space, x: Tensor, role: str) -> Tensor:
        source: Space = Masked(space.mask) if isinstance(space, ZeroCoM) else space
        u = source.randn(noise, x, draw, role)
        if kind == "rademacher":
            u = u.sign()
        return space.project(u) * math.sqrt(_share(space))

    if isinstance(space, Product):
        return {name: leaf(s, x[name], f"probe/{name}") for name, s in space.spaces.items()}
    return leaf(space, x, "probe")


def contract(a: Tree, b: Tree) -> Tensor:
    """The plain Euclidean contraction of two states, float64, (B,)."""
    parts = tree_map(lambda p, q: (p * q).double().reshape(p.shape[0], -1).sum(1), a, b)
    return torch.stack(list(parts.values())).sum(0) if isinstance(parts, dict) else parts
