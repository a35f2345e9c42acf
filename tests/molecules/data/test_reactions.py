"""Tables of reactions."""

import pytest

from scidiffuse.molecules.data import SkippedData, read_reactions


def test_sides_without_maps(tmp_path):
    (tmp_path / "r.csv").write_text(
        "id,class,reactants>reagents>production\n"
        "US1,2,[CH3:1][OH:2].[CH3:3][C:4](=[O:5])Cl>CCN.O>[CH3:1][O:2][C:4]([CH3:3])=[O:5]\n"
    )
    (r,) = read_reactions(tmp_path / "r.csv")
    assert r.reactants == ("CC(=O)Cl", "CO") and r.reagents == ("CCN", "O") and r.products == ("COC(C)=O",)
    assert (r.id, r.label) == ("US1", 2) and r.mapped.startswith("[CH3:1]")


def test_maps_that_pretend_stereo_go_with_it(tmp_path):
    (tmp_path / "r.csv").write_text("rxn_smiles\nC>>[CH3:1][C@H:2]([CH3:3])[OH:4]\nC>>C[C@H](F)O\n")
    r = read_reactions(tmp_path / "r.csv")
    assert r[0].products == ("CC(C)O",) and r[1].products == ("C[C@@H](O)F",) and r[0].reagents == ()
    assert [x.id for x in r] == [1, 2] and r[0].label is None


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("CCO", "is no reaction: expected reactants>reagents>products"),
        ("C>>", "has no product"),
        (">>C", "has no reactant"),
        ("C1C>>C", "'C1C' is no SMILES"),
        ("", "expected a reaction SMILES, got nan"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, words):
    (tmp_path / "r.csv").write_text(f"id,rxn_smiles\na,C>>C\nb,{row}\n")
    with pytest.raises(ValueError, match=f"r.csv, row 2: .*{words}"):
        read_reactions(tmp_path / "r.csv")
    with pytest.warns(SkippedData, match="left out 1 of 2: row 2"):
        assert [r.id for r in read_reactions(tmp_path / "r.csv", errors="skip")] == ["a"]


def test_columns(tmp_path):
    (tmp_path / "r.tsv").write_text("x\ty\nC>>C\t1\n")
    assert len(read_reactions(tmp_path / "r.tsv", "x")) == 1
    for column in (None, "z"):
        with pytest.raises(ValueError, match=r"no column of reactions .* it has \['x', 'y'\]"):
            read_reactions(tmp_path / "r.tsv", column)


def test_the_uspto_file(data):
    path = data / "molecules" / "uspto50k_canonicalized_test.csv"
    if not path.exists():
        pytest.skip("no USPTO file in the folder of real files")
    reactions = read_reactions(path, limit=100)
    assert len(reactions) == 100 and {r.label for r in reactions} <= set(range(1, 11))
    assert all(len(r.products) == 1 and r.reactants and ":" not in r.products[0] for r in reactions)
