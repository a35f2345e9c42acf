"""First-hitting sampling: one call a token, event times are order statistics, the law is the data's.

Chi-square tests fail below p = 1e-6; the file has fewer than 20.
"""

from __future__ import annotations

import pytest
import torch
from scipy.stats import kstest

from scidiffuse.core import Graph, Grid, Record, sample
from scidiffuse.core import Masked as MaskedSpace
from scidiffuse.core.discrete import Ancestral, FirstHitting, Marginal, Masked, MaskUniform, TokenDenoiser, Uniform
from scidiffuse.core.discrete.closed_form import Sequences, total_variation
from scidiffuse.core.discrete.priority import PriorityMasked, importance

LAW = Sequences.random(3, 4, seed=0)
N = 8_000


def plain(states: int = 5, mask_id: int | None = None, space: object = None, keep: str = "linear") -> TokenDenoiser:
    """A network of equal logits."""
    return TokenDenoiser(lambda x, t: torch.zeros(*x.shape, states), Masked(states, keep, mask_id), space)


@pytest.mark.parametrize("keep", ["linear", "log_linear", "cosine", "cosine_squared"])
def test_the_law_is_that_of_the_data(keep: str) -> None:
    result = sample(LAW.denoiser(Masked(4, keep)), FirstHitting(), shape=(N, 4), seed=0)
    assert LAW.p_value(result.x) > 1e-6
    assert result.calls == 4
    assert bool((result.state.t == 0.0).all())


@pytest.mark.parametrize("length", [1, 7, 64])
def test_network_calls_are_the_length(length: int) -> None:
    assert sample(plain(), FirstHitting(), shape=(3, length), seed=0).calls == length
    assert sample(plain(), FirstHitting(tokens=4), shape=(3, length), seed=0).calls == -(-length // 4)


def test_event_times_are_order_statistics() -> None:
    """Of L uniform numbers, the k-th largest has the law Beta(L + 1 - k, k); in `lost` under every schedule."""
    length, n = 6, 4_000
    for keep in ("linear", "cosine"):
        hook = Record(what=())
        denoiser = plain(keep=keep)
        sample(denoiser, FirstHitting(), shape=(n, length), seed=1, hooks=[hook])
        times = torch.stack(hook.records()["t"], 1)
        lost = denoiser.process.schedule.lost(times)
        assert bool((lost.diff(dim=1) < 0).all())
        for k in range(1, length + 1):
            assert kstest(lost[:, k - 1].numpy(), "beta", (length + 1 - k, k)).pvalue > 1e-6
    # the means of the first and the last of 16
    hook = Record(what=())
    sample(plain(), FirstHitting(), shape=(n, 16), seed=2, hooks=[hook])
    means = torch.stack(hook.records()["t"], 1).mean(0)
    assert float(means[0]) == pytest.approx(16 / 17, abs=0.005)
    assert float(means[-1]) == pytest.approx(1 / 17, abs=0.005)


def test_places_are_equally_likely() -> None:
    part = sample(plain(), FirstHitting(), shape=(N, 5), seed=3, until=1).x
    first = (part != 4).double()
    assert bool((first.sum(1) == 1).all())
    torch.testing.assert_close(first.mean(0), torch.full((5,), 0.2, dtype=torch.float64), atol=0.025, rtol=0.0)


def test_the_network_is_told_the_time_of_the_event() -> None:
    seen = []

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append(t)
        return torch.zeros(*x.shape, 5)

    hook = Record(what=())
    sample(TokenDenoiser(network, Masked(5)), FirstHitting(), shape=(3, 4), seed=0, hooks=[hook])
    torch.testing.assert_close(torch.stack(seen), 1000.0 * torch.stack(hook.records()["t"]))


def test_a_run_that_stops_early_has_the_right_number_of_masks() -> None:
    """At t = 0.3 each token is masked with probability lost(0.3), on its own."""
    x = sample(plain(), FirstHitting(), Grid((1.0, 0.3)), shape=(N, 6), seed=4)
    assert bool((x.state.t == 0.3).all())
    masked = (x.x == 4).sum(1)
    expected = torch.distributions.Binomial(6, torch.tensor(0.3)).log_prob(torch.arange(7.0)).exp()
    got = torch.bincount(masked, minlength=7) / N
    torch.testing.assert_close(got, expected, atol=0.03, rtol=0.0)


def test_known_tokens_are_conditioned_on() -> None:
    x = torch.full((N, 4), 3)
    x[:, 1], x[:, 2] = 0, 2
    result = sample(LAW.denoiser(Masked(4)), FirstHitting(), x=x, seed=0)
    given = LAW.tilted(torch.where((LAW.support[:, 1] == 0) & (LAW.support[:, 2] == 2), 0.0, -torch.inf))
    assert given.p_value(result.x) > 1e-6
    assert result.calls == 2


def test_samples_of_different_lengths_share_a_batch() -> None:
    mask = torch.tensor([[True, True, False, False], [True] * 4, [True, False, False, False]])
    for mask_id in (4, 0):  # padding reads 0, which may be the mask's id
        padded = sample(plain(mask_id=mask_id, space=MaskedSpace(mask)), FirstHitting(), shape=(3, 4), seed=0)
        assert padded.calls == 4
        assert padded.x[~mask].eq(0).all()
        assert padded.x[mask].ne(mask_id).all()
    alone = sample(plain(), FirstHitting(), shape=(1, 2), seed=0).x
    assert torch.equal(sample(plain(space=MaskedSpace(mask)), FirstHitting(), shape=(3, 4), seed=0).x[0, :2], alone[0])


def test_batches_and_continuations_change_nothing() -> None:
    denoiser = LAW.denoiser(Masked(4))
    whole = sample(denoiser, FirstHitting(), shape=(11, 4), seed=5)
    assert torch.equal(whole.x, sample(denoiser, FirstHitting(), shape=(11, 4), seed=5, max_batch=3).x)
    half = sample(denoiser, FirstHitting(), shape=(11, 4), seed=5, until=2)
    assert torch.equal(whole.x, sample(denoiser, FirstHitting(), state=half.state, seed=5).x)


def test_priorities() -> None:
    rank = importance(torch.tensor([[3.0, 1.0, 0.0, -2.0]])).expand(N, 4)
    denoiser = LAW.denoiser(PriorityMasked(4, strength=0.3))
    hook = Record(what=("x",))
    result = sample(denoiser, FirstHitting(), shape=(N, 4), seed=0, reference=rank, hooks=[hook])
    assert result.calls == 4
    assert LAW.p_value(result.x) > 1e-6
    first = (hook.records()["x"][1] != 3).double().mean(0)
    assert first[0] > first[1] > first[2] > first[3]
    # the hitting times of single tokens have the law of their own clocks
    one = rank[:, :1].contiguous()
    hook = Record(what=())
    sample(plain(5).on(None), FirstHitting(), shape=(4, 1), seed=0, hooks=[hook])
    process = PriorityMasked(5, strength=0.3)
    single = TokenDenoiser(lambda x, t: torch.zeros(*x.shape, 5), process)
    sample(single, FirstHitting(), shape=(N, 1), seed=0, reference=one, hooks=[hook])
    lost = process._lost(hook.records()["t"][0], one)[:, 0]
    assert kstest(lost.numpy(), "uniform").pvalue > 1e-6
    flat = torch.zeros(5, 4)
    same = sample(LAW.denoiser(PriorityMasked(4)), FirstHitting(), shape=(5, 4), seed=0, reference=flat)
    assert torch.equal(same.x, sample(LAW.denoiser(Masked(4)), FirstHitting(), shape=(5, 4), seed=0).x)


@pytest.mark.parametrize("sampler", [FirstHitting(), FirstHitting(2), FirstHitting(2, order=2)], ids=repr)
def test_graphs_stay_symmetric(sampler: FirstHitting) -> None:
    nodes = torch.tensor([[True] * 4, [True, True, True, False]])
    result = sample(plain(3, space=Graph(nodes)), sampler, shape=(2, 4, 4), seed=0)
    assert torch.equal(result.x, result.x.transpose(1, 2))
    assert result.x.diagonal(dim1=1, dim2=2).eq(0).all()
    assert result.x[1, 3].eq(0).all()
    assert result.x.lt(2).all()
    assert result.x.unique().numel() == 2
    assert result.calls == 6 // sampler.tokens  # six edges


def test_priorities_that_are_not_finite_are_refused() -> None:
    rank = torch.zeros(2, 4)
    rank[1, 2] = torch.nan
    for sampler, steps in ((FirstHitting(), None), (Ancestral(), 3)):
        with pytest.raises(ValueError, match=r"importance of token \(1, 2\) is nan"):
            sample(LAW.denoiser(PriorityMasked(4)), sampler, steps=steps, shape=(2, 4), reference=rank, seed=0)


def test_newton_finds_the_time_of_the_next_event() -> None:
    process = PriorityMasked(5, "cosine", strength=0.3)
    rank = importance(torch.randn(50, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    masked = torch.rand(50, 9, generator=torch.Generator().manual_seed(1)) < 0.6
    t = torch.linspace(1e-6, 1.0, 50, dtype=torch.float64)
    for u in (1e-300, 1e-9, 0.3, 1.0 - 1e-12):
        hit = process.next_hit(t, masked, torch.full_like(t, u), rank)
        ratio = process._lost(hit, rank).log() - process._lost(t, rank).log()
        total = torch.where(masked, ratio, 0.0).sum(1)
        some = masked.any(1) & (hit > 1e-290)
        torch.testing.assert_close(total[some], torch.full_like(total[some], u).log(), rtol=1e-9, atol=1e-12)
        assert bool((hit <= t).all())


def test_several_tokens_a_call_cost_accuracy_and_extrapolation_gives_some_back() -> None:
    weak = Sequences.random(3, 4, seed=0, sharpness=0.6)
    denoiser = weak.denoiser(Masked(4))
    error = {}
    for sampler in (FirstHitting(), FirstHitting(2), FirstHitting(2, order=2), FirstHitting(4)):
        x = sample(denoiser, sampler, shape=(40_000, 4), seed=0).x
        error[sampler] = total_variation(weak.counts(x) / len(x), weak.probs)
    exact, two, extrapolated, four = error.values()
    assert exact < extrapolated < two < four
    assert exact < 0.025


def test_extrapolation_is_linear_in_time() -> None:
    """Probabilities that are linear in t are met exactly at every event, not only at that of the call."""

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        p = torch.stack([0.2 + 0.6 * t, 0.8 - 0.6 * t, torch.zeros_like(t)], -1)
        return p.log()[:, None].expand(*x.shape, 3)

    class Spy(FirstHitting):
        def _log_p(self, pred, state, query, which, times, batch):  # type: ignore[no-untyped-def]
            rows = super()._log_p(pred, state, query, which, times, batch)
            if state.i:
                torch.testing.assert_close(rows.exp()[:, 0], 0.2 + 0.6 * times)
            return rows

    denoiser = TokenDenoiser(network, Masked(3), label=lambda process, t: t)
    result = sample(denoiser, Spy(tokens=3, order=2), shape=(5, 9), seed=0)
    assert result.calls == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FirstHitting(tokens=0), "got 0"),
        (lambda: FirstHitting(order=3), "got 3"),
        (lambda: FirstHitting(order=2), "tokens=1"),
        (
            lambda: sample(TokenDenoiser(None, Uniform(3)), FirstHitting(), shape=(2, 3), seed=0),
            r"got Uniform.*Ancestral",
        ),
        (lambda: sample(TokenDenoiser(None, MaskUniform(3)), FirstHitting(), shape=(2, 3), seed=0), "decided once"),
        (lambda: sample(TokenDenoiser(None, Marginal(probs=(1, 1))), FirstHitting(), shape=(2, 3), seed=0), "Marginal"),
        (lambda: sample(plain(), FirstHitting(), Grid((0.0, 1.0)), shape=(2, 3), seed=0), "must descend"),
        (lambda: sample(plain(), FirstHitting(), shape=(2, 3)), "give seed="),
    ],
)
def test_refusals(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
