r"""Remasking: tokens of a masked process may be taken back, so that errors can be repaired.

G. Wang, Y. Schiff, S. Sahoo, V. Kuleshov, "Remasking discrete diffusion models with inference-time scaling" (ReMDM),
2025. In the masked process a decided token stays for good. The marginals alpha_t do not ask for that: with any
0 <= sigma <= sigma_max = min(1, (1 - alpha_s) / alpha_t), a step from t to s < t (eq. 6)

    a token:    becomes the mask with probability sigma
    the mask:   stays it with probability (1 - alpha_s - sigma alpha_t) / (1 - alpha_t), else is drawn from p(x_0 | x_t)

leaves a fraction alpha_t (1 - sigma) + alpha_s - (1 - sigma) alpha_t = alpha_s unmasked, whatever sigma. The network is
the one of the masked process. How much is remasked, sigma_t, is

    rescale min(cap, rate (alpha_s - alpha_t) / alpha_t, sigma_max).

With `rate` it is in proportion to the step: a rate of remasking in continuous time. rate=1 is the forward-backward
corrector, as the paper notes. The others remask in each step as much however short it is: more steps, more repairs.

**Where.** With `switch`, from that time on. With `loop`, the run goes down to a level, stays there for a part of the
grid in which tokens are only exchanged (alpha_s = alpha_t), and goes on: it remasks in the stay alone.

**Which.** With `conf`, tokens in which the network had little confidence: psi_j, the probability that a token had when
it was decided, gives

    sigma_j = sigma_t exp(-psi_j) / sum_l exp(-psi_l),        the sum over decided tokens.

As psi lies in [0, 1], weights differ by a factor e at most; they sum to one, so that at most one token a step is taken
back on average, however long the sequence. In the paper masked tokens are decided as if none were; then more than
1 - alpha_s is masked on the way, and in a loop's stay nothing would be decided again. Here they are decided by (6) with
sigma = sigma_t (1 - (1 - alpha_t)^L) / (L alpha_t): the L tokens' mean share of sigma_t where each is decided with
probability alpha_t. That gives back what is taken, on average (exactly for L = 1).

**Convergence.** One token alone follows its true marginals for any sigma and any steps. Of several, those decided in
one step are taken as independent. With `rate` that error falls as 1/N in N steps, as with `Ancestral`. With a fixed cap
or rescale a step exchanges as many tokens however short it is; what it does wrong is repaired by later steps, which do
little wrong near the data only, where few tokens are masked at a time: the error falls as 1/sqrt(N). The stay of a
`loop` keeps an error in proportion to its cap.

**What it repairs**: the errors that a network makes when much is masked and does not make when little is. On laws of
3^4 sequences (`Sequences.random(3, 4, seed)`, mean of three seeds) with the exact p(x_0 | x_t) mixed with wrong
independent factors, weight w, the total variation from the data's law, by propagation of the whole law, is

========================================  ==================  ========  =========  ==========
w                                         sampler             16 steps  128 steps  1024 steps
========================================  ==================  ========  =========  ==========
0.3 (masked tokens - 1) / (L - 1)         `Ancestral()`          0.108      0.085       0.083
..                                        cap=0.02               0.106      0.062       0.029
..                                        rate=1                 0.108      0.068       0.064
..                                        cap=0.02, `Loop()`     0.116      0.055       0.033
0.1 everywhere                            `Ancestral()`          0.104      0.078       0.075
..                                        cap=0.02               0.107      0.090       0.102
..                                        rate=1                 0.125      0.085       0.080
..                                        cap=0.02, `Loop()`     0.120      0.091       0.098
========================================  ==================  ========  =========  ==========

More steps go on helping where errors are taken back: in the first case, with remasking. In the second the network errs
as much in the end, so that remasking has nothing better to put in and is worse than `Ancestral`; with an exact network
it is worse as well (at 128 steps 0.012 with the cap, 0.008 with the rate, against 0.005).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ...grids import Grid
from ...samplers.state import Query, State
from ...schedules import maths as m
from ...schedules.maths import Scalar
from ...spaces import Space
from ...tree import Tree, tree_map
from ..interpolating import Masked
from ..places import places
from ..process import ProductProcess, leafwise, level
from .base import Steps, TokenSampler, each, leaf_processes

__all__ = ["Loop", "Remasking"]


@dataclass(frozen=True)
class Loop:
    """Three phases of a grid of times tau: down to a level, a stay there, down to the data.

    tau from 1 to `on` covers the levels from noise to `alpha`, from `on` to `off` it stays there, from `off` to 0 it
    covers the rest; in between the process' time is linear in tau (with `keep="linear"` so is alpha, as in the paper's
    code). The defaults are the paper's for text (OpenWebText, at least as many steps as tokens, with cap=0.02).

    Args:
        on, off: 1 > on > off > 0.
        alpha: fraction of tokens that are decided during the stay, in (0, 1).

    Raises:
        ValueError: for numbers out of range.
    """

    on: float = 0.55
    off: float = 0.05
    alpha: float = 0.9

    def __post_init__(self) -> None:
        if not 1.0 > self.on > self.off > 0.0:
            raise ValueError(f"a loop needs 1 > on > off > 0, got on={self.on}, off={self.off}")
        if not 0.0 < self.alpha < 1.0:
            raise ValueError(f"alpha, the fraction decided during the stay, lies in (0, 1); got {self.alpha}")

    def time(self, tau: float, stay: float) -> float:
        """The process' time at tau of the grid; `stay` is the time at which a fraction `alpha` is decided."""
        if tau > self.on:
            return 1.0 - (1.0 - tau) * (1.0 - stay) / (1.0 - self.on)
        return stay if tau >= self.off else tau * stay / self.off


@dataclass(frozen=True)
class Remasked(Steps):
    """The plan of a run.

    Attributes:
        active: for each step, whether tokens may be remasked in it.
    """

    active: tuple[bool, ...]


@dataclass(frozen=True)
class Remasking(TokenSampler):
    """Ancestral sampling of a masked process that may take tokens back; as many network calls as the grid has steps.

    Say how much with at least one of `cap`, `rate`, `rescale` and `conf` (then sigma_max is shared out unless less is
    asked for). The paper's numbers for text: cap=0.02 in a `Loop()`, or alone cap=0.008 or rescale=0.015, with at least
    as many steps as tokens; with fewer, cap=0.04 or rescale=0.045; for images rescale=0.05; for molecules (QM9)
    rescale=0.9 with conf. rescale=0 is `Ancestral`.

    Args:
        cap: upper bound of sigma, in [0, 1].
        rescale: factor on sigma, in [0, 1].
        rate: upper bound of sigma in units of (alpha_s - alpha_t) / alpha_t, >= 0; not with `loop`, where that is zero.
        conf: remask by confidence (see the module).
        switch: remask only in steps that start at this time of the grid or later; not with `loop`.
        loop: a `Loop`, or None.
        keep_known: tokens that are not masked at the start of a run (infilling: `sample(..., x=)`) are never remasked.
            False for runs that start from tokens to be improved.

    Raises:
        TypeError, ValueError: for arguments out of range, or if nothing says how much to remask; in a run for processes
            whose posteriors are others than those above, and for grids without a step in the loop's stay.
    """

    cap: float | None = None
    rescale: float | None = None
    rate: float | None = None
    conf: bool = False
    switch: float = 1.0
    loop: Loop | None = None
    keep_known: bool = True

    def __post_init__(self) -> None:
        for name in ("cap", "rescale"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} lies in [0, 1] (0: nothing is remasked), got {value}")
        if self.rate is not None and not (math.isfinite(self.rate) and self.rate >= 0.0):
            raise ValueError(f"rate must be finite and >= 0, got {self.rate}")
        if self.cap is None and self.rescale is None and self.rate is None and not self.conf:
            raise ValueError(
                "say how much to remask: cap=, rescale=, rate= or conf=True, as in Remasking(cap=0.02, loop=Loop())"
            )
        if not 0.0 <= self.switch <= 1.0:
            raise ValueError(f"switch is a time in [0, 1], got {self.switch}")
        if self.loop is not None:
            if not isinstance(self.loop, Loop):
                raise TypeError(f"loop must be a Loop, such as Loop(on=0.55, off=0.05, alpha=0.9), got {self.loop!r}")
            if self.switch != 1.0 or self.rate is not None:
                raise ValueError("a loop says itself when to remask, at a level that stands still: no switch, no rate")

    def check(self, schedule: Any, space: Space) -> None:
        """Refuse processes whose posteriors are others than a masked process'."""
        super().check(schedule, space)
        for process in leaf_processes(schedule):
            if not isinstance(process, Masked):
                why = "has no mask" if process.mask_id is None else "replaces tokens as well as masking them"
                raise ValueError(
                    f"Remasking needs a process that masks tokens and does nothing else, Masked(); {process!r} {why}, "
                    "and changes decided tokens by itself: use Ancestral()"
                )

    def plan(self, schedule: Any, grid: Grid) -> Remasked:
        super().plan(schedule, grid)
        times = grid.times
        if self.loop is None:
            return Remasked(schedule, times, tuple(t <= self.switch for t in times[:-1]))
        clock: Any = schedule.leaves[schedule.clock_leaf] if isinstance(schedule, ProductProcess) else schedule
        stay = float(clock.schedule.time_of_lost(1.0 - self.loop.alpha))
        told = tuple(self.loop.time(t, stay) for t in times)
        active = tuple(t == s for t, s in pairwise(told))
        if not any(active):
            raise ValueError(
                f"no step of this grid of {len(grid)} lies between on={self.loop.on} and off={self.loop.off}, so that "
                "nothing would be remasked; use more steps, or a longer loop"
            )
        return Remasked(schedule, told, active)

    def start(self, plan: Any, x: Tree, space: Space) -> State:
        plan.process.check(x)
        return State(x, memory=self._memory(plan, x))

    def _memory(self, plan: Remasked, x: Tree) -> dict[str, Tree]:
        """What a run remembers of each token: whether it may never be remasked, and psi."""

        def fixed(process: Masked, x: Tensor) -> Tensor:
            return (x != process.mask) if self.keep_known else torch.zeros_like(x, dtype=torch.bool)

        memory = {"known": leafwise(plan.process, fixed, x)}
        if self.conf:  # of tokens that were given nothing is known: they go first
            memory["psi"] = tree_map(lambda leaf: torch.zeros(leaf.shape, device=leaf.device), x)
        return memory

    def sigma(self, process: Masked, s: Scalar, t: Scalar) -> Scalar:
        """sigma_t of a step from t to s that may remask; of the kind and shape of the times."""
        kept = m.clip(process.schedule.alpha(t), 1e-300, 1.0)
        bound = m.clip(process.schedule.lost(s) / kept, 0.0, 1.0 if self.cap is None else self.cap)
        if self.rate is not None:
            step = m.clip(self.rate * (process.schedule.lost(t) - process.schedule.lost(s)) / kept, 0.0, 1.0)
            bound = torch.minimum(bound, step) if isinstance(bound, Tensor) else min(bound, step)
        return bound if self.rescale is None else self.rescale * bound

    def advance(
        self, plan: Remasked, state: State, query: Query, pred: Any, z: Tree, space: Space,
        reference: Tree | None,
    ) -> State:  # fmt: skip
        s, t = plan.times[state.i + 1], plan.times[state.i]
        memory = state.memory or self._memory(plan, state.x)  # lost by an edit of x: a new start

        def leaf(process: Any, rows: Any, x: Tensor, u: Tensor, tilt: Any, y: Any, own: Tensor, *rest: Any) -> Tensor:
            at, to = process.local(t, y), process.local(s, y)
            stay, sigma = self._chances(process, plan.active[state.i], to, at, x, own, *rest)
            return _step(process, rows, x, u, tilt, own, stay, sigma)

        x = each(
            pred, leaf, state.x, z, pred.tilt, reference, places(space, state.x), memory["known"], memory.get("psi")
        )  # fmt: skip
        x = space.project(x)
        if self.conf:
            memory = {**memory, "psi": each(pred, _confidence, state.x, x, memory["psi"])}
        return State(x, state.i + 1, 0, memory, state.aux, None, state.draws + 1)

    def _chances(
        self, process: Masked, active: bool, s: Scalar, t: Scalar, x: Tensor, own: Tensor, known: Tensor,
        psi: Tensor | None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Of each token, float64: the probability to stay masked if it is, and to be remasked if it is not."""
        keep = process.schedule
        sigma = level(self.sigma(process, s, t) if active else 0.0 * t, x)
        lost_s, lost_t, alpha = (level(c, x) for c in (keep.lost(s), keep.lost(t), keep.alpha(t)))
        taken = sigma * alpha
        if psi is not None:
            free = own & ~known
            number = level(free.flatten(1).sum(1).clamp_min(1).double(), x)
            taken = sigma * (1.0 - lost_t**number) / number
            sigma = sigma * _shares(psi, free & (x != process.mask))
        stay = m.clip((lost_s - taken) / lost_t, 0.0, 1.0)
        stay, sigma = (torch.as_tensor(c, dtype=torch.float64, device=x.device).expand(x.shape) for c in (stay, sigma))
        return stay, torch.where(known, 0.0, sigma)


def _shares(psi: Tensor, decided: Tensor) -> Tensor:
    """exp(-psi) of the tokens decided, in each sample divided by its sum: (B, L, ...), float64."""
    weights = torch.exp(-psi.double()) * decided
    return weights / level(weights.flatten(1).sum(1).clamp_min(1e-300), psi)


def _step(
    process: Masked, rows: Any, x: Tensor, u: Tensor, tilt: Tensor | None, own: Tensor, stay: Tensor, sigma: Tensor
) -> Tensor:
    """x_s of every token from its uniform number; transitions are multiplied by exp(tilt)."""
    masked = (x == process.mask) & own
    out = process.decide(rows, x, masked, stay, u, tilt)
    if tilt is not None:
        tilt = tilt.to(u)
        sigma = torch.sigmoid(sigma.logit() + tilt[..., process.mask] - tilt.gather(-1, x.unsqueeze(-1)).squeeze(-1))
    return torch.where(~masked & own & (u < sigma), process.mask, out)


def _confidence(process: Masked, rows: Any, old: Tensor, new: Tensor, psi: Tensor) -> Tensor:
    """psi of the tokens that have been decided in a step, p(x_0 = new | x_t); of others what it was."""
    fresh = (old == process.mask) & (new != process.mask)
    if not bool(fresh.any()):
        return psi
    out = psi.clone()
    out[fresh] = rows(fresh).gather(-1, new[fresh].unsqueeze(-1)).squeeze(-1).exp().to(psi)
    return out
