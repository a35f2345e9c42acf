"""Pictures of forecasts: the fan chart, the reliability curve, the histogram of the probability integral transform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .data import Panel, to_panel

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from .forecast import Forecast
    from .imputation import Imputation

__all__ = ["fan_chart", "gap_chart", "pit_plot", "reliability"]


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


def _dates(axis: Any, times: pd.DatetimeIndex) -> None:
    """Short labels of time, what they share written once, in the zone of the times."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(tz=times.tz, minticks=3, maxticks=8)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=times.tz))
    axis.xaxis.get_offset_text().set_fontsize(7)


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

    Raises:
        ValueError: no such row, a history without the series of a drawn row, a truth of another shape.
    """
    picked = list(range(min(6, len(forecast.ids)))) if rows is None else list(rows)
    if not picked or not all(0 <= r < len(forecast.ids) for r in picked):
        raise ValueError(f"rows must be in 0 .. {len(forecast.ids) - 1}, got {picked}")
    past = 3 * forecast.horizon if past is None else past
    columns = min(columns, len(picked))
    figure, axes = _figure(-(-len(picked) // columns), columns, (5.4, 2.7))
    series = None if history is None else (history if isinstance(history, Panel) else to_panel(history, forecast.freq))
    foreign = [] if series is None else [forecast.ids[r] for r in picked if forecast.ids[r] not in series.ids]
    if series is not None and foreign:
        raise ValueError(f"the history has no series {foreign[0]!r}; it has {list(series.ids[:5])}")
    if actual is not None:
        _fits(forecast, actual)
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
            same = len(series) == len(forecast.ids) and series.ids[r] == forecast.ids[r]
            i = r if same else series.ids.index(forecast.ids[r])
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
        _dates(axis, t)
        if ylabel:
            axis.set_ylabel(ylabel, fontsize=8)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(7, len(labels)), fontsize=8, frameon=False)
    return figure


def reliability(
    forecasts: Sequence[Forecast],
    actual: np.ndarray,
    levels: Sequence[float] | None = None,
    *,
    band: float | None = 0.95,
    names: Sequence[str] | None = None,
) -> Figure:
    """Share of observations below each predicted quantile against its level: the diagonal is calibration.

    Args:
        forecasts: one curve each. actual: (series, horizon), NaN = unknown.
        levels: quantile levels; 0.05 .. 0.95 by default.
        band: where the share of a calibrated forecast lies with this probability at each level, if its n observations
            are independent (binomial); steps of one horizon are not, and wander further. None: no band.
        names: of the curves; those of the forecasts when None.

    Raises:
        ValueError: no forecast, no known observation, a band outside (0, 1).
    """
    known, labels = _known(forecasts, actual), _labels(forecasts, names)
    grid = np.asarray(levels if levels is not None else np.arange(1, 20) / 20)
    n = int(known.sum())
    figure, axes = _figure(1, 1, (4.4, 4.2))
    axis = axes[0, 0]
    if band is not None:
        low, high = _binomial(band, n, np.linspace(0, 1, 101)[1:-1])
        told = f"{band:.0%} band, if {n} observations were independent".replace("%", " %")
        axis.fill_between(np.linspace(0, 1, 101)[1:-1], low / n, high / n, color="0.9", lw=0, label=told)
    axis.plot([0, 1], [0, 1], color="0.6", lw=0.8)
    for f, name in zip(forecasts, labels, strict=True):
        below = [(actual <= q)[known].mean() for q in f.quantiles(grid.tolist())]
        axis.plot(grid, below, marker=".", lw=1.2, label=name)
    axis.set_xlabel("quantile level", fontsize=8)
    axis.set_ylabel("share of observations below", fontsize=8)
    axis.set_aspect("equal")
    axis.tick_params(labelsize=7)
    figure.legend(loc="outside lower center", fontsize=8, frameon=False)
    return figure


def pit_plot(
    forecasts: Sequence[Forecast],
    actual: np.ndarray,
    *,
    bins: int = 10,
    band: float = 0.95,
    names: Sequence[str] | None = None,
    seed: int = 0,
) -> Figure:
    """Histograms of the probability integral transform: flat is calibrated, a hump too wide, a bowl too narrow.

    Ensembles by their randomised ranks (exactly uniform where y is exchangeable with the paths), normal forecasts in
    closed form; see :mod:`.metrics.calibration`.

    Args:
        forecasts: one panel each. actual: (series, horizon), NaN = unknown.
        bins: of each histogram, best a divisor of S + 1 or far below it.
        band: the count of each bin of a calibrated forecast lies in the band with this probability, if its observations
            are independent (binomial); steps of one horizon are not.
        names: titles; the forecasts' own when None. seed: of the random parts of the ranks.

    Raises:
        ValueError: no forecast, no known observation, a point forecast (it has no distribution).
    """
    from .forecast import NormalForecast
    from .metrics import pit, pit_histogram, pit_normal

    _known(forecasts, actual)
    labels = _labels(forecasts, names)
    columns = len(forecasts) if len(forecasts) < 4 else -(-len(forecasts) // 2)
    figure, axes = _figure(-(-len(forecasts) // columns), columns, (3.4, 2.9))
    for axis in axes.flat[len(forecasts) :]:
        axis.set_visible(False)
    for axis, f, name in zip(axes.flat, forecasts, labels, strict=False):
        if isinstance(f, NormalForecast):
            u = pit_normal(actual, f.loc, f.sd)
        elif f.samples.shape[1] < 2:
            raise ValueError(f"{name!r} is a point forecast: it has no probability integral transform")
        else:
            u = pit(actual, f.samples, "random", seed)
        found = pit_histogram(u, bins, band)
        axis.bar(found.edges[:-1], found.counts, 1 / bins, align="edge", color=_shades(4)[-1], ec="white", lw=0.8)
        told = f"{band:.0%} band, if observations were independent".replace("%", " %")
        axis.axhspan(found.low, found.high, color="0.2", alpha=0.18, lw=0, zorder=3, label=told)  # over the bars
        axis.axhline(found.expected, color="0.3", lw=0.8, zorder=3)
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1.15 * max(found.counts.max(), found.high))
        axis.set_title(f"{name}, n = {found.n}", fontsize=9)
        axis.tick_params(labelsize=7)
    for axis in axes[-1]:
        axis.set_xlabel("probability integral transform", fontsize=8)
    for axis in axes[:, 0]:
        axis.set_ylabel("observations", fontsize=8)
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", fontsize=8, frameon=False)
    return figure


def _fits(forecast: Forecast, actual: np.ndarray) -> None:
    """Refuse a truth that is not (series, horizon)."""
    if actual.shape != (len(forecast.ids), forecast.horizon):
        raise ValueError(
            f"{forecast.name!r} has (series, horizon) = ({len(forecast.ids)}, {forecast.horizon}), the truth "
            f"{actual.shape}: give the truth of these rows"
        )


def _known(forecasts: Sequence[Forecast], actual: np.ndarray) -> np.ndarray:
    """Which observations are known, after the shapes were found to fit."""
    if not forecasts:
        raise ValueError("no forecast to draw")
    for f in forecasts:
        _fits(f, actual)
    known = ~np.isnan(actual)
    if not known.any():
        raise ValueError(f"none of the {actual.size} observations is known: there is nothing to draw")
    return known


def _labels(forecasts: Sequence[Forecast], names: Sequence[str] | None) -> list[str]:
    labels = [f.name for f in forecasts] if names is None else list(names)
    if len(labels) != len(forecasts):
        raise ValueError(f"expected one name a forecast ({len(forecasts)}), got {len(labels)}")
    return labels


def _binomial(level: float, n: int, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a binomial(n, p) count lies with probability `level`, for each p."""
    from scipy.stats import binom

    if not 0 < level < 1:
        raise ValueError(f"band must lie in (0, 1), got {level}")
    low, high = binom.interval(level, n, p)
    return np.asarray(low), np.asarray(high)


def gap_chart(
    imputation: Imputation,
    truth: pd.DataFrame | Panel | None = None,
    *,
    gaps: Sequence[tuple[int, int]] | None = None,
    level: Sequence[float] = (50, 80, 95),
    around: int | None = None,
    paths: int = 0,
    columns: int = 2,
    ylabel: str | None = None,
) -> Figure:
    """Gaps with their central intervals and median, between what was observed; one panel a gap.

    The bands reach to the observations on both sides, where they have no width, so that a gap of one step shows, too.

    Args:
        truth: long frame, or a panel of the same series, with the hidden values; drawn over the gaps.
        gaps: which gaps, as (row, number of the gap in that row); the 6 longest by default, in the order of the rows.
        level: intervals in percent. around: steps drawn before and after a gap; twice its length, 12 at least.
        paths: how many single paths to draw. columns: of the figure. ylabel: unit.

    Returns:
        a matplotlib ``Figure`` (``.savefig(path)``); no global pyplot state is touched.

    Raises:
        ValueError: nothing is missing, or there is no such gap.
    """
    spans = {(i, k): span for i in range(len(imputation)) for k, span in enumerate(imputation.gaps(i).tolist())}
    if not spans:
        raise ValueError("nothing is missing in this imputation: there is no gap to draw")
    longest = sorted(spans, key=lambda gap: spans[gap][0] - spans[gap][1])[:6]  # of equals the first
    picked = sorted(longest) if gaps is None else [(int(i), int(k)) for i, k in gaps]
    if not picked or any(gap not in spans for gap in picked):
        raise ValueError(f"gaps are (row, number), of {len(spans)} in {len(imputation)} rows; got {picked}")
    real = None if truth is None else (truth if isinstance(truth, Panel) else to_panel(truth, imputation.freq))
    same = real is not None and real.ids == imputation.ids
    columns = min(columns, len(picked))
    figure, axes = _figure(-(-len(picked) // columns), columns, (5.4, 2.7))
    bounds = sorted(level, reverse=True)
    edges = imputation.quantiles([q for v in bounds for q in (0.5 - v / 200, 0.5 + v / 200)] + [0.5])
    shades = _shades(len(bounds))
    entries: dict[str, Any] = {}
    for axis, (i, k) in zip(axes.flat, picked, strict=False):
        first, stop = spans[i, k]
        margin = max(12, 2 * (stop - first)) if around is None else around
        view = slice(max(0, first - margin), min(len(imputation.missing[i]), stop + margin))
        when, q, missing = imputation.times(i)[view], edges[i][:, view], imputation.missing[i][view]
        near = missing.copy()  # and the observations beside
        near[:-1] |= missing[1:]
        near[1:] |= missing[:-1]
        for b, (v, shade) in enumerate(zip(bounds, shades, strict=True)):
            axis.fill_between(when, q[2 * b], q[2 * b + 1], where=near, color=shade, lw=0, label=f"{v:g} %")
        if paths:
            lines = np.where(near, imputation.samples[i][:paths, view], np.nan)
            axis.plot(when, lines.T, color="C0", lw=0.4, alpha=0.6)
        axis.plot(when, np.where(near, q[-1], np.nan), color="C0", lw=1.4, label=f"{imputation.name} median")
        if real is not None and (same or imputation.ids[i] in real.ids):
            row = i if same else real.ids.index(imputation.ids[i])
            position = real.times(row).get_indexer(when)
            known = np.where(near & (position >= 0), real.values[row][position], np.nan)
            axis.plot(when, known, color="C3", lw=1.2, marker=".", ms=2, label="hidden value")
        axis.plot(when, np.where(missing, np.nan, q[-1]), color="0.25", lw=1.0, label="observed")
        axis.set_title(f"{imputation.ids[i]}, {stop - first} missing from {imputation.times(i)[first]}", fontsize=9)
        axis.tick_params(labelsize=7)
        _dates(axis, when)
        if ylabel:
            axis.set_ylabel(ylabel, fontsize=8)
        handles, labels = axis.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    for axis in axes.flat[len(picked) :]:
        axis.set_visible(False)
    figure.legend(
        list(entries.values()), list(entries), loc="outside lower center", ncols=min(7, len(entries)), fontsize=8,
        frameon=False,
    )  # fmt: skip
    return figure
