"""Forecast objects: alignment, tables, files, rolling origins, scores and pictures."""

from __future__ import annotations

import dataclasses
import sys
import types

import numpy as np
import pytest

pd = pytest.importorskip("pandas")

from scidiffuse import timeseries as ts  # noqa: E402
from scidiffuse.timeseries.forecast import joined  # noqa: E402


def panel(n=60, k=2):
    start = pd.Timestamp("2024-01-01")
    return ts.Panel(tuple("abc"[:k]), (start,) * k, tuple(np.arange(n) + 100.0 * i for i in range(k)), "h")


def forecast(paths=200, h=4):
    start = pd.Timestamp("2024-01-03 12:00")
    samples = np.random.default_rng(0).normal(size=(2, paths, h)) + np.array([60.0, 160.0])[:, None, None]
    return ts.Forecast(("a", "b"), (start, start), "h", samples, "M")


def test_rolling_windows_never_show_the_future():
    hist, y = ts.rolling(panel(), 5, n_windows=3, step=2)
    assert hist.ids == ("a", "b") * 3 and y.shape == (6, 5)
    for row in range(6):
        base = 100.0 * (row % 2)
        assert hist.values[row][-1] + 1 == y[row, 0]
        assert y[row].tolist() == (base + np.arange(60 - 9 + 2 * (row // 2), 60 - 4 + 2 * (row // 2))).tolist()
    assert y[-1, -1] == 159.0
    with pytest.raises(ValueError, match="too few"):
        ts.rolling(panel(), 30, n_windows=2)
    with pytest.raises(ValueError, match="at least 1"):
        ts.rolling(panel(), 0)


def test_to_long_columns_values_and_alignment():
    f = forecast()
    table = f.to_long(level=[80, 95])
    assert list(table.columns) == ["unique_id", "ds", "M", "M-median", "M-lo-80", "M-hi-80", "M-lo-95", "M-hi-95"]
    assert np.allclose(table["M-hi-80"].to_numpy().reshape(2, 4), np.quantile(f.samples, 0.9, axis=1))
    assert (table["M-lo-95"] <= table["M-lo-80"]).all() and (table["M-lo-80"] <= table["M-median"]).all()
    assert table["ds"].tolist()[3] == pd.Timestamp("2024-01-03 15:00")
    assert np.array_equal(
        ts.actuals(f, panel(62)), [[60, 61, np.nan, np.nan], [160, 161, np.nan, np.nan]], equal_nan=True
    )
    with pytest.raises(ValueError, match="no value"):
        ts.actuals(f, panel(20))


def test_several_windows_of_a_series_get_a_cutoff_column():
    hist, _ = ts.rolling(panel(), 5, n_windows=2)
    table = ts.seasonal_naive(hist, 5).to_long(level=[80])
    assert sorted(table["cutoff"].unique().tolist()) == [hist.end(0), hist.end(2)]


def test_a_cutoff_where_it_is_asked_for():
    table = forecast().to_long(level=[80], cutoff=True)
    assert list(table.columns[:4]) == ["unique_id", "ds", "cutoff", "M"]
    assert set(table["cutoff"]) == {pd.Timestamp("2024-01-03 11:00")}
    hist, _ = ts.rolling(panel(), 5, n_windows=2)
    assert "cutoff" not in ts.seasonal_naive(hist, 5).to_long(level=[80], cutoff=False)


@pytest.mark.parametrize("day", ["2024-03-29", "2024-10-25"])
def test_daily_steps_keep_their_wall_time_where_the_clocks_skip_or_repeat_it(day):
    start = pd.Timestamp(f"{day} 02:30", tz="Europe/Berlin")  # the third step falls into the change
    f = ts.Forecast(("a",), (start,), "D", np.zeros((1, 2, 5)))
    longer = ts.Panel(("a",), (start,), (np.zeros(6),), "D").times(0)
    assert f.times(0).equals(longer[:5]) and [t.hour for t in f.times(0)] == [2, 2, 3 if "03" in day[5:7] else 2, 2, 2]
    after = dataclasses.replace(f, starts=(longer[3],))
    table = after.to_long(cutoff=True)
    assert (table["cutoff"] == longer[2]).all() and (table["ds"].iloc[:2] == longer[3:5]).all()


def test_joined_rows_are_those_of_the_parts():
    first, later = forecast(), dataclasses.replace(forecast(), ids=("c", "d"), iid=False)
    both = joined([first, later])
    assert both.ids == ("a", "b", "c", "d") and both.starts == first.starts * 2 and both.iid is False
    assert np.array_equal(both.samples, np.concatenate([first.samples, later.samples]))
    walk = ts.random_walk(panel(), 4)
    normal = joined([walk, walk])
    assert isinstance(normal, ts.NormalForecast) and np.array_equal(normal.sd[2:], walk.sd) and len(normal.loc) == 4
    for parts in ([], [first, walk], [first, forecast(paths=9)], [walk, ts.random_walk(panel(), 5)]):
        with pytest.raises(ValueError, match=r"join"):
            joined(parts)


def test_joined_info_is_what_the_parts_share_and_the_rest_by_part():
    said = [
        {"model": "M", "steps": 4, "sigma": [1.0, float("nan")], "seed": 7},
        {"model": "M", "steps": 4, "sigma": [1.0, float("nan")], "seed": 8, "steering": {"satisfied": 1.0}},
    ]
    parts = [dataclasses.replace(forecast(), info=info) for info in said]
    info = joined(parts).info
    assert {k: info[k] for k in ("model", "steps")} == {"model": "M", "steps": 4} and info["sigma"][0] == 1.0
    assert info["by_part"] == {"seed": [7, 8], "steering": [None, {"satisfied": 1.0}]}
    assert set(info) == {"model", "steps", "sigma", "by_part"}
    assert joined(parts[:1]).info == said[0] | {"sigma": info["sigma"]} and "by_part" not in joined([parts[0]] * 2).info


def test_levels_out_of_range():
    with pytest.raises(ValueError, match="percent"):
        forecast().to_long(level=[0.8, 100])
    with pytest.raises(ValueError, match=r"\(0, 1\)"):
        forecast().quantile(80)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_saved_tables_read_back(tmp_path, suffix):
    path = forecast().save(tmp_path / "sub" / f"f{suffix}")
    back = ts.read_long(path)
    assert np.allclose(back["M"].to_numpy(), forecast().to_long()["M"].to_numpy())


@pytest.mark.parametrize("zone", [None, "Europe/Berlin", "UTC", "UTC+01:00"])
@pytest.mark.parametrize("ids", [("a", "b"), (3, 12), ("3", "b")])
def test_a_saved_forecast_is_read_back_to_the_last_bit(tmp_path, zone, ids):
    f = forecast()
    starts = (pd.Timestamp("2024-03-31 00:00", tz=zone), pd.Timestamp("2024-10-27 01:00", tz=zone))
    f = dataclasses.replace(f, ids=ids, starts=starts, iid=False, info={"steps": 3, "z": [np.float64(0.5)], "n": None})
    path = f.save(tmp_path / "sub" / "f.npz")
    back = ts.Forecast.load(path)
    assert type(back) is ts.Forecast and np.array_equal(back.samples, f.samples)
    assert (back.ids, back.starts, back.freq, back.name, back.iid) == (ids, starts, "h", "M", False)
    assert [str(s.tz) for s in back.starts] == [str(s.tz) for s in starts]
    assert back.info == {"steps": 3, "z": [0.5], "n": None}
    assert back.times(0).equals(f.times(0)) and back.to_long().equals(f.to_long())


def test_a_normal_forecast_stays_one(tmp_path):
    f = ts.seasonal_naive_intervals(panel(), 5)
    back = ts.Forecast.load(f.save(tmp_path / "f.npz"))
    assert isinstance(back, ts.NormalForecast) and back.horizon == 5
    assert np.array_equal(back.loc, f.loc) and np.array_equal(back.sd, f.sd) and back.samples.shape == (2, 0, 5)
    assert back.info == f.info and back.name == "SeasonalNaive"


@pytest.mark.parametrize("suffix", [".npz", ".csv"])
def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch, suffix):
    path = forecast().save(tmp_path / f"f{suffix}")
    before = path.read_bytes()

    def half(*_, **__):
        file = next(p for p in tmp_path.iterdir() if p != path) if suffix == ".npz" else None
        assert file is None or file.name.startswith(".partial-")
        raise OSError("the disk is full")

    monkeypatch.setattr(np, "savez_compressed", half)
    monkeypatch.setattr(pd.DataFrame, "to_csv", half)
    with pytest.raises(OSError, match="full"):
        forecast(paths=10).save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_what_is_no_forecast_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", y=np.zeros(3))
    with pytest.raises(ValueError, match=r"lacks \['freq', 'samples', 'start', 'unique_id'\] and holds \['y'\]"):
        ts.Forecast.load(tmp_path / "other.npz")
    whole = forecast().save(tmp_path / "f.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.npz").write_text("unique_id,ds,y")
    for name in ("half.npz", "text.npz"):
        with pytest.raises(ValueError, match=f"{name} is damaged"):
            ts.Forecast.load(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no file"):
        ts.Forecast.load(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("freq", "start", "period"),
    [
        ("h", "2024-01-03 12:00", ("2024-01-03 12:00", "h")),
        ("15min", "2024-01-03 12:15", ("2024-01-03 12:15", "15min")),
        ("D", "2024-01-03", ("2024-01-03", "D")),
        ("W-SUN", "2024-01-07", ("2024-01-07", "W-SUN")),
        ("MS", "2024-02-01", ("2024-02", "M")),
        ("ME", "2024-02-29", ("2024-02", "M")),
    ],
)
def test_to_gluonts_gives_their_constructor_what_it_takes(monkeypatch, freq, start, period):
    """A stand-in with the signature of gluonts: SampleForecast(samples, start_date, item_id=None, info=None)."""
    calls = []

    def sample_forecast(samples, start_date, item_id=None, info=None):
        calls.append((samples, start_date, item_id, info))
        return len(calls)

    names = ("gluonts", "gluonts.model", "gluonts.model.forecast")
    modules = {name: types.ModuleType(name) for name in names}
    modules[names[2]].SampleForecast = sample_forecast
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    f = dataclasses.replace(forecast(), freq=freq, starts=(pd.Timestamp(start),) * 2, ids=("a", 7), info={"steps": 2})
    assert f.to_gluonts() == [1, 2]
    for row, (samples, begin, item, info) in enumerate(calls):
        assert samples.shape == (200, 4) and np.array_equal(samples, f.samples[row])
        assert begin == pd.Period(period[0], freq=period[1]) and item == ("a", "7")[row]
        assert info == {"steps": 2, "name": "M"}


def test_to_gluonts_refuses_what_has_no_paths_or_a_zone_and_says_what_is_missing(monkeypatch):
    with pytest.raises(ValueError, match="draw"):
        ts.seasonal_naive_intervals(panel(), 4).to_gluonts()
    aware = (pd.Timestamp("2024-01-03", tz="UTC"),) * 2
    with pytest.raises(ValueError, match="zone UTC"):
        dataclasses.replace(forecast(), starts=aware).to_gluonts()
    monkeypatch.setitem(sys.modules, "gluonts", None)
    monkeypatch.setitem(sys.modules, "gluonts.model.forecast", None)
    with pytest.raises(ImportError, match="pip install gluonts"):
        forecast().to_gluonts()


def test_evaluate_names_every_definition():
    y = forecast().mean()
    scores = ts.evaluate(forecast(), y, panel())
    assert scores["wql_gluonts"] == pytest.approx(forecast().wql(y, "gluonts"))
    assert scores["wql_gluonts_low95"] <= scores["wql_gluonts"] <= scores["wql_gluonts_high95"]
    assert scores["wql_exact"] == pytest.approx(scores["crps_exact"] * y.size / y.sum())
    assert scores["coverage_80"] == 1.0 and scores["n_values"] == 8
    assert scores["scaled_crps"] == pytest.approx(scores["crps_exact"] / 24)  # the series climbs 24 a day
    table = ts.scores(forecast(), y, panel())
    assert scores["wql_gluonts_low95"] == table["wql_gluonts"].low and scores["mae_median"] == table["mae_median"].value
    assert sorted(scores) == sorted([
        "wql_gluonts", "wql_gluonts_low95", "wql_gluonts_high95", "wql_csdi", "wql_exact", "crps_exact", "mae_median",
        "coverage_80", "coverage_95", "scaled_crps", "n_rows", "n_values",
    ])  # fmt: skip
    assert "scaled_crps" not in ts.evaluate(forecast(), y) and "coverage_50" in ts.evaluate(forecast(), y, level=[50])


def test_normal_forecast_scores_agree_with_its_own_large_sample():
    hist, y = ts.rolling(panel(200), 24, n_windows=2)
    noisy = ts.Panel(hist.ids, hist.starts, tuple(v + np.sin(np.arange(len(v)) ** 2) * 9 for v in hist.values), "h")
    f = ts.seasonal_naive_intervals(noisy, 24)
    drawn = f.draw(4000, seed=0)
    for method in ("gluonts", "csdi", "exact"):
        assert drawn.wql(y, method) == pytest.approx(f.wql(y, method), rel=0.02)


def test_non_negative_clips_paths_and_nothing_else():
    f = forecast()
    low = dataclasses.replace(f, samples=f.samples - 60)
    out = low.non_negative()
    assert (out.samples >= 0).all() and np.array_equal(out.samples[1], low.samples[1])
    assert np.array_equal(out.samples[0] == 0, low.samples[0] <= 0) and (low.samples[0] < 0).any()
    assert "clipped" in out.info["non_negative"] and "non_negative" not in low.info
    with pytest.raises(ValueError, match="draw"):
        ts.seasonal_naive_intervals(panel(), 4).non_negative()
