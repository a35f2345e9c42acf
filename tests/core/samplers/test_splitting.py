import math

import pytest
import torch

from scidiffuse.core import grids
from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.noise import Recorded
from scidiffuse.core.sample import sample
from scidiffuse.core.samplers import S4, PredictorCorrector
from scidiffuse.core.schedules import VE, CondOT, VPLinear

VARIANCE = 0.3
SCHEDULES = [VPLinear(), VE(0.05, 5.0), CondOT()]


def marginal(schedule, t, variance=VARIANCE):
    return schedule.alpha(t) ** 2 * variance + schedule.sigma(t) ** 2


def gaussian(schedule):
    def network(x, t):
        t = t.double()
        gain = schedule.alpha(t) * VARIANCE / marginal(schedule, t)
        return gain.to(x).reshape(-1, *[1] * (x.ndim - 1)) * x

    return Denoiser(network, schedule, "data", label=lambda schedule, t: t)


def energy(a, b):
    def mean(p, q):
        return torch.cdist(p, q).mean()

    return float(2 * mean(a, b) - mean(a, a) - mean(b, b))


@pytest.mark.parametrize("weight", ["left", "integrated"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_one_step_is_half_linear_score_half_linear(schedule, weight):
    """The merged step equals the three maps of the splitting, one after the other."""
    s, t = 0.6, 0.45 if weight == "left" else 0.58
    m = (s + t) / 2
    x, z1, z2 = torch.randn(3, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sampler = S4(snr=0.0, weight=weight, denoise=False)

    def linear(x, z, s, t):
        a = schedule.alpha(t)
        return a / schedule.alpha(s) * x + a * math.sqrt(schedule.kappa(s) ** 2 - schedule.kappa(t) ** 2) * z

    if weight == "left":
        w = schedule.g2(s) * (s - t)
    else:  # Simpson's rule on g^2
        w = (s - t) / 6 * (schedule.g2(s) + 4 * schedule.g2(m) + schedule.g2(t))
    expected = linear(linear(x, z1, s, m) - w * x / marginal(schedule, s), z2, m, t)
    # the merged noise: the same law, here the same number
    a_t = schedule.alpha(t)
    n1 = a_t * math.sqrt(schedule.kappa(s) ** 2 - schedule.kappa(m) ** 2)
    n2 = a_t * math.sqrt(schedule.kappa(m) ** 2 - schedule.kappa(t) ** 2)
    z = (n1 * z1 + n2 * z2) / math.hypot(n1, n2)
    run = sample(gaussian(schedule), sampler, grids.explicit([s, t]), x=x, noise=Recorded([z]), dtype=torch.float64)
    tolerance = 1e-10 if weight == "left" else 0.02 * w  # the integral is approximated to third order
    assert (run.x - expected).abs().max() < tolerance
    assert run.calls == 1


def test_the_integral_is_of_third_order():
    schedule = VPLinear()
    errors = []
    for dt in (0.1, 0.05):
        s, t = 0.5, 0.5 - dt
        move = S4(weight="integrated", denoise=False).plan(schedule, grids.explicit([s, t])).moves[0]
        w = -move.n * schedule.sigma(s) / schedule.alpha(t) * schedule.alpha((s + t) / 2)
        exact = -2 * (schedule.log_alpha(s) - schedule.log_alpha(t))  # int of g^2 = beta
        errors.append(abs(w - exact))
    assert errors[0] / errors[1] > 2**2.8


def test_the_linear_part_is_exact_for_any_step():
    """Without a score (infinitely wide data) only F is left: one step is as good as a hundred."""
    schedule, s, t = VPLinear(), 0.9, 0.2
    factors, variances = [], []
    for steps in (1, 100):
        factor, variance = 1.0, 0.0
        for move in S4(snr=0.0, denoise=False).plan(schedule, grids.uniform(steps, s, t)).moves:
            factor, variance = factor * move.x, variance * move.x**2 + move.z**2
        factors.append(factor)
        variances.append(variance)
    assert factors[0] == pytest.approx(factors[1], rel=1e-12)
    assert variances[0] == pytest.approx(variances[1], rel=1e-12)


def variance_error(schedule, sampler, steps, variance):
    """Relative error of the final variance of Gaussian data, by the exact recursion."""
    grid = grids.log_snr(schedule, steps, start=0.95, end=0.01)
    v = marginal(schedule, grid.start, variance)
    for move in sampler.plan(schedule, grid).moves:
        v = (move.x + move.n * schedule.sigma(move.t) / marginal(schedule, move.t, variance)) ** 2 * v + move.z**2
    return abs(v / marginal(schedule, grid.end, variance) - 1)


@pytest.mark.parametrize("weight", ["left", "integrated"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_weak_order_one(schedule, weight):
    sampler = S4(snr=0.0, weight=weight, denoise=False)
    for variance in (0.05, 1.0, 4.0):
        coarse, fine = (variance_error(schedule, sampler, steps, variance) for steps in (400, 800))
        assert coarse / fine > 2**0.9 and fine < 0.03


@pytest.mark.parametrize("schedule", [VPLinear(), VE(0.01, 8.0)], ids=lambda s: type(s).__name__)
def test_mixture_at_equal_calls(schedule):
    """One call for correction and step: better than the two calls of a predictor-corrector method."""
    mixture, calls = GaussianMixture.example(), 24
    truth = mixture.sample(3000, torch.Generator().manual_seed(1))
    distances = {}
    for name, sampler, steps in (("s4", S4(), calls), ("pc", PredictorCorrector("euler_maruyama"), calls // 2)):
        vp = isinstance(schedule, VPLinear)
        grid = grids.uniform(steps) if vp else grids.log_snr(schedule, steps, final_zero=True)
        run = sample(mixture.denoiser(schedule), sampler, grid, shape=(3000, 2), seed=0)
        assert run.calls == calls
        distances[name] = energy(run.x.double(), truth)
    assert distances["s4"] < distances["pc"]
    assert distances["s4"] < 0.02


def test_the_last_step_is_quiet_and_uncorrected():
    schedule, grid, x = VPLinear(), grids.uniform(4), torch.ones(2, 3)
    before = sample(gaussian(schedule), S4(), grid, x=x, seed=0, until=3)
    ends = [sample(gaussian(schedule), S4(), grid, state=before.state, seed=seed) for seed in (0, 1)]
    assert torch.equal(ends[0].x, ends[1].x) and ends[0].state.draws == 3
    published = [
        sample(gaussian(schedule), S4(compat="published"), grid, state=before.state, seed=seed) for seed in (0, 1)
    ]
    assert not torch.equal(published[0].x, published[1].x)  # the correction's noise stays


def test_the_correction_uses_the_same_call():
    schedule, s, t = VPLinear(), 0.6, 0.5
    x, zc, z = torch.randn(3, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noise = Recorded([zc, z])
    run = sample(gaussian(schedule), S4(denoise=False), grids.explicit([s, t]), x=x, noise=noise, dtype=torch.float64)
    score, a2 = -x / marginal(schedule, s), (schedule.alpha(s) / schedule.alpha(t)) ** 2
    eps = 2 * a2 * (0.16 * (math.sqrt(3) / score.norm(dim=1, keepdim=True)).clamp_max(schedule.sigma(s))) ** 2
    corrected = x + eps * score + (2 * eps).sqrt() * zc
    move = S4(denoise=False).plan(schedule, grids.explicit([s, t])).moves[0]
    torch.testing.assert_close(run.x, move.x * corrected - move.n * schedule.sigma(s) * score + move.z * z)
    assert run.calls == 1


def test_refusals():
    for bad in ({"snr": -1.0}, {"scale_eps": math.inf}, {"weight": "middle"}, {"compat": "x"}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            S4(**bad)
    with pytest.raises(ValueError, match=r"alpha = 0 at the start t=1.0"):
        S4().plan(CondOT(), grids.uniform(3))
    with pytest.raises(ValueError, match="ascends"):
        S4().plan(VPLinear(), grids.uniform(3, 0.1, 0.9))
