r"""How often each node of a graph stands in each orbit of the connected graphlets of 2, 3 and 4 nodes.

Orbits as numbered by Przulj ("Biological network comparison using graphlet degree distribution", 2007), induced
subgraphs: 0 edge; 1 end, 2 middle of a path of 3; 3 triangle; 4 end, 5 inside of a path of 4; 6 leaf, 7 centre of a
claw; 8 cycle of 4; 9 leaf, 10 far corner, 11 tied corner of a paw (triangle with a tail); 12 corner of degree 2, 13 of
degree 3 of a diamond; 14 the complete graph of 4.

First *subgraphs* are counted, induced or not, from the adjacency matrix A, degrees d, common neighbours C = A^2 and
triangles t_v = sum_u A_vu C_vu / 2. Sums run over u with A_vu = 1 where no other range is given:

    n4  = sum_{w != v} C_vw (d_w - 1 - A_vw)      n10 = sum_u C_uv (d_u - 2)
    n5  = sum_u (d_v - 1)(d_u - 1) - C_uv         n11 = t_v (d_v - 2)
    n6  = sum_u binom(d_u - 1, 2)                 n12 = 1/2 sum_{u, w} A_vu A_vw A_uw (C_uw - 1)
    n7  = binom(d_v, 3)                           n13 = sum_u binom(C_uv, 2)
    n8  = sum_{w != v} binom(C_vw, 2)             n14 = triangles among the neighbours of v
    n9  = sum_u (t_u - C_uv)

Then what richer graphlets contributed is taken away, from the richest down; e.g. a diamond contains one cycle of 4 and
K4 contains three, so o8 = n8 - o12 - o13 - 3 o14. The other coefficients are counted the same way, by removing edges.
"""

from __future__ import annotations

import numpy as np

__all__ = ["ORBITS", "node_orbits"]

ORBITS = 15


def node_orbits(adjacency: np.ndarray) -> np.ndarray:
    """Counts (N, 15), int64, of the orbits 0 .. 14.

    Args:
        adjacency: (N, N), symmetric, 0/1, no loops.

    Raises:
        ValueError: another matrix.
    """
    A = np.asarray(adjacency)
    if A.ndim != 2 or A.shape[0] != A.shape[1] or not np.isin(A, (0, 1)).all() or not (A == A.T).all() or A.trace():
        raise ValueError(
            f"expected a symmetric 0/1 matrix without loops, got shape {A.shape}" + _why(A) + "; clean the graph first"
        )
    A = A.astype(np.float64)  # products by BLAS; exact below 2^53
    n, d, C = len(A), A.sum(axis=1), A @ A
    np.fill_diagonal(C, 0)  # common neighbours of different nodes
    T = A * C  # on edges: triangles through the edge
    t = T.sum(axis=1) / 2

    N = np.zeros((ORBITS, n))
    N[4] = C @ (d - 1) - T.sum(axis=1)
    N[5] = (d - 1) * (A @ (d - 1)) - T.sum(axis=1)
    N[6] = A @ _pairs(d - 1)
    N[7] = d * (d - 1) * (d - 2) / 6
    N[8] = _pairs(C).sum(axis=1)
    N[9] = A @ t - T.sum(axis=1)
    N[10] = T @ (d - 2)
    N[11] = t * (d - 2)
    N[12] = np.einsum("vu,uw,vw->v", A, A * (C - 1), A, optimize=True) / 2
    N[13] = (A * _pairs(C)).sum(axis=1)
    N[14] = [_triangles(A[np.ix_(near, near)]) for near in (np.flatnonzero(row) for row in A)]

    o = np.zeros((ORBITS, n))
    o[0], o[2], o[3] = d, _pairs(d) - t, t
    o[1] = A @ (d - 1) - 2 * t
    o[14] = N[14]
    o[13] = N[13] - 3 * o[14]
    o[12] = N[12] - 3 * o[14]
    o[11] = N[11] - 2 * o[13] - 3 * o[14]
    o[10] = N[10] - 2 * o[12] - 2 * o[13] - 6 * o[14]
    o[9] = N[9] - 2 * o[12] - 3 * o[14]
    o[8] = N[8] - o[12] - o[13] - 3 * o[14]
    o[7] = N[7] - o[11] - o[13] - o[14]
    o[6] = N[6] - o[9] - o[10] - 2 * o[12] - o[13] - 3 * o[14]
    o[5] = N[5] - 2 * o[8] - o[10] - 2 * o[11] - 2 * o[12] - 4 * o[13] - 6 * o[14]
    o[4] = N[4] - 2 * o[8] - 2 * o[9] - o[10] - 4 * o[12] - 2 * o[13] - 6 * o[14]
    return np.rint(o.T).astype(np.int64)


def _pairs(x: np.ndarray) -> np.ndarray:
    return x * (x - 1) / 2


def _triangles(A: np.ndarray) -> float:
    return float(((A @ A) * A).sum() / 6)


def _why(A: np.ndarray) -> str:
    if A.ndim != 2 or A.shape[0] != A.shape[1]:
        return ""
    if A.trace():
        return f" with {int(np.count_nonzero(A.diagonal()))} loops"
    return " with other values" if not np.isin(A, (0, 1)).all() else ", not symmetric"
