r"""Does a molecule have the property that was asked for? Mean absolute error, beside what chance gives.

    MAE = mean_i |c_i - f(molecule_i)|,      chance = mean_ij |c_i - f(molecule_j)|:

the same targets and the same molecules, dealt at random: a model that ignores its condition scores the chance value,
however well it models molecules. f is computed (RDKit), measured, or predicted; a predicted f must not be the network
that guided the samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...core.scores import Score
from .uncertainty import mean

__all__ = ["property_error"]


def property_error(
    name: str,
    targets: Sequence[float] | np.ndarray,
    values: Sequence[float] | np.ndarray,
    unit: str,
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Score:
    """``mae_<name>`` with ``reference`` = chance, in the unit of the property.

    Args:
        name: of the property. targets: (n,), what was asked for. values: (n,), what came, NaN where there is no valid
            molecule: such rows are left out and counted. unit: of both.

    Raises:
        ValueError: shapes that do not fit, targets that are not finite, infinite values, or no value at all.
    """
    c, f = np.asarray(targets, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if c.ndim != 1 or c.shape != f.shape:
        raise ValueError(f"expected targets and values (n,), one a molecule, got {c.shape} and {f.shape}")
    if not np.isfinite(c).all() or np.isinf(f).any():
        raise ValueError(
            f"{int((~np.isfinite(c)).sum())} targets are not finite, {int(np.isinf(f).sum())} values infinite; write "
            "NaN for the value of a molecule that is not valid, and give every molecule a target"
        )
    text = f"mean |{name} asked for - {name} of the molecule|; reference: the same molecules dealt at random"
    score = mean(f"mae_{name}", np.abs(c - f), unit, text, draws=draws, level=level, seed=seed)
    known = ~np.isnan(f)
    return replace(score, reference=_chance(c[known], f[known]))


def _chance(c: np.ndarray, f: np.ndarray) -> float:
    """mean_ij |c_i - f_j|: for each c_i the f below and above it, by their sums."""
    f = np.sort(f)
    sums = np.concatenate([[0.0], np.cumsum(f)])
    below = np.searchsorted(f, c)
    total = c * below - sums[below] + (sums[-1] - sums[below]) - c * (len(f) - below)
    return float(total.mean() / len(f))
