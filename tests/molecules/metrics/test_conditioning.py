"""The error by hand, and chance as the mean over all ways to deal the molecules."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from scidiffuse.molecules.metrics.conditioning import property_error


def test_error_and_chance():
    c, f = np.array([0.0, 1.0, 4.0, 4.0]), np.array([0.5, 1.0, 1.0, 7.0])
    score = property_error("qed", c, f, "1")
    assert score.name == "mae_qed" and float(score) == pytest.approx((0.5 + 0 + 3 + 3) / 4)
    dealt = [np.abs(c - f[list(order)]).mean() for order in permutations(range(4))]
    assert score.reference == pytest.approx(np.mean(dealt))


def test_a_model_that_ignores_its_condition_scores_the_chance_value():
    rng = np.random.default_rng(0)
    score = property_error("logp", rng.normal(size=4000), rng.normal(size=4000), "log10")
    assert score.low < score.reference < score.high
    assert score.reference == pytest.approx(2 / np.sqrt(np.pi), rel=0.03)  # E |X - Y| of standard normals


def test_invalid_molecules_are_left_out():
    score = property_error("x", [1.0, 2.0, 3.0], [1.0, np.nan, 5.0], "eV")
    assert float(score) == 1.0 and (score.n, score.left_out, score.unit) == (2, 1, "eV")
    assert score.reference == pytest.approx((0 + 4 + 2 + 2) / 4)


def test_bad_input():
    with pytest.raises(ValueError, match=r"got \(2,\) and \(3,\)"):
        property_error("x", [1.0, 2.0], [1.0, 2.0, 3.0], "1")
    with pytest.raises(ValueError, match="1 targets are not finite"):
        property_error("x", [np.nan, 2.0], [1.0, 2.0], "1")
    with pytest.raises(ValueError, match="1 values infinite"):
        property_error("x", [1.0, 2.0], [np.inf, 2.0], "1")
    with pytest.raises(ValueError, match="none of the 2 molecules has a value"):
        property_error("x", [1.0, 2.0], [np.nan, np.nan], "1")
