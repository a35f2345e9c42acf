r"""The structural partial order of :mod:`.model`: in which blocks a graph comes, told by the graph alone.

From what is left of a graph, remove the nodes of least weighted degree, all at once; they are a block. Go on until
nothing is left, and turn the order round: the core of the graph comes first, what hangs on it last. With the degrees of
growing neighbourhoods

    d_0 = 1,    d_k = (A + I) d_{k-1},    k = 1..K,        w = sum_{k=1}^K d_k n^{K-k},

A being the edges (not the bond orders) among the nodes left and n the nodes of the whole graph, near neighbourhoods are
compared first. Nodes that a symmetry of the graph exchanges have the same w, and so are in the same block: blocks do
not depend on how the nodes are numbered.

K is ``max_hops``. ``max_hops=0`` is diffusion alone: the whole graph is one block. So its authors describe it (the
table in the README of their code has 1 block a graph on average at 0 hops, and calls it "no AR"); w is then an empty
sum, the same for all nodes.

*A gap closed.* d_2 may exceed n, so that w may be the same for nodes of different degrees. A block is told one degree,
which its nodes are to share; so of the nodes of least w those of least degree make the block. It changes nothing where
w decides, and is as independent of the numbering.

L. Zhao, X. Ding, L. Akoglu, "Pard: permutation-invariant autoregressive diffusion for graph generation", NeurIPS 2024,
https://arxiv.org/abs/2402.03687, section 3.2.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Blocks", "structural_order", "weighted_degrees"]

ROWS = 4096
"""Graphs that are ordered at a time."""


class Blocks(NamedTuple):
    """The blocks of B graphs, in the order in which they are generated.

    Attributes:
        block: (B, N) long, the block of each node, from 0; -1 at absent nodes.
        degree: (B, N) long, the degree of each node among its own block and earlier ones, the same in a block (0 where
            there is one block for all, `max_hops` = 0); 0 at absent nodes.
    """

    block: Tensor
    degree: Tensor

    @property
    def number(self) -> Tensor:
        """Blocks of each graph, (B,) long."""
        return self.block.amax(1) + 1

    def by_block(self) -> tuple[Tensor, Tensor]:
        """Size and degree of each block, (B, L) long both, L the most blocks of a graph; 0 where there is none."""
        most = int(self.number.max())
        member = self.block[:, None, :] == torch.arange(most, device=self.block.device)[:, None]  # (B, L, N)
        return member.sum(2), (member * self.degree[:, None, :]).amax(2)


def weighted_degrees(A: Tensor, nodes: Tensor, max_hops: int) -> tuple[Tensor, Tensor]:
    """w and d_1 of each node, (B, N) long both.

    Args:
        A: (B, N, N) 0 and 1, float64; a node that is not there has no edge.
        nodes: (B,) long, n of each graph.
        max_hops: K >= 1.
    """
    d = A.new_ones(A.shape[:2])
    w = torch.zeros(A.shape[:2], dtype=torch.long, device=A.device)
    first = w
    for k in range(1, max_hops + 1):
        d = d + (A @ d.unsqueeze(-1)).squeeze(-1)
        first = d.long() if k == 1 else first
        w = w * nodes[:, None] + d.long()
    return w, first


def structural_order(A: Tensor, mask: Tensor, max_hops: int) -> Blocks:
    """The blocks of graphs; see the module.

    Args:
        A: (B, N, N) bond orders or 0 and 1; what is not zero is an edge.
        mask: (B, N) bool, True = the node exists.
        max_hops: K; 0: one block.

    Raises:
        ValueError: K is negative, or w of so many nodes and hops is beyond 63 bits.
    """
    if isinstance(max_hops, bool) or not isinstance(max_hops, int) or max_hops < 0:
        raise ValueError(f"max_hops is a number of hops, 0 or more, got {max_hops!r}")
    if max_hops == 0:
        return Blocks(mask.long() - 1, torch.zeros_like(mask, dtype=torch.long))
    n = A.shape[1]
    if max_hops * n**max_hops >= 2**53:
        raise ValueError(f"weighted degrees of {n} nodes over max_hops={max_hops} exceed 2^53: take fewer hops")
    parts = [_ordered(A[i : i + ROWS], mask[i : i + ROWS], max_hops) for i in range(0, len(A), ROWS)]
    return Blocks(torch.cat([p.block for p in parts]), torch.cat([p.degree for p in parts]))


def _ordered(A: Tensor, mask: Tensor, max_hops: int) -> Blocks:
    left, edges, nodes = mask.clone(), A.ne(0).double(), mask.sum(1)
    removed = torch.zeros_like(mask, dtype=torch.long)  # the round in which a node goes, from 1
    degree = torch.zeros_like(removed)
    none = torch.iinfo(torch.long).max
    step = 0
    while bool(left.any()):
        step += 1
        inside = edges * (left[:, :, None] & left[:, None, :])
        w, first = weighted_degrees(inside, nodes, max_hops)
        w = w.masked_fill(~left, none)
        least = left & (w == w.amin(1, keepdim=True))
        first = first.masked_fill(~least, none)
        block = least & (first == first.amin(1, keepdim=True))
        removed[block] = step
        degree[block] = first[block] - 1
        left = left & ~block
    return Blocks(torch.where(mask, removed.amax(1, keepdim=True) - removed, -1), degree)
