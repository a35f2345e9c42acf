r"""Losses of token denoisers: bounds on -log p(x_0), in nats a token.

A process q takes x_0 to noise; the model goes back, with a network's p(x_0 | x_t) in the place of x_0. Both are Markov
chains, and the likelihood of the model is bounded by the divergence of their paths,

    -log p(x_0)  <=  KL(q(x_1 | x_0) || prior)  +  int_0^1 E_{q(x_t | x_0)} D_t(x_0, x_t) dt,

    D_t = sum_i sum_{y != x_t^i} Rev_p - Rev_0 + Rev_0 log(Rev_0 / Rev_p),                                          (1)

Rev_0 being the reverse rate x_t^i -> y given x_0^i, Rev_p its mean under p(x_0^i | x_t) (A. Campbell et al., "A
continuous time framework for discrete denoising models", NeurIPS 2022). If p(x_0^i | x_t) is that of the data for every
token, and Rev_0 the reversal of one forward chain whatever x_0, (1) is an equality for every x_0: tokens jump one at a
time, so that single tokens are all that is asked for.

*Paths* (`paths`) have rates that are no such reversal: where a token has been says more about x_0 than where it is. For
them (1) remains a bound, of what rates with the same p(x_0 | x_t) sample, but the exact p(x_0 | x_t), which samples the
data's law, pays more than -log p(x_0) too, and another network may pay less. As a term of its mean
Rev_p >= p(x_0^i | x_t) Rev_0, so that the logarithm is at most -log p(x_0^i | x_t): it is kept there, also where Rev_p
is too small for a number. Path losses are formed in float64, from logarithms.

*Masked* (S. Sahoo et al., MDLM; J. Shi et al., MD4; both NeurIPS 2024): with lost = 1 - alpha, over the masked tokens,

    D_t = (d lost / dt) / lost * sum_i -log p(x_0^i | x_t).

*Uniform*: the rate from i = x_t to j is -alpha' / (S alpha) times b_j / b_i, b_j = S alpha 1[j = x_0] + 1 - alpha; the
model's has the mean of that ratio under p. UDLM (Y. Schiff et al., "Simple guidance mechanisms for discrete diffusion
models", ICLR 2025) takes the ratio of the means under its network's output instead. The two are one model with the same
D_t, whose outputs differ by a known factor, p(x_0 | x_t) ~ p_UDLM(x_0) q(x_t | x_0); only the exact p is the law of the
data given x_t.

In T steps s = (k - 1) / T -> t = k / T the same is (J. Austin et al., D3PM, NeurIPS 2021)

    -log p(x_0)  <=  KL(q(x_1 | x_0) || prior)  +  sum_{k=1}^T E L_k,

    L_k = sum_i KL( q(x_s^i | x_t^i, x_0^i) || sum_{x_0} q(x_s^i | x_t^i, x_0) p(x_0 | x_t) ),   k >= 2,            (2)
    L_1 = sum_i -log p(x_0^i | x_{1/T}).

For masks L_k = (lost_t - lost_s) / lost_t * sum over the masked of -log p(x_0^i | x_t), k = 1 included.

**Near the data.** At small t a masked sequence has a masked token with probability of order t, and then a loss of order
1/t: the mean is right, the variance over t in (0, 1) diverges (like log 1/t). Other processes have beside that a term
of order p(wrong token) / t where a network has not learned that x_t is nearly the data. So training starts at t = 0.001
(the default of `TokenObjective`), and bounds add -log p(x_0 | x_t) there, as L_1 above (`likelihood`).

**Units.** Every loss is one number a sample, (B,): the mean over the tokens that count (those of the space, of the
mask, not known), in nats; leaves of product states add. Its mean over uniform t or k is the bound without its prior
term, which is `prior_kl`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..noise import Noise
from ..schedules.maths import Scalar
from ..spaces import default_space
from ..tree import Tree, leaves, tree_map
from .asked import Asked, ask, clean_tokens, spread
from .certain import certain
from .denoiser import TokenPrediction
from .interpolating import Interpolating, Masked
from .path_kl import divergence
from .paths import TokenPath
from .places import places
from .process import Process, ProductProcess, leafwise, level

__all__ = [
    "continuous_elbo",
    "cross_entropy",
    "discrete_elbo",
    "mask_weight",
    "path_divergence",
    "prior_kl",
    "step_divergence",
    "step_law",
    "token_nll",
]


# ---------------------------------------------------------------------- one number a token
def token_nll(pred: TokenPrediction, x0: Tree) -> Tree:
    """-log p(x_0 | x_t) of every token, (B, L, ...), in nats.

    For masked processes zero at tokens that are not masked: they are the data's.

    Args:
        pred: what the denoiser says about x_t.
        x0: token ids (B, L, ...), long, or a dictionary of leaves.
    """
    return _each(pred, _nll, x0)


def path_divergence(pred: TokenPrediction, x0: Tree) -> Tree:
    """D_t of equation (1) of every token, (B, L, ...), in nats a unit of time.

    Masked processes take their closed form and never build a tensor (B, L, S) beyond the network's logits. Tokens at
    t = 0 have none.

    Args:
        pred: what the denoiser says about x_t, at times t > 0.
        x0: token ids (B, L, ...), long, or a dictionary of leaves.
    """

    def leaf(pred: TokenPrediction, name: str | None, process: Process, x0: Tensor) -> Tensor:
        x, y = _pick(pred.x, name), _pick(pred.reference, name)
        if isinstance(process, Masked):
            nll = _nll(pred, name, process, x0)
            return _weighted(nll, process.hazard(pred.t, y))
        t, later = _later(process.local(pred.t, y), x)
        log_p = _pick(pred.log_probs, name)
        r, r0, log_ratio = _rates(process, log_p, x, x0, t)
        values = (r - r0 + r0 * log_ratio).sum(-1).to(log_p.dtype)
        return torch.where(level(later, x), values, values.new_zeros(()))

    return _each(pred, leaf, x0)


def _rates(process: Process, log_p: Tensor, x: Tensor, x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rev_p, Rev_0, and log(Rev_0 / Rev_p) where Rev_0 is positive, zero elsewhere: (B, L, ..., S)."""
    if isinstance(process, TokenPath):
        log_p = log_p.double()
        r0 = process.conditional_rate(x0, x, t)
        some, log_r0 = r0 > 0.0, r0.log()
        log_r = process.log_reverse_rate(log_p, x, t)
        log_r = torch.maximum(log_r, log_p.gather(-1, x0.unsqueeze(-1)) + log_r0)  # a term of the mean
        return log_r.exp(), r0, torch.where(some, log_r0, 0.0) - torch.where(some, log_r, 0.0)
    r, r0 = process.reverse_rate(log_p, x, t), process.reverse_rate(certain(log_p, x0), x, t)
    some = r0 > 0.0
    return r, r0, torch.where(some, r0, 1.0).log() - torch.where(some, r, 1.0).log()


def step_divergence(pred: TokenPrediction, x0: Tree, s: Scalar) -> Tree:
    """L_k of equation (2) of every token for the step from `pred.t` to s, (B, L, ...), in nats.

    Args:
        pred: what the denoiser says about x_t.
        x0: token ids (B, L, ...), long, or a dictionary of leaves. Masked processes count their masked tokens alone: at
            others q(x_t | x_0) is zero unless x_0 is x_t, and then nothing is left to be decided.
        s: where the step goes, s < t: a float, (B,) or (B, L). At s = 0 it is -log p(x_0 | x_t).
    """

    def leaf(pred: TokenPrediction, name: str | None, process: Process, x0: Tensor) -> Tensor:
        x, y = _pick(pred.x, name), _pick(pred.reference, name)
        if isinstance(process, Masked):
            return _weighted(_nll(pred, name, process, x0), mask_weight(process, x, pred.t, s, y))
        log_p = _pick(pred.log_probs, name)
        law, later = step_law(process, x, pred.t, s, y)
        kl = divergence(law(certain(log_p, x0)), law(log_p))
        return torch.where(level(later, x), kl, kl.new_zeros(()))

    return _each(pred, leaf, x0)


def mask_weight(process: Masked, x: Tensor, t: Scalar, s: Scalar, reference: Tensor | None = None) -> Tensor:
    """(lost_t - lost_s) / lost_t, with which a masked token is decided in the step from t to s: (B,) or (B, L).

    Args:
        process, x, t, s, reference: as for `step_law`. One at s = 0, zero at t = 0.
    """
    t, s, later, inner = _times(process, t, s, x, reference)
    lost = process.schedule.lost(t)
    weight = torch.where(inner, (lost - process.schedule.lost(s)) / lost, 1.0)
    return torch.where(later, weight, 0.0)


def step_law(
    process: Process, x: Tensor, t: Scalar, s: Scalar, reference: Tensor | None = None
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """The law of x_s in the step from t to s, for processes other than masked ones.

    Args:
        process: with posteriors.
        x: x_t (B, L, ...), long.
        t, s: times s < t: floats, (B,) or (B, L).
        reference: what the process knows of each token, or None.

    Returns:
        A function log p(x_0 | x_t) -> log of sum_{x_0} q(x_s | x_t, x_0) p(x_0 | x_t), (B, L, ..., S) both: the same
        thing at s = 0; and a boolean (B,) or (B, L), where t > 0. Elsewhere there is no step.
    """
    t, s, later, inner = _times(process, t, s, x, reference)

    def law(log_p: Tensor) -> Tensor:
        return torch.where(level(inner, log_p), process.log_posterior(log_p, x, s, t), log_p)

    return law, later


def _nll(pred: TokenPrediction, name: str | None, process: Process, x0: Tensor) -> Tensor:
    if not isinstance(process, Masked):
        log_p: Tensor = _pick(pred.log_probs, name)
        return -log_p.gather(-1, x0.unsqueeze(-1)).squeeze(-1)
    masked = _pick(pred.x, name) == process.mask
    rows = pred.rows(name)(masked)
    values = -rows.gather(-1, x0[masked].unsqueeze(-1)).squeeze(-1)
    return torch.zeros(x0.shape, dtype=rows.dtype, device=rows.device).index_put((masked,), values)


def _weighted(nll: Tensor, weight: Scalar) -> Tensor:
    """nll times a weight, which is not finite where no token can be masked (t = 0)."""
    weight = torch.as_tensor(weight, dtype=torch.float64, device=nll.device)
    return nll * level(torch.where(torch.isfinite(weight), weight, 0.0), nll).to(nll)


def _times(
    process: Process, t: Scalar, s: Scalar, x: Tensor, y: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Both times as each token sees them, and where t > 0 and s > 0; times are usable ones also where they are not."""
    t, later = _later(process.local(t, y), x)
    s, inner = _earlier(process.local(s, y), t, later)
    return t, s, later, inner


def _later(t: Scalar, x: Tensor) -> tuple[Tensor, Tensor]:
    """The time as a float64 tensor (B,) or (B, L) that is nowhere zero, and where it was not zero."""
    t = torch.as_tensor(t, dtype=torch.float64, device=x.device)
    t = t.expand(x.shape[:1]) if t.ndim == 0 else t
    return torch.where(t > 0.0, t, 0.5), t > 0.0


def _earlier(s: Scalar, t: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
    """The same for s < t, of the shape of t; strictly between 0 and t also where it is not used."""
    s = torch.as_tensor(s, dtype=torch.float64, device=t.device)
    s = (s[:, None] if s.ndim < t.ndim and s.ndim else s).expand(t.shape)
    inner = later & (s > 0.0)
    return torch.where(inner, s, 0.5 * t), inner


def _pick(tree: Tree | None, name: str | None) -> Any:
    return tree if name is None or tree is None else tree[name]


def _each(pred: TokenPrediction, function: Callable[..., Tensor], x0: Tree) -> Tree:
    process = pred.denoiser.process
    if isinstance(process, ProductProcess):
        return {name: function(pred, name, leaf, x0[name]) for name, leaf in process.leaves.items()}
    return function(pred, None, process, x0)


# ---------------------------------------------------------------------- one number a sample
def continuous_elbo(
    denoiser: Any,
    x0: Tree,
    t: Tensor,
    *,
    noise: Noise | Tree,
    condition: Mapping[str, Any] | None = None,
    reference: Tree | None = None,
    mask: Tree | None = None,
    known: Tensor | None = None,
    leaf_weights: Mapping[str, float] | None = None,
) -> Tensor:
    """D_t of equation (1), nats a token and unit of time, (B,): its mean over uniform t bounds -log p(x_0) / L.

    Any process with reverse rates; S numbers a token are formed, except for masked processes.

    Args:
        denoiser, x0, t, noise, condition, reference, mask, known: as for `ask`.
        leaf_weights: weight of each leaf of a product state; one.

    Raises:
        TypeError, ValueError: as `ask`.
    """
    asked = ask(denoiser, x0, t, noise=noise, condition=condition, reference=reference, mask=mask, known=known)
    return asked.mean(path_divergence(asked.pred, asked.x0), leaf_weights)


def discrete_elbo(
    denoiser: Any,
    x0: Tree,
    step: Tensor,
    T: int,
    *,
    noise: Noise | Tree,
    auxiliary: float = 0.0,
    adaptive: bool = False,
    condition: Mapping[str, Any] | None = None,
    reference: Tree | None = None,
    mask: Tree | None = None,
    known: Tensor | None = None,
    leaf_weights: Mapping[str, float] | None = None,
) -> Tensor:
    """T (L_k - auxiliary log p(x_0 | x_t)) with L_k of equation (2), nats a token, (B,).

    Without the auxiliary term its mean over uniform steps bounds -log p(x_0) / L. The factor T stands before both, so
    that a published `auxiliary` keeps its meaning.

    Args:
        denoiser, x0, noise, condition, reference, mask, known: as for `ask`.
        step: k of each sample, 1..T, long (B,).
        T: number of steps.
        auxiliary: lambda of the cross-entropy at every step: 0.001 on images and 0.01 on masked text (D3PM), 5e-4
            (VQ-Diffusion).
        adaptive: multiply it by 2 - (k - 1) / T (VQ-Diffusion, S. Gu et al., CVPR 2022).
        leaf_weights: weight of each leaf of a product state; one.

    Raises:
        TypeError, ValueError: as `ask`; for steps that are no integers or outside of 1..T.
    """
    check_steps(step, T)
    t = step.double() / T
    asked = ask(denoiser, x0, t, noise=noise, condition=condition, reference=reference, mask=mask, known=known)
    return discrete_terms(asked, step, T, auxiliary, adaptive, leaf_weights)


def discrete_terms(
    asked: Asked,
    step: Tensor,
    T: int,
    auxiliary: float = 0.0,
    adaptive: bool = False,
    leaf_weights: Mapping[str, float] | None = None,
) -> Tensor:
    """`discrete_elbo` of what has been asked at t = step / T."""
    step = step.to(leaves(asked.x0)[0].device)
    if auxiliary:
        asked = once(asked)
    loss = asked.mean(step_divergence(asked.pred, asked.x0, (step.double() - 1.0) / T), leaf_weights)
    if auxiliary:
        lam = auxiliary * (2.0 - (step.double() - 1.0) / T) if adaptive else auxiliary
        nll = asked.mean(token_nll(asked.pred, asked.x0), leaf_weights)
        loss = loss + nll * (lam.to(nll) if isinstance(lam, Tensor) else lam)
    return T * loss


def once(asked: Asked) -> Asked:
    """The same with its log-probabilities computed once for several losses; of masked tokens few are needed at all."""
    process, pred = asked.pred.denoiser.process, asked.pred
    if any(isinstance(leaf, Masked) for leaf in getattr(process, "leaves", {"": process}).values()):
        return asked
    return replace(asked, pred=pred.with_log_probs(pred.log_probs))


def check_steps(step: Tensor, T: int) -> None:
    """Refuse what is no step.

    Raises:
        TypeError, ValueError: for steps that are no integers or outside of 1..T.
    """
    if T < 1:
        raise ValueError(f"a discrete bound has at least one step, got T={T}")
    if not isinstance(step, Tensor) or step.is_floating_point() or step.dtype == torch.bool:
        came = step.dtype if isinstance(step, Tensor) else type(step).__name__
        raise TypeError(f"step is a long tensor (B,) of numbers 1..{T}, got {came}")
    if step.ndim != 1 or bool(((step < 1) | (step > T)).any()):
        raise ValueError(f"step holds numbers 1..{T}, one a sample (B,); got {step.tolist()}")


def cross_entropy(
    denoiser: Any,
    x0: Tree,
    t: Tensor,
    *,
    noise: Noise | Tree,
    condition: Mapping[str, Any] | None = None,
    reference: Tree | None = None,
    mask: Tree | None = None,
    known: Tensor | None = None,
    leaf_weights: Mapping[str, float] | None = None,
) -> Tensor:
    """-log p(x_0 | x_t) without the weight of the bound, nats, (B,).

    Masked processes: the mean over the masked tokens of each sample, as masked image models are trained (H. Chang et
    al., MaskGIT, CVPR 2022); zero where none is masked. Others: the mean over all tokens (C. Vignac et al., DiGress,
    ICLR 2023).

    Args:
        denoiser, x0, t, noise, condition, reference, mask, known: as for `ask`.
        leaf_weights: weight of each leaf of a product state; one.

    Raises:
        TypeError, ValueError: as `ask`.
    """
    asked = ask(denoiser, x0, t, noise=noise, condition=condition, reference=reference, mask=mask, known=known)
    return unweighted(asked, leaf_weights)


def unweighted(asked: Asked, leaf_weights: Mapping[str, float] | None = None) -> Tensor:
    """`cross_entropy` of what has been asked."""

    def undecided(process: Process, x: Tensor, counts: Tensor) -> Tensor:
        return (x == process.mask) & counts if isinstance(process, Masked) else counts

    pred = asked.pred
    counts = leafwise(pred.denoiser.process, undecided, pred.x, asked.counts)
    return Asked(pred, asked.x0, counts).mean(token_nll(pred, asked.x0), leaf_weights)


def prior_kl(
    denoiser: Any, x0: Tree, *, mask: Tree | None = None, leaf_weights: Mapping[str, float] | None = None
) -> Tensor:
    """KL(q(x_1 | x_0) || prior), nats a token, float64, (B,): what the bounds have beside their losses.

    Zero where alpha(1) = 0; infinite for a masked process that keeps something at t = 1, since sampling starts from
    masks only.

    Args:
        denoiser: gives the process and the space.
        x0, mask: as for `ask`.
        leaf_weights: weight of each leaf of a product state; one.
    """
    space = denoiser.space or default_space(x0)
    x0 = clean_tokens(denoiser.schedule, x0, space)
    counts = places(space, x0)
    if mask is not None:
        counts = tree_map(lambda c, m: c & spread(m, c, "a loss mask"), counts, mask)
    values = leafwise(denoiser.schedule, lambda process, x0: prior_divergence(process).to(x0.device)[x0], x0)
    return Asked(None, x0, counts).mean(values, leaf_weights)  # type: ignore[arg-type]


def prior_divergence(process: Process) -> Tensor:
    """KL(q(x_1 | x_0) || prior) for each x_0, float64, (S,)."""
    r = process.prior()
    if not isinstance(process, Interpolating):
        q = process.marginal(1.0)
        return torch.where(q > 0.0, q * (q.log() - r.log()), 0.0).sum(-1)
    alpha = 1.0 - torch.as_tensor(process.schedule.lost(1.0), dtype=torch.float64)
    if not alpha > 0.0:
        return torch.zeros_like(r)
    same = alpha + (1.0 - alpha) * r  # elsewhere q / r = 1 - alpha
    return same * (same / r).log() + (1.0 - alpha) * (1.0 - r) * (1.0 - alpha).log()
