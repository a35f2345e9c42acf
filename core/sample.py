"""One loop for all samplers.

    while not done:  z = draw;  q = query;  pred = denoiser(q);  hooks;  state = advance;  hooks

Everything that a run is lives in its `State`. Noise is keyed by (seed, sample index, draw, role), so
a batch that does not fit into memory is cut (`max_batch`) without changing a number. Finiteness is
tested once, at the end; only when it fails is the run repeated with a test at every call, to name
the step and time at which it broke. A run holds x, the registers that its plan declares, and its start
(which the repetition needs), beside what a network call takes.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from .denoisers import Prediction, check_condition
from .grids import Grid, default
from .hooks import Hook, Step
from .noise import Noise, SlotNoise, family_noise
from .samplers.base import LinearSampler, Sampler
from .samplers.state import State
from .spaces import Space, default_space, projects
from .tree import Tree, batch_size, cat, leaves, take, tree_map

__all__ = ["Result", "prior", "prior_from", "sample"]


@dataclass(frozen=True)
class Result:
    """What a run returns.

    Attributes:
        x: the samples (B, ...).
        state: the full state at the end; inversion and continuation start from it. Under a schedule with a basis
            (spectral) its x lives there, while `x` above is in the data's own coordinates.
        records: what hooks collected.
        calls: network calls (of one batch; chunks of one run count once).
    """

    x: Tree
    state: State
    records: dict[str, Any] = field(default_factory=dict)
    calls: int = 0


def prior(denoiser: Any, like: Tree, t: float, noise: Noise, space: Space, reference: Tree | None = None) -> Tree:
    """States at time `t` before any data are known: beta(t) y + std n, with the schedule's noise family.

    std is the schedule's `prior_std` at `t`: 1 for variance-preserving schedules, else sigma(t). Tokens come from the
    law that their process has at t = 1.
    """
    if denoiser.schedule.family == "categorical":
        return denoiser.prior(like, t, noise, space)
    return prior_from(denoiser, family_noise(denoiser.schedule, space, noise, like, 0, "prior"), t, reference)


def prior_from(denoiser: Any, noise: Tree, t: float, reference: Tree | None = None) -> Tree:
    """The `prior` that given noise of the schedule's family makes."""

    def leaf(schedule: Any, n: Tensor, y: Tensor | None) -> Tensor:
        std, beta = schedule.prior_std(t), schedule.beta(t)
        if isinstance(std, Tensor):
            std = std.to(n)
        x = n * std
        return x if y is None else x + (beta if isinstance(beta, float) else beta.to(y)) * y

    return denoiser.leafwise(leaf, noise, reference)


def sample(
    denoiser: Any,
    sampler: Sampler,
    grid: Grid | None = None,
    *,
    steps: int | None = None,
    x: Tree | None = None,
    shape: Sequence[int] | dict[str, Sequence[int]] | None = None,
    state: State | None = None,
    space: Space | None = None,
    reference: Tree | None = None,
    condition: dict[str, Any] | None = None,
    hooks: Sequence[Hook] = (),
    seed: int | None = None,
    noise: Callable[[range], Noise] | Noise | None = None,
    slots: range | None = None,
    max_batch: int | None = None,
    until: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    progress: bool = False,
) -> Result:
    """Walk from noise to data along a grid of times.

    Args:
        denoiser: a `Denoiser`, or guidance around one.
        sampler: the method, for example `DPMSolverPP(order=2)`.
        grid: times from noise to data (or back, to encode). Default: `grids.default(schedule, steps)`.
        steps: number of steps of the default grid; give either `grid` or `steps`.
        x: states at the first time of the grid, (B, ...); else
        shape: shape of the samples, batch first (a dictionary for product states), and the prior is
            drawn; or
        state: a state that an earlier run returned, which goes on from where it stopped.
        space: where the states live; default: the denoiser's, else plain tensors.
        reference: the known y of restoration schedules, of the shape of x.
        condition: keyword arguments of the network. Tensors whose first dimension is B are cut with
            the batch.
        hooks: run in order at every call.
        seed: any integer; needed when something is drawn, unless `noise` is given.
        noise: a `Noise`, or a function from the slots (a range) to one; replaces `seed`.
        slots: indices of the samples in a larger run; default range(B).
        max_batch: largest batch that the network is given.
        until: stop before this row of the plan; the returned state goes on with `state=`.
        dtype: float32 or float64 states; float16 or bfloat16 run the *network* in that type
            under float32 states. Tokens are integers whatever it says.
        device: of the samples that are drawn.
        progress: show a progress bar.

    Returns:
        A `Result`.

    Raises:
        TypeError, ValueError: for arguments that do not fit together; the message says which.
        FloatingPointError: if samples are not finite; the message names the call and its time.
    """
    if not isinstance(sampler, Sampler):
        raise TypeError(f"sampler must be an instance such as DDIM(), got {sampler!r}")
    if until is not None and not (isinstance(until, int) and until >= 0):
        raise ValueError(f"until must be the index of a row, an integer >= 0, got {until!r}")
    if not hasattr(denoiser, "schedule"):
        hint = "; pass its .denoiser" if hasattr(denoiser, "denoiser") else ""
        raise TypeError(f"denoiser must be a Denoiser or guidance around one, got {type(denoiser).__name__}{hint}")
    if condition is not None and not isinstance(condition, dict):
        raise TypeError(f"condition is a dictionary of the network's arguments, got {type(condition).__name__}")
    schedule = denoiser.schedule
    basis = schedule.basis
    half = dtype in (torch.float16, torch.bfloat16)
    if half:
        denoiser = denoiser.in_half(dtype)
    elif dtype not in (torch.float32, torch.float64):
        raise TypeError(f"dtype must be a floating type, got {dtype}")
    real = torch.float32 if half else dtype
    kind = torch.long if schedule.family == "categorical" else real  # of the states

    if grid is None and steps is None and sampler.adaptive:
        steps = 1  # only the ends of the grid count
    grid = _grid(schedule, grid, steps)
    given = [name for name, value in (("x", x), ("shape", shape), ("state", state)) if value is not None]
    if len(given) != 1:
        raise ValueError(f"give exactly one of x=, shape= and state=, got {' and '.join(given) or 'none'}")
    begun = state is not None
    if state is None:
        like = x if x is not None else _empty(shape, kind, device)
        state = State(_cast(like, kind) if kind != torch.long else like)
    size = batch_size(state.x)
    if size == 0:
        raise ValueError("the batch is empty")
    _check_leaves(schedule, state.x)
    if kind == torch.long:
        schedule.check(state.x)
        state = replace(state, x=_cast(state.x, kind))
    space = space or denoiser.space or default_space(state.x)
    space.check(state.x)
    if reference is not None:
        space.check(reference)
        reference = _cast(reference, real)
        _same_shape(reference, state.x, "reference")
        reference = space.project(reference if basis is None else basis.forward(reference))
    elif _needs_reference(schedule, grid):
        raise ValueError(f"{schedule!r} needs reference=, the known y (degraded data) of the shape of the samples")
    sampler.check(schedule, space)
    plan = sampler.plan(schedule, grid)
    slots = range(size) if slots is None else slots
    if len(slots) != size:
        raise ValueError(f"slots names {len(slots)} samples, the batch holds {size}")
    keyed = _keyed(noise, seed, needed=sampler.stochastic or shape is not None)
    check_condition(condition or {})
    if isinstance(hooks, Hook):
        raise TypeError(f"hooks must be a sequence of Hook, got {hooks!r}; write hooks=[...]")
    for hook in hooks:
        if not isinstance(hook, Hook):
            raise TypeError(f"hooks must be a sequence of Hook, got {hook!r}")
    group = max([1, *(hook.group for hook in hooks)])
    chunks = _chunks(size, max_batch, group)

    total = sampler.total(plan)
    bar = _bar(None if total is None else (min(total, until) if until else total) * len(chunks), progress)
    results = []
    with bar:
        for chunk in chunks:
            part = slice(chunk.start, chunk.stop)
            whole = len(chunks) == 1
            run = _Run(
                denoiser=denoiser.on(space if whole else space.take(part)) if projects(space) else denoiser,
                sampler=sampler,
                plan=plan,
                space=space if whole else space.take(part),
                reference=reference if whole or reference is None else take(reference, part),
                condition=_cut(condition or {}, part, size, whole),
                hooks=[hook if whole else hook.take(part) for hook in hooks],
                noise=keyed(slots[part]),
                until=until,
                group=group,
            )
            first = state if whole else state.take(part)
            if not begun:
                if shape is not None:
                    first = State(prior(denoiser, first.x, grid.times[0], run.noise, run.space, run.reference))
                elif basis is not None:
                    first = State(basis.forward(first.x))
                first = sampler.start(plan, run.space.project(first.x), run.space)
            results.append(run(first, bar))
    result = results[0] if len(results) == 1 else _join(results)
    return result if basis is None else replace(result, x=basis.inverse(result.x))


@dataclass
class _Run:
    """One batch from its first state to its last."""

    denoiser: Any
    sampler: Sampler
    plan: Any
    space: Space
    reference: Tree | None
    condition: dict[str, Any]
    hooks: list[Hook]
    noise: Noise
    until: int | None
    group: int

    def __call__(self, state: State, bar: Any) -> Result:
        if isinstance(self.sampler, LinearSampler) and hasattr(self.denoiser, "warm"):
            self.plan.warm(leaves(state.x)[0].dtype)
            self.denoiser.warm(self.plan.asked, state.x)
        needs_grad = self.denoiser.needs_grad or any(hook.needs_grad for hook in self.hooks)
        with torch.no_grad() if needs_grad else torch.inference_mode():
            try:
                new, calls = self._loop(state, bar, None)
            except FloatingPointError:
                if self.denoiser.schedule.family == "categorical":  # a draw from no distribution: say when it came up
                    self._loop(state, _bar(None, False), _test)
                raise
            if not _finite(new):
                self._loop(state, _bar(None, False), _test)
                raise FloatingPointError("the samples are not finite, though every single call was when repeated")
        # tensors made in inference mode cannot take part in autograd later: hand out normal ones
        if not needs_grad:
            new = _normal(new)
        records: dict[str, Any] = {}
        for hook in self.hooks:
            records.update(hook.records() if needs_grad else {k: _normal_value(v) for k, v in hook.records().items()})
        return Result(new.x, new, records, calls)

    def _loop(self, state: State, bar: Any, test: Callable[..., None] | None) -> tuple[State, int]:
        sampler, plan, denoiser, space, noise = self.sampler, self.plan, self.denoiser, self.space, self.noise
        reference, condition, until = self.reference, self.condition, self.until
        draw, query, advance, done = sampler.draw, sampler.query, sampler.advance, sampler.done
        asks = [h for h in self.hooks if type(h).on_query is not Hook.on_query]
        looks = [h for h in self.hooks if type(h).on_prediction is not Hook.on_prediction]
        steps = [h for h in self.hooks if type(h).on_step is not Hook.on_step]
        hooked = bool(looks or steps)
        for hook in self.hooks:
            state = hook.on_start(state, space)
        calls, update = 0, bar.update if bar.shown else None
        if not (self.hooks or test) and isinstance(sampler, LinearSampler) and self._unseen(state):
            stop = max(len(plan.rows) if until is None else min(until, len(plan.rows)), state.i)

            def ask(x: Tree, t: float) -> Prediction:
                pred = denoiser(x, t, reference=reference, **condition)
                if update is not None:
                    update(1)
                return pred

            return sampler.walk(plan, state, stop, ask, space, noise, reference), stop - state.i
        while not done(plan, state) and (until is None or _before(state.i, until)):
            z = draw(plan, state, space, noise)
            q = query(plan, state, z, space, reference)
            for hook in asks:
                q = hook.on_query(q, space)
            pred = denoiser(q.x, q.t, reference=reference, label=q.label, state=state, **condition)
            if test is not None:
                test(pred, q.t, calls)
            if hooked:
                step = Step(state, q, pred, z, reference, denoiser.schedule, space, sampler, plan, calls, None, noise)
                for hook in looks:
                    step = hook.on_prediction(step)
                state, q, pred, z = step.state, step.query, step.pred, step.z
                new = advance(plan, state, q, pred, z, space, reference)
                for hook in steps:
                    new = hook.on_step(replace(step, new=new))
                state = new
                del step, new
            else:
                state = advance(plan, state, q, pred, z, space, reference)
            del q, pred, z  # nothing but the state lives through the next call
            calls += 1
            if update is not None:
                update(1)
        return state, calls

    def _unseen(self, state: State) -> bool:
        """Whether nobody looks at the states in between, and they are plain numbers times plain tensors."""
        return state.i.__class__ is int and self.space.plain and self.plan.scalar and not self.denoiser.needs_state


def _test(pred: Any, t: Any, call: int) -> None:
    where = f"t={t:.6g}" if isinstance(t, float) else f"t from {t.min().item():.6g} to {t.max().item():.6g}"
    categorical = pred.denoiser.schedule.family == "categorical"  # an impossible category has the logit -inf
    for name, tree in (("state", pred.x), ("network's output", pred.raw)):
        for leaf in leaves(tree):
            sound = torch.isfinite(leaf) | torch.isneginf(leaf) if categorical else torch.isfinite(leaf)
            if not bool(sound.all()):
                bad = (~sound.reshape(leaf.shape[0], -1).all(1)).nonzero().flatten().tolist()
                raise FloatingPointError(
                    f"the {name} stopped being finite at call {call} ({where}), first in sample {bad[0]} of "
                    f"{leaf.shape[0]}; check the network at that time, lower the guidance, or use more steps"
                )


def _finite(state: State) -> bool:
    return all(bool(torch.isfinite(leaf).all()) for leaf in leaves(state.x))


def _before(i: Any, until: int) -> bool:
    return i < until if i.__class__ is int else bool((i < until).any())


def _normal(state: State) -> State:
    value = _normal_value
    return State(
        value(state.x),
        value(state.i),
        value(state.age),
        value(state.memory),
        value(state.aux),
        value(state.t),
        state.draws,
    )


def _normal_value(v: Any) -> Any:
    if isinstance(v, dict):
        return {name: _normal_value(leaf) for name, leaf in v.items()}
    if isinstance(v, list):
        return [_normal_value(entry) for entry in v]
    return v.clone() if isinstance(v, Tensor) and v.is_inference() else v


def _grid(schedule: Any, grid: Grid | None, steps: int | None) -> Grid:
    if grid is None:
        if steps is None:
            raise ValueError("give grid= or steps=")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        return default(schedule, steps)
    if not isinstance(grid, Grid):
        raise TypeError(f"grid must be a Grid, such as grids.explicit(times), got {type(grid).__name__}")
    if steps is not None and steps != len(grid.times) - 1:
        raise ValueError(f"grid has {len(grid.times) - 1} steps, steps={steps} was given as well; give one of them")
    return grid


def _empty(shape: Any, dtype: torch.dtype, device: Any) -> Tree:
    """Something of the right shape, type and device that holds no memory."""
    if isinstance(shape, dict):
        return {name: _empty(s, dtype, device) for name, s in shape.items()}
    return torch.zeros((), dtype=dtype, device=device).expand(tuple(shape))


def _cast(x: Tree, dtype: torch.dtype) -> Tree:
    return tree_map(lambda leaf: leaf.to(dtype) if isinstance(leaf, Tensor) else leaf, x)


def _check_leaves(schedule: Any, x: Tree) -> None:
    names = getattr(schedule, "leaves", None)
    if names is None:
        return
    if not isinstance(x, dict) or set(x) != set(names):
        came = f"leaves {sorted(x)}" if isinstance(x, dict) else "one tensor"
        raise ValueError(f"{schedule!r} needs states with the leaves {sorted(names)}, got {came}")


def _same_shape(a: Tree, b: Tree, name: str) -> None:
    for left, right in zip(leaves(a), leaves(b), strict=True):
        if left.shape != right.shape:
            raise ValueError(f"{name} must have the shape of the samples {tuple(right.shape)}, got {tuple(left.shape)}")


def _needs_reference(schedule: Any, grid: Grid) -> bool:
    leaf_schedules = schedule.leaves.values() if hasattr(schedule, "leaves") else [schedule]
    for one in leaf_schedules:
        for t in (grid.times[0], grid.times[-1]):
            beta = one.beta(t)
            if (beta != 0.0) if isinstance(beta, float) else bool((beta != 0).any()):
                return True
    return False


def _keyed(noise: Any, seed: Any, needed: bool) -> Callable[[range], Noise]:
    if noise is not None:
        if seed is not None:
            raise ValueError("give seed= or noise=, not both")
        needed_by = inspect.signature(noise).parameters.values()
        by_slots = (
            sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in needed_by) == 1
        )
        return noise if by_slots else lambda slots: noise
    if seed is None:
        if needed:
            raise ValueError("this run draws random numbers: give seed= (any integer)")
        return lambda slots: SlotNoise(0, slots)
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise TypeError(f"seed must be an integer, got {type(seed).__name__}")
    return lambda slots: SlotNoise(int(seed), slots)


def _chunks(size: int, max_batch: int | None, group: int) -> list[range]:
    if size % group:
        raise ValueError(f"a hook needs groups of {group} walkers, the batch of {size} is not a multiple of it")
    if max_batch is None or max_batch >= size:
        return [range(size)]
    if max_batch < group:
        raise ValueError(f"max_batch={max_batch} is smaller than a group of {group} walkers")
    width = max_batch - max_batch % group
    return [range(k, min(k + width, size)) for k in range(0, size, width)]


def _cut(condition: dict[str, Any], part: slice, size: int, whole: bool) -> dict[str, Any]:
    def cut(v: Any) -> Any:
        if isinstance(v, dict):
            return {name: cut(entry) for name, entry in v.items()}
        return v[part] if isinstance(v, Tensor) and v.ndim and v.shape[0] == size else v

    return condition if whole else {name: cut(v) for name, v in condition.items()}


def _join(results: list[Result]) -> Result:
    states = [r.state for r in results]
    first = states[0]

    def stack(values: list[Any]) -> Any:
        return torch.cat(values) if isinstance(values[0], Tensor) and values[0].ndim else values[0]

    state = State(
        cat([s.x for s in states]),
        stack([s.i for s in states]),
        stack([s.age for s in states]),
        {name: cat([s.memory[name] for s in states]) for name in first.memory},
        {name: torch.cat([s.aux[name] for s in states]) for name in first.aux},
        stack([s.t for s in states]),
        first.draws,
    )
    records = {name: _join_records([r.records[name] for r in results]) for name in results[0].records}
    return Result(state.x, state, records, max(r.calls for r in results))


def _join_records(values: list[Any]) -> Any:
    """Tensors and trees are put together again; of lists (one entry a call) each entry; of all else the first.

    Chunks of adaptive runs need different numbers of calls: those that are done keep their last entry.
    """
    first = values[0]
    if isinstance(first, list):
        calls = max(len(v) for v in values)
        return [_join_records([v[min(k, len(v) - 1)] for v in values if v]) for k in range(calls)]
    if isinstance(first, dict):
        return {name: _join_records([v[name] for v in values]) for name in first}
    return torch.cat(values) if isinstance(first, Tensor) and first.ndim else first


class _NoBar(contextlib.nullcontext[Any]):
    total = None
    shown = False

    def update(self, n: int) -> None:
        return None


def _bar(total: int | None, progress: bool) -> Any:
    if not progress:
        return _NoBar()
    from tqdm.auto import tqdm

    bar = tqdm(total=total, desc="sampling", unit="call")
    bar.shown = True
    return bar
