r"""The simplest forecasts, which every model is printed beside.

*Seasonal naive*: the value one season (m steps) before, repeated: yhat_{T+h} = y_{T+h-km}, with k = ceil(h/m) seasons
back. As a point forecast it is what papers print. The same rule has a distribution (Hyndman and Athanasopoulos,
*Forecasting: Principles and Practice*, 3rd ed., 2021, section 5.5, https://otexts.com/fpp3): if seasonal differences
y_t - y_{t-m} are uncorrelated with variance s^2, the error k seasons ahead has variance k s^2. *With intervals* it is a
far stronger opponent: on exchange rates (m = 1, a random walk) it beats published neural forecasters. Its *paths* add
up one normal difference a season, so they are right jointly, not only at each step.

*Random walk*, m = 1: y_{T+h} = y_T + c h + e_1 + .. + e_h, variance s^2 each. Without drift c = 0. With drift, c is the
mean step, c = (y_T - y_1)/(T - 1), and it is uncertain itself:

    Var = s^2 (h + h^2 / (T - 1))          = h s^2 (1 + h/(T - 1)),     s^2 = sum e^2 / (T - 1 - p),  p = 1 (0) with
                                                                        (without) drift.

*ETS* (exponential smoothing by AICc; Hyndman et al., 2008) where statsforecast is installed.

*Missing values.* Seasonal naive: where the value a season back was not observed, the one before that is used, and the
variance grows accordingly. Random walk: steps between neighbouring observations g apart have mean c g and variance
g s^2, which is its exact likelihood; a horizon begins after the last *observed* value, and the steps since then count.
ETS: the run of observations after the last gap is used, and what is missing at the end is forecast, too.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .data import Panel, season_length, to_panel
from .forecast import Forecast, NormalForecast

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ets",
    "random_walk",
    "seasonal_naive",
    "seasonal_naive_intervals",
    "seasonal_naive_paths",
    "seasonal_scale",
    "standard_baselines",
]


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


def seasonal_naive_paths(
    df: pd.DataFrame | Panel,
    h: int,
    num_samples: int = 100,
    season: int | None = None,
    freq: str | None = None,
    seed: int = 0,
) -> Forecast:
    """Joint sample paths with the margins of :func:`seasonal_naive_intervals`: a season's error stays in the next ones.

    With ``season=1`` the paths of a random walk. Arguments and errors as there; ``num_samples`` paths a series.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")
    normal = seasonal_naive_intervals(df, h, season, freq)
    m = normal.info["season"]
    rng = np.random.Generator(np.random.PCG64(seed))
    z = rng.standard_normal((len(normal.ids), num_samples, h))
    variance = normal.sd**2
    # what each season adds to the variance of the one before, at the same phase
    added = variance - np.concatenate([np.zeros((len(variance), min(m, h))), variance[:, :-m]], axis=1)
    step = np.sqrt(np.maximum(added, 0.0))[:, None] * z
    for phase in range(min(m, h)):
        step[:, :, phase::m] = np.cumsum(step[:, :, phase::m], axis=2)
    paths = normal.loc[:, None] + step
    return Forecast(normal.ids, normal.starts, normal.freq, paths, "SeasonalNaive", True, dict(normal.info))


def random_walk(df: pd.DataFrame | Panel, h: int, drift: bool = False, freq: str | None = None) -> NormalForecast:
    """Random walk with normal intervals (module docstring); the name is ``RandomWalk`` or ``RandomWalkDrift``.

    Args:
        df: long frame or panel, the history. h: horizon. drift: estimate a mean step. freq: of the frame.

    Raises:
        ValueError: a series with fewer than 2 observations (3 with drift): its spread is unknown (named).
    """
    panel, _, starts = _ready(df, h, 1, freq)
    loc, sd = np.empty((len(panel), h)), np.empty((len(panel), h))
    sigmas, drifts = [], []
    for row, (u, y) in enumerate(zip(panel.ids, panel.values, strict=True)):
        seen = np.flatnonzero(~np.isnan(y))
        least = 3 if drift else 2
        if len(seen) < least:
            raise ValueError(
                f"series {u!r} has {len(seen)} observations: the spread of a random walk"
                f"{' with drift' if drift else ''} needs {least}"
            )
        gap, change = np.diff(seen), np.diff(y[seen])
        span = int(seen[-1] - seen[0])
        c = float(y[seen[-1]] - y[seen[0]]) / span if drift else 0.0
        sigma = float(np.sqrt(np.sum((change - c * gap) ** 2 / gap) / (len(gap) - drift)))
        ahead = len(y) - 1 - seen[-1] + np.arange(1, h + 1)
        loc[row] = y[seen[-1]] + c * ahead
        sd[row] = sigma * np.sqrt(ahead + (ahead**2 / span if drift else 0.0))
        sigmas.append(sigma)
        drifts.append(c)
    info: dict[str, Any] = {"season": 1, "sigma": sigmas} | ({"drift": drifts} if drift else {})
    name = "RandomWalkDrift" if drift else "RandomWalk"
    empty = np.zeros((len(panel), 0, h))
    return NormalForecast(panel.ids, starts, panel.freq, empty, name, True, info, loc=loc, sd=sd)


def ets(
    df: pd.DataFrame | Panel,
    h: int,
    season: int | None = None,
    freq: str | None = None,
    model: str = "ZZZ",
    past: int | None = 1000,
) -> NormalForecast:
    """Exponential smoothing, error, trend and season chosen by AICc, with normal intervals, by statsforecast's AutoETS.

    The standard deviation is that of its central 68.27 % interval, half the width. That is exact for additive errors;
    for models whose distribution statsforecast simulates it is the normal one of the same interval.

    Args:
        season: m, by the frequency when None; 1, and so no season, above 24, where ETS is not meant to go.
        model: three letters, error, trend, season: N, A, M or Z (chosen).
        past: only the last observations of a series are used, for the time of a fit grows with them: seconds a series
            at 1,000, and old observations have next to no weight. None: all.

    Raises:
        ImportError: statsforecast is not installed.
        ValueError: fewer than 2 m + 2 observations (and 8) after the last gap of a series (named).
    """
    try:
        AutoETS = importlib.import_module("statsforecast.models").AutoETS
    except ImportError as error:
        raise ImportError(
            "ets needs statsforecast, which is no part of an extra, because it may ask for another pandas: "
            "pip install statsforecast"
        ) from error
    from scipy.special import ndtr

    panel, m, starts = _ready(df, h, season, freq)
    m = m if m <= 24 else 1
    least = max(8, 2 * m + 2)
    if past is not None and past < least:
        raise ValueError(f"past must be at least {least} with season {m}, got {past}")
    one_sd = 100 * float(2 * ndtr(1.0) - 1)  # percent
    loc, sd = np.empty((len(panel), h)), np.empty((len(panel), h))
    for row, (u, y) in enumerate(zip(panel.ids, panel.values, strict=True)):
        last = int(np.flatnonzero(~np.isnan(y))[-1])
        gaps = np.flatnonzero(np.isnan(y[:last]))
        run = y[(gaps[-1] + 1 if len(gaps) else 0) : last + 1]
        if len(run) < least:
            raise ValueError(
                f"series {u!r} has {len(run)} observations after its last gap: ETS with season {m} needs {least}"
            )
        run = np.ascontiguousarray(run if past is None else run[-past:])
        ahead = len(y) - 1 - last
        out = AutoETS(season_length=m, model=model).forecast(run, h + ahead, level=[one_sd])
        low, high = out[f"lo-{one_sd}"], out[f"hi-{one_sd}"]
        loc[row] = np.asarray(out["mean"], dtype=np.float64)[ahead:]
        sd[row] = 0.5 * (np.asarray(high, dtype=np.float64) - np.asarray(low, dtype=np.float64))[ahead:]
    empty = np.zeros((len(panel), 0, h))
    return NormalForecast(
        panel.ids, starts, panel.freq, empty, "ETS", True, {"season": m, "model": model, "past": past}, loc=loc, sd=sd
    )


def standard_baselines(
    df: pd.DataFrame | Panel, h: int, season: int | None = None, freq: str | None = None, with_ets: bool | None = None
) -> dict[str, Forecast]:
    """The forecasts that stand beside every model, by name.

    Args:
        df: long frame or panel, the history. h: horizon. season, freq: as above.
        with_ets: None: where statsforecast is installed.

    Returns:
        ``seasonal naive, point``, ``seasonal naive, with intervals``, ``random walk``, ``random walk with drift``, and
        ``ETS``. A baseline that some series cannot have (too short) is left out, with a warning that says why.
    """
    if with_ets is None:
        with_ets = importlib.util.find_spec("statsforecast") is not None
    panel = df if isinstance(df, Panel) else to_panel(df, freq)
    makers: dict[str, Callable[[], Forecast]] = {
        "seasonal naive, point": lambda: seasonal_naive(panel, h, season),
        "seasonal naive, with intervals": lambda: seasonal_naive_intervals(panel, h, season),
        "random walk": lambda: random_walk(panel, h),
        "random walk with drift": lambda: random_walk(panel, h, drift=True),
    }
    if with_ets:
        makers["ETS"] = lambda: ets(panel, h, season)
    out: dict[str, Forecast] = {}
    for name, make in makers.items():
        try:
            out[name] = make()
        except ValueError as error:
            if h < 1 or (season is not None and season < 1):
                raise
            warnings.warn(f"no baseline {name!r}: {error}", stacklevel=2)
    return out


def seasonal_scale(panel: Panel, season: int | None = None) -> np.ndarray:
    """mean |y_t - y_{t-m}| of each series' history, (series,); 0 where it has no such pair."""
    m = season_length(panel.freq) if season is None else season
    out = np.zeros(len(panel))
    for i, y in enumerate(panel.values):
        d = np.abs(y[m:] - y[:-m])
        out[i] = np.nanmean(d) if np.isfinite(d).any() else 0.0
    return out
