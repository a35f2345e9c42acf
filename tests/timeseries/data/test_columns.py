"""Bad cells: refused one by one, or skipped and named, each."""

from __future__ import annotations

import numpy as np
import pytest

pd = pytest.importorskip("pandas")

from scidiffuse.timeseries.data import SkippedData, to_panel  # noqa: E402


def frame(n: int = 30, uid: str = "a", freq: str = "h"):
    ds = pd.date_range("2024-01-01", periods=n, freq=freq)
    return pd.DataFrame({"unique_id": [uid] * n, "ds": ds, "y": np.arange(n, dtype=float)})


def put(row: int, column: str, value: object):
    df = pd.concat([frame(), frame(uid="b")], ignore_index=True)
    df[column] = df[column].astype(str if column == "ds" else object).astype(object)
    df.loc[row, column] = value
    return df


@pytest.mark.parametrize(
    ("df", "words"),
    [
        (put(7, "ds", "2024-13-45"), "row 8: column 'ds' holds '2024-13-45'"),
        (put(0, "ds", "soon"), "row 1: column 'ds' holds 'soon'"),
        (put(7, "ds", None), "row 8"),
        (put(7, "unique_id", None), "row 8: no unique_id"),
        (put(7, "y", "n/a"), r"row 8: 'y' holds 'n/a', which is no number \(series 'a'\)"),
        (put(7, "y", True), "row 8: 'y' holds True"),
        (put(7, "y", np.inf).astype({"y": float}), r"row 8: 'y' is infinite \(series 'a'\)"),
        (put(7, "y", 2**60).astype({"y": "int64"}), r"row 8: column 'y' holds integers beyond 2\^53"),
    ],
)
def test_a_bad_cell_takes_its_row_and_nothing_else(df, words):
    with pytest.raises((ValueError, TypeError)):
        to_panel(df)
    with pytest.warns(SkippedData, match=f"left out 1: {words}"):
        panel = to_panel(df, errors="skip")
    assert panel.ids == ("a", "b") and len(panel.skipped) == 1
    assert int(sum(np.isnan(v).sum() + (30 - len(v)) for v in panel.values)) == 1
    assert panel.values[1].tolist() == list(range(30))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (pd.concat([frame(uid="b"), frame(uid="b").tail(1)]), "series 'b' has duplicate timestamps"),
        (frame(uid="b").assign(y=np.nan), "series 'b' has no observed value"),
        (frame(40, "b", "D"), "series 'b': its frequency is 'D', that of most series 'h'"),
        (frame(uid="b").assign(ds=lambda d: d["ds"] + pd.to_timedelta([0, 7] * 15, "min")), "series 'b'"),
    ],
)
def test_a_bad_series_goes_and_the_others_stay(bad, words):
    df = pd.concat([frame(), bad, frame(uid="c")])
    with pytest.warns(SkippedData, match=words):
        panel = to_panel(df, errors="skip")
    assert panel.ids == ("a", "c") and panel.skipped[0].where == "series 'b'"


def test_nothing_left_is_an_error_and_so_is_what_concerns_the_whole():
    with pytest.raises(ValueError, match=r"nothing is left, 1 bad: series 'a' has no observed value"):
        to_panel(frame().assign(y=np.nan), "h", errors="skip")
    with pytest.raises(ValueError, match="'raise' or 'skip'"):
        to_panel(frame(), errors="ignore")
    with pytest.raises(ValueError, match="missing"):
        to_panel(frame().drop(columns="y"), errors="skip")
    mixed = frame(2).assign(ds=pd.Series(["2024-01-01T00:00+01:00", "2024-01-01T01:00+02:00"], dtype=object))
    with pytest.raises(ValueError, match="mixes time zones"):
        to_panel(mixed, errors="skip")


def test_what_is_left_but_too_short_asks_for_the_frequency():
    df = put(1, "y", "x").iloc[[0, 1, 2, 30, 31]]
    with pytest.raises(ValueError, match="no series has the 3 timestamps"):
        to_panel(df, errors="skip")
    with pytest.warns(SkippedData):
        assert to_panel(df, "h", errors="skip").ids == ("a", "b")


def test_index_columns_are_pointed_at():
    with pytest.raises(ValueError, match=r"\['unique_id'\] are in the index: use reset_index"):
        to_panel(frame().set_index("unique_id"))


def test_periods_are_times():
    df = frame().assign(ds=lambda d: d["ds"].dt.to_period("h"))
    assert to_panel(df).starts[0] == pd.Timestamp("2024-01-01")


# ---------------------------------------------------------------- masks


def test_a_mask_hides_values_and_may_not_promise_what_is_missing():
    df = frame(6).assign(seen=[True, False, True, True, True, True])
    assert np.array_equal(to_panel(df, mask_col="seen").values[0], [0, np.nan, 2, 3, 4, 5], equal_nan=True)
    df.loc[4, "y"] = np.nan
    with pytest.raises(
        ValueError, match=r"mask and NaN disagree: column 'seen' says that row 5 \(series 'a'\) was obs"
    ):
        to_panel(df, mask_col="seen")
    with pytest.warns(SkippedData, match="row 5: 'seen' says observed"):
        assert np.isnan(to_panel(df, mask_col="seen", errors="skip").values[0][4])
    df["seen"] = [1, 0, 1, 1, 0, 1]
    assert np.isnan(to_panel(df, mask_col="seen").values[0]).sum() == 2
    with pytest.raises(TypeError, match="row 2 holds 2"):
        to_panel(df.assign(seen=[1, 2, 1, 1, 1, 1]), mask_col="seen")
    with pytest.raises(ValueError, match=r"\['gone'\] are missing"):
        to_panel(df, mask_col="gone")


# ---------------------------------------------------------------- cold starts


def test_short_series_are_accepted_and_marked():
    df = pd.concat([frame(), frame(5, "new"), frame(1, "today")])
    panel = to_panel(df)
    assert panel.ids == ("a", "new", "today") and panel.freq == "h"
    assert panel.cold(6).tolist() == [False, True, True]
    assert panel.cold(1).tolist() == [False, False, False]
