"""Molecules with coordinates: units, containers, bonds."""

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import AllChem

from scidiffuse.molecules.data import Atoms, SkippedData
from scidiffuse.molecules.data.atoms import BOHR, check_distances, converted, stack_atoms

WATER = np.array([[0.0, 0.0, 0.117], [0.0, 0.757, -0.469], [0.0, -0.757, -0.469]])


def water(**changes):
    return stack_atoms(
        [(np.array([8, 1, 1]), None, WATER, None), (np.array([2]), None, np.zeros((1, 3)), None)], **changes
    )


def geometry(smiles):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    return mol


def test_bohr_is_noticed_and_converted():
    ethane = np.array([[0.0, 0, 0], [1.54, 0, 0]])
    check_distances(ethane)
    with pytest.raises(ValueError, match=r"shortest distance of two atoms is 2.91, .* Bohr\? units='bohr' converts"):
        check_distances(ethane / BOHR)
    assert np.allclose(converted(ethane / BOHR, "bohr"), ethane)
    assert np.array_equal(converted(ethane / BOHR, "angstrom"), ethane / BOHR)
    with pytest.raises(ValueError, match=r"is 0.154, .*nm, or atoms on top"):
        check_distances(ethane / 10)
    with pytest.raises(ValueError, match=r"is 0.431"):  # Å said to be Bohr
        converted(np.array([[0.0, 0, 0], [0.815, 0, 0]]), "bohr")
    with pytest.raises(ValueError, match="'nm'"):
        converted(ethane, "nm")


@pytest.mark.parametrize(("distance", "fine"), [(0.499, False), (0.501, True), (1.599, True), (1.601, False)])
def test_the_limits(distance, fine):
    x = np.array([[0.0, 0, 0], [0, distance, 0], [9, 9, 9]])
    if fine:
        check_distances(x)
    else:
        with pytest.raises(ValueError, match="shortest"):
            check_distances(x)


def test_a_single_atom_says_nothing_of_units():
    check_distances(np.zeros((1, 3)))
    assert water().num_atoms.tolist() == [3, 1]


def test_not_finite():
    with pytest.raises(ValueError, match="not finite"):
        check_distances(np.array([[0.0, 0, np.nan]]))


@pytest.mark.parametrize("smiles", ["CCO", "c1ccccc1", "C[N+](C)(C)C", "CC(=O)[O-]", "C#N"])
def test_from_a_molecule_and_back(smiles):
    mol = geometry(smiles)
    atoms = Atoms.from_mols([mol])
    back = atoms.to_mols()[0]
    assert atoms.smiles == (Chem.CanonSmiles(smiles),)
    assert Chem.MolToSmiles(Chem.RemoveHs(back)) == Chem.CanonSmiles(smiles)
    assert np.abs(back.GetConformer().GetPositions() - mol.GetConformer().GetPositions()).max() < 1e-6
    assert atoms.charges.sum() == Chem.GetFormalCharge(mol)


def test_bonds_by_distances():
    atoms = Atoms.from_mols([geometry("CCO"), geometry("C=O")])
    bare = Atoms(atoms.positions, atoms.numbers, atoms.charges, atoms.mask)
    assert [Chem.MolToSmiles(Chem.RemoveHs(m)) for m in bare.to_mols(bonds="perceive")] == ["CCO", "C=O"]
    assert bare.to_mols(bonds="none")[0].GetNumBonds() == 0
    with pytest.raises(ValueError, match="no bonds: ask for bonds='perceive'"):
        bare.to_mols()
    with pytest.raises(ValueError, match="'guess'"):
        bare.to_mols(bonds="guess")


def test_what_is_no_geometry():
    flat = Chem.MolFromSmiles("CCO")
    with pytest.raises(ValueError, match="molecule 0: a molecule without coordinates"):
        Atoms.from_mols([flat])
    AllChem.Compute2DCoords(flat)
    with pytest.raises(ValueError, match="a flat drawing"):
        Atoms.from_mols([flat])
    with pytest.warns(SkippedData, match="left out 1 of 2: molecule 'b'"):
        assert Atoms.from_mols([geometry("C"), flat], ids=["a", "b"], errors="skip").ids == ("a",)


def test_types_are_one_hot():
    t = water().types()
    assert water().elements == ("H", "He", "O") and t.shape == (2, 3, 3)
    assert t[0].argmax(1).tolist() == [2, 0, 0] and t[1].tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
    with pytest.raises(ValueError, match=r"molecule 1 .* none of \['H', 'O'\]"):
        water().types(["H", "O"])


def test_space_has_no_centre_of_mass():
    space = water()[0].space()
    assert space.ndof(water()[0].positions).tolist() == [6]
    with pytest.raises(ValueError, match="one point"):
        water().space()


def test_some_of_them():
    a = water(ids=("w", "he"), properties={"e": np.array([1.0, 2.0])})
    assert a[[1]].ids == ("he",) and a[-1].properties["e"].tolist() == [2.0] and a[:1].num_atoms.tolist() == [3]


def test_saved_whole_and_read_back(tmp_path):
    a = Atoms.from_mols(
        [geometry("C[N+](C)(C)C"), geometry("C")], ids=["a", "b"], properties={"e": [1.5, float("nan")]}
    )
    b = Atoms.load(a.save(tmp_path / "a.npz"))
    for name in ("positions", "numbers", "charges", "mask", "bonds"):
        assert torch.equal(getattr(a, name), getattr(b, name))
    assert (b.ids, b.smiles) == (a.ids, a.smiles) and b.properties["e"].isnan().tolist() == [False, True]
    bare = water()
    assert Atoms.load(bare.save(tmp_path / "w.npz")).bonds is None


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"mask": torch.ones(2, 3)}, TypeError, "mask must be bool"),
        ({"positions": torch.zeros(2, 3, 2)}, ValueError, r"positions \(B, N, 3\)"),
        ({"positions": torch.full((2, 3, 3), torch.inf)}, ValueError, "molecule 0 .*not finite"),
        ({"numbers": torch.zeros(2, 3).byte()}, ValueError, "without an atomic number"),
        ({"charges": torch.zeros(2, 2)}, ValueError, "charges must be"),
        ({"mask": torch.zeros(2, 3).bool()}, ValueError, "has no atom"),
        ({"bonds": torch.ones(2, 3, 3).triu(1).byte()}, ValueError, "not symmetric"),
        ({"bonds": torch.ones(2, 3, 3).byte()}, ValueError, "molecule 1 .*at an absent atom"),
        ({"bonds": torch.ones(2, 3).byte()}, ValueError, r"bonds must be \(B, N, N\)"),
        ({"ids": ("a",)}, ValueError, "ids: expected one entry"),
    ],
)
def test_parts_that_do_not_fit(changes, error, words):
    a = water()
    parts = {k: getattr(a, k) for k in ("positions", "numbers", "charges", "mask")}
    with pytest.raises(error, match=words):
        Atoms(**{**parts, **changes})


def test_heavy_atoms_alone_and_polar_hydrogens_alone():
    heavy = Chem.RemoveHs(geometry("CC(=O)O"))
    atoms = Atoms.from_mols([heavy, geometry("CCO")])
    assert atoms.num_atoms.tolist() == [4, 9]
    back = atoms.to_mols()
    assert Chem.MolToSmiles(back[0]) == "CC(=O)O" and not any(a.GetNumRadicalElectrons() for a in back[0].GetAtoms())
    polar = Chem.RWMol(geometry("CO"))
    polar.RemoveAtom(3)  # a hydrogen of the carbon
    polar.GetAtomWithIdx(0).SetNoImplicit(False)
    Chem.SanitizeMol(polar)
    with pytest.raises(ValueError, match="some hydrogens are atoms and others are implied"):
        Atoms.from_mols([polar])


def test_what_is_no_molecule():
    with pytest.raises(ValueError, match="molecule 0: expected an RDKit molecule, got None"):
        Atoms.from_mols([None])
    with pytest.raises(ValueError, match="molecule 0: an unsanitised molecule"):
        Atoms.from_mols([Chem.MolFromSmiles("C", sanitize=False)])
    with pytest.warns(SkippedData, match="left out 1 of 2: molecule 0"):
        assert Atoms.from_mols([None, geometry("C")], errors="skip").ids == (1,)


@pytest.mark.parametrize("more", [{"ids": ["a"]}, {"properties": {"mu": [1.0]}}, {"ids": list("abc")}])
def test_lists_of_another_length(more):
    mol = geometry("C")
    with pytest.raises(ValueError, match="expected one entry for each of 2 molecules, got"):
        Atoms.from_mols([mol, mol], **more)


def test_ids_of_several_kinds_are_saved(tmp_path):
    assert Atoms.load(water(ids=("w", None)).save(tmp_path / "a.npz")).ids == ("w", None)


def test_coordinates_that_are_not_finite_whatever_the_units():
    with pytest.raises(ValueError, match="not finite"):
        converted(np.array([[0.0, 0, np.inf]]), "angstrom")
