r"""Completing windows with CSDI: histories to be continued, gaps to be filled, and what steers them.

*Forecasts.* A run completes one table of all series whose last h steps are unknown. Series that end at different times
have different origins: each origin is a run of its own, in which every series is known up to the origin and no further,
whatever rows the data hold of it (:func:`origins`).

*Gaps* (:func:`fill`). Windows of L steps are walked from left to right over the common grid, all series together. Each
begins L/4 before the first step where something is still missing and settles all that is missing in it but for its last
L/4, which the next window sees whole. What was settled is given in the windows that follow, path by path: path j is one
draw from the chain p(window 1 | data) p(window 2 | data, window 1) ..., of all series together. Where a gap crosses the
last quarter but begins late enough, it is left to the next window as a whole.

*Scales* are measured on what was observed, never on what was sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..core import grids
from ..core.denoisers import Denoiser
from ..core.hooks import Hook
from ..core.sample import Result, sample
from ..core.samplers import DDIM, DDPM
from ..core.schedules import DiscreteBetas
from .csdi_config import CSDIConfig
from .csdi_data import Aligned, Scales
from .steering import Target
from .tsdiff_inputs import Inputs
from .walks import check_max_batch, sampling_of
from .window_config import Sampling

__all__ = ["JointTarget", "Origin", "Run", "fill", "origins"]

#: Cells (paths x series x steps) of a batch when the caller sets no limit: some 100 MB at 64 channels.
CELLS = 65536


@dataclass(frozen=True)
class Run:
    """How windows are completed.

    Attributes:
        denoiser, schedule: of the model.
        sampler, steps: the method and its network calls.
        seed: of the noise.
        max_batch: paths at a time; None for as many as `CELLS` cells.
        progress: show a progress bar.
    """

    denoiser: Denoiser
    schedule: DiscreteBetas
    sampler: Sampling
    steps: int
    seed: int
    max_batch: int | None
    progress: bool

    @classmethod
    def of(
        cls,
        denoiser: Denoiser,
        schedule: DiscreteBetas,
        config: CSDIConfig,
        sampler: Sampling | None,
        steps: int | None,
        seed: int,
        max_batch: int | None,
        progress: bool,
    ) -> Run:
        """With the configured sampler and number of steps where none is given.

        Raises:
            ValueError: an unknown sampler, or a batch of no paths. The number of steps is checked by the grid.
        """
        kind, calls = sampling_of(cast("Any", config), sampler, steps)
        check_max_batch(max_batch)
        return cls(denoiser, schedule, kind, calls, seed, max_batch, progress)

    def __call__(
        self, values: Tensor, given: Tensor, who: np.ndarray, slots: range, hooks: Sequence[Hook] = (), least: int = 1
    ) -> Result:
        """Complete one table a slot.

        Args:
            values: scaled, float32 (K, L), or (slots, K, L) where they differ from path to path.
            given: bool (K, L), which of them are known.
            who: int (K,), which series they are.
            slots: places of the paths in the whole work; the noise of a path depends on the seed and its slot alone.
            hooks: of the loop. least: paths that must stay in one batch.
        """
        paths, shape = len(slots), tuple(given.shape)
        limit = max(1, CELLS // given.numel()) if self.max_batch is None else self.max_batch
        return sample(
            self.denoiser,
            DDIM() if self.sampler == "ddim" else DDPM(),
            grids.discrete(self.schedule, self.steps, "trailing"),
            shape=(paths, *shape),
            condition={
                "values": values.expand(paths, *shape),
                "given": given.expand(paths, *shape),
                "who": torch.from_numpy(who).expand(paths, len(who)),
            },
            hooks=hooks,
            seed=self.seed,
            slots=slots,
            max_batch=max(least, limit),
            progress=self.progress,
        )


# -- forecasts -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Origin:
    """One point in time from which is forecast.

    Attributes:
        rows: rows of the panel that end there.
        wanted: for each of them, its place among the series.
        history: float64 (K, steps), the last steps of every series before it; NaN = not observed.
    """

    rows: tuple[int, ...]
    wanted: tuple[int, ...]
    history: np.ndarray


def origins(data: Aligned, names: Sequence[Any], steps: int) -> list[Origin]:
    """The origins of a panel, in the order in which its rows come to them.

    A series that has a row ending at the origin is taken from that row; else its longest row, up to the origin.
    """
    ids, ends = data.panel.ids, data.ends
    longest: dict[Any, int] = {}
    for i, u in enumerate(ids):
        if u not in longest or len(data.panel.values[i]) > len(data.panel.values[longest[u]]):
            longest[u] = i
    place = {u: k for k, u in enumerate(names)}
    out = []
    for end in dict.fromkeys(int(e) for e in ends):
        rows = tuple(int(i) for i in np.flatnonzero(ends == end))
        take = longest | {ids[i]: i for i in rows}
        history = data.table([take[u] for u in names], end - steps, end)
        out.append(Origin(rows, tuple(place[ids[i]] for i in rows), history))
    return out


@dataclass(frozen=True)
class JointTarget(Target):
    """What is asked of walkers whose state is one path of all series, (B, K, L).

    Attributes:
        wanted: places in the state of the series `ids`.
    """

    wanted: tuple[int, ...] = field(default=())

    @classmethod
    def of(cls, steer: Any, ids: tuple[Any, ...], wanted: tuple[int, ...], scale: Any, shift: Any, h: int) -> Target:
        """Checked against the series and the horizon; `scale` and `shift` (series,)."""
        inputs = Inputs((), shift, scale, np.full(len(ids), np.nan), h)
        made = cls.make(steer, ids, inputs, 0)
        return cls(made.steering, ids, shift, made.scale, np.zeros(0, np.int64), joint=True, h=h, wanted=wanted)

    def take(self, index: Any) -> Target:
        """The same: every walker holds all series."""
        return self

    def data(self, x: Tensor) -> np.ndarray:
        """The horizons in the data's unit: float64 (B, series, h)."""
        return super().data(x[:, list(self.wanted)][..., None])


# -- gaps ----------------------------------------------------------------------------------------------------------


def fill(
    data: Aligned,
    rows: Sequence[int],
    who: np.ndarray,
    scales: Scales,
    config: CSDIConfig,
    run: Run,
    paths: int,
    first: int = 0,
) -> tuple[dict[int, np.ndarray], int]:
    """Fill what is missing within some rows, together.

    Args:
        data: the panel; every name once.
        rows: which of its rows, and `who` (rows,) they are.
        scales, config, run: of the model.
        paths: S.
        first: windows that others have filled before; the noise of window w depends on the seed and w alone.

    Returns:
        for each row that has gaps, float64 (S, n_i), NaN where it was observed; and the number of windows.
    """
    steps, length = len(data), config.length
    left = np.zeros((len(rows), steps), dtype=bool)  # missing, and not yet settled
    for k, i in enumerate(rows):
        left[k, data.starts[i] : data.ends[i]] = np.isnan(data.panel.values[i])
    out = {int(k): np.full((paths, steps), np.nan) for k in np.flatnonzero(left.any(1))}
    count = 0
    while (waiting := left.any(0)).any():
        start, stop = _place(left, int(waiting.argmax()), steps, length)
        y = data.table(rows, start, start + length)
        seen = ~np.isnan(y)
        shift, scale = scales.of_window(y, seen, who, config)
        x = np.repeat(np.where(seen, (y - shift) / scale, 0.0)[None], paths, axis=0)
        known, end = seen.copy(), min(steps, start + length)
        for k, settled in out.items():
            before = ~np.isnan(settled[0, start:end])
            known[k, : end - start] |= before
            x[:, k, : end - start][:, before] = (settled[:, start:end][:, before] - shift[k]) / scale[k]
        result = run(
            torch.from_numpy(x.astype(np.float32)),
            torch.from_numpy(known),
            who,
            range((first + count) * paths, (first + count + 1) * paths),
        )
        assert isinstance(result.x, Tensor)
        drawn = shift + scale * result.x.double().numpy()
        for k, settled in out.items():
            now = np.flatnonzero(left[k, start:stop])
            settled[:, start + now] = drawn[:, k, now]
        left[:, start:stop] = False
        count += 1
    return {rows[k]: v[:, data.starts[rows[k]] : data.ends[rows[k]]] for k, v in out.items()}, count


def _place(left: np.ndarray, first: int, steps: int, length: int) -> tuple[int, int]:
    """Where the window for the missing step `first` begins, and the step before which it settles all."""
    margin = length // 4
    start = min(max(0, first - margin), max(0, steps - length))
    if start + length >= steps:
        return start, steps
    stop = max(first + 1, start + length - margin)
    crossing = left[:, stop - 1] & left[:, stop]
    if crossing.any():
        parts = left[crossing, first:stop]  # of each gap that goes on after `stop`, how many steps lie before it
        before = np.where(parts.all(1), stop - first, np.argmin(parts[:, ::-1], axis=1))
        begin = stop - int(before.max())
        if 2 * (begin - first) >= stop - first:
            stop = begin
    return start, stop
