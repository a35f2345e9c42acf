"""From a denoiser of windows to the paths of a forecast: how walkers lie in a batch, with and without steering.

Every system that forecasts by completing windows walks alike. S paths of each series are walked; with steering
(:mod:`.steering`) K particles a path. The batch holds (series, path, K) windows (B, L, channels), or, where a joint
constraint ties the series together, (path, K) particles of all series, (B, series, L, channels). The noise of path j of
series i depends on the seed and on i S + j alone, not on the batches: another S is another draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core import grids
from ..core.denoisers import Denoiser
from ..core.hooks import Hook
from ..core.sample import sample
from ..core.samplers import DDIM, DDPM
from ..core.schedules import DiscreteBetas
from .data import Panel
from .forecast import Forecast
from .guidance import quantile_levels
from .steering import OnViolation, Steered, Target, chosen, folded, report_violation, settle
from .tsdiff_inputs import Inputs
from .window_config import Sampling, WindowConfig

__all__ = ["Walk", "check_max_batch", "check_steering", "sampling_of"]


def sampling_of(config: WindowConfig, sampler: Sampling | None, steps: int | None) -> tuple[Sampling, int]:
    """Sampler and network calls: the configured ones where None; 20 calls of ddim, all T of ddpm by default.

    Raises:
        ValueError: another sampler.
    """
    if steps is None and sampler in (None, config.sampler):
        steps = config.sampling_steps
    sampler = config.sampler if sampler is None else sampler
    if sampler not in ("ddim", "ddpm"):
        raise ValueError(f"sampler must be 'ddim' or 'ddpm', got {sampler!r}")
    if steps is None:
        steps = min(20, config.timesteps) if sampler == "ddim" else config.timesteps
    return sampler, steps


def check_steering(num_samples: int, steer: Any, walkers: int, on_violation: OnViolation) -> None:
    """Refuse settings out of range.

    Raises:
        ValueError: no whole number of paths, fewer than two particles when steering, an unknown `on_violation`.
    """
    if isinstance(num_samples, bool) or not isinstance(num_samples, int) or num_samples < 1:
        raise ValueError(f"num_samples must be an integer of at least 1, got {num_samples!r}")
    if on_violation not in ("raise", "warn", "project"):
        raise ValueError(f"on_violation must be 'raise', 'warn' or 'project', got {on_violation!r}")
    if steer is not None and (isinstance(walkers, bool) or not isinstance(walkers, int) or walkers < 2):
        raise ValueError(f"steering chooses each path from several particles: walkers >= 2, got {walkers!r}")


def check_max_batch(max_batch: int | None) -> None:
    """Refuse a batch of no windows.

    Raises:
        ValueError: neither a positive integer nor None.
    """
    if max_batch is not None and (isinstance(max_batch, bool) or not isinstance(max_batch, int) or max_batch < 1):
        raise ValueError(f"max_batch must be a positive integer, or None for all at once, got {max_batch!r}")


@dataclass(frozen=True)
class Walk:
    """A forecast about to be sampled.

    Attributes:
        panel: the histories. inputs: their windows.
        sampler, steps: see `sampling_of`.
        num_samples: S. seed: of the noise. max_batch: windows at a time.
        target: what steering asks for, None without. walkers: K. on_violation: see :mod:`.steering`.
    """

    panel: Panel
    inputs: Inputs
    sampler: Sampling
    steps: int
    num_samples: int
    seed: int
    max_batch: int | None
    target: Target | None = None
    walkers: int = 1
    on_violation: OnViolation = "raise"

    def __post_init__(self) -> None:
        check_max_batch(self.max_batch)

    @classmethod
    def of(cls, panel: Panel, inputs: Inputs, *, steer: Any, walkers: int, num_samples: int, **settings: Any) -> Walk:
        """With the target of `steer` (None: no steering)."""
        if steer is None:
            return cls(panel, inputs, num_samples=num_samples, **settings)
        target = Target.make(steer, panel.ids, inputs, num_samples * walkers)
        return cls(panel, inputs, num_samples=num_samples, target=target, walkers=walkers, **settings)

    @property
    def joint(self) -> bool:
        """Whether one particle is one path of all series."""
        return self.target is not None and self.target.joint

    def spread(self, each: Tensor) -> Tensor:
        """One row for each walker of the batch, from one row (series, ...) a series."""
        particles = self.num_samples * self.walkers
        return each.expand(particles, *each.shape) if self.joint else each.repeat_interleave(particles, dim=0)

    def levels(self) -> Tensor:
        """The level i/(S+1) of the path of each walker."""
        level = quantile_levels(self.num_samples, 1 if self.joint else len(self.panel))
        return level.repeat_interleave(self.walkers)

    def denoiser(self, denoiser: Denoiser) -> Denoiser:
        """The denoiser for states of this walk."""
        return folded(denoiser) if self.joint else denoiser

    def forecast(
        self,
        denoiser: Any,
        schedule: DiscreteBetas,
        condition: dict[str, Tensor],
        channels: int,
        name: str,
        *,
        before: Sequence[Hook] = (),
        after: Sequence[Hook] = (),
        iid: bool = True,
        info: dict[str, Any] | None = None,
        progress: bool = False,
    ) -> Forecast:
        """Sample the paths.

        Args:
            denoiser: of the states of this walk (see `denoiser`), guided or not. schedule: its schedule.
            condition: what the denoiser is told, one row a walker (see `spread`).
            channels: of a state.
            name: of the forecast. iid, info: of the forecast; `info` is completed.
            before, after: hooks that act before and after steering.
            progress: show a progress bar.

        Raises:
            ConstraintError: a hard constraint was not met and `on_violation` is "raise".
        """
        target, max_batch = self.target, self.max_batch
        steered: list[Hook] = [] if target is None else [Steered(target, self.walkers)]
        length = self.inputs.windows[0].x.shape[0]
        rows = self.num_samples * self.walkers
        shape = (rows, len(self.panel), length, channels) if self.joint else (rows * len(self.panel), length, channels)
        if max_batch is not None and self.joint:
            max_batch //= len(self.panel)
        if max_batch is not None and target is not None:
            max_batch = max(self.walkers, max_batch)  # the particles of a path stay together
        result = sample(
            denoiser,
            DDIM() if self.sampler == "ddim" else DDPM(),
            grids.discrete(schedule, self.steps, "trailing"),
            shape=shape,
            condition=condition,
            hooks=[*before, *steered, *after],
            seed=self.seed,
            max_batch=max_batch,
            progress=progress,
        )
        info = dict(info or {}) | {
            "sampler": self.sampler,
            "steps": self.steps,
            "num_samples": self.num_samples,
            "seed": self.seed,
        }
        x, message = result.x, None
        assert isinstance(x, torch.Tensor)
        if target is not None:
            x, info["steering"] = chosen(result, target, self.walkers, self.seed)
            x = x.transpose(0, 1).flatten(0, 1) if self.joint else x
        paths = self.inputs.to_data(x, self.num_samples)
        if target is not None:
            paths, message = settle(paths, target, self.on_violation, info["steering"])
        panel = self.panel
        starts = tuple(panel.times(i, len(y), len(y) + 1)[0] for i, y in enumerate(panel.values))
        forecast = Forecast(panel.ids, starts, panel.freq, paths, name, iid, info)
        if message is not None:
            report_violation(message, forecast, self.on_violation, stacklevel=4)
        return forecast
