r"""Graph statistics and their MMD: degree, clustering, orbit, spectral, in the kernels of the field by name.

==============  ==========================================================  ======================================
descriptor      of a graph of n nodes                                       kernel
==============  ==========================================================  ======================================
``degree``      histogram of degrees 0, 1, 2 .. over n                      emd in degrees, or tv; sigma = 1
``clustering``  histogram of local clustering coefficients, 100 bins of     emd in units of 1 (bin width 1/100), or
                [0, 1], over n                                              tv; sigma = 1/10
``orbit``       15 mean orbit counts over nodes (:mod:`.orbits`)            ``emd``: Euclidean, ``tv``: 1/2 sum |.|;
                                                                            sigma = 30
``spectral``    histogram of the eigenvalues of the normalised Laplacian,   emd in bins, or tv; sigma = 1
                200 bins of [-1e-5, 2], over n
==============  ==========================================================  ======================================

``emd`` is the set that GDSS reports (Jo et al., 2022; definitions of GraphRNN and GRAN), ``tv`` that of SPECTRE and
DiGress (Martinkus et al., "SPECTRE", 2022, https://arxiv.org/abs/2204.01613). The names carry it:
``mmd_degree_emd``. Orbit counts are no histogram, so that under ``emd`` their kernel is the Euclidean one, as there.

*A kernel may be too narrow.* Where ``reference`` is about 1/n + 1/m, graphs are alike only to themselves, D - O = 1,
and the score is that number whatever the model: so it is of ``spectral`` in emd (sigma of one bin out of 200), and of
``clustering`` in tv, on most data.

Graphs are simple: an edge is any value other than 0, weights and labels count nowhere here, loops are dropped. Graphs
without nodes are left out and counted. No coefficient of a node of degree < 2 is defined; it counts as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from ...core.scores import Score
from ..data.extras import networkx
from .containers import as_matrices
from .mmd import GraphKernel, distances, gaussian, mmd
from .orbits import node_orbits

__all__ = ["DESCRIPTORS", "adjacency", "descriptor", "graph_mmd"]

DESCRIPTORS = ("degree", "clustering", "orbit", "spectral")
_SIGMA = {"degree": 1.0, "clustering": 0.1, "orbit": 30.0, "spectral": 1.0}
_WIDTH = {"degree": 1.0, "clustering": 0.01, "spectral": 1.0}
_TEXT = {
    "degree": "degree histogram",
    "clustering": "histogram of local clustering coefficients in 100 bins",
    "orbit": "mean counts of the 15 orbits of up to 4 nodes",
    "spectral": "histogram of eigenvalues of the normalised Laplacian in 200 bins",
}


def adjacency(graph: Any) -> np.ndarray:
    """0/1 matrix (N, N), without loops, of a networkx graph or of a matrix of bond orders or weights.

    Raises:
        ValueError: a matrix that is not square, not symmetric or not finite. TypeError: a directed graph.
    """
    if hasattr(graph, "is_directed"):
        if graph.is_directed():
            raise TypeError("the graph is directed: these statistics are of undirected graphs; see to_undirected()")
        A = networkx().to_numpy_array(graph, weight=None)
    else:
        A = np.asarray(graph, dtype=np.float64)
    if A.ndim != 2 or A.shape[0] != A.shape[1] or not np.isfinite(A).all():
        raise ValueError(f"expected a finite square adjacency matrix, got shape {A.shape}")
    A = (A != 0).astype(np.float64)
    if not (A == A.T).all():
        i, j = np.argwhere(A != A.T)[0]
        raise ValueError(f"the adjacency matrix is not symmetric: the edge ({i}, {j}) has no ({j}, {i})")
    np.fill_diagonal(A, 0)
    return A


def descriptor(name: str, matrices: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The descriptor of each graph, one vector each; degree histograms are as long as they need be.

    Args:
        matrices: what :func:`adjacency` gives, with nodes.

    Raises:
        ValueError: an unknown name.
    """
    functions = {"degree": _degree, "clustering": _clustering, "orbit": _orbit, "spectral": _spectral}
    if name not in functions:
        raise ValueError(f"no descriptor {name!r}; there are {', '.join(DESCRIPTORS)}")
    return [functions[name](A) for A in matrices]


def _degree(A: np.ndarray) -> np.ndarray:
    return np.bincount(A.sum(axis=1).astype(np.int64)) / len(A)


def _clustering(A: np.ndarray) -> np.ndarray:
    d, twice = A.sum(axis=1), ((A @ A) * A).sum(axis=1)  # twice the triangles
    c = np.divide(twice, d * (d - 1), out=np.zeros(len(A)), where=d > 1)
    return np.histogram(c, bins=100, range=(0.0, 1.0))[0] / len(A)


def _orbit(A: np.ndarray) -> np.ndarray:
    return node_orbits(A).mean(axis=0)


def _spectral(A: np.ndarray) -> np.ndarray:
    d = A.sum(axis=1)
    s = np.divide(1.0, np.sqrt(d), out=np.zeros(len(A)), where=d > 0)
    eigenvalues = np.linalg.eigvalsh(np.diag((d > 0).astype(np.float64)) - s[:, None] * A * s[None])
    inside = np.clip(eigenvalues, -1e-5, 2.0)  # rounding may leave the interval by 1e-16
    return np.histogram(inside, bins=200, range=(-1e-5, 2.0))[0] / len(A)


def graph_mmd(
    generated: Any,
    reference: Any,
    kernel: GraphKernel = "emd",
    which: Sequence[str] = DESCRIPTORS,
    *,
    draws: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Score]:
    """MMD^2 of each statistic: ``mmd_degree_emd``, ``mmd_clustering_emd``, ...

    Args:
        generated, reference: networkx graphs, or adjacency matrices (n, n) of any sizes, every row a node that exists;
            or `Graphs`, `GraphSamples` as they are, whose masks say which nodes exist.
        kernel: ``"emd"`` as GDSS, ``"tv"`` as SPECTRE and DiGress. which: of :data:`DESCRIPTORS`.
        draws, level, seed: of the interval.

    Returns:
        scores whose ``reference`` is what chance alone gives at these sizes (:mod:`.mmd`).

    Raises:
        ValueError: an empty list, graphs that all lack nodes, an unknown kernel or statistic, a damaged matrix.
    """
    if kernel not in get_args(GraphKernel):
        raise ValueError(f"kernel must be 'emd' (as GDSS) or 'tv' (as SPECTRE, DiGress), got {kernel!r}")
    X, left_x = _with_nodes(generated, "generated")
    Y, left_y = _with_nodes(reference, "reference")
    out = {}
    for name in which:
        x, y = _padded(descriptor(name, X), descriptor(name, Y))
        metric = "gaussian" if (name, kernel) == ("orbit", "emd") else kernel
        width = _WIDTH.get(name, 1.0)
        k = [gaussian(distances(a, b, metric, width), _SIGMA[name]) for a, b in ((x, x), (y, y), (x, y))]
        how = {"emd": "earth mover's", "tv": "total variation", "gaussian": "Euclidean"}[metric]
        text = f"{_TEXT[name]}, Gaussian of the {how} distance, sigma = {_SIGMA[name]:g}"
        key = f"mmd_{name}_{kernel}"
        out[key] = mmd(key, text, *k, draws=draws, level=level, seed=seed, left_out=left_x + left_y)
    return out


def _with_nodes(graphs: Any, role: str) -> tuple[list[np.ndarray], int]:
    graphs = as_matrices(graphs)
    if len(graphs) == 0:
        raise ValueError(f"the list of {role} graphs is empty: there is nothing to compare")
    matrices = [adjacency(graph) for graph in graphs]
    kept = [A for A in matrices if len(A)]
    if not kept:
        raise ValueError(f"none of the {len(matrices)} {role} graphs has a node")
    return kept, len(matrices) - len(kept)


def _padded(x: list[np.ndarray], y: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    bins = max(map(len, x + y))
    return tuple(np.stack([np.pad(v, (0, bins - len(v))) for v in part]) for part in (x, y))  # type: ignore[return-value]
