"""Wide tables: which column is the time, what a series is, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

pd = pytest.importorskip("pandas")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from scidiffuse.timeseries.data import SkippedData, from_wide, load, to_panel  # noqa: E402
from scidiffuse.timeseries.data.wide import time_column  # noqa: E402


def table(n: int = 6) -> pd.DataFrame:
    ds = pd.date_range("2024-01-01", periods=n, freq="h")
    late = np.r_[[np.nan] * 2, np.arange(n - 3.0), np.nan]
    return pd.DataFrame({"date": ds, "OT": np.arange(float(n)), "late": late})


def test_columns_become_series_without_their_padding():
    panel = to_panel(from_wide(table()))
    assert panel.ids == ("OT", "late") and panel.values[1].tolist() == [0, 1, 2]
    assert panel.starts[1] == pd.Timestamp("2024-01-01 02:00")
    padded = from_wide(table(), trim=False)
    assert len(padded) == 12 and padded["y"].isna().sum() == 3


@settings(max_examples=30)
@given(st.lists(st.lists(st.one_of(st.floats(-1e6, 1e6), st.none()), min_size=5, max_size=5), min_size=1, max_size=4))
def test_wide_to_panel_to_wide(columns):
    wide = pd.DataFrame({f"s{k}": np.array([1.0, *c, 2.0], dtype=float) for k, c in enumerate(columns)})
    wide.index = pd.date_range("2024-01-01", periods=7, freq="D", name="ds")
    assert np.array_equal(to_panel(from_wide(wide), "D").to_wide(), wide, equal_nan=True)


@pytest.mark.parametrize("name", ["date", "Date", "ds", "timestamp", "Time", "datetime"])
def test_the_time_is_found_by_name(name):
    frame = table().rename(columns={"date": name})
    assert time_column(frame) == name and len(to_panel(from_wide(frame))) == 2


def test_the_time_is_found_by_type_and_given_by_name():
    frame = table().rename(columns={"date": "when"})
    assert time_column(frame) == "when"
    text = frame.assign(when=frame["when"].astype(str))
    assert time_column(text) is None
    assert len(to_panel(from_wide(text, "when"))) == 2
    with pytest.raises(ValueError, match=r"no column of times .*name it with time_col=, or pass freq= and start="):
        from_wide(text[["OT", "late"]])
    counted = to_panel(from_wide(table()[["OT"]], freq="H", start="2024-01-01"))
    assert counted.freq == "h" and counted.values[0].tolist() == list(range(6))


@pytest.mark.parametrize(
    ("frame", "options", "kind", "words"),
    [
        ([1], {}, TypeError, "expected a pandas DataFrame"),
        (table().iloc[:0], {}, ValueError, "no rows"),
        (table(), {"columns": ["XX"]}, ValueError, r"no series \['XX'\]"),
        (table(), {"time_col": "when"}, ValueError, "no column 'when'"),
        (table().iloc[::-1], {}, ValueError, "goes back in row 2"),
        (table().assign(OT="x"), {}, TypeError, r"column 'OT' must hold real numbers"),
        (table().assign(OT=np.nan), {}, ValueError, "column 'OT' has no observed value"),
        (table().set_axis(["date", "a", "a"], axis=1), {}, ValueError, "column 'a' comes twice"),
    ],
)
def test_bad_tables(frame, options, kind, words):
    with pytest.raises(kind, match=words):
        from_wide(frame, **options)


def test_bad_columns_are_skipped_and_named():
    with pytest.warns(SkippedData, match="column 'OT' must hold real numbers"):
        long = from_wide(table().assign(OT="x"), errors="skip")
    assert long["unique_id"].unique().tolist() == ["late"]


def test_local_wall_times_with_both_hours_of_autumn():
    aware = pd.date_range("2024-10-27", periods=100, freq="15min", tz="Europe/Berlin")
    frame = pd.DataFrame({"date": aware.tz_localize(None), "a": np.arange(100.0)})
    with pytest.raises(ValueError, match="goes back in row 13"):
        from_wide(frame)
    panel = to_panel(from_wide(frame, tz="Europe/Berlin"), gaps="error")
    assert (panel.times(0) == aware).all() and panel.freq == "15min"


def test_from_disk(tmp_path):
    table().to_csv(tmp_path / "w.csv", index=False)
    table().set_index("date").to_parquet(tmp_path / "w.parquet")
    for name in ("w.csv", "w.parquet"):
        assert to_panel(load(tmp_path / name)).ids == ("OT", "late")


def test_ett_and_stocks(data):
    if not (data / "timeseries" / "ett").is_dir():
        pytest.skip("no timeseries/ett in the folder of real files")
    frame = load("ett")
    assert frame["unique_id"].nunique() == 14 and "ETTh2/OT" in set(frame["unique_id"])
    panel = to_panel(frame[frame["unique_id"] == "ETTh1/OT"], gaps="error")
    assert panel.freq == "h" and len(panel.values[0]) == 17420 and str(panel.starts[0]) == "2016-07-01 00:00:00"
    assert panel.values[0][0] == 30.5310001373291
    stocks = to_panel(load("stocks"), "B")
    assert [len(v) for v in stocks.values] == [3685] * 6 and stocks.values[0][0] == 49.676899
