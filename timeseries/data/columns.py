"""The three columns of a long frame, checked: names, times, numbers.

Every message says what came, in which row (counted from 1, without the header) and series, and what to do. Under
``errors="skip"`` a bad cell takes its row with it.
"""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.problems import Problems
from .clock import localize, zone
from .extras import pandas as _pandas

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Series", "datetimes", "numbers", "series_of", "too_large"]

#: (name, ascending timestamps, values)
Series = tuple[Any, Any, np.ndarray]


def series_of(
    df: pd.DataFrame,
    id_col: str,
    time_col: str,
    target_col: str,
    mask_col: str | None,
    tz: str | None,
    problems: Problems,
) -> list[Series]:
    """The checked series of a frame, in order of first appearance. Arguments and errors: see :func:`.to_panel`."""
    pd = _pandas()
    if not isinstance(df, pd.DataFrame):
        raise TypeError(f"expected a pandas DataFrame with columns unique_id, ds, y; got {type(df).__name__}")
    wanted = [id_col, time_col, target_col] + ([] if mask_col is None else [mask_col])
    lacking = [c for c in wanted if c not in df.columns]
    if lacking:
        index = [c for c in lacking if c in df.index.names]
        hint = f"; {index} are in the index: use reset_index()" if index else ""
        raise ValueError(
            f"columns {lacking} are missing; the frame has {list(df.columns)}: rename them (in Python, "
            f"id_col=, time_col= and target_col= name others){hint}"
        )
    if len(df) == 0:
        raise ValueError("the data frame has no rows")
    tz = None if tz is None else zone(tz)
    bad = df[id_col].isna().to_numpy()
    if bad.any():
        if not problems.skip:
            raise ValueError(f"{int(bad.sum())} rows have no {id_col}")
        _note(problems, bad, f"no {id_col}")
    names = df[id_col]
    ds, lost = datetimes(df[time_col], time_col, problems, tz)
    y, wrong = numbers(df[target_col], target_col, names, problems)
    if mask_col is not None:
        y, contrary = _masked(y, df[mask_col], mask_col, names, ~(bad | lost | wrong), problems)
        wrong |= contrary
    kept = np.flatnonzero(~(bad | lost | wrong))
    ids, first = pd.factorize(names.iloc[kept])[::-1]
    order = np.argsort(first, kind="stable")
    bounds = np.searchsorted(first[order], np.arange(len(ids) + 1))
    parts: list[Series] = []
    for k, u in enumerate(ids):
        rows = kept[order[bounds[k] : bounds[k + 1]]]
        name = u.item() if isinstance(u, np.generic) else u
        with problems.at(f"series {name!r}"):
            parts.append(_ordered(name, ds[rows], y[rows], tz, problems))
    return parts


def _ordered(name: Any, t: pd.DatetimeIndex, y: np.ndarray, tz: str | None, problems: Problems) -> Series:
    """One series by ascending, unique timestamps."""
    if tz is not None:
        seen, wall = ~np.isnan(y), t
        t, keep = localize(name, t, seen & (not problems.skip), tz)
        for time in wall[~keep & seen]:
            problems.add(f"series {name!r}, {time}", f"does not exist in {tz}, the clocks jumped over it")
        y = y[keep]
        if len(t) == 0:
            raise ValueError(f"series {name!r} has no observed value")
    rows = np.argsort(t.asi8, kind="stable")
    t, y = t[rows], y[rows]
    if t.has_duplicates:
        twice = t[t.duplicated()]
        raise ValueError(
            f"series {name!r} has duplicate timestamps, first {twice[0]} ({len(twice)} in all): aggregate or drop them"
            + _autumn(t, twice)
        )
    return name, t, y


def _autumn(t: pd.DatetimeIndex, twice: pd.DatetimeIndex) -> str:
    """A hint where the duplicates look like the repeated hour of the end of daylight saving."""
    once_a_year = twice.normalize().unique()
    early = bool((twice.hour <= 3).all()) and bool((t.hour != 0).any())
    if t.tz is not None or not early or len(once_a_year.year.unique()) < len(once_a_year) or twice.has_duplicates:
        return ""
    return "; if this is the hour that the clocks repeat in autumn, name the zone: tz='Europe/Berlin'"


def _cell(column: pd.Series, row: int) -> Any:
    """A cell for a message: ``3``, not ``np.int64(3)``."""
    value = column.iloc[row]
    return value.item() if isinstance(value, np.generic) and not isinstance(value, np.datetime64) else value


def _note(problems: Problems, bad: np.ndarray, why: str) -> None:
    for row in np.flatnonzero(bad):
        problems.add(f"row {row + 1}", why)


def datetimes(
    column: pd.Series, name: str, problems: Problems | None = None, tz: str | None = None
) -> tuple[pd.DatetimeIndex, np.ndarray]:
    """The times of a column, and which rows have none that can be read (always none, unless they are skipped).

    Raises:
        TypeError: not times. ValueError: missing times, two ways to write them, or several zones without ``tz``.
    """
    pd = _pandas()
    problems = problems or Problems()
    nothing = np.zeros(len(column), dtype=bool)
    if isinstance(column.dtype, pd.PeriodDtype):
        column = column.dt.to_timestamp()
    if pd.api.types.is_numeric_dtype(column):
        raise TypeError(f"column {name!r} must hold datetimes, got {column.dtype}: convert with pandas.to_datetime")
    try:
        index = _parsed(column, utc=False)
    except (ValueError, TypeError, FutureWarning) as error:
        if tz is not None and "" not in _offsets(column)[0]:
            try:
                return _parsed(column, utc=True).tz_convert(tz), nothing
            except (ValueError, TypeError):
                pass
        if not problems.skip:
            raise _unreadable(column, name, error) from error
        index = _coerced(column, name, error)
        bad = np.asarray(index.isna())
        for row in np.flatnonzero(bad).tolist():
            problems.add(
                f"row {row + 1}", f"column {name!r} holds {_cell(column, row)!r}, which is no time like the others"
            )
        return index, bad
    if index.hasnans:
        if not problems.skip:
            raise ValueError(f"{int(index.isna().sum())} rows have no {name}")
        nothing = np.asarray(index.isna())
        _note(problems, nothing, f"no {name}")
    return index, nothing


def _parsed(column: pd.Series, utc: bool) -> pd.DatetimeIndex:
    pd = _pandas()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "could not infer format": the error says more
        warnings.simplefilter("error", FutureWarning)  # pandas 2 only warns about mixed offsets
        return pd.DatetimeIndex(pd.to_datetime(column, utc=utc))


_OFFSET = r"(?:[T ]\d{2}|:\d{2}(?:[.,]\d+)?)\s*(Z|UTC|[+-]\d{2}:?\d{2})$"


def _offsets(column: pd.Series) -> tuple[set[str], int | None]:
    """How the readable times end ("" without an offset, else "Z", "+01:00" ...), and the first row that is none."""
    pd = _pandas()
    readable = pd.to_datetime(column, errors="coerce", format="mixed", utc=True).notna().to_numpy()
    wrong = np.flatnonzero(~readable & column.notna().to_numpy())
    ends = column[readable].astype(str).str.extract(_OFFSET, expand=False).fillna("").unique()
    return set(ends), int(wrong[0]) if len(wrong) else None


def _zones(name: str) -> ValueError:
    return ValueError(
        f"column {name!r} mixes time zones (or naive and aware times): convert all of it to one, "
        "e.g. pandas.to_datetime(..., utc=True), or, where every time has its offset, name the zone: tz='Europe/Berlin'"
    )


def _unreadable(column: pd.Series, name: str, error: Exception) -> Exception:
    aware, wrong = _offsets(column)
    other = re.search(r'time data "([^"]*)"', str(error))
    if wrong is not None:
        return TypeError(
            f"column {name!r} cannot be read as datetimes: row {wrong + 1} holds {_cell(column, wrong)!r}; write times "
            "such as '2024-01-31 23:00'"
        )
    if len(aware) == 1 and other:
        row = int(np.argmax((column.astype(str) == other.group(1)).to_numpy()))
        return ValueError(
            f"column {name!r} mixes two ways to write dates: row 1 holds {_cell(column, 0)!r}, row {row + 1} "
            f"{_cell(column, row)!r}: write all of them alike, such as '2024-01-31 23:00'"
        )
    return _zones(name) if len(aware) > 1 else TypeError(f"column {name!r} cannot be read as datetimes: {error}")


def _coerced(column: pd.Series, name: str, error: Exception) -> pd.DatetimeIndex:
    """Times, NaT where a cell is not written like the first readable one."""
    pd = _pandas()
    if len(_offsets(column)[0]) > 1:  # no cell is more right than another
        raise _zones(name) from error
    text = column.reset_index(drop=True)
    for row in range(len(text)):
        stamp = pd.to_datetime(text.iloc[row], errors="coerce")
        if not pd.isna(stamp):  # it leads, so that pandas takes its way of writing
            lead = pd.concat([text.iloc[row : row + 1], text], ignore_index=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return pd.DatetimeIndex(pd.to_datetime(lead, errors="coerce"))[1:]
    raise _unreadable(column, name, error) from error


def numbers(
    column: pd.Series, name: str, series: pd.Series, problems: Problems | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The values of a column as float64, and which rows hold none that can be read (none, unless they are skipped).

    Raises:
        TypeError: not real numbers. ValueError: integers that float64 cannot represent.
    """
    pd = _pandas()
    problems = problems or Problems()
    wrong = np.zeros(len(column), dtype=bool)
    numeric = pd.api.types.is_numeric_dtype(column)
    if not numeric or pd.api.types.is_bool_dtype(column) or pd.api.types.is_complex_dtype(column):
        if not numeric:
            as_number = pd.to_numeric(column, errors="coerce")
            flags = column.map(lambda v: isinstance(v, bool | np.bool_ | complex)).to_numpy(dtype=bool)
            wrong = (as_number.isna() & column.notna()).to_numpy() | flags
        if not problems.skip or numeric:
            row = int(np.argmax(wrong))  # the first that is no number, else the first of all
            raise TypeError(
                f"column {name!r} must hold real numbers, got {column.dtype}: row {row + 1} (series "
                f"{_cell(series, row)!r}) holds {_cell(column, row)!r}; leave the cell empty where nothing was observed"
            )
        for row in np.flatnonzero(wrong).tolist():
            why = f"{name!r} holds {_cell(column, row)!r}, which is no number (series {_cell(series, row)!r})"
            problems.add(f"row {row + 1}", why)
        column = as_number
    if pd.api.types.is_integer_dtype(column):
        big = ((column > 2**53) | (column < -(2**53))).fillna(False).to_numpy(dtype=bool)
        if big.any():
            message = too_large(f"column {name!r}", column[big].iloc[0])
            if not problems.skip:
                raise ValueError(message)
            _note(problems, big, message)
            wrong |= big
    y = np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)
    if problems.skip and np.isinf(y).any():
        for row in np.flatnonzero(np.isinf(y)).tolist():
            problems.add(f"row {row + 1}", f"{name!r} is infinite (series {_cell(series, row)!r})")
        wrong |= np.isinf(y)
    return y, wrong


def too_large(where: str, value: Any) -> str:
    """The message for integers that float64 cannot represent."""
    return f"{where} holds integers beyond 2^53 (first {value}): float64 cannot represent them, rescale the unit"


def _masked(
    y: np.ndarray, mask: pd.Series, name: str, series: pd.Series, good: np.ndarray, problems: Problems
) -> tuple[np.ndarray, np.ndarray]:
    """Values with NaN where the mask says "not observed", and which rows say "observed" of a missing value."""
    allowed = mask.map(lambda v: v in (0, 1)).to_numpy(dtype=bool)
    if not allowed.all():
        row = int(np.argmin(allowed))
        raise TypeError(
            f"column {name!r} must hold True (observed) or False, or 1 and 0; row {row + 1} holds {_cell(mask, row)!r}"
        )
    observed = mask.to_numpy(dtype=bool)
    contrary = observed & np.isnan(y) & good
    if contrary.any():
        row = int(np.argmax(contrary))
        message = (
            f"mask and NaN disagree: column {name!r} says that row {row + 1} (series {_cell(series, row)!r}) was "
            "observed, its value is missing"
        )
        if not problems.skip:
            raise ValueError(f"{message} ({int(contrary.sum())} such rows)")
        for k in np.flatnonzero(contrary).tolist():
            problems.add(f"row {k + 1}", f"{name!r} says observed, the value is missing (series {_cell(series, k)!r})")
    return np.where(observed, y, np.nan), contrary
