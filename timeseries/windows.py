"""Scaling, lags and windows: from a :class:`Panel` to the arrays that a model sees.

A *window* of series y ending before time T holds L = C + H steps: C of context and H of horizon. Both parts are scaled
by numbers measured on the observed context alone, so that no future value leaks into the scale:

    x = (y - m) / s,    "mean_abs":  m = 0,               s = mean |y_context|      (TSDiff, DeepAR)
                        "standard":  m = mean y_context,  s = std y_context         (population standard deviation)

A scale below 1e-10 (a constant or all-zero context, or nothing observed) is replaced by the default that the training
series gave, and the caller is told for which series.

*Lag channels* are the same series moved by a season: channel j at step t holds y[t - lag_j], scaled by the same m, s.
They give a model with a short window a view of last week. At forecast time a lag channel is observed wherever its
source lies before T, which for lag >= H is everywhere.

Every array comes with its mask; what is not observed is 0 in the values and False in the mask.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .data import Panel, canonical_freq

__all__ = ["LAGS", "Scaler", "Window", "context_scale", "cut_window", "default_scale", "lags_for", "window_starts"]

Scaler = Literal["mean_abs", "standard"]

#: Lag presets of TSDiff, by frequency: days of last week and the three weeks before; seasons of 30 steps for days.
LAGS: dict[str, tuple[int, ...]] = {
    "h": tuple(24 * d for d in (1, 2, 3, 4, 5, 6, 7, 14, 21, 28)),
    "D": tuple(30 * k for k in range(1, 13)),
    "B": tuple(30 * k for k in range(1, 13)),
}

TINY = 1e-10


def lags_for(lags: str | Sequence[int] | None, freq: str) -> tuple[int, ...]:
    """Resolve ``"auto"`` (the preset of the frequency, none where there is no preset), None or explicit lags.

    Raises:
        ValueError: an unknown word, or lags that are not positive, distinct integers.
    """
    if lags is None:
        return ()
    if isinstance(lags, str):
        if lags != "auto":
            raise ValueError(f"lags must be 'auto', None or a sequence of positive integers, got {lags!r}")
        return LAGS.get(canonical_freq(freq), ())
    out = tuple(int(k) for k in lags)
    if any(k < 1 for k in out) or len(set(out)) != len(out) or any(int(k) != k for k in lags):
        raise ValueError(f"lags must be positive, distinct integers (steps back in time), got {tuple(lags)}")
    return out


def context_scale(context: np.ndarray, scaler: Scaler) -> tuple[float, float]:
    """Shift m and scale s of one context (C,), NaN = not observed; s = 0 (or NaN m) when the context cannot tell."""
    seen = context[~np.isnan(context)]
    if scaler == "mean_abs":
        return 0.0, float(np.mean(np.abs(seen))) if len(seen) else 0.0
    if scaler == "standard":
        return (float(np.mean(seen)), float(np.std(seen))) if len(seen) else (float("nan"), 0.0)
    raise ValueError(f"scaler must be 'mean_abs' or 'standard', got {scaler!r}")


def default_scale(panel: Panel, scaler: Scaler) -> tuple[float, float]:
    """Mean over series of the shift and scale of each whole series: what stands in when a context cannot tell."""
    pairs = np.array([context_scale(v, scaler) for v in panel.values])
    good = pairs[:, 1] > TINY
    if not good.any():
        return (float(np.nanmean(pairs[:, 0])) if np.isfinite(pairs[:, 0]).any() else 0.0), 1.0
    return float(pairs[good, 0].mean()), float(pairs[good, 1].mean())


@dataclass(frozen=True)
class Window:
    """One scaled window.

    Attributes:
        x: float32 (L, 1 + n_lags), scaled; 0 where not observed.
        observed: bool, the same shape: which entries of ``x`` are known values.
        shift, scale: m and s, so that y = m + s x.
    """

    x: np.ndarray
    observed: np.ndarray
    shift: float
    scale: float


def cut_window(
    y: np.ndarray,
    start: int,
    length: int,
    horizon: int,
    *,
    lags: Sequence[int] = (),
    scaler: Scaler = "mean_abs",
    default: tuple[float, float] = (0.0, 1.0),
    hide_future: bool = False,
    name: Any = None,
) -> Window:
    """The window of ``length`` steps that begins at ``start`` (which may be negative, or reach beyond the end).

    Args:
        y: values (n,) of one series, NaN = not observed.
        start: index of the window's first step; steps outside 0 .. n-1 are not observed.
        length: L. horizon: H, the last H steps; the scale is measured on the first L - H.
        lags: steps back of the lag channels.
        default: (m, s) used when the context is constant, zero or empty.
        hide_future: treat everything from the horizon's first step on as unknown, lag channels included.
        name: of the series, for the warning.

    Warns:
        UserWarning: the context could not give a scale (only when ``name`` is given).
    """
    t = np.arange(start, start + length)
    channels = [_take(y, t - lag) for lag in (0, *lags)]
    cut = start + length - horizon
    shift, scale = context_scale(channels[0][: length - horizon], scaler)
    if not scale > TINY * max(1.0, abs(shift)):
        if name is not None:
            what = "is constant, zero or empty" if scaler == "standard" else "is zero or empty"
            warnings.warn(
                f"series {name!r}: the observed context {what}, so it has no scale; using the training default "
                f"{default[1]:g}",
                stacklevel=2,
            )
        shift, scale = (default[0] if np.isnan(shift) else shift), default[1]
    values = np.stack(channels, axis=1)
    seen = ~np.isnan(values)
    if hide_future:
        source = t[:, None] - np.array([0, *lags])[None, :]
        seen &= source < cut
    x = np.where(seen, (values - shift) / scale, 0.0).astype(np.float32)
    return Window(x, seen, shift, scale)


def _take(y: np.ndarray, index: np.ndarray) -> np.ndarray:
    inside = (index >= 0) & (index < len(y))
    out = np.full(len(index), np.nan)
    out[inside] = y[index[inside]]
    return out


def window_starts(
    panel: Panel, length: int, horizon: int, lags: Sequence[int] = (), min_observed: float = 0.5
) -> np.ndarray:
    """Every training window, as (series, start) rows, long (n, 2).

    A window must lie inside its series with all its lags, must have at least the fraction ``min_observed`` of its
    context observed, and one observed horizon step.

    Raises:
        ValueError: no series is long enough; the message counts and lists the longest.
    """
    need = length + (max(lags) if lags else 0)
    rows, short = [], []
    for i, y in enumerate(panel.values):
        first = max(lags) if lags else 0
        count = len(y) - length - first + 1
        if count < 1:
            short.append((panel.ids[i], len(y)))
            continue
        starts = first + np.arange(count)
        total = np.concatenate([[0], np.cumsum(~np.isnan(y))])
        context = total[starts + length - horizon] - total[starts]
        future = total[starts + length] - total[starts + length - horizon]
        good = (context >= max(1.0, min_observed * (length - horizon))) & (future > 0)
        rows.append(np.stack([np.full(int(good.sum()), i), starts[good]], axis=1))
    listing = ", ".join(f"{u!r} ({n})" for u, n in sorted(short, key=lambda p: -p[1])[:5])
    if not rows or not sum(len(r) for r in rows):
        raise ValueError(
            f"no training window: a series needs {need} steps (context + horizon: {length - horizon} + {horizon} = "
            + f"{length}"
            + (f"; + longest lag {max(lags)} = {need}" if lags else "")
            + f") with at least {min_observed:.0%} of the context observed; {len(short)} of {len(panel)} series are "
            f"too short, the longest: {listing}. Shorten context_length, or drop the lags"
        )
    if short:
        warnings.warn(
            f"{len(short)} of {len(panel)} series are shorter than {need} steps and give no training window: {listing}",
            stacklevel=2,
        )
    return np.concatenate(rows).astype(np.int64)
