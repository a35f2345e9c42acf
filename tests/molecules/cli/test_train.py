"""Training from the command line: what it writes, that it goes on where it was, what it refuses."""

from __future__ import annotations

import json

import pytest

from scidiffuse import molecules as mo
from scidiffuse.core.checkpoint import load as load_checkpoint
from scidiffuse.molecules.cli.train import _parts
from scidiffuse.molecules.systems import load_model


def test_the_folder_of_a_training(trained, data):
    report = json.loads((trained / "report.json").read_text())
    assert report["sizes"] == {"train": 32, "val": 8} and report["steps"] == 4 and report["config"]["hidden"] == 8
    lines = {name: (trained / "data" / f"{name}.smi").read_text().splitlines() for name in ("train", "val")}
    assert sorted(lines["train"] + lines["val"]) == sorted(
        f"{mo.chem.canonical(s)} {i}" for s, i in map(str.split, data.read_text().splitlines())
    )
    assert (trained / "losses.csv").is_file() and (trained / "losses.png").stat().st_size > 1000
    assert load_model(trained).nodes == mo.read_smiles(data).max_nodes


def test_a_resumed_training_gives_the_weights_of_one_in_one_go(data, tmp_path, call, tiny):
    words = ["train", "gdss", data, *tiny, "--save-every", 1]
    call(*words, "--out", tmp_path / "a", "--max-steps", 2)
    assert "trained to step 4 on 40 of" in call(*words, "--out", tmp_path / "a", "--max-steps", 4, "--resume")
    call(*words, "--out", tmp_path / "b", "--max-steps", 4)
    a, b = (load_checkpoint(tmp_path / name / "model").tensors for name in "ab")
    assert a.keys() == b.keys() and all(a[k].equal(b[k]) for k in a)
    again = call(*words, "--out", tmp_path / "a", "--max-steps", 4, "--resume")
    assert "already at step 4, nothing to do" in again
    other = call(*words, "--out", tmp_path / "a", "--max-steps", 5, "--resume", "--set", "t_train=0.1", code=2)
    assert "with another model (t_train was 1e-05, now 0.1)" in other
    less = call(*words, "--out", tmp_path / "a", "--max-steps", 3, "--resume", code=2)
    assert "nothing to do up to --max-steps 3" in less


def test_properties_that_are_read_can_be_asked_for(tmp_path, call):
    rows = [f"{smiles},{k or ''}" for k, smiles in enumerate(["CCO", "CCN", "CC=O", "OCCO", "CCOC", "CC#N"])]
    (tmp_path / "mine.csv").write_text("SMILES,logp\n" + "\n".join(rows) + "\n")
    small = [w for s in ["layers=1", "dx=8", "de=8", "dy=8", "heads=2", "steps=4"] for w in ("--set", s)]
    words = ["train", "digress", tmp_path / "mine.csv", "--preset", "small", *small, "--property", "logp", "--resume"]
    text = call(*words, "--max-steps", 1, "--no-progress", "--out", tmp_path / "m")
    assert "digress with the settings 'small' (--preset: qm9, moses" in text
    assert "1 of 6 have no value of logp" in text and "a new one begins" in text
    assert json.loads((tmp_path / "m" / "report.json").read_text())["config"]["properties"] == ["logp"]
    call(
        "sample", "--model", tmp_path / "m", "-n", 2, "--condition", "logp=2", "--no-progress", "--out", tmp_path / "s"
    )
    words = ["train", "gdss", tmp_path / "mine.csv", "--property", "logp", "--out", tmp_path / "g"]
    assert "--property: gdss cannot be asked for properties; digress, edm and gfmdiff can" in call(*words, code=2)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["gdss", "nowhere.smi"], "error: no file nowhere.smi"),
        (["gdss", "nowhere"], "neither a file nor a named data set; the names are ['community_small'"),
        (["gdss", "DATA", "--set", "width=3"], "--set width: gdss has no such setting; it has a_process"),
        (["gdss", "DATA", "--set", "hidden"], "--set hidden: expected key=value"),
        (["gdss", "DATA", "--set", "hidden=0"], "hidden must be a positive integer, got 0"),
        (["gdss", "DATA", "--preset", "moses"], "no preset 'moses'; there are community_small"),
        (["gdss", "DATA", "--alphabet", "dna"], "data.smi is read without --alphabet: leave it out"),
        (["gdss", "DATA", "--vocabulary", "CN"], "line 5 ('CO'): atom type O outside the vocabulary"),
        (["gdss", "DATA", "--split", "random", "--shares", "1"], "error:"),
        (["gdss", "DATA", "--shares", "a,b", "--split", "random"], "--shares is three numbers"),
        (["edm", "DATA"], "has no coordinates, and a system of atoms needs them"),
        (["sequence", "DATA"], "sequences are read from .fasta"),
    ],
)
def test_bad_input_is_one_line(words, says, data, tmp_path, call):
    words = [data if w == "DATA" else w for w in words]
    text = call("train", *words, "--out", tmp_path / "x", "--max-steps", 1, "--no-progress", code=2)
    assert says in text and text.startswith("error: ") and text.count("\n") == 1


def test_equal_sequences_stay_in_one_part():
    strings = [a * 4 + b * 4 for a in "ACGT" for b in "ACGT"] * 3
    parts = _parts(mo.from_strings(strings), "sequences", "random", "0.6,0.2,0.2", 0)
    sets = [set(part.strings()) for part in parts.values()]
    assert sum(map(len, parts.values())) == 48 and len(sets) == 3
    assert sum(map(len, sets)) == len(set.union(*sets)) == 16


def test_the_parts_of_another_training_stay_as_they_are(data, tmp_path, call, tiny):
    words = ["train", "gdss", data, *tiny, "--split", "random", "--shares", "0.5,0.25,0.25", "--max-steps", 1]
    text = call(*words, "--lr", -1, "--out", tmp_path / "a", code=2)
    assert "lr must be positive" in text and not (tmp_path / "a" / "data").exists()
    call(*words, "--out", tmp_path / "a")
    before = {p.name: p.read_bytes() for p in (tmp_path / "a" / "data").iterdir()}
    assert set(before) == {"train.smi", "val.smi", "test.smi"}
    assert "holds a training already" in call(*words, "--seed", 1, "--out", tmp_path / "a", code=2)
    assert "on other data" in call(*words, "--seed", 1, "--resume", "--out", tmp_path / "a", code=2)
    assert {p.name: p.read_bytes() for p in (tmp_path / "a" / "data").iterdir()} == before


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("width=3", "; options of their own are --batch-size, --epochs"),
        ("max_steps=3", "error: --max-steps is an option of its own: give it there, not by --set"),
    ],
)
def test_settings_with_an_option_of_their_own_are_told_by_it(setting, says, data, tmp_path, call):
    text = call("train", "gdss", data, "--set", setting, "--out", tmp_path, "--no-progress", code=2)
    assert says in text and "--batch-size" not in text.split(";")[0]
