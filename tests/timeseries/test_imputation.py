"""Imputation objects: what they keep, tables, files, scores of hidden cells; and the simplest imputations."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pd = pytest.importorskip("pandas")

from scidiffuse import timeseries as ts  # noqa: E402
from scidiffuse.timeseries import fills  # noqa: E402
from scidiffuse.timeseries.imputation import Imputation, runs  # noqa: E402

START = pd.Timestamp("2024-03-30 05:00")


def panel(*values, ids=None, freq="h", start=START):
    ids = tuple("abcdefghijklmnopqrstuvwxyzABCD"[: len(values)]) if ids is None else ids
    return ts.Panel(ids, (start,) * len(values), tuple(np.array(v, dtype=float) for v in values), freq)


NAN = np.nan
GAPPY = panel([NAN, 1.0, 2.0, NAN, NAN, 5.0], [1.0, 2.0, 3.0], [0.0, NAN, 2.0, 3.0, 4.0, NAN])


def imputation(data=GAPPY, paths=40, iid=True, seed=0):
    rng = np.random.default_rng(seed)
    drawn = [10.0 * i + rng.normal(size=(paths, len(y))) for i, y in enumerate(data.values)]
    drawn = [x if np.isnan(y).any() else None for x, y in zip(drawn, data.values, strict=True)]
    return Imputation.completing(data, drawn, paths, "M", iid, {"seed": seed})


def test_runs():
    assert runs(np.array([True, False, True, True, False, True])).tolist() == [[0, 1], [2, 4], [5, 6]]
    assert runs(np.zeros(3, dtype=bool)).shape == (0, 2)


# ---------------------------------------------------------------- what it keeps


def test_observations_are_kept_to_the_bit_in_every_view():
    out = imputation()
    assert len(out) == 3 and out.num_samples == 40
    views = [out.median(), out.mean(), out.quantiles([0.1])[0:3], out.path(3).values, out.to_panel().values]
    for i, y in enumerate(GAPPY.values):
        seen = ~np.isnan(y)
        assert np.array_equal(out.missing[i], ~seen)
        assert (out.samples[i][:, seen] == y[seen]).all()
        for view in views:
            assert (np.atleast_2d(view[i])[:, seen] == y[seen]).all()
    assert out.samples[1].strides[0] == 0  # a series without a gap takes no memory
    assert np.array_equal(np.isnan(out.to_panel("observed").values[2]), np.isnan(GAPPY.values[2]))
    assert out.gaps(0).tolist() == [[0, 1], [3, 5]]


def test_statistics_are_those_of_the_paths():
    out = imputation()
    x, gap = out.samples[0], out.missing[0]
    assert np.allclose(out.median()[0][gap], np.median(x[:, gap], axis=0))
    assert np.allclose(out.mean()[0][gap], x[:, gap].mean(axis=0))
    assert np.allclose(out.quantiles([0.1, 0.9])[0][:, gap], np.quantile(x[:, gap], [0.1, 0.9], axis=0))
    assert np.allclose(out.to_panel("mean").values[0], out.mean()[0])


def test_the_table_has_the_columns_of_a_forecast_and_only_missing_rows():
    out = imputation()
    table = out.to_long(level=[80, 95])
    assert list(table.columns) == ["unique_id", "ds", "M", "M-median", "M-lo-80", "M-hi-80", "M-lo-95", "M-hi-95"]
    assert table["unique_id"].tolist() == ["a"] * 3 + ["c"] * 2
    hours = [0, 3, 4, 1, 5]
    assert table["ds"].tolist() == [START + pd.Timedelta(hours=k) for k in hours]
    assert (table["M-lo-95"] < table["M-lo-80"]).all() and (table["M-lo-80"] < table["M-median"]).all()
    whole = out.to_long(only_missing=False)
    assert len(whole) == 15 and whole["M-lo-80"].to_numpy()[1] == whole["M-hi-80"].to_numpy()[1] == 1.0
    nothing = imputation(panel([1.0, 2.0, 3.0])).to_long()
    assert len(nothing) == 0 and "M-hi-95" in nothing


# ---------------------------------------------------------------- scores


def test_scores_are_those_of_the_hidden_cells_by_hand():
    out = imputation()
    truth = panel([9.0, 1.0, 2.0, 7.0, NAN, 5.0], [1.0, 2.0, 3.0], [0.0, 4.0, 2.0, 3.0, 4.0, 6.0])
    scores = out.scores(truth)
    hidden = [(0, 0, 9.0), (0, 3, 7.0), (2, 1, 4.0), (2, 5, 6.0)]  # the fifth is unknown
    y = np.array([[v] for _, _, v in hidden])
    paths = np.stack([out.samples[i][:, k] for i, k, _ in hidden])[:, :, None]
    assert scores["crps_exact"].value == pytest.approx(ts.crps_ensemble(y, paths).mean())
    assert scores["crps_fair"].value == pytest.approx(ts.crps_ensemble(y, paths, "fair").mean())
    for method in ("gluonts", "csdi", "exact"):
        assert scores[f"wql_{method}"].value == pytest.approx(ts.wql(y, paths, method))
    assert scores["mae_median"].value == pytest.approx(np.abs(np.median(paths, axis=1) - y).mean())
    assert scores["rmse_mean"].value == pytest.approx(np.sqrt(((paths.mean(axis=1) - y) ** 2).mean()))
    low, high = np.quantile(paths, [0.1, 0.9], axis=1)
    assert scores["coverage_80"].value == pytest.approx(((low <= y) & (y <= high)).mean())
    assert scores["wql_exact"].n == 4 and scores["wql_exact"].units == 4
    assert "4 gaps" in scores["wql_exact"].uncertainty


def test_observed_cells_and_what_the_truth_says_there_do_not_count():
    out = imputation()
    truth = panel([9.0, 1.0, 2.0, 7.0, 8.0, 5.0], [1.0, 2.0, 3.0], [0.0, 4.0, 2.0, 3.0, 4.0, 6.0])
    other = panel([9.0, 99.0, -2.0, 7.0, 8.0, 5e6], [NAN, 2.0, 0.0], [0.0, 4.0, 2.0, 3.0, NAN, 6.0])
    a, b = out.scores(truth), out.scores(other)
    assert {k: s.value for k, s in a.items()} == {k: s.value for k, s in b.items()}
    assert a["nd"].n == 5 and a["nd"].units == 4  # two cells lie in one gap


def test_truth_is_found_by_name_and_time():
    out = imputation()
    rows = [("c", 1, 4.0), ("a", 3, 7.0), ("z", 0, 1.0), ("a", 40, 2.0)]
    truth = pd.DataFrame([(u, START + pd.Timedelta(hours=k), y) for u, k, y in rows], columns=["unique_id", "ds", "y"])
    cells, y, gaps = out.cells(truth)
    assert cells.ids == ("a", "c") and y.ravel().tolist() == [7.0, 4.0] and gaps == [1, 2]
    assert cells.starts == (START + pd.Timedelta(hours=3), START + pd.Timedelta(hours=1))
    assert np.array_equal(cells.samples[1, :, 0], out.samples[2][:, 1])
    with pytest.raises(ValueError, match="none of the 5 missing values"):
        out.scores(truth[truth["unique_id"] == "z"])
    twice = panel([1.0, 2.0], [1.0, 2.0], ids=("a", "a"))
    with pytest.raises(ValueError, match="twice"):
        out.scores(twice)


def test_dependent_paths_get_no_unbiased_score():
    truth = panel([9.0, 1.0, 2.0, 7.0, 8.0, 5.0], [1.0, 2.0, 3.0], [0.0, 4.0, 2.0, 3.0, 4.0, 6.0])
    assert "crps_fair" not in imputation(iid=False).scores(truth)


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_saved_tables_read_back(tmp_path, suffix):
    path = imputation().save(tmp_path / "sub" / f"f{suffix}", level=[50])
    back = ts.read_long(path)
    table = imputation().to_long(level=[50])
    assert list(back.columns) == list(table.columns) and len(back) == 5
    assert np.array_equal(back["M-hi-50"].to_numpy(), table["M-hi-50"].to_numpy())


@pytest.mark.parametrize("zone", [None, "Europe/Berlin", "UTC"])
@pytest.mark.parametrize("ids", [("a", "b", "c"), (7, 8, 9)])
def test_saved_paths_come_back_to_the_bit(tmp_path, zone, ids):
    data = ts.Panel(ids, (START.tz_localize(zone),) * 3, GAPPY.values, "h")
    out = imputation(data)
    back = Imputation.load(out.save(tmp_path / "f.npz"))
    assert back.ids == ids and back.starts == data.starts and back.freq == "h"
    assert (back.name, back.iid, back.info) == ("M", True, {"seed": 0})
    for a, b, m, n in zip(out.samples, back.samples, out.missing, back.missing, strict=True):
        assert np.array_equal(a, b) and np.array_equal(m, n)
    assert back.times(0)[5] - back.times(0)[0] == pd.Timedelta(hours=5)
    assert [p.name for p in tmp_path.iterdir()] == ["f.npz"]


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = imputation().save(tmp_path / "f.npz")
    before = path.read_bytes()
    monkeypatch.setattr(np, "savez_compressed", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        imputation(seed=1).save(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["f.npz"]


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected \.csv"):
        imputation().save(tmp_path / "f.xlsx")
    np.savez(tmp_path / "other.npz", samples=np.zeros(3))
    with pytest.raises(ValueError, match=r"not what Imputation\.save writes: it lacks .*'paths'.* holds \['samples'\]"):
        Imputation.load(tmp_path / "other.npz")
    whole = imputation().save(tmp_path / "f.npz").read_bytes()
    for content in (whole[: len(whole) // 2], b"hello", b""):
        (tmp_path / "torn.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"torn\.npz is damaged, or no imputation"):
            Imputation.load(tmp_path / "torn.npz")
    with pytest.raises(FileNotFoundError, match="no file"):
        Imputation.load(tmp_path / "nothing.npz")


def test_names_of_numpy_and_capital_suffixes(tmp_path):
    numbered = dataclasses.replace(imputation(), ids=tuple(np.arange(len(imputation()))))
    assert Imputation.load(numbered.save(tmp_path / "f.NPZ")).ids == tuple(range(len(numbered)))


# ---------------------------------------------------------------- bad input


def test_parts_that_do_not_fit_are_refused():
    x, gap = np.zeros((4, 3)), np.array([True, False, False])
    good = {"ids": ("a",), "starts": (START,), "freq": "h", "samples": (x,), "missing": (gap,)}

    def make(**change):
        return Imputation(**(good | change))

    assert make().num_samples == 4
    with pytest.raises(ValueError, match="one start, samples and mask a series"):
        make(starts=())
    with pytest.raises(ValueError, match="one start, samples and mask a series"):
        make(ids=(), starts=(), samples=(), missing=())
    for bad in ({"missing": (gap[:2],)}, {"missing": (gap.astype(int),)}, {"samples": (x[0],)}):
        with pytest.raises(ValueError, match=r"series 'a': expected paths \(S, n\)"):
            make(**bad)
    with pytest.raises(ValueError, match="not finite"):
        make(samples=(np.full((4, 3), NAN),))
    with pytest.raises(ValueError, match="differ where the mask says observed"):
        make(samples=(np.arange(12.0).reshape(4, 3),))
    with pytest.raises(ValueError, match="statistic"):
        make().to_panel("mode")
    with pytest.raises(ValueError, match="percent"):
        make().to_long(level=[0])
    with pytest.raises(ValueError, match=r"\(0, 1\)"):
        make().quantiles([80])
    with pytest.raises(ValueError, match=r"paths 0 \.\. 3"):
        make().path(4)


# ---------------------------------------------------------------- the simplest imputations


def test_linear_interpolation_and_carry_forward():
    out = fills.interpolate(GAPPY)
    assert [x[0].tolist() for x in out.samples] == [[1, 1, 2, 3, 4, 5], [1, 2, 3], [0, 1, 2, 3, 4, 4]]
    out = fills.carry_forward(GAPPY)
    assert [x[0].tolist() for x in out.samples] == [[1, 1, 2, 2, 2, 5], [1, 2, 3], [0, 0, 2, 3, 4, 4]]


def test_seasonal_fill_takes_both_neighbours_one_season_away_then_two():
    y = np.arange(12.0)
    y[[1, 4, 5, 8]] = NAN  # season 4: step 1 has 5 (missing) then 9; 4 has 0 and 8 (missing); 5 has 1 (missing) and 9
    out = fills.seasonal_fill(panel(y), season=4).samples[0][0]
    assert out[[1, 4, 5, 8]].tolist() == [9.0, 0.0, 9.0, 0.0]
    y = np.arange(12.0)
    y[5] = NAN
    assert fills.seasonal_fill(panel(y), season=4).samples[0][0][5] == (1 + 9) / 2
    y[[1, 9]] = NAN
    with pytest.raises(ValueError, match=r"series 'a' has no observation a multiple of 4 steps away from step 2"):
        fills.seasonal_fill(panel(y), season=4)
    daily = np.tile(np.arange(24.0), 3)
    hidden = daily.copy()
    hidden[30:40] = NAN
    assert np.array_equal(fills.seasonal_fill(panel(hidden)).samples[0][0], daily)


def test_the_brownian_bridge_has_the_mean_and_covariance_of_the_closed_form():
    """A gap of 5 between observations, 2 before the first, 3 after the last; steps of 1, 2 and -1 in between."""
    y = np.array([NAN, NAN, 0.0, 1.0, NAN, NAN, NAN, NAN, NAN, 3.0, 2.0, NAN, NAN, NAN])
    sigma2 = np.mean([1.0, 2.0**2 / 6, 1.0])
    out = fills.brownian_bridge(panel(y), num_samples=40_000, seed=3)
    assert out.info["sigma"][0] ** 2 == pytest.approx(sigma2)
    x = out.samples[0]
    t, mean = np.arange(14), np.array([0, 0, 0, 1, *(1 + np.arange(1, 6) / 3), 3, 2, 2, 2, 2])
    cov = np.zeros((14, 14))
    for i in range(14):
        for j in range(14):
            low, high = min(i, j), max(i, j)
            if low > 3 and high < 9:
                cov[i, j] = sigma2 * (t[low] - 3) * (9 - t[high]) / 6
            elif high < 2:
                cov[i, j] = sigma2 * (2 - t[high])
            elif low > 10:
                cov[i, j] = sigma2 * (t[low] - 10)
    assert np.abs(x.mean(axis=0) - mean).max() < 0.03
    assert np.abs(np.cov(x.T) - cov).max() < 0.06  # entries up to 2; their standard error is below 0.015


def test_a_bridge_is_calibrated_on_random_walks():
    rng = np.random.default_rng(0)
    truth = panel(*np.cumsum(rng.normal(size=(30, 400)), axis=1))
    hidden = [y.copy() for y in truth.values]
    for y in hidden:
        for k in range(20, 380, 20):
            y[k : k + 6] = NAN
    scores = fills.brownian_bridge(panel(*hidden), 200).scores(truth)
    assert scores["coverage_80"].low < 0.8 < scores["coverage_80"].high
    expected = np.mean([np.sqrt(k * (7 - k) / 7) for k in range(1, 7)]) / np.sqrt(
        np.pi
    )  # CRPS of a normal: sd/sqrt(pi)
    assert scores["crps_fair"].value == pytest.approx(expected, rel=0.08)
    linear = fills.interpolate(panel(*hidden)).scores(truth)
    assert scores["wql_exact"].value < 0.8 * linear["wql_exact"].value


def test_the_simplest_imputations_refuse_what_they_cannot_do():
    empty = panel([NAN, NAN], [1.0, NAN])
    for fill in (fills.interpolate, fills.carry_forward, fills.seasonal_fill):
        with pytest.raises(ValueError, match="series 'a' has no observed value"):
            fill(empty)
    with pytest.raises(ValueError, match="series 'a' has 1 observations"):
        fills.brownian_bridge(panel([1.0, NAN]))
    with pytest.raises(ValueError, match="num_samples"):
        fills.brownian_bridge(GAPPY, 0)
    with pytest.raises(ValueError, match="season must be at least 1"):
        fills.seasonal_fill(GAPPY, season=0)
    frame = GAPPY.to_long()
    assert fills.interpolate(frame, "h").samples[0][0].tolist() == [1, 1, 2, 3, 4, 5]


# ---------------------------------------------------------------- pictures


def test_gap_chart_draws_one_panel_a_gap(tmp_path):
    pytest.importorskip("matplotlib")
    truth = panel([9.0, 1.0, 2.0, 7.0, 8.0, 5.0], [1.0, 2.0, 3.0], [0.0, 4.0, 2.0, 3.0, 4.0, 6.0])
    figure = imputation().plot(truth, paths=2, ylabel="m")
    titles = [a.get_title() for a in figure.axes if a.get_visible()]
    assert len(titles) == 4 and titles[1] == "a, 2 missing from 2024-03-30 08:00:00"
    axis = figure.axes[1]
    lines = {line.get_label(): line.get_ydata() for line in axis.get_lines()}
    assert np.array_equal(lines["observed"], [NAN, 1, 2, NAN, NAN, 5], equal_nan=True)
    assert np.array_equal(lines["hidden value"], [9, 1, 2, 7, 8, 5])  # up to the observations beside the gap
    figure.savefig(tmp_path / "gap.png")
    assert len(imputation().plot(gaps=[(2, 1)]).axes) == 1
    with pytest.raises(ValueError, match="nothing is missing"):
        imputation(panel([1.0, 2.0])).plot()
    with pytest.raises(ValueError, match=r"gaps are \(row, number\)"):
        imputation().plot(gaps=[(1, 0)])
