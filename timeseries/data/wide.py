"""Wide tables: one row a time, one column a series (ETT, electricity, most spreadsheets)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.problems import Errors, Problems
from .anchors import anchored
from .clock import grid, localize, zone
from .columns import datetimes, numbers
from .extras import pandas as _pandas
from .rows import stamp
from .tables import in_zone

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TIME_NAMES", "from_wide", "time_column"]

#: Columns that are taken for the time, by their lower-case name, in this order.
TIME_NAMES = ("ds", "date", "datetime", "timestamp", "time", "date_time", "time_stamp")


def time_column(frame: pd.DataFrame) -> Any | None:
    """The column of times: the first of :data:`TIME_NAMES`, else the only one that holds datetimes; None without."""
    pd = _pandas()
    lower = {str(c).strip().lower(): c for c in reversed(list(frame.columns))}
    named = next((lower[name] for name in TIME_NAMES if name in lower), None)
    typed = [c for c in frame.columns if pd.api.types.is_datetime64_any_dtype(frame[c])]
    return named if named is not None else typed[0] if len(typed) == 1 else None


def from_wide(
    frame: pd.DataFrame,
    time_col: str | None = None,
    *,
    columns: Sequence[Any] | None = None,
    freq: str | None = None,
    start: str | None = None,
    tz: str | None = None,
    trim: bool = True,
    errors: Errors = "raise",
) -> pd.DataFrame:
    """A wide table as a long frame ``unique_id, ds, y``; series are called by their columns.

    Args:
        frame: a DatetimeIndex, a column of times, or (with ``freq`` and ``start``) no times at all.
        time_col: the column of times; found by its name (:data:`TIME_NAMES`) or type when None.
        columns: only these series; all other columns when None.
        freq, start: of a table without times: its rows are start, start + freq, ...
        tz: the zone of naive wall times, or the zone to convert to; see :mod:`.clock`.
        trim: leave out what a column has not observed before its first and after its last value (columns of a table
            begin and end together, series do not).
        errors: ``"skip"`` leaves bad columns out and names them.

    Raises:
        TypeError: no data frame, or a column that holds no numbers.
        ValueError: no times, no series, a name that comes twice; times that cannot be read.
    """
    pd = _pandas()
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"expected a pandas DataFrame with one column a series, got {type(frame).__name__}")
    if frame.columns.duplicated().any():
        raise ValueError(f"column {frame.columns[frame.columns.duplicated()][0]!r} comes twice: series need own names")
    problems = Problems(errors, "the wide table")
    if len(frame) == 0:
        raise ValueError("the wide table has no rows")
    ds, time_col = _times(frame, time_col, freq, start, tz)
    pick = [c for c in frame.columns if c != time_col] if columns is None else list(columns)
    lacking = [c for c in pick if c not in frame.columns]
    if lacking or not pick:
        raise ValueError(f"no series {lacking or ''} in the wide table; its columns are {list(frame.columns)}")
    parts = []
    for c in pick:
        with problems.at(f"column {c!r}"):
            column = frame[c].reset_index(drop=True)
            y, _ = numbers(column, c, pd.Series([c] * len(column)))
            seen = np.flatnonzero(~np.isnan(y))
            if len(seen) == 0:
                raise ValueError(f"column {c!r} has no observed value")
            a, b = (int(seen[0]), int(seen[-1]) + 1) if trim else (0, len(y))
            parts.append(pd.DataFrame({"unique_id": [c] * (b - a), "ds": ds[a:b], "y": y[a:b]}))
    problems.done(len(parts), counted=False)
    out = pd.concat(parts, ignore_index=True)
    return out if tz is None else in_zone(out, tz)


def _times(
    frame: pd.DataFrame, time_col: Any, freq: str | None, start: str | None, tz: str | None
) -> tuple[pd.DatetimeIndex, Any]:
    pd = _pandas()
    if time_col is None and isinstance(frame.index, pd.DatetimeIndex | pd.PeriodIndex):
        index = frame.index
        return index.to_timestamp() if isinstance(index, pd.PeriodIndex) else index, None
    time_col = time_column(frame) if time_col is None else time_col
    if time_col is not None:
        if time_col not in frame.columns:
            raise ValueError(f"no column {time_col!r} in the wide table; it has {list(frame.columns)}")
        ds, _ = datetimes(frame[time_col], str(time_col), None, tz)
        _refuse_disorder(ds, time_col, tz)
        return ds, time_col
    if freq is None or start is None:
        raise ValueError(
            f"the wide table has no column of times (looked for {', '.join(TIME_NAMES)}); it has {list(frame.columns)}"
            ": name it with time_col=, or pass freq= and start= for a table without times"
        )
    freq, (first,), _ = anchored(freq, [stamp(start, "the wide table")])
    return grid(first, freq, periods=len(frame)), None


def _refuse_disorder(ds: pd.DatetimeIndex, time_col: Any, tz: str | None) -> None:
    """Trimming needs ascending times; on the wall they may go back once a year, in autumn, when the zone is named."""
    if tz is not None and ds.tz is None:
        ds, _ = localize("the wide table", ds, np.zeros(len(ds), dtype=bool), zone(tz))
    if not ds.is_monotonic_increasing:
        row = int(np.flatnonzero(np.diff(ds.asi8) < 0)[0]) + 1
        raise ValueError(f"column {time_col!r} goes back in row {row + 1} ({ds[row]}): sort the table by time")
