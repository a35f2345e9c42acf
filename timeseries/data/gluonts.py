"""GluonTS data: folders and tars of JSON lines (or Arrow, Parquet), and any data set object that yields its entries.

An *entry* is a dictionary: ``start`` (text, timestamp or period), ``target`` (values; null or "NaN" where nothing was
observed; (K, n) for K joint channels), ``item_id`` where it has a name. Other fields are ignored. A folder has
``train/*.json``, ``test/*.json`` and ``metadata/metadata.json`` (or ``metadata.json``) with ``freq`` (in older files
``time_granularity``) and often ``prediction_length``. A test entry is a training entry made longer: its last
``prediction_length`` values are what is to be forecast.

Rolling test sets hold every series several times, windows in the outer loop, and old files do not name the series.
Entry k is then called after training entry k mod N, if its values really continue that one; else by its position.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...core.problems import Errors, Problems
from .extras import pandas as _pandas
from .extras import pyarrow
from .files import read_bytes, tree
from .panel import Panel
from .rows import from_rows, stamp, values_of

__all__ = ["from_gluonts", "gluonts_metadata", "read_gluonts", "read_jsonl"]

Entry = Mapping[str, Any]
Split = Literal["train", "test"]


def from_gluonts(
    entries: Iterable[Entry], freq: str | None = None, *, errors: Errors = "raise", source: str = "the data set"
) -> Panel:
    """A panel of GluonTS entries: a list of dictionaries, a ``ListDataset``, ``PandasDataset`` ... or of Hugging Face.

    Args:
        entries: each with ``start`` and ``target``. freq: pandas alias, old or new; that of the first period when None.
        errors: ``"skip"`` leaves bad entries out and names them. source: what is read, for messages.

    Raises:
        ValueError: no entries, no frequency, and the bad entries, by number and name.
    """
    problems = Problems(errors, source)
    numbered = [(f"entry {k + 1}", entry) for k, entry in enumerate(entries)]
    return from_rows(_rows(numbered, problems), _freq(numbered, freq, source), problems)


def _freq(numbered: list[tuple[str, Entry]], freq: str | None, source: str) -> str:
    pd = _pandas()
    if freq is None and numbered and isinstance(numbered[0][1], Mapping):
        start = numbered[0][1].get("start")
        freq = start.freqstr if isinstance(start, pd.Period) else None
    if freq is None:
        raise ValueError(f"{source} does not name its frequency: pass freq= such as 'h' or 'D'")
    return freq


def _rows(numbered: list[tuple[str, Entry]], problems: Problems) -> list[tuple[Any, Any, np.ndarray]]:
    rows: list[tuple[Any, Any, np.ndarray]] = []
    for k, (where, entry) in enumerate(numbered):
        with problems.at(where):
            if not isinstance(entry, Mapping):
                raise ValueError(
                    f"{problems.source}, {where}: expected an object with start and target, got {entry!r:.60}"
                )
            lacking = [key for key in ("start", "target") if key not in entry]
            if lacking:
                raise ValueError(f"{problems.source}, {where} lacks {lacking}; it has {sorted(entry)}")
            name = entry.get("item_id")
            name = k if name is None else name.item() if isinstance(name, np.generic) else name
            at = f"{problems.source}, {where} (series {name!r})"
            start, target = stamp(entry["start"], at), values_of(entry["target"], at)
            if target.ndim > 2:
                raise ValueError(f"{at}: target has shape {target.shape}, expected (n,) or (channels, n)")
            channels = [(name, target)] if target.ndim == 1 else [(f"{name}/{c}", t) for c, t in enumerate(target)]
            rows += [(u, start, t) for u, t in channels]
    return rows


def _lines(content: bytes, name: str, problems: Problems) -> list[tuple[str, Entry]]:
    """The objects of JSON lines; each with the number of its line."""
    found = []
    for number, line in enumerate(content.decode("utf-8-sig").splitlines(), 1):
        if line.strip():
            with problems.at(f"line {number}"):
                try:
                    found.append((f"line {number}", json.loads(line)))
                except json.JSONDecodeError as error:
                    raise ValueError(
                        f"{name}, line {number} is no JSON object ({error}): expected one "
                        '{"start": ..., "target": [...]} a line'
                    ) from error
    return found


def _table(content: bytes, name: str) -> list[tuple[str, Entry]]:
    """The rows of an Arrow (file or stream) or Parquet file."""
    pa, pq = pyarrow(), pyarrow(".parquet")
    try:
        if name.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(content))
        else:
            try:
                table = pa.ipc.open_file(content).read_all()
            except pa.ArrowInvalid:
                table = pa.ipc.open_stream(content).read_all()
    except pa.ArrowInvalid as error:
        raise ValueError(f"{name} is damaged, or no Arrow file: {error}") from error
    return [(f"row {k + 1}", entry) for k, entry in enumerate(table.to_pylist())]


def _entries(content: bytes, name: str, problems: Problems) -> list[tuple[str, Entry]]:
    name = name.removesuffix(".gz")
    return _table(content, name) if name.endswith((".arrow", ".parquet")) else _lines(content, name, problems)


def read_jsonl(path: str | Path, freq: str | None = None, *, errors: Errors = "raise") -> Panel:
    """One file of GluonTS entries: ``.json``, ``.jsonl`` (both lines), ``.arrow``, each also with ``.gz``.

    Args:
        path: the file. freq: pandas alias, old or new; needed, for such a file does not name it.
        errors: ``"skip"`` leaves bad lines out and names them.

    Raises:
        FileNotFoundError: no such file. ValueError: no frequency; a bad line, by number.
    """
    path = Path(path)
    problems = Problems(errors, path.name)
    numbered = _entries(read_bytes(path), path.name, problems)
    return from_rows(_rows(numbered, problems), _freq(numbered, freq, path.name), problems)


def gluonts_metadata(path: str | Path) -> dict[str, Any]:
    """The metadata of a GluonTS folder or tar: ``freq``, ``prediction_length`` (None where not said), and the rest.

    Raises:
        FileNotFoundError: nothing there. ValueError: no metadata, or they are no JSON object.
    """
    return _metadata(tree(Path(path)), Path(path).name)


def _metadata(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    where = next((f for f in ("metadata/metadata.json", "metadata.json") if f in files), None)
    if where is None:
        raise ValueError(
            f"{name} is no GluonTS data set: it has no metadata/metadata.json; expected that, train/ and test/; it "
            f"holds {sorted(files)[:6]}"
        )
    try:
        raw = json.loads(files[where])
        if not isinstance(raw, dict):
            raise ValueError(f"got {type(raw).__name__}")
    except ValueError as error:
        raise ValueError(f"{name}: {where} is no JSON object: {error}") from error
    return raw | {
        "freq": raw.get("freq", raw.get("time_granularity")),
        "prediction_length": raw.get("prediction_length"),
    }


def read_gluonts(
    path: str | Path, split: Split = "train", *, freq: str | None = None, errors: Errors = "raise"
) -> Panel:
    """One split of a GluonTS folder or tar.

    Args:
        path: the folder, ``.tar``, ``.tar.gz`` or ``.tgz``.
        split: ``"train"`` or ``"test"``. Rows of the test split may have the same name (rolling windows).
        freq: instead of that of the metadata. errors: ``"skip"`` leaves bad lines out and names them.

    Raises:
        FileNotFoundError: nothing there. ValueError: not of this layout, no such split, a bad line.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    name, files = Path(path).name, tree(Path(path))
    metadata = {"freq": freq} if freq is not None else _metadata(files, name)
    problems = Problems(errors, f"{name}/{split}")
    numbered = _split(files, split, name, problems)
    if split == "test" and any(isinstance(e, Mapping) and e.get("item_id") is None for _, e in numbered):
        numbered = _named(numbered, _split(files, "train", name, Problems("skip")) if _has(files, "train") else [])
    return from_rows(_rows(numbered, problems), _freq(numbered, metadata["freq"], name), problems)


def _has(files: Mapping[str, bytes], split: str) -> bool:
    return any(f.startswith(f"{split}/") for f in files)


def _split(files: Mapping[str, bytes], split: str, name: str, problems: Problems) -> list[tuple[str, Entry]]:
    kinds = (".json", ".jsonl", ".arrow", ".parquet")
    found = [f for f in sorted(files) if f.startswith(f"{split}/") and f.endswith(kinds)]
    if not found:
        raise ValueError(f"{name} has no {split}/ with .json, .jsonl or .arrow files; it holds {sorted(files)[:6]}")
    return [entry for f in found for entry in _entries(files[f], f, problems)]


def _named(test: list[tuple[str, Entry]], train: list[tuple[str, Entry]]) -> list[tuple[str, Entry]]:
    """Entries of rolling windows, each called after the training entry that it continues."""
    n = len(train)
    if n == 0 or len(test) % n or len(test) == 0:
        return test
    for k, (_, entry) in enumerate(test):
        whole, begin = entry.get("target"), train[k % n][1].get("target")
        if not isinstance(whole, list) or not isinstance(begin, list) or whole[: len(begin)] != begin:
            return test
    return [
        (where, {**entry, "item_id": k % n if entry.get("item_id") is None else entry["item_id"]})
        for k, (where, entry) in enumerate(test)
    ]
