"""Formats: what goes in comes out, what is dropped is counted, what cannot be is refused."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from rdkit import Chem

from scidiffuse import molecules as mo

LINES = "CCO a\nC[C@H](N)C(=O)O b\n[Na+].CC(=O)[O-] c\nC1CC d\n"
POLICY = ("--fragments", "largest", "--charges", "neutralise", "--errors", "skip")


@pytest.fixture
def source(tmp_path):
    (tmp_path / "in.smi").write_text(LINES)
    return tmp_path / "in.smi"


def test_the_policy_and_its_counts(source, tmp_path, call):
    text = call("convert", source, tmp_path / "out.csv", *POLICY)
    assert (tmp_path / "out.csv").read_text() == "smiles,id\nCCO,a\nCC(N)C(=O)O,b\nCC(=O)O,c\n"
    assert "left out 1 of 4: line 4 ('C1CC')" in text and "1 stereo dropped" in text and "wrote 3 entries" in text
    assert "line 3" in call("convert", source, tmp_path / "x.csv", code=2)
    assert not (tmp_path / "x.csv").exists()


def test_around_all_formats_of_molecules(source, tmp_path, call):
    chain = ["in.smi", "a.csv", "b.npz", "c.smi.gz", "d.sdf", "e.xyz", "f.npz", "g.sdf.gz", "h.smi"]
    for one, two in pairwise(chain):
        options = POLICY if one == "in.smi" else ("--embed",) if two == "d.sdf" else ()
        options = (*options, "--id-column", "id") if one.endswith(".csv") else options
        call("convert", tmp_path / one, tmp_path / two, *options)
    smiles = [line.split()[0] for line in (tmp_path / "h.smi").read_text().splitlines()]
    assert smiles == ["CCO", "CC(N)C(=O)O", "CC(=O)O"]
    assert mo.read_sdf(tmp_path / "d.sdf").ids == ("a", "b", "c")
    before, after = mo.read_xyz(tmp_path / "e.xyz"), mo.read(tmp_path / "f.npz")
    assert isinstance(after, mo.Atoms) and before.positions.equal(after.positions)


def test_bonds_of_an_sdf_are_perceived_and_what_is_no_molecule_is_named(tmp_path, call):
    water = "3\nwater\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n"
    (tmp_path / "a.xyz").write_text(water + "2\nch\nC 0 0 0\nH 1.1 0 0\n")
    text = call("convert", tmp_path / "a.xyz", tmp_path / "a.sdf")
    assert (
        "warning: no bonds could be perceived in 1 of 2" in text and "wrote 1 entries" in text and "1 dropped" in text
    )
    found = mo.read_sdf(tmp_path / "a.sdf")
    assert found.bonds.sum() == 4 and found.numbers.tolist() == [[8, 1, 1]]


def test_embedding_keeps_stereo(tmp_path, call):
    smiles = ["C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", "C/C=C/C", "C/C=C\\C"]
    (tmp_path / "a.smi").write_text("".join(f"{s}\n" for s in smiles))

    def found(name, *words):
        text = call("convert", tmp_path / "a.smi", tmp_path / name, "--embed", *words)
        out = []
        for mol in Chem.SDMolSupplier(str(tmp_path / name)):
            Chem.AssignStereochemistryFrom3D(mol)
            out.append(Chem.MolToSmiles(mol))
        return text, out

    text, kept = found("a.sdf")
    assert kept == [Chem.CanonSmiles(s) for s in smiles] and "stereo dropped" not in text
    text, dropped = found("b.sdf", "--stereo", "drop")
    assert dropped[0] == dropped[1] and "4 stereo dropped" in text


def test_samples_of_graphs_are_molecules(tmp_path, call):
    five = torch.zeros(2, 6, 6, dtype=torch.uint8)
    five[0, 0, 1] = five[0, 1, 0] = 1
    five[1, 0, 1:] = five[1, 1:, 0] = 1  # a carbon of five bonds
    mask = torch.arange(6) < torch.tensor([[2], [6]])
    types = torch.zeros(2, 6, dtype=torch.uint8)
    mo.data.Graphs(five, mask, types, ("C",), "implicit").save(tmp_path / "s.npz")
    text = call("convert", tmp_path / "s.npz", tmp_path / "x.smi", code=2)
    assert "graph 2 (id 1): its atoms and bonds are no molecule (--errors skip" in text
    text = call("convert", tmp_path / "s.npz", tmp_path / "x.smi", "--errors", "skip")
    assert (tmp_path / "x.smi").read_text() == "CC 0\n" and "left out 1 of 2" in text


def test_embedding_is_seeded(source, tmp_path, call):
    for name, seed in (("a.xyz", 1), ("b.xyz", 1), ("c.xyz", 2)):
        call("convert", source, tmp_path / name, "--embed", "--seed", seed, *POLICY)
    a, b, c = ((tmp_path / f"{k}.xyz").read_bytes() for k in "abc")
    assert a == b != c


TABLE = "name,SMILES,logp,group,mw\nethanol,CCO,-0.1,x,46\n,CCC,,y,44\n"


def test_names_and_numbers_come_along(tmp_path, call):
    (tmp_path / "in.csv").write_text(TABLE)
    chain = ["in.csv", "a.csv", "b.npz", "c.sdf", "d.xyz", "e.sdf", "f.csv"]
    for one, two in pairwise(chain):
        text = call("convert", tmp_path / one, tmp_path / two, *(("--embed",) if two == "c.sdf" else ()))
        assert ("left out, as they hold no numbers: group" in text) == (one == "in.csv")
    expected = "smiles,id,logp,mw\nCCO,ethanol,-0.1,46.0\nCCC,2,,44.0\n"
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "f.csv").read_text() == expected
    text = call("convert", tmp_path / "in.csv", tmp_path / "a.smi")
    assert (tmp_path / "a.smi").read_text() == "CCO ethanol\nCCC 2\n"
    assert "left out, as .smi has no place for them: logp, mw" in text
    call("convert", tmp_path / "in.csv", tmp_path / "g.csv", "--property", "mw")  # only what is asked for
    assert (tmp_path / "g.csv").read_text() == "smiles,id,mw\nCCO,ethanol,46.0\nCCC,2,44.0\n"


def test_ids_of_sequences_come_back(tmp_path, call):
    (tmp_path / "a.fa").write_text(">x\nACGT\n>y\nACC\n")
    call("convert", tmp_path / "a.fa", tmp_path / "a.csv")
    call("convert", tmp_path / "a.csv", tmp_path / "b.fa")
    assert (tmp_path / "b.fa").read_text() == (tmp_path / "a.fa").read_text()
    (tmp_path / "c.csv").write_text("key,sequence,activity\nu,ACGT,1.5\n")
    text = call("convert", tmp_path / "c.csv", tmp_path / "c.fa", "--id-column", "key")
    assert (tmp_path / "c.fa").read_text() == ">u\nACGT\n" and "has no place for them: activity" in text


def test_sequences(tmp_path, call):
    (tmp_path / "a.fa").write_text(">x\nACGT\n>y\nACNT\n")
    assert "letter 'N'" in call("convert", tmp_path / "a.fa", tmp_path / "a.csv", code=2)
    call("convert", tmp_path / "a.fa", tmp_path / "a.csv", "--unknown", "keep")
    assert (tmp_path / "a.csv").read_text() == "id,sequence\nx,ACGT\ny,ACNT\n"
    call("convert", tmp_path / "a.csv", tmp_path / "b.fasta", "--unknown", "skip")
    assert (tmp_path / "b.fasta").read_text().splitlines()[1:] == ["ACGT"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["in.smi", "out.abc"], "cannot tell the format of out.abc"),
        (["in.smi", "out.sdf", *POLICY], "SMILES have no coordinates, and .sdf needs them: --embed makes some"),
        (["in.smi", "out.fasta"], "sequences are read from .fasta"),
        (["in.smi", "out.csv", "--units", "bohr"], "--units is of coordinates"),
        (["in.smi", "out.csv", "--column", "x"], "has no columns"),
        (["g.npz", "out.smi"], "these graphs are no molecules: they are written as .npz only"),
        (["none.smi", "out.csv"], "no file none.smi"),
        (["in.smi", "out.npy.gz"], "cannot tell the format of out.npy.gz: expected .smi, .csv, .npz"),
        (["in.smi", "./in.smi"], "FROM and TO are the same file, in.smi: give the result another name"),
    ],
)
def test_bad_input_is_one_line(words, says, source, tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mo.load("community_small")[:2].save(tmp_path / "g.npz")
    text = call("convert", *words, code=2)
    assert (tmp_path / "in.smi").read_text() == LINES
    assert says in text and text.strip().splitlines()[-1].startswith("error: ")
