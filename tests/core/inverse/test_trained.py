"""A trained network, whose Jacobian is no covariance, on held-out digits."""

import pytest
import torch

from scidiffuse.core.digits import NULL, digits, load
from scidiffuse.core.inverse import DDS, DPS, MMPS, PiGDM, reconstruct
from scidiffuse.core.operators import Blur

NOISE = 0.05


@pytest.fixture(scope="module")
def problem():
    return load(), digits(held_out=True)[0][:3]


@pytest.mark.parametrize("method", [MMPS(5), PiGDM(0.5), DPS(0.5), DDS(5, 100.0)], ids=lambda m: type(m).__name__)
def test_better_than_the_pseudo_inverse(problem, method):
    denoiser, truth = problem
    operator = Blur((1, 8, 8), torch.ones(3, 3) / 9)
    clean = operator(truth)
    y = clean + NOISE * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    run = reconstruct(
        denoiser, operator, y, noise=NOISE, method=method, samples=2, steps=20, seed=0,
        condition={"condition": torch.full((3,), NULL)},
    )  # fmt: skip
    errors = [(x - truth).square().mean().sqrt() for x in (run.mean, operator.pinv(y))]
    assert errors[0] < 0.75 * errors[1]


def test_many_products_do_not_walk_off(problem):
    """Conjugate gradients with the network's Jacobian: unguarded, eight products end 20 times worse than one."""
    denoiser, truth = problem
    operator = Blur((1, 8, 8), torch.ones(3, 3) / 9)
    clean = operator(truth)
    y = clean + NOISE * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    errors = []
    for n in (1, 8):
        run = reconstruct(
            denoiser, operator, y, noise=NOISE, method=MMPS(n), samples=2, steps=20, seed=0,
            condition={"condition": torch.full((3,), NULL)},
        )  # fmt: skip
        errors.append(float((run.mean - truth).square().mean().sqrt()))
        assert run.misfit.mean() < 2
    assert errors[1] < 1.2 * errors[0] < 0.5
