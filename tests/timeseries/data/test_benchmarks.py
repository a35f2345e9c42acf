"""The sets of published tables, and the reference values of the seasonal naive forecast on the raw files."""

from __future__ import annotations

import numpy as np
import pytest

pd = pytest.importorskip("pandas")

from scidiffuse.timeseries import evaluate, seasonal_naive, seasonal_naive_intervals  # noqa: E402
from scidiffuse.timeseries.data import (  # noqa: E402
    BENCHMARKS,
    Benchmark,
    Panel,
    backtest,
    benchmark,
    check_leak,
    load,
    read_benchmark,
    rolling_benchmark,
    write_gluonts,
)


@pytest.fixture(scope="module")
def sets(data) -> dict[str, Benchmark]:
    if not all((data / "timeseries" / name).is_dir() for name in BENCHMARKS):
        pytest.skip("the benchmarks are not in the folder of real files")
    return {name: benchmark(name) for name in BENCHMARKS}


def test_exchange_rate_nips_is_what_gluonts_builds(sets):
    b = sets["exchange_rate_nips"]
    assert (b.horizon, b.windows, b.train.freq) == (30, 5, "B")
    assert b.train.ids == tuple(range(8)) and b.test.ids == tuple(range(8)) * 5
    assert [len(v) for v in b.train.values] == [6071] * 8
    assert [len(v) for v in b.test.values] == [6101 + 30 * w for w in range(5) for _ in range(8)]
    assert set(b.train.starts) == set(b.test.starts) == {pd.Timestamp("1990-01-01")}
    assert b.train.values[0][:2].tolist() == [0.7855, 0.7818]
    for r, u in enumerate(b.test.ids):
        assert np.array_equal(b.test.values[r][:6071], b.train.values[u])
    assert b.actual.shape == (40, 30) and b.train.end(0) == pd.Timestamp("2013-04-08")


def test_exchange_is_lstnet_under_the_rolling_rule(sets):
    b = sets["exchange_rate_nips"]
    assert int(7588 * 0.8) + 1 == 6071  # of LSTNet's 7588 days
    again = rolling_benchmark(b.series, 30, 5, train_length=6071)
    assert again.test.ids == b.test.ids and again.train.starts == b.train.starts
    for x, y in zip((*again.train.values, *again.test.values), (*b.train.values, *b.test.values), strict=True):
        assert np.array_equal(x, y)
    splits = list(backtest(b.series, 30, 5))
    assert np.array_equal(np.concatenate([s.actual for s in splits]), b.actual)
    for s in splits:
        check_leak(s.train, b.test.rows(range(8 * s.window, 8 * s.window + 8)), 30)


def test_m4_hourly_is_what_gluonts_builds(sets, data):
    b = sets["m4_hourly"]
    assert (b.horizon, b.windows, b.train.freq, len(b.train)) == (48, 1, "h", 414)
    assert b.train.ids[:2] == ("H1", "H2") and b.train.ids == b.test.ids
    lengths = [len(v) for v in b.train.values]
    assert set(lengths) == {700, 960} and [len(v) for v in b.test.values] == [n + 48 for n in lengths]
    assert set(b.train.starts) == {pd.Timestamp("1750-01-01 00:00:00")}
    assert not any(np.isnan(v).any() for v in b.test.values)
    raw = pd.read_csv(data / "timeseries" / "m4_hourly" / "Hourly-test.csv", index_col=0)
    assert np.array_equal(b.actual, raw.to_numpy(dtype=float))
    sums = np.sort([np.abs(a).sum() for a in b.actual])
    assert sums[-10:].sum() / sums.sum() == pytest.approx(0.62, abs=0.005)  # ten series are most of every wQL


@pytest.mark.parametrize(
    ("name", "season", "point", "intervals", "mase"),
    [("exchange_rate_nips", 5, 0.010750, None, 1.6203), ("m4_hourly", 24, 0.048309, 0.0376, 1.1932)],
)
def test_seasonal_naive_reference_values(sets, name, season, point, intervals, mase):
    """wQL as GluonTS defines it; the points agree with GluonTS's own evaluator and with the literature's tables."""
    b = sets[name]
    forecast = seasonal_naive(b.history, b.horizon)
    assert forecast.info["season"] == season
    scores = evaluate(forecast, b.actual, b.history)
    assert scores["wql_gluonts"] == pytest.approx(point, abs=5e-7)
    assert scores["mae_median"] / np.mean(np.abs(b.actual)) == pytest.approx(scores["wql_gluonts"])  # a point: ND = wQL
    error = np.abs(b.actual - forecast.median()).mean(axis=1)
    scale = [np.mean(np.abs(v[season:] - v[:-season])) for v in b.history.values]
    assert np.mean(error / scale) == pytest.approx(mase, abs=5e-5)
    if intervals:
        assert seasonal_naive_intervals(b.history, b.horizon).wql(b.actual) == pytest.approx(intervals, abs=5e-5)


def test_a_random_walk_with_intervals_beats_the_tables_on_exchange(sets):
    b = sets["exchange_rate_nips"]
    walk = seasonal_naive_intervals(b.history, b.horizon, season=1)
    assert walk.wql(b.actual) == pytest.approx(0.0077, abs=5e-5)


def test_they_load_as_long_frames_and_write_back(sets, tmp_path):
    b = sets["exchange_rate_nips"]
    assert load("exchange_rate_nips").groupby("unique_id").size().tolist() == [6221] * 8
    again = read_benchmark(write_gluonts(tmp_path / "set", b.train, b.test))  # no horizon said: from the lengths
    assert again.horizon == 30 and again.test.ids == b.test.ids
    assert all(np.array_equal(x, y) for x, y in zip(again.test.values, b.test.values, strict=True))


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match=r"no benchmark is named 'exchange'; there are \['exchange_rate_nips', 'm4"):
        benchmark("exchange")
    short = Panel(("a",), (pd.Timestamp("2024-01-01"),), (np.arange(5.0),), "h")
    with pytest.raises(ValueError, match=r"horizon 5 leaves no history in 1 test rows, first \[\('a', 5\)\]"):
        Benchmark("x", short, short, 5)
    with pytest.raises(ValueError, match="need 9 steps, the series have 5"):
        rolling_benchmark(short, 2, 2, train_length=5)
    assert len(rolling_benchmark(short, 1, 1, share=0.5).train.values[0]) == 3
    two = Panel(("a", "b"), short.starts * 2, (np.arange(5.0), np.arange(4.0)), "h")
    with pytest.raises(ValueError, match="one start and one length"):
        rolling_benchmark(two, 1, 1)
    (tmp_path / "x.csv").write_text("")
    with pytest.raises(ValueError, match="expected a GluonTS folder or tar"):
        read_benchmark(tmp_path / "x.csv")
