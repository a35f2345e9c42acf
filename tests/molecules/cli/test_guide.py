"""Guided samples from the command line: the reward, the baselines of equal cost, what is refused."""

from __future__ import annotations

import json
import sys
from functools import wraps

import pytest

from scidiffuse import molecules as mo
from scidiffuse.molecules.cli.guide import _best, reward_of


def test_rewards_by_name_and_of_the_user(tmp_path, monkeypatch):
    (tmp_path / "own_reward_x.py").write_text("def size(mol):\n    return mol.GetNumAtoms()\n\nnumber = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    mol = mo.chem.parse("CCO")
    assert reward_of("own_reward_x:size")(mol) == 3 and reward_of("own_reward_x:size", minimise=True)(mol) == -3
    assert reward_of("sa")(mol) == mo.chem.sa_score(mol) and reward_of("weight")(mol) == pytest.approx(46.069, abs=1e-3)
    for name, says in {
        "qeds": "expected qed, logp, sa, weight, or module:function",
        "own_reward_x:none": "has no 'none'",
        "own_reward_x:number": "is no function",
        "nowhere_x:f": "no module 'nowhere_x'",
    }.items():
        with pytest.raises(ValueError, match=says):
            reward_of(name)


def test_the_best_of_groups():
    assert _best([1.0, 3.0, 2.0, 0.0, 5.0, 4.0], 2) == [3.0, 2.0, 5.0]
    assert _best([1.0, 3.0], 1) == [1.0, 3.0]


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
        assert value == (pytest.approx(mo.chem.weight(mo.chem.parse(smiles[i]))) if i in smiles else 0.0)
    assert report["scores"]["reward, guided"]["value"] == pytest.approx(sum(rewards["guided"]) / 4)
    assert "reward, best of 3" in text and (tmp_path / "reward.png").is_file()
    plain = tmp_path / "plain"
    call("sample", *quick, "-n", 12, "--draw", 0, "--out", plain)
    assert "S4(snr=0.0" in report["info"]["sampler"]  # GDSS steers without the corrector
    drawn = {int(i): s for s, i in (line.split() for line in (plain / "samples.smi").read_text().splitlines())}
    values = [mo.chem.weight(mo.chem.parse(drawn[i])) if i in drawn else 0.0 for i in range(12)]
    assert rewards["unguided"] == pytest.approx(values[:4]) and rewards["best of 3"] == pytest.approx(_best(values, 3))


def test_svdd_has_more_of_the_reward_on_the_same_seeds(quick, tmp_path, call):
    call("guide", "weight", *quick, "-n", 12, "--candidates", 6, "--draw", 0, "--out", tmp_path)
    rewards = json.loads((tmp_path / "report.json").read_text())["rewards"]
    assert sum(rewards["guided"]) > sum(rewards["unguided"])


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
