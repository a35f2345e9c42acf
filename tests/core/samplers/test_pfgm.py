"""PFGM++ against its own closed form: on Gaussian data the exact denoiser is an integral over one number.

With x = x0 + sigma z / sqrt(tau), tau ~ Gamma(D/2, rate D/2) and x0 ~ N(m, c^2 I): given tau everything is Gaussian, so

    D(x) = m + E[c^2 / (c^2 + sigma^2 / tau) | x] (x - m),    p(tau | x) ~ p(tau) N(x; m, (c^2 + sigma^2/tau) I),

and the expectation is a sum over the nodes of a Gauss-Laguerre rule.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import roots_genlaguerre
from scipy.stats import chi2, kstest
from torch import Tensor

from scidiffuse.core import grids
from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.sample import sample
from scidiffuse.core.samplers import DDIM, DDPM, DPMSolverPP, EDMStochastic, Heun, Sampler, UniPC
from scidiffuse.core.schedules import EDM, PFGMpp

C = 0.7
M = torch.tensor([0.5, -1.0, 0.2], dtype=torch.float64)


def shrinkage(x: Tensor, sigma: Tensor | float, d: float, nodes: int = 64) -> Tensor:
    """E[c^2 / (c^2 + sigma^2 / tau) | x], shape (B, 1)."""
    roots, weights = roots_genlaguerre(nodes, d / 2 - 1)
    keep = weights > 0.0  # the largest nodes underflow
    tau = torch.from_numpy(2.0 * roots[keep] / d)
    log = torch.from_numpy(np.log(weights[keep]))
    sigma = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1, 1)
    v = C**2 + sigma**2 / tau
    log = log - 0.5 * x.shape[1] * v.log() - (x - M).square().sum(1, keepdim=True) / (2 * v)
    return (log.softmax(1) * C**2 / v).sum(1, keepdim=True)


def student(schedule: PFGMpp) -> Denoiser:
    def network(x: Tensor, t: Tensor) -> Tensor:
        return M + shrinkage(x, schedule.sigma(t.double()), schedule.D) * (x - M)

    return Denoiser(network, schedule, "data", label=lambda schedule, t: t)


def gaussian(schedule: EDM) -> Denoiser:
    def network(x: Tensor, t: Tensor) -> Tensor:
        sigma = schedule.sigma(t.double()).reshape(-1, 1)
        return M + C**2 / (C**2 + sigma**2) * (x - M)

    return Denoiser(network, schedule, "data", label=lambda schedule, t: t)


def points(n: int) -> Tensor:
    return M + 1.5 * torch.randn(n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("d", [3.0, 10.0, 100.0])
def test_quadrature_is_the_integral(d: float) -> None:
    x, sigma = points(5), 1.3
    tau = torch.linspace(math.log(1e-4), math.log(30.0), 20001, dtype=torch.float64).exp()
    v = C**2 + sigma**2 / tau
    log = d / 2 * tau.log() - d / 2 * tau - 1.5 * v.log() - (x - M).square().sum(1, keepdim=True) / (2 * v)
    torch.testing.assert_close(shrinkage(x, sigma, d)[:, 0], (log.softmax(1) * C**2 / v).sum(1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 4.0])
def test_difference_to_edm_falls_like_one_over_d(sigma: float) -> None:
    x = points(64)
    edm = C**2 / (C**2 + sigma**2)
    gap = {d: ((shrinkage(x, sigma, d) - edm) * (x - M)).abs().max().item() for d in (10.0, 100.0, 200.0)}
    assert gap[10.0] > 5 * gap[100.0]
    assert gap[100.0] / gap[200.0] == pytest.approx(2.0, rel=0.1)
    assert gap[200.0] < 0.1


def distances(x: Tensor) -> np.ndarray:
    """|x - m|^2 / c^2, of chi-squared law with three degrees of freedom on the data."""
    return ((x - M) / C).square().sum(1).numpy()


@pytest.mark.parametrize("d", [3.0, 32.0])
@pytest.mark.parametrize("sampler", [Heun(), UniPC(2)], ids=repr)
def test_prior_and_solver_give_the_data(sampler: Sampler, d: float) -> None:
    schedule = PFGMpp(D=d)
    run = sample(student(schedule), sampler, steps=40, shape=(3000, 3), seed=1, dtype=torch.float64)
    assert kstest(distances(run.x), chi2(3).cdf).pvalue > 0.01
    for k in range(3):
        assert kstest(((run.x[:, k] - M[k]) / C).numpy(), "norm").pvalue > 0.01


def test_gaussian_denoiser_on_student_noise_misses_the_data() -> None:
    run = sample(gaussian(PFGMpp(D=3.0)), Heun(), steps=40, shape=(3000, 3), seed=1, dtype=torch.float64)
    assert kstest(distances(run.x), chi2(3).cdf).pvalue < 1e-6


def test_samples_tend_to_those_of_edm() -> None:
    """From one start: the solutions differ by order 1/D."""
    x = 80.0 * torch.randn(200, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    grid = grids.karras(EDM(), 40)
    edm = sample(gaussian(EDM()), Heun(), grid, x=x, dtype=torch.float64).x
    gap = {
        d: (sample(student(PFGMpp(D=d)), Heun(), grid, x=x, dtype=torch.float64).x - edm).square().mean().sqrt().item()
        for d in (50.0, 100.0, 200.0)
    }
    assert gap[50.0] / gap[100.0] == pytest.approx(2.0, rel=0.25)
    assert gap[100.0] / gap[200.0] == pytest.approx(2.0, rel=0.25)


@pytest.mark.parametrize("d", [4.0, 64.0])
def test_prior_is_student(d: float) -> None:
    """|n|^2 / 3 of Student-t noise with D degrees of freedom has the F law with (3, D)."""
    schedule = PFGMpp(D=d)
    zero = Denoiser(lambda x, t: torch.zeros_like(x), schedule, "noise")  # no slope: one step keeps the prior
    run = sample(zero, DDIM(), grids.Grid((1.0, 0.5)), shape=(4000, 3), seed=3, dtype=torch.float64)
    assert kstest((run.x / 80.0).square().mean(1).numpy(), "f", args=(3, d)).pvalue > 0.01


@pytest.mark.parametrize("sampler", [DDPM(), DDIM(1.0), DPMSolverPP(2, eta=1.0), EDMStochastic()], ids=repr)
def test_stochastic_samplers_are_refused(sampler: Sampler) -> None:
    with pytest.raises(ValueError, match=r"(?i)student.*deterministic"):
        sample(student(PFGMpp()), sampler, steps=4, shape=(2, 3), seed=0)


def test_score_is_refused() -> None:
    x = points(2)
    with pytest.raises(ValueError, match=r"(?i)student"):
        _ = student(PFGMpp())(x, 0.5).score
