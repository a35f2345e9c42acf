"""QM9 of qm9pack, and its original files made small."""

import importlib.util

import numpy as np
import pytest
import torch

from scidiffuse.molecules.data import SkippedData, qm9_atoms, qm9_graphs, qm9_table, read_qm9_raw
from scidiffuse.molecules.data.qm9 import PROPERTIES, uncharacterised

pack = pytest.mark.skipif(importlib.util.find_spec("qm9pack") is None, reason="qm9pack is not installed")


@pack
def test_the_set_is_the_one_of_the_papers():
    listed = uncharacterised()  # 133,885 entries, of which 130,831 are kept
    assert len(listed) == 3054 and 133_885 - len(listed) == 130_831 == len(qm9_table(["Index"]))
    assert min(listed) == 58 and max(listed) <= 133_885


@pack
def test_first_molecules():
    g = qm9_graphs(8, properties=["mu", "gap"])
    assert g.smiles == ("C", "N", "O", "C#C", "C#N", "C=O", "CC", "CO") and g.ids == tuple(range(1, 9))
    assert g.to_smiles() == list(g.smiles) and g.properties["mu"][1] == 1.6256
    a = qm9_atoms(8, properties=["mu"])
    assert a.ids == g.ids and a.properties["mu"].tolist() == g.properties["mu"].tolist()
    assert a.num_atoms[:3].tolist() == [5, 4, 3] and a.numbers[0, :5].tolist() == [6, 1, 1, 1, 1]
    assert a.positions[0, 0].tolist() == pytest.approx([-0.0126981359, 1.0858041578, 0.0080009958], abs=1e-7)


@pack
def test_geometry_and_graph_are_the_same_molecule():
    from scidiffuse.molecules.data import Standardise

    g = qm9_graphs(60, standardise=Standardise(hydrogens="explicit"))
    a = qm9_atoms(60)
    for i in range(60):
        names = [g.vocabulary[t][0] for t in g.types[i, g.mask[i]].tolist()]
        assert sorted(names) == sorted("?H????CNOF"[z] for z in a.numbers[i, a.mask[i]].tolist())


@pack
def test_vocabulary_without_charges_leaves_the_zwitterions_out():
    table = qm9_table(["SMILES"], 500)["SMILES"]
    charged = [s for s in table if "+" in s or "-]" in s]
    assert charged
    with pytest.raises(ValueError, match="outside the vocabulary C N O F"):
        qm9_graphs(500, vocabulary="CNOF")
    with pytest.warns(SkippedData, match=f"left out {len(charged)} of 500"):
        assert len(qm9_graphs(500, vocabulary="CNOF", errors="skip")) == 500 - len(charged)


@pack
def test_unknown_property():
    with pytest.raises(ValueError, match=r"QM9 has no property 'dipole'; it has \['A', 'B', 'C', 'mu'"):
        qm9_graphs(1, properties=["dipole"])


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'qm9pack: pip install "scidiffuse\[molecules\]"'):
        qm9_table(["SMILES"])


def original(index, x):
    """A file as published: hydrogen fluoride at distance x."""
    row = "\t".join(["gdb " + str(index), *[f"{k}.5" for k in range(14)], "1.2997*^-6"])
    return (
        f"2\n{row}\t\nF\t0\t0\t2.1997*^-6\t-0.2\nH\t0\t0\t{x}\t0.2\n4000.0\nF\tF\t\nInChI=1S/FH/h1H\tInChI=1S/FH/h1H\n"
    )


@pytest.fixture
def folder(tmp_path):
    for index, x in ((1, 0.92), (2, 0.93), (3, 1.94)):
        (tmp_path / f"dsgdb9nsd_{index:06}.xyz").write_text(original(index, x))
    (tmp_path / "uncharacterized.txt").write_text("These do not\nindex smiles\n     2   C  C\n\n1 compounds\n")
    (tmp_path / "uncharacterized.txt").write_text("=====\n Index SMILES\n     2   C  C\n=====\n")
    return tmp_path


def test_original_xyz_files(folder):
    with pytest.raises(ValueError, match=r"dsgdb9nsd_000003.xyz: the shortest distance of two atoms is 1.94.*Bohr"):
        read_qm9_raw(folder)
    with pytest.warns(SkippedData):
        atoms = read_qm9_raw(folder, properties=["A", "zpve", "cv"], errors="skip")
    assert atoms.ids == (1,) and atoms.smiles == ("F",)  # 2 is on the list, 3 is no molecule in Å
    assert [atoms.properties[p].item() for p in ("A", "zpve", "cv")] == [0.5, 9.5, 1.2997e-6]
    assert list(PROPERTIES)[9] == "zpve" and list(PROPERTIES)[14] == "cv"
    assert atoms.positions[0, 0, 2] == pytest.approx(2.1997e-6)
    assert read_qm9_raw(folder, keep_uncharacterised=True, limit=2).ids == (1, 2)


def test_original_file_cut_short(folder):
    (folder / "dsgdb9nsd_000001.xyz").write_text("2\ngdb 1 0\nF 0 0 0\n")
    with pytest.raises(ValueError, match=r"dsgdb9nsd_000001.xyz: not of the layout"):
        read_qm9_raw(folder)


def test_gdb9_sdf(tmp_path):
    from rdkit import Chem
    from rdkit.Chem import AllChem

    from scidiffuse.molecules.data import Atoms

    mols = []
    for smiles in ("C", "CO", "C#N"):
        mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
        AllChem.EmbedMolecule(mol, randomSeed=1)
        mols.append(mol)
    Atoms.from_mols(mols, ids=["gdb_1", "gdb_2", "gdb_3"]).to_sdf(tmp_path / "gdb9.sdf")
    (tmp_path / "gdb9.sdf.csv").write_text("mol_id,mu,gap\ngdb_1,0.1,1\ngdb_2,0.2,2\ngdb_3,0.3,3\n")
    (tmp_path / "uncharacterized.txt").write_text("2 x\n")
    atoms = read_qm9_raw(tmp_path, properties=["mu"])
    assert atoms.ids == (1, 3) and atoms.properties["mu"].tolist() == [0.1, 0.3] and atoms.smiles == ("C", "C#N")
    assert atoms.bonds is not None and read_qm9_raw(tmp_path, limit=1).ids == (1,)
    with pytest.raises(ValueError, match="has no column 'cv'"):
        read_qm9_raw(tmp_path, properties=["cv"])
    (tmp_path / "uncharacterized.txt").write_text("nothing here\n")
    with pytest.raises(ValueError, match="names no molecule"):
        read_qm9_raw(tmp_path)


def test_neither_kind_of_file(tmp_path):
    (tmp_path / "uncharacterized.txt").write_text("2 x\n")
    with pytest.raises(FileNotFoundError, match=r"neither gdb9.sdf nor dsgdb9nsd"):
        read_qm9_raw(tmp_path)


@pack
def test_every_geometry_of_a_sample_is_in_angstrom():
    a = qm9_atoms(3000)[::10]
    d = torch.cdist(a.positions, a.positions)
    pairs = a.mask[:, :, None] & a.mask[:, None, :] & ~torch.eye(a.mask.shape[1], dtype=torch.bool)
    shortest = d.masked_fill(~pairs, np.inf).flatten(1).amin(1)
    assert shortest.min() > 0.9 and shortest.max() < 1.4  # O-H; molecules without hydrogen


@pytest.mark.parametrize("limit", [0, -1])
def test_limits_that_take_nothing(folder, limit):
    for call in (qm9_table, read_qm9_raw):
        with pytest.raises(ValueError, match=f"limit is how many .*at least 1 .*got {limit}"):
            call(["Index"] if call is qm9_table else folder, limit=limit)
    (folder / "gdb9.sdf").write_text("")
    with pytest.raises(ValueError, match="limit is how many"):
        read_qm9_raw(folder, limit=limit)


@pytest.fixture
def gdb9(tmp_path):
    from scidiffuse.molecules.data.atoms import stack_atoms

    atom = (np.array([2]), None, np.zeros((1, 3)), None)
    stack_atoms([atom] * 3, ids=("gdb_1", "gdb_2", "helium")).to_sdf(tmp_path / "gdb9.sdf")
    (tmp_path / "uncharacterized.txt").write_text("9 x\n")
    return tmp_path


def test_gdb9_records_without_a_row_or_number(gdb9):
    (gdb9 / "gdb9.sdf.csv").write_text("mol_id,mu\ngdb_2,0.2\n")
    with pytest.raises(ValueError, match=r"gdb9.sdf, record 'gdb_1': gdb9.sdf.csv has no row 'gdb_1'"):
        read_qm9_raw(gdb9, properties=["mu"])
    with pytest.warns(SkippedData, match=r"left out 2 of 3: .*'gdb_1'.*gdb_<number>, got 'helium'"):
        atoms = read_qm9_raw(gdb9, properties=["mu"], errors="skip")
    assert atoms.ids == (2,) and atoms.properties["mu"].tolist() == [0.2]
    assert read_qm9_raw(gdb9, limit=2).ids == (1, 2)
    (gdb9 / "uncharacterized.txt").write_text("1 x\n2 x\n")
    with pytest.raises(ValueError, match="gdb_<number>"):
        read_qm9_raw(gdb9)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,mu\ngdb_1,1\n", r"gdb9.sdf.csv has no column 'mol_id'; it has \['id', 'mu'\]"),
        ("mol_id,mu\ngdb_1,low\n", "gdb9.sdf.csv: a property must be a column of numbers"),
        ("mol_id,mu\ngdb_1,1\ngdb_1,2\n", "gdb9.sdf.csv names 'gdb_1' in two rows"),
        ("", "gdb9.sdf.csv is no table"),
    ],
)
def test_gdb9_tables_that_are_none(gdb9, text, words):
    (gdb9 / "gdb9.sdf.csv").write_text(text)
    with pytest.raises(ValueError, match=words):
        read_qm9_raw(gdb9, properties=["mu"], errors="skip")
