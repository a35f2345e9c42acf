"""Guided samples from the command line: the reward, the baselines of equal cost, what is refused."""

from __future__ import annotations

import csv
import json
from functools import wraps

import pytest

from scidiffuse import molecules as mo
from scidiffuse.molecules.cli.guide import _best
from scidiffuse.molecules.cli.rewards import LOWEST


def picked(values, many):
    return [values[k] for k in _best(values, many)]


def test_the_best_of_groups():
    assert picked([1.0, 3.0, 2.0, 0.0, 5.0, 4.0], 2) == [3.0, 2.0, 5.0]
    assert picked([1.0, 3.0], 1) == [1.0, 3.0]
    assert _best([4.0, None, 2.0, None, None, None], 3, minimise=True) == [2, 3]


@pytest.mark.parametrize("method", ["svdd", "fk"])
def test_guided_samples_and_baselines(method, quick, tmp_path, call):
    words = ["guide", "weight", *quick, "-n", 4, "--method", method, "--candidates", 3, "--walkers", 3, "--best-of"]
    text = call(*words, "--out", tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    rewards = report["rewards"]
    names = {"guided", "unguided", "best of 3", "unguided, without corrector"}
    assert {k: len(v) for k, v in rewards.items()} == dict.fromkeys(names, 4)
    smiles = {int(i): s for s, i in (line.split() for line in (tmp_path / "samples.smi").read_text().splitlines())}
    for i, value in enumerate(rewards["guided"]):
        assert value == (pytest.approx(mo.chem.weight(mo.chem.parse(smiles[i]))) if i in smiles else None)
    assert report["scores"]["reward, guided"]["value"] == pytest.approx(_average(rewards["guided"]))
    assert "reward, best of 3" in text and (tmp_path / "reward.png").is_file()
    plain = tmp_path / "plain"
    call("sample", *quick, "-n", 12, "--draw", 0, "--out", plain)
    assert "S4(snr=0.0" in report["info"]["sampler"]  # GDSS steers without the corrector
    drawn = {int(i): s for s, i in (line.split() for line in (plain / "samples.smi").read_text().splitlines())}
    values = [mo.chem.weight(mo.chem.parse(drawn[i])) if i in drawn else None for i in range(12)]
    assert rewards["unguided"] == pytest.approx(values[:4]) and rewards["best of 3"] == pytest.approx(picked(values, 3))


def test_svdd_has_more_of_the_reward_on_the_same_seeds(quick, tmp_path, call):
    call("guide", "weight", *quick, "-n", 12, "--candidates", 6, "--draw", 0, "--out", tmp_path)
    rewards = json.loads((tmp_path / "report.json").read_text())["rewards"]
    assert _average(rewards["guided"]) > _average(rewards["unguided"])


def _average(values):
    known = [v for v in values if v is not None]
    return sum(known) / len(known)


def test_what_is_minimised_is_told_as_it_is_and_no_molecule_is_the_worst(quick, tmp_path, call, monkeypatch):
    asked = []

    @wraps(mo.GDSS.sample)
    def seen(self, *args, **options):
        asked.append(options)
        out = real(self, *args, **{k: v for k, v in options.items() if k not in ("steering", "invalid")})
        out.mols[0] = out.smiles[0] = None
        if "steering" not in options:
            out.mols[:] = out.smiles[:] = [None] * len(out.mols)
        return out

    real = mo.GDSS.sample
    monkeypatch.setattr(mo.GDSS, "sample", seen)
    words = ["guide", "SA", *quick, "-n", 4, "--minimise", "--candidates", 2]
    text = call(*words, "--out", tmp_path / "a")
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert asked[0]["invalid"] == LOWEST and asked[0]["steering"].reward.minimise
    score = report["scores"]["sa, guided"]
    assert 1 <= score["value"] <= 10 and (score["n"], score["left_out"]) == (3, 1) and "sa, guided" in text
    assert "no mean where no sample is a molecule: unguided" in text and "sa, unguided" not in report["scores"]
    assert report["rewards"]["guided"][0] is None and report["model"] == str(quick[1])
    with (tmp_path / "a" / "rewards.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["set"] for r in rows[:8]] == ["guided"] * 4 + ["unguided"] * 4 and rows[0]["sa"] == rows[0]["text"] == ""
    assert float(rows[1]["sa"]) == mo.chem.sa_score(mo.chem.parse(rows[1]["text"]))
    call(*words, "--invalid", -9, "--out", tmp_path / "b")
    score = json.loads((tmp_path / "b" / "report.json").read_text())["scores"]["sa, guided"]
    assert score["n"] == 4 and "no molecule counts 9" in score["definition"]


@pytest.mark.parametrize("body", ["raise RuntimeError('boom')", "return None"])
def test_a_reward_that_fails_is_one_line(body, quick, tmp_path, call, monkeypatch):
    name = f"failing_{len(body)}_x"
    (tmp_path / f"{name}.py").write_text(f"def f(mol):\n    {body}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    text = call("guide", f"{name}:f", *quick, "-n", 2, "--candidates", 2, "--out", "x", code=2)
    assert f"the reward {name}:f" in text and text.startswith("error: ") and text.count("\n") == 1
    assert not (tmp_path / "x").exists()  # nothing was made


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["tox"], "expected qed, logp, sa, weight, or module:function"),
        (["qed", "--alpha", "-1"], "alpha"),
        (["qed", "--lambda", "inf", "--method", "fk"], "finite"),
        (["qed", "-n", 0], "-n must be at least 1"),
    ],
)
def test_bad_input_is_one_line(words, says, quick, tmp_path, call):
    text = call("guide", *words[:1], *quick, "-n", 2, *words[1:], "--out", tmp_path / "x", code=2)
    assert says in text and text.startswith("error: ") and text.count("\n") == 1


@pytest.mark.parametrize("option", ["--train", "--reference"])
def test_what_is_compared_with_is_read_before_anything_is_drawn(option, quick, tmp_path, call, monkeypatch):
    @wraps(mo.GDSS.sample)
    def never(*_, **__):
        raise AssertionError("this was to be refused before")

    monkeypatch.setattr(mo.GDSS, "sample", never)
    text = call("guide", "qed", *quick, "-n", 3, option, "nowhere.smi", "--out", tmp_path / "x", code=2)
    assert "no file nowhere.smi" in text and not (tmp_path / "x").exists()


def test_samples_are_written_before_they_are_scored(quick, tmp_path, call, monkeypatch):
    calls = []

    @wraps(mo.GDSS.sample)
    def once(self, *args, **options):
        calls.append(options)
        if "steering" not in options:
            raise ValueError("no unguided samples")
        return real(self, *args, **options)

    real = mo.GDSS.sample
    monkeypatch.setattr(mo.GDSS, "sample", once)
    words = [*quick, "-n", 3, "--candidates", 2, "--out", tmp_path]
    assert "no unguided samples" in call("guide", "weight", *words, code=2)
    assert len(calls) == 2 and {p.name for p in tmp_path.iterdir()} == {"samples.smi", "samples.npz"}
