r"""Confidence-ordered decoding: as many tokens a step as a schedule says, the surest first.

H. Chang et al., "MaskGIT: masked generative image transformer", CVPR 2022; J. Bai et al., "Meissonic: revitalizing
masked generative transformers for efficient high-resolution text-to-image synthesis", 2024. Of N tokens that are masked
at the start, a fraction gamma(t), falling from 1 to 0 along the grid, stays masked. From t to s, with n masked:

    x^j ~ p(x_0^j | x_t)^{1/temperature}                       a candidate for each masked token
    c_j = log p(x_0^j = x^j | x_t) + tau g_j                   its confidence, g_j standard Gumbel numbers
    masked again: the n' = min(max(floor(N gamma(s)), 1[gamma(s) > 0]), n - 1) tokens of lowest confidence.

So at least one token is decided with each call until none is left, and all are at t = 0. MaskGIT's gamma is the cosine
cos(pi k / 2T) after step k of T: that is `keep.Cosine`, 1 - alpha(t) = sin(pi t / 2), on an even grid, and any other
schedule of `core.discrete.keep` serves as well. tau falls to zero along the run: c (1 - k/T) in step k in MaskGIT,
linearly from a number in the first step to a number in the last in aMUSEd and Meissonic (from 2 to 0).

**What it samples.** Not p(x_0): tokens are kept *because* their candidates were likely, which sharpens the law, and
tokens that are decided together are taken as independent, as in every sampler of tokens. With one token a step the
latter vanishes, and the former too where the order does not look at the candidates: by margin or entropy, or in random
order (tau = infinity). At temperature 1 these are any-order ancestral sampling, exact for an exact network.

Total variation from the law of 3^5 sequences (`Sequences.random(3, 5, seed)`, mean of three seeds; exact network,
200,000 samples, of which sampling noise alone makes 0.011):

=======================================  =======  =======
sampler                                  3 calls  5 calls
=======================================  =======  =======
`Ancestral()`                               0.26     0.17
`ConfidenceOrdered(noise=0)`                0.56     0.66
`ConfidenceOrdered(noise=(2, 0))`           0.20     0.18
`ConfidenceOrdered()`, noise = 4.5          0.20     0.12
`ConfidenceOrdered(noise=inf)`              0.22     0.01
=======================================  =======  =======
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ...grids import Grid
from ...noise import Noise
from ...samplers.state import Query, State
from ...spaces import Space
from ...tree import Tree
from ..categorical import categorical, gumbel, uniforms
from ..interpolating import Interpolating
from ..keep import Keep, keep_of
from ..places import places
from ..process import Process, ProductProcess, leafwise, tiles
from .base import Steps, TokenSampler, each, leaf_processes

__all__ = ["ConfidenceOrdered"]

Order = Literal["probability", "margin", "entropy"]


@dataclass(frozen=True)
class Decoding(Steps):
    """The plan of a run: `times` are those at which the process has lost the fraction that the schedule leaves masked.

    Attributes:
        keep: the schedule of fractions, or None for each process' own.
        grid: the times of the grid, arguments of `keep`.
    """

    keep: Keep | None
    grid: tuple[float, ...]

    def fraction(self, process: Process, i: int) -> float:
        """gamma: how much of what was masked at the start is masked after i steps."""
        keep = self.keep or _schedule(process)
        return float(keep.lost(self.grid[i])) / float(keep.lost(self.grid[0]))


def _schedule(process: Process) -> Keep:
    assert isinstance(process, Interpolating)  # `check` has seen to it
    return process.schedule


@dataclass(frozen=True)
class ConfidenceOrdered(TokenSampler):
    """Decode masked tokens in the order of the network's confidence; as many network calls as the grid has steps.

    A heuristic: it does not sample the law of the data even with an exact network (see the module). Tokens that are not
    masked at the start (`sample(..., x=)`: inpainting, infilling) are never touched, and padding is never counted.
    A network that is told the time is told the one at which its process has lost the fraction that is masked.

    Args:
        schedule: the fraction that stays masked: "cosine" (MaskGIT), another schedule of `core.discrete.keep` or its
            name, or "process" for the process' own.
        temperature: of the candidates, > 0; or 0 for the likeliest value. Confidences are at temperature 1.
        noise: tau. A number c falls as in MaskGIT, to c (1 - k/T) in step k = 1..T: infinity for a random order, 0 for
            none; by default 4.5, which ports of MaskGIT pass, and of the noises in use the nearest to the law of the
            data (see the module). A pair (a, b) falls linearly from a in the first step to b in the last, as in aMUSEd
            and Meissonic, which take (2, 0).
        order: confidence by the candidate's "probability"; or, whatever the candidate, by the "margin" between the two
            largest probabilities, or the negative "entropy" (nats): these take the place of log p in c_j.

    Raises:
        TypeError, ValueError: for arguments out of range; in a run for processes without a mask.
    """

    schedule: Keep | str = "cosine"
    temperature: float = 1.0
    noise: float | tuple[float, float] = 4.5
    order: Order = "probability"

    def __post_init__(self) -> None:
        if self.schedule != "process":
            object.__setattr__(self, "schedule", keep_of(self.schedule))
        if not (math.isfinite(self.temperature) and self.temperature >= 0.0):
            raise ValueError(f"temperature must be finite and >= 0 (0: the likeliest value), got {self.temperature}")
        if isinstance(self.noise, tuple | list):
            pair = tuple(float(v) for v in self.noise)
            if len(pair) != 2 or not all(math.isfinite(v) and v >= 0.0 for v in pair):
                raise ValueError(f"a pair of noises is (first, last), both finite and >= 0; got {self.noise!r}")
            object.__setattr__(self, "noise", pair)
        elif not self.noise >= 0.0:
            raise ValueError(f"noise is >= 0 (infinity: a random order), or a pair (first, last); got {self.noise}")
        if self.order not in ("probability", "margin", "entropy"):
            raise ValueError(f'order is "probability", "margin" or "entropy", got {self.order!r}')

    def check(self, schedule: Any, space: Space) -> None:
        """Refuse processes without a mask."""
        super().check(schedule, space)
        for process in leaf_processes(schedule):
            if not isinstance(process, Interpolating) or process.mask_id is None:
                raise ValueError(
                    f"{type(self).__name__} decides masked tokens, but {process!r} has no mask; use Ancestral()"
                )

    def plan(self, schedule: Any, grid: Grid) -> Decoding:
        super().plan(schedule, grid)
        times, keep = grid.times, self.schedule
        if not isinstance(keep, Keep):
            return Decoding(schedule, times, None, times)
        clock = schedule.leaves[schedule.clock_leaf] if isinstance(schedule, ProductProcess) else schedule
        plan = Decoding(schedule, times, keep, times)
        own, first = _schedule(clock), float(_schedule(clock).lost(times[0]))
        told = [float(own.time_of_lost(first * plan.fraction(clock, i))) for i in range(len(times))]
        return Decoding(schedule, (times[0], *told[1:]), keep, times)

    def start(self, plan: Any, x: Tree, space: Space) -> State:
        plan.process.check(x)
        return State(x, memory={"masked": self._masked(plan, x, space)})

    def _masked(self, plan: Decoding, x: Tree, space: Space, i: int = 0) -> Tree:
        """N, (B,) a leaf: tokens masked at the start; after i steps, so many that those masked now are as planned."""

        def leaf(process: Process, x: Tensor, own: Tensor) -> Tensor:
            n = ((x == process.mask_id) & own).flatten(1).sum(1)
            return n if i == 0 else (n.double() / plan.fraction(process, i)).round().long()

        return leafwise(plan.process, leaf, x, places(space, x))

    def tau(self, k: int, steps: int) -> float:
        """The noise of confidences in step k = 1..steps."""
        if isinstance(self.noise, tuple):
            first, last = self.noise
            return first + (last - first) * (k - 1) / max(steps - 1, 1)
        return self.noise if math.isinf(self.noise) else self.noise * (1.0 - k / steps)

    def draw(self, plan: Any, state: State, space: Space, noise: Noise) -> Tree:
        return {role: uniforms(noise, space, state.x, state.draws, role) for role in ("candidate", "gumbel")}

    def advance(
        self, plan: Decoding, state: State, query: Query, pred: Any, z: Tree, space: Space,
        reference: Tree | None,
    ) -> State:  # fmt: skip
        i = state.i
        tau = self.tau(i + 1, len(plan.times) - 1)
        memory = state.memory or {"masked": self._masked(plan, state.x, space, i)}  # lost by an edit of x

        def leaf(process: Process, rows: Any, x: Tensor, *rest: Tensor | None) -> Tensor:
            gamma = plan.fraction(process, i + 1)
            return self._decide(process, rows, gamma, tau, x, *rest)

        x = each(
            pred, leaf, state.x, z["candidate"], z["gumbel"], pred.tilt, places(space, state.x), memory["masked"]
        )  # fmt: skip
        return State(space.project(x), i + 1, 0, memory, state.aux, None, state.draws + 1)

    def _decide(
        self, process: Process, rows: Any, gamma: float, tau: float, x: Tensor, u: Any, g: Any, tilt: Any, own: Any,
        total: Any,
    ) -> Tensor:  # fmt: skip
        masked = (x == process.mask_id) & own
        n = masked.flatten(1).sum(1)
        if not bool(n.any()):
            return x
        confidence = torch.full(x.shape, math.inf, dtype=torch.float64, device=x.device)
        index, decided = masked.nonzero(as_tuple=True), x.clone()
        for (tile,) in tiles(index[0].shape, process.states, x.device):
            here = tuple(j[tile] for j in index)
            log_p = rows(here)
            if tilt is not None:
                log_p = (log_p + tilt[here]).log_softmax(-1)
            if self.temperature == 0.0:
                candidate = log_p.argmax(-1)
            else:
                candidate = categorical(log_p if self.temperature == 1.0 else log_p / self.temperature, u[here])
            c = gumbel(g[here])
            confidence[here] = c if math.isinf(tau) else self._confidence(log_p, candidate).double() + tau * c
            decided[here] = candidate.to(x.dtype)
        left = (
            (total.double() * gamma + 1e-9).floor().long().clamp_min(int(gamma > 0.0))
        )  # 1e-9: N k/T is a whole number
        left = torch.minimum(left, n - 1)
        rank = confidence.flatten(1).argsort(dim=1, stable=True).argsort(1)
        return torch.where((rank < left[:, None]).view_as(x), x, decided)

    def _confidence(self, log_p: Tensor, candidate: Tensor) -> Tensor:
        """(M,) of log p (M, S)."""
        if self.order == "probability":
            return log_p.gather(-1, candidate.unsqueeze(-1)).squeeze(-1)
        p = log_p.exp()
        if self.order == "margin":
            top = p.topk(2, dim=-1).values
            return top[:, 0] - top[:, 1]
        return -torch.special.entr(p).sum(-1)
