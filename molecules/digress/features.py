r"""What a network is told about a noisy graph beside its entries: cycles, the Laplacian's spectrum, valences.

Message passing cannot count cycles nor see how far a graph hangs together. C. Vignac et al., "DiGress", ICLR 2023,
appendix B.2, add features that are cheap and computed anew for each noisy graph.
A is the adjacency with ones where there is any edge, d the degrees.

*Cycles*, from powers of A (cycles of k nodes; through each node for k = 3, 4, 5, in the graph for k up to 6):

    through i    2 c3 = (A^3)_ii
                 2 c4 = (A^4)_ii - d_i (d_i - 1) - (A d)_i
                 2 c5 = (A^5)_ii - 2 d_i (A^3)_ii - 2 sum_j A_ij (A^2)_ij d_j - sum_j A_ij (A^3)_jj + 5 (A^3)_ii
    in all      12 c6 = tr A^6 - 3 sum (A^3)_ii^2 + 9 sum A_ij (A^2)_ij^2 - 6 sum d_i (A^4)_ii + 6 tr A^4 - 4 tr A^3
                        + 4 sum d^3 + 3 sum (A^3)_ij - 12 sum d^2 + 4 sum d

and a graph has 1/k of the sum over its nodes. c5 takes from the closed walks of 5 steps those around a triangle with
one edge walked there and back; the published code takes too few of them, and counts 5-cycles where none is (a triangle
with a tail has 0.4). The network sees min(c / 10, 1), as published.

*Spectrum* of L = diag(d) - A: how many connected components there are (zero eigenvalues) and the five smallest of the
other eigenvalues over n (2 where there are none). The published code adds entries of two eigenvectors. Those have a
sign, and within equal eigenvalues (symmetric graphs) a basis, that is nobody's choice: no network on them is
equivariant. In their place stand entries of the heat kernels exp(-tau L): the same eigenvectors, in a form that has no
choice in it; at large tau they tell components apart and their size, which the published indicator of the largest
component does. Their diagonals go to the nodes, the others to the edges.

*Molecules*: of each atom its valence (sum of bond orders) and what is left of its type's usual one, and the weight.

Everything is computed from what exists: permuting the nodes permutes it, and padding changes nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..data.extras import chem as rdkit_chem
from ..data.vocabulary import parse_type

__all__ = ["HEAT", "Extra", "atom_table", "cycles", "extra_features", "molecular", "spectral", "widths"]

HEAT = (0.25, 1.0, 4.0)
"""Times tau of the heat kernels."""

EIGENVALUES = 5

ZERO = 1e-5
"""Eigenvalues below are zero: they are computed in float64, and no graph of up to 1000 nodes has others so small."""


class Extra(NamedTuple):
    """Features (B, N, F) of nodes, (B, N, N, F) of pairs and (B, F) of graphs, float32."""

    nodes: Tensor
    pairs: Tensor
    graph: Tensor


def cycles(A: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers of cycles.

    Args:
        A: (B, N, N) of 0 and 1, symmetric, zero diagonal, float64.

    Returns:
        Cycles of 3, 4, 5 nodes through each node (B, N, 3), and of 3, 4, 5, 6 nodes in each graph (B, 4).
    """
    A2 = A @ A
    A3 = A2 @ A
    d = A.sum(-1)
    d3, d4 = (m.diagonal(dim1=1, dim2=2) for m in (A3, A2 @ A2))
    d5 = (A2 * A3).sum(-1)  # diagonal of A^2 A^3, both symmetric
    c4 = d4 - d * (d - 1) - (A @ d[..., None])[..., 0]
    c5 = d5 - 2 * d * d3 - 2 * ((A * A2) @ d[..., None])[..., 0] - (A @ d3[..., None])[..., 0] + 5 * d3
    c6 = (
        A3.square().sum((1, 2)) - 3 * d3.square().sum(1) + 9 * (A * A2.square()).sum((1, 2)) - 6 * (d * d4).sum(1)
        + 6 * d4.sum(1) - 4 * d3.sum(1) + 4 * d.pow(3).sum(1) + 3 * A3.sum((1, 2)) - 12 * d.square().sum(1)
        + 4 * d.sum(1)
    )  # fmt: skip
    node = torch.stack([d3, c4, c5], -1) / 2
    of_graph = node.sum(1) / torch.tensor([3.0, 4.0, 5.0], dtype=A.dtype, device=A.device)
    return node, torch.cat([of_graph, c6[:, None] / 12], -1)


def spectral(A: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Heat kernels (B, N, N, len(HEAT)), and components with eigenvalues, (B, 1 + EIGENVALUES).

    Args:
        A: as for `cycles`.
        nodes: (B, N) bool.
    """
    size = A.shape[1]
    L = torch.diag_embed(A.sum(-1)) - A
    absent = torch.diag_embed((~nodes).to(A.dtype) * 2.0 * size)  # above every eigenvalue, which are at most n
    values, vectors = torch.linalg.eigh(L + absent)
    pairs = nodes[:, :, None] & nodes[:, None, :]
    kernels = torch.stack([(vectors * (-tau * values).exp()[:, None]) @ vectors.mT for tau in HEAT], -1)
    n = nodes.sum(1, keepdim=True)
    components = ((values < ZERO) & (torch.arange(size, device=A.device) < n)).sum(1, keepdim=True)
    place = components + torch.arange(EIGENVALUES, device=A.device)
    first = values.gather(1, place.clamp_max(size - 1)) / n
    return kernels * pairs[..., None], torch.cat([components, torch.where(place < n, first, 2.0)], -1)


def atom_table(vocabulary: tuple[str, ...]) -> Tensor:
    """Of each type the usual valence of its charge, and the atomic weight in g/mol: (2, types), float32.

    The valence of an ion is that of the neutral atom with as many electrons: 4 for N+, 1 for O-.
    """
    table = rdkit_chem().GetPeriodicTable()
    pairs = [parse_type(name) for name in vocabulary]
    valences = [table.GetDefaultValence(max(1, number - charge)) for number, charge in pairs]
    return torch.tensor([valences, [table.GetAtomicWeight(number) for number, _ in pairs]], dtype=torch.float32)


def molecular(types: Tensor, A: Tensor, nodes: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Valence and what is left of the usual one (B, N, 2), and the weight (B, 1) over 12 g/mol a place.

    Args:
        types, A: tokens (B, N), (B, N, N); A holds bond orders.
        nodes: (B, N) bool.
        table: of `atom_table`.
    """
    valence = A.sum(-1).float()
    usual, weight = table[:, types]
    node = torch.stack([valence, usual - valence], -1) / 4 * nodes[..., None]
    return node, (weight * nodes).sum(1, keepdim=True) / (12.0 * nodes.shape[1])


def widths(kind: str, molecules: bool) -> tuple[int, int, int]:
    """How many features `extra_features` has for nodes, pairs and graphs."""
    cycle, heat, atoms = kind != "none", kind == "all", int(molecules)
    return 3 * cycle + len(HEAT) * heat + 2 * atoms, len(HEAT) * heat, 1 + 4 * cycle + (1 + EIGENVALUES) * heat + atoms


def extra_features(types: Tensor | None, A: Tensor, nodes: Tensor, kind: str, table: Tensor | None, most: int) -> Extra:
    """All features of noisy graphs, as the network takes them.

    Args:
        types, A: tokens (B, N) or None, (B, N, N); A > 0 is an edge.
        nodes: (B, N) bool.
        kind: "all", "cycles" or "none".
        table: `atom_table`, of molecules; else None.
        most: the largest number of nodes of the model, to which sizes are compared.
    """
    on = nodes[..., None].float()
    node, pair, graph = [], [], [nodes.sum(1, keepdim=True).float() / most]
    if kind != "none":
        edges = (A > 0).double()
        of_nodes, of_graphs = cycles(edges)
        node.append((of_nodes / 10).clamp_max(1.0).float())
        graph.append((of_graphs / 10).clamp_max(1.0).float())
    if kind == "all":
        kernels, values = spectral(edges, nodes)
        node.append(kernels.diagonal(dim1=1, dim2=2).transpose(1, 2).float())
        pair.append(kernels.float())
        graph.append(torch.cat([values[:, :1] / 10, values[:, 1:]], -1).float())
    if table is not None and types is not None:
        of_nodes, weight = molecular(types, A, nodes, table)
        node.append(of_nodes)
        graph.append(weight * nodes.shape[1] / most)
    blank = A.new_zeros((*A.shape, 0), dtype=torch.float32)
    nodes_out = torch.cat([blank[:, :, 0], *node], -1) * on
    return Extra(nodes_out, torch.cat([blank, *pair], -1), torch.cat(graph, -1))
