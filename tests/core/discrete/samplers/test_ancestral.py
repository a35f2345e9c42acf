"""Ancestral sampling: its law is that of the propagated chain, which goes to the data's at first order.

Chi-square tests fail below p = 1e-6; the file has fewer than 20.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from scidiffuse.core import Euclidean, Graph, Known, Product, grids, sample
from scidiffuse.core import Masked as MaskedSpace
from scidiffuse.core.discrete import (
    Ancestral,
    Marginal,
    Masked,
    MaskUniform,
    Process,
    ProductProcess,
    TokenDenoiser,
    Uniform,
)
from scidiffuse.core.discrete.closed_form import Sequences, all_states, chain_law, p_value, total_variation
from scidiffuse.core.discrete.priority import PriorityMasked, importance
from scidiffuse.core.grids import Grid

LAW = Sequences.random(3, 4, seed=0)
PROCESSES = [Masked(4), Masked(4, "cosine"), Uniform(3), Marginal(probs=(5, 3, 2)), MaskUniform(4, uniform=0.3)]
Q = pytest.mark.parametrize("process", PROCESSES, ids=repr)


def law_of(process: Process, grid: Grid) -> torch.Tensor:
    """The law of the sampler over all S^L states, propagated from the prior."""
    states = all_states(process.states, LAW.length)
    denoiser, prior = LAW.denoiser(process), process.prior()
    start = prior[states].prod(1)

    def rows(k: int) -> torch.Tensor:
        t, s = grid.times[k], grid.times[k + 1]
        raw = denoiser(states, t).raw
        raw = torch.where(raw.isnan(), 0.0, raw)  # states that do not occur at t
        return process.log_posterior(process.log_probs(raw, states), states, s, t).exp().nan_to_num(0.0)

    return chain_law(start, len(grid), rows)


def on_data(process: Process, law: torch.Tensor) -> torch.Tensor:
    keep = (all_states(process.states, LAW.length) < LAW.tokens).all(1)
    assert float(law[~keep].sum()) == pytest.approx(0.0, abs=1e-12)  # no mask is left
    return law[keep]


@Q
def test_samples_have_the_law_of_the_chain_at_few_steps(process: Process) -> None:
    grid = grids.uniform(3)
    law = on_data(process, law_of(process, grid))
    assert total_variation(law, LAW.probs) > 0.05  # far enough from the data that the test can tell them apart
    x = sample(LAW.denoiser(process), Ancestral(), grid, shape=(20_000, 4), seed=0).x
    assert p_value(LAW.counts(x), law) > 1e-6
    assert LAW.p_value(x) < 1e-6


@Q
def test_the_chain_goes_to_the_data_at_first_order(process: Process) -> None:
    errors = [total_variation(on_data(process, law_of(process, grids.uniform(n))), LAW.probs) for n in (32, 64, 128)]
    ratios = [a / b for a, b in pairwise(errors)]
    assert errors[-1] < 0.02
    assert all(1.7 < ratio < 2.3 for ratio in ratios), (errors, ratios)


@Q
def test_samples_have_the_law_of_the_data_at_many_steps(process: Process) -> None:
    x = sample(LAW.denoiser(process), Ancestral(), steps=300, shape=(2_000, 4), seed=1).x
    assert LAW.p_value(x) > 1e-6


@Q
def test_one_token_is_exact_at_any_steps(process: Process) -> None:
    one = Sequences(torch.tensor([0.6, 0.3, 0.1]))
    for steps in (1, 2, 5):
        x = sample(one.denoiser(process), Ancestral(), steps=steps, shape=(20_000, 1), seed=steps).x
        assert one.p_value(x) > 1e-6


def test_priorities_change_the_order_and_not_the_law() -> None:
    process = PriorityMasked(4, strength=0.3)
    rank = importance(torch.tensor([[3.0, 1.0, 0.0, -2.0]])).expand(2_000, 4)
    denoiser = LAW.denoiser(process)
    part = sample(denoiser, Ancestral(), steps=200, until=100, shape=(2_000, 4), reference=rank, seed=0)
    decided = (part.x != 3).double().mean(0)
    expected = 1.0 - process._lost(0.5, rank[:1])[0]
    torch.testing.assert_close(decided, expected, atol=0.04, rtol=0.0)
    assert decided[0] > decided[1] > decided[3]
    x = sample(denoiser, Ancestral(), steps=200, state=part.state, reference=rank, seed=0).x
    assert LAW.p_value(x) > 1e-6
    with pytest.raises(ValueError, match="give reference=, the importance"):
        sample(denoiser, Ancestral(), steps=3, shape=(2, 4), seed=0)


@Q
def test_batches_masks_and_continuations_change_nothing(process: Process) -> None:
    denoiser = LAW.denoiser(process)
    whole = sample(denoiser, Ancestral(), steps=6, shape=(11, 4), seed=5)
    cut = sample(denoiser, Ancestral(), steps=6, shape=(11, 4), seed=5, max_batch=4)
    assert torch.equal(whole.x, cut.x)
    half = sample(denoiser, Ancestral(), steps=6, shape=(11, 4), seed=5, until=3)
    rest = sample(denoiser, Ancestral(), steps=6, state=half.state, seed=5)
    assert torch.equal(whole.x, rest.x)
    assert whole.calls == 6
    assert whole.x.dtype == torch.long


def test_padding_is_never_drawn_and_takes_no_numbers() -> None:
    law = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    for process in (Uniform(4), Masked(5, mask_id=4), MaskUniform(5)):

        def network(x: torch.Tensor, t: torch.Tensor, states: int = process.states) -> torch.Tensor:
            return torch.nn.functional.pad(law, (0, states - 4)).expand(*x.shape, states)

        mask = torch.tensor([[True, True, True, False, False], [True] * 5])
        padded = sample(
            TokenDenoiser(network, process, MaskedSpace(mask)), Ancestral(), steps=5, shape=(2, 5), seed=0
        ).x
        alone = sample(TokenDenoiser(network, process), Ancestral(), steps=5, shape=(1, 3), seed=0).x
        assert torch.equal(padded[0, :3], alone[0])
        assert padded[0, 3:].tolist() == [0, 0]


def test_graphs_stay_symmetric() -> None:
    """Nodes and edges of DiGress: one process a leaf, symmetric adjacency, padded nodes."""
    nodes = torch.tensor([[True, True, True, False], [True, True, True, True]])
    process = ProductProcess(X=Marginal(probs=(3, 2, 1)), A=Marginal(probs=(6, 3, 1)))
    space = Product(X=MaskedSpace(nodes), A=Graph(nodes))

    def network(x: dict[str, torch.Tensor], t: torch.Tensor) -> dict[str, torch.Tensor]:
        edge = torch.nn.functional.one_hot(x["A"], 3).float() + torch.tensor([1.0, 0.5, 0.0])
        return {"X": torch.zeros(*x["X"].shape, 3), "A": edge}

    result = sample(
        TokenDenoiser(network, process, space), Ancestral(), steps=8, seed=0, shape={"X": (2, 4), "A": (2, 4, 4)}
    )
    edges = result.x["A"]
    assert torch.equal(edges, edges.transpose(1, 2))
    assert edges.diagonal(dim1=1, dim2=2).eq(0).all()
    assert edges[0, 3].eq(0).all()
    assert result.x["X"][0, 3] == 0
    assert result.x["X"].unique().numel() > 1
    assert edges.unique().numel() > 1


def test_half_networks_keep_integer_states() -> None:
    linear = torch.nn.Linear(4, 4)
    network = lambda x, t: linear(torch.nn.functional.one_hot(x, 4).float())  # noqa: E731
    result = sample(
        TokenDenoiser(network, Uniform(4)), Ancestral(), steps=4, shape=(3, 5), seed=0, dtype=torch.bfloat16
    )
    assert result.x.dtype == torch.long


def test_product_of_euclidean_leaves() -> None:
    process = ProductProcess(a=Uniform(3), b=Masked(3))
    network = lambda x, t: {k: torch.zeros(*v.shape, 3) for k, v in x.items()}  # noqa: E731
    denoiser = TokenDenoiser(network, process, Product(a=Euclidean(), b=Euclidean()))
    x = sample(denoiser, Ancestral(), steps=4, shape={"a": (2, 5), "b": (2, 7)}, seed=0).x
    assert x["a"].shape == (2, 5)
    assert bool((x["b"] < 2).all())


def test_known_tokens_become_certain() -> None:
    """The hook under a uniform process: the law given what is known, as under a masked process that starts there."""
    known = torch.tensor([[False, True, False, True]])
    values = torch.tensor([[0, 2, 0, 1]])
    given = LAW.tilted(torch.where((LAW.support[:, 1] == 2) & (LAW.support[:, 3] == 1), 0.0, -torch.inf))
    hook = Known(values, known)
    x = sample(LAW.denoiser(Uniform(3)), Ancestral(), steps=100, shape=(3_000, 4), seed=0, hooks=[hook]).x
    assert x[:, 1].eq(2).all()
    assert x[:, 3].eq(1).all()
    assert total_variation(LAW.counts(x) / len(x), given.probs) < total_variation(LAW.counts(x) / len(x), LAW.probs) / 2


@pytest.mark.parametrize("process", [Masked(4, mask_id=0), Masked(4), Uniform(4), MaskUniform(4)], ids=repr)
def test_padding_is_never_drawn(process: Process) -> None:
    """The network may say anything there; tokens get what they would get without padding."""
    real, asked = torch.arange(7) < torch.tensor([[7], [4]]), []
    row = torch.tensor([0.3, -0.2, 0.5, 0.0])

    class Count(type(process)):  # type: ignore[misc]
        def log_probs(self, logits: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            asked.append(x.numel())
            return super().log_probs(logits, x)

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        logits = row.expand(*x.shape, 4).clone()
        logits[1, 4:] = torch.nan
        return logits

    counted = Count(4, mask_id=process.mask_id) if process.mask_id is not None else Count(4)
    x = sample(TokenDenoiser(network, counted, MaskedSpace(real)), Ancestral(), steps=6, shape=(2, 7), seed=0).x
    assert bool((x[~real] == 0).all())
    assert sum(asked) == 11 * (1 if isinstance(process, Masked) else 6)
    alone = TokenDenoiser(lambda x, t: row.expand(*x.shape, 4), process)
    assert torch.equal(x[1, :4], sample(alone, Ancestral(), steps=6, shape=(2, 4), seed=0).x[1])


@pytest.mark.parametrize("process", [Masked(4), Uniform(4)], ids=repr)
def test_predictions_that_are_no_numbers_are_reported(process: Process) -> None:
    pred = torch.full((2, 3, 4), torch.nan)
    x, u = torch.full((2, 3), 3), torch.full((2, 3), 0.9, dtype=torch.float64)
    with pytest.raises(FloatingPointError, match=r"network's output"):
        process.draw(pred, x, 0.1, 0.9, u)
