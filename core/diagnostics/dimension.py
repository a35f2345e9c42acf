r"""How many dimensions do the data have around a point? Two readings of one score.

Data on a k-dimensional surface, seen through a little noise, have a score that is large across the surface and small
along it. With u = x + kappa n the noised data (kappa = sigma / alpha), q their density and n degrees of freedom,

    LID(x, kappa) = n + kappa^2 (tr grad^2 log q + |grad log q|^2)          (`local_dimension`)

is n + d log q / d log kappa, and goes to k as kappa -> 0: a Gaussian of k dimensions blurred by kappa has a density
that falls like kappa^(k - n). In terms of the predicted noise e(x_t) at x_t = alpha x + beta y this is

    LID = n - sigma tr(de/dx_t) + |e|^2,        sigma s(x_t) = -e(x_t).

No single kappa is right: it must be below the curvature and extent of the surface and above the resolution of the
network. What can be trusted is a *plateau*, a range of kappa over which LID does not move; the result says where it is,
and a warning where there is none.

The other reading (`score_rank`) looks at scores at K points sampled around x: they span the directions across the
surface, so that the matrix of predicted noises has n - k singular values near sqrt(K) and k much smaller ones. The
largest gap between neighbours tells k.

A true score is a gradient and its Jacobian J symmetric; a network's need not be, and then traces mean less.
`asymmetry` = |J - J^T| / |J| (Frobenius) is reported beside the dimension.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from ..likelihood.measure import Probe, basis, check_space, contract, inner, probe
from ..noise import SlotNoise
from ..schedules import ProductSchedule
from ..spaces import Graph, Product, Space, default_space, projects
from ..tree import Tree, batch_size, cat, leaves, take, tree_map

__all__ = ["LEVELS", "Dimension", "Rank", "local_dimension", "score_rank"]

_NOTHING = 0.1  # no direction across the surface has a singular value below this
LEVELS = tuple(0.01 * 50.0 ** (k / 9) for k in range(10))
"""Ten noise levels between 0.01 and 0.5, for standardised data."""


@dataclass(frozen=True)
class Dimension:
    """What `local_dimension` returns; numbers are float64.

    Attributes:
        levels: noise levels kappa, increasing, (K,).
        curve: LID at every level, (K, B).
        asymmetry: |J - J^T| / |J| of the score's Jacobian at every level, (K, B).
        value: median of the curve over its plateau, (B,); nan without one.
        plateau: indices of the first and last level of the plateau, long, (B, 2); -1 without one.
    """

    levels: Tensor
    curve: Tensor
    asymmetry: Tensor
    value: Tensor
    plateau: Tensor


@dataclass(frozen=True)
class Rank:
    """What `score_rank` returns.

    Attributes:
        dimension: ndof minus the number of singular values before the largest gap, long, (B,).
        singular_values: of the noises predicted around each point, divided by sqrt(K), descending, (B, N), float64;
            near 1 across the surface.
        gap: ratio of the singular values on both sides of the gap, (B,); inf where those after it vanish. Without any
            across (full dimension) 1 stands before it, with all of them across (dimension 0) 0.1 after it.
    """

    dimension: Tensor
    singular_values: Tensor
    gap: Tensor


def local_dimension(
    denoiser: Any,
    x: Tree,
    levels: Sequence[float] = LEVELS,
    *,
    divergence: Literal["exact", "hutchinson"] = "exact",
    probes: int = 16,
    probe_kind: Probe = "rademacher",
    seed: int | None = None,
    slots: range | None = None,
    tolerance: float = 0.25,
    least: int = 3,
    reference: Tree | None = None,
    condition: dict[str, Any] | None = None,
    space: Space | None = None,
    max_batch: int | None = None,
) -> Dimension:
    """Local intrinsic dimension at clean points x, from one score and its divergence.

    H. Kamkari et al., "A geometric view of data complexity: efficient local intrinsic dimension estimation with
    diffusion models" (FLIPD), NeurIPS 2024, written at noise level kappa of a variance-exploding process.

    Args:
        denoiser: a `Denoiser`, or guidance around one.
        x: clean data (B, ...).
        levels: noise levels kappa = sigma / alpha in the units of the data, increasing.
        divergence: "exact" (n vector-Jacobian products, B n^2 numbers in memory) or "hutchinson".
        probes, probe_kind, seed, slots: of Hutchinson's estimate.
        tolerance: a plateau is a run of levels whose values differ by at most this much (in dimensions), or by 2 %.
        least: smallest number of levels in a plateau.
        reference, condition, space: as for `sample`.
        max_batch: largest batch that the network is given.

    Returns:
        A `Dimension`. Warns (`UserWarning`) if points have no plateau.

    Raises:
        ValueError: for Student-t noise, spaces without volume, schedules with one coefficient an element or a leaf,
            levels that the schedule does not reach, or a network that is not differentiable.
    """
    space = _check(denoiser, x, space)
    levels = tuple(float(k) for k in levels)
    if len(levels) < least or any(b <= a for a, b in pairwise(levels)) or not levels[0] > 0.0:
        raise ValueError(f"levels must be at least {least} increasing positive noise levels, got {levels}")
    if divergence not in ("exact", "hutchinson"):
        raise ValueError(f'divergence must be "exact" or "hutchinson", got {divergence!r}')
    if divergence == "hutchinson" and (isinstance(probes, bool) or not isinstance(probes, int) or probes < 1):
        raise ValueError(f"probes must be a positive integer, got {probes!r}")
    if divergence == "hutchinson" and seed is None:
        raise ValueError("Hutchinson's estimate draws random probes: give seed= (any integer)")
    if not tolerance > 0.0 or least < 2:
        raise ValueError(f"tolerance must be positive and least at least 2, got {tolerance} and {least}")
    if max_batch is not None and max_batch < 1:
        raise ValueError(f"max_batch must be at least 1, got {max_batch}")
    times = [_time(denoiser.schedule, k) for k in levels]
    size = batch_size(x)
    slots = range(size) if slots is None else slots
    curves, gaps = [], []
    for start in range(0, size, max_batch or size):
        part = slice(start, min(start + (max_batch or size), size))
        sub, xs = space.take(part), take(x, part)
        ys = None if reference is None else take(reference, part)
        cs = {
            k: v[part] if isinstance(v, Tensor) and v.ndim and v.shape[0] == size else v
            for k, v in (condition or {}).items()
        }
        directions: list[Tree] | None = None
        if divergence == "hutchinson":
            noise = SlotNoise(seed or 0, slots[part])
            directions = [probe(sub, probe_kind, noise, xs, k) for k in range(probes)]
        both = [_flipd(denoiser, xs, t, sub, directions, ys, cs) for t in times]
        curves.append(torch.stack([a for a, _ in both]))
        gaps.append(torch.stack([b for _, b in both]))
    curve, asymmetry = torch.cat(curves, 1), torch.cat(gaps, 1)
    plateau = _plateau(curve, tolerance, least)
    found = plateau[:, 0] >= 0
    value = torch.full((size,), math.nan, dtype=torch.float64, device=curve.device)
    for b in found.nonzero().flatten().tolist():
        value[b] = curve[int(plateau[b, 0]) : int(plateau[b, 1]) + 1, b].median()
    if not bool(found.all()):
        lost = (~found).nonzero().flatten().tolist()
        worst = ", ".join(f"{v:.3g}" for v in curve[:, lost[0]].tolist())
        warnings.warn(
            f"{len(lost)} of {size} points have no plateau over noise levels {levels[0]:.3g} to {levels[-1]:.3g} "
            f"(point {lost[0]}: {worst}): their dimension is nan; use other levels, or train at smaller noise",
            stacklevel=2,
        )
    return Dimension(torch.tensor(levels, dtype=torch.float64), curve, asymmetry, value, plateau)


def score_rank(
    denoiser: Any,
    x: Tree,
    level: float = 0.02,
    *,
    samples: int | None = None,
    seed: int,
    slots: range | None = None,
    reference: Tree | None = None,
    condition: dict[str, Any] | None = None,
    space: Space | None = None,
    max_batch: int = 1024,
) -> Rank:
    """Local intrinsic dimension from the rank of scores sampled around clean points x.

    J. Stanczuk, G. Batzolis, T. Deveney, C.-B. Schoenlieb, "Diffusion models encode the intrinsic dimension of data
    manifolds", ICML 2024, algorithm 1.

    Args:
        denoiser: a `Denoiser`, or guidance around one.
        x: clean data (B, ...).
        level: noise level kappa = sigma / alpha around the points: small against the data's curvature.
        samples: points K around each x, at least its degrees of freedom; default four times as many.
        seed: of these points.
        slots: indices of the samples in a larger run.
        reference, condition, space: as for `sample`.
        max_batch: largest batch that the network is given.

    Returns:
        A `Rank`. Warns (`UserWarning`) where the gap is less than a factor of 3. Data that fill the space at this
        level (no singular value above 1/2) get the full dimension.

    Raises:
        ValueError: as `local_dimension`, and for fewer samples than degrees of freedom.
    """
    space = _check(denoiser, x, space)
    t = _time(denoiser.schedule, float(level))
    size = batch_size(x)
    slots = range(size) if slots is None else slots
    if len(slots) != size:
        raise ValueError(f"slots names {len(slots)} samples, the batch holds {size}")
    ndof = space.ndof(x).tolist()
    most = int(max(ndof))
    count = 4 * most if samples is None else samples
    if count < most:
        raise ValueError(f"{count} samples cannot span {most} degrees of freedom: use at least {most}, better 4 times")
    rows, dimensions, ratios = [], [], []
    for b in range(size):
        sub = space.take(slice(b, b + 1))
        s = _singular_values(denoiser, x, b, t, sub, count, seed, slots[b], reference, condition or {}, max_batch, size)
        n = int(ndof[b])
        s = s[:n]
        drop = s - torch.cat([s[1:], s.new_zeros(1)])
        across = int(drop.argmax()) + 1 if n and float(s[0]) > 0.5 else 0
        after = float(s[across]) if across < n else _NOTHING
        before = float(s[across - 1]) if across else 1.0
        rows.append(torch.nn.functional.pad(s, (0, most - n)))
        dimensions.append(n - across)
        ratios.append(before / after if after > 0.0 else math.inf)
    gap = torch.tensor(ratios, dtype=torch.float64)
    unclear = (gap < 3.0).nonzero().flatten().tolist()
    if unclear:
        warnings.warn(
            f"{len(unclear)} of {size} points have no clear gap in their singular values (point {unclear[0]}: ratio "
            f"{ratios[unclear[0]]:.2g}): use another level than {level:g}, or more samples",
            stacklevel=2,
        )
    return Rank(torch.tensor(dimensions), torch.stack(rows), gap)


def _check(denoiser: Any, x: Tree, space: Space | None) -> Space:
    schedule = denoiser.schedule
    if schedule.family != "gaussian":
        raise ValueError(
            f"{schedule!r} has Student-t noise and no Gaussian score: its dimension formula is not this one"
        )
    if isinstance(schedule, ProductSchedule) or schedule.elementwise or schedule.basis is not None:
        raise ValueError(f"the dimension needs one noise level for the whole state, got {schedule!r}")
    if denoiser.needs_state:
        raise ValueError(f"{denoiser!r} depends on a run's state and has no score of its own")
    space = space or denoiser.space or default_space(x)
    check_space(space)
    space.check(x)
    for leaf in leaves(x):
        if not leaf.is_floating_point():
            raise TypeError(f"x must be floating point, got {leaf.dtype}; dimensions of discrete data are not defined")
    return space


def _time(schedule: Any, kappa: float) -> float:
    if not (math.isfinite(kappa) and kappa > 0.0):
        raise ValueError(f"a noise level is positive and finite, got {kappa}")
    t = float(schedule.time_of_kappa(kappa))
    low, high = schedule.domain
    reached = float(schedule.kappa(t)) if low <= t <= high else math.nan
    if not abs(reached / kappa - 1.0) < 1e-3:
        raise ValueError(f"{schedule!r} does not reach the noise level {kappa:g}: choose levels within its range")
    return t


def _noised(denoiser: Any, x: Tree, n: Tree | None, t: float, reference: Tree | None) -> Tree:
    return denoiser.add_noise(x, tree_map(torch.zeros_like, x) if n is None else n, t, reference)


def _flipd(
    denoiser: Any, x: Tree, t: float, space: Space, probes: list[Tree] | None, reference: Tree | None, condition: Any
) -> tuple[Tensor, Tensor]:
    """LID and asymmetry at one level, (B,) each."""
    sigma = denoiser.schedule.sigma(t)
    if projects(space):
        denoiser = denoiser.on(space)
    with torch.inference_mode(False), torch.enable_grad():
        at = tree_map(
            lambda leaf: leaf.detach().clone().requires_grad_(True),
            _noised(denoiser, space.project(x), None, t, reference),
        )
        e = space.project(denoiser(space.project(at), t, reference=reference, **condition).noise)
        if not all(leaf.requires_grad for leaf in leaves(e)):
            raise ValueError(
                "the prediction does not depend on x for automatic differentiation: the network must be "
                "differentiable (no no_grad, inference_mode or detach inside)"
            )
        if probes is None:
            trace, asymmetry = _full(e, at, space)
        else:
            trace, asymmetry = _probed(e, at, probes)
    e = tree_map(Tensor.detach, e)
    value = space.ndof(x).double() - sigma * trace + inner(space, e, e)
    if not bool(torch.isfinite(value).all()):
        raise FloatingPointError(f"score or divergence is not finite at t={t:.6g}: use larger noise levels")
    return value, asymmetry


def _vjp(e: Tree, x: Tree, u: Tree, graph: bool = False) -> Tree:
    names = list(e) if isinstance(e, dict) else None
    outputs, vectors = (leaves(e), leaves(u)) if names is None else ([e[k] for k in names], [u[k] for k in names])
    rows = torch.autograd.grad(outputs, leaves(x), vectors, retain_graph=True, create_graph=graph, allow_unused=True)
    filled = [torch.zeros_like(leaf) if row is None else row for row, leaf in zip(rows, leaves(x), strict=True)]
    return dict(zip(x, filled, strict=True)) if isinstance(x, dict) else filled[0]


def _flat(space: Space, x: Tree) -> Tensor:
    """Coordinates of a state, float64, (B, N): entries of a graph, which are stored twice, weigh 1/sqrt(2)."""
    if isinstance(space, Product):
        return torch.cat([_flat(leaf, x[name]) for name, leaf in space.spaces.items()], 1)
    return x.double().reshape(x.shape[0], -1) * (math.sqrt(0.5) if isinstance(space, Graph) else 1.0)


def _full(e: Tree, x: Tree, space: Space) -> tuple[Tensor, Tensor]:
    """Trace and asymmetry from the whole Jacobian."""
    es = list(basis(space, tree_map(Tensor.detach, x)))
    plain = [torch.cat([leaf.double().flatten(1) for leaf in leaves(u)], 1) for u in es]
    names = list(es[0]) if isinstance(es[0], dict) else None
    rows = []
    for u in es:
        row = space.project(_vjp(e, x, u))
        parts = [row] if names is None else [row[k] for k in names]
        rows.append(torch.cat([leaf.double().flatten(1) for leaf in parts], 1))
    jacobian = torch.einsum("kbi,lbi->bkl", torch.stack(rows), torch.stack(plain))
    gap = (jacobian - jacobian.mT).flatten(1).norm(dim=1)
    return jacobian.diagonal(dim1=1, dim2=2).sum(1), (gap / jacobian.flatten(1).norm(dim=1)).nan_to_num(0.0)


def _probed(e: Tree, x: Tree, probes: list[Tree]) -> tuple[Tensor, Tensor]:
    """Trace and asymmetry from probes: J u is the derivative of J^T v, which is linear in v, with respect to v."""
    trace: Any = 0.0
    gap: Any = 0.0
    total: Any = 0.0
    v = tree_map(lambda leaf: torch.zeros_like(leaf, requires_grad=True), e)
    back = _vjp(e, x, v, graph=True)
    for u in probes:
        left = _vjp(e, x, u)
        right = _vjp(back, v, u)
        trace = trace + contract(left, u)
        difference = tree_map(lambda a, b: a - b, left, right)
        gap = gap + contract(difference, difference)
        total = total + contract(right, right)
    return trace.detach() / len(probes), (gap / total).sqrt().nan_to_num(0.0).detach()


def _singular_values(
    denoiser: Any,
    x: Tree,
    b: int,
    t: float,
    space: Space,
    count: int,
    seed: int,
    slot: int,
    reference: Tree | None,
    condition: dict[str, Any],
    max_batch: int,
    size: int,
) -> Tensor:
    """Of the noises predicted at `count` points around sample b, divided by sqrt(count)."""
    point = space.project(take(x, slice(b, b + 1)))
    y = None if reference is None else take(reference, slice(b, b + 1))
    rows = []
    with torch.no_grad():
        for start in range(0, count, max_batch):
            k = min(max_batch, count - start)
            many = cat([point] * k)
            part = _repeat(space, k)
            keyed = SlotNoise(seed, range(slot * count + start, slot * count + start + k))
            n = part.randn(keyed, many, 0, "around")
            ys = None if y is None else cat([y] * k)
            cs = {
                name: v[b : b + 1].expand(k, *v.shape[1:])
                if isinstance(v, Tensor) and v.ndim and v.shape[0] == size
                else v
                for name, v in condition.items()
            }
            asked = denoiser.on(part) if projects(part) else denoiser
            e = asked(_noised(denoiser, many, n, t, ys), t, reference=ys, **cs).noise
            rows.append(_flat(part, part.project(e)))
    return torch.linalg.svdvals(torch.cat(rows)) / math.sqrt(count)


def _repeat(space: Space, k: int) -> Space:
    """The space of one sample for k copies of it."""
    return space.take([0] * k)


def _plateau(curve: Tensor, tolerance: float, least: int) -> Tensor:
    """First and last level of the longest flat run of each column, the one at smaller noise among equals."""
    levels, size = curve.shape
    found = torch.full((size, 2), -1, dtype=torch.long)
    for b in range(size):
        column = curve[:, b].tolist()
        best = 0
        for first in range(levels):
            low = high = column[first]
            last = first
            for k in range(first + 1, levels):
                low, high = min(low, column[k]), max(high, column[k])
                if high - low > max(tolerance, 0.02 * max(abs(low), abs(high))):
                    break
                last = k
            if last - first + 1 >= max(least, best + 1):
                best = last - first + 1
                found[b] = torch.tensor([first, last])
    return found
