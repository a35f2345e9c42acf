"""Orbit counts against the enumeration of all induced subgraphs."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest

from scidiffuse.molecules.metrics.orbits import node_orbits

nx = pytest.importorskip("networkx")

# (nodes, edges, largest degree) of a connected graphlet -> degree of a node in it -> orbit
ORBIT = {
    (2, 1, 1): {1: 0},
    (3, 2, 2): {1: 1, 2: 2},
    (3, 3, 2): {2: 3},
    (4, 3, 2): {1: 4, 2: 5},
    (4, 3, 3): {1: 6, 3: 7},
    (4, 4, 2): {2: 8},
    (4, 4, 3): {1: 9, 2: 10, 3: 11},
    (4, 5, 3): {2: 12, 3: 13},
    (4, 6, 3): {3: 14},
}


def by_enumeration(graph: nx.Graph) -> np.ndarray:
    place = {node: i for i, node in enumerate(graph)}
    out = np.zeros((len(graph), 15), dtype=int)
    for size in (2, 3, 4):
        for nodes in combinations(graph, size):
            part = graph.subgraph(nodes)
            if nx.is_connected(part):
                degrees = dict(part.degree)
                kind = ORBIT[size, part.number_of_edges(), max(degrees.values())]
                for node, degree in degrees.items():
                    out[place[node], kind[degree]] += 1
    return out


def test_all_graphs_of_up_to_five_nodes():
    for graph in nx.graph_atlas_g()[1:53]:
        assert (node_orbits(nx.to_numpy_array(graph)) == by_enumeration(graph)).all(), graph.edges


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.8, 1.0])
def test_random_graphs(p):
    graph = nx.gnp_random_graph(11, p, seed=round(10 * p))
    assert (node_orbits(nx.to_numpy_array(graph)) == by_enumeration(graph)).all()


def test_closed_forms():
    complete = node_orbits(1 - np.eye(30))
    assert (complete[:, [0, 3, 14]] == [29, comb(29, 2), comb(29, 3)]).all() and complete.sum() == complete[
        :, [0, 3, 14]
    ].sum()
    cycle = node_orbits(nx.to_numpy_array(nx.cycle_graph(12)))
    assert (cycle == [2, 2, 1, 0, 2, 2] + 9 * [0]).all()
    star = node_orbits(nx.to_numpy_array(nx.star_graph(9)))
    assert star[0, 7] == comb(9, 3) and (star[1:, 6] == comb(8, 2)).all()


@pytest.mark.parametrize(
    ("matrix", "match"),
    [
        (np.zeros((2, 3)), "got shape"),
        (np.eye(3), "3 loops"),
        (2 * (1 - np.eye(3)), "other values"),
        (np.triu(np.ones((3, 3)), 1), "not symmetric"),
    ],
)
def test_other_matrices_are_refused(matrix, match):
    with pytest.raises(ValueError, match=match):
        node_orbits(matrix)
