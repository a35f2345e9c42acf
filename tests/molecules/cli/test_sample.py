"""Sampling from the command line: what it writes, what it says, what it refuses."""

from __future__ import annotations

import json
import re

import pytest

from scidiffuse import molecules as mo
from scidiffuse.molecules.cli.sample import in_pieces, reading_of, sampler_for


def test_samples_scores_and_pictures(trained, quick, tmp_path, call):
    out = tmp_path / "s"
    train, val = trained / "data" / "train.smi", trained / "data" / "val.smi"
    text = call("sample", *quick, "-n", 7, "--train", train, "--reference", val, "--out", out)
    names = {"samples.smi", "samples.npz", "report.json", "molecules.png", "properties.png"}
    assert {p.name for p in out.iterdir()} == names
    report = json.loads((out / "report.json").read_text())
    for name in ("valid_uncorrected_gdss", "valid_corrected_gdss", "connected", "unique_all", "valid_unique_novel"):
        score = report["scores"][name]
        assert 0 <= score["low"] <= score["value"] <= score["high"] + 1e-12 and name in text
    assert report["n"] == 7 and report["info"]["steps"] == 3 and report["scores"]["connected"]["n"] == 7
    smiles = [line.split()[0] for line in (out / "samples.smi").read_text().splitlines()]
    assert len(smiles) == round(7 * report["scores"]["valid_corrected_gdss"]["value"])
    known = {mo.chem.canonical(line.split()[0]) for line in train.read_text().splitlines()}
    assert report["scores"]["novel"]["value"] == pytest.approx(len(set(smiles) - known) / len(set(smiles)))


def test_the_same_call_gives_the_same_bytes_and_another_seed_other_samples(quick, tmp_path, call):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        call("sample", *quick, "-n", 5, "--seed", seed, "--draw", 0, "--out", tmp_path / name)
    a, b, c = ((tmp_path / name / "samples.smi").read_bytes() for name in "abc")
    assert a == b != c
    assert not list((tmp_path / "a").glob("*.png"))


def test_other_settings_and_a_scaffold_reach_the_model(quick, tmp_path, call):
    words = ["sample", *quick, "-n", 4, "--scaffold", "CO", "--set", "snr=0.05", "--set", "corrector=none"]
    call(*words, "--out", tmp_path)
    info = json.loads((tmp_path / "report.json").read_text())["info"]
    assert "S4(snr=0.0" in info["sampler"]
    for a, t in zip(
        mo.Graphs.load(tmp_path / "samples.npz").A, mo.Graphs.load(tmp_path / "samples.npz").types, strict=True
    ):
        assert a[0, 1] == 1 and t[:2].tolist() == [0, 1]  # the scaffold is C-O and comes first


def test_graphs_have_pictures_and_mmds_of_their_own(tmp_path, call, tiny):
    data = mo.load("community_small")[:12]
    path = data.save(tmp_path / "graphs.npz")
    call("train", "gdss", path, "--out", tmp_path / "run", *tiny, "--max-steps", 1)
    out = tmp_path / "s"
    words = ["--model", tmp_path / "run", "--sampler", "s4", "--steps", 2, "--set", "isolated=keep", "--no-progress"]
    text = call("sample", *words, "-n", 5, "--reference", path, "--out", out)
    assert {p.name for p in out.iterdir()} == {"samples.npz", "report.json", "graphs.png", "mmd.png"}
    assert re.search(r"mmd_degree_emd +\d", text)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-n", 0], "-n must be at least 1, got 0"),
        (["--set", "seed=3"], "--set seed: it has an option of its own, give it there"),
        (["--set", "speed=3"], "['speed'] are no settings of sampling"),
        (["--sampler", "fast"], "sampler must be 'pc', 's4' or a sampler of the core, got 'fast'"),
        (["--sampler", "Fast()"], "--sampler: got 'Fast()', expected one of"),
        (["--scaffold", "C1CC"], "the scaffold 'C1CC' is no molecule"),
        (["--condition", "mu=2"], "this system has no --condition"),
        (["--guidance-scale", "2"], "this system has no --guidance-scale"),
        (["--nodes", 99], "99"),
        (["--alphabet", "dna"], "--alphabet is of sequences"),
        (["--train", "nowhere.smi"], "no file nowhere.smi"),
    ],
)
def test_bad_input_is_one_line(words, says, quick, tmp_path, call):
    options = [*quick]
    for w in ("--sampler", "--nodes"):
        if w in words:
            at = options.index(w)
            del options[at : at + 2]
    text = call("sample", *options, "-n", 3, *words, "--out", tmp_path / "x", code=2)
    assert says in text and text.startswith("error: ") and text.count("\n") == 1


def test_models_and_folders_that_are_none_are_told(data, tmp_path, call):
    assert "error: " in call("sample", "--model", tmp_path / "none", "--out", tmp_path / "x", code=2)
    text = call("sample", "--out", tmp_path / "samples.smi", code=2)
    assert "give a folder" in text or "no trained model" in text


def test_another_run_in_the_same_folder_leaves_nothing_old_and_a_failed_one_no_folder(quick, tmp_path, call):
    out = tmp_path / "s"
    call("sample", *quick, "-n", 3, "--out", out)
    (out / "own.txt").write_text("mine")
    call("sample", *quick, "-n", 3, "--draw", 0, "--out", out)
    left = {p.name for p in out.iterdir()}
    assert left == {"samples.smi", "samples.npz", "report.json", "own.txt"}  # no pictures of the run before
    files = json.loads((out / "report.json").read_text())["files"]
    assert set(files) == left - {"own.txt"}
    call("sample", *quick, "-n", 3, "--set", "speed=3", "--out", tmp_path / "x" / "y", code=2)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("system", "usable", "not_listed"),
    [
        (mo.DiGress, "Ancestral, Euler, TauLeaping", "FirstHitting"),
        (mo.MaskedSequence, "Ancestral, ConfidenceOrdered, Euler, FirstHitting, Remasking, TauLeaping", "DDIM"),
        (mo.EDM, "AdaptiveDPM, BDIA, BELM, DDIM, DDPM", "Ancestral"),
    ],
)
def test_samplers_that_cannot_sample_from_a_system_are_not_offered(system, usable, not_listed):
    model = object.__new__(system)
    for name in ("Fast()", not_listed, "Sampler", "LinearSampler"):
        with pytest.raises(ValueError, match=f"expected one of {usable}") as error:
            sampler_for(model, name)
    assert not_listed not in str(error.value) and "Sampler," not in str(error.value)
    assert sampler_for(model, "Euler").__module__.startswith(
        "scidiffuse.core.samplers" if system is mo.EDM else "scidiffuse.core.discrete"
    )
    assert sampler_for(model, None) is None


def test_the_alphabet_is_that_of_the_model():
    model = mo.MaskedSequence("dna", mo.SequenceConfig.preset("small", width=16, depth=1, heads=2))
    assert reading_of(model, "skip", "dna") == reading_of(model, "skip", None) == {"errors": "skip", "alphabet": "ACGT"}
    with pytest.raises(ValueError, match="--alphabet protein: the model's letters are ACGT"):
        reading_of(model, "skip", "protein")


def test_valid_but_in_pieces_is_said(capsys):
    share = mo.metrics.uncertainty.share
    scores = {"valid_rdkit": share("valid_rdkit", 8, 10, "x"), "connected_edm": share("connected_edm", 3, 10, "x")}
    in_pieces(scores)
    assert "valid, but loose atoms or fragments: 5 of 8 samples" in capsys.readouterr().err
    in_pieces({**scores, "connected_edm": scores["valid_rdkit"]})
    in_pieces({})
    assert capsys.readouterr().err == ""


def never(*_, **__):
    raise AssertionError("this was to be refused before")


@pytest.mark.parametrize("option", ["--train", "--reference"])
def test_what_is_compared_with_is_read_before_anything_is_drawn(option, quick, tmp_path, call, monkeypatch):
    monkeypatch.setattr(mo.GDSS, "sample", never)
    text = call("sample", *quick, "-n", 3, option, "nowhere.smi", "--out", tmp_path / "x", code=2)
    assert "no file nowhere.smi" in text and not (tmp_path / "x").exists()


def test_samples_are_written_before_they_are_scored(data, quick, tmp_path, call, monkeypatch):
    def fails(*_, **__):
        raise ValueError("no score")

    monkeypatch.setattr(mo.metrics, "evaluate", fails)
    assert "error: no score" in call("sample", *quick, "-n", 3, "--train", data, "--out", tmp_path, code=2)
    assert {p.name for p in tmp_path.iterdir()} == {"samples.smi", "samples.npz"}


def test_other_graphs_are_compared_with_graphs(tmp_path, call, tiny):
    path = mo.load("community_small")[:6].save(tmp_path / "graphs.npz")
    call("train", "gdss", path, "--out", tmp_path / "run", *tiny, "--max-steps", 1)
    words = ["--model", tmp_path / "run", "--sampler", "s4", "--steps", 2, "--draw", 0, "--no-progress"]
    call("sample", *words, "-n", 3, "--train", path, "--out", tmp_path / "s")
    scores = json.loads((tmp_path / "s" / "report.json").read_text())["scores"]
    assert {"graphs_connected", "graphs_unique", "graphs_novel"} == set(scores)
