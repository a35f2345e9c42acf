"""Time zones and daylight saving: what happens on days of 23 and 25 hours.

*Times with a zone* lie on the absolute time line. Hours, minutes and seconds are equal steps there: the spring day has
23 of them, the autumn day 25, no step is missing and none comes twice. ``"12h"`` means twelve hours, so after a change
of the clocks it shows another wall time; days, weeks and months are calendar steps and keep theirs. (Where the clocks
skip that wall time, the step falls on the first instant after the gap; where it comes twice, on the first.)

*Times without a zone* are taken as they are, on a line without jumps. Local wall times written without their zone then
lack an hour in spring (a gap: NaN) and repeat one in autumn (an error: duplicate timestamps). Naming the zone,
``tz="Europe/Berlin"``, puts them where they belong (:func:`localize`):

- the skipped hour of spring is no step; a row stamped inside it is an error (no clock showed it), unless its value is
  NaN: such a row says nothing, and goes;
- the repeated hour of autumn: of two rows with one stamp the earlier in the file is the first (daylight saving) hour,
  the later the second. A file that has the hour only once is read as the first; the second is then a gap;
- times that have an offset or another zone already (``2024-10-27T02:30+01:00``) are converted. ISO strings whose
  offsets change with the clocks are therefore read with ``tz=`` and refused without.

Seasons count steps: in zoned hourly data 24 steps before 12:00 is 11:00 or 13:00 just after a change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .extras import pandas as _pandas

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["as_timestamp", "grid", "localize", "zone", "zone_name"]


def zone(tz: str) -> str:
    """``tz`` itself, when it is a name that the time-zone database has.

    Raises:
        ValueError: it is not.
    """
    try:
        _pandas().Timestamp("2024-01-01").tz_localize(tz)
    except Exception as error:
        raise ValueError(f"unknown time zone {tz!r}: expected a name such as 'UTC' or 'Europe/Berlin'") from error
    return tz


def zone_name(tz: Any) -> str | None:
    """The name of a time zone by which it can be had again; None for no zone, and for one without such a name."""
    try:
        return None if tz is None else zone(str(tz))
    except ValueError:
        return None


def as_timestamp(value: Any, like: Any) -> Any:
    """``value`` as a timestamp in the zone of ``like``; a naive value gets that zone.

    Raises:
        ValueError: the value has a zone and ``like`` has none.
    """
    stamp = _pandas().Timestamp(value)
    if like.tz is not None and stamp.tz is None:
        return stamp.tz_localize(like.tz)
    if like.tz is None and stamp.tz is not None:
        raise ValueError(f"{value} has a time zone, the data have none")
    return stamp


def grid(start: Any, freq: str, *, periods: int | None = None, end: Any = None) -> pd.DatetimeIndex:
    """``start, start + freq, ...``: ``periods`` steps, or up to ``end``."""
    pd = _pandas()
    try:
        return pd.date_range(start, end, periods=periods, freq=freq)
    except Exception:
        if start.tz is None:
            raise
        # a calendar step onto a wall time that the clocks skip or repeat, which pandas refuses
        naive = pd.date_range(
            start.tz_localize(None), None if end is None else end.tz_localize(None), periods=periods, freq=freq
        )
        return naive.tz_localize(start.tz, nonexistent="shift_forward", ambiguous=np.ones(len(naive), dtype=bool))


def localize(name: str, times: pd.DatetimeIndex, observed: np.ndarray, tz: str) -> tuple[pd.DatetimeIndex, np.ndarray]:
    """The wall times of one series, in the order of the file, on the absolute line.

    Args:
        name: of the series, for the error. times: with or without a zone.
        observed: bool (n,), whether a row has a value. tz: the zone.

    Returns:
        the times in ``tz``, and bool (n,): which rows remain.

    Raises:
        ValueError: a row with a value is stamped in an hour that the clocks skipped.
    """
    keep = np.ones(len(times), dtype=bool)
    if times.tz is not None:
        return times.tz_convert(tz), keep
    first = ~times.duplicated()
    out = times.tz_localize(tz, nonexistent="NaT", ambiguous=first)
    skipped = np.asarray(out.isna())
    if (skipped & observed).any():
        bad = times[skipped & observed]
        raise ValueError(
            f"series {name!r}: {bad[0]} does not exist in {tz}, the clocks jumped over it ({len(bad)} such rows): drop "
            "these rows, or name the zone that the times are in"
        )
    keep = ~skipped
    return out[keep], keep
