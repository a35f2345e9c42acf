r"""What :mod:`.tsdiff_cond` is trained on: windows of which a part is hidden, and is to be told from the rest.

*The condition* of a window is computed from a copy of the series in which everything hidden is NaN: values, scale and
lag channels cannot know it. A lag channel shows y[t - lag] where that was observed and is not hidden, 0 elsewhere.

*The target* is the whole window, in the unit of what is shown, hidden or not; the loss is taken where a value was
really observed.

*Mixed hiding.* Of the windows

    50 %    hide the horizon alone: a forecast from a complete context
    25 %    hide the horizon, and a share of the context, at random, at its beginning or at its end
    20 %    hide a share of the window, horizon or not, at random, at its beginning, at its end, or in one block
    5 %     hide everything, lag channels included

with shares uniform in (0, 0.8). A few values that happen to be nearly equal make a unit of nothing: where a part of
the context is hidden, target values beyond 20 units are clipped and teach nothing. A window of which nothing is shown
is a target in its own unit. What is hidden is drawn from the generator that the training gives: keyed by seed, epoch
and window, so that a resumed training hides the same.
"""

from __future__ import annotations

import numpy as np
import torch

from .data import Panel
from .missing import hidden
from .tsdiff_cond_config import TSDiffCondConfig
from .window_config import lags_of
from .windows import TINY, context_scale, cut_window, window_starts

__all__ = ["CondWindows", "HidingWindows", "condition_of", "hide_mixed"]

#: In units of what is shown: further off, the unit is an accident.
LARGEST = 20.0

#: Largest share that "mixed" hides of a window, short of all of it.
MOST = 0.8

_SCENARIOS = ("random", "begin", "end")


def condition_of(values: np.ndarray, observed: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Features of every position: lag channels, observed values, their mask, what is known of the future.

    Args:
        values: (..., L, 1 + lags), scaled, 0 where not observed. observed: bool, the same shape.
        known: (..., L, K), calendar and covariates.

    Returns:
        float32 (..., L, lags + 2 + K).
    """
    mask = observed[..., :1].astype(np.float32)
    shown = np.where(observed, values, 0).astype(np.float32)
    return np.concatenate([shown[..., 1:], shown[..., :1], mask, known.astype(np.float32)], axis=-1)


def hide_mixed(context: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """What "mixed" hides of one window, bool (L,); see the module."""
    out = np.zeros(length, dtype=bool)
    kind, share = rng.random(), MOST * rng.random()
    if kind < 0.75:
        out[context:] = True
        if kind >= 0.5:
            out[:context] = hidden(context, _SCENARIOS[rng.integers(3)], share, rng)
    elif kind < 0.95:
        which = int(rng.integers(4))
        if which < 3:
            return hidden(length, _SCENARIOS[which], share, rng)
        count = round(share * length)
        first = int(rng.integers(length - count + 1))
        out[first : first + count] = True
    else:
        out[:] = True
    return out


class CondWindows:
    """Every window of every series, its horizon hidden.

    Args:
        panel: the data.
        config: with frequency and lags resolved.
        default: (shift, scale) for contexts that give none.
        known: what is known of the future, float32 (n_i, K) a series.
        min_observed: smallest observed share of a window's context.
        horizon_only: count the loss on the last H steps only (validation).
        rows: which windows, (n, 2) of (series, start); all by default.
    """

    def __init__(
        self,
        panel: Panel,
        config: TSDiffCondConfig,
        default: tuple[float, float],
        known: list[np.ndarray],
        min_observed: float = 0.5,
        horizon_only: bool = False,
        rows: np.ndarray | None = None,
    ) -> None:
        self.panel, self.config, self.default, self.known = panel, config, default, known
        self.lags, self.horizon_only = lags_of(config), horizon_only
        horizon = config.prediction_length
        self.rows = window_starts(panel, config.length, horizon, self.lags, min_observed) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, object]:
        gone = np.zeros(self.config.length, dtype=bool)
        gone[self.config.context_length :] = True
        return self.item(index, gone)

    def item(self, index: int, gone: np.ndarray) -> dict[str, object]:
        """Window `index` with the steps `gone` (L,) hidden: "x", "mask" and the condition "features"."""
        i, start = (int(v) for v in self.rows[index])
        c, longest = self.config, max(self.lags, default=0)
        y = self.panel.values[i][start - longest : start + c.length]
        whole, shown, default = y[longest:], y.copy(), self.default
        shown[longest:][gone] = np.nan
        if gone.all():
            shown[:] = np.nan
            shift, scale = context_scale(whole[: c.context_length], c.scaler)
            default = (shift, scale) if scale > TINY * max(1.0, abs(shift)) else default
        window = cut_window(
            shown,
            longest,
            c.length,
            c.prediction_length if gone[c.context_length :].all() else 0,
            lags=self.lags,
            scaler=c.scaler,
            default=default,
        )
        x = (whole - window.shift) / window.scale
        counts = ~np.isnan(x)
        if gone[: c.context_length].any():
            counts &= np.abs(x) <= LARGEST
            x = np.clip(x, -LARGEST, LARGEST)
        if self.horizon_only:
            counts[: c.context_length] = False
        features = condition_of(window.x, window.observed, self.known[i][start : start + c.length])
        return {
            "x": torch.from_numpy(np.nan_to_num(x, nan=0.0).astype(np.float32)[:, None]),
            "mask": torch.from_numpy(counts[:, None]),
            "condition": {"features": torch.from_numpy(features)},
        }


class HidingWindows(CondWindows):
    """The training set: windows of which more than the horizon is hidden, anew in every epoch."""

    def draw(self, index: int, generator: np.random.Generator) -> dict[str, object]:
        """Window `index`, hidden by the scenario of the configuration."""
        c = self.config
        if c.missing == "mixed":
            return self.item(index, hide_mixed(c.context_length, c.length, generator))
        gone = np.ones(c.length, dtype=bool)
        gone[: c.context_length] = c.missing != "none" and hidden(c.context_length, c.missing, 0.5, generator)
        return self.item(index, gone)
