"""Days of 23 and 25 hours: what is stated in the module, one test a statement."""

from __future__ import annotations

import numpy as np
import pytest

pd = pytest.importorskip("pandas")

from scidiffuse.timeseries.data import SkippedData, to_panel  # noqa: E402
from scidiffuse.timeseries.data.clock import as_timestamp, grid, zone, zone_name  # noqa: E402
from scidiffuse.timeseries.data.tables import in_zone  # noqa: E402

TZ = "Europe/Berlin"  # 2024: clocks go forward on 31 March at 02:00, back on 27 October at 03:00
SPRING, AUTUMN = "2024-03-31", "2024-10-27"


def wall(day: str, freq: str = "h") -> pd.DataFrame:
    """Three true local days around ``day``, as a naive clock on the wall shows them."""
    first = pd.Timestamp(day) - pd.Timedelta("1D")
    aware = pd.date_range(first, first + pd.Timedelta("3D"), freq=freq, tz=TZ, inclusive="left")
    return pd.DataFrame({"unique_id": "a", "ds": aware.tz_localize(None), "y": np.arange(len(aware), dtype=float)})


@pytest.mark.parametrize(("day", "hours"), [(SPRING, 23), (AUTUMN, 25), ("2024-06-02", 24)])
@pytest.mark.parametrize("freq", ["h", "15min"])
def test_named_zone_gives_every_hour_its_step_and_no_gap(day, hours, freq):
    panel = to_panel(wall(day, freq), tz=TZ, gaps="error")
    per = 4 if freq == "15min" else 1
    assert len(panel.values[0]) == (48 + hours) * per and panel.freq == freq
    assert np.array_equal(panel.values[0], np.arange((48 + hours) * per))
    ds = panel.to_long()["ds"]
    assert int((ds.dt.date == pd.Timestamp(day).date()).sum()) == hours * per
    assert str(ds.dt.tz) == TZ


def test_without_the_zone_spring_is_a_gap_and_autumn_an_error_that_says_tz():
    panel = to_panel(wall(SPRING))
    assert len(panel.values[0]) == 72 and np.isnan(panel.values[0]).sum() == 1
    assert panel.times(0)[np.isnan(panel.values[0])][0] == pd.Timestamp("2024-03-31 02:00")
    with pytest.raises(ValueError, match=r"duplicate timestamps, first 2024-10-27 02:00:00 \(1 in all\).*tz='Europe"):
        to_panel(wall(AUTUMN))


def test_other_duplicates_do_not_speak_of_clocks():
    df = wall("2024-06-02")
    with pytest.raises(ValueError, match=r"aggregate or drop them$"):
        to_panel(pd.concat([df, df.iloc[10:12]]))


def test_an_hour_that_came_once_is_the_first_and_the_second_a_gap():
    df = wall(AUTUMN)
    twice = df.index[df["ds"].duplicated()]
    panel = to_panel(df.drop(twice), tz=TZ)
    assert len(panel.values[0]) == 73 and np.isnan(panel.values[0]).sum() == 1
    hole = panel.times(0)[np.isnan(panel.values[0])][0]
    assert hole == pd.Timestamp("2024-10-27 02:00:00+01:00")


def test_an_hour_that_no_clock_showed_is_refused_unless_it_is_empty():
    ghost = pd.DataFrame({"unique_id": ["a"], "ds": [pd.Timestamp("2024-03-31 02:00")], "y": [5.0]})
    df = pd.concat([wall(SPRING), ghost], ignore_index=True)
    with pytest.raises(ValueError, match=r"series 'a': 2024-03-31 02:00:00 does not exist in Europe/Berlin"):
        to_panel(df, tz=TZ)
    with pytest.warns(
        SkippedData, match="left out 1: series 'a', 2024-03-31 02:00:00: does not exist in Europe/Berlin"
    ):
        assert len(to_panel(df, tz=TZ, errors="skip").values[0]) == 71
    panel = to_panel(pd.concat([wall(SPRING), ghost.assign(y=np.nan)]), tz=TZ)
    assert len(panel.values[0]) == 71 and not np.isnan(panel.values[0]).any()


def test_offsets_that_change_with_the_clocks_need_the_zone():
    aware = pd.date_range("2024-10-26", periods=72, freq="h", tz=TZ)
    df = pd.DataFrame({"unique_id": "a", "ds": [t.isoformat() for t in aware], "y": 1.0})
    assert {t[-6:] for t in df["ds"]} == {"+01:00", "+02:00"}
    with pytest.raises(ValueError, match=r"mixes time zones.*tz='Europe/Berlin'"):
        to_panel(df)
    panel = to_panel(df, tz=TZ, gaps="error")
    assert (panel.times(0) == aware).all()
    assert to_panel(df, tz="UTC").starts[0] == aware[0]
    naive = pd.concat([df, df.tail(1).assign(ds="2024-11-05 00:00")])
    with pytest.raises(ValueError, match="mixes time zones"):
        to_panel(naive, tz=TZ)


def test_hours_are_absolute_and_days_keep_their_wall_time():
    start = pd.Timestamp("2024-03-30", tz=TZ)
    assert [t.hour for t in grid(start, "12h", periods=5)] == [0, 12, 0, 13, 1]
    assert [t.hour for t in grid(start, "D", periods=4)] == [0, 0, 0, 0]
    daily = pd.DataFrame({"unique_id": "a", "ds": grid(start, "D", periods=10), "y": 1.0})
    panel = to_panel(daily, gaps="error")
    assert panel.freq == "D" and len(panel.values[0]) == 10


def test_wall_clock_halves_of_a_day_are_off_the_absolute_grid_and_the_error_says_why():
    ds = pd.DatetimeIndex([pd.Timestamp(f"2024-03-{d} {h}:00", tz=TZ) for d in (29, 30, 31) for h in ("00", "12")])
    with pytest.raises(ValueError, match=r"irregular: 2024-03-31 12:00:00\+02:00 .*the clocks changed in between"):
        to_panel(pd.DataFrame({"unique_id": "a", "ds": ds, "y": 1.0}), "12h")


def test_calendar_steps_onto_skipped_and_repeated_wall_times():
    spring = grid(pd.Timestamp("2024-03-30 02:30", tz=TZ), "D", periods=3)
    assert [str(t) for t in spring] == [
        "2024-03-30 02:30:00+01:00",
        "2024-03-31 03:00:00+02:00",
        "2024-04-01 02:30:00+02:00",
    ]
    autumn = grid(pd.Timestamp("2024-10-26 02:30", tz=TZ), "D", periods=3)
    assert autumn[1] == pd.Timestamp("2024-10-27 02:30:00+02:00")


def test_a_frame_on_disk_keeps_its_other_columns():
    df = wall(AUTUMN).assign(price=1.0)
    out = in_zone(df, TZ)
    assert list(out.columns) == ["unique_id", "ds", "y", "price"]
    assert len(out) == 73 and out["ds"].is_unique and str(out["ds"].dt.tz) == TZ


def test_zones_and_stamps():
    assert zone("UTC") == "UTC"
    with pytest.raises(ValueError, match="unknown time zone 'Berlin'"):
        zone("Berlin")
    with pytest.raises(ValueError, match="unknown time zone"):
        to_panel(wall(SPRING), tz="CEST5")
    like = pd.Timestamp("2024-01-01", tz=TZ)
    assert as_timestamp("2024-01-02", like) == pd.Timestamp("2024-01-02", tz=TZ)
    with pytest.raises(ValueError, match="the data have none"):
        as_timestamp(like, like.tz_localize(None))


def test_names_of_zones_lead_back_to_them():
    for tz in (TZ, "UTC", "+01:00"):
        stamp = pd.Timestamp("2024-07-01", tz=tz)
        assert pd.Timestamp("2024-07-01", tz=zone_name(stamp.tz)) == stamp
    assert zone_name(None) is None and zone_name("nowhere") is None
