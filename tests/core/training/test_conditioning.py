"""Condition dropout and condition-embedding perturbation."""

import math

import pytest
import torch
from scipy import stats
from torch import nn

from scidiffuse.core.training import (
    ConditionPerturbation,
    Keys,
    Streamed,
    drop_condition,
    perturb_embedding,
    perturbing,
)

N = 5000


def uniforms(n=N):
    return Keys.of(0, 0, range(n)).uniforms("drop")[:, 0]


def test_dropout_rate_and_joint_replacement():
    condition = {"a": torch.arange(N), "b": torch.ones(N, 2, 3), "kept": torch.ones(N)}
    out = drop_condition(condition, {"a": -1, "b": torch.full((2, 3), 7.0)}, 0.15, uniforms())
    dropped = out["a"] == -1
    assert abs(float(dropped.double().mean()) - 0.15) < 4 * math.sqrt(0.15 * 0.85 / N)
    assert torch.equal((out["b"] == 7).all(-1).all(-1), dropped)
    assert torch.equal(out["a"][~dropped], condition["a"][~dropped]) and out["kept"] is condition["kept"]
    assert bool((condition["b"] == 1).all())


def test_dropout_ends():
    condition = {"a": torch.arange(9)}
    assert drop_condition(condition, {"a": -1}, 0.0, uniforms(9))["a"] is condition["a"]
    assert bool((drop_condition(condition, {"a": -1}, 1.0, uniforms(9))["a"] == -1).all())


@pytest.mark.parametrize(
    ("null", "p", "match"),
    [
        ({"a": 0}, 1.5, r"\[0, 1\]"),
        (None, 0.1, "needs a null condition"),
        ({}, 0.1, "needs a null condition"),
        ({"z": 0}, 0.1, r"null condition for \['z'\]"),
        ({"a": torch.zeros(2)}, 0.1, r"shape \(2,\), a sample has \(3,\)"),
    ],
)
def test_bad_dropout(null, p, match):
    with pytest.raises(ValueError, match=match):
        drop_condition({"a": torch.zeros(4, 3)}, null, p, uniforms(4))


def noise(seed=0):
    return Streamed(torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("distribution", "variance"), [("normal", 1.0), ("uniform", 1 / 3)])
def test_cep_has_the_stated_law(distribution, variance):
    gamma, d = 0.7, 16
    c = torch.randn(N, d, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    scaled = (perturb_embedding(c, gamma, noise(), distribution=distribution) - c) / math.sqrt(gamma / d)
    law = stats.norm() if distribution == "normal" else stats.uniform(-1, 2)
    assert stats.kstest(scaled.flatten()[:8000].numpy(), law.cdf).pvalue > 1e-3
    assert abs(float(scaled.square().mean()) - variance) < 4 * math.sqrt(2 / (N * d))


def test_cep_of_zero_is_the_embedding_itself():
    c = torch.randn(5, 4)
    assert perturb_embedding(c, 0.0, noise()) is c
    layer = ConditionPerturbation(0.0).train()
    with perturbing(nn.Sequential(layer), noise()):
        assert layer(c) is c


def test_cep_layer_acts_only_while_training_with_noise():
    network = nn.Sequential(ConditionPerturbation(1.0), ConditionPerturbation(1.0))
    c = torch.zeros(6, 4)
    assert torch.equal(network.train()(c), c)
    with perturbing(network, Keys.of(0, 0, range(6)).noise):
        first, both = network[0](c), network(c)
        assert bool((first != c).all()) and not torch.allclose(both, 2 * first)  # each layer has its own noise
        assert torch.equal(network(c), both)
        assert torch.equal(network.eval()(c), c)
        network.train()
    assert torch.equal(network(c), c)
    with pytest.raises(RuntimeError), perturbing(network, noise()):
        raise RuntimeError
    assert torch.equal(network(c), c)


def test_bad_cep():
    with pytest.raises(TypeError, match="embed the labels"):
        perturb_embedding(torch.zeros(3, dtype=torch.long), 1.0, noise())
    for build in (
        lambda: perturb_embedding(torch.zeros(3, 2), -1.0, noise()),
        lambda: ConditionPerturbation(-1.0),
        lambda: ConditionPerturbation(1.0, "cauchy"),
        lambda: perturb_embedding(torch.zeros(3, 2), 1.0, noise(), distribution="cauchy"),
    ):
        with pytest.raises(ValueError, match="CEP"):
            build()
