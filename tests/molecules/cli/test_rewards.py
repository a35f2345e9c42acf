"""Rewards of the command line: by name, of the user, and what a bad one says."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from scidiffuse import molecules as mo
from scidiffuse.molecules.cli.rewards import Reward, reward_of


def test_rewards_by_name_and_of_the_user(tmp_path, monkeypatch):
    (tmp_path / "own_reward_x.py").write_text("def size(mol):\n    return mol.GetNumAtoms()\n\nnumber = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    mol = mo.chem.parse("CCO")
    assert reward_of("own_reward_x:size")(mol) == 3 and reward_of("own_reward_x:size", minimise=True)(mol) == -3
    assert reward_of("sa")(mol) == mo.chem.sa_score(mol) and reward_of("weight")(mol) == pytest.approx(46.069, abs=1e-3)
    assert reward_of("QED")(mol) == mo.chem.qed(mol) and reward_of("QED").name == "qed"
    for name, says in {
        "qeds": "REWARD qeds: expected qed, logp, sa, weight, or module:function",
        "own_reward_x:none": "has no 'none'",
        "own_reward_x:number": "is no function",
        "nowhere_x:f": "no module 'nowhere_x'",
    }.items():
        with pytest.raises(ValueError, match=says):
            reward_of(name)


@pytest.mark.parametrize(
    ("function", "sample", "says"),
    [
        (
            lambda x: 1 / 0,
            mo.chem.parse("CCO"),
            r"r:f failed for CCO: ZeroDivisionError: .*\(test_rewards.py, line \d+\)",
        ),
        (
            lambda x: None,
            mo.chem.parse("CCO"),
            "r:f gave None for CCO, expected a number; it is asked about one RDKit molecule",
        ),
        (lambda x: "x", np.eye(3), "gave 'x' for a graph of 3 nodes"),
        (lambda x: [], "A" * 99, "for A{40}\\.\\.\\., expected"),
    ],
)
def test_a_bad_answer_names_the_reward_and_the_sample(function, sample, says):
    with pytest.raises(ValueError, match=says):
        Reward("r:f", function)(sample)


def test_what_is_minimised_has_its_own_value():
    reward = reward_of("sa", minimise=True)
    mol = mo.chem.parse("CCO")
    assert reward(mol) == -reward.value(mol) < 0 and reward.label == "SA score, minimised"
