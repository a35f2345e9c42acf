"""Seasonal naive against hand values and against the published files."""

from __future__ import annotations

import csv
import json
import sys
import tarfile
import types

import numpy as np
import pytest

pd = pytest.importorskip("pandas")

from scidiffuse import timeseries as ts  # noqa: E402
from scidiffuse.timeseries.baselines import seasonal_scale  # noqa: E402


def panel(*series, freq="h"):
    start = pd.Timestamp("2024-01-01")
    return ts.Panel(
        tuple(range(len(series))), (start,) * len(series), tuple(np.asarray(y, float) for y in series), freq
    )


def test_repeats_the_last_season_and_widens_with_the_root_of_seasons():
    y = [1, 2, 3, 5, 1, 4]
    f = ts.seasonal_naive_intervals(panel(y), 7, season=3)
    assert f.mean()[0].tolist() == [5, 1, 4, 5, 1, 4, 5]
    sigma = np.sqrt((4**2 + 1 + 1) / 3)
    assert np.allclose(f.sd[0], sigma * np.sqrt([1, 1, 1, 2, 2, 2, 3]))
    assert ts.seasonal_naive(panel(y), 7, season=3).samples[0, 0].tolist() == [5, 1, 4, 5, 1, 4, 5]
    assert f.times(0)[0] == pd.Timestamp("2024-01-01 06:00")


def test_a_hole_is_filled_from_the_season_before_and_costs_variance():
    f = ts.seasonal_naive_intervals(panel([1, 2, 3, 5, np.nan, 4]), 5, season=3)
    assert f.mean()[0].tolist() == [5, 2, 4, 5, 2]
    sigma = np.sqrt((16 + 1) / 2)
    assert np.allclose(f.sd[0], sigma * np.sqrt([1, 2, 1, 2, 3]))


def test_random_walk_intervals_are_calibrated():
    rng = np.random.default_rng(0)
    y = np.cumsum(rng.normal(size=(400, 310)), axis=1)
    hist = panel(*y[:, :300])
    f = ts.seasonal_naive_intervals(hist, 10, season=1)
    lo, hi = f.quantiles([0.1, 0.9])
    assert ts.coverage(y[:, 300:], lo, hi) == pytest.approx(0.8, abs=0.04)
    assert f.crps(y[:, 300:]).mean() == pytest.approx(np.mean(np.sqrt(np.arange(1, 11)) / np.sqrt(np.pi)), rel=0.08)


def test_drawn_paths_have_the_same_margins():
    f = ts.seasonal_naive_intervals(panel([1, 2, 3, 5, 1, 4]), 4, season=3)
    drawn = f.draw(20000, seed=1)
    assert np.allclose(drawn.mean(), f.mean(), atol=0.08)
    assert np.allclose(drawn.quantile(0.9), f.quantile(0.9), atol=0.12)
    assert np.array_equal(drawn.samples, f.draw(20000, seed=1).samples)


def test_errors_name_the_series():
    with pytest.raises(ValueError, match=r"series 0 .*season 24"):
        ts.seasonal_naive(panel(np.arange(10)), 24)
    with pytest.raises(ValueError, match="no two observations"):
        ts.seasonal_naive_intervals(panel(np.arange(24)), 24)
    with pytest.raises(ValueError, match="at least 1"):
        ts.seasonal_naive(panel(np.arange(50)), 0)


def test_scale_is_the_seasonal_error():
    assert seasonal_scale(panel([1, 2, 4, np.nan, 7], [1, 1, 1]), season=2).tolist() == [3.0, 0.0]


# ---------------------------------------------------------------- random walk


def test_random_walk_by_hand():
    f = ts.random_walk(panel([1, 2, 4, 3]), 3)
    assert f.name == "RandomWalk" and f.mean()[0].tolist() == [3, 3, 3]
    assert np.allclose(f.sd[0], np.sqrt((1 + 4 + 1) / 3 * np.arange(1, 4)))
    g = ts.random_walk(panel([1, 2, 4, 3]), 3, drift=True)  # c = 2/3, steps off by 1/3, 4/3, -5/3
    assert g.name == "RandomWalkDrift" and g.info["drift"] == [pytest.approx(2 / 3)]
    assert np.allclose(g.mean()[0], 3 + 2 / 3 * np.arange(1, 4))
    s2 = (1 / 9 + 16 / 9 + 25 / 9) / 2
    assert np.allclose(g.sd[0] ** 2, [s2 * h * (1 + h / 3) for h in (1, 2, 3)])


def test_random_walk_is_the_seasonal_naive_of_season_one():
    y = np.random.default_rng(0).normal(size=(3, 40)).cumsum(axis=1)
    f, g = ts.random_walk(panel(*y), 5), ts.seasonal_naive_intervals(panel(*y), 5, season=1)
    assert np.allclose(f.loc, g.loc) and np.allclose(f.sd, g.sd)
    assert f.starts == g.starts


def test_random_walk_with_gaps_is_the_likelihood_of_what_was_seen():
    """Steps g apart have variance g s^2; unobserved steps at the end belong to the horizon."""
    f = ts.random_walk(panel([1, np.nan, np.nan, 4, 5, np.nan]), 2)
    assert np.allclose(f.loc, 5) and f.times(0)[0] == pd.Timestamp("2024-01-01 06:00")
    assert np.allclose(f.sd[0], np.sqrt((9 / 3 + 1) / 2 * np.array([2, 3])))
    g = ts.random_walk(panel([0, np.nan, 2, 5, 4]), 1, drift=True)  # c = 1: residuals 0 over 2, 2, -2
    assert np.allclose(g.loc, 5) and np.allclose(g.sd**2, (0 / 2 + 4 + 4) / 2 * (1 + 1 / 4))


@pytest.mark.parametrize("drift", [False, True])
def test_random_walk_intervals_are_calibrated_with_half_the_steps_missing(drift):
    rng = np.random.default_rng(1)
    y = np.cumsum(rng.normal(size=(600, 70)) + (0.5 if drift else 0.0), axis=1)
    seen = np.where(rng.random((600, 60)) < 0.5, y[:, :60], np.nan)
    f = ts.random_walk(panel(*seen), 10, drift=drift)
    inside = ts.coverage(y[:, 60:], *f.quantiles([0.1, 0.9]))
    assert inside == pytest.approx(0.8, abs=0.045)
    if drift:  # without it, the walk runs away
        assert ts.coverage(y[:, 60:], *ts.random_walk(panel(*seen), 10).quantiles([0.1, 0.9])) < 0.7


def test_random_walk_needs_steps():
    with pytest.raises(ValueError, match=r"series 1 has 1 observations"):
        ts.random_walk(panel([1, 2], [1, np.nan]), 2)
    with pytest.raises(ValueError, match=r"series 0 has 2 observations.* drift needs 3"):
        ts.random_walk(panel([1, 2]), 2, drift=True)


def test_paths_have_the_margins_and_the_memory_of_the_rule():
    """y_{T+h} and y_{T+h+m} share the first season's error: covariance s^2; other phases share nothing."""
    hist = panel([1, 2, 3, 5, 1, 4], [0, 0, 1, 0, 2, 2])
    normal, paths = (
        ts.seasonal_naive_intervals(hist, 7, season=3),
        ts.seasonal_naive_paths(hist, 7, 20_000, season=3, seed=1),
    )
    assert np.allclose(paths.mean(), normal.loc, atol=0.1)
    assert np.allclose(paths.samples.std(axis=1), normal.sd, rtol=0.03)
    s2 = normal.sd[0, 0] ** 2
    covariance = np.cov(paths.samples[0].T)
    assert covariance[0, 3] == pytest.approx(s2, rel=0.05) and covariance[3, 6] == pytest.approx(2 * s2, rel=0.05)
    assert abs(covariance[0, 1]) < 0.05 * s2 and abs(covariance[2, 3]) < 0.05 * s2
    assert np.array_equal(paths.samples, ts.seasonal_naive_paths(hist, 7, 20_000, season=3, seed=1).samples)
    assert ts.seasonal_naive_paths(hist, 2, 3, season=3).samples.shape == (2, 3, 2)
    with pytest.raises(ValueError, match="num_samples"):
        ts.seasonal_naive_paths(hist, 2, 0, season=3)


def test_joint_paths_of_a_random_walk_beat_independent_steps():
    """Same margins, same CRPS; the energy score knows which of them is a random walk."""
    rng = np.random.default_rng(2)
    y = np.cumsum(rng.normal(size=(200, 60)), axis=1)
    hist = panel(*y[:, :50])
    joint = ts.seasonal_naive_paths(hist, 10, 60, season=1)
    apart = ts.seasonal_naive_intervals(hist, 10, season=1).draw(60)
    assert joint.crps(y[:, 50:]).mean() == pytest.approx(apart.crps(y[:, 50:]).mean(), rel=0.02)
    scores = [ts.energy_score(y[:, 50:], f.samples).mean() for f in (joint, apart)]
    assert scores[0] < 0.97 * scores[1]


# ---------------------------------------------------------------- ETS and all together


def fake_statsforecast(monkeypatch):
    """A stand-in that continues the last value with sd = horizon step and remembers what it was given."""
    seen = []

    class AutoETS:
        def __init__(self, season_length, model):
            self.m = season_length

        def forecast(self, y, h, level):
            assert np.isfinite(y).all() and len(level) == 1 and level[0] == pytest.approx(68.2689492)
            seen.append((self.m, y.copy(), h))
            step = np.arange(1.0, h + 1)
            return {"mean": y[-1] + 0 * step, f"lo-{level[0]}": y[-1] - step, f"hi-{level[0]}": y[-1] + step}

    monkeypatch.setitem(sys.modules, "statsforecast", types.ModuleType("statsforecast"))
    monkeypatch.setitem(sys.modules, "statsforecast.models", types.SimpleNamespace(AutoETS=AutoETS))
    return seen


def test_ets_takes_what_follows_the_last_gap(monkeypatch):
    seen = fake_statsforecast(monkeypatch)
    y = [1.0, 2, np.nan, *range(10, 20), np.nan, np.nan]
    f = ts.ets(panel(y, np.arange(30.0)), 3, season=1)
    assert seen[0][1].tolist() == list(range(10, 20)) and seen[0][2] == 5  # two steps more, to reach the horizon
    assert f.loc[0].tolist() == [19, 19, 19] and np.allclose(f.sd[0], [3, 4, 5])
    assert f.loc[1].tolist() == [29] * 3 and np.allclose(f.sd[1], [1, 2, 3])
    ts.ets(panel(np.arange(90.0)), 3, season=168, past=50)
    assert seen[-1][0] == 1 and seen[-1][1].tolist() == list(range(40, 90))
    with pytest.raises(ValueError, match=r"series 0 has 10 observations after its last gap.*needs 16"):
        ts.ets(panel(y), 3, season=7)
    with pytest.raises(ValueError, match="past must be at least 16"):
        ts.ets(panel(y), 3, season=7, past=15)


def test_ets_without_statsforecast_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "statsforecast", None)
    monkeypatch.setitem(sys.modules, "statsforecast.models", None)
    with pytest.raises(ImportError, match="pip install statsforecast"):
        ts.ets(panel(np.arange(30.0)), 3)


def test_ets_of_statsforecast_itself():
    """Simple exponential smoothing with alpha near 1 on a random walk: the walk's own forecast."""
    pytest.importorskip("statsforecast")
    y = np.random.default_rng(0).normal(size=300).cumsum()
    f, walk = ts.ets(panel(y), 4, season=1, model="ANN"), ts.random_walk(panel(y), 4)
    assert np.allclose(f.loc, walk.loc, atol=0.3) and np.allclose(f.sd, walk.sd, rtol=0.1)


def test_standard_baselines(monkeypatch):
    hist = panel(np.arange(60.0) % 24 + np.random.default_rng(0).normal(size=60))
    names = ["seasonal naive, point", "seasonal naive, with intervals", "random walk", "random walk with drift"]
    assert list(ts.standard_baselines(hist, 5, with_ets=False)) == names
    fake_statsforecast(monkeypatch)
    made = ts.standard_baselines(hist.to_long(), 5, with_ets=True)
    assert list(made) == [*names, "ETS"] and all(f.quantiles([0.5]).shape == (1, 1, 5) for f in made.values())
    with pytest.warns(UserWarning, match="no baseline") as told:
        short = ts.standard_baselines(panel(np.arange(10.0)), 30, with_ets=False)
    assert list(short) == names[2:]
    assert [str(w.message).split(" steps")[0] for w in told] == [f"no baseline {k!r}: series 0 (10" for k in names[:2]]
    with pytest.raises(ValueError, match="at least 1"):
        ts.standard_baselines(hist, 0, with_ets=False)


# ---------------------------------------------------------------- published files


def exchange(folder):
    with tarfile.open(folder / "timeseries" / "exchange_rate_nips" / "exchange_rate_nips.tar.gz") as tar:
        lines = tar.extractfile("exchange_rate_nips/test/test.json").read().splitlines()
    series = [np.array(json.loads(line)["target"]) for line in lines]
    return panel(*(v[:-30] for v in series), freq="B"), np.stack([v[-30:] for v in series])


def m4(folder):
    path = folder / "timeseries" / "m4_hourly"
    train, test = (list(csv.reader((path / f"Hourly-{k}.csv").open()))[1:] for k in ("train", "test"))
    hist = [np.array([float(v) for v in row[1:] if v]) for row in train]
    return panel(*hist), np.array([[float(v) for v in row[1:]] for row in test])


@pytest.mark.parametrize(
    ("read", "h", "season", "point", "walk", "interval"),
    [(exchange, 30, 5, 0.010750, 1, 0.0077), (m4, 48, 24, 0.048309, 24, 0.0376)],
)
def test_reference_values(data, read, h, season, point, walk, interval):
    hist, y = read(data)
    assert y.shape == {30: (40, 30), 48: (414, 48)}[h]
    naive = ts.seasonal_naive(hist, h, season)
    assert naive.wql(y) == pytest.approx(point, abs=5e-7)
    assert ts.seasonal_naive_intervals(hist, h, walk).wql(y) == pytest.approx(interval, abs=6e-5)
    if read is exchange:  # where a random walk wins
        assert ts.random_walk(hist, h).wql(y) == pytest.approx(0.007733, abs=5e-7)
