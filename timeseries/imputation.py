"""What an imputation is: joint paths of whole series through every observation, and how to score and write them.

:class:`Imputation` carries paths (S, n_i) of each series i. At an observed step all paths hold the observation itself;
at a missing one they are draws of what may have been there. A path is one way in which *all* gaps of its series may be
filled together, so that functions of a series (a total, a maximum) have a distribution.

*Scores.* Values that were hidden on purpose are the truth: :meth:`Imputation.scores` applies the scores of
:mod:`.metrics` to the hidden cells and nothing else. Cells of one gap share their fate, therefore the bootstrap redraws
whole gaps (runs of consecutive missing steps).
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..core.files import existing, replacing
from .data import Panel, _pandas, to_panel, write_long
from .data.clock import grid
from .forecast import Forecast
from .metrics import Score, scores
from .metrics.quantile import quantiles_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["Imputation", "runs"]

#: What `Imputation.save` writes into an ``.npz``.
_ARRAYS = {"observed", "length", "paths", "unique_id", "start", "zone", "freq", "name", "iid", "info"}


def runs(missing: np.ndarray) -> np.ndarray:
    """The gaps of a series, int (k, 2): first missing step and first step after it, of a mask (n,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], missing, [False]]).astype(np.int8)))
    return edges.reshape(-1, 2)


@dataclass(frozen=True)
class Imputation:
    """Joint paths of whole series, exact where something was observed.

    Attributes:
        ids: name of each series. starts: first timestamp of each. freq: step.
        samples: one float64 array (S, n_i) a series, in the data's unit; all S paths are equal at observed steps.
        missing: one bool array (n_i,) a series: True where nothing was observed.
        name: of the model; it names the columns of :meth:`to_long`.
        iid: whether the paths of a series are independent draws. False under quantile guidance: use such an ensemble
            whole.
        info: what was run.

    Raises:
        ValueError: parts of different lengths, no paths, paths that are not finite or not equal where observed.
    """

    ids: tuple[Any, ...]
    starts: tuple[Any, ...]
    freq: str
    samples: tuple[np.ndarray, ...]
    missing: tuple[np.ndarray, ...]
    name: str = "imputation"
    iid: bool = True
    info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = {len(part) for part in (self.ids, self.starts, self.samples, self.missing)}
        if len(counts) > 1 or not self.ids:
            raise ValueError(
                f"expected one start, samples and mask a series, got {len(self.ids)} ids, {len(self.starts)} starts, "
                f"{len(self.samples)} samples and {len(self.missing)} masks"
            )
        for u, x, m in zip(self.ids, self.samples, self.missing, strict=True):
            if x.ndim != 2 or m.shape != x.shape[1:] or m.dtype != bool or x.shape[0] != self.samples[0].shape[0]:
                raise ValueError(
                    f"series {u!r}: expected paths (S, n), S = {self.samples[0].shape[0]}, and a bool mask (n,), "
                    f"got {x.shape} and {m.dtype} {m.shape}"
                )
            if len(x) == 0 or not np.isfinite(x[:, m]).all() or not np.isfinite(x[0]).all():
                raise ValueError(f"series {u!r}: {len(x)} paths, some of which are not finite: nothing is imputed")
            if len(x) > 1 and x.strides[0] and not (x[:, ~m] == x[0, ~m]).all():
                raise ValueError(f"series {u!r}: paths differ where the mask says observed")

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def completing(
        cls,
        panel: Panel,
        paths: Sequence[np.ndarray | None],
        num_samples: int,
        name: str,
        iid: bool = True,
        info: dict[str, Any] | None = None,
    ) -> Imputation:
        """The imputation that fills the NaN of a panel, with every observation kept to the bit.

        Args:
            panel: the data, NaN = missing.
            paths: (S, n_i) a series; what stands at observed steps is ignored. None for a series without a gap, which
                then takes no memory.
            num_samples: S.
        """
        samples, missing = [], []
        for y, x in zip(panel.values, paths, strict=True):
            gap = np.isnan(y)
            whole = np.broadcast_to(y, (num_samples, len(y)))
            samples.append(np.where(gap, x, whole) if x is not None and gap.any() else whole)
            missing.append(gap)
        return cls(panel.ids, panel.starts, panel.freq, tuple(samples), tuple(missing), name, iid, info or {})

    @property
    def num_samples(self) -> int:
        """S."""
        return int(self.samples[0].shape[0])

    def times(self, i: int) -> pd.DatetimeIndex:
        """All timestamps of series ``i``."""
        return grid(self.starts[i], self.freq, periods=len(self.missing[i]))

    def gaps(self, i: int) -> np.ndarray:
        """The gaps of series ``i``, int (k, 2): first missing step, and first step after it."""
        return runs(self.missing[i])

    def quantiles(
        self, levels: Sequence[float], method: Literal["nearest", "linear"] = "linear"
    ) -> tuple[np.ndarray, ...]:
        """(Q, n_i) a series, at levels in (0, 1); the observation at observed steps."""
        if any(not 0 < q < 1 for q in levels):
            raise ValueError(f"quantile levels must lie in (0, 1), got {list(levels)}")
        out = []
        for x, m in zip(self.samples, self.missing, strict=True):
            q = np.broadcast_to(x[0], (len(levels), x.shape[1])).copy()
            if m.any():
                q[:, m] = quantiles_of(x[None][:, :, m], tuple(levels), method)[:, 0]
            out.append(q)
        return tuple(out)

    def median(self) -> tuple[np.ndarray, ...]:
        """(n_i,) a series."""
        return tuple(q[0] for q in self.quantiles([0.5]))

    def mean(self) -> tuple[np.ndarray, ...]:
        """(n_i,) a series; the observation itself, to the bit, at observed steps."""
        return tuple(
            np.where(m, x.mean(axis=0), x[0]) if m.any() else x[0].copy()
            for x, m in zip(self.samples, self.missing, strict=True)
        )

    def to_panel(self, statistic: Literal["median", "mean", "observed"] = "median") -> Panel:
        """Whole series again: missing values filled with the median or mean, or left NaN (``"observed"``).

        The same number of a model's ensemble at every gap is smoother than the data: statistics of such series (a
        variance, a maximum) belong to the paths, not to their median.

        Raises:
            ValueError: another statistic.
        """
        if statistic == "observed":
            values = tuple(np.where(m, np.nan, x[0]) for x, m in zip(self.samples, self.missing, strict=True))
        elif statistic in ("median", "mean"):
            values = self.median() if statistic == "median" else self.mean()
        else:
            raise ValueError(f"statistic must be 'median', 'mean' or 'observed', got {statistic!r}")
        return Panel(self.ids, self.starts, values, self.freq)

    def path(self, j: int) -> Panel:
        """Path ``j`` of every series, as a filled panel."""
        if not 0 <= j < self.num_samples:
            raise ValueError(f"there are paths 0 .. {self.num_samples - 1}, got {j}")
        return Panel(self.ids, self.starts, tuple(x[j].copy() for x in self.samples), self.freq)

    def to_long(self, level: Sequence[float] = (80, 95), only_missing: bool = True) -> pd.DataFrame:
        """``unique_id, ds, <name>, <name>-median, <name>-lo-80, <name>-hi-80, ...``; ``<name>`` is the mean.

        Args:
            level: central intervals in percent, each in (0, 100).
            only_missing: rows of the missing steps only; else of all, with all columns equal where observed.
        """
        pd = _pandas()
        if any(not 0 < v < 100 for v in level):
            raise ValueError(f"level is in percent, between 0 and 100, got {list(level)}")
        bounds = [(v, 0.5 - v / 200, 0.5 + v / 200) for v in sorted(level)]
        values = self.quantiles([0.5, *(q for _, a, b in bounds for q in (a, b))])
        frames = []
        for i, (u, mean, q) in enumerate(zip(self.ids, self.mean(), values, strict=True)):
            keep = self.missing[i] if only_missing else np.ones(len(mean), dtype=bool)
            columns: dict[str, Any] = {"unique_id": [u] * int(keep.sum()), "ds": self.times(i)[keep]}
            columns |= {self.name: mean[keep], f"{self.name}-median": q[0, keep]}
            for k, (v, _, _) in enumerate(bounds):
                columns[f"{self.name}-lo-{v:g}"] = q[1 + 2 * k, keep]
                columns[f"{self.name}-hi-{v:g}"] = q[2 + 2 * k, keep]
            frames.append(pd.DataFrame(columns))
        some = [f for f in frames if len(f)]
        return pd.concat(some, ignore_index=True) if some else frames[0]

    def cells(self, truth: pd.DataFrame | Panel) -> tuple[Forecast, np.ndarray, list[int]]:
        """The hidden cells whose truth is known, each as a forecast of one step.

        Args:
            truth: long frame or panel that holds the hidden values (other values in it do not matter).

        Returns:
            a forecast (cells, S, 1); the truth (cells, 1); and the number of the gap that each cell lies in.

        Raises:
            ValueError: no hidden value is in `truth`, or it has a name twice and other rows than this imputation.
        """
        panel = truth if isinstance(truth, Panel) else to_panel(truth, self.freq)
        rows: list[int | None] = list(range(len(self)))
        if panel.ids != self.ids:
            where = {u: k for k, u in enumerate(panel.ids)}
            if len(where) < len(panel):
                raise ValueError("the truth has a series twice and other rows than the imputation: pass the same rows")
            rows = [where.get(u) for u in self.ids]
        ids: list[Any] = []
        starts: list[Any] = []
        gaps: list[int] = []
        samples, actual, number = [], [], 0
        for i, row in enumerate(rows):
            times, spans = self.times(i), self.gaps(i)
            known = np.full(len(times), np.nan)
            if row is not None:
                position = panel.times(row).get_indexer(times)
                known[position >= 0] = panel.values[row][position[position >= 0]]
            hidden = np.flatnonzero(self.missing[i] & ~np.isnan(known))
            ids += [self.ids[i]] * len(hidden)
            starts += list(times[hidden])
            gaps += (number + np.searchsorted(spans[:, 0], hidden, side="right") - 1).tolist()
            number += len(spans)
            samples.append(self.samples[i][:, hidden].T)
            actual.append(known[hidden])
        if not ids:
            raise ValueError(
                f"the truth holds none of the {sum(int(m.sum()) for m in self.missing)} missing values: are unique_id "
                "and ds those of the imputed data?"
            )
        paths = np.ascontiguousarray(np.concatenate(samples))[:, :, None]
        cells = Forecast(tuple(ids), tuple(starts), self.freq, paths, self.name, self.iid, dict(self.info))
        return cells, np.concatenate(actual)[:, None], gaps

    def scores(
        self,
        truth: pd.DataFrame | Panel,
        *,
        level: Sequence[float] = (80, 95),
        draws: int = 2000,
        confidence: float = 0.95,
        seed: int = 0,
    ) -> dict[str, Score]:
        """Every score of the values that were hidden on purpose, with its definition, n and interval.

        Args:
            truth: long frame or panel with the hidden values; cells that are missing there, too, count nowhere.
            level: central intervals in percent whose coverage is reported.
            draws, confidence, seed: of the bootstrap, which redraws whole gaps.

        Returns:
            ``wql_gluonts``, ``wql_csdi``, ``wql_exact``, ``nd``, ``nrmse``: dimensionless; ``crps_exact``,
            ``mae_median``, ``rmse_mean``: in the unit of y; ``coverage_80``, ...; ``mae_coverage``; with independent
            paths ``crps_fair``. ``n`` of each is the number of hidden cells, ``units`` that of gaps.

        Raises:
            ValueError: see :meth:`cells`.
        """
        forecast, actual, gaps = self.cells(truth)
        found = scores(forecast, actual, level=level, cluster=gaps, draws=draws, confidence=confidence, seed=seed)
        return {k: replace(s, uncertainty=s.uncertainty.replace("clusters", "gaps")) for k, s in found.items()}

    def plot(self, truth: pd.DataFrame | Panel | None = None, **options: Any) -> Figure:
        """The gaps with their bands; see :func:`.plots.gap_chart`."""
        from .plots import gap_chart

        return gap_chart(self, truth, **options)

    def save(self, path: str | Path, level: Sequence[float] = (80, 95)) -> Path:
        """Write quantiles of the missing steps (``.csv``, ``.csv.gz``, ``.parquet``) or everything (``.npz``).

        A file of filled series is ``write_long(imputation.to_panel(), path)``. Returns the path.
        """
        path = Path(path)
        if path.suffix.lower() != ".npz":
            return write_long(self.to_long(level), path)
        numbers = all(isinstance(u, int | np.integer) and not isinstance(u, bool) for u in self.ids)
        with replacing(path) as partial, partial.open("wb") as file:
            np.savez_compressed(
                file,
                observed=np.concatenate(self.to_panel("observed").values),
                length=np.array([len(m) for m in self.missing], dtype=np.int64),
                paths=np.concatenate([x[:, m] for x, m in zip(self.samples, self.missing, strict=True)], axis=1),
                unique_id=np.array([u if numbers else str(u) for u in self.ids]),
                start=np.array([str(s) for s in self.starts]),
                zone=np.array(["" if s.tz is None else str(s.tz) for s in self.starts]),
                freq=np.array(self.freq),
                name=np.array(self.name),
                iid=np.array(self.iid),
                info=np.array(json.dumps(self.info, default=str)),
            )
        return path

    @classmethod
    def load(cls, path: str | Path) -> Imputation:
        """Read what :meth:`save` wrote as ``.npz``. Names that were neither text nor integers come back as text.

        Raises:
            FileNotFoundError: no such file. ValueError: damaged, or no such imputation (what it holds is said).
        """
        pd, path = _pandas(), existing(path)
        try:
            with np.load(path, allow_pickle=False) as data:
                read = {k: data[k] for k in data.files}
        except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path.name} is damaged, or no imputation in .npz: {error}") from error
        if lacking := _ARRAYS - read.keys():
            raise ValueError(
                f"{path.name} is not what Imputation.save writes: it lacks {sorted(lacking)} and holds {sorted(read)}"
            )
        cuts = np.cumsum(read["length"])[:-1]
        values = np.split(read["observed"], cuts)
        parts = np.split(read["paths"], np.cumsum([int(np.isnan(v).sum()) for v in values])[:-1], axis=1)
        starts = [pd.Timestamp(s) for s in read["start"].tolist()]
        zones = zip(starts, read["zone"].tolist(), strict=True)
        panel = Panel(
            tuple(read["unique_id"].tolist()),
            tuple(s if not zone else s.tz_convert(zone) for s, zone in zones),
            tuple(values),
            str(read["freq"]),
        )
        paths = []
        for v, part in zip(values, parts, strict=True):
            whole = np.repeat(v[None], len(part), axis=0) if part.shape[1] else None
            if whole is not None:
                whole[:, np.isnan(v)] = part
            paths.append(whole)
        info = json.loads(str(read["info"]))
        return cls.completing(panel, paths, len(read["paths"]), str(read["name"]), bool(read["iid"]), info)
