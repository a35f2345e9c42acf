"""Scores with intervals: equal to the plain functions, right under resampling, and the published reference values."""

from __future__ import annotations

import csv
import dataclasses
import json
import tarfile
import warnings

import numpy as np
import pytest

pd = pytest.importorskip("pandas")

from scidiffuse import timeseries as ts  # noqa: E402
from scidiffuse.timeseries import metrics as m  # noqa: E402
from scidiffuse.timeseries.baselines import seasonal_scale  # noqa: E402

START = pd.Timestamp("2024-01-01")


def panel(*series, freq="h", ids=None):
    names = tuple(range(len(series))) if ids is None else tuple(ids)
    return ts.Panel(names, (START,) * len(series), tuple(np.asarray(y, float) for y in series), freq)


def case(rows=8, S=21, H=5, seed=0, ids=None):
    rng = np.random.default_rng(seed)
    history = panel(*(10 + rng.normal(size=(rows, 60))), ids=ids)
    y = 10 + rng.normal(size=(rows, H))
    y[0, 1], y[2] = np.nan, np.nan
    x = 10 + rng.normal(size=(rows, S, H))
    starts = tuple(START + pd.Timedelta(hours=60 + k // 4) for k in range(rows))
    return ts.Forecast(history.ids, starts, "h", x, "Model"), y, history


def test_every_score_equals_its_plain_function():
    f, y, history = case()
    s = ts.scores(f, y, history, season=24)
    scale, median = seasonal_scale(history, 24), f.quantile(0.5)
    known = ~np.isnan(y)
    lo, hi = f.quantiles([0.025, 0.975], "nearest")
    nine = m.quantiles_of(f.samples, m.GLUONTS_LEVELS, "nearest")
    expected = {
        "wql_gluonts": m.wql(y, f.samples, "gluonts"),
        "wql_csdi": m.wql(y, f.samples, "csdi"),
        "wql_exact": m.wql(y, f.samples, "exact"),
        "crps_exact": np.nanmean(m.crps_ensemble(y, f.samples)),
        "crps_fair": np.nanmean(m.crps_ensemble(y, f.samples, "fair")),
        "scaled_crps": m.scaled_crps(m.crps_ensemble(y, f.samples), scale),
        "nd": m.nd(y, median),
        "nrmse": m.nrmse(y, f.mean()),
        "rmse_mean": np.sqrt(np.nanmean((f.mean() - y) ** 2)),
        "mae_median": np.nanmean(np.abs(median - y)),
        "mase": m.mase(y, median, scale),
        "msis_95": m.msis(y, lo, hi, scale),
        "coverage_80": m.coverage(y, *f.quantiles([0.1, 0.9])),
        "coverage_95": m.coverage(y, *f.quantiles([0.025, 0.975])),
        "mae_coverage": m.mae_coverage(y, nine, m.GLUONTS_LEVELS),
        "energy_path": np.nanmean(m.energy_score(y, f.samples)),
    }
    assert s.keys() == expected.keys()
    assert {k: v.value for k, v in s.items()} == pytest.approx({k: float(v) for k, v in expected.items()}, rel=1e-12)
    for name, score in s.items():
        assert score.name == name and score.low <= score.value <= score.high, name
        assert score.n == (7 if name == "energy_path" else known.sum()) and score.units == 8
        assert score.definition and "bootstrap over 8 rows" in score.uncertainty
        assert score.unit == ("1" if name.startswith(("wql", "n", "scaled", "ma", "msis", "cov")) and
                              name != "mae_median" else "unit of y")  # fmt: skip
    assert s["coverage_80"].reference == 0.8
    old = ts.evaluate(f, y, history, season=24)
    assert {k: old[k] for k in old.keys() & s.keys()} == pytest.approx(
        {k: float(s[k]) for k in old.keys() & s.keys()}, rel=1e-12
    )


def test_a_score_prints_and_writes_itself():
    f, y, history = case()
    score = ts.scores(f, y, history)["crps_exact"]
    assert str(score).startswith("crps_exact 0.") and "unit of y [" in str(score) and "n = 34" in str(score)
    assert json.loads(json.dumps(score.to_dict()))["units"] == 8
    assert ts.Score(**score.to_dict()) == score


def test_normal_forecasts_are_scored_in_closed_form():
    _, y, history = case()
    f = ts.seasonal_naive_intervals(history, 5, 24)
    s = ts.scores(f, y, history)
    assert s["wql_exact"].value == pytest.approx(f.wql(y, "exact"), rel=1e-12)
    assert not {"crps_fair", "energy_path"} & s.keys()


def test_guided_ensembles_have_no_fair_score():
    f, y, _ = case()
    assert "crps_fair" not in ts.scores(dataclasses.replace(f, iid=False), y)
    assert not {"mase", "msis_95", "scaled_crps"} & ts.scores(f, y).keys()


@pytest.mark.parametrize("metric", ["wql_gluonts", "crps_exact", "coverage_80", "rmse_mean"])
def test_steps_add_up_to_the_whole(metric):
    f, y, _ = case()
    steps = ts.per_horizon(f, y, metric)
    assert [s.name for s in steps] == [f"{metric}[h={h}]" for h in range(1, 6)]
    value = np.array([s.value for s in steps])
    weight = np.nansum(np.abs(y), 0) if metric == "wql_gluonts" else (~np.isnan(y)).sum(0)
    power = 2 if metric == "rmse_mean" else 1
    whole = ts.scores(f, y)[metric].value
    assert (value**power * weight).sum() / weight.sum() == pytest.approx(whole**power, rel=1e-12)
    assert [s.n for s in steps] == (~np.isnan(y)).sum(0).tolist()


def test_steps_of_scaled_scores_are_those_of_the_slice():
    f, y, history = case()
    steps = ts.per_horizon(f, y, "mase", history, season=24)
    scale = seasonal_scale(history, 24)
    for h, step in enumerate(steps):
        assert step.value == pytest.approx(m.mase(y[:, [h]], f.quantile(0.5)[:, [h]], scale), rel=1e-12)


def test_error_of_a_random_walk_grows_with_the_horizon_as_it_must():
    """sd sqrt(h): the CRPS of step h is sqrt(h)/sqrt(pi) times the innovation's sd."""
    rng = np.random.default_rng(0)
    y = np.cumsum(rng.normal(size=(500, 120)), axis=1)
    steps = ts.per_horizon(ts.random_walk(panel(*y[:, :116]), 4), y[:, 116:], "crps_exact", draws=200)
    for h, step in enumerate(steps, 1):
        assert step.value == pytest.approx(np.sqrt(h / np.pi), rel=0.1)
        assert step.low < step.value < step.high


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for k in range(200):
        columns = np.stack([rng.exponential(size=60), np.ones(60)], axis=1)
        low, high, units = m.bootstrap(columns, lambda s: s[:, 0] / s[:, 1], draws=300, level=0.9, seed=k)
        hits += low <= 1.0 <= high
        assert units == 60
    assert 0.84 <= hits / 200 <= 0.95  # 0.9 less a little at n = 60; standard error 0.02


def test_copies_of_a_series_are_no_new_information():
    """Rows repeated ten times: as rows the interval shrinks by sqrt(10), as clusters it does not move at all."""
    rng = np.random.default_rng(1)
    columns = np.stack([rng.exponential(size=40), 1 + rng.random(40)], axis=1)
    ratio = lambda s: s[:, 0] / s[:, 1]  # noqa: E731
    once, copies, labels = m.bootstrap(columns, ratio), np.repeat(columns, 10, axis=0), np.repeat(np.arange(40), 10)
    assert m.bootstrap(copies, ratio, labels) == pytest.approx(once)
    share = rng.random((40, 2))
    apart = np.concatenate([share * columns, (1 - share) * columns])  # the parts of a unit are added up
    assert m.bootstrap(apart, ratio, np.tile(np.arange(40), 2)) == pytest.approx(once)
    low, high, _ = m.bootstrap(copies, ratio)
    assert (once[1] - once[0]) / (high - low) == pytest.approx(np.sqrt(10), rel=0.1)


def test_clusters_of_a_forecast():
    f, y, history = case(ids=["a", "b", "c", "d"] * 2)
    by = {c: ts.scores(f, y, history, cluster=c)["crps_exact"] for c in ("row", "series", "origin")}
    assert [by[c].units for c in by] == [8, 4, 2]
    assert by["series"].uncertainty.startswith("bootstrap over 4 series")
    own = ts.scores(f, y, cluster=list("aabbccdd"))["crps_exact"]
    assert own.units == 4 and own.value == by["row"].value
    one = ts.scores(f, y, cluster=[0] * 8)["crps_exact"]
    assert np.isnan(one.low) and one.uncertainty.startswith("none")


def test_zero_truth_and_constant_histories_warn_and_do_not_stop():
    f, y, _ = case()
    with pytest.warns(UserWarning, match="wQL is undefined"):
        s = ts.scores(f, np.zeros_like(y))
    assert np.isnan(s["wql_gluonts"].value) and np.isnan(s["wql_gluonts"].low) and np.isfinite(s["crps_exact"].value)
    flat = panel(*np.ones((8, 60)))
    with pytest.warns(UserWarning, match="8 of 8 rows have a zero or unknown scale"):
        s = ts.scores(f, y, flat)
    assert np.isnan(s["mase"].value) and s["mase"].left_out == 8 and s["mase"].n == 0
    varied = panel(*np.ones((7, 60)), np.arange(60))
    with pytest.warns(UserWarning, match="7 of 8"):
        s = ts.scores(f, y, varied)
    assert s["mase"].value == pytest.approx(np.abs(f.quantile(0.5) - y)[7].mean() / 24) and s["mase"].left_out == 7


def test_skill_of_scores_refuses_other_observations():
    f, y, _ = case()
    whole, part = ts.scores(f, y), ts.scores(f, np.where(np.arange(5) < 3, y, np.nan))
    assert ts.skill(whole, whole)["wql_gluonts"] == 0.0
    with pytest.raises(ValueError, match=r"crps_exact .* counts 34 .* 20"):
        ts.skill(whole, part)


F, Y, HISTORY = case()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ts.scores(F, Y[:, :3]), "expected the truth"),
        (lambda: ts.scores(F, np.where(np.isnan(Y), np.inf, Y)), "6 observations are infinite"),
        (lambda: ts.scores(F, np.full_like(Y, np.nan)), "nothing to score"),
        (lambda: ts.scores(F, Y, cluster="window"), "cluster must be"),
        (lambda: ts.scores(F, Y, cluster=[1, 2]), "one cluster label a row"),
        (lambda: ts.scores(F, Y, draws=0), "draws"),
        (lambda: ts.scores(F, Y, panel(np.ones(9))), "the panel that was forecast"),
        (lambda: ts.per_horizon(F, Y, "mase"), "need history="),
        (lambda: ts.per_horizon(F, Y, "energy_path"), "no score 'energy_path' a step"),
        (lambda: m.bootstrap(np.full((3, 1), np.nan), lambda s: s[:, 0]), "finite"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# ---------------------------------------------------------------- published files


def exchange(folder):
    with tarfile.open(folder / "timeseries" / "exchange_rate_nips" / "exchange_rate_nips.tar.gz") as tar:
        lines = tar.extractfile("exchange_rate_nips/test/test.json").read().splitlines()
    series = [np.array(json.loads(line)["target"]) for line in lines]
    return [v[:-30] for v in series], np.stack([v[-30:] for v in series])


def m4(folder):
    path = folder / "timeseries" / "m4_hourly"
    train, test = (list(csv.reader((path / f"Hourly-{k}.csv").open()))[1:] for k in ("train", "test"))
    return [np.array([float(v) for v in row[1:] if v]) for row in train], np.array(
        [[float(v) for v in row[1:]] for row in test]
    )


@pytest.mark.parametrize(
    ("read", "m_", "wql", "mase", "msis", "nrmse"),
    [(exchange, 5, 0.010750, 1.6203, 64.81, 0.01588), (m4, 24, 0.048309, 1.1932, 47.73, 0.25955)],
)
def test_reference_values_of_the_seasonal_naive_forecast(data, read, m_, wql, mase, msis, nrmse):
    """The plain construction written out: the last season repeated, one path, beside every definition of wQL."""
    history, y = read(data)
    H = y.shape[1]
    f = np.stack([np.tile(v[-m_:], -(-H // m_))[:H] for v in history])
    plain = np.abs(f - y).sum() / np.abs(y).sum()
    assert plain == pytest.approx(wql, abs=5e-7)
    assert [m.wql(y, f[:, None], k) for k in m.METHODS] == pytest.approx([plain] * 3, rel=1e-9)
    assert m.nd(y, f) == pytest.approx(plain, rel=1e-12)
    scale = np.array([np.abs(v[m_:] - v[:-m_]).mean() for v in history])
    assert m.mase(y, f, scale) == pytest.approx(mase, abs=5e-5)
    assert m.msis(y, f, f, scale) == pytest.approx(msis, abs=5e-3)
    assert m.nrmse(y, f) == pytest.approx(nrmse, abs=5e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        p = panel(*history, freq="B" if m_ == 5 else "h")
        s = ts.scores(ts.seasonal_naive(p, H, m_), y, p, season=m_, draws=50)
    assert (s["wql_gluonts"].value, s["mase"].value) == pytest.approx((plain, m.mase(y, f, scale)), rel=1e-9)
    assert s["msis_95"].value == pytest.approx(msis, abs=5e-3) and s["nrmse"].value == pytest.approx(nrmse, abs=5e-6)
