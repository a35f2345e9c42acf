"""TUDataset text folders."""

import networkx as nx
import numpy as np
import pytest

from scidiffuse.molecules.data import SkippedData, read_tudataset


@pytest.fixture
def folder(tmp_path):
    """A triangle, a path of three and an isolated node, two nodes with no edge."""
    edges = [(1, 2), (2, 3), (1, 3), (4, 5), (5, 6)]
    lines = [f"{i}, {j}" for a, b in edges for i, j in ((a, b), (b, a))]
    (tmp_path / "T_A.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "T_graph_indicator.txt").write_text("1\n1\n1\n2\n2\n2\n2\n3\n3\n")
    (tmp_path / "T_node_labels.txt").write_text("5\n5\n2\n2\n5\n2\n9\n5\n5\n")
    (tmp_path / "T_graph_labels.txt").write_text("1\n-1\n1\n")
    return tmp_path


def test_graphs_types_and_labels(folder):
    g = read_tudataset(folder)
    assert g.ids == (1, 2, 3) and g.num_nodes.tolist() == [3, 4, 2] and g.A.sum((1, 2)).tolist() == [6, 4, 0]
    assert g.vocabulary == ("2", "5", "9") and g.types[0, :3].tolist() == [1, 1, 0]
    assert g.properties["label"].tolist() == [1, -1, 1]


def test_sizes_and_isolated_nodes(folder):
    g = read_tudataset(folder, drop_isolated=True)
    assert g.ids == (1, 2) and g.num_nodes.tolist() == [3, 3] and g.types[1].tolist() == [0, 1, 0]
    assert read_tudataset(folder, min_nodes=4).ids == (2,) and read_tudataset(folder, max_nodes=3).ids == (1, 3)
    with pytest.raises(ValueError, match="no graph has 10"):
        read_tudataset(folder, min_nodes=10)


def test_attributes_follow_their_nodes(folder):
    (folder / "T_node_attributes.txt").write_text("".join(f"{i}.5, {-i}\n" for i in range(9)))
    g = read_tudataset(folder, drop_isolated=True)
    assert g.features.shape == (2, 3, 2) and g.X[1, :, 0].tolist() == [3.5, 4.5, 5.5]


def rewrite(folder, name, text):
    (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("T_A.txt", "1, 4\n4, 1\n", "line 1: an edge between two graphs"),
        ("T_A.txt", "1, 99\n", "pairs of nodes from 1 to 9"),
        ("T_A.txt", "0, 1\n", "pairs of nodes from 1 to 9"),
        ("T_A.txt", "1, 2\n2, 1\n1.5, 2\n", "T_A.txt, line 3: expected pairs of nodes .*whole numbers, got 1.5, 2"),
        ("T_A.txt", "1, 2, 3\n", "T_A.txt: expected pairs of nodes .*got 3 numbers a line"),
        ("T_A.txt", "", "T_A.txt is empty"),
        ("T_A.txt", "1, nan\n", "line 1: expected pairs of nodes .*got 1, nan"),
        ("T_graph_indicator.txt", "0\n" * 3 + "1\n" * 6, "T_graph_indicator.txt, line 1: .*counted from 1, got 0"),
        ("T_graph_indicator.txt", "1\n" * 8 + "1.5\n", "T_graph_indicator.txt, line 9: .*whole.*got 1.5"),
        ("T_graph_indicator.txt", "1\n" * 8 + "inf\n", "line 9: .*got inf"),
        ("T_node_labels.txt", "1\n" * 8 + "1.2\n", "T_node_labels.txt, line 9: expected a label.*got 1.2"),
        ("T_A.txt", "1, 2\n", "graph 1: the adjacency is not symmetric"),
        ("T_A.txt", "1, 1\n", "node 0 has an edge to itself"),
        ("T_A.txt", "1, a\n", r"T_A.txt: expected numbers and commas"),
        ("T_node_labels.txt", "1\n", "T_node_labels.txt has 1 lines, there are 9 nodes"),
    ],
)
def test_files_that_do_not_fit(folder, name, text, words):
    rewrite(folder, name, text)
    with pytest.raises(ValueError, match=words):
        read_tudataset(folder)


def test_one_bad_graph_is_skipped(folder):
    with (folder / "T_A.txt").open("a") as file:
        file.write("8, 8\n")
    with pytest.warns(SkippedData, match="left out 1 of 3: graph 3"):
        assert read_tudataset(folder, errors="skip").ids == (1, 2)


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"one file \*_A.txt"):
        read_tudataset(tmp_path)


def test_enzymes_as_gdss_takes_them(data):
    folder = data / "molecules" / "ENZYMES"
    if not folder.is_dir():
        pytest.skip("no ENZYMES in the folder of real files")
    g = read_tudataset(folder, min_nodes=10, drop_isolated=True)
    assert len(g) == 587 and g.max_nodes == 125 and int(g.num_nodes.min()) == 10
    assert set(g.properties["label"].tolist()) == {1, 2, 3, 4, 5, 6} and g.vocabulary == ("1", "2", "3")
    edges = np.loadtxt(folder / "ENZYMES_A.txt", delimiter=",", dtype=int)
    whole = nx.Graph(edges.tolist())
    everything = read_tudataset(folder)
    assert len(everything) == 600 and int(everything.A.long().sum()) == 2 * whole.number_of_edges()


def test_labels_of_several_columns_are_told_by_the_first(folder):
    (folder / "T_node_labels.txt").write_text("".join(f"{-i % 3}, 7\n" for i in range(9)))
    assert read_tudataset(folder).vocabulary == ("0", "1", "2")
