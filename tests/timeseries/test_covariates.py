"""Covariates known of the future: what is read, where it lands on a panel's grid, and everything that is refused."""

from __future__ import annotations

import numpy as np
import pytest

pd = pytest.importorskip("pandas")

from scidiffuse import timeseries as ts  # noqa: E402
from scidiffuse.timeseries.covariates import Standard, check_columns, read_known  # noqa: E402


def frame(n=48, ids=("a", "b"), start="2024-01-01", freq="h", tz=None):
    """y = k + step, price = 100 k + step, holiday on every third step."""
    t = np.arange(n)
    return pd.concat(
        [
            pd.DataFrame({
                "unique_id": u,
                "ds": pd.date_range(start, periods=n, freq=freq, tz=tz),
                "y": float(k + 1) + t,
                "price": 100.0 * (k + 1) + t,
                "holiday": t % 3 == 0,
            })
            for k, u in enumerate(ids)
        ],
        ignore_index=True,
    )  # fmt: skip


COLUMNS = ("price", "holiday")


def test_values_land_on_their_steps_whatever_the_order_of_rows_and_columns():
    df = frame()
    panel = ts.to_panel(df)
    mixed = df.sample(frac=1, random_state=0)[["holiday", "ds", "price", "unique_id"]]
    known = read_known(mixed, COLUMNS)
    for i in range(2):
        assert np.array_equal(known.on(panel, i, 5, 9)[:, 0], 100 * (i + 1) + np.arange(5, 9))
        assert known.on(panel, i, 5, 9)[:, 1].tolist() == [0, 1, 0, 0]
    assert known.columns == COLUMNS


def test_flags_and_names_of_any_type():
    df = frame()
    panel = ts.to_panel(df)
    for change in ({"holiday": df["holiday"].astype("boolean")}, {"unique_id": df["unique_id"].astype("category")}):
        assert read_known(df.assign(**change), COLUMNS).on(panel, 1, 0, 4)[:, 1].tolist() == [1, 0, 0, 1]
    flags = df["holiday"].astype("boolean")
    flags[50] = pd.NA
    with pytest.raises(ValueError, match="'holiday' of series 'b' has no value at 2024-01-01 02:00:00"):
        read_known(df.assign(holiday=flags), COLUMNS).on(panel, 1, 0, 48)
    numbered = df.assign(unique_id=df["unique_id"].map({"a": 7, "b": 3}))
    assert read_known(numbered, COLUMNS).on(ts.to_panel(numbered), 1, 0, 1)[0, 0] == 200


def test_rows_between_the_steps_are_not_read_and_series_may_have_other_rows():
    df = frame()
    panel = ts.to_panel(df)
    half = frame(96, ids=("b", "c", "a"), freq="30min")
    known = read_known(half, ("price",))
    assert np.array_equal(known.on(panel, 1, 0, 48)[:, 0], 100 + np.arange(0, 96, 2))  # "b" comes first there


def test_windows_of_one_series_are_found_by_time():
    df = frame()
    history, _ = ts.rolling(df, 6, n_windows=2)
    known = read_known(df, ("price",))
    assert len(history) == 4 and {len(y) for y in history.values} == {36, 42}
    for i, (u, y) in enumerate(zip(history.ids, history.values, strict=True)):
        n, base = len(y), {"a": 100, "b": 200}[u]
        assert np.array_equal(known.on(history, i, n, n + 6)[:, 0], base + np.arange(n, n + 6))


def test_the_frame_of_its_own_comes_first_and_the_data_frame_fills_in():
    past = frame()
    future = frame(60).iloc[:, [0, 1, 3]].groupby("unique_id").tail(14).assign(price=lambda d: d["price"] + 0.5)
    known = read_known(future, ("price",)).over(read_known(past, ("price",)))
    got = known.on(ts.to_panel(past), 0, 40, 60)[:, 0]
    assert np.array_equal(got, 100 + np.arange(40, 60) + 0.5 * (np.arange(40, 60) >= 46))
    holes = read_known(future.assign(price=np.nan), ("price",)).over(read_known(past, ("price",)))
    assert np.array_equal(holes.on(ts.to_panel(past), 0, 40, 48)[:, 0], 100.0 + np.arange(40, 48))


def test_before_a_series_values_are_used_where_there_are_some():
    df = frame()
    late = ts.to_panel(df.groupby("unique_id").tail(10))
    assert np.array_equal(read_known(df, ("price",)).on(late, 0, -2, 1)[:, 0], [136, 137, 138])
    nothing = read_known(df.groupby("unique_id").tail(10), ("price",)).on(late, 0, -2, 1)[:, 0]
    assert np.isnan(nothing[:2]).all() and nothing[2] == 138


def test_zones_are_compared_as_instants():
    df = frame(tz="Europe/Berlin", start="2024-03-30")  # 48 hours over the change of the clocks
    known = read_known(df.assign(ds=df["ds"].dt.tz_convert("UTC")), ("price",))
    assert np.array_equal(known.on(ts.to_panel(df), 0, 0, 48)[:, 0], 100.0 + np.arange(48))
    with pytest.raises(ValueError, match="must both have a time zone, or neither"):
        read_known(frame(start="2024-03-30"), ("price",)).on(ts.to_panel(df), 0, 0, 48)


def test_standard_is_the_mean_and_deviation_of_all_steps():
    parts = [np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([[8.0, 5.0]])]
    standard = Standard.of(parts)
    assert standard.mean == (4.0, 5.0) and standard.std == (pytest.approx(np.sqrt(26 / 3)), 1.0)
    z = np.concatenate([standard(p) for p in parts])
    assert z.dtype == np.float32 and np.allclose(z.mean(0), 0, atol=1e-6) and np.isclose(z[:, 0].std(), 1)
    assert standard(np.array([[np.nan, np.nan]])).tolist() == [[0.0, 0.0]]


# ---------------------------------------------------------------- refused


def test_a_hole_is_named_with_its_series_and_first_time():
    df = frame()
    holey = df[~((df["unique_id"] == "b") & df["ds"].between("2024-01-01 05:00", "2024-01-01 07:00"))]
    with pytest.raises(ValueError, match=r"'price' of series 'b' has no value at 2024-01-01 05:00:00 \(3 such steps\)"):
        read_known(holey, COLUMNS).on(ts.to_panel(df), 1, 0, 48)
    df.loc[20, "price"] = np.nan
    with pytest.raises(ValueError, match=r"'price' of series 'a' has no value at 2024-01-01 20:00:00 \(1 such"):
        read_known(df, COLUMNS).on(ts.to_panel(df), 0, 0, 48)


def test_a_horizon_that_is_not_covered_counts_what_is_missing():
    panel = ts.to_panel(frame(48))
    known = read_known(frame(58), ("price",))
    with pytest.raises(ValueError, match=r"14 of 24 steps are missing, from 2024-01-03 10:00:00 to 2024-01-03 23:00"):
        known.on(panel, 0, 24, 72)
    with pytest.raises(ValueError, match=r"24 of 24 steps are missing, from 2024-01-03 00:00:00"):
        read_known(frame(48), ("price",)).on(panel, 0, 24, 72)
    ahead = frame(72)
    ahead.loc[60, "price"] = np.nan  # a hole inside the horizon is a hole
    with pytest.raises(ValueError, match=r"has no value at 2024-01-03 12:00:00 \(1 such"):
        read_known(ahead, ("price",)).on(panel, 0, 24, 72)


def test_a_series_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"no row of series 'b'; they have 1 series: 'a'"):
        read_known(frame(ids=("a",)), COLUMNS).on(ts.to_panel(frame()), 1, 0, 48)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda d: d.drop(columns="price"), ValueError, r"columns \['price'\] are missing; it has \['unique_id', 'ds'"),
        (lambda d: d.rename(columns={"ds": "time"}), ValueError, r"columns \['ds'\] are missing"),
        (lambda d: d.assign(price="cheap"), TypeError, r"'price' must hold real numbers.*'cheap'"),
        (lambda d: d.assign(price=np.inf), ValueError, r"'price' of series 'a' is infinite at 2024-01-01 00:00:00"),
        (lambda d: pd.concat([d, d.head(1)]), ValueError, r"series 'a' has two rows at 2024-01-01 00:00:00"),
        (lambda d: d.assign(unique_id=None), ValueError, "96 rows have no unique_id"),
        (lambda d: d["price"], TypeError, r"must be a pandas DataFrame .* got Series"),
    ],
)
def test_bad_frames(change, error, words):
    with pytest.raises(error, match=words):
        read_known(change(frame()), COLUMNS)


@pytest.mark.parametrize(
    ("columns", "error", "words"),
    [
        ("price", TypeError, "column names such as"),
        ((1, 2), TypeError, "column names such as"),
        (("price", "price"), ValueError, "named twice"),
        (("price", "y"), ValueError, "'y' cannot be a covariate: it is the column of the values to be forecast"),
    ],
)
def test_bad_names(columns, error, words):
    with pytest.raises(error, match=words):
        check_columns(columns)
    assert check_columns(["price"]) == ("price",)
