"""Every system by the same words: train, sample, guide; what each writes in its own formats."""

from __future__ import annotations

import json

import pytest
import torch

from scidiffuse import molecules as mo
from scidiffuse.molecules.systems import load_model

WATER = "3\nwater\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n"
METHANE = "5\nmethane\nC 0 0 0\nH 0.63 0.63 0.63\nH 0.63 -0.63 -0.63\nH -0.63 0.63 -0.63\nH -0.63 -0.63 0.63\n"

#: preset, single settings, data, options of sampling, files of samples and their pictures
CASES = {
    "digress": ("small", "layers=1 dx=8 de=8 dy=8 heads=2 steps=4", "SMILES", "", "samples.smi molecules.png"),
    "pard": ("small", "layers=1 hidden=8 edge_hidden=4 heads=2 steps=2", "SMILES", "", "samples.smi molecules.png"),
    "edm": ("tiny", "layers=1 hidden=8", "XYZ", "--steps 4", "samples.sdf samples.xyz geometries.png"),
    "gfmdiff": (
        "tiny", "blocks=1 width=8 hidden=8 heads=2 outer=2", "XYZ", "--steps 4",
        "samples.sdf samples.xyz geometries.png",
    ),
    "sequence": ("small", "width=16 depth=1 heads=2", "FASTA", "", "samples.fasta logo.png"),
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory, data, call):
    """The folder of a training of a system, made once."""
    folder, made = tmp_path_factory.mktemp("systems"), {}
    (folder / "a.xyz").write_text((WATER + METHANE) * 4)
    (folder / "a.fasta").write_text("".join(f">{k}\n{'ACGTTGCA'[k % 3 :]}\n" for k in range(9)))
    files = {"SMILES": data, "XYZ": folder / "a.xyz", "FASTA": folder / "a.fasta"}

    def run(name):
        if name not in made:
            preset, settings, kind, *_ = CASES[name]
            words = ["train", name, files[kind], "--preset", preset, "--batch-size", 4, "--max-steps", 2]
            words += [w for s in settings.split() for w in ("--set", s)]
            call(*words, "--no-progress", "--out", folder / name)
            made[name] = (folder / name, files[kind])
        return made[name]

    return run


@pytest.mark.parametrize("name", CASES)
def test_train_and_sample(name, runs, tmp_path, call):
    out, file = runs(name)
    assert load_model(out).steps in (0, 2) and json.loads((out / "report.json").read_text())["steps"] == 2
    words = ["sample", "--model", out, "-n", 4, *CASES[name][3].split(), "--train", file, "--no-progress"]
    text = call(*words, "--out", tmp_path / "s")
    there = {p.name for p in (tmp_path / "s").iterdir()}
    assert {"report.json"} < there
    made = CASES[name][4].split()
    report = json.loads((tmp_path / "s" / "report.json").read_text())
    if "molecules.png" in made and report["scores"]["valid_corrected_gdss"]["value"] == 0:
        made.remove("molecules.png")  # nothing to draw
    assert set(made) <= there, text
    call(*words, "--draw", 0, "--out", tmp_path / "again")
    first = made[0]
    assert (tmp_path / "again" / first).read_bytes() == (tmp_path / "s" / first).read_bytes()


@pytest.mark.parametrize(("name", "reward"), [("digress", "weight"), ("edm", "weight"), ("sequence", "rewards_x:gc")])
def test_guide(name, reward, runs, tmp_path, call, monkeypatch):
    (tmp_path / "rewards_x.py").write_text("def gc(text):\n    return sum(text.count(a) for a in 'GC') / len(text)\n")
    monkeypatch.chdir(tmp_path)
    out, _ = runs(name)
    words = ["--model", out, "-n", 3, *CASES[name][3].split(), "--candidates", 2, "--best-of", "--no-progress"]
    call("guide", reward, *words, "--out", "g")
    rewards = json.loads((tmp_path / "g" / "report.json").read_text())["rewards"]
    assert {k: len(v) for k, v in rewards.items()} == {"guided": 3, "unguided": 3, "best of 2": 3}
    if name == "sequence":
        strings = mo.read_fasta(tmp_path / "g" / "samples.fasta").strings()
        expected = [sum(s.count(a) for a in "GC") / len(s) for s in strings]
        assert rewards["guided"] == pytest.approx(expected)


def test_a_scaffold_in_space_is_a_file(runs, tmp_path, call):
    out, _ = runs("edm")
    (tmp_path / "oh.xyz").write_text("2\n\nO 5 5 5\nH 5.96 5 5\n")
    words = ["sample", "--model", out, "-n", 3, "--steps", 4, "--no-progress", "--out", tmp_path / "s"]
    call(*words, "--scaffold", tmp_path / "oh.xyz")
    found = mo.read_xyz(tmp_path / "s" / "samples.xyz")
    assert (found.numbers[:, :2] == torch.tensor([8, 1])).all()
    torch.testing.assert_close(found.positions[:, 1, 0], torch.full((3,), 5.96))
    assert json.loads((tmp_path / "s" / "report.json").read_text())["scaffold"] == str(tmp_path / "oh.xyz")
    assert "it is a file (.sdf, .xyz) of one molecule" in call(*words, "--scaffold", "CO", code=2)
    (tmp_path / "co.smi").write_text("CO\n")
    assert "expected a molecule in space" in call(*words, "--scaffold", tmp_path / "co.smi", code=2)


def test_what_cannot_be_steered_or_asked_is_told(runs, tmp_path, call):
    out, _ = runs("pard")
    assert "PARD cannot be steered" in call("guide", "qed", "--model", out, "--out", tmp_path, code=2)
    text = call("sample", "--model", out, "--scaffold", "CO", "--out", tmp_path, code=2)
    assert "PARD has no --scaffold: leave out what it does not take" in text
    out, _ = runs("edm")
    text = call("sample", "--model", out, "--condition", "mu=2.5", "--out", tmp_path, "--no-progress", code=2)
    assert "mu" in text and text.startswith("error: ")
    assert "--sampler: got 's4'" in call("sample", "--model", out, "--sampler", "s4", "--out", tmp_path, code=2)
