"""The csv pairs of the M4 competition: ``Hourly-train.csv``, ``Hourly-test.csv`` (Daily, Weekly ...), ``M4-info.csv``.

One series a row: its id in the first column (``V1``), then the values; short rows are padded at the end. The files have
no dates. As GluonTS builds its data sets (``m4_hourly`` ...), every series starts on 1750-01-01 00:00:00, the test
series are the training series with the horizon behind, and yearly series of more than 300 years are left out. Calendar
features of such dates mean nothing. With ``info``, the competition's list of true first dates (written day-month-year,
two digits; years after 2018 are of the century before), the series have those.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...core.files import existing
from ...core.problems import Errors, Problems
from .extras import exact_floats
from .extras import pandas as _pandas
from .panel import Panel
from .rows import MOCK_START, from_rows

__all__ = ["M4", "m4_group", "m4_pair", "read_m4"]

#: Group -> (frequency, horizon).
M4 = {
    "Hourly": ("h", 48),
    "Daily": ("D", 14),
    "Weekly": ("W", 13),
    "Monthly": ("MS", 18),
    "Quarterly": ("QS", 8),
    "Yearly": ("YS", 6),
}

_YEARS = 300


def m4_group(path: str | Path) -> str | None:
    """``"Hourly"`` for ``Hourly-train.csv``; None when the name is not of this kind."""
    group = Path(path).name.split("-")[0].capitalize()
    return group if group in M4 and "-" in Path(path).name else None


def m4_pair(folder: Path, group: str | None = None) -> tuple[Path, Path | None, Path | None]:
    """Train, test and info file in a folder (the last two may be absent).

    Raises:
        ValueError: no training file, or several and no ``group``.
    """
    trains = sorted(f for f in folder.glob("*-train.csv") if m4_group(f) and group in (None, m4_group(f)))
    if len(trains) != 1:
        found = [f.name for f in trains] or "none"
        raise ValueError(f"{folder.name}: expected one of {[f'{g}-train.csv' for g in M4]}, found {found}; pass group=")
    test, info = trains[0].with_name(trains[0].name.replace("-train", "-test")), folder / "M4-info.csv"
    return trains[0], test if test.is_file() else None, info if info.is_file() else None


def _values(path: Path, problems: Problems) -> dict[str, np.ndarray]:
    """Id -> values, without the padding at the end."""
    pd = _pandas()
    try:
        frame = pd.read_csv(existing(path), low_memory=False, **exact_floats())
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} cannot be read as an M4 table: {error}") from error
    if len(frame.columns) < 2 or len(frame) == 0:
        raise ValueError(
            f"{path.name} has {len(frame)} rows and {len(frame.columns)} columns; expected an id and values in each row"
        )
    ids, cells = frame.iloc[:, 0].astype(str).tolist(), frame.iloc[:, 1:]
    if not all(pd.api.types.is_numeric_dtype(t) for t in cells.dtypes):
        numeric = cells.apply(pd.to_numeric, errors="coerce")
        wrong = (numeric.isna() & cells.notna()).to_numpy()
    else:
        numeric, wrong = cells, np.zeros(cells.shape, dtype=bool)
    table, out = numeric.to_numpy(dtype=np.float64), {}
    for row, u in enumerate(ids):
        with problems.at(f"series {u!r}"):
            if wrong[row].any():
                k = int(np.argmax(wrong[row]))
                raise TypeError(f"{path.name}, series {u!r}: value {k + 1} is {cells.iat[row, k]!r}, expected a number")
            if u in out:
                raise ValueError(f"{path.name} holds series {u!r} twice")
            seen = np.flatnonzero(~np.isnan(table[row]))
            if len(seen) == 0:
                raise ValueError(f"{path.name}: series {u!r} has no observed value")
            out[u] = table[row, : seen[-1] + 1]
    return out


def _dates(path: Path, ids: list[str]) -> dict[str, Any]:
    pd = _pandas()
    frame = pd.read_csv(existing(path))
    if not {"M4id", "StartingDate"} <= set(frame.columns):
        raise ValueError(f"{path.name}: expected the columns M4id and StartingDate, got {list(frame.columns)}")
    text = dict(zip(frame["M4id"], frame["StartingDate"], strict=True))
    out = {}
    for u in ids:
        if u not in text:
            raise ValueError(f"{path.name} has no series {u!r}")
        try:
            date = pd.to_datetime(text[u], format="%d-%m-%y %H:%M")
        except ValueError:
            date = pd.to_datetime(text[u])
        out[u] = date if date.year <= 2018 else date - pd.DateOffset(years=100)
    return out


def read_m4(
    train: str | Path,
    test: str | Path | None = None,
    info: str | Path | None = None,
    *,
    freq: str | None = None,
    errors: Errors = "raise",
) -> Panel:
    """The series of a training file, with those of the test file behind them when it is given.

    Args:
        train, test: ``Hourly-train.csv``, ``Hourly-test.csv`` ... info: ``M4-info.csv``, for true first dates.
        freq: instead of that of the name. errors: ``"skip"`` leaves bad rows out and names them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not of this layout, a bad row, a series of one file that the other lacks.
    """
    train = Path(train)
    group = m4_group(train)
    if freq is None and group is None:
        raise ValueError(f"{train.name} does not begin with one of {list(M4)}: pass freq= such as 'h'")
    problems = Problems(errors, train.name)
    series = _values(train, problems)
    if group == "Yearly":
        series = {u: v for u, v in series.items() if len(v) <= _YEARS}
    if test is not None:
        future = _values(Path(test), problems)
        for u in list(series):
            with problems.at(f"series {u!r}"):
                if u not in future:
                    raise ValueError(f"{Path(test).name} lacks series {u!r} of {train.name}: are they a pair?")
        series = {u: np.concatenate([v, future[u]]) for u, v in series.items() if u in future}
    start = _pandas().Timestamp(MOCK_START)
    dates = {} if info is None else _dates(Path(info), list(series))
    rows = [(u, dates.get(u, start), v) for u, v in series.items()]
    return from_rows(rows, freq or M4[group or "Hourly"][0], problems)
