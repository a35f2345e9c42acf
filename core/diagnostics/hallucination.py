r"""Samples that the data never contained: the variance of the data prediction along a trajectory.

A smooth network cannot follow a score that jumps between two modes; it interpolates, and a walker that ends up between
modes keeps changing its mind about which it belongs to. With D_1 ... D_n the data predictions of the calls in a window,

    Hal(x) = 1/n sum_i |D_i - mean D|^2 / (degrees of freedom),

large for samples out of support. Mean and sum of squares are updated call by call (Welford), so that two states and
not n are kept, and live in the run's state: walkers that are resampled take their own along.

The window matters more than the threshold: early calls vary for every sample (the mode is not chosen yet), and next to
t = 0 the prediction is the state itself and varies for none. `last` counts calls from the end; `between` bounds
kappa = sigma / alpha, the noise as the data see it, which does not depend on the number of steps: from zero to between
a sixteenth (a very smooth network) and an eighth of the distance between modes, where noise does not confuse them any
more (an eighth is four standard deviations to the middle).

This is a screen for single samples. It must not trim a forecast's or a posterior's draws: what is left is not
calibrated any more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..hooks import Hook, Step
from ..likelihood.measure import check_space, inner
from ..sample import Result
from ..samplers.base import LinearSampler
from ..samplers.state import State
from ..schedules import ProductSchedule
from ..spaces import Space, default_space
from ..tree import Tree, batch_size, leaves, tree_map

__all__ = ["TrajectoryVariance", "keep", "trajectory_variance", "variance_of"]

_NAME = "trajectory_variance"


@dataclass(frozen=True)
class TrajectoryVariance(Hook):
    """Accumulate Hal(x) of every sample; read it with `trajectory_variance(result)`.

    S. Aithal, P. Maini, Z. Lipton, J. Z. Kolter, "Understanding hallucinations in diffusion models through mode
    interpolation", NeurIPS 2024, section 5 and equation 5.

    Args:
        last: number of network calls at the end of the run, at least 2 (the authors' code uses 10 of 1000 steps).
        between: (low, high) of kappa = sigma / alpha in units of the data; replaces `last`.
        name: of the accumulators in the run's state; hooks with different windows need different names.

    Raises:
        ValueError: for windows that hold no two calls, adaptive samplers with `last` (the end is not known
            beforehand), runs towards the noise, and elements of one sample at different times.
    """

    last: int = 10
    between: tuple[float, float] | None = None
    name: str = _NAME

    def __post_init__(self) -> None:
        if self.between is None:
            if isinstance(self.last, bool) or not isinstance(self.last, int) or self.last < 2:
                raise ValueError(f"a variance needs at least 2 calls, got last={self.last!r}")
        elif len(self.between) != 2 or not 0.0 <= self.between[0] < self.between[1]:
            raise ValueError(f"between is (low, high) of sigma / alpha with 0 <= low < high, got {self.between}")

    def on_start(self, state: State, space: Space) -> State:
        """Zero accumulators, unless the state comes from a run that was stopped on the way."""
        check_space(space)
        key = self.name
        if key in state.aux:
            return state
        device = leaves(state.x)[0].device
        zero = torch.zeros(batch_size(state.x), dtype=torch.float64, device=device)
        aux = {**state.aux, key: zero, f"{key}/count": zero, f"{key}/square": zero}
        _put(aux, key, tree_map(torch.zeros_like, state.x))
        return replace(state, aux=aux)

    def on_prediction(self, step: Step) -> Step:
        state, space, key = step.state, step.space, self.name
        active = self._active(step)
        if not (active if isinstance(active, bool) else bool(active.any())):
            return step
        data, aux = step.pred.data, dict(state.aux)
        count, square, mean = aux[f"{key}/count"], aux[f"{key}/square"], _get(aux, key, step.pred.data)
        there = torch.full_like(count, active, dtype=torch.bool) if isinstance(active, bool) else active
        new_count = count + there
        delta = tree_map(lambda d, m: d - m, data, mean)

        def moved(m: Tensor, d: Tensor) -> Tensor:
            rate = (there / new_count.clamp_min(1)).to(m.dtype)
            return m + rate.view(-1, *[1] * (m.ndim - 1)) * d

        new_mean = tree_map(moved, mean, delta)
        rest = tree_map(lambda d, m: d - m, data, new_mean)
        new_square = square + torch.where(there, inner(space, delta, rest), 0.0)
        aux[f"{key}/count"], aux[f"{key}/square"] = new_count, new_square
        _put(aux, key, new_mean)
        aux[key] = new_square / (new_count.clamp_min(1) * space.ndof(data).double().clamp_min(1))
        return replace(step, state=replace(state, aux=aux))

    def _active(self, step: Step) -> Any:
        """Whether the call is in the window: a bool, or one a sample."""
        t, i = step.query.t, step.state.i
        for value in (t, i):
            if isinstance(value, Tensor) and value.ndim > 1:
                raise ValueError("the elements of a sample are at different times: it has no single trajectory")
        times = getattr(getattr(step.plan, "grid", None), "times", None)
        if times is not None and times[0] < times[-1]:
            raise ValueError("this run goes towards the noise: the variance is that of a run towards the data")
        if self.between is not None:
            if isinstance(step.schedule, ProductSchedule) or step.schedule.elementwise:
                raise ValueError(f"{step.schedule!r} has no single noise level; use last= instead of between=")
            low, high = self.between
            kappa = step.schedule.kappa(t)
            if isinstance(kappa, Tensor):
                return ((kappa >= low) & (kappa <= high)).to(_device(step)).reshape(-1)
            return low <= kappa <= high
        total = step.sampler.total(step.plan)
        if total is None:
            raise ValueError(
                f"{step.sampler!r} chooses its own steps, so its last {self.last} calls are not known beforehand; "
                "give between=(low, high)"
            )
        if total < self.last:
            raise ValueError(
                f"the run makes {total} calls, fewer than last={self.last}: use more steps or a smaller last"
            )
        if not isinstance(step.sampler, LinearSampler):
            i = step.call
        active = i >= total - self.last
        return active.to(_device(step)) if isinstance(active, Tensor) else bool(active)


def _device(step: Step) -> Any:
    return leaves(step.query.x)[0].device


def _put(aux: dict[str, Tensor], key: str, mean: Tree) -> None:
    if isinstance(mean, dict):
        aux.update({f"{key}/mean/{name}": leaf for name, leaf in mean.items()})
    else:
        aux[f"{key}/mean"] = mean


def _get(aux: dict[str, Tensor], key: str, like: Tree) -> Tree:
    return {name: aux[f"{key}/mean/{name}"] for name in like} if isinstance(like, dict) else aux[f"{key}/mean"]


def trajectory_variance(result: Result | State, name: str = _NAME) -> Tensor:
    """Hal(x) of each sample of a run with a `TrajectoryVariance` hook, in squared units of the data, float64, (B,).

    Args:
        result: of `sample`, or its state.
        name: of the hook.

    Raises:
        ValueError: without the hook, or where a sample had fewer than two calls in the window.
    """
    state = result.state if isinstance(result, Result) else result
    key = name
    if key not in state.aux:
        raise ValueError("no call was recorded: run with hooks=[TrajectoryVariance(...)] and a window that is visited")
    count = state.aux[f"{key}/count"]
    few = (count < 2).nonzero().flatten().tolist()
    if few:
        raise ValueError(
            f"sample {few[0]} has {int(count[few[0]])} call in the window, a variance needs 2: widen the window or use "
            "more steps"
        )
    return state.aux[key]


def variance_of(data: Sequence[Tree], space: Space | None = None, last: int | None = None) -> Tensor:
    """Hal(x) of recorded data predictions, for example `result.records["data"]` of `Record`; float64, (B,).

    Args:
        data: predictions (B, ...) of successive calls.
        space: where they live; default plain tensors.
        last: use the last ones only.

    Raises:
        ValueError: for fewer than two, or fewer than `last`, predictions.
    """
    if len(data) < max(2, last or 2):
        raise ValueError(f"{len(data)} predictions are recorded, need at least {max(2, last or 2)}: use more steps")
    data = data[-last:] if last else data
    space = space or default_space(data[0])
    check_space(space)
    mean = tree_map(lambda *v: torch.stack(v).mean(0), data[0], *data[1:])
    gaps = [tree_map(lambda d, m: d - m, d, mean) for d in data]
    total = torch.stack([inner(space, g, g) for g in gaps]).mean(0)
    return total / space.ndof(data[0]).double().clamp_min(1)


def keep(scores: Tensor, fraction: float) -> Tensor:
    """Which samples to keep: the `fraction` of lowest variance, boolean, (B,).

    Args:
        scores: (B,), finite.
        fraction: in (0, 1]; ceil(fraction B) samples are kept, ties in their order.
    """
    if scores.ndim != 1 or scores.numel() == 0:
        raise ValueError(f"scores must have shape (B,) with B > 0, got {tuple(scores.shape)}")
    if not bool(torch.isfinite(scores).all()):
        raise ValueError(f"score {int((~torch.isfinite(scores)).nonzero()[0])} is not finite")
    if not 0.0 < fraction <= 1.0:
        raise ValueError(f"fraction must lie in (0, 1], got {fraction}")
    size = math.ceil(fraction * len(scores) - 1e-9)
    mask = torch.zeros_like(scores, dtype=torch.bool)
    mask[scores.argsort(stable=True)[:size]] = True
    return mask
