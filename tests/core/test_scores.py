"""What a score carries; Wilson's interval against its defining equation and against enumeration."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from scidiffuse.core.scores import Score, bootstrap, wilson


def test_a_score_says_what_it_is():
    score = Score("valid", 0.5, 0.4, 0.6, 100, 100, "1", "share", "Wilson", left_out=3)
    assert float(score) == 0.5
    assert str(score) == "valid 0.5 [0.4, 0.6] (95%, n = 100, 3 left out)"
    assert score.to_dict()["definition"] == "share"
    numpys = Score("valid", *map(np.float64, (0.5, 0.4, 0.6)), 100, 100, "1", "share", "Wilson", left_out=3)
    assert repr(numpys) == repr(score) and "np." not in repr(numpys)


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (1, 7), (3, 7), (7, 7), (950, 1000)])
def test_wilson_solves_its_equation(hits, n):
    """Both ends are as far from hits/n as z standard errors *of that end*."""
    z = NormalDist().inv_cdf(0.975)
    for p in wilson(hits, n):
        assert (hits / n - p) ** 2 == pytest.approx(z * z * p * (1 - p) / n, abs=1e-12)


def test_wilson_covers_a_share_by_enumeration():
    """All outcomes of 30 throws, weighed: about 95 % of them have p in their interval."""
    for p in (0.1, 0.5, 0.83):
        covered = sum(
            math.comb(30, k) * p**k * (1 - p) ** (30 - k)
            for k in range(31)
            if wilson(k, 30)[0] <= p <= wilson(k, 30)[1]
        )
        assert 0.93 < covered < 0.98


@pytest.mark.parametrize(("hits", "n", "level"), [(1, 0, 0.95), (-1, 3, 0.95), (4, 3, 0.95), (1, 3, 1.0)])
def test_wilson_refuses(hits, n, level):
    with pytest.raises(ValueError, match="0 <= hits <= n"):
        wilson(hits, n, level)


def test_bootstrap_of_a_mean_is_as_wide_as_its_standard_error():
    x = np.random.default_rng(0).normal(size=400)
    columns = np.stack([x, np.ones(400)], axis=1)
    low, high, units = bootstrap(columns, lambda s: s[:, 0] / s[:, 1])
    assert units == 400
    assert high - low == pytest.approx(2 * 1.96 * x.std() / 20, rel=0.1)
    assert np.isnan(bootstrap(columns[:1], lambda s: s[:, 0])[:2]).all()
