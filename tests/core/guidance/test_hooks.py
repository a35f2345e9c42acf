"""Residual guidance and time travel: what they cost and what they leave unchanged."""

from __future__ import annotations

import pytest
import torch

from scidiffuse.core import DDIM, DDPM, Denoiser, DPMSolverPP, VPLinear, grids, sample
from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.guidance import ClassifierFree, ResidualCFG, TimeTravel

SCHEDULE = VPLinear()
calls: list[int] = []


def network(x: torch.Tensor, t: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
    calls.append(len(x))
    a, s = SCHEDULE.alpha(t.double() / 1000)[:, None], SCHEDULE.sigma(t.double() / 1000)[:, None]
    return s * (x - a * condition[:, None])


X = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
C = torch.linspace(-1, 1, 5, dtype=torch.float64)
GRID = grids.uniform(12, 0.99, 0.0)


def run(hook: object, **more: object) -> torch.Tensor:
    calls.clear()
    return sample(Denoiser(network, SCHEDULE), DDIM(), GRID, x=X, condition={"condition": C}, hooks=[hook],
                  dtype=torch.float64, **more).x  # fmt: skip


def test_residual_guidance_costs_no_call_or_one() -> None:
    plain = sample(Denoiser(network, SCHEDULE), DDIM(), GRID, x=X, condition={"condition": C}, dtype=torch.float64).x
    torch.testing.assert_close(run(ResidualCFG(1.0)), plain)
    assert len(calls) == 12
    once = ResidualCFG(1.0, mode="onetime", null={"condition": 0.0}, condition={"condition": C})
    torch.testing.assert_close(run(once), plain)
    assert len(calls) == 13
    # what is guided: the difference to weight 1 grows with the weight, and batches may be cut
    torch.testing.assert_close(run(ResidualCFG(2.0)), run(ResidualCFG(2.0), max_batch=2))
    assert (run(ResidualCFG(2.0)) - plain).abs().max() > 0.1


def test_onetime_is_classifier_free_at_the_first_step() -> None:
    hook = ResidualCFG(2.0, mode="onetime", null={"condition": 0.0}, condition={"condition": C})
    one = grids.explicit([0.99, 0.5])
    ours = sample(
        Denoiser(network, SCHEDULE), DDIM(), one, x=X, condition={"condition": C}, hooks=[hook], dtype=torch.float64
    ).x
    guided = ClassifierFree(Denoiser(network, SCHEDULE), 2.0, {"condition": 0.0})
    torch.testing.assert_close(
        ours, sample(guided, DDIM(), one, x=X, condition={"condition": C}, dtype=torch.float64).x
    )


def test_residual_guidance_refuses_noise_on_the_way() -> None:
    with pytest.raises(ValueError, match="needs a deterministic sampler"):
        sample(
            Denoiser(network, SCHEDULE), DDPM(), GRID, x=X, condition={"condition": C}, hooks=[ResidualCFG()], seed=0
        )
    with pytest.raises(ValueError, match="give null="):
        ResidualCFG(mode="onetime")


@pytest.mark.parametrize("sampler", [DDIM(), DPMSolverPP(2, method="singlestep"), DPMSolverPP(2)])
def test_time_travel_repeats_each_step(sampler: object) -> None:
    gm = GaussianMixture(torch.zeros(1, 2), torch.ones(1))
    plain = sample(gm.denoiser(SCHEDULE), sampler, GRID, x=X, dtype=torch.float64)
    again = sample(gm.denoiser(SCHEDULE), sampler, GRID, x=X, hooks=[TimeTravel(3)], seed=1, dtype=torch.float64)
    assert again.calls == 3 * plain.calls
    assert not torch.equal(again.x, plain.x)
    part = sample(
        gm.denoiser(SCHEDULE), sampler, GRID, x=X, hooks=[TimeTravel(3, (0.0, 0.5))], seed=1, dtype=torch.float64
    )
    assert plain.calls < part.calls < again.calls


def test_time_travel_keeps_the_law() -> None:
    """Standard normal data: a DDIM step multiplies by c = alpha alpha' + sigma sigma', so variances are known."""
    gm = GaussianMixture(torch.zeros(1, 1), torch.ones(1))
    n = 40_000
    x = sample(gm.denoiser(SCHEDULE), DDIM(), GRID, shape=(n, 1), hooks=[TimeTravel(2)], seed=0).x
    v = 1.0
    for t, s in GRID.pairs():
        a, b = SCHEDULE.alpha(t), SCHEDULE.alpha(s)
        c = a * b + SCHEDULE.sigma(t) * SCHEDULE.sigma(s)
        r = a / b
        v = c * c * (r * r * c * c * v + 1 - r * r)
    assert abs(float(x.var()) / v - 1) < 5 * (2 / n) ** 0.5  # five standard errors
    assert abs(float(x.mean())) < 5 * (v / n) ** 0.5
