"""Frequencies: pandas aliases, old and new, what they are called, their seasons, and telling one from timestamps.

pandas 3 no longer accepts the old aliases (``H``, ``T``, ``M``, ``Q``, ``A`` ...): :func:`canonical_freq` translates
them with a warning, so that old scripts and old files keep working.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from .extras import pandas as _pandas

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LEGACY", "SEASON", "canonical_freq", "freq_words", "infer_freq", "season_length", "steps_between"]

#: Old pandas alias -> the one that pandas >= 2.2 and 3 accept. Aliases that never changed (``B``, ``D``, ``W``, ``h``,
#: ``min``, ``MS`` ...) are not here.
LEGACY = {
    "H": "h", "T": "min", "S": "s", "L": "ms", "U": "us", "N": "ns", "BH": "bh", "CBH": "cbh",
    "M": "ME", "BM": "BME", "CBM": "CBME", "SM": "SME", "Q": "QE", "BQ": "BQE", "A": "YE", "Y": "YE",
    "BA": "BYE", "BY": "BYE", "AS": "YS", "BAS": "BYS", "d": "D", "b": "B", "w": "W", "q": "QE", "y": "YE",
}  # fmt: skip

#: Steps in one season, by frequency without multiplier and anchor.
SEASON = {"h": 24, "min": 1440, "s": 3600, "B": 5, "D": 7, "W": 52, "ME": 12, "MS": 12, "BME": 12, "QE": 4, "QS": 4}

#: Words that are no alias -> the one that is meant.
_SPOKEN = {
    "hourly": "h", "hour": "h", "daily": "D", "day": "D", "weekly": "W-SUN", "week": "W-SUN", "monthly": "MS",
    "month": "MS", "quarterly": "QS", "quarter": "QS", "yearly": "YS", "annual": "YS", "year": "YS", "minute": "min",
    "minutely": "min", "second": "s", "business": "B", "weekday": "B", "half_hourly": "30min",
}  # fmt: skip

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")


def canonical_freq(freq: str, *, warn: bool = True) -> str:
    """A frequency alias as pandas >= 2.2 spells it: ``"H"`` -> ``"h"``, ``"15T"`` -> ``"15min"``, ``"M"`` -> ``"ME"``.

    Args:
        freq: a pandas offset alias, old or new, with an optional multiplier and anchor (``"2W-MON"``).
        warn: say that an old alias was translated (files that name one are read without).

    Raises:
        TypeError: ``freq`` is not a string.
        ValueError: pandas does not know it; the message lists the usual ones.

    Warns:
        FutureWarning: an alias that pandas 3 has removed was translated.
    """
    if not isinstance(freq, str):
        raise TypeError(f"freq must be a pandas alias such as 'h' or 'D', got {freq!r} of type {type(freq).__name__}")
    pd = _pandas()
    match = re.fullmatch(r"\s*(\d*)\s*([A-Za-z]+)(-[A-Za-z0-9]+)?\s*", freq)
    text = freq.strip()
    if match:
        count, name, anchor = match.groups()
        count = count.lstrip("0") or count  # "0h" stays, and is refused
        text = f"{'' if count == '1' else count}{LEGACY.get(name, name)}{anchor or ''}"
        if warn and name in LEGACY:
            what = "is deprecated" if name in ("b", "d", "w") else "was removed"
            warnings.warn(
                f"frequency alias {freq!r} {what} in pandas 3; reading it as {text!r}", FutureWarning, stacklevel=2
            )
    try:
        offset = pd.tseries.frequencies.to_offset(text)
        if offset is None or offset.n < 1:
            raise ValueError("no step")
    except Exception as error:
        alias = _SPOKEN.get(text.lower().removesuffix("s"))
        hint = f"; did you mean {alias!r}?" if alias else ""
        raise ValueError(
            f"unknown frequency {freq!r}{hint}: expected a pandas alias such as 's', 'min', '15min', 'h', 'D', 'B', "
            "'W-SUN', 'MS', 'ME', 'QE', 'YE'"
        ) from error
    return str(offset.freqstr)


def season_length(freq: str) -> int:
    """Steps in the main season of a frequency: 24 for hourly, 7 for daily, 5 for business days, 12 for monthly; else 1.

    A multiplier divides (``"2h"`` -> 12, ``"15min"`` -> 96) when it divides exactly; otherwise the season is 1.
    """
    match = re.fullmatch(r"(\d*)([A-Za-z]+)(-.+)?", canonical_freq(freq))
    if match is None:
        return 1
    count, base = int(match.group(1) or 1), SEASON.get(match.group(2), 1)
    return base // count if base % count == 0 else 1


_WORDS = {
    "s": ("by the second", "seconds"), "min": ("by the minute", "minutes"), "h": ("hourly", "hours"),
    "D": ("daily", "days"), "B": ("of business days", "business days"), "W": ("weekly", "weeks"),
    "MS": ("monthly", "months"), "ME": ("monthly", "months"), "BME": ("monthly", "months"),
    "QS": ("quarterly", "quarters"), "QE": ("quarterly", "quarters"),
    "YS": ("yearly", "years"), "YE": ("yearly", "years"),
}  # fmt: skip


def freq_words(freq: str) -> str:
    """A frequency for people: ``"h"`` -> ``"hourly ('h')"``, ``"15min"`` -> ``"every 15 minutes ('15min')"``."""
    match = re.fullmatch(r"(\d*)([A-Za-z]+)(-.+)?", freq)
    if match is None or match.group(2) not in _WORDS:
        return f"of step {freq!r}"
    one, many = _WORDS[match.group(2)]
    return f"every {match.group(1)} {many} ({freq!r})" if match.group(1) else f"{one} ({freq!r})"


def _from_step(seconds: float) -> str | None:
    for unit, size in (("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= size and seconds % size == 0:
            n = int(seconds // size)
            return unit if n == 1 else f"{n}{unit}"
    return None


def infer_freq(ds: pd.DatetimeIndex, name: str = "the series") -> str:
    """The frequency of sorted, unique timestamps that may have holes.

    The most common difference decides; days are told from business days, and months, quarters and years from fixed
    numbers of days, by the calendar. What is inferred is not yet checked: :func:`to_panel` does.

    Args:
        ds: timestamps, ascending.
        name: how to name the series in an error.

    Raises:
        ValueError: fewer than 3 timestamps, or no regular step fits.
    """
    if len(ds) < 3:
        raise ValueError(
            f"{name}: cannot infer a frequency from {len(ds)} timestamps (3 needed); pass freq= such as 'h' or 'D'"
        )
    steps = Counter(np.diff(ds.tz_localize(None).to_numpy()).astype("timedelta64[us]").astype(np.int64).tolist())
    seconds = max(steps, key=lambda k: (steps[k], -k)) / 1e6
    day = 86400.0
    naive = ds.tz_localize(None)
    midnight = bool((naive == naive.normalize()).all())
    if seconds % day == 0 and midnight:
        days = int(seconds // day)
        if days == 1:
            weekdays = int(max(naive.day_of_week)) < 5
            return "B" if weekdays and (naive[-1] - naive[0]).days >= 7 else "D"
        if days == 7:
            return f"W-{_DAYS[int(naive[0].day_of_week)]}"
        first = int(naive[0].month)
        for low, high, start, end in ((28, 31, "MS", "ME"), (89, 92, "QS", "QE"), (365, 366, "YS", "YE")):
            if low <= days <= high:
                # quarters that begin in January, April, July and October are all QS-JAN, and so on
                anchors = (1 + (first - 1) % 3, 12 - (12 - first) % 3) if start == "QS" else (first, first)
                for starts, alias, month in ((True, start, anchors[0]), (False, end, anchors[1])):
                    if bool((naive.is_month_start if starts else naive.is_month_end).all()):
                        return alias if alias in ("MS", "ME") else f"{alias}-{_MONTHS[month - 1]}"
        return f"{days}D"
    found = _from_step(seconds)
    if found is None:
        raise ValueError(f"{name}: no regular step fits (most common difference {seconds} s); pass freq=")
    return found


def steps_between(start: pd.Timestamp, end: pd.Timestamp, freq: str) -> int:
    """How many steps of ``freq`` lead from ``start`` to ``end`` (both on the grid; negative when ``end`` is earlier).

    Raises:
        ValueError: ``end`` is not on the grid of ``start``.
    """
    if end < start:
        return -steps_between(end, start, freq)
    grid = _pandas().date_range(start, end, freq=freq)
    if len(grid) == 0 or grid[0] != start or grid[-1] != end:
        raise ValueError(f"{end} is not on the grid that starts at {start} with step {freq!r}")
    return len(grid) - 1
