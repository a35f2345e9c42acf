r"""The Ito density estimator: log densities along a stochastic path, without any divergence.

Let q_t be the marginals of the forward SDE dx = f dt + g dw and let a point move backwards in time tau = -t along
*any* drift, with noise of the same size g. Ito's formula for log q_t(x_tau) contains (g^2/2) div s, with s the score,
and so does the Fokker-Planck equation, with the other sign. What is left needs no derivative of the network:

    d log q = <dx, s> + [div f + <f - g^2 s / 2, s>] dtau.

M. Skreta et al., "The superposition of diffusion models using the Ito density estimator", ICLR 2025; for
variance-exploding noise it reads d log q = <dx, s> - sigma |dsigma| |s|^2.

Steps are finite, so the linear part of f is integrated exactly: u = (x - beta y)/alpha lives in variance-exploding
noise of scale kappa = sigma/alpha, and with the predicted noise n = -sigma s a step from level s to level t gives

    log q += d log(alpha_s/alpha_t) - <u_t - u_s, n>/kappa_s - (1 - kappa_t^2/kappa_s^2) |n|^2 / 2,

which agrees with the formula above to first order and knows every schedule, with d, <,> those of the space (`measure`).

**How good.** One step replaces z' H z by tr H, with H the Hessian of log q and z the step's noise. Where the
density is as narrow as the noise that is (1 - kappa_t^2/kappa_s^2)(|z|^2 - d)/2, so that the root mean square error
is at most about sqrt(d/2 sum (1 - kappa_t^2/kappa_s^2)^2), falling like N^(-1/2); the bias falls like 1/N. A warning
says this number when it is large. The formula needs the noise of the SDE: with the deterministic samplers, and with
those that add less or more noise, it converges to something else, and they are refused.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..denoisers import Prediction
from ..grids import _least
from ..hooks import Hook, Step
from ..samplers.base import LinearSampler
from ..samplers.plan import Plan, Row
from ..samplers.state import State
from ..spaces import Space, default_space, expand
from ..tree import Tree
from .measure import check_space, inner, log_normal, log_scale, shifted

__all__ = ["ItoDensity", "check_path", "expected_error", "ito_increment", "log_prior"]


def _pair(a: Any, b: Any, function: Callable[[Any, Any], Any]) -> Any:
    return {name: function(a[name], b[name]) for name in a} if isinstance(a, dict) else function(a, b)


def _times(c: Any, x: Tree) -> Tree:
    """Coefficient (a number, a tensor, or one a leaf) times state, in float64."""

    def leaf(c: Any, x: Tensor) -> Tensor:
        x = x.double()
        return x * (expand(c, x) if isinstance(c, Tensor) else c)

    return {n: leaf(c[n] if isinstance(c, dict) else c, x[n]) for n in x} if isinstance(x, dict) else leaf(c, x)


def ito_increment(pred: Prediction, x_next: Tree, t_next: float, space: Space | None = None) -> Tensor:
    """Change of log q on the way from `pred.x` at `pred.t` to `x_next` at `t_next`, for the model that made `pred`.

    The path may be another model's, or any: only its noise must be that of the forward SDE.

    Args:
        pred: what the model said at the start of the step (at a float time).
        x_next: states at the end of the step, of the shape of `pred.x`.
        t_next: time of `x_next`, closer to the data.
        space: where the states live; default the denoiser's, else plain tensors.

    Returns:
        float64, (B,).

    Raises:
        ValueError: at a start without data (alpha = 0) or without noise, for times a sample, for Student-t noise.
    """
    schedule, t = pred.denoiser.schedule, pred.t
    space = space or pred.denoiser.space or default_space(pred.x)
    _check_schedule(schedule)
    if not isinstance(t, float):
        raise ValueError("the Ito estimator follows a batch at one time; got one time a sample")
    if _least(schedule.alpha(t)) <= 0.0 or _least(schedule.sigma(t)) <= 0.0:
        raise ValueError(f"the Ito estimator needs data and noise at the start of a step, t={t} lacks one of them")
    inverse = {s: _map(schedule.alpha(s), lambda a: 1.0 / a) for s in (t, t_next)}
    per_kappa = _map(schedule.kappa(t), lambda k: 1.0 / k)
    u = _times(inverse[t], shifted(schedule, pred.x, t, pred.reference))
    u_next = _times(inverse[t_next], shifted(schedule, x_next, t_next, pred.reference))
    n = _times(1.0, pred.noise)
    half = _map(_shrink(schedule, t, t_next), lambda c: 0.5 * c)
    moved = _times(per_kappa, _pair(u_next, u, lambda a, b: a - b))
    g = _pair(moved, _times(half, n), lambda a, b: -a - b)
    ratio = _pair(schedule.alpha(t), inverse[t_next], lambda a, b: a * b)
    return inner(space, g, n) + log_scale(space, pred.x, ratio)


def _map(c: Any, function: Callable[[Any], Any]) -> Any:
    return {name: function(v) for name, v in c.items()} if isinstance(c, dict) else function(c)


def _shrink(schedule: Any, t: float, t_next: float) -> Any:
    """1 - kappa_t^2 / kappa_s^2, the share of the noise's variance that a step takes away."""
    return _pair(schedule.kappa(t_next), schedule.kappa(t), lambda a, b: 1.0 - (a / b) ** 2)


def log_prior(schedule: Any, space: Space, x: Tree, t: float, reference: Tree | None) -> Tensor:
    """log density of the schedule's prior N(beta y, prior_std^2) at x, float64, (B,)."""
    return log_normal(space, shifted(schedule, x, t, reference), schedule.prior_std(t))


def expected_error(schedule: Any, plan: Plan, ndof: float) -> float:
    """Upper estimate of the root mean square error of log q over a whole run, in nats (see the module)."""
    total = 0.0
    for ages in plan.rows:
        row = ages[-1]
        shrink = _shrink(schedule, row.t, row.t_next)
        worst = max(float(v.max()) if isinstance(v, Tensor) else v for v in _list(shrink))
        if worst < 1.0:  # not the last step to no noise
            total += worst**2
    return math.sqrt(0.5 * ndof * total)


def check_path(sampler: Any, plan: Any, schedule: Any, space: Space, last_may_be_clean: bool) -> None:
    """Refuse runs whose noise is not that of the SDE.

    Raises:
        ValueError: for deterministic samplers, reduced or increased noise, samplers with several calls a step,
            Student-t noise, spaces without volume, and (unless allowed) a last step to sigma = 0.
    """
    _check_schedule(schedule)
    check_space(space)
    hint = 'use DDPM(), DDPM("large") or DDIM(eta=1.0)'
    if not sampler.stochastic:
        raise ValueError(
            f"{sampler!r} is deterministic: the Ito estimator needs the noise of the SDE; {hint} "
            "(for an ODE's density see log_likelihood)"
        )
    if not isinstance(sampler, LinearSampler) or not isinstance(plan, Plan):
        raise ValueError(f"{sampler!r} chooses its steps as it goes: the Ito estimator follows a grid; {hint}")
    for ages in plan.rows:
        for row in ages:
            _check_row(row, sampler, schedule, last_may_be_clean, hint)


def _check_row(row: Row, sampler: Any, schedule: Any, last_may_be_clean: bool, hint: str) -> None:
    if not row.plain or not row.last:
        raise ValueError(f"{sampler!r} leaves the path inside a step: the Ito estimator needs one call a step; {hint}")
    if row.t_next >= row.t:
        raise ValueError("the Ito estimator walks from noise to data; this grid ascends")
    if _least(schedule.alpha(row.t)) <= 0.0:
        raise ValueError(
            f"no data is left at t={row.t}, where the Ito estimator cannot start; start at schedule.t_start"
        )
    if _least(schedule.sigma(row.t_next)) <= 0.0:
        if last_may_be_clean:
            return
        raise ValueError(
            f"the last step of the grid ends at t={row.t_next} without noise, where the density estimate is lost; end "
            "where sigma > 0, with grids.log_snr(schedule, steps) for example"
        )
    names = list(schedule.leaves) if hasattr(schedule, "leaves") else [None]
    for name in names:
        leaf = schedule if name is None else schedule.leaves[name]
        std = row.std[name] if isinstance(row.std, dict) else row.std
        s, t = leaf.sigma(row.t), leaf.sigma(row.t_next)
        root = (1.0 - (leaf.kappa(row.t_next) / leaf.kappa(row.t)) ** 2) ** 0.5
        small, large = t * root, s * root * leaf.alpha(row.t_next) / leaf.alpha(row.t)
        ratios = torch.as_tensor(std / small), torch.as_tensor(std / large)
        if bool((ratios[0] < 0.99).any()) or bool((ratios[1] > 1.01).any()):
            raise ValueError(
                f"{sampler!r} adds {float(ratios[0].min()):.3g} of the SDE's noise at t={row.t:.6g}: the Ito "
                f"estimator needs all of it; {hint}"
            )


def _check_schedule(schedule: Any) -> None:
    if schedule.family != "gaussian":
        raise ValueError(f"{schedule!r} has Student-t noise: there is no score, and no Ito estimator")


def _list(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else [value]


@dataclass(frozen=True, eq=False)
class ItoDensity(Hook):
    """Hook that keeps the log density of every sample along a stochastic run, in `state.aux["log_q"]`.

    At the end `result.state.aux["log_q"]` (B,) estimates log q of the returned samples at the grid's last time, under
    the model that was sampled. It costs no network call. Put it last among the hooks; hooks that edit x leave the
    path and spoil the estimate.

    Args:
        prior: `prior(x, t) -> (B,)`, log density at the first time; default the schedule's prior.
        tolerance: warn if the expected root mean square error exceeds this many nats.

    Raises:
        ValueError: (when run) for samplers without the SDE's noise, grids that end at sigma = 0, Student-t noise and
            spaces without volume.
    """

    prior: Callable[[Tree, float], Tensor] | None = None
    tolerance: float = 0.5

    def on_step(self, step: Step) -> State:
        if step.new is None:
            raise ValueError("on_step needs the new state")
        if step.call == 0:
            check_path(step.sampler, step.plan, step.schedule, step.space, last_may_be_clean=False)
            warn_few_steps(step, self.tolerance)
        state = step.state
        log_q = state.aux.get("log_q")
        if log_q is not None and log_q.ndim != 1:
            raise ValueError("SuperDiff already keeps its models' log densities in aux['log_q']; use one of the two")
        t = step.plan.time(state.i)
        if log_q is None:
            if self.prior is None:
                log_q = log_prior(step.schedule, step.space, state.x, t, step.reference)
            else:
                log_q = self.prior(state.x, t).double()
        increment = ito_increment(step.pred, step.new.x, step.plan.time(step.new.i), step.space)
        return replace(step.new, aux={**step.new.aux, "log_q": log_q + increment})


def warn_few_steps(step: Step, tolerance: float) -> None:
    """Warn if the grid is too coarse for the estimator."""
    ndof = float(step.space.ndof(step.state.x).max())
    error = expected_error(step.schedule, step.plan, ndof)
    if error > tolerance:
        steps = len(step.plan.rows)
        need = math.ceil(steps * (error / tolerance) ** 2)
        warnings.warn(
            f"the Ito density estimate of {steps} steps may be off by {error:.2g} nats (root mean square); "
            f"about {need} steps bring it to {tolerance:g}",
            stacklevel=2,
        )
