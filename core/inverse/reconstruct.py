"""One call from a measurement to samples, their mean, their spread, and whether they explain it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..grids import Grid, default
from ..guidance.base import Guidance
from ..hooks import Hook
from ..noise import SlotNoise
from ..operators import LinearOperator, Operator
from ..sample import Result, sample
from ..samplers import Sampler, State
from ..spaces import Space, default_space
from ..tree import Tree, batch_size, cat, take, tree_map
from .base import Measured, Method
from .measurement import Measurement
from .red_diff import RedDiff

__all__ = ["Reconstruction", "reconstruct"]


@dataclass(frozen=True)
class Reconstruction:
    """Samples of the data behind n measurements, K of each.

    Attributes:
        x: samples (n, K, ...), a dictionary for product states.
        mean: over the samples, (n, ...).
        std: standard deviation over the samples, (n, ...); None for one sample.
        residual: |y - A(x)| of each sample, (n, K).
        expected_residual: noise * sqrt(m), what the residual is at the truth, (n,).
        calls: network calls of a run (of one batch).
        vjps: vector-Jacobian products through the network of a run, at most.
        records: what hooks collected.
        method: the solver.
    """

    x: Tree
    mean: Tree
    std: Tree | None
    residual: Tensor
    expected_residual: Tensor
    calls: int
    vjps: int
    method: Method
    records: dict[str, Any] = field(default_factory=dict)

    @property
    def misfit(self) -> Tensor:
        """residual / expected_residual, (n, K): well below 1 is fitted noise, well above 1 is not explained."""
        return self.residual / self.expected_residual[:, None].to(self.residual)

    def __repr__(self) -> str:
        n, k = self.residual.shape
        if bool((self.expected_residual > 0).all()):
            misfit = f"{self.misfit.mean().item():.3g} times what the noise explains"
        else:
            misfit = f"{self.residual.mean().item():.3g} (no noise)"
        cost = f"calls={self.calls}, vjps={self.vjps}"
        return f"Reconstruction({n} x {k} samples by {self.method!r}, residual {misfit}, {cost})"


def reconstruct(
    denoiser: Any,
    operator: Operator,
    y: Tensor,
    *,
    noise: float,
    method: Method,
    sampler: Sampler | None = None,
    grid: Grid | None = None,
    steps: int | None = None,
    samples: int = 1,
    seed: int,
    x: Tree | None = None,
    shape: Sequence[int] | dict[str, Sequence[int]] | None = None,
    space: Space | None = None,
    reference: Tree | None = None,
    condition: dict[str, Any] | None = None,
    hooks: Sequence[Hook] = (),
    max_batch: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    adjoint_tolerance: float = 1e-3,
    progress: bool = False,
) -> Reconstruction:
    """Draw from what the data may have been, given y = A x0 + noise n and a model of the data.

    Args:
        denoiser: the model, a `Denoiser` or guidance around one (classifier-free goes inside; the
            measurement goes around it, hooks act last).
        operator: A.
        y: n measurements (n, ...).
        noise: standard deviation of the noise in each real number of y.
        method: the solver, for example `MMPS()`.
        sampler: default: what the method's paper uses.
        grid, steps: times of the run; default 100 steps of `grids.default`.
        samples: K, for each measurement.
        seed: any integer.
        x: start states, one for each measurement and sample (n * K, ...), samples of one measurement next
            to each other; default: drawn from the prior.
        shape: of one sample; default: the operator's.
        space: where states live, for a batch of n (or 1); default: the denoiser's.
        reference: the known y of restoration schedules, (n, ...).
        condition: keyword arguments of the network; tensors with one entry a measurement are repeated.
        hooks: further hooks, after the method's.
        max_batch: largest batch that the network is given.
        dtype: of the states; float16 and bfloat16 run the network in half precision.
        device: of the samples that are drawn.
        adjoint_tolerance: largest mismatch of `check_adjoint` that is accepted (linear operators).
        progress: show a progress bar.

    Raises:
        TypeError, ValueError: for arguments that do not fit together or a method that is not defined for
            them; the message says which and names a way out.
        FloatingPointError: if the run diverges; the message names the scale to lower.
    """
    if not isinstance(method, Method):
        raise TypeError(f"method is a solver such as DPS() or DDS(), got {method!r}")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed must be an integer, got {type(seed).__name__}")
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    _order(denoiser)
    real = torch.float64 if dtype == torch.float64 else torch.float32
    measurement = Measurement(operator, y, noise)
    n, schedule = y.shape[0], denoiser.schedule
    one = _shape(shape, operator, x)
    like = _zeros(one, 1, real, device)
    space = space or denoiser.space or default_space(like)
    method.check(measurement, schedule, space, sampler)
    typical = _fits(measurement, like, adjoint_tolerance)
    sampler_given = sampler
    if grid is None:
        grid = default(schedule, 100 if steps is None else steps)
    elif steps is not None and steps != grid.steps:
        raise ValueError(f"grid has {grid.steps} steps, steps={steps} was given as well; give one of them")

    size = n * samples
    if x is not None and batch_size(x) != size:
        raise ValueError(f"x must hold {n} x {samples} start states, got {batch_size(x)}")
    if reference is not None and batch_size(reference) != n:
        raise ValueError(f"reference must hold {n} entries, one a measurement, got {batch_size(reference)}")
    owner = torch.arange(n).repeat_interleave(samples)
    runs: list[Result] = []
    group = max([1, *(hook.group for hook in hooks)])
    if max_batch is not None and max_batch < group:
        raise ValueError(f"max_batch={max_batch} is smaller than a group of {group} walkers")
    width = size if max_batch is None else max_batch - max_batch % group
    residuals = []
    for first in range(0, size, width):
        part = slice(first, min(first + width, size))
        index = owner[part]
        mine = measurement.take(index)
        here = space.take(index) if _per_sample(space, n) else space
        ref = None if reference is None else take(reference, index)
        given = {
            name: v[index] if isinstance(v, Tensor) and v.ndim and v.shape[0] == n else v
            for name, v in (condition or {}).items()
        }
        start = None if x is None else take(x, part)
        try:
            if isinstance(method, RedDiff):
                run = _optimise(method, denoiser, mine, grid, one, part, seed, start, here, ref, given, dtype, device)
            else:
                run = sample(
                    method.guide(denoiser.on(here), mine),
                    method.sampler(mine) if sampler_given is None else sampler_given,
                    grid,
                    x=start,
                    shape=None if start is not None else _batched(one, part.stop - part.start),
                    space=here,
                    reference=ref,
                    condition=given,
                    hooks=[*method.hooks(mine), *(hook if width >= size else hook.take(part) for hook in hooks)],
                    seed=seed,
                    slots=range(part.start, part.stop),
                    dtype=dtype,
                    device=device,
                    progress=progress,
                )
        except FloatingPointError as error:
            raise FloatingPointError(f"{_advice(method)} ({error})") from error
        bound = mine.on(here, run.x)
        found = bound.squared(bound.residual(run.x)).sqrt()
        _converged(method, mine, found, typical)
        residuals.append(found)
        runs.append(run)
    whole = cat([run.x for run in runs])
    each = tree_map(lambda v: v.reshape(n, samples, *v.shape[1:]), whole)
    calls = max(run.calls for run in runs)
    return Reconstruction(
        x=each,
        mean=tree_map(lambda v: v.mean(1), each),
        std=tree_map(lambda v: v.std(1), each) if samples > 1 else None,
        residual=torch.cat(residuals).reshape(n, samples),
        expected_residual=measurement.expected_residual,
        calls=calls,
        vjps=calls * method.vjps,
        method=method,
        records=runs[0].records if len(runs) == 1 else {"chunks": [run.records for run in runs]},
    )


def _order(denoiser: Any) -> None:
    """Refuse a measurement hidden under other guidance, which would lose it."""
    outer = denoiser
    while isinstance(outer, Guidance):
        if isinstance(outer.denoiser, Measured) and not isinstance(outer, Measured):
            raise ValueError(
                f"{type(outer).__name__} around a measurement would lose it: put {type(outer).__name__} inside, the "
                "measurement goes around (that is what reconstruct does)"
            )
        outer = outer.denoiser


def _shape(shape: Any, operator: Operator, x: Tree | None) -> Any:
    if shape is not None:
        return shape if isinstance(shape, dict) else tuple(shape)
    if x is not None:
        return {k: tuple(v.shape[1:]) for k, v in x.items()} if isinstance(x, dict) else tuple(x.shape[1:])
    if operator.shape is None or operator.leaf is not None:
        raise ValueError("give shape=, the shape of one sample (a dictionary for product states)")
    return operator.shape


def _batched(one: Any, size: int) -> Any:
    return {k: (size, *s) for k, s in one.items()} if isinstance(one, dict) else (size, *one)


def _zeros(one: Any, size: int, dtype: torch.dtype, device: Any) -> Tree:
    shape = _batched(one, size)
    if isinstance(shape, dict):
        return {k: torch.zeros(s, dtype=dtype, device=device) for k, s in shape.items()}
    return torch.zeros(shape, dtype=dtype, device=device)


def _fits(measurement: Measurement, like: Tree, tolerance: float) -> float:
    """Check shapes and adjoint; returns the size of what a state of unit noise measures."""
    one = measurement.operator.take(slice(0, 1))
    expected = tuple(one(like).shape[1:])
    if tuple(measurement.y.shape[1:]) != expected:
        raise ValueError(
            f"y must have shape (n, {', '.join(map(str, expected))}), what the operator measures of one sample; "
            f"got {tuple(measurement.y.shape)}"
        )
    if isinstance(one, LinearOperator):
        leaf = one.pick(like)
        one.require_adjoint(leaf.shape[1:], tolerance=tolerance, like=leaf)
    generator = torch.Generator().manual_seed(0)
    unit = tree_map(lambda v: torch.randn(v.shape, generator=generator).to(v), like)
    size = float(one(unit).abs().square().sum().sqrt())
    return size if math.isfinite(size) else 0.0


def _per_sample(space: Space, n: int) -> bool:
    masks = [getattr(s, "mask", None) for s in getattr(space, "spaces", {"": space}).values()]
    sizes = {mask.shape[0] for mask in masks if mask is not None}
    if sizes - {1, n}:
        raise ValueError(
            f"the space is that of {max(sizes)} samples, there are {n} measurements; give one, or one for each"
        )
    return sizes - {1} == {n}


def _optimise(
    method: RedDiff, denoiser: Any, measurement: Measurement, grid: Grid, one: Any, part: slice, seed: int,
    x: Tree | None, space: Space, reference: Tree | None, condition: dict[str, Any], dtype: torch.dtype, device: Any,
) -> Result:  # fmt: skip
    real = torch.float64 if dtype == torch.float64 else torch.float32
    like = _zeros(one, part.stop - part.start, real, device)
    noise = SlotNoise(seed, range(part.start, part.stop))
    net = denoiser.in_half(dtype) if dtype in (torch.float16, torch.bfloat16) else denoiser
    if denoiser.space is not None:
        net = net.on(space)
    mu, calls = method.solve(net, measurement, grid, like, noise, space, x, reference, condition)
    return Result(mu, State(mu), {}, calls)


def _advice(method: Method) -> str:
    name = type(method).__name__
    value = None if method.scale is None else getattr(method, method.scale)
    if method.scale is None or value is None:
        return f"{name} diverged: use more steps, or check the units of y and of the operator"
    return f"{name} diverged: lower {method.scale} (now {value:g}), or use more steps"


def _converged(method: Method, measurement: Measurement, residual: Tensor, typical: float) -> None:
    """A result that explains y a hundred times worse than nothing or noise would has diverged."""
    size = measurement.y.abs().square().flatten(1).sum(1).sqrt()
    limit = 100.0 * torch.maximum(size.double(), measurement.expected_residual.to(size.device)).clamp_min(typical)
    bad = (residual.double() > limit) & (limit > 0)
    if bool(bad.any()):
        k = int(bad.nonzero()[0])
        raise FloatingPointError(
            f"{_advice(method)} (the residual of sample {k} is {residual[k].item():.3g}, the measurement itself "
            f"{size[k].item():.3g})"
        )
