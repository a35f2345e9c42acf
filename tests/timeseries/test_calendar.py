"""Calendar features against the calendar itself: counted days, known weeks, clocks that change."""

from __future__ import annotations

import numpy as np
import pytest

pd = pytest.importorskip("pandas")

from scidiffuse.timeseries.calendar import calendar_features, calendar_names, times_around  # noqa: E402

COUNTS = {
    "second_of_minute": 60, "minute_of_hour": 60, "hour_of_day": 24, "day_of_week": 7, "day_of_month": 31,
    "day_of_year": 366, "week_of_year": 53, "month_of_year": 12,
}  # fmt: skip


def numbers(times, freq):
    """The features as the whole numbers they stand for, by name."""
    features = calendar_features(times, freq)
    assert features.dtype == np.float32
    out = {}
    for name, column in zip(calendar_names(freq), features.T, strict=True):
        k = (column.astype(float) + 0.5) * (COUNTS[name] - 1)
        assert np.allclose(k, k.round(), atol=1e-4)
        out[name] = k.round().astype(int).tolist()
    return out


@pytest.mark.parametrize(
    ("freq", "names"),
    [
        ("h", ("hour_of_day", "day_of_week", "day_of_month", "day_of_year")),
        ("6h", ("hour_of_day", "day_of_week", "day_of_month", "day_of_year")),
        ("15min", ("minute_of_hour", "hour_of_day", "day_of_week", "day_of_month", "day_of_year")),
        ("D", ("day_of_week", "day_of_month", "day_of_year")),
        ("B", ("day_of_week", "day_of_month", "day_of_year")),
        ("W-SUN", ("day_of_month", "week_of_year")),
        ("MS", ("month_of_year",)),
        ("QE-DEC", ("month_of_year",)),
        ("YE-DEC", ()),
    ],
)
def test_the_set_follows_the_frequency(freq, names):
    assert calendar_names(freq) == names
    times = pd.date_range("2023-01-01", periods=800, freq=freq)
    features = calendar_features(times, freq)
    assert features.shape == (800, len(names))
    assert (np.abs(features) <= 0.5).all()


def test_a_leap_year_of_hours_reaches_both_ends_of_every_feature():
    features = calendar_features(pd.date_range("2024-01-01", "2024-12-31 23:00", freq="h"), "h")
    assert features.min(0).tolist() == [-0.5] * 4 and features.max(0).tolist() == [0.5] * 4


def test_known_days():
    times = pd.DatetimeIndex(["2024-02-29", "2024-03-01", "2023-12-31"])  # Thursday, Friday, Sunday
    assert numbers(times, "D") == {"day_of_week": [3, 4, 6], "day_of_month": [28, 0, 30], "day_of_year": [59, 60, 364]}
    weeks = pd.DatetimeIndex(["2020-12-27", "2021-01-03", "2021-01-10"])  # ISO: 2020 had 53 weeks
    assert numbers(weeks, "W-SUN")["week_of_year"] == [51, 52, 0]
    assert numbers(pd.DatetimeIndex(["2024-01-31", "2024-12-31"]), "ME") == {"month_of_year": [0, 11]}
    seconds = numbers(pd.DatetimeIndex(["2024-01-01 13:45:59"]), "s")
    assert (seconds["second_of_minute"], seconds["minute_of_hour"], seconds["hour_of_day"]) == ([59], [45], [13])


def test_wall_time_counts_when_the_clocks_change():
    spring = pd.date_range("2024-03-31 00:00", periods=5, freq="h", tz="Europe/Berlin")
    assert numbers(spring, "h")["hour_of_day"] == [0, 1, 3, 4, 5]
    autumn = pd.date_range("2024-10-27 00:00", periods=6, freq="h", tz="Europe/Berlin")
    assert numbers(autumn, "h")["hour_of_day"] == [0, 1, 2, 2, 3, 4]
    utc = numbers(autumn.tz_convert("UTC"), "h")
    assert utc["hour_of_day"] == [22, 23, 0, 1, 2, 3] and utc["day_of_month"] == [25, 25, 26, 26, 26, 26]


def test_steps_on_both_sides_of_an_origin():
    origin = pd.Timestamp("2024-03-01")
    assert times_around(origin, "D", -2, 2).strftime("%m-%d").tolist() == ["02-28", "02-29", "03-01", "03-02"]
    assert times_around(origin, "D", 1, 3).strftime("%m-%d").tolist() == ["03-02", "03-03"]
    assert times_around(origin, "D", -3, -1).strftime("%m-%d").tolist() == ["02-27", "02-28"]
    assert times_around(origin, "MS", -1, 1).strftime("%m-%d").tolist() == ["02-01", "03-01"]
    clocks = pd.Timestamp("2024-03-31 04:00", tz="Europe/Berlin")
    assert times_around(clocks, "h", -3, 0).hour.tolist() == [0, 1, 3]
    # a daily step at 02:30, a wall time that does not exist on 31 March: the first instant after the gap
    half = pd.Timestamp("2024-04-01 02:30", tz="Europe/Berlin")
    assert [str(t)[:16] for t in times_around(half, "D", -2, 1)] == [
        "2024-03-30 02:30", "2024-03-31 03:00", "2024-04-01 02:30",
    ]  # fmt: skip


def test_frequencies_without_a_calendar_are_refused():
    with pytest.raises(ValueError, match=r"no calendar features are known for the frequency 'ms'.*calendar=False"):
        calendar_names("ms")
    with pytest.raises(ValueError, match="unknown frequency"):
        calendar_names("hourly")
