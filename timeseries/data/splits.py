r"""Rolling-origin backtests that do not leak.

Window w of W has one *cutoff* c_w in calendar time, common to all series:

    c_w = last timestamp - (H + (W - 1 - w) step) steps

What is at or before c_w may be known (``train``), the next H steps of every series are to be forecast (``actual``). A
global model learns from all series, so a cutoff a series, counted from its own end, would let the model of a series
that ends early learn from what other series did later. With ``origin="calendar"``, the default, it cannot: a series
that ends before c_w has no row in that window, and stays in ``train``. ``origin="series"`` counts from each series'
end; it is for data whose dates mean nothing (M4), and for tables of the literature that did so.

Every split is checked when it is made, by comparing timestamps, not by trusting the index arithmetic;
:func:`check_leak` is the same check for splits that come from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .clock import as_timestamp
from .extras import pandas as _pandas
from .grids import to_panel
from .panel import Panel

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Split", "backtest", "check_leak"]

Origin = Literal["calendar", "series"]


@dataclass(frozen=True)
class Split:
    """One window of a backtest.

    Attributes:
        window: its number, 0 is the earliest.
        train: what may be learnt from: all series up to the cutoff.
        history: the rows to forecast, each up to its cutoff; its names are those of ``train`` that have a future.
        actual: float64 (rows, H), what came; NaN where not observed.
        cutoffs: last timestamp that may be known, of each row.
        cold: bool (rows,), histories shorter than the context length (all False when none was given).
        left_out: series without a row: no value after the cutoff, or none before.
    """

    window: int
    train: Panel
    history: Panel
    actual: np.ndarray
    cutoffs: tuple[Any, ...]
    cold: np.ndarray
    left_out: tuple[Any, ...]


def backtest(
    df: pd.DataFrame | Panel,
    h: int,
    n_windows: int = 1,
    step: int | None = None,
    *,
    freq: str | None = None,
    origin: Origin = "calendar",
    max_train: int | None = None,
    context: int | None = None,
) -> Iterator[Split]:
    """Rolling-origin splits, the earliest first.

    Args:
        df: long frame or panel. h: horizon H, steps. n_windows: W. step: between cutoffs; h by default (no overlap).
        freq: of the frame. origin: ``"calendar"`` or ``"series"``, see the module.
        max_train: keep only the last so many steps of each training series (a sliding instead of a growing window).
        context: context length of the model; shorter histories are marked in ``cold``.

    Raises:
        ValueError: numbers below 1; a window in which no series has both a past and a future (how far back the data
            reach is said).
    """
    panel = df if isinstance(df, Panel) else to_panel(df, freq)
    step = h if step is None else step
    for name, value in (
        ("h", h),
        ("n_windows", n_windows),
        ("step", step),
        ("max_train", max_train),
        ("context", context),
    ):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1):
            raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    if origin not in ("calendar", "series"):
        raise ValueError(f"origin must be 'calendar' or 'series', got {origin!r}")
    if len(set(panel.ids)) < len(panel.ids):
        raise ValueError("series come more than once: split the series themselves, not windows of them")
    times = [panel.times(i) for i in range(len(panel))]
    back = [h + (n_windows - 1 - w) * step for w in range(n_windows)]
    latest = times[max(range(len(times)), key=lambda i: (times[i][-1], len(times[i])))]
    for w, steps in enumerate(back):
        if origin == "calendar":
            stop = _back(latest, steps, panel.freq)
            known = [int(t.searchsorted(stop, side="right")) for t in times]
        else:
            known = [len(t) - steps for t in times]
        yield _split(panel, times, w, known, h, max_train, context, n_windows, step)


def _back(times: pd.DatetimeIndex, steps: int, freq: str) -> Any:
    """The timestamp ``steps`` before the last one, on a grid that may begin later than that."""
    if steps < len(times):
        return times[-1 - steps]
    offset = _pandas().tseries.frequencies.to_offset(freq)
    return times[0] - (steps - len(times) + 1) * offset


def _split(
    panel: Panel,
    times: list[Any],
    window: int,
    known: list[int],
    h: int,
    max_train: int | None,
    context: int | None,
    n_windows: int,
    step: int,
) -> Split:
    has_past = [k >= 1 and bool(np.isfinite(panel.values[i][:k]).any()) for i, k in enumerate(known)]
    rows, actual = [], []
    for i, k in enumerate(known):
        future = panel.values[i][k : k + h] if has_past[i] else np.empty(0)
        if np.isfinite(future).any():
            rows.append(i)
            actual.append(np.concatenate([future, np.full(h - len(future), np.nan)]))
    if not rows:
        lengths = [len(t) for t in times]
        raise ValueError(
            f"window {window + 1} of {n_windows} (h={h}, step={step}) has no series with values before and after its "
            f"cutoff; the data have {max(lengths)} steps at most, {h + (n_windows - 1) * step + 1} are needed: take "
            "fewer windows, a smaller step, or a shorter horizon"
        )
    past = [i for i in range(len(panel)) if has_past[i]]
    train = _cut(panel, past, known)
    history = _cut(panel, rows, known)
    split = Split(
        window,
        train if max_train is None else train.tail(max_train),
        history,
        np.stack(actual),
        tuple(times[i][known[i] - 1] for i in rows),
        history.cold(context) if context is not None else np.zeros(len(rows), dtype=bool),
        tuple(u for i, u in enumerate(panel.ids) if i not in set(rows)),
    )
    _verify(split, times, rows, known)
    return split


def _cut(panel: Panel, rows: list[int], known: list[int]) -> Panel:
    return Panel(
        tuple(panel.ids[i] for i in rows),
        tuple(panel.starts[i] for i in rows),
        tuple(panel.values[i][: known[i]] for i in rows),
        panel.freq,
    )


def _verify(split: Split, times: list[Any], rows: list[int], known: list[int]) -> None:
    """The timestamps of the split, as its panels say them, against the first forecast ones of the data."""
    for row, i in enumerate(rows):
        first = times[i][known[i]]
        if not (split.history.end(row) < first and split.cutoffs[row] < first):
            raise RuntimeError(f"window {split.window}: the history of {split.history.ids[row]!r} reaches {first}")


def check_leak(train: Panel, test: Panel, h: int, *, own: bool = False) -> None:
    """Refuse a split in which training data reach into what is to be forecast.

    Args:
        train: what the model learns from. test: series or windows whose last ``h`` steps are to be forecast.
        own: compare each series with itself only (data without meaningful dates); else the earliest forecast step is
            compared with the end of *every* training series, because a global model learns from all.

    Raises:
        ValueError: other frequencies, a test series that is all horizon, or a leak: series and times are named.
    """
    if train.freq != test.freq:
        raise ValueError(f"the training data have freq={train.freq!r}, the test data {test.freq!r}")
    ends: dict[Any, Any] = {}
    for i, u in enumerate(train.ids):
        ends[u] = max(train.end(i), ends.get(u, train.end(i)))
    starts: dict[Any, Any] = {}
    for i, u in enumerate(test.ids):
        n = len(test.values[i])
        if n <= h:
            raise ValueError(f"test series {u!r} has {n} steps, no more than the horizon {h}: nothing to forecast from")
        first = test.times(i, n - h, n - h + 1)[0]
        starts[u] = min(first, starts.get(u, first))
    if own:
        pairs = [(u, ends[u], u, first) for u, first in starts.items() if u in ends]
    else:
        latest, earliest = max(ends, key=lambda u: ends[u]), min(starts, key=lambda u: starts[u])
        pairs = [(latest, ends[latest], earliest, starts[earliest])]
    for u, end, v, first in pairs:
        if as_timestamp(end, first) >= first:
            raise ValueError(
                f"the split leaks: the horizon of series {v!r} begins at {first}, training series {u!r} reaches {end}; "
                "cut the training data before that (Panel.before), or let backtest() split"
            )
