"""Molecules to graphs and back."""

import importlib.util

import numpy as np
import pytest
import torch
from rdkit import Chem

from scidiffuse.molecules.data import Graphs, SkippedData, from_mols, from_smiles, qm9_table
from scidiffuse.molecules.data.molecules import build
from scidiffuse.molecules.data.standardise import Standardise

HARD = [
    "C",
    "[Na+]",
    "c1ccccc1",
    "c1cc[nH]c1",
    "c1ccc2[nH]ccc2c1",
    "O=[N+]([O-])c1ccccc1",
    "[C-]#[O+]",
    "C[N+](C)(C)C",
    "CS(=O)(=O)c1ccc(Br)cc1",
    "OP(=O)(O)O",
    "c1ccc2c(c1)c1ccccc1c1ccccc21",
    "O=c1[nH]cnc2nc[nH]c12",
    "O=S(=O)([O-])C(F)(F)F",
    "B(O)(O)c1ccccc1",
    "C[Si](C)(C)C#N",
    "C[n+]1ccccc1",
    "c1ccsc1",
    "[nH]1nnnc1",
]


def canonical(smiles):
    return Chem.MolToSmiles(Chem.MolFromSmiles(smiles), isomericSmiles=False)


@pytest.mark.parametrize("hydrogens", ["implicit", "explicit"])
def test_there_and_back(hydrogens):
    graphs = from_smiles(HARD, standardise=Standardise(hydrogens=hydrogens))
    assert graphs.to_smiles() == [canonical(s) for s in HARD] == list(graphs.smiles)


@pytest.mark.parametrize("hydrogens", ["implicit", "explicit"])
def test_molecules_of_qm9_there_and_back(hydrogens):
    if importlib.util.find_spec("qm9pack") is None:
        pytest.skip("qm9pack is not installed")
    strings = qm9_table(["SMILES"], 40_000)["SMILES"].tolist()[::266]
    graphs = from_smiles(strings, standardise=Standardise(hydrogens=hydrogens))
    assert len(graphs) == 151
    assert graphs.to_smiles() == [canonical(s) for s in strings]


def test_products_of_uspto_there_and_back(data):
    from scidiffuse.molecules.data import read_reactions

    path = data / "molecules" / "uspto50k_canonicalized_test.csv"
    if not path.exists():
        pytest.skip("no USPTO file in the folder of real files")
    products = [p for r in read_reactions(path, limit=150) for p in r.products]
    with pytest.warns(UserWarning, match="stereo dropped"):
        graphs = from_smiles(products)
    assert len(products) >= 150 and graphs.to_smiles() == [canonical(s) for s in products]


def test_bond_orders_are_those_of_a_kekule_form():
    g = from_smiles(["c1ccccc1", "C#N", "CC(=O)O"])
    assert sorted(g.A[0][g.A[0] > 0].tolist()) == [1] * 6 + [2] * 6 and (g.A[0].sum(1) == 3).all()
    assert g.A[1].max() == 3 and g.A[2].long().sum() == 2 * (1 + 2 + 1)


def test_every_order_of_nodes_is_the_same_molecule():
    g = from_smiles(["CC(=O)Nc1ccc(O)cc1"])
    for seed in range(5):
        order = torch.randperm(g.max_nodes, generator=torch.Generator().manual_seed(seed))
        shuffled = Graphs(g.A[:, order][:, :, order], g.mask, g.types[:, order], g.vocabulary, g.hydrogens)
        assert shuffled.to_smiles() == g.to_smiles()


def test_absent_nodes_may_stand_anywhere():
    A = torch.zeros(1, 4, 4, dtype=torch.uint8)
    A[0, 0, 3] = A[0, 3, 0] = 2
    mask = torch.tensor([[True, False, False, True]])
    types = torch.tensor([[0, 0, 0, 1]], dtype=torch.uint8)
    assert Graphs(A, mask, types, ("C", "O"), "implicit").to_smiles() == ["C=O"]


def test_a_charge_needs_its_type():
    with pytest.raises(
        ValueError, match=r"molecule 1 \('C\[N\+\].*type N\+ outside the vocabulary C N O;.*types of their own"
    ):
        from_smiles(["CCO", "C[N+](C)(C)C"], "CNO")
    with pytest.warns(SkippedData, match="left out 1 of 2: molecule 1 .*outside the vocabulary"):
        kept = from_smiles(["CCO", "C[N+](C)(C)C"], "CNO", errors="skip")
    assert kept.vocabulary == ("C", "N", "O") and kept.smiles == ("CCO",)
    assert from_smiles(["C[N+](C)(C)C"], "C N+").to_smiles() == ["C[N+](C)(C)C"]


def test_too_many_atoms():
    with pytest.raises(ValueError, match="4 atoms, max_atoms=3"):
        from_smiles(["CCCC"], max_atoms=3)
    with pytest.warns(SkippedData):
        assert from_smiles(["CCCC", "CCC"], max_atoms=3, errors="skip").ids == (1,)


@pytest.mark.parametrize(
    ("smiles", "words"),
    [
        ("[CH3]", r"radical at atom 0 \(C; counted from 0\), .*radicals='fill' Standardise adds"),
        ("C[PH4]", "has 4 hydrogens, its default valence gives 2"),
        ("*C", "wildcard"),
        ("N->[Cu]", "type DATIVE"),
    ],
)
def test_molecules_without_a_place_in_a_graph(smiles, words):
    mol = Chem.MolFromSmiles(smiles)
    with pytest.raises(ValueError, match=words):
        from_mols([mol])


def test_what_is_no_sanitised_molecule():
    raw = Chem.MolFromSmiles("CC", sanitize=False)
    ring = Chem.MolFromSmiles("c1cccc1", sanitize=False)
    ring.UpdatePropertyCache(strict=False)
    for bad, words in (
        (None, "got None .RDKit gives None"),
        ("CC", "got 'CC'"),
        (Chem.Mol(), "without atoms"),
        (raw, "unsanitised"),
        (ring, "aromatic bonds that cannot be kekulised: .*[Kk]ekulize"),
    ):
        with pytest.raises(ValueError, match=words):
            from_mols([bad])


def test_a_hydrogen_that_only_names_stereo_goes_with_it():
    with pytest.warns(UserWarning, match="1 stereo dropped"):
        assert from_smiles(["[H]/N=C/C"]).to_smiles() == ["CC=N"]


def test_hydrogens_must_be_what_is_said():
    water = Chem.MolFromSmiles("O")
    with pytest.raises(ValueError, match="'explicit', but atom 0"):
        from_mols([water], hydrogens="explicit")
    with pytest.raises(ValueError, match="'implicit', but some hydrogens are atoms"):
        from_mols([Chem.AddHs(water)])
    assert from_mols([Chem.MolFromSmiles("[H][H]")]).to_smiles() == ["[H][H]"]


def test_a_missing_explicit_hydrogen_is_never_added():
    a = np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]])
    methylene = build([(6, 0), (1, 0), (1, 0)], a, "explicit")
    Chem.SanitizeMol(methylene)
    assert methylene.GetAtomWithIdx(0).GetNumRadicalElectrons() == 2
    assert Chem.MolToSmiles(Chem.RemoveHs(methylene)) == "[CH2]"


def test_a_graph_that_is_no_molecule():
    A = torch.zeros(2, 5, 5, dtype=torch.uint8)
    A[0, 0, 1:] = A[0, 1:, 0] = 2
    A[1, 0, 1] = A[1, 1, 0] = 1
    g = Graphs(A, torch.ones(2, 5, dtype=torch.bool), torch.zeros(2, 5).byte(), ("C",), "implicit")
    with pytest.raises(ValueError, match=r"graph 0 .*valence.*errors='none'"):
        g.to_mols()
    assert g.to_smiles(errors="none") == [None, "C.C.C.CC"]
    raw = g.to_mols(sanitise=False)
    assert raw[0].GetNumAtoms() == 5 and Chem.DetectChemistryProblems(raw[0])
    with pytest.raises(ValueError, match="'skip'"):
        g.to_mols(errors="skip")


def test_other_graphs_are_no_molecules():
    with pytest.raises(ValueError, match="no molecules"):
        Graphs(torch.zeros(1, 2, 2).byte(), torch.ones(1, 2).bool()).to_smiles()


@pytest.mark.parametrize(
    "more", [{"ids": ["a"]}, {"names": ["a"]}, {"properties": {"mu": [1.0]}}, {"ids": list("abc")}]
)
def test_lists_of_another_length(more):
    mols = [Chem.MolFromSmiles("C"), Chem.MolFromSmiles("CC")]
    with pytest.raises(
        ValueError, match=rf"{next(iter(more.get('properties', more)))}: expected one entry for each of 2"
    ):
        from_mols(iter(mols), **more)
