"""Calendar frequencies for data that name a period and a first instant.

A data frame has instants: a monthly series stamped on the last days is ``ME``, on the first days ``MS``. GluonTS and
the Monash archive name *periods* (``M``, "monthly") beside one start, which may be any instant of the first period. On
the grid of ``ME`` no series can start on 1 January, so the alias must be chosen by the starts: the first of

    weeks      W-<weekday of the first start>
    months     MS, ME
    quarters   QS-<month of the first start>, QE-<the same>
    years      YS-<month of the first start>, YE-<the same>

on whose grid all starts lie. Where none fits, weeks become ``7D``, and other starts move back to the first day of
their period, and the caller is told which ones did. Hours, minutes and days lie on every grid; a business-day series
cannot start on a Sunday.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .extras import pandas as _pandas
from .frequencies import _DAYS, _MONTHS, canonical_freq

__all__ = ["anchored"]

_FAMILY = {"W": "W", "ME": "M", "MS": "M", "QE": "Q", "QS": "Q", "YE": "Y", "YS": "Y"}


def _choices(family: str, first: Any) -> list[str]:
    month = _MONTHS[first.month - 1]
    return {
        "W": [f"W-{_DAYS[first.day_of_week]}"],
        "M": ["MS", "ME"],
        "Q": [f"QS-{month}", f"QE-{month}"],
        "Y": [f"YS-{month}", f"YE-{month}"],
    }[family]


def anchored(freq: str, starts: Sequence[Any]) -> tuple[str, tuple[Any, ...], list[int]]:
    """A frequency of the same step on whose grid the first timestamps lie.

    Args:
        freq: pandas alias, old or new. starts: timestamps, one a series.

    Returns:
        the alias; the starts; the positions of those that had to move to the first day of their period.

    Raises:
        ValueError: a start is off the grid of a frequency that has no periods (a Sunday for ``B``), or ``freq`` is
            unknown.
    """
    to_offset = _pandas().tseries.frequencies.to_offset
    freq = canonical_freq(freq, warn=False)  # the file says it, the user cannot change it

    def off(alias: str) -> list[int]:
        offset = to_offset(alias)
        return [i for i, s in enumerate(starts) if not offset.is_on_offset(s)]

    wrong = off(freq)
    if not wrong:
        return freq, tuple(starts), []
    match = re.fullmatch(r"(\d*)([A-Za-z]+)(-.+)?", freq)
    count, family = (match.group(1), _FAMILY.get(match.group(2))) if match else ("", None)
    if family is None:
        bad = starts[wrong[0]]
        raise ValueError(
            f"a series of step {freq!r} cannot start at {bad} ({bad:%A}): give the first timestamp that it has"
        )
    choices = [f"{count}{alias}" for alias in _choices(family, starts[wrong[0]])]
    fitting = next((alias for alias in choices if not off(alias)), None)
    if fitting is not None:
        return fitting, tuple(starts), []
    if family == "W":
        return f"{7 * int(count or 1)}D", tuple(starts), []
    alias = {"M": f"{count}MS", "Q": f"{count}QS-JAN", "Y": f"{count}YS-JAN"}[family]
    single = to_offset(alias.removeprefix(count))
    moved = off(alias)
    return alias, tuple(single.rollback(s) if i in set(moved) else s for i, s in enumerate(starts)), moved
