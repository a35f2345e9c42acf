"""networkx, adjacencies."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scidiffuse.molecules.data import (
    SkippedData,
    from_adjacency,
    from_networkx,
    from_smiles,
    read_adjacency,
)

TRIANGLE = np.ones((3, 3), dtype=int) - np.eye(3, dtype=int)


def test_networkx_there_and_back():
    graphs = [
        nx.petersen_graph(),
        nx.empty_graph(1),
        nx.star_graph(4),
        nx.disjoint_union(nx.path_graph(2), nx.empty_graph(2)),
    ]
    read = from_networkx(graphs)
    for before, after in zip(graphs, read.to_networkx(), strict=True):
        assert sorted(before.edges) == sorted(after.edges) and before.number_of_nodes() == after.number_of_nodes()


def test_node_labels_become_types():
    graph = nx.path_graph(3)
    nx.set_node_attributes(graph, {0: "x", 1: "y", 2: "x"}, "label")
    read = from_networkx([graph], label="label", ids=["p"])
    assert read.vocabulary == ("x", "y") and read.types.tolist() == [[0, 1, 0]] and read.ids == ("p",)
    assert nx.get_node_attributes(read.to_networkx()[0], "label") == {0: "x", 1: "y", 2: "x"}
    with pytest.raises(ValueError, match="node 0 has no attribute 'colour'"):
        from_networkx([graph], label="colour")


def test_molecules_keep_their_bond_orders():
    graph = from_smiles(["C=CO"]).to_networkx()[0]
    assert nx.get_edge_attributes(graph, "order") == {(0, 1): 2, (1, 2): 1}
    assert nx.get_node_attributes(graph, "label") == {0: "C", 1: "C", 2: "O"}


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (nx.path_graph(3, nx.DiGraph), "undirected simple graph, got DiGraph"),
        (nx.path_graph(3, nx.MultiGraph), "got MultiGraph"),
        (nx.Graph([(0, 0)]), "node 0 has an edge to itself"),
        (nx.Graph(), "without nodes"),
    ],
)
def test_other_graphs(graph, words):
    with pytest.raises(ValueError, match=f"graph 1: .*{words}"):
        from_networkx([nx.path_graph(2), graph])
    with pytest.warns(SkippedData, match="left out 1 of 2"):
        assert from_networkx([graph, nx.path_graph(2)], errors="skip").ids == (1,)


@pytest.mark.parametrize(
    ("a", "words"),
    [
        (np.triu(TRIANGLE), r"not symmetric: entry \(0, 1\) is 1, \(1, 0\) is 0"),
        (TRIANGLE + np.eye(3), "node 0 has an edge to itself"),
        (TRIANGLE * 0.5, "holds 0 and 1"),
        (np.zeros((2, 3)), r"\(n, n\).*got shape \(2, 3\)"),
        (np.zeros((0, 0)), r"n >= 1"),
    ],
)
def test_matrices_that_are_no_adjacency(a, words):
    with pytest.raises(ValueError, match=words):
        from_adjacency([a])


def test_npz_of_adjacencies(tmp_path):
    batch = np.zeros((2, 3, 3), dtype=int)
    batch[0] = TRIANGLE
    np.savez(tmp_path / "all.npz", A=batch)
    np.savez(tmp_path / "mask.npz", adj=batch, mask=np.array([[1, 1, 1], [1, 0, 0]]))
    np.savez(tmp_path / "sizes.npz", adjs=batch, n_nodes=np.array([3, 2]))
    np.savez(tmp_path / "many.npz", a=TRIANGLE, b=np.zeros((1, 1)))
    np.save(tmp_path / "one.npy", batch)
    sizes = {name: read_adjacency(tmp_path / name).num_nodes.tolist() for name in ("all.npz", "mask.npz", "sizes.npz")}
    assert sizes == {"all.npz": [3, 3], "mask.npz": [3, 1], "sizes.npz": [3, 2]}
    many = read_adjacency(tmp_path / "many.npz")
    assert many.ids == ("a", "b") and many.num_nodes.tolist() == [3, 1]
    assert len(read_adjacency(tmp_path / "one.npy")) == 2
    np.savez(tmp_path / "beyond.npz", A=batch, mask=np.array([[1, 1, 0], [1, 0, 0]]))
    with pytest.raises(ValueError, match="graph 0 has an edge at a node that its mask calls absent"):
        read_adjacency(tmp_path / "beyond.npz")
    np.savez(tmp_path / "wide.npz", A=batch, mask=np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"mask must be \(2, 3\)"):
        read_adjacency(tmp_path / "wide.npz")
    np.savez(tmp_path / "odd.npz", A=np.zeros(3), B=np.zeros(2))
    with pytest.raises(ValueError, match=r"expected A \(B, N, N\), or squares"):
        read_adjacency(tmp_path / "odd.npz")
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"pickled.npy cannot be read"):
        read_adjacency(tmp_path / "pickled.npy")


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(0, 2**32 - 1), st.integers(0, 3))
@settings(max_examples=30)
def test_any_graphs_survive_every_door(sizes, seed, extra):
    rng = np.random.default_rng(seed)
    upper = [np.triu(rng.random((n, n)) < 0.4, 1) for n in sizes]
    matrices = [(u | u.T).astype(int) for u in upper]
    graphs = from_adjacency(matrices)
    for other in (
        graphs,
        from_networkx(graphs.to_networkx()),
        graphs.padded(max(sizes) + extra)[list(range(len(sizes)))],
    ):
        assert other.num_nodes.tolist() == sizes
        for b, a in enumerate(matrices):
            assert (other.A[b, : len(a), : len(a)].numpy() == a).all() and other.A[b].sum() == a.sum()


def test_what_is_no_networkx_graph():
    with pytest.raises(ValueError, match=r"graph 0: expected a networkx.Graph, got 3"):
        from_networkx([3])
    with pytest.warns(SkippedData, match="left out 1 of 2: graph 'a'"):
        assert from_networkx([None, nx.path_graph(2)], ids=["a", "b"], errors="skip").ids == ("b",)
    with pytest.raises(TypeError, match=r"got one: pass \[graph\]"):
        from_networkx(nx.path_graph(2))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({0: "a", 1: 1}, r"labels 'c' are all text or all numbers, got \[\"'a'\", '1'\]"),
        ({0: ["a"], 1: "b"}, r"labels 'c' are text or numbers, got \['a'\]"),
        ({0: None, 1: "b"}, "are text or numbers, got None"),
    ],
)
def test_labels_of_several_kinds(labels, words):
    graph = nx.path_graph(2)
    nx.set_node_attributes(graph, labels, "c")
    with pytest.raises(ValueError, match=words):
        from_networkx([graph], label="c")


@pytest.mark.parametrize("types", [[0, 1, 2], [0, 0.5, 1], [0, -1, 1], [0, 1]])
def test_types_that_do_not_fit(types):
    with pytest.raises(ValueError, match=r"graph 1: expected 3 types from 0 to 1, got"):
        from_adjacency([TRIANGLE, TRIANGLE], types=[[0, 1, 1], types], labels=["x", "y"])


@pytest.mark.parametrize(
    "more",
    [
        {"ids": ["a"]},
        {"properties": {"mu": [1.0]}},
        {"types": [[0, 0, 0]], "labels": ["x"]},
        {"ids": ["a", "b", "c"]},
    ],
)
def test_lists_of_another_length(more):
    with pytest.raises(ValueError, match="expected one entry for each of 2 graphs, got"):
        from_adjacency(iter([TRIANGLE, TRIANGLE]), **more)
    if "types" not in more:
        with pytest.raises(ValueError, match="expected one entry for each of 2 graphs, got"):
            from_networkx([nx.path_graph(2)] * 2, **more)
