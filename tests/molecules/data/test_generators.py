"""The graph sets of the papers, made again: the properties of the recipes."""

import networkx as nx
import numpy as np
import pytest
import torch

from scidiffuse.molecules.data import Graphs, generators


def every(graphs):
    return zip(graphs.to_networkx(), graphs.num_nodes.tolist(), strict=True)


@pytest.mark.parametrize("name", ["community_small", "grid", "planar", "sbm"])
def test_a_seed_is_a_set(name):
    make = getattr(generators, name)
    a, b, c = make(5, seed=3), make(5, seed=3), make(5, seed=4)
    assert torch.equal(a.A, b.A) and torch.equal(a.mask, b.mask)
    assert a.A.shape != c.A.shape or not torch.equal(a.A, c.A)
    assert isinstance(a, Graphs) and len(a) == 5
    with pytest.raises(ValueError, match="at least 1, got 0"):
        make(0, seed=0)


def test_communities():
    graphs = generators.community_small(seed=0)
    inside = pairs = between = nodes = 0
    for graph, n in every(graphs):
        assert 12 <= n <= 20 and n % 2 == 0 and nx.is_connected(graph)
        a, k = nx.to_numpy_array(graph), n // 2
        inside += (a[:k, :k].sum() + a[k:, k:].sum()) / 2
        pairs += k * (k - 1)
        between += a[:k, k:].sum()
        nodes += n
        assert a[:k, k:].sum() >= 1
    assert len(graphs) == 100 and set(graphs.num_nodes.tolist()) == {12, 14, 16, 18, 20}
    assert abs(inside / pairs - 0.7) < 4 * np.sqrt(0.21 / pairs)
    # bridges: Binomial(k^2, 0.1/k) with mean 0.05 n, and one where none came
    expected = sum(0.05 * n + (1 - 0.2 / n) ** (n * n / 4) for n in graphs.num_nodes.tolist())
    assert abs(between - expected) < 4 * np.sqrt(0.05 * nodes) + 2


def test_fixed_blocks_repeat_in_every_graph_of_a_size():
    def blocks(graphs):
        return {(n, nx.to_numpy_array(g)[: n // 2, : n // 2].tobytes()) for g, n in every(graphs)}

    assert len(blocks(generators.community_small(40, seed=0, fixed_blocks=True))) == 5  # one for each size
    assert len(blocks(generators.community_small(40, seed=0))) > 30


def test_pieces_of_a_community_are_joined():
    rng = np.random.default_rng(0)
    a = generators._joined(np.zeros((5, 5), dtype=np.uint8), 0.0, rng)
    assert a.sum() == 5 * 4 and (a == a.T).all()  # five pieces, one edge between any two


def test_grids():
    graphs = generators.grid(seed=0)
    assert len(graphs) == 100 and int(graphs.num_nodes.min()) >= 100 and int(graphs.num_nodes.max()) <= 361
    for a, b, (m, n) in (
        (generators._grid(m, n), nx.to_numpy_array(nx.grid_2d_graph(m, n)), (m, n)) for m in (1, 2, 5) for n in (1, 3)
    ):
        assert (a == b).all() and a.sum() == 2 * (m * (n - 1) + n * (m - 1))
    small = generators.grid(50, seed=0, sides=(2, 3))
    assert set(small.num_nodes.tolist()) == {4, 6, 9}
    with pytest.raises(ValueError, match="sides"):
        generators.grid(seed=0, sides=(3, 2))


def test_planar():
    graphs = generators.planar(20, seed=0)
    for graph, n in every(graphs):
        planar, _ = nx.check_planarity(graph)
        assert n == 64 and planar and nx.is_connected(graph)
        # Euler: a triangulation of n points with h on the hull has 3 n - 3 - h edges, 3 <= h
        assert 2 * n - 3 <= graph.number_of_edges() <= 3 * n - 6 and min(dict(graph.degree).values()) >= 2
    assert generators.planar(1, seed=0, nodes=3).A.sum() == 6
    with pytest.raises(ValueError, match="at least 3 nodes"):
        generators.planar(seed=0, nodes=2)


def test_block_structure():
    rng = np.random.default_rng(0)
    inside = outside = inside_pairs = outside_pairs = 0
    counts = set()
    for _ in range(40):
        a, sizes = generators._sbm(rng)
        block = np.repeat(np.arange(len(sizes)), sizes)
        same = block[:, None] == block
        assert sizes.min() >= 20 and sizes.max() <= 40 and (a == a.T).all() and not a.diagonal().any()
        counts.add(len(sizes))
        upper = np.triu(np.ones_like(a), 1).astype(bool)
        inside += a[upper & same].sum()
        outside += a[upper & ~same].sum()
        inside_pairs += (upper & same).sum()
        outside_pairs += (upper & ~same).sum()
    assert counts == {2, 3, 4, 5}
    assert abs(inside / inside_pairs - 0.3) < 4 * np.sqrt(0.21 / inside_pairs)
    assert abs(outside / outside_pairs - 0.005) < 4 * np.sqrt(0.005 / outside_pairs)
    graphs = generators.sbm(10, seed=1)
    assert (
        (graphs.num_nodes >= 20 * graphs.properties["blocks"]) & (graphs.num_nodes <= 40 * graphs.properties["blocks"])
    ).all()


def test_neighbourhoods_are_those_of_networkx():
    base = nx.les_miserables_graph()
    base = nx.convert_node_labels_to_integers(base)
    base.add_edges_from([(500, 501), (501, 502), (500, 502), (502, 503)])  # another component
    base.add_edge(0, 0)
    lists = {n: list(base[n]) for n in base}
    found = generators.ego_graphs(lists, min_nodes=4, max_nodes=10)
    base.remove_edge(0, 0)
    expected = {n: nx.ego_graph(base, n) for n in sorted(base) if n < 500}
    expected = {n: g for n, g in expected.items() if 4 <= g.number_of_nodes() <= 10}
    assert list(found.ids) == list(expected)
    for graph, other in zip(found.to_networkx(), expected.values(), strict=True):
        assert nx.is_isomorphic(graph, other)
    one_way = {n: [m for m in vs if m > n] for n, vs in lists.items()}
    assert torch.equal(generators.ego_graphs(one_way, min_nodes=4, max_nodes=10).A, found.A)
    assert generators.ego_graphs(lists, min_nodes=4, max_nodes=10, limit=3).ids == found.ids[:3]
    with pytest.raises(ValueError, match="no neighbourhood has 90 to 99 nodes"):
        generators.ego_graphs(lists, min_nodes=90, max_nodes=99)


def test_ego_small_of_the_stand_in():
    graphs = generators.ego_small(seed=0)
    assert len(graphs) == 200 and int(graphs.num_nodes.min()) >= 4 and int(graphs.num_nodes.max()) <= 18
    assert all(max(dict(g.degree).values()) == n - 1 for g, n in every(graphs))  # the centre knows all
    assert generators.ego_small({0: [1, 2, 3], 4: [0]}, 1).num_nodes.tolist() == [5]


def test_stand_in_has_the_size_of_citeseer():
    base = generators.similar_to_citeseer(seed=0)
    graph = nx.from_dict_of_lists(base)
    assert (graph.number_of_nodes(), graph.number_of_edges()) == (2120, 3679) and nx.is_connected(graph)
    assert sum(nx.triangles(graph).values()) // 3 >= 3679 - 2119  # every closing node made one
    assert generators.similar_to_citeseer(seed=0) == base != generators.similar_to_citeseer(seed=1)
    with pytest.raises(ValueError, match="4 nodes take 3 to 5 edges, got 6"):
        generators.similar_to_citeseer(seed=0, nodes=4, edges=6)
