"""Scores of files: closed forms, every kind of file, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import AllChem

from scidiffuse import molecules as mo


def test_shares_of_a_file_of_smiles_by_hand(tmp_path, call):
    (tmp_path / "s.smi").write_text("CCO\nOCC\nC1CC\nCCC\nCCN\n")  # 4 valid of 5, 3 different, 1 of them known
    (tmp_path / "t.csv").write_text("smiles\nC(O)C\nC=O\n")
    text = call("evaluate", tmp_path / "s.smi", "--train", tmp_path / "t.csv", "--out", tmp_path / "e")
    report = json.loads((tmp_path / "e" / "report.json").read_text())
    values = {name: score["value"] for name, score in report["scores"].items()}
    expected = {"valid_rdkit": 4 / 5, "unique_all": 3 / 4, "novel": 2 / 3, "valid_unique_novel": 2 / 5}
    assert values == pytest.approx(expected)
    assert report["invalid"] == ["entry 3: 'C1CC'"] and "1 of 5 are no molecules: entry 3: 'C1CC'" in text
    assert (tmp_path / "e" / "molecules.png").is_file() and (tmp_path / "e" / "properties.png").is_file()
    assert "novel" not in call("evaluate", tmp_path / "s.smi")  # without --train the basic suite leaves it out


def samples_of_graphs():
    """Ethanol, a carbon of five bonds, and NH4+ as the protocol of samples reads N with four neighbours."""
    bonds = torch.zeros(3, 6, 6, dtype=torch.uint8)
    pairs = [(0, 0, 1), (0, 1, 2), *((b, 0, k) for b in (1, 2) for k in range(1, 5)), (1, 0, 5)]
    for b, i, j in pairs:
        bonds[b, i, j] = bonds[b, j, i] = 1
    mask = torch.arange(6) < torch.tensor([[3], [6], [5]])
    types = torch.tensor([[0, 0, 2, 0, 0, 0], [0] * 6, [1, 0, 0, 0, 0, 0]], dtype=torch.uint8)
    return mo.data.Graphs(bonds, mask, types, ("C", "N", "O"), "implicit")


def test_samples_that_are_no_molecule_count(tmp_path, call):
    graphs = samples_of_graphs()
    text = call("evaluate", graphs.save(tmp_path / "s.npz"), "--out", tmp_path / "e")
    report = json.loads((tmp_path / "e" / "report.json").read_text())
    score = report["scores"]["valid_rdkit"]
    assert score["n"] == 3 and score["value"] == pytest.approx(2 / 3)
    assert mo.evaluate(graphs, suite=["valid_rdkit"])["valid_rdkit"].value == pytest.approx(2 / 3)
    assert report["invalid"] == ["entry 2: its atoms and bonds are no molecule"] and "1 of 3 are no molecules" in text
    assert "none of the 1 molecules is valid" in call("evaluate", graphs[1].save(tmp_path / "bad.npz"), code=2)


def test_means_of_properties(tmp_path, call):
    (tmp_path / "s.smi").write_text("CCO\nC1CC\nCCC\n")
    text = call("evaluate", tmp_path / "s.smi", "--suite", "drug", "--out", tmp_path / "e")
    scores = json.loads((tmp_path / "e" / "report.json").read_text())["scores"]
    assert set(scores) == {"valid_rdkit", "mean_qed", "mean_logp", "mean_sa", "mean_weight"}
    assert (scores["mean_weight"]["n"], scores["mean_weight"]["left_out"]) == (2, 1) and "g/mol" in text
    assert scores["mean_weight"]["value"] == pytest.approx(
        np.mean([mo.chem.weight(mo.chem.parse(s)) for s in ("CCO", "CCC")])
    )


def test_graphs_against_themselves_have_no_distance(tmp_path, call):
    some = mo.load("community_small")[:6]
    path = some.save(tmp_path / "g.npz")
    for kernel in ("emd", "tv"):
        words = ["--reference", path, "--train", path, "--planar", "--kernel", kernel]
        call("evaluate", path, *words, "--out", tmp_path / kernel, "--draw", 4)
        scores = json.loads((tmp_path / kernel / "report.json").read_text())["scores"]
        distances = {name: scores.pop(name) for name in list(scores) if name.startswith("mmd")}
        assert set(distances) == {f"mmd_{d}_{kernel}" for d in ("degree", "clustering", "orbit", "spectral")}
        assert all(abs(s["value"]) < 1e-9 for s in distances.values())
        assert set(scores) == {"graphs_connected", "graphs_planar", "graphs_unique", "graphs_novel"}
        assert (scores["graphs_connected"]["value"], scores["graphs_novel"]["value"]) == (1.0, 0.0)
    assert (tmp_path / "emd" / "mmd.png").is_file() and (tmp_path / "emd" / "graphs.png").is_file()


def methane(stretch):
    directions = np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
    return directions * 1.09 * stretch


def test_geometries_by_hand(tmp_path, call):
    positions = torch.tensor(np.stack([methane(1.0), methane(1.0), methane(1.3)]), dtype=torch.float32)
    numbers = torch.tensor([[6, 1, 1, 1, 1]] * 3, dtype=torch.uint8)
    atoms = mo.Atoms(positions, numbers, torch.zeros(3, 5, dtype=torch.int8), torch.ones(3, 5, dtype=torch.bool))
    path = atoms.to_xyz(tmp_path / "m.xyz")
    (tmp_path / "t.smi").write_text("C\n")
    call("evaluate", path, "--train", tmp_path / "t.smi", "--out", tmp_path / "e")
    scores = json.loads((tmp_path / "e" / "report.json").read_text())["scores"]
    assert scores["molecule_stability_edm"]["value"] == pytest.approx(2 / 3)  # no bond is as long as 1.42 Å
    assert scores["atom_stability_edm"]["value"] == pytest.approx(2 / 3)
    assert (scores["novel"]["n"], scores["novel"]["value"]) == (2, 0.5)  # methane is known, loose atoms are not
    assert (tmp_path / "e" / "geometries.png").is_file()


ETHANOL = Chem.AddHs(Chem.MolFromSmiles("CCO"))
AllChem.EmbedMolecule(ETHANOL, randomSeed=1)


@pytest.mark.parametrize("suffix", [".sdf", ".xyz", ".sdf.gz", ".npz"])
def test_samples_that_are_no_stable_molecule_are_scored(suffix, tmp_path, call):
    """Ethanol, without one hydrogen (a radical), with a carbon of five bonds, and blown up: 1/4 in every format."""
    whole = mo.Atoms.from_mols([ETHANOL] * 4)
    mask, bonds, positions = whole.mask.clone(), whole.bonds.clone(), whole.positions.clone()
    mask[1, -1] = False
    bonds[1, -1] = bonds[1, :, -1] = 0
    bonds[2, 0, 2] = bonds[2, 2, 0] = 1
    positions[2, 2] = positions[2, 0] + (positions[2, 2] - positions[2, 0]) * 0.6
    positions[3] *= 10
    numbers = whole.numbers * mask
    atoms = mo.Atoms(positions * mask[..., None], numbers, whole.charges, mask, None if suffix == ".xyz" else bonds)
    write = {".xyz": atoms.to_xyz, ".npz": atoms.save}.get(suffix, atoms.to_sdf)
    text = call("evaluate", write(tmp_path / f"s{suffix}"), "--out", tmp_path / "e", "--draw", 0)
    scores = json.loads((tmp_path / "e" / "report.json").read_text())["scores"]
    stable = scores["molecule_stability_edm"]
    assert (stable["n"], stable["value"]) == (4, 0.25) and scores["valid_rdkit"]["n"] == 4
    assert scores["valid_rdkit"]["value"] < 1
    assert "the shortest distance in 1 of 4 samples is not one of molecules in Å (0.5 to 1.6)" in text
    if suffix != ".npz":
        assert "shortest" not in call("evaluate", tmp_path / f"s{suffix}", "--units", "angstrom")


def test_sequences_by_hand(tmp_path, call):
    (tmp_path / "a.fasta").write_text(">1\nACGTTT\n>2\nACGTTT\n>3\nAACCGG\n")
    (tmp_path / "b.fasta").write_text(">1\nAACCGG\n>2\nTTTTAA\n")
    words = ["--train", tmp_path / "b.fasta", "--reference", tmp_path / "a.fasta", "--kmer", 2]
    call("evaluate", tmp_path / "a.fasta", *words, "--out", tmp_path / "e")
    scores = json.loads((tmp_path / "e" / "report.json").read_text())["scores"]
    assert scores["unique_sequences"]["value"] == pytest.approx(2 / 3)
    assert scores["novel_sequences"]["value"] == pytest.approx(1 / 2)
    assert scores["kmer2_pearson"]["value"] == pytest.approx(1.0)
    assert (tmp_path / "e" / "logo.png").is_file()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["none.smi"], "no file none.smi"),
        (["none.abc"], "is no file of molecules, graphs or sequences"),
        (["s.smi", "--suite", "moses"], "without --train: give it, or take --suite basic or drug"),
        (["s.smi", "--suite", "moses", "--train", "s.smi"], "scaf, fcd_torch cannot be computed without --reference"),
        (["s.smi", "--posebusters"], "--posebusters is not for a file of smiles"),
        (["s.smi", "--alphabet", "dna"], "--alphabet is not for a file of smiles"),
        (["g.npz"], "graphs are scored by comparison: give --reference"),
        (["s.smi", "--planar"], "--planar is not for a file of smiles"),
        (["s.smi", "--kmer", 5], "--kmer is not for a file of smiles"),
        (["s.smi", "--kernel", "emd"], "--kernel is not for a file of smiles"),
        (["s.smi", "--units", "bohr"], "--units is not for a file of smiles"),
        (["w.xyz", "--suite", "basic"], "--suite is not for a file of atoms"),
        (["w.xyz", "--kmer", 5], "--kmer is not for a file of atoms"),
        (["w.xyz", "--kernel", "tv"], "--kernel is not for a file of atoms"),
        (["w.xyz", "--allow-small"], "--allow-small is not for a file of atoms"),
        (["g.npz", "--suite", "moses"], "--suite is not for a file of graphs"),
        (["s.smi", "--train", "bad.smi"], "none of the 1 training molecules can be read"),
        (["bad.smi"], "none of the 1 molecules is valid"),
    ],
)
def test_bad_input_ends_with_one_line(words, says, tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.smi").write_text("CCO\n")
    (tmp_path / "bad.smi").write_text("C1CC\n")
    (tmp_path / "w.xyz").write_text("3\nwater\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n")
    mo.load("community_small")[:2].save(tmp_path / "g.npz")
    text = call("evaluate", *words, code=2)
    lines = text.strip().splitlines()
    assert says in text and lines[-1].startswith("error: ")
