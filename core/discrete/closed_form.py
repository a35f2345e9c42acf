r"""Sequences whose law is a table: the truth that samplers of tokens are held to.

For a law p(x_0) on K^L sequences and a process with marginals q(x_t | x_0) of independent tokens,

    p(x_t) = sum_{x_0} p(x_0) prod_j q(x_t^j | x_0^j),
    p(x_0 | x_t) = p(x_0) prod_j q(x_t^j | x_0^j) / p(x_t),

and the denoiser of token i is the marginal of the latter. Everything is enumerated, in float64: meant for spaces like
3^4 or 4^4.

A sampler that moves every token on its own is a Markov chain on the S^L states itself: `chain_law` propagates its law,
so that its error can be told from that of a finite number of samples; `p_value` judges the latter.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.stats import chi2
from torch import Tensor

from .denoiser import TokenDenoiser
from .interpolating import Interpolating, Masked
from .process import Process

__all__ = ["Sequences", "all_states", "chain_law", "p_value", "total_variation"]


def all_states(states: int, length: int) -> Tensor:
    """All sequences of `length` tokens out of `states`, in the order of `itertools.product`: (S^L, L), long."""
    return torch.tensor(list(itertools.product(range(states), repeat=length)))


def chain_law(start: Tensor, steps: int, rows: Callable[[int], Tensor]) -> Tensor:
    """The law of a chain of independent tokens after `steps` steps, (S^L,).

    Args:
        start: law of the first state, (S^L,).
        steps: number of steps.
        rows: step 0, 1, ... -> probabilities of each token's next value in each state, (S^L, L, S).
    """
    law = start
    for k in range(steps):
        p = rows(k)
        joint = p[:, 0]
        for i in range(1, p.shape[1]):
            joint = (joint[:, :, None] * p[:, i, None, :]).flatten(1)
        law = law @ joint
    return law


def total_variation(p: Tensor, q: Tensor) -> float:
    """Half the summed absolute difference of two laws."""
    return float((p - q).abs().sum()) / 2


def p_value(counts: Tensor, law: Tensor, least: float = 5.0) -> float:
    """Of Pearson's chi-square test that `counts` (N,) have the law (N,); 0 if something impossible occurred.

    Cells of fewer than `least` expected counts are pooled.
    """
    counts, expected = counts.double(), law.double() / law.sum() * float(counts.sum())
    if bool((counts[expected == 0.0] > 0).any()):
        return 0.0
    small = expected < least
    counts = torch.cat([counts[~small], counts[small].sum()[None]])
    expected = torch.cat([expected[~small], expected[small].sum()[None]])
    keep = expected > 0.0
    statistic = float(((counts - expected).square() / expected)[keep].sum())
    return float(chi2.sf(statistic, int(keep.sum()) - 1))


class Sequences:
    """A law on all sequences of L tokens out of K.

    Args:
        table: probabilities (K, ..., K), L dimensions; normalised here.

    Raises:
        ValueError: for a table that is not cubic, or with entries that are negative or not finite.
    """

    def __init__(self, table: Tensor) -> None:
        table = torch.as_tensor(table, dtype=torch.float64)
        if table.ndim < 1 or len(set(table.shape)) != 1:
            raise ValueError(f"the table has one axis a token, each as long as the alphabet; got {tuple(table.shape)}")
        if not bool(torch.isfinite(table).all()) or bool((table < 0).any()) or not float(table.sum()) > 0.0:
            raise ValueError("the table holds probabilities: finite, not negative, not all zero")
        self.tokens, self.length = table.shape[0], table.ndim
        self.table = table / table.sum()
        self.support = all_states(self.tokens, self.length)
        self.probs = self.table.reshape(-1)

    @classmethod
    def random(cls, tokens: int = 3, length: int = 4, seed: int = 0, sharpness: float = 1.5) -> Sequences:
        """A law without independent tokens: exp(sharpness z) of normal numbers z."""
        z = torch.from_numpy(np.random.default_rng(seed).standard_normal((tokens,) * length))
        return cls((sharpness * z).exp())

    def __repr__(self) -> str:
        return f"Sequences(tokens={self.tokens}, length={self.length})"

    def index(self, x: Tensor) -> Tensor:
        """Row of `support` of each sequence (B, L): long (B,)."""
        weights = self.tokens ** torch.arange(self.length - 1, -1, -1)
        return (x * weights).sum(1)

    def counts(self, x: Tensor) -> Tensor:
        """How often each sequence of `support` occurs among x (B, L): (K^L,)."""
        return torch.bincount(self.index(x), minlength=len(self.support))

    def p_value(self, x: Tensor) -> float:
        """Of the chi-square test that x (B, L) are samples of this law."""
        return p_value(self.counts(x), self.probs)

    def tilted(self, log_weight: Tensor) -> Sequences:
        """The law p exp(log_weight) / Z, with a log-weight for each sequence of `support`."""
        return Sequences((self.probs * (log_weight.double() - log_weight.max()).exp()).reshape(self.table.shape))

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """n sequences of the law, (n, L)."""
        picks = np.random.default_rng(seed).choice(len(self.support), size=n, p=self.probs.numpy())
        return self.support[torch.from_numpy(picks)]

    def entropy(self) -> float:
        """Entropy in bits a token."""
        p = self.probs[self.probs > 0]
        return float(-(p * p.log2()).sum()) / self.length

    def likelihood(self, process: Process, x: Tensor, t: Any) -> Tensor:
        """q(x_t | x_0) for x (B, L) and every x_0 of `support`: (B, K^L). t is a float, (B,) or (B, L)."""
        t = torch.as_tensor(t, dtype=torch.float64)
        times = (t[:, None] if t.ndim == 1 else t).expand(x.shape)
        out = x.new_ones((x.shape[0], len(self.support)), dtype=torch.float64)
        if isinstance(process, Interpolating):
            lost, r = process.schedule.lost(times), process.replacement()[x]
            for j in range(self.length):
                same = (x[:, j, None] == self.support[:, j]).double()
                out *= (lost * r)[:, j, None] + (1.0 - lost[:, j, None]) * same
            return out
        for value in times.unique().tolist():
            table = process.marginal(value)
            for j in range(self.length):
                rows = times[:, j] == value
                out[rows] *= table[self.support[:, j]][:, x[rows, j]].T
        return out

    def posterior(self, process: Process, x: Tensor, t: Any) -> Tensor:
        """p(x_0 | x_t) over `support`: (B, K^L)."""
        joint = self.likelihood(process, x, t) * self.probs
        return joint / joint.sum(1, keepdim=True)

    def denoiser(self, process: Process, **options: Any) -> TokenDenoiser:
        """The exact denoiser of the law under a process, which may have states beside the K tokens (a mask, last)."""
        hot = torch.nn.functional.one_hot(self.support, process.states).double()

        states = all_states(process.states, self.length)
        weights = process.states ** torch.arange(self.length - 1, -1, -1)

        def exact(x: Tensor, t: Any) -> Tensor:
            return torch.einsum("bn,nls->bls", self.posterior(process, x, t), hot).log()

        # what a masked state says of the data does not depend on the time: one table serves every call
        table = exact(states, 0.5) if isinstance(process, Masked) else None

        def network(x: Tensor, t: Tensor, **condition: Any) -> Tensor:
            if table is not None:
                return table[(x * weights).sum(1)]
            if len(x) > len(states) and bool((t == t.reshape(-1)[0]).all()):  # every state once, then looked up
                return exact(states, t.reshape(-1)[0])[(x * weights).sum(1)]
            return exact(x, t)

        return TokenDenoiser(network, process, label=lambda process, t: t, **options)

    def marginals(self, process: Process, t: float) -> Tensor:
        """p(x_t) of every sequence of S^L states, in the order of `itertools.product`: (S^L,)."""
        q = process.marginal(t)[: self.tokens]
        out = self.table
        for _ in range(self.length):
            out = torch.tensordot(out, q, dims=([0], [0]))  # the first axis goes, its image comes last
        return out.reshape(-1)

    def bits(self, x: Tensor) -> float:
        """-log2 p(x) a token, mean over sequences (B, L)."""
        return float(-self.probs[self.index(x)].log().mean()) / (math.log(2.0) * self.length)
