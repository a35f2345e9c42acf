"""Long frames on disk: csv, tsv, parquet.

Names stay what they are in the file: ``007`` and ``NA`` are names, not a number and a missing cell; ids become integers
only when all of them are written as integers are. Numbers are read so that what :func:`.write_long` wrote comes back to
the last bit.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.files import existing
from ...core.problems import Errors, Problems
from .clock import localize, zone
from .columns import datetimes
from .extras import exact_floats
from .extras import pandas as _pandas

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["in_zone", "read_long", "read_table"]

COLUMNS = ("unique_id", "ds", "y")
_INTEGER = re.compile(r"0|-?[1-9]\d{0,17}")
_NA = ("", "#N/A", "#NA", "-NaN", "-nan", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null")


def read_table(path: Path, problems: Problems) -> pd.DataFrame:
    """The table in a ``.csv``, ``.tsv`` (both also ``.gz``) or ``.parquet`` file, columns ``unique_id`` as text or int.

    Raises:
        FileNotFoundError: no such file. ValueError: an unknown suffix, an empty or damaged file.
    """
    pd = _pandas()
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    name = path.name.lower()
    if name.endswith((".parquet", ".pq")):
        try:
            frame = pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path.name} is damaged, or no parquet file: {error}") from error
        if set(frame.index.names) & set(COLUMNS):
            frame = frame.reset_index()
        return frame
    if not name.endswith((".csv", ".csv.gz", ".tsv", ".tsv.gz")):
        raise ValueError(f"cannot tell the format of {path.name}: expected .csv, .csv.gz, .tsv or .parquet")
    try:
        return _csv(path, "\t" if ".tsv" in name else ",", problems)
    except pd.errors.EmptyDataError:
        raise ValueError(f"{path.name} is empty: expected a header line unique_id,ds,y and rows") from None
    except (pd.errors.ParserError, UnicodeDecodeError, EOFError, OSError) as error:
        raise ValueError(f"{path.name} cannot be read as a table: {error}") from error


def _csv(path: Path, sep: str, problems: Problems) -> pd.DataFrame:
    pd = _pandas()
    header = list(pd.read_csv(path, sep=sep, nrows=0, encoding="utf-8-sig").columns)
    options: dict[str, Any] = {
        "sep": sep,
        "encoding": "utf-8-sig",
        "dtype": {"unique_id": str} if "unique_id" in header else None,
        "keep_default_na": False,
        "na_values": {c: [""] if c == "unique_id" else list(_NA) for c in header},
    }
    try:
        frame = pd.read_csv(path, low_memory=False, **exact_floats(), **options)
    except pd.errors.ParserError:
        if not problems.skip:
            raise

        def wrong(cells: list[str]) -> None:
            problems.add(f"line {sep.join(cells)!r}", f"it has {len(cells)} cells, the header {len(header)}")

        frame = pd.read_csv(path, engine="python", on_bad_lines=wrong, **options)
    if "unique_id" in frame:
        text = frame["unique_id"]
        if len(text) and text.notna().all() and all(_INTEGER.fullmatch(u) for u in text.unique()):
            frame["unique_id"] = text.astype(np.int64)
    return frame


def read_long(path: str | Path, *, tz: str | None = None, errors: Errors = "raise") -> pd.DataFrame:
    """Read a long frame from ``.csv``, ``.csv.gz``, ``.tsv`` or ``.parquet``.

    Args:
        path: the file. tz: the zone of naive wall times, or to convert to; a file whose offsets change with the clocks
            (``+01:00``, ``+02:00``) needs it.
        errors: ``"skip"`` leaves out lines of another length and rows whose time cannot be read, and names them; bad
            values are :func:`.to_panel`'s to name.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown suffix, an empty file, or ``unique_id`` or ``ds`` are missing.
    """
    path = existing(path)
    problems = Problems(errors, path.name)
    frame = read_table(path, problems)
    lacking = [c for c in COLUMNS if c not in frame.columns]
    if lacking not in ([], ["y"]):  # tables of forecasts have no y; `to_panel` asks for it
        other = next((s for s in (";", "\t", "|", ",") if len(frame.columns) == 1 and s in str(frame.columns[0])), None)
        hint = "" if other is None else f"; it seems to be separated by {other!r}: write it with commas (tabs in .tsv)"
        raise ValueError(f"{path.name} lacks the columns {lacking}; it has {list(frame.columns)}{hint}")
    if len(frame) == 0:
        raise ValueError(f"{path.name} has a header and no rows")
    ds, bad = datetimes(frame["ds"], "ds", problems, None if tz is None else zone(tz))
    frame = frame.assign(ds=ds)
    if bad.any():
        frame = frame[~bad].reset_index(drop=True)
    problems.done(len(frame), counted=False)
    return frame if tz is None else in_zone(frame, tz)


def in_zone(frame: pd.DataFrame, tz: str) -> pd.DataFrame:
    """A long frame with its times in the zone ``tz`` (see :mod:`.clock`); rows of NaN at skipped times go.

    Raises:
        ValueError: an unknown zone, or a value at a time that the clocks skipped.
    """
    pd = _pandas()
    tz = zone(tz)
    ds = pd.DatetimeIndex(frame["ds"])
    if ds.tz is not None:
        return frame.assign(ds=ds.tz_convert(tz))
    observed = frame["y"].notna().to_numpy() if "y" in frame else np.ones(len(frame), dtype=bool)
    keep = np.ones(len(frame), dtype=bool)
    out = np.full(len(frame), np.datetime64("NaT"), dtype=f"datetime64[{ds.unit}]")
    for name, rows in frame.groupby("unique_id", sort=False).indices.items():
        times, kept = localize(name, ds[rows], observed[rows], tz)
        keep[rows] = kept
        out[rows[kept]] = times.tz_convert("UTC").tz_localize(None).to_numpy()
    frame = frame.assign(ds=pd.DatetimeIndex(out).tz_localize("UTC").tz_convert(tz))
    return frame if keep.all() else frame[keep].reset_index(drop=True)
