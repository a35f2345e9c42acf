"""Intervals against the standard errors that they must have."""

from __future__ import annotations

import numpy as np
import pytest

from scidiffuse.core.scores import wilson
from scidiffuse.molecules.metrics import uncertainty as u


def test_share_is_wilson():
    score = u.share("valid", 30, 40, "text", left_out=2, reference=0.5)
    assert float(score) == 0.75 and (score.low, score.high) == wilson(30, 40)
    assert (score.n, score.left_out, score.reference) == (40, 2, 0.5)


def test_mean_leaves_missing_values_out():
    x = np.random.default_rng(0).normal(size=300)
    score = u.mean("m", [*x, np.nan, np.nan], "Å", "text")
    assert float(score) == pytest.approx(x.mean()) and (score.n, score.left_out, score.unit) == (300, 2, "Å")
    assert score.high - score.low == pytest.approx(2 * 1.96 * x.std() / np.sqrt(300), rel=0.1)
    with pytest.raises(ValueError, match="none of the 2 molecules has a value"):
        u.mean("m", [np.nan, np.nan], "1", "text")


def test_around_is_normal_and_cut_at_the_bounds():
    redrawn = np.random.default_rng(0).normal(5.0, 2.0, size=20_000)  # their centre does not matter, only their spread
    score = u.around("d", 3.0, redrawn, 10, "1", "text")
    assert score.low == 0.0 and score.high == pytest.approx(3 + 1.96 * 2, rel=0.02)
    one = u.around("d", 3.0, np.zeros(0), 1, "1", "text")
    assert np.isnan(one.low) and np.isnan(one.high) and one.uncertainty == "none"


def test_weights_are_shares_of_cases():
    w = u.weights(6, 4000, np.random.default_rng(0))
    assert np.allclose(w.sum(axis=1), 1) and np.allclose(w * 6, np.rint(w * 6))
    assert np.allclose(w.mean(axis=0), 1 / 6, atol=0.01)
    assert w[:, 0].var() == pytest.approx((1 / 6) * (5 / 6) / 6, rel=0.1)  # multinomial
