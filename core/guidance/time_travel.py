r"""Time travel: repeat a step from renoised states.

After a step from level t to s the state is noised forward again, exactly as the process does,

    x_t = (alpha_t / alpha_s) x_s + (beta_t - beta_s alpha_t / alpha_s) y
          + sqrt(sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2) z,

and the step is taken anew. Guided steps then correct what earlier ones got wrong (A. Lugmayr et al.,
"RePaint", CVPR 2022; J. Yu et al., "FreeDoM", ICCV 2023; Y. Wang et al., DDNM, ICLR 2023).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from ..hooks import Hook, Step
from ..samplers.base import LinearSampler
from ..samplers.exponential import root
from ..samplers.state import State
from ..spaces import Space
from ..tree import batch_size

__all__ = ["TimeTravel"]


@dataclass(frozen=True)
class TimeTravel(Hook):
    """Take each step of an interval `repeats` times.

    History of multistep methods does not survive a renoised state and starts anew.

    Args:
        repeats: how often a step is taken in all; 1 changes nothing.
        interval: times (low, high) of the steps' starts in which steps are repeated.
    """

    repeats: int = 2
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ValueError(f"repeats must be at least 1, got {self.repeats}")
        if not self.interval[0] < self.interval[1]:
            raise ValueError(f"interval must be (low, high) with low < high, got {self.interval}")

    def on_start(self, state: State, space: Space) -> State:
        return replace(state, aux={**state.aux, "travels": torch.zeros(batch_size(state.x), dtype=torch.long)})

    def on_step(self, step: Step) -> State:
        new = super().on_step(step)
        if not isinstance(step.sampler, LinearSampler) or not isinstance(step.state.i, int):
            raise ValueError("time travel needs a linear sampler with one time for all samples")
        row = step.plan.row(step.state.i, step.state.age)
        if not row.last:
            return new
        first = step.state.i
        while first > 0 and not step.plan.row(first - 1, 0).last:
            first -= 1
        t, done = step.plan.time(first), int(new.aux["travels"][0]) + 1
        low, high = self.interval
        if done >= self.repeats or not low <= t <= high:
            return replace(new, aux={**new.aux, "travels": torch.zeros_like(new.aux["travels"])})
        if step.noise is None:
            raise ValueError(
                "time travel draws from the run's noise, and this step carries none: run it through sample()"
            )
        z = step.space.randn(step.noise, new.x, new.draws, "travel")
        terms = [
            (_coefficients(step.schedule, t, row.t_next, 0), new.x),
            (_coefficients(step.schedule, t, row.t_next, 1), z),
        ]
        if step.reference is not None:
            terms.append((_coefficients(step.schedule, t, row.t_next, 2), step.reference))
        x = step.space.lincomb(terms)
        aux = {**new.aux, "travels": torch.full_like(new.aux["travels"], done)}
        return replace(new.restart(x, first), aux=aux, draws=new.draws + 1)


def _coefficients(schedule: Any, t: float, s: float, which: int) -> Any:
    """Coefficients of (state, noise, reference) in the renoised state, one a leaf for product schedules."""
    if hasattr(schedule, "leaves"):
        return {name: _coefficients(leaf, t, s, which) for name, leaf in schedule.leaves.items()}
    ratio = schedule.alpha(t) / schedule.alpha(s)
    if which == 0:
        return ratio
    if which == 1:
        return root(schedule.sigma(t) ** 2 - (ratio * schedule.sigma(s)) ** 2)
    return schedule.beta(t) - schedule.beta(s) * ratio
