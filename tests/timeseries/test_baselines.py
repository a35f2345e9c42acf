"""Seasonal naive against hand values and against the published files."""

from __future__ import annotations

import csv
import json
import os
import tarfile
from pathlib import Path

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


# ---------------------------------------------------------------- published files


def folder(name: str) -> Path:
    root = os.environ.get("SCIDIFFUSE_DATA")
    path = Path(root or ".") / "timeseries" / name
    if root is None or not path.is_dir():
        pytest.skip(f"the published files of {name} are not here: set SCIDIFFUSE_DATA")
    return path


def exchange():
    with tarfile.open(folder("exchange_rate_nips") / "exchange_rate_nips.tar.gz") as tar:
        lines = tar.extractfile("exchange_rate_nips/test/test.json").read().splitlines()
    series = [np.array(json.loads(line)["target"]) for line in lines]
    return panel(*(v[:-30] for v in series), freq="B"), np.stack([v[-30:] for v in series])


def m4():
    path = folder("m4_hourly")
    train, test = (list(csv.reader((path / f"Hourly-{k}.csv").open()))[1:] for k in ("train", "test"))
    hist = [np.array([float(v) for v in row[1:] if v]) for row in train]
    return panel(*hist), np.array([[float(v) for v in row[1:]] for row in test])


@pytest.mark.parametrize(
    ("read", "h", "season", "point", "walk", "interval"),
    [(exchange, 30, 5, 0.010750, 1, 0.0077), (m4, 48, 24, 0.048309, 24, 0.0376)],
)
def test_reference_values(read, h, season, point, walk, interval):
    hist, y = read()
    assert y.shape == {30: (40, 30), 48: (414, 48)}[h]
    naive = ts.seasonal_naive(hist, h, season)
    assert naive.wql(y) == pytest.approx(point, abs=5e-7)
    assert ts.seasonal_naive_intervals(hist, h, walk).wql(y) == pytest.approx(interval, abs=6e-5)
