r"""Feynman-Kac steering: many walkers, weighted by what they promise and resampled.

R. Singhal et al., "A general framework for inference-time scaling and steering of diffusion models", 2025: a sampler
with transitions p(x_{k+1} | x_k), k = 0..N-1, is a proposal; potentials G_k of the path so far turn its law p into

    p_G(x_0..x_N)  =  p(x_0..x_N) prod_k G_k / Z,        G_N = exp(lambda r(x_N)) / prod_{k<N} G_k,

so that whatever the potentials are on the way, the last one makes the product telescope to exp(lambda r(x_N)). With
r_k = r(D(x_k)), the reward of the data prediction:

    difference   G_k = exp(lambda (r_k - r_{k-1}))       (r_{-1} = 0)
    max          G_k = exp(lambda max_{j<=k} r_j)
    sum          G_k = exp(lambda sum_{j<=k} r_j)

The last two tilt further on the way than the target does and take it back at the end, all the more the longer the run:
with a large lambda few walkers are left by then. Weigh them with a smaller one, or with `every`.

K walkers carry log-weights, to which log G_k is added at every call. Only when the effective size of a group falls
below `threshold` K is the group resampled; otherwise the weights stay and go on growing (they are never reset without
resampling). Resampling hands every copy the mean weight of its group: the mean of exp(log-weight) over a group is
at all times an unbiased estimate of the normaliser up to there, E[exp(lambda r)] in the end, and groups may be pooled.

What is exact: with K to infinity the weighted walkers have the law p(x_N) exp(lambda r(x_N)) / Z, where p is the law of
the *sampler's* output (its discretisation error included, guidance included), for every potential and threshold. For a
finite K sum W f / sum W is consistent with a bias of order 1/K, and the mean weight is unbiased.

Deterministic samplers: copies of a walker would stay equal for ever. Nothing is resampled on the way and the reward is
not even asked; the weights at the end, exp(lambda r(x_N)), are importance weights of K independent samples, exact in
the same sense, but without the help of the intermediate rewards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ..hooks import Hook, Step
from ..samplers.state import State
from ..spaces import Space
from ..tree import Tree, batch_size, leaves
from .resampling import effective_size, log_mean, systematic, uniforms
from .rewards import Reward, evaluate, from_basis, pick_step

__all__ = ["FeynmanKac"]


@dataclass(eq=False)
class FeynmanKac(Hook):
    """Feynman-Kac steering of groups of K walkers (see the module).

    The batch is G groups of K walkers next to each other; walkers of one group share their condition, reference and
    mask (`repeat`). All accumulators live in `State.aux`, so a run may be stopped (`until`) and continued.

    Args:
        reward: a function (data, step) -> (B,), see `Reward`; asked about (B, ...) at once.
        walkers: K, at least 2.
        lam: lambda, how strongly the reward tilts; finite.
        potential: "difference", "max" or "sum". The target is the same, the path to it is not.
        threshold: a group is resampled when its effective size falls below this fraction of K; 0 never, 1 always
            (unless the weights are equal).
        every: ask the reward at every so many calls.
        final: "resample" returns equally weighted walkers; "weights" leaves x as it is, to be used with
            `state.aux["<name>_log_w"]`.
        name: prefix of the accumulators and records, for several hooks in one run.

    Records, lists with one entry a time the reward was asked (the last: on the final samples):
        ``<name>_t`` times, ``<name>_reward`` (B,), ``<name>_log_w`` (B,) before resampling, ``<name>_ess`` (G,),
        ``<name>_ancestors`` (B,), from which walker of its group (0..K-1) each walker goes on.

    Raises:
        ValueError: for fewer than 2 walkers, a lambda that is not finite, a threshold outside [0, 1]; in a run for
            rewards that are not finite or not of shape (B,), and groups whose walkers differ in reference or size.
    """

    reward: Reward
    walkers: int
    lam: float = 1.0
    potential: Literal["difference", "max", "sum"] = "difference"
    threshold: float = 0.5
    every: int = 1
    final: Literal["resample", "weights"] = "resample"
    name: str = "fk"
    offset: int = field(default=0, repr=False)
    _kept: dict[str, list[Any]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.walkers, bool) or not isinstance(self.walkers, int) or self.walkers < 2:
            raise ValueError(f"steering needs at least 2 walkers a group, got walkers={self.walkers!r}")
        if not math.isfinite(self.lam):
            raise ValueError(f"lam must be finite, got {self.lam}")
        if self.potential not in ("difference", "max", "sum"):
            raise ValueError(f'potential must be "difference", "max" or "sum", got {self.potential!r}')
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"threshold is a fraction of the walkers in [0, 1], got {self.threshold}")
        if self.every < 1:
            raise ValueError(f"every must be at least 1, got {self.every}")
        if self.final not in ("resample", "weights"):
            raise ValueError(f'final must be "resample" or "weights", got {self.final!r}')
        if not callable(self.reward):
            raise TypeError(f"the reward must be callable, got {type(self.reward).__name__}")
        self.group = self.walkers

    def _names(self) -> tuple[str, str, str, str]:
        return f"{self.name}_log_w", f"{self.name}_log_g", f"{self.name}_r", f"{self.name}_count"

    def on_start(self, state: State, space: Space) -> State:
        """Zero accumulators, unless the state comes from a run that was stopped on the way."""
        self._kept = {f"{self.name}_{what}": [] for what in ("t", "reward", "log_w", "ess", "ancestors")}
        size = batch_size(state.x)
        if size % self.walkers:
            raise ValueError(f"groups of {self.walkers} walkers do not fill a batch of {size}")
        _same_size(state.x, space, self.walkers, self.offset)
        if all(name in state.aux for name in self._names()):
            return state
        device = leaves(state.x)[0].device
        zero = torch.zeros(size, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
        log_w, log_g, r, count = self._names()
        return replace(state, aux={**state.aux, log_w: zero, log_g: zero, r: zero, count: zero.long()})

    def on_prediction(self, step: Step) -> Step:
        if not step.sampler.stochastic:
            return step
        log_w, log_g, last, count = self._names()
        aux = step.state.aux
        calls = int(aux[count][0])
        if calls == 0:
            _same_in_group(step.reference, self.walkers, self.offset)
        new = {count: aux[count] + 1}
        if calls % self.every:
            return replace(step, state=replace(step.state, aux={**aux, **new}))
        r = evaluate(self.reward, from_basis(step.schedule, step.pred.data), step, offset=self.offset)
        log_potential, new[last] = self._potential(r, aux[last], calls == 0)
        new[log_w] = aux[log_w] + log_potential
        new[log_g] = aux[log_g] + log_potential
        weights = new[log_w].view(-1, self.walkers)
        size = effective_size(weights)
        act = size < self.threshold * self.walkers
        index, ancestors = self._ancestors(weights, act, step, calls)
        self._keep(step, r, new[log_w], size, ancestors)
        if not bool(act.any()):
            return replace(step, state=replace(step.state, aux={**aux, **new}))
        mean = log_mean(weights)[:, None].expand_as(weights)
        new[log_w] = torch.where(act[:, None], mean, weights).reshape(-1)
        return _resampled(step, index, {**aux, **new}, log_w)

    def on_step(self, step: Step) -> State:
        state = super().on_step(step)
        if not step.sampler.done(step.plan, state):
            return state
        log_w, log_g, last, count = self._names()
        if log_w not in state.aux:
            raise ValueError(f"{step.sampler!r} did not hand on State.aux: the log-weights are lost")
        r = evaluate(self.reward, from_basis(step.schedule, state.x), step, offset=self.offset)
        total = state.aux[log_w] + self.lam * r - state.aux[log_g]
        weights = total.view(-1, self.walkers)
        act = torch.full((len(weights),), self.final == "resample", device=total.device)
        index, ancestors = self._ancestors(weights, act, step, int(state.aux[count][0]))
        self._keep(step, r, total, effective_size(weights), ancestors)
        aux = {name: value for name, value in state.aux.items() if name not in (log_g, last, count)}
        if self.final == "weights":
            return replace(state, aux={**aux, log_w: total})
        mean = log_mean(weights).repeat_interleave(self.walkers)
        state = replace(state, aux=aux).take(index)
        return replace(state, aux={**state.aux, log_w: mean})

    def _potential(self, r: Tensor, last: Tensor, first: bool) -> tuple[Tensor, Tensor]:
        """log G_k and what the next one needs to know."""
        if self.potential == "difference":
            return self.lam * (r - last), r
        if self.potential == "max":
            best = r if first else torch.maximum(r, last)
            return self.lam * best, best
        return self.lam * (last + r), last + r

    def _ancestors(self, weights: Tensor, act: Tensor, step: Step, draw: int) -> tuple[Tensor, Tensor]:
        """Walkers of the batch to go on with, and their places in their groups; groups that do not `act` stay."""
        groups, k = weights.shape
        stay = torch.arange(k, device=weights.device).expand(groups, k)
        if bool(act.any()):
            if step.noise is None:
                raise ValueError(
                    "resampling draws from the run's noise, this step carries none: run it through sample()"
                )
            u = uniforms(step.noise, weights.reshape(-1, 1), k, draw, f"resample/{self.name}")
            stay = torch.where(act[:, None], systematic(weights, u), stay)
        base = torch.arange(groups, device=weights.device)[:, None] * k
        return (base + stay).reshape(-1), stay.reshape(-1)

    def _keep(self, step: Step, r: Tensor, log_w: Tensor, size: Tensor, ancestors: Tensor) -> None:
        t = step.query.t if step.new is None else step.sampler.time(step.plan, step.new)
        values = (float(t.reshape(-1)[0]) if isinstance(t, Tensor) else t, r, log_w, size, ancestors)
        for what, value in zip(("t", "reward", "log_w", "ess", "ancestors"), values, strict=True):
            self._kept[f"{self.name}_{what}"].append(value.clone() if isinstance(value, Tensor) else value)

    def records(self) -> dict[str, Any]:
        return dict(self._kept)

    def take(self, index: Any) -> Hook:
        start = index.start or 0 if isinstance(index, slice) else 0
        return replace(self, offset=self.offset + start, _kept={})


def _resampled(step: Step, index: Tensor, aux: dict[str, Tensor], log_w: str) -> Step:
    """The resampled step; the log-weights belong to the places, all else to the walkers."""
    weights = aux[log_w]
    step = pick_step(step, index, aux)
    state = replace(step.state, aux={**step.state.aux, log_w: weights})
    return replace(step, state=state, query=step.query._replace(state=state))


def _same_size(x: Tree, space: Space, walkers: int, offset: int) -> None:
    """Refuse groups whose walkers have different numbers of elements."""
    try:
        ndof = space.ndof(x).view(-1, walkers)
    except NotImplementedError:
        return
    bad = (ndof != ndof[:, :1]).any(1).nonzero().flatten().tolist()
    if bad:
        raise ValueError(
            f"the walkers of group {offset // walkers + bad[0]} have different masks (degrees of freedom "
            f"{ndof[bad[0]].tolist()}): the {walkers} walkers of a group follow each other and share mask, condition "
            "and reference"
        )


def _same_in_group(reference: Tree | None, walkers: int, offset: int) -> None:
    """Refuse groups whose walkers have different references."""
    for leaf in [] if reference is None else leaves(reference):
        grouped = leaf.reshape(-1, walkers, *leaf.shape[1:])
        bad = (grouped != grouped[:, :1]).flatten(1).any(1).nonzero().flatten().tolist()
        if bad:
            raise ValueError(
                f"the walkers of group {offset // walkers + bad[0]} have different references: repeat each reference "
                f"for its {walkers} walkers, next to each other (core.steering.repeat)"
            )
