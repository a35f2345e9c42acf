r"""Covariates that are known of the future: prices, holidays, weather forecasts.

A frame in the long layout, ``unique_id, ds`` and the named columns, says what each covariate is at each step of each
series, through the last step that is to be forecast. The columns stand in the data frame itself, beside ``y``, or in a
frame of their own (``covariates=``), or the past in the one and the future in the other: where both have a row, the
frame of its own is right.

What a covariate *will* be must be known, or it is no such covariate: nothing is filled in. A series that is not there,
a step without a value, a horizon that is not covered are errors that name them; rows at other times than the steps are
not read. Before the first step of a series (a context that reaches further back) a value is used where there is one,
and the mean where there is none.

The model sees z = (c - m) / s of each column, with the mean m and the population standard deviation s of the training
steps of all series (:class:`Standard`); these travel in the checkpoint. A column that was constant has s = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .calendar import calendar_features, times_around
from .data import Panel, _pandas
from .data.columns import datetimes, numbers

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Exogenous", "Known", "Standard", "check_columns", "read_known"]

_TAKEN = ("unique_id", "ds", "y")


def check_columns(columns: Any) -> tuple[str, ...]:
    """The names of covariates, as a tuple.

    Raises:
        TypeError: not names. ValueError: one comes twice, or is the name of another column of a long frame.
    """
    if isinstance(columns, str) or not all(isinstance(c, str) for c in columns):
        raise TypeError(f"covariates are column names such as ('price', 'holiday'), got {columns!r}")
    columns = tuple(columns)
    if len(set(columns)) < len(columns):
        raise ValueError(f"a covariate is named twice: {columns}")
    taken = [c for c in columns if c in _TAKEN]
    if taken:
        raise ValueError(f"{taken[0]!r} cannot be a covariate: it is the column of the {_meaning(taken[0])}")
    return columns


def _meaning(column: str) -> str:
    return {"unique_id": "series' names", "ds": "times", "y": "values to be forecast"}[column]


@dataclass(frozen=True)
class Known:
    """The covariates of series, as they were read.

    Attributes:
        columns: their names.
        series: by name, the times (ascending, each once) and the values, float64 (n, K); NaN where a cell is empty.
    """

    columns: tuple[str, ...]
    series: dict[Any, tuple[pd.DatetimeIndex, np.ndarray]]

    def over(self, other: Known) -> Known:
        """These values, and those of `other` where there are none."""
        merged = dict(other.series)
        for u, (times, values) in self.series.items():
            if u in merged:
                earlier, below = merged[u]
                _same_clock(u, times, earlier)
                every = times.union(earlier)
                out = np.full((len(every), len(self.columns)), np.nan)
                out[every.get_indexer(earlier)] = below
                where = every.get_indexer(times)
                out[where] = np.where(np.isnan(values), out[where], values)
                times, values = every, out
            merged[u] = (times, values)
        return Known(self.columns, merged)

    def on(self, panel: Panel, i: int, start: int, stop: int) -> np.ndarray:
        """The values at the steps start .. stop - 1 of series ``i``, float64 (stop - start, K).

        `start` may be negative (before the series: NaN where nothing is known), `stop` beyond its end (the horizon).

        Raises:
            ValueError: the series is not there; a step from 0 on has no value. Both named, with the first timestamp.
        """
        u, n = panel.ids[i], len(panel.values[i])
        if u not in self.series:
            raise ValueError(
                f"the covariates {list(self.columns)} have no row of series {u!r}; they have "
                f"{len(self.series)} series: {', '.join(repr(v) for v in list(self.series)[:5])}"
            )
        times, values = self.series[u]
        steps = times_around(panel.starts[i], panel.freq, start, stop)
        _same_clock(u, times, steps)
        where = times.get_indexer(steps)
        out = np.where((where >= 0)[:, None], values[where], np.nan)
        empty = np.isnan(out) & (np.arange(start, stop) >= 0)[:, None]
        for k in np.flatnonzero(empty.any(0)):
            raise self._lacking(u, k, np.flatnonzero(empty[:, k]), steps, n - start)
        return out

    def _lacking(self, u: Any, k: Any, empty: np.ndarray, steps: pd.DatetimeIndex, origin: int) -> ValueError:
        """The error of a column without values at the positions `empty` of `steps`; the horizon begins at `origin`."""
        column = self.columns[k]
        ahead = len(steps) - origin
        if empty[0] >= origin and len(empty) == len(steps) - empty[0]:  # it ends before the horizon does
            return ValueError(
                f"the covariate {column!r} of series {u!r} does not cover the horizon: {len(empty)} of {ahead} steps "
                f"are missing, from {steps[empty[0]]} to {steps[-1]}: give them in covariates="
            )
        return ValueError(
            f"the covariate {column!r} of series {u!r} has no value at {steps[empty[0]]} ({len(empty)} such steps): "
            "what is known of the future must be known at every step, those without y too; fill it in, or give the "
            "steps in covariates="
        )


def _same_clock(name: Any, one: pd.DatetimeIndex, other: pd.DatetimeIndex) -> None:
    if (one.tz is None) != (other.tz is None):
        raise ValueError(
            f"series {name!r}: the times of its values and of its covariates must both have a time zone, or neither; "
            f"one starts at {one[0]}, the other at {other[0]}"
        )


def read_known(frame: Any, columns: Sequence[str], what: str = "covariates=") -> Known:
    """The covariates in a long frame.

    Args:
        frame: ``unique_id, ds`` and the columns; others are ignored, rows in any order. Columns hold numbers, or True
            and False; an empty cell is allowed where it is not needed.
        columns: which.
        what: the frame's name in errors.

    Raises:
        TypeError: not a frame, or columns that do not hold numbers.
        ValueError: missing columns (named, beside those that are there), rows without a name or time, duplicates,
            infinite values.
    """
    pd = _pandas()
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(
            f"{what} must be a pandas DataFrame with unique_id, ds and {list(columns)}, got {type(frame).__name__}"
        )
    lacking = [c for c in ("unique_id", "ds", *columns) if c not in frame.columns]
    if lacking:
        raise ValueError(
            f"the model's covariates {list(columns)} are looked for in {what}, where the columns {lacking} are "
            f"missing; it has {list(frame.columns)}"
        )
    names = frame["unique_id"]
    if names.isna().any():
        raise ValueError(f"{what}: {int(names.isna().sum())} rows have no unique_id")
    times = datetimes(frame["ds"], "ds")[0]
    values = np.empty((len(frame), len(columns)))
    for k, c in enumerate(columns):
        column = frame[c]
        flag = pd.api.types.is_bool_dtype(column)
        values[:, k] = numbers(column.astype("Float64") if flag else column, c, names)[0]
    infinite = np.isinf(values)
    if infinite.any():
        row, k = (int(v) for v in np.argwhere(infinite)[0])
        raise ValueError(f"the covariate {columns[k]!r} of series {names.iloc[row]!r} is infinite at {times[row]}")
    which, ids = pd.factorize(names)
    order = np.lexsort((times.asi8, which))
    bounds = np.searchsorted(which[order], np.arange(len(ids) + 1))
    series: dict[Any, tuple[Any, np.ndarray]] = {}
    for k, u in enumerate(ids):
        rows = order[bounds[k] : bounds[k + 1]]
        own, u = times[rows], u.item() if isinstance(u, np.generic) else u
        if own.has_duplicates:
            raise ValueError(f"{what}: series {u!r} has two rows at {own[own.duplicated()][0]}: one value a step")
        series[u] = (own, values[rows])
    return Known(tuple(columns), series)


@dataclass(frozen=True)
class Standard:
    """Mean and standard deviation of each covariate over the training steps.

    Attributes:
        mean, std: (K,); std is 1 where a column was constant.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @classmethod
    def of(cls, values: Sequence[np.ndarray]) -> Standard:
        """Of the values (n_i, K) of all series."""
        every = np.concatenate(list(values))
        mean, std = every.mean(0), every.std(0)
        flat = std <= 1e-10 * np.maximum(1.0, np.abs(mean))
        return cls(tuple(float(v) for v in mean), tuple(float(v) for v in np.where(flat, 1.0, std)))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """z (n, K), float32; the mean, 0, where a value is NaN."""
        z = (values - np.array(self.mean)) / np.array(self.std)
        return np.where(np.isnan(z), 0.0, z).astype(np.float32)


@dataclass(frozen=True)
class Exogenous:
    """All that is known of the future of a panel: calendar features, then standardised covariates.

    Attributes:
        calendar: whether calendar features are there.
        known: the covariates, None without.
        standard: mean and deviation of each.
    """

    calendar: bool
    known: Known | None = None
    standard: Standard = Standard()

    def on(self, panel: Panel, i: int, start: int, stop: int) -> np.ndarray:
        """The features at the steps start .. stop - 1 of series ``i``, float32 (stop - start, K); see `Known.on`."""
        parts = [np.empty((stop - start, 0), dtype=np.float32)]
        if self.calendar:
            times = times_around(panel.starts[i], panel.freq, start, stop)
            parts.append(calendar_features(times, panel.freq))
        if self.known is not None:
            parts.append(self.standard(self.known.on(panel, i, start, stop)))
        return np.concatenate(parts, axis=1)
