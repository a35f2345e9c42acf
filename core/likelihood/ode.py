r"""Exact log-likelihood through the probability-flow ODE.

Along dx/dt = v(x, t), with v the velocity of the probability flow, the density of a moving point changes by the
divergence alone (instantaneous change of variables),

    d/dt log p_t(x_t) = -div v(x_t, t)
    log p_{t0}(x)     = log p_T(x_T) + int_{t0}^{T} div v(x_t, t) dt,        x_{t0} = x.

A point is carried from the data end t0 of the grid to its noisy end T together with the integral, and p_T is taken
as the schedule's prior, N(beta(T) y, prior_std(T)^2), or as a density that the caller knows. On a subspace (masks,
zero centre of mass, graphs) trace, prior and dimension are those of the subspace; see `measure`.

The divergence is exact, one vector-Jacobian product for each degree of freedom (d VJPs), or Hutchinson's estimate
E <u, J u> with K probes u that stay the same along the path: the ODE remains deterministic, each probe gives one
unbiased answer, and their spread is the standard error.

What the number is: the density of the *state at time t0*, that is, of data scaled by alpha(t0) with noise of scale
sigma(t0), at x; and for a trained network that of its ODE, which is the data's only as far as the network is right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from .. import grids
from ..grids import Grid
from ..noise import SlotNoise
from ..sample import _same_shape
from ..samplers.base import Sampler
from ..spaces import Space, default_space, projects
from ..tree import Tree, batch_size, leaves, tree_map
from .measure import Probe, basis, check_space, contract, log_normal, probe, shifted

__all__ = ["Likelihood", "Method", "log_likelihood"]

Method = Literal["dopri5", "rk4", "heun"]

# Runge-Kutta: nodes, stages, weights. Dormand and Prince (1980) with its embedded fourth-order weights.
_HEUN = ((0.0, 1.0), ((), (1.0,)), (0.5, 0.5))
_RK4 = ((0.0, 0.5, 0.5, 1.0), ((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6))
_DOPRI5 = (
    (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
    (
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0),
)
_DOPRI4 = (5179 / 57600, 0.0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)


@dataclass(frozen=True)
class Likelihood:
    """What `log_likelihood` returns; every number is float64.

    Attributes:
        log_prob: log density of each sample in nats, (B,).
        prior: its part log p_T(x_T), (B,).
        change: its part int div v dt, (B,).
        standard_error: of `log_prob` from the spread of the probes, (B,); zero for an exact divergence, nan for a
            single probe.
        latent: x_T, the samples at the noisy end (B, ...).
        ndof: degrees of freedom of each sample, (B,).
        calls: network calls.
    """

    log_prob: Tensor
    prior: Tensor
    change: Tensor
    standard_error: Tensor
    latent: Tree
    ndof: Tensor
    calls: int

    def bits_per_dim(self, bin_width: float = 1.0) -> Tensor:
        """-log2 of the probability of a cell of `bin_width` to a side, for each degree of freedom, (B,).

        Args:
            bin_width: width of one quantisation step in the units of the state: 2/255 for 8-bit images scaled to
                [-1, 1]. At 1 it is the differential entropy code length itself.
        """
        if not bin_width > 0.0:
            raise ValueError(f"bin_width must be positive, got {bin_width}")
        return -self.log_prob / (self.ndof * math.log(2.0)) - math.log2(bin_width)


def log_likelihood(
    denoiser: Any,
    x: Tree,
    grid: Grid | None = None,
    *,
    steps: int | None = None,
    method: Method = "dopri5",
    divergence: Literal["exact", "hutchinson"] = "exact",
    probes: int = 8,
    probe_kind: Probe = "rademacher",
    seed: int | None = None,
    slots: range | None = None,
    prior: Callable[[Tree, float], Tensor] | None = None,
    reference: Tree | None = None,
    condition: dict[str, Any] | None = None,
    space: Space | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Likelihood:
    """Log density of samples under the probability-flow ODE of a denoiser.

    Y. Song et al., "Score-based generative modeling through stochastic differential equations", ICLR 2021, section
    4.3 and appendix D.2, equation 39; the trace estimator of W. Grathwohl et al., "FFJORD", ICLR 2019.

    Args:
        denoiser: a `Denoiser`, or guidance around one; its network must be differentiable in x.
        x: samples (B, ...), float32 or float64 (float64 for differences below 1e-5).
        grid: times between the data and the noisy end, in either order; the fixed-step methods visit them, "dopri5"
            uses the ends. Default: even in log-SNR from sigma_min (or t = 1e-3) to `schedule.t_start`, with
        steps: this number of steps.
        method: "dopri5" (adaptive, every sample with steps of its own), "rk4" or "heun" (on the grid; order 4, 2).
        divergence: "exact" (d VJPs a call) or "hutchinson" (`probes` VJPs a call).
        probes: number K of probes.
        probe_kind: "rademacher" (signs, the smaller variance) or "gaussian".
        seed: of the probes.
        slots: indices of the samples in a larger run, for probes that do not depend on the batch split.
        prior: `prior(x_T, T) -> (B,)`, log density at the noisy end; default the schedule's prior. With data left at
            T the default is off by what is left: extend the grid, or give the density here.
        reference: the known y of restoration schedules, of the shape of x.
        condition: keyword arguments of the network.
        space: where the states live; default the denoiser's, else plain tensors.
        rtol, atol: tolerances of "dopri5" for the root mean square of the state and for the log density.

    Returns:
        A `Likelihood`.

    Raises:
        TypeError: for a sampler as method.
        ValueError: for a stochastic sampler, Student-t noise, a space without volume, x outside its space, a grid
            that touches a time at which the ODE is singular, or a velocity that does not depend on x.
        FloatingPointError: if the integration breaks down; the message names the time.
    """
    schedule = denoiser.schedule
    _check(denoiser, method, divergence, probes, probe_kind, seed, rtol, atol)
    space = space or denoiser.space or default_space(x)
    check_space(space)
    n = batch_size(x)
    for leaf in leaves(x):
        if leaf.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"x must be float32 or float64, got {leaf.dtype}")
    space.check(x)
    x = _inside(space, x)
    if reference is not None:
        _same_shape(reference, x, "reference")
        reference = space.project(reference)
    if schedule.basis is not None:
        if projects(space):
            raise ValueError(f"{schedule!r} acts on frequencies, where the constraint of {space!r} has no meaning")
        x = schedule.basis.forward(x)
        reference = None if reference is None else schedule.basis.forward(reference)
    times = _times(schedule, grid, steps, method)
    if reference is None and any(_some(b) for b in _values(schedule.beta(times[-1]))):
        raise ValueError(f"{schedule!r} needs reference=, the known y of the shape of x")

    if projects(space):
        denoiser = denoiser.on(space)
    directions: list[Tree] | None = None
    if divergence == "hutchinson":
        noise = SlotNoise(seed or 0, range(n) if slots is None else slots)
        directions = [probe(space, probe_kind, noise, x, k) for k in range(probes)]
    flow = _Flow(denoiser, space, directions, reference, condition or {})
    size = space.ndof(x).double().clamp_min(1)
    start = torch.zeros(1 if directions is None else probes, n, dtype=torch.float64, device=leaves(x)[0].device)
    if method == "dopri5":
        latent, total = _adaptive(flow, x, start, times[0], times[-1], rtol, atol, size)
    else:
        latent, total = _fixed(flow, x, start, times, _RK4 if method == "rk4" else _HEUN)

    end = times[-1]
    if prior is None:
        log_prior = log_normal(space, shifted(schedule, latent, end, reference), schedule.prior_std(end))
    else:
        log_prior = prior(latent, end).double()
        if log_prior.shape != (n,):
            raise ValueError(f"prior must return one log density a sample, ({n},), got {tuple(log_prior.shape)}")
    change = total.mean(0)
    if directions is None:
        error = torch.zeros_like(change)
    else:
        error = total.std(0) / math.sqrt(probes) if probes > 1 else torch.full_like(change, torch.nan)
    return Likelihood(log_prior + change, log_prior, change, error, latent, space.ndof(x), flow.calls)


class _Flow:
    """Velocity and divergence of the probability flow: `flow(x, t) -> (v, div)` with div (K, B)."""

    def __init__(
        self, denoiser: Any, space: Space, probes: list[Tree] | None, reference: Tree | None, condition: dict[str, Any]
    ) -> None:
        self.denoiser, self.space, self.probes = denoiser, space, probes
        self.reference, self.condition = reference, condition
        self.calls = 0

    def __call__(self, x: Tree, t: Any) -> tuple[Tree, Tensor]:
        self.calls += 1
        with torch.inference_mode(False), torch.enable_grad():
            x = tree_map(lambda leaf: leaf.detach().clone().requires_grad_(True), x)
            pred = self.denoiser(self.space.project(x), t, reference=self.reference, **self.condition)
            v = self.space.project(pred.velocity)
            if not any(leaf.requires_grad for leaf in leaves(v)):
                raise ValueError(
                    "the velocity does not depend on x for automatic differentiation: the network must be "
                    "differentiable (no no_grad, inference_mode or detach inside) to have a divergence"
                )
            if self.probes is None:
                div = sum(self._term(v, x, e) for e in basis(self.space, x))
                div = div[None] if isinstance(div, Tensor) else torch.zeros(1, batch_size(x), dtype=torch.float64)
            else:
                div = torch.stack([self._term(v, x, u) for u in self.probes])
        v = tree_map(Tensor.detach, v)
        if not (bool(torch.isfinite(div).all()) and all(bool(torch.isfinite(leaf).all()) for leaf in leaves(v))):
            at = f"{t:.6g}" if isinstance(t, float) else f"{t.min().item():.6g} to {t.max().item():.6g}"
            raise FloatingPointError(f"velocity or divergence is not finite at t={at}; end the grid before that time")
        return v, div.to(leaves(v)[0].device)

    def _term(self, v: Tree, x: Tree, u: Tree) -> Tensor:
        """<u, J u> of each sample; samples of a batch do not meet."""
        names = list(v) if isinstance(v, dict) else None
        outputs, vectors = (leaves(v), leaves(u)) if names is None else ([v[k] for k in names], [u[k] for k in names])
        used = [k for k, leaf in enumerate(outputs) if leaf.requires_grad]
        rows = torch.autograd.grad(
            [outputs[k] for k in used], leaves(x), [vectors[k] for k in used], retain_graph=True, allow_unused=True
        )
        filled = [torch.zeros_like(leaf) if row is None else row for row, leaf in zip(rows, leaves(x), strict=True)]
        return contract(filled[0] if names is None else dict(zip(x, filled, strict=True)), u)


def _axpy(space: Space, x: Tree, h: Any, terms: Sequence[tuple[float, Tree]]) -> Tree:
    return space.lincomb([(1.0, x), *((c * h, k) for c, k in terms if c)])


def _stages(
    flow: _Flow, x: Tree, t: Any, h: Any, nodes: Sequence[float], table: Sequence[Sequence[float]], first: Any = None
) -> tuple[list[Tree], list[Tensor], Tree]:
    """Velocities, divergences and the last stage's state of a Runge-Kutta step from (x, t) of length h."""
    v: list[Tree] = []
    d: list[Tensor] = []
    at = x
    for k, (c, row) in enumerate(zip(nodes, table, strict=True)):
        if k == 0 and first is not None:
            one = first
        else:
            at = _axpy(flow.space, x, h, list(zip(row, v, strict=False))) if k else x
            one = flow(at, t + c * h)
        v.append(one[0])
        d.append(one[1])
    return v, d, at


def _fixed(flow: _Flow, x: Tree, total: Tensor, times: Sequence[float], method: Any) -> tuple[Tree, Tensor]:
    nodes, table, weights = method
    for k in range(len(times) - 1):
        h = times[k + 1] - times[k]
        v, d, _ = _stages(flow, x, times[k], h, nodes, table)
        x = _axpy(flow.space, x, h, list(zip(weights, v, strict=True)))
        total = total + h * sum(w * one for w, one in zip(weights, d, strict=True))
    return x, total


def _adaptive(
    flow: _Flow, x: Tree, total: Tensor, start: float, end: float, rtol: float, atol: float, size: Tensor
) -> tuple[Tree, Tensor]:
    """Dormand-Prince with a time and a step size for every sample; arrived samples are carried along."""
    space, n = flow.space, batch_size(x)
    nodes, table, weights = _DOPRI5
    device = total.device
    t = torch.full((n,), start, dtype=torch.float64, device=device)
    h = torch.full((n,), (end - start) * 1e-3, dtype=torch.float64, device=device)
    first = flow(x, t)

    def rms(state: Tree) -> Tensor:
        return space.norm(state).double() / size.sqrt()

    while bool((t < end).any()):
        h = torch.minimum(h, end - t)
        v, d, new = _stages(flow, x, t, h, nodes, table, first)
        grown = total + h * sum(w * one for w, one in zip(weights, d, strict=True))
        gap = [(w - u) for w, u in zip(weights, _DOPRI4, strict=True)]
        off = h * rms(space.lincomb([(c, k) for c, k in zip(gap, v, strict=True) if c]))
        off_log = (h * sum(c * one for c, one in zip(gap, d, strict=True))).mean(0).abs()
        error = torch.maximum(
            off / (atol + rtol * torch.maximum(rms(x), rms(new))), off_log / (atol + rtol * grown.mean(0).abs())
        )
        accept = (error <= 1.0) & (t < end)
        t = torch.where(accept, torch.where(t + h >= end - 1e-15, end, t + h), t)
        x, first_v = space.where(accept, new, x), space.where(accept, v[-1], first[0])
        first = (first_v, torch.where(accept, d[-1], first[1]))
        total = torch.where(accept, grown, total)
        h = h * (0.9 * error.clamp_min(1e-10).pow(-0.2)).clamp(0.2, 5.0)
        stuck = (h < 1e-13 * (end - start)) & (t < end)
        if bool(stuck.any()):
            k = int(stuck.nonzero()[0])
            raise FloatingPointError(
                f"the step size of sample {k} vanished at t={float(t[k]):.6g}: the velocity is too rough for "
                f'rtol={rtol:g}, atol={atol:g}; use larger tolerances, or method="rk4" on a grid'
            )
    return x, total


def _check(
    denoiser: Any, method: Any, divergence: str, probes: int, kind: str, seed: int | None, rtol: float, atol: float
) -> None:
    if isinstance(method, Sampler):
        if method.stochastic:
            raise ValueError(
                f"{method!r} adds noise: the likelihood follows the deterministic probability flow; use "
                f'method="dopri5", "rk4" or "heun" (for densities along a stochastic path see ItoDensity)'
            )
        raise TypeError(f'method is "dopri5", "rk4" or "heun", got the sampler {method!r}')
    if method not in get_args(Method):
        raise ValueError(f'method must be "dopri5", "rk4" or "heun", got {method!r}')
    if divergence not in ("exact", "hutchinson"):
        raise ValueError(f'divergence must be "exact" or "hutchinson", got {divergence!r}')
    if kind not in get_args(Probe):
        raise ValueError(f'probe_kind must be "rademacher" or "gaussian", got {kind!r}')
    if divergence == "hutchinson":
        if isinstance(probes, bool) or not isinstance(probes, int) or probes < 1:
            raise ValueError(f"probes must be a positive integer, got {probes!r}")
        if seed is None:
            raise ValueError("Hutchinson's estimate draws random probes: give seed= (any integer)")
    if not (rtol > 0.0 and atol > 0.0):
        raise ValueError(f"rtol and atol must be positive, got {rtol}, {atol}")
    if denoiser.schedule.family != "gaussian":
        raise ValueError(
            f"{denoiser.schedule!r} has Student-t noise: its prior and score are not Gaussian, and its likelihood is "
            "not offered; use a Gaussian schedule"
        )
    if denoiser.needs_state:
        raise ValueError(f"{denoiser!r} depends on a run's state and defines no ODE of its own")


def _inside(space: Space, x: Tree) -> Tree:
    """x, refused if it lies outside its space: there the density is zero."""
    inside = space.project(x)
    for a, b in zip(leaves(x), leaves(inside), strict=True):
        gap = (a - b).abs().amax() if a.numel() else a.new_zeros(())
        if bool(gap > 1e-4 * (1.0 + b.abs().amax())):
            raise ValueError(f"x lies outside {space!r} by {float(gap):.3g}; project it first (space.project(x))")
    return inside


def _times(schedule: Any, grid: Grid | None, steps: int | None, method: str) -> tuple[float, ...]:
    if grid is None:
        if steps is None:
            if method != "dopri5":
                raise ValueError(f'give grid= or steps= for method="{method}"')
            steps = 1
        grid = grids.log_snr(schedule, steps)
    elif steps is not None and steps != len(grid):
        raise ValueError(f"grid has {len(grid)} steps, steps={steps} was given as well; give one of them")
    grids.check(grid, schedule)
    times = grid.times if grid.times[0] < grid.times[-1] else grid.times[::-1]
    for t in (times[0], times[-1]):
        rates = [r for triple in schedule.derivatives(t) for r in _values(triple)]
        if not all(_finite(r) for r in rates):
            raise ValueError(
                f"the probability flow of {schedule!r} is singular at t={t}: start the grid a little inside, at "
                "t = 1e-3 for example"
            )
    return times


def _values(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else [value]


def _finite(value: Any) -> bool:
    return bool(torch.isfinite(value).all()) if isinstance(value, Tensor) else math.isfinite(value)


def _some(value: Any) -> bool:
    return bool((value != 0).any()) if isinstance(value, Tensor) else value != 0.0
