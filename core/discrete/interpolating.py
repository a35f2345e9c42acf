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

of order S for each token, and the reverse rate is the same with f(z) = R_t[z, x_t] and s = t. Both are formed from
logarithms, since g and 1 - alpha become small. The masked process needs none of it: a masked token is decided with the
probability (alpha_s - alpha_t) / (1 - alpha_t), by p, and others never move.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ..schedules import maths as m
from ..schedules.maths import Scalar
from .categorical import categorical
from .keep import Keep, keep_of
from .process import Process, level

__all__ = ["Interpolating", "Marginal", "MaskUniform", "Masked", "Uniform"]

REACHED = 0.01
"""Largest alpha at t = 1 for which the prior may be taken for the law at t = 1."""

INSIDE = 1.0 - 1e-9
"""Latest time of rates: where alpha(1) = 0, noise is stirred infinitely fast at t = 1, on the way there and back."""


def _log(x: Scalar, like: Tensor) -> Scalar:
    """The logarithm of a coefficient in float64, then in the type of `like`."""
    value = m.log(x)
    return value.to(like.dtype) if isinstance(value, Tensor) else value


def _add(x: Tensor, c: Scalar) -> Tensor:
    """x + c for a coefficient of fewer dimensions."""
    return x + (level(c, x) if isinstance(c, Tensor) else c)


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
        """r: (S,), float64."""
        raise NotImplementedError

    def prior(self) -> Tensor:
        return self.replacement()

    def marginal(self, t: float) -> Tensor:
        lost = self.schedule.lost(t)
        return (1.0 - lost) * torch.eye(self.states, dtype=torch.float64) + lost * self.replacement()

    def transition(self, s: float, t: float) -> Tensor:
        a = self._ratio(s, t)
        return a * torch.eye(self.states, dtype=torch.float64) + (1.0 - a) * self.replacement()

    def rate(self, t: float) -> Tensor:
        return self._lambda(t) * (self.replacement() - torch.eye(self.states, dtype=torch.float64))

    def corrupt(self, x0: Tensor, t: Scalar, u: Tensor) -> Tensor:
        lost = level(self.schedule.lost(t), u)
        c = self.replacement().cumsum(0).to(u.device)
        within = u / lost if isinstance(lost, Tensor) else u / max(lost, 5e-324)  # uniform, given that u < lost
        new = torch.searchsorted(c / c[-1], within.contiguous(), right=True).clamp_max(self.states - 1)
        return torch.where(u < lost, new.to(x0.dtype), x0)

    def log_probs(self, logits: Tensor, x: Tensor) -> Tensor:
        return logits.log_softmax(-1)

    def log_posterior(self, log_p: Tensor, x: Tensor, s: Scalar, t: Scalar) -> Tensor:
        return self._back(log_p, x, s, t, self._log_into(x, s, t, log_p))

    def reverse_rate(self, log_p: Tensor, x: Tensor, t: Scalar) -> Tensor:
        t = m.clip(t.double() if isinstance(t, Tensor) else t, 0.0, INSIDE)
        rates = self._back(log_p, x, t, t, self._log_rate_into(x, t, log_p)).exp()
        return rates.scatter(-1, x.unsqueeze(-1), 0.0)

    def draw(self, log_p: Any, x: Tensor, s: Scalar, t: Scalar, u: Tensor, tilt: Tensor | None = None) -> Tensor:
        log_p = log_p(torch.ones_like(x, dtype=torch.bool)).reshape(*x.shape, -1) if callable(log_p) else log_p
        weights = self.log_posterior(log_p, x, s, t)
        return categorical(weights if tilt is None else weights + tilt, u).to(x.dtype)

    # ------------------------------------------------------------------ parts
    def _ratio(self, s: Scalar, t: Scalar) -> Scalar:
        """a = alpha_t / alpha_s."""
        return m.div(self.schedule.alpha(t), self.schedule.alpha(s))

    def _lambda(self, t: Scalar) -> Scalar:
        """-alpha' / alpha."""
        return m.div(self.schedule.speed(t), self.schedule.alpha(t))

    def _log_r(self, like: Tensor) -> Tensor:
        return self.replacement().log().to(like)

    def _back(self, log_p: Tensor, x: Tensor, s: Scalar, t: Scalar, log_f: Tensor) -> Tensor:
        """log of f(z) [alpha_s w(z) + (1 - alpha_s) r_z W]."""
        log_r = self._log_r(log_p)
        lost, kept = self.schedule.lost(t), self.schedule.alpha(t)
        other = _add(log_r[x], _log(lost, log_p))  # log g(x_0) for x_0 != x_t
        same = torch.logaddexp(other, torch.zeros_like(other) + _level_log(kept, other))
        w = log_p - other.unsqueeze(-1)
        w = w.scatter(-1, x.unsqueeze(-1), log_p.gather(-1, x.unsqueeze(-1)) - same.unsqueeze(-1))
        total = w.logsumexp(-1, keepdim=True)
        mixed = _add(log_r + total, _log(self.schedule.lost(s), log_p))
        return log_f + torch.logaddexp(_add(w, _log(self.schedule.alpha(s), log_p)), mixed)

    def _log_into(self, x: Tensor, s: Scalar, t: Scalar, like: Tensor) -> Tensor:
        """log f(z) = log q(x_t | x_s = z): (..., S)."""
        a = self._ratio(s, t)
        other = _add(self._log_r(like)[x], _log(1.0 - a, like))
        same = torch.logaddexp(other, torch.zeros_like(other) + _level_log(a, other))
        f = other.unsqueeze(-1).expand(like.shape)
        return f.scatter(-1, x.unsqueeze(-1), same.unsqueeze(-1))

    def _log_rate_into(self, x: Tensor, t: Scalar, like: Tensor) -> Tensor:
        """log R_t[z, x_t] for z != x_t: (..., S)."""
        return _add(self._log_r(like)[x], _log(self._lambda(t), like)).unsqueeze(-1).expand(like.shape)


def _level_log(c: Scalar, like: Tensor) -> Scalar:
    value = _log(c, like)
    return level(value, like) if isinstance(value, Tensor) else value


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

    def replacement(self) -> Tensor:
        return torch.tensor(self.probs, dtype=torch.float64)


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
        log_p = self.masked_log_probs(logits)
        known = (x != self.mask).unsqueeze(-1)
        certain = torch.full_like(log_p, -torch.inf).scatter(-1, x.unsqueeze(-1), 0.0)
        return torch.where(known, certain, log_p)

    def masked_log_probs(self, logits: Tensor) -> Tensor:
        """log p(x_0 | x_t) of masked tokens, (..., S)."""
        return _without(logits, self.mask).log_softmax(-1)

    def log_posterior(self, log_p: Tensor, x: Tensor, s: Scalar, t: Scalar) -> Tensor:
        masked = x == self.mask
        stay = m.div(self.schedule.lost(s), self.schedule.lost(t))
        moved = _add(log_p, _log(1.0 - stay, log_p))
        moved[..., self.mask] = _level_log(stay, x.to(log_p.dtype))
        certain = torch.full_like(log_p, -torch.inf).scatter(-1, x.unsqueeze(-1), 0.0)
        return torch.where(masked.unsqueeze(-1), moved, certain)

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
        if tilt is not None:
            return super().draw(log_p, x, s, t, u, tilt)
        stay = level(m.div(self.schedule.lost(s), self.schedule.lost(t)), u)
        leave = (x == self.mask) & (u >= stay)
        if not bool(leave.any()):
            return x
        rows = log_p(leave) if callable(log_p) else log_p[leave]
        part = ((u - stay) / (1.0 - stay))[leave]  # uniform again, given that the token is decided
        out = x.clone()
        out[leave] = categorical(rows, part).to(x.dtype)
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
        return a, 1.0 - a - c, c

    def _rates(self, t: Scalar) -> tuple[Scalar, Scalar]:
        """Rates from a token to all tokens together, and to the mask."""
        share = 1.0 - self.uniform
        c = share * self.schedule.speed(t) / (1.0 - share * self.schedule.lost(t))
        return self._lambda(t) - c, c

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

    def _into(self, x: Tensor, same: Scalar, other: Scalar, mask: Scalar, absorbed: float, like: Tensor) -> Tensor:
        """log of the column `x` of `_matrix`: (..., S)."""
        base = torch.zeros(x.shape, dtype=like.dtype, device=like.device)
        is_mask = x == self.mask
        none = torch.full_like(base, -torch.inf)
        f = torch.where(is_mask, base + _level_log(mask, base), base + _level_log(other, base))
        f = f.unsqueeze(-1).expand(like.shape)
        at_x = torch.where(is_mask, base + m.log(absorbed), base + _level_log(same, base))
        f = f.scatter(-1, x.unsqueeze(-1), at_x.unsqueeze(-1))
        f[..., self.mask] = torch.where(is_mask, f[..., self.mask], none)  # the mask is never left
        return f

    def _log_into(self, x: Tensor, s: Scalar, t: Scalar, like: Tensor) -> Tensor:
        a, b, c = self._parts(s, t)
        k = self.states - 1
        return self._into(x, a + b / k, b / k, c, 1.0, like)

    def _log_rate_into(self, x: Tensor, t: Scalar, like: Tensor) -> Tensor:
        b, c = self._rates(t)
        return self._into(x, 1.0, b / (self.states - 1), c, 0.0, like)


@lru_cache(maxsize=64)
def _one_hot(states: int, index: int) -> Tensor:
    out = torch.zeros(states, dtype=torch.float64)
    out[index] = 1.0
    return out


def _without(logits: Tensor, index: int) -> Tensor:
    """The logits with -inf at one state."""
    hide = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
    hide[index] = True
    return logits.masked_fill(hide, -torch.inf)
