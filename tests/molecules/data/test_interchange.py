"""networkx, PyG, adjacencies."""

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scidiffuse.molecules.data import (
    SkippedData,
    Standardise,
    from_adjacency,
    from_networkx,
    from_pyg,
    from_smiles,
    read_adjacency,
    read_pyg,
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


def test_pyg():
    data = from_smiles(["C=CO", "C", "CC#N"]).to_pyg()
    assert [d.num_nodes for d in data] == [3, 1, 3] and data[0].x.tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 1]]
    assert data[0].edge_index.tolist() == [[0, 1, 1, 2], [1, 0, 2, 1]] and data[1].edge_index.shape == (2, 0)
    assert data[0].edge_attr.argmax(1).tolist() == [1, 1, 0, 0] and data[2].smiles == "CC#N"
    plain = from_networkx([nx.petersen_graph(), nx.empty_graph(2)])
    back = from_pyg(plain.to_pyg())
    assert torch.equal(back.A, plain.A) and torch.equal(back.mask, plain.mask)


def like_qm9(smiles):
    """Data as PyG's QM9 makes it: every hydrogen, aromatic bonds, no charges."""
    from rdkit import Chem
    from torch_geometric.data import Data

    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    kinds = {Chem.BondType.SINGLE: 0, Chem.BondType.DOUBLE: 1, Chem.BondType.TRIPLE: 2, Chem.BondType.AROMATIC: 3}
    pairs = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx(), kinds[b.GetBondType()]) for b in mol.GetBonds()]
    edges = torch.tensor([(i, j) for i, j, _ in pairs] + [(j, i) for i, j, _ in pairs]).T
    attr = torch.nn.functional.one_hot(torch.tensor([k for _, _, k in pairs] * 2), 4)
    return Data(z=torch.tensor([a.GetAtomicNum() for a in mol.GetAtoms()]), edge_index=edges, edge_attr=attr)


@pytest.mark.parametrize(
    "smiles", ["CCO", "c1ccccc1", "c1cc[nH]c1", "C#N", "[NH3+]CC(=O)[O-]", "C[NH+]1CC1C(=O)[O-]", "c1ccoc1"]
)
def test_pyg_of_qm9_is_kekulised_and_gets_its_charges(smiles):
    assert from_pyg([like_qm9(smiles)]).to_smiles() == [smiles]
    explicit = from_pyg([like_qm9(smiles)], standardise=Standardise(hydrogens="explicit"))
    assert explicit.to_smiles() == [smiles] and "H" in explicit.vocabulary


def test_pyg_with_one_direction_only():
    data = like_qm9("CC")
    data.edge_index, data.edge_attr = data.edge_index[:, :-1], data.edge_attr[:-1]
    with pytest.raises(ValueError, match="has no partner"):
        from_pyg([data])
    data.edge_attr = None
    with pytest.raises(ValueError, match="expected atomic numbers z"):
        from_pyg([data])


def test_processed_file_of_pyg(tmp_path):
    from torch_geometric.data import InMemoryDataset

    data = from_networkx([nx.path_graph(3), nx.cycle_graph(4)]).to_pyg()
    InMemoryDataset.save(data, tmp_path / "data.pt")
    back = read_pyg(tmp_path / "data.pt")
    assert [d.num_nodes for d in back] == [3, 4] and from_pyg(back).A.sum((1, 2)).tolist() == [4, 8]

    class Foreign:
        def __reduce__(self):
            return (open, (str(tmp_path / "mark"), "w"))

    torch.save((Foreign(), None), tmp_path / "bad.pt")
    with pytest.raises(ValueError, match=r"bad.pt cannot be read without running code"):
        read_pyg(tmp_path / "bad.pt")
    assert not (tmp_path / "mark").exists()
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(ValueError, match=r"expected \(data, slices\)"):
        read_pyg(tmp_path / "list.pt")


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
