r"""The continuous ranked probability score, in the unit of y.

Gneiting and Raftery, "Strictly Proper Scoring Rules, Prediction, and Estimation", 2007
(https://doi.org/10.1198/016214506000001437): for independent X, X' of the forecast distribution F,

    CRPS(F, y) = int (F(x) - 1[y <= x])^2 dx = E|X - y| - 1/2 E|X - X'|.

Of an ensemble x_1 .. x_S there are two:

- ``energy`` (the *exact* score of the ensemble as it stands): both means over the empirical distribution, S^2 pairs.
  It is what an ensemble earns that is used whole, whether its members are independent or not; of independent members
  it is larger than the score of their distribution by E|X - X'| / (2S) on average. scoringrules calls it ``nrg`` or
  ``qd``;
- ``fair``: S(S-1) pairs of *different* members, an unbiased estimate of the score of the distribution that independent
  members were drawn from (Ferro, "Fair scores for ensemble forecasts", 2014, https://doi.org/10.1002/qj.2270);
  scoringrules calls it ``fair`` or ``pwm``.

Pairs by sorting: sum_ij |x_i - x_j| = 2 sum_i (2i - S - 1) x_(i), so S log S instead of S^2.

For a normal distribution CRPS = sd [ z (2 Phi(z) - 1) + 2 phi(z) - 1/sqrt(pi) ], z = (y - mean)/sd.

A missing observation (NaN) has the score NaN, and counts in no mean.
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np

__all__ = ["CrpsEstimator", "crps_ensemble", "crps_normal", "scaled_crps"]

CrpsEstimator = Literal["energy", "fair"]


def pair(y: np.ndarray, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64, after y (series, horizon) and samples (series, paths, horizon) were found to fit."""
    y, samples = np.asarray(y, dtype=np.float64), np.asarray(samples, dtype=np.float64)
    if samples.ndim != 3 or y.shape != (samples.shape[0], samples.shape[2]):
        raise ValueError(
            f"expected y (series, horizon) and samples (series, paths, horizon), got {y.shape} and {samples.shape}"
        )
    if samples.shape[1] == 0:
        raise ValueError(f"no paths: samples {samples.shape} hold no member to score")
    if not np.isfinite(samples).all():
        raise ValueError(f"{int((~np.isfinite(samples)).sum())} samples are not finite")
    if np.isinf(y).any():
        raise ValueError(f"{int(np.isinf(y).sum())} observations are infinite: write NaN for 'not observed'")
    return y, samples


def crps_ensemble(y: np.ndarray, samples: np.ndarray, estimator: CrpsEstimator = "energy") -> np.ndarray:
    """CRPS of an ensemble, elementwise, in the unit of y; exact, by sorting: O(S log S).

    Args:
        y: (series, horizon). samples: (series, paths, horizon).
        estimator: ``"energy"`` scores the ensemble itself, ``"fair"`` the distribution behind it (iid members, S >= 2).

    Returns:
        (series, horizon), NaN where y is.
    """
    y, samples = pair(y, samples)
    S = samples.shape[1]
    if estimator not in ("energy", "fair"):
        raise ValueError(f"estimator must be 'energy' or 'fair', got {estimator!r}")
    if estimator == "fair" and S < 2:
        raise ValueError("the fair CRPS needs at least 2 paths, got 1")
    rank = 2.0 * np.arange(1, S + 1) - S - 1
    spread = 2.0 * np.einsum("s,nsh->nh", rank, np.sort(samples, axis=1))
    pairs = S * S if estimator == "energy" else S * (S - 1)
    return np.abs(samples - y[:, None]).mean(axis=1) - 0.5 * spread / pairs


def crps_normal(y: np.ndarray, mean: np.ndarray | float = 0.0, sd: np.ndarray | float = 1.0) -> np.ndarray:
    """CRPS of a normal forecast, elementwise; |y - mean| where sd = 0.

    Raises:
        ValueError: a negative sd.
    """
    from scipy.special import ndtr

    y, mean, sd = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (y, mean, sd)))
    if (sd < 0).any():
        raise ValueError(f"sd must be >= 0, got {sd.min()}")
    z = (y - mean) / np.where(sd > 0, sd, 1.0)
    density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    proper = sd * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))
    return np.where(sd > 0, proper, np.abs(y - mean))


def row_means(values: np.ndarray) -> np.ndarray:
    """Mean of the known entries of each row, (series,); NaN for a row that has none."""
    values = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(values)
    count = known.sum(axis=-1)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis=-1) / np.maximum(count, 1), np.nan)


def over_scale(rows: np.ndarray, scale: np.ndarray, what: str, stacklevel: int = 3) -> np.ndarray:
    """rows / scale, (series,), NaN (and a warning that counts and lists them) where the scale is zero or unknown."""
    rows, scale = np.asarray(rows, dtype=np.float64), np.asarray(scale, dtype=np.float64)
    if scale.shape != rows.shape:
        raise ValueError(f"expected one scale a row, {rows.shape}, got {scale.shape}")
    if (scale < 0).any():
        raise ValueError(f"a scale is a mean of absolute differences, never negative: got {scale.min()}")
    good = np.isfinite(scale) & (scale > 0)
    if not good.all():
        bad = np.flatnonzero(~good)
        listing = ", ".join(map(str, bad[:5])) + (" ..." if len(bad) > 5 else "")
        warnings.warn(
            f"{len(bad)} of {len(scale)} rows have a zero or unknown scale (row {listing}) and are left out of {what}",
            stacklevel=stacklevel,
        )
    return np.where(good, rows / np.where(good, scale, 1.0), np.nan)


def scaled_crps(crps: np.ndarray, scale: np.ndarray) -> float:
    """Mean over rows of mean CRPS over the row's scale: dimensionless, a score that no large series dominates.

    Args:
        crps: (series, horizon), NaN = unknown. scale: (series,), e.g. mean |y_t - y_{t-m}| of the history; rows with a
            zero scale are left out, with a warning.
    """
    ratio = over_scale(row_means(crps), scale, "scaled_crps")
    return float(np.nanmean(ratio)) if np.isfinite(ratio).any() else float("nan")
