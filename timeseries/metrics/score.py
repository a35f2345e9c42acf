r"""What a reported number is: a value with its definition, its unit, its n and its uncertainty.

Nearly every score here is a function of sums over rows, s = g(sum_r a_r, sum_r b_r, ...): wQL = sum of losses / sum of
|y|; MASE = sum of row means / number of rows; a geometric mean = exp(sum of logs / number). Its interval comes from
the bootstrap over the units that may be taken as independent: they are drawn with replacement, the sums are formed
again, and the percentiles of g are the interval (Efron, 1979). Which units those are is a statement about the data:

- ``row``: every row, when rows are different series, or windows far apart;
- ``series``: all windows of a series together, when series are independent and windows of one are not;
- ``origin``: all series of one forecast date together, when what happens at a date happens to all series.

Rows that are dependent but drawn as independent make the interval too narrow. With one unit there is no interval (NaN).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

__all__ = ["Cluster", "Score", "bootstrap", "skill"]

Cluster = Literal["row", "series", "origin"]


@dataclass(frozen=True)
class Score:
    """A number and what it takes to read it; ``float(score)`` is the number.

    Attributes:
        name: with the definition in it (``wql_gluonts``); equal names mean comparable numbers.
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


def skill(
    model: Mapping[str, float | Score],
    baseline: Mapping[str, float | Score],
    select: Callable[[str], bool] | None = None,
) -> dict:
    """1 - model/baseline for the scores that both report under the *same* definition (positive = the model is better).

    Args:
        model, baseline: name -> number, or name -> :class:`Score`. select: which names; wQL and CRPS by default.

    Raises:
        ValueError: they have no definition in common: a wQL by ``gluonts`` and one by ``csdi`` are not comparable; or
            two scores of one name that count a different number of observations.
    """
    pick = select or (lambda name: name.startswith(("wql", "crps", "scaled_crps")))
    ours, theirs = {k for k in model if pick(k)}, {k for k in baseline if pick(k)}
    common = sorted(ours & theirs)
    if not common:
        raise ValueError(
            f"no score with the same definition: the model has {sorted(ours)}, the baseline {sorted(theirs)}; compute "
            "both by one method"
        )
    for k in common:
        a, b = model[k], baseline[k]
        if isinstance(a, Score) and isinstance(b, Score) and a.n != b.n:
            raise ValueError(
                f"{k} of the model counts {a.n} observations, of the baseline {b.n}: score both on the same ones"
            )
    return {k: 1.0 - float(model[k]) / float(baseline[k]) for k in common}
