r"""Base forecasts: what another model said, as sample paths (series, S, H) on the rows of a panel.

A forecast comes in one of these forms, and S paths are made of it:

- a :class:`.forecast.Forecast`: its own paths (a :class:`.forecast.NormalForecast`: its quantiles at the levels
  k_i = i/(S + 1));
- an array (series, H), one point a step, repeated S times; or (series, S, H), sample paths;
- a long frame of the Nixtla layout, ``unique_id, ds, <model>`` and, where there are intervals, ``<model>-median``,
  ``<model>-lo-80``, ``<model>-hi-80`` ...: a point, repeated; or the quantiles at the levels k_i, linear in the normal
  score Phi^-1(k) between the quantiles given and beyond the outermost ones, which is exact for normal intervals.

Where S differs from the number of paths given, the quantiles at the levels k_i are taken, step by step.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from .data import Panel, _pandas
from .forecast import Forecast, NormalForecast

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["base_paths"]


def base_paths(
    base: Forecast | np.ndarray | pd.DataFrame,
    panel: Panel,
    num_samples: int | None = None,
    sort: bool = True,
    column: str | None = None,
) -> tuple[np.ndarray, str]:
    """Sample paths (series, S, H) of a base forecast of the steps after each series of `panel`, and its name.

    Args:
        base: see the module.
        panel: the histories; row i of the result continues its series i.
        num_samples: S; by default the number of the base's own paths, 100 for points, intervals and normal laws.
        sort: sort the paths of every step.
        column: the model's column in a frame that holds several.

    Raises:
        TypeError: none of the forms.
        ValueError: other series or timestamps than those that follow the histories, wrong shapes, values that are
            missing or infinite (the series is named), or several models without `column`.
    """
    if num_samples is not None and (isinstance(num_samples, bool) or num_samples < 1):
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")
    levels = np.arange(1, (num_samples or 100) + 1) / ((num_samples or 100) + 1)
    if isinstance(base, Forecast):
        rows = _rows(base, panel)
        name = base.name
        if isinstance(base, NormalForecast):
            if not sort:
                raise ValueError("a normal forecast has no paths to keep: use sort=True, or refine base.draw(100)")
            paths = np.moveaxis(base.quantiles(levels.tolist()), 0, 1)[rows]
        else:
            paths = base.samples[rows]
    elif isinstance(base, np.ndarray):
        name, paths = "array", base.astype(np.float64)
        if paths.ndim == 2:
            paths = paths[:, None]
        if paths.ndim != 3 or len(paths) != len(panel) or 0 in paths.shape:
            raise ValueError(
                f"a base array has the shape (series, H) or (series, S, H) with {len(panel)} series, got {base.shape}"
            )
    elif hasattr(base, "columns"):
        paths, name = _from_frame(base, panel, levels, column)
    else:
        raise TypeError(
            "a base forecast is a Forecast, an array (series, H) or (series, S, H), or a long frame, got "
            + type(base).__name__
        )
    bad = ~np.isfinite(paths).all(axis=(1, 2))
    if bad.any():
        raise ValueError(
            f"the base forecast of {int(bad.sum())} series has missing or infinite values, first of series "
            f"{panel.ids[int(bad.argmax())]!r}"
        )
    count = paths.shape[1] if num_samples is None and paths.shape[1] > 1 else len(levels)
    if paths.shape[1] == 1:
        paths = np.repeat(paths, count, axis=1)
    elif paths.shape[1] != count:
        if not sort:
            raise ValueError(
                f"the base has {paths.shape[1]} paths, num_samples={count} would resample them step by step: leave "
                "num_samples out, or use sort=True"
            )
        paths = np.moveaxis(np.quantile(paths, levels, axis=1), 0, 1)
    return (np.sort(paths, axis=1) if sort else paths), name


def _rows(base: Forecast, panel: Panel) -> list[int]:
    """Which row of the forecast continues each series."""
    ids = list(base.ids)
    if ids == list(panel.ids):
        rows = list(range(len(ids)))
    else:
        if len(set(ids)) < len(ids) or len(set(panel.ids)) < len(panel.ids):
            raise ValueError("a forecast with several rows a series must have them in the order of the histories")
        _same_ids(ids, panel)
        rows = [ids.index(u) for u in panel.ids]
    for i, row in enumerate(rows):
        want = panel.times(i, len(panel.values[i]), len(panel.values[i]) + 1)[0]
        if base.starts[row] != want:
            raise ValueError(
                f"the base forecast of series {panel.ids[i]!r} begins at {base.starts[row]}, its history ends before "
                f"{want}: both must meet"
            )
    return rows


def _same_ids(ids: list[Any], panel: Panel) -> None:
    lacking, foreign = [u for u in panel.ids if u not in set(ids)], [u for u in ids if u not in set(panel.ids)]
    if lacking or foreign:
        raise ValueError(
            f"the base forecast and the histories are of different series: without a forecast {lacking[:5]}, without a "
            f"history {foreign[:5]}"
        )


def _from_frame(frame: Any, panel: Panel, levels: np.ndarray, column: str | None) -> tuple[np.ndarray, str]:
    pd = _pandas()
    if "unique_id" not in frame.columns and frame.index.name == "unique_id":
        frame = frame.reset_index()
    if "unique_id" not in frame.columns or "ds" not in frame.columns:
        raise ValueError(f"a base frame has the columns unique_id, ds and a forecast, got {list(frame.columns)}")
    values = [str(c) for c in frame.columns if c not in ("unique_id", "ds", "y", "cutoff")]
    models = sorted({re.sub(r"-(median|(lo|hi)-[\d.]+)$", "", c) for c in values})
    if column is None:
        if len(models) != 1:
            raise ValueError(f"the base frame holds the forecasts {models}: name one with column=")
        column = models[0]
    elif column not in models:
        raise ValueError(f"the base frame has no forecast {column!r}; it holds {models}")
    knots = _knots(values, column)
    groups = {u: g.sort_values("ds") for u, g in frame.groupby("unique_id", sort=False)}
    _same_ids(list(groups), panel)
    out = []
    for i, u in enumerate(panel.ids):
        group = groups[u]
        n, h = len(panel.values[i]), len(group)
        ds, want = pd.DatetimeIndex(pd.to_datetime(group["ds"])), panel.times(i, n, n + h)
        if not ds.equals(want):
            first = next((f"{a} where {b} was expected" for a, b in zip(ds, want, strict=True) if a != b), "")
            raise ValueError(
                f"the base forecast of series {u!r} is not the {h} steps after its history: it has {first}; it must "
                f"begin at {want[0]} and hold one row a step"
            )
        table = group[[c for _, c in knots]].to_numpy(dtype=np.float64).T  # (knots, H)
        out.append(_interpolated(np.array([k for k, _ in knots]), table, levels) if len(knots) > 1 else table)
    horizons = {len(v[0]) for v in out}
    if len(horizons) > 1:
        raise ValueError(f"the base forecasts have different horizons: {sorted(horizons)}")
    return np.stack(out), column


def _knots(values: list[str], column: str) -> list[tuple[float, str]]:
    """(level, column) of the quantiles a frame gives for a model, ascending; one entry for a point forecast."""
    found = {}
    for c in values:
        match = re.fullmatch(re.escape(column) + r"-(lo|hi)-([\d.]+)", c)
        if match:
            percent = float(match.group(2))
            if not 0 < percent < 100:
                raise ValueError(f"column {c!r}: a level is in percent, between 0 and 100")
            found[0.5 - percent / 200 if match.group(1) == "lo" else 0.5 + percent / 200] = c
    middle = f"{column}-median" if f"{column}-median" in values else column if column in values else None
    if middle is not None:
        found[0.5] = middle
    return sorted(found.items())


def _interpolated(knots: np.ndarray, table: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Quantiles (S, H) at `levels`, piecewise linear in the normal score; the outer pieces go on."""
    from scipy.special import ndtri

    z, at = ndtri(knots), ndtri(levels)
    left = np.clip(np.searchsorted(z, at, side="right") - 1, 0, len(z) - 2)
    share = ((at - z[left]) / (z[left + 1] - z[left]))[:, None]
    return table[left] + share * (table[left + 1] - table[left])
