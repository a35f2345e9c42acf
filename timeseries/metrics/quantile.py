"""Scores of probabilistic forecasts, each with its pinned definition.

Notation: y an observation, x_1 .. x_S the ensemble, F its empirical distribution, f_q its q-quantile.

*Pinball (quantile) loss*, doubled as GluonTS does: QL_q(f, y) = 2 |(f - y) (1[y <= f] - q)|.

*Weighted quantile loss*, "wQL", often printed as "CRPS" or ``mean_wQuantileLoss``:

    wQL = mean over q of   sum QL_q(f_q, y) / sum |y|        (sums over all series, windows and steps)

Three definitions live under that name and differ by up to 9 % on the same forecast, so each has its own name here and
:func:`skill` refuses to compare across them:

- ``gluonts``: q = 0.1 .. 0.9, f_q the sorted sample of rank round((S - 1) q) (numpy rounding, halves to even);
- ``csdi``: q = 0.05 .. 0.95 in steps of 0.05, f_q interpolated linearly between samples;
- ``exact``: the integral over all q instead of a mean over some: int_0^1 QL_q dq = CRPS, so it is sum CRPS / sum |y|.

*CRPS* (Gneiting and Raftery, "Strictly Proper Scoring Rules, Prediction, and Estimation", 2007):

    CRPS(F, y) = E|X - y| - 1/2 E|X - X'|

with the ensemble's own distribution (``energy``, biased upwards by 1/(2S) E|X - X'|) or with the unbiased estimate
of the distribution it was drawn from (``fair``: S(S-1) pairs instead of S^2). For a normal distribution
CRPS = sd [ z (2 Phi(z) - 1) + 2 phi(z) - 1/sqrt(pi) ], z = (y - mean)/sd.

Observations that are NaN count nowhere.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

__all__ = [
    "GLUONTS_LEVELS",
    "bootstrap_ratio",
    "coverage",
    "crps_ensemble",
    "crps_normal",
    "pinball",
    "pit",
    "scaled_crps",
    "skill",
    "wql",
    "wql_from_quantiles",
]

WqlMethod = Literal["gluonts", "csdi", "exact"]
CrpsEstimator = Literal["energy", "fair"]

METHODS: tuple[WqlMethod, ...] = ("gluonts", "csdi", "exact")
GLUONTS_LEVELS = tuple(k / 10 for k in range(1, 10))
CSDI_LEVELS = tuple(k / 20 for k in range(1, 20))


def _pair(y: np.ndarray, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y, samples = np.asarray(y, dtype=np.float64), np.asarray(samples, dtype=np.float64)
    if samples.ndim != 3 or y.shape != (samples.shape[0], samples.shape[2]):
        raise ValueError(
            f"expected y (series, horizon) and samples (series, paths, horizon), got {y.shape} and {samples.shape}"
        )
    if not np.isfinite(samples).all():
        raise ValueError(f"{int((~np.isfinite(samples)).sum())} samples are not finite")
    return y, samples


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


def wql_from_quantiles(y: np.ndarray, quantiles: np.ndarray, levels: tuple[float, ...]) -> float:
    """wQL of quantile forecasts.

    Args:
        y: (series, horizon), NaN = unknown.
        quantiles: (Q, series, horizon). levels: Q numbers in (0, 1).

    Returns:
        the score; NaN (with a warning) when sum |y| is zero, for then it is undefined.
    """
    y = np.asarray(y, dtype=np.float64)
    if quantiles.shape != (len(levels), *y.shape):
        raise ValueError(f"expected quantiles {(len(levels), *y.shape)} for y {y.shape}, got {quantiles.shape}")
    if not all(0 < q < 1 for q in levels):
        raise ValueError(f"levels must lie in (0, 1), got {levels}")
    losses = [np.nansum(pinball(y, f, q)) for f, q in zip(quantiles, levels, strict=True)]
    return _ratio(float(np.mean(losses)), y)


def _ratio(total: float, y: np.ndarray) -> float:
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
    y, samples = _pair(y, samples)
    if method == "gluonts":
        return wql_from_quantiles(y, quantiles_of(samples, GLUONTS_LEVELS, "nearest"), GLUONTS_LEVELS)
    if method == "csdi":
        return wql_from_quantiles(y, quantiles_of(samples, CSDI_LEVELS, "linear"), CSDI_LEVELS)
    if method == "exact":
        return _ratio(float(np.nansum(crps_ensemble(y, samples))), y)
    raise ValueError(f"method must be 'gluonts', 'csdi' or 'exact', got {method!r}")


def crps_ensemble(y: np.ndarray, samples: np.ndarray, estimator: CrpsEstimator = "energy") -> np.ndarray:
    """CRPS of an ensemble, elementwise, in the unit of y; exact, by sorting: O(S log S).

    sum_ij |x_i - x_j| = 2 sum_i (2i - S - 1) x_(i) for the sorted x_(1) <= ... <= x_(S).

    Args:
        y: (series, horizon). samples: (series, paths, horizon).
        estimator: ``"energy"`` scores the ensemble itself, ``"fair"`` the distribution behind it (iid members, S >= 2).

    Returns:
        (series, horizon), NaN where y is.
    """
    y, samples = _pair(y, samples)
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


def coverage(y: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> float:
    """Share of known observations with lower <= y <= upper (a calibrated 80 % interval gives 0.8); NaN when none is."""
    y = np.asarray(y, dtype=np.float64)
    known = ~np.isnan(y)
    inside = (lower <= y) & (y <= upper)
    return float(inside[known].mean()) if known.any() else float("nan")


def pit(y: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Probability integral transform of the known observations: share of paths below, ties counted half; 1-D.

    Uniform on [0, 1] for a calibrated forecast.
    """
    y, samples = _pair(y, samples)
    below = (samples < y[:, None]).mean(axis=1) + 0.5 * (samples == y[:, None]).mean(axis=1)
    return np.asarray(below[~np.isnan(y)])


def scaled_crps(crps: np.ndarray, scale: np.ndarray) -> float:
    """Mean over rows of mean CRPS over the row's scale: a score that no large series dominates.

    Args:
        crps: (series, horizon), NaN = unknown. scale: (series,), e.g. mean |y_t - y_{t-m}| of the history; rows with a
            zero scale are left out.
    """
    rows = np.asarray([np.nanmean(row) if np.isfinite(row).any() else np.nan for row in crps])
    good = (np.asarray(scale) > 0) & np.isfinite(rows)
    return float((rows[good] / np.asarray(scale)[good]).mean()) if good.any() else float("nan")


def bootstrap_ratio(
    numerator: np.ndarray, denominator: np.ndarray, seed: int = 0, draws: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of sum(numerator) / sum(denominator) when whole rows (series or windows) are redrawn.

    Rows that overlap in time are not independent; the interval is then too narrow.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    n = len(numerator)
    pick = rng.integers(0, n, size=(draws, n))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = numerator[pick].sum(axis=1) / denominator[pick].sum(axis=1)
    low, high = np.nanquantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def skill(
    model: Mapping[str, float], baseline: Mapping[str, float], select: Callable[[str], bool] | None = None
) -> dict:
    """1 - model/baseline for the scores that both report under the *same* definition (positive = the model is better).

    Raises:
        ValueError: they have no definition in common: a wQL by ``gluonts`` and one by ``csdi`` are not comparable.
    """
    pick = select or (lambda name: name.startswith(("wql", "crps", "scaled_crps")))
    ours, theirs = {k for k in model if pick(k)}, {k for k in baseline if pick(k)}
    common = sorted(ours & theirs)
    if not common:
        raise ValueError(
            f"no score with the same definition: the model has {sorted(ours)}, the baseline {sorted(theirs)}; compute "
            "both by one method"
        )
    return {k: 1.0 - model[k] / baseline[k] for k in common}
