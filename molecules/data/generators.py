"""The graph sets of the papers that are made by a recipe, made again by it.

They are *regenerated*: the same distribution, other graphs than those of the published files, which are read by
:mod:`.pickles` where they are at hand. Each takes a seed; the same seed gives the same graphs.

=================  =====================================================================================================
community_small    100 graphs, two communities of equal size, 12 <= n <= 20; inside, every edge with probability 0.7;
                   between them 0.05 n edges on average, at least one. J. You et al., GraphRNN, ICML 2018; C. Niu et
                   al., EDP-GNN, AISTATS 2020; used by GDSS and SPECTRE
ego_small          200 graphs, the neighbourhoods of single nodes of Citeseer, 4 <= n <= 18. As before
grid               100 two-dimensional grids, sides 10 to 19, 100 <= n <= 361 (n <= 400 in GraphRNN's paper). As before
planar             200 Delaunay triangulations of 64 points in the unit square. K. Martinkus et al., SPECTRE, ICML 2022
sbm                200 stochastic block models: 2 to 5 blocks of 20 to 40 nodes, edges inside with probability 0.3,
                   between blocks with 0.005. As before
=================  =====================================================================================================

**What the published programs do beside the recipe.** The generator of community_small that EDP-GNN, GDSS and SPECTRE
share draws the inside of its two communities with the fixed seeds 0 and 1, so that all graphs of one size have the same
two communities and differ in the edges between them (so it is in the file of SPECTRE): ``fixed_blocks=True`` does it.
If a community falls into pieces, the pieces are joined like communities, here as well. An SBM may be disconnected;
SPECTRE keeps those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .graphs import Graphs
from .interchange import from_adjacency

__all__ = ["community_small", "components", "ego_graphs", "ego_small", "grid", "planar", "sbm", "similar_to_citeseer"]


def _random_graph(n: int, p: float, rng: np.random.Generator) -> np.ndarray:
    """An Erdős-Rényi graph: (n, n) of 0 and 1."""
    upper = np.triu(rng.random((n, n)) < p, 1)
    return (upper | upper.T).astype(np.uint8)


def components(a: np.ndarray) -> np.ndarray:
    """(n,) the number of the connected component of each node, in the order of their first nodes."""
    from scipy.sparse.csgraph import connected_components

    return connected_components(a, directed=False)[1]


def _joined(a: np.ndarray, p: float, rng: np.random.Generator) -> np.ndarray:
    """Edges with probability p between any two components, and one between their first nodes where none came."""
    a = a.copy()
    part = components(a)
    for i in range(part.max() + 1):
        for j in range(i + 1, part.max() + 1):
            one, two = np.flatnonzero(part == i), np.flatnonzero(part == j)
            bridges = rng.random((len(one), len(two))) < p
            if not bridges.any():
                bridges[0, 0] = True
            a[np.ix_(one, two)] |= bridges.astype(np.uint8)
            a[np.ix_(two, one)] |= bridges.T.astype(np.uint8)
    return a


def community_small(count: int = 100, *, seed: int, fixed_blocks: bool = False) -> Graphs:
    """Two communities; see the module.

    The sizes are drawn from 12..20, an odd one gives two halves of (n - 1) / 2, so that n is even. The probability of
    an edge between the halves of k = n / 2 nodes is 0.05 * 2 / k, on average 0.05 n edges.

    Args:
        count: of graphs. seed: of everything. fixed_blocks: the same communities in all graphs of a size.
    """
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(_positive(count)):
        k = int(rng.integers(12, 21)) // 2
        inside = [_random_graph(k, 0.7, np.random.default_rng([seed, k, b]) if fixed_blocks else rng) for b in (0, 1)]
        a = np.zeros((2 * k, 2 * k), dtype=np.uint8)
        a[:k, :k], a[k:, k:] = inside
        out.append(_joined(a, 0.1 / k, rng))
    return from_adjacency(out, source="community_small")


def grid(count: int = 100, *, seed: int, sides: tuple[int, int] = (10, 19)) -> Graphs:
    """Two-dimensional grids with both sides drawn from ``sides[0]..sides[1]``, both included; see the module.

    Raises:
        ValueError: sides that are no range of positive numbers.
    """
    low, high = sides
    if not 1 <= low <= high:
        raise ValueError(f"sides are the smallest and the largest side, at least 1, got {sides}")
    rng = np.random.default_rng(seed)
    draws = rng.integers(low, high + 1, size=(_positive(count), 2)).tolist()
    return from_adjacency([_grid(m, n) for m, n in draws], source="grid")


def _grid(m: int, n: int) -> np.ndarray:
    """Neighbours in m rows of n nodes: (m n, m n)."""
    place = np.arange(m * n).reshape(m, n)
    a = np.zeros((m * n, m * n), dtype=np.uint8)
    a[place[:, :-1].ravel(), place[:, 1:].ravel()] = 1
    a[place[:-1].ravel(), place[1:].ravel()] = 1
    return a | a.T


def planar(count: int = 200, *, seed: int, nodes: int = 64) -> Graphs:
    """Delaunay triangulations of uniform points: planar and connected; see the module.

    Raises:
        ValueError: fewer than three nodes.
    """
    from scipy.spatial import Delaunay

    if nodes < 3:
        raise ValueError(f"a triangulation has at least 3 nodes, got {nodes}")
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(_positive(count)):
        triangles = Delaunay(rng.random((nodes, 2))).simplices
        a = np.zeros((nodes, nodes), dtype=np.uint8)
        for i, j in ((0, 1), (1, 2), (2, 0)):
            a[triangles[:, i], triangles[:, j]] = 1
        out.append(a | a.T)
    return from_adjacency(out, source="planar")


def sbm(count: int = 200, *, seed: int) -> Graphs:
    """Stochastic block models, the nodes block by block; see the module. ``properties["blocks"]`` is their number."""
    rng = np.random.default_rng(seed)
    made = [_sbm(rng) for _ in range(_positive(count))]
    blocks = [len(sizes) for _, sizes in made]
    return from_adjacency([a for a, _ in made], properties={"blocks": blocks}, source="sbm")


def _sbm(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One model and the sizes of its blocks."""
    sizes = rng.integers(20, 41, size=int(rng.integers(2, 6)))
    block = np.repeat(np.arange(len(sizes)), sizes)
    p = np.where(block[:, None] == block, 0.3, 0.005)
    upper = np.triu(rng.random(p.shape) < p, 1)
    return (upper | upper.T).astype(np.uint8), sizes


def ego_graphs(
    neighbours: Mapping[int, Sequence[int]], *, min_nodes: int = 4, max_nodes: int = 18, limit: int | None = None
) -> Graphs:
    """The neighbourhoods (a node, its neighbours, and all edges among them) of the largest component of a graph.

    Args:
        neighbours: node -> neighbours, one direction or both; self-loops are dropped.
        min_nodes, max_nodes: sizes that are kept. limit: the first so many, in the order of the nodes.

    Raises:
        ValueError: no neighbourhood of that size.
    """
    import scipy.sparse as sparse
    from scipy.sparse.csgraph import connected_components

    names = sorted({*neighbours, *(v for vs in neighbours.values() for v in vs)})
    place = {name: i for i, name in enumerate(names)}
    edges = np.array([(place[u], place[v]) for u, vs in neighbours.items() for v in vs if u != v]).reshape(-1, 2)
    rows, columns = np.concatenate([edges, edges[:, ::-1]]).T
    whole = sparse.csr_array((np.ones(len(rows), dtype=np.uint8), (rows, columns)), shape=(len(names),) * 2)
    part = connected_components(whole, directed=False)[1]
    largest = np.flatnonzero(part == np.bincount(part).argmax())
    found: list[np.ndarray] = []
    ids = []
    for node in largest:
        members = np.union1d([node], whole.indices[whole.indptr[node] : whole.indptr[node + 1]])
        if min_nodes <= len(members) <= max_nodes and (limit is None or len(found) < limit):
            found.append((whole[members][:, members].toarray() > 0).astype(np.uint8))
            ids.append(names[node])
    if not found:
        raise ValueError(f"no neighbourhood has {min_nodes} to {max_nodes} nodes")
    return from_adjacency(found, ids=ids, source="ego graphs")


def ego_small(neighbours: Mapping[int, Sequence[int]] | None = None, count: int = 200, *, seed: int = 0) -> Graphs:
    """Neighbourhoods of Citeseer, 4 to 18 nodes, the first 200; see the module.

    Args:
        neighbours: the citations, from :func:`.pickles.read_planetoid_graph` of ``ind.citeseer.graph``. None takes
            :func:`similar_to_citeseer` instead: **synthetic**, not the published set, and its numbers compare with no
            paper's.
        count: of graphs. seed: of the synthetic graph.

    Raises:
        ValueError: no neighbourhood of that size.
    """
    base = similar_to_citeseer(seed=seed) if neighbours is None else neighbours
    return ego_graphs(base, limit=_positive(count))


def similar_to_citeseer(*, seed: int, nodes: int = 2120, edges: int = 3679) -> dict[int, list[int]]:
    """A synthetic stand-in for the largest component of Citeseer, of as many nodes and edges.

    P. Holme and B. J. Kim, "Growing scale-free networks with tunable clustering", Phys. Rev. E 65, 2002: each new node
    is linked to one node by preference for high degrees, and to a neighbour of that one (which closes a triangle) until
    the edges are used up evenly. It has hubs and triangles, as citations have; nothing else is fitted.

    Args:
        seed: of the draw. nodes, edges: of the result; at most two new edges a node.

    Returns:
        node -> neighbours, both directions; connected.
    """
    if not nodes - 1 <= edges <= 2 * nodes - 3:
        raise ValueError(f"{nodes} nodes take {nodes - 1} to {2 * nodes - 3} edges, got {edges}")
    rng = np.random.default_rng(seed)
    neighbours: dict[int, list[int]] = {0: [1], 1: [0]}
    ends = [0, 1]  # every node as often as its degree
    closing = np.zeros(nodes, dtype=bool)  # which new nodes close a triangle
    closing[2 + rng.permutation(nodes - 2)[: edges - (nodes - 1)]] = True
    for node in range(2, nodes):
        first = ends[int(rng.integers(len(ends)))]
        targets = [first]
        if closing[node]:
            targets.append(neighbours[first][int(rng.integers(len(neighbours[first])))])
        neighbours[node] = []
        for target in targets:
            neighbours[node].append(target)
            neighbours[target].append(node)
            ends += [node, target]
    return neighbours


def _positive(count: int) -> int:
    if count < 1:
        raise ValueError(f"count is a number of graphs, at least 1, got {count}")
    return count
