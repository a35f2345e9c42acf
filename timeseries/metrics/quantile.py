r"""Quantile scores: pinball loss and the weighted quantile loss in its three published definitions.

*Pinball (quantile) loss*, doubled as GluonTS does: QL_q(f, y) = 2 |(f - y) (1[y <= f] - q)|.

*Weighted quantile loss*, "wQL", often printed as "CRPS" or ``mean_wQuantileLoss``:

    wQL = mean over q of   sum QL_q(f_q, y) / sum |y|        (sums over all series, windows and steps)

Three definitions live under that name and differ by up to 9 % on the same forecast, so each has its own name here and
:func:`.skill` refuses to compare across them:

- ``gluonts``: q = 0.1 .. 0.9, f_q the sorted sample of rank round((S - 1) q) (numpy rounding, halves to even);
- ``csdi``: q = 0.05 .. 0.95 in steps of 0.05, f_q interpolated linearly between samples;
- ``exact``: the integral over all q instead of a mean over some: int_0^1 QL_q dq = CRPS, so it is sum CRPS / sum |y|.

An observation that is NaN counts in no sum; a wQL over sum |y| = 0 is undefined: NaN, with a warning.
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np

from .crps import crps_ensemble, pair

__all__ = [
    "CSDI_LEVELS",
    "GLUONTS_LEVELS",
    "METHODS",
    "WqlMethod",
    "pinball",
    "quantiles_of",
    "wql",
    "wql_from_quantiles",
]

WqlMethod = Literal["gluonts", "csdi", "exact"]

METHODS: tuple[WqlMethod, ...] = ("gluonts", "csdi", "exact")
GLUONTS_LEVELS = tuple(k / 10 for k in range(1, 10))
CSDI_LEVELS = tuple(k / 20 for k in range(1, 20))


def pinball(y: np.ndarray, f: np.ndarray, q: float | np.ndarray) -> np.ndarray:
    """QL_q(f, y) = 2 |(f - y) (1[y <= f] - q)| elementwise; NaN where ``y`` is NaN."""
    return 2.0 * np.abs((f - y) * ((y <= f) - q))


def quantiles_of(samples: np.ndarray, levels: tuple[float, ...], method: Literal["nearest", "linear"]) -> np.ndarray:
    """Quantiles (Q, series, horizon) of samples (series, paths, horizon).

    ``nearest`` takes the sorted sample of rank round((S - 1) q), as GluonTS; ``linear`` interpolates, as numpy.
    """
    if method == "nearest":
        ranks = [int(np.round((samples.shape[1] - 1) * q)) for q in levels]
        return np.moveaxis(np.sort(samples, axis=1)[:, ranks], 1, 0)
    return np.asarray(np.quantile(samples, levels, axis=1))


def check_quantiles(y: np.ndarray, quantiles: np.ndarray, levels: tuple[float, ...]) -> np.ndarray:
    """y as float64, after the shapes and levels were found right. Raises ``ValueError``."""
    y = np.asarray(y, dtype=np.float64)
    if quantiles.shape != (len(levels), *y.shape):
        raise ValueError(f"expected quantiles {(len(levels), *y.shape)} for y {y.shape}, got {quantiles.shape}")
    if not all(0 < q < 1 for q in levels):
        raise ValueError(f"levels must lie in (0, 1), got {levels}")
    if np.isinf(y).any():
        raise ValueError(f"{int(np.isinf(y).sum())} observations are infinite: write NaN for 'not observed'")
    return y


def wql_from_quantiles(y: np.ndarray, quantiles: np.ndarray, levels: tuple[float, ...]) -> float:
    """wQL of quantile forecasts.

    Args:
        y: (series, horizon), NaN = unknown.
        quantiles: (Q, series, horizon). levels: Q numbers in (0, 1).

    Returns:
        the score, dimensionless; NaN (with a warning) when sum |y| is zero, for then it is undefined.
    """
    y = check_quantiles(y, quantiles, levels)
    losses = [np.nansum(pinball(y, f, q)) for f, q in zip(quantiles, levels, strict=True)]
    return over_weight(float(np.mean(losses)), y)


def over_weight(total: float, y: np.ndarray) -> float:
    """total / sum |y|, NaN with a warning where sum |y| is as good as zero."""
    weight = float(np.nansum(np.abs(y)))
    if not weight > 1e-12 * max(1, y.size):
        warnings.warn(
            f"sum |y| = {weight:g} over {int((~np.isnan(y)).sum())} observations: wQL is undefined (NaN); use "
            "crps_ensemble or scaled_crps",
            stacklevel=3,
        )
        return float("nan")
    return total / weight


def wql(y: np.ndarray, samples: np.ndarray, method: WqlMethod = "gluonts") -> float:
    """Weighted quantile loss of an ensemble, by one of three named definitions (module docstring).

    Args:
        y: (series, horizon), NaN = unknown. Rows may be windows as well as series.
        samples: (series, paths, horizon).
        method: ``"gluonts"`` | ``"csdi"`` | ``"exact"``.

    Raises:
        ValueError: shapes that do not fit, samples that are not finite, an unknown method.
    """
    y, samples = pair(y, samples)
    if method == "gluonts":
        return wql_from_quantiles(y, quantiles_of(samples, GLUONTS_LEVELS, "nearest"), GLUONTS_LEVELS)
    if method == "csdi":
        return wql_from_quantiles(y, quantiles_of(samples, CSDI_LEVELS, "linear"), CSDI_LEVELS)
    if method == "exact":
        return over_weight(float(np.nansum(crps_ensemble(y, samples))), y)
    raise ValueError(f"method must be 'gluonts', 'csdi' or 'exact', got {method!r}")
