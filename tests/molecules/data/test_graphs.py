"""The container: what it refuses, what X is, what survives."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scidiffuse.core.spaces import Graph, Product
from scidiffuse.molecules.data import Graphs, from_smiles

PATH = torch.tensor([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=torch.uint8)


def path(**changes):
    """A path of three nodes and a single node."""
    A = torch.stack([PATH, torch.zeros(3, 3, dtype=torch.uint8)])
    mask = torch.tensor([[True] * 3, [True, False, False]])
    return Graphs(**{"A": A, "mask": mask, **changes})


def test_a_single_node_survives_without_an_edge():
    g = path()
    assert g.num_nodes.tolist() == [3, 1] and g.X.squeeze(2).tolist() == [[1, 1, 1], [1, 0, 0]]
    assert [n.number_of_nodes() for n in g.to_networkx()] == [3, 1]
    assert from_smiles(["C", "CC"]).to_smiles() == ["C", "CC"]


def test_x_is_one_hot_and_zero_at_absent_nodes():
    types = torch.tensor([[0, 1, 0], [2, 0, 0]], dtype=torch.uint8)
    x = path(types=types, vocabulary=("a", "b", "c")).X
    assert x.tolist() == [[[1, 0, 0], [0, 1, 0], [1, 0, 0]], [[0, 0, 1], [0, 0, 0], [0, 0, 0]]]


def test_degrees():
    g = path().with_degrees()
    assert g.X.argmax(2)[0].tolist() == [1, 2, 1] and g.X[1].tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    with pytest.raises(ValueError, match=r"graph 0 .* degree 2, width=2 is too small"):
        path().with_degrees(2)


def test_histogram():
    assert path().node_histogram().tolist() == [0, 0.5, 0, 0.5]


def asymmetric(A):
    A[0, 0, 2] = 1


def loop(A):
    A[0, 1, 1] = 1


def at_absent(A):
    A[1, 0, 1] = A[1, 1, 0] = 1


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(asymmetric, "graph 0 .*not symmetric"), (loop, "graph 0 .*to itself"), (at_absent, "graph 1 .*calls absent")],
)
def test_adjacencies_that_are_none(spoil, words):
    A = path().A.clone()
    spoil(A)
    with pytest.raises(ValueError, match=words):
        path(A=A)


def test_aromatic_bonds_have_no_place():
    with pytest.raises(TypeError, match=r"float32; aromatic bonds \(1.5\) have no place: kekulise"):
        path(A=path().A * 1.5)
    g = from_smiles(["CC"])
    with pytest.raises(ValueError, match=r"bond order beyond 3 .*kekulise"):
        replace(g, A=g.A * 4)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"mask": torch.ones(2, 3)}, TypeError, "mask must be bool"),
        ({"mask": torch.ones(2, 4, dtype=torch.bool)}, ValueError, r"\(2, 3, 3\) and \(2, 4\)"),
        ({"mask": torch.tensor([[True] * 3, [False] * 3])}, ValueError, "graph 1 .*no node"),
        ({"types": torch.zeros(2, 3).byte()}, ValueError, "come together"),
        ({"types": torch.full((2, 3), 2).byte(), "vocabulary": ("a", "b")}, ValueError, "beyond the vocabulary of 2"),
        ({"hydrogens": "implicit"}, ValueError, "molecules need types"),
        ({"hydrogens": "some"}, ValueError, "'some'"),
        ({"features": torch.zeros(2, 4, 1)}, ValueError, r"features must be \(B, N, F\)"),
        ({"ids": (1,)}, ValueError, "ids: expected one entry for each of 2"),
        ({"properties": {"mu": torch.zeros(3)}}, ValueError, "mu: expected one entry"),
    ],
)
def test_parts_that_do_not_fit(changes, error, words):
    with pytest.raises(error, match=words):
        path(**changes)


def test_some_of_them():
    g = from_smiles(["C", "CC", "CCC", "CCO"])
    for index in ([2, 0], torch.tensor([2, 0]), np.array([2, 0])):
        assert g[index].smiles == ("CCC", "C") and g[index].to_smiles() == ["CCC", "C"]
    assert g[1].ids == (1,) and g[-1].smiles == ("CCO",) and g[1:3].ids == (1, 2)
    assert g[torch.tensor([True, False, False, True])].ids == (0, 3)
    for bad in (4, [0, -5], torch.tensor([True])):
        with pytest.raises(IndexError):
            g[bad]


def test_padding_is_only_padding():
    g = from_smiles(["C", "CCO"])
    wide = g.padded(7)
    assert wide.max_nodes == 7 and wide.to_smiles() == ["C", "CCO"] and torch.equal(wide.padded().A, g.A)
    assert torch.equal(wide.X[:, :3], g.X) and not wide.X[:, 3:].any()
    assert g[[0]].padded().max_nodes == 1
    with pytest.raises(ValueError, match="has 3 nodes, 2 are asked for"):
        g.padded(2)


def test_space_of_a_diffusion():
    g = from_smiles(["C", "CCO"])
    space = g.space()
    assert isinstance(space, Product) and isinstance(space.spaces["A"], Graph)
    assert space.ndof({"X": g.X, "A": g.A.float()}).tolist() == [2, 6 + 3]  # F = 2 a node, a number an edge
    assert torch.equal(space.project({"X": g.X, "A": g.A.float()})["A"], g.A.float())


def test_saved_whole_and_read_back(tmp_path):
    g = from_smiles(["CCO", "C[N+](C)(C)C"])
    g = replace(g, properties={"mu": torch.tensor([0.1, float("nan")], dtype=torch.float64)}, ids=("a", "b"))
    again = Graphs.load(g.save(tmp_path / "g.npz"))
    for name in ("A", "mask", "types"):
        assert torch.equal(getattr(again, name), getattr(g, name))
    assert (again.ids, again.smiles, again.vocabulary, again.hydrogens) == (g.ids, g.smiles, g.vocabulary, g.hydrogens)
    assert torch.equal(again.properties["mu"].nan_to_num(7), g.properties["mu"].nan_to_num(7))
    plain = Graphs.load(path().with_degrees().save(tmp_path / "p.npz"))
    assert plain.types is None and plain.hydrogens is None and torch.equal(plain.X, path().with_degrees().X)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["g.npz", "p.npz"]


def test_what_is_no_saved_set(tmp_path):
    np.savez(tmp_path / "other.npz", A=np.zeros(3))
    (tmp_path / "broken.npz").write_bytes(b"PK\3\4nothing")
    with pytest.raises(ValueError, match=r"other.npz holds something else, expected scidiffuse-graphs-1"):
        Graphs.load(tmp_path / "other.npz")
    with pytest.raises(ValueError, match=r"broken.npz cannot be read"):
        Graphs.load(tmp_path / "broken.npz")
    with pytest.raises(FileNotFoundError):
        Graphs.load(tmp_path / "absent.npz")
    with pytest.raises(ValueError, match=r"ends in .npz"):
        path().save(tmp_path / "g.pt")


def test_a_model_refuses_sets_that_mean_something_else():
    from scidiffuse.molecules.data import Standardise
    from scidiffuse.molecules.training import same_kind

    implicit, explicit = from_smiles(["CCO"]), from_smiles(["CCO"], standardise=Standardise(hydrogens="explicit"))
    same_kind(from_smiles(["OCCO"]), implicit.vocabulary, implicit.hydrogens)
    with pytest.raises(ValueError, match=r"hydrogens='implicit', these have 'explicit'.*Standardise"):
        same_kind(explicit, implicit.vocabulary, implicit.hydrogens)
    with pytest.raises(ValueError, match="vocabulary"):
        same_kind(from_smiles(["CCN"]), implicit.vocabulary, implicit.hydrogens)


@pytest.mark.parametrize(
    "ids",
    [
        ("a", 1),
        (None, "a"),
        (None, None),
        (1, 2.5),
        (True, 1),
        (np.int64(3), "x"),
        (np.int64(3), np.int64(4)),
        (2**70, 1),
        ("1", "ü"),
        (0.5, 1.5),
    ],
)
def test_ids_of_any_kind_are_saved_as_they_are(tmp_path, ids):
    again = Graphs.load(path(ids=ids).save(tmp_path / "g.npz")).ids
    assert again == ids and [type(i) for i in again] == [getattr(i, "item", lambda i=i: i)().__class__ for i in ids]


def test_ids_that_cannot_be_saved(tmp_path):
    with pytest.raises(TypeError, match=r"numbers, text or None, got \('a', 1\)"):
        path(ids=(("a", 1), "b")).save(tmp_path / "g.npz")
    assert not list(tmp_path.iterdir())


def test_no_list_beside_the_graphs():
    with pytest.raises(TypeError, match=r"mu: expected one entry for each of 2 graphs, got tensor\(1.\)"):
        path(properties={"mu": torch.tensor(1.0)})


def test_more_types_than_bytes():
    from scidiffuse.molecules.data import from_adjacency

    with pytest.raises(ValueError, match="0 to 255, got 256"):
        from_adjacency([np.zeros((257, 257))], types=[np.arange(257)], labels=[str(i) for i in range(257)])


def test_repr_says_what_it_is():
    assert repr(from_smiles(["CCO", "C"])) == "Graphs(2 molecules, implicit hydrogens, up to 3 nodes, types C O)"
    assert repr(path()) == "Graphs(2 graphs, up to 3 nodes)"
