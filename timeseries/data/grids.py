"""From a data frame to a panel: the only door, so that every check of a user's table is made here, once.

A *long frame* has one row an observation and three columns: ``unique_id`` (which series), ``ds`` (when) and ``y`` (the
value), the layout of the Nixtla libraries. A missing row and a NaN in ``y`` are the same statement ("not observed") and
neither is ever filled in. Series shorter than a model's context are accepted (``Panel.cold``).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ...core.problems import Errors, Problems
from .clock import grid
from .columns import Series, series_of
from .extras import pandas as _pandas
from .frequencies import canonical_freq, freq_words, infer_freq
from .panel import Panel

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Gaps", "to_model_panel", "to_panel"]

Gaps = Literal["nan", "error"]

_MAX_GRID = 100_000_000


def to_panel(
    df: pd.DataFrame,
    freq: str | None = None,
    *,
    gaps: Gaps = "nan",
    id_col: str = "unique_id",
    time_col: str = "ds",
    target_col: str = "y",
    mask_col: str | None = None,
    tz: str | None = None,
    errors: Errors = "raise",
) -> Panel:
    """Check a long frame and put it on its regular grid.

    Args:
        df: columns ``unique_id, ds, y`` (others are ignored); rows in any order. ``ds`` datetimes (naive or one time
            zone), periods or ISO strings; ``y`` numbers, NaN = not observed.
        freq: pandas alias; inferred from each series when None, and then all series must agree.
        gaps: ``"nan"`` keeps missing rows as NaN, ``"error"`` refuses them.
        id_col, time_col, target_col: other names of the three columns.
        mask_col: a column of True (observed) and False; what is False is not observed, whatever ``y`` holds.
        tz: the zone of naive wall times, or the zone to convert to; see :mod:`.clock` for the days of 23 and 25 hours.
        errors: ``"skip"`` leaves bad rows and series out and names them, in a warning and in ``Panel.skipped``.

    Raises:
        TypeError: not a data frame, or a column of the wrong type.
        ValueError: missing columns, no rows, missing ids or times, duplicates, mixed time zones, timestamps off the
            grid, times that the clocks skipped, infinities, integers beyond 2^53, a mask that contradicts the values, a
            series without one observation, or (``gaps="error"``) gaps. The message names the series and the first
            timestamp.
    """
    if gaps not in ("nan", "error"):
        raise ValueError(f"gaps must be 'nan' or 'error', got {gaps!r}")
    problems = Problems(errors)
    parts = series_of(df, id_col, time_col, target_col, mask_col, tz, problems)
    if freq is None:
        freq, parts = _common_freq(parts, problems) if parts else ("", parts)
    else:
        freq = canonical_freq(freq)
    return _panel(parts, freq, gaps, problems)


def to_model_panel(df: pd.DataFrame | Panel, freq: str) -> Panel:
    """:func:`to_panel` on the grid of a model, for data that are of its frequency by themselves.

    Daily rows lie on an hourly grid, too, with 23 gaps of 24: data whose own frequency is another are refused. A
    :class:`Panel` has its frequency from its maker: ``to_panel(df, "h")`` says that such gaps are meant.

    Raises:
        ValueError: another frequency, both named; and whatever :func:`to_panel` raises.
    """
    if isinstance(df, Panel):
        if df.freq != freq:
            raise ValueError(_other_freq(freq, df.freq, ""))
        return df
    problems = Problems()
    parts = series_of(df, "unique_id", "ds", "y", None, None, problems)
    for u, t, _ in parts:
        try:
            found = infer_freq(t, f"series {u!r}")
        except ValueError:  # too short or irregular to tell: the grid decides
            continue
        if not _same_step(found, freq, t[0]):
            raise ValueError(_other_freq(freq, found, f" (series {u!r})"))
    return _panel(parts, freq, "nan", problems)


def _other_freq(model: str, data: str, where: str) -> str:
    return (
        f"the model is {freq_words(model)}, the data are {freq_words(data)}{where}: resample them or fit a model of "
        "your own"
    )


def _same_step(found: str, freq: str, start: Any) -> bool:
    pd = _pandas()
    if (found, freq) == ("B", "D"):  # as in `to_panel`: weekends are gaps of daily data
        return True
    return found == freq or bool(
        pd.date_range(start, periods=9, freq=found).equals(pd.date_range(start, periods=9, freq=freq))
    )


def _panel(parts: list[Series], freq: str, gaps: Gaps, problems: Problems) -> Panel:
    good = []
    for u, t, v in parts:
        with problems.at(f"series {u!r}"):
            good.append((u, t[0], _on_grid(u, t, v, freq, gaps)))
    skipped = problems.done(len(good), stacklevel=4, counted=False)
    ids, starts, values = zip(*good, strict=True)
    return Panel(ids, starts, values, freq, skipped)


def _common_freq(parts: list[Series], problems: Problems) -> tuple[str, list[Series]]:
    """The frequency that all series have, and the series; under skip, that of most, and those that have it."""
    found: dict[Any, str] = {}
    first: dict[str, Any] = {}
    for u, t, _ in parts:
        if len(t) >= 3:
            with problems.at(f"series {u!r}"):
                found[u] = infer_freq(t, f"series {u!r}")
                first.setdefault(found[u], u)
    parts = [p for p in parts if len(p[1]) < 3 or p[0] in found]
    if not first:
        if not parts:
            problems.done(0)
        raise ValueError("no series has the 3 timestamps needed to infer a frequency: pass freq= such as 'h' or 'D'")
    if set(first) == {"B", "D"}:
        return "D", parts
    if len(first) > 1:
        listing = ", ".join(f"{f} (series {u!r})" for f, u in list(first.items())[:5])
        if not problems.skip:
            raise ValueError(f"series have different frequencies: {listing}: pass freq=, or model them apart")
        most = Counter(found.values()).most_common(1)[0][0]
        for u, f in found.items():
            if f != most:
                problems.add(f"series {u!r}", f"its frequency is {f!r}, that of most series {most!r}")
        return most, [p for p in parts if found.get(p[0], most) == most]
    return next(iter(first)), parts


def _on_grid(u: Any, t: pd.DatetimeIndex, v: np.ndarray, freq: str, gaps: Gaps) -> np.ndarray:
    if np.isinf(v).any():
        raise ValueError(f"series {u!r} is infinite at {t[np.isinf(v)][0]}: write NaN for 'not observed'")
    if np.isnan(v).all():
        raise ValueError(f"series {u!r} has no observed value")
    if len(t) > 1:
        least = (t[1:] - t[:-1]).min()
        if (t[-1] - t[0]) / least > _MAX_GRID:
            raise ValueError(f"series {u!r} would need more than {_MAX_GRID:,} steps of {freq!r}: wrong timestamps?")
    steps = grid(t[0], freq, end=t[-1])
    where = steps.get_indexer(t)
    if (where < 0).any():
        bad = t[where < 0][0]
        clocks = t.tz is not None and bad.utcoffset() != t[0].utcoffset()
        hint = " (the clocks changed in between: hours are absolute steps, see tz=)" if clocks else ""
        raise ValueError(
            f"series {u!r} is irregular: {bad} is not on the grid that starts at {t[0]} with step {freq!r} "
            f"({int((where < 0).sum())} of {len(t)} timestamps): resample it, or pass another freq={hint}"
        )
    if gaps == "error" and len(steps) != len(t):
        hole = steps[~np.isin(np.arange(len(steps)), where)][0]
        raise ValueError(
            f"series {u!r} has {len(steps) - len(t)} gaps, the first at {hole}: fill them, or pass gaps='nan'"
        )
    out = np.full(len(steps), np.nan)
    out[where] = v
    return out
