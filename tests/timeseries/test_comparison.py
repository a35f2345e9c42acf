"""Tests of differences: identities, size under the null, coverage, closed forms of block lengths and ratios."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats

pd = pytest.importorskip("pandas")

from scidiffuse import timeseries as ts  # noqa: E402
from scidiffuse.timeseries import comparison as c  # noqa: E402
from scidiffuse.timeseries.comparison.blocks import _blocks  # noqa: E402

START = pd.Timestamp("2024-01-01")


def ar(n, r, rng):
    x = rng.normal(size=n + 50)
    for k in range(1, n + 50):
        x[k] += r * x[k - 1]
    return x[50:]


# ---------------------------------------------------------------- Diebold-Mariano


def test_one_step_with_the_correction_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.exponential(size=(2, 25))
    for alternative in ("two-sided", "less", "greater"):
        ours, theirs = ts.diebold_mariano(a, b, alternative=alternative), stats.ttest_rel(a, b, alternative=alternative)
        assert (ours.statistic, ours.p_value) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-12)
    interval = stats.ttest_rel(a, b).confidence_interval(0.9)
    ours = ts.diebold_mariano(a, b, level=0.9)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), rel=1e-12)


def test_two_steps_by_hand():
    """d = 1, 3, 2, 6: dbar = 3, centred -2, 0, -1, 3; gamma_0 = 14/4, gamma_1 = (0 + 0 - 3)/4."""
    d = np.array([1.0, 3.0, 2.0, 6.0])
    plain = ts.diebold_mariano(d, np.zeros(4), 2, correction=None)
    assert plain.statistic == pytest.approx(3 / np.sqrt((3.5 - 1.5) / 4), rel=1e-12)
    assert plain.p_value == pytest.approx(2 * stats.norm.sf(plain.statistic), rel=1e-12)
    hln = ts.diebold_mariano(d, np.zeros(4), 2)
    assert hln.statistic == pytest.approx(plain.statistic * np.sqrt((4 + 1 - 4 + 2 / 4) / 4), rel=1e-12)
    assert hln.p_value == pytest.approx(2 * stats.t.sf(hln.statistic, 3), rel=1e-12)
    bartlett = ts.diebold_mariano(d, np.zeros(4), 2, kernel="bartlett", correction=None)
    assert bartlett.statistic == pytest.approx(3 / np.sqrt((3.5 - 0.75) / 4), rel=1e-12)


@pytest.mark.parametrize(("h", "n"), [(1, 20), (2, 60), (4, 60)])
def test_size_under_the_null(h, n):
    """Loss differences of ideal h-step forecasts are MA(h-1): the corrected test rejects in about 5 % of cases, the
    published one more often."""
    rng = np.random.default_rng(h)
    reject = np.zeros(2)
    for _ in range(1200):
        d = np.convolve(rng.normal(size=n + h - 1), np.ones(h), "valid")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            both = [ts.diebold_mariano(d, 0 * d, h, correction=k).p_value < 0.05 for k in ("hln", None)]
        reject += both
    corrected, published = reject / 1200
    assert 0.035 < corrected < {1: 0.065, 2: 0.075, 4: 0.095}[h]  # standard error 0.006
    assert corrected < published
    if h > 1:  # and what ignoring the overlap would do
        wrong = np.mean([
            ts.diebold_mariano(d, 0 * d).p_value < 0.05
            for d in (np.convolve(rng.normal(size=n + h - 1), np.ones(h), "valid") for _ in range(300))
        ])  # fmt: skip
        assert wrong > corrected + 0.05


def test_missing_dates_keep_their_place():
    d = np.array([1.0, 3.0, np.nan, 2.0, 6.0])
    test = ts.diebold_mariano(d, np.zeros(5), 2, correction=None)
    assert test.n == 4 and test.left_out == 1
    # the pair (3, 2) is two apart and gives no gamma_1: centred -2, 0, ., -1, 3
    assert test.statistic == pytest.approx(3 / np.sqrt((14 / 4 + 2 * (0 - 3) / 4) / 4), rel=1e-12)


def test_a_variance_that_is_not_positive_falls_back_to_bartlett():
    d = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.5])
    with pytest.warns(UserWarning, match="Bartlett"):
        test = ts.diebold_mariano(d, np.zeros(7), 2)
    assert test.kernel == "bartlett" and np.isfinite(test.statistic)


def test_equal_forecasts_differ_by_nothing():
    x = np.random.default_rng(1).random(9)
    assert (ts.diebold_mariano(x, x).p_value, ts.diebold_mariano(x, x).difference) == (1.0, 0.0)


# ---------------------------------------------------------------- block bootstrap


@pytest.mark.parametrize(("kind", "factor"), [("circular", 4 / 3), ("moving", 4 / 3), ("stationary", 2.0)])
def test_block_length_of_an_autoregression(kind, factor):
    """G/g = 2r/(1 - r^2), so b = (2 (2r/(1 - r^2))^2 / factor)^{1/3} n^{1/3}."""
    rng, r, n = np.random.default_rng(0), 0.5, 20_000
    expected = (2 * (2 * r / (1 - r * r)) ** 2 / factor) ** (1 / 3) * n ** (1 / 3)
    assert np.mean([c.block_length(ar(n, r, rng), kind) for _ in range(4)]) == pytest.approx(expected, rel=0.1)
    assert c.block_length(rng.normal(size=1000), kind) < 6
    assert c.block_length(np.ones(50), kind) == 1.0
    assert c.block_length(np.cumsum(rng.normal(size=30)), kind) <= 10  # at most n/3


def test_block_lengths_of_two_kinds_have_an_exact_ratio():
    """Of the same data they differ in D alone, 4/3 g^2 against 2 g^2."""
    x = ar(3000, 0.6, np.random.default_rng(1))
    circular, stationary = c.block_length(x, "circular"), c.block_length(x, "stationary")
    assert circular / stationary == pytest.approx(1.5 ** (1 / 3), rel=1e-12)
    assert c.block_length(x, "moving") == circular


def test_blocks_are_consecutive_and_uniform():
    rng = np.random.default_rng(0)
    circular = _blocks(10, 3, "circular", 4000, rng)
    assert circular.shape == (4000, 10)
    inside = [j for j in range(9) if (j + 1) % 3]
    assert ((circular[:, 1:] - circular[:, :-1]) % 10 == 1)[:, inside].all()
    moving = _blocks(10, 3, "moving", 4000, rng)
    assert (np.diff(moving, axis=1)[:, inside] == 1).all() and moving.max() == 9
    stationary = _blocks(10, 4, "stationary", 4000, rng)
    broken = ((stationary[:, 1:] - stationary[:, :-1]) % 10 != 1).mean()
    assert broken == pytest.approx(0.9 / 4, abs=0.01)  # a new start follows by chance in one case of ten
    for picks in (circular, stationary):
        assert np.bincount(picks.ravel()) / 40_000 == pytest.approx(np.full(10, 0.1), abs=0.01)


def test_intervals_hold_the_mean_of_dependent_data_where_single_dates_do_not():
    rng, hits = np.random.default_rng(0), {"circular": 0, "stationary": 0, "single": 0, "independent": 0}
    for k in range(150):
        x, e = ar(200, 0.5, rng), rng.normal(size=200)
        for name in hits:
            kind, block = ("circular", 1) if name == "single" else (name, None)
            y, kind = (e, "circular") if name == "independent" else (x, kind)
            b = ts.block_bootstrap(y, kind=kind, block=block, draws=200, seed=k)
            hits[name] += b.low <= 0 <= b.high
    share = {k: v / 150 for k, v in hits.items()}
    assert share["independent"] > 0.89 and share["circular"] > 0.81 and share["stationary"] > 0.81
    assert share["single"] < share["circular"] - 0.05


def test_a_ratio_of_means_and_its_p_value():
    rng = np.random.default_rng(2)
    b = rng.exponential(size=300) + 1
    a = 0.8 * b + 0.02 * rng.normal(size=300)
    ratio = lambda m: m[:, 0] / m[:, 1]  # noqa: E731
    test = ts.block_bootstrap(np.stack([a, b], 1), ratio, null=1.0)
    assert test.value == pytest.approx(a.mean() / b.mean()) and test.low < 0.8 < test.high < 1
    assert test.p_value == pytest.approx(2 / 2001)
    shuffled = ts.block_bootstrap(np.stack([b, rng.permutation(b)], 1), ratio, null=1.0, block=1)
    assert shuffled.low < 1 < shuffled.high and shuffled.p_value > 0.05
    same = ts.block_bootstrap(np.stack([b, b], 1), ratio, null=1.0)
    assert (same.value, same.low, same.high, same.p_value) == (1.0, 1.0, 1.0, 1.0)


def test_gaps_count_in_no_mean():
    x = np.array([1.0, np.nan, 3.0, 5.0])
    b = ts.block_bootstrap(x, block=2, draws=200)
    assert b.value == 3.0 and b.n == 4 and 1 <= b.low < b.high <= 5
    assert b == ts.block_bootstrap(x, block=2, draws=200)


# ---------------------------------------------------------------- ratios and wins


def test_geometric_mean_does_not_depend_on_who_is_the_baseline():
    rng = np.random.default_rng(3)
    a, b = rng.gamma(2.0, size=(2, 50))
    one, two = ts.relative_score(a, b), ts.relative_score(b, a)
    assert one.value == pytest.approx(np.exp(np.mean(np.log(a) - np.log(b))), rel=1e-12)
    assert (1 / two.value, 1 / two.high, 1 / two.low) == pytest.approx((one.value, one.low, one.high), rel=1e-3)
    units = rng.gamma(1.0, size=50)
    assert ts.relative_score(units * a, units * b).value == pytest.approx(one.value, rel=1e-12)  # scale-free
    assert np.mean(a / b) > 1 and np.mean(b / a) > 1  # what the arithmetic mean would say of both


def test_rows_without_a_ratio_are_left_out():
    with pytest.warns(UserWarning, match="1 of 4 rows"):
        score = ts.relative_score(np.array([2.0, 0.0, np.nan, 8.0]), np.array([1.0, 1.0, 1.0, 2.0]))
    assert score.value == pytest.approx(np.sqrt(8)) and score.n == 2 and score.left_out == 2 and score.reference == 1
    with pytest.warns(UserWarning, match="no ratio"):
        assert np.isnan(ts.relative_score(np.zeros(2), np.ones(2)).value)


def test_wins_by_hand_and_the_sign_test():
    a, b = np.array([1.0, 1, 1, 2, 5, np.nan]), np.array([2.0, 2, 2, 2, 1, 1])
    w = ts.win_counts(a, b)
    assert (w.wins, w.losses, w.ties, w.n, w.left_out, w.share) == (3, 1, 1, 5, 1, 0.75)
    assert w.p_value == pytest.approx(10 / 16)  # P(3 or more of 4) twice
    assert ts.win_counts(a, b, tie=1.0).ties == 4
    assert np.isnan(ts.win_counts(np.ones(3), np.ones(3)).share)
    all_won = ts.win_counts(np.zeros(10), np.ones(10))
    assert all_won.low == pytest.approx(0.025 ** (1 / 10)) and all_won.high == 1.0  # Clopper-Pearson in closed form


# ---------------------------------------------------------------- two forecasts


def pair(windows, series=2, H=3, step=3, seed=0):
    """Forecasts of rolling windows of unit noise: right mean, and half a unit off."""
    rng = np.random.default_rng(seed)
    ids = tuple("ab"[k] for _ in range(windows) for k in range(series))
    starts = tuple(START + pd.Timedelta(hours=w * step) for w in range(windows) for _ in range(series))
    y = rng.normal(size=(windows * series, H)) + 3
    make = lambda loc, name: ts.NormalForecast(  # noqa: E731
        ids, starts, "h", np.zeros((len(ids), 0, H)), name, loc=np.full(y.shape, loc), sd=np.ones(y.shape)
    )
    return make(3.0, "right"), make(3.5, "off"), y


def test_compare_over_origins():
    a, b, y = pair(60)
    result = ts.compare(a, b, y, draws=500)
    assert (result.a, result.b) == pytest.approx((np.mean(a.crps(y)), np.mean(b.crps(y))), rel=1e-12)
    assert result.ratio == pytest.approx(result.a / result.b) and result.low < result.ratio < result.high < 1
    assert result.test is not None and result.test.n == 60 and result.test.h == 1 and result.note == ""
    d = (a.crps(y) - b.crps(y)).reshape(60, 2, 3).mean(axis=(1, 2))
    assert (result.test.difference, result.test.p_value) == pytest.approx(
        (d.mean(), stats.ttest_1samp(d, 0).pvalue), rel=1e-9
    )
    assert result.wins.n == 120 and result.wins.wins > 60 and result.relative.value < 1
    text = str(result)
    assert "crps_exact: right" in text and "Diebold-Mariano over 60 origins, h = 1" in text and "blocks" in text
    back = ts.compare(b, a, y, draws=500)
    assert back.ratio == pytest.approx(1 / result.ratio) and back.test.p_value == pytest.approx(result.test.p_value)


def test_overlapping_windows_are_seen():
    a, b, y = pair(30, step=1)
    result = ts.compare(a, b, y, draws=100)
    assert result.test.h == 3 and "h = 3" in str(result)


def test_few_origins_have_no_test_over_time():
    a, b, y = pair(4)
    result = ts.compare(a, b, y, "wql_gluonts", draws=100)
    assert result.test is None and "too few" in result.note and "too few" in str(result) and "2 series" in result.how
    assert result.ratio == pytest.approx(a.wql(y) / b.wql(y))


def test_missing_origins_and_rows_are_left_out():
    a, b, y = pair(12)
    y[0:2], y[5, 1] = np.nan, np.nan  # the first origin; one step
    result = ts.compare(a, b, y, draws=100)
    assert result.test.n == 11 and result.test.left_out == 1 and result.wins.left_out == 2
    assert result.a == pytest.approx(np.nanmean(a.crps(y)))


def test_compare_by_scaled_scores():
    a, b, y = pair(12)
    history = ts.Panel(a.ids, (START,) * 24, tuple(np.random.default_rng(1).normal(size=(24, 50))), "h")
    result = ts.compare(a, b, y, "mase", history, season=1, draws=100)
    s = ts.scores(a, y, history, season=1, draws=10)
    assert result.a == pytest.approx(s["mase"].value, rel=1e-12)


A, B, Y = pair(4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ts.diebold_mariano(np.ones(3), np.ones(4)), "two losses"),
        (lambda: ts.diebold_mariano(np.array([1.0, np.inf]), np.ones(2)), "losses of the first forecast are infinite"),
        (lambda: ts.diebold_mariano(np.arange(3.0), np.ones(3), 3), "h = 3, 3 dates"),
        (lambda: ts.diebold_mariano(np.ones(5), np.zeros(5)), "on every date"),
        (lambda: ts.diebold_mariano(np.arange(3.0), np.ones(3), kernel="parzen"), "kernel"),
        (lambda: ts.diebold_mariano(np.arange(3.0), np.ones(3), alternative="smaller"), "alternative"),
        (lambda: ts.diebold_mariano(np.arange(3.0), np.ones(3), level=95), "level"),
        (lambda: ts.block_bootstrap(np.ones(1)), "2 dates"),
        (lambda: ts.block_bootstrap(np.array([1.0, np.inf])), "infinite"),
        (lambda: ts.block_bootstrap(np.ones(5), block=6), "1 .. 5 dates"),
        (lambda: ts.block_bootstrap(np.ones(5), kind="fixed"), "'circular', 'moving' or 'stationary'"),
        (lambda: ts.block_bootstrap(np.ones(5), lambda m: m[:, 0] / 0), "not finite on any draw"),
        (lambda: c.block_length(np.array([1.0, np.nan])), "not finite"),
        (lambda: ts.relative_score(np.array([-1.0]), np.ones(1)), "negative"),
        (lambda: ts.win_counts(np.ones(2), np.ones(2), tie=-1), "tie"),
        (lambda: ts.compare(A, pair(5)[0], Y), "different rows"),
        (lambda: ts.compare(A, B, Y, "crps"), "crps_exact"),
        (lambda: ts.compare(A, B, Y, "energy_path"), "both forecasts have"),
        (lambda: ts.compare(A, B, Y, "mase"), "need history="),
        (lambda: ts.compare(A, B, 0 * Y, "wql_gluonts"), "undefined"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
