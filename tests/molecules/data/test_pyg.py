"""PyTorch Geometric: there and back, and its files."""

from dataclasses import replace

import networkx as nx
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import AllChem
from torch_geometric.data import Batch, Data, InMemoryDataset

from scidiffuse.molecules.data import Atoms, SkippedData, Standardise, from_networkx, from_pyg, from_smiles, read_pyg


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


@pytest.mark.parametrize("hydrogens", ["implicit", "explicit"])
def test_molecules_there_and_back(hydrogens):
    policy = Standardise(hydrogens=hydrogens)
    smiles = ["CC(=O)[O-]", "C[N+](=O)[O-]", "C", "c1cc[nH]c1", "C#[O+]", "C[S+](C)C", "[NH4+]"]
    graphs = from_smiles(smiles, standardise=policy)
    graphs = replace(graphs, properties={"mu": torch.arange(7.0).double(), "gap": torch.full((7,), torch.nan).double()})
    data = graphs.to_pyg()
    assert data[0].formal_charge.sum() == -1 and data[0].z.tolist()[:4] == [6, 6, 8, 8]
    back = from_pyg(data, graphs.vocabulary, properties=["mu", "gap"], standardise=policy)
    for name in ("A", "mask", "types"):
        assert torch.equal(getattr(back, name), getattr(graphs, name))
    assert (back.smiles, back.vocabulary, back.hydrogens) == (graphs.smiles, graphs.vocabulary, graphs.hydrogens)
    assert back.properties["mu"].tolist() == list(range(7)) and back.properties["gap"].isnan().all()
    assert from_pyg(Batch.from_data_list(data).to_data_list()).to_smiles() == list(graphs.smiles)


@pytest.mark.parametrize("bonds", [True, False])
def test_atoms_there_and_back(bonds):
    mols = []
    for smiles in ("CC(=O)[O-]", "C", "c1cc[nH]c1"):
        mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
        AllChem.EmbedMolecule(mol, randomSeed=1)
        mols.append(mol)
    atoms = Atoms.from_mols(mols, properties={"mu": [1.0, 2.0, 3.0]})
    atoms = atoms if bonds else replace(atoms, bonds=None)
    back = Atoms.from_pyg(atoms.to_pyg(), properties=["mu"])
    for name in ("positions", "numbers", "charges", "mask"):
        assert torch.equal(getattr(back, name), getattr(atoms, name))
    assert back.smiles == atoms.smiles and back.properties["mu"].tolist() == [1, 2, 3]
    assert torch.equal(back.bonds, atoms.bonds) if bonds else back.bonds is None
    assert Atoms.from_pyg(atoms.to_pyg(), bonds=False).bonds is None
    assert from_pyg(atoms.to_pyg()).smiles == atoms.smiles if bonds else True


def test_plain_graphs_there_and_back():
    path, ring = nx.path_graph(3), nx.cycle_graph(4)
    nx.set_node_attributes(path, "a", "kind")
    nx.set_node_attributes(ring, {0: "a", 1: "b", 2: "b", 3: "a"}, "kind")
    typed = from_networkx([path, ring], label="kind", properties={"size": [3.0, 4.0]})
    back = from_pyg(typed.to_pyg(), typed.vocabulary, properties=["size"])
    assert torch.equal(back.types, typed.types) and back.vocabulary == ("a", "b") and back.features is None
    assert back.properties["size"].tolist() == [3, 4] and torch.equal(back.A, typed.A)
    degrees = from_networkx([path, ring]).with_degrees()
    assert torch.equal(from_pyg(degrees.to_pyg()).features, degrees.features)
    assert from_pyg(from_networkx([path, ring]).to_pyg()).features is None  # a constant 1 is no feature
    twice = typed.to_pyg()
    twice[0].x = twice[0].x * 2
    with pytest.raises(ValueError, match=r"graph 0: x is not one-hot"):
        from_pyg(twice, ["a", "b"])
    with pytest.raises(ValueError, match=r"vocabulary names 3 types, x .* has F = 2"):
        from_pyg(typed.to_pyg(), ["a", "b", "c"])


def test_columns_of_y():
    data = [like_qm9("CC"), like_qm9("CO")]
    for item, y in zip(data, ([1.0, 2.0], [3.0, 4.0]), strict=True):
        item.y = torch.tensor([y])
    assert {k: v.tolist() for k, v in from_pyg(data).properties.items()} == {"y0": [1, 3], "y1": [2, 4]}
    assert list(from_pyg(data, properties=["mu", "gap"]).properties) == ["mu", "gap"]
    with pytest.raises(ValueError, match=r"graph 0: y has 2 numbers .*there are 1 names: \['mu'\]"):
        from_pyg(data, properties=["mu"])
    with pytest.raises(ValueError, match="each column of y once"):
        from_pyg(data, properties=["mu", "mu"])
    data[0].y = None
    assert from_pyg(data).properties == {}
    with pytest.warns(SkippedData, match=r"graph 0: expected y \(1, 2\) of the properties"):
        assert from_pyg(data, properties=["mu", "gap"], errors="skip").properties["gap"].tolist() == [4]
    plain = from_networkx([nx.path_graph(3), nx.path_graph(2)]).to_pyg()
    for item in plain:
        item.y = torch.zeros(item.num_nodes)  # of the nodes
    assert from_pyg(plain).properties == {}


def spoilt(**changes):
    data = like_qm9("CC")
    for name, value in changes.items():
        data[name] = value
    return data


EDGES = torch.tensor([[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (spoilt(z=torch.full((8,), 200)), "atom 1: 200 is no element"),
        (spoilt(z=torch.full((8,), 6.5)), "atom 1: 6.5 is no element"),
        (spoilt(z=torch.zeros(0).long()), "without atoms"),
        (spoilt(z=torch.ones(2).long()), "an edge at node 2, the graph has the nodes 0 to 1"),
        (spoilt(edge_index=None), r"expected edges edge_index \(2, E\), got None"),
        (spoilt(edge_index=torch.zeros(2, 14)), "of integers, got float32"),
        (spoilt(edge_index=torch.zeros(14).long()), r"of shape \(14,\)"),
        (spoilt(edge_index=EDGES), r"one-hot bonds edge_attr \(2, 3 or 4\)"),
        (spoilt(edge_index=torch.zeros(2, 14).long()), "node 0 has an edge to itself"),
        (spoilt(edge_attr=torch.rand(14, 3)), "one-hot bonds"),
        (spoilt(formal_charge=torch.zeros(3)), r"expected formal_charge \(8,\)"),
        (spoilt(formal_charge=torch.full((8,), 0.5)), "whole numbers"),
        (spoilt(formal_charge=torch.ones(8).long()), "no possible|valence"),
        (3, "expected a PyG Data, got int"),
    ],
)
def test_bad_molecules_are_named_or_skipped(bad, words):
    with pytest.raises((ValueError, TypeError), match=f"the PyG data, graph 1: .*({words})"):
        from_pyg([like_qm9("CO"), bad])
    with pytest.warns(SkippedData, match="left out 1 of 2: graph 0"):
        assert from_pyg([bad, like_qm9("CO")], errors="skip").ids == (1,)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (Data(edge_index=torch.tensor([[0, 5], [5, 0]]), num_nodes=3), "an edge at node 5, .*nodes 0 to 2"),
        (Data(edge_index=torch.tensor([[0, -1], [-1, 0]]), num_nodes=3), "an edge at node -1"),
        (Data(num_nodes=3), r"no edges: expected edge_index \(2, E\)"),
        (Data(), "no edges"),
        (Data(edge_index=torch.tensor([[0], [1]]), num_nodes=2), "not symmetric"),
        (Data(edge_index=torch.zeros(2, 0).long(), num_nodes=0), "n >= 1"),
        (None, "expected a PyG Data, got NoneType"),
    ],
)
def test_bad_graphs_are_named_or_skipped(bad, words):
    good = Data(edge_index=EDGES, num_nodes=2)
    with pytest.raises((ValueError, TypeError), match=f"the PyG data, graph 1: .*{words}"):
        from_pyg([good, bad])
    with pytest.warns(SkippedData, match="left out 1 of 2: graph 0"):
        assert from_pyg([bad, good], errors="skip").ids == (1,)


def test_features_that_do_not_fit_the_others():
    good = Data(edge_index=EDGES, x=torch.rand(2, 3))
    for bad in (
        *(Data(edge_index=EDGES, x=torch.rand(*n)) for n in ([2, 2], [2])),
        Data(edge_index=EDGES, num_nodes=2),
    ):
        with pytest.raises(ValueError, match=r"graph 2: expected node features x"):
            from_pyg([good, good, bad])
        with pytest.warns(SkippedData, match="left out 1 of 3: graph 0"):
            assert from_pyg([bad, good, good], errors="skip").features.shape == (2, 2, 3)
    with pytest.raises(ValueError, match=r"graph 0: expected node features x"):
        from_pyg([Data(edge_index=EDGES, x=torch.rand(2))])


def test_one_instead_of_many():
    for one in (like_qm9("C"), Batch.from_data_list([like_qm9("C")])):
        for read in (from_pyg, Atoms.from_pyg):
            with pytest.raises(TypeError, match=r"expected many Data objects, got one \w+: \[data\]"):
                read(one)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pos": None}, r"expected pos \(n, 3\), got None"),
        ({"pos": torch.zeros(3, 3)}, r"expected pos \(2, 3\), got \(3, 3\)"),
        ({"pos": torch.tensor([[0.0, 0, 0], [0, 0, 1.74]])}, r"Bohr\?"),
        ({"z": None}, r"expected atomic numbers z \(n,\), got None"),
    ],
)
def test_geometries_that_are_none(changes, words):
    def fluoride(**more):
        data = Data(z=torch.tensor([9, 1]), pos=torch.tensor([[0.0, 0, 0], [0, 0, 0.92]]))
        for name, value in more.items():
            data[name] = value
        return data

    with pytest.raises(ValueError, match=f"graph 1: .*{words}"):
        Atoms.from_pyg([fluoride(), fluoride(**changes)])
    with pytest.warns(SkippedData, match="left out 1 of 2: graph 0"):
        atoms = Atoms.from_pyg([fluoride(**changes), fluoride()], errors="skip")
    assert atoms.ids == (1,) and atoms.smiles is None and atoms.bonds is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ((3, None), r"expected \(data, slices\) with a Data or its dictionary, got 3"),
        (({"x": torch.zeros(1, 1)}, {}), "expected the slices of each attribute"),
        (({"x": torch.zeros(1, 1)}, [1]), "expected the slices of each attribute"),
        (({"x": torch.zeros(1, 1)}, {"x": torch.tensor([0, 5])}), "slices that do not fit"),
        (({"x": torch.zeros(1, 1)}, {"x": 3}), "slices that do not fit"),
    ],
)
def test_processed_files_that_are_none(tmp_path, content, words):
    torch.save(content, tmp_path / "data.pt")
    with pytest.raises(ValueError, match=f"data.pt: {words}"):
        read_pyg(tmp_path / "data.pt")


@pytest.mark.parametrize("content", [b"", b"edges 1 2\n", b"e\x80"])
def test_text_is_no_processed_file(tmp_path, content):
    (tmp_path / "data.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"data.pt cannot be read"):
        read_pyg(tmp_path / "data.pt")


def test_processed_file_of_one_graph(tmp_path):
    torch.save((Data(edge_index=EDGES, num_nodes=2), None), tmp_path / "data.pt")
    assert [d.num_nodes for d in read_pyg(tmp_path / "data.pt")] == [2]
