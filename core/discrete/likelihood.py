r"""Bounds on the likelihood of sequences, in bits a token: -log2 p(x_0) / L <= what stands here.

The bounds are those of `losses`, estimated with random numbers and divided by log 2. Three protocols:

**"orders"**, for masked processes. Put lost in the place of t in the bound. Of L tokens n are masked with the
probability Binomial(n; L, lost), and int Binomial(n; L, lost) / lost dlost = 1/n; what is left is free of the schedule:

    -log p(x_0)  <=  E_n E_{S: |S| = n} [ L / n * sum_{i in S} -log p(x_0^i | tokens not in S) ],   n uniform in 1..L.

It is the mean over all L! orders of the chain rule, and equals -log p(x_0) for every x_0 where the p(x_0^i | .) are the
conditionals of one law. It is the bound of what `FirstHitting` samples: S are the places of the n smallest of L
uniforms, and the n-th smallest is lost itself, at whose time the network is asked (which matters where it looks at the
time). n is drawn in strata of the draws.

**"continuous"**, for all processes with reverse rates: KL(q(x_1 | x_0) || prior), the integral of D_t over [t_0, 1]
with t in strata of the draws, and -log p(x_0 | x_{t_0}), decided at once. The integral alone would be a bound with
t_0 = 0; but where replaced tokens cannot be told from others, a network that does not know how sure it may be near the
data then pays infinitely much, in rare draws. Where the process is one forward chain (all but `TokenPath`), it equals
-log p(x_0) for a network with the exact p(x_0^i | x_t), but for terms of order t_0^2 (two tokens decided at once). For
paths it is not tight: a bound, which the exact p(x_0^i | x_t) does not reach (a law of 1.04 bits a token on pairs of 3
tokens costs 1.34 to 1.36 on the paths that were tried), and the result's protocol says so.

**"discrete"**: the bound in T steps, KL(q(x_1 | x_0) || prior) + sum_k L_k: of what T steps of `Ancestral` over a
uniform grid sample. Steps are drawn in strata: with draws = T each step occurs once, with draws = m T m times.

A bound is a statement on the model under its protocol: numbers of different protocols do not compare, other than by
being bounds on what each samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Literal

import torch
from torch import Tensor

from ..noise import SlotNoise
from ..sample import _bar
from ..spaces import Graph, Product, default_space
from ..spaces import Masked as MaskedSpace
from ..tree import take
from .asked import Asked, ask, clean_tokens
from .categorical import uniforms
from .interpolating import Masked
from .losses import path_divergence, prior_divergence, step_divergence, token_nll
from .objective import EARLIEST
from .paths import TokenPath
from .places import places
from .process import Process, level

__all__ = ["TokenLikelihood", "bits_per_token"]

Bound = Literal["orders", "continuous", "discrete"]


@dataclass(frozen=True)
class TokenLikelihood:
    """An upper bound on the bits a token.

    Attributes:
        bits: all bits over all tokens (long sequences weigh more).
        error: its standard error over sequences, the randomness of the estimate included; nan for one sequence.
        interval: bits -+ 1.96 error, 95 %.
        sequences, tokens: how many there were.
        protocol: what the number is.
        per_sequence: bits a token of each sequence, float64, (B,). Unbiased estimates of its bound; one of few draws
            may lie below the true value.
        lengths: tokens of each sequence, (B,).
        calls: calls of the network.
    """

    bits: float
    error: float
    sequences: int
    tokens: int
    protocol: str
    per_sequence: Tensor = field(repr=False)
    lengths: Tensor = field(repr=False)
    calls: int = field(repr=False)

    @property
    def interval(self) -> tuple[float, float]:
        return self.bits - 1.96 * self.error, self.bits + 1.96 * self.error

    @property
    def perplexity(self) -> float:
        """2^bits: as uncertain as a choice among that many tokens. An upper bound, as bits is."""
        return 2.0**self.bits

    def __str__(self) -> str:
        return (
            f"<= {self.bits:.4f} +- {1.96 * self.error:.4f} bits/token (perplexity <= {self.perplexity:.3f}; "
            f"{self.sequences} sequences, {self.tokens} tokens; {self.protocol})"
        )


def bits_per_token(
    denoiser: Any,
    x0: Tensor,
    *,
    seed: int,
    draws: int = 32,
    bound: Bound | None = None,
    T: int | None = None,
    t0: float = EARLIEST,
    condition: Mapping[str, Any] | None = None,
    reference: Tensor | None = None,
    mask: Tensor | None = None,
    known: Tensor | None = None,
    max_batch: int | None = None,
    progress: bool = False,
) -> TokenLikelihood:
    """An upper bound on -log2 p(x_0) a token.

    Args:
        denoiser: a `TokenDenoiser`, or guidance around one.
        x0: token ids (B, L, ...).
        seed: key of the random numbers; those of a sequence depend on the seed and its index alone.
        draws: network calls a sequence (and one more for "continuous").
        bound: the protocol, see the module. Default "orders" for masked processes without priorities, "continuous" for
            others.
        T: number of steps of "discrete".
        t0: first time of "continuous", in (0, 1).
        condition: tensors (B, ...) by name, passed to the network.
        reference: priorities of the tokens (B, L, ...), for processes that have them.
        mask: boolean (B, L, ...), True = a real token; default the denoiser's space.
        known: boolean (B, L, ...), True = given: the bound is then one on the others, given those.
        max_batch: largest batch that the network is given; changes no number beyond rounding.
        progress: show a progress bar.

    Raises:
        TypeError: for a seed that is no integer, dictionaries of leaves, tokens that are no integers.
        ValueError: for settings that do not go together, tokens that cannot be data, and bounds that are infinite.
    """
    process = denoiser.schedule
    bound, T = _check(process, x0, seed, draws, bound, T, t0, reference, max_batch)
    if mask is not None:
        denoiser = denoiser.on(MaskedSpace(mask))
    space = denoiser.space or default_space(x0)
    if isinstance(space, Graph | Product):
        raise TypeError(f"bits a token are those of sequences, got states of {space!r}; sum the losses of `losses`")
    space.check(x0)
    x0 = clean_tokens(process, x0, space)
    counts = places(space, x0)
    if known is not None:
        if known.dtype != torch.bool or known.shape != x0.shape:
            raise ValueError(f"known is boolean of shape {tuple(x0.shape)}, got {known.dtype} {tuple(known.shape)}")
        counts = counts & ~known.to(counts.device)
    lengths = counts.flatten(1).sum(1)
    if not bool((lengths > 0).all()):
        raise ValueError(f"sequence {int((lengths == 0).nonzero()[0])} has no token left to be predicted")

    size, width = len(x0), min(max_batch or len(x0), len(x0))
    extra = 1 if bound == "continuous" else 0
    nats = torch.zeros(size, dtype=torch.float64, device=x0.device)
    bar = _bar(-(-size // width) * (draws + extra), progress)
    if bar.shown:
        bar.set_description("likelihood")
    with torch.no_grad(), bar:
        for start in range(0, size, width):
            part = slice(start, min(start + width, size))
            estimate = _Estimate(
                denoiser if denoiser.space is None else denoiser.on(denoiser.space.take(part)),
                x0[part],
                counts[part],
                SlotNoise(int(seed), range(part.start, part.stop)),
                None if reference is None else reference[part],
                {name: take(value, part) for name, value in (condition or {}).items()},
                draws,
                known is not None,
            )
            for k in range(draws + extra):
                if bound == "orders":
                    value = estimate.order(k)
                elif bound == "discrete":
                    value = estimate.step(k, T)
                else:
                    value = estimate.time(k, t0) if k < draws else draws * estimate.start(t0)
                nats[part] += value / draws
                bar.update(1)
    if bound != "orders":
        at_prior = prior_divergence(process).to(x0.device)[x0]
        nats += torch.where(counts, at_prior, 0.0).flatten(1).sum(1)
    protocol = {
        "orders": f"mean over orders of the chain rule, {draws} stratified draws",
        "continuous": f"path bound on [{t0:g}, 1], {draws} stratified draws, decided at once from {t0:g}"
        + ("; not tight: no chain is reversed by these rates" if isinstance(process, TokenPath) else ""),
        "discrete": f"bound in {T} steps, {draws} stratified draws",
    }[bound]
    return _result(nats / math.log(2.0), lengths, protocol, -(-size // width) * (draws + extra))


def _result(bits: Tensor, lengths: Tensor, protocol: str, calls: int) -> TokenLikelihood:
    n, total = len(bits), lengths.sum().double()
    mean = bits.sum() / total
    left = bits - mean * lengths  # of the ratio of sums
    error = (left.square().sum() * n / (n - 1)).sqrt() / total if n > 1 else torch.tensor(math.nan)
    return TokenLikelihood(float(mean), float(error), n, int(total), protocol, bits / lengths, lengths, calls)


@dataclass
class _Estimate:
    """One batch; every method is one network call and gives nats of each sequence, (B,)."""

    denoiser: Any
    x0: Tensor
    counts: Tensor
    noise: SlotNoise
    reference: Tensor | None
    condition: dict[str, Any]
    draws: int
    partial: bool  # whether tokens are given, which are then data at time 0

    def stratum(self, k: int, role: str) -> Tensor:
        """One uniform a sequence, in the k-th of `draws` strata, (B,)."""
        z = self.noise(self.x0.new_zeros((len(self.x0), 1), dtype=torch.float64), k, role)[:, 0]
        return (k + torch.special.ndtr(z).clamp(0.0, 1.0 - 2.0**-53)) / self.draws

    def asked(self, t: Tensor, k: int, role: str) -> Asked:
        space = self.denoiser.space or default_space(self.x0)
        u = uniforms(self.noise, space, self.x0, k, role)
        return self.ask(torch.where(self.counts, level(t, self.x0), 0.0) if self.partial else t, u)

    def ask(self, t: Tensor, u: Tensor) -> Asked:
        asked = ask(self.denoiser, self.x0, t, noise=u, condition=self.condition, reference=self.reference, check=False)
        return Asked(asked.pred, asked.x0, self.counts)

    def order(self, k: int) -> Tensor:
        process, x0 = self.denoiser.schedule, self.x0
        lengths = self.counts.flatten(1).sum(1)
        n = (self.stratum(k, "bits/number") * lengths).floor().long().clamp_max(lengths - 1) + 1
        space = self.denoiser.space or default_space(x0)
        u = uniforms(self.noise, space, x0, k, "bits/order")
        u = torch.where(self.counts, u, 2.0).flatten(1)
        lost = u.sort(1).values.gather(1, n[:, None] - 1)
        x = torch.where((u <= lost).reshape(x0.shape) & self.counts, process.mask, x0)
        t = torch.as_tensor(process.schedule.time_of_lost(lost[:, 0])).clamp(0.0, 1.0)
        pred = self.denoiser(x, t, **self.condition)
        return Asked(pred, x0, self.counts).total(token_nll(pred, x0)) * lengths / n

    def time(self, k: int, t0: float) -> Tensor:
        asked = self.asked(t0 + (1.0 - t0) * self.stratum(k, "bits/time"), k, "bits/corrupt")
        return (1.0 - t0) * asked.total(path_divergence(asked.pred, asked.x0))

    def start(self, t0: float) -> Tensor:
        t = torch.full((len(self.x0),), t0, dtype=torch.float64, device=self.x0.device)
        asked = self.asked(t, 0, "bits/start")
        return asked.total(token_nll(asked.pred, asked.x0))

    def step(self, k: int, T: int) -> Tensor:
        step = (self.stratum(k, "bits/step") * T).floor().clamp_max(T - 1) + 1.0
        asked = self.asked(step / T, k, "bits/corrupt")
        return T * asked.total(step_divergence(asked.pred, asked.x0, (step - 1.0) / T))


def _check(
    process: Any,
    x0: Any,
    seed: Any,
    draws: Any,
    bound: Any,
    T: int | None,
    t0: float,
    reference: Any,
    max_batch: int | None,
) -> tuple[Bound, int]:
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise TypeError(f"seed must be an integer, got {type(seed).__name__}")
    if not isinstance(process, Process) or not isinstance(x0, Tensor):
        raise TypeError(
            f"bits a token are those of one process on sequences (B, L), got {process!r} and {type(x0).__name__}"
        )
    plain = isinstance(process, Masked) and type(process).local is Process.local
    bound = ("orders" if plain else "continuous") if bound is None else bound
    if bound not in ("orders", "continuous", "discrete"):
        raise ValueError(f'bound is "orders", "continuous" or "discrete", got {bound!r}')
    if bound == "orders" and not plain:
        raise ValueError(
            f'bound="orders" is for masked processes in which all orders are equally likely, got {process!r}: use '
            '"continuous" or "discrete"'
        )
    if bound == "discrete" and (isinstance(T, bool) or not isinstance(T, int) or T < 1):
        raise ValueError(f'bound="discrete" needs its number of steps, as T=1000; got T={T!r}')
    if bound != "discrete" and T is not None:
        raise ValueError(f'T={T} steps belong to bound="discrete", not to {bound!r}')
    for name, value in (("draws", draws), ("max_batch", 1 if max_batch is None else max_batch)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is a whole number, at least 1; got {value!r}")
    if not 0.0 < t0 < 1.0:
        raise ValueError(f"t0 is a time in (0, 1), got {t0}")
    left = 1.0 - float(process.schedule.lost(1.0)) if isinstance(process, Masked) else 0.0
    if bound != "orders" and left > 0.0:
        raise ValueError(
            f"{process!r} keeps {left:.2g} of the tokens at t = 1, where sampling starts "
            f'from masks only: bound={bound!r} is infinite; use bound="orders", or a schedule with alpha(1) = 0'
        )
    return bound, T or 0
