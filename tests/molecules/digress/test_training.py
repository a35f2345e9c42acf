"""The noise on graphs, the loss against its formula, marginals, batches."""

from __future__ import annotations

import math

import pytest
import torch

from scidiffuse.core.discrete import TokenDenoiser
from scidiffuse.core.noise import SlotNoise
from scidiffuse.core.training.keys import Keys
from scidiffuse.molecules.data.graphs import Graphs
from scidiffuse.molecules.digress.config import PRESETS, DiGressConfig
from scidiffuse.molecules.digress.training import TrainingSet, build, objective_of, tokens_of
from scidiffuse.molecules.tokens import frequencies, space_of

TINY = {
    "layers": 1, "dx": 8, "de": 4, "dy": 4, "heads": 2, "ff_x": 8, "ff_e": 8, "ff_y": 8, "mlp_x": 8, "mlp_e": 8,
    "mlp_y": 8, "dropout": 0.0,
}  # fmt: skip


def three():
    """A chain of 3, a pair with a double bond, a single node; types 0, 1."""
    A = torch.zeros(3, 3, 3, dtype=torch.uint8)
    for b, i, j, order in ((0, 0, 1, 1), (0, 1, 2, 1), (1, 0, 1, 2)):
        A[b, i, j] = A[b, j, i] = order
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0]], dtype=torch.bool)
    types = torch.tensor([[0, 1, 0], [1, 1, 0], [0, 0, 0]], dtype=torch.uint8)
    return Graphs(A, mask, types, ("a", "b"))


def test_frequencies_are_those_of_nodes_and_pairs_that_exist():
    probs = frequencies(three(), 3)
    assert probs["X"] == pytest.approx([3 / 6, 3 / 6])
    assert probs["A"] == pytest.approx([1 / 4, 2 / 4, 1 / 4])  # 3 pairs of the chain, one of the pair
    assert frequencies(three()[2], 3)["A"] == [1.0, 0.0, 0.0]


def test_noise_keeps_a_token_with_alpha_and_else_draws_from_the_frequencies():
    config = DiGressConfig(**TINY)
    process = build(config, frequencies(three(), 3), 3, None, 0).process
    t = 0.4
    alpha = (math.cos(0.5 * math.pi * (t + 0.008) / 1.008) / math.cos(0.5 * math.pi * 0.008 / 1.008)) ** 2
    row = process.leaves["A"].marginal(t)[1]
    assert row.tolist() == pytest.approx([(1 - alpha) / 4, alpha + (1 - alpha) / 2, (1 - alpha) / 4])


def test_the_loss_is_the_cross_entropy_of_nodes_plus_five_times_that_of_pairs():
    graphs, config = three(), DiGressConfig(**TINY)
    batch = TrainingSet.collate([(TrainingSet(graphs), i) for i in range(3)])
    true = build(config, frequencies(graphs, 3), 3, None, 0)
    logits = {"X": torch.tensor([0.3, -0.4]), "A": torch.tensor([0.1, 0.2, -0.5])}

    def network(x, t, nodes):
        return {"X": logits["X"].expand(*x["X"].shape, 2), "A": logits["A"].expand(*x["A"].shape, 3)}

    denoiser = TokenDenoiser(network, true.process)
    loss = objective_of(config, True)(denoiser, batch, Keys.of(0, 0, range(3)))
    x, a = (-part.log_softmax(0) for part in (logits["X"], logits["A"]))
    expected = [
        (2 * x[0] + x[1]) / 3 + 5 * (a[0] + 2 * a[1]) / 3,
        x[1] + 5 * a[2],
        x[0],  # a single node has no pairs
    ]
    assert loss.tolist() == pytest.approx([float(v) for v in expected], rel=1e-6)


@pytest.mark.parametrize("features", ["all", "none"])
def test_the_network_is_equivariant_on_tokens(features):
    graphs = three()
    denoiser = build(DiGressConfig(**TINY, features=features), frequencies(graphs, 3), 3, None, 0)
    denoiser.network.eval()
    x, nodes = tokens_of(graphs), graphs.mask
    p = torch.tensor([2, 0, 1])
    moved = {"X": x["X"][:, p], "A": x["A"][:, p][:, :, p]}
    a = denoiser(x, 0.3, nodes=nodes).log_probs
    b = denoiser(moved, 0.3, nodes=nodes[:, p]).log_probs
    torch.testing.assert_close(b["X"], a["X"][:, p], rtol=0, atol=1e-5)
    torch.testing.assert_close(b["A"], a["A"][:, p][:, :, p], rtol=0, atol=1e-5)


def test_a_permuted_noisy_graph_steps_to_the_permuted_graph():
    """The chain's law commutes with permutations: its one-step laws do."""
    graphs = three()
    denoiser = build(DiGressConfig(**TINY), frequencies(graphs, 3), 3, None, 1)
    denoiser.network.eval()
    process, x, nodes, p = denoiser.process, tokens_of(graphs), graphs.mask, torch.tensor([1, 2, 0])

    def law(x, nodes):
        log_p = denoiser(x, 0.6, nodes=nodes).log_probs
        return {k: process.leaves[k].log_posterior(log_p[k], x[k], 0.5, 0.6) for k in x}

    a, b = law(x, nodes), law({"X": x["X"][:, p], "A": x["A"][:, p][:, :, p]}, nodes[:, p])
    torch.testing.assert_close(b["X"], a["X"][:, p], rtol=0, atol=1e-5)
    torch.testing.assert_close(b["A"], a["A"][:, p][:, :, p], rtol=0, atol=1e-5)
    assert denoiser.prior(x, 1.0, SlotNoise(0, range(3)), space_of(nodes, True))["A"].equal(
        denoiser.prior(x, 1.0, SlotNoise(0, range(3)), space_of(nodes, True))["A"].transpose(1, 2)
    )


def test_presets_and_settings_out_of_range():
    assert all(DiGressConfig.preset(name) for name in PRESETS)
    assert (DiGressConfig.preset("planar").steps, DiGressConfig.preset("moses").layers) == (1000, 12)
    with pytest.raises(ValueError, match="no preset 'zinc'; there are qm9"):
        DiGressConfig.preset("zinc")
    for settings, message in (
        ({"layers": 0}, "layers must be a positive integer, got 0"),
        ({"heads": 7}, "heads=7 must divide dx=256"),
        ({"dropout": 1.0}, "dropout is a probability below 1"),
        ({"features": "some"}, "features must be one of 'all'"),
        ({"properties": "mu"}, "tuple of different names"),
        ({"lr": 0.0}, "lr must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            DiGressConfig(**settings)
