"""Scores against closed forms, against each other, and against scoringrules."""

from __future__ import annotations

import numpy as np
import pytest

from scidiffuse.timeseries import metrics as m

RNG = np.random.default_rng(0)


def normal_grid(S: int) -> np.ndarray:
    from scipy.special import ndtri

    return ndtri((np.arange(S) + 0.5) / S)


def test_crps_normal_at_zero():
    assert m.crps_normal(0.0) == pytest.approx(0.2336950, abs=5e-8)  # (sqrt(2) - 1) / sqrt(pi)
    assert m.crps_normal(0.0) == pytest.approx((np.sqrt(2) - 1) / np.sqrt(np.pi), abs=1e-15)


def test_crps_normal_scales_shifts_and_degenerates():
    y, mu, sd = RNG.normal(size=(3, 50))
    sd = np.abs(sd)
    assert np.allclose(m.crps_normal(y, mu, sd), sd * m.crps_normal((y - mu) / sd), rtol=1e-12)
    assert m.crps_normal(3.0, 1.0, 0.0) == 2.0
    with pytest.raises(ValueError, match="sd"):
        m.crps_normal(0.0, 0.0, -1.0)


def test_expected_scores_of_a_standard_normal():
    """E CRPS = 1/sqrt(pi); E QL_q = 2 phi(z_q) at the exact quantile z_q: 9 levels give 9 % more than the integral."""
    from scipy.special import ndtri

    y = normal_grid(200_000)[None]  # one row of a long horizon: an integral over y
    assert m.crps_normal(y).mean() == pytest.approx(1 / np.sqrt(np.pi), abs=1e-5)
    means = []
    for levels in (m.GLUONTS_LEVELS, m.CSDI_LEVELS):
        losses = [m.pinball(y, ndtri(q), q).mean() for q in levels]
        exact = [2 * np.exp(-0.5 * ndtri(q) ** 2) / np.sqrt(2 * np.pi) for q in levels]
        assert losses == pytest.approx(exact, abs=1e-5)
        means.append(np.mean(losses))
    assert means == pytest.approx([0.617318, 0.591419], abs=3e-6)


def test_ensemble_of_100_scores_as_recorded():
    """The score of 100-member normal ensembles, averaged: .6203 (nearest rank), .5673 (energy), .5616 (fair)."""
    rng = np.random.default_rng(1)
    y, x = rng.normal(size=(400, 50)), rng.normal(size=(400, 100, 50))
    nine = np.mean(
        [
            m.pinball(y, f, q).mean()
            for f, q in zip(m.quantiles_of(x, m.GLUONTS_LEVELS, "nearest"), m.GLUONTS_LEVELS, strict=True)
        ]
    )
    luck = m.crps_normal(y).mean() / (1 / np.sqrt(np.pi))  # control variate: how easy the drawn y are
    assert nine / luck == pytest.approx(0.6203, rel=0.01)
    assert m.crps_ensemble(y, x).mean() / luck == pytest.approx((1 + 1 / 100) / np.sqrt(np.pi), rel=0.004)
    assert m.crps_ensemble(y, x, "fair").mean() / luck == pytest.approx(1 / np.sqrt(np.pi), rel=0.004)


@pytest.mark.parametrize(("ours", "theirs"), [("energy", "nrg"), ("fair", "fair")])
def test_crps_agrees_with_scoringrules(ours, theirs):
    scoringrules = pytest.importorskip("scoringrules")
    y, x = RNG.normal(size=(4, 6)), RNG.normal(size=(4, 11, 6)) * 2 + 1
    expected = scoringrules.crps_ensemble(y, np.moveaxis(x, 1, -1), estimator=theirs)
    assert np.allclose(m.crps_ensemble(y, x, ours), expected, rtol=1e-10)
    assert np.allclose(m.crps_normal(y, 0.3, 1.7), scoringrules.crps_normal(y, 0.3, 1.7), rtol=1e-10)


def test_crps_by_sorting_equals_the_double_sum():
    y, x = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 7, 3))
    pairs = np.abs(x[:, :, None] - x[:, None]).mean(axis=(1, 2))
    assert np.allclose(m.crps_ensemble(y, x), np.abs(x - y[:, None]).mean(1) - pairs / 2, rtol=1e-12)


def test_exact_wql_is_the_limit_of_many_levels():
    """int QL_q dq = CRPS: with every sample quantile of a large grid the mean pinball loss tends to the exact score."""
    y, x = RNG.normal(size=(3, 4)) + 2, RNG.normal(size=(3, 9, 4))
    levels = tuple((np.arange(9000) + 0.5) / 9000)
    inverse = np.sort(x, axis=1)[:, np.minimum((np.array(levels) * 9).astype(int), 8)]  # the step quantile function
    loss = m.wql_from_quantiles(y, np.moveaxis(inverse, 1, 0), levels)
    assert loss == pytest.approx(m.wql(y, x, "exact"), rel=1e-6)


def test_point_forecast_wql_is_nd_under_every_definition():
    y, f = RNG.normal(size=(5, 8)), RNG.normal(size=(5, 1, 8))
    nd = np.abs(f[:, 0] - y).sum() / np.abs(y).sum()
    assert [m.wql(y, f, k) for k in ("gluonts", "csdi", "exact")] == pytest.approx([nd] * 3, rel=1e-12)


def test_gluonts_rank_is_rounded_half_to_even():
    x = np.arange(6.0)[None, :, None]  # (S - 1) q = 0.5, 1, 1.5, ..., 4.5
    assert m.quantiles_of(x, m.GLUONTS_LEVELS, "nearest").ravel().tolist() == [0, 1, 2, 2, 2, 3, 4, 4, 4]


def test_weights_are_global_and_nan_counts_nowhere():
    y, x = np.array([[1.0, 2.0], [100.0, np.nan]]), np.array([[[2.0, 2.0]], [[90.0, 5.0]]])
    assert m.wql(y, x) == pytest.approx(11 / 103)
    assert m.coverage(y, np.zeros(2), np.full(2, 50.0)) == pytest.approx(2 / 3)
    assert len(m.pit(y, x)) == 3


@pytest.mark.parametrize("method", ["gluonts", "csdi", "exact"])
def test_wql_of_zeros_is_undefined(method):
    with pytest.warns(UserWarning, match="undefined"):
        assert np.isnan(m.wql(np.zeros((2, 3)), np.ones((2, 5, 3)), method))


def test_coverage_and_pit_of_a_calibrated_ensemble():
    x = np.random.default_rng(2).normal(size=(2000, 200, 1))
    y = np.random.default_rng(3).normal(size=(2000, 1))
    lo, hi = m.quantiles_of(x, (0.1, 0.9), "linear")
    assert m.coverage(y, lo, hi) == pytest.approx(0.8, abs=4 * np.sqrt(0.16 / 2000) + 0.01)
    u = np.sort(m.pit(y, x))
    assert np.abs(u - (np.arange(2000) + 0.5) / 2000).max() < 1.63 / np.sqrt(2000) + 0.01  # Kolmogorov, 1 %


def test_scaled_crps_gives_every_series_one_vote():
    crps = np.array([[1.0, 3.0], [200.0, np.nan], [5.0, 5.0]])
    with pytest.warns(UserWarning, match="1 of 3 rows .*row 2"):
        assert m.scaled_crps(crps, np.array([1.0, 100.0, 0.0])) == pytest.approx(2.0)


def test_skill_refuses_to_compare_across_definitions():
    assert m.skill({"wql_gluonts": 0.5}, {"wql_gluonts": 1.0, "wql_csdi": 0.9}) == {"wql_gluonts": 0.5}
    with pytest.raises(ValueError, match="same definition"):
        m.skill({"wql_gluonts": 0.5}, {"wql_csdi": 1.0})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: m.wql(np.zeros((2, 3)), np.zeros((2, 3, 5))), "expected y"),
        (lambda: m.wql(np.zeros((1, 2)), np.full((1, 4, 2), np.nan)), "not finite"),
        (lambda: m.wql(np.ones((1, 2)), np.ones((1, 4, 2)), "crps"), "'gluonts', 'csdi' or 'exact'"),
        (lambda: m.crps_ensemble(np.ones((1, 2)), np.ones((1, 1, 2)), "fair"), "2 paths"),
        (lambda: m.crps_ensemble(np.ones((1, 2)), np.ones((1, 4, 2)), "pwm2"), "estimator"),
        (lambda: m.wql_from_quantiles(np.ones((1, 2)), np.ones((1, 1, 2)), (1.0,)), r"\(0, 1\)"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
