"""Networks asked about mixtures of tokens."""

import pytest
import torch
from torch import nn

from scidiffuse.core.discrete import Masked, TokenDenoiser
from scidiffuse.core.discrete.soft_tokens import check_soft, soft_logits
from scidiffuse.core.networks import TokenTransformer

S = 5


def transformer(**options):
    torch.manual_seed(0)
    network = TokenTransformer(S, 16, 2, 2, **options).double().eval()
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.2 * torch.randn(p.shape, dtype=torch.float64))
    return network


def ids(*shape):
    return torch.randint(S, shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("options", [{}, {"time": None}, {"condition_classes": 3}])
def test_one_hot_rows_give_the_output_of_their_ids(options):
    denoiser = TokenDenoiser(transformer(**options), Masked(S))
    x = ids(3, 7)
    given = {"condition": torch.tensor([0, 2, 1])} if "condition_classes" in options else {}
    hot = nn.functional.one_hot(x, S).double()
    assert torch.equal(soft_logits(denoiser, hot, 0.3, **given), denoiser(x, 0.3, **given).raw)
    assert not denoiser.network.embed._forward_hooks  # nothing is left behind


def test_mixtures_mix_the_embeddings_and_carry_gradients():
    denoiser = TokenDenoiser(transformer(), Masked(S))
    x = torch.randn(2, 4, S, generator=torch.Generator().manual_seed(0), dtype=torch.float64).softmax(-1)
    x.requires_grad_(True)
    soft_logits(denoiser, x, 0.5).square().sum().backward()
    network = denoiser.network
    rows, network.embed = network.embed.weight.detach(), nn.Embedding(S, 16).double()  # another table: a row a token
    network.embed = nn.Embedding(8, 16, _weight=(x.detach() @ rows).reshape(8, 16))
    network.states = 8
    by_hand = network(torch.arange(8).reshape(2, 4), torch.full((2,), 500.0, dtype=torch.float64))
    denoiser = TokenDenoiser(transformer(), Masked(S))
    torch.testing.assert_close(soft_logits(denoiser, x, 0.5), by_hand, rtol=0, atol=1e-12)
    i, h = (1, 2, 3), 1e-6
    with torch.no_grad():
        values = []
        for sign in (1, -1):
            y = x.detach().clone()
            y[i] += sign * h
            values.append(float(soft_logits(denoiser, y, 0.5).square().sum()))
    assert float(x.grad[i]) == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-5)


class Own(nn.Module):
    soft_tokens = True

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(S, S).double()

    def forward(self, x, t):
        return self.map(x if x.is_floating_point() else nn.functional.one_hot(x, S).double())


def test_a_network_that_takes_soft_tokens_itself():
    denoiser = TokenDenoiser(Own(), Masked(S))
    x = ids(2, 3)
    hot = nn.functional.one_hot(x, S).double().requires_grad_(True)
    assert torch.equal(soft_logits(denoiser, hot, 0.1), denoiser(x, 0.1).raw)


class Twice(nn.Module):
    def __init__(self, calls):
        super().__init__()
        self.embed, self.calls = nn.Embedding(S, S), calls

    def forward(self, x, t):
        return sum((self.embed(x) for _ in range(self.calls)), torch.zeros(*x.shape, S))


def test_refusals():
    hot = nn.functional.one_hot(ids(2, 3), S).double()
    for calls in (0, 2):
        with pytest.raises(TypeError, match=f"called its `embed` {calls} times"):
            soft_logits(TokenDenoiser(Twice(calls), Masked(S)), hot, 0.5)
    soft_logits(TokenDenoiser(Twice(1), Masked(S)), hot, 0.5)
    with pytest.raises(TypeError, match=r"Linear takes ids alone: give it an nn.Embedding\(5"):
        check_soft(nn.Linear(2, 2), S)
    with pytest.raises(TypeError, match="takes ids alone"):
        check_soft(Twice(1), S + 1)
    short = Own()
    short.map = nn.Linear(S, S - 1).double()
    with pytest.raises(ValueError, match="must return logits of shape"):
        soft_logits(TokenDenoiser(short, Masked(S)), hot, 0.5)
