"""The Gaussian autoregressive oracle, and guidance held to it: exact laws first, then how far off they are."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from scidiffuse.core import grids
from scidiffuse.core.sample import sample
from scidiffuse.core.samplers import DDIM, DDPM
from scidiffuse.core.schedules import VE, CondOT, DiscreteBetas, PFGMpp, VPCosine
from scidiffuse.timeseries import guidance as module
from scidiffuse.timeseries.guidance import (
    AncestralGuidance,
    MSEGuidance,
    QuantileGuidance,
    SelfGuided,
    quantile_levels,
)
from scidiffuse.timeseries.oracle import GaussianAR, Normal, guided_gain, guided_law

SCHEDULE = DiscreteBetas.linear(1e-4, 0.1, 100)
L, H = 48, 12
AR2 = (1.2, -0.5)


def seen(kind: str = "whole", length: int = L, horizon: int = H) -> torch.Tensor:
    """Observed entries of a window whose horizon is not: the paper's patterns of 50 % missing contexts."""
    mask = torch.arange(length) < length - horizon
    context = length - horizon
    if kind == "RM":
        gone = torch.randperm(context, generator=torch.Generator().manual_seed(0))[: context // 2]
        mask[gone] = False
    elif kind == "BM-B":
        mask[: context // 2] = False
    elif kind == "BM-E":
        mask[context - context // 2 : context] = False
    return mask


# ---------------------------------------------------------------- the process


def test_autocovariance_is_that_of_long_simulated_series_and_of_ar1():
    assert np.allclose(GaussianAR([0.9], 20).autocovariance, 0.9 ** np.arange(21), atol=1e-14)
    oracle = GaussianAR(AR2, 8, variance=2.0, mean=3.0)
    rng, y = np.random.default_rng(0), np.zeros(200_000)
    e = oracle.innovation * rng.normal(size=len(y))
    for t in range(2, len(y)):
        y[t] = AR2[0] * y[t - 1] + AR2[1] * y[t - 2] + e[t]
    g = [np.mean(y[100 : len(y) - 10] * y[100 + k : len(y) - 10 + k]) for k in range(8)]
    assert np.allclose(g, oracle.autocovariance[:8], atol=0.05)


def test_yule_walker_holds_at_every_lag():
    oracle = GaussianAR((0.5, 0.2, -0.3), 30)
    g, phi = oracle.autocovariance, oracle.coefficients
    for k in range(31):
        right = sum(phi[j - 1] * g[abs(k - j)] for j in (1, 2, 3)) + oracle.innovation**2 * (k == 0)
        assert g[k] == pytest.approx(right, abs=1e-13)


def test_without_coefficients_it_is_white_noise():
    assert torch.equal(GaussianAR([], 5, variance=2.0).covariance, 2.0 * torch.eye(5, dtype=torch.float64))


@pytest.mark.parametrize("phi", [[1.0], [0.7, 0.4], [-1.2]])
def test_processes_that_are_not_stationary_are_refused(phi):
    with pytest.raises(ValueError, match="stationary process: the largest root has the modulus"):
        GaussianAR(phi, 10)


@pytest.mark.parametrize("bad", [{"length": 0}, {"variance": 0.0}, {"lags": (0,)}])
def test_other_settings_are_checked(bad):
    with pytest.raises(ValueError, match="need length >= 1"):
        GaussianAR([0.5], **{"length": 5, **bad})


# ---------------------------------------------------------------- the denoiser


@pytest.mark.parametrize("prediction", ["noise", "data"])
@pytest.mark.parametrize("schedule", [SCHEDULE, VPCosine(), VE(), CondOT()])
@pytest.mark.parametrize("t", [0.03, 0.5, 0.9])
def test_it_is_the_posterior_mean_under_every_schedule(schedule, prediction, t):
    """E[x0 | x] is also the regression on a window observed with noise s/a: another formula for the same number."""
    oracle = GaussianAR(AR2, 16, mean=0.7)
    x = torch.randn(3, 16, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a, s = schedule.alpha(t), schedule.sigma(t)
    pred = oracle.denoiser(schedule, prediction)(x, t)
    for k in range(3):
        posterior = oracle.condition(x[k, :, 0] / a, torch.ones(16, dtype=torch.bool), noise=s / a)
        assert torch.allclose(pred.data[k, :, 0], posterior.mean, atol=1e-6)
    assert torch.allclose(a * pred.data + s * pred.noise, x, atol=1e-9)
    each = oracle.denoiser(schedule, prediction)(x, torch.full((3,), t, dtype=torch.float64))  # one time a sample
    assert torch.allclose(each.data, pred.data, atol=1e-6)


def test_its_score_is_the_gradient_of_the_log_density():
    oracle = GaussianAR([0.9], 10)
    x = torch.randn(1, 10, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    a, s = SCHEDULE.alpha(0.3), SCHEDULE.sigma(0.3)
    law = torch.distributions.MultivariateNormal(
        torch.zeros(10, dtype=torch.float64), a * a * oracle.covariance + s * s * torch.eye(10, dtype=torch.float64)
    )
    z = x[0, :, 0].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(law.log_prob(z), z)
    assert torch.allclose(oracle.denoiser(SCHEDULE)(x, 0.3).score[0, :, 0], gradient, atol=1e-6)


def test_schedules_it_does_not_know_are_refused():
    with pytest.raises(ValueError, match="Gaussian schedules"):
        GaussianAR([0.5], 4).denoiser(PFGMpp())
    with pytest.raises(ValueError, match="prediction"):
        GaussianAR([0.5], 4).denoiser(SCHEDULE, "flow")


# ---------------------------------------------------------------- the posterior


@pytest.mark.parametrize("kind", ["whole", "RM", "BM-B", "BM-E"])
def test_the_posterior_is_that_of_the_precision_matrix(kind):
    """K^-1 of an AR(2) is banded; the conditional law of the rest has the precision block of the rest."""
    oracle, o = GaussianAR(AR2, L, mean=-1.0), seen(kind)
    y = oracle.prior.draw(1, 3)[0]
    law, Q = oracle.condition(y, o), torch.linalg.inv(oracle.covariance)
    assert (Q[torch.ones(L, L).triu(3).bool()]).abs().max() < 1e-9
    cov = torch.linalg.inv(Q[~o][:, ~o])
    mean = -1.0 - cov @ Q[~o][:, o] @ (y[o] + 1.0)
    assert torch.allclose(law.mean[~o], mean, atol=1e-9) and torch.allclose(law.covariance[~o][:, ~o], cov, atol=1e-9)
    assert torch.equal(law.mean[o], y[o]) and not law.covariance[o].any()


def test_a_markov_process_forgets_all_but_the_last_value():
    oracle, y = GaussianAR([0.9], L), torch.randn(L, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    law, k = oracle.condition(y, seen()), torch.arange(1, H + 1).double()
    assert torch.allclose(law.mean[-H:], 0.9**k * y[L - H - 1], atol=1e-10)
    assert torch.allclose(law.sd[-H:].square(), 1 - 0.81**k, atol=1e-10)


def test_nothing_observed_gives_the_prior_and_shapes_are_checked():
    oracle = GaussianAR([0.9], 6)
    assert torch.equal(oracle.condition(torch.zeros(6), torch.zeros(6, dtype=torch.bool)).covariance, oracle.covariance)
    with pytest.raises(ValueError, match="6 entries"):
        oracle.condition(torch.zeros(5), torch.ones(5, dtype=torch.bool))


def test_lag_channels_are_the_past_of_the_same_series():
    oracle = GaussianAR([0.9], 8, lags=(3, 10))
    x = oracle.prior.draw(4, 0).reshape(4, 8, 3)
    assert torch.allclose(x[:, 3:, 1], x[:, :-3, 0], atol=1e-6)  # the same values, twice in a window
    assert torch.allclose(oracle.covariance.reshape(8, 3, 8, 3)[0, 0, 0, 2], torch.tensor(0.9**10).double())
    observed = torch.zeros(8, 3, dtype=torch.bool)
    observed[:5, 0] = True
    law = oracle.condition(x[0], observed)
    told = law.mean.reshape(8, 3)[3:, 1], law.sd.reshape(8, 3)[3:, 1]  # what channel 0 shows, the lag channel knows
    assert torch.allclose(told[0], x[0, :5, 0], atol=1e-6) and told[1].max() < 1e-6
    observed[3:, 1] = True  # entries told twice do no harm
    assert torch.allclose(oracle.condition(x[0], observed).mean, law.mean, atol=1e-6)
    noisy = oracle.denoiser(SCHEDULE)(x, 0.01)
    assert noisy.data.shape == x.shape


# ---------------------------------------------------------------- laws of sums


def test_linear_and_truncated_moments():
    law = Normal(torch.tensor([1.0, -2.0]).double(), torch.tensor([[2.0, 0.6], [0.6, 1.0]]).double())
    w = torch.tensor([1.0, 2.0])
    m, sd = law.linear(w)
    assert (m, sd) == (pytest.approx(-3.0), pytest.approx(math.sqrt(2 + 4 * 0.6 + 4)))
    p, mean, cov = law.exceeding(w, -1.0)
    one = stats.truncnorm((-1.0 - m) / sd, np.inf, m, sd)
    assert p == pytest.approx(stats.norm.sf(-1.0, m, sd))
    assert float(w.double() @ mean) == pytest.approx(one.mean())
    assert float(w.double() @ cov @ w.double()) == pytest.approx(one.var())
    x = law.draw(400_000, 0)
    x = x[(x @ w.double()) >= -1.0]
    assert torch.allclose(x.mean(0), mean, atol=0.02) and torch.allclose(torch.cov(x.T), cov, atol=0.03)
    part = law.take([1])
    assert part.mean.tolist() == [-2.0] and part.sd.tolist() == [1.0]


# ---------------------------------------------------------------- guidance


ORACLE = GaussianAR([0.9], L)


def guided(guidance, rule, steps, y, o, paths=2000, oracle=ORACLE, seed=0):
    shape = (paths, oracle.length, 1)
    values, mask = (v.expand(paths, oracle.length)[..., None].contiguous() for v in (y * o, o))
    condition = {"values": values, "observed": mask}
    if guidance.leveled:
        condition["level"] = quantile_levels(paths)
    return sample(
        SelfGuided(oracle.denoiser(SCHEDULE), guidance, rule),
        DDPM() if rule == "ddpm" else DDIM(),
        grids.discrete(SCHEDULE, steps, "trailing"),
        shape=shape,
        condition=condition,
        hooks=[AncestralGuidance(guidance.scale)] if rule == "ddpm" else [],
        seed=seed,
        dtype=torch.float64,
    ).x[..., 0]


def law_of(scale, rule, steps, y, o, oracle=ORACLE):
    return guided_law(oracle, SCHEDULE, grids.discrete(SCHEDULE, steps, "trailing").times, scale, y, o, rule)


@pytest.mark.parametrize("kind", ["whole", "RM"])
@pytest.mark.parametrize(("rule", "steps", "scale"), [("ddpm", 50, 2.0), ("ddim", 20, 0.5), ("ddim", 50, 2.0)])
def test_mse_guidance_has_the_law_that_its_formulas_say(rule, steps, scale, kind):
    """Sampled paths against the law carried through the formulas of the paper: nothing but Monte Carlo noise."""
    o, y = seen(kind), ORACLE.prior.draw(1, 3)[0]
    x, law = guided(MSEGuidance(scale), rule, steps, y, o), law_of(scale, rule, steps, y, o)
    z = (x.mean(0) - law.mean) / (law.sd / len(x) ** 0.5)
    assert z.abs().max() < 4.5 and z.square().mean() < 2.5
    assert torch.allclose(x.std(0), law.sd, rtol=0.08)
    apart = (torch.cov(x.T) - law.covariance).abs()  # n times its variance is at most 2 v_i v_j
    assert (apart / torch.outer(law.sd, law.sd)).max() < 5.5 * (2 / len(x)) ** 0.5


def test_the_law_knows_a_mean():
    oracle, o = GaussianAR(AR2, L, mean=2.0), seen()
    y = oracle.prior.draw(1, 5)[0]
    for rule in ("ddpm", "ddim"):
        x, law = guided(MSEGuidance(1.0), rule, 20, y, o, oracle=oracle), law_of(1.0, rule, 20, y, o, oracle)
        assert ((x.mean(0) - law.mean) / (law.sd / len(x) ** 0.5)).abs().max() < 4.5


def errors(scale, rule, steps, kind="whole"):
    """Guided laws against posteriors, averaged over all contexts that the process makes, in closed form: the rms left
    on the context; on the horizon the bias in posterior sds (rms over steps) and the mean ratio of the sds."""
    o, K = seen(kind), ORACLE.covariance
    gain, _, cov = guided_gain(ORACLE, SCHEDULE, grids.discrete(SCHEDULE, steps, "trailing").times, scale, o, rule)
    post = ORACLE.condition(torch.zeros(L), o)
    right = torch.zeros_like(gain)
    right[:, o] = K[:, o] @ torch.linalg.inv(K[o][:, o])
    off = ((gain - right) @ K @ (gain - right).T).diagonal()
    horizon = torch.arange(L) >= L - H
    left = (off + cov.diagonal())[o].mean().sqrt()
    bias = (off / post.sd.square())[horizon].mean().sqrt()
    return float(left), float(bias), float((cov.diagonal().sqrt() / post.sd)[horizon].mean())


def test_unguided_sampling_is_the_prior_up_to_its_steps():
    y, o = ORACLE.prior.draw(1, 0)[0], seen()
    for rule, steps, worst in (("ddpm", 100, 0.05), ("ddpm", 50, 0.08), ("ddim", 100, 0.05), ("ddim", 20, 0.09)):
        law = law_of(0.0, rule, steps, y, o)
        assert (law.sd - 1).abs().max() < worst and law.mean.abs().max() < 1e-12


#: scale: (context rms, bias of the horizon in posterior sds, ratio of sds). No sampling: these are exact to the digits.
TABLE = {
    ("ddpm", 100): {0.5: (0.51, 0.35, 1.03), 1.0: (0.42, 0.33, 0.99), 2.0: (0.34, 0.35, 0.95), 4.0: (0.26, 0.41, 0.93)},
    ("ddim", 100): {0.5: (0.46, 0.44, 0.99), 1.0: (0.37, 0.48, 0.95), 2.0: (0.29, 0.53, 0.92), 4.0: (0.21, 0.61, 0.89)},
    ("ddim", 20): {0.25: (0.54, 0.45, 0.99), 0.5: (0.44, 0.45, 0.94), 1.0: (0.34, 0.48, 0.90), 2.0: (0.26, 0.54, 0.87)},
}


@pytest.mark.parametrize(("rule", "steps"), TABLE)
def test_the_bias_of_mse_guidance_is_the_documented_one(rule, steps):
    for scale, row in TABLE[rule, steps].items():
        assert errors(scale, rule, steps) == pytest.approx(row, abs=0.006), scale
    for scale, row in TABLE[rule, steps].items():
        assert "     ".join(f"{v:.2f}" for v in row) in module.__doc__, scale  # the table in the module says the same


def test_no_scale_is_exact_and_which_ones_break():
    best = {rule: min(errors(s, *rule)[1] for s in (0.25, 0.5, 1.0, 2.0, 4.0)) for rule in TABLE}
    assert all(0.3 < b < 0.5 for b in best.values())
    assert not errors(8.0, "ddpm", 100)[0] < 1e3 and errors(8.0, "ddim", 100)[0] < 0.2
    assert errors(4.0, "ddim", 20)[0] > 100  # fewer steps bear a smaller scale


def test_missing_contexts_are_harder_by_what_they_hide():
    """One model, no retraining: the guided law follows the posterior of each pattern of missing values."""
    out = {kind: errors(1.0, "ddpm", 50, kind) for kind in ("whole", "RM", "BM-B", "BM-E")}
    assert all(0.94 < ratio < 0.98 for _, _, ratio in out.values())
    found = {kind: round(bias, 2) for kind, (_, bias, _) in out.items()}
    assert found == {"whole": 0.34, "RM": 0.22, "BM-B": 0.34, "BM-E": 0.1}  # what is far away does not matter


def test_white_noise_is_guided_exactly_at_no_constant_scale():
    """Observed entries of white noise of variance k: the right scale is (a^2 k + s^2) / (2 s^2 k), one a time."""
    white, y = GaussianAR([], L), ORACLE.prior.draw(1, 1)[0]
    o, t = seen(), 0.4
    a, s = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
    x = torch.randn(1, L, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scale = (a * a + s * s) / (2 * s * s)
    wide = {"values": y.reshape(1, L, 1), "observed": o.reshape(1, L, 1)}
    pred = SelfGuided(white.denoiser(SCHEDULE), MSEGuidance(scale))(x, t, **wide)
    want = torch.where(o, y, a * x[0, :, 0])  # E[x0 | x, y]
    assert torch.allclose(pred.data[0, :, 0], want, atol=1e-6)


@pytest.mark.parametrize(("rule", "steps", "scale"), [("ddpm", 100, 4.0), ("ddim", 20, 2.0)])
def test_quantile_guidance_against_the_posterior(rule, steps, scale):
    """The ensemble as a forecast: its CRPS, averaged over contexts, beside that of the exact posterior."""
    from scidiffuse.timeseries.metrics import crps_ensemble, crps_normal

    ours, exact, blind = [], [], []
    for k in range(5):
        y = ORACLE.prior.draw(1, 100 + k)[0]
        x = guided(QuantileGuidance(scale), rule, steps, y, seen(), paths=100, seed=k)[:, -H:]
        post = ORACLE.condition(y, seen())
        future = post.take(torch.arange(L - H, L).tolist()).draw(200, k).numpy()
        wide = np.broadcast_to(x.numpy(), (200, 100, H))
        mean, sd = post.mean[-H:].numpy(), post.sd[-H:].numpy()
        ours.append(crps_ensemble(future, wide).mean())
        exact.append(crps_normal(future, np.tile(mean, (200, 1)), np.tile(sd, (200, 1))).mean())
        blind.append(crps_normal(future, np.zeros((200, H)), np.ones((200, H))).mean())
    ours, exact, blind = np.mean(ours), np.mean(exact), np.mean(blind)
    assert exact < ours < 1.1 * exact < blind  # measured: 1.03 and 1.07, against 1.15


def test_levels_are_the_quantiles_of_the_level_not_of_the_posterior():
    """Path i of S is sent to level k_i: the ensemble's mean over the horizon rises with i."""
    y = ORACLE.prior.draw(1, 3)[0]
    x = guided(QuantileGuidance(4.0), "ddpm", 50, y, seen(), paths=200)
    centre = x[:, : L - H].mean(1).reshape(10, 20).mean(1)
    assert all(a < b + 0.15 for a, b in itertools.pairwise(centre.tolist())) and centre[-1] - centre[0] > 0.4


@pytest.mark.parametrize("kind", ["RM", "BM-B", "BM-E"])
def test_the_verb_draws_that_law_from_a_frame_with_holes(kind):
    """TSDiff.forecast on the exact denoiser: scaling by what is observed, mask, guidance and units in one."""
    pd = pytest.importorskip("pandas")
    from scidiffuse import timeseries as ts

    model = ts.TSDiff(context_length=L - H, prediction_length=H, freq="h", scaler="standard")
    model.denoiser = ORACLE.denoiser(model.schedule)
    o, y = seen(kind), 50.0 + 7.0 * ORACLE.prior.draw(1, 8)[0].numpy()
    frame = pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2024-01-01", periods=L - H, freq="h")})
    frame["y"] = np.where(o, y, np.nan)[: L - H]
    panel = ts.Panel(("a",), (frame["ds"][0],), (frame["y"].to_numpy(),), "h")
    x = model.forecast(
        panel, num_samples=800, guidance=MSEGuidance(1.0), sampler="ddpm", steps=25, seed=0, max_batch=None
    ).samples[0]
    shift, scale = y[o].mean(), y[o].std()
    law = law_of(1.0, "ddpm", 25, torch.from_numpy((y - shift) / scale), o).take(list(range(L - H, L)))
    mean, sd = shift + scale * law.mean.numpy(), scale * law.sd.numpy()
    assert np.abs((x.mean(0) - mean) / sd).max() < 4.5 / 800**0.5
    assert np.allclose(x.std(0), sd, rtol=0.12)
