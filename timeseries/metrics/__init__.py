"""Scores of probabilistic forecasts and of synthetic windows, each with its pinned definition.

Notation: y an observation, x_1 .. x_S the ensemble, F its empirical distribution, f_q its q-quantile. The definitions
and their sources are derived where they are computed:

====================  ================================================================================================
:mod:`.quantile`      pinball loss; wQL by ``gluonts``, ``csdi`` or ``exact``
:mod:`.crps`          CRPS of an ensemble (exact and fair) and of a normal distribution; scaled CRPS
:mod:`.point`         ND, NRMSE, MASE; interval score, MSIS
:mod:`.calibration`   coverage, MAE_Coverage, probability integral transform and its histogram
:mod:`.joint`         energy score, CRPS-sum
:mod:`.synthesis`     linear predictive, discriminative and predictive score
:mod:`.score`         what a reported number is: :class:`Score`; bootstrap over independent units; skill
:mod:`.report`        :func:`scores` (all of them, with intervals) and :func:`per_horizon`
====================  ================================================================================================

Tests of differences between forecasts are in :mod:`scidiffuse.timeseries.comparison`. Observations that are NaN count
nowhere.
"""

from __future__ import annotations

from .calibration import (
    PitHistogram,
    coverage,
    coverage_of_quantiles,
    mae_coverage,
    pit,
    pit_histogram,
    pit_normal,
)
from .crps import CrpsEstimator, crps_ensemble, crps_normal, scaled_crps
from .joint import CrpsSumMethod, crps_sum, energy_score
from .point import interval_score, mase, msis, nd, nrmse
from .quantile import (
    CSDI_LEVELS,
    GLUONTS_LEVELS,
    METHODS,
    WqlMethod,
    pinball,
    quantiles_of,
    wql,
    wql_from_quantiles,
)
from .report import Cells, cells, per_horizon, scores
from .score import Cluster, Score, bootstrap, skill
from .synthesis import discriminative_score, linear_predictive_score, predictive_score, scaled_windows

__all__ = [
    "CSDI_LEVELS",
    "GLUONTS_LEVELS",
    "METHODS",
    "Cells",
    "Cluster",
    "CrpsEstimator",
    "CrpsSumMethod",
    "PitHistogram",
    "Score",
    "WqlMethod",
    "bootstrap",
    "cells",
    "coverage",
    "coverage_of_quantiles",
    "crps_ensemble",
    "crps_normal",
    "crps_sum",
    "discriminative_score",
    "energy_score",
    "interval_score",
    "linear_predictive_score",
    "mae_coverage",
    "mase",
    "msis",
    "nd",
    "nrmse",
    "per_horizon",
    "pinball",
    "pit",
    "pit_histogram",
    "pit_normal",
    "predictive_score",
    "quantiles_of",
    "scaled_crps",
    "scaled_windows",
    "scores",
    "skill",
    "wql",
    "wql_from_quantiles",
]
