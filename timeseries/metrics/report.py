r"""All scores of a forecast, with their uncertainty; each for the whole horizon or for every step of it.

A score of a forecast is built of two arrays (rows, horizon), what each cell adds above and below the fraction line:

    wql_*, nd     a = loss,             b = |y|
    crps_*, ...   a = loss,             b = 1           (a mean over cells)
    mase, msis    a = loss / e_r / n_r, b = 1 / n_r     (a mean over rows of means over the n_r known cells of the row)

so that the score is sum a / sum b, the score of step h is the same over column h (there n_r = 1), and a difference of
two forecasts is the difference of their a. Cells where y is missing, and rows without a scale where one is needed, have
a = b = 0: they count nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .crps import crps_ensemble, over_scale
from .joint import energy_score
from .point import interval_score
from .quantile import CSDI_LEVELS, GLUONTS_LEVELS, over_weight, pinball
from .score import Cluster, Score, bootstrap

if TYPE_CHECKING:
    from ..data import Panel
    from ..forecast import Forecast

__all__ = ["Cells", "cells", "per_horizon", "scores"]


@dataclass(frozen=True)
class Cells:
    """The parts of a score: it is sum ``above`` / sum ``below``.

    Attributes:
        above, below: (rows, horizon), 0 where nothing counts; (rows, 1) for a score of whole paths.
        known: bool, the same shape: which cells count.
        unit, definition, reference: as in :class:`.Score`.
        by_row: whether every row has one vote, however many of its cells are known.
        left_out: rows that have no scale.
        over_y: whether ``below`` is |y|, so that a zero sum is a zero truth.
    """

    above: np.ndarray
    below: np.ndarray
    known: np.ndarray
    unit: str
    definition: str
    reference: float | None = None
    by_row: bool = False
    left_out: int = 0
    over_y: bool = False

    def weighted(self) -> tuple[np.ndarray, np.ndarray]:
        """``above`` and ``below``, divided by the number of known cells of the row where rows have one vote each."""
        if not self.by_row:
            return self.above, self.below
        count = np.maximum(self.known.sum(axis=1, keepdims=True), 1)
        return self.above / count, self.below / count

    def step(self, h: int) -> Cells:
        """The same score of step ``h`` alone."""
        column = slice(h, h + 1)
        return replace(self, above=self.above[:, column], below=self.below[:, column], known=self.known[:, column])


def _truth(forecast: Forecast, y: np.ndarray) -> np.ndarray:
    y = np.asarray(y, dtype=np.float64)
    expected = (len(forecast.ids), forecast.horizon)
    if y.shape != expected:
        raise ValueError(f"expected the truth (series, horizon) = {expected}, got {y.shape}")
    if np.isinf(y).any():
        raise ValueError(f"{int(np.isinf(y).sum())} observations are infinite: write NaN for 'not observed'")
    if np.isnan(y).all():
        raise ValueError(f"none of the {y.size} observations is known: there is nothing to score")
    return y


def cells(
    forecast: Forecast,
    y: np.ndarray,
    scale: np.ndarray | None = None,
    level: Sequence[float] = (80, 95),
    alpha: float = 0.05,
) -> dict[str, Cells]:
    """The parts of every score that this forecast can have; see :func:`scores` for the names and arguments.

    Args:
        scale: (series,), the seasonal error of each row's history; without it there are no scaled scores.
    """
    y = _truth(forecast, y)
    known, weight = ~np.isnan(y), np.abs(np.nan_to_num(y))
    one = known.astype(np.float64)
    out: dict[str, Cells] = {}

    def add(name: str, loss: np.ndarray, below: np.ndarray, unit: str, definition: str, **more: Any) -> None:
        out[name] = Cells(np.where(known, loss, 0.0), below, known, unit, definition, **more)

    def relative(name: str, loss: np.ndarray, definition: str) -> None:
        add(name, loss, weight, "1", definition, over_y=True)

    crps, median, mean = forecast.crps(y), forecast.quantile(0.5), forecast.mean()
    nine = [
        pinball(y, f, q) for f, q in zip(forecast.quantiles(GLUONTS_LEVELS, "nearest"), GLUONTS_LEVELS, strict=True)
    ]
    many = [pinball(y, f, q) for f, q in zip(forecast.quantiles(CSDI_LEVELS, "linear"), CSDI_LEVELS, strict=True)]
    relative("wql_gluonts", np.mean(nine, axis=0), "mean weighted quantile loss, q = .1 .. .9, nearest rank")
    relative("wql_csdi", np.mean(many, axis=0), "mean weighted quantile loss, q = .05 .. .95, interpolated")
    relative("wql_exact", crps, "sum of CRPS over sum |y|")
    add("crps_exact", crps, one, "unit of y", "mean CRPS of the forecast distribution as it stands")
    paths = forecast.samples
    if paths.shape[1] >= 2 and forecast.iid:
        fair = crps_ensemble(y, paths, "fair")
        add(
            "crps_fair", fair, one, "unit of y", f"mean unbiased CRPS of the distribution behind {paths.shape[1]} paths"
        )
    relative("nd", np.abs(median - y), "sum |median - y| over sum |y|")
    add("mae_median", np.abs(median - y), one, "unit of y", "mean |median - y|")
    add("rmse_mean", (mean - y) ** 2, one, "unit of y", "root of the mean of (mean - y)^2")
    for v in level:
        lower, upper = forecast.quantiles([0.5 - v / 200, 0.5 + v / 200])
        inside = (lower <= y) & (y <= upper)
        text = f"share of observations in the central {v:g} % interval"
        add(f"coverage_{v:g}", inside.astype(float), one, "1", text, reference=v / 100)
    if scale is not None:
        inverse = over_scale(np.ones(len(y)), scale, "the scaled scores", 4)[:, None]  # NaN: no scale
        seen = known & np.isfinite(inverse)
        lower, upper = forecast.quantiles([alpha / 2, 1 - alpha / 2], "nearest")
        missed = int((~np.isfinite(inverse)).sum())
        for name, loss, text in (
            ("scaled_crps", crps, "CRPS"),
            ("mase", np.abs(median - y), "|median - y|"),
            (f"msis_{100 * (1 - alpha):g}", interval_score(y, lower, upper, alpha), "interval score"),
        ):
            text = f"mean over rows of the mean {text} over the seasonal error of the row's history"
            ratio = np.where(seen, loss * inverse, 0.0)
            out[name] = Cells(ratio, seen.astype(float), seen, "1", text, by_row=True, left_out=missed)
    if paths.shape[1] >= 2 and y.shape[1] > 1:
        energy = energy_score(y, paths)
        some = np.isfinite(energy)[:, None]
        text = f"mean energy score of whole paths of {y.shape[1]} steps, the ensemble as it stands"
        out["energy_path"] = Cells(np.nan_to_num(energy)[:, None], some.astype(float), some, "unit of y", text)
    return out


_UNITS = {"row": "rows", "series": "series", "origin": "forecast origins"}


def _labels(forecast: Forecast, cluster: Cluster | Sequence[Any]) -> tuple[Sequence[Any] | None, str]:
    if isinstance(cluster, str):
        if cluster not in _UNITS:
            raise ValueError(f"cluster must be 'row', 'series', 'origin' or one label a row, got {cluster!r}")
        return {"row": None, "series": forecast.ids, "origin": forecast.starts}[cluster], _UNITS[cluster]
    return cluster, "clusters"


def _finish(
    name: str, part: Cells, labels: Sequence[Any] | None, what: str, draws: int, confidence: float, seed: int
) -> Score:
    above, below = (a.sum(axis=1) for a in part.weighted())
    root = name.startswith("rmse")

    def ratio(sums: np.ndarray) -> np.ndarray:
        value = sums[:, 0] / np.where(sums[:, 1] > 0, sums[:, 1], np.nan)
        return np.sqrt(value) if root else value

    low, high, units = bootstrap(
        np.stack([above, below], axis=1), ratio, labels, draws=draws, level=confidence, seed=seed
    )
    if part.over_y:
        value = over_weight(float(above.sum()), below)
        low, high = (low, high) if np.isfinite(value) else (float("nan"), float("nan"))
    else:
        value = float(ratio(np.array([[above.sum(), below.sum()]]))[0])
    how = f"bootstrap over {units} {what}, {draws} draws" if units > 1 else f"none: {units} {what}"
    n = int(part.known.sum())
    return Score(
        name, value, low, high, n, units, part.unit, part.definition, how, confidence, part.left_out, part.reference
    )


def scores(
    forecast: Forecast,
    actual: Any,
    history: Panel | None = None,
    *,
    season: int | None = None,
    level: Sequence[float] = (80, 95),
    alpha: float = 0.05,
    cluster: Cluster | Sequence[Any] = "row",
    draws: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Score]:
    """Every score of a forecast, each with its definition, unit, n and interval.

    Args:
        actual: long frame, panel or array (series, horizon), NaN = unknown.
        history: the panel the forecast was made from, for the scaled scores. season: of its seasonal error; by the
            frequency when None.
        level: central intervals in percent whose coverage is reported. alpha: of MSIS.
        cluster: what is independent (see :mod:`.score`): ``"row"``, ``"series"``, ``"origin"``, or one label a row.
        draws, confidence, seed: of the bootstrap.

    Returns:
        ``wql_gluonts``, ``wql_csdi``, ``wql_exact``, ``nd``, ``nrmse``: dimensionless; ``crps_exact``, ``mae_median``,
        ``rmse_mean``: in the unit of y; ``coverage_80``, ...; ``mae_coverage``; with a history ``scaled_crps``,
        ``mase``, ``msis_95``; with independent paths ``crps_fair``; with paths ``energy_path``.

    Raises:
        ValueError: shapes that do not fit, infinite observations, no known observation.

    Warns:
        UserWarning: sum |y| is zero (wQL, ND, NRMSE are NaN), or rows have no scale and are left out.
    """
    y, scale = inputs(forecast, actual, history, season)
    labels, what = _labels(forecast, cluster)
    parts = cells(forecast, y, scale, level, alpha)
    out = {name: _finish(name, part, labels, what, draws, confidence, seed) for name, part in parts.items()}
    out["nrmse"] = _nrmse(parts, out["rmse_mean"], labels, draws, confidence, seed)
    out["mae_coverage"] = _mae_coverage(forecast, y, out["nd"], labels, draws, confidence, seed)
    return out


def per_horizon(
    forecast: Forecast,
    actual: Any,
    metric: str = "wql_gluonts",
    history: Panel | None = None,
    *,
    season: int | None = None,
    level: Sequence[float] = (80, 95),
    alpha: float = 0.05,
    cluster: Cluster | Sequence[Any] = "row",
    draws: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Score]:
    """One score for each step of the horizon, named ``<metric>[h=1]`` ...: how fast a forecast loses its skill.

    Other arguments and errors as :func:`scores`.

    Args:
        metric: a name that :func:`scores` gives, except ``nrmse``, ``mae_coverage`` and ``energy_path``.
    """
    y, scale = inputs(forecast, actual, history, season)
    parts = cells(forecast, y, scale, level, alpha)
    able = sorted(k for k, part in parts.items() if part.above.shape == y.shape)
    if metric not in able:
        hint = "; the scaled ones need history=" if scale is None else ""
        raise ValueError(f"no score {metric!r} a step; there are {', '.join(able)}{hint}")
    labels, what = _labels(forecast, cluster)
    out = [
        _finish(metric, parts[metric].step(h), labels, what, draws, confidence, seed) for h in range(forecast.horizon)
    ]
    return [replace(score, name=f"{metric}[h={h}]") for h, score in enumerate(out, 1)]


def inputs(
    forecast: Forecast, actual: Any, history: Panel | None, season: int | None
) -> tuple[np.ndarray, np.ndarray | None]:
    from ..baselines import seasonal_scale
    from ..forecast import actuals

    y = _truth(forecast, actual if isinstance(actual, np.ndarray) else actuals(forecast, actual))
    if history is None:
        return y, None
    if history.ids != forecast.ids:
        raise ValueError(
            f"the history has {len(history)} rows, the forecast {len(forecast.ids)}, or they name other series: pass "
            "the panel that was forecast"
        )
    return y, seasonal_scale(history, season)


def _nrmse(
    parts: dict[str, Cells], rmse: Score, labels: Sequence[Any] | None, draws: int, confidence: float, seed: int
) -> Score:
    error, weight = parts["rmse_mean"], parts["nd"].below
    columns = np.stack([error.above.sum(1), error.below.sum(1), weight.sum(1)], axis=1)

    def statistic(sums: np.ndarray) -> np.ndarray:
        return np.sqrt(sums[:, 0] * sums[:, 1]) / np.where(sums[:, 2] > 0, sums[:, 2], np.nan)

    low, high, _ = bootstrap(columns, statistic, labels, draws=draws, level=confidence, seed=seed)
    value = float(statistic(columns.sum(axis=0)[None])[0])
    text = "root of the mean of (mean - y)^2 over mean |y|"
    return replace(rmse, name="nrmse", value=value, low=low, high=high, unit="1", definition=text)


def _mae_coverage(
    forecast: Forecast,
    y: np.ndarray,
    like: Score,
    labels: Sequence[Any] | None,
    draws: int,
    confidence: float,
    seed: int,
) -> Score:
    known = ~np.isnan(y)
    below = [((y <= f) & known).sum(axis=1) for f in forecast.quantiles(GLUONTS_LEVELS, "nearest")]
    columns = np.stack([*below, known.sum(axis=1)], axis=1)

    def statistic(sums: np.ndarray) -> np.ndarray:
        share = sums[:, :-1] / np.where(sums[:, -1:] > 0, sums[:, -1:], np.nan)
        return np.abs(share - np.array(GLUONTS_LEVELS)).mean(axis=1)

    low, high, _ = bootstrap(columns, statistic, labels, draws=draws, level=confidence, seed=seed)
    value = float(statistic(columns.sum(axis=0)[None].astype(float))[0])
    text = "mean over q = .1 .. .9 of |share of observations at or below the q-quantile - q|"
    return replace(like, name="mae_coverage", value=value, low=low, high=high, definition=text, reference=0.0)
