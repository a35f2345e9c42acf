"""Corrupting and asking: what cannot be data, and what does not fit, is refused by name."""

from dataclasses import replace

import pytest
import torch

from scidiffuse.core.discrete import Marginal, Masked, TokenDenoiser, Uniform
from scidiffuse.core.discrete.losses import continuous_elbo
from scidiffuse.core.noise import SlotNoise
from scidiffuse.core.spaces import Graph
from scidiffuse.core.spaces import Masked as MaskedSpace


def test_data_that_are_none():
    t, noise = torch.tensor([0.5]), torch.full((1, 3), 0.5).double()
    denoiser = TokenDenoiser(lambda x, t: torch.zeros(*x.shape, 4), Masked(4, mask_id=0))
    with pytest.raises(ValueError, match=r"clean token 0 at \(0, 1\) is the mask"):
        continuous_elbo(denoiser, torch.tensor([[1, 0, 2]]), t, noise=noise)
    padded = denoiser.on(MaskedSpace(torch.tensor([[True, False, True]])))
    assert float(continuous_elbo(padded, torch.tensor([[1, 0, 2]]), t, noise=torch.zeros(1, 3).double())) > 0
    with pytest.raises(ValueError, match=r"token 7 at \(0, 2\) is out of range"):
        continuous_elbo(denoiser, torch.tensor([[1, 1, 7]]), t, noise=noise)
    with pytest.raises(ValueError, match="at least one token"):
        continuous_elbo(denoiser, torch.zeros(1, 0, dtype=torch.long), t, noise=noise[:, :0])
    with pytest.raises(TypeError, match="integer ids"):
        continuous_elbo(denoiser, torch.rand(1, 3), t, noise=noise)
    rare = TokenDenoiser(lambda x, t: torch.zeros(*x.shape, 3), Marginal(probs=(0.5, 0.0, 0.5)))
    with pytest.raises(ValueError, match=r"clean token 1 at \(0, 2\) has frequency zero"):
        continuous_elbo(rare, torch.tensor([[0, 2, 1]]), t, noise=noise)
    small = replace(Masked(4), mask_id=3)
    x = torch.tensor([[1, 0, 2]], dtype=torch.uint8)
    assert float(continuous_elbo(TokenDenoiser(denoiser.network, small), x, t, noise=0 * noise)) > 0


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"t": torch.tensor([1, 2])}, TypeError, "floating-point"),
        ({"t": torch.rand(3)}, ValueError, r"B = 2, got \(3,\)"),
        ({"t": torch.tensor([0.5, 1.5])}, ValueError, "outside"),
        ({"noise": torch.zeros(2, 3).double()}, ValueError, "one float64 uniform a token"),
        ({"noise": torch.zeros(2, 4)}, ValueError, "torch.float32"),
        ({"mask": torch.ones(2, 4)}, TypeError, "boolean"),
        ({"mask": torch.ones(2, 3, dtype=torch.bool)}, ValueError, "does not fit"),
        ({"known": torch.ones(2, 4)}, TypeError, "boolean"),
    ],
)
def test_bad_arguments(change, error, match):
    denoiser = TokenDenoiser(lambda x, t: torch.zeros(*x.shape, 4), Masked(4))
    arguments = {
        "x0": torch.zeros(2, 4, dtype=torch.long),
        "t": torch.tensor([0.3, 0.6]),
        "noise": torch.full((2, 4), 0.5).double(),
    }
    with pytest.raises(error, match=match):
        continuous_elbo(denoiser, **(arguments | change))


def test_a_graph_has_one_time():
    nodes = torch.ones(2, 3, dtype=torch.bool)
    denoiser = TokenDenoiser(lambda x, t: torch.zeros(*x.shape, 2), Uniform(2), Graph(nodes))
    with pytest.raises(ValueError, match="one time a sample"):
        continuous_elbo(
            denoiser, torch.zeros(2, 3, 3, dtype=torch.long), torch.rand(2, 3), noise=SlotNoise(0, range(2))
        )
