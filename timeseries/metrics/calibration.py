r"""Is the spread right? Coverage and the probability integral transform.

*Coverage* of an interval is the share of observations in it; of a quantile f_q, the share at or below it,
Coverage[q] = mean 1[y <= f_q], which is q where the forecast is calibrated. GluonTS sums it up as

    MAE_Coverage = mean over q of |Coverage[q] - q|.

*PIT.* If y is drawn from a continuous F, then u = F(y) is uniform on [0, 1] (Dawid, 1984; Gneiting, Balabdaoui and
Raftery, "Probabilistic forecasts, calibration and sharpness", 2007, https://doi.org/10.1111/j.1467-9868.2007.00587.x).
A histogram of u that is U-shaped tells of too narrow forecasts, an arched one of too wide ones, a slope of bias. Of an
ensemble of S members

- ``mid``: u = share of members below y, ties counted half. Uniform for S large; exactly it takes S + 1 values;
- ``random``: u = (rank + v)/(S + 1), rank = number of members below y plus a random part of the ties, v uniform. If y
  and the members are exchangeable, u is uniform *exactly*, for every S.

Steps of one horizon share their fate: n values of u are fewer than n independent ones, and the bands of
:func:`pit_histogram`, which take them as independent, are then too narrow.

Missing observations (NaN) count nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .crps import pair
from .quantile import check_quantiles

__all__ = [
    "PitHistogram",
    "coverage",
    "coverage_of_quantiles",
    "mae_coverage",
    "pit",
    "pit_histogram",
    "pit_normal",
]


def coverage(y: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> float:
    """Share of known observations with lower <= y <= upper (a calibrated 80 % interval gives 0.8); NaN when none is."""
    y = np.asarray(y, dtype=np.float64)
    known = ~np.isnan(y)
    inside = (lower <= y) & (y <= upper)
    return float(inside[known].mean()) if known.any() else float("nan")


def coverage_of_quantiles(y: np.ndarray, quantiles: np.ndarray, levels: tuple[float, ...]) -> np.ndarray:
    """Coverage[q] (Q,): share of known observations at or below each quantile (Q, series, horizon); NaN if none."""
    y = check_quantiles(y, quantiles, levels)
    known = ~np.isnan(y)
    if not known.any():
        return np.full(len(levels), np.nan)
    return np.array([(y <= f)[known].mean() for f in quantiles])


def mae_coverage(y: np.ndarray, quantiles: np.ndarray, levels: tuple[float, ...]) -> float:
    """Mean over levels of |Coverage[q] - q|: 0 is calibrated; never quite 0 on few observations."""
    return float(np.abs(coverage_of_quantiles(y, quantiles, levels) - np.asarray(levels)).mean())


def pit(y: np.ndarray, samples: np.ndarray, method: Literal["mid", "random"] = "mid", seed: int = 0) -> np.ndarray:
    """Probability integral transform of the known observations, 1-D; uniform on [0, 1] for a calibrated forecast.

    Args:
        y: (series, horizon), NaN = unknown. samples: (series, paths, horizon).
        method: ``"mid"``: share of paths below, ties counted half; ``"random"``: exactly uniform under exchangeability.
        seed: of the random parts.
    """
    y, samples = pair(y, samples)
    below = (samples < y[:, None]).sum(axis=1)
    ties = (samples == y[:, None]).sum(axis=1)
    known = ~np.isnan(y)
    S = samples.shape[1]
    if method == "mid":
        return np.asarray(((below + 0.5 * ties) / S)[known])
    if method != "random":
        raise ValueError(f"method must be 'mid' or 'random', got {method!r}")
    rng = np.random.Generator(np.random.PCG64(seed))
    rank = below + np.floor(rng.random(y.shape) * (ties + 1))
    return np.asarray(((rank + rng.random(y.shape)) / (S + 1))[known])


def pit_normal(y: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Phi((y - mean)/sd) of the known observations, 1-D; where sd = 0: 0, 1/2 or 1 as y is below, at or above."""
    from scipy.special import ndtr

    y, mean, sd = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (y, mean, sd)))
    if (sd < 0).any():
        raise ValueError(f"sd must be >= 0, got {sd.min()}")
    u = np.where(sd > 0, ndtr((y - mean) / np.where(sd > 0, sd, 1.0)), 0.5 * (1 + np.sign(y - mean)))
    return np.asarray(u[~np.isnan(y)])


@dataclass(frozen=True)
class PitHistogram:
    """What :func:`pit_histogram` returns.

    Attributes:
        edges: (bins + 1,). counts: (bins,). expected: of each bin under uniformity, n / bins.
        low, high: where a bin's count lies with probability ``level`` if n independent values are uniform (binomial).
        distance: Kolmogorov-Smirnov, max |F_n(u) - u|; about 1.36/sqrt(n) is its 95 % point for n independent values.
        n: values of u. level: of the band.
    """

    edges: np.ndarray
    counts: np.ndarray
    expected: float
    low: float
    high: float
    distance: float
    n: int
    level: float


def pit_histogram(u: np.ndarray, bins: int = 10, level: float = 0.95) -> PitHistogram:
    """Counts of PIT values in equal bins, with the band in which uniform ones would stay.

    Raises:
        ValueError: no values, values outside [0, 1], no bins.
    """
    from scipy.stats import binom

    u = np.sort(np.asarray(u, dtype=np.float64).ravel())
    n = len(u)
    if n == 0 or not (u[0] >= 0 and u[-1] <= 1):
        raise ValueError("expected PIT values in [0, 1], got " + ("none" if n == 0 else f"{u[0]:g} .. {u[-1]:g}"))
    if bins < 1 or not 0 < level < 1:
        raise ValueError(f"bins must be at least 1 and level in (0, 1), got {bins} and {level}")
    counts, edges = np.histogram(u, bins=bins, range=(0.0, 1.0))
    step = np.arange(n)
    distance = float(max(((step + 1) / n - u).max(), (u - step / n).max()))
    low, high = binom.interval(level, n, 1 / bins)
    return PitHistogram(edges, counts, n / bins, float(low), float(high), distance, n, level)
