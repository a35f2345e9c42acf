r"""The DPM-Encoder and unpaired translation.

C. H. Wu and F. De la Torre, "A latent space of stochastic diffusion models for zero-shot image editing and
guidance" (CycleDiffusion), ICCV 2023. A stochastic sampler x' = mu(x, t) + sd z is a deterministic function of its
start and its noises. Given data x0, draw a path from the forward posterior,

    x_T ~ q(x_T | x0),    x' ~ q(x' | x, x0)        (the sampler's own step, with x0 as the data prediction)

and read off the noises that make the sampler walk it: z = (x' - mu(x, t))/sd. The code (x_T, z_1, z_2, ...) decodes
to x0 exactly with the model that encoded it, and to the corresponding sample of another one: what two models have in
common is kept, so that models of two domains translate between them without pairs.

Steps without noise have no z. With eta = 0 there is none at all, and x_T alone does not reproduce x0: refused. A
last step to sigma = 0 adds no noise either; what the model misses there is kept as `residual` and added back after
decoding. The path is followed through the values that decoding computes, so that rounding does not pile up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .. import grids
from ..denoisers import Prediction
from ..grids import Grid, _least
from ..guidance.base import innermost
from ..hooks import Hook, Step
from ..noise import Recorded, SlotNoise
from ..sample import _same_shape, sample
from ..samplers.base import LinearSampler, Sampler
from ..samplers.plan import Plan, Row
from ..samplers.state import State
from ..spaces import Product, Space, default_space, expand, projects
from ..tree import Tree, batch_size, leaves, take, tree_map
from .ensemble import same_schedule

__all__ = ["Code", "Replay", "decode", "encode", "translate"]


@dataclass(frozen=True)
class Code:
    """What the DPM-Encoder makes of data: everything random of a sampler's run that ends in them.

    Attributes:
        x: x_T, states at the first time of the grid (B, ...).
        z: the noise of every step, (B, ...) each; None for a last step without noise.
        residual: what a last step without noise misses, or None.
        sampler, grid: of the run.
        space: where the states live.
    """

    x: Tree
    z: tuple[Tree | None, ...]
    residual: Tree | None
    sampler: Sampler
    grid: Grid
    space: Space

    def recorded(self) -> Recorded:
        """The noises as `noise=` of `sample`, for plain tensors.

        Raises:
            ValueError: in spaces with constraints and product states; `decode` serves those.
        """
        if projects(self.space) or isinstance(self.space, Product):
            raise ValueError(f"noise of {self.space!r} is not played back as plain tensors; use decode()")
        return Recorded([z for z in self.z if z is not None])


@dataclass(frozen=True, eq=False)
class Replay(Hook):
    """Hook that puts given noises in the place of those that a run draws, in any space.

    Args:
        z: the noise of every row, (B, ...) each; None keeps what was drawn.
    """

    z: Sequence[Tree | None]

    def on_prediction(self, step: Step) -> Step:
        i = step.state.i
        if not isinstance(i, int) or i >= len(self.z):
            raise ValueError(f"noises of {len(self.z)} rows are recorded, the run asked for row {i}")
        return step if self.z[i] is None else replace(step, z=self.z[i])

    def take(self, index: Any) -> Hook:
        return Replay([None if z is None else take(z, index) for z in self.z])


def _zeros(like: Tensor, draw: int, role: str) -> Tensor:
    return torch.zeros_like(like)


def _divide(x: Tree, c: Any) -> Tree:
    def leaf(x: Tensor, c: Any) -> Tensor:
        return x / (expand(c, x) if isinstance(c, Tensor) else c)

    return {n: leaf(v, c[n] if isinstance(c, dict) else c) for n, v in x.items()} if isinstance(x, dict) else leaf(x, c)


def _check_rows(sampler: Sampler, plan: Any, schedule: Any) -> None:
    if not isinstance(sampler, LinearSampler) or not isinstance(plan, Plan):
        raise ValueError(f"{sampler!r} chooses its steps as it goes: the DPM-Encoder needs DDIM(eta > 0) or DDPM()")
    if not sampler.stochastic:
        raise ValueError(
            f"{sampler!r} adds no noise: the DPM-Encoder needs eta > 0, as in DDIM(eta=0.1) or DDPM(); to encode "
            "deterministically use the reversed grid, or invert() with BDIA or BELM"
        )
    for i, ages in enumerate(plan.rows):
        row = ages[-1]
        if not row.plain or not row.last or plan.memory:
            raise ValueError(f"{sampler!r} is no chain of single noisy steps: use DDIM(eta > 0) or DDPM()")
        if _quiet(row):
            if i < len(plan.rows) - 1 or _least(schedule.sigma(row.t_next)) > 0.0:
                raise ValueError(f"step {i} of {sampler!r} (to t={row.t_next:.6g}) adds no noise: it cannot be encoded")
        elif _least(row.out["x"]["z"]) <= 0.0:
            raise ValueError(f"step {i} of {sampler!r} adds no noise to some elements, so they cannot be encoded")


def _quiet(row: Row) -> bool:
    """Whether the row adds no noise to any element."""
    scale = row.out["x"].get("z", 0.0)
    return all(float(torch.as_tensor(c).max()) == 0.0 for c in (scale.values() if isinstance(scale, dict) else [scale]))


def encode(
    denoiser: Any,
    x0: Tree,
    sampler: Sampler,
    grid: Grid | None = None,
    *,
    steps: int | None = None,
    seed: int,
    slots: range | None = None,
    reference: Tree | None = None,
    condition: dict[str, Any] | None = None,
    space: Space | None = None,
) -> Code:
    """The DPM-Encoder: the start and the noises with which `sampler` makes x0 (Wu and De la Torre 2023).

    Args:
        denoiser: a `Denoiser`, or guidance around one.
        x0: clean data (B, ...), float32 or float64.
        sampler: `DDIM(eta > 0)` or `DDPM()`.
        grid: times from noise to data; default `grids.default(schedule, steps)`. A start below `t_start` keeps more
            of the data in translation. The end is taken as the data, whatever noise the grid leaves there.
        steps: number of steps of the default grid.
        seed: of the path; every seed gives another code of the same data.
        slots: indices of the samples in a larger run.
        reference: the known y of restoration schedules.
        condition: keyword arguments of the network.
        space: where the states live; default the denoiser's, else plain tensors.

    Returns:
        A `Code`; costs one network call a step.

    Raises:
        ValueError: for samplers without noise (eta = 0) or with several calls a step, Student-t noise, and arguments
            that do not fit.
    """
    schedule = denoiser.schedule
    if grid is None:
        if steps is None:
            raise ValueError("give grid= or steps=")
        grid = grids.default(schedule, steps)
    elif steps is not None and steps != len(grid):
        raise ValueError(f"grid has {len(grid)} steps, steps={steps} was given as well; give one of them")
    space = space or denoiser.space or default_space(x0)
    space.check(x0)
    if not all(leaf.is_floating_point() for leaf in leaves(x0)):
        raise TypeError("x0 must hold floating-point numbers")
    sampler.check(schedule, space)
    plan = sampler.plan(schedule, grid)
    _check_rows(sampler, plan, schedule)
    if projects(space):
        denoiser = denoiser.on(space)
    if reference is not None:
        _same_shape(reference, x0, "reference")
        reference = space.project(reference)
    x0 = space.project(x0)
    if schedule.basis is not None:
        x0 = schedule.basis.forward(x0)
        reference = None if reference is None else schedule.basis.forward(reference)
    inner = innermost(denoiser)
    noise = SlotNoise(seed, range(batch_size(x0)) if slots is None else slots)
    condition = condition or {}
    rows = len(plan.rows)
    z: list[Tree | None] = []
    residual = None
    with torch.no_grad():
        start = inner.add_noise(x0, space.randn(noise, x0, 0, "prior"), grid.times[0], reference)
        state = State(start)
        for i in range(rows):
            row = plan.row(i, state.age)
            query = sampler.query(plan, state, None, space, reference)
            pred = denoiser(query.x, query.t, reference=reference, state=state, **condition)
            none = tree_map(torch.zeros_like, state.x)

            def step(pred: Prediction, z: Tree, state: State = state, query: Any = query) -> State:
                return sampler.advance(plan, state, query, pred, z, space, reference)

            mean = step(pred, none).x
            if i == rows - 1:
                goal = x0
            else:
                exact = inner.noise_of(query.x, x0, query.t, reference)
                true = Prediction(inner, query.x, query.t, pred.raw, reference, x0, exact)
                goal = step(true, space.randn(noise, state.x, i, "step")).x
            gap = tree_map(lambda a, b: a - b, goal, mean)
            if _quiet(row):
                residual = gap
                z.append(none if row.noisy else None)
            else:
                z.append(_divide(gap, row.out["x"]["z"]))
                state = step(pred, z[-1])
    return Code(start, tuple(z), residual, sampler, grid, space)


def decode(
    denoiser: Any,
    code: Code,
    *,
    reference: Tree | None = None,
    condition: dict[str, Any] | None = None,
    hooks: Sequence[Hook] = (),
    max_batch: int | None = None,
) -> Tree:
    """The sample that a model makes of a code: the data themselves for the model that encoded them.

    Args:
        denoiser: a denoiser with the schedule that encoded, or guidance around one.
        code: from `encode`.
        reference, condition, hooks, max_batch: as for `sample`.

    Returns:
        Samples (B, ...).
    """
    x = code.x
    result = sample(
        denoiser, code.sampler, code.grid, state=State(x), space=code.space, reference=reference, condition=condition,
        hooks=[Replay(code.z), *hooks], noise=_zeros, max_batch=max_batch, dtype=leaves(x)[0].dtype,
    )  # fmt: skip
    out = result.state.x
    if code.residual is not None:
        out = code.space.lincomb([(1.0, out), (1.0, code.residual)])
    basis = denoiser.schedule.basis
    return out if basis is None else basis.inverse(out)


def translate(
    source: Any,
    target: Any,
    x0: Tree,
    sampler: Sampler,
    grid: Grid | None = None,
    *,
    steps: int | None = None,
    seed: int,
    source_condition: dict[str, Any] | None = None,
    target_condition: dict[str, Any] | None = None,
    space: Space | None = None,
    max_batch: int | None = None,
) -> Tree:
    """Unpaired translation: encode with one model, decode with another (CycleDiffusion).

    Args:
        source: model of the domain of x0; one model with two conditions serves as both.
        target: model of the other domain, guidance included.
        x0: data (B, ...) of the source domain.
        sampler, grid, steps, seed, space: as for `encode`. A grid that starts at a smaller time changes less.
        source_condition, target_condition: keyword arguments of the two networks.
        max_batch: largest batch in decoding.

    Returns:
        Data of the target domain (B, ...).

    Raises:
        ValueError: if the two models have different schedules, and as `encode`.
    """
    same_schedule([source, target], "translation")
    code = encode(source, x0, sampler, grid, steps=steps, seed=seed, condition=source_condition, space=space)
    return decode(target, code, condition=target_condition, max_batch=max_batch)
