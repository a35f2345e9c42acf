"""Scores of synthetic windows against what the best predictor and the best classifier can reach."""

from __future__ import annotations

import json
import tarfile

import numpy as np
import pytest
from scipy.special import ndtr

pd = pytest.importorskip("pandas")
pytest.importorskip("sklearn")

from scidiffuse import timeseries as ts  # noqa: E402
from scidiffuse.timeseries import metrics as m  # noqa: E402

START = pd.Timestamp("2024-01-01")


def panel(*series, freq="h"):
    return ts.Panel(
        tuple(range(len(series))), (START,) * len(series), tuple(np.asarray(y, float) for y in series), freq
    )


def ar(n, L, phi, rng):
    """Stationary AR(1) with unit innovations."""
    x = np.zeros((n, L))
    x[:, 0] = rng.normal(size=n) / np.sqrt(1 - phi**2)
    for k in range(1, L):
        x[:, k] = phi * x[:, k - 1] + rng.normal(size=n)
    return x


# ---------------------------------------------------------------- linear predictive score


def test_lps_is_ridge_regression_written_out():
    rng = np.random.default_rng(0)
    windows, test = 1 + 0.3 * rng.normal(size=(50, 9)), 5 * (1 + 0.3 * rng.normal(size=(6, 12)))
    x, z = windows[:, :6] - windows[:, :6].mean(0), windows[:, 6:] - windows[:, 6:].mean(0)
    w = np.linalg.solve(x.T @ x + np.eye(6), x.T @ z)  # (X'X + alpha I)^-1 X'Z, alpha = 1, centred: an intercept
    past, future = test[:, -9:-3], test[:, -3:]
    s = np.abs(past).mean(1, keepdims=True)
    f = s * ((past / s - windows[:, :6].mean(0)) @ w + windows[:, 6:].mean(0))
    score = ts.linear_predictive_score(windows, test, 6, 3)
    assert score.value == pytest.approx(np.abs(f - future).sum() / np.abs(future).sum(), rel=1e-9)
    assert score.value == pytest.approx(m.wql(future, f[:, None]), rel=1e-9)
    assert (score.name, score.n, score.units) == ("lps_ridge", 18, 6) and score.low < score.value < score.high


def test_lps_does_not_depend_on_the_unit_nor_on_the_kind_of_container():
    rng = np.random.default_rng(1)
    windows, test = 1 + rng.normal(size=(50, 9)), 3 + rng.normal(size=(4, 15))
    score = ts.linear_predictive_score(windows, test, 6, 3)
    assert ts.linear_predictive_score(windows, 1e6 * test, 6, 3).value == pytest.approx(score.value, rel=1e-9)
    assert ts.linear_predictive_score(windows, panel(*test), 6, 3) == score
    assert ts.linear_predictive_score(windows, list(test), 6, 3) == score


def test_lps_knows_windows_with_the_right_dynamics():
    """Training on the same process reaches the error of the best predictor, phi^h x; on noise, that of none."""
    rng = np.random.default_rng(2)
    phi, C, H = 0.9, 8, 1
    test, same, noise = ar(400, C + H, phi, rng), ar(3000, C + H, phi, rng), rng.normal(size=(3000, C + H))
    unit = lambda x: x / np.abs(x[:, :C]).mean(1, keepdims=True)  # noqa: E731
    best = np.abs(test[:, C] - phi * test[:, C - 1]).sum() / np.abs(test[:, C]).sum()
    good = ts.linear_predictive_score(unit(same), test, C, H, draws=100)
    bad = ts.linear_predictive_score(unit(noise), test, C, H, draws=100)
    assert good.value == pytest.approx(best, rel=0.05) and bad.value > 1.8 * best


def test_lps_missing_and_empty_contexts():
    rng = np.random.default_rng(3)
    windows, test = 1 + rng.normal(size=(50, 9)), 3 + rng.normal(size=(5, 9))
    test[0, 2], test[1, 8] = np.nan, np.nan  # a gap in a context; an unknown horizon step
    score = ts.linear_predictive_score(windows, test, 6, 3)
    assert (score.left_out, score.n, score.units) == (1, 11, 4)
    test[2, :6] = 0.0
    with pytest.warns(UserWarning, match=r"1 test rows \(first 2\) have an all-zero context"):
        assert np.isfinite(ts.linear_predictive_score(windows, test, 6, 3).value)
    zero = np.concatenate([np.ones((2, 6)), np.zeros((2, 3))], axis=1)
    with pytest.warns(UserWarning, match="undefined"):
        assert np.isnan(ts.linear_predictive_score(windows, zero, 6, 3).value)


def test_real_windows_are_complete_scaled_and_keyed():
    y = np.arange(1.0, 41.0)
    y[20] = np.nan
    x = ts.scaled_windows(panel(y, np.zeros(30), np.ones(3)), 6, 2, n=200, seed=1)
    assert x.shape == (200, 8) and np.isfinite(x).all()
    assert np.allclose(np.abs(x[:, :6]).mean(1), 1.0)
    assert np.allclose(np.diff(x, 2), 0.0, atol=1e-12)  # lines stay lines: nothing was cut across the gap
    assert np.array_equal(x, ts.scaled_windows(panel(y, np.zeros(30), np.ones(3)), 6, 2, n=200, seed=1))
    first = np.unique(np.round(x[:, 0] / (x[:, 1] - x[:, 0])).astype(int))  # value of the first step
    assert set(first) == {*range(1, 14), *range(22, 34)}  # every window that there is, and no other


def test_lps_of_real_windows_of_exchange_rates(data):
    """The paper's linear row is .011; 0.0108 to 0.0117 was measured; white noise is near 1."""
    with tarfile.open(data / "timeseries" / "exchange_rate_nips" / "exchange_rate_nips.tar.gz") as tar:
        read = lambda k: [  # noqa: E731
            np.array(json.loads(line)["target"])
            for line in tar.extractfile(f"exchange_rate_nips/{k}/{k}.json").read().splitlines()
        ]
        train, test = read("train"), read("test")
    windows = ts.scaled_windows(panel(*train, freq="B"), 360, 30)
    score = ts.linear_predictive_score(windows, test, 360, 30, draws=200)
    assert 0.0107 < score.value < 0.0117 and score.n == 1200 and score.units == 40
    noise = np.random.default_rng(0).normal(size=(2000, 390))
    assert ts.linear_predictive_score(noise, test, 360, 30, draws=50).value > 0.9


# ---------------------------------------------------------------- discriminative score


@pytest.mark.parametrize("shift", [0.5, 1.0])
def test_logistic_classifier_reaches_the_best_accuracy(shift):
    """Unit normal windows of L steps with means ``shift`` apart: d = shift sqrt(L), the best accuracy is Phi(d/2)."""
    rng = np.random.default_rng(0)
    real, other = rng.normal(size=(2000, 4)), rng.normal(size=(2000, 4)) + shift
    score = ts.discriminative_score(real, other, "logistic", seeds=(0, 1, 2))
    assert score.value == pytest.approx(ndtr(shift) - 0.5, abs=0.025)  # standard error of an accuracy at n = 800: 0.017
    assert (score.name, score.n, score.units) == ("discriminative_logistic", 800, 3)


def test_equal_distributions_score_as_chance_does():
    rng = np.random.default_rng(1)
    score = ts.discriminative_score(rng.normal(size=(1000, 4)), rng.normal(size=(1000, 4)), "logistic")
    assert score.reference == pytest.approx(np.sqrt(2 / np.pi) * 0.5 / np.sqrt(400))
    assert score.value < 2.5 * score.reference


def test_squares_see_what_means_do_not():
    rng = np.random.default_rng(2)
    score = ts.discriminative_score(rng.normal(size=(500, 8)), 3 * rng.normal(size=(500, 8)), "logistic", seeds=(0, 1))
    assert score.value > 0.4


def test_gru_classifier_tells_what_is_apart_and_says_its_protocol():
    rng = np.random.default_rng(3)
    real, shifted = rng.normal(size=(200, 4, 2)), rng.normal(size=(200, 4, 2)) + 3
    score = ts.discriminative_score(real, shifted, steps=250, batch=64, units=4, seeds=(0, 1))
    assert score.name == "discriminative_gru_steps250_units4_batch64" and score.n == 80
    assert score.value > 0.4 and "GRU of 4 units after 250 steps of 64 + 64" in score.definition
    other = rng.normal(size=(200, 4, 2))
    once, again = (ts.discriminative_score(real, other, steps=40, seeds=(0,)) for _ in range(2))
    assert once.value == again.value < 0.2  # chance has a standard deviation of 0.056


def test_the_published_protocol_has_no_suffix():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(40, 3, 6))
    assert m.synthesis._changed(2000, 2000, m.synthesis._units(None, 6), 3, 128) == ""
    assert [m.synthesis._units(None, k) for k in (1, 2, 6)] == [4, 1, 3]
    assert ts.discriminative_score(x, x + 1, steps=1, seeds=(0,)).name == "discriminative_gru_steps1"


# ---------------------------------------------------------------- predictive score


def test_predictive_score_approaches_the_best_predictor():
    """AR(1), phi = .8: the best mean absolute error one step ahead is sqrt(2/pi), that of the mean sqrt(2/pi)/.6."""
    rng = np.random.default_rng(5)
    real, same = ar(200, 6, 0.8, rng), ar(200, 6, 0.8, rng)
    noise = rng.normal(size=(200, 6)) / 0.6
    best = np.sqrt(2 / np.pi) / (real.max() - real.min())
    good, bad = (ts.predictive_score(real, x, steps=700, batch=32, seeds=(0,)) for x in (same, noise))
    assert 0.95 * best < good.value < 1.25 * best < 1.4 * best < bad.value < 2 * best
    assert good.name == "predictive_gru_steps700_batch32" and good.n == 1000 and np.isnan(good.low)
    assert good.unit == "range of the last variable" and good.uncertainty == "none: one seed"


def test_predictive_score_of_several_variables_uses_the_others():
    """y_t = x_{t-1}: the other variable tells all of it."""
    rng = np.random.default_rng(6)
    u = rng.random((150, 6))
    lead = np.stack([u[:, 1:], u[:, :-1]], axis=2)
    alone = np.stack([rng.random((150, 5)), u[:, :-1]], axis=2)
    score = lambda x: ts.predictive_score(lead, x, steps=400, batch=32, units=4, seeds=(0,)).value  # noqa: E731
    assert score(lead) < 0.8 * score(alone)  # alone: 1/4, the mean absolute deviation of a uniform variable
    assert score(alone) == pytest.approx(0.25, abs=0.02)


REAL = np.random.default_rng(7).normal(size=(20, 5, 2))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ts.linear_predictive_score(np.zeros((5, 8)), np.ones((2, 9)), 6, 3), r"\(n, 9\), got \(5, 8\)"),
        (lambda: ts.linear_predictive_score(np.full((5, 9), np.nan), np.ones((2, 9)), 6, 3), "5 of 5 windows"),
        (lambda: ts.linear_predictive_score(np.ones((5, 9)), panel(np.ones(9), np.ones(8)), 6, 3), "test series 1"),
        (lambda: ts.linear_predictive_score(np.ones((5, 9)), np.full((2, 9), np.nan), 6, 3), "none of the 2"),
        (lambda: ts.linear_predictive_score(np.ones((5, 9)), np.full((2, 9), np.inf), 6, 3), "infinite"),
        (lambda: ts.linear_predictive_score(np.ones((5, 9)), [], 6, 3), "no test series"),
        (lambda: ts.linear_predictive_score(np.ones((5, 9)), np.ones((2, 9)), 9, 0), "at least 1"),
        (lambda: ts.scaled_windows(panel(np.ones(8)), 6, 3), r"no complete window of 6 \+ 3 steps .*has 8\)"),
        (lambda: ts.discriminative_score(REAL, REAL[:5]), "at least 10 synthetic windows"),
        (lambda: ts.discriminative_score(REAL, REAL[:, :3]), "synthetic ones"),
        (lambda: ts.discriminative_score(REAL, np.where(REAL > 2, np.nan, REAL)), "only complete windows"),
        (lambda: ts.discriminative_score(REAL, REAL, "svm"), "'gru' or 'logistic'"),
        (lambda: ts.discriminative_score(REAL, REAL, steps=0), "steps must be at least 1"),
        (lambda: ts.discriminative_score(REAL, REAL, units=0), "units must be at least 1"),
        (lambda: ts.discriminative_score(REAL, REAL, seeds=(1, 1)), "seeds must be different"),
        (lambda: ts.discriminative_score(np.ones_like(REAL), REAL), "variable 0 .* constant"),
        (lambda: ts.predictive_score(REAL[:, :1], REAL[:, :1]), "no next step"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
