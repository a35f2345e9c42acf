"""What a forecast is: joint sample paths, or normal margins, of each series over the horizon, and how to write it.

:class:`Forecast` carries paths (series, paths, horizon): functions of a whole path (a weekly total, a peak) have a
distribution too, which quantiles a step cannot give. :class:`NormalForecast` carries a mean and a standard deviation a
step, in closed form. Both answer the same questions, so every score treats them alike.
"""

from __future__ import annotations

import importlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..core.files import existing, replacing
from .calendar import times_around
from .data import Panel, _pandas, to_panel, write_long
from .data.clock import grid
from .metrics import GLUONTS_LEVELS, METHODS, crps_ensemble, crps_normal, quantiles_of, wql, wql_from_quantiles
from .metrics import scores as all_scores

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["Forecast", "NormalForecast", "actuals", "evaluate", "joined", "rolling"]


def _plain(value: Any) -> Any:
    """What JSON does not know, as it writes it: numpy's numbers as numbers, the rest as text."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


@dataclass(frozen=True)
class Forecast:
    """Joint sample paths.

    Attributes:
        ids: series of each row (a name appears several times when several windows were forecast).
        starts: first forecast timestamp of each row. freq: step.
        samples: float64 (series, paths, horizon), in the data's unit.
        name: of the model; it names the columns of :meth:`to_long`.
        iid: whether the paths of a series are independent draws. False under quantile guidance, where path i is drawn
            towards level i/(S+1): use such an ensemble whole.
        info: what was run.
    """

    ids: tuple[Any, ...]
    starts: tuple[Any, ...]
    freq: str
    samples: np.ndarray
    name: str = "forecast"
    iid: bool = True
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def horizon(self) -> int:
        """Number of steps ahead."""
        return int(self.samples.shape[-1])

    def times(self, i: int) -> pd.DatetimeIndex:
        """The horizon's timestamps of row ``i``."""
        return grid(self.starts[i], self.freq, periods=self.horizon)

    def quantiles(self, levels: Sequence[float], method: Literal["nearest", "linear"] = "linear") -> np.ndarray:
        """(Q, series, horizon) at levels in (0, 1)."""
        if any(not 0 < q < 1 for q in levels):
            raise ValueError(f"quantile levels must lie in (0, 1), got {list(levels)}")
        return quantiles_of(self.samples, tuple(levels), method)

    def quantile(self, q: float, method: Literal["nearest", "linear"] = "linear") -> np.ndarray:
        """(series, horizon) at level ``q``."""
        return self.quantiles([q], method)[0]

    def mean(self) -> np.ndarray:
        """(series, horizon)."""
        return np.asarray(self.samples.mean(axis=1))

    def median(self) -> np.ndarray:
        """(series, horizon)."""
        return self.quantile(0.5)

    def non_negative(self) -> Forecast:
        """The same with every sample path *clipped* at 0: what lay below becomes 0, nothing else moves.

        For quantities that cannot be negative. Clipping moves quantiles below 0 to 0 and raises the mean.
        """
        info = self.info | {"non_negative": "clipped at 0"}
        return replace(self, samples=np.maximum(self.samples, 0.0), info=info)

    def crps(self, y: np.ndarray) -> np.ndarray:
        """CRPS (series, horizon) of the ensemble against y."""
        return crps_ensemble(y, self.samples)

    def wql(self, y: np.ndarray, method: Literal["gluonts", "csdi", "exact"] = "gluonts") -> float:
        """Weighted quantile loss; see :mod:`.metrics` for the three definitions."""
        return wql(y, self.samples, method)

    def to_long(self, level: Sequence[float] = (80, 95), cutoff: bool | None = None) -> pd.DataFrame:
        """``unique_id, ds, <name>, <name>-median, <name>-lo-80, <name>-hi-80, ...``; ``<name>`` is the mean.

        Args:
            level: central intervals in percent, each in (0, 100).
            cutoff: whether to add a column ``cutoff``, the last timestamp before the horizon; None: where a series has
                several rows.
        """
        pd = _pandas()
        if any(not 0 < v < 100 for v in level):
            raise ValueError(f"level is in percent, between 0 and 100, got {list(level)}")
        bounds = [(v, 0.5 - v / 200, 0.5 + v / 200) for v in sorted(level)]
        values = self.quantiles([0.5, *(q for _, a, b in bounds for q in (a, b))])
        mean, frames = self.mean(), []
        for i, u in enumerate(self.ids):
            columns: dict[str, Any] = {"unique_id": [u] * self.horizon, "ds": self.times(i)}
            if cutoff or (cutoff is None and len(set(self.ids)) < len(self.ids)):
                columns["cutoff"] = [times_around(self.starts[i], self.freq, -1, 0)[0]] * self.horizon
            columns |= {self.name: mean[i], f"{self.name}-median": values[0, i]}
            for k, (v, _, _) in enumerate(bounds):
                columns[f"{self.name}-lo-{v:g}"] = values[1 + 2 * k, i]
                columns[f"{self.name}-hi-{v:g}"] = values[2 + 2 * k, i]
            frames.append(pd.DataFrame(columns))
        return pd.concat(frames, ignore_index=True)

    def plot(self, history: pd.DataFrame | Panel | None = None, **options: Any) -> Figure:
        """Fan chart; see :func:`.plots.fan_chart`."""
        from .plots import fan_chart

        return fan_chart(self, history, **options)

    def save(self, path: str | Path, level: Sequence[float] = (80, 95)) -> Path:
        """Write quantiles (``.csv``, ``.csv.gz``, ``.parquet``) or the forecast itself (``.npz``); returns the path.

        The file appears when it is complete. What `load` reads from an ``.npz`` is this forecast to the last bit; its
        arrays are ``samples`` (or ``loc`` and ``sd``), ``unique_id``, ``start``, ``freq``, and ``head`` (JSON: name,
        iid, info, time zone).
        """
        path = Path(path)
        if path.suffix.lower() != ".npz":
            return write_long(self.to_long(level), path)
        zone = next((str(s.tz) for s in self.starts if s.tz is not None), None)
        whole = all(isinstance(u, int | np.integer) and not isinstance(u, bool) for u in self.ids)
        head = {"name": self.name, "iid": self.iid, "zone": zone, "info": self.info}
        arrays: dict[str, Any] = {
            **self._arrays(),
            "unique_id": np.array([u if whole else str(u) for u in self.ids]),
            "start": np.array([str(s) for s in self.starts]),
            "freq": np.array(self.freq),
            "head": np.array(json.dumps(head, default=_plain)),
        }
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **arrays)
        return path

    def _arrays(self) -> dict[str, np.ndarray]:
        """What `save` writes beside the names and times."""
        return {"samples": self.samples}

    @staticmethod
    def load(path: str | Path) -> Forecast:
        """Read an ``.npz`` that `save` wrote: a :class:`Forecast`, or the :class:`NormalForecast` that it was.

        Raises:
            FileNotFoundError: no such file. ValueError: damaged, or no such forecast (what it holds is said).
        """
        path = existing(path)
        try:
            with np.load(path, allow_pickle=False) as read:
                arrays = {key: read[key] for key in read.files}
        except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path.name} is damaged, or no forecast in .npz: {error}") from error
        normal = {"loc", "sd"} <= arrays.keys()
        lacking = {"unique_id", "start", "freq", *(() if normal else ("samples",))} - arrays.keys()
        if lacking:
            raise ValueError(
                f"{path.name} is no forecast: it lacks {sorted(lacking)} and holds {sorted(arrays)}; give a file that "
                "Forecast.save wrote"
            )
        head = json.loads(str(arrays["head"])) if "head" in arrays else {}
        starts = tuple(_pandas().Timestamp(s) for s in arrays["start"].tolist())
        if head.get("zone") is not None:
            starts = tuple(s.tz_convert(head["zone"]) for s in starts)
        ids = tuple(arrays["unique_id"].tolist())
        rest = (str(arrays["freq"]), head.get("name", "forecast"), bool(head.get("iid", True)), head.get("info", {}))
        if normal:
            loc, sd = arrays["loc"], arrays["sd"]
            empty = np.zeros((len(loc), 0, loc.shape[1]))
            return NormalForecast(ids, starts, rest[0], empty, *rest[1:], loc=loc, sd=sd)
        return Forecast(ids, starts, rest[0], arrays["samples"].astype(np.float64), *rest[1:])

    def to_gluonts(self) -> list[Any]:
        """The rows as GluonTS's ``SampleForecast``: samples (S, H), first step as a pandas Period, ``item_id``.

        ``info`` goes along, with the name of the model. Their evaluators then take it as any other forecast.

        Raises:
            ImportError: gluonts is not installed.
            ValueError: times with a zone, which a Period cannot have; or a normal forecast, which has no paths.
        """
        if self.samples.shape[1] == 0:
            raise ValueError("a normal forecast has no sample paths: forecast.draw(100).to_gluonts()")
        if any(s.tz is not None for s in self.starts):
            raise ValueError(
                f"the times have the zone {self.starts[0].tz}, GluonTS forecasts have none: convert the data to naive "
                "UTC first"
            )
        try:
            module = importlib.import_module("gluonts.model.forecast")
        except ImportError as error:
            raise ImportError(
                "to_gluonts needs gluonts, which is no part of an extra, because it asks for an older pandas: "
                "pip install gluonts"
            ) from error
        pd, rows = _pandas(), []
        for u, start, samples in zip(self.ids, self.starts, self.samples, strict=True):
            period = pd.date_range(start, periods=1, freq=self.freq).to_period()[0]
            item = {"item_id": str(u), "info": {**self.info, "name": self.name}}
            rows.append(module.SampleForecast(samples=samples, start_date=period, **item))
        return rows


@dataclass(frozen=True)
class NormalForecast(Forecast):
    """Independent normal margins: ``loc`` and ``sd``, both (series, horizon); ``samples`` is empty by construction.

    :meth:`draw` makes an ordinary :class:`Forecast` of independent steps.
    """

    loc: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    sd: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def horizon(self) -> int:
        """Number of steps ahead."""
        return int(self.loc.shape[-1])

    def quantiles(self, levels: Sequence[float], method: Literal["nearest", "linear"] = "linear") -> np.ndarray:
        """(Q, series, horizon): loc + sd Phi^-1(q), whatever ``method`` says."""
        from scipy.special import ndtri

        if any(not 0 < q < 1 for q in levels):
            raise ValueError(f"quantile levels must lie in (0, 1), got {list(levels)}")
        return np.stack([self.loc + self.sd * ndtri(q) for q in levels])

    def mean(self) -> np.ndarray:
        """(series, horizon)."""
        return self.loc

    def non_negative(self) -> Forecast:
        """Refused: a clipped normal distribution is not normal; clip the paths of :meth:`draw`."""
        raise ValueError("a normal forecast cannot be clipped: draw paths first, forecast.draw(100).non_negative()")

    def _arrays(self) -> dict[str, np.ndarray]:
        return {"loc": self.loc, "sd": self.sd}

    def crps(self, y: np.ndarray) -> np.ndarray:
        """CRPS (series, horizon), in closed form."""
        return crps_normal(y, self.loc, self.sd)

    def wql(self, y: np.ndarray, method: Literal["gluonts", "csdi", "exact"] = "gluonts") -> float:
        """Weighted quantile loss with exact quantiles (``gluonts`` and ``csdi`` differ in their levels only)."""
        if method == "exact":
            return float(np.nansum(self.crps(y)) / np.nansum(np.abs(y)))
        levels = GLUONTS_LEVELS if method == "gluonts" else tuple(k / 20 for k in range(1, 20))
        return wql_from_quantiles(y, self.quantiles(levels), levels)

    def draw(self, n: int = 100, seed: int = 0) -> Forecast:
        """``n`` paths with independent steps: right at each step, not jointly."""
        z = np.random.Generator(np.random.PCG64(seed)).standard_normal((len(self.ids), n, self.horizon))
        paths = self.loc[:, None] + self.sd[:, None] * z
        return Forecast(self.ids, self.starts, self.freq, paths, self.name, True, dict(self.info))


def joined(forecasts: Sequence[Forecast]) -> Forecast:
    """The rows of several forecasts of one model, one after the other: the windows of a backtest, for example.

    What all of them say in `info` is kept. What differs (seeds, for example) stands in ``info["by_part"]``, by key: the
    value of each forecast, None where it has none.

    Raises:
        ValueError: none, or of different kinds, frequencies, horizons or numbers of paths.
    """
    if not forecasts:
        raise ValueError("no forecasts to join")
    first = forecasts[0]
    for f in forecasts:
        alike = (type(f) is type(first), f.freq == first.freq, f.samples.shape[1:] == first.samples.shape[1:])
        if not all(alike) or f.horizon != first.horizon:
            raise ValueError(
                f"forecasts to join must have one kind, frequency, horizon and number of paths, got {first.name!r} "
                f"({first.freq}, paths and horizon {first.samples.shape[1:]}) and {f.name!r} ({f.freq}, "
                f"{f.samples.shape[1:]})"
            )
    rows: dict[str, Any] = {
        "ids": tuple(u for f in forecasts for u in f.ids),
        "starts": tuple(s for f in forecasts for s in f.starts),
        "samples": np.concatenate([f.samples for f in forecasts]),
        "iid": all(f.iid for f in forecasts),
        "info": _joined_info([f.info for f in forecasts]),
    }
    for name in ("loc", "sd") if isinstance(first, NormalForecast) else ():
        rows[name] = np.concatenate([getattr(f, name) for f in forecasts])
    return replace(first, **rows)


def _joined_info(infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the forecasts have in common; and, by part, what they have not."""
    keys = dict.fromkeys(key for info in infos for key in info)
    said = {key: {json.dumps(info.get(key), default=str) for info in infos} for key in keys}  # NaN equals itself there
    out = {key: infos[0].get(key) for key in keys if len(said[key]) == 1}
    apart = {key: [info.get(key) for info in infos] for key in keys if len(said[key]) > 1}
    return out | ({"by_part": apart} if apart else {})


def rolling(df: pd.DataFrame | Panel, h: int, n_windows: int = 1, step: int | None = None) -> tuple[Panel, np.ndarray]:
    """Rolling-origin windows at the end of every series.

    Args:
        df: long frame or panel. h: horizon. n_windows: a series. step: between origins; h by default (no overlap).

    Returns:
        histories, a panel whose rows are (window, series) in window-major order, each cut where its horizon begins; and
        the actual values, float64 (rows, h), NaN where not observed. Nothing after a row's origin is in its history.

    Raises:
        ValueError: a series is too short to leave a history.
    """
    panel = df if isinstance(df, Panel) else to_panel(df)
    step = h if step is None else step
    if h < 1 or n_windows < 1 or step < 1:
        raise ValueError(f"h, n_windows and step must be at least 1, got {h}, {n_windows}, {step}")
    ids, starts, values, targets = [], [], [], []
    for w in range(n_windows):
        for u, s, v in zip(panel.ids, panel.starts, panel.values, strict=True):
            cut = len(v) - h - (n_windows - 1 - w) * step
            if cut < 1:
                raise ValueError(f"series {u!r} has {len(v)} steps, too few for {n_windows} windows of {h}")
            ids.append(u)
            starts.append(s)
            values.append(v[:cut])
            targets.append(v[cut : cut + h])
    return Panel(tuple(ids), tuple(starts), tuple(values), panel.freq), np.stack(targets)


def actuals(forecast: Forecast, df: pd.DataFrame | Panel) -> np.ndarray:
    """The values of ``df`` at the forecast's ids and timestamps: (series, horizon), NaN where there are none.

    Raises:
        ValueError: no row of the forecast finds one value.
    """
    panel = df if isinstance(df, Panel) else to_panel(df, forecast.freq)
    where = {u: i for i, u in enumerate(panel.ids)}
    out = np.full((len(forecast.ids), forecast.horizon), np.nan)
    for row, u in enumerate(forecast.ids):
        if u in where:
            position = panel.times(where[u]).get_indexer(forecast.times(row))
            found = position >= 0
            out[row, found] = panel.values[where[u]][position[found]]
    if np.isnan(out).all():
        raise ValueError("the data hold no value at any forecast timestamp: are ids and ds those of the forecast?")
    return out


def evaluate(
    forecast: Forecast,
    actual: pd.DataFrame | Panel | np.ndarray,
    history: Panel | None = None,
    level: Sequence[float] = (80, 95),
    season: int | None = None,
) -> dict[str, float]:
    """The main numbers of :func:`.metrics.scores`, as plain floats, every key naming its definition.

    Args:
        actual: long frame, panel or array (series, horizon) with the truth.
        history: the panel the forecast was made from; adds ``scaled_crps`` (CRPS over its seasonal-naive error).
        level: central intervals whose coverage is reported. season: for that scale; by the frequency when None.

    Returns:
        ``wql_gluonts`` with ``wql_gluonts_low95/high95`` (bootstrap over rows), ``wql_csdi``, ``wql_exact``,
        ``crps_exact`` (mean, in the unit of y), ``mae_median``, ``coverage_80`` ..., ``scaled_crps``, ``n_rows``, and
        ``n_values``.
    """
    y = actual if isinstance(actual, np.ndarray) else actuals(forecast, actual)
    table = all_scores(forecast, y, history, season=season, level=level)
    out = {f"wql_{m}": table[f"wql_{m}"].value for m in METHODS}
    out |= {"wql_gluonts_low95": table["wql_gluonts"].low, "wql_gluonts_high95": table["wql_gluonts"].high}
    names = ["crps_exact", "mae_median", *(f"coverage_{v:g}" for v in level)]
    out |= {name: table[name].value for name in (names if history is None else [*names, "scaled_crps"])}
    return out | {"n_rows": float(len(y)), "n_values": float(table["crps_exact"].n)}
