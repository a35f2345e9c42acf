r"""Sequences whose law is a table: the truth that samplers of tokens are held to.

For a law p(x_0) on K^L sequences and a process with marginals q(x_t | x_0) of independent tokens,

    p(x_t) = sum_{x_0} p(x_0) prod_j q(x_t^j | x_0^j),
    p(x_0 | x_t) = p(x_0) prod_j q(x_t^j | x_0^j) / p(x_t),

and the denoiser of token i is the marginal of the latter. Everything is enumerated, in float64: meant for spaces like
3^4 or 4^4.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .denoiser import TokenDenoiser
from .process import Process

__all__ = ["Sequences"]


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
        self.support = torch.tensor(list(itertools.product(range(self.tokens), repeat=self.length)))
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

        states = torch.tensor(list(itertools.product(range(process.states), repeat=self.length)))
        weights = process.states ** torch.arange(self.length - 1, -1, -1)

        def exact(x: Tensor, t: Any) -> Tensor:
            return torch.einsum("bn,nls->bls", self.posterior(process, x, t), hot).log()

        def network(x: Tensor, t: Tensor, **condition: Any) -> Tensor:
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
