"""Properties of known molecules, and the correction protocol step by step on molecules small enough to follow."""

from __future__ import annotations

import numpy as np
import pytest

Chem = pytest.importorskip("rdkit.Chem")

import scidiffuse.molecules.chem as chem  # noqa: E402


def graph(numbers, *bonds, charge=True):
    orders = np.zeros((len(numbers), len(numbers)), dtype=int)
    for i, j, order in bonds:
        orders[i, j] = orders[j, i] = order
    return chem.build(numbers, orders, charge)


def test_aspirin():
    """QED .5501 and SA 1.580; weight by the masses of C9H8O4; logP: Crippen's contributions, as RDKit reports them."""
    aspirin = chem.parse("CC(=O)Oc1ccccc1C(=O)O")
    assert chem.qed(aspirin) == pytest.approx(0.5501, abs=5e-5)
    assert chem.sa_score(aspirin) == pytest.approx(1.580, abs=5e-4)
    assert chem.weight(aspirin) == pytest.approx(9 * 12.011 + 8 * 1.008 + 4 * 15.999, abs=2e-3)
    assert chem.logp(aspirin) == pytest.approx(1.3101, abs=1e-4)


def test_logp_is_additive_over_methylenes():
    values = [chem.logp(chem.parse("C" * n)) for n in range(4, 9)]
    assert np.allclose(np.diff(values), np.diff(values)[0])
    assert values[1] > values[0]


def test_properties_refuse_what_is_no_sanitised_molecule():
    for function in (chem.qed, chem.logp, chem.sa_score, chem.weight):
        with pytest.raises(TypeError, match="did not parse"):
            function(chem.parse("C(("))
        with pytest.raises(TypeError, match=r"chem\.parse"):
            function("CCO")
        with pytest.raises(ValueError, match="not sanitised"):
            function(graph([6, 6], (0, 1, 1)))
    with pytest.raises(ValueError, match="no atoms"):
        chem.sa_score(Chem.MolFromSmiles(""))


def test_parse_and_canonical():
    assert chem.parse("c1cccc1") is None and chem.parse("") is None
    assert chem.canonical("OCC") == chem.canonical("CCO") == "CCO"
    assert chem.canonical("C[C@H](O)F") != chem.canonical("C[C@@H](O)F")
    assert chem.canonical("C[C@H](O)F", stereo=False) == chem.canonical("C[C@@H](O)F", stereo=False)
    assert chem.canonical("xyz") is None
    with pytest.raises(TypeError, match="got NoneType"):
        chem.parse(None)


def test_build_is_the_graph():
    mol = graph([6, 0, 8, 7], (0, 2, 2), (0, 3, 1), (1, 3, 1))  # formamide beside an atom that is not there
    assert chem.canonical(chem.largest_fragment(mol)) == "NC=O"
    assert mol.GetNumAtoms() == 3
    assert chem.valence_problems(mol) == []


@pytest.mark.parametrize(
    ("number", "bonds", "charged"),
    [(7, 4, True), (7, 5, False), (8, 3, True), (8, 4, False), (6, 5, False), (9, 2, False), (16, 3, False)],
)
def test_only_n_o_s_one_above_their_valence_are_charged(number, bonds, charged):
    mol = graph([number, *[6] * bonds], *[(0, i, 1) for i in range(1, bonds + 1)])
    # N with five neighbours is charged at the fourth and offends again at the fifth
    charge = mol.GetAtomWithIdx(0).GetFormalCharge()
    assert charge == (1 if number in (7, 8) and bonds > {7: 3, 8: 2}[number] else 0)
    assert (chem.valence_problems(mol) == []) == (charged or number == 16)
    plain = graph([number, *[6] * bonds], *[(0, i, 1) for i in range(1, bonds + 1)], charge=False)
    assert plain.GetAtomWithIdx(0).GetFormalCharge() == 0


def test_problems_name_atom_and_valence():
    mol = graph([6, 9, 6], (0, 1, 2), (1, 2, 1))
    assert chem.valence_problems(mol) == [chem.ValenceProblem(1, 9, 3)]
    before = Chem.MolToSmiles(mol)
    chem.correct(mol)
    assert Chem.MolToSmiles(mol) == before  # on a copy


def test_correction_lowers_the_highest_bond_first():
    """C with bonds 3, 2, 1 (sum 6): 3 -> 2 (sum 5; the other double bond is older, so it is the first), then 2 -> 1."""
    fixed, lowered = chem.correct(graph([6, 6, 6, 6], (0, 1, 3), (0, 2, 2), (0, 3, 1)))
    assert lowered == 2
    assert sorted(int(b.GetBondTypeAsDouble()) for b in fixed.GetAtomWithIdx(0).GetBonds()) == [1, 1, 2]
    assert chem.valence_problems(fixed) == []
    assert chem.correct(graph([6, 6], (0, 1, 3))).lowered == 0


def test_a_single_bond_is_removed_and_the_longest_smiles_kept():
    """F with two carbons loses its older bond; CH4 is left over beside CCF."""
    out = chem.molecule_of(graph([9, 6, 6, 6], (0, 1, 1), (0, 2, 1), (2, 3, 1)))
    assert (out.uncorrected, out.sanitised, out.fragments, out.lowered) == (False, False, 1, 1)
    assert chem.canonical(out.mol) == "CCF"
    good = chem.molecule_of(graph([6, 6, 8], (0, 1, 1)))
    assert (good.uncorrected, good.sanitised, good.fragments, good.lowered) == (True, True, 2, 0)
    assert chem.canonical(good.mol) == "CC"


def test_a_scaffold_is_kept_by_correction():
    # C=O with three carbons on its carbon, and a longer chain in another piece
    bonds = [(0, 1, 2), (0, 2, 1), (0, 3, 1), (0, 4, 1), *((k, k + 1, 1) for k in range(5, 15))]
    made = graph([6, 8, *[6] * 14], *bonds)
    assert chem.canonical(chem.molecule_of(made).mol) == "C" * 11  # the longest string; C=O would become C-O
    kept = chem.molecule_of(made, held=2)
    assert chem.canonical(kept.mol) == "CC(C)=O" and kept.lowered == 1
    assert chem.canonical(chem.correct(graph([6, 8, 6, 6, 6], *bonds[:4]), 2).mol).count("=") == 1
    only = chem.correct(graph([8, 6], (0, 1, 3), charge=False), held=2)  # nothing else to lower
    assert only.lowered == 1 and chem.canonical(only.mol) == "C=O"


def test_the_longest_string_is_not_the_most_atoms():
    mol = chem.parse("[Na+].CCC")
    assert chem.canonical(chem.largest_fragment(mol)) == "[Na+]"  # five letters against three
    assert chem.canonical(chem.largest_fragment(mol, by="atoms")) == "CCC"
    with pytest.raises(ValueError, match="'smiles' or 'atoms'"):
        chem.largest_fragment(mol, by="mass")


def test_nothing_is_no_molecule():
    out = chem.molecule_of(graph([0, 0]))
    assert out.mol is None and not out.uncorrected and out.fragments == 0


def test_an_atom_without_a_bond_to_lower():
    mol = Chem.RWMol()
    atom = Chem.Atom(6)
    atom.SetNumExplicitHs(6)
    mol.AddAtom(atom)
    with pytest.raises(ValueError, match="no bond to lower"):
        chem.correct(mol)
    assert chem.molecule_of(mol).mol is None


def test_every_random_graph_is_corrected():
    """All bonds drawn at random: the protocol always ends, in a molecule that sanitises, is connected and neutral or a
    cation; a graph that needs no correction keeps all its bonds."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        numbers = rng.choice([6, 7, 8, 9], size=7)
        upper = np.triu(rng.choice([0, 0, 0, 1, 1, 2, 3], size=(7, 7)), 1)
        mol = chem.build(numbers, upper + upper.T)
        out = chem.molecule_of(mol)
        assert out.mol is not None
        assert (out.lowered == 0) == out.uncorrected
        assert len(Chem.GetMolFrags(out.mol)) == 1
        assert chem.parse(chem.canonical(out.mol)) is not None
        if out.uncorrected and out.fragments == 1:
            assert out.mol.GetNumBonds() == np.count_nonzero(upper)


@pytest.mark.parametrize(
    ("numbers", "orders", "match"),
    [
        ([6, 6], np.zeros((3, 3)), r"\(N,\) and bond orders"),
        ([6, 6], [[0, 4], [4, 0]], "0, 1, 2 or 3"),
        ([6, 6], [[0, 1.5], [1.5, 0]], "Kekulé"),
        ([6, 6], [[0, 1], [2, 0]], "not symmetric: 1 at"),
        ([6, 119], np.zeros((2, 2)), "1 to 118"),
    ],
)
def test_graphs_that_are_refused(numbers, orders, match):
    with pytest.raises(ValueError, match=match):
        chem.build(numbers, orders)
