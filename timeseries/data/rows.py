"""From rows of (name, start, values), as the field's files have them, to a panel.

The formats of benchmarks (GluonTS, Monash, M4, LSTNet) store a series as its first timestamp and a list. Missing values
are NaN, ``null``, ``"NaN"`` or ``?``; the frequency is the file's, anchored to the starts (:mod:`.anchors`).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...core.problems import Problems
from .anchors import anchored
from .columns import too_large
from .extras import pandas as _pandas
from .panel import Panel

__all__ = ["MOCK_START", "from_rows", "stamp", "values_of"]

#: The start that GluonTS gives to series whose files have no dates: the earliest century that pandas can hold.
MOCK_START = "1750-01-01 00:00:00"

_MISSING = ("", "?", "na", "nan", "null", "none")


def values_of(target: Any, where: str) -> np.ndarray:
    """A list of numbers as float64 (n,) (or (K, n)); None, "NaN", "NA" and "?" are NaN.

    Raises:
        TypeError: something that is no number, with its position. ValueError: integers beyond 2^53, or no list.
    """
    try:
        array = np.asarray(target)
    except ValueError:
        raise ValueError(f"{where}: its values are lists of different lengths") from None
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"{where} has no list of values, got {target!r}")
    if array.dtype.kind in "iu" and int(np.abs(array.astype(np.float64)).max()) > 2**53:
        raise ValueError(too_large(where, array.flat[int(np.abs(array.astype(np.float64)).argmax())]))
    if array.dtype.kind in "iuf":
        return array.astype(np.float64)
    if array.ndim > 1:
        return np.stack([values_of(row, where) for row in target])
    out = np.empty(len(array))
    for k, v in enumerate(target):
        if v is None or (isinstance(v, str) and v.strip().lower() in _MISSING):
            out[k] = np.nan
        elif isinstance(v, bool):
            raise TypeError(f"{where}: value {k + 1} is {v!r}, expected a number (or null where nothing was observed)")
        else:
            try:
                out[k] = float(v)
            except (TypeError, ValueError):
                raise TypeError(
                    f"{where}: value {k + 1} is {v!r}, expected a number (or null where nothing was observed)"
                ) from None
            if isinstance(v, int) and abs(v) > 2**53:
                raise ValueError(too_large(where, v))
    return out


def stamp(value: Any, where: str) -> Any:
    """A start as a timestamp: text, a timestamp, a period (its first instant).

    Raises:
        ValueError: it cannot be read.
    """
    pd = _pandas()
    if isinstance(value, pd.Period):
        return value.to_timestamp()
    try:
        if isinstance(value, int | float | bool):
            raise ValueError("a number")
        out = pd.Timestamp(value)
        if pd.isna(out):
            raise ValueError("no time")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: start {value!r} cannot be read as a time; write '2024-01-31 23:00:00'") from error
    return out


def from_rows(rows: Sequence[tuple[Any, Any, np.ndarray]], freq: str, problems: Problems, stacklevel: int = 4) -> Panel:
    """A :class:`Panel` of rows (name, start, values).

    Args:
        rows: names may come again. freq: pandas alias, old or new, anchored to the starts.
        problems: where bad series go.

    Raises:
        ValueError: no rows, infinite or no values, starts in several zones or off the frequency, an unknown frequency.

    Warns:
        UserWarning: starts were moved to the first day of their period.
    """
    good = []
    for u, start, v in rows:
        with problems.at(f"series {u!r}"):
            if np.isinf(v).any():
                k = int(np.flatnonzero(np.isinf(v))[0])
                raise ValueError(f"series {u!r} is infinite at step {k + 1}: write NaN for 'not observed'")
            if np.isnan(v).all():
                raise ValueError(f"series {u!r} has no observed value")
            good.append((u, start, v))
    if not good and not problems.found:
        raise ValueError(f"{problems.source} holds no series")
    if len({str(s.tz) for _, s, _ in good}) > 1:
        raise ValueError(
            f"{problems.source} mixes time zones: {sorted({str(s.tz) for _, s, _ in good})}: convert all starts to one"
        )
    if problems.skip:
        good = [row for row in good if _fits(row, freq, problems)]
    skipped = problems.done(len(good), stacklevel, counted=False)
    freq, starts, moved = anchored(freq, [s for _, s, _ in good])
    if moved:
        i = moved[0]
        warnings.warn(
            f"{problems.source}: {len(moved)} series start inside a period of {freq!r} and are dated from its first "
            f"day, e.g. series {good[i][0]!r}: {good[i][1]} -> {starts[i]}",
            stacklevel=stacklevel,
        )
    return Panel(tuple(u for u, _, _ in good), starts, tuple(v for _, _, v in good), freq, skipped)


def _fits(row: tuple[Any, Any, np.ndarray], freq: str, problems: Problems) -> bool:
    before = len(problems.found)
    with problems.at(f"series {row[0]!r}"):
        anchored(freq, [row[1]])
    return len(problems.found) == before
