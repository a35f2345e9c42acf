r"""Does a model's score belong to one diffusion? The residual of the score's Fokker-Planck equation.

The density of dx = (f x + c y) dt + g dw, c = beta' - f beta, obeys the Fokker-Planck equation; its logarithm and the
score s = grad log p therefore obey (Lai et al., equation 7)

    d/dt log p = L - div(f x + c y),       L = g^2/2 (div s + |s|^2) - <f x + c y, s>
    d/dt s     = grad L,                    residual r = ds/dt - grad L.

A network trained by denoising learns s at every time by itself: nothing ties the times together, and r says how far
apart they are. r = 0 for the true score at every point, not only where the data are. As a term of the training loss,

    g^2 |r|^m / n,        m = 2, n degrees of freedom,

with the weight alpha = 0.15 beside the denoising loss, is what the paper proposes (see `fokker_planck_loss`).

div s is exact (one vector-Jacobian product a degree of freedom) or Hutchinson's <u, J u>. Both are differentiated once
more for grad L, so the network must be twice differentiable in x (three times, to train on it). Hutchinson's r is
unbiased; |r|^2 is then too large by its variance, which K probes divide by K. ds/dt is the central difference over
2 h (of order h^2, two more network calls), or exact, for networks that are differentiable in their label: one that
rounds it to an index, or detaches it, would get a wrong answer there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..likelihood.measure import Probe, basis, check_space, contract, inner, probe
from ..noise import SlotNoise
from ..schedules import ProductSchedule
from ..spaces import Graph, Product, Space, default_space, expand, projects
from ..tree import Tree, batch_size, leaves, tree_map

__all__ = ["FokkerPlanck", "fokker_planck", "fokker_planck_loss"]


@dataclass(frozen=True)
class FokkerPlanck:
    """Both sides of the score's Fokker-Planck equation at points x and times t.

    Attributes:
        rate: ds/dt, (B, ...).
        flux: grad L, (B, ...).
        residual: r = rate - flux, (B, ...).
        g2: g^2 of each sample, (B,).
        norm: |r| / sqrt(n), root mean square over the n degrees of freedom, (B,).
        relative: |r| / (|rate| + |flux|), between 0 and 1, (B,): comparable across times.
    """

    rate: Tree
    flux: Tree
    residual: Tree
    g2: Tensor
    norm: Tensor
    relative: Tensor

    def loss(self, m: float = 2.0) -> Tensor:
        """g^2 (|r| / sqrt(n))^m, (B,)."""
        if not m > 0.0:
            raise ValueError(f"m must be positive, got {m}")
        return self.g2 * (self.norm.square() if m == 2.0 else self.norm.pow(m))


def fokker_planck(
    denoiser: Any,
    x: Tree,
    t: Any,
    *,
    divergence: Literal["exact", "hutchinson"] = "exact",
    probes: int = 1,
    probe_kind: Probe = "rademacher",
    seed: int | None = None,
    slots: range | None = None,
    time: Literal["difference", "exact"] = "difference",
    h: float = 1e-3,
    reference: Tree | None = None,
    condition: dict[str, Any] | None = None,
    space: Space | None = None,
    differentiable: bool = False,
) -> FokkerPlanck:
    """The residual of the score's Fokker-Planck equation.

    C.-H. Lai et al., "FP-Diffusion: improving score-based diffusion models by enforcing the underlying score
    Fokker-Planck equation", ICML 2023.

    Args:
        denoiser: a `Denoiser`, or guidance around one.
        x: states (B, ...) at time t, for example `denoiser.add_noise(x0, n, t)`; float64 to see residuals below 1e-3.
        t: a float or a tensor (B,), strictly inside the schedule's times, sigma(t) > 0.
        divergence: "exact" or "hutchinson".
        probes: number of Hutchinson probes.
        probe_kind: "rademacher" or "gaussian".
        seed: of the probes; change it from step to step in a training.
        slots: indices of the samples in a larger run, for probes that do not depend on the batch split.
        time: "difference" or "exact" for ds/dt.
        h: half the width of the difference, in units of t; smaller next to the ends.
        reference: the known y of restoration schedules.
        condition: keyword arguments of the network.
        space: where the states live; default the denoiser's, else plain tensors.
        differentiable: keep the graph, for a training on the residual.

    Returns:
        A `FokkerPlanck`; its numbers are float64 unless `differentiable`.

    Raises:
        TypeError: for times that are no floating-point numbers.
        ValueError: for Student-t noise (no Gaussian score), spaces without volume, schedules with one coefficient an
            element or a leaf, times at an end, one time an element, or a network that is not differentiable.
    """
    schedule = denoiser.schedule
    if schedule.family != "gaussian":
        raise ValueError(
            f"{schedule!r} has Student-t noise: it has no Gaussian score and no Fokker-Planck equation here; "
            "use a Gaussian schedule"
        )
    if isinstance(schedule, ProductSchedule) or schedule.elementwise or schedule.basis is not None:
        raise ValueError(f"the residual needs one f(t) and one g(t) for the whole state, got {schedule!r}")
    if denoiser.needs_state:
        raise ValueError(f"{denoiser!r} depends on a run's state and has no score of its own")
    if divergence not in ("exact", "hutchinson"):
        raise ValueError(f'divergence must be "exact" or "hutchinson", got {divergence!r}')
    if time not in ("difference", "exact"):
        raise ValueError(f'time must be "difference" or "exact", got {time!r}')
    if not h > 0.0:
        raise ValueError(f"h must be positive, got {h}")
    if divergence == "hutchinson":
        if isinstance(probes, bool) or not isinstance(probes, int) or probes < 1:
            raise ValueError(f"probes must be a positive integer, got {probes!r}")
        if seed is None:
            raise ValueError("Hutchinson's estimate draws random probes: give seed= (any integer)")
    space = space or denoiser.space or default_space(x)
    check_space(space)
    space.check(x)
    if projects(space):
        denoiser = denoiser.on(space)
    n = batch_size(x)
    t = _inner_time(schedule, t, n, leaves(x)[0].device)
    if reference is None and bool((schedule.beta(t) != 0).any()):
        raise ValueError(f"{schedule!r} needs reference=, the known y of the shape of x")

    directions: Any = None
    if divergence == "hutchinson":
        noise = SlotNoise(seed or 0, range(n) if slots is None else slots)
        directions = [probe(space, probe_kind, noise, x, k) for k in range(probes)]

    def score(at: Tree, when: Tensor) -> Tree:
        pred = denoiser(space.project(at), when, reference=reference, **(condition or {}))
        if not any(leaf.requires_grad for leaf in leaves(pred.raw)):
            raise ValueError(
                "the score does not depend on x for automatic differentiation: the network must be differentiable "
                "(no no_grad, inference_mode or detach inside)"
            )
        return space.project(pred.score)

    with torch.inference_mode(False), torch.enable_grad():
        x = tree_map(_leaf, x)
        clock = t.clone().requires_grad_(time == "exact")
        s = score(x, clock)
        g2, f, shift = _coefficients(schedule, t, leaves(x)[0])
        drift = tree_map(lambda leaf: expand(f, leaf) * leaf, x)
        if reference is not None:
            drift = tree_map(lambda a, y: a + expand(shift, y) * y, drift, space.project(reference))
        div: Any = 0.0
        for u in basis(space, x) if directions is None else directions:
            div = div + contract(_vjp(s, x, u), u)
        if directions is not None:
            div = div / len(directions)
        total = 0.5 * g2 * (div + inner(space, s, s)) - inner(space, drift, s)
        names = leaves(x)
        parts = torch.autograd.grad(total.sum(), names, create_graph=differentiable, retain_graph=True)
        flux = _ascent(space, dict(zip(x, parts, strict=True)) if isinstance(x, dict) else parts[0])
        rate = _rate_exact(s, clock) if time == "exact" else _rate(score, schedule, x, t, h)
    residual = tree_map(lambda a, b: a - b, rate, flux)
    if not differentiable:
        rate, flux, residual = (tree_map(Tensor.detach, v) for v in (rate, flux, residual))
    size = space.ndof(x).double().clamp_min(1)
    square = inner(space, residual, residual)
    both = inner(space, rate, rate).sqrt() + inner(space, flux, flux).sqrt()
    norm = _root(square / size) if differentiable else (square / size).sqrt()
    relative = (square.detach().sqrt() / both.detach()).nan_to_num(0.0)
    return FokkerPlanck(rate, flux, residual, g2, norm, relative)


def fokker_planck_loss(denoiser: Any, x: Tree, t: Any, *, m: float = 2.0, **options: Any) -> Tensor:
    """g^2 |r|^m / n^(m/2) of each sample, (B,), with a graph to the network's parameters.

    Add `weight * fokker_planck_loss(denoiser, x_t, t, divergence="hutchinson", seed=step).mean()` to a denoising loss.
    m = 2, the factor g^2 and a weight of 0.15 are Lai et al.'s, for images. Try smaller weights first: for a small
    network on a mixture in the plane, 0.0015 made the residual ten times smaller at the same denoising loss, while
    0.15 made it smaller still at the price of a much worse score.

    Args:
        denoiser, x, t: as for `fokker_planck`.
        m: power of the norm.
        options: of `fokker_planck`.
    """
    return fokker_planck(denoiser, x, t, differentiable=True, **options).loss(m)


def _leaf(leaf: Tensor) -> Tensor:
    if not leaf.is_floating_point():
        raise TypeError(f"x must be floating point, got {leaf.dtype}")
    return leaf.detach().clone().requires_grad_(True)


def _inner_time(schedule: Any, t: Any, n: int, device: Any) -> Tensor:
    if isinstance(t, Tensor) and (t.ndim > 1 or (t.ndim == 1 and len(t) != n)):
        raise ValueError(f"t must be a float or have shape (B,) = ({n},): one time a sample; got {tuple(t.shape)}")
    schedule.check_time(t)
    t = torch.as_tensor(t, dtype=torch.float64, device=device).detach().expand(n).clone()
    low, high = schedule.domain
    bad = t[(t <= low) | (t >= high) | ~(schedule.sigma(t) > 0) | ~(schedule.alpha(t) > 0)]
    if bad.numel():
        raise ValueError(
            f"t={float(bad[0])} is an end of {schedule!r}: the residual needs data and noise and a time strictly "
            f"between {low:g} and {high:g}"
        )
    return t


def _coefficients(schedule: Any, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """g^2, f and c = beta' - f beta at times t, float64 (B,)."""
    f = schedule.drift(t)
    return schedule.g2(t), f, schedule.derivatives(t)[1] - f * schedule.beta(t)


def _vjp(s: Tree, x: Tree, u: Tree) -> Tree:
    """J^T u, which can be differentiated again."""
    names = list(s) if isinstance(s, dict) else None
    outputs, vectors = (leaves(s), leaves(u)) if names is None else ([s[k] for k in names], [u[k] for k in names])
    rows = torch.autograd.grad(outputs, leaves(x), vectors, create_graph=True, retain_graph=True, allow_unused=True)
    filled = [torch.zeros_like(leaf) if row is None else row for row, leaf in zip(rows, leaves(x), strict=True)]
    return dict(zip(x, filled, strict=True)) if isinstance(x, dict) else filled[0]


def _ascent(space: Space, gradient: Tree) -> Tree:
    """The gradient in the coordinates of the density, from that with respect to all stored entries."""
    if isinstance(space, Product):
        return {name: _ascent(leaf, gradient[name]) for name, leaf in space.spaces.items()}
    # the entries of a graph are stored twice: moving one coordinate moves both
    return space.project(gradient) * (2.0 if isinstance(space, Graph) else 1.0)


def _rate(score: Any, schedule: Any, x: Tree, t: Tensor, h: float) -> Tree:
    low, high = schedule.domain
    step = torch.minimum(torch.full_like(t, h), 0.5 * torch.minimum(t - low, high - t))
    after, before = score(x, t + step), score(x, t - step)
    return tree_map(lambda a, b: (a - b) / expand(2.0 * step, a), after, before)


def _rate_exact(s: Tree, t: Tensor) -> Tree:
    """ds/dt by differentiating <v, ds/dt>, which is linear in v, with respect to v."""
    v = tree_map(lambda leaf: torch.zeros_like(leaf, requires_grad=True), s)
    (along,) = torch.autograd.grad(leaves(s), t, leaves(v), create_graph=True, allow_unused=True)
    if along is None:
        raise ValueError('the score does not depend on t for automatic differentiation: use time="difference"')
    rows = torch.autograd.grad(along.sum(), leaves(v), create_graph=True)
    return dict(zip(s, rows, strict=True)) if isinstance(s, dict) else rows[0]


def _root(square: Tensor) -> Tensor:
    """The square root with gradient 0 instead of nan at 0."""
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)
