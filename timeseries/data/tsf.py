"""Monash ``.tsf`` files (Godahewa et al., "Monash Time Series Forecasting Archive", NeurIPS 2021 data sets).

A header of ``@attribute <name> <string|numeric|date>``, ``@frequency``, ``@horizon``, ``@missing``, ``@equallength``,
then ``@data`` and one series a line: its attributes and its comma-separated values, all parted by colons. Times are
written ``1979-01-01 00-00-00``; ``?`` is a missing value; lines that begin with ``#`` are comments. Series without a
``start_timestamp`` are dated from 1750 (as GluonTS does with M4).
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ...core.files import existing
from ...core.problems import Errors, Problems
from .files import read_text
from .panel import Panel
from .rows import MOCK_START, from_rows, stamp, values_of

__all__ = ["FREQUENCIES", "read_tsf", "tsf_header"]

#: The archive's words -> pandas aliases; weeks, months, quarters and years are anchored to the starts.
FREQUENCIES = {
    "4_seconds": "4s", "minutely": "min", "5_minutes": "5min", "10_minutes": "10min", "15_minutes": "15min",
    "half_hourly": "30min", "hourly": "h", "daily": "D", "weekly": "W", "monthly": "MS", "quarterly": "QS",
    "yearly": "YS",
}  # fmt: skip


def _text(path: Path) -> str:
    if path.suffix.lower() != ".zip":
        return read_text(path)
    try:
        with zipfile.ZipFile(existing(path)) as archive:
            inside = [name for name in archive.namelist() if name.lower().endswith(".tsf")]
            if len(inside) != 1:
                raise ValueError(f"{path.name} holds {inside or 'no .tsf file'}, expected one .tsf file")
            return archive.read(inside[0]).decode("utf-8", errors="replace")
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path.name} is damaged, or no zip file: {error}; fetch it again") from error


def _parsed(path: Path) -> tuple[dict[str, Any], list[tuple[str, str]], list[tuple[int, str]]]:
    """Header, attributes (name, type) in order, and the numbered data lines."""
    header: dict[str, Any] = {}
    attributes: list[tuple[str, str]] = []
    data: list[tuple[int, str]] | None = None
    for number, raw in enumerate(_text(path).splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if data is not None:
            data.append((number, line))
        elif line.lower() == "@data":
            data = []
        elif line.lower().startswith("@attribute"):
            parts = line.split()
            if len(parts) != 3 or parts[2] not in ("string", "numeric", "date"):
                raise ValueError(
                    f"{path.name}, line {number}: expected '@attribute <name> <string|numeric|date>', got {line!r}"
                )
            attributes.append((parts[1], parts[2]))
        elif match := re.fullmatch(r"@(\w+)\s+(.+)", line):
            header[match.group(1).lower()] = match.group(2).strip()
        else:
            raise ValueError(f"{path.name}, line {number}: expected '@<word> <value>' or @data, got {line!r:.80}")
    if data is None:
        raise ValueError(f"{path.name} has no @data line: is it a Monash .tsf file?")
    return header, attributes, data


def tsf_header(path: str | Path) -> dict[str, Any]:
    """What the header says: ``frequency``, ``horizon`` (int, None where not said), ``relation``, ``missing`` ..."""
    header = _parsed(Path(path))[0]
    horizon = header.get("horizon")
    return header | {"horizon": int(horizon) if horizon is not None else None}


def read_tsf(path: str | Path, freq: str | None = None, *, errors: Errors = "raise") -> Panel:
    """A Monash file as a panel; series are called by ``series_name``, else by the number of their line.

    Args:
        path: ``.tsf``, ``.tsf.gz``, or a ``.zip`` with one inside.
        freq: instead of that of the header. errors: ``"skip"`` leaves bad lines out and names them.

    Raises:
        FileNotFoundError: no such file. ValueError: no such layout, an unknown frequency, a bad line (by number).
    """
    path = Path(path)
    header, attributes, data = _parsed(path)
    if freq is None:
        word = header.get("frequency")
        if word not in FREQUENCIES:
            said = (
                "names no @frequency" if word is None else f"has @frequency {word!r}, known are {sorted(FREQUENCIES)}"
            )
            raise ValueError(f"{path.name} {said}: pass freq= such as 'h' or 'D'")
        freq = FREQUENCIES[word]
    problems = Problems(errors, path.name)
    names = [name for name, _ in attributes]
    rows: list[tuple[Any, Any, np.ndarray]] = []
    for k, (number, line) in enumerate(data):
        with problems.at(f"line {number}"):
            parts = line.split(":")
            if len(parts) != len(attributes) + 1:
                raise ValueError(
                    f"{path.name}, line {number} has {len(parts)} parts between colons, expected {len(attributes) + 1} "
                    f"({', '.join([*names, 'values'])})"
                )
            fields = dict(zip(names, parts, strict=False))
            where = f"{path.name}, line {number}"
            start = stamp(_dashes(fields.get("start_timestamp", MOCK_START)), where)
            rows.append((fields.get("series_name", k), start, values_of(parts[-1].split(","), where)))
    return from_rows(rows, freq, problems)


def _dashes(text: str) -> str:
    """``1979-01-01 00-00-00`` -> ``1979-01-01 00:00:00``."""
    return re.sub(r"(\s\d{1,2})-(\d{2})(?:-(\d{2}))?$", lambda m: ":".join(p for p in m.groups() if p), text.strip())
