"""Series on regular grids: what models and scores work on.

A :class:`Panel` holds, for series i, a first timestamp and the values y_0 .. y_{n-1} at start, start + freq, ...,
float64, with NaN where nothing was observed. Series may have different starts and lengths, and a name may come again
(rows that are windows of one series).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.problems import Skipped
from .clock import as_timestamp, grid
from .extras import pandas as _pandas

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Panel"]


@dataclass(frozen=True)
class Panel:
    """Series on regular grids of one frequency.

    Attributes:
        ids: name of each series, in order of first appearance.
        starts: first timestamp of each series.
        values: one float64 array (n_i,) a series; NaN = not observed. The last value of a series is observed unless
            its frame ends with explicit NaN rows.
        freq: pandas alias of the common step.
        skipped: what a reader left out under ``errors="skip"``, with its reasons.
    """

    ids: tuple[Any, ...]
    starts: tuple[Any, ...]
    values: tuple[np.ndarray, ...]
    freq: str
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def times(self, i: int, start: int = 0, stop: int | None = None) -> pd.DatetimeIndex:
        """Timestamps start .. stop-1 of series ``i``; ``stop`` may lie beyond the last observation (a horizon)."""
        stop = len(self.values[i]) if stop is None else stop
        return grid(self.starts[i], self.freq, periods=stop)[start:]

    def end(self, i: int) -> pd.Timestamp:
        """Timestamp of the last value of series ``i``."""
        return self.times(i, len(self.values[i]) - 1)[0]

    def to_long(self, dropna: bool = False) -> pd.DataFrame:
        """Back to ``unique_id, ds, y``; ``dropna`` leaves out what was not observed."""
        pd = _pandas()
        frames = [
            pd.DataFrame({"unique_id": [u] * len(v), "ds": self.times(i), "y": v})
            for i, (u, v) in enumerate(zip(self.ids, self.values, strict=True))
        ]
        frame = pd.concat(frames, ignore_index=True)
        return frame.dropna(subset=["y"]).reset_index(drop=True) if dropna else frame

    def to_wide(self) -> pd.DataFrame:
        """One column a series, indexed by time (``ds``); NaN where a series has no value.

        Raises:
            ValueError: a name comes twice.
        """
        pd = _pandas()
        if len(set(self.ids)) < len(self.ids):
            twice = next(u for k, u in enumerate(self.ids) if u in self.ids[:k])
            raise ValueError(f"series {twice!r} comes more than once: a wide table has one column a name; use to_long")
        columns = {
            u: pd.Series(v, index=self.times(i)) for i, (u, v) in enumerate(zip(self.ids, self.values, strict=True))
        }
        return pd.DataFrame(columns).sort_index().rename_axis("ds")

    def before(self, cutoff: Any) -> Panel:
        """The part strictly before ``cutoff``; series that have nothing there are left out.

        Raises:
            ValueError: no series has a value before ``cutoff``.
        """
        keep: list[tuple[Any, Any, np.ndarray]] = []
        for i, (u, s, v) in enumerate(zip(self.ids, self.starts, self.values, strict=True)):
            n = int((self.times(i) < as_timestamp(cutoff, s)).sum())
            if n:
                keep.append((u, s, v[:n]))
        if not keep:
            raise ValueError(f"no series has a value before {cutoff}")
        ids, starts, values = zip(*keep, strict=True)
        return Panel(ids, starts, values, self.freq)

    def select(self, ids: Sequence[Any]) -> Panel:
        """Only the named series, in the order given. Raises ``KeyError`` for a name that is not there."""
        where = {u: i for i, u in enumerate(self.ids)}
        missing = [u for u in ids if u not in where]
        if missing:
            raise KeyError(f"no series {missing}; there are {list(self.ids)[:20]}")
        return self.rows([where[u] for u in ids])

    def longest(self) -> Panel:
        """Every name once: the longest of its rows (where rows are windows of series)."""
        best: dict[Any, int] = {}
        for i, (u, v) in enumerate(zip(self.ids, self.values, strict=True)):
            if u not in best or len(v) > len(self.values[best[u]]):
                best[u] = i
        return self.rows(list(best.values()))

    def rows(self, pick: Sequence[int]) -> Panel:
        """Only the rows at these positions, in the order given."""
        ids, starts, values = (tuple(part[i] for i in pick) for part in (self.ids, self.starts, self.values))
        return Panel(ids, starts, values, self.freq)

    def tail(self, steps: int) -> Panel:
        """Only the last ``steps`` steps of every series (all of those that are shorter)."""
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        cut = [max(0, len(v) - steps) for v in self.values]
        starts = tuple(self.times(i, k, k + 1)[0] if k else self.starts[i] for i, k in enumerate(cut))
        return Panel(self.ids, starts, tuple(v[k:] for v, k in zip(self.values, cut, strict=True)), self.freq)

    def cold(self, context: int) -> np.ndarray:
        """Which series have a *cold start*: fewer than ``context`` steps, so that a window of that length begins before
        their first value. They are accepted everywhere: what lies before is not observed. Bool (series,).
        """
        return np.array([len(v) < context for v in self.values], dtype=bool)
