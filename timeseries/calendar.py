r"""Calendar features: where in the hour, day, week, month and year a step lies, known of the future as of the past.

Each feature is a whole number k = 0 .. n - 1 (the hour of the day, the day of the week ...) scaled to [-1/2, 1/2],

    f = k / (n - 1) - 1/2,

and the set follows the frequency, by the custom of GluonTS: of a step, everything coarser than itself that a season
may hang on:

    s               second of minute, and those of min
    min             minute of hour, and those of h
    h               hour of day, and those of D
    D, B            day of week, day of month, day of year
    W               day of month, week of year (ISO)
    MS, ME, QS, QE  month of year
    YS, YE          none

A multiple has those of its unit (``15min`` those of ``min``). Periods that vary in length have a fixed n: 31 days of a
month, 366 of a year, 53 weeks.

*Time zones.* What counts is the wall time of a stamp: people get up by their clocks. Where the clocks change, the
23-hour day skips an hour of day, and the 25-hour day has one twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .data import _pandas, canonical_freq
from .data.clock import grid

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["calendar_features", "calendar_names", "times_around"]

#: Name -> how many values k there are, and k of a `DatetimeIndex`.
_FEATURES: dict[str, tuple[int, Callable[[Any], Any]]] = {
    "second_of_minute": (60, lambda t: t.second),
    "minute_of_hour": (60, lambda t: t.minute),
    "hour_of_day": (24, lambda t: t.hour),
    "day_of_week": (7, lambda t: t.day_of_week),
    "day_of_month": (31, lambda t: t.day - 1),
    "day_of_year": (366, lambda t: t.day_of_year - 1),
    "week_of_year": (53, lambda t: t.isocalendar().week - 1),
    "month_of_year": (12, lambda t: t.month - 1),
}

_DAILY = ("day_of_week", "day_of_month", "day_of_year")
_HOURLY = ("hour_of_day", *_DAILY)
_MINUTELY = ("minute_of_hour", *_HOURLY)
_MONTHLY = ("month_of_year",)
_SETS: dict[str, tuple[str, ...]] = {
    "s": ("second_of_minute", *_MINUTELY), "min": _MINUTELY, "h": _HOURLY, "bh": _HOURLY, "D": _DAILY, "B": _DAILY,
    "W": ("day_of_month", "week_of_year"), "SME": ("day_of_month", *_MONTHLY), "SMS": ("day_of_month", *_MONTHLY),
    "MS": _MONTHLY, "ME": _MONTHLY, "BME": _MONTHLY, "BMS": _MONTHLY,
    "QS": _MONTHLY, "QE": _MONTHLY, "BQE": _MONTHLY, "BQS": _MONTHLY,
    "YS": (), "YE": (), "BYE": (), "BYS": (),
}  # fmt: skip


def calendar_names(freq: str) -> tuple[str, ...]:
    """The features of a frequency, in the order of the columns of `calendar_features`.

    Raises:
        ValueError: a frequency that pandas does not know, or of which no calendar is known here (milliseconds ...).
    """
    alias = canonical_freq(freq)
    match = re.fullmatch(r"\d*([A-Za-z]+)(-.+)?", alias)
    if match is None or match.group(1) not in _SETS:
        raise ValueError(f"no calendar features are known for the frequency {freq!r}: train with calendar=False")
    return _SETS[match.group(1)]


def calendar_features(times: pd.DatetimeIndex, freq: str) -> np.ndarray:
    """The calendar features of timestamps.

    Args:
        times: (n,), with or without a time zone; the wall time counts.
        freq: pandas alias of the step, which chooses the set.

    Returns:
        float32 (n, K) in [-1/2, 1/2], K = len(calendar_names(freq)), which may be 0.

    Raises:
        ValueError: see `calendar_names`.
    """
    out = np.empty((len(times), len(calendar_names(freq))), dtype=np.float32)
    for column, name in enumerate(calendar_names(freq)):
        count, of = _FEATURES[name]
        out[:, column] = np.asarray(of(times), dtype=np.float64) / (count - 1) - 0.5
    return out


def times_around(origin: Any, freq: str, start: int, stop: int) -> pd.DatetimeIndex:
    """Timestamps of the steps start .. stop - 1, step 0 being `origin`; both may be negative."""
    after = grid(origin, freq, periods=max(stop, 0))
    if start >= 0:
        return after[start:]
    before = _up_to(origin, freq, 1 - start)[:-1]
    return before[: stop - start].append(after)


def _up_to(origin: Any, freq: str, periods: int) -> pd.DatetimeIndex:
    """The `periods` steps that end at `origin`."""
    pd = _pandas()
    try:
        return pd.date_range(end=origin, periods=periods, freq=freq)
    except Exception:
        if origin.tz is None:
            raise
        # a calendar step onto a wall time that the clocks skip or repeat, as in `data.clock.grid`
        naive = pd.date_range(end=origin.tz_localize(None), periods=periods, freq=freq)
        return naive.tz_localize(origin.tz, nonexistent="shift_forward", ambiguous=np.ones(len(naive), dtype=bool))
