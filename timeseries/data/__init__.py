"""Data of time series: reading, checking, putting on a regular grid, splitting, writing, and the named data sets.

The path of a user's data: a reader of the field's formats, or any data frame; one door, :func:`to_panel`, where every
check is made; a :class:`Panel`, on which everything that models or scores works; :func:`backtest` for splits that do
not leak; and writers back to those formats.

- what a table must be: ``columns`` (names, times, numbers), ``grids`` (:func:`to_panel`), ``problems`` (refuse, or skip
  and name), ``panel``
- time: ``frequencies`` (aliases old and new, seasons, inference), ``anchors`` (months that start or end), ``clock``
  (zones, days of 23 and 25 hours)
- formats: ``tables`` (long csv, parquet), ``wide``, ``gluonts`` (JSON lines, Arrow, folders, tars), ``lstnet``, ``m4``,
  ``tsf`` (Monash), ``arrays`` (npy, npz), with ``rows`` and ``files`` below them; ``write``
- sets and splits: ``benchmarks`` (sets of published tables, as GluonTS builds them), ``named`` (:func:`load`: all,
  by name or path), ``splits`` (:func:`backtest`)
"""

from __future__ import annotations

from ...core.problems import Errors, Skipped, SkippedData
from .arrays import from_array, read_npz
from .benchmarks import BENCHMARKS, Benchmark, benchmark, read_benchmark, rolling_benchmark
from .clock import as_timestamp as _as_timestamp  # noqa: F401  (other modules of the wing)
from .extras import pandas as _pandas  # noqa: F401
from .frequencies import LEGACY, SEASON, canonical_freq, freq_words, infer_freq, season_length, steps_between
from .gluonts import from_gluonts, gluonts_metadata, read_gluonts, read_jsonl
from .grids import Gaps, to_model_panel, to_panel
from .lstnet import LSTNET, read_lstnet
from .m4 import M4, read_m4
from .named import NAMED, load, read
from .panel import Panel
from .splits import Split, backtest, check_leak
from .tables import read_long
from .tsf import read_tsf, tsf_header
from .wide import from_wide
from .write import write_gluonts, write_jsonl, write_long

__all__ = [
    "BENCHMARKS",
    "LEGACY",
    "LSTNET",
    "M4",
    "NAMED",
    "SEASON",
    "Benchmark",
    "Errors",
    "Gaps",
    "Panel",
    "Skipped",
    "SkippedData",
    "Split",
    "backtest",
    "benchmark",
    "canonical_freq",
    "check_leak",
    "freq_words",
    "from_array",
    "from_gluonts",
    "from_wide",
    "gluonts_metadata",
    "infer_freq",
    "load",
    "read",
    "read_benchmark",
    "read_gluonts",
    "read_jsonl",
    "read_long",
    "read_lstnet",
    "read_m4",
    "read_npz",
    "read_tsf",
    "rolling_benchmark",
    "season_length",
    "steps_between",
    "to_model_panel",
    "to_panel",
    "tsf_header",
    "write_gluonts",
    "write_jsonl",
    "write_long",
]
