"""Self-guidance on a Gaussian process whose score, and whose posterior, are known in closed form.

x ~ N(0, K), K_ij = phi^|i-j| (an AR(1) process), 36 of 48 steps observed. The exact noise prediction is
sigma (alpha^2 K + sigma^2)^-1 x; the posterior of the rest is the usual conditional normal.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from scidiffuse.core import grids
from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.sample import sample
from scidiffuse.core.samplers import DDIM, DDPM
from scidiffuse.core.schedules import DiscreteBetas
from scidiffuse.timeseries.guidance import (
    AncestralGuidance,
    DivergenceError,
    DivergenceGuard,
    MSEGuidance,
    QuantileGuidance,
    SelfGuided,
    quantile_levels,
)

L, SEEN, S = 48, 36, 300
SCHEDULE = DiscreteBetas.linear(1e-4, 0.1, 100)
K = 0.9 ** (torch.arange(L)[:, None] - torch.arange(L)[None]).abs().double()
VALUES, VECTORS = torch.linalg.eigh(K)


class Oracle:
    """The exact noise prediction of the process; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def matrix(self, label: float) -> torch.Tensor:
        ab = SCHEDULE.alphas_cumprod[round(label)]
        return (1 - ab) ** 0.5 * (VECTORS / (ab * VALUES + 1 - ab)) @ VECTORS.T

    def __call__(self, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return (x[..., 0] @ self.matrix(float(label[0])))[..., None]


def problem(seed: int = 0):
    y = torch.linalg.cholesky(K) @ torch.randn(L, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    gain = torch.linalg.solve(K[:SEEN, :SEEN], K[:SEEN, SEEN:]).T
    mean, cov = gain @ y[:SEEN], K[SEEN:, SEEN:] - gain @ K[:SEEN, SEEN:]
    observed = torch.zeros(L, dtype=torch.bool)
    observed[:SEEN] = True
    return y, observed, mean, cov.diagonal().sqrt()


def run(guidance, sampler="ddpm", steps=100, seed=0, paths=S, guard="raise", **options):
    y, observed, _, _ = problem(seed)
    values = (y * observed).expand(paths, L)[..., None].contiguous()
    mask = observed.expand(paths, L)[..., None].contiguous()
    condition = {"values": values, "observed": mask}
    if guidance.leveled:
        condition["level"] = quantile_levels(paths)
    hooks = [AncestralGuidance(guidance.scale)] if sampler == "ddpm" else []
    if guard:
        hooks.append(DivergenceGuard(values, mask, action=guard, scale=guidance.scale))
    return sample(
        SelfGuided(Denoiser(Oracle(), SCHEDULE), guidance, sampler),
        DDPM() if sampler == "ddpm" else DDIM(),
        grids.discrete(SCHEDULE, steps, "trailing"),
        shape=(paths, L, 1),
        condition=condition,
        hooks=hooks,
        seed=seed,
        dtype=torch.float64,
        **options,
    ).x[..., 0]


def summary(x, seed=0):
    y, _, mean, sd = problem(seed)
    context = (x[:, :SEEN] - y[:SEEN]).square().mean().sqrt().item()
    return context, ((x[:, SEEN:].mean(0) - mean) / sd), x[:, SEEN:].std(0) / sd


# ---------------------------------------------------------------- against the closed-form posterior


@pytest.mark.parametrize("scale", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_mse_guidance_reaches_the_posterior(scale, seed):
    """Guidance is soft: the context is met within half a prior sd, tighter as s grows; means and sds follow."""
    context, error, ratio = summary(run(MSEGuidance(scale), seed=seed), seed)
    assert context < {1.0: 0.5, 2.0: 0.42, 4.0: 0.35}[scale]
    assert error.abs().max() < 1.0 and error[-1].abs() < 0.4
    assert ratio.min() > 0.8 and ratio.max() < 1.35
    assert 0.88 < ratio[-1] < 1.05


@pytest.mark.parametrize("scale", [2.0, 4.0, 8.0, 16.0])
def test_quantile_guidance_is_bounded_and_right_far_ahead(scale):
    context, error, ratio = summary(run(QuantileGuidance(scale)))
    assert context < 1.0
    assert error[-1].abs() < 0.4 and 0.85 < ratio[-1] < 1.15
    assert error.abs().max() < 1.5 and 0.9 < ratio[0] < 2.5


def test_a_stronger_scale_fits_the_context_better_until_it_breaks():
    errors = [summary(run(MSEGuidance(s)))[0] for s in (0.0, 0.5, 1.0, 2.0, 4.0)]
    assert all(a > b for a, b in itertools.pairwise(errors))


@pytest.mark.parametrize("scale", [8.0, 16.0])
def test_mse_guidance_diverges_at_8_and_the_guard_says_so(scale):
    with pytest.raises(DivergenceError, match=rf"Reduce the scale \(now {scale:g}\)"):
        run(MSEGuidance(scale))
    with pytest.warns(UserWarning, match="guidance diverged") as told:
        x = run(MSEGuidance(scale), guard="warn", max_batch=100)
    assert len(told) == 1
    assert summary(x)[0] > 2.0  # worse than predicting zero: it really was broken


@pytest.mark.parametrize("guidance", [MSEGuidance(4.0), QuantileGuidance(16.0)])
def test_the_guard_leaves_working_guidance_alone(guidance):
    assert torch.equal(run(guidance, paths=40), run(guidance, paths=40, guard=None))


def test_levels_order_the_paths():
    """Path i is sent to level i/(S+1): on average over steps the ensemble is sorted."""
    x = run(QuantileGuidance(4.0), paths=64)
    centre = x[:, :SEEN].mean(1)
    low, high = centre[:16].mean(), centre[-16:].mean()
    assert high - low > 0.5
    rank = centre.argsort().argsort().double()
    assert np.corrcoef(rank, np.arange(64))[0, 1] > 0.8


# ---------------------------------------------------------------- the formulas, step by step


def energy_gradient(x, t, y, observed, guidance, level):
    """By the chain rule on the linear oracle: xhat0 = J x, J = (1 - sigma M)/alpha."""
    alpha, sigma = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
    J = (torch.eye(L, dtype=torch.float64) - sigma * Oracle().matrix(t * 100 - 1)) / alpha
    e = (y - x @ J.T) * observed
    slope = 2 * e if not guidance.leveled else torch.where(e > 0, level[:, None], level[:, None] - 1.0) * (e != 0)
    return -(slope * observed) @ J


@pytest.mark.parametrize("guidance", [MSEGuidance(1.5), QuantileGuidance(3.0)])
@pytest.mark.parametrize("t", [0.02, 0.37, 1.0])
def test_ddim_rule_moves_the_noise_by_s_sigma_grad(guidance, t):
    y, observed, _, _ = problem()
    x = torch.randn(5, L, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    level = quantile_levels(5)
    network = Oracle()
    guided = SelfGuided(Denoiser(network, SCHEDULE), guidance)
    wide = {"values": y.expand(5, L)[..., None], "observed": observed.expand(5, L)[..., None], "level": level}
    pred = guided(x[..., None], t, **wide)
    assert network.calls == 1  # one forward serves the noise and the gradient
    grad = energy_gradient(x, t, y, observed, guidance, level.double())
    plain = pred.parts["unguided"]
    assert torch.allclose(pred.gradient[..., 0], grad, rtol=1e-9, atol=1e-12)
    moved = guidance.scale * SCHEDULE.sigma(t) * grad
    assert torch.allclose((pred.noise - plain.noise)[..., 0], moved, rtol=1e-9, atol=1e-12)
    back = SCHEDULE.alpha(t) * pred.data + SCHEDULE.sigma(t) * pred.noise
    assert torch.allclose(back[..., 0], x, atol=1e-12)  # data and noise still explain the state


def test_ddpm_rule_equals_the_published_loop():
    """x <- p_sample(x, t) - s btilde_t grad E(x, t), written out with the table of betas and the same noise."""
    guidance, paths = MSEGuidance(2.0), 4
    y, observed, _, _ = problem()
    from scidiffuse.core.noise import SlotNoise

    noise, like = SlotNoise(0, range(paths)), torch.empty(paths, L, 1, dtype=torch.float64)
    x = noise(like, 0, "prior")[..., 0]
    draw = 0
    for i in reversed(range(100)):
        beta, ab = SCHEDULE.betas[i], SCHEDULE.alphas_cumprod[i]
        before = SCHEDULE.alphas_cumprod[i - 1] if i else 1.0
        small = beta * (1 - before) / (1 - ab)
        eps = x @ Oracle().matrix(i)
        grad = energy_gradient(x, (i + 1) / 100, y, observed, guidance, None)
        mean = (x - beta / (1 - ab) ** 0.5 * eps) / (1 - beta) ** 0.5
        z = noise(like, draw, "step")[..., 0] if i else 0.0
        x, draw = mean + small**0.5 * z - guidance.scale * small * grad, draw + 1
    assert torch.allclose(run(guidance, paths=paths), x, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_scale_zero_is_unguided(sampler):
    plain = sample(
        Denoiser(Oracle(), SCHEDULE),
        DDPM() if sampler == "ddpm" else DDIM(),
        grids.discrete(SCHEDULE, 20, "trailing"),
        shape=(6, L, 1),
        seed=0,
        dtype=torch.float64,
    ).x[..., 0]
    assert torch.allclose(run(MSEGuidance(0.0), sampler, 20, paths=6, guard=None), plain, atol=1e-12)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_batches_do_not_change_the_paths(sampler):
    whole = run(QuantileGuidance(1.0), sampler, 20, paths=24)
    assert torch.allclose(run(QuantileGuidance(1.0), sampler, 20, paths=24, max_batch=7), whole, atol=1e-10)


def test_hidden_entries_do_not_matter():
    """What lies behind the mask may be anything."""
    y, observed, _, _ = problem()
    x = torch.randn(3, L, 1, dtype=torch.float64)
    guided = SelfGuided(Denoiser(Oracle(), SCHEDULE), MSEGuidance(1.0))
    mask = observed.expand(3, L)[..., None]
    a = guided(x, 0.5, values=y.expand(3, L)[..., None], observed=mask)
    b = guided(x, 0.5, values=(y + 1e3 * ~observed).expand(3, L)[..., None], observed=mask)
    assert torch.equal(a.noise, b.noise)


# ---------------------------------------------------------------- bad input


def test_levels():
    assert quantile_levels(4, 2).tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8] * 2)
    with pytest.raises(ValueError, match="num_samples=1"):
        quantile_levels(1)


@pytest.mark.parametrize("bad", [-1.0, float("inf"), float("nan"), "2"])
def test_scales_must_be_finite_and_not_negative(bad):
    with pytest.raises(ValueError, match="scale"):
        MSEGuidance(bad)
    with pytest.raises(ValueError, match="scale"):
        QuantileGuidance(bad)


def test_shapes_times_and_rules_are_checked():
    denoiser, x = Denoiser(Oracle(), SCHEDULE), torch.zeros(2, L, 1, dtype=torch.float64)
    mask = torch.ones_like(x, dtype=torch.bool)
    with pytest.raises(ValueError, match="'ddim' or 'ddpm'"):
        SelfGuided(denoiser, MSEGuidance(), "heun")
    guided = SelfGuided(denoiser, MSEGuidance())
    with pytest.raises(ValueError, match="shape"):
        guided(x, 0.5, values=x[:, :3], observed=mask[:, :3])
    with pytest.raises(ValueError, match="one time"):
        guided(x, torch.tensor([0.5, 0.5]), values=x, observed=mask)
    with pytest.raises(ValueError, match="level"):
        SelfGuided(denoiser, QuantileGuidance())(x, 0.5, values=x, observed=mask)
    with pytest.raises(ValueError, match="gradient"):
        sample(denoiser, DDPM(), grids.discrete(SCHEDULE, 5, "trailing"), shape=(2, L, 1), seed=0, dtype=torch.float64,
               hooks=[AncestralGuidance(1.0)])  # fmt: skip
