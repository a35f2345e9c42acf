r"""Processes that keep a token or replace it: masked, uniform, marginal, and mask with uniform.

All have the marginal

    q(x_t = y | x_0 = x) = alpha 1[x = y] + (1 - alpha) r_y,

with one law r of replacements. They differ in what happens next. Where a replaced token may be replaced again (uniform,
marginal), with a = alpha_t / alpha_s,

    Q_{t|s} = a I + (1 - a) 1 r^T,            R_t = lambda (1 r^T - I),        lambda = -alpha' / alpha.

Where one state swallows everything (a mask), it is left no more. *Masked*: r is the mask, and the two are the same.
*Mask and uniform*: of what is lost a share u goes to the K other tokens equally, the rest to the mask, which absorbs.
With gamma = (1 - u)(1 - alpha), the fraction masked,

    c = 1 - (1 - gamma_t) / (1 - gamma_s),    b = 1 - a - c,
    Q_{t|s} from a token: a to itself, b / K to every token, c to the mask;   from the mask: to itself.

**Way back.** With f(z) = q(x_t | x_s = z), g(x_0) = q(x_t | x_0) and w = p / g, the posterior is

    sum_{x_0} p(x_0) q(z | x_t, x_0) = f(z) [alpha_s w(z) + (1 - alpha_s) r_z W],        W = sum_{x_0} w(x_0),

of order S for each token, and the reverse rate is the same with f(z) = R_t[z, x_t] and s = t. Away from x_t both f and
g are one number, g = o = (1 - alpha_t) r_{x_t}, and with V = o W this is affine in p, in numbers that stay moderate
however small 1 - alpha and r become:

    [f / o] [alpha_s p(z) + (1 - alpha_s) r_z V],        V = sum_{x_0 != x_t} p(x_0) + p(x_t) o / (alpha_t + o).

f / o is (1 - a) / (1 - alpha_t) for posteriors and lambda / (1 - alpha_t) for rates; the sum is not taken as
1 - p(x_t), which would cancel. The masked process needs none of it: a masked token is decided with the probability
(alpha_s - alpha_t) / (1 - alpha_t), by p, and others never move.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..schedules import maths as m
from ..schedules.maths import Scalar
from .categorical import categorical
from .certain import certain
from .keep import Keep, keep_of
from .process import Process, at, level, tiles

__all__ = ["Interpolating", "Marginal", "MaskUniform", "Masked", "Uniform"]

REACHED = 0.01
"""Largest alpha at t = 1 for which the prior may be taken for the law at t = 1."""

INSIDE = 1.0 - 1e-9
"""Latest time of rates: where alpha(1) = 0, noise is stirred infinitely fast at t = 1, on the way there and back."""


def _wide(c: Scalar, like: Tensor) -> Tensor:
    """A coefficient as a float64 tensor that multiplies `like` (...)."""
    return torch.as_tensor(level(c, like), dtype=torch.float64, device=like.device)


def _log(c: Scalar, like: Tensor) -> Scalar:
    """The logarithm of a coefficient, taken in float64, then of the type of `like` (..., S), to be added to it."""
    value = m.log(c)
    return level(value.to(like.dtype), like) if isinstance(value, Tensor) else value


def _safe_log(x: Tensor) -> Tensor:
    """log x in the place of x; -inf at zero, whose derivative is left out."""
    if not (torch.is_grad_enabled() and x.requires_grad):
        return x.log_()
    none = x == 0.0
    return torch.where(none, 1.0, x).log().masked_fill(none, -torch.inf)


@dataclass(frozen=True)
class Interpolating(Process):
    """Base: alpha(t) of `keep`, and the law r of replacements.

    Args:
        keep: a schedule of `core.discrete.keep`, or its name.
    """

    keep: Keep | str = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "keep", keep_of(self.keep))
        left = float(self.schedule.alpha(1.0))
        if left > REACHED:
            raise ValueError(
                f"{self.keep!r} keeps {left:.3g} of the tokens at t = 1, so that sampling would start from a law that "
                f"no data reach; use a schedule whose alpha(1) is at most {REACHED}, such as 'linear'"
            )

    @property
    def schedule(self) -> Keep:
        """alpha(t)."""
        assert isinstance(self.keep, Keep)
        return self.keep

    def replacement(self) -> Tensor:
        """r: (S,), float64; a new tensor."""
        raise NotImplementedError

    @cached_property
    def _r(self) -> Tensor:
        """r, made once; to be read only."""
        with torch.inference_mode(False):  # so that gradients may pass it later
            return self.replacement()

    @cached_property
    def _cumulative(self) -> Tensor:
        with torch.inference_mode(False):
            c = self._r.cumsum(0)
            return c / c[-1]

    def prior(self) -> Tensor:
        return self.replacement()

    def marginal(self, t: float) -> Tensor:
        lost = self.schedule.lost(t)
        return (1.0 - lost) * torch.eye(self.states, dtype=torch.float64) + lost * self._r

    def transition(self, s: float, t: float) -> Tensor:
        a = self._ratio(s, t)
        return a * torch.eye(self.states, dtype=torch.float64) + (1.0 - a) * self._r

    def rate(self, t: float) -> Tensor:
        return self._lambda(t) * (self._r - torch.eye(self.states, dtype=torch.float64))

    def forward_rate(self, x: Tensor, t: Scalar) -> Tensor:
        rates = _wide(self._lambda(t), x).unsqueeze(-1) * self._r.to(x.device)
        return rates.expand(*x.shape, self.states).scatter(-1, x.unsqueeze(-1), 0.0)

    def corrupt(self, x0: Tensor, t: Scalar, u: Tensor) -> Tensor:
        lost = level(self.schedule.lost(t), u)
        within = u / lost if isinstance(lost, Tensor) else u / max(lost, 5e-324)  # uniform, given that u < lost
        new = torch.searchsorted(self._cumulative.to(u.device), within.contiguous(), right=True)
        return torch.where(u < lost, new.clamp_max(self.states - 1).to(x0.dtype), x0)

    def log_probs(self, logits: Tensor, x: Tensor) -> Tensor:
        return logits.log_softmax(-1)

    def log_posterior(self, log_p: Tensor, x: Tensor, s: Scalar, t: Scalar) -> Tensor:
        q, here, V = self._given(log_p, x, s, t)
        out = self._affine(q, V, self._into(x, s, t), x, s)
        return _safe_log(out.scatter_(-1, x.unsqueeze(-1), here))

    def reverse_rate(self, log_p: Tensor, x: Tensor, t: Scalar) -> Tensor:
        t = m.clip(t.double() if isinstance(t, Tensor) else t, 0.0, INSIDE)
        q, _, V = self._given(log_p, x, t, t)
        return self._affine(q, V, self._rate_into(x, t), x, t)

    def draw(self, log_p: Any, x: Tensor, s: Scalar, t: Scalar, u: Tensor, tilt: Tensor | None = None) -> Tensor:
        out, rows = x.clone(), log_p if callable(log_p) else log_p.__getitem__
        for tile in tiles(x.shape, self.states, x.device):
            near, far, given = (at(c, tile, x.shape) for c in (s, t, tilt))
            out[tile] = self._draw(rows(tile), x[tile], near, far, u[tile], given)
        return out

    def _draw(self, log_p: Tensor, x: Tensor, s: Scalar, t: Scalar, u: Tensor, tilt: Tensor | None) -> Tensor:
        if tilt is not None:
            return categorical(self.log_posterior(log_p, x, s, t) + tilt, u).to(x.dtype)
        q, here, V = self._given(log_p, x, s, t)
        stay = here.squeeze(-1).double()
        kept, lost = _wide(self.schedule.alpha(s), x), _wide(self.schedule.lost(s), x)
        go = self._into(x, s, t) * (kept * q.sum(-1) + lost * self._elsewhere(x) * V.squeeze(-1))
        stay = stay / (stay + go)
        if bool(stay.isnan().any()):
            raise FloatingPointError("p(x_0 | x_t) of a token holds nan: check the network's output")
        leave = u >= stay
        if not bool(leave.any()):
            return x
        part = ((u - stay) / (1.0 - stay))[leave]  # uniform again, given that the token moves
        rows = self.log_posterior(log_p[leave], x[leave], at(s, leave, x.shape), at(t, leave, x.shape))
        out = x.clone()
        out[leave] = categorical(rows.scatter(-1, x[leave].unsqueeze(-1), -torch.inf), part).to(x.dtype)
        return out

    # ------------------------------------------------------------------ parts
    def _ratio(self, s: Scalar, t: Scalar) -> Scalar:
        """a = alpha_t / alpha_s."""
        return m.div(self.schedule.alpha(t), self.schedule.alpha(s))

    def _lambda(self, t: Scalar) -> Scalar:
        """-alpha' / alpha."""
        return m.div(self.schedule.speed(t), self.schedule.alpha(t))

    def _given(self, log_p: Tensor, x: Tensor, s: Scalar, t: Scalar) -> tuple[Tensor, Tensor, Tensor]:
        """p(z) for z != x_t, zero there: (..., S); the posterior of z = x_t (..., 1), and V (..., 1)."""
        lost, kept = _wide(self.schedule.lost(t), x), _wide(self.schedule.alpha(t), x)
        o = lost * self._r.to(x.device)[x]
        p_x = log_p.gather(-1, x.unsqueeze(-1)).exp()
        q = log_p.scatter(-1, x.unsqueeze(-1), -torch.inf).exp_()
        V = q.sum(-1, keepdim=True) + p_x * (o / (kept + o)).unsqueeze(-1).to(log_p)
        same = self._same(x, s, t)
        of_p, of_V = (
            (same * c).expand(x.shape).unsqueeze(-1).to(log_p)
            for c in (_wide(self.schedule.alpha(s), x) / (kept + o), _wide(self.schedule.lost(s), x) / lost)
        )
        return q, of_p * p_x + of_V * V, V

    def _affine(self, q: Tensor, V: Tensor, into: Tensor, x: Tensor, s: Scalar) -> Tensor:
        """into [alpha_s p(z) + (1 - alpha_s) r_z V] for z != x_t, zero at z = x_t: (..., S)."""
        kept, lost = ((into * _wide(c, x)).unsqueeze(-1).to(q) for c in (self.schedule.alpha(s), self.schedule.lost(s)))
        out = (q * kept).addcmul_(lost * V, self._r.to(q))
        return out.scatter_(-1, x.unsqueeze(-1), 0.0)

    def _same(self, x: Tensor, s: Scalar, t: Scalar) -> Tensor:
        """f(x_t) = q(x_t | x_s = x_t): float64, to be multiplied with (...)."""
        a = _wide(self._ratio(s, t), x)
        return a + (1.0 - a) * self._r.to(x.device)[x]

    def _into(self, x: Tensor, s: Scalar, t: Scalar) -> Tensor:
        """f(z) / o of the posterior for z != x_t: float64, to be multiplied with (...)."""
        return _wide(1.0 - self._ratio(s, t), x) / _wide(self.schedule.lost(t), x)

    def _rate_into(self, x: Tensor, t: Scalar) -> Tensor:
        """f(z) / o of the rate for z != x_t: float64, to be multiplied with (...)."""
        return _wide(self._lambda(t), x) / _wide(self.schedule.lost(t), x)

    def _elsewhere(self, x: Tensor) -> Tensor:
        """sum of r_z over the z != x_t from which x_t can come: (...), float64."""
        return 1.0 - self._r.to(x.device)[x]


@dataclass(frozen=True)
class Uniform(Interpolating):
    """Lost tokens become any of the S tokens, equally likely (D3PM uniform).

    Args:
        states: S.
        keep: see `core.discrete.keep`.
    """

    def replacement(self) -> Tensor:
        return torch.full((self.states,), 1.0 / self.states, dtype=torch.float64)


@dataclass(frozen=True)
class Marginal(Interpolating):
    """Lost tokens are drawn from the tokens' frequencies in the data.

    C. Vignac et al., "DiGress: discrete denoising diffusion for graph generation", ICLR 2023, section 4.1: sparse
    graphs stay sparse on the way.

    Args:
        probs: frequency of each token, S numbers >= 0; normalised here.
        keep: see `core.discrete.keep`.

    Raises:
        ValueError: for frequencies that are negative, not finite, or all zero.
    """

    states: int = 0
    probs: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        probs = tuple(float(p) for p in self.probs)
        if not all(math.isfinite(p) and p >= 0.0 for p in probs) or sum(probs) <= 0.0:
            raise ValueError(f"probs are the tokens' frequencies, finite and >= 0, not all zero; got {probs}")
        total = sum(probs)
        object.__setattr__(self, "probs", tuple(p / total for p in probs))
        object.__setattr__(self, "states", len(probs))
        super().__post_init__()

    @cached_property
    def _r(self) -> Tensor:
        with torch.inference_mode(False):
            return torch.tensor(self.probs, dtype=torch.float64)

    def replacement(self) -> Tensor:
        return self._r.clone()


def _check_mask_id(mask_id: Any, states: int) -> int:
    """The mask's id, S - 1 where it is not given.

    Raises:
        ValueError: for an id that is none.
    """
    if mask_id is None:
        return states - 1
    if isinstance(mask_id, bool) or not isinstance(mask_id, int) or not 0 <= mask_id < states:
        raise ValueError(
            f"mask_id={mask_id!r} is none of the ids 0..{states - 1}: the mask is a state of its own beside the data's "
            f"tokens; count it in states (states={states + 1}, mask_id={states})"
        )
    return mask_id


@dataclass(frozen=True)
class _WithMask(Interpolating):
    """A process one of whose states is a mask."""

    mask_id: int | None = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "mask_id", _check_mask_id(self.mask_id, self.states))

    @property
    def mask(self) -> int:
        """The mask's id."""
        assert self.mask_id is not None
        return self.mask_id


@dataclass(frozen=True)
class Masked(_WithMask):
    """Lost tokens become a mask, and stay it (absorbing).

    Austin et al., D3PM, 2021; Sahoo et al., MDLM, 2024 ("SUBS": the network never predicts the mask, and a token that
    is not masked is the data's).

    Args:
        states: S, the data's tokens and the mask.
        keep: see `core.discrete.keep`.
        mask_id: id of the mask; default the last one, S - 1.
    """

    def replacement(self) -> Tensor:
        return _one_hot(self.states, self.mask)

    def corrupt(self, x0: Tensor, t: Scalar, u: Tensor) -> Tensor:
        return torch.where(u < level(self.schedule.lost(t), u), self.mask, x0)

    def log_probs(self, logits: Tensor, x: Tensor) -> Tensor:
        """Never the mask; tokens that are known are known (SUBS)."""
        log_p, known = self.masked_log_probs(logits), x != self.mask
        if not bool(known.any()):
            return log_p
        here = torch.where(known, 0.0, -torch.inf).to(log_p)  # of a masked token that is the mask, which has none
        return log_p.masked_fill(known.unsqueeze(-1), -torch.inf).scatter_(-1, x.unsqueeze(-1), here.unsqueeze(-1))

    def masked_log_probs(self, logits: Tensor) -> Tensor:
        """log p(x_0 | x_t) of masked tokens, (..., S)."""
        return _without(logits, self.mask).log_softmax(-1)

    def log_posterior(self, log_p: Tensor, x: Tensor, s: Scalar, t: Scalar) -> Tensor:
        masked = x == self.mask
        stay = m.div(self.schedule.lost(s), self.schedule.lost(t))
        moved = log_p + _log(1.0 - stay, log_p)
        moved[..., self.mask] = _log(stay, x.to(log_p.dtype))
        return torch.where(masked.unsqueeze(-1), moved, certain(log_p, x))

    def reverse_rate(self, log_p: Tensor, x: Tensor, t: Scalar) -> Tensor:
        rate = level(Masked.hazard(self, t), log_p)  # t is the time as the token sees it
        rates = log_p.exp() * (rate.to(log_p) if isinstance(rate, Tensor) else rate)
        return torch.where((x == self.mask).unsqueeze(-1), rates, rates.new_zeros(()))

    def hazard(self, t: Scalar, reference: Tensor | None = None) -> Scalar:
        """d lost / dt / lost: the rate at which masked tokens are decided on the way back."""
        return m.div(self.schedule.speed(t), self.schedule.lost(t))

    def next_hit(self, t: Tensor, masked: Tensor, u: Tensor, reference: Tensor | None = None) -> Tensor:
        """The time at which the next token of each sample is decided.

        No token is decided between t and t' with the probability prod_i lost_i(t') / lost_i(t), over the masked tokens.

        Args:
            t: times (B,), float64.
            masked: boolean (B, N), True = still masked.
            u: uniforms (B,), float64.
            reference: priorities (B, N); none here.

        Returns:
            t' < t, (B,); 0 for samples with no masked token.
        """
        n = masked.sum(1)
        lost = self.schedule.lost(t) * u ** (1.0 / n.clamp_min(1).double())
        return torch.where(n > 0, self.schedule.time_of_lost(lost), torch.zeros_like(t))

    def where_hit(self, t: Tensor, masked: Tensor, u: Tensor, reference: Tensor | None = None) -> Tensor:
        """Which token is decided at time t: each with the probability of its hazard; long (B,), arguments as above."""
        rank = (u * masked.sum(1)).floor().long()
        return ((masked.cumsum(1) == rank[:, None] + 1) & masked).long().argmax(1)

    def draw(self, log_p: Any, x: Tensor, s: Scalar, t: Scalar, u: Tensor, tilt: Tensor | None = None) -> Tensor:
        stay = m.div(self.schedule.lost(s), self.schedule.lost(t))
        return self.decide(log_p, x, x == self.mask, stay, u, tilt)

    def decide(
        self, log_p: Any, x: Tensor, masked: Tensor, stay: Scalar, u: Tensor, tilt: Tensor | None = None
    ) -> Tensor:
        """Tokens of which masked ones stay masked with a probability, and else get a value by p(x_0 | x_t).

        Args:
            log_p: log p(x_0 | x_t), (..., S), or a function (index) -> rows of it.
            x: x_t (...), long.
            masked: boolean (...), the tokens that this is about.
            stay: the probability to stay masked, a float, (B,) or (...).
            u: uniforms (...), float64.
            tilt: log-weights of the outcomes, (..., S), the mask's among them.
        """
        stay = _wide(stay, u).expand(u.shape)
        leave = masked if tilt is not None else masked & (u >= stay)
        if not bool(leave.any()):
            return x
        index, out = leave.nonzero(as_tuple=True), x.clone()
        for (tile,) in tiles(index[0].shape, self.states, x.device):
            here = tuple(i[tile] for i in index)
            rows, v, kept = log_p(here) if callable(log_p) else log_p[here], u[here], stay[here]
            if tilt is None:
                v = (v - kept) / (1.0 - kept)  # uniform again, given that the token is decided
            else:
                rows = rows + (1.0 - kept).log().unsqueeze(-1).to(rows)
                rows[..., self.mask] = kept.log().to(rows)
                rows = rows + tilt[here]
            out[here] = categorical(rows, v).to(x.dtype)
        return out


@dataclass(frozen=True)
class MaskUniform(_WithMask):
    """Lost tokens become a mask, which absorbs, or any other token: mistakes can be mended.

    S. Gu et al., "Vector quantized diffusion model for text-to-image synthesis" (VQ-Diffusion), CVPR 2022, section 4.1;
    also CDCD (Y. Zhu et al., ICLR 2023).

    Args:
        states: S, K = S - 1 tokens and the mask.
        keep: see `core.discrete.keep`.
        mask_id: id of the mask; default the last one.
        uniform: share u of lost tokens that become tokens, in (0, 1).
    """

    uniform: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.uniform < 1.0:
            raise ValueError(
                f"uniform is the share of lost tokens that become tokens, in (0, 1), got {self.uniform}; "
                "Masked() has none, Uniform() no mask"
            )

    def replacement(self) -> Tensor:
        r = torch.full((self.states,), self.uniform / (self.states - 1), dtype=torch.float64)
        r[self.mask] = 1.0 - self.uniform
        return r

    def _parts(self, s: Scalar, t: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        """(a, b, c): a token stays, becomes any token, becomes the mask."""
        share = 1.0 - self.uniform
        lost_s, lost_t = self.schedule.lost(s), self.schedule.lost(t)
        a = self._ratio(s, t)
        c = share * (lost_t - lost_s) / (1.0 - share * lost_s)
        return a, m.clip(1.0 - a - c, 0.0, 1.0), c

    def _rates(self, t: Scalar) -> tuple[Scalar, Scalar]:
        """Rates from a token to all tokens together, and to the mask."""
        share = 1.0 - self.uniform
        c = share * self.schedule.speed(t) / (1.0 - share * self.schedule.lost(t))
        return self._lambda(t) - c, c

    def marginal(self, t: float) -> Tensor:
        return self.transition(0.0, t)

    def transition(self, s: float, t: float) -> Tensor:
        a, b, c = self._parts(s, t)
        return self._matrix(a + b / (self.states - 1), b / (self.states - 1), c, 1.0)

    def rate(self, t: float) -> Tensor:
        b, c = self._rates(t)
        return self._matrix(b / (self.states - 1) - b - c, b / (self.states - 1), c, 0.0)

    def _matrix(self, same: float, other: float, mask: float, absorbed: float) -> Tensor:
        q = torch.full((self.states, self.states), other, dtype=torch.float64)
        q.fill_diagonal_(same)
        q[:, self.mask] = mask
        q[self.mask] = absorbed * _one_hot(self.states, self.mask)
        return q

    def log_probs(self, logits: Tensor, x: Tensor) -> Tensor:
        return _without(logits, self.mask).log_softmax(-1)

    def forward_rate(self, x: Tensor, t: Scalar) -> Tensor:
        b, c = (_wide(rate, x) for rate in self._rates(t))
        to_mask = torch.arange(self.states, device=x.device) == self.mask
        rates = torch.where(to_mask, c.unsqueeze(-1), b.unsqueeze(-1) / (self.states - 1))
        rates = torch.where((x == self.mask).unsqueeze(-1), 0.0, rates)
        return rates.scatter(-1, x.unsqueeze(-1), 0.0)

    def _affine(self, q: Tensor, V: Tensor, into: Tensor, x: Tensor, s: Scalar) -> Tensor:
        out = super()._affine(q, V, into, x, s)
        out[..., self.mask] = 0.0  # the mask is never left
        return out

    def _same(self, x: Tensor, s: Scalar, t: Scalar) -> Tensor:
        a, b, _ = (_wide(c, x) for c in self._parts(s, t))
        return torch.where(x == self.mask, 1.0, a + b / (self.states - 1))

    def _over(self, x: Tensor, b: Scalar, c: Scalar, t: Scalar) -> Tensor:
        """f(z) / o: o is 1 - alpha_t times the K-th part of u for a token, times 1 - u for the mask."""
        b, c, lost = (_wide(value, x) for value in (b, c, self.schedule.lost(t)))
        return torch.where(x == self.mask, c / (1.0 - self.uniform), b / self.uniform) / lost

    def _into(self, x: Tensor, s: Scalar, t: Scalar) -> Tensor:
        _, b, c = self._parts(s, t)
        return self._over(x, b, c, t)

    def _rate_into(self, x: Tensor, t: Scalar) -> Tensor:
        return self._over(x, *self._rates(t), t)

    def _elsewhere(self, x: Tensor) -> Tensor:
        return torch.where(x == self.mask, self.uniform, self.uniform * (1.0 - 1.0 / (self.states - 1))).double()


def _one_hot(states: int, index: int) -> Tensor:
    out = torch.zeros(states, dtype=torch.float64)
    out[index] = 1.0
    return out


def _without(logits: Tensor, index: int) -> Tensor:
    """The logits with -inf at one state."""
    hide = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
    hide[index] = True
    return logits.masked_fill(hide, -torch.inf)
