r"""Scores of points and of central intervals.

With f the point forecast, y the truth, r a row (a series, or one window of it) and m the season:

    ND     = sum |f - y| / sum |y|                           (all rows; the wQL of a point forecast by any definition)
    NRMSE  = sqrt(mean (f - y)^2) / mean |y|                 (all rows)
    e_r    = mean |y_t - y_{t-m}|                            (over the *history* of row r: the seasonal error)
    MASE   = mean over r of  mean_h |f - y| / e_r
    MSIS   = mean over r of  mean_h IS / e_r
    IS     = (U - L) + 2/alpha (L - y)_+ + 2/alpha (y - U)_+ (interval score of the central 1 - alpha interval [L, U])

MASE: Hyndman and Koehler, "Another look at measures of forecast accuracy", 2006
(https://doi.org/10.1016/j.ijforecast.2006.03.001), with the seasonal error of the M4 competition. IS: Gneiting and
Raftery, 2007, section 6.2. MSIS: the M4 competition (Makridakis et al., 2020,
https://doi.org/10.1016/j.ijforecast.2019.04.014), alpha = 0.05. GluonTS takes the median as the point of ND and MASE,
the mean as that of NRMSE.

Missing observations (NaN) count nowhere. A row whose seasonal error is zero (a constant history) or unknown has no
MASE and no MSIS: it is left out, and a warning counts and lists such rows.
"""

from __future__ import annotations

import numpy as np

from .crps import over_scale, row_means
from .quantile import over_weight

__all__ = ["interval_score", "mase", "msis", "nd", "nrmse"]


def _same(y: np.ndarray, **others: np.ndarray) -> list[np.ndarray]:
    y = np.asarray(y, dtype=np.float64)
    out = [y]
    for name, value in others.items():
        value = np.asarray(value, dtype=np.float64)
        if value.shape != y.shape:
            raise ValueError(f"expected {name} of the shape of y, {y.shape}, got {value.shape}")
        if not np.isfinite(value).all():
            raise ValueError(f"{int((~np.isfinite(value)).sum())} values of {name} are not finite")
        out.append(value)
    if np.isinf(y).any():
        raise ValueError(f"{int(np.isinf(y).sum())} observations are infinite: write NaN for 'not observed'")
    return out


def nd(y: np.ndarray, f: np.ndarray) -> float:
    """Normalised deviation, dimensionless; NaN with a warning when sum |y| is zero.

    Args:
        y: (series, horizon), NaN = unknown. f: point forecast, the same shape.
    """
    y, f = _same(y, f=f)
    return over_weight(float(np.nansum(np.abs(f - y))), y)


def nrmse(y: np.ndarray, f: np.ndarray) -> float:
    """Root mean squared error over the mean absolute value, dimensionless; arguments as :func:`nd`."""
    y, f = _same(y, f=f)
    n = int((~np.isnan(y)).sum())
    return over_weight(float(np.sqrt(np.nansum((f - y) ** 2) * n)), y)


def mase(y: np.ndarray, f: np.ndarray, scale: np.ndarray) -> float:
    """Mean absolute scaled error, dimensionless: 1 is as good as the seasonal naive forecast was in the history.

    Args:
        y: (series, horizon), NaN = unknown. f: point forecast, the same shape.
        scale: (series,), the seasonal error e_r of each row's history (:func:`.baselines.seasonal_scale`).
    """
    y, f = _same(y, f=f)
    return _mean(over_scale(row_means(np.abs(f - y)), scale, "MASE"))


def interval_score(y: np.ndarray, lower: np.ndarray, upper: np.ndarray, alpha: float = 0.05) -> np.ndarray:
    """IS elementwise, in the unit of y, NaN where y is (scoringrules' ``interval_score`` on checked input).

    Args:
        y: (series, horizon). lower, upper: the bounds, the same shape, lower <= upper.
        alpha: the interval is meant to miss this share of the observations, in (0, 1).
    """
    y, lower, upper = _same(y, lower=lower, upper=upper)
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is the share outside the interval, in (0, 1), got {alpha}")
    if (lower > upper).any():
        raise ValueError(f"{int((lower > upper).sum())} lower bounds lie above their upper bounds: swapped?")
    try:
        import scoringrules
    except ImportError as error:  # pragma: no cover - exercised by hiding the module
        raise ImportError('interval_score needs scoringrules: pip install "scidiffuse[timeseries]"') from error
    score = np.asarray(scoringrules.interval_score(y, lower, upper, alpha, backend="numpy"))
    return score.reshape(y.shape)  # it drops axes of length 1


def msis(y: np.ndarray, lower: np.ndarray, upper: np.ndarray, scale: np.ndarray, alpha: float = 0.05) -> float:
    """Mean scaled interval score, dimensionless; arguments as :func:`interval_score` and :func:`mase`."""
    return _mean(over_scale(row_means(interval_score(y, lower, upper, alpha)), scale, "MSIS"))


def _mean(rows: np.ndarray) -> float:
    return float(np.nanmean(rows)) if np.isfinite(rows).any() else float("nan")
