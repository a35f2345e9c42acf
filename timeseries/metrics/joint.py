r"""Scores of joint distributions: of a whole path, or of several variables at a step.

*Energy score* (Gneiting and Raftery, 2007, section 4.3), in the unit of y, for a vector y of d components:

    ES(F, y) = E ||X - y|| - 1/2 E ||X - X'||,       d = 1: the CRPS

of the ensemble as it stands (``energy``) or fair (``fair``, S(S-1) pairs), as in :mod:`.crps`. For a standard normal
vector ES(0) = (sqrt 2 - 1) g_d and E ES = g_d with g_d = Gamma((d+1)/2) / Gamma(d/2). The paths of a forecast with
right margins and wrong dependence over time have the CRPS of a good forecast and the energy score of a worse one.

*CRPS-sum* (Salinas et al., "High-dimensional multivariate forecasting with low-rank Gaussian copula processes", 2019,
https://arxiv.org/abs/1910.03002): the wQL of the sum over the variables, sum_k y_k against the sums of each path. Names
of the definitions:

- ``timegrad``: 19 levels 0.05 .. 0.95, nearest rank (GluonTS's evaluator as TimeGrad and its successors call it);
- ``csdi``: 19 levels, linear interpolation;
- ``exact``: sum CRPS / sum |sum_k y_k|.

*Missing values.* A component that is NaN is left out of the norm: the row is then scored on what was observed, which is
still proper, but smaller, so compare only models scored on the same observations. A row of which nothing was observed
scores NaN. In CRPS-sum, a step counts only where *all* variables were observed.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from .crps import CrpsEstimator, crps_ensemble
from .quantile import CSDI_LEVELS, over_weight, quantiles_of, wql_from_quantiles

__all__ = ["CrpsSumMethod", "crps_sum", "energy_score"]

CrpsSumMethod = Literal["timegrad", "csdi", "exact"]

_AT_ONCE = 20_000_000  # numbers in the pairwise differences of one chunk: 160 MB


def energy_score(y: np.ndarray, samples: np.ndarray, estimator: CrpsEstimator = "energy") -> np.ndarray:
    """Energy score over the last axis, (rows,), by scoringrules, in chunks of rows.

    Args:
        y: (rows, d), NaN = unknown: d steps of a path, d variables of a step, or both flattened.
        samples: (rows, paths, d).
        estimator: ``"energy"`` scores the ensemble itself, ``"fair"`` the distribution behind it (iid members, S >= 2).

    Raises:
        ValueError: shapes that do not fit, samples that are not finite, an unknown estimator, one path where two are
            needed.
    """
    from .crps import pair

    try:
        import scoringrules
    except ImportError as error:  # pragma: no cover - exercised by hiding the module
        raise ImportError('energy_score needs scoringrules: pip install "scidiffuse[timeseries]"') from error
    y, samples = pair(y, samples)
    S, d = samples.shape[1:]
    if estimator not in ("energy", "fair"):
        raise ValueError(f"estimator must be 'energy' or 'fair', got {estimator!r}")
    if estimator == "fair" and S < 2:
        raise ValueError("the fair energy score needs at least 2 paths, got 1")
    missing = np.isnan(y)
    x = np.where(missing[:, None], 0.0, samples)  # 0 - 0: no part of the norm
    z = np.where(missing, 0.0, y)
    name = {"energy": "nrg", "fair": "fair"}[estimator]
    chunk = max(1, _AT_ONCE // (S * S * d))
    parts = [
        scoringrules.es_ensemble(z[k : k + chunk], x[k : k + chunk], estimator=name, backend="numpy")
        for k in range(0, len(z), chunk)
    ]
    scores = np.concatenate(parts) if parts else np.zeros(0)
    return np.where(missing.all(axis=1), np.nan, scores)


def crps_sum(y: np.ndarray, samples: np.ndarray, method: CrpsSumMethod = "timegrad") -> float:
    """CRPS-sum, dimensionless, by one of three named definitions (module docstring).

    Args:
        y: (windows, horizon, variables), NaN = unknown. samples: (windows, paths, horizon, variables).

    Raises:
        ValueError: shapes that do not fit, samples that are not finite, an unknown method.
    """
    y, samples = np.asarray(y, dtype=np.float64), np.asarray(samples, dtype=np.float64)
    if y.ndim != 3 or samples.ndim != 4 or y.shape != (samples.shape[0], *samples.shape[2:]):
        raise ValueError(
            "expected y (windows, horizon, variables) and samples (windows, paths, horizon, variables), got "
            f"{y.shape} and {samples.shape}"
        )
    if not np.isfinite(samples).all():
        raise ValueError(f"{int((~np.isfinite(samples)).sum())} samples are not finite")
    total, paths = y.sum(axis=-1), samples.sum(axis=-1)  # NaN wherever one variable is
    if method == "timegrad":
        return wql_from_quantiles(total, quantiles_of(paths, CSDI_LEVELS, "nearest"), CSDI_LEVELS)
    if method == "csdi":
        return wql_from_quantiles(total, quantiles_of(paths, CSDI_LEVELS, "linear"), CSDI_LEVELS)
    if method == "exact":
        return over_weight(float(np.nansum(crps_ensemble(total, paths))), total)
    raise ValueError(f"method must be 'timegrad', 'csdi' or 'exact', got {method!r}")
