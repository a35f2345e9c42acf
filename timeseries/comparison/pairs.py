"""Two forecasts of the same rows, by one score: interval of the ratio, test over time, ratios of rows, wins."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..metrics.report import cells, inputs
from ..metrics.score import Score, bootstrap
from .blocks import block_bootstrap, block_length
from .dm import DieboldMariano, diebold_mariano
from .ratios import WinCounts, relative_score, win_counts

if TYPE_CHECKING:
    from ..data import Panel
    from ..forecast import Forecast

__all__ = ["Comparison", "compare"]

#: Origins that a test over time needs: with fewer, the variance over time is a guess.
FEW = 10


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` returns: what speaks for a being better than b, by one score.

    Attributes:
        metric: its name, with the definition. names: of the two forecasts. a, b: their scores.
        ratio: a / b of the scores; low, high: its interval. how: what was redrawn for it.
        relative: geometric mean over rows of the ratio of row scores. wins: over rows.
        test: Diebold-Mariano over forecast origins, None where there are too few of them (``note`` says so).
        note: what the reader must know.
    """

    metric: str
    names: tuple[str, str]
    a: float
    b: float
    ratio: float
    low: float
    high: float
    how: str
    relative: Score
    wins: WinCounts
    test: DieboldMariano | None
    note: str

    def __str__(self) -> str:
        lines = [
            f"{self.metric}: {self.names[0]} {self.a:.4g}, {self.names[1]} {self.b:.4g}, ratio {self.ratio:.3f} "
            f"[{self.low:.3f}, {self.high:.3f}] ({self.how})",
            f"geometric mean of row ratios {self.relative.value:.3f} [{self.relative.low:.3f}, "
            f"{self.relative.high:.3f}]; {self.names[0]} wins {self.wins.wins} of {self.wins.n} rows, "
            f"{self.wins.ties} ties, sign test p = {self.wins.p_value:.3g}",
        ]
        if self.test is not None:
            lines.append(
                f"Diebold-Mariano over {self.test.n} origins, h = {self.test.h}: {self.test.statistic:.2f}, "
                f"p = {self.test.p_value:.3g}"
            )
        return "\n".join([*lines, self.note] if self.note else lines)


def compare(
    a: Forecast,
    b: Forecast,
    actual: Any,
    metric: str = "crps_exact",
    history: Panel | None = None,
    *,
    season: int | None = None,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Two forecasts of the same rows, by one score.

    With at least 10 forecast origins, all rows of an origin are one date of a time series of losses: the
    Diebold-Mariano test and circular blocks (at least as long as the windows overlap) are over origins. With fewer, no
    test over time is possible: series are redrawn whole, as if independent, and the note says so.

    Args:
        a, b: forecasts with the same ids, starts and horizon. actual: long frame, panel or array (series, horizon).
        metric: a name that :func:`.scores` gives both, except ``nrmse``, ``rmse_mean`` and coverages.
        history: the panel both were made from, for scaled scores. season: of its seasonal error.

    Raises:
        ValueError: forecasts of different rows or times; a metric that one of them does not have, or that is undefined.
    """
    if a.ids != b.ids or a.horizon != b.horizon or tuple(a.starts) != tuple(b.starts):
        raise ValueError(
            f"the forecasts are of different rows: {len(a.ids)} x {a.horizon} and {len(b.ids)} x {b.horizon}; the same "
            "ids, starts and horizon are needed"
        )
    y, scale = inputs(a, actual, history, season)
    parts_a, parts_b = cells(a, y, scale), cells(b, y, scale)
    able = sorted(k for k in parts_a.keys() & parts_b.keys() if not k.startswith(("coverage", "rmse")))
    if metric not in able:
        hint = "; the scaled ones need history=" if scale is None else ""
        raise ValueError(f"no score {metric!r} that both forecasts have; there are {', '.join(able)}{hint}")
    above_a, below = (p.sum(axis=1) for p in parts_a[metric].weighted())
    above_b = parts_b[metric].weighted()[0].sum(axis=1)
    total = float(below.sum())
    if not total > 0:
        raise ValueError(f"{metric} is undefined here: sum |y| is zero, or no row has a scale")
    columns = np.stack([above_a, above_b], axis=1)
    counts = parts_a[metric].known.any(axis=1) & (below > 0)
    rows = np.where(counts[:, None], columns / np.where(counts, below, 1.0)[:, None], np.nan)

    def ratio(means: np.ndarray) -> np.ndarray:
        return means[:, 0] / np.where(means[:, 1] > 0, means[:, 1], np.nan)

    origins = sorted(set(a.starts))
    test, note, labels = None, "", a.ids
    if len(origins) >= FEW:
        shares, overlap, labels = _by_origin(columns, below, a.starts, origins), _overlap(a, origins), a.starts
        test = diebold_mariano(shares[:, 0], shares[:, 1], overlap, level=level)
        d = shares[:, 0] - shares[:, 1]
        block = min(float(len(origins)), max(float(overlap), block_length(d[~np.isnan(d)])))
        boot = block_bootstrap(shares, ratio, block=block, null=1.0, draws=draws, level=level, seed=seed)
        low, high = boot.low, boot.high
        how = f"{level:.0%}, circular blocks of {round(boot.block)} of {len(origins)} forecast origins"
    else:
        low, high, units = bootstrap(columns, ratio, labels, draws=draws, level=level, seed=seed)
        how = f"{level:.0%}, bootstrap over {units} series"
        note = (
            f"{len(origins)} forecast origins are too few for a test over time ({FEW} needed): the intervals take "
            "series as independent"
        )
    return Comparison(
        metric,
        (a.name, b.name),
        float(above_a.sum() / total),
        float(above_b.sum() / total),
        float(ratio(columns.sum(axis=0)[None])[0]),
        low,
        high,
        how,
        relative_score(rows[:, 0], rows[:, 1], clusters=labels, draws=draws, level=level, seed=seed),
        win_counts(rows[:, 0], rows[:, 1], level=level),
        test,
        note,
    )


def _by_origin(columns: np.ndarray, below: np.ndarray, starts: Sequence[Any], origins: list[Any]) -> np.ndarray:
    """What each origin adds to both scores, (origins, 2), times the number of origins: their mean over dates is the
    score. NaN where nothing of the origin counts."""
    where = {t: k for k, t in enumerate(origins)}
    dates = np.zeros((len(origins), 3))
    np.add.at(dates, [where[t] for t in starts], np.column_stack([columns, below]))
    known = dates[:, 2] > 0
    shares = dates[:, :2] * known.sum() / below.sum()
    return np.where(known[:, None], shares, np.nan)


def _overlap(forecast: Forecast, origins: list[Any]) -> int:
    """How many consecutive origins share steps: ceil(H / smallest stride)."""
    from ..data import steps_between

    stride = min(steps_between(s, t, forecast.freq) for s, t in itertools.pairwise(origins))
    return -(-forecast.horizon // stride)
