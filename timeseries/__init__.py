"""Probabilistic forecasts of time series by diffusion.

>>> from scidiffuse import timeseries as ts
>>> df = ts.load("nycflights13_weather")                       # or any frame with unique_id, ds, y
>>> model = ts.TSDiff.load(ts.pretrained())                     # or ts.TSDiff(config).fit(df)
>>> forecast = model.forecast(df, num_samples=100, seed=0)
>>> forecast.to_long(level=[80, 95]); forecast.plot(df).savefig("fan.png")

Nothing heavy is imported until a name is used. Data frames need pandas, pictures matplotlib, training Lightning: all of
them come with ``pip install "scidiffuse[timeseries]"``.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .baselines import (
        ets,
        random_walk,
        seasonal_naive,
        seasonal_naive_intervals,
        seasonal_naive_paths,
        standard_baselines,
    )
    from .calendar import calendar_features, calendar_names
    from .comparison import block_bootstrap, compare, diebold_mariano, relative_score, win_counts
    from .constraints import Aggregate, Bounds, Capacity, NonNegative, Reward, Scenario, Total
    from .csdi import CSDI, CSDIConfig
    from .data import (
        Panel,
        backtest,
        benchmark,
        canonical_freq,
        check_leak,
        from_gluonts,
        from_wide,
        infer_freq,
        load,
        read_gluonts,
        read_long,
        season_length,
        to_panel,
        write_gluonts,
        write_long,
    )
    from .fills import brownian_bridge, carry_forward, interpolate, seasonal_fill
    from .forecast import Forecast, NormalForecast, actuals, evaluate, rolling
    from .guidance import DivergenceError, MSEGuidance, QuantileGuidance
    from .imputation import Imputation
    from .metrics import (
        Score,
        coverage,
        crps_ensemble,
        crps_normal,
        crps_sum,
        discriminative_score,
        energy_score,
        linear_predictive_score,
        mase,
        msis,
        nd,
        per_horizon,
        pit,
        pit_histogram,
        predictive_score,
        scaled_crps,
        scaled_windows,
        scores,
        skill,
        wql,
    )
    from .missing import hidden, hide
    from .models import load_model
    from .oracle import GaussianAR
    from .plots import fan_chart, gap_chart, pit_plot, reliability
    from .refine import Refinement
    from .steering import ConstraintError
    from .tsdiff import TSDiff, TSDiffConfig
    from .tsdiff_cond import TSDiffCond, TSDiffCondConfig

_WHERE = {
    "baselines": (
        "ets",
        "random_walk",
        "seasonal_naive",
        "seasonal_naive_intervals",
        "seasonal_naive_paths",
        "standard_baselines",
    ),
    "comparison": ("block_bootstrap", "compare", "diebold_mariano", "relative_score", "win_counts"),
    "data": (
        "Panel",
        "backtest",
        "benchmark",
        "canonical_freq",
        "check_leak",
        "from_gluonts",
        "from_wide",
        "infer_freq",
        "load",
        "read_gluonts",
        "read_long",
        "season_length",
        "to_panel",
        "write_gluonts",
        "write_long",
    ),
    "forecast": ("Forecast", "NormalForecast", "actuals", "evaluate", "rolling"),
    "constraints": ("Aggregate", "Bounds", "Capacity", "NonNegative", "Reward", "Scenario", "Total"),
    "guidance": ("DivergenceError", "MSEGuidance", "QuantileGuidance"),
    "oracle": ("GaussianAR",),
    "refine": ("Refinement",),
    "steering": ("ConstraintError",),
    "metrics": (
        "Score",
        "coverage",
        "crps_ensemble",
        "crps_normal",
        "crps_sum",
        "discriminative_score",
        "energy_score",
        "linear_predictive_score",
        "mase",
        "msis",
        "nd",
        "per_horizon",
        "pit",
        "pit_histogram",
        "predictive_score",
        "scaled_crps",
        "scaled_windows",
        "scores",
        "skill",
        "wql",
    ),
    "plots": ("fan_chart", "gap_chart", "pit_plot", "reliability"),
    "tsdiff": ("TSDiff", "TSDiffConfig"),
    "calendar": ("calendar_features", "calendar_names"),
    "csdi": ("CSDI", "CSDIConfig"),
    "fills": ("brownian_bridge", "carry_forward", "interpolate", "seasonal_fill"),
    "imputation": ("Imputation",),
    "missing": ("hidden", "hide"),
    "models": ("load_model",),
    "tsdiff_cond": ("TSDiffCond", "TSDiffCondConfig"),
}
_MODULE = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "CSDI",
    "Aggregate",
    "Bounds",
    "CSDIConfig",
    "Capacity",
    "ConstraintError",
    "DivergenceError",
    "Forecast",
    "GaussianAR",
    "Imputation",
    "MSEGuidance",
    "NonNegative",
    "NormalForecast",
    "Panel",
    "QuantileGuidance",
    "Refinement",
    "Reward",
    "Scenario",
    "Score",
    "TSDiff",
    "TSDiffCond",
    "TSDiffCondConfig",
    "TSDiffConfig",
    "Total",
    "actuals",
    "backtest",
    "benchmark",
    "block_bootstrap",
    "brownian_bridge",
    "calendar_features",
    "calendar_names",
    "canonical_freq",
    "carry_forward",
    "check_leak",
    "compare",
    "coverage",
    "crps_ensemble",
    "crps_normal",
    "crps_sum",
    "diebold_mariano",
    "discriminative_score",
    "energy_score",
    "ets",
    "evaluate",
    "fan_chart",
    "from_gluonts",
    "from_wide",
    "gap_chart",
    "hidden",
    "hide",
    "infer_freq",
    "interpolate",
    "linear_predictive_score",
    "load",
    "load_model",
    "mase",
    "msis",
    "nd",
    "per_horizon",
    "pit",
    "pit_histogram",
    "pit_plot",
    "predictive_score",
    "pretrained",
    "random_walk",
    "read_gluonts",
    "read_long",
    "relative_score",
    "reliability",
    "rolling",
    "scaled_crps",
    "scaled_windows",
    "scores",
    "season_length",
    "seasonal_fill",
    "seasonal_naive",
    "seasonal_naive_intervals",
    "seasonal_naive_paths",
    "skill",
    "standard_baselines",
    "to_panel",
    "win_counts",
    "wql",
    "write_gluonts",
    "write_long",
]


def pretrained() -> Path:
    """The folder of the model that ships with the package: hourly temperature and electricity demand, see CARD.md."""
    return Path(__file__).parent / "assets" / "tsdiff-hourly"


def __getattr__(name: str) -> Any:
    if name in _MODULE:
        value = getattr(importlib.import_module(f".{_MODULE[name]}", __name__), name)
        globals()[name] = value
        return value
    if name in _WHERE:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
