r"""S4: symmetric splitting of the reverse SDE, one network call for a correction and a step.

J. Jo et al., "Score-based generative modeling of graphs via the system of stochastic differential
equations" (GDSS), ICML 2022, section on the Symmetric Splitting for System of SDEs. The reverse-time
SDE of x = alpha x0 + sigma n (f = alpha'/alpha, g^2 = d(sigma^2)/dt - 2 f sigma^2),

    dx = [f x - g^2 s(x, t)] dt + g dw,        t decreasing,

is split into a linear part F: dx = f x dt + g dw, and the score part S: dx = -g^2 s dt, and a step from t
over the middle m to t' is F/2, S, F/2 (Strang).

**F in closed form.** With y = x / alpha the linear part is dy = (g / alpha) dw, and since
d(kappa^2)/dt = g^2 / alpha^2 (kappa = sigma / alpha), walking from t to t' < t gives

    x_t' = (alpha' / alpha) x_t + alpha' sqrt(kappa_t^2 - kappa_t'^2) n.

Walked backwards the drift expands (alpha' > alpha); the noise adds as ever.

**S.** The score is taken once, at (x, t), so that S is the shift x <- x + w s with one of

    w = g(t)^2 (t - t')                                                                        ("left")
    w = int_t'^t g^2 du = int alpha^2 d(kappa^2) = alpha_m^2 (kappa_t^2 - kappa_t'^2) + O(dt^3)  ("integrated").

The frozen score is too small for the rest of the step, for it grows as sigma falls; g(t)^2 is too large by
about as much. The published left point therefore has about half the error of the integral, and is the
default. The last step to sigma = 0 takes the integral, which lands near the data prediction.

**Together.** F is linear and S a shift by a vector that is fixed before the step, so the noises of both
halves merge into one without any error:

    x_t' = (alpha' / alpha) x + (alpha' / alpha_m) w s + alpha' sqrt(kappa_t^2 - kappa_t'^2) n.

**Correction.** Before the step the same score makes a Langevin step at level t (see
`predictor_corrector`), x <- x + eps s + sqrt(2 eps) n. This is where the method saves: a
predictor-corrector method needs two calls for the two.

What the splitting buys is an exact linear part and an exact noise, at weak order 1: the score is frozen
for a whole step, as in Euler-Maruyama, and both have errors of the same size. The correction is of size
snr^2 and does not vanish with the step: neither does its bias (it widens; the left point narrows). Where
alpha is close to 0, F expands without bound: use a log-SNR grid there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

from ..denoisers import Prediction
from ..grids import Grid
from ..noise import Noise
from ..schedules import ProductSchedule, Schedule
from ..spaces import Space
from ..tree import Tree
from .exponential import root
from .predictor_corrector import (
    Compat,
    Move,
    Moves,
    MoveSampler,
    correct,
    langevin_step,
    leafwise,
    per_leaf,
    predict,
    walks,
)
from .state import Query, State

__all__ = ["S4"]


@dataclass(frozen=True)
class S4(MoveSampler):
    """Symmetric splitting solver for (systems of) reverse SDEs. Weak order 1, one call a step.

    Jo et al. 2022 (GDSS). Made for product states, where one joint call serves all leaves; works on any.

    Args:
        snr: signal-to-noise ratio r of the Langevin correction; 0 is without. A number, or one a leaf.
        scale_eps: factor on the correction's noise. A number, or one a leaf.
        weight: w of the score part, "left" (as published) or "integrated"; see the module.
        denoise: the last step adds no noise and is not corrected (its noise would stay in the sample).
        compat: "published" averages the correction's norms over the batch (results then depend on how a run
            is cut), corrects before the last step as well, and takes the left point there.

    Raises:
        ValueError: for unknown names and numbers out of range.
    """

    snr: Any = 0.16
    scale_eps: Any = 1.0
    weight: Literal["left", "integrated"] = "left"
    denoise: bool = True
    compat: Compat = None

    families: ClassVar[frozenset[str]] = frozenset({"gaussian"})

    def __post_init__(self) -> None:
        if self.weight not in ("left", "integrated"):
            raise ValueError(f'weight must be "left" or "integrated", got {self.weight!r}')
        if self.compat not in (None, "published"):
            raise ValueError(f'compat must be None or "published", got {self.compat!r}')
        object.__setattr__(self, "snr", per_leaf(self.snr, "snr"))
        object.__setattr__(self, "scale_eps", per_leaf(self.scale_eps, "scale_eps"))

    @property
    def corrects(self) -> bool:
        """Whether there is a correction at all."""
        return any(self.snr.values()) if isinstance(self.snr, dict) else self.snr > 0.0

    def plan(self, schedule: Schedule | ProductSchedule, grid: Grid) -> Moves:
        return _plan(self, schedule, grid)

    def draw(self, plan: Moves, state: State, space: Space, noise: Noise) -> Any:
        """The noises (of the correction, of the step), each a tree or None."""
        move = plan.moves[state.i]
        if not (move.corrects or move.noisy):
            return None
        return (
            space.randn(noise, state.x, state.draws, "corrector") if move.corrects else None,
            space.randn(noise, state.x, state.draws, "step") if move.noisy else None,
        )

    def query(self, plan: Moves, state: State, z: Any, space: Space, reference: Tree | None) -> Query:
        return Query(state.x, plan.moves[state.i].t, None, state)

    def advance(
        self, plan: Moves, state: State, query: Query, pred: Prediction, z: Any, space: Space, reference: Tree | None
    ) -> State:
        move, x = plan.moves[state.i], state.x
        of_correction, of_step = (None, None) if z is None else z
        if of_correction is not None:
            score = pred.score
            eps = langevin_step(space, score, of_correction, self.snr, move, self.compat)
            x = correct(space, x, score, of_correction, eps, self.scale_eps)
        x = predict(space, move, x, pred, of_step, reference)
        return State(x, state.i + 1, 0, {}, state.aux, None, state.draws if z is None else state.draws + 1)


@lru_cache(maxsize=256)
def _plan(sampler: S4, schedule: Schedule | ProductSchedule, grid: Grid) -> Moves:
    walks(schedule, grid, "S4")
    moves = []
    for k, (s, t) in enumerate(grid.pairs()):
        final = sampler.denoise and k == len(grid) - 1
        left = sampler.weight == "left" and (not final or sampler.compat == "published")
        x, n, z, y, a2, sigma = leafwise(schedule, lambda leaf, s=s, t=t, left=left: _coefficients(leaf, s, t, left))
        corrects = sampler.corrects and (not final or sampler.compat == "published")
        moves.append(Move("both", s, t, x, n, z, y, a2, sigma, not final, corrects))
    return Moves(tuple(moves), grid)


def _coefficients(schedule: Schedule, s: float, t: float, left: bool) -> tuple[Any, Any, Any, Any, Any, Any]:
    """Coefficients of (x, predicted noise, drawn noise, reference) from s to t < s, then a^2 and sigma at s."""
    m = 0.5 * (s + t)
    a_s, a_m, a_t = schedule.alpha(s), schedule.alpha(m), schedule.alpha(t)
    sigma = schedule.sigma(s)
    half, other = _linear(schedule, s, m), _linear(schedule, m, t)
    w = schedule.g2(s) * (s - t) if left else a_m * a_m * ((sigma / a_s) ** 2 - schedule.kappa(t) ** 2)
    x = half[0] * other[0]
    z = root((other[0] * half[1]) ** 2 + other[1] ** 2)  # the noises of both halves
    return x, -other[0] * w / sigma, z, schedule.beta(t) - x * schedule.beta(s), (a_s / a_t) ** 2, sigma


def _linear(schedule: Schedule, s: float, t: float) -> tuple[Any, Any]:
    """The linear part from s to t < s: factor of x and standard deviation of the noise added."""
    a = schedule.alpha(t)
    return a / schedule.alpha(s), a * root(schedule.kappa(s) ** 2 - schedule.kappa(t) ** 2)
