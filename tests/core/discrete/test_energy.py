"""Energies: the law of finitely many candidates by enumeration, and joint laws from factorised predictions.

A chi-square test fails below a p-value of 1e-5 (cells of fewer than 5 expected are pooled); with its 9 of them the file
raises a false alarm with a probability below 1e-4. Seeds are fixed.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from scidiffuse.core import Hook, sample
from scidiffuse.core import Masked as MaskedSpace
from scidiffuse.core.discrete import Ancestral, FirstHitting, Masked, TokenDenoiser, Uniform
from scidiffuse.core.discrete.closed_form import Sequences, all_states, p_value, total_variation
from scidiffuse.core.discrete.energy import EDLM, AutoregressiveEnergy, NeuralEnergy, nce_loss
from scidiffuse.core.grids import explicit

P = 1e-5
WHOLE = (0.0, 1.0)
LAW = Sequences.random(3, 4, seed=1)


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


PAIRS = all_states(3, 2)
MU = random(2, 2, 3, seed=0).log_softmax(-1)  # two classes, two tokens, three values
E = 0.8 * random(2, 9, seed=1)  # two classes, nine sequences


def log_mu(c: int) -> Tensor:
    """log mu of the nine sequences of class c."""
    return MU[c, 0, PAIRS[:, 0]] + MU[c, 1, PAIRS[:, 1]]


def law_of_choice(log_p: Tensor, energy: Tensor, k: int, temperature: float = 1.0) -> Tensor:
    """The law of the chosen one among k draws, by enumeration of all 9^k of them."""
    out = torch.zeros(9, dtype=torch.float64)
    draws = torch.cartesian_prod(*[torch.arange(9)] * k).reshape(-1, k)
    weight = (-energy[draws] / temperature).softmax(1) * log_p[draws].sum(1).exp()[:, None]
    return out.index_add(0, draws.reshape(-1), weight.reshape(-1))


def two_classes() -> TokenDenoiser:
    def network(x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        return torch.cat([MU[c], torch.zeros(len(x), 2, 1, dtype=torch.float64)], -1)

    return TokenDenoiser(network, Masked(4))


def table(x0: Tensor, pred: Any, c: Tensor) -> Tensor:
    return E[c, x0[:, 0] * 3 + x0[:, 1]]


@pytest.mark.parametrize(("k", "temperature"), [(2, 1.0), (3, 0.5)])
def test_the_law_of_the_chosen_candidate_with_another_law_in_every_row(k: int, temperature: float) -> None:
    # one step: all tokens are decided, so that the samples are the chosen sequences
    n = 20000
    c = torch.arange(n) % 2
    hook = EDLM(table, k, temperature, WHOLE, condition={"c": c})
    x = sample(two_classes(), Ancestral(), steps=1, shape=(n, 2), seed=4, condition={"c": c}, hooks=[hook]).x
    for which in (0, 1):
        counts = torch.bincount((x[:, 0] * 3 + x[:, 1])[c == which], minlength=9)
        truth = law_of_choice(log_mu(which), E[which], k, temperature)
        assert p_value(counts, truth) > P
        for wrong in (
            law_of_choice(log_mu(which), -E[which], k, temperature),  # the other sign
            law_of_choice(log_mu(which), E[1 - which], k, temperature),  # another row's energy
            log_mu(which).exp(),
        ):
            assert p_value(counts, wrong) < P  # the test can fail


def test_many_candidates_tend_to_the_tilted_law() -> None:
    target = (log_mu(0) - E[0]).softmax(0)
    far = [total_variation(law_of_choice(log_mu(0), E[0], k), target) for k in (1, 2, 3, 4, 5)]
    assert all(b < a for a, b in pairwise(far))
    c = torch.zeros(20000, dtype=torch.long)
    hook = EDLM(table, 64, 1.0, WHOLE, condition={"c": c})
    x = sample(two_classes(), Ancestral(), steps=1, shape=(20000, 2), seed=0, condition={"c": c}, hooks=[hook]).x
    counts = torch.bincount(x[:, 0] * 3 + x[:, 1], minlength=9)
    assert total_variation(counts / len(x), target) < 0.25 * far[1]


def test_the_normaliser_is_estimated_without_bias() -> None:
    c = torch.zeros(20000, dtype=torch.long)
    hook = EDLM(table, 4, 1.0, WHOLE, condition={"c": c})
    result = sample(two_classes(), Ancestral(), steps=1, shape=(20000, 2), seed=3, condition={"c": c}, hooks=[hook])
    assert result.records["edlm_t"] == [1.0]
    z = result.records["edlm_log_z"][0].exp()
    truth = float((log_mu(0) - E[0]).exp().sum())
    assert abs(float(z.mean()) - truth) < 4.5 * float(z.std()) / 20000**0.5
    ess = result.records["edlm_ess"][0]
    assert bool(((ess > 0.999) & (ess < 4.001)).all())


def test_chunks_and_single_rows_give_the_same_samples() -> None:
    c = torch.arange(12) % 2

    def run(**options: Any) -> Any:
        hook = EDLM(table, 3, 1.0, WHOLE, condition={"c": c})
        return sample(
            two_classes(), Ancestral(), steps=3, shape=(12, 2), seed=2, condition={"c": c}, hooks=[hook], **options
        )

    whole = run()
    for width in (1, 5):
        parts = run(max_batch=width)
        assert torch.equal(parts.x, whole.x)
        for one, other in zip(parts.records["edlm_log_z"], whole.records["edlm_log_z"], strict=True):
            torch.testing.assert_close(one, other)


def log_table(law: Sequences) -> Any:
    return lambda x0: law.probs.log()[law.index(x0)]


def by_token(law: Sequences) -> Any:
    """log p of each token given those before it, (B, L)."""

    def log_prob(x0: Tensor) -> Tensor:
        out, before = [], torch.zeros(len(x0), dtype=torch.float64)
        for i in range(law.length):
            prefix = law.table.reshape(*[law.tokens] * (i + 1), -1).sum(-1).log()
            here = prefix[tuple(x0[:, : i + 1].T)]
            out.append(here - before)
            before = here
        return torch.stack(out, 1)

    return log_prob


@pytest.mark.parametrize("steps", [2, 4])
def test_an_autoregressive_energy_makes_few_steps_exact(steps: int) -> None:
    n, denoiser = 4000, LAW.denoiser(Masked(4))
    energy = AutoregressiveEnergy(log_table(LAW))

    def far(*hooks: Hook) -> float:
        x = sample(denoiser, Ancestral(), steps=steps, shape=(n, 4), seed=0, hooks=hooks).x
        return total_variation(LAW.counts(x) / n, LAW.probs)

    plain, two, many = far(), far(EDLM(energy, 2, 1.0, WHOLE)), far(EDLM(energy, 24, 1.0, WHOLE))
    noise = 0.4 * float((LAW.probs / n).sqrt().sum())  # what the exact law would show
    assert plain > 2.5 * noise and many < 1.5 * noise and many < two < plain, (plain, two, many, noise)
    wrong = far(EDLM(lambda x0, pred: -energy(x0, pred), 4, 1.0, WHOLE))
    assert wrong > plain


def test_first_hitting_of_several_tokens_a_call_becomes_exact() -> None:
    # two calls for four tokens, each row at its own times
    n = 4000
    denoiser = TokenDenoiser(lambda x, t: LAW.denoiser(Masked(4))(x, 0.5).raw, Masked(4))
    hook = EDLM(AutoregressiveEnergy(log_table(LAW)), 24, 1.0, WHOLE)

    def far(*hooks: Hook, **options: Any) -> tuple[float, Any]:
        result = sample(denoiser, FirstHitting(tokens=2), shape=(n, 4), seed=0, hooks=hooks, **options)
        assert result.calls == 2
        return total_variation(LAW.counts(result.x) / n, LAW.probs), result

    noise = 0.4 * float((LAW.probs / n).sqrt().sum())
    (plain, _), (corrected, whole) = far(), far(hook)
    assert plain > 2.5 * noise and corrected < 1.5 * noise, (plain, corrected, noise)
    parts = far(EDLM(AutoregressiveEnergy(log_table(LAW)), 24, 1.0, WHOLE), max_batch=1500)[1]
    assert torch.equal(parts.x, whole.x)
    assert [t.shape for t in parts.records["edlm_t"]] == [(n,), (n,)]


def test_the_posterior_is_exact_for_every_process() -> None:
    # mu exp(-E) is p(x_0) q(x_t | x_0), whatever mu is, so that log mu - E is log p(x_0 | x_t) up to a constant a row
    x_t = torch.tensor([[0, 1, 2, 0], [2, 2, 1, 0]])
    for process, x in ((Uniform(3), x_t), (Masked(4), torch.tensor([[0, 3, 3, 1], [3, 3, 3, 3]]))):
        denoiser = TokenDenoiser(lambda x, t, s=process.states: 0.3 * random(*x.shape, s, seed=5), process)
        for t in (0.6, torch.tensor([0.3, 0.8], dtype=torch.float64)):
            pred = denoiser(x, t)
            truth = LAW.posterior(process, x, t)
            found = []
            for x0 in LAW.support:
                x0 = x0.expand(2, 4)
                mu = pred.log_probs.gather(-1, x0[..., None])[..., 0].sum(1)
                found.append((mu - AutoregressiveEnergy(log_table(LAW))(x0, pred)).nan_to_num(nan=-torch.inf))
            torch.testing.assert_close(torch.stack(found, 1).softmax(1), truth, rtol=1e-9, atol=1e-12)


def test_carry_over_counts_masked_tokens_alone() -> None:
    x = torch.tensor([[0, 3, 3, 1], [3, 3, 3, 3]])
    pred = LAW.denoiser(Masked(4))(x, 0.5)
    x0 = torch.tensor([[0, 2, 1, 1], [0, 2, 1, 1]])
    tokens = by_token(LAW)(x0)
    torch.testing.assert_close(tokens.sum(1), log_table(LAW)(x0))
    mu = pred.log_probs.gather(-1, x0[..., None])[..., 0]
    all_of_them = AutoregressiveEnergy(by_token(LAW))(x0, pred)
    torch.testing.assert_close(all_of_them, AutoregressiveEnergy(log_table(LAW))(x0, pred))
    masked = AutoregressiveEnergy(by_token(LAW), carry_over=True)(x0, pred)
    torch.testing.assert_close(masked[0], mu[0, 1:3].sum() - tokens[0, 1:3].sum())
    torch.testing.assert_close(masked[1], all_of_them[1])
    with pytest.raises(ValueError, match="one number a token"):
        AutoregressiveEnergy(log_table(LAW), carry_over=True)(x0, pred)
    with pytest.raises(ValueError, match="carry_over counts the masked tokens"):
        AutoregressiveEnergy(by_token(LAW), carry_over=True)(x0, LAW.denoiser(Uniform(3))(x0, 0.5))
    with pytest.raises(ValueError, match=r"shape \(2,\); it returned \(2, 3\)"):
        AutoregressiveEnergy(lambda x0: torch.zeros(2, 3))(x0, pred)


def test_padding_does_not_count() -> None:
    space = MaskedSpace(torch.tensor([[True, True, False], [True, True, True]]))
    logits = random(3, 4, seed=7)

    def network(x: Tensor, t: Tensor) -> Tensor:
        return logits.expand(*x.shape, 4)

    pred = TokenDenoiser(network, Masked(4), space)(torch.tensor([[3, 3, 0], [3, 3, 3]]), 0.5)
    per_token = AutoregressiveEnergy(lambda x0: (x0 + 1.0).double())
    e = per_token(torch.tensor([[1, 2, 0], [1, 2, 0]]), pred)
    short = TokenDenoiser(lambda x, t: logits[:2].expand(*x.shape, 4), Masked(4))(torch.tensor([[3, 3]]), 0.5)
    torch.testing.assert_close(e[:1], per_token(torch.tensor([[1, 2]]), short))
    assert e[0] != e[1]


def test_noise_contrast_finds_the_energy_that_is_missing() -> None:
    law, process, t = Sequences.random(3, 2, seed=3), Masked(4), 0.6
    states = all_states(4, 2)
    weight = law.marginals(process, t)
    denoiser = law.denoiser(process)
    pred = denoiser(states, t)
    mu = pred.log_probs[:, 0, PAIRS[:, 0]] + pred.log_probs[:, 1, PAIRS[:, 1]]  # (16, 9)
    truth = law.posterior(process, states, t)
    # the population loss: every x_t, x_0 and negative with its probability (the two terms need no joint law)
    s, i = torch.meshgrid(torch.arange(16), torch.arange(9), indexing="ij")
    s, i = s.reshape(-1), i.reshape(-1)
    values = torch.zeros(16, 9, dtype=torch.float64, requires_grad=True)
    energy = NeuralEnergy(lambda x0, x, t: values[x[:, 0] * 4 + x[:, 1], x0[:, 0] * 3 + x0[:, 1]])
    zero = NeuralEnergy(lambda x0, x, t: torch.zeros(len(x0), dtype=torch.float64))
    log2 = nce_loss(zero, PAIRS[i], states[s], t, PAIRS[i])
    torch.testing.assert_close(log2, torch.full_like(log2, 2 * torch.log(torch.tensor(2.0))))

    def loss() -> Tensor:
        p, q = (weight[s] * truth[s, i]), (weight[s] * mu.exp()[s, i])
        both = nce_loss(energy, PAIRS[i], states[s], t, [PAIRS[i]])  # -log s(-E) - log s(E) of the same sequence
        plus = torch.nn.functional.softplus(values[s, i])  # -log s(-E)
        return (p * plus + q * (both - plus)).sum()

    optimizer = torch.optim.LBFGS([values], max_iter=200, tolerance_grad=1e-12, tolerance_change=0.0, line_search_fn="strong_wolfe")  # fmt: skip  # noqa: E501

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    wide = (truth > 0) & (weight[:, None] > 1e-4)
    assert int(wide.sum()) == 9 + 2 * 3 * 3 + 9  # all masked; one masked; none
    assert float((values.detach() - (mu - truth.log()))[wide].abs().max()) < 1e-3
    # with it, the factorised prediction samples the joint law in one step
    n = 20000

    def run(*hooks: Hook) -> Tensor:
        return law.counts(sample(denoiser, Ancestral(), explicit([t, 0.0]), x=states[-1].expand(n, 2), seed=1, hooks=hooks).x)  # fmt: skip  # noqa: E501

    assert p_value(run(), mu[-1].exp()) > P
    assert p_value(run(EDLM(energy, 2, 1.0, WHOLE)), law_of_choice(mu[-1], mu[-1] - truth[-1].log(), 2)) > P
    plain, joint = (total_variation(run(*h) / n, law.probs) for h in ([], [EDLM(energy, 64, 1.0, WHOLE)]))
    assert plain > 0.1 and joint < 0.02, (plain, joint)


def test_several_negatives_count_by_their_mean() -> None:
    energy = NeuralEnergy(lambda x0, x, t: x0.double().sum(1) - t)
    x0, x = torch.tensor([[0, 1], [2, 2]]), torch.tensor([[3, 3], [3, 2]])
    a, b = torch.tensor([[1, 1], [0, 2]]), torch.tensor([[2, 2], [1, 2]])
    t = torch.tensor([0.25, 0.5], dtype=torch.float64)
    mean = (nce_loss(energy, x0, x, t, a) + nce_loss(energy, x0, x, t, b)) / 2
    torch.testing.assert_close(nce_loss(energy, x0, x, t, [a, b]), mean)
    e, e_minus = x0.sum(1) - t, a.sum(1) - t
    torch.testing.assert_close(nce_loss(energy, x0, x, t, a), (1 + e.exp()).log() + (1 + (-e_minus).exp()).log())
    large = NeuralEnergy(lambda x0, x, t: torch.full((2,), 1e4, dtype=torch.float64))
    assert bool(torch.isfinite(nce_loss(large, x0, x, t, a)).all())
    with pytest.raises(ValueError, match=r"shape of x0, \(2, 2\), got \(4, 2\)"):
        nce_loss(energy, x0, x, t, torch.cat([a, b]))
    with pytest.raises(ValueError, match="at least one negative"):
        nce_loss(energy, x0, x, t, [])
    with pytest.raises(ValueError, match=r"shape \(2,\); it returned \(2, 2\)"):
        NeuralEnergy(lambda x0, x, t: x0).energy(x0, x, 0.5)


class Times(Hook):
    """The times of all calls, and whether the prediction was sure."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, bool]] = []

    def on_prediction(self, step: Any) -> Any:
        self.seen.append((step.query.t, bool((step.pred.log_probs.amax(-1) == 0.0).all())))
        return step


def test_only_the_window_is_corrected() -> None:
    asked: list[Any] = []

    def energy(x0: Tensor, pred: Any) -> Tensor:
        asked.append(pred.t)
        return torch.zeros(len(x0))

    spy = Times()
    grid = explicit([1.0, 0.7, 0.6, 0.5, 0.4, 0.3, 0.0])
    x = torch.full((64, 4), 3)
    sample(LAW.denoiser(Masked(4)), Ancestral(), grid, x=x, seed=0, hooks=[EDLM(energy, 3), spy])
    assert asked == [t for t in (0.6, 0.5, 0.4) for _ in range(3)]
    assert spy.seen == [(t, t in (0.6, 0.5, 0.4)) for t in grid.times[:-1]]


def test_rows_with_times_of_their_own() -> None:
    hook = EDLM(lambda x0, pred: torch.zeros(len(x0)), 2, window=(0.4, 0.6))
    denoiser, spy = LAW.denoiser(Masked(4)), Times()

    class Own(Ancestral):
        def query(self, plan: Any, state: Any, z: Any, space: Any, reference: Any) -> Any:
            query = super().query(plan, state, z, space, reference)
            return query._replace(t=torch.tensor([0.5, 0.8], dtype=torch.float64))

    result = sample(denoiser, Own(), steps=1, x=torch.full((2, 4), 3), seed=0, hooks=[hook, spy])
    assert not spy.seen[0][1]
    assert result.records["edlm_log_z"][0].isnan().tolist() == [False, True]
    assert result.records["edlm_log_z"][0][0] == 0.0 and result.records["edlm_ess"][0][0] == 2.0
    parts = sample(denoiser, Own(), steps=1, x=torch.full((2, 4), 3), seed=0, hooks=[hook])
    assert torch.equal(parts.x, result.x)


def test_impossible_candidates_are_never_chosen_and_no_possible_one_is_no_error() -> None:
    def energy(x0: Tensor, pred: Any) -> Tensor:
        return torch.where(x0[:, 0] == 1, 0.0, torch.inf)

    def run(k: int) -> Any:
        hook = EDLM(energy, k, 1.0, WHOLE)
        c = torch.zeros(400, dtype=torch.long)
        return sample(two_classes(), Ancestral(), steps=1, shape=(400, 2), seed=0, condition={"c": c}, hooks=[hook])

    result = run(2)
    none = result.records["edlm_log_z"][0] == -torch.inf
    assert 0 < int(none.sum()) < 400
    assert torch.equal(result.x[:, 0] == 1, ~none)


def test_refusals() -> None:
    for arguments, message in (
        ({"candidates": 1}, "at least 2 candidates"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": -1.0}, "temperature"),
        ({"window": (0.6, 0.4)}, "window"),
        ({"window": (0.0, 1.5)}, "window"),
    ):
        with pytest.raises(ValueError, match=message):
            EDLM(table, **arguments)
    with pytest.raises(TypeError, match="callable"):
        EDLM(3.0)  # type: ignore[arg-type]

    def run(answer: Any) -> Any:
        c = torch.zeros(3, dtype=torch.long)
        hook = EDLM(lambda x0, pred: answer, 2, 1.0, WHOLE)
        return sample(
            two_classes(), Ancestral(), steps=1, shape=(3, 2), seed=0, condition={"c": c}, hooks=[hook], max_batch=2
        )

    with pytest.raises(ValueError, match=r"shape \(2,\); it returned \(3,\)"):
        run(torch.zeros(3))
    with pytest.raises(ValueError, match="sample 1 is nan at call 0"):
        run(torch.tensor([0.0, torch.nan]))
    with pytest.raises(ValueError, match="sample 0 is -inf"):
        run(torch.tensor([-torch.inf, 0.0]))
    with pytest.raises(ValueError, match="times of their own"):
        EDLM(table)._acts(torch.zeros(2, 3), 2)


def test_a_window_without_a_call_warns() -> None:
    hook = EDLM(lambda x0, pred: torch.zeros(len(x0)))
    with pytest.warns(UserWarning, match=r"corrected nothing.*\(0\.4, 0\.6\)"):
        sample(Sequences.random(3, 3).denoiser(Masked(4)), Ancestral(), steps=1, shape=(2, 3), seed=0, hooks=[hook])
