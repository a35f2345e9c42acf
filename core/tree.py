"""States are trees: one tensor, or a dictionary of named tensors (the leaves of a product state).

Every leaf carries the batch in its first dimension. These few functions are all the tree handling
that the core needs; they return plain tensors for plain tensors, so that the common case costs one
`isinstance`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["Tree", "batch_size", "cat", "leaves", "take", "tree_map"]

Tree = Any
"""`torch.Tensor` or `dict[str, torch.Tensor]`, batch first."""


def tree_map(function: Callable[..., Any], x: Tree, *rest: Tree) -> Tree:
    """Apply `function` to every leaf of `x` (and to the matching leaves of `rest`)."""
    if isinstance(x, dict):
        return {name: function(leaf, *(r[name] for r in rest)) for name, leaf in x.items()}
    return function(x, *rest)


def leaves(x: Tree) -> list[Tensor]:
    """All leaves of `x`, in the order of their names' insertion."""
    return list(x.values()) if isinstance(x, dict) else [x]


def batch_size(x: Tree) -> int:
    """Size of the batch dimension, the same in every leaf.

    Raises:
        TypeError: if a leaf is not a tensor.
        ValueError: if a leaf has no batch dimension or leaves disagree on its size.
    """
    sizes = set()
    for leaf in leaves(x):
        if not isinstance(leaf, Tensor):
            raise TypeError(f"a state is a tensor or a dictionary of tensors, got {type(leaf).__name__}")
        if leaf.ndim == 0:
            raise ValueError("a state needs a batch dimension, got a tensor of shape ()")
        sizes.add(leaf.shape[0])
    if len(sizes) != 1:
        raise ValueError(f"the leaves of a state must share one batch size, got {sorted(sizes)}")
    return sizes.pop()


def take(x: Tree, index: Any) -> Tree:
    """The batch elements `index` (a slice, or a long tensor) of every leaf."""
    return tree_map(lambda leaf: leaf[index], x)


def cat(trees: Sequence[Tree]) -> Tree:
    """Concatenate trees along the batch dimension."""
    if len(trees) == 1:
        return trees[0]
    if isinstance(trees[0], dict):
        return {name: torch.cat([t[name] for t in trees]) for name in trees[0]}
    return torch.cat(list(trees))
