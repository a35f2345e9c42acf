"""What :mod:`.tsdiff` is asked about: the windows of a panel whose last h steps are not known, and their warnings."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .data import Panel, _as_timestamp
from .window_config import WindowConfig, lags_of
from .windows import Window, cut_window

__all__ = ["Inputs", "check_horizon", "prepare", "remind"]


@dataclass(frozen=True)
class Inputs:
    """Windows to be completed.

    Attributes:
        windows: one a series, the last h steps unknown.
        shift, scale: (series,), so that y = shift + scale x.
        constant: (series,), the one value of a constant context, else NaN.
        h: horizon.
    """

    windows: tuple[Window, ...]
    shift: np.ndarray
    scale: np.ndarray
    constant: np.ndarray
    h: int

    def values(self, times: int) -> Tensor:
        """Scaled values (series * times, L, K), each series `times` times next to each other."""
        return _repeat([w.x for w in self.windows], times)

    def observed(self, times: int) -> Tensor:
        """Which of them are known, bool."""
        return _repeat([w.observed for w in self.windows], times)

    def filled(self, series: Sequence[np.ndarray], base: np.ndarray, config: WindowConfig) -> tuple[Tensor, Tensor]:
        """Windows with a base forecast in place of what is not known, where refinement starts.

        Missing values of the past are interpolated linearly, lag channels that look into the horizon hold the base.

        Args:
            series: values of each series. base: (series, S, h) in the data's unit.

        Returns:
            float32 (series * S, L, K); and which entries are observed or forecast (not interpolated), bool.
        """
        starts, known = [], []
        for i, (y, window) in enumerate(zip(series, self.windows, strict=True)):
            whole = np.concatenate([np.broadcast_to(y, (base.shape[1], len(y))), base[i]], axis=1)
            good = ~np.isnan(whole[0])
            at = np.arange(whole.shape[1])
            index = at[-1] + 1 - config.length + np.arange(config.length)[:, None] - np.array([0, *lags_of(config)])
            inside = index.clip(0, at[-1])
            for path in whole:
                path = np.interp(at, at[good], path[good])
                starts.append((path[inside] - window.shift) / window.scale)
            known.append(good[inside] & (index >= 0))
        mask = _repeat(known, base.shape[1])
        return torch.from_numpy(np.stack(starts).astype(np.float32)), mask

    def to_data(self, x: Tensor, paths: int) -> np.ndarray:
        """The horizons of windows (series * paths, L, K), in the data's unit: float64 (series, paths, h)."""
        y = x[:, x.shape[1] - self.h :, 0].double().numpy().reshape(len(self.windows), paths, self.h)
        y = self.shift[:, None, None] + self.scale[:, None, None] * y
        return np.where(np.isnan(self.constant)[:, None, None], y, self.constant[:, None, None])


def check_horizon(h: int | None, config: WindowConfig) -> int:
    """The horizon, H by default.

    Raises:
        ValueError: not an integer that leaves a context.
    """
    h = config.prediction_length if h is None else h
    if isinstance(h, bool) or not isinstance(h, int) or not 1 <= h < config.length:
        raise ValueError(
            f"h={h!r}: this model's windows have {config.length} steps, so the horizon must be an integer from 1 to "
            f"{config.length - 1} (the rest is context)"
        )
    return h


def prepare(
    panel: Panel,
    h: int,
    config: WindowConfig,
    default: tuple[float, float],
    trained_until: dict[str, str],
) -> Inputs:
    """Cut the windows that end h steps after each series; warn of short, sparse, constant and trained-on contexts."""
    context = config.length - h
    remind(panel, context, trained_until)
    constant = _constants(panel, context)
    windows = tuple(
        cut_window(
            y,
            len(y) - context,
            config.length,
            h,
            lags=lags_of(config),
            scaler=config.scaler,
            default=default,
            hide_future=True,
            name=u if np.isnan(flat) else None,
        )
        for u, y, flat in zip(panel.ids, panel.values, constant, strict=True)
    )
    shift, scale = np.array([w.shift for w in windows]), np.array([w.scale for w in windows])
    return Inputs(windows, shift, scale, constant, h)


def remind(panel: Panel, context: int, trained_until: dict[str, str], stacklevel: int = 4) -> None:
    """Warn of short and sparse histories, and of origins inside the training period."""
    short = [(u, len(y)) for u, y in zip(panel.ids, panel.values, strict=True) if len(y) < context]
    if short:
        listing = ", ".join(f"{u!r} ({n})" for u, n in short[:5])
        warnings.warn(
            f"{len(short)} of {len(panel)} histories are shorter than the context of {context} steps; the rest "
            f"counts as not observed: {listing}",
            stacklevel=stacklevel,
        )
    sparse = [
        (u, float(np.isnan(y[len(y) - context :]).mean()))
        for u, y in zip(panel.ids, panel.values, strict=True)
        if len(y) >= context
    ]
    sparse = [(u, share) for u, share in sparse if share > 0.5]
    if sparse:
        listing = ", ".join(f"{u!r} ({share:.0%} missing)" for u, share in sparse[:5])
        warnings.warn(
            f"more than half of the context of {context} steps is not observed in {len(sparse)} of {len(panel)} "
            f"series: {listing}",
            stacklevel=stacklevel,
        )
    inside = []
    for i, u in enumerate(panel.ids):
        until = trained_until.get(str(u))
        if until is not None:
            try:
                early = panel.end(i) < _as_timestamp(until, panel.starts[i])
            except ValueError:  # one has a time zone and the other has none: another series of that name
                continue
            if early:
                inside.append(u)
    if inside:
        warnings.warn(
            f"{len(inside)} forecasts begin inside the training period (first: series {inside[0]!r}): their "
            "scores would not be out of sample",
            stacklevel=stacklevel,
        )


def _constants(panel: Panel, context: int) -> np.ndarray:
    """The one value that each context shows, (series,), with a warning; NaN where there are several, or fewer than two
    observations."""
    out = np.full(len(panel), np.nan)
    for i, (u, y) in enumerate(zip(panel.ids, panel.values, strict=True)):
        seen = y[max(0, len(y) - context) :]
        seen = seen[~np.isnan(seen)]
        if len(seen) > 1 and np.ptp(seen) <= 1e-10 * np.abs(seen).max():
            out[i] = seen[-1]
            warnings.warn(
                f"series {u!r}: the observed context is constant ({seen[-1]:g}); its forecast is that value, without "
                "spread",
                stacklevel=4,
            )
    return out


def _repeat(arrays: Sequence[np.ndarray], times: int) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).repeat_interleave(times, dim=0)
