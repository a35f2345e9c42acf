"""The enumerated law is consistent with itself: marginals, posterior, denoiser, tilting and its own statistics."""

from __future__ import annotations

import pytest
import torch

from scidiffuse.core.discrete import Masked, MaskUniform, Process, Uniform
from scidiffuse.core.discrete.closed_form import Sequences, all_states, chain_law, p_value, total_variation

LAW = Sequences.random(3, 3, seed=1)
PROCESSES = [Masked(4), Uniform(3), MaskUniform(4, uniform=0.5)]


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_marginals_posterior_and_denoiser_agree(process: Process) -> None:
    t = 0.6
    x = all_states(process.states, 3)
    joint = LAW.likelihood(process, x, t) * LAW.probs
    torch.testing.assert_close(joint.sum(1), LAW.marginals(process, t))
    torch.testing.assert_close(joint.sum(0), LAW.probs)
    possible = joint.sum(1) > 0
    posterior = LAW.posterior(process, x[possible], t)
    pred = LAW.denoiser(process)(x[possible], t)
    for i in range(3):
        for v in range(3):
            torch.testing.assert_close(pred.probs[:, i, v], posterior[:, LAW.support[:, i] == v].sum(1))


def test_times_may_be_one_a_token() -> None:
    x = torch.tensor([[3, 0, 1], [2, 3, 3]])
    t = torch.tensor([[0.2, 0.3, 0.4], [0.5, 0.6, 0.7]], dtype=torch.float64)
    process = Masked(4)
    rows = [LAW.likelihood(process, x[i : i + 1], t[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(LAW.likelihood(process, x, t), torch.cat(rows))
    by_hand = [process.marginal(float(t[0, j]))[LAW.support[:, j], int(x[0, j])] for j in range(3)]
    torch.testing.assert_close(rows[0][0], by_hand[0] * by_hand[1] * by_hand[2])


def test_a_large_batch_is_looked_up_and_gives_the_same() -> None:
    denoiser = LAW.denoiser(Uniform(3))
    x = torch.randint(0, 3, (200, 3), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        denoiser(x, 0.5).raw, torch.cat([denoiser(x[i : i + 10], 0.5).raw for i in range(0, 200, 10)])
    )


def test_samples_entropy_and_tilt() -> None:
    x = LAW.sample(20_000, seed=3)
    assert LAW.p_value(x) > 1e-6
    assert LAW.bits(x) == pytest.approx(LAW.entropy(), abs=0.02)
    tilted = LAW.tilted(LAW.support.double().sum(1))
    weight = LAW.probs * LAW.support.double().sum(1).exp()
    torch.testing.assert_close(tilted.probs, weight / weight.sum())
    assert tilted.p_value(x) < 1e-12  # the test can fail


def test_a_chain_of_independent_tokens() -> None:
    p = torch.tensor([[0.5, 0.5], [0.1, 0.9]], dtype=torch.float64)
    states = all_states(2, 2)
    start = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    law = chain_law(start, 2, lambda k: p[states])
    one = torch.linalg.matrix_power(p, 2)[0]
    torch.testing.assert_close(law, (one[:, None] * one[None]).flatten())
    assert total_variation(law, law) == 0.0
    assert total_variation(start, torch.tensor([0.0, 0.0, 1.0, 0.0])) == 1.0


def test_impossible_counts_have_no_chance() -> None:
    law = torch.tensor([0.5, 0.5, 0.0])
    assert p_value(torch.tensor([500, 500, 1]), law) == 0.0
    assert p_value(torch.tensor([500, 500, 0]), law) == pytest.approx(1.0)
    assert p_value(torch.tensor([600, 400, 0]), law) < 1e-8


@pytest.mark.parametrize(
    "table", [torch.ones(2, 3), -torch.ones(2, 2), torch.zeros(2, 2), torch.full((2, 2), torch.nan)]
)
def test_refusals(table: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="table"):
        Sequences(table)
