"""The simplest forecasts, which every model is printed beside.

*Seasonal naive*: the value one season (m steps) before, repeated: yhat_{T+h} = y_{T+h-km}, with k = ceil(h/m) seasons
back. As a point forecast it is what papers print. The same rule has a distribution (Hyndman and Athanasopoulos,
*Forecasting: Principles and Practice*, 3rd ed., 2021, section 5.5): if seasonal differences y_t - y_{t-m} are
uncorrelated with variance s^2, the error k seasons ahead has variance k s^2. *With intervals* it is a far stronger
opponent: on exchange rates (m = 1, a random walk) it beats published neural forecasters.

Where the value a season back was not observed, the one before that is used, and the variance grows accordingly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .data import Panel, season_length, to_panel
from .forecast import Forecast, NormalForecast

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["seasonal_naive", "seasonal_naive_intervals", "seasonal_scale"]


def _repeat(panel: Panel, h: int, season: int) -> tuple[np.ndarray, np.ndarray]:
    """The seasonal naive values (series, h) and how many seasons back each was found."""
    loc, back = np.empty((len(panel), h)), np.empty((len(panel), h))
    for row, (u, y) in enumerate(zip(panel.ids, panel.values, strict=True)):
        for phase in range(min(season, h)):
            source = np.arange(len(y) - season + phase, -1, -season)
            seen = np.flatnonzero(~np.isnan(y[source])) if len(source) else source
            if len(seen) == 0:
                raise ValueError(
                    f"series {u!r} ({len(y)} steps) has no observation {season - phase} steps (plus seasons) before "
                    f"its end: the seasonal naive forecast with season {season} does not exist; pass a shorter season"
                )
            steps = np.arange(phase, h, season)
            loc[row, steps] = y[source[seen[0]]]
            back[row, steps] = 1 + seen[0] + steps // season
    return loc, back


def _ready(df: pd.DataFrame | Panel, h: int, season: int | None, freq: str | None) -> tuple[Panel, int, tuple]:
    panel = df if isinstance(df, Panel) else to_panel(df, freq)
    season = season_length(panel.freq) if season is None else season
    if h < 1 or season < 1:
        raise ValueError(f"h and season must be at least 1, got {h} and {season}")
    starts = tuple(panel.times(i, len(panel.values[i]), len(panel.values[i]) + 1)[0] for i in range(len(panel)))
    return panel, season, starts


def seasonal_naive(df: pd.DataFrame | Panel, h: int, season: int | None = None, freq: str | None = None) -> Forecast:
    """The seasonal naive *point* forecast, as one path a series.

    Args:
        df: long frame or panel, the history. h: horizon. season: m, by the frequency when None. freq: of the frame.

    Raises:
        ValueError: a phase of the season was never observed in some series (named).
    """
    panel, season, starts = _ready(df, h, season, freq)
    loc, _ = _repeat(panel, h, season)
    info = {"season": season}
    return Forecast(panel.ids, starts, panel.freq, loc[:, None, :], "SeasonalNaive", True, info)


def seasonal_naive_intervals(
    df: pd.DataFrame | Panel, h: int, season: int | None = None, freq: str | None = None
) -> NormalForecast:
    """The seasonal naive forecast with normal intervals: sd = s sqrt(k), s^2 = mean (y_t - y_{t-m})^2 over the history.

    Arguments and errors as :func:`seasonal_naive`; also a ``ValueError`` when a series has no pair one season apart.
    """
    panel, season, starts = _ready(df, h, season, freq)
    loc, back = _repeat(panel, h, season)
    sigma = np.empty(len(panel))
    for row, (u, y) in enumerate(zip(panel.ids, panel.values, strict=True)):
        difference = y[season:] - y[:-season]
        difference = difference[~np.isnan(difference)]
        if len(difference) == 0:
            raise ValueError(f"series {u!r} has no two observations {season} steps apart: its spread is unknown")
        sigma[row] = np.sqrt(np.mean(difference**2))
    sd = sigma[:, None] * np.sqrt(back)
    empty = np.zeros((len(panel), 0, h))
    info = {"season": season, "sigma": sigma.tolist()}
    return NormalForecast(panel.ids, starts, panel.freq, empty, "SeasonalNaive", True, info, loc=loc, sd=sd)


def seasonal_scale(panel: Panel, season: int | None = None) -> np.ndarray:
    """mean |y_t - y_{t-m}| of each series' history, (series,); 0 where it has no such pair."""
    m = season_length(panel.freq) if season is None else season
    out = np.zeros(len(panel))
    for i, y in enumerate(panel.values):
        d = np.abs(y[m:] - y[:-m])
        out[i] = np.nanmean(d) if np.isfinite(d).any() else 0.0
    return out
