"""What can be bought: by SMILES or InChIKey, from files and reactions."""

from __future__ import annotations

import pytest

pytest.importorskip("rdkit")

from scidiffuse.core.problems import SkippedData
from scidiffuse.molecules import synthesis as sy
from scidiffuse.molecules.data.reactions import Reaction


def test_molecules_are_told_by_their_canonical_smiles():
    stock = sy.Inventory(["OCC", "C(C)O", "c1ccccc1", "C[C@H](N)C(=O)O"])
    assert len(stock) == 3 and "CCO" in stock and "C1=CC=CC=C1" in stock
    assert "C[C@@H](N)C(=O)O" not in stock and "CC" not in stock
    assert stock.has("CCO") and not stock.has("OCC")  # `has` takes canonical SMILES


def test_tautomers_have_one_inchikey():
    hydroxy, oxo = "Oc1ccccn1", "O=c1cccc[nH]1"
    assert oxo in sy.Inventory([hydroxy], by="inchikey") and oxo not in sy.Inventory([hydroxy])
    by_key = sy.Inventory(["LFQSCWFLJHTTHZ-UHFFFAOYSA-N"], by="inchikey")  # ethanol's key
    assert "CCO" in by_key and "CO" not in by_key


def test_without():
    stock = sy.Inventory(["CCO", "CC"])
    assert list(stock.without("OCC")) == ["CC"] and len(stock) == 2
    with pytest.raises(ValueError, match="nothing would be left"):
        stock.without("CC", "CCO")


def test_nothing_and_no_molecules():
    with pytest.raises(ValueError, match="holds no entry"):
        sy.Inventory([])
    with pytest.raises(ValueError, match=r"entry 2: 'C1CC'"):
        sy.Inventory(["C", "C1CC"])
    with pytest.warns(SkippedData, match=r"left out 1 of 2: entry 2"):
        assert len(sy.Inventory(["C", "C1CC"], errors="skip")) == 1
    with pytest.raises(ValueError, match="by must be"):
        sy.Inventory(["C"], by="name")
    with pytest.raises(TypeError, match="one string"):
        sy.Inventory("CCO")


def test_files(tmp_path):
    (tmp_path / "a.smi").write_text("# a comment\nOCC ethanol\n\nCC\n")
    (tmp_path / "b.csv").write_text("name,SMILES\nethanol,OCC\nethane,CC\n")
    (tmp_path / "c.tsv").write_text("id\tstructure\n1\tOCC\n2\tCC\n")
    stocks = [sy.Inventory.read(tmp_path / name) for name in ("a.smi", "b.csv")]
    stocks.append(sy.Inventory.read(tmp_path / "c.tsv", "structure"))
    assert [list(s) for s in stocks] == [["CC", "CCO"]] * 3
    assert list(sy.Inventory.read(stocks[0].write(tmp_path / "d.smi.gz"))) == ["CC", "CCO"]
    with pytest.raises(ValueError, match=r"no column of molecules.*structure"):
        sy.Inventory.read(tmp_path / "c.tsv")
    with pytest.raises(ValueError, match=r"expected \.smi"):
        sy.Inventory.read(tmp_path / "c.sdf")
    with pytest.raises(FileNotFoundError):
        sy.Inventory.read(tmp_path / "none.smi")


def test_small_reactants_of_reactions():
    reaction = Reaction(("CCO", "CCCCCCCC"), (), ("CC",), "", 1)
    assert list(sy.Inventory.from_reactions([reaction], max_atoms=3)) == ["CCO"]
    assert len(sy.Inventory.from_reactions([reaction], max_atoms=None)) == 2


@pytest.mark.parametrize("head", ["smiles name", "SMILES", "canonical_smiles\tid", "# a comment\nsmiles"])
def test_a_header_of_a_list_is_no_molecule(tmp_path, head):
    (tmp_path / "a.smi").write_text(f"{head}\nOCC ethanol\nCC\n")
    assert list(sy.Inventory.read(tmp_path / "a.smi")) == ["CC", "CCO"]


def test_a_question_about_no_molecule_is_one_error_and_no_noise(capfd):
    stock = sy.Inventory(["CCO"], by="inchikey")
    for ask in (lambda: "XX" in stock, lambda: stock.has("XX"), lambda: stock.without("XX")):
        with pytest.raises(ValueError, match="'XX' is no SMILES"):
            ask()
    assert capfd.readouterr() == ("", "")
