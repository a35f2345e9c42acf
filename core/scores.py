r"""What a reported number is: a value with its definition, its unit, its n and its uncertainty.

*Bootstrap.* Many scores are functions of sums over rows, s = g(sum_r a_r, sum_r b_r, ...): a weighted mean, a ratio, a
geometric mean. The units that may be taken as independent are drawn with replacement, the sums are formed again, and
the percentiles of g are the interval (Efron, "Bootstrap methods: another look at the jackknife", 1979). Which units
those are is a statement about the data; rows that are dependent but drawn as independent make the interval too narrow.
With one unit there is no interval (NaN).

*Shares.* k hits among n independent cases: Wilson's interval (Wilson, "Probable inference, the law of succession, and
statistical inference", 1927), the p with (k/n - p)^2 <= z^2 p (1 - p) / n:

    p = (k + z^2/2 -+ z sqrt(k (n - k)/n + z^2/4)) / (n + z^2),

which stays in [0, 1] and has a width at k = 0 and k = n too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

__all__ = ["Score", "bootstrap", "check_bootstrap", "wilson"]


@dataclass(frozen=True)
class Score:
    """A number and what it takes to read it; ``float(score)`` is the number.

    Attributes:
        name: with the definition in it (``wql_gluonts``, ``mmd_degree_emd``); equal names mean comparable numbers.
        value, low, high: the score and its confidence interval (NaN where there is none), at ``level``.
        n: observations that count. units: independent units behind the interval.
        unit: of the value; ``"1"`` = dimensionless.
        definition: in one sentence. uncertainty: how the interval was made.
        left_out: rows (or units) that the rule for missing values left out.
        reference: what a perfect or a naive case scores, where the definition fixes that (0.8 for the coverage of an
            80 % interval); None otherwise.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    units: int
    unit: str
    definition: str
    uncertainty: str
    level: float = 0.95
    left_out: int = 0
    reference: float | None = None

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):  # numpy's numbers are shown as np.float64(...)
            object.__setattr__(self, name, float(getattr(self, name)))

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        unit = "" if self.unit == "1" else f" {self.unit}"
        out = f"{self.name} {self.value:.4g}{unit} [{self.low:.4g}, {self.high:.4g}] ({self.level:.0%}, n = {self.n}"
        return out + (f", {self.left_out} left out)" if self.left_out else ")")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def bootstrap(
    columns: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    clusters: Sequence[Any] | np.ndarray | None = None,
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, int]:
    """Percentile interval of ``statistic`` of the column sums, when whole units are redrawn.

    Args:
        columns: (rows, k), finite: what each row adds to each sum.
        statistic: sums (draws, k) -> values (draws,). clusters: (rows,), a label a row; rows that share one are drawn
            together. None: every row alone.

    Returns:
        low, high, and the number of units; NaN, NaN for fewer than two units.
    """
    columns = np.asarray(columns, dtype=np.float64)
    if columns.ndim != 2 or not np.isfinite(columns).all():
        raise ValueError(f"expected finite columns (rows, k), got {columns.shape} with NaN or inf, or another shape")
    check_bootstrap(draws, level)
    if clusters is not None:
        if len(clusters) != len(columns):
            raise ValueError(f"expected one cluster label a row ({len(columns)}), got {len(clusters)}")
        where: dict[Any, int] = {}
        index = np.array([where.setdefault(label, len(where)) for label in clusters], dtype=np.int64)
        sums = np.zeros((len(where), columns.shape[1]))
        np.add.at(sums, index, columns)
        columns = sums
    G = len(columns)
    if G < 2:
        return float("nan"), float("nan"), G
    rng = np.random.Generator(np.random.PCG64(seed))
    chunk = max(1, 10_000_000 // (G * columns.shape[1]))
    totals = [columns[rng.integers(0, G, size=(min(chunk, draws - k), G))].sum(axis=1) for k in range(0, draws, chunk)]
    with np.errstate(invalid="ignore", divide="ignore"):
        values = statistic(np.concatenate(totals))
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return float("nan"), float("nan"), G
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high), G


def check_bootstrap(draws: int, level: float) -> None:
    """Raise ``ValueError`` for a number of draws or a level that cannot be."""
    if draws < 1 or not 0 < level < 1:
        raise ValueError(f"draws must be at least 1 and level in (0, 1), got {draws} and {level}")


def wilson(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share, ``hits`` of ``n``.

    Raises:
        ValueError: n < 1, hits outside 0 .. n, or a level outside (0, 1).
    """
    if n < 1 or not 0 <= hits <= n or not 0 < level < 1:
        raise ValueError(f"expected 0 <= hits <= n, n >= 1 and 0 < level < 1, got {hits} of {n} at {level}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle, half = hits + z * z / 2, z * math.sqrt(hits * (n - hits) / n + z * z / 4)
    return max(0.0, (middle - half) / (n + z * z)), min(1.0, (middle + half) / (n + z * z))
