r"""Predictor-corrector sampling: a step of the reverse SDE, then Langevin steps at the level reached.

Y. Song et al., "Score-based generative modeling through stochastic differential equations", ICLR 2021,
algorithms 2 to 5; on several coupled leaves (nodes and adjacency of a graph) J. Jo et al., "Score-based
generative modeling of graphs via the system of stochastic differential equations" (GDSS), ICML 2022.
Both derive VE and VP separately; here every Gaussian schedule x = alpha x0 + beta y + sigma n is one
case. Write z = x - beta y and s(z) for the score.

**Reverse diffusion.** The forward kernel from t' (less noise) to t is z_t = a z_t' + sqrt(v) n with

    a = alpha_t / alpha_t',    v = sigma_t^2 - a^2 sigma_t'^2,

that is a discretised forward SDE with drift (a - 1) z and variance v, and its reversal is

    z_t' = (2 - a) z_t + v s(z_t) + sqrt(v) n.

For VE (a = 1) and a table of betas (a = sqrt(1 - beta_i), v = beta_i) these are the published updates.

**Euler-Maruyama** on the reverse SDE dz = (f z - g^2 s) dt + g dw, walked from t to t' = t - dt:

    z_t' = z_t - f z_t dt + g^2 s(z_t) dt + g sqrt(dt) n.

**Langevin corrector** at level t, with the signal-to-noise ratio r ("snr"):

    x <- x + eps s(x) + sqrt(2 eps) n,    eps = 2 a^2 (r |n| / |s|)^2.

The published codes average |n| and |s| over the batch, which makes a sample depend on its neighbours
(`compat="published"` does so). Put naively for each sample, the step size has a heavy tail where there are
few degrees of freedom (it has no mean in two dimensions: |s| is small now and then) and is correlated
with n: the stationary law is then visibly wrong. So, for each sample and leaf over the elements that count,

    eps = 2 a^2 r^2 min(sqrt(d) / |s|, sigma)^2,

with sqrt(d) for |n|, its root mean square, and sigma as the bound: s = -E[n | x] / sigma, hence |s| is at
most sqrt(d) / sigma in the mean square; no direction of p_t is narrower than sigma, so that the step is
stable for every r < 1. At |s| = sqrt(d) / sigma, and d large, all of these are the same.

Corrections come before the prediction, so that they happen at every level that has noise: a step is
`corrector_steps` calls at t, then one call that goes from t to t'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..denoisers import Prediction
from ..grids import Grid, check
from ..noise import Noise
from ..schedules import ProductSchedule, Schedule
from ..spaces import Product, Space
from ..tree import Tree
from .adaptive import counted
from .base import Sampler
from .exponential import root
from .state import Query, State

__all__ = ["Move", "Moves", "PerLeaf", "PredictorCorrector", "langevin_step"]

Compat = Literal["published"] | None


class PerLeaf(dict[str, float]):
    """One number a leaf; hashable, so that samplers stay hashable."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


def per_leaf(value: Any, name: str) -> float | PerLeaf:
    """A number >= 0, or a dictionary of those, one a leaf.

    Raises:
        ValueError: for numbers that are negative or not finite.
    """
    numbers = value.values() if isinstance(value, Mapping) else [value]
    for number in numbers:
        if (
            isinstance(number, bool)
            or not isinstance(number, int | float)
            or not (math.isfinite(number) and number >= 0.0)
        ):
            raise ValueError(
                f"{name} must be a finite number >= 0 (or a dictionary of those, one a leaf), got {value!r}"
            )
    return PerLeaf(value) if isinstance(value, Mapping) else value


@dataclass(frozen=True)
class Move:
    """One network call.

    Attributes:
        kind: "corrector" (stays at its level), "predictor", or "both" (one call serves both).
        t, t_next: level of x before and after.
        x, n, z, y: coefficients of the state, the predicted noise, the drawn noise and the reference in
            the prediction; numbers, tensors (1, ...) for elementwise schedules, or dictionaries a leaf.
        a2: the factor a^2 of the corrector's step size.
        sigma: the noise level at t, which bounds it.
        noisy: whether the last noise of the move is added.
        corrects: whether a Langevin correction is part of the move.
    """

    kind: Literal["corrector", "predictor", "both"]
    t: float
    t_next: float
    x: Any = 1.0
    n: Any = 0.0
    z: Any = 0.0
    y: Any = 0.0
    a2: Any = 1.0
    sigma: Any = 1.0
    noisy: bool = True
    corrects: bool = False


@dataclass(frozen=True, eq=False)
class Moves:
    """The plan: one move a network call."""

    moves: tuple[Move, ...]
    grid: Grid


def walks(schedule: Schedule | ProductSchedule, grid: Grid, who: str) -> None:
    """Refuse grids that a reverse SDE cannot walk.

    Raises:
        ValueError: for ascending grids, and for grids that start where no data is left (alpha = 0).
    """
    check(grid, schedule)
    if not grid.descending:
        raise ValueError(f"{who} goes from noise to data, got a grid that ascends; encode with DDIM() on it")
    alpha = schedule.alpha(grid.times[0])
    parts = alpha.values() if isinstance(alpha, dict) else [alpha]
    if any(bool((torch.as_tensor(a) <= 0.0).any()) for a in parts):
        raise ValueError(
            f"alpha = 0 at the start t={grid.times[0]} of the grid: the reverse SDE is infinitely stiff there; "
            f"start at schedule.t_start = {schedule.t_start:.6g}"
        )


def leafwise(schedule: Schedule | ProductSchedule, function: Any) -> Any:
    """Tuples `function(schedule)` turned into a tuple of values, or of dictionaries of them, one a leaf."""
    if not isinstance(schedule, ProductSchedule):
        return function(schedule)
    rows = {name: function(leaf) for name, leaf in schedule.leaves.items()}
    width = len(next(iter(rows.values())))
    return tuple({name: row[k] for name, row in rows.items()} for k in range(width))


def langevin_step(space: Space, score: Tree, z: Tree, snr: Any, move: Move, compat: Compat = None) -> Any:
    """eps of each sample (and leaf); see the module.

    Args:
        space: its norms count real elements only.
        score, z: trees (B, ...); the noise is looked at by `compat="published"` only.
        snr: a number, or a dictionary a leaf.
        move: gives a^2 and sigma.
        compat: "published" uses norms averaged over the batch, and no bound.

    Returns:
        A tensor (B,), or (B, ...) for elementwise schedules; a dictionary of those for product states. Zero
        where nothing counts, and under "published" where the score vanishes.
    """

    def one(space: Space, score: Tensor, z: Tensor, snr: float, a2: Any, sigma: Any) -> Tensor:
        bottom = space.norm(score).double()
        if compat == "published":
            top, bottom = space.norm(z).double().mean(), bottom.mean()
            ratio = torch.where(bottom > 0.0, top / bottom.clamp_min(1e-300), 0.0).expand(score.shape[0])
        else:
            ratio = counted(space, score).sqrt() / bottom.clamp_min(1e-300)
        if isinstance(sigma, Tensor) and sigma.ndim:
            ratio = ratio.view(-1, *[1] * (sigma.ndim - 1))
        if compat is None:
            ratio = torch.minimum(ratio, torch.as_tensor(sigma, dtype=ratio.dtype, device=ratio.device))
        return 2.0 * (a2.to(ratio) if isinstance(a2, Tensor) else a2) * (snr * ratio).square()

    if isinstance(space, Product):
        return {
            name: one(s, score[name], z[name], _pick(snr, name, "snr"), move.a2[name], move.sigma[name])
            for name, s in space.spaces.items()
        }
    if isinstance(snr, Mapping):
        raise ValueError(f"snr names leaves {sorted(snr)}, but the state is one tensor; give one number")
    return one(space, score, z, snr, move.a2, move.sigma)


def _pick(value: Any, name: str, what: str) -> Any:
    if not isinstance(value, Mapping):
        return value
    if name not in value:
        raise ValueError(f"{what} has no value for the leaf {name!r}, it names {sorted(value)}")
    return value[name]


def correct(space: Space, x: Tree, score: Tree, z: Tree, eps: Any, scale: Any, noisy: bool = True) -> Tree:
    """x + eps score + scale sqrt(2 eps) z."""
    terms = [(1.0, x), (eps, score)]
    if noisy:
        if isinstance(eps, dict):
            terms.append(({k: _pick(scale, k, "scale_eps") * (2.0 * e).sqrt() for k, e in eps.items()}, z))
        else:
            terms.append((scale * (2.0 * eps).sqrt(), z))
    return space.lincomb(terms)


class MoveSampler(Sampler):
    """Stochastic samplers whose plan is a list of moves."""

    @property
    def stochastic(self) -> bool:
        return True

    def done(self, plan: Moves, state: State) -> bool:
        return bool(state.i >= len(plan.moves))

    def total(self, plan: Moves) -> int:
        return len(plan.moves)

    def time(self, plan: Moves, state: State) -> float:
        return plan.moves[state.i].t if state.i < len(plan.moves) else plan.moves[-1].t_next


@dataclass(frozen=True)
class PredictorCorrector(MoveSampler):
    """Predictor-corrector sampling of the reverse SDE with Langevin corrections.

    Song et al. 2021, algorithms 2 and 3 (predictors), 4 and 5 (correctors); Jo et al. 2022 on product
    states, where all leaves of a move are updated from one joint call. Network calls: steps times
    (corrector_steps + 1), less what is "none".

    Args:
        predictor: "reverse_diffusion" (the reversed forward kernel), "euler_maruyama", or "none"
            (annealed Langevin dynamics: the state is handed to the next level as it is).
        corrector: "langevin" or "none".
        snr: r of the step size; a number >= 0, or one a leaf.
        corrector_steps: Langevin steps at each level.
        scale_eps: factor on the corrector's noise (GDSS); a number, or one a leaf.
        denoise: the last update of the run adds no noise.
        compat: "published" averages the corrector's norms over the batch: results then depend on how a
            run is cut into batches.

    Raises:
        ValueError: for unknown names and numbers out of range.
    """

    predictor: Literal["reverse_diffusion", "euler_maruyama", "none"] = "reverse_diffusion"
    corrector: Literal["langevin", "none"] = "langevin"
    snr: Any = 0.16
    corrector_steps: int = 1
    scale_eps: Any = 1.0
    denoise: bool = True
    compat: Compat = None

    families: ClassVar[frozenset[str]] = frozenset({"gaussian"})

    def __post_init__(self) -> None:
        if self.predictor not in ("reverse_diffusion", "euler_maruyama", "none"):
            raise ValueError(
                f'predictor must be "reverse_diffusion", "euler_maruyama" or "none", got {self.predictor!r}'
            )
        if self.corrector not in ("langevin", "none"):
            raise ValueError(f'corrector must be "langevin" or "none", got {self.corrector!r}')
        if self.predictor == "none" and self.corrector == "none":
            raise ValueError('predictor and corrector are both "none": nothing would happen')
        if self.corrector_steps < 1:
            raise ValueError(
                f'corrector_steps must be at least 1, got {self.corrector_steps}; corrector="none" is without'
            )
        if self.compat not in (None, "published"):
            raise ValueError(f'compat must be None or "published", got {self.compat!r}')
        object.__setattr__(self, "snr", per_leaf(self.snr, "snr"))
        object.__setattr__(self, "scale_eps", per_leaf(self.scale_eps, "scale_eps"))

    def plan(self, schedule: Schedule | ProductSchedule, grid: Grid) -> Moves:
        return _plan(self, schedule, grid)

    def draw(self, plan: Moves, state: State, space: Space, noise: Noise) -> Tree | None:
        move = plan.moves[state.i]
        if move.kind == "corrector":
            return space.randn(noise, state.x, state.draws, "corrector")
        return space.randn(noise, state.x, state.draws, "step") if move.noisy else None

    def query(self, plan: Moves, state: State, z: Tree | None, space: Space, reference: Tree | None) -> Query:
        return Query(state.x, plan.moves[state.i].t, None, state)

    def advance(
        self,
        plan: Moves,
        state: State,
        query: Query,
        pred: Prediction,
        z: Tree | None,
        space: Space,
        reference: Tree | None,
    ) -> State:
        move = plan.moves[state.i]
        if move.kind == "corrector":
            score = pred.score
            eps = langevin_step(space, score, z, self.snr, move, self.compat)
            x = correct(space, state.x, score, z, eps, self.scale_eps, move.noisy)
        else:
            x = predict(space, move, state.x, pred, z, reference)
        return State(x, state.i + 1, 0, {}, state.aux, None, state.draws if z is None else state.draws + 1)


def predict(space: Space, move: Move, x: Tree, pred: Prediction, z: Tree | None, reference: Tree | None) -> Tree:
    """The prediction of a move from `x`, which may have been corrected since it was asked about."""
    terms = [(move.x, x), (move.n, pred.noise)]
    if z is not None and move.noisy:
        terms.append((move.z, z))
    if reference is not None:
        terms.append((move.y, reference))
    return space.lincomb(terms)


@lru_cache(maxsize=256)
def _plan(sampler: PredictorCorrector, schedule: Schedule | ProductSchedule, grid: Grid) -> Moves:
    walks(schedule, grid, "PredictorCorrector")
    moves: list[Move] = []
    for s, t in grid.pairs():
        x, n, z, y, a2, sigma = leafwise(schedule, lambda leaf, s=s, t=t: _coefficients(sampler.predictor, leaf, s, t))
        if sampler.corrector == "langevin":
            moves += [Move("corrector", s, s, a2=a2, sigma=sigma, corrects=True)] * sampler.corrector_steps
        if sampler.predictor == "none":
            moves[-1] = Move("corrector", s, t, a2=a2, sigma=sigma, corrects=True)
        else:
            moves.append(Move("predictor", s, t, x, n, z, y))
    if sampler.denoise:
        moves[-1] = replace(moves[-1], noisy=False)
    return Moves(tuple(moves), grid)


def _coefficients(predictor: str, schedule: Schedule, s: float, t: float) -> tuple[Any, Any, Any, Any, Any, Any]:
    """Coefficients of (x, predicted noise, drawn noise, reference) from s to t < s, then a^2 and sigma at s."""
    a = schedule.alpha(s) / schedule.alpha(t)
    sigma = schedule.sigma(s)
    if predictor == "euler_maruyama":
        dt, g2 = s - t, schedule.g2(s)
        x, v = 1.0 - schedule.drift(s) * dt, g2 * dt
    else:
        x, v = 2.0 - a, sigma * sigma - a * a * schedule.sigma(t) ** 2
    return x, -v / sigma, root(v), schedule.beta(t) - x * schedule.beta(s), a * a, sigma
