"""Energy score against the closed form of normal vectors; CRPS-sum in its definitions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import gamma

from scidiffuse.timeseries import metrics as m


@pytest.mark.parametrize("d", [1, 2, 5])
def test_energy_score_of_a_standard_normal_vector(d):
    """ES(0) = (sqrt 2 - 1) g_d and E ES = g_d with g_d = Gamma((d+1)/2) / Gamma(d/2): the fair score is unbiased."""
    rng = np.random.default_rng(d)
    x, y = rng.normal(size=(2000, 10, d)), rng.normal(size=(2000, d))
    g = gamma((d + 1) / 2) / gamma(d / 2)
    for truth, expected in ((np.zeros((2000, d)), (np.sqrt(2) - 1) * g), (y, g)):
        scores = m.energy_score(truth, x, "fair")
        assert scores.mean() == pytest.approx(expected, abs=4 * scores.std() / np.sqrt(2000))
        biased = m.energy_score(truth, x)
        assert biased.mean() - scores.mean() == pytest.approx(g / 10, rel=0.02)  # E||X - X'|| / (2 S) = 2 g / (2 S)


def test_one_dimension_is_the_crps_and_two_members_go_by_hand():
    rng = np.random.default_rng(0)
    y, x = rng.normal(size=(6, 1)), rng.normal(size=(6, 7, 1))
    for estimator in ("energy", "fair"):
        assert np.allclose(m.energy_score(y, x, estimator), m.crps_ensemble(y, x, estimator)[:, 0], rtol=1e-12)
    two = np.array([[[3.0, 4.0], [0.0, 0.0]]])  # 5 apart; y at the second
    assert m.energy_score(np.zeros((1, 2)), two).tolist() == [pytest.approx(5 / 2 - 0.5 * 10 / 4)]
    assert m.energy_score(np.zeros((1, 2)), two, "fair").tolist() == [pytest.approx(0.0)]


def test_members_of_a_small_ensemble_by_hand():
    x = np.array([0.0, 1.0]).reshape(1, 2, 1)
    assert m.crps_ensemble(np.zeros((1, 1)), x)[0, 0] == 0.25  # int (F - 1)^2 = (1/2)^2 on [0, 1]
    assert m.crps_ensemble(np.zeros((1, 1)), x, "fair")[0, 0] == 0.0
    assert m.crps_ensemble(np.full((1, 1), 2.0), x)[0, 0] == pytest.approx(0.25 + 1.0)


def test_missing_components_leave_the_norm():
    rng = np.random.default_rng(1)
    y, x = rng.normal(size=(4, 5)), rng.normal(size=(4, 6, 5))
    y[0, [1, 3]], y[1] = np.nan, np.nan
    kept = m.energy_score(y, x)
    assert kept[0] == pytest.approx(m.energy_score(y[:1, [0, 2, 4]], x[:1, :, [0, 2, 4]])[0], rel=1e-12)
    assert np.isnan(kept[1]) and np.isfinite(kept[2:]).all()


def test_it_sees_dependence_that_crps_does_not(monkeypatch):
    """Members shuffled at each step keep every margin, so the CRPS, and lose the path."""
    rng = np.random.default_rng(2)
    path = lambda *n: rng.normal(size=(*n, 1)) + 0.1 * rng.normal(size=(*n, 8))  # noqa: E731
    y, x = path(300), path(300, 20)
    shuffled = rng.permuted(x, axis=1)
    assert np.allclose(m.crps_ensemble(y, x), m.crps_ensemble(y, shuffled))
    assert m.energy_score(y, shuffled).mean() > 1.1 * m.energy_score(y, x).mean()
    whole = m.energy_score(y, x)
    monkeypatch.setattr("scidiffuse.timeseries.metrics.joint._AT_ONCE", 20 * 20 * 8 * 7)  # chunks of 7 rows
    assert np.array_equal(whole, m.energy_score(y, x))


def test_crps_sum_is_the_wql_of_the_sum():
    rng = np.random.default_rng(3)
    y, x = rng.normal(size=(5, 4, 3)) + 1, rng.normal(size=(5, 30, 4, 3)) + 1
    total, paths = y.sum(-1), x.sum(-1)
    assert m.crps_sum(y, x, "csdi") == pytest.approx(m.wql(total, paths, "csdi"), rel=1e-12)
    assert m.crps_sum(y, x, "exact") == pytest.approx(m.wql(total, paths, "exact"), rel=1e-12)
    ordered, losses = np.sort(paths, axis=1), []
    for k in range(1, 20):  # 19 levels, nearest rank, written out
        f = ordered[:, round(29 * k / 20)]
        losses.append(2 * np.abs((f - total) * ((total <= f) - k / 20)).sum())
    assert m.crps_sum(y, x) == pytest.approx(np.mean(losses) / np.abs(total).sum(), rel=1e-12)
    y[0, 0, 1] = np.nan  # the sum of that step is unknown
    total[0, 0] = np.nan
    assert m.crps_sum(y, x, "csdi") == pytest.approx(m.wql(total, paths, "csdi"), rel=1e-12)
    point = x[:, :1]
    assert len({round(m.crps_sum(y, point, k), 12) for k in ("timegrad", "csdi", "exact")}) == 1


def test_crps_sum_of_zero_sums_is_undefined():
    y = np.stack([np.ones((1, 2)), -np.ones((1, 2))], axis=-1)
    with pytest.warns(UserWarning, match="undefined"):
        assert np.isnan(m.crps_sum(y, np.ones((1, 3, 2, 2))))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: m.energy_score(np.zeros((1, 2)), np.zeros((1, 4, 3))), "expected y"),
        (lambda: m.energy_score(np.zeros((1, 2)), np.zeros((1, 1, 2)), "fair"), "2 paths"),
        (lambda: m.energy_score(np.zeros((1, 2)), np.zeros((1, 3, 2)), "akr"), "estimator"),
        (lambda: m.energy_score(np.zeros((1, 2)), np.full((1, 3, 2), np.inf)), "not finite"),
        (lambda: m.crps_sum(np.zeros((1, 2)), np.zeros((1, 3, 2))), "variables"),
        (lambda: m.crps_sum(np.zeros((1, 2, 2)), np.full((1, 3, 2, 2), np.nan)), "not finite"),
        (lambda: m.crps_sum(np.ones((1, 2, 2)), np.ones((1, 3, 2, 2)), "gluonts"), "'timegrad', 'csdi' or 'exact'"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
