"""Graphs as tokens: the space in which types and bonds live, and how frequent each is."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from ..core.spaces import Graph, Masked, Product
from .data.graphs import Graphs

__all__ = ["frequencies", "seen_in_training", "space_of"]

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


def seen_in_training(val: Graphs, train: Graphs) -> Graphs:
    """The validation graphs whose types and bonds all occur in training graphs.

    Others have the probability zero in a law that is made of the frequencies of the training graphs, and no finite
    loss. A scaffold split of a small set easily holds the only fluorine out.

    Raises:
        ValueError: none is left.

    Warns:
        UserWarning: how many were left out, and what of.
    """
    strange: set[str] = set()
    good = torch.ones(len(val), dtype=torch.bool)
    if val.types is not None and train.types is not None:
        new = val.mask & ~torch.isin(val.types, train.types[train.mask].unique())
        good &= ~new.any(1)
        names = val.vocabulary or ()
        strange |= {str(names[k]) if k < len(names) else f"type {k}" for k in val.types[new].unique().tolist()}
    new = ~torch.isin(val.A, train.A.unique())
    good &= ~new.flatten(1).any(1)
    strange |= {f"bond order {k}" for k in val.A[new].unique().tolist()}
    if bool(good.all()):
        return val
    what = (
        f"{int((~good).sum())} of {len(val)} validation graphs have what no training graph has "
        f"({', '.join(sorted(strange))})"
    )
    if not bool(good.any()):
        raise ValueError(f"{what}: split at random, or train without validation (--split none)")
    warnings.warn(f"{what}: they are left out of the validation loss", stacklevel=3)
    return val[good]
