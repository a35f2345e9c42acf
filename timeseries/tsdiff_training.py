"""What :mod:`.tsdiff` is trained on: windows, and the validation that does not leak."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from .data import Panel, _as_timestamp
from .window_config import WindowConfig, lags_of
from .windows import cut_window, window_starts

__all__ = ["Windows", "digest_of", "refuse_leak", "shorten", "validation_rows"]


class Windows:
    """The training set: every window of every series, cut and scaled when asked for.

    Args:
        panel: the training data, and nothing else.
        config: with frequency and lags resolved.
        default: (shift, scale) for contexts that give none.
        min_observed: smallest observed share of a window's context.
        horizon_only: count the loss on the last H steps only (validation).
        rows: which windows, (n, 2) of (series, start); all by default.
    """

    def __init__(
        self,
        panel: Panel,
        config: WindowConfig,
        default: tuple[float, float],
        min_observed: float = 0.5,
        horizon_only: bool = False,
        rows: np.ndarray | None = None,
    ) -> None:
        self.panel, self.config, self.default, self.horizon_only = panel, config, default, horizon_only
        self.lags = lags_of(config)
        horizon = config.prediction_length
        self.rows = window_starts(panel, config.length, horizon, self.lags, min_observed) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        i, start = (int(v) for v in self.rows[index])
        c = self.config
        window = cut_window(
            self.panel.values[i],
            start,
            c.length,
            c.prediction_length,
            lags=self.lags,
            scaler=c.scaler,
            default=self.default,
        )
        observed = window.observed
        if self.horizon_only:
            observed = observed.copy()
            observed[: c.context_length] = False
        return {"x": torch.from_numpy(window.x), "mask": torch.from_numpy(observed)}


def shorten(panel: Panel, steps: int, what: str) -> Panel:
    """Every series without its last `steps`; `what` names them in the error of a series that has no more."""
    for u, y in zip(panel.ids, panel.values, strict=True):
        if len(y) <= steps:
            raise ValueError(f"series {u!r} has {len(y)} steps; {what}={steps} would leave nothing to train on")
    return replace(panel, values=tuple(y[: len(y) - steps] for y in panel.values))


def validation_rows(panel: Panel, config: WindowConfig, windows: int) -> np.ndarray:
    """The windows of the last `windows` horizons of every series, (n, 2) of (series, start).

    Raises:
        ValueError: no series is long enough.
    """
    c, rows = config, []
    first = max(lags_of(c), default=0)
    for i, y in enumerate(panel.values):
        for w in range(windows):
            start = len(y) - c.length - w * c.prediction_length
            if start >= first and not np.isnan(y[start + c.context_length : start + c.length]).all():
                rows.append((i, start))
    if not rows:
        raise ValueError(f"no validation window: a series needs {c.length + first} steps, the longest has "
                         f"{max(len(y) for y in panel.values)}")  # fmt: skip
    return np.array(rows, dtype=np.int64)


def digest_of(panel: Panel) -> str:
    """The first 16 hex digits of SHA-256 over frequency, names, first timestamps and values."""
    digest = hashlib.sha256(repr(panel.freq).encode())
    for u, s, y in zip(panel.ids, panel.starts, panel.values, strict=True):
        digest.update(repr((str(u), str(s), len(y))).encode())
        digest.update(np.where(np.isnan(y), np.nan, y).astype("<f8").tobytes())
    return digest.hexdigest()[:16]


def refuse_leak(train: Panel, valid: Panel, horizon: int) -> None:
    """Raise where the last `horizon` steps of `valid` reach back into the training data."""
    if valid.freq != train.freq:
        raise ValueError(f"val_df has freq={valid.freq!r}, the training data {train.freq!r}")
    ends: dict[Any, Any] = {}
    for i, u in enumerate(train.ids):
        ends[u] = max(train.end(i), ends.get(u, train.end(i)))
    for i, u in enumerate(valid.ids):
        first = valid.times(i, max(0, len(valid.values[i]) - horizon))[0]
        if u in ends and first <= _as_timestamp(ends[u], first):
            raise ValueError(
                f"validation leaks: the horizons of series {u!r} begin at {first}, the training data end at {ends[u]}; "
                f"cut them before that, or let fit do it with val_windows="
            )
