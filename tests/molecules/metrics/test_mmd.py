"""The earth mover's distance against two other ways to compute it; MMD by hand; chance by enumeration of all deals."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.sparse import csr_matrix
from scipy.stats import wasserstein_distance

from scidiffuse.molecules.metrics import mmd as m


def histograms(n: int, bins: int, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).random((n, bins)) ** 4
    return x / x.sum(axis=1, keepdims=True)


def transport(p: np.ndarray, q: np.ndarray) -> float:
    """W1 as what it is: the cheapest plan, a linear program."""
    n = len(p)
    cost = np.abs(np.subtract.outer(np.arange(n), np.arange(n))).ravel()
    rows = np.kron(np.eye(n), np.ones(n))
    columns = np.kron(np.ones(n), np.eye(n))
    return linprog(cost, A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([p, q])).fun


def test_closed_form_is_the_linear_program_and_scipy():
    x, y = histograms(4, 7, 0), histograms(5, 7, 1)
    d = m.earth_mover(x, y)
    for i, p in enumerate(x):
        for j, q in enumerate(y):
            assert d[i, j] == pytest.approx(transport(p, q), abs=1e-6)  # to the tolerance of the solver
            assert d[i, j] == pytest.approx(wasserstein_distance(range(7), range(7), p, q), abs=1e-14)
    assert np.allclose(m.earth_mover(x, y, width=0.01), d / 100)


def test_distances_by_hand():
    x, y = np.array([[1.0, 0.0, 0.0]]), np.array([[0.0, 0.0, 1.0]])
    assert m.distances(x, y, "emd") == 2.0
    assert m.distances(x, y, "tv") == 1.0
    assert m.distances(x, y, "gaussian") == pytest.approx(np.sqrt(2))
    assert m.gaussian(np.array(2.0), 2.0) == pytest.approx(np.exp(-0.5))


def kernels(x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    return [m.gaussian(m.distances(a, b, "gaussian"), 0.7) for a, b in ((x, x), (y, y), (x, y))]


def test_mmd_by_hand():
    """Two points at distance d, one sample each: MMD^2 = 2 - 2 k(d); a sample against itself: 0."""
    x, y = np.zeros((1, 1)), np.full((1, 1), 0.7)
    score = m.mmd("mmd", "text", *kernels(x, y))
    assert float(score) == pytest.approx(2 - 2 * np.exp(-0.5))
    assert np.isnan(score.low) and "not rooted" in score.definition
    z = np.random.default_rng(0).normal(size=(9, 2))
    assert float(m.mmd("mmd", "text", *kernels(z, z))) == pytest.approx(0.0, abs=1e-15)


def test_chance_is_the_mean_over_all_deals_of_the_pool():
    pool = np.random.default_rng(1).normal(size=(7, 2))
    values = []
    for some in combinations(range(7), 3):
        rest = [i for i in range(7) if i not in some]
        values.append(float(m.mmd("mmd", "text", *kernels(pool[list(some)], pool[rest]), draws=2)))
    for some in ([0, 1, 2], [1, 4, 6]):  # whatever the deal
        rest = [i for i in range(7) if i not in some]
        assert m.mmd("m", "t", *kernels(pool[some], pool[rest]), draws=2).reference == pytest.approx(np.mean(values))


def test_features_are_the_linear_kernel():
    rng = np.random.default_rng(2)
    x, y = rng.random((12, 5)), rng.random((8, 5)) + 0.3
    by_matrix = m.mmd("mmd", "text", x @ x.T, y @ y.T, x @ y.T, draws=50, seed=3)
    for convert in (np.asarray, csr_matrix):
        score = m.of_features("mmd", "text", convert(x), convert(y), draws=50, seed=3)
        for field in ("value", "low", "high", "reference"):
            assert getattr(score, field) == pytest.approx(getattr(by_matrix, field), rel=1e-9)
    assert float(by_matrix) == pytest.approx(((x.mean(0) - y.mean(0)) ** 2).sum())


def test_interval_covers_a_known_discrepancy():
    """Linear kernel, normal samples with means mu apart: E MMD^2 = mu^2 + (1/n + 1/m) sigma^2 (d dimensions)."""
    rng = np.random.default_rng(4)
    expected = 4 + (1 / 60 + 1 / 50) * 3
    inside = 0
    for seed in range(60):
        x, y = rng.normal(size=(60, 3)), rng.normal(size=(50, 3)) + np.array([2.0, 0.0, 0.0])
        score = m.of_features("mmd", "text", x, y, seed=seed)
        inside += score.low <= expected <= score.high
    assert inside >= 52  # 95 % of 60 is 57, and 52 is 3 standard deviations of that below


def test_bad_input():
    empty = np.zeros((0, 4))
    with pytest.raises(ValueError, match="0 generated and 3 reference"):
        m.mmd("mmd", "text", np.zeros((0, 0)), np.zeros((3, 3)), np.zeros((0, 3)))
    with pytest.raises(ValueError, match="one is empty"):
        m.of_features("mmd", "text", np.ones((2, 4)), empty)
    with pytest.raises(ValueError, match="expected \\(n, n\\)"):
        m.mmd("mmd", "text", np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="pad the shorter"):
        m.earth_mover(histograms(1, 3, 0), histograms(1, 4, 0))
    with pytest.raises(ValueError, match="of mass 1"):
        m.earth_mover(2 * histograms(1, 3, 0), histograms(1, 3, 0))
    with pytest.raises(ValueError, match="sigma must be positive"):
        m.gaussian(np.ones(1), 0.0)
    with pytest.raises(ValueError, match="'emd', 'tv' or 'gaussian'"):
        m.distances(histograms(1, 3, 0), histograms(1, 3, 0), "w2")
