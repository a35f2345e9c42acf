r"""The simplest imputations, which every model is printed beside.

*Linear interpolation* between the observations at both ends of a gap; the nearest observation before the first and
after the last. *Carry forward* repeats the last observation (before the first one: the first). *Seasonal fill* takes
the observation a season (m steps) before or after, the mean of both where both are there, and goes one season further
where neither is. These are points: one path.

*Brownian bridge*: linear interpolation with its spread. If the series is a random walk with steps N(0, s^2), then given
y_a and y_b the steps between are normal with

    E[y_t] = y_a + (t - a)/(b - a) (y_b - y_a),    Cov[y_t, y_u] = s^2 (t - a)(b - u)/(b - a),    a <= t <= u <= b,

and outside the observations Cov[y_t, y_u] = s^2 min(|t - a|, |u - a|) around the nearest one, y_a. A gap of g steps
adds a change of variance g s^2 to the likelihood of the observations, so the estimate of maximum likelihood is
s^2 = mean of change^2 / g over pairs of neighbouring observations. For series near a random walk it is a strong
opponent on short gaps; it knows no season.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.noise import keyed_generator
from .data import Panel, season_length, to_panel
from .imputation import Imputation

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["brownian_bridge", "carry_forward", "interpolate", "seasonal_fill"]


def _points(
    df: pd.DataFrame | Panel, freq: str | None, name: str, fill: Callable[[Any, np.ndarray, Panel], np.ndarray]
) -> Imputation:
    """One path a series; `fill` gets the name and values of a series with a gap and gives it whole."""
    panel = df if isinstance(df, Panel) else to_panel(df, freq)
    paths = []
    for u, y in zip(panel.ids, panel.values, strict=True):
        if np.isnan(y).all():
            raise ValueError(f"series {u!r} has no observed value: there is nothing that its gaps could be filled from")
        paths.append(fill(u, y, panel)[None] if np.isnan(y).any() else None)
    return Imputation.completing(panel, paths, 1, name)


def _linear(y: np.ndarray) -> np.ndarray:
    at, seen = np.arange(len(y)), ~np.isnan(y)
    return np.interp(at, at[seen], y[seen])


def interpolate(df: pd.DataFrame | Panel, freq: str | None = None) -> Imputation:
    """Linear interpolation, as one path a series.

    Args:
        df: long frame or panel, NaN = missing. freq: of the frame.

    Raises:
        ValueError: a series without one observation (named).
    """
    return _points(df, freq, "Linear", lambda u, y, panel: _linear(y))


def carry_forward(df: pd.DataFrame | Panel, freq: str | None = None) -> Imputation:
    """The last observation carried forward, as one path a series. Arguments and errors as :func:`interpolate`."""

    def fill(u: Any, y: np.ndarray, panel: Panel) -> np.ndarray:
        seen = ~np.isnan(y)
        last = np.maximum.accumulate(np.where(seen, np.arange(len(y)), -1))
        return y[np.where(last < 0, np.argmax(seen), last)]

    return _points(df, freq, "CarryForward", fill)


def seasonal_fill(df: pd.DataFrame | Panel, season: int | None = None, freq: str | None = None) -> Imputation:
    """What was observed a season before and after, as one path a series.

    Args:
        df: long frame or panel, NaN = missing. season: m, by the frequency when None. freq: of the frame.

    Raises:
        ValueError: a series without one observation, or one whose phase of the season was never observed (named); a
            season below 1.
    """
    if season is not None and season < 1:
        raise ValueError(f"season must be at least 1, got {season}")

    def fill(u: Any, y: np.ndarray, panel: Panel) -> np.ndarray:
        m, out = season_length(panel.freq) if season is None else season, y.copy()
        for k in range(1, len(y) // m + 1):
            todo = np.isnan(out)
            if not todo.any():
                break
            around = np.full((2, len(y)), np.nan)
            around[0, k * m :] = y[: len(y) - k * m]
            around[1, : len(y) - k * m] = y[k * m :]
            count = (~np.isnan(around)).sum(axis=0)
            todo &= count > 0
            out[todo] = np.nansum(around, axis=0)[todo] / count[todo]
        if np.isnan(out).any():
            raise ValueError(
                f"series {u!r} has no observation a multiple of {m} steps away from step "
                f"{int(np.flatnonzero(np.isnan(out))[0]) + 1}: the seasonal fill does not exist; pass a shorter season"
            )
        return out

    return _points(df, freq, "SeasonalFill", fill)


def brownian_bridge(
    df: pd.DataFrame | Panel, num_samples: int = 100, freq: str | None = None, seed: int = 0
) -> Imputation:
    """Joint paths of a random walk through the observations: linear interpolation with a spread.

    Args:
        df: long frame or panel, NaN = missing. num_samples: S. freq: of the frame. seed: of the paths.

    Returns:
        an imputation whose ``info["sigma"]`` are the estimated standard deviations of a step, one a series.

    Raises:
        ValueError: a series with a gap and fewer than 2 observations: its spread is unknown (named).
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")
    panel = df if isinstance(df, Panel) else to_panel(df, freq)
    paths: list[np.ndarray | None] = []
    sigmas: list[float] = []
    for i, (u, y) in enumerate(zip(panel.ids, panel.values, strict=True)):
        seen = np.flatnonzero(~np.isnan(y))
        gap = np.diff(seen)
        sigmas.append(float(np.sqrt(np.mean(np.diff(y[seen]) ** 2 / gap))) if len(seen) > 1 else float("nan"))
        if len(seen) == len(y):
            paths.append(None)
            continue
        if len(seen) < 2:
            raise ValueError(f"series {u!r} has {len(seen)} observations: the spread of a random walk needs 2")
        steps = keyed_generator(seed, "bridge", i).standard_normal((num_samples, len(y)))
        walk = np.cumsum(steps, axis=1)
        # subtracting the line through the walk at the observations leaves a bridge between each pair of them, and
        # outside of them the walk away from the nearest one
        line = np.stack([np.interp(np.arange(len(y)), seen, w[seen]) for w in walk])
        paths.append(_linear(y) + sigmas[-1] * (walk - line))
    return Imputation.completing(panel, paths, num_samples, "BrownianBridge", True, {"sigma": sigmas, "seed": seed})
