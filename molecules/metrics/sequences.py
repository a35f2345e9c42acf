r"""Scores of biological sequences: k-mer statistics, and hits of position weight matrices.

*k-mer correlation*: Pearson's r of the counts of all |alphabet|^k words in generated and reference sequences, windows
overlapping. It falls when a model collapses onto a few motifs; r = 1 says that short words have the right frequencies
and nothing of their places. DRAKES (Wang et al., 2024, https://arxiv.org/abs/2410.13643) reports k = 3.

*PWM hits.* A motif is a matrix of log-odds in bits, w_ia = log2((n_ia + b q_a) / ((n_i + b) q_a)), for counts n_ia at
place i, background q, pseudocount b. A window is a hit if its sum reaches a threshold; :meth:`Motif.threshold` gives
the one that background sequences reach with probability at most p, *exactly*: entries are rounded to 1/1000 bit, and
the distribution of their sum is then a convolution over places. Beside the hits a sequence stands what background
sequences of the same lengths would have, ``reference`` = sum over strands and windows of P(score >= threshold), over
the number of sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ...core.scores import Score
from .uncertainty import around, mean, weights

__all__ = ["DNA", "Motif", "held_out_rewards", "kmer_counts", "kmer_pearson", "pwm_hits"]

DNA = "ACGT"
_STEP = 1000  # parts of a bit
_MOST_WORDS = 1 << 20


def _indices(sequences: Sequence[str], alphabet: str) -> list[np.ndarray]:
    if isinstance(sequences, str):
        raise TypeError("expected a list of sequences, got one string: put it in a list")
    if len(sequences) == 0:
        raise ValueError("the list of sequences is empty: there is nothing to score")
    if len(set(alphabet)) != len(alphabet) or not alphabet.isascii():
        raise ValueError(f"an alphabet is different ASCII letters, got {alphabet!r}")
    table = np.full(128, -1, dtype=np.int64)
    table[[ord(letter) for letter in alphabet]] = np.arange(len(alphabet))
    out = []
    for row, sequence in enumerate(sequences):
        index = table[np.minimum(np.frombuffer(sequence.encode("utf-32-le"), dtype=np.uint32), 127)]
        if (index < 0).any():
            at = int(np.flatnonzero(index < 0)[0])
            raise ValueError(
                f"sequence {row} has {sequence[at]!r} at position {at}, not one of {alphabet!r}: write capitals, and "
                "leave out or resolve ambiguous letters (N) before scoring"
            )
        out.append(index)
    return out


def kmer_counts(sequences: Sequence[str], k: int, alphabet: str = DNA) -> np.ndarray:
    """Counts of all words, (sequences, |alphabet|^k), words in alphabetical order of the alphabet.

    Raises:
        ValueError: no sequence, a foreign letter (sequence and position named), k < 1, or more than 2^20 words.
    """
    words = len(alphabet) ** k if k >= 1 else 0
    if not 1 <= words <= _MOST_WORDS:
        raise ValueError(f"k must be at least 1 with at most 2^20 words, got k={k} for {len(alphabet)} letters")
    place = len(alphabet) ** np.arange(k)[::-1]
    rows = []
    for index in _indices(sequences, alphabet):
        short = len(index) < k
        windows = np.zeros(0, np.int64) if short else np.lib.stride_tricks.sliding_window_view(index, k) @ place
        rows.append(np.bincount(windows, minlength=words))
    return np.stack(rows)


def kmer_pearson(
    generated: Sequence[str],
    reference: Sequence[str],
    k: int = 3,
    *,
    alphabet: str = DNA,
    draws: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> Score:
    """``kmer<k>_pearson``: correlation of k-mer counts; both samples are redrawn for the interval.

    Raises:
        ValueError: as :func:`kmer_counts`; counts that do not vary, so that there is no correlation.
    """
    x, y = (kmer_counts(part, k, alphabet).astype(np.float64) for part in (generated, reference))
    value = float(_pearson(x.sum(axis=0)[None], y.sum(axis=0)[None])[0])
    if np.isnan(value):
        raise ValueError(
            f"all {k}-mers are equally frequent on one side (or there are none): no correlation is defined"
        )
    rng = np.random.Generator(np.random.PCG64(seed))
    n, m = len(x), len(y)
    redrawn = np.zeros(0)
    if n > 1 and m > 1:
        redrawn = _pearson(weights(n, draws, rng) @ x, weights(m, draws, rng) @ y)
        redrawn = redrawn[np.isfinite(redrawn)]
    text = f"Pearson's r of the counts of {x.shape[1]} {k}-mers in {n} generated and {m} reference sequences"
    return around(f"kmer{k}_pearson", value, redrawn, n, "1", text, what="sequences", bounds=(-1.0, 1.0), level=level)


def _pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = (v - v.mean(axis=1, keepdims=True) for v in (x, y))
    below = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return np.divide((x * y).sum(axis=1), below, out=np.full(len(x), np.nan), where=below > 0)


@dataclass(frozen=True, eq=False)
class Motif:
    """A position weight matrix in log-odds.

    Attributes:
        name: of the motif. bits: (w, |alphabet|) log-odds, rounded to 1/1000 bit.
        background: (|alphabet|,) probabilities. alphabet: its letters.
    """

    name: str
    bits: np.ndarray
    background: np.ndarray
    alphabet: str = DNA

    @classmethod
    def from_counts(
        cls,
        name: str,
        counts: np.ndarray,
        background: Sequence[float] | np.ndarray | None = None,
        *,
        pseudocount: float = 0.8,
        alphabet: str = DNA,
    ) -> Motif:
        """From counts or frequencies (w, |alphabet|).

        Args:
            background: probabilities; uniform by default. pseudocount: b, in the unit of the counts.

        Raises:
            ValueError: another shape, negative counts, empty places, a background that is no distribution, b <= 0.
        """
        n = np.asarray(counts, dtype=np.float64)
        A = len(alphabet)
        q = np.full(A, 1 / A) if background is None else np.asarray(background, dtype=np.float64)
        if n.ndim != 2 or n.shape[1] != A or len(n) == 0 or not (n >= 0).all() or not (n.sum(axis=1) > 0).all():
            raise ValueError(
                f"{name}: expected counts (places, {A}), non-negative, no place empty, got shape {n.shape}"
            )
        if q.shape != (A,) or not (q > 0).all() or abs(q.sum() - 1) > 1e-6 or pseudocount <= 0:
            raise ValueError(
                f"{name}: expected {A} positive background probabilities and a positive pseudocount, got {q.tolist()} "
                f"and {pseudocount}"
            )
        p = (n + pseudocount * q) / (n.sum(axis=1, keepdims=True) + pseudocount)
        return cls(name, np.rint(np.log2(p / q) * _STEP) / _STEP, q, alphabet)

    def __len__(self) -> int:
        return len(self.bits)

    def reverse_complement(self) -> Motif:
        """The motif on the other strand of DNA.

        Raises:
            ValueError: the alphabet is not ACGT.
        """
        if self.alphabet != DNA:
            raise ValueError(f"only DNA ({DNA}) has a reverse complement, this motif is over {self.alphabet!r}")
        return replace(self, bits=self.bits[::-1, ::-1])

    @cached_property
    def _tail(self) -> tuple[int, np.ndarray]:
        """Smallest sum in steps, and P(sum >= that + s) under the background for s = 0, 1, ..."""
        steps = np.rint(self.bits * _STEP).astype(np.int64)
        lowest = steps.min(axis=1)
        p = np.ones(1)
        for row in steps - lowest[:, None]:
            wider = np.zeros(len(p) + int(row.max()))
            for shift, q in zip(row, self.background, strict=True):
                wider[shift : shift + len(p)] += q * p
            p = wider
        return int(lowest.sum()), p[::-1].cumsum()[::-1]

    def probability(self, threshold: float) -> float:
        """P(score >= threshold) of a background window, exact for the rounded entries."""
        lowest, tail = self._tail
        s = int(np.ceil(threshold * _STEP - 1e-6)) - lowest
        return float(tail[max(s, 0)]) if s < len(tail) else 0.0

    def threshold(self, p: float) -> float:
        """The smallest score that a background window reaches with probability at most ``p``, in bits.

        Raises:
            ValueError: p outside (0, 1), or smaller than the probability of the best word.
        """
        lowest, tail = self._tail
        reachable = np.flatnonzero((tail <= p) & (tail > 0))
        if not 0 < p < 1 or len(reachable) == 0:
            raise ValueError(
                f"p must be in (0, 1) and at least the probability of the best word of {self.name}, {tail[-1]:.3g}, "
                f"got {p}"
            )
        return float((lowest + reachable[0]) / _STEP)

    def scores(self, index: np.ndarray) -> np.ndarray:
        """Scores of all windows of letters given as places in the alphabet, (L,) -> (max(0, L - w + 1),), bits."""
        if len(index) < len(self):
            return np.zeros(0)
        windows = np.lib.stride_tricks.sliding_window_view(index, len(self))
        return np.rint(self.bits[np.arange(len(self)), windows].sum(axis=1) * _STEP) / _STEP


def pwm_hits(
    sequences: Sequence[str],
    motif: Motif,
    p: float = 1e-4,
    *,
    both_strands: bool = True,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Score:
    """``pwm_hits_<motif>``: mean number of hits a sequence, beside what the background alone gives.

    Args:
        sequences: over the motif's alphabet. p: probability of a hit in a background window. both_strands: whether the
            reverse complement is looked for too (a palindrome then counts twice).

    Raises:
        ValueError: no sequence, foreign letters, a p that the motif cannot reach.
    """
    strands = [motif, motif.reverse_complement()] if both_strands else [motif]
    least = motif.threshold(p)
    indices = _indices(sequences, motif.alphabet)
    hits = [sum(int((m.scores(index) >= least - 1e-9).sum()) for m in strands) for index in indices]
    windows = sum(max(0, len(index) - len(motif) + 1) for index in indices)
    chance = windows * sum(m.probability(least) for m in strands) / len(indices)
    text = (
        f"mean hits of {motif.name} a sequence, windows of at least {least:.3f} bits (background p <= {p:g}), "
        f"{'both strands' if both_strands else 'one strand'}; reference: background sequences"
    )
    return mean(
        f"pwm_hits_{motif.name}",
        hits,
        "1",
        text,
        draws=draws,
        level=level,
        seed=seed,
        reference=chance,
        what="sequences",
    )


def held_out_rewards(
    sequences: Sequence[str],
    reward: Callable[[str], float],
    oracle: Callable[[str], float],
    reference: Sequence[str] | None = None,
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Score]:
    """Whether what was tuned for a reward is better in the eyes of an oracle that the tuning never saw.

    Args:
        sequences: generated. reward: what they were tuned or steered for. oracle: the same quantity from a model that
            was trained on other data, so that it does not share the reward's mistakes (DRAKES halves its data).
        reference: real sequences, whose mean stands beside each score.

    Returns:
        ``reward``, ``reward_held_out``, and ``reward_gap``, their mean difference: what only the reward believes.

    Raises:
        ValueError: no sequences, or numbers that are not finite.
    """
    if len(sequences) == 0:
        raise ValueError("the list of sequences is empty: there is nothing to score")

    def numbers(function: Callable[[str], float], of: Sequence[str], what: str) -> np.ndarray:
        values = np.array([float(function(s)) for s in of])
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(f"the {what} of sequence {row} is {values[row]}: it must be a finite number")
        return values

    made = [numbers(f, sequences, what) for f, what in ((reward, "reward"), (oracle, "oracle's value"))]
    real = [numbers(f, reference or (), what) for f, what in ((reward, "reward"), (oracle, "oracle's value"))]
    rows = {
        "reward": (made[0], real[0], "mean reward, the one that samples were made for"),
        "reward_held_out": (made[1], real[1], "mean value by an oracle that took no part in making them"),
        "reward_gap": (made[0] - made[1], real[0] - real[1], "mean of reward less held-out oracle"),
    }
    return {
        name: mean(
            name, values, "1", f"{text}; reference: real sequences" if len(known) else text, draws=draws, level=level,
            seed=seed, reference=float(known.mean()) if len(known) else None, what="sequences",
        )
        for name, (values, known, text) in rows.items()
    }  # fmt: skip
