"""SDF."""

import gzip
from dataclasses import replace

import pytest
import torch
from rdkit import Chem
from rdkit.Chem import AllChem

from scidiffuse.molecules.data import Atoms, ChangedMolecules, SkippedData, read_sdf, read_sdf_graphs
from scidiffuse.molecules.data.sdf import read_sdf_as_it_is, sdf_records


def geometry(smiles):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    return mol


SMILES = ["CCO", "c1ccccc1", "C[N+](C)(C)C", "CC(=O)[O-]"]


@pytest.fixture
def atoms():
    numbers = {"e": [1.0, float("nan"), 0.1 + 0.2, -1e-30]}
    return Atoms.from_mols(map(geometry, SMILES), ids=list("abcd"), properties=numbers)


@pytest.mark.parametrize("name", ["x.sdf", "x.sdf.gz"])
def test_written_and_read_back(tmp_path, atoms, name):
    again = read_sdf(atoms.to_sdf(tmp_path / name), properties=["e"])
    assert again.ids == atoms.ids and list(again.smiles) == [Chem.CanonSmiles(s) for s in SMILES]
    assert torch.equal(again.charges, atoms.charges) and torch.equal(again.numbers, atoms.numbers)
    assert (again.positions - atoms.positions).abs().max() <= 0.5001e-4  # four decimals
    assert again.properties["e"].isnan().tolist() == [False, True, False, False]
    assert again.properties["e"][[0, 2, 3]].tolist() == [1.0, 0.1 + 0.2, -1e-30]


def test_rdkit_reads_what_is_written(tmp_path, atoms):
    path = atoms.to_sdf(tmp_path / "x.sdf")
    mols = list(Chem.SDMolSupplier(str(path)))
    assert [Chem.MolToSmiles(m) for m in mols] == [Chem.CanonSmiles(s) for s in SMILES]
    assert mols[2].GetProp("e") == repr(0.1 + 0.2) and mols[0].GetProp("_Name") == "a"


@pytest.mark.parametrize("smiles", ["C/C=C/C", "C/C=C\\C", "C[C@H](O)F", "C[C@@H](O)F", "CC=O"])
def test_stereo_is_in_the_coordinates(tmp_path, smiles):
    atoms = Atoms.from_mols([geometry(smiles)])
    path = atoms.to_sdf(tmp_path / "x.sdf")
    assert Chem.MolToSmiles(next(Chem.SDMolSupplier(str(path)))) == Chem.CanonSmiles(smiles)
    assert read_sdf(path).smiles == (Chem.CanonSmiles(smiles),)


def test_as_it_is_takes_what_is_no_molecule(tmp_path, atoms):
    odd = replace(atoms, bonds=atoms.bonds.clone(), smiles=None)
    odd.bonds[0, 0, 2] = odd.bonds[0, 2, 0] = 3  # an ethanol of impossible valences
    odd.positions[1] *= 20
    path = odd.to_sdf(tmp_path / "x.sdf")
    with pytest.raises(ValueError, match="no possible molecule"):
        read_sdf(path)
    again = read_sdf_as_it_is(path, units="angstrom")
    assert torch.equal(again.bonds, odd.bonds) and torch.equal(again.numbers, odd.numbers)
    assert torch.equal(again.charges, odd.charges) and again.ids == odd.ids and again.smiles is None
    with pytest.raises(ValueError, match=r"record 2 .*Bohr"):
        read_sdf_as_it_is(path)


def test_aromatic_bonds_as_they_are_are_kekulised(tmp_path, atoms):
    block = Chem.MolToMolBlock(geometry("c1ccccc1"), kekulize=False)
    (tmp_path / "x.sdf").write_text(block)
    assert sorted(read_sdf_as_it_is(tmp_path / "x.sdf").bonds.sum(1)[0, :6].tolist()) == [4] * 6
    (tmp_path / "y.sdf").write_text(Chem.MolToMolBlock(geometry("CCC")).replace("  1  2  1  0", "  1  2  4  0"))
    with pytest.raises(ValueError, match="a bond of type AROMATIC: expected single"):
        read_sdf_as_it_is(tmp_path / "y.sdf")


@pytest.mark.parametrize(("complete", "smiles"), [(False, "CCO"), (True, "[C][C][O]")])
def test_hydrogens_of_heavy_atoms(tmp_path, atoms, complete, smiles):
    heavy = atoms[0]
    mask = heavy.mask & (heavy.numbers != 1)
    bonds = heavy.bonds * (mask[:, None] & mask[:, :, None])
    bare = Atoms(heavy.positions * mask[..., None], heavy.numbers * mask, heavy.charges, mask, bonds)
    path = bare.to_sdf(tmp_path / "x.sdf", complete=complete)
    assert Chem.MolToSmiles(next(Chem.SDMolSupplier(str(path)))) == smiles


def test_without_bonds(tmp_path, atoms):
    bare = Atoms(atoms.positions, atoms.numbers, atoms.charges, atoms.mask)
    text = bare.to_sdf(tmp_path / "x.sdf").read_text()
    first = next(iter(sdf_records(tmp_path / "x.sdf")))[1].splitlines()[3]
    assert first.split()[:2] == ["9", "0"] and "M  CHG" in text


def test_a_bad_record_is_named(tmp_path, atoms):
    text = atoms.to_sdf(tmp_path / "x.sdf").read_text()
    blocks = text.split("$$$$\n")
    blocks[1] = "broken\n  no block\n\n 99 zz\nM  END\n"
    blocks[2] = blocks[2].replace("M  CHG", "M  ISO")  # a nitrogen of four bonds without its charge
    (tmp_path / "y.sdf").write_text("$$$$\n".join(blocks))
    with pytest.raises(ValueError, match=r"y.sdf, record 2 \('broken'\): no mol block"):
        read_sdf(tmp_path / "y.sdf")
    with pytest.warns(
        SkippedData, match=r"left out 2 of 4: record 2 .*record 3 \('c'\): no possible molecule: .*valence"
    ):
        assert read_sdf(tmp_path / "y.sdf", errors="skip").ids == ("a", "d")


def test_drawings_are_graphs_but_no_geometry(tmp_path):
    mol = Chem.MolFromSmiles("C[C@H](O)F")
    AllChem.Compute2DCoords(mol)
    (tmp_path / "d.mol").write_text(Chem.MolToMolBlock(mol))
    with pytest.raises(ValueError, match="a flat drawing"):
        read_sdf(tmp_path / "d.mol")
    with pytest.warns(ChangedMolecules, match="1 stereo dropped"):
        assert read_sdf_graphs(tmp_path / "d.mol").to_smiles() == ["CC(O)F"]


def test_graphs_of_a_geometry(tmp_path, atoms):
    import warnings

    path = atoms.to_sdf(tmp_path / "x.sdf")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no stereo is made up from the coordinates
        graphs = read_sdf_graphs(path, properties=["e"], limit=3)
    assert graphs.to_smiles() == [Chem.CanonSmiles(s) for s in SMILES[:3]] and graphs.ids == ("a", "b", "c")


def test_data_fields_and_a_missing_end(tmp_path):
    block = Chem.MolToMolBlock(geometry("C"))
    with gzip.open(tmp_path / "m.sdf.gz", "wt") as file:
        file.write(block + ">  <a b> (1)\n3.5 eV\n\n>  <note>\nline one\nline two\n\n")
    title, _, fields = next(sdf_records(tmp_path / "m.sdf.gz"))
    assert title == "" and fields == {"a b": "3.5 eV", "note": "line one\nline two"}
    assert read_sdf(tmp_path / "m.sdf.gz", properties=["a b"]).properties["a b"].tolist() == [3.5]
    with pytest.raises(ValueError, match="field 'note' is 'line one"):
        read_sdf(tmp_path / "m.sdf.gz", properties=["note"])


def test_bohr(tmp_path, atoms):
    wrong = Atoms(atoms.positions / 0.529177, atoms.numbers, atoms.charges, atoms.mask, atoms.bonds)
    with pytest.raises(ValueError, match="Bohr"):
        read_sdf(wrong.to_sdf(tmp_path / "x.sdf"))
    assert (read_sdf(tmp_path / "x.sdf", units="bohr").positions - atoms.positions).abs().max() < 1e-4


def test_suffix(tmp_path, atoms):
    with pytest.raises(ValueError, match=r"expected .sdf"):
        atoms.to_sdf(tmp_path / "x.mol2")
    (tmp_path / "e.sdf").write_text("")
    with pytest.raises(ValueError, match="holds no entry"):
        read_sdf(tmp_path / "e.sdf")
