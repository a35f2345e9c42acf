"""What was measured, as files: ``metrics.json``, ``per_horizon.csv`` and the pictures; and as a table to print.

Every file appears when it is complete. ``metrics.json`` holds every score with its value, interval, n, unit, definition
and how the interval was made; what is not a number (an interval of one unit) is null.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.outputs import draw, write_json

if TYPE_CHECKING:
    from ..data import Panel
    from ..forecast import Forecast
    from ..metrics import Score

__all__ = ["Results", "draw", "folder_of", "in_training", "is_point", "write_json"]

#: Scores that are also written step by step.
STEPWISE = ("wql_gluonts", "crps_exact", "mae_median", "coverage_80")


def folder_of(out: Path | None) -> Path | None:
    """The folder for results, made now, so that what cannot be written is refused before the work.

    Raises:
        ValueError: the name of a file.
    """
    if out is None:
        return None
    if out.suffix.lower() in (".json", ".csv", ".png", ".html", ".txt", ".npz", ".parquet") or out.is_file():
        raise ValueError(f"--out {out}: give a folder; it receives metrics.json, tables and pictures")
    out.mkdir(parents=True, exist_ok=True)
    return out


def in_training(model: Any, forecast: Forecast) -> int:
    """How many rows are forecast from an origin inside the training period of their series."""
    from ..data import _as_timestamp

    count = 0
    for u, start in zip(forecast.ids, forecast.starts, strict=True):
        until = model.trained_until.get(str(u))
        if until is not None:
            try:
                count += bool(start <= _as_timestamp(until, start))
            except ValueError:  # one has a time zone and the other has none: another series of that name
                continue
    return count


@dataclass(frozen=True)
class Results:
    """Forecasts of the same windows by a model and its baselines.

    Attributes:
        forecasts: by name, the model first. actual: (rows, horizon), NaN = unknown. history: what they were made from.
        cluster: what the intervals take as independent: "row", "series" or "origin".
        scores: of each, filled in by itself.
    """

    forecasts: dict[str, Forecast]
    actual: np.ndarray
    history: Panel
    cluster: Any = "row"
    scores: dict[str, dict[str, Score]] = field(init=False)

    def __post_init__(self) -> None:
        from ..metrics import scores

        found = {name: scores(f, self.actual, self.history, cluster=self.cluster) for name, f in self.forecasts.items()}
        for name, f in self.forecasts.items():
            if is_point(f):  # a point has no interval
                found[name] = {k: s for k, s in found[name].items() if "coverage" not in k and "msis" not in k}
        object.__setattr__(self, "scores", found)

    def table(self) -> str:
        """The main scores, one line a forecast."""
        from ...core.demo import table

        lines: dict[str, dict[str, float | str]] = {}
        for name, s in self.scores.items():
            wql = s["wql_gluonts"]
            lines[name] = {
                "wql_gluonts": wql.value,
                "low95": wql.low,
                "high95": wql.high,
                "scaled_crps": s["scaled_crps"].value,
                "mae_median": s["mae_median"].value,
                "coverage_80": s["coverage_80"].value if "coverage_80" in s else "-",
                "windows": str(len(self.actual)),
            }
        return table(lines)

    def write(self, folder: Path, **more: Any) -> list[Path]:
        """``metrics.json`` (with `more`), ``per_horizon.csv``, ``fan.png``, ``pit.png``, ``reliability.png``."""
        from ..data import write_long

        written = [
            write_json(more | {"scores": self.scores}, folder / "metrics.json"),
            write_long(self._per_horizon(), folder / "per_horizon.csv"),
        ]
        wide = {name: f for name, f in self.forecasts.items() if not is_point(f)}
        from ..plots import fan_chart, pit_plot, reliability

        (first, model), *others = wide.items()
        rival = next((f for name, f in others if "naive" in name), None)
        rows = self._last_rows()
        fan = fan_chart(
            model,
            self.history,
            self.actual,
            rows=rows,
            baseline=rival,
            titles=[f"{model.ids[r]}, from {model.starts[r]}" for r in rows],
        )
        both = [f for f in (model, rival) if f is not None]
        names = [first, *(name for name, f in others if f is rival)]
        written += [
            draw(fan, folder / "fan.png"),
            draw(pit_plot(both, self.actual, names=names), folder / "pit.png"),
            draw(reliability(list(wide.values()), self.actual, names=list(wide)), folder / "reliability.png"),
        ]
        return written

    def _last_rows(self, most: int = 6) -> list[int]:
        """The latest window of each of the first series; of one series, its last windows."""
        ids = self.history.ids
        latest = {u: r for r, u in sorted(enumerate(ids), key=lambda pair: self._start(pair[0]))}
        rows = [latest[u] for u in dict.fromkeys(ids)]
        if len(rows) == 1:
            rows = sorted(range(len(ids)), key=self._start)[-min(most, 4) :]
        return rows[:most]

    def _start(self, row: int) -> Any:
        return next(iter(self.forecasts.values())).starts[row]

    def _per_horizon(self) -> Any:
        import pandas as pd

        from ..metrics import per_horizon

        lines = []
        for name, f in self.forecasts.items():
            for metric in STEPWISE:
                if metric in self.scores[name]:
                    steps = per_horizon(f, self.actual, metric, self.history, cluster=self.cluster)
                    for h, s in enumerate(steps, 1):
                        lines.append((name, metric, h, s.value, s.low, s.high, s.n, s.unit))
        return pd.DataFrame(lines, columns=["forecast", "metric", "step", "value", "low95", "high95", "n", "unit"])


def is_point(forecast: Forecast) -> bool:
    """Whether it has no spread: one path a row."""
    from ..forecast import NormalForecast

    return not isinstance(forecast, NormalForecast) and forecast.samples.shape[1] < 2
