"""Pickles: refused, or read without running them."""

import pickle

import networkx as nx
import numpy as np
import pytest
import torch

from scidiffuse.molecules.data import SkippedData, read_networkx_pickle, read_planetoid_graph, read_spectre


class Harm:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def save(path, content, protocol=None):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_networkx_of_any_protocol(tmp_path, protocol):
    named = nx.relabel_nodes(nx.path_graph(3), {0: "a", 1: "b", 2: "c"})
    weighted = nx.Graph()
    weighted.add_edge(np.int64(5), np.int64(7), weight=np.float64(2.5))
    graphs = [nx.convert_node_labels_to_integers(nx.grid_2d_graph(2, 3)), nx.empty_graph(1), named, weighted]
    assert all((graphs[0].adj, graphs[0].edges, graphs[0].nodes, graphs[0].degree))  # views, which networkx keeps
    path = save(tmp_path / "g.pkl", graphs, protocol)
    with pytest.raises(ValueError, match=r"g.pkl is a pickle, which can run code .*allow_pickle=True"):
        read_networkx_pickle(path)
    read = read_networkx_pickle(path, allow_pickle=True)
    assert read.num_nodes.tolist() == [6, 1, 3, 2]
    assert [g.number_of_edges() for g in read.to_networkx()] == [7, 0, 2, 1]


def test_lists_of_lists(tmp_path):
    path = save(tmp_path / "g.pkl", ([nx.path_graph(2)], [nx.path_graph(3), nx.path_graph(4)]))
    assert read_networkx_pickle(path, allow_pickle=True).num_nodes.tolist() == [2, 3, 4]


def test_nothing_of_a_pickle_is_run(tmp_path):
    mark = tmp_path / "mark"
    path = save(tmp_path / "g.pkl", [nx.path_graph(2), Harm(mark)])
    with pytest.raises(
        ValueError, match=r"refused or damaged: it asks for .*open, which is no part of a list of networkx"
    ):
        read_networkx_pickle(path, allow_pickle=True)
    assert not mark.exists()
    pickle.loads(path.read_bytes())[1].close()
    assert mark.exists(), "the file does harm where it is run"


def test_what_is_no_list_of_graphs(tmp_path):
    with pytest.raises(ValueError, match="expected a list of networkx graphs, got dict"):
        read_networkx_pickle(save(tmp_path / "a.pkl", {"a": 1}), allow_pickle=True)
    (tmp_path / "b.pkl").write_bytes(b"no pickle")
    with pytest.raises(ValueError, match=r"b.pkl is refused or damaged"):
        read_networkx_pickle(tmp_path / "b.pkl", allow_pickle=True)


def test_planetoid(tmp_path):
    from collections import defaultdict

    lists = defaultdict(list, {0: [1, 2], 1: [0], 2: [0]})
    path = save(tmp_path / "ind.citeseer.graph", lists, 2)
    assert read_planetoid_graph(path, allow_pickle=True) == {0: [1, 2], 1: [0], 2: [0]}
    with pytest.raises(ValueError, match="allow_pickle"):
        read_planetoid_graph(path)
    with pytest.raises(ValueError, match="dictionary of lists"):
        read_planetoid_graph(save(tmp_path / "x", [1]), allow_pickle=True)


def test_spectre(tmp_path):
    padded = torch.zeros(4, 4)
    padded[0, 1] = padded[1, 0] = 1
    content = [[padded, torch.ones(3, 3) - torch.eye(3)], [], [], [2, 3], torch.tensor(1.7), 0, False, 4]
    torch.save(content, tmp_path / "s.pt")
    g = read_spectre(tmp_path / "s.pt")
    assert g.num_nodes.tolist() == [2, 3] and g.A.sum((1, 2)).tolist() == [2, 6]
    torch.save({"a": 1}, tmp_path / "t.pt")
    with pytest.raises(ValueError, match="begins with a list of adjacencies"):
        read_spectre(tmp_path / "t.pt")
    torch.save([Harm(tmp_path / "mark")], tmp_path / "u.pt")
    with pytest.raises(ValueError, match=r"u.pt is no file of tensors"):
        read_spectre(tmp_path / "u.pt")
    assert not (tmp_path / "mark").exists()


def test_published_community_small(data):
    path = data / "molecules" / "spectre_community_12_21_100.pt"
    if not path.exists():
        pytest.skip("no SPECTRE file in the folder of real files")
    g = read_spectre(path)
    assert len(g) == 100 and (g.num_nodes.min(), g.num_nodes.max()) == (12, 20)
    assert (g.num_nodes % 2 == 0).all() and all(nx.is_connected(n) for n in g.to_networkx())
    halves = {(n, g.A[b, : n // 2, : n // 2].numpy().tobytes()) for b, n in enumerate(g.num_nodes.tolist())}
    assert len(halves) == 5, "one community for each size: what generators.community_small(fixed_blocks=True) does"


@pytest.mark.parametrize("content", [b"edges of a graph\n1 2\n", b"e\x80", b"", b"\xf8Q\x01", b"abc"])
def test_text_is_no_file_of_tensors(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"a.pt is no file of tensors"):
        read_spectre(tmp_path / "a.pt")
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=r"a.pkl is refused or damaged"):
        read_networkx_pickle(tmp_path / "a.pkl", allow_pickle=True)


EDGE = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("adjacency", "size", "words"),
    [
        (EDGE, 1, "an edge beyond its 1 nodes"),
        (EDGE, 4, r"shape \(3, 3\) for 4 nodes"),
        (EDGE, -1, "for -1 nodes"),
        (EDGE, 2.5, "for 2.5 nodes"),
        (EDGE[0], 2, r"shape \(3,\)"),
        (EDGE.triu(), 2, "not symmetric"),
        (EDGE, "two", "'two'|for two nodes|not supported"),
    ],
)
def test_spectre_sizes_that_do_not_fit(tmp_path, adjacency, size, words):
    torch.save([[EDGE, adjacency], [], [], [2, size]], tmp_path / "s.pt")
    with pytest.raises((ValueError, TypeError), match=f"s.pt, graph 1: .*({words})"):
        read_spectre(tmp_path / "s.pt")
    with pytest.warns(SkippedData, match="left out 1 of 2: graph 1"):
        g = read_spectre(tmp_path / "s.pt", errors="skip")
    assert g.ids == (0,) and g.num_nodes.tolist() == [2]


def test_spectre_sizes_of_another_number(tmp_path):
    torch.save([[EDGE, EDGE], [], [], [2]], tmp_path / "s.pt")
    with pytest.raises(ValueError, match=r"s.pt: 2 adjacencies, but 1 numbers of nodes"):
        read_spectre(tmp_path / "s.pt", errors="skip")
