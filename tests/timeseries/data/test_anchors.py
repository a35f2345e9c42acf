"""Periods and instants: the alias on whose grid the starts lie, and that a grid from there begins at the start."""

from __future__ import annotations

import pytest

pd = pytest.importorskip("pandas")
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from scidiffuse.timeseries.data.anchors import anchored  # noqa: E402


def starts(*days: str):
    return [pd.Timestamp(d) for d in days]


@pytest.mark.parametrize(
    ("freq", "days", "alias"),
    [
        ("ME", ["2020-01-31"], "ME"),
        ("ME", ["2020-01-01", "2021-05-01"], "MS"),
        ("MS", ["2020-01-31"], "ME"),
        ("12ME", ["2020-01-01"], "12MS"),
        ("QE-DEC", ["2020-02-01"], "QS-FEB"),
        ("QS", ["2020-06-30"], "QE-JUN"),
        ("YE-DEC", ["1979-01-01 12:00"], "YS-JAN"),
        ("W-SUN", ["2020-01-01"], "W-WED"),
        ("W-SUN", ["2020-01-01", "2020-01-03"], "7D"),
        ("h", ["2020-01-01 00:30"], "h"),
        ("B", ["1990-01-01"], "B"),
    ],
)
def test_the_alias_is_chosen_by_the_starts(freq, days, alias):
    assert anchored(freq, starts(*days)) == (alias, tuple(starts(*days)), [])


def test_where_none_fits_starts_move_to_the_first_day_and_are_named():
    alias, moved, which = anchored("ME", starts("2020-01-01", "2020-03-17"))
    assert (alias, moved, which) == ("MS", tuple(starts("2020-01-01", "2020-03-01")), [1])
    alias, moved, which = anchored("QE", starts("2020-02-10", "2020-04-01"))
    assert (alias, moved, which) == ("QS-JAN", tuple(starts("2020-01-01", "2020-04-01")), [0])


def test_business_days_cannot_start_on_a_sunday():
    with pytest.raises(ValueError, match=r"cannot start at 2020-01-05 00:00:00 \(Sunday\)"):
        anchored("B", starts("2020-01-05"))


@given(
    st.lists(st.dates(pd.Timestamp("1800-01-01").date(), pd.Timestamp("2200-01-01").date()), min_size=1, max_size=4),
    st.sampled_from(["W", "ME", "MS", "QE", "QS", "YE", "YS", "D", "h", "3ME", "2W"]),
)
def test_a_grid_from_the_start_begins_at_the_start(dates, freq):
    alias, first, _ = anchored(freq, [pd.Timestamp(d) for d in dates])
    for s in first:
        assert pd.date_range(s, periods=3, freq=alias)[0] == s
