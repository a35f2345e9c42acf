"""Which tokens of a state are real, and count: padding does not, and of mirrored pairs one does."""

from __future__ import annotations

import torch
from torch import Tensor

from ..spaces import Graph, Product, Space
from ..tree import Tree

__all__ = ["places"]


def places(space: Space, x: Tree) -> Tree:
    """Boolean tensors of the shape of `x`: the tokens that a sample's law is over.

    Args:
        space: where the tokens live. Padding of `Masked` does not count; of a `Graph`'s edges the upper entries do.
        x: token ids, (B, L, ...), or a dictionary of leaves.
    """
    if isinstance(space, Product):
        return {name: places(one, x[name]) for name, one in space.spaces.items()}
    real: Tensor = space.project(torch.ones_like(x)).bool()
    if isinstance(space, Graph):
        upper = torch.ones(real.shape[1:3], dtype=torch.bool, device=real.device).triu(1)
        real = real & upper.reshape(*upper.shape, *[1] * (real.ndim - 3))
    return real
