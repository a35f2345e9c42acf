r"""Steering a forecast: K particles a path, weighted and resampled towards constraints, scenarios and rewards.

The guided sampler draws paths from some law p. With a hard constraint of margins g(y) >= 0 and rewards r(y), the paths
wanted have the law p(y) exp(r(y)) [g(y) >= 0] / Z. The core's Feynman-Kac steering (:mod:`..core.steering`) draws them:
every output path is chosen from a group of K particles, which are weighted by what their data prediction xhat0
promises, resampled on the way, and weighted by the exact target at the end, so that nothing depends on the promises but
how fast K must grow. Here the promise of a particle at the level x_t = a x0 + s n is

    sum_m log Phi( g_m(y) / (size_m w_t) ) + r(y),      y = shift + scale xhat0 in the data's unit,

the log-probability that the margins come out positive if what xhat0 leaves open is normal, with the spread
w_t = s / sqrt(a^2 + s^2) that data of unit variance would have: wide at first, sharp at the end. No gradient is taken.

*The target at the end* is exact: a path that violates gets log-weight -1000 (and less the further off it is), so a
particle that violates is chosen only where all K of a group do. That is reported (:class:`ConstraintError`, or a
warning), and never repaired unless ``on_violation="project"`` asks for the nearest paths that satisfy; how many were
moved stands in ``Forecast.info["steering"]``. So does an unbiased estimate of log Z, series by series: the probability
that the model itself gives to the scenario. A chosen path has a bias of order 1/K, the larger the less likely the
scenario is: more walkers, where log Z is very negative.

*Layout.* Constraints on one series at a time: the batch holds (series, path, K) windows, groups of K next to each
other; every group is a system of its own, and paths stay different. Joint constraints (hierarchies): one particle is
one path of *all* series, a state (series, L, 1 + lags), and only whole particles are resampled: the model is told the
series one by one (:class:`Folded`), the weights know them together. The series of one particle are drawn independently
of each other, or, under quantile guidance, at the same level: the constraint is all that ties them together.

*Samplers.* Under "ddpm" particles part again after resampling. "ddim" is deterministic: its K particles are K
independent paths, weighted once at the end.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from scipy.special import log_ndtr
from torch import Tensor

from ..core.denoisers import Denoiser
from ..core.hooks import Hook, Step
from ..core.noise import SlotNoise
from ..core.sample import Result
from ..core.steering import FeynmanKac, effective_size, log_mean
from ..core.steering.resampling import pick, uniforms
from .constraints import Aggregate, Bounds, Constraint, Reward, Steering
from .tsdiff_inputs import Inputs

__all__ = ["ConstraintError", "Folded", "Steered", "Target", "chosen", "folded", "settle", "steering_of"]

HARD = 1000.0
OnViolation = Literal["raise", "warn", "project"]


class ConstraintError(RuntimeError):
    """No particle of some path satisfied a hard constraint.

    Attributes:
        forecast: what was drawn, violations included; None where it was raised before there was one.
    """

    forecast: Any = None


def steering_of(steer: Any) -> tuple[Steering, ...]:
    """What a user gave as `steer=`: one or several constraints, rewards or functions.

    Raises:
        TypeError: anything else.
    """
    several = list(steer) if isinstance(steer, Sequence) and not isinstance(steer, str) else [steer]
    out: list[Steering] = []
    for one in several:
        if isinstance(one, type) or not (isinstance(one, Steering) or callable(one)):
            raise TypeError(
                "steer takes constraints such as NonNegative(), Total(at_least=...), Reward(function) or a function of "
                f"paths, got {one!r}"
            )
        out.append(one if isinstance(one, Steering) else Reward(one, name=getattr(one, "__name__", "reward")))
    if not out:
        raise ValueError("steer is empty: leave it out, or give a constraint")
    return tuple(out)


class Folded:
    """A network of windows (B, L, K) that is asked about (B, series, L, K); its conditions are (B, series, ...)."""

    def __init__(self, network: Callable[..., Tensor]) -> None:
        self.network = network

    def __call__(self, x: Tensor, label: Tensor, **condition: Tensor) -> Tensor:
        """The answers, in the shape of `x`."""
        told = {name: c.flatten(0, 1) for name, c in condition.items()}
        return self.network(x.flatten(0, 1), label.repeat_interleave(x.shape[1], 0), **told).unflatten(0, x.shape[:2])


def folded(denoiser: Denoiser) -> Denoiser:
    """The denoiser for states (B, series, L, K): the series of one particle are told one by one."""
    other = copy.copy(denoiser)
    other.network = Folded(denoiser.network)
    return other


@dataclass(frozen=True)
class Target:
    """What is asked of the walkers of a run: the reward of :class:`Steered`.

    Attributes:
        steering: constraints and rewards.
        ids: of the series. scale, shift: (series,), y = shift + scale x.
        rows: (B,) the series of each walker; of no meaning where `joint`.
        joint: whether states are (B, series, L, K).
        h: horizon.
    """

    steering: tuple[Steering, ...]
    ids: tuple[Any, ...]
    shift: np.ndarray
    scale: np.ndarray
    rows: np.ndarray
    joint: bool
    h: int

    @classmethod
    def make(cls, steer: Any, ids: tuple[Any, ...], inputs: Inputs, each: int) -> Target:
        """Checked against the series and the horizon; `each` walkers a series (or in all, where joint)."""
        steering = steering_of(steer)
        for one in steering:
            one.check(ids, inputs.h)
        steering = tuple(one.scaled(ids, inputs.scale) if isinstance(one, Aggregate) else one for one in steering)
        joint = any(one.joint for one in steering)
        rows = np.zeros(each, np.int64) if joint else np.repeat(np.arange(len(ids)), each)
        return cls(steering, ids, inputs.shift, inputs.scale, rows, joint, inputs.h)

    def take(self, index: Any) -> Target:
        """The target of the walkers `index`."""
        return replace(self, rows=self.rows[index])

    def data(self, x: Tensor) -> np.ndarray:
        """The horizons in the data's unit: float64 (B, h), or (B, series, h) where joint."""
        y = x[..., x.shape[-2] - self.h :, 0].double().numpy()
        if self.joint:
            return self.shift[:, None] + self.scale[:, None] * y
        return self.shift[self.rows][:, None] + self.scale[self.rows][:, None] * y

    def _asked(self, one: Steering, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Paths and rows as `one` takes them: a constraint on single series sees those of a joint state in a row."""
        if self.joint and not one.joint:
            return y.reshape(-1, self.h), np.tile(np.arange(len(self.ids)), len(y))
        return y, self.rows

    def margins(self, y: np.ndarray, one: Constraint) -> tuple[np.ndarray, np.ndarray]:
        """Margins and sizes (B, m) of a constraint on paths `y` as :meth:`data` gives them."""
        paths, rows = self._asked(one, y)
        g = one.margins(paths, rows, self.ids)
        size = np.broadcast_to(one.sizes(self.scale, rows, self.ids, self.h), g.shape)
        return g.reshape(len(y), -1), size.reshape(len(y), -1)

    def rewards(self, y: np.ndarray) -> np.ndarray:
        """Sum of the rewards (B,)."""
        out = np.zeros(len(y))
        for one in self.steering:
            if isinstance(one, Reward):
                out += one(*self._asked(one, y), self.ids).reshape(len(y), -1).sum(1)
        return out

    def violated(self, y: np.ndarray) -> dict[str, np.ndarray]:
        """For every constraint, by how much paths violate it: (B,), the largest, in its own unit; 0 where it holds.

        What is below 1e-9 of the size is rounding.
        """
        out = {}
        for one in self.steering:
            if isinstance(one, Constraint):
                g, size = self.margins(y, one)
                out[one.label] = np.where(g < -1e-9 * size, -g, 0.0).max(1)
        return out

    def projected(self, y: np.ndarray, one: Constraint) -> np.ndarray:
        """The paths nearest to `y` that satisfy one constraint."""
        paths, rows = self._asked(one, y)
        return one.project(paths, rows, self.ids, self.scale).reshape(y.shape)

    def __call__(self, data: Tensor, step: Step | None) -> np.ndarray:
        """The log-weight (B,) of a data prediction, or of the final samples (`step.new` is there)."""
        y = self.data(data)
        total = self.rewards(y)
        final = step is None or step.new is not None
        width = 0.0
        if step is not None and not final:
            a, s = float(step.schedule.alpha(step.query.t)), float(step.schedule.sigma(step.query.t))
            width = max(s / (a * a + s * s) ** 0.5, 1e-3)
        for one in self.steering:
            if isinstance(one, Constraint):
                g, size = self.margins(y, one)
                if final:
                    short = np.where(g < -1e-9 * size, -g / size, 0.0).sum(1)
                    total -= HARD * (short > 0) + np.minimum(short, HARD)
                else:
                    total += np.maximum(log_ndtr(g / (size * width)), -HARD).sum(1)
        return total


class Steered(FeynmanKac):
    """The core's Feynman-Kac hook with a :class:`Target`, whose rows are cut with the batch."""

    def __init__(self, target: Target, walkers: int, offset: int = 0) -> None:
        super().__init__(target, walkers, final="weights", name="steer", offset=offset)

    def take(self, index: Any) -> Hook:
        """The hook for the walkers `index`."""
        assert isinstance(self.reward, Target)
        start = index.start or 0 if isinstance(index, slice) else 0
        return Steered(self.reward.take(index), self.walkers, self.offset + start)


def chosen(result: Result, target: Target, walkers: int, seed: int) -> tuple[Tensor, dict[str, Any]]:
    """One particle of each group, drawn by its final weight; and what is to be said of the run.

    Returns:
        states (G, ...); log_z (series, or one where joint), estimates of log E[exp(r) [g >= 0]] under the model;
        the mean effective size of the groups at the end.
    """
    assert isinstance(result.x, Tensor)
    log_w = result.state.aux["steer_log_w"].view(-1, walkers)
    u = uniforms(SlotNoise(seed, range(log_w.numel())), log_w.reshape(-1, 1), walkers, 0, "steer/pick")
    index = torch.arange(len(log_w)) * walkers + pick(log_w, u)
    groups = log_mean(log_w)
    per = groups.view(1 if target.joint else len(target.ids), -1)
    hard = any(isinstance(one, Constraint) for one in target.steering)
    z = log_mean(torch.where(per > -0.5 * HARD, per, -torch.inf) if hard else per)
    report = {
        "log_z": [float(v) for v in z],
        "effective_size": float(effective_size(log_w).mean()),
        "walkers": walkers,
    }
    return result.x[index], report


def settle(
    samples: np.ndarray, target: Target, on_violation: OnViolation, report: dict[str, Any]
) -> tuple[np.ndarray, str | None]:
    """Look at the final paths, (series, S, h) in the data's unit, and project them where that was asked for.

    Returns:
        the paths, and what is to be said if some violate.

    Raises:
        ValueError: a projection was asked for that does not exist or does not end.
    """

    if target.joint:
        y, whole = np.swapaxes(samples, 0, 1), target
    else:
        y = samples.reshape(-1, samples.shape[-1])
        whole = replace(target, rows=np.repeat(np.arange(len(samples)), samples.shape[1]))
    off = whole.violated(y)
    bad = np.any([v > 0 for v in off.values()], axis=0) if off else np.zeros(len(y), bool)
    report |= {"constraints": [one.label for one in target.steering], "satisfied": 1.0 - float(bad.mean())}
    report["projected"] = int(bad.sum()) if on_violation == "project" else 0
    moved, message = y, None
    if bad.any():
        if on_violation == "project":
            moved = np.where(bad.reshape(-1, *[1] * (y.ndim - 1)), _project(y, whole), y)
        else:
            message = _message(off, bad, samples, target, report["walkers"])
    good = ~bad if message else np.ones(len(y), bool)
    for one in whole.steering:
        if isinstance(one, Bounds):  # what is counted as rounding above must not leave the bounds
            exact = whole.projected(moved, one)
            moved = np.where(good.reshape(-1, *[1] * (y.ndim - 1)), exact, moved)
    return (np.swapaxes(moved, 0, 1) if target.joint else moved.reshape(samples.shape)), message


def _message(off: dict[str, np.ndarray], bad: np.ndarray, samples: np.ndarray, target: Target, walkers: int) -> str:
    """What is violated, by how many paths and how much, and what to do."""
    worst = [
        f"{label}: {int((v > 0).sum())} paths, by up to {v.max():.4g}" for label, v in off.items() if (v > 0).any()
    ]
    where = ""
    if not target.joint:
        count = bad.reshape(len(samples), -1).sum(1)
        where = f"; most in series {target.ids[int(count.argmax())]!r} ({int(count.max())} of {samples.shape[1]})"
    return (
        f"{int(bad.sum())} of {len(bad)} paths violate a hard constraint, for none of their {walkers} particles "
        f"met it ({'; '.join(worst)}){where}. Take more walkers, loosen the constraint, or ask for "
        "on_violation='project', which moves those paths to the nearest ones that satisfy it"
    )


def _project(y: np.ndarray, target: Target, rounds: int = 2000) -> np.ndarray:
    """Projections onto one constraint after the other, until all hold (they are convex where a projection exists)."""
    out = y.copy()
    for _ in range(rounds):
        off = target.violated(out)
        if not any((v > 0).any() for v in off.values()):
            return out
        for one in target.steering:
            if isinstance(one, Constraint) and (off[one.label] > 0).any():
                out = target.projected(out, one)
    raise ValueError(
        f"projecting onto {', '.join(one.label for one in target.steering)} did not end in {rounds} rounds: do these "
        "constraints leave anything?"
    )


def report_violation(message: str, forecast: Any, on_violation: OnViolation, stacklevel: int = 3) -> None:
    """Raise or warn."""
    if on_violation == "warn":
        warnings.warn(message, stacklevel=stacklevel)
        return
    error = ConstraintError(message + " (the paths are in the error's .forecast)")
    error.forecast = forecast
    raise error
