r"""Scale-free ratios to a baseline, and win counts.

*Ratios.* An arithmetic mean of ratios can say "worse on average" of each of two forecasts beside the other; the
geometric mean is the one that does not depend on which of them is called the baseline (Fleming and Wallace, "How not
to lie with statistics", 1986, https://doi.org/10.1145/5666.5673):

    relative score = exp mean_r log(a_r / b_r)          (r: series; below 1 = a is better)

*Win counts* and the sign test: on how many rows a has the smaller loss; under H0 it is binomial(wins + losses, 1/2),
exactly, if rows are independent.

*Missing values.* Rows in which either loss is NaN count nowhere and are reported (``left_out``).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..metrics.score import Score, bootstrap
from .dm import two_losses

__all__ = ["WinCounts", "relative_score", "win_counts"]


def relative_score(
    loss: np.ndarray,
    baseline: np.ndarray,
    *,
    clusters: Sequence[Any] | None = None,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Score:
    """Geometric mean over rows of loss / baseline's loss: scale-free, below 1 = better than the baseline.

    Args:
        loss, baseline: (rows,), >= 0, NaN = unknown: e.g. each series' mean CRPS, the baseline's seasonal naive.
        clusters: labels of rows that are redrawn together (:func:`.bootstrap`).

    Returns:
        score ``geometric_mean_ratio``, NaN where no row is left. Rows where either loss is NaN or zero have no ratio:
        they are left out, counted, and, where a loss is zero, warned about.
    """
    a, b = two_losses(loss, baseline)
    if (a < 0).any() or (b < 0).any():
        raise ValueError("a ratio needs losses >= 0, some are negative")
    zero = (a == 0) | (b == 0)
    if zero.any():
        warnings.warn(f"{int(zero.sum())} of {len(a)} rows have a loss of zero, so no ratio: left out", stacklevel=2)
    good = ~(zero | np.isnan(a) | np.isnan(b))
    log = np.log(a[good] / b[good])
    labels = None if clusters is None else [c for c, g in zip(clusters, good, strict=True) if g]
    low, high, units = bootstrap(
        np.stack([log, np.ones(len(log))], axis=1),
        lambda sums: np.exp(sums[:, 0] / sums[:, 1]),
        labels,
        draws=draws,
        level=level,
        seed=seed,
    )
    return Score(
        "geometric_mean_ratio",
        float(np.exp(log.mean())) if len(log) else float("nan"),
        low,
        high,
        len(log),
        units,
        "1",
        "geometric mean over rows of the loss over the baseline's loss",
        f"bootstrap over {units} units, {draws} draws" if units > 1 else f"none: {units} units",
        level,
        len(a) - len(log),
        1.0,
    )


@dataclass(frozen=True)
class WinCounts:
    """What :func:`win_counts` returns.

    Attributes:
        wins, losses, ties: rows on which the first forecast has the smaller, the larger, the same loss.
        n: their sum. left_out: rows with a missing loss.
        share: wins / (wins + losses), NaN where there are only ties. low, high: Clopper-Pearson, at ``level``.
        p_value: of the exact two-sided sign test (rows taken as independent).
    """

    wins: int
    losses: int
    ties: int
    n: int
    left_out: int
    share: float
    low: float
    high: float
    p_value: float
    level: float


def win_counts(loss_a: np.ndarray, loss_b: np.ndarray, *, tie: float = 0.0, level: float = 0.95) -> WinCounts:
    """How often the first forecast has the smaller loss; ties (|difference| <= ``tie``, in the unit) count for none.

    Args:
        loss_a, loss_b: (rows,), NaN = unknown.
    """
    from scipy.stats import binomtest

    a, b = two_losses(loss_a, loss_b)
    if tie < 0 or not 0 < level < 1:
        raise ValueError(f"tie must be >= 0 and level in (0, 1), got {tie} and {level}")
    d = (a - b)[~np.isnan(a - b)]
    wins, losses = int((d < -tie).sum()), int((d > tie).sum())
    share, low, high, p = float("nan"), float("nan"), float("nan"), 1.0
    if wins + losses:
        test = binomtest(wins, wins + losses)
        interval = test.proportion_ci(level, method="exact")
        share, low, high = wins / (wins + losses), float(interval.low), float(interval.high)
        p = float(test.pvalue)
    return WinCounts(wins, losses, len(d) - wins - losses, len(d), len(a) - len(d), share, low, high, p, level)
