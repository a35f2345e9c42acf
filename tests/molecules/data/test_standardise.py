"""The policy: what is changed, what is refused, what is counted."""

import warnings
from collections import Counter

import pytest
from rdkit import Chem

from scidiffuse.molecules.data import ChangedMolecules, SkippedData, Standardise
from scidiffuse.molecules.data.standardise import parse_smiles


def done(smiles, **policy):
    counts = Counter()
    mol = Standardise(**policy)(parse_smiles(smiles), counts)
    return Chem.MolToSmiles(mol), {k: v for k, v in counts.items() if v}


@pytest.mark.parametrize(
    ("smiles", "policy", "after", "counts"),
    [
        ("OCC", {}, "CCO", {}),
        ("C[C@H](O)F", {}, "CC(O)F", {"stereo": 1}),
        ("F/C=C/F", {}, "FC=CF", {"stereo": 1}),
        ("F/C=C/F", {"stereo": "keep"}, "F/C=C/F", {}),
        ("[2H]C", {}, "C", {"isotopes": 1}),
        ("[13CH4]", {}, "C", {"isotopes": 1}),
        ("CC(=O)[O-].[Na+]", {"fragments": "largest"}, "CC(=O)[O-]", {"fragments": 1, "charged": 1}),
        (
            "CC(=O)[O-].[Na+]",
            {"fragments": "largest", "charges": "neutralise"},
            "CC(=O)O",
            {"fragments": 1, "neutralised": 1},
        ),
        ("C[N+](C)(C)C", {"charges": "neutralise"}, "C[N+](C)(C)C", {"charged": 1}),
        ("[CH3]", {"radicals": "fill"}, "C", {"radicals": 1}),
        ("[CH3:4][OH:2]", {}, "CO", {"atom_maps": 1}),
        ("C", {"hydrogens": "explicit"}, "[H]C([H])([H])[H]", {}),
        ("OC=N", {}, "N=CO", {}),  # a tautomer stays what it is
    ],
)
def test_what_changes_is_counted(smiles, policy, after, counts):
    assert done(smiles, **policy) == (after, counts)


@pytest.mark.parametrize(
    ("smiles", "policy", "words"),
    [
        ("CC.O", {}, "2 fragments .*fragments='refuse'; 'largest' keeps one"),
        ("[NH4+]", {"charges": "refuse"}, "charges='refuse'; 'keep'"),
        ("C[C@H](O)F", {"stereo": "refuse"}, "stereo='refuse'; 'drop'"),
        ("[2H]C", {"isotopes": "refuse"}, "isotopes='refuse'; 'drop'"),
        ("[CH3]", {}, "radicals='refuse'; 'fill'"),
        ("C*", {}, "wildcard"),
    ],
)
def test_what_is_refused_names_the_option(smiles, policy, words):
    with pytest.raises(ValueError, match=words):
        done(smiles, **policy)


def test_largest_fragment_does_not_depend_on_the_order():
    policy = {"fragments": "largest"}
    assert done("CCO.CCN", **policy)[0] == done("CCN.CCO", **policy)[0] == "CCO"  # the heavier of three atoms each
    assert done("CC(C)O.CCCO", **policy)[0] == done("CCCO.CC(C)O", **policy)[0]


def test_the_molecule_that_came_is_not_touched():
    mol = Chem.MolFromSmiles("C[C@H](O)F")
    Standardise()(mol)
    assert Chem.MolToSmiles(mol) == "C[C@H](O)F"


def test_tetrahedral_atoms_of_a_geometry_are_no_stereo_centres():
    from rdkit.Chem import AllChem

    mol = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    Chem.AssignAtomChiralTagsFromStructure(mol)
    counts = Counter()
    Standardise()(mol, counts)
    assert not counts["stereo"]


@pytest.mark.parametrize("word", ["fragments", "charges", "stereo", "isotopes", "radicals", "hydrogens"])
def test_another_word(word):
    with pytest.raises(ValueError, match=f"{word} must be one of .*'maybe'"):
        Standardise(**{word: "maybe"})


def test_many_with_a_report():
    strings = ["CCO", "C[C@H](O)F", "C1CC", "CC.O", "[NH4+]", "c1cccc1"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mols, rows, report = Standardise().apply(strings, errors="skip", source="mine.csv")
    kinds = {w.category: str(w.message) for w in caught}
    assert rows == [0, 1, 4] and len(mols) == 3 and (report.read, report.kept) == (6, 3)
    assert dict(report.counts) == {"stereo": 1, "charged": 1}
    assert [s.where for s in report.skipped] == ["molecule 2", "molecule 3", "molecule 5"]
    assert "mine.csv: left out 3 of 6" in kinds[SkippedData]
    assert "1 stereo dropped" in kinds[ChangedMolecules]
    assert str(report).startswith("3 of 6 molecules kept; ")


def test_nothing_changed_is_nothing_said():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Standardise().apply(["CCO", "[NH4+]"])


def test_first_bad_one_ends_it():
    with pytest.raises(ValueError, match=r"the molecules, molecule 1: 'C1CC' is no SMILES.*errors='skip'"):
        Standardise().apply(["C", "C1CC"])
    with pytest.raises(ValueError, match="nothing is left, 2 bad"):
        Standardise().apply(["C1CC", "q"], errors="skip")
    with pytest.raises(ValueError, match="holds no entry"):
        Standardise().apply([])
    with pytest.raises(ValueError, match="errors must be"):
        Standardise().apply(["C"], errors="ignore")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("CC(C)(C)(C)C", "no possible molecule: .*valence"),
        ("c1cccc1", "no possible molecule: .*kekulize"),
        ("C(C", "is no SMILES"),
        ("", "expected a SMILES, got ''"),
        (None, "expected a SMILES, got None"),
    ],
)
def test_strings_that_are_no_molecule(bad, words):
    with pytest.raises(ValueError, match=words):
        parse_smiles(bad)


def test_what_is_neither_text_nor_molecule():
    with pytest.raises(ValueError, match="molecule 1: expected a SMILES or an RDKit molecule, got None"):
        Standardise().apply(["C", None])
