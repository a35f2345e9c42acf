"""Means of properties against the properties of each molecule."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("rdkit")

from rdkit import Chem

from scidiffuse.molecules import chem
from scidiffuse.molecules import metrics as m

SMILES = ["CCO", "c1ccccc1O", "CC(=O)N", "CCO"]


def test_they_are_means_over_the_valid_molecules():
    scores = m.property_means([*SMILES, "C((", None], draws=200)
    for name, function in {"qed": chem.qed, "logp": chem.logp, "sa": chem.sa_score, "weight": chem.weight}.items():
        score = scores[f"mean_{name}"]
        values = [function(chem.parse(s)) for s in SMILES]
        assert float(score) == pytest.approx(np.mean(values))
        assert (score.n, score.left_out) == (4, 2) and score.low <= float(score) <= score.high
    assert [s.unit for s in scores.values()] == ["1", "1", "1", "g/mol"]


def test_hydrogens_that_are_atoms_change_nothing():
    explicit = [Chem.AddHs(chem.parse(s)) for s in SMILES]
    a, b = m.property_means(explicit, draws=10), m.property_means(SMILES, draws=10)
    assert {k: float(v) for k, v in a.items()} == pytest.approx({k: float(v) for k, v in b.items()})


def test_functions_of_the_caller():
    sizes = {"size": lambda mol: mol.GetNumAtoms() if mol.GetNumAtoms() > 3 else math.nan}
    (score,) = m.property_means(SMILES, sizes, unit="atoms").values()
    assert (score.name, float(score), score.n, score.left_out, score.unit) == ("mean_size", 5.5, 2, 2, "atoms")


def test_bad_input():
    with pytest.raises(ValueError, match="no property 'tox'; there are qed, logp, sa, weight"):
        m.property_means(SMILES, ["tox"])
    with pytest.raises(TypeError, match="the string 'qed'"):
        m.property_means(SMILES, "qed")
    with pytest.raises(ValueError, match="mean_qed: none of the 1 molecules has a value"):
        m.property_means(["C(("], ["qed"])
