r"""Soft value-based decoding: draw several candidates for the next state, keep one.

X. Li et al., "Derivative-free guidance in continuous and discrete diffusion models with soft value-based decoding"
(SVDD), 2024. With the soft value v(x_t) = alpha log E[exp(r(x_0) / alpha) | x_t], the law p(x_0) exp(r(x_0) / alpha)/Z
is reached by transitions p(x_s | x_t) exp(v(x_s) / alpha) / exp(v(x_t) / alpha); M candidates approximate them:

    x^1..x^M ~ p(x_s | x_t),    keep x^m with probability softmax_m(v(x^m) / alpha)      (alpha = 0: the argmax).

Two values may stand for v:

- the posterior mean's, v(x_s) = r(D(x_s)), which needs one network evaluation a candidate. It is the prediction that
  the next step needs anyway: M evaluations a step and no more;
- a learned one, v(x_s, s): the M candidates then come from *one* network evaluation, with M noises.

The kept candidate also carries a weight, W <- W (1/M) sum_m exp(v(x^m)/alpha) / exp(v(x_t)/alpha), with v = r at the
end. (x_0, W) is properly weighted: E[W f(x_0)] = E[exp(r/alpha) f(x_0)] *for every M and every value function*, because
choosing m with probability w_m / sum w and multiplying by the mean of w is unbiased. Weighted by W, SVDD is therefore
exact; unweighted, as in the paper, it has a bias that goes with 1/M and with the error of the value function.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..grids import Grid
from ..hooks import Hook, Step
from ..noise import Noise
from ..sample import Result, sample
from ..samplers.base import Sampler
from ..samplers.state import State
from ..spaces import Space
from ..tree import Tree, batch_size, cat, leaves, take
from .feynman_kac import _same_in_group, _same_size
from .resampling import log_mean, pick, uniforms
from .rewards import Reward, evaluate, from_basis, pick_step, repeat

__all__ = ["SVDD", "Value", "svdd"]

Value = Callable[[Tree, Any], Any]
"""A learned value: (state, its time) -> (B,), on the scale of the reward."""


@dataclass(frozen=True)
class _Candidate:
    """The run's noise, told apart by the candidate it is for."""

    noise: Noise
    m: int

    def __call__(self, like: Tensor, draw: int, role: str) -> Tensor:
        return self.noise(like, draw, f"{role}/candidate{self.m}")


@dataclass(eq=False)
class SVDD(Hook):
    """Soft value-based decoding as a hook; `svdd` is the same as a function.

    With the posterior mean's value the batch holds groups of M candidates, next to each other, that share condition and
    reference; after each choice all M are copies of the kept one, and at the end they are equal (take every M-th).
    With a learned value there is one walker a sample.

    Args:
        reward: a function (data, step) -> (B,), see `Reward`.
        candidates: M, at least 2.
        alpha: temperature; 0 keeps the best candidate.
        value: a learned value function (see `Value`), or None for the posterior mean's.
        name: prefix of the accumulators and records.

    Records: ``<name>_t``, ``<name>_value`` (B,) of what was kept, lists over choices.
    ``state.aux["<name>_log_w"]`` holds log W (zero throughout for alpha = 0).

    Raises:
        ValueError: for M < 2, an alpha that is negative or not finite; in a run for samplers without noise, or whose
            noise is added before the network call when the value is learned; rewards and values that are not finite.
    """

    reward: Reward
    candidates: int = 10
    alpha: float = 0.1
    value: Value | None = None
    name: str = "svdd"
    offset: int = field(default=0, repr=False)
    _kept: dict[str, list[Any]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.candidates, bool) or not isinstance(self.candidates, int) or self.candidates < 2:
            raise ValueError(f"a choice needs at least 2 candidates, got candidates={self.candidates!r}")
        if not (math.isfinite(self.alpha) and self.alpha >= 0.0):
            raise ValueError(f"alpha must be finite and >= 0 (0 keeps the best candidate), got {self.alpha}")
        if not callable(self.reward) or not (self.value is None or callable(self.value)):
            raise TypeError("reward and value must be callable")
        self.group = 1 if self.value is not None else self.candidates

    def _names(self) -> tuple[str, str, str]:
        return f"{self.name}_log_w", f"{self.name}_v", f"{self.name}_count"

    def on_start(self, state: State, space: Space) -> State:
        self._kept = {f"{self.name}_t": [], f"{self.name}_value": []}
        size = batch_size(state.x)
        if size % self.group:
            raise ValueError(f"groups of {self.group} candidates do not fill a batch of {size}")
        _same_size(state.x, space, self.group, self.offset)
        if all(name in state.aux for name in self._names()):
            return state
        device = leaves(state.x)[0].device
        zero = torch.zeros(size, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
        log_w, v, count = self._names()
        return replace(state, aux={**state.aux, log_w: zero, v: zero, count: zero.long()})

    # -- the two values --------------------------------------------------------------------------
    def on_prediction(self, step: Step) -> Step:
        log_w, last, count = self._names()
        aux = step.state.aux
        calls = int(aux[count][0])
        if calls == 0:
            self._check(step)
        if self.value is not None:
            self._check_row(step)
            if calls:
                return step
            t = step.sampler.time(step.plan, step.state)
            v = evaluate(lambda x, _: self.value(x, t), step.state.x, step, offset=self.offset, name="value")  # type: ignore[misc]
            scaled = self._scaled(v)
            return replace(
                step, state=replace(step.state, aux={**aux, log_w: scaled, last: scaled, count: aux[count] + 1})
            )
        v = evaluate(self.reward, from_basis(step.schedule, step.pred.data), step, offset=self.offset)
        index, new = self._choose(v, aux, step, calls)
        self._keep(step.query.t, v[index])
        return pick_step(step, index, {**new, count: aux[count] + 1})

    def on_step(self, step: Step) -> State:
        state = super().on_step(step)
        done = step.sampler.done(step.plan, state)
        _, last, count = self._names()
        calls = int(state.aux[count][0])
        if self.value is not None:
            state = self._among_new(step, state, done, calls)
        elif done:
            v = evaluate(self.reward, from_basis(step.schedule, state.x), step, offset=self.offset)
            index, new = self._choose(v, state.aux, step, calls)
            self._keep(step.sampler.time(step.plan, state), v[index])
            state = replace(state, aux={**state.aux, **new}).take(index)
        if done:
            state = replace(state, aux={n: a for n, a in state.aux.items() if n not in (last, count)})
        return state

    def _choose(self, v: Tensor, aux: dict[str, Tensor], step: Step, draw: int) -> tuple[Tensor, dict[str, Tensor]]:
        """One walker for each group of walkers of the batch, and the accumulators, which are equal within a group."""
        log_w, last, _ = self._names()
        m = self.group
        grouped = self._scaled(v).view(-1, m)
        chosen = self._one(v.view(-1, m), step, m, draw)
        index = (torch.arange(len(grouped), device=v.device) * m + chosen).repeat_interleave(m)
        if not self.alpha:
            return index, {}
        gain = (log_mean(grouped) - aux[last].view(-1, m)[:, 0]).repeat_interleave(m)
        return index, {log_w: aux[log_w] + gain, last: self._scaled(v)}

    def _among_new(self, step: Step, first: State, done: bool, calls: int) -> State:
        """M next states from one prediction; the kept one."""
        log_w, last, count = self._names()
        sampler, plan, space = step.sampler, step.plan, step.space
        states = [first]
        if step.z is not None:
            if step.noise is None:
                raise ValueError(
                    "candidates draw from the run's noise, this step carries none: run it through sample()"
                )
            for m in range(1, self.candidates):
                z = sampler.draw(plan, step.state, space, _Candidate(step.noise, m))
                states.append(sampler.advance(plan, step.state, step.query, step.pred, z, space, step.reference))
        size, n = batch_size(first.x), len(states)
        t = sampler.time(plan, first)
        everything = cat([s.x for s in states])
        if done:
            finished = [from_basis(step.schedule, s.x) for s in states]
            parts = [evaluate(self.reward, x, step, offset=self.offset) for x in finished]
            v = torch.stack(parts, 1)
        else:
            times = t.repeat(n, *[1] * (t.ndim - 1)) if isinstance(t, Tensor) and t.ndim else t
            ask = self.value
            v = evaluate(lambda x, _: ask(x, times), everything, step, offset=self.offset, name="value").view(n, size).T  # type: ignore[misc]
        chosen = self._one(v, step, 1, calls)
        state = states[0]
        for m, other in enumerate(states[1:], start=1):
            state = other.where(chosen == m, state)
        kept = v.gather(1, chosen[:, None]).squeeze(1)
        self._keep(t, kept)
        aux = {**first.aux, count: first.aux[count] + 1}
        if self.alpha:
            aux[log_w] = aux[log_w] + log_mean(self._scaled(v)) - aux[last]
            aux[last] = self._scaled(kept)
        return replace(state, aux=aux)

    # -- parts -----------------------------------------------------------------------------------
    def _scaled(self, v: Tensor) -> Tensor:
        return v / self.alpha if self.alpha else torch.zeros_like(v)

    def _one(self, v: Tensor, step: Step, group: int, draw: int) -> Tensor:
        """One column of v (G, M) a row."""
        if not self.alpha:
            return v.argmax(1)
        if step.noise is None:
            raise ValueError("a choice draws from the run's noise, and this step carries none: run it through sample()")
        like = leaves(step.state.x)[0]
        return pick(self._scaled(v), uniforms(step.noise, like, group, draw, f"resample/{self.name}"))

    def _check(self, step: Step) -> None:
        if not step.sampler.stochastic:
            raise ValueError(
                f"{step.sampler!r} is deterministic: all candidates would be equal. Use a stochastic sampler such as "
                "DDPM() or DDIM(eta=1.0), or search for a start with zero_order_search"
            )
        if self.group > 1:
            _same_in_group(step.reference, self.group, self.offset)

    def _check_row(self, step: Step) -> None:
        row = getattr(step.plan, "row", None)
        i = step.state.i
        if row is not None and isinstance(i, int) and "z" in row(i, step.state.age).query:
            raise ValueError(
                f"{step.sampler!r} adds its noise before the network call: its candidates need a call each. Leave out "
                "value= (the posterior mean's value does that), or use DDPM() or DDIM(eta=1.0)"
            )

    def _keep(self, t: Any, v: Tensor) -> None:
        self._kept[f"{self.name}_t"].append(float(t.reshape(-1)[0]) if isinstance(t, Tensor) else t)
        self._kept[f"{self.name}_value"].append(v.clone())

    def records(self) -> dict[str, Any]:
        return dict(self._kept)

    def take(self, index: Any) -> Hook:
        start = index.start or 0 if isinstance(index, slice) else 0
        return replace(self, offset=self.offset + start, _kept={})


def svdd(
    denoiser: Any,
    sampler: Sampler,
    grid: Grid | None = None,
    *,
    reward: Reward,
    candidates: int = 10,
    alpha: float = 0.1,
    value: Value | None = None,
    shape: Any = None,
    x: Tree | None = None,
    condition: dict[str, Any] | None = None,
    reference: Tree | None = None,
    space: Space | None = None,
    hooks: tuple[Hook, ...] = (),
    **options: Any,
) -> Result:
    """Sample with soft value-based decoding.

    Args:
        denoiser, sampler, grid: as for `sample`; the sampler must be stochastic.
        reward, candidates, alpha, value: see `SVDD`. With the posterior mean's value and `shape`, the start is chosen
            among M draws of the prior as well (at x_T, by the value of its data prediction).
        shape, x, condition, reference, space: of the B samples to return; repeated for the candidates here.
        hooks: further hooks; they see the B M candidates.
        options: further arguments of `sample` (steps, seed, max_batch, dtype, ...).

    Returns:
        A `Result` of B samples. `state.aux["svdd_log_w"]` is log W of each; `records["svdd_evaluations"]` the network
        evaluations a sample (M times the calls with the posterior mean's value, else the calls).
    """
    hook = SVDD(reward, candidates, alpha, value)
    m = hook.group
    if m > 1:
        if (shape is None) == (x is None):
            raise ValueError("give one of shape= and x=")
        size = batch_size(x) if x is not None else _first(shape)
        x = None if x is None else repeat(x, m)
        shape = _times(shape, m)
        reference = None if reference is None else repeat(reference, m)
        condition = repeat_condition(condition, size, m)
        space = space or denoiser.space
        space = None if space is None else space.take(torch.arange(size).repeat_interleave(m))
        denoiser = denoiser if space is None else denoiser.on(space)
    result = sample(
        denoiser, sampler, grid, x=x, shape=shape, condition=condition, reference=reference, space=space,
        hooks=(*hooks, hook), **options,
    )  # fmt: skip
    records = {**result.records, "svdd_evaluations": result.calls * m}
    if m == 1:
        return replace(result, records=records)
    one = slice(None, None, m)
    records["svdd_value"] = [v[one] for v in records["svdd_value"]]
    state = result.state.take(one)
    return Result(take(result.x, one), state, records, result.calls)


def repeat_condition(condition: dict[str, Any] | None, size: int, walkers: int) -> dict[str, Any] | None:
    """The condition of B samples for their B K walkers: tensors whose first dimension is B are repeated."""
    return condition and {
        name: repeat(v, walkers) if isinstance(v, Tensor) and v.ndim and v.shape[0] == size else v
        for name, v in condition.items()
    }


def _first(shape: Any) -> int:
    return int(next(iter(shape.values()))[0] if isinstance(shape, dict) else shape[0])


def _times(shape: Any, walkers: int) -> Any:
    """The shape of a batch `walkers` times as large."""
    if shape is None:
        return None
    if isinstance(shape, dict):
        return {name: (s[0] * walkers, *s[1:]) for name, s in shape.items()}
    return (shape[0] * walkers, *shape[1:])
