"""GEOM's layouts and MessagePack."""

import io
import json
import pickle

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from scidiffuse.molecules.data import SkippedData, read_geom
from scidiffuse.molecules.data.msgpack import values

peer = pytest.importorskip("pip._vendor.msgpack", reason="no other MessagePack writer at hand")

HF = [[9.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.92]]
ETHANE = [[6.0, 0.0, 0.0, 0.0], [6.0, 0.0, 0.0, 1.5]]


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        *[s * (2**k + d) for k in (0, 4, 5, 7, 8, 15, 16, 31, 32, 62) for d in (-1, 0, 1) for s in (1, -1)],
        2**64 - 1,
        0.1,
        -1e300,
        float("inf"),
        *["ä" * n for n in (0, 15, 16, 200, 40_000)],
        *[b"x" * n for n in (0, 300, 70_000)],
        *[list(range(n)) for n in (0, 15, 16, 70_000)],
        *[{str(i): [i] for i in range(n)} for n in (0, 15, 16, 70_000)],
    ],
)
def test_messagepack_of_another_writer(value):
    assert list(values(io.BytesIO(peer.packb(value)))) == [value]


def test_messagepack_bytes_of_the_specification():
    assert list(values(io.BytesIO(b"\x82\xa7compact\xc3\xa6schema\x00"))) == [{"compact": True, "schema": 0}]
    assert list(values(io.BytesIO(b"\xca\x3f\xc0\x00\x00\xff\x7f"))) == [1.5, -1, 127]


def test_messagepack_that_is_none():
    with pytest.raises(ValueError, match="extension type"):
        list(values(io.BytesIO(b"\xd4\x01\x00")))
    with pytest.raises(ValueError, match="ends inside a value"):
        list(values(io.BytesIO(b"\x93\x01\x02")))


def test_messagepack_that_is_nested_too_deeply_or_has_no_keys():
    with pytest.raises(ValueError, match="nested deeper"):
        list(values(io.BytesIO(b"\x91" * 100_000 + b"\x01")))
    with pytest.raises(ValueError, match=r"the key of a map is \[1\]"):
        list(values(io.BytesIO(b"\x81\x91\x01\x02")))


def crude(path, *batches):
    path.write_bytes(b"".join(peer.packb(b) for b in batches))
    return path


def conformer(xyz, weight, energy):
    return {"xyz": xyz, "boltzmannweight": weight, "totalenergy": energy, "degeneracy": 1}


def test_most_probable_conformers_come_first(tmp_path):
    far = [[9.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.99]]
    one = {"F": {"conformers": [conformer(far, 0.2, -1.0), conformer(HF, 0.8, -2.0)], "charge": 0}}
    two = {"CC": {"conformers": [conformer(ETHANE, 1.0, -3.0)]}}
    path = crude(tmp_path / "drugs_crude.msgpack", one, two)
    atoms = read_geom(path)
    assert atoms.ids == ("F#0", "CC#0") and atoms.smiles == ("F", "CC")
    assert atoms.positions[:, 1, 2].tolist() == pytest.approx([0.92, 1.5])
    assert atoms.properties["totalenergy"].tolist() == [-2, -3] and atoms.numbers[0].tolist() == [9, 1]
    both = read_geom(path, conformers=5)
    assert both.ids == ("F#0", "F#1", "CC#0") and both.properties["boltzmannweight"].tolist() == [0.8, 0.2, 1.0]
    assert read_geom(path, limit=1).ids == ("F#0",)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        read_geom(path, conformers=0)


def test_a_bad_molecule_is_named(tmp_path):
    bohr = [[6.0, 0, 0, 0], [6.0, 0, 0, 2.9]]
    bad = {"CC": {"conformers": [conformer(bohr, 1.0, 0.0)]}, "C": {"conformers": []}, "O": {"conformers": [{}]}}
    path = crude(tmp_path / "x.msgpack", {"F": {"conformers": [conformer(HF, 1.0, 0.0)]}}, bad)
    with pytest.raises(ValueError, match=r"x.msgpack, molecule 'CC': the shortest .*Bohr"):
        read_geom(path)
    with pytest.warns(SkippedData, match=r"left out 3 of 4: .*'C': no conformers; .*'O': xyz must be rows"):
        assert read_geom(path, errors="skip").ids == ("F#0",)
    with pytest.raises(ValueError, match="expected maps from SMILES"):
        read_geom(crude(tmp_path / "y.msgpack", [1]))


@pytest.fixture
def folder(tmp_path):
    mol = Chem.AddHs(Chem.MolFromSmiles("CO"))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    entry = {"smiles": "CO", "conformers": [{"rd_mol": mol, "boltzmannweight": np.float64(0.7), "totalenergy": -1.0}]}
    (tmp_path / "drugs").mkdir()
    (tmp_path / "drugs" / "CO.pickle").write_bytes(pickle.dumps(entry))
    (tmp_path / "summary_drugs.json").write_text(json.dumps({"CO": {"pickle_path": "drugs/CO.pickle"}, "N": {}}))
    return tmp_path


def test_pickles_only_when_told(folder):
    for path in (folder / "summary_drugs.json", folder / "drugs" / "CO.pickle"):
        with pytest.raises(ValueError, match=r"is a pickle, which can run code .*allow_pickle=True"):
            read_geom(path)
        atoms = read_geom(path, allow_pickle=True)
        assert atoms.smiles == ("CO",) and atoms.num_atoms.tolist() == [6] and atoms.bonds.sum() == 10
        assert atoms.properties["boltzmannweight"].tolist() == [0.7]


def test_a_path_out_of_the_folder(folder):
    (folder / "drugs" / "summary.json").write_text(json.dumps({"CO": {"pickle_path": "../../x.pickle"}}))
    with pytest.raises(ValueError, match="leads out of its folder"):
        read_geom(folder / "drugs" / "summary.json", allow_pickle=True)


def test_other_files(tmp_path):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ValueError, match=r"expected a .msgpack"):
        read_geom(tmp_path / "a.txt")


def water(number):
    return [[number, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.96]]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ([conformer(water(300.0), 1.0, 0.0)], "atom 1: 300.0 is no element: expected a whole number, 1 to 118"),
        ([conformer(water(6.7), 1.0, 0.0)], "atom 1: 6.7 is no element"),
        ([conformer(water(0.0), 1.0, 0.0)], "atom 1: 0.0 is no element"),
        ([conformer(HF, 1.0, "low")], "totalenergy must be a number, got 'low'"),
        ([conformer(HF, 1.0, 0.0), conformer(HF, None, 0.0)], "boltzmannweight must be a number, got None"),
        ([3], "expected each conformer as a dictionary, got int"),
        ([{"xyz": {"a": 1}, "boltzmannweight": 1.0}], r"xyz must be rows of \[atomic number, x, y, z\]"),
        ([{"xyz": [[9.0, 0.0], [1.0]]}], "xyz must be rows of"),
    ],
)
def test_one_bad_molecule_among_good_ones(tmp_path, entry, words):
    good = {"conformers": [conformer(HF, 1.0, -2.0)]}
    path = crude(tmp_path / "x.msgpack", {"F": good, "O": {"conformers": entry}, "[F]": good})
    with pytest.raises(ValueError, match=f"x.msgpack, molecule 'O': .*{words}"):
        read_geom(path, conformers=2)
    with pytest.warns(SkippedData, match="left out 1 of 3: molecule 'O'"):
        atoms = read_geom(path, conformers=2, errors="skip")
    assert atoms.ids == ("F#0", "[F]#0") and atoms.properties["totalenergy"].tolist() == [-2, -2]


def test_a_name_that_is_no_text(tmp_path):
    path = crude(tmp_path / "x.msgpack", {7: {"conformers": [conformer(HF, 1.0, 0.0)]}})
    with pytest.raises(ValueError, match="molecule 7: expected the SMILES as text, got int"):
        read_geom(path)


def test_conformers_without_a_weight_come_last(tmp_path):
    unknown = {k: v for k, v in conformer(HF, 0.0, -1.0).items() if k != "boltzmannweight"}
    entry = {"F": {"conformers": [unknown, conformer(HF, 0.0, -2.0)]}}
    atoms = read_geom(crude(tmp_path / "x.msgpack", entry), conformers=2)
    assert atoms.properties["totalenergy"].tolist() == [-2, -1] and atoms.properties["boltzmannweight"][1].isnan()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.msgpack.gz", b"no gzip", "a.msgpack.gz is damaged, or no gzip file"),
        ("b.msgpack", b"\x93\x01", "b.msgpack: MessagePack: the file ends inside a value"),
        ("c.msgpack", b"\xc0", "c.msgpack: expected maps from SMILES to conformers, got NoneType"),
        ("summary_d.json", b"{", "summary_d.json is no JSON"),
        ("summary_e.json", b"[" * 100_000, "summary_e.json is no JSON"),
        ("summary_f.json", b"[1]", "summary_f.json: expected a map"),
    ],
)
@pytest.mark.parametrize("errors", ["raise", "skip"])
def test_damaged_files_are_said_with_their_name(tmp_path, name, content, words, errors):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_geom(tmp_path / name, allow_pickle=True, errors=errors)


def test_pickles_that_are_not_there_are_skipped(folder):
    about = {"C": {"pickle_path": "drugs/C.pickle"}, "CO": {"pickle_path": "drugs/CO.pickle"}}
    about |= {"N": {"pickle_path": "../N.pickle"}, "P": {"pickle_path": "drugs/P.pickle"}}
    (folder / "drugs" / "P.pickle").write_bytes(b"no pickle")
    (folder / "summary_drugs.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"summary_drugs.json, molecule 'C': no file drugs/C.pickle"):
        read_geom(folder / "summary_drugs.json", allow_pickle=True)
    with pytest.warns(SkippedData, match=r"left out 3 of 4: .*no file .*leads out of its folder.*P.pickle is refused"):
        atoms = read_geom(folder / "summary_drugs.json", allow_pickle=True, errors="skip")
    assert atoms.ids == ("CO#0",)
