r"""Maximum mean discrepancy between two sets of graphs, and the kernels of the field by name.

    MMD^2 = mean_ij k(x_i, x_j) + mean_ij k(y_i, y_j) - 2 mean_ij k(x_i, y_j)

over *all* pairs, i = j too: the biased estimate, not rooted, as GraphRNN, GRAN, GDSS and DiGress report it. Kernels are
Gaussian in a distance d, k = exp(-d^2 / 2 sigma^2):

- ``emd``: d = W1, the earth mover's distance of two histograms of unit mass on the line, in bins (or in the unit of the
  descriptor). You et al., "GraphRNN", 2018, https://arxiv.org/abs/1802.08773; GDSS reports this one.
- ``tv``: d = 1/2 sum |x - y|, total variation. Liao et al., "GRAN", 2019, https://arxiv.org/abs/1910.00760; SPECTRE and
  DiGress report this one. Not positive definite in general, as little as ``emd``.
- ``gaussian``: d = Euclidean distance.

They are different numbers: a name without its kernel means nothing. On a line W1 needs no linear program,

    W1(p, q) = sum_b |P(b) - Q(b)| * width,        P, Q the cumulative sums of p, q,

which for all pairs at once is one matrix of city-block distances between cumulative histograms.

*What chance gives.* Two samples of one distribution have MMD^2 > 0. If the pooled n + m graphs are dealt at random into
n and m, the expected MMD^2 is, with D the mean of k over the diagonal and O over the other pairs of the pool,

    (1/n + 1/m) (D - O):

it stands as ``reference`` beside every value. A model whose MMD^2 is not above it cannot be told from the reference by
these samples; with 20 or 40 test graphs that says little.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.spatial.distance import cdist

from ...core.scores import Score
from .uncertainty import around, weights

__all__ = ["GraphKernel", "distances", "earth_mover", "gaussian", "mmd", "of_features"]

GraphKernel = Literal["emd", "tv"]


def earth_mover(x: np.ndarray, y: np.ndarray, width: float = 1.0) -> np.ndarray:
    """W1 between all pairs of histograms on one row of bins: (n, m), exact.

    Args:
        x, y: (n, bins), (m, bins), non-negative, every row of mass 1 to 1e-9. width: of a bin, in the unit wanted.

    Raises:
        ValueError: different bins, negative mass, or a mass that is not 1.
    """
    x, y = _histograms(x, "x"), _histograms(y, "y")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"x has {x.shape[1]} bins, y {y.shape[1]}: pad the shorter with zeros")
    return cdist(x.cumsum(axis=1), y.cumsum(axis=1), "cityblock") * width


def _histograms(x: np.ndarray, name: str) -> np.ndarray:
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2 or not (x >= 0).all() or not np.allclose(x.sum(axis=1), 1.0, atol=1e-9, rtol=0):
        raise ValueError(
            f"{name}: expected histograms (graphs, bins), non-negative and of mass 1 each, got shape {x.shape}"
            + ("" if x.ndim != 2 else f" and masses {x.sum(axis=1).min():g} to {x.sum(axis=1).max():g}")
        )
    return x


def distances(x: np.ndarray, y: np.ndarray, kernel: str, width: float = 1.0) -> np.ndarray:
    """d of a kernel by name (``emd``, ``tv`` or ``gaussian``) between all rows: (n, m).

    Raises:
        ValueError: an unknown kernel; ``emd`` of what is no histogram.
    """
    if kernel == "emd":
        return earth_mover(x, y, width)
    if kernel == "tv":
        return cdist(x, y, "cityblock") / 2
    if kernel == "gaussian":
        return cdist(x, y, "euclidean")
    raise ValueError(f"kernel must be 'emd', 'tv' or 'gaussian', got {kernel!r}")


def gaussian(d: np.ndarray, sigma: float) -> np.ndarray:
    """exp(-d^2 / 2 sigma^2)."""
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma}")
    return np.exp(-(d**2) / (2 * sigma**2))


def mmd(
    name: str,
    definition: str,
    xx: np.ndarray,
    yy: np.ndarray,
    xy: np.ndarray,
    *,
    draws: int = 500,
    level: float = 0.95,
    seed: int = 0,
    left_out: int = 0,
) -> Score:
    """MMD^2 of three matrices of kernel values, (n, n), (m, m), (n, m); both samples are redrawn for the interval.

    Raises:
        ValueError: an empty sample, or shapes that do not fit.
    """
    n, m = xy.shape
    if xx.shape != (n, n) or yy.shape != (m, m):
        raise ValueError(f"expected (n, n), (m, m), (n, m), got {xx.shape}, {yy.shape}, {xy.shape}")
    _some(n, m)
    value = xx.mean() + yy.mean() - 2 * xy.mean()
    diagonal = (np.trace(xx) + np.trace(yy)) / (n + m)
    off = (xx.sum() + yy.sum() + 2 * xy.sum() - np.trace(xx) - np.trace(yy)) / ((n + m) * (n + m - 1))
    rng = np.random.Generator(np.random.PCG64(seed))
    redrawn = np.zeros(0)
    if n > 1 and m > 1:
        u, v = weights(n, draws, rng), weights(m, draws, rng)
        redrawn = ((u @ xx) * u).sum(1) + ((v @ yy) * v).sum(1) - 2 * ((u @ xy) * v).sum(1)
    return _score(name, definition, value, redrawn, n, m, (1 / n + 1 / m) * (diagonal - off), level, left_out)


def of_features(
    name: str,
    definition: str,
    x: np.ndarray,
    y: np.ndarray,
    *,
    draws: int = 200,
    level: float = 0.95,
    seed: int = 0,
    left_out: int = 0,
) -> Score:
    """MMD^2 of the linear kernel of explicit features: || mean x - mean y ||^2, so that n x n matrices never exist.

    Args:
        x, y: (n, features), (m, features), arrays or scipy sparse matrices.

    Raises:
        ValueError: an empty sample.
    """
    n, m = x.shape[0], y.shape[0]
    _some(n, m)

    def square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """For weights (draws, n) and (draws, m)."""
        return np.array([((x.T @ a - y.T @ b) ** 2).sum() for a, b in zip(u, v, strict=True)])

    value = square(np.full((1, n), 1 / n), np.full((1, m), 1 / m))[0]
    trace = float(sum((z.multiply(z) if hasattr(z, "multiply") else z * z).sum() for z in (x, y)))
    pooled = x.T @ np.ones(n) + y.T @ np.ones(m)
    off = ((pooled**2).sum() - trace) / ((n + m) * (n + m - 1))
    rng = np.random.Generator(np.random.PCG64(seed))
    redrawn = square(weights(n, draws, rng), weights(m, draws, rng)) if n > 1 and m > 1 else np.zeros(0)
    chance = (1 / n + 1 / m) * (trace / (n + m) - off)
    return _score(name, definition, value, redrawn, n, m, chance, level, left_out)


def _some(n: int, m: int) -> None:
    if n == 0 or m == 0:
        raise ValueError(f"MMD compares two samples, but one is empty: {n} generated and {m} reference graphs")


def _score(
    name: str,
    definition: str,
    value: float,
    redrawn: np.ndarray,
    n: int,
    m: int,
    chance: float,
    level: float,
    left_out: int,
) -> Score:
    text = f"{definition}; biased MMD^2 over all pairs, not rooted, against {m} reference graphs"
    return around(
        name, value, redrawn, n, "1", text, what="graphs", level=level, left_out=left_out, reference=float(chance)
    )
