"""Opening files, plain or gzipped, and replacing them at once."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...core.files import existing, replacing

__all__ = ["check_limit", "load_arrays", "read_lines", "read_text", "save_arrays", "write_text"]


def check_limit(limit: int | None) -> None:
    """Refuse a ``limit`` of entries that takes none.

    Raises:
        ValueError: below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is how many are read from the beginning, at least 1 (None: all), got {limit}")


def read_lines(path: str | Path) -> Iterator[str]:
    """The lines of a text file without their ends, unzipped where its name ends in ``.gz``; never the whole in memory.

    Raises:
        FileNotFoundError: no such file. ValueError: a damaged gzip, or no text.
    """
    path = existing(path)
    opener: Any = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", errors="strict") as file:
            for line in file:
                yield line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is no UTF-8 text ({error.reason} at byte {error.start})") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path.name} is damaged, or no gzip file: {error}; fetch it again") from error


def read_text(path: str | Path) -> str:
    """The whole text of a file, as :func:`read_lines`."""
    return "\n".join(read_lines(path))


def write_text(path: str | Path, text: str) -> Path:
    """Write text at once, gzipped where the name ends in ``.gz`` (the same text gives the same bytes)."""
    path = Path(path)
    content = text.encode()
    with replacing(path) as partial:
        partial.write_bytes(gzip.compress(content, mtime=0) if path.name.lower().endswith(".gz") else content)
    return path


def save_arrays(path: str | Path, kind: str, arrays: dict[str, np.ndarray]) -> Path:
    """Write a compressed ``.npz`` at once, with its ``kind`` inside.

    Raises:
        ValueError: another suffix.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"{path.name}: expected a name that ends in .npz")
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, kind=np.asarray(kind), **arrays)
    return path


def load_arrays(path: str | Path, kind: str = "") -> dict[str, np.ndarray]:
    """The arrays of an ``.npz``; pickled ones are refused.

    Args:
        path: the file. kind: what :func:`save_arrays` must have written into it; ``""`` takes any file.

    Raises:
        FileNotFoundError: no such file. ValueError: damaged, pickled, or of another kind.
    """
    path = existing(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise ValueError(f"{path.name} cannot be read: {error}; expected an .npz of numbers and text") from error
    came = str(arrays.pop("kind", ""))
    if kind and came != kind:
        raise ValueError(f"{path.name} holds {came or 'something else'}, expected {kind}")
    return arrays
