"""The text files of LSTNet (Lai et al., "Modeling Long- and Short-Term Temporal Patterns with Deep Neural Networks",
SIGIR 2018): ``exchange_rate.txt.gz``, ``electricity.txt.gz``, ``traffic.txt.gz``, ``solar_AL.txt.gz``.

One line a time, one comma-separated column a series, no header and no dates. Frequency and first date of the four
published files are those by which GluonTS builds its data sets; for others they are given.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...core.problems import Errors, Problems
from .files import read_text
from .panel import Panel
from .rows import from_rows, stamp, values_of

__all__ = ["LSTNET", "read_lstnet"]

#: Name of a published file -> (frequency, first date).
LSTNET = {
    "exchange_rate": ("B", "1990-01-01"),
    "electricity": ("h", "2012-01-01"),
    "traffic": ("h", "2015-01-01"),
    "solar_AL": ("10min", "2006-01-01"),
}


def read_lstnet(
    path: str | Path, freq: str | None = None, start: str | None = None, *, errors: Errors = "raise"
) -> Panel:
    """A headerless text file, one column a series; series are called 0, 1, ... by their column.

    Leading and trailing missing values of a column are not part of its series.

    Args:
        path: ``.txt`` or ``.txt.gz``. freq, start: of the first line; known for the four published files.
        errors: ``"skip"`` leaves bad columns out and names them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown file without ``freq`` and ``start``, lines of different length, no numbers.
    """
    path = Path(path)
    known = LSTNET.get(path.name.split(".")[0])
    if known is None and (freq is None or start is None):
        raise ValueError(
            f"{path.name} holds no dates and is none of {sorted(LSTNET)}: pass freq= and start=, e.g. freq='h', "
            "start='2012-01-01'"
        )
    freq, start = freq or known[0], start or known[1]  # type: ignore[index]
    lines = [line.split(",") for line in read_text(path).splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{path.name} is empty: expected one line of comma-separated numbers a time")
    problems = Problems(errors, path.name)
    width = len(lines[0])
    for number, line in enumerate(lines, 1):
        if len(line) != width:
            raise ValueError(f"{path.name}, line {number} has {len(line)} columns, the first {width}")
    table = np.array(lines)
    first, rows = stamp(start, path.name), []
    for k in range(width):
        with problems.at(f"series {k}"):
            y = _column(table[:, k], f"{path.name}, column {k + 1}")
            seen = np.flatnonzero(~np.isnan(y))
            if len(seen) == 0:
                raise ValueError(f"series {k} has no observed value")
            rows.append((k, first, y))
    panel = from_rows(rows, freq, problems)
    ends = [np.flatnonzero(~np.isnan(y))[[0, -1]] for y in panel.values]
    starts = tuple(panel.times(i, a, a + 1)[0] for i, (a, _) in enumerate(ends))
    values = tuple(y[a : b + 1] for y, (a, b) in zip(panel.values, ends, strict=True))
    return Panel(panel.ids, starts, values, panel.freq, panel.skipped)


def _column(cells: np.ndarray, where: str) -> np.ndarray:
    try:
        return cells.astype(np.float64)
    except ValueError:  # something that is no number, which is named
        return values_of(cells.tolist(), where)
