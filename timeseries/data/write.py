"""Writing back: long csv and parquet, GluonTS JSON lines, whole GluonTS folders.

Everything is written under a temporary name and renamed when it is complete, so that a reader never meets half a file
and a run that is killed leaves what was there. Floats are written so that they come back to the last bit.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.files import replacing
from .panel import Panel

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["write_gluonts", "write_jsonl", "write_long"]


def write_long(frame: pd.DataFrame | Panel, path: str | Path) -> Path:
    """Write a long frame (or a panel as one) as ``.csv``, ``.csv.gz`` or ``.parquet``, by the suffix; returns the path.

    Raises:
        ValueError: another suffix.
    """
    path = Path(path)
    name = path.name.lower()
    if not name.endswith((".csv", ".csv.gz", ".parquet", ".pq")):
        raise ValueError(f"cannot tell the format of {path.name}: expected .csv, .csv.gz or .parquet")
    frame = frame.to_long() if isinstance(frame, Panel) else frame
    with replacing(path) as partial:
        if name.endswith((".csv", ".csv.gz")):
            frame.to_csv(partial, index=False)
        else:
            frame.to_parquet(partial, index=False)
    return path


def _line(name: Any, start: Any, y: np.ndarray) -> str:
    if start.tz is not None:
        raise ValueError(f"series {name!r} has the time zone {start.tz}, GluonTS data have none: convert to naive UTC")
    target = [v if v == v else "NaN" for v in y.tolist()]  # NaN as text, as GluonTS writes it
    item = name if isinstance(name, int) and not isinstance(name, bool) else str(name)
    return json.dumps({"item_id": item, "start": str(start), "target": target}, allow_nan=False)


def write_jsonl(panel: Panel, path: str | Path) -> Path:
    """Write GluonTS entries, one JSON object a line, ``.json`` or ``.jsonl``, also with ``.gz``; returns the path.

    Such a file does not name its frequency: :func:`.read_jsonl` is told. Names that are not integers become text.

    Raises:
        ValueError: another suffix, or times with a zone (GluonTS has none).
    """
    path = Path(path)
    if not path.name.lower().removesuffix(".gz").endswith((".json", ".jsonl")):
        raise ValueError(f"cannot tell the format of {path.name}: expected .json or .jsonl, also with .gz")
    rows = zip(panel.ids, panel.starts, panel.values, strict=True)
    content = "".join(f"{_line(*row)}\n" for row in rows).encode()
    with replacing(path) as partial:
        partial.write_bytes(gzip.compress(content, mtime=0) if path.name.lower().endswith(".gz") else content)
    return path


def write_gluonts(
    folder: str | Path, train: Panel, test: Panel | None = None, *, prediction_length: int | None = None
) -> Path:
    """Write a GluonTS data set: ``metadata/metadata.json``, ``train/data.json`` and ``test/data.json``.

    Args:
        folder: must not exist; it appears when it is complete.
        train: the training series. test: series with the horizon behind, windows in the outer loop.
        prediction_length: of the metadata.

    Raises:
        FileExistsError: something is there. ValueError: frequencies differ, or times have a zone.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists: a data set is written to a new folder")
    if test is not None and test.freq != train.freq:
        raise ValueError(f"train has freq={train.freq!r}, test {test.freq!r}")
    partial = folder.with_name(f".partial-{os.getpid()}-{folder.name}")
    try:
        metadata = {"freq": train.freq, "prediction_length": prediction_length, "target": {"name": "target"}}
        (partial / "metadata").mkdir(parents=True)
        (partial / "metadata" / "metadata.json").write_text(
            json.dumps({k: v for k, v in metadata.items() if v is not None}, indent=1) + "\n"
        )
        write_jsonl(train, partial / "train" / "data.json")
        if test is not None:
            write_jsonl(test, partial / "test" / "data.json")
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder
