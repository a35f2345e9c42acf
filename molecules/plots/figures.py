"""Figures without pyplot: no global state, no display needed."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["figure_of", "panels_of"]


def figure_of(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    """A figure and its axes (rows, columns), `size` inches each."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:  # pragma: no cover - exercised by hiding the module
        raise ImportError('plots need matplotlib: pip install "scidiffuse[molecules]"') from error
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def panels_of(count: int, columns: int, size: float) -> tuple[Any, list[Any]]:
    """Square panels without frames, `columns` in a row; those beyond `count` stay empty."""
    columns = max(1, min(columns, count))
    figure, axes = figure_of(math.ceil(count / columns), columns, (size, size))
    for axis in axes.flat:
        axis.set_axis_off()
        axis.set_aspect("equal")
    return figure, list(axes.flat)[:count]
