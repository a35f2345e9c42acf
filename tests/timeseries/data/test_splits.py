"""Rolling origins: no value of the future, the same windows as a peer's, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

pd = pytest.importorskip("pandas")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from scidiffuse.timeseries import rolling  # noqa: E402
from scidiffuse.timeseries.data import Panel, backtest, check_leak, to_panel  # noqa: E402


def stamped(lengths: list[int], ends: list[int], freq: str = "h") -> Panel:
    """Series whose values are their own positions on one clock: a value tells when it was."""
    clock = pd.date_range("2024-01-01", periods=300, freq=freq)
    starts = tuple(clock[100 + e - n + 1] for n, e in zip(lengths, ends, strict=True))
    values = tuple(np.arange(100.0 + e - n + 1, 100.0 + e + 1) for n, e in zip(lengths, ends, strict=True))
    return Panel(tuple(range(len(lengths))), starts, values, freq)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 30)), min_size=1, max_size=4),
    st.integers(1, 6),
    st.integers(1, 3),
    st.integers(1, 7),
    st.sampled_from(["calendar", "series"]),
    st.sampled_from(["h", "B", "MS"]),
)
def test_nothing_known_is_later_than_anything_asked(series, h, windows, step, origin, freq):
    panel = stamped([n for n, _ in series], [e for _, e in series], freq)
    try:
        splits = list(backtest(panel, h, windows, step, origin=origin))
    except ValueError as error:
        if "has no series with values before and after" not in str(error):
            raise
        return
    assert [s.window for s in splits] == list(range(windows))
    last = max(v[-1] for v in panel.values)
    for s in splits:
        assert set(s.history.ids) | set(s.left_out) == set(panel.ids)
        first = np.array([row[0] for row in s.actual])
        if origin == "calendar":  # one cutoff for all: the clock of the latest series
            cut = last - h - (windows - 1 - s.window) * step
            assert max(v[-1] for v in s.train.values) <= cut < first.min()
            check_leak(s.train, _joined(s), h)
        for row, u in enumerate(s.history.ids):
            known = s.history.values[row]
            whole = panel.values[panel.ids.index(u)]
            assert known[-1] + 1 == first[row]  # nothing left out in between, either
            seen = s.actual[row][~np.isnan(s.actual[row])]
            assert np.array_equal(np.r_[known, seen], whole[: len(known) + len(seen)])
            assert s.cutoffs[row] == s.history.end(row)
            if origin == "series":
                assert len(known) == len(whole) - h - (windows - 1 - s.window) * step


def _joined(split) -> Panel:
    values = tuple(np.r_[v, a] for v, a in zip(split.history.values, split.actual, strict=True))
    return Panel(split.history.ids, split.history.starts, values, split.history.freq)


def test_a_series_that_ended_early_teaches_and_is_not_asked():
    panel = stamped([50, 30], [20, 0])
    (split,) = backtest(panel, 5)
    assert split.history.ids == (0,) and split.left_out == (1,) and split.train.ids == (0, 1)
    (own,) = backtest(panel, 5, origin="series")
    assert own.history.ids == (0, 1) and own.left_out == ()
    with pytest.raises(ValueError, match=r"series 1 begins at .* training series 0 reaches"):
        check_leak(own.train, _joined(own), 5)  # what a cutoff a series does to a global model
    check_leak(own.train, _joined(own), 5, own=True)


@pytest.mark.parametrize("freq", ["h", "B", "MS"])
def test_cutoffs_reach_back_beyond_the_series_that_ends_last(freq):
    panel = stamped([50, 5], [-4, 0], freq)  # positions 47 .. 96, and 96 .. 100
    splits = list(backtest(panel, 3, 3))
    assert [s.history.values[0][-1] for s in splits] == [91, 94, 97]
    assert [s.history.ids for s in splits] == [(0,), (0,), (1,)]
    assert [s.actual[0][0] for s in splits] == [92, 95, 98]


def test_the_same_windows_as_utilsforecast():
    processing = pytest.importorskip("utilsforecast.processing")
    frame = stamped([50, 30, 44], [0, 0, 0], "D").to_long()
    theirs = list(
        processing.backtest_splits(frame, n_windows=3, h=4, id_col="unique_id", time_col="ds", freq="D", step_size=2)
    )
    ours = list(backtest(frame, 4, 3, 2, freq="D"))
    assert len(theirs) == len(ours) == 3
    for (_, train, valid), split in zip(theirs, ours, strict=True):
        assert split.train.to_long()["y"].tolist() == train.sort_values(["unique_id", "ds"])["y"].tolist()
        assert split.actual.ravel().tolist() == valid.sort_values(["unique_id", "ds"])["y"].tolist()


def test_equally_long_series_give_the_windows_of_rolling():
    panel = stamped([50, 50], [0, 0])
    history, actual = rolling(panel, 4, 3)
    splits = list(backtest(panel, 4, 3))
    assert np.array_equal(np.concatenate([s.actual for s in splits]), actual)
    assert [len(v) for s in splits for v in s.history.values] == [len(v) for v in history.values]


def test_sliding_window_and_cold_starts():
    panel = stamped([50, 8], [0, 0])
    (split,) = backtest(panel, 5, max_train=10, context=12)
    assert [len(v) for v in split.train.values] == [10, 3] and [len(v) for v in split.history.values] == [45, 3]
    assert split.cold.tolist() == [False, True]
    assert next(backtest(panel, 5)).cold.tolist() == [False, False]


def test_horizons_that_end_with_the_data_and_gaps_are_nan():
    panel = stamped([20, 20], [0, -2])
    (split,) = backtest(panel, 4)
    assert np.isnan(split.actual).tolist() == [[False] * 4, [False, False, True, True]]
    values = list(panel.values)
    values[0] = np.where(np.arange(20) < 16, np.nan, values[0])  # nothing observed before the cutoff
    (split,) = backtest(Panel(panel.ids, panel.starts, tuple(values), "h"), 4)
    assert split.history.ids == (1,) and split.train.ids == (1,)


def test_grids_of_other_phase_are_cut_by_time():
    even, odd = pd.Timestamp("2024-01-01 00:00"), pd.Timestamp("2024-01-01 01:00")
    panel = Panel(("even", "odd"), (even, odd), (np.arange(10.0), np.arange(9.0)), "2h")
    (split,) = backtest(panel, 2)
    assert split.cutoffs == (pd.Timestamp("2024-01-01 14:00"), pd.Timestamp("2024-01-01 13:00"))
    assert max(split.train.end(0), split.train.end(1)) <= split.cutoffs[0]


def test_time_zones():
    ds = pd.date_range("2024-10-26", periods=72, freq="h", tz="Europe/Berlin")
    panel = to_panel(pd.DataFrame({"unique_id": "a", "ds": ds, "y": np.arange(72.0)}))
    splits = list(backtest(panel, 24, 2))
    assert [s.actual[0][0] for s in splits] == [24, 48]
    assert str(splits[1].cutoffs[0]) == "2024-10-27 22:00:00+01:00"  # 25 hours on the 27th


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"h": 0}, "h must be an integer of at least 1, got 0"),
        ({"h": 2, "n_windows": True}, "n_windows must be"),
        ({"h": 2, "step": 0}, "step must be"),
        ({"h": 2, "context": 1.5}, "context must be"),
        ({"h": 2, "origin": "mine"}, "'calendar' or 'series'"),
        ({"h": 20}, r"window 1 of 1 \(h=20, step=20\) .* the data have 20 steps at most, 21 are needed"),
        ({"h": 4, "n_windows": 6}, r"window 1 of 6 .* 25 are needed: take fewer windows"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        list(backtest(stamped([20], [0]), **options))


def test_windows_of_series_are_not_split_again():
    with pytest.raises(ValueError, match="more than once"):
        list(backtest(stamped([20], [0]).rows([0, 0]), 2))


def test_leaks_of_other_splits_are_named():
    panel = stamped([50], [0])
    with pytest.raises(
        ValueError, match=r"the split leaks: the horizon of series 0 begins at .*, training series 0 rea"
    ):
        check_leak(panel, panel, 5)
    cut = Panel(panel.ids, panel.starts, (panel.values[0][:-5],), "h")
    check_leak(cut, panel, 5)
    with pytest.raises(ValueError, match="freq='h', the test data 'D'"):
        check_leak(cut, stamped([50], [0], "D"), 5)
    with pytest.raises(ValueError, match="nothing to forecast from"):
        check_leak(cut, panel, 50)
