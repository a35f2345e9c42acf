"""Validity, uniqueness and novelty of graphs, against graphs whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from scidiffuse.molecules.metrics.vun import graph_vun

nx = pytest.importorskip("networkx")


def renumbered(graph, seed):
    order = np.random.default_rng(seed).permutation(len(graph))
    return nx.relabel_nodes(graph, dict(zip(graph.nodes, order.tolist(), strict=True)))


def test_known_graphs():
    graphs = [
        nx.complete_graph(5),  # not planar
        nx.complete_bipartite_graph(3, 3),  # not planar
        nx.grid_2d_graph(3, 3),
        nx.disjoint_union(nx.path_graph(2), nx.path_graph(2)),  # planar, two pieces
        nx.empty_graph(1),
        nx.empty_graph(0),
    ]
    scores = graph_vun(graphs, planar=True)
    assert {k: s.value for k, s in scores.items()} == {
        "graphs_connected": pytest.approx(4 / 6),
        "graphs_planar": pytest.approx(2 / 6),
        "graphs_unique": 1.0,
    }
    assert all(s.low < s.value <= s.high for s in scores.values()) and scores["graphs_planar"].n == 6


def test_graphs_are_compared_up_to_isomorphism():
    grid, cycle = nx.cycle_graph(6), nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3))
    # both are regular of degree 2: Weisfeiler-Lehman cannot tell them apart, the exact comparison can
    same = nx.weisfeiler_lehman_graph_hash(grid, iterations=4) == nx.weisfeiler_lehman_graph_hash(cycle, iterations=4)
    assert same
    graphs = [grid, renumbered(grid, 0), cycle, renumbered(cycle, 1)]
    assert graph_vun(graphs)["graphs_unique"].value == 0.5
    scores = graph_vun(graphs, train=[renumbered(grid, 2)])
    assert (scores["graphs_novel"].value, scores["graphs_novel"].n) == (0.5, 2)
    matrices = [nx.to_numpy_array(g) for g in graphs]
    assert graph_vun(matrices)["graphs_unique"].value == 0.5


def test_nothing_is_refused():
    with pytest.raises(ValueError, match="list of graphs is empty"):
        graph_vun([])
