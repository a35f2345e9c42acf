"""Coverage and PIT: exact where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from scidiffuse.timeseries import metrics as m

GRID = ndtri((np.arange(10_000) + 0.5) / 10_000)[None]  # a standard normal sample without luck


def test_coverage_of_exact_quantiles_is_the_level():
    levels = (0.05, 0.1, 0.5, 0.9)
    q = np.stack([np.full_like(GRID, ndtri(k)) for k in levels])
    assert m.coverage_of_quantiles(GRID, q, levels) == pytest.approx(levels, abs=1e-4)
    assert m.mae_coverage(GRID, q, levels) < 1e-4
    assert m.mae_coverage(GRID, q + 0.1, levels) > 0.01
    shifted = m.coverage_of_quantiles(GRID, q + 0.1, levels)
    assert shifted == pytest.approx(ndtr(ndtri(np.array(levels)) + 0.1), abs=1e-4)


def test_pit_of_the_right_normal_is_uniform_and_of_a_wrong_one_is_not():
    u = m.pit_normal(GRID, np.zeros(1), np.ones(1))
    assert np.allclose(u, (np.arange(10_000) + 0.5) / 10_000, atol=1e-12)
    assert m.pit_histogram(u).distance == pytest.approx(0.5 / 10_000, rel=1e-6)
    narrow = m.pit_histogram(m.pit_normal(GRID, np.zeros(1), np.full(1, 0.5)))
    assert narrow.counts[0] > narrow.high and narrow.counts[-1] > narrow.high > narrow.low > narrow.counts[4]
    biased = m.pit_histogram(m.pit_normal(GRID, np.ones(1), np.ones(1)))
    assert biased.counts[0] > biased.high and biased.counts[-1] < biased.low
    assert m.pit_normal(np.array([0.0, 1.0, 2.0, np.nan]), np.ones(4), np.zeros(4)).tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("S", [1, 3, 20])
def test_randomised_pit_is_uniform_for_every_ensemble_size(S):
    rng = np.random.default_rng(S)
    y, x = rng.integers(0, 4, size=(2000, 1)).astype(float), rng.integers(0, 4, size=(2000, S, 1)).astype(float)  # ties
    u = m.pit(y, x, "random", seed=1)
    h = m.pit_histogram(u, bins=5)
    assert h.distance < 1.63 / np.sqrt(2000)  # Kolmogorov, 1 %
    assert np.array_equal(u, m.pit(y, x, "random", seed=1)) and not np.array_equal(u, m.pit(y, x, "random", seed=2))


def test_pit_by_hand():
    y, x = np.array([[2.0, np.nan]]), np.array([[[1.0, 0], [2, 0], [2, 0], [3, 0]]])
    assert m.pit(y, x).tolist() == [0.5]
    u = np.concatenate([m.pit(y, x, "random", seed=s) for s in range(300)])
    assert u.min() > 1 / 5 and u.max() < 4 / 5 and len(np.unique(np.floor(5 * u))) == 3  # ranks 1, 2, 3 of 0 .. 4


def test_the_band_of_the_histogram_holds_what_it_promises():
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(200):
        h = m.pit_histogram(rng.random(100), bins=5, level=0.9)
        inside.append(((h.counts >= h.low) & (h.counts <= h.high)).mean())
        assert h.counts.sum() == h.n == 100 and h.expected == 20
    assert np.mean(inside) == pytest.approx(0.92, abs=0.03)  # binomial: at least 90 %


def test_nothing_known_is_nan():
    y = np.full((1, 2), np.nan)
    assert np.isnan(m.coverage_of_quantiles(y, np.zeros((1, 1, 2)), (0.5,))).all()
    assert np.isnan(m.coverage(y, np.zeros(2), np.ones(2)))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: m.pit(np.zeros((1, 1)), np.zeros((1, 2, 1)), "exact"), "'mid' or 'random'"),
        (lambda: m.pit(np.zeros((1, 1)), np.zeros((1, 0, 1))), "no paths"),
        (lambda: m.pit_normal(np.zeros(1), np.zeros(1), np.full(1, -1.0)), "sd"),
        (lambda: m.pit_histogram(np.array([])), "none"),
        (lambda: m.pit_histogram(np.array([0.5, 1.5])), r"0.5 .. 1.5"),
        (lambda: m.pit_histogram(np.array([0.5]), bins=0), "bins"),
        (lambda: m.coverage_of_quantiles(np.zeros((1, 1)), np.zeros((1, 1, 1)), (0.0,)), r"\(0, 1\)"),
        (lambda: m.coverage_of_quantiles(np.full((1, 1), np.inf), np.zeros((1, 1, 1)), (0.5,)), "infinite"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
