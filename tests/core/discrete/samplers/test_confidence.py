"""Confidence-ordered decoding: counts to the token, laws against enumeration.

A chi-square test fails below p = 1e-6; the file has fewer than 20, so a false alarm has a probability below 1e-4.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from scidiffuse.core import Graph, Hook, Product, Record, grids, sample
from scidiffuse.core import Masked as Padded
from scidiffuse.core.discrete import Ancestral, Masked, MaskUniform, ProductProcess, TokenDenoiser, Uniform
from scidiffuse.core.discrete.closed_form import Sequences, p_value
from scidiffuse.core.discrete.keep import Cosine, Keep
from scidiffuse.core.discrete.samplers.confidence import ConfidenceOrdered
from scidiffuse.core.hooks import Step

INF = math.inf
LAW = Sequences.random(tokens=3, length=3, seed=1)
PROCESS = Masked(4)
MASK = 3
N = 20_000


def fits(law: Tensor, x: Tensor) -> None:
    """Chi-square of samples against probabilities in the order of `support`."""
    assert p_value(LAW.counts(x), law) > 1e-6


def misses(law: Tensor, x: Tensor) -> None:
    assert p_value(LAW.counts(x), law) < 1e-6


def one_a_step(sampler: ConfidenceOrdered, start: tuple[int, ...] = (MASK,) * 3) -> Tensor:
    """The law of decoding with one token a step, by enumeration of all candidates."""
    denoiser, states = LAW.denoiser(PROCESS), {start: 1.0}
    steps = start.count(MASK)
    for k in range(1, steps + 1):
        tau, new = sampler.tau(k, steps), defaultdict(float)
        for x, weight in states.items():
            masked = [j for j in range(3) if x[j] == MASK]
            log_p = denoiser(torch.tensor([x]), 0.5).log_probs[0, masked, :3]
            q = (log_p / sampler.temperature).softmax(-1) if sampler.temperature else log_p.argmax(-1)[:, None]
            if not sampler.temperature:
                q = torch.zeros_like(log_p).scatter(1, q, 1.0)
            top = log_p.exp().sort(descending=True).values
            for candidates in itertools.product(range(3), repeat=len(masked)):
                c = {
                    "probability": torch.stack([log_p[m, v] for m, v in enumerate(candidates)]),
                    "margin": top[:, 0] - top[:, 1],
                    "entropy": (log_p.exp() * log_p).sum(-1),
                }[sampler.order]
                first = torch.zeros_like(c)
                if len(masked) == 1 or tau == 0.0:
                    first[c.argmax()] = 1.0  # the last step decides all, whatever tau
                else:
                    first = torch.softmax(c / tau, 0)
                chance = weight * math.prod(float(q[m, v]) for m, v in enumerate(candidates))
                for m, j in enumerate(masked):
                    new[(*x[:j], candidates[m], *x[j + 1 :])] += chance * float(first[m])
        states = new
    return torch.tensor([states.get(tuple(x), 0.0) for x in LAW.support.tolist()], dtype=torch.float64)


def run(sampler: ConfidenceOrdered, steps: int = 3, seed: int = 0, **options: Any) -> Tensor:
    return sample(LAW.denoiser(PROCESS), sampler, steps=steps, shape=(N, 3), seed=seed, **options).x


# -- laws ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "sampler",
    [
        ConfidenceOrdered("linear", noise=INF),
        ConfidenceOrdered("linear", noise=0.0, order="margin"),
        ConfidenceOrdered("linear", noise=1.0, order="entropy"),
    ],
    ids=["random", "margin", "entropy"],
)
def test_orders_that_do_not_see_the_candidates_are_exact_with_one_token_a_step(sampler: ConfidenceOrdered) -> None:
    assert torch.allclose(one_a_step(sampler), LAW.probs, atol=1e-12)
    fits(LAW.probs, run(sampler))


@pytest.mark.parametrize(
    "sampler",
    [
        ConfidenceOrdered("linear", noise=0.0),
        ConfidenceOrdered("linear", noise=4.5),
        ConfidenceOrdered("linear", noise=(2.0, 0.0)),
        ConfidenceOrdered("linear", noise=(0.7, 0.7), temperature=0.6),
        ConfidenceOrdered("linear", noise=0.5, order="margin", temperature=1.5),
        ConfidenceOrdered("linear", noise=1.0, temperature=0.0),
    ],
    ids=["greedy", "maskgit", "amused", "cool", "margin", "mode"],
)
def test_one_token_a_step_has_the_law_that_enumeration_gives(sampler: ConfidenceOrdered) -> None:
    law = one_a_step(sampler)
    x = run(sampler, seed=2)
    fits(law, x)
    assert float((law - LAW.probs).abs().sum()) > 0.05
    misses(LAW.probs, x)


def test_tokens_of_one_step_are_independent_and_their_number_is_exact() -> None:
    """Random order, 3 tokens in 2 steps of the linear schedule: one stays, whichever; two at once, then it."""
    law, p = torch.zeros(27, dtype=torch.float64), LAW.denoiser(PROCESS)
    prior = p(torch.full((1, 3), MASK), 0.5).probs[0]
    for last in range(3):
        x = LAW.support.clone()
        x[:, last] = MASK
        chance = p(x, 0.5).probs[torch.arange(27), last, LAW.support[:, last]]
        for j in {0, 1, 2} - {last}:
            chance = chance * prior[j, LAW.support[:, j]]
        law += chance / 3
    fits(law, run(ConfidenceOrdered("linear", noise=INF), steps=2))


def test_infilling_has_the_conditional_law_and_leaves_known_tokens() -> None:
    x = torch.full((N, 3), MASK)
    x[:, 1] = 2
    grid = grids.explicit([0.8, 0.4, 0.0])  # known tokens have no probability at t = 1
    out = sample(LAW.denoiser(PROCESS), ConfidenceOrdered("linear", noise=INF), grid, x=x, seed=3).x
    assert bool((out[:, 1] == 2).all())
    fits(LAW.probs * (LAW.support[:, 1] == 2) / LAW.probs[LAW.support[:, 1] == 2].sum(), out)
    heuristic = ConfidenceOrdered("linear", noise=0.5)
    out = sample(LAW.denoiser(PROCESS), heuristic, grid, x=x, seed=4).x
    fits(one_a_step(heuristic, (MASK, 2, MASK)), out)


class Tilt(Hook):
    """Transitions multiplied by exp(tilt)."""

    def __init__(self, tilt: Tensor) -> None:
        self.tilt = tilt

    def on_prediction(self, step: Step) -> Step:
        return replace(step, pred=step.pred.with_tilt(self.tilt.expand(*step.state.x.shape, -1)))


def test_a_tilt_multiplies_the_probabilities_of_values() -> None:
    tilt = torch.tensor([0.0, 1.0, -2.0, 5.0], dtype=torch.float64)  # of the mask's column nothing follows
    x = run(ConfidenceOrdered(noise=INF), steps=1, hooks=[Tilt(tilt)])
    p = LAW.denoiser(PROCESS)(torch.full((1, 3), MASK), 1.0).probs[0, :, :3] * tilt[:3].exp()
    p = p / p.sum(-1, keepdim=True)
    fits(p[torch.arange(3), LAW.support].prod(1), x)


# -- counts ----------------------------------------------------------------------------------------------------------
def flat(x: Tensor, t: Tensor) -> Tensor:
    return torch.zeros(*x.shape, 5, dtype=torch.float64)


FLAT = TokenDenoiser(flat, Masked(5), label=lambda process, t: t)


def left(sampler: ConfidenceOrdered, steps: int, x: Tensor, **options: Any) -> Tensor:
    """Tokens that are masked at each call and at the end, (steps + 1, B)."""
    result = sample(FLAT, sampler, steps=steps, x=x, seed=0, hooks=[Record(what=("x",))], **options)
    return torch.stack([(state == 4).sum(1) for state in [*result.records["x"], result.x]])


@pytest.mark.parametrize("steps", [1, 3, 8, 12])
def test_counts_are_those_of_maskgit(steps: int) -> None:
    x = torch.full((3, 40), 4)
    x[1, 17:] = 0
    x[2, ::2] = 1
    counts = left(ConfidenceOrdered(), steps, x)
    for b, n in enumerate((40, 17, 20)):
        expected = [n]
        for k in range(1, steps):
            expected.append(min(math.floor(n * math.cos(0.5 * math.pi * k / steps)), expected[-1] - 1))
        assert counts[:, b].tolist() == [*expected, 0]


@pytest.mark.parametrize("n", [1, 7, 10, 49, 100])
def test_one_token_is_decided_in_each_of_n_linear_steps(n: int) -> None:
    assert left(ConfidenceOrdered("linear"), n, torch.full((1, n), 4))[:, 0].tolist() == list(range(n, -1, -1))


def test_more_steps_than_tokens_decide_one_each_until_none_is_left() -> None:
    x = torch.full((2, 5), 4)
    x[1, 2:] = 0
    counts = left(ConfidenceOrdered(), 9, x)
    assert counts[:, 0].tolist() == [5, 4, 3, 2, 1, 0, 0, 0, 0, 0]
    assert counts[:, 1].tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 0]


def test_the_process_own_schedule_and_a_grid_that_ends_early() -> None:
    denoiser = TokenDenoiser(flat, Masked(5, keep="cosine_squared"), label=lambda process, t: t)
    grid = grids.explicit([0.9, 0.6, 0.3])
    hook = Record(what=("x",))
    x = torch.full((1, 100), 4)
    result = sample(denoiser, ConfidenceOrdered("process"), grid, x=x, seed=0, hooks=[hook])
    lost = [math.sin(0.5 * math.pi * t) ** 2 for t in grid.times]
    assert int((result.records["x"][1] == 4).sum()) == math.floor(100 * lost[1] / lost[0])
    assert int((result.x == 4).sum()) == math.floor(100 * lost[2] / lost[0])
    assert result.records["t"] == [0.9, 0.6]


def test_the_network_is_told_the_time_at_which_as_much_is_masked() -> None:
    hook = Record(what=("x",))
    sample(FLAT, ConfidenceOrdered(), steps=4, shape=(1, 64), seed=0, hooks=[hook])
    assert hook.records()["t"] == pytest.approx([math.cos(0.125 * math.pi * k) for k in range(4)])


@pytest.mark.parametrize("mask_id", [0, 4])
def test_padding_is_neither_counted_nor_decided(mask_id: int) -> None:
    real = torch.arange(30) < torch.tensor([[30], [11]])
    denoiser = TokenDenoiser(flat, Masked(5, mask_id=mask_id), space=Padded(real))
    result = sample(denoiser, ConfidenceOrdered(), steps=4, shape=(2, 30), seed=0, hooks=[Record(what=("x",))])
    for k, x in enumerate(result.records["x"]):
        floors = [math.floor(n * math.cos(0.125 * math.pi * k)) for n in (30, 11)]
        assert ((x == mask_id) & real).sum(1).tolist() == floors
    assert bool((result.x[~real] == 0).all())
    assert not bool((result.x[real] == mask_id).any())
    alone = sample(TokenDenoiser(flat, denoiser.process), ConfidenceOrdered(), steps=4, shape=(2, 11), seed=0).x
    assert torch.equal(result.x[1, :11], alone[1])


# -- what a run is ---------------------------------------------------------------------------------------------------
def test_batches_may_be_cut_and_runs_stopped() -> None:
    denoiser, sampler = LAW.denoiser(PROCESS), ConfidenceOrdered(noise=1.0)
    whole = sample(denoiser, sampler, steps=3, shape=(21, 3), seed=5)
    assert torch.equal(whole.x, sample(denoiser, sampler, steps=3, shape=(21, 3), seed=5, max_batch=8).x)
    part = sample(denoiser, sampler, steps=3, shape=(21, 3), seed=5, until=1)
    assert torch.equal(whole.x, sample(denoiser, sampler, steps=3, state=part.state, seed=5).x)
    assert torch.equal(part.state.take(torch.tensor([4, 2])).memory["masked"], torch.tensor([3, 3]))


class Restart(Hook):
    """An edit of x that drops the history."""

    def on_step(self, step: Step) -> Any:
        state = super().on_step(step)
        return state.restart(state.x)


def test_an_edit_that_drops_the_memory_leaves_the_counts() -> None:
    x = torch.full((1, 37), 4)
    hook = Record(what=("x",))
    sample(FLAT, ConfidenceOrdered(), steps=6, x=x, seed=0, hooks=[hook, Restart()])
    counts = [int((state == 4).sum()) for state in hook.records()["x"]]
    for k, n in enumerate(counts):
        assert abs(n - 37 * math.cos(math.pi * k / 12)) < 2.0


def test_graphs_are_decoded_edge_by_edge() -> None:
    """Nodes and edges of a product state; of the mirrored edges each counts once."""
    nodes = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    space = Product(X=Padded(nodes), A=Graph(nodes))

    def network(x: dict[str, Tensor], t: Tensor) -> dict[str, Tensor]:
        return {name: torch.zeros(*leaf.shape, 4, dtype=torch.float64) for name, leaf in x.items()}

    denoiser = TokenDenoiser(network, ProductProcess(X=Masked(4), A=Masked(4)), space)
    hook = Record(what=("x",))
    shape = {"X": (2, 6), "A": (2, 6, 6)}
    x = sample(denoiser, ConfidenceOrdered("linear"), steps=3, shape=shape, seed=0, hooks=[hook]).x
    for b, n in enumerate((6, 4)):
        pairs = n * (n - 1) // 2
        for k, state in enumerate(hook.records()["x"]):
            assert int((state["X"][b] == 3).sum()) == math.floor(n * (3 - k) / 3)
            assert int((state["A"][b] == 3).triu(1).sum()) == math.floor(pairs * (3 - k) / 3)
    assert torch.equal(x["A"], x["A"].transpose(1, 2))
    assert int(x["A"].diagonal(dim1=1, dim2=2).sum()) == 0
    assert int(max(x["A"].max(), x["X"].max())) < 3


def test_two_uniforms_a_token_in_float64() -> None:
    seen = []

    class Look(Hook):
        def on_prediction(self, step: Step) -> Step:
            seen.append(step.z)
            return step

    run(ConfidenceOrdered(), steps=2, hooks=[Look()])
    for z in seen:
        assert {u.dtype for u in z.values()} == {torch.float64}
        assert {tuple(u.shape) for u in z.values()} == {(N, 3)}
    values = torch.stack([u for z in seen for u in z.values()]).reshape(4, -1)
    assert float(torch.corrcoef(values).fill_diagonal_(0.0).abs().max()) < 0.02


def test_the_noise_falls_as_in_maskgit_and_amused() -> None:
    assert [ConfidenceOrdered(noise=4.0).tau(k, 4) for k in (1, 2, 3, 4)] == [3.0, 2.0, 1.0, 0.0]
    assert [ConfidenceOrdered(noise=(2, 0)).tau(k, 5) for k in range(1, 6)] == [2.0, 1.5, 1.0, 0.5, 0.0]
    assert ConfidenceOrdered(noise=(2, 0)).tau(1, 1) == 2.0
    assert ConfidenceOrdered(noise=INF).tau(3, 3) == INF


def test_schedules_are_named_or_given() -> None:
    assert ConfidenceOrdered() == ConfidenceOrdered(Cosine())
    assert isinstance(ConfidenceOrdered("linear").schedule, Keep)
    assert ConfidenceOrdered("process").schedule == "process"


def test_the_mask_of_vq_diffusion_is_decoded_as_well() -> None:
    denoiser = TokenDenoiser(flat, MaskUniform(5))
    assert int(sample(denoiser, ConfidenceOrdered(), steps=4, shape=(2, 9), seed=0).x.max()) < 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "cubic"}, "unknown schedule 'cubic'"),
        ({"temperature": -1.0}, "temperature must be finite"),
        ({"temperature": INF}, "temperature must be finite"),
        ({"noise": -0.5}, "noise is >= 0"),
        ({"noise": math.nan}, "noise is >= 0"),
        ({"noise": (1.0, 2.0, 3.0)}, "a pair of noises"),
        ({"noise": (INF, 0.0)}, "a pair of noises"),
        ({"order": "likelihood"}, "order is"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConfidenceOrdered(**options)


def test_processes_without_a_mask_are_refused() -> None:
    with pytest.raises(ValueError, match=r"has no mask; use Ancestral\(\)"):
        sample(TokenDenoiser(flat, Uniform(5)), ConfidenceOrdered(), steps=2, shape=(1, 4), seed=0)
    assert sample(TokenDenoiser(flat, Uniform(5)), Ancestral(), steps=2, shape=(1, 4), seed=0).calls == 2
