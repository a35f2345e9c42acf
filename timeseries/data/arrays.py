"""numpy files: ``.npy`` and ``.npz`` of shape (N,), (N, L) or (N, L, K).

N series of L steps, K joint channels (called ``<series>/<channel>``); a 1-D array is one series. In an ``.npz`` the
values are in ``values`` (or ``y``, ``data``, ``X``, or the only array); beside them may stand ``unique_id`` (N,),
``channels`` (K,), ``start`` (one or N times), ``freq``, and ``mask`` of the values' shape, True = observed. NaN is "not
observed"; a mask that calls a NaN observed is an error, a value that the mask hides is not observed. Pickled (object)
arrays are refused.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ...core.files import existing
from ...core.problems import Errors, Problems
from .panel import Panel
from .rows import from_rows, stamp

__all__ = ["from_array", "read_npz"]

_KEYS = ("values", "y", "data", "X")


def from_array(
    values: np.ndarray,
    freq: str,
    start: Any = "2000-01-01",
    *,
    ids: Any = None,
    channels: Any = None,
    mask: np.ndarray | None = None,
    errors: Errors = "raise",
    source: str = "the array",
) -> Panel:
    """A panel of an array.

    Args:
        values: real numbers (L,), (N, L) or (N, L, K); NaN = not observed.
        freq: pandas alias, old or new. start: first time, one or N of them; the default means "no dates".
        ids: N names; 0, 1, ... when None. channels: K names. mask: bool, the shape of ``values``, True = observed.
        errors: ``"skip"`` leaves bad series out and names them.

    Raises:
        TypeError: no real numbers, or a mask that is not bool.
        ValueError: shapes that do not fit, mask and NaN that disagree, infinite values, series without a value.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{source}: expected real numbers, got dtype {array.dtype}")
    if array.ndim not in (1, 2, 3) or 0 in array.shape:
        raise ValueError(f"{source}: expected shape (L,), (N, L) or (N, L, K), got {array.shape}")
    if array.dtype.kind in "iu" and float(np.abs(array.astype(np.float64)).max()) > 2**53:
        raise ValueError(f"{source} holds integers beyond 2^53: float64 cannot represent them, rescale the unit")
    shape = array.shape if array.ndim == 3 else (1 if array.ndim == 1 else len(array), array.shape[-1], 1)
    cube = array.astype(np.float64).reshape(shape)
    n, k = shape[0], shape[2]
    problems = Problems(errors, source)
    names = _names(ids, n, "unique_id", source)
    parts = [None] if array.ndim < 3 else _names(channels, k, "channels", source)
    starts = [stamp(s, source) for s in np.atleast_1d(np.asarray(start, dtype=object))]
    if len(starts) not in (1, n):
        raise ValueError(f"{source}: expected one start or {n}, got {len(starts)}")
    observed = _observed(mask, array, source).reshape(cube.shape)
    rows = []
    for i, u in enumerate(names):
        for c, part in enumerate(parts):
            name = u if part is None else f"{u}/{part}"
            y, seen = cube[i, :, c], observed[i, :, c]
            with problems.at(f"series {name!r}"):
                contrary = seen & np.isnan(y)
                if contrary.any() and mask is not None:
                    raise ValueError(
                        f"{source}, series {name!r}: mask and NaN disagree at step {int(np.argmax(contrary)) + 1} "
                        f"({int(contrary.sum())} in all): the mask says observed, the value is missing"
                    )
                rows.append((name, starts[i % len(starts)], np.where(seen, y, np.nan)))
    return from_rows(rows, freq, problems)


def _names(names: Any, count: int, what: str, source: str) -> list[Any]:
    if names is None:
        return list(range(count))
    out = np.atleast_1d(np.asarray(names)).tolist()
    if len(out) != count:
        raise ValueError(f"{source}: expected {count} names in {what}, got {len(out)}")
    return out


def _observed(mask: np.ndarray | None, array: np.ndarray, source: str) -> np.ndarray:
    if mask is None:
        return np.ones(array.shape, dtype=bool)
    mask = np.asarray(mask)
    if mask.shape != array.shape:
        raise ValueError(f"{source}: the mask has shape {mask.shape}, the values {array.shape}")
    if mask.dtype != bool and not np.isin(mask, (0, 1)).all():
        raise TypeError(f"{source}: the mask must be bool, or 0 and 1, got {mask.dtype} with other values")
    return mask.astype(bool)


def read_npz(path: str | Path, freq: str | None = None, start: Any = None, *, errors: Errors = "raise") -> Panel:
    """An ``.npy`` or ``.npz`` file; see the module for the names of its arrays.

    Args:
        path: the file. freq, start: instead of those in the file; a file without dates needs ``freq``.
        errors: ``"skip"`` leaves bad series out and names them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: pickled or damaged content, no values or several candidates, no frequency, and those of
            :func:`from_array`.
    """
    path = existing(path)
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            arrays = {"values": loaded}
        else:
            with loaded:
                arrays = {key: loaded[key] for key in loaded.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path.name} cannot be read: {error}; expected arrays of numbers and text (pickled objects are refused)"
        ) from error
    if "samples" in arrays:
        raise ValueError(f"{path.name} holds the sample paths of a forecast, not series")
    beside = ("unique_id", "channels", "start", "freq", "mask")
    data = [key for key in arrays if key not in beside]
    key = next((k for k in _KEYS if k in arrays), data[0] if len(data) == 1 else None)
    if key is None:
        raise ValueError(f"{path.name}: expected the values in one of {list(_KEYS)}; it has {sorted(arrays)}")
    freq = freq if freq is not None else str(arrays["freq"]) if "freq" in arrays else None
    if freq is None:
        raise ValueError(f"{path.name} does not name its frequency: pass freq= such as 'h' or 'D'")
    if start is None:
        start = arrays.get("start", np.asarray("2000-01-01")).tolist()
    return from_array(
        arrays[key],
        freq,
        start,
        ids=arrays.get("unique_id"),
        channels=arrays.get("channels"),
        mask=arrays.get("mask"),
        errors=errors,
        source=path.name,
    )
