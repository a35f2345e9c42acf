r"""The block bootstrap: intervals of means, and of functions of means, of dependent data.

Blocks of b consecutive dates are drawn with replacement, so that dependence within b dates stays in the draws.
``circular`` blocks (Politis and Romano, 1992) wrap around the end, ``moving`` ones (Künsch, 1989) do not,
``stationary`` ones (Politis and Romano, 1994) have geometric lengths of mean b. The length that minimises the mean
squared error of the variance (Politis and White, 2004; Patton, Politis and White, 2009,
https://doi.org/10.1080/07474930802459016):

    b = (2 G^2 / D)^{1/3} n^{1/3},   G = sum lambda(k/M) |k| gamma_k,   g = sum lambda(k/M) gamma_k,
    D = 4/3 g^2 (circular, moving) or 2 g^2 (stationary),

sums over -M .. M, lambda the flat-top window (1 up to 1/2, then straight down to 0 at 1), M twice the lag after which
autocorrelations are insignificant. For an AR(1) process with coefficient r, G/g = 2 r / (1 - r^2).

The interval takes the percentiles of the draws. Dependence makes it too narrow in small samples: of an AR(1) process
with r = 1/2 and n = 200, a 95 % interval holds the mean in about 87 % of cases (independent draws: 74 %); of
independent values in 94 %.

*Missing values.* NaN stays in its place, so that blocks keep their meaning, and counts in no mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..metrics.score import check_bootstrap
from .dm import autocovariance

__all__ = ["BlockBootstrap", "block_bootstrap", "block_length"]

Blocks = Literal["circular", "moving", "stationary"]


@dataclass(frozen=True)
class BlockBootstrap:
    """What :func:`block_bootstrap` returns.

    Attributes:
        value: the statistic of the data. low, high: its percentile interval, at ``level``.
        p_value: two-sided, of H0: the statistic is ``null``.
        n: dates. block: (mean) length of the blocks, in dates. kind: of the blocks. draws: how many.
    """

    value: float
    low: float
    high: float
    p_value: float
    n: int
    block: float
    kind: Blocks
    draws: int
    level: float
    null: float


def _check_kind(kind: str) -> None:
    if kind not in ("circular", "moving", "stationary"):
        raise ValueError(f"kind must be 'circular', 'moving' or 'stationary', got {kind!r}")


def block_length(d: np.ndarray, kind: Blocks = "circular") -> float:
    """The length of blocks by Politis and White's rule, in dates, at least 1, at most min(3 sqrt(n), n/3).

    Args:
        d: (n,), complete, in order of time.
    """
    d = np.asarray(d, dtype=np.float64)
    if d.ndim != 1 or len(d) < 2 or not np.isfinite(d).all():
        raise ValueError(f"expected at least 2 finite values (n,), got {d.shape}, or values that are not finite")
    _check_kind(kind)
    n, x = len(d), d - d.mean()
    if not (x**2).mean() > 1e-24 * (d**2).mean():  # constant
        return 1.0
    most = max(1.0, min(3 * math.sqrt(n), n / 3))
    run = max(5, math.ceil(math.log10(n)))
    last = min(n - 1, math.ceil(math.sqrt(n)) + run)
    gamma = np.array([autocovariance(x, k) for k in range(last + 1)])
    quiet = np.abs(gamma[1:] / gamma[0]) < 2 * math.sqrt(math.log10(n) / n)
    m = next((k for k in range(len(quiet)) if quiet[k : k + run].all()), len(quiet))  # lags after m are insignificant
    M = min(2 * max(m, 1), last)
    k = np.arange(1, M + 1)
    window = np.clip(2 * (1 - k / M), 0.0, 1.0)
    g = gamma[0] + 2 * float((window * gamma[1 : M + 1]).sum())
    G = 2 * float((window * k * gamma[1 : M + 1]).sum())
    D = (2.0 if kind == "stationary" else 4 / 3) * g * g
    return float(min(max(1.0, (2 * G * G / D) ** (1 / 3) * n ** (1 / 3)), most)) if D > 0 else most


def _blocks(n: int, block: float, kind: Blocks, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of the dates of each draw, (draws, n)."""
    if kind == "stationary":
        out = np.empty((draws, n), dtype=np.int64)
        fresh, start = rng.random((draws, n)) < 1 / block, rng.integers(0, n, size=(draws, n))
        out[:, 0] = start[:, 0]
        for t in range(1, n):
            out[:, t] = np.where(fresh[:, t], start[:, t], (out[:, t - 1] + 1) % n)
        return out
    b = round(block)
    start = rng.integers(0, n if kind == "circular" else n - b + 1, size=(draws, -(-n // b)))
    return ((start[:, :, None] + np.arange(b)) % n).reshape(draws, -1)[:, :n]


def block_bootstrap(
    d: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray] | None = None,
    *,
    block: float | None = None,
    kind: Blocks = "circular",
    null: float = 0.0,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> BlockBootstrap:
    """Percentile interval of a mean, or of a function of means, of dependent data.

    Args:
        d: (n,) or (n, k), in order of time; NaN = missing (it stays in its place, and counts in no mean).
        statistic: means (draws, k) -> values (draws,); None: the mean of the first column. A ratio of two scores is
            ``lambda m: m[:, 0] / m[:, 1]``, with ``null=1``.
        block: length in dates; None: :func:`block_length` of the first column, or of the first minus the second one
            where there are two (gaps closed).
        kind: ``"circular"`` | ``"moving"`` | ``"stationary"``. null: the value of the statistic under H0.

    Raises:
        ValueError: fewer than 2 dates, infinite values, a column without a value, a block outside [1, n].
    """
    d = np.asarray(d, dtype=np.float64)
    d = d[:, None] if d.ndim == 1 else d
    if d.ndim != 2 or len(d) < 2 or np.isinf(d).any() or np.isnan(d).all(axis=0).any():
        raise ValueError(f"expected at least 2 dates, (n,) or (n, k), nothing infinite, some known; got {d.shape}")
    _check_kind(kind)
    check_bootstrap(draws, level)
    n = len(d)
    if block is None:
        x = d[:, 0] - d[:, 1] if d.shape[1] == 2 else d[:, 0]
        x = x[~np.isnan(x)]
        block = block_length(x, kind) if len(x) > 1 else 1.0
    if not 1 <= block <= n:
        raise ValueError(f"a block has 1 .. {n} dates, got {block:g}")
    of = statistic or (lambda means: means[:, 0])
    rng = np.random.Generator(np.random.PCG64(seed))
    known = ~np.isnan(d)
    filled = np.where(known, d, 0.0)
    means, chunk = [], max(1, 5_000_000 // (n * d.shape[1]))
    for k in range(0, draws, chunk):
        pick = _blocks(n, block, kind, min(chunk, draws - k), rng)
        count = known[pick].sum(axis=1)
        means.append(filled[pick].sum(axis=1) / np.where(count > 0, count, np.nan))
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.asarray(of(np.concatenate(means)))
        value = float(np.asarray(of((filled.sum(axis=0) / known.sum(axis=0))[None]))[0])
    values = values[np.isfinite(values)]
    if len(values) == 0:
        raise ValueError("the statistic is not finite on any draw")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    tail = 1 + min(int((values <= null).sum()), int((values >= null).sum()))
    p = min(1.0, 2 * tail / (len(values) + 1))
    return BlockBootstrap(value, float(low), float(high), p, n, float(block), kind, draws, level, null)
