"""Graphs as tokens: the space in which types and bonds live, and how frequent each is."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.spaces import Graph, Masked, Product
from .data.graphs import Graphs

__all__ = ["frequencies", "space_of"]

_AT_ONCE = 4096


def space_of(nodes: Tensor, typed: bool) -> Product:
    """Where the tokens of graphs with these nodes (B, N) live: {"X", "A"}, or {"A"} of graphs without types."""
    return Product(X=Masked(nodes), A=Graph(nodes)) if typed else Product(A=Graph(nodes))


def frequencies(graphs: Graphs, bonds: int, types: int | None = None) -> dict[str, list[float]]:
    """How frequent each type is among nodes ("X"), and each bond, 0 included, among pairs of nodes ("A").

    Args:
        bonds: states of a pair. Where there is no pair at all, 0 has frequency 1.
        types: states of a node; 0 of graphs without types, which have no "X". None: of the vocabulary, at least 2.
    """
    if types is None:
        types = 0 if graphs.types is None else max(2, len(graphs.vocabulary or ()))
    out: dict[str, list[float]] = {}
    if types and graphs.types is not None:
        counts = torch.bincount(graphs.types[graphs.mask].long(), minlength=types)
        out["X"] = (counts.double() / counts.sum()).tolist()
    counts = torch.zeros(bonds, dtype=torch.long)
    for A, mask in zip(graphs.A.split(_AT_ONCE), graphs.mask.split(_AT_ONCE), strict=True):
        pairs = (mask[:, :, None] & mask[:, None, :]).triu(1)
        counts += torch.bincount(A[pairs].long(), minlength=bonds)
    if int(counts.sum()) == 0:
        counts[0] = 1
    out["A"] = (counts.double() / counts.sum()).tolist()
    return out
