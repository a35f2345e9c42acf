"""Bits a token: exact for exact networks, larger for wrong ones, the same however it is cut."""

import itertools
import math

import pytest
import torch

from scidiffuse.core.discrete import (
    Marginal,
    Masked,
    MaskUniform,
    MetricPath,
    MixturePath,
    ProductProcess,
    TokenDenoiser,
    Uniform,
)
from scidiffuse.core.discrete.closed_form import Sequences, all_states
from scidiffuse.core.discrete.likelihood import _Estimate, bits_per_token
from scidiffuse.core.discrete.losses import path_divergence, step_divergence, token_nll
from scidiffuse.core.discrete.priority import PriorityMasked
from scidiffuse.core.noise import SlotNoise

K = 3
LAW = Sequences.random(K, 3, seed=1)
TRUE = -LAW.probs.log2() / 3
OTHERS = [Uniform(K), Marginal(probs=(0.5, 0.3, 0.2)), MaskUniform(K + 1, uniform=0.4)]


def exact(process, law=LAW):
    """The exact denoiser of a law, for one time a sample or a token, without a loop over times."""
    hot = torch.nn.functional.one_hot(law.support, process.states).double()

    def network(x, t):
        t = t if t.ndim == 2 else t[:, None].expand(x.shape)
        lost = process.schedule.lost(t)[:, None]
        r = process.replacement()[x][:, None]
        q = ((1 - lost) * (law.support[None] == x[:, None]) + lost * r).prod(2)
        joint = q * law.probs
        return torch.einsum("bn,nls->bls", joint / joint.sum(1, keepdim=True), hot).log()

    return TokenDenoiser(network, process, label=lambda process, t: t)


def test_the_exact_denoiser_is_that_of_the_law():
    x = LAW.sample(50, seed=0)
    for process in (Masked(K + 1), *OTHERS):
        one, other = exact(process)(x, 0.3), LAW.denoiser(process)(x, 0.3)
        assert torch.allclose(one.probs, other.probs, atol=1e-12)


def test_orders_are_the_likelihood_by_enumeration():
    """All subsets of all sizes: L / n times the masked -log p, averaged, is -log p(x_0) of each x_0."""
    denoiser = LAW.denoiser(Masked(K + 1))
    total = torch.zeros(len(LAW.support), dtype=torch.float64)
    for n in (1, 2, 3):
        subsets = list(itertools.combinations(range(3), n))
        for subset in subsets:
            x = LAW.support.clone()
            x[:, list(subset)] = K
            total += token_nll(denoiser(x, 0.5), LAW.support).sum(1) * 3 / n / len(subsets) / 3
    assert torch.allclose(total / math.log(2) / 3, TRUE, atol=1e-12)


@pytest.mark.parametrize("keep", ["linear", "cosine", "log_linear"])
def test_orders_are_the_likelihood(keep):
    """The estimate, sequence by sequence; the schedule does not matter."""
    result = bits_per_token(exact(Masked(K + 1, keep=keep)), LAW.support, seed=0, draws=300)
    assert "orders" in result.protocol and result.calls == 300
    mean = float((LAW.probs * result.per_sequence).sum())
    assert abs(mean - LAW.entropy()) < 0.015
    assert float((result.per_sequence - TRUE).abs().max()) < 0.15


def test_subsets_and_times_are_those_of_first_hitting():
    """n uniform in 1..L in strata, all subsets of a size alike, and lost the n-th smallest of L uniforms."""
    seen = []
    process = Masked(K + 1, keep="cosine")

    def network(x, t):
        seen.append((x == K, process.schedule.lost(t)))
        return torch.zeros(*x.shape, K + 1)

    b, draws, length = 400, 10, 5
    denoiser = TokenDenoiser(network, process, label=lambda process, t: t)
    result = bits_per_token(denoiser, torch.zeros(b, length, dtype=torch.long), seed=4, draws=draws)
    assert torch.allclose(result.per_sequence, torch.full((b,), math.log2(K)).double())  # L / n * n / L
    masked, lost = torch.cat([m for m, _ in seen]), torch.cat([t for _, t in seen])
    n = masked.sum(1)
    assert [int((m.sum(1)).unique()) for m, _ in seen] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    for k in range(1, length + 1):  # Beta(k, L + 1 - k): mean and variance, and no place preferred
        part, mean = lost[n == k], k / (length + 1)
        variance = mean * (1 - mean) / (length + 2)
        assert abs(float(part.mean()) - mean) < 4.5 * math.sqrt(variance / len(part))
        assert abs(float(part.var()) / variance - 1) < 0.25
        rate = masked[n == k].double().mean(0)
        assert float((rate - k / length).abs().max()) < 4.5 * math.sqrt(0.25 / len(part))


@pytest.mark.parametrize("process", [Masked(K + 1), *OTHERS], ids=["masked", "uniform", "marginal", "mask-uniform"])
@pytest.mark.parametrize("bound", ["continuous", "discrete"])
def test_bounds_of_exact_networks(process, bound):
    """Mean over the law: the entropy in continuous time, a little more in 12 steps."""
    n, draws = 6000, 24
    x0 = LAW.sample(n, seed=2)
    options = {"T": 12} if bound == "discrete" else {}
    result = bits_per_token(exact(process), x0, seed=1, draws=draws, bound=bound, **options)
    truth = LAW.bits(x0)
    gap = float((result.per_sequence - TRUE[LAW.index(x0)]).std()) / math.sqrt(n)
    expected = truth if bound == "continuous" else truth + discrete_gap(process, 12)
    assert gap < 0.03 and abs(result.bits - expected) < 4.5 * gap
    assert result.perplexity == 2**result.bits
    assert result.interval == (result.bits - 1.96 * result.error, result.bits + 1.96 * result.error)


@pytest.mark.parametrize(
    "process", [MixturePath(probs=(1.0, 1.0, 1.0)), MetricPath.ordinal(K, c=2.0)], ids=["mixture", "metric"]
)
def test_paths_say_that_their_bound_is_not_tight(process):
    """The exact denoiser of a path, whose chain samples the law, costs more than the law's entropy."""
    hot = torch.nn.functional.one_hot(LAW.support, K).double()

    def network(x, t):
        rows = process.log_rows(LAW.support.expand(len(x), -1, -1), t)
        q = rows.gather(-1, x[:, None, :, None].expand(-1, len(LAW.support), -1, 1)).squeeze(-1).sum(-1)
        return torch.einsum("bn,nls->bls", (q + LAW.probs.log()).softmax(1), hot).log()

    x0 = LAW.sample(600, seed=2)
    denoiser = TokenDenoiser(network, process, label=lambda process, t: t)
    assert torch.allclose(denoiser(x0, 0.3).probs, LAW.denoiser(process)(x0, 0.3).probs, atol=1e-12)
    result = bits_per_token(denoiser, x0, seed=1, draws=24)
    spread = float((result.per_sequence - TRUE[LAW.index(x0)]).std()) / math.sqrt(len(x0))
    assert "not tight" in result.protocol and "not tight" in str(result)
    assert result.bits > LAW.bits(x0) + 0.1 + 4.5 * spread
    for other in (Masked(K + 1), *OTHERS):
        for bound in ("continuous", "discrete"):
            options = {"T": 2} if bound == "discrete" else {}
            assert "tight" not in bits_per_token(exact(other), x0[:2], seed=1, draws=2, bound=bound, **options).protocol


def test_times_are_on_the_device_of_the_data():
    """What the denoiser is asked, for data on a device that holds no numbers; also where tokens are given."""

    class Seen(Exception):
        pass

    class Spy(TokenDenoiser):
        def __call__(self, x, t, **rest):
            raise Seen(x.device.type, t.device.type)

    x0 = torch.zeros(2, 3, dtype=torch.long, device="meta")
    for partial in (False, True):
        estimate = _Estimate(Spy(None, Uniform(K)), x0, x0 == 0, SlotNoise(0, range(2)), None, {}, 4, partial)
        for call in (lambda e: e.start(0.1), lambda e: e.time(0, 0.1), lambda e: e.step(0, 5)):
            with pytest.raises(Seen) as caught:
                call(estimate)
            assert caught.value.args == ("meta", "meta")


def discrete_gap(process, T):
    """What T steps cost beyond the entropy, bits a token, by enumeration."""
    denoiser, total = LAW.denoiser(process), 0.0
    x = all_states(process.states, 3)
    for k in range(1, T + 1):
        pred = denoiser(x, k / T)
        q = LAW.likelihood(process, x, k / T)  # (N, x_0)
        for i, x0 in enumerate(LAW.support):
            each = step_divergence(pred, x0.expand(len(x), -1), (k - 1) / T).sum(1)
            total += float(LAW.probs[i] * torch.where(q[:, i] > 0, q[:, i] * each, 0.0).sum())
    return total / math.log(2) / 3 - LAW.entropy()


@pytest.mark.parametrize("process", [Masked(K + 1), *OTHERS], ids=["masked", "uniform", "marginal", "mask-uniform"])
def test_wrong_networks_cost_more(process):
    """By what the other law codes worse: the bound of its exact network is its cross-entropy."""
    other, n = Sequences.random(K, 3, seed=2), 3000
    x0 = LAW.sample(n, seed=2)
    result = bits_per_token(exact(process, other), x0, seed=1, draws=24)
    assert result.bits > LAW.bits(x0) + 0.3
    gap = float((result.per_sequence + other.probs.log2()[LAW.index(x0)] / 3).std()) / math.sqrt(n)
    assert abs(result.bits - other.bits(x0)) < 4.5 * gap


def test_every_step_once_is_the_sum():
    process = Uniform(K)
    x0 = LAW.sample(6, seed=0)
    result = bits_per_token(exact(process), x0, seed=0, bound="discrete", T=9, draws=9)
    asked = []
    denoiser = exact(process)
    network = denoiser.network

    def record(x, t):
        asked.append(t.clone())
        return network(x, t)

    denoiser.network = record
    again = bits_per_token(denoiser, x0, seed=0, bound="discrete", T=9, draws=9)
    assert torch.equal(result.per_sequence, again.per_sequence)
    assert torch.allclose(torch.stack(asked), torch.arange(1, 10).double()[:, None].expand(9, 6) / 9)


@pytest.mark.parametrize("process", [Masked(K + 1), *OTHERS], ids=["masked", "uniform", "marginal", "mask-uniform"])
def test_batches_and_padding_change_nothing(process):
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(process.states, process.states, generator=g, dtype=torch.float64)
    seen = []

    def network(x, t, shift):
        seen.append(len(x))
        return weight[x] + t[:, None, None] / 1000 + shift[:, None, None] * torch.arange(process.states)

    denoiser = TokenDenoiser(network, process)
    x0, shift = torch.randint(K, (11, 4), generator=g), torch.rand(11, generator=g, dtype=torch.float64)
    options = {"seed": 3, "draws": 5, "condition": {"shift": shift}}
    whole = bits_per_token(denoiser, x0, **options)
    seen.clear()
    parts = bits_per_token(denoiser, x0, max_batch=4, **options)
    assert set(seen) == {4, 3} and parts.calls == len(seen)
    assert torch.allclose(whole.per_sequence, parts.per_sequence, rtol=1e-12)
    other = bits_per_token(denoiser, x0, **(options | {"seed": 4}))
    assert not torch.allclose(whole.per_sequence, other.per_sequence)

    mask = torch.tensor([[True] * 4 + [False] * 2]).expand(11, 6)
    padded = torch.cat([x0, torch.full((11, 2), 77)], 1)
    masked = bits_per_token(denoiser, padded, mask=mask, **options)
    assert torch.allclose(whole.per_sequence, masked.per_sequence, rtol=1e-12)
    assert masked.tokens == 44 and masked.lengths.tolist() == [4] * 11


def test_mean_and_error_over_sequences_of_different_length():
    """Bits over tokens, and the standard error of that ratio."""
    denoiser = TokenDenoiser(lambda x, t: torch.tensor([0.0, 1.0, 2.0, 0.0]).expand(*x.shape, 4), Masked(4))
    g = torch.Generator().manual_seed(0)
    x0, lengths = torch.randint(3, (300, 8), generator=g), torch.randint(1, 9, (300,), generator=g)
    mask = torch.arange(8) < lengths[:, None]
    result = bits_per_token(denoiser, x0, mask=mask, seed=0, draws=8)
    each = -(torch.tensor([0.0, 1.0, 2.0]).double().log_softmax(0) / math.log(2))[x0]
    truth = float((each * mask).sum() / mask.sum())
    assert abs(result.bits - truth) < 4.5 * result.error
    assert result.tokens == int(mask.sum()) and result.sequences == 300
    spread = []
    for k in range(40):  # the error is that of drawing other sequences
        x = torch.randint(3, (300, 8), generator=g)
        spread.append(bits_per_token(denoiser, x, mask=mask, seed=k, draws=8).bits)
    assert 0.6 < torch.tensor(spread).std() / result.error < 1.5
    assert math.isnan(bits_per_token(denoiser, x0[:1], mask=mask[:1], seed=0, draws=2).error)
    assert "bits/token" in str(result) and "300 sequences" in str(result)


@pytest.mark.parametrize("process", [Masked(K + 1), *OTHERS], ids=["masked", "uniform", "marginal", "mask-uniform"])
def test_given_tokens_condition(process):
    """The bound on the last token given the others is its conditional probability."""
    known = torch.tensor([[True, True, False]]).expand(len(LAW.support), 3)
    conditional = LAW.table / LAW.table.sum(-1, keepdim=True)
    x0 = LAW.support.repeat(60, 1)
    result = bits_per_token(exact(process), x0, known=known.repeat(60, 1), seed=0, draws=20)
    error = result.per_sequence.reshape(60, -1)
    mean, spread = error.mean(0), error.std(0) / math.sqrt(60)
    assert bool(((mean + conditional.reshape(-1).log2()).abs() < 5 * spread + 2e-3).all())
    assert result.tokens == len(x0)


def test_priorities_need_a_bound_in_time():
    process = PriorityMasked(K + 1)
    network = LAW.denoiser(Masked(K + 1)).network
    denoiser = TokenDenoiser(lambda x, t: network(x, torch.full((len(x),), 0.5).double()), process)
    n = 4000
    x0 = LAW.sample(n, seed=2)
    reference = torch.tensor([[1.0, 0.0, -1.0]]).expand(n, 3)
    result = bits_per_token(denoiser, x0, reference=reference, seed=0, draws=16)
    gap = float((result.per_sequence - TRUE[LAW.index(x0)]).std()) / math.sqrt(n)
    assert "path bound" in result.protocol and abs(result.bits - LAW.bits(x0)) < 4.5 * gap < 0.2
    with pytest.raises(ValueError, match="all orders are equally likely"):
        bits_per_token(denoiser, x0, reference=reference, seed=0, bound="orders")


def test_first_time_of_the_path_bound_costs_little():
    """The integral from t0 with the tokens decided at once there, against the whole integral: order t0^2."""
    process, law = Uniform(K), Sequences.random(K, 2, seed=3)
    denoiser = law.denoiser(process)
    x = all_states(K, 2)

    def mean(t, values):
        pred, q = denoiser(x, t), law.likelihood(process, x, t)
        each = torch.stack([values(pred, x0.expand(len(x), -1)).sum(1) for x0 in law.support], 1)
        return float((law.probs * (q * each).sum(0)).sum())

    gaps = []
    for t0 in (0.04, 0.02):
        nodes = [(k + 0.5) / 40 for k in range(40)]  # t = t0 v^2 smooths t log t
        left = sum(mean(t0 * v * v, path_divergence) * 2 * t0 * v for v in nodes) / 40
        gaps.append(mean(t0, token_nll) - left)
    assert 0 < gaps[1] < gaps[0] and 2.8 < gaps[0] / gaps[1] < 4.5


def test_progress(capsys):
    bits_per_token(exact(Masked(K + 1)), LAW.support, seed=0, draws=3, max_batch=20, progress=True)
    assert "6/6" in capsys.readouterr().err
    bits_per_token(exact(Masked(K + 1)), LAW.support, seed=0, draws=3)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("process", "change", "error", "match"),
    [
        (Masked(4), {"seed": 0.5}, TypeError, "seed"),
        (Masked(4), {"draws": 0}, ValueError, "draws"),
        (Masked(4), {"max_batch": 0}, ValueError, "max_batch"),
        (Masked(4), {"bound": "exact"}, ValueError, "'exact'"),
        (Masked(4), {"bound": "discrete"}, ValueError, "number of steps"),
        (Masked(4), {"T": 10}, ValueError, "T=10"),
        (Uniform(4), {"bound": "orders"}, ValueError, "masked processes"),
        (Uniform(4), {"t0": 0.0}, ValueError, "t0"),
        (Masked(4, keep="log_linear"), {"bound": "continuous"}, ValueError, "is infinite"),
        (Masked(4), {"x0": torch.tensor([[0, 3]])}, ValueError, r"clean token 3 at \(0, 1\) is the mask"),
        (Masked(4), {"x0": torch.tensor([[0, 9]])}, ValueError, "out of range"),
        (Masked(4), {"x0": torch.zeros(1, 0, dtype=torch.long)}, ValueError, "at least one token"),
        (Masked(4), {"known": torch.ones(2, 3, dtype=torch.bool)}, ValueError, "sequence 0 has no token left"),
        (Masked(4), {"known": torch.ones(2, 2, dtype=torch.bool)}, ValueError, "known"),
        (ProductProcess(X=Uniform(4)), {"x0": {"X": torch.zeros(2, 3).long()}}, TypeError, "one process"),
    ],
)
def test_refusals(process, change, error, match):
    denoiser = TokenDenoiser(lambda x, t: torch.zeros(*x.shape, 4), process)
    with pytest.raises(error, match=match):
        bits_per_token(denoiser, **({"x0": torch.zeros(2, 3, dtype=torch.long), "seed": 0, "draws": 2} | change))
