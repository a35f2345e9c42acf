"""Time embeddings: closed forms, every shape of t, precision."""

import math

import pytest
import torch

from scidiffuse.core.networks import FourierEmbedding, SinusoidalEmbedding, TimeEmbedding
from scidiffuse.core.networks.time_embedding import check_time

KINDS = [SinusoidalEmbedding(16), FourierEmbedding(16, scale=2.0, seed=3)]


def test_sinusoidal_closed_form():
    e = SinusoidalEmbedding(6, max_period=1000.0, scale=2.0)(torch.tensor(1.5, dtype=torch.float64))
    w = [1.0, 1000 ** (-1 / 3), 1000 ** (-2 / 3)]
    expected = [math.cos(3 * v) for v in w] + [math.sin(3 * v) for v in w]
    torch.testing.assert_close(e, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-14)


@pytest.mark.parametrize("embedding", KINDS, ids=lambda m: type(m).__name__)
def test_vector_times_equal_scalar_times(embedding):
    t = torch.rand(3, 5, dtype=torch.float64) * 10
    whole = embedding(t)
    assert whole.shape == (3, 5, 16)
    for b in range(3):
        torch.testing.assert_close(embedding(t[b]), whole[b], rtol=0, atol=0)
        for i in range(5):
            torch.testing.assert_close(embedding(t[b, i]), whole[b, i], rtol=0, atol=1e-15)


@pytest.mark.parametrize("embedding", KINDS, ids=lambda m: type(m).__name__)
def test_inner_product_depends_on_the_difference_alone(embedding):
    t, s = torch.rand(2, dtype=torch.float64)
    e = embedding(torch.stack([t, s, t + 0.7, s + 0.7]))
    torch.testing.assert_close(e[0] @ e[1], e[2] @ e[3], rtol=0, atol=1e-12)
    assert abs(float(e[0] @ e[1] - e[0] @ e[0])) > 1e-3


def test_fourier_kernel_is_gaussian():
    embedding = FourierEmbedding(20_000, scale=1.0, seed=0)
    d = torch.tensor([0.0, 0.1, 0.25])
    e = embedding(d) / math.sqrt(10_000)
    expected = torch.exp(-0.5 * (2 * math.pi * d) ** 2)
    torch.testing.assert_close(e @ e[0], expected, rtol=0, atol=0.03)


def test_fourier_frequencies_come_from_the_seed_and_survive_half_precision():
    torch.manual_seed(1)
    a = FourierEmbedding(8, seed=5)
    torch.manual_seed(2)
    b, c = FourierEmbedding(8, seed=5), FourierEmbedding(8, seed=6)
    assert torch.equal(a.frequencies, b.frequencies) and not torch.equal(a.frequencies, c.frequencies)
    assert torch.equal(b.to(torch.bfloat16).frequencies, a.frequencies)
    assert "frequencies" in a.state_dict()
    assert a.double().frequencies.dtype == torch.float64


def test_integer_and_half_labels_do_not_lose_the_phase():
    exact = SinusoidalEmbedding(8)(torch.tensor(999.0))
    assert torch.equal(SinusoidalEmbedding(8)(torch.tensor(999)), exact)
    network = TimeEmbedding(8, 4).to(torch.bfloat16)
    assert network(torch.tensor([1.0, 2.0])).dtype == torch.bfloat16


def test_time_embedding_kinds():
    assert not torch.equal(
        *(TimeEmbedding(8, 8, kind).embedding(torch.tensor(0.3)) for kind in ("sinusoidal", "fourier"))
    )
    with pytest.raises(ValueError, match="sinusoidal"):
        TimeEmbedding(8, 8, "learned")
    with pytest.raises(ValueError, match="even"):
        SinusoidalEmbedding(7)
    with pytest.raises(ValueError, match="even"):
        FourierEmbedding(0)


def test_check_time():
    check_time(torch.zeros(3, 4), 3, 4)
    with pytest.raises(ValueError, match=r"\(4,\), expected \(\) or \(3,\)"):
        check_time(torch.zeros(4), 3)
    with pytest.raises(ValueError, match=r"\(3, 5\), expected .* or \(3, 4\)"):
        check_time(torch.zeros(3, 5), 3, 4)
    with pytest.raises(TypeError, match="float"):
        check_time(0.5, 3)
