r"""The Diebold-Mariano test of equal accuracy.

Let d_t = loss of a minus loss of b at forecast date t = 1 .. n, dbar its mean: negative = a is better. H0: E d = 0.

Diebold and Mariano, "Comparing predictive accuracy", 1995 (https://doi.org/10.1080/07350015.1995.10524599): errors of
h-step forecasts overlap, so d has autocovariances gamma_0 .. gamma_{h-1} even when both forecasts are ideal:

    V = gamma_0 + 2 sum_{k=1}^{h-1} w_k gamma_k,      DM = dbar / sqrt(V / n)

w_k = 1 (rectangular), or 1 - k/h (Bartlett), which is never negative. Harvey, Leybourne and Newbold, "Testing the
equality of prediction mean squared errors", 1997 (https://doi.org/10.1016/S0169-2070(96)00719-4), correct its size in
small samples: DM* = DM sqrt((n + 1 - 2h + h(h-1)/n) / n), against Student's t with n - 1 degrees of freedom. For h = 1
DM* is exactly the paired t-test.

*Missing values.* Dates at which either loss is NaN count nowhere and are reported (``left_out``). Autocovariances use
the pairs of dates k apart that are both known.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = ["DieboldMariano", "diebold_mariano"]

Alternative = Literal["two-sided", "less", "greater"]
Kernel = Literal["rectangular", "bartlett"]


@dataclass(frozen=True)
class DieboldMariano:
    """What :func:`diebold_mariano` returns.

    Attributes:
        difference: dbar, in the unit of the loss; negative = a is better. low, high: its interval, at ``level``.
        statistic, p_value: of H0: E d = 0, against ``alternative``.
        n: dates that count. h: dates whose errors overlap. left_out: dates with a missing loss.
        kernel: that was used. correction: ``"hln"``, or None for the normal distribution of the 1995 paper.
    """

    difference: float
    low: float
    high: float
    statistic: float
    p_value: float
    n: int
    h: int
    kernel: Kernel
    correction: Literal["hln"] | None
    alternative: Alternative
    level: float
    left_out: int


def two_losses(loss_a: np.ndarray, loss_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 (n,), after they were found to fit and to be finite or NaN. Raises ``ValueError``."""
    a, b = np.asarray(loss_a, dtype=np.float64), np.asarray(loss_b, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"expected two losses (n,) of the same dates or rows, got {a.shape} and {b.shape}")
    for name, x in (("first", a), ("second", b)):
        if np.isinf(x).any():
            raise ValueError(f"{int(np.isinf(x).sum())} losses of the {name} forecast are infinite")
    return a, b


def autocovariance(d: np.ndarray, k: int) -> float:
    """gamma_k of d (NaN = missing), already centred: sum over known pairs k apart, over the number of known d."""
    product = d[: len(d) - k] * d[k:]
    return float(np.nansum(product) / (~np.isnan(d)).sum())


def _long_run(gamma: list[float], kernel: Kernel) -> float:
    """V from gamma_0 .. gamma_{h-1}."""
    h = len(gamma)
    w = [1.0 if kernel == "rectangular" else 1 - k / h for k in range(h)]
    return gamma[0] + 2 * sum(w[k] * gamma[k] for k in range(1, h))


def diebold_mariano(
    loss_a: np.ndarray,
    loss_b: np.ndarray,
    h: int = 1,
    *,
    kernel: Kernel = "rectangular",
    correction: Literal["hln"] | None = "hln",
    alternative: Alternative = "two-sided",
    level: float = 0.95,
) -> DieboldMariano:
    """Diebold-Mariano test of equal expected loss, with the small-sample correction (module docstring).

    Args:
        loss_a, loss_b: (n,), one loss a forecast date, in order of time; NaN = unknown. For several series: their mean.
        h: forecasts of how many consecutive dates overlap: 1 when windows do not, H when the origin moves by one step.
        kernel: ``"rectangular"`` as published; where its variance is not positive, Bartlett's is used, with a warning.
        correction: ``"hln"``, or None: normal distribution, no correction.
        alternative: ``"two-sided"``, ``"less"`` (a has the smaller loss) or ``"greater"``.
        level: of the interval, which is two-sided whatever the alternative.

    Raises:
        ValueError: shapes that do not fit, infinite losses, no more than h known dates (or fewer than 2), a difference
            that is constant but not zero (it has no variance to test against).
    """
    from scipy.special import ndtr, ndtri, stdtr, stdtrit

    a, b = two_losses(loss_a, loss_b)
    if kernel not in ("rectangular", "bartlett") or correction not in ("hln", None):
        raise ValueError(
            f"kernel must be 'rectangular' or 'bartlett' and correction 'hln' or None, got {kernel!r}, {correction!r}"
        )
    if alternative not in ("two-sided", "less", "greater"):
        raise ValueError(f"alternative must be 'two-sided', 'less' or 'greater', got {alternative!r}")
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
    d = a - b
    n = int((~np.isnan(d)).sum())
    if h < 1 or n < max(2, h + 1):
        raise ValueError(
            f"h must be at least 1, and the known dates more than h and at least 2: got h = {h}, {n} dates"
        )
    dbar = float(np.nanmean(d))
    gamma = [autocovariance(d - dbar, k) for k in range(h)]
    size = 1e-12 * float(np.nanmax(np.abs(np.concatenate([a, b]))))
    if gamma[0] <= size**2:
        if abs(dbar) > size:
            raise ValueError(f"the difference is {dbar:g} on every date: without variance there is nothing to test")
        p = 1.0 if alternative == "two-sided" else 0.5
        return DieboldMariano(0.0, 0.0, 0.0, 0.0, p, n, h, kernel, correction, alternative, level, len(d) - n)
    V = _long_run(gamma, kernel)
    if V <= 0:
        warnings.warn(
            f"the rectangular variance with {h - 1} autocovariances is {V:.3g}, not positive: using Bartlett's",
            stacklevel=2,
        )
        kernel = "bartlett"
        V = _long_run(gamma, kernel)
    se = math.sqrt(V / n)
    if correction == "hln":
        se /= math.sqrt((n + 1 - 2 * h + h * (h - 1) / n) / n)
    student = correction == "hln"
    DM = dbar / se
    x = {"less": DM, "greater": -DM, "two-sided": -abs(DM)}[alternative]
    p = float(stdtr(n - 1, x) if student else ndtr(x)) * (2 if alternative == "two-sided" else 1)
    half = float(stdtrit(n - 1, 0.5 + level / 2) if student else ndtri(0.5 + level / 2)) * se
    return DieboldMariano(
        dbar, dbar - half, dbar + half, DM, p, n, h, kernel, correction, alternative, level, len(d) - n
    )
