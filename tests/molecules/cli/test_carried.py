"""Which columns come along."""

from __future__ import annotations

import pytest

from scidiffuse.molecules.cli.carried import beside, fitting

ATOM = "1\n{}\nC 0 0 0\n"
FIELD = ">  <{}>\n{}\n\n"


@pytest.mark.parametrize(
    ("name", "text", "numbers", "others"),
    [
        ("a.csv", "id,smiles,x,note\n1,C,2,a\n2,C,,b\n", ["x"], ["note"]),
        ("a.csv", ",name,id,smiles\n0,a,7,C\n", [], ["name"]),  # pandas' index is no column
        ("a.tsv", "sequence\tx\nACGT\t1\n", ["x"], []),
        ("a.sdf", f"M  END\n{FIELD.format('x', '1.5')}{FIELD.format('y', '3.5 eV')}$$$$\n", ["x"], ["y"]),
        ("a.xyz", ATOM.format('e=1 s=a id="b" pbc="F F F"') + ATOM.format("e=nan"), ["e"], ["s"]),
        ("a.smi", "C name\n", [], []),
    ],
)
def test_numbers_and_others(tmp_path, name, text, numbers, others):
    (tmp_path / name).write_text(text)
    assert beside(str(tmp_path / name), None, None, None) == (numbers, others)


def test_a_column_that_is_chosen_is_no_number_beside_it(tmp_path):
    (tmp_path / "a.csv").write_text("key,x,smiles\n1,2,C\n")
    assert beside(str(tmp_path / "a.csv"), None, "key", None) == (["x"], [])
    assert beside("qm9", None, None, None) == ([], [])


def test_what_fits():
    assert fitting(["a", "b c"], ".csv") == (["a", "b c"], [])
    assert fitting(["a", "b c"], ".xyz") == (["a"], ["b c"])
    assert fitting(["a"], ".smi") == fitting(["a"], ".fasta") == ([], ["a"])
