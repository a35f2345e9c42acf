"""Being sure of tokens."""

import torch

from scidiffuse.core.discrete.certain import certain


def test_all_probability_is_at_the_token():
    like = torch.randn(2, 3, 4, dtype=torch.float32, requires_grad=True)
    tokens = torch.tensor([[0, 3, 1], [2, 2, 0]])
    log_p = certain(like, tokens)
    assert log_p.dtype == torch.float32 and not log_p.requires_grad
    assert torch.equal(log_p.exp(), torch.nn.functional.one_hot(tokens, 4).float())
    assert bool(torch.isneginf(log_p[log_p != 0]).all())
