r"""The interval of a score: three ways, each for its own kind of number.

- :func:`share`: k of n independent cases, Wilson's interval.
- :func:`mean`: a mean over molecules (or sequences), percentile bootstrap over them.
- :func:`around`: any other function of a sample, T. Redrawing the sample with replacement gives T*_1 .. T*_B; where T
  is a distance between distributions, doubled cases move T* up as a whole, so that percentiles would miss T itself.
  Their standard deviation s is still that of T (Efron, 1979): the interval is T -+ z s, cut at the bounds T has.

Sampling alone is in these intervals: not the seeds of training, and not the reference set, which is taken as given
where a definition does not say otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from ...core.scores import Score, bootstrap, wilson

__all__ = ["around", "mean", "share", "weights"]


def share(
    name: str,
    hits: int,
    n: int,
    definition: str,
    *,
    level: float = 0.95,
    left_out: int = 0,
    reference: float | None = None,
) -> Score:
    """``hits`` of ``n`` as a :class:`~scidiffuse.core.scores.Score`."""
    low, high = wilson(hits, n, level)
    return Score(name, hits / n, low, high, n, n, "1", definition, "Wilson's interval", level, left_out, reference)


def mean(
    name: str,
    values: Sequence[float] | np.ndarray,
    unit: str,
    definition: str,
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    reference: float | None = None,
    what: str = "molecules",
) -> Score:
    """Mean of ``values`` (n,); NaN are left out and counted.

    Raises:
        ValueError: nothing is left.
    """
    values = np.asarray(values, dtype=np.float64)
    known = values[~np.isnan(values)]
    if len(known) == 0:
        raise ValueError(f"{name}: none of the {len(values)} {what} has a value, so there is no mean")
    columns = np.stack([known, np.ones(len(known))], axis=1)
    low, high, units = bootstrap(columns, lambda s: s[:, 0] / s[:, 1], draws=draws, level=level, seed=seed)
    how = f"bootstrap over {units} {what}, {draws} draws" if units > 1 else f"none: 1 of the {what}"
    left_out = len(values) - len(known)
    return Score(name, float(known.mean()), low, high, units, units, unit, definition, how, level, left_out, reference)


def around(
    name: str,
    value: float,
    redrawn: np.ndarray,
    n: int,
    unit: str,
    definition: str,
    *,
    what: str = "molecules",
    bounds: tuple[float, float] = (0.0, np.inf),
    level: float = 0.95,
    left_out: int = 0,
    reference: float | None = None,
) -> Score:
    """``value`` -+ z standard deviations of ``redrawn`` (draws,), cut at ``bounds``; NaN for fewer than two draws."""
    draws = len(redrawn)
    half = NormalDist().inv_cdf((1 + level) / 2) * float(np.std(redrawn, ddof=1)) if draws > 1 else float("nan")
    low, high = max(bounds[0], value - half), min(bounds[1], value + half)
    if np.isnan(half):
        low = high = half
    how = f"normal, standard deviation of {draws} bootstrap draws over {n} {what}" if draws > 1 else "none"
    return Score(name, float(value), low, high, n, n, unit, definition, how, level, left_out, reference)


def weights(n: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of n cases is drawn, over n: (draws, n), rows sum to 1."""
    return rng.multinomial(n, np.full(n, 1 / n), size=draws) / n
