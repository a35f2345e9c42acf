r"""Contrastive discrete diffusion: what a condition goes with, and what it does not.

Y. Zhu et al., "Discrete contrastive diffusion for cross-modal music and image generation" (CDCD), ICLR 2023. To raise
the mutual information of data and condition, the prediction made for the pair (x_0, condition) at the pair's own x_t is
held against *negatives* z that do not go with the condition:

    step-wise       C_k(z) = KL( q(x_s | x_t, z) || p(x_s | x_t) )          (-log p(z | x_t) at the first step),
    sample-wise     C_k(z) = -log p(x_0 = z | x_t),

    loss = T [ L_k + auxiliary term - w (1 + (k - 1) / T) mean_z C_k(z) ],

with the bound's L_k of `losses`. Published: negatives *within* a sample (its tokens cut into 8 chunks which are
shuffled), step-wise with w = 5e-5; and *between* samples (others of the data), sample-wise with w = 5e-6; 10 of them.

**Bounded.** The published term is subtracted as it stands. C_k(z) has no upper bound, so the loss has no lower one:
once the data are fitted, what is left to be gained lies in making negatives ever more impossible. Here

    mean_z C_k(z)     becomes     mean_z min( C_k(z), bound * C_k^0(z) ),

C_k^0 being what a model pays that knows nothing (all tokens equally likely) at the same x_t and step. The loss is at
least -T w (1 + (k - 1)/T) bound C_k^0, and a negative which costs `bound` times a blind guess has no gradient any more.
The default of 2 leaves the published gradient to all models that give negatives more than the square of a blind guess's
probability, untrained ones (C = C^0) among them, and cuts what runs away.

Other differences. Negatives are keyed. Permutations are drawn among all but the identity, so that a shuffle is one; a
negative that still equals the data where something is to be decided (repeated chunks, doubles in a batch) counts
nothing. Negatives between samples come from the batch. In masked processes tokens that are not masked say nothing about
z and are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ..training.keys import Keys
from .asked import Asked
from .certain import certain
from .interpolating import Masked
from .losses import mask_weight, step_law
from .objective import TokenObjective
from .path_kl import divergence
from .process import level

__all__ = ["ContrastiveObjective", "bounded_contrast", "other_samples", "shuffled_chunks"]

Negatives = Literal["intra", "inter"]


def shuffled_chunks(x0: Tensor, u: Tensor, chunks: int = 8, real: Tensor | None = None) -> Tensor:
    """Negatives within samples: the real tokens of each, cut into chunks as equal as possible, in another order.

    Args:
        x0: (B, L).
        u: uniforms in (0, 1), float64, (B, K): each gives one of the chunks! - 1 orders that are not the present one.
        chunks: number of chunks, 2..18 (more orders than 18! one float64 number does not tell apart).
        real: boolean (B, L), the tokens that are shuffled; others stay where they are. All by default.

    Returns:
        (B, K, L).

    Raises:
        ValueError: for a number of chunks out of range, and states that are no sequences.
    """
    if not 2 <= chunks <= 18:
        raise ValueError(f"shuffling takes 2..18 chunks, got {chunks}")
    if x0.ndim != 2 or u.ndim != 2 or u.shape[0] != x0.shape[0]:
        raise ValueError(
            f"negatives are shuffles of sequences (B, L) by u (B, K), got {tuple(x0.shape)}, {tuple(u.shape)}"
        )
    b, length = x0.shape
    real = torch.ones_like(x0, dtype=torch.bool) if real is None else real
    order = _permutations(u.to(x0.device), chunks)  # (B, K, chunks): place of each chunk
    place = torch.arange(length, device=x0.device)
    real_first = (~real).long().argsort(dim=1, stable=True)  # places of the real tokens in order, then the others
    n = real.sum(1, keepdim=True)
    chunk = (place * chunks // n.clamp_min(1)).clamp_max(chunks - 1)  # (B, L), of the j-th real token
    key = order.gather(2, chunk[:, None].expand(b, u.shape[1], length))
    key = torch.where(place < n[:, None], key, chunks) * length + place
    rank = key.argsort(2)
    sources = real_first[:, None].expand_as(rank)
    values = x0[:, None].expand_as(rank).gather(2, sources).gather(2, rank)
    return torch.empty_like(values).scatter(2, sources, values)


def _permutations(u: Tensor, n: int) -> Tensor:
    """Permutations of 0..n-1 other than the identity, equally likely: (..., n) for uniforms u (...)."""
    count = math.factorial(n)
    code = 1 + (u * (count - 1)).floor().long().clamp(0, count - 2)  # 0 is the identity
    digits = []
    for base in range(1, n + 1):  # the factorial number system, from the last digit
        digits.append(code % base)
        code = code // base
    out = torch.zeros((*u.shape, n), dtype=torch.long, device=u.device)
    for i in range(n - 1, -1, -1):  # Lehmer code: what comes later and is not smaller moves up
        d = digits[n - 1 - i].unsqueeze(-1)
        out[..., i + 1 :] += out[..., i + 1 :] >= d
        out[..., i : i + 1] = d
    return out


def other_samples(x0: Tensor, u: Tensor, negatives: int) -> Tensor:
    """Negatives between samples: for each sample of a batch others of it, none twice and never the sample itself.

    Args:
        x0: (B, L).
        u: uniforms, (B, B - 1): the order in which the others are taken.
        negatives: K.

    Returns:
        (B, K, L).

    Raises:
        ValueError: for batches of fewer than K + 1 samples.
    """
    b = x0.shape[0]
    if negatives > b - 1:
        raise ValueError(
            f"{negatives} negatives between samples need a batch of at least {negatives + 1}, this one has {b}: take a "
            "larger batch or fewer negatives"
        )
    if u.shape != (b, b - 1):
        raise ValueError(f"need u of shape {(b, b - 1)}, got {tuple(u.shape)}")
    step = 1 + u.argsort(1)[:, :negatives].to(x0.device)
    return x0[(torch.arange(b, device=x0.device)[:, None] + step) % b]


def bounded_contrast(asked: Asked, z: Tensor, s: Tensor | None = None, *, bound: float = 2.0) -> Tensor:
    """mean_z min(C(z), bound * C^0(z)), nats a token, (B,).

    The model's law is formed once, whatever K; for step-wise terms the negatives' posteriors are formed one after the
    other and without a graph, and their weighted sum, of the size of the logits, is kept for the backward pass.

    Args:
        asked: the data at x_t, and what the denoiser says there.
        z: negatives (B, K, L).
        s: step-wise, where the step goes, (B,); None is sample-wise.
        bound: in costs of a model that knows nothing.
    """
    pred, x = asked.pred, asked.pred.x
    process = pred.denoiser.leaf(None)
    masked = x == process.mask if isinstance(process, Masked) else torch.ones_like(x, dtype=torch.bool)
    counted = (asked.counts & masked).unsqueeze(1)
    differs = ((z != asked.x0.unsqueeze(1)) & counted).any(-1)  # (B, K)
    # knowing nothing: all tokens equally likely, those that the process excludes left out
    log_p, blind = pred.log_probs, process.log_probs(torch.zeros_like(pred.raw), x)

    weight = pred.raw.new_ones(())
    if s is not None:
        if not isinstance(process, Masked):
            return _steps(asked, log_p, blind, z, s, differs, bound)
        weight = mask_weight(process, x, pred.t, s, pred.reference)

    def costs(log_p: Tensor) -> Tensor:
        nll = -log_p.gather(-1, z.mT).mT
        nll = torch.where(counted, nll, nll.new_zeros(())) * level(weight.to(nll), x).unsqueeze(1)
        return nll.sum(-1) / asked.counts.sum(1, keepdim=True).clamp_min(1)

    cost = torch.minimum(costs(log_p), bound * costs(blind))
    return torch.where(differs, cost, cost.new_zeros(())).sum(1) / max(z.shape[1], 1)


def _steps(asked: Asked, log_p: Tensor, blind: Tensor, z: Tensor, s: Tensor, differs: Tensor, bound: float) -> Tensor:
    """The step-wise term of processes without a closed form, (B,).

    With q_z the posterior of a negative and m the model's, C(z) = sum q_z log q_z - sum q_z log m: the gradient of the
    term is that of - sum Q log m, Q being the mean of the q_z that cost less than the bound.
    """
    pred = asked.pred
    law, later = step_law(pred.denoiser.leaf(None), pred.x, pred.t, s, pred.reference)
    log_m = law(log_p)
    counts = asked.counts & level(later, pred.x)
    with torch.no_grad():
        log_0, total, Q = law(blind), log_p.new_zeros(len(z)), torch.zeros_like(log_p)
        for k in range(z.shape[1]):
            log_q = law(certain(log_p, z[:, k]))
            cost, limit = (asked.mean(torch.where(counts, divergence(log_q, m), 0.0)) for m in (log_m, log_0))
            limit = bound * limit
            total += torch.where(differs[:, k], torch.minimum(cost, limit), 0.0)
            share = torch.where(cost < limit, 1.0, torch.where(cost == limit, 0.5, 0.0)) * differs[:, k]
            Q += log_q.exp() * share[:, None, None]
    if log_m.requires_grad:
        slope = asked.mean(torch.where(counts, -(Q * torch.where(Q > 0.0, log_m, 0.0)).sum(-1), 0.0))
        total = total + (slope - slope.detach())
    return total / max(z.shape[1], 1)


@dataclass(frozen=True)
class ContrastiveObjective(TokenObjective):
    """The bound in T steps with the contrastive terms of CDCD; for sequences (B, L) of one process.

    Attributes:
        step: weight of the step-wise term; 0 leaves it out.
        step_negatives: "intra" (shuffled chunks) or "inter" (other samples of the batch).
        sample: weight of the sample-wise term; 0 leaves it out.
        sample_negatives: as above.
        negatives: how many a term.
        chunks: of the shuffles.
        bound: largest cost of a negative, in costs of a model that knows nothing.

    The other attributes are those of `TokenObjective`; `loss` is "discrete".
    """

    loss: Literal["continuous", "discrete"] = "discrete"
    step: float = 5e-5
    step_negatives: Negatives = "intra"
    sample: float = 5e-6
    sample_negatives: Negatives = "inter"
    negatives: int = 10
    chunks: int = 8
    bound: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss != "discrete" or self.weighting != "elbo":
            raise ValueError('contrastive terms belong to the bound in steps: loss="discrete", weighting="elbo"')
        if not (self.step >= 0.0 and self.sample >= 0.0):
            raise ValueError(f"weights are >= 0, got step={self.step}, sample={self.sample}")
        if self.negatives < 1:
            raise ValueError(f"a contrastive term needs at least one negative, got {self.negatives}")
        if not self.bound > 0.0 or not math.isfinite(self.bound):
            raise ValueError(
                f"bound must be positive and finite, got {self.bound}: without it the loss has no lower bound"
            )
        for name, kind in (("step_negatives", self.step_negatives), ("sample_negatives", self.sample_negatives)):
            if kind not in ("intra", "inter"):
                raise ValueError(f'{name} is "intra" or "inter", got {kind!r}')

    def value(self, asked: Asked, t: Tensor, keys: Keys) -> Tensor:
        if not isinstance(asked.x0, Tensor) or asked.x0.ndim != 2:
            raise ValueError("contrastive terms need sequences of tokens (B, L)")
        asked = replace(asked, pred=asked.pred.with_log_probs(asked.pred.log_probs))  # once, for all terms
        loss = super().value(asked, t, keys)
        s = (t - 1.0 / self.steps).to(asked.x0.device).clamp_min(0.0)
        s = torch.where(s < 0.5 / self.steps, 0.0, s)
        adaptive = (1.0 + s).to(loss) * self.steps
        if self.step:
            z = self._negatives(asked, self.step_negatives, keys, "step")
            loss = loss - self.step * adaptive * bounded_contrast(asked, z, s, bound=self.bound)
        if self.sample:
            z = self._negatives(asked, self.sample_negatives, keys, "sample")
            loss = loss - self.sample * adaptive * bounded_contrast(asked, z, bound=self.bound)
        return loss

    def _negatives(self, asked: Asked, kind: Any, keys: Keys, role: str) -> Tensor:
        if kind == "intra":
            u = keys.uniforms(f"negatives/{role}", self.negatives)
            return shuffled_chunks(asked.x0, u, self.chunks, asked.counts)
        others = len(asked.x0) - 1
        return other_samples(asked.x0, keys.uniforms(f"negatives/{role}", max(others, 1))[:, :others], self.negatives)
