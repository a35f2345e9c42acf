"""The n-gram baselines of the benchmarks: by hand, beside a slow one written from the formula, on a known chain."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from scidiffuse.benchmarks.common.ngram import NGram, Smoothing, baselines, per_token

SMOOTHINGS: tuple[Smoothing, ...] = ("kneser-ney", "witten-bell")
EOS, A, B = 1, 2, 3
TINY = np.array([[A, B, EOS], [A, A, EOS]])


def corpus(n: int = 300, size: int = 6, seed: int = 0) -> np.ndarray:
    """Sequences of random lengths whose tokens depend on the one before."""
    generator = np.random.default_rng(seed)
    chain = generator.dirichlet(np.full(size - 2, 0.3), size=size)
    tokens = np.zeros((n, 13), dtype=np.int64)
    for row in tokens:
        last = 0
        for i in range(generator.integers(1, 12)):
            last = row[i] = 2 + generator.choice(size - 2, p=chain[last])
        row[i + 1] = EOS
    return tokens


def slow(train: np.ndarray, order: int, size: int, smoothing: Smoothing) -> dict[tuple[int, ...], np.ndarray]:
    """p(· | context) for the contexts of the training sequences, in dictionaries."""
    raw: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(order)]
    before: list[defaultdict[tuple[int, ...], set[int]]] = [defaultdict(set) for _ in range(order)]
    contexts = set()
    for row in train:
        marked = [0, *(int(t) for t in row if t)]
        for end in range(1, len(marked)):
            contexts.add(tuple(marked[max(0, end - order + 1) : end]))
            for k in range(min(order, end + 1)):
                gram = tuple(marked[end - k : end + 1])
                raw[k][gram] += 1
                if end > k:
                    before[k][gram].add(marked[end - k - 1])

    def count(k: int, gram: tuple[int, ...]) -> int:
        if smoothing == "witten-bell" or k == order - 1 or gram[0] == 0:
            return raw[k][gram]
        return len(before[k][gram])

    def discounts(k: int) -> list[float]:
        n = [sum(count(k, gram) == i for gram in raw[k]) for i in range(1, 5)]
        if 0 in n:
            return [0.5, 1.0, 1.5]
        y = n[0] / (n[0] + 2 * n[1])
        d = [i - (i + 1) * y * n[i] / n[i - 1] for i in (1, 2, 3)]
        return d if min(d) > 0 else [0.5, 1.0, 1.5]

    def p(context: tuple[int, ...], word: int) -> float:
        k = len(context)
        lower = p(context[1:], word) if k else 1 / (size - 1)
        counts = {w: c for w in range(1, size) if (c := count(k, (*context, w)))}
        if not counts:
            return lower
        c, total = counts.get(word, 0), sum(counts.values())
        if k == 0 and len(counts) == size - 1:
            return c / total
        if smoothing == "witten-bell":
            return (c + len(counts) * lower) / (total + len(counts))
        d = discounts(k)
        taken = sum(d[min(value, 3) - 1] for value in counts.values())
        return (c - d[min(c, 3) - 1] if c else 0.0) / total + taken / total * lower

    return {h: np.array([0.0] + [p(h, w) for w in range(1, size)]) for h in contexts}


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 3, 5, 8])
def test_probabilities_sum_to_one(order: int, smoothing: Smoothing) -> None:
    model = NGram(order, 8, smoothing).fit(corpus(size=6))  # tokens 6 and 7 are never seen
    contexts = np.random.default_rng(1).integers(0, 8, size=(200, order - 1))
    p = model.probabilities(contexts)
    np.testing.assert_allclose(p.sum(1), 1, rtol=0, atol=1e-14)
    assert (p[:, 0] == 0).all()
    assert (p[:, 1:] > 0).all()


def test_unigram_is_the_relative_frequency() -> None:
    train = corpus()
    count = np.bincount(train.ravel(), minlength=6)
    count[0] = 0
    for smoothing in SMOOTHINGS:
        p = NGram(1, 6, smoothing).fit(train).probabilities(np.zeros((1, 0), dtype=int))
        np.testing.assert_array_equal(p[0], count / count.sum())


@pytest.mark.parametrize(
    ("smoothing", "expected"),
    [
        ("witten-bell", {(0, A): 5 / 6, (0, B): 1 / 18, (A, EOS): 1 / 3, (B, EOS): 2 / 3}),
        ("kneser-ney", {(0, A): 0.7, (0, B): 0.1, (A, EOS): 1 / 6 + 0.2, (B, EOS): 0.7}),
    ],
)
def test_two_sequences_by_hand(smoothing: Smoothing, expected: dict[tuple[int, int], float]) -> None:
    model = NGram(2, 4, smoothing).fit(TINY)
    for (context, word), p in expected.items():
        assert model.probabilities(np.array([[context]]))[0, word] == pytest.approx(p, abs=1e-15)
    first, last = expected[0, A], expected[B, EOS]
    bits = model.bits(np.array([[A, B, EOS, 0, 0]]))
    middle = model.probabilities(np.array([[A]]))[0, B]
    np.testing.assert_allclose(bits, [[-np.log2(first), -np.log2(middle), -np.log2(last), 0, 0]])


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [2, 3, 5])
@pytest.mark.parametrize("size", [6, 7])
def test_equals_the_slow_one(order: int, size: int, smoothing: Smoothing) -> None:
    train = corpus(size=6)
    model = NGram(order, size, smoothing).fit(train)
    for context, p in slow(train, order, size, smoothing).items():
        padded = np.array([(*[0] * (order - 1 - len(context)), *context)])
        np.testing.assert_allclose(model.probabilities(padded)[0], p, atol=1e-13)


def counts_of_counts(train: np.ndarray) -> np.ndarray:
    """n_1 … n_4 of the bigrams."""
    marked = np.pad(train, ((0, 0), (1, 0)))
    pairs = np.stack([marked[:, :-1], marked[:, 1:]], -1)[train != 0]
    return np.bincount(np.unique(pairs, axis=0, return_counts=True)[1], minlength=5)[1:5]


def test_discounts_are_estimated_where_the_counts_allow() -> None:
    """A frequent gram loses D_3, here of n = (4, 2, 2, 2): Y = 1/2, D = (1/2, 1/2, 1)."""
    times = {2: 1, 3: 1, 4: 2, 5: 3, 6: 4}
    train = np.array([row for w, c in times.items() for row in [[w, EOS]] * c])
    n = counts_of_counts(train)
    assert n.tolist() == [4, 2, 2, 2]
    p = NGram(2, 8).fit(train).probabilities(np.array([[0]]))[0]
    taken, unigram = 3 * 0.5 + 2 * 1.0, NGram(2, 8).fit(train).levels[0]
    assert (unigram.weights > 0).all()
    lower = dict(zip(unigram.grams.tolist(), unigram.weights, strict=True))
    floor = unigram.gammas[0] / 7
    for w, c in times.items():
        kept = c - (0.5 if c < 3 else 1.0)
        assert p[w] == pytest.approx(kept / 11 + taken / 11 * (lower[w] + floor), abs=1e-15)
    assert p[7] == pytest.approx(taken / 11 * floor, abs=1e-15)


def test_discounts_that_would_not_be_positive_are_replaced() -> None:
    """n = (2, 2, 6, 2) gives D_2 = 2 − 3 · 1/3 · 3 < 0: without a discount an unseen pair would cost infinitely."""
    times = {2: 1, 3: 2, 4: 3, 5: 3, 6: 3, 7: 4}
    train = np.array([row for w, c in times.items() for row in [[w, EOS]] * c])
    assert counts_of_counts(train).tolist() == [2, 2, 6, 2]
    model = NGram(2, 8).fit(train)
    p = model.probabilities(np.array([[0], [2]]))
    assert (p[:, 1:] > 0).all()
    np.testing.assert_allclose(p.sum(1), 1)
    taken = 0.5 + 1.0 + 4 * 1.5
    assert p[0, EOS] == pytest.approx(taken / 16 * 6 / 12)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_markov_chain_reaches_its_entropy_rate(smoothing: Smoothing) -> None:
    generator = np.random.default_rng(0)
    states, length, n = 4, 50, 6000
    chain = generator.dirichlet(np.ones(states), size=states)
    values, vectors = np.linalg.eig(chain.T)
    stationary = np.real(vectors[:, np.argmax(np.real(values))])
    stationary /= stationary.sum()
    x = np.empty((n, length), dtype=np.int64)
    x[:, 0] = (generator.random((n, 1)) > stationary.cumsum()).sum(1)
    for i in range(1, length):
        x[:, i] = (generator.random((n, 1)) > chain[x[:, i - 1]].cumsum(1)).sum(1)
    train, test = x[: n // 2] + 1, x[n // 2 :] + 1
    marginal = -(stationary * np.log2(stationary)).sum()
    rate = -(stationary[:, None] * chain * np.log2(chain)).sum()
    truth = -np.log2(np.concatenate([stationary[x[:, :1]], chain[x[:, :-1], x[:, 1:]]], 1))[n // 2 :]
    bits = {order: NGram(order, states + 1, smoothing).fit(train).bits(test) for order in (1, 2, 4)}
    assert bits[1].mean() == pytest.approx(marginal, abs=0.01)
    assert bits[2].mean() == pytest.approx((marginal + (length - 1) * rate) / length, abs=0.01)
    assert rate < marginal - 0.1
    excess = {order: (b - truth).mean() for order, b in bits.items()}
    assert abs(excess[2]) < 2e-4, "12 free probabilities from 150,000 transitions"
    assert abs(excess[4]) < 3e-3


def test_padding_changes_nothing() -> None:
    train = corpus()
    wide = np.pad(train, ((0, 0), (0, 5)))
    for smoothing in SMOOTHINGS:
        narrow = NGram(4, 6, smoothing).fit(train).bits(train)
        assert (narrow[train == 0] == 0).all()
        np.testing.assert_array_equal(NGram(4, 6, smoothing).fit(wide).bits(wide)[:, : train.shape[1]], narrow)


def test_refuses() -> None:
    with pytest.raises(ValueError, match="size\\^order"):
        NGram(14, 28)
    with pytest.raises(ValueError, match="'kneser-ney' or 'witten-bell'"):
        NGram(2, 4, "laplace")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="may only follow the end"):
        NGram(2, 4).fit(np.array([[0, A, EOS]]))
    with pytest.raises(ValueError, match="tokens are 0 to 2, got 1 to 3"):
        NGram(2, 3).fit(TINY)
    with pytest.raises(ValueError, match="call fit first"):
        NGram(2, 4).bits(TINY)


def test_interval_over_sequences() -> None:
    """The ratio of sums, and an interval as wide as the normal approximation of a ratio says."""
    generator = np.random.default_rng(0)
    tokens = generator.integers(5, 20, size=2000)
    bits = 1.5 * tokens + generator.normal(0, 2, size=2000)
    row = per_token(bits, tokens)
    ratio = bits.sum() / tokens.sum()
    error = (bits - ratio * tokens).std() / tokens.mean() / np.sqrt(2000)
    assert row["bits_per_token"] == ratio
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * error, rel=0.08)
    constant = per_token(2.0 * tokens, tokens)
    assert constant["low"] == constant["high"] == 2.0


def test_baselines_mark_the_choice_of_the_validation_part() -> None:
    train, val, test = corpus(400), corpus(100, seed=0), corpus(100, seed=0)
    rows = baselines(train, val, test, 6, orders=(1, 2, 3))
    assert [(row["model"], row["order"]) for row in rows] == [
        ("uniform", 0), ("unigram", 1), ("kneser-ney", 2), ("witten-bell", 2), ("kneser-ney", 3), ("witten-bell", 3),
    ]  # fmt: skip
    assert sum(row["best_on_val"] for row in rows) == 1
    assert min(rows[1:], key=lambda row: row["val"])["best_on_val"]
    assert rows[0]["bits_per_token"] > rows[1]["bits_per_token"] > rows[2]["bits_per_token"]
