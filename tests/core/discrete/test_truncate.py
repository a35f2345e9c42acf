"""Truncation keeps the smallest set that reaches r, the crossing value included."""

from __future__ import annotations

import pytest
import torch

from scidiffuse.core import sample
from scidiffuse.core.discrete import Ancestral, Masked, TokenDenoiser, Truncate, Uniform

P = torch.tensor([0.1, 0.4, 0.2, 0.3])


@pytest.mark.parametrize(
    ("r", "kept"), [(0.3, [1]), (0.399, [1]), (0.41, [1, 3]), (0.86, [1, 2, 3]), (0.95, [0, 1, 2, 3]), (1e-6, [1])]
)
def test_the_smallest_set_that_reaches_r(r: float, kept: list[int]) -> None:
    network = lambda x, t: torch.cat([P.log(), torch.zeros(1)]).expand(*x.shape, 5)  # noqa: E731
    denoiser = TokenDenoiser(network, Masked(5))
    x = sample(denoiser, Ancestral(), steps=1, shape=(500, 8), seed=0, hooks=[Truncate(r)]).x
    assert x.unique().tolist() == kept
    share = torch.bincount(x.flatten(), minlength=4)[kept] / x.numel()
    torch.testing.assert_close(share, P[kept] / P[kept].sum(), atol=0.04, rtol=0.0)


def test_everything_is_kept_at_one_and_known_tokens_stay() -> None:
    network = lambda x, t: P.log().expand(*x.shape, 4)  # noqa: E731
    for process in (Uniform(4), Masked(4)):
        denoiser = TokenDenoiser(network, process)
        plain = sample(denoiser, Ancestral(), steps=5, shape=(9, 6), seed=0).x
        assert torch.equal(plain, sample(denoiser, Ancestral(), steps=5, shape=(9, 6), seed=0, hooks=[Truncate(1.0)]).x)
    x = torch.tensor([[0, 3, 3]])
    done = sample(TokenDenoiser(network, Masked(4)), Ancestral(), steps=3, x=x, seed=0, hooks=[Truncate(0.5)]).x
    assert done[0, 0] == 0


@pytest.mark.parametrize("r", [0.0, -0.1, 1.5, float("nan")])
def test_refusals(r: float) -> None:
    with pytest.raises(ValueError, match="probability to keep"):
        Truncate(r)
