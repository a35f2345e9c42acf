r"""From a panel to the tables that CSDI sees: a common time grid, the scale of each series, and what is hidden.

A window is a table of K series and L steps of one common grid. A series that has not begun yet, or has ended, is not
observed there. Values are scaled series by series, x = (y - m) / s (:class:`Scales`).

*Targets.* A training window is split in two: cells that are *given* and cells that are asked for (:func:`split`). Both
are observed: what is missing in the data is neither. It enters the network as a cell to be predicted of which nothing
is known, as it will when it is imputed, but no loss is taken there.

Tashiro et al., "CSDI", NeurIPS 2021, section 4.3 and algorithms 1 and 2.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .csdi_config import CSDIConfig
from .data import Panel
from .data.clock import grid

__all__ = ["Aligned", "Scales", "TrainingWindows", "ValidationWindows", "split", "who_of"]

TINY = 1e-10


@dataclass(frozen=True)
class Aligned:
    """The rows of a panel on one common time grid.

    Attributes:
        panel: the data. times: the grid, from the first timestamp of all to the last.
        starts, ends: int (rows,), the places on it of each row's first value, and after its last.
    """

    panel: Panel
    times: Any
    starts: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, panel: Panel) -> Aligned:
        """Put the rows on their common grid.

        Raises:
            ValueError: rows that do not share a grid, or infinite values.
        """
        for u, y in zip(panel.ids, panel.values, strict=True):
            if np.isinf(y).any():
                raise ValueError(f"series {u!r} holds infinite values: write NaN for 'not observed'")
        first, last = min(panel.starts), max(panel.end(i) for i in range(len(panel)))
        times = grid(first, panel.freq, end=last)
        starts = times.get_indexer(list(panel.starts))
        if (starts < 0).any():
            i = int(np.flatnonzero(starts < 0)[0])
            raise ValueError(
                f"the series share no time grid: {panel.ids[i]!r} starts at {panel.starts[i]}, which is no step of "
                f"{panel.freq!r} from {first}, where series {panel.ids[panel.starts.index(first)]!r} starts: shift "
                "them onto one grid, or fit a model for each"
            )
        lengths = np.array([len(y) for y in panel.values])
        return cls(panel, times, starts, starts + lengths)

    def __len__(self) -> int:
        """Steps of the grid."""
        return len(self.times)

    def table(self, rows: Any, start: int, stop: int) -> np.ndarray:
        """Values (rows, stop - start) of some rows; NaN where they have none. `start` may be negative."""
        out = np.full((len(rows), stop - start), np.nan)
        for k, i in enumerate(rows):
            a, b = max(start, int(self.starts[i])), min(stop, int(self.ends[i]))
            if a < b:
                out[k, a - start : b - start] = self.panel.values[i][a - self.starts[i] : b - self.starts[i]]
        return out

    def counts(self) -> np.ndarray:
        """How many cells are observed before each step, (steps + 1,)."""
        seen = np.zeros(len(self) + 1, dtype=np.int64)
        for y, a, b in zip(self.panel.values, self.starts, self.ends, strict=True):
            seen[a + 1 : b + 1] += ~np.isnan(y)
        return np.cumsum(seen)


@dataclass(frozen=True)
class Scales:
    """Names, means and standard deviations of the series that a model was trained on.

    Attributes:
        ids: names, as text. mean, std: (series,), over the observed training values.
    """

    ids: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, panel: Panel) -> Scales:
        """Measured on a training panel.

        Raises:
            ValueError: a name that comes twice, or a series without one observed value.

        Warns:
            UserWarning: series that never change; their scale is 1.
        """
        ids = tuple(str(u) for u in panel.ids)
        twice = [u for k, u in enumerate(ids) if u in set(ids[:k])]
        if twice:
            raise ValueError(
                f"series {twice[0]!r} comes more than once: CSDI is trained on one row a series (Panel.longest() "
                "takes the longest of each)"
            )
        silent = [u for u, y in zip(ids, panel.values, strict=True) if np.isnan(y).all()]
        if silent:
            raise ValueError(
                f"{len(silent)} of {len(ids)} series have no observed value to train on: {silent[:5]}: leave them out"
            )
        mean = np.array([np.nanmean(y) for y in panel.values])
        std = np.array([np.nanstd(y) for y in panel.values])
        flat = ~(std > TINY * np.maximum(1.0, np.abs(mean)))
        if flat.any():
            names = [u for u, f in zip(ids, flat, strict=True) if f]
            warnings.warn(
                f"{len(names)} of {len(ids)} series never change in the training data; their scale is 1: {names[:5]}",
                stacklevel=4,
            )
        return cls(ids, mean, np.where(flat, 1.0, std))

    def of_window(
        self, y: np.ndarray, given: np.ndarray, who: np.ndarray, config: CSDIConfig
    ) -> tuple[np.ndarray, np.ndarray]:
        """Shift and scale (K, 1) of a table y (K, L), of which `given` (K, L) may be looked at."""
        mean, std = self.mean[who], self.std[who]
        if config.scaler == "window":
            count = given.sum(1)
            safe = np.maximum(count, 1)
            m = np.where(given, y, 0.0).sum(1) / safe
            s = np.sqrt(np.where(given, y - m[:, None], 0.0).__pow__(2).sum(1) / safe)
            enough = (count > 1) & (s > TINY * np.maximum(1.0, np.abs(m)))
            mean, std = np.where(count > 0, m, mean), np.where(enough, s, std)
        return mean[:, None], std[:, None]


def who_of(ids: tuple[Any, ...], scales: Scales) -> np.ndarray:
    """The index of each series among those that the model knows, int (K,).

    Raises:
        ValueError: series that it does not know, all named.
    """
    known = {u: i for i, u in enumerate(scales.ids)}
    foreign = [u for u in ids if str(u) not in known]
    if foreign:
        listing = ", ".join(repr(u) for u in foreign[:10]) + (" ..." if len(foreign) > 10 else "")
        raise ValueError(
            f"CSDI learns an embedding of each series, and {len(foreign)} of {len(ids)} were not in its training: "
            f"{listing}. It knows {len(known)}: {', '.join(map(repr, scales.ids[:10]))}"
            f"{' ...' if len(known) > 10 else ''}. Fit a model with these series, or use TSDiff, which takes any"
        )
    return np.array([known[str(u)] for u in ids], dtype=np.int64)


# -- what is hidden ------------------------------------------------------------------------------------------------


def split(
    seen: np.ndarray,
    strategy: str,
    rng: np.random.Generator,
    *,
    horizon: int,
    pattern: np.ndarray | None = None,
) -> np.ndarray:
    """Which of the observed cells of a window are given; the rest of them are its targets.

    Where a strategy would ask for nothing (the horizon has no value, the other window no gap), the window is split at
    random.

    Args:
        seen: bool (K, L), observed cells.
        strategy: "random", "historical", "forecast" or "blocks", see `CSDIConfig`.
        rng: all that is drawn comes from it.
        horizon: H.
        pattern: observed cells of another window, for "historical".

    Returns:
        bool (K, L); with at least one target if anything is observed.
    """
    given = seen.copy()
    if strategy == "historical" and pattern is not None:
        given = seen & pattern
    elif strategy == "forecast":
        given[:, seen.shape[1] - horizon :] = False
    elif strategy == "blocks":
        series, steps = seen.shape
        hit = rng.random((series,)) < rng.random()
        hit[rng.integers(series)] = True
        for k in np.flatnonzero(hit):
            length = int(rng.integers(1, steps + 1))
            start = int(rng.integers(1 - length, steps))
            given[k, max(0, start) : max(0, start + length)] = False
    if (seen & ~given).any():
        return given
    return _random(seen, rng)


def _random(seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A share of the observed cells, uniform in (0, 1), is hidden; one at least."""
    cells = np.flatnonzero(seen)
    share = rng.random()
    hide = rng.permutation(cells)[: max(1, round(len(cells) * share))]
    given = seen.flatten()
    given[hide] = False
    return given.reshape(seen.shape)


# -- data sets -----------------------------------------------------------------------------------------------------


class TrainingWindows:
    """Every window of the common grid; what is hidden is drawn anew in each epoch.

    Args:
        panel: the training data, and nothing else.
        config: with the strategy, stride and number of series a window.
        scales: of the series, in the panel's order.
        min_observed: smallest observed share of a window's cells; two cells at least.

    Raises:
        ValueError: no window long enough, or none observed enough.
    """

    def __init__(self, panel: Panel, config: CSDIConfig, scales: Scales, min_observed: float = 0.0) -> None:
        self.data, self.config, self.scales = Aligned.of(panel), config, scales
        steps, length = len(self.data), config.length
        if steps < length:
            raise ValueError(
                f"no training window: the window is longer than the data, {config.context_length} + "
                f"{config.prediction_length} = {length} steps (context + horizon) against {steps}. Shorten "
                "context_length"
            )
        starts = np.arange(0, steps - length + 1, config.stride)
        counts = self.data.counts()
        seen = counts[starts + length] - counts[starts]
        cells = len(panel) * length
        self.starts = starts[seen >= max(2.0, min_observed * cells)]
        if not len(self.starts):
            raise ValueError(
                f"no training window: of the {cells} cells ({len(panel)} series x {length} steps) of a window at most "
                f"{int(seen.max())} are observed, {max(2.0, min_observed * cells):g} are needed: lower "
                f"min_observed={min_observed:g}, or shorten context_length"
            )

    def __len__(self) -> int:
        return len(self.starts)

    def _table(self, index: int, rows: np.ndarray) -> np.ndarray:
        start = int(self.starts[index])
        return self.data.table(rows, start, start + self.config.length)

    def draw(self, index: int, generator: np.random.Generator) -> dict[str, Any]:
        """The window `index`, its series (where there are many), and what is hidden of it, drawn from `generator`."""
        c, series = self.config, len(self.scales.ids)
        rows = np.arange(series)
        if series > c.features_per_step:
            rows = np.sort(generator.permutation(series)[: c.features_per_step])
        y = self._table(index, rows)
        strategy = c.target_strategy[int(generator.integers(len(c.target_strategy)))]
        pattern = None
        if strategy == "historical":
            pattern = ~np.isnan(self._table(int(generator.integers(len(self))), rows))
        seen = ~np.isnan(y)
        given = split(seen, strategy, generator, horizon=c.prediction_length, pattern=pattern) if seen.any() else seen
        return _sample(y, given, rows, self.scales, c)


class ValidationWindows:
    """The last windows of the common grid, whose horizons are asked for.

    Args:
        panel: histories and horizons. config, scales: of the model.
        count: windows, H steps apart, the last ending with the grid.

    Raises:
        ValueError: no window long enough, or none with an observed value in its horizon and before.
    """

    def __init__(self, panel: Panel, config: CSDIConfig, scales: Scales, count: int) -> None:
        data, c = Aligned.of(panel), config
        who = who_of(panel.ids, scales)
        rows = np.argsort(who)[: c.features_per_step]
        self.samples = []
        for w in range(count):
            stop = len(data) - w * c.prediction_length
            if stop < c.length:
                continue
            y = data.table(rows, stop - c.length, stop)
            given = ~np.isnan(y)
            given[:, c.context_length :] = False
            if given.any() and not np.isnan(y[:, c.context_length :]).all():
                self.samples.append(_sample(y, given, who[rows], scales, c))
        if not self.samples:
            raise ValueError(
                f"no validation window: {c.length} steps (context + horizon) with something observed in both are "
                f"needed, the data have {len(data)} steps"
            )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.samples[index]


def _sample(y: np.ndarray, given: np.ndarray, who: np.ndarray, scales: Scales, config: CSDIConfig) -> dict[str, Any]:
    """A window as `core.training.Objective` takes it: x (K, L), the mask of its targets, the condition."""
    shift, scale = scales.of_window(y, given, who, config)
    seen = ~np.isnan(y)
    x = torch.from_numpy(np.where(seen, (y - shift) / scale, 0.0).astype(np.float32))
    condition = {
        "values": x.masked_fill(torch.from_numpy(~given), 0.0),
        "given": torch.from_numpy(given),
        "who": torch.from_numpy(who),
    }
    return {"x": x, "mask": torch.from_numpy(seen & ~given), "condition": condition}
