r"""First-hitting sampling of masked processes: one network call a token, exact in law.

K. Zheng et al., "Masked diffusion models are secretly time-agnostic masked models and exploit inaccurate categorical
sampling", ICLR 2025, section 4. On the way back a masked token is decided once and then stays, and between two such
events nothing changes: so the run jumps from event to event. With n tokens masked at time t, the next one is decided at

    lost(t') = lost(t) u^{1/n},        u uniform,

it is each of the n with equal probability (where tokens have priorities: of its hazard), and its value is drawn from
p(x_0 | x_t, t'). No step size is left, hence no error but the network's: L calls for L tokens, whatever the schedule.

**Several tokens a call.** The answer of one call serves for the next `tokens` events: L / tokens calls, of first order.

**Extrapolation** (`order=2`). At an event time tau below that of the call, t_1, the probabilities are extrapolated
linearly in time from the last two calls, at t_1 < t_0,

    p(tau) = p_1 + (p_1 - p_0) (t_1 - tau) / (t_0 - t_1),

negative entries set to zero. It uses two times, not more, as the paper advises. The first call of a run has no past and
is of first order. (The paper's other second-order form, a corrector, is not built: its formula could not be read.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...grids import Grid
from ...noise import Noise
from ...samplers.state import Query, State
from ...spaces import Euclidean, Space
from ...tree import Tree
from ..categorical import categorical, uniforms
from ..interpolating import Masked
from ..places import places
from .base import TokenSampler

__all__ = ["FirstHitting"]


@dataclass(frozen=True)
class Ends:
    """The plan: from where to where; the run finds its own times."""

    process: Masked
    start: float
    end: float


@dataclass(frozen=True)
class FirstHitting(TokenSampler):
    """First-hitting sampling of a masked process; `sample` needs neither `grid` nor `steps`.

    Each sample has a time of its own, (B,), which is what the network is told; samples that are done wait for the rest.

    Args:
        tokens: tokens decided a call.
        order: 1, or 2 for extrapolation (with tokens > 1; it keeps the logits of one call, B L S numbers).

    Raises:
        ValueError: for numbers out of range, and at planning for processes without a mask that stays.
    """

    tokens: int = 1
    order: int = 1

    adaptive: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.tokens, bool) or not isinstance(self.tokens, int) or self.tokens < 1:
            raise ValueError(f"tokens, decided a call, must be an integer >= 1, got {self.tokens!r}")
        if self.order not in (1, 2):
            raise ValueError(f"order must be 1 or 2, got {self.order!r}")
        if self.order == 2 and self.tokens == 1:
            raise ValueError(
                "order=2 extrapolates between the events of a call; with tokens=1 there is nothing between"
            )

    def plan(self, schedule: Any, grid: Grid) -> Ends:
        super().plan(schedule, grid)
        if not isinstance(schedule, Masked):
            raise ValueError(
                f"FirstHitting needs a process in which tokens are decided once, Masked() or PriorityMasked(), got "
                f"{schedule!r}; use Ancestral(), Euler() or TauLeaping()"
            )
        return Ends(schedule, grid.times[0], grid.times[-1])

    def start(self, plan: Ends, x: Tree, space: Space) -> State:
        plan.process.check(x)
        t = torch.full((x.shape[0],), plan.start, dtype=torch.float64, device=x.device)
        return State(x, t=self._time_left(plan, t, self._masked(plan, x, space)))

    def total(self, plan: Ends) -> None:
        return None

    def done(self, plan: Ends, state: State) -> bool:
        return bool((state.t <= plan.end).all())

    def time(self, plan: Ends, state: State) -> Tensor:
        return state.t

    def draw(self, plan: Ends, state: State, space: Space, noise: Noise) -> Tensor:
        """Uniforms (B, tokens, 3): when, where, what."""
        like = state.x.new_zeros((state.x.shape[0], self.tokens, 3))
        return uniforms(noise, Euclidean(), like, state.draws)  # numbers of samples: padding does not enter

    def query(self, plan: Ends, state: State, z: Any, space: Space, reference: Any) -> Query:
        masked = self._masked(plan, state.x, space)
        y = None if reference is None else reference.flatten(1)
        t = plan.process.next_hit(state.t, masked, z[:, 0, 0], y)
        return Query(state.x, torch.where(state.t > plan.end, t.clamp_min(plan.end), state.t), None, state)

    def advance(self, plan: Ends, state: State, query: Query, pred: Any, z: Any, space: Space, reference: Any) -> State:
        process, y = plan.process, None if reference is None else reference.flatten(1)
        masked = self._masked(plan, state.x, space)
        t, times, where, what = query.t, [], [], []
        for j in range(self.tokens):
            if j:
                t = process.next_hit(t, masked, z[:, j, 0], y)
            hit = masked.any(1) & (t > plan.end)
            if not bool(hit.any()):
                break
            rows = hit.nonzero().squeeze(1)
            tokens = process.where_hit(t, masked, z[:, j, 1], y)[rows]
            masked[rows, tokens] = False
            times.append(t[rows])
            where.append(torch.stack([rows, tokens], 1))
            what.append(z[rows, j, 2])
        x, memory = state.x.clone(), {}
        if where:
            order = torch.cat(where)
            sort = (order[:, 0] * masked.shape[1] + order[:, 1]).argsort()  # rows of a mask come in this order
            which = torch.zeros_like(masked)
            which[order[:, 0], order[:, 1]] = True
            which = which.view_as(x)
            log_p = self._log_p(pred, state, query, which, torch.cat(times)[sort], order[sort, 0])
            x[which] = categorical(log_p, torch.cat(what)[sort]).to(x.dtype)
        if self.order == 2:
            memory = {"raw": pred.log_probs if pred.edited else pred.raw, "t": query.t}
        t = self._time_left(plan, t, masked)
        return State(space.project(x), state.i + 1, 0, memory, state.aux, t, state.draws + 1)

    # -- parts -----------------------------------------------------------------------------------
    @staticmethod
    def _masked(plan: Ends, x: Tensor, space: Space) -> Tensor:
        """Real tokens that are still masked, (B, N)."""
        return ((x == plan.process.mask) & places(space, x)).flatten(1)

    @staticmethod
    def _time_left(plan: Ends, t: Tensor, masked: Tensor) -> Tensor:
        """The end for samples in which nothing is masked, else t."""
        return torch.where(masked.any(1), t.clamp_min(plan.end), torch.full_like(t, plan.end))

    def _log_p(self, pred: Any, state: State, query: Query, which: Tensor, times: Tensor, batch: Tensor) -> Tensor:
        """log p(x_0) of the tokens `which`, (M, S), at their event times (M,)."""
        rows: Tensor = pred.rows()(which)
        if self.order == 2 and "raw" in state.memory:
            now, before = query.t[batch], state.memory["t"][batch]
            ahead = torch.where(before > now, (now - times) / (before - now), 0.0)[:, None].to(rows)
            process: Masked = pred.denoiser.process
            p, last = rows.softmax(-1), process.log_probs(state.memory["raw"][which], pred.x[which]).exp()
            rows = torch.where(ahead > 0.0, (p + (p - last) * ahead).clamp_min(0.0).log(), rows)
        return rows if pred.tilt is None else rows + pred.tilt[which]
