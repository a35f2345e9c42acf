"""The truth that samplers are held to is itself tested: density, denoiser, and the identities between them."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import kstest

from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.schedules import GVP, VE, CondOT, MeanReverting, Residual, Schedule, VPLinear

F64 = torch.float64
DATA = GaussianMixture.example()
SCHEDULES: list[tuple[Schedule, float]] = [(VPLinear(), 0.3), (VE(), 0.5), (CondOT(), 0.4), (GVP(), 0.6)]
X = 1.5 * torch.randn(7, 2, generator=torch.Generator().manual_seed(0), dtype=F64)


@pytest.mark.parametrize(("schedule", "t"), [*SCHEDULES, (VPLinear(), 0.0)])
def test_density_integrates_to_one(schedule: Schedule, t: float) -> None:
    width = 6.0 + 6.0 * schedule.sigma(t)
    line = torch.linspace(-width, width, 401, dtype=F64)
    points = torch.cartesian_prod(line, line)
    total = DATA.log_prob(points, schedule, t).exp().sum() * (line[1] - line[0]) ** 2
    assert total.item() == pytest.approx(1.0, abs=1e-6)


def test_density_of_the_data_needs_no_schedule() -> None:
    torch.testing.assert_close(DATA.log_prob(X), DATA.log_prob(X, VPLinear(), 0.0))
    one = GaussianMixture(torch.zeros(1, 2, dtype=F64), torch.ones(1, dtype=F64))
    torch.testing.assert_close(one.log_prob(X), -X.square().sum(1) / 2 - math.log(2 * math.pi))


@pytest.mark.parametrize(("schedule", "t"), SCHEDULES)
def test_score_is_the_gradient_of_the_density(schedule: Schedule, t: float) -> None:
    x = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(DATA.log_prob(x, schedule, t).sum(), x)
    pred = DATA.denoiser(schedule)(X, t)
    torch.testing.assert_close(pred.score, gradient, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(-pred.noise / schedule.sigma(t), gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("schedule", "t"), SCHEDULES)
def test_trace_identity(schedule: Schedule, t: float) -> None:
    """div D = alpha / sigma^2 tr Cov(x0 | x); the covariance from an independent quadrature over x0."""
    a, s = schedule.alpha(t), schedule.sigma(t)
    line = torch.linspace(-7.0, 7.0, 701, dtype=F64)
    x0 = torch.cartesian_prod(line, line)
    prior = DATA.log_prob(x0)
    for x in X[:3]:
        posterior = (prior - (x - a * x0).square().sum(1) / (2 * s * s)).softmax(0)
        mean = (posterior[:, None] * x0).sum(0)
        trace = (posterior * (x0 - mean).square().sum(1)).sum()
        jacobian = torch.autograd.functional.jacobian(lambda v: DATA.data(v[None], a, s)[0], x)
        torch.testing.assert_close(DATA.data(x[None], a, s)[0], mean, rtol=0, atol=1e-6)
        torch.testing.assert_close(jacobian.trace(), a / s**2 * trace, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("schedule", "t"), SCHEDULES)
def test_denoiser_is_unbiased(schedule: Schedule, t: float) -> None:
    """E[D(x)] = E[x0] and E[(x0 - D) D] = 0 over joint draws: D is a conditional mean."""
    n = 40_000
    generator = torch.Generator().manual_seed(3)
    x0 = DATA.sample(n, generator)
    x = schedule.alpha(t) * x0 + schedule.sigma(t) * torch.randn(n, 2, generator=generator, dtype=F64)
    d = DATA.denoiser(schedule)(x, t).data
    for residual in (x0 - d, (x0 - d) * d, (x0 - d) * x.tanh()):
        z = residual.mean(0) / (residual.std(0) / n**0.5)
        assert z.abs().max() < 4.0


@pytest.mark.parametrize(("schedule", "t"), SCHEDULES)
def test_a_time_a_sample_equals_one_time(schedule: Schedule, t: float) -> None:
    times = torch.tensor([t, 0.5 * t, 0.8 * t], dtype=F64)
    each = DATA.denoiser(schedule)(X[:3], times).data
    for k in range(3):
        torch.testing.assert_close(each[k : k + 1], DATA.denoiser(schedule)(X[k : k + 1], times[k].item()).data)


@pytest.mark.parametrize("schedule", [MeanReverting(), Residual(sum_scale=1.0)], ids=repr)
def test_reference_is_taken_off_first(schedule: Schedule) -> None:
    y = torch.tensor([[0.4, -2.0]], dtype=F64).expand(7, 2)
    t = 0.5
    pred = DATA.denoiser(schedule)(X + schedule.beta(t) * y, t, reference=y, y=y)
    torch.testing.assert_close(pred.data, DATA.data(X, schedule.alpha(t), schedule.sigma(t)))


def test_draws_follow_the_density() -> None:
    x = DATA.sample(5000, torch.Generator().manual_seed(4))
    weights, means, stds = DATA.weights, DATA.means, DATA.stds

    def cdf(v: object) -> object:
        z = (torch.as_tensor(v)[:, None] - means[:, 0]) / stds
        return (weights * torch.special.ndtr(z)).sum(1).numpy()

    assert kstest(x[:, 0].numpy(), cdf).pvalue > 0.01
    again = DATA.sample(5000, torch.Generator().manual_seed(4))
    assert torch.equal(x, again)


@pytest.mark.parametrize(
    ("means", "stds", "weights", "message"),
    [
        (torch.zeros(2), torch.ones(2), None, r"means \(K, d\)"),
        (torch.zeros(2, 3), torch.ones(3), None, r"means \(K, d\)"),
        (torch.zeros(2, 3), torch.ones(2), torch.ones(3), r"weights \(K,\)"),
        (torch.zeros(2, 3), torch.tensor([1.0, 0.0]), None, "positive"),
        (torch.zeros(2, 3), torch.ones(2), torch.tensor([1.0, -1.0]), "positive"),
    ],
)
def test_wrong_mixtures_are_refused(
    means: torch.Tensor, stds: torch.Tensor, weights: torch.Tensor | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        GaussianMixture(means, stds, weights)


def test_weights_are_normalised() -> None:
    mixture = GaussianMixture(torch.zeros(2, 1), torch.ones(2), torch.tensor([2.0, 6.0]))
    torch.testing.assert_close(mixture.weights, torch.tensor([0.25, 0.75], dtype=F64))
    assert repr(mixture) == "GaussianMixture(components=2, dimension=1)"
