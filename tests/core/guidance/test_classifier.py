"""Classifier guidance against Bayes' rule on Gaussians."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from scidiffuse.core import DDIM, Denoiser, VPLinear, grids, sample
from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.guidance import Classifier, NoiseRangeExperts, OffTheShelf, distill_experts, smooth_relu

SCHEDULE = VPLinear()
NORMAL = GaussianMixture(torch.zeros(1, 3), torch.ones(1))
Y, NOISE = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64), 0.7


def log_likelihood(x: torch.Tensor, t: float) -> torch.Tensor:
    """log p(y | x_t) for y = x0 + noise and x0 ~ N(0, I): x0 | x_t ~ N(alpha x_t, sigma^2)."""
    a, s = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
    return -(Y - a * x).square().sum(1) / (2 * (s * s + NOISE**2))


def posterior() -> GaussianMixture:
    gain = 1 / (1 + NOISE**2)
    return GaussianMixture((gain * Y)[None], torch.tensor([math.sqrt(1 - gain)], dtype=torch.float64))


def test_the_exact_classifier_gives_the_exact_posterior() -> None:
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    guided, exact = Classifier(NORMAL.denoiser(SCHEDULE), log_likelihood), posterior().denoiser(SCHEDULE)
    for t in (0.05, 0.4, 0.9):
        ours, truth = guided(x, t), exact(x, t)
        torch.testing.assert_close(ours.data, truth.data, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(ours.noise, truth.noise, rtol=1e-10, atol=1e-10)
    grid = grids.uniform(20, 0.95, 0.0)
    a = sample(guided, DDIM(), grid, x=x, dtype=torch.float64).x
    b = sample(exact, DDIM(), grid, x=x, dtype=torch.float64).x
    torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


def test_scale_multiplies_the_gradient() -> None:
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    plain = NORMAL.denoiser(SCHEDULE)(x, 0.3).score
    one, two = (Classifier(NORMAL.denoiser(SCHEDULE), log_likelihood, w)(x, 0.3).score for w in (1.0, 2.0))
    torch.testing.assert_close(two - plain, 2 * (one - plain))


def test_refusals_name_the_problem() -> None:
    x = torch.zeros(2, 3, dtype=torch.float64)
    inner = NORMAL.denoiser(SCHEDULE)
    with pytest.raises(ValueError, match=r"shape \(2,\), got \(\)"):
        Classifier(inner, lambda x, t: x.sum())(x, 0.5)
    with pytest.raises(FloatingPointError, match="sample 0; lower scale=3"):
        Classifier(inner, lambda x, t: x.sum(1).sqrt() * math.nan, 3.0)(x, 0.5)
    with pytest.raises(ValueError, match="needs condition 'target'"):
        Classifier(inner, log_likelihood, conditions=["target"])(x, 0.5)


def test_off_the_shelf_gradient_is_that_of_the_calibrated_log_probability() -> None:
    weight = torch.randn(4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    target = torch.tensor([0, 1, 2, 3, 1])
    t = 0.35

    def logits(d: torch.Tensor) -> torch.Tensor:
        return d @ weight.T

    inner = NORMAL.denoiser(SCHEDULE)
    a, s = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
    d = inner(x, t).data
    by_hand = weight[target] - 0.5 * (0.5 * logits(d)).softmax(1) @ weight  # d/dD, tau1 = 1, tau2 = 1/2
    w = 2.0 * (1 + 0.3 * math.sin(math.pi * t))
    cheap = OffTheShelf(inner, logits, 2.0)(x, t, target=target)
    torch.testing.assert_close(cheap.score - inner(x, t).score, w * by_hand / a)
    # through the network the chain rule has dD/dx = alpha for standard normal data
    exact = OffTheShelf(inner, logits, 2.0, through_network=True)(x, t, target=target)
    torch.testing.assert_close(exact.score - inner(x, t).score, w * by_hand * a)
    torch.testing.assert_close(a * exact.data + s * exact.noise, x)


def test_smooth_relu_leaves_the_original_alone() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.Linear(2, 1)))
    smooth = smooth_relu(net, beta=50.0)
    assert isinstance(net[1][0], nn.ReLU)
    assert isinstance(smooth[1][0], nn.Softplus)
    x = torch.randn(7, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(smooth(x), net(x), atol=0.05, rtol=0)


def test_experts_are_chosen_by_time() -> None:
    experts = NoiseRangeExperts([0.3, 0.6], [lambda x, t, k=k: torch.full((len(x),), float(k)) for k in range(3)])
    x = torch.zeros(1, 2)
    assert [float(experts(x, t)) for t in (0.0, 0.3, 0.31, 0.6, 0.9)] == [0.0, 0.0, 1.0, 1.0, 2.0]
    with pytest.raises(ValueError, match="2 experts and bounds"):
        NoiseRangeExperts([0.6, 0.3], [log_likelihood, log_likelihood])


def test_distilled_experts_know_noisy_states_better_than_their_teacher() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0]])
    label = torch.randint(3, (600,), generator=generator)
    clean = centres[label] + 0.3 * torch.randn(600, 2, generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 3))
    optimizer = torch.optim.Adam(teacher.parameters(), lr=1e-2)
    for _ in range(150):
        loss = nn.functional.cross_entropy(teacher(clean), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    denoiser = Denoiser(lambda x, t: x, SCHEDULE)
    experts = distill_experts(denoiser, teacher, clean, [0.4], steps=150, rank=2, lr=1e-2, seed=1)
    noise = torch.randn(600, 2, generator=generator)
    for t, better in ((0.2, -0.05), (0.7, 0.1)):
        x = denoiser.add_noise(clean, noise, t)
        ours = experts(x, t, target=label).mean()
        theirs = teacher(x).log_softmax(1).gather(1, label[:, None]).mean()
        assert ours > theirs + better
