"""Pictures of forecasts: the fan chart and the reliability curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .data import Panel, to_panel

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from .forecast import Forecast

__all__ = ["fan_chart", "reliability"]


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:  # pragma: no cover - exercised by hiding the module
        raise ImportError('plots need matplotlib: pip install "scidiffuse[timeseries]"') from error
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    FigureCanvasAgg(figure)  # no global state, no display needed
    return figure, figure.subplots(rows, columns, squeeze=False)


def _shades(n: int) -> list[tuple[float, float, float]]:
    """Opaque blues, outermost band first: what lies on another looks like its entry in the legend."""
    from matplotlib.colors import to_rgb

    blue, shades, white = to_rgb("C0"), [], 1.0
    for k in range(n):
        white *= max(0.3, 0.82 - 0.14 * k)  # the share of white left
        red, green, other = (white + (1 - white) * c for c in blue)
        shades.append((red, green, other))
    return shades


def fan_chart(
    forecast: Forecast,
    history: pd.DataFrame | Panel | None = None,
    actual: np.ndarray | None = None,
    *,
    rows: Sequence[int] | None = None,
    level: Sequence[float] = (50, 80, 95),
    past: int | None = None,
    paths: int = 0,
    baseline: Forecast | None = None,
    columns: int = 2,
    titles: Sequence[str] | None = None,
    ylabel: str | None = None,
) -> Figure:
    """History, central intervals, median and (when known) what happened; one panel a row of the forecast.

    Args:
        history: long frame, or a panel with one row a forecast row; drawn up to the forecast's start.
        actual: (series, horizon), NaN where unknown.
        rows: which rows; the first 6 by default. level: intervals in percent. past: steps of history (3 horizons).
        paths: how many single sample paths to draw. baseline: its median is drawn dashed.
        columns: of the figure. titles: one a drawn row. ylabel: unit.

    Returns:
        a matplotlib ``Figure`` (``.savefig(path)``); no global pyplot state is touched.
    """
    picked = list(range(min(6, len(forecast.ids)))) if rows is None else list(rows)
    if not picked or not all(0 <= r < len(forecast.ids) for r in picked):
        raise ValueError(f"rows must be in 0 .. {len(forecast.ids) - 1}, got {picked}")
    past = 3 * forecast.horizon if past is None else past
    columns = min(columns, len(picked))
    figure, axes = _figure(-(-len(picked) // columns), columns, (5.4, 2.7))
    series = None if history is None else (history if isinstance(history, Panel) else to_panel(history, forecast.freq))
    bands = [(v, *forecast.quantiles([0.5 - v / 200, 0.5 + v / 200])) for v in sorted(level, reverse=True)]
    shades = _shades(len(bands))
    middle = forecast.quantile(0.5)
    for k, axis in enumerate(axes.flat):
        if k >= len(picked):
            axis.set_visible(False)
            continue
        r = picked[k]
        t = forecast.times(r)
        if series is not None:
            i = (
                r
                if len(series) == len(forecast.ids) and series.ids[r] == forecast.ids[r]
                else (series.ids.index(forecast.ids[r]))
            )
            when = series.times(i)
            before = np.flatnonzero(when < t[0])[-past:]
            axis.plot(when[before], series.values[i][before], color="0.25", lw=1.0, label="history")
        for shade, (v, low, high) in zip(shades, bands, strict=True):
            axis.fill_between(t, low[r], high[r], color=shade, lw=0, label=f"{v:g} %")
        if paths and forecast.samples.size:
            axis.plot(t, forecast.samples[r, :paths].T, color="C0", lw=0.4, alpha=0.6)
        axis.plot(t, middle[r], color="C0", lw=1.4, label=f"{forecast.name} median")
        if baseline is not None:
            axis.plot(t, baseline.quantile(0.5)[r], color="C2", lw=1.0, ls="--", label=baseline.name)
        if actual is not None:
            axis.plot(t, actual[r], color="C3", lw=1.2, label="what happened")
        axis.axvline(t[0], color="0.6", lw=0.7, ls=":")
        axis.set_title(str(forecast.ids[r]) if titles is None else titles[k], fontsize=9)
        axis.tick_params(labelsize=7)
        for label in axis.get_xticklabels():
            label.set_rotation(25)
            label.set_horizontalalignment("right")
        if ylabel:
            axis.set_ylabel(ylabel, fontsize=8)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(7, len(labels)), fontsize=8, frameon=False)
    return figure


def reliability(forecasts: Sequence[Forecast], actual: np.ndarray, levels: Sequence[float] | None = None) -> Figure:
    """Share of observations below each predicted quantile against its level: the diagonal is calibration.

    Args:
        forecasts: one curve each. actual: (series, horizon), NaN = unknown.
        levels: quantile levels; 0.05 .. 0.95 by default.
    """
    grid = np.asarray(levels if levels is not None else np.arange(1, 20) / 20)
    figure, axes = _figure(1, 1, (3.8, 3.6))
    axis = axes[0, 0]
    axis.plot([0, 1], [0, 1], color="0.6", lw=0.8)
    known = ~np.isnan(actual)
    for f in forecasts:
        below = [(actual <= q)[known].mean() for q in f.quantiles(grid.tolist())]
        axis.plot(grid, below, marker=".", lw=1.2, label=f.name)
    axis.set_xlabel("quantile level", fontsize=8)
    axis.set_ylabel("share of observations below", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=8, frameon=False)
    return figure
