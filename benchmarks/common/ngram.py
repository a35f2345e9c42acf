r"""n-gram baselines of sequences, in bits per token.

With h the k tokens before w and h' the same without its first, every level of an interpolated n-gram is

    p(w | h) = weight(h, w) + γ(h) p(w | h'),     Σ_w weight(h, w) = 1 − γ(h),     γ = 1 for an h never seen,

down to p(w) = 1/K over the K tokens that can be predicted. A smoothing is a choice of the two from counts c:

* Witten-Bell ("The zero-frequency problem", 1991): weight = c(h,w) / (N(h) + T(h)), γ = T / (N + T), where N(h) tokens
  of T(h) kinds followed h.
* Kneser-Ney (1995), modified and interpolated (Chen & Goodman, "An empirical study of smoothing techniques", 1999):
  weight = (c − D(c)) / N with one discount for counts of 1, 2 and 3 or more, D_i = i − (i+1) Y n_{i+1} / n_i,
  Y = n_1 / (n_1 + 2 n_2), n_i the number of grams that occur i times. Below the highest level c is not how often hw
  occurs but after how many different tokens; for a gram that begins a sequence, which nothing precedes, how often.
  Where some n_i is 0 or some D_i not positive (few kinds of grams), D_i = i/2.

The lowest level is the plain relative frequency when every token has been seen. The padding token stands for the
beginning of a sequence when it is in a context (once: a context does not reach further back), and is never predicted.
nltk.lm has these smoothings with a fixed discount, one query at a time: two minutes to count QM9 to order 6 and twenty
to ask its Kneser-Ney about the test set, instead of one second.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import numpy as np

Smoothing = Literal["kneser-ney", "witten-bell"]


class _Level(NamedTuple):
    grams: np.ndarray  # sorted keys of (context, token)
    weights: np.ndarray
    contexts: np.ndarray  # sorted keys
    gammas: np.ndarray


class NGram:
    """An n-gram of padded sequences: `NGram(order, size).fit(train).bits(test)`.

    Args:
        order: tokens of a gram; the context has one less.
        size: number of tokens, the padding token 0 included; so K = size − 1.
        smoothing: "kneser-ney" or "witten-bell".
    """

    def __init__(self, order: int, size: int, smoothing: Smoothing = "kneser-ney") -> None:
        if order < 1 or size < 2 or size**order >= 2**63:
            raise ValueError(f"order {order} with {size} tokens: needs order >= 1, size >= 2 and size^order < 2^63")
        if smoothing not in ("kneser-ney", "witten-bell"):
            raise ValueError(f"smoothing is 'kneser-ney' or 'witten-bell', got {smoothing!r}")
        self.order, self.size, self.smoothing = order, size, smoothing
        self.levels: list[_Level] = []

    def fit(self, tokens: np.ndarray) -> NGram:
        """Count (N, L) sequences, 0 after their end."""
        context, word, place = self._windows(tokens)
        counted = []
        for k in range(self.order):
            inside = place >= k - 1  # at most one mark of the beginning
            key = self._key(context[inside], k) * self.size + word[inside]
            counted.append(np.unique(key, return_counts=True))
        if self.smoothing == "kneser-ney":
            for k in range(self.order - 1):
                grams, count = counted[k]
                longer = counted[k + 1][0] % self.size ** (k + 1)  # without their first token
                different = np.bincount(np.searchsorted(grams, longer), minlength=len(grams))
                begins = grams // self.size**k == 0
                counted[k] = (grams, np.where(begins, count, different))
        self.levels = [self._level(k, *pair) for k, pair in enumerate(counted)]
        return self

    def bits(self, tokens: np.ndarray) -> np.ndarray:
        """−log2 p of every token of (N, L) sequences given those before it; 0 on the padding."""
        out = np.zeros(tokens.shape)
        context, word, _ = self._windows(tokens)
        out[tokens != 0] = -np.log2(self._probability(context, word))
        return out

    def probabilities(self, contexts: np.ndarray) -> np.ndarray:
        """p(· | context), (M, size), for (M, order − 1) contexts; 0 for the padding token."""
        m, words = len(contexts), np.arange(1, self.size)
        every = self._probability(np.repeat(contexts, len(words), 0), np.tile(words, m)).reshape(m, -1)
        return np.concatenate([np.zeros((m, 1)), every], 1)

    def _windows(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of all tokens but the padding: the order − 1 before (0 before the beginning), the token, its place."""
        tokens = np.asarray(tokens, dtype=np.int64)
        if tokens.min() < 0 or tokens.max() >= self.size:
            raise ValueError(f"tokens are 0 to {self.size - 1}, got {tokens.min()} to {tokens.max()}")
        kept = tokens != 0
        if (kept[:, 1:] > kept[:, :-1]).any():
            raise ValueError("the padding token 0 stands before another token: it may only follow the end")
        padded = np.pad(tokens, ((0, 0), (self.order - 1, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.order, axis=1)[kept]
        return windows[:, :-1], windows[:, -1], np.nonzero(kept)[1]

    def _key(self, context: np.ndarray, k: int) -> np.ndarray:
        """One integer for the last k tokens of each context."""
        return context[:, context.shape[1] - k :] @ self.size ** np.arange(k - 1, -1, -1, dtype=np.int64)

    def _level(self, k: int, grams: np.ndarray, count: np.ndarray) -> _Level:
        contexts, first = np.unique(grams // self.size, return_index=True)
        kinds = np.diff(np.append(first, len(grams)))
        total = np.add.reduceat(count, first)
        if k == 0 and len(grams) == self.size - 1:
            return _Level(grams, count / total, contexts, np.zeros(1))
        if self.smoothing == "witten-bell":
            return _Level(grams, count / np.repeat(total + kinds, kinds), contexts, kinds / (total + kinds))
        n = np.bincount(np.minimum(count, 5), minlength=6)[1:5].astype(float)
        i, discount = np.arange(1, 4), np.zeros(3)
        if n.min() > 0:
            discount = i - (i + 1) * n[0] / (n[0] + 2 * n[1]) * n[1:] / n[:-1]
        if (discount <= 0).any():
            discount = i / 2
        taken = discount[np.minimum(count, 3) - 1]
        weights = (count - taken) / np.repeat(total, kinds)
        return _Level(grams, weights, contexts, np.add.reduceat(taken, first) / total)

    def _probability(self, context: np.ndarray, word: np.ndarray) -> np.ndarray:
        if not self.levels:
            raise ValueError("this n-gram has counted nothing yet: call fit first")
        p = np.full(len(word), 1 / (self.size - 1))
        for k, level in enumerate(self.levels):
            key = self._key(context, k)
            p = _look(level.contexts, level.gammas, key, 1.0) * p
            p += _look(level.grams, level.weights, key * self.size + word, 0.0)
        return p


def _look(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray, absent: float) -> np.ndarray:
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], absent)


def per_token(bits: np.ndarray, tokens: np.ndarray, resamples: int = 2000, seed: int = 0) -> dict[str, float]:
    """Bits per token of a set of sequences: Σ bits / Σ tokens, with its 95 % bootstrap interval over sequences.

    Args:
        bits: (N,) of whole sequences.
        tokens: (N,) their numbers of scored tokens.
        resamples: number of bootstrap sets.
        seed: of the bootstrap; equal for two models, so that their sets are the same.
    """
    generator = np.random.default_rng(seed)
    ratios = []
    for _ in range(resamples):
        chosen = generator.integers(len(bits), size=len(bits))
        ratios.append(bits[chosen].sum() / tokens[chosen].sum())
    low, high = np.quantile(ratios, [0.025, 0.975])
    return {"bits_per_token": float(bits.sum() / tokens.sum()), "low": float(low), "high": float(high)}


def baselines(
    train: np.ndarray,
    val: np.ndarray,
    test: np.ndarray,
    size: int,
    orders: Iterable[int] = (1, 2, 3, 4, 5, 6, 8, 10, 12),
    smoothings: Iterable[Smoothing] = ("kneser-ney", "witten-bell"),
) -> list[dict[str, Any]]:
    """One row for each order and smoothing; `best_on_val` marks the one that the validation part would choose."""
    rows: list[dict[str, Any]] = [{"model": "uniform", "order": 0, "bits_per_token": float(np.log2(size - 1))}]
    for order in orders:
        for smoothing in smoothings if order > 1 else ("kneser-ney",):
            start = time.perf_counter()
            model = NGram(order, size, smoothing).fit(train)
            fitted = time.perf_counter()
            row = {"model": smoothing if order > 1 else "unigram", "order": order, "grams": len(model.levels[-1].grams)}
            row |= per_token(model.bits(test).sum(1), (test != 0).sum(1))
            row["val"] = float(model.bits(val).sum() / (val != 0).sum())
            row |= {"fit_seconds": round(fitted - start, 2), "seconds": round(time.perf_counter() - start, 2)}
            rows.append(row)
    best = min(rows[1:], key=lambda row: row["val"])
    return [row | {"best_on_val": row is best} for row in rows]
