r"""Samplers of continuous-time chains, which need rates only: Euler and tau-leaping.

Walking from t to s = t - h, the model's reverse rate R(x, v) says how often a token jumps from x to v. It is held at
its value at t, the noisier end, where it is finite (towards t = 0 the rate of a token that is not yet the data's grows
like 1 / t). With Lam = sum_v R(x, v), each token on its own,

    Euler                   P(v) = h R(x, v),                    stays with the rest; if h Lam > 1, scaled to one
    tau-leaping, first      P(v) = (1 - exp(-h Lam)) R(x, v) / Lam       the first jump within h, no second one
    tau-leaping, reject     P(v) = h R(x, v) exp(-h Lam)         exactly one jump; a token with more of them stays

A. Campbell et al., "A continuous time framework for discrete denoising models" (tauLDR), NeurIPS 2022: jumps to each
state are Poisson numbers with the means h R(x, v), and categories cannot be added up, so a token with several jumps is
left where it was ("reject"). All are of order one in h.

**Tilts** multiply R(x, v) by exp(tilt) at the jump's target v (H. Nisonoff et al., "Unlocking guidance for discrete
state-space diffusion and flow models", ICLR 2025: R p(y | x~) / p(y | x)). That is exact where R is the reversal of a
chain, for then p(y | x_t) is a martingale of the way back. The rates of a `TokenPath` are no reversal: their chain has
the marginals of the path, but not its p(x_0 | x_t), and tilted it misses p(x_0 | y) however small the steps are. There
condition the prediction p(x_0 | x_t) itself.

**The last step.** At t = 0 nothing may be left undecided. A token whose own time becomes 0 is drawn from p(x_0 | x_t)
(`final="predict"`), as published codes do. With `final="rate"` it takes a step like others: under tau-leaping a masked
token then survives with probability exp(-h Lam).

**Corrector** (Campbell et al.). The forward rate R_t and the reverse rate, added up, leave the law at t as
it is; steps with the sum at the level that was reached bring the samples closer to it. Each costs a network call.

**One target.** `target="draw"` draws one x_0 ~ p(x_0 | x_t) a token and takes the rate given x_0 instead of its mean
over x_0. For Euler the law of a step is the same (while h Lam <= 1). For tau-leaping the jumps of different x_0 no more
add up before the exponential: of order one still, up to a logarithm where 1 - alpha starts like t. It saves the mean
where that is dear (`MetricPath`: S^2 for each token).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from ...grids import Grid
from ...noise import Noise
from ...samplers.state import Query, State
from ...schedules import maths as m
from ...schedules.maths import Scalar
from ...spaces import Space
from ...tree import Tree, tree_map
from ..categorical import categorical, uniforms
from ..certain import certain
from ..interpolating import Masked
from ..paths import TokenPath
from ..process import Process, at, level, tiles
from .base import Steps, TokenSampler, among, each, leaf_processes, own_places

__all__ = ["Euler", "TauLeaping"]


@dataclass(frozen=True)
class _Jumps(TokenSampler):
    """What both share. Subclasses say with which probability a token leaves.

    Args:
        final: "predict" draws tokens that arrive at t = 0 from p(x_0 | x_t); "rate" takes a step like any other.
        correctors: corrector steps at every level between the first and the last.
        corrector_step: length of a corrector step, in lengths of the step that led to the level.
        correct_below: correct only at levels up to this time.
        target: "mean" takes the mean rate over p(x_0 | x_t), "draw" the rate given one x_0 drawn from it.
    """

    final: Literal["predict", "rate"] = "predict"
    correctors: int = 0
    corrector_step: float = 1.0
    correct_below: float = 1.0
    target: Literal["mean", "draw"] = "mean"

    def __post_init__(self) -> None:
        if self.final not in ("predict", "rate"):
            raise ValueError(f'final is "predict" or "rate", got {self.final!r}')
        if self.target not in ("mean", "draw"):
            raise ValueError(f'target is "mean" or "draw", got {self.target!r}')
        if isinstance(self.correctors, bool) or not isinstance(self.correctors, int) or self.correctors < 0:
            raise ValueError(f"correctors is a number of steps a level, an integer >= 0, got {self.correctors!r}")
        for name in ("corrector_step", "correct_below"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} must be positive and finite, got {value!r}")

    def _leave(self, n: Tensor) -> Tensor:
        """Probability of a jump, where n = h Lam are expected; n >= 0 or infinite."""
        raise NotImplementedError

    def check(self, schedule: Any, space: Space) -> None:
        super().check(schedule, space)
        for leaf in leaf_processes(schedule):
            if self.correctors and isinstance(leaf, TokenPath):
                raise ValueError(f"correctors need a forward rate, which {leaf!r} has not; use correctors=0")

    def plan(self, schedule: Any, grid: Grid) -> Steps:
        """Levels that are corrected are named again, once for each corrector call."""
        times = list(super().plan(schedule, grid).times)
        for k in reversed(range(1, len(times) - 1)):
            if times[k] <= self.correct_below:
                times[k:k] = [times[k]] * self.correctors
        return Steps(schedule, tuple(times))

    def draw(self, plan: Any, state: State, space: Space, noise: Noise) -> Tree:
        u = super().draw(plan, state, space, noise)
        if self.target == "mean":
            return u
        targets = uniforms(noise, space, state.x, state.draws, "target")
        return tree_map(lambda a, b: torch.stack([a, b], -1), u, targets)

    def advance(
        self, plan: Steps, state: State, query: Query, pred: Any, z: Tree, space: Space,
        reference: Tree | None,
    ) -> State:  # fmt: skip
        r, s, t = _before(plan.times, state.i), plan.times[state.i + 1], plan.times[state.i]

        def leaf(
            process: Process, rows: Any, x: Tensor, u: Tensor, tilt: Tensor | None, y: Tensor | None, own: Tensor | None
        ) -> Tensor:
            now, other = process.local(t, y), process.local(r if s == t else s, y)
            step = partial(self._correct if s == t else self._step, process)
            return among(own, step, rows, x, other, now, u, tilt)

        x = space.project(each(pred, leaf, state.x, z, pred.tilt, reference, own_places(space, state.x)))
        return State(x, state.i + 1, 0, {}, state.aux, None, state.draws + 1)

    # ------------------------------------------------------------------ the law of a step
    def law(
        self, process: Process, log_p: Tensor, x: Tensor, s: Scalar, t: Scalar, tilt: Tensor | None = None
    ) -> Tensor:
        """Probabilities of each token's next value in the step from t to s, (..., S), float64.

        Args:
            log_p: log p(x_0 | x_t), (..., S).
            x: x_t (...), long.
            s, t: times as the tokens see them: floats, (B,) or (B, L).
            tilt: log-factors of the rates, (..., S), or None.
        """
        arrives = self._arrives(s, t, x)
        there = None if arrives is None else _tilted(log_p, tilt).double().softmax(-1)
        if arrives is not None and there is not None and bool(arrives.all()):
            return there
        if self.target == "mean":
            out = self._spread(x, self._jumps(process, log_p, None, x, s, t, tilt))
        else:
            out = torch.zeros(log_p.shape, dtype=torch.float64, device=x.device)
            for k in range(process.states):
                given = self._spread(x, self._jumps(process, log_p, torch.full_like(x, k), x, s, t, tilt))
                out += log_p[..., k : k + 1].double().exp() * given
        return out if arrives is None or there is None else torch.where(arrives.unsqueeze(-1), there, out)

    def corrector_law(
        self, process: Process, log_p: Tensor, x: Tensor, t: Scalar, r: Scalar, tilt: Tensor | None = None
    ) -> Tensor:
        """The same for a corrector step at t, which was reached from r > t."""
        return self._spread(x, self._corrector_jumps(process, log_p, x, t, r, tilt))

    def _spread(self, x: Tensor, log_n: Tensor) -> Tensor:
        log_n = log_n.double()
        total = log_n.logsumexp(-1, keepdim=True)
        leave = self._leave(total.exp())
        out = torch.where(leave > 0.0, (log_n - total).exp() * leave, 0.0)
        return out.scatter(-1, x.unsqueeze(-1), 1.0 - leave)

    def _arrives(self, s: Scalar, t: Scalar, x: Tensor) -> Tensor | None:
        """The tokens whose own time becomes 0, if those are predicted."""
        if self.final == "rate":
            return None
        if not isinstance(s, Tensor) and not isinstance(t, Tensor):
            return torch.ones_like(x, dtype=torch.bool) if s == 0.0 < t else None
        zero = torch.as_tensor(s == 0.0, device=x.device) & torch.as_tensor(t > 0.0, device=x.device)
        return level(zero, x).expand(x.shape)

    def _jumps(
        self, process: Process, log_p: Tensor, x0: Tensor | None, x: Tensor, s: Scalar, t: Scalar, tilt: Tensor | None
    ) -> Tensor:
        """log of the expected number of jumps to each state, given x_0 or in the mean over it: (..., S)."""
        h = t - s
        if isinstance(process, TokenPath):
            n = process.reverse_jumps(log_p, x, s, t) if x0 is None else process.conditional_jumps(x0, x, s, t)
        else:
            n = process.reverse_rate(log_p if x0 is None else certain(log_p, x0), x, t)
            n = n * (level(h, n).to(n) if isinstance(h, Tensor) else h)
        if isinstance(h, Tensor):  # tokens whose time stands still; their rates may be infinite
            n = torch.where(level(h > 0.0, n), n, n.new_zeros(()))
        return _tilted(n.log(), tilt)

    def _corrector_jumps(
        self, process: Process, log_p: Tensor, x: Tensor, t: Scalar, r: Scalar, tilt: Tensor | None
    ) -> Tensor:
        back = process.reverse_rate(log_p, x, t)
        n = process.forward_rate(x, t).to(back) + (back if tilt is None else back * tilt.exp())
        h = self.corrector_step * (r - t)
        n = n * (level(h, n).to(n) if isinstance(h, Tensor) else h)
        if isinstance(t, Tensor):  # tokens that are done, or have not begun
            n = torch.where(level((t > 0.0) & (t < 1.0), n), n, n.new_zeros(()))
        return n.log()

    # ------------------------------------------------------------------ drawing from it
    def _step(
        self, process: Process, rows: Any, x: Tensor, s: Scalar, t: Scalar, u: Tensor, tilt: Tensor | None
    ) -> Tensor:
        """x_s: one draw from `law` a token."""
        if not isinstance(process, Masked):
            return self._tiled(self._step_all, process, rows, x, s, t, u, tilt)
        masked = x == process.mask
        if tilt is not None:
            return among(masked, partial(self._tiled, self._step_all, process), rows, x, s, t, u, tilt)
        u, first = (u, None) if self.target == "mean" else u.unbind(-1)
        arrives = self._arrives(s, t, x)
        n = _held(Masked.hazard(process, t) * (t - s), t > s, x)
        return self._decide(process, rows, x, masked, n, u, first, arrives)

    def _correct(
        self, process: Process, rows: Any, x: Tensor, r: Scalar, t: Scalar, u: Tensor, tilt: Tensor | None
    ) -> Tensor:
        """One draw from `corrector_law` a token, at t, reached from r."""
        if not isinstance(process, Masked):
            return self._tiled(self._correct_all, process, rows, x, r, t, u, tilt)
        masked, h = x == process.mask, self.corrector_step * (r - t)
        on = (t > 0.0) & (t < 1.0) if isinstance(t, Tensor) else True
        lost = _held(m.div(process.schedule.speed(t), process.schedule.alpha(t)) * h, on, x)
        v = u if self.target == "mean" else u[..., 0]
        again = ~masked & (v >= 1.0 - self._leave(lost))
        if tilt is None:
            out = self._decide(process, rows, x, masked, _held(Masked.hazard(process, t) * h, on, x), v)
        else:
            out = among(masked, partial(self._tiled, self._correct_all, process), rows, x, r, t, u, tilt)
        return torch.where(again, process.mask, out)

    def _decide(
        self, process: Masked, rows: Any, x: Tensor, masked: Tensor, n: Tensor, u: Tensor, first: Tensor | None = None,
        arrives: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Masked tokens leave where n jumps are expected, for values by p(x_0 | x_t): nobody else is asked about.

        Args:
            n: (...), float64.
            u: uniforms for leaving, and for the value where there is no `first`.
            first: uniforms for the value.
            arrives: boolean (...), tokens that leave whatever n is.
        """
        stay = 1.0 - self._leave(n)
        value = (u - stay) / (1.0 - stay) if first is None else first  # uniform again, given that the token leaves
        leave = u >= stay
        if arrives is not None:
            leave, value = leave | arrives, torch.where(arrives, u if first is None else first, value)
        return process.decide(rows, x, masked & leave, 0.0, value)

    def _tiled(
        self, step: Any, process: Process, rows: Any, x: Tensor, s: Scalar, t: Scalar, u: Tensor, tilt: Tensor | None
    ) -> Tensor:
        """`step` part by part: what it makes of the probabilities is a multiple of them."""
        out = x.clone()
        for tile in tiles(x.shape, process.states, x.device):
            near, far, given = (at(c, tile, x.shape) for c in (s, t, tilt))
            out[tile] = step(process, rows(tile), x[tile], near, far, u[tile], given)
        return out

    def _step_all(
        self, process: Process, log_p: Tensor, x: Tensor, s: Scalar, t: Scalar, u: Tensor, tilt: Tensor | None
    ) -> Tensor:
        arrives = self._arrives(s, t, x)
        all_arrive = arrives is not None and bool(arrives.all())
        x0, first = None, u
        if self.target == "draw":
            u, first = u.unbind(-1)
            x0 = None if all_arrive else categorical(log_p, first)
        out = x if all_arrive else self._jump(x, self._jumps(process, log_p, x0, x, s, t, tilt), u)
        if arrives is None or not bool(arrives.any()):
            return out
        out = out.clone()
        out[arrives] = categorical(_tilted(log_p, tilt)[arrives], first[arrives]).to(x.dtype)
        return out

    def _correct_all(
        self, process: Process, log_p: Tensor, x: Tensor, r: Scalar, t: Scalar, u: Tensor, tilt: Tensor | None
    ) -> Tensor:
        u = u if self.target == "mean" else u[..., 0]
        return self._jump(x, self._corrector_jumps(process, log_p, x, t, r, tilt), u)

    def _jump(self, x: Tensor, log_n: Tensor, u: Tensor) -> Tensor:
        n = log_n.logsumexp(-1).double().exp()
        if bool(n.isnan().any()):
            raise FloatingPointError("the rates hold nan: check the network's output and what tilts the transitions")
        stay = 1.0 - self._leave(n)
        leave = u >= stay
        if not bool(leave.any()):
            return x
        part = ((u - stay) / (1.0 - stay))[leave]  # uniform again, given that the token leaves
        out = x.clone()
        out[leave] = categorical(log_n[leave], part).to(x.dtype)
        return out


@dataclass(frozen=True)
class Euler(_Jumps):
    """Euler steps of the reverse chain: a token jumps to v with probability h R(x, v).

    Where these add up to more than one they are scaled to one: the step is too long for the rate there.

    Args:
        final, correctors, corrector_step, correct_below, target: see the base, and the module.
    """

    def _leave(self, n: Tensor) -> Tensor:
        return n.clamp_max(1.0)


@dataclass(frozen=True)
class TauLeaping(_Jumps):
    """Tau-leaping: jumps are Poisson events at rates that are held during a step.

    Args:
        final, correctors, corrector_step, correct_below, target: see the base, and the module.
        multiple: what happens to a token with several jumps in a step: "first" makes the first of them, "reject" makes
            none (Campbell et al., 2022).
    """

    multiple: Literal["first", "reject"] = "first"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.multiple not in ("first", "reject"):
            raise ValueError(f'multiple is "first" or "reject", got {self.multiple!r}')

    def _leave(self, n: Tensor) -> Tensor:
        if self.multiple == "first":
            return -torch.expm1(-n)
        return n.clamp_max(1e6) * (-n).exp()


def _before(times: tuple[float, ...], i: int) -> float:
    """The level before that of call i, for corrector calls."""
    k = i
    while k > 0 and times[k] == times[i]:
        k -= 1
    return times[k]


def _tilted(log_weights: Tensor, tilt: Tensor | None) -> Tensor:
    return log_weights if tilt is None else log_weights + tilt


def _held(n: Scalar, on: Any, x: Tensor) -> Tensor:
    """Expected jumps of each token, (...), float64; none where the time stands still, though rates may be infinite."""
    n, on = (torch.as_tensor(level(c, x), device=x.device) for c in (n, on))
    return torch.where(on, n.double(), 0.0).expand(x.shape)
