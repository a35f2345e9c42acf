"""k-mers counted by slicing; the threshold of a motif against all words; hits in background against expectation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from scidiffuse.molecules.metrics.sequences import Motif, held_out_rewards, kmer_counts, kmer_pearson, pwm_hits

SITE = np.array([[8, 0, 1, 1], [0, 9, 1, 0], [1, 1, 7, 1], [0, 0, 0, 10], [2, 6, 1, 1]])


def random_sequences(n: int, length: int, seed: int, p=(0.25, 0.25, 0.25, 0.25)) -> list[str]:
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("ACGT"), size=length, p=p)) for _ in range(n)]


def motif(background=None) -> Motif:
    return Motif.from_counts("site", SITE, background)


def test_counts_are_those_of_slices():
    sequences = [*random_sequences(5, 40, 0), "AC", "AAAA"]
    words = ["".join(word) for word in product("ACGT", repeat=3)]
    for row, sequence in zip(kmer_counts(sequences, 3), sequences, strict=True):
        windows = [sequence[i : i + 3] for i in range(len(sequence) - 2)]
        assert row.tolist() == [windows.count(word) for word in words]
    assert kmer_counts(["MKV"], 1, "MKV").tolist() == [[1, 1, 1]]


def test_correlation():
    x, y = random_sequences(30, 60, 0), random_sequences(20, 60, 1, (0.4, 0.1, 0.1, 0.4))
    score = kmer_pearson(x, y)
    counts = [kmer_counts(part, 3).sum(axis=0) for part in (x, y)]
    assert float(score) == pytest.approx(np.corrcoef(*counts)[0, 1]) and score.name == "kmer3_pearson"
    assert float(kmer_pearson(y, y)) == pytest.approx(1.0)
    assert -1 <= score.low < float(score) < score.high <= 1
    # two halves of one process agree, and a collapsed model does not
    assert float(kmer_pearson(y[:10], y[10:])) > 0.8 > float(kmer_pearson(["ACGT" * 15] * 10, y))


@pytest.mark.parametrize("background", [None, (0.4, 0.1, 0.2, 0.3)])
def test_threshold_is_exact_over_all_words(background):
    m = motif(background)
    words = np.array(list(product(range(4), repeat=5)))
    scores = np.array([m.scores(word)[0] for word in words])
    weight = m.background[words].prod(axis=1)
    assert scores[0] == pytest.approx(m.bits[np.arange(5), 0].sum())
    for threshold in np.quantile(scores, [0, 0.3, 0.9, 1.0]):
        assert m.probability(threshold) == pytest.approx(weight[scores >= threshold - 1e-9].sum(), abs=1e-12)
    for p in (0.5, 0.1, 0.01):
        t = m.threshold(p)
        assert m.probability(t) <= p < m.probability(t - 1e-3)
    assert m.probability(scores.max() + 0.01) == 0.0


def test_log_odds_by_hand():
    m = Motif.from_counts("one", [[3, 1, 0, 0]], pseudocount=1.0)
    assert np.allclose(m.bits, np.log2((np.array([[3, 1, 0, 0]]) + 0.25) / 5 / 0.25), atol=6e-4)
    assert (m.reverse_complement().bits == m.bits[:, ::-1]).all()


def test_hits_of_planted_sites():
    """The best word stands twice forward, once reversed; the background has none of it."""
    best, reverse = "ACGTC", "GACGT"
    m, empty = motif(), "TTTTTTTT"
    p = 1.01 / 4**5  # the best word alone
    sequences = [empty + best + empty + reverse + empty, best, empty, "ACG"]
    score = pwm_hits(sequences, m, p)
    assert float(score) == 3 / 4 and score.n == 4
    assert float(pwm_hits(sequences, m, p, both_strands=False)) == 2 / 4
    windows = 34 - 4 + 1 + 4
    assert score.reference == pytest.approx(2 * windows * m.probability(m.threshold(p)) / 4)


def test_background_has_the_expected_number_of_hits():
    p = (0.3, 0.2, 0.2, 0.3)
    score = pwm_hits(random_sequences(600, 80, 3, p), motif(p), 0.01)
    assert score.low < score.reference < score.high


def test_bad_input():
    with pytest.raises(ValueError, match="sequence 1 has 'N' at position 2"):
        kmer_counts(["ACGT", "ACN"], 3)
    with pytest.raises(ValueError, match="sequence 0 has 'a' at position 0"):
        pwm_hits(["acgt"], motif(), 0.01)
    with pytest.raises(TypeError, match="one string"):
        kmer_counts("ACGT", 2)
    with pytest.raises(ValueError, match="list of sequences is empty"):
        kmer_pearson([], ["ACGT"])
    with pytest.raises(ValueError, match="k must be at least 1"):
        kmer_counts(["ACGT"], 0)
    with pytest.raises(ValueError, match="no correlation is defined"):
        kmer_pearson(["AC"], ["ACGT"])
    with pytest.raises(ValueError, match="different ASCII letters"):
        kmer_counts(["AA"], 1, "AA")
    with pytest.raises(ValueError, match="at least the probability of the best word"):
        pwm_hits(["ACGTC"], motif(), p=1e-6)
    with pytest.raises(ValueError, match="no place empty"):
        Motif.from_counts("m", [[0, 0, 0, 0]])
    with pytest.raises(ValueError, match="background probabilities"):
        Motif.from_counts("m", SITE, [0.5, 0.5, 0.0, 0.0])
    with pytest.raises(ValueError, match="only DNA"):
        pwm_hits(["KV"], Motif.from_counts("m", [[1, 1]], alphabet="KV"))


def test_a_reward_that_an_oracle_does_not_share():
    made, real = ["AAAA", "AAAT", "AACC"], ["CGCG", "ATCG"]
    scores = held_out_rewards(made, lambda s: s.count("A"), lambda s: 2.0, real)
    assert {k: s.value for k, s in scores.items()} == {"reward": 3.0, "reward_held_out": 2.0, "reward_gap": 1.0}
    assert (scores["reward"].reference, scores["reward_gap"].reference, scores["reward"].n) == (0.5, -1.5, 3)
    assert scores["reward"].low < 3.0 < scores["reward"].high
    assert held_out_rewards(made, len, len)["reward_gap"].value == 0.0  # the same oracle: no gap
    with pytest.raises(ValueError, match="the oracle's value of sequence 1 is nan"):
        held_out_rewards(["A", "C"], len, lambda s: 1.0 if s == "A" else float("nan"))
    with pytest.raises(ValueError, match="list of sequences is empty"):
        held_out_rewards([], len, len)
