"""Time samplers against their closed-form distributions."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from scidiffuse.core.schedules import CondOT, VPLinear
from scidiffuse.core.training import (
    Discrete,
    EDMLogNormal,
    Keys,
    LogitNormal,
    Mode,
    PerElement,
    Shifted,
    Stratified,
    Uniform,
    hold_known,
)

U = torch.linspace(0.001, 0.999, 333, dtype=torch.float64)


def keyed(n, epoch=0):
    return Keys.of(7, epoch, range(n))


def test_uniform():
    t = Uniform(0.2, 0.7).quantile(U)
    assert torch.allclose((t - 0.2) / 0.5, U)


@pytest.mark.parametrize(("m", "s"), [(0.0, 1.0), (0.5, 0.6), (-1.0, 2.0)])
def test_logit_normal_distribution_function(m, s):
    t = LogitNormal(m, s).quantile(U)
    cdf = torch.special.ndtr((torch.logit(t) - m) / s)
    assert torch.allclose(cdf, U, atol=1e-12)


@pytest.mark.parametrize("s", [-1.0, 0.0, 0.8, 1.29, 1.75])
def test_mode_density_and_range(s):
    sampler = Mode(s)
    u = U.clone().requires_grad_()
    (slope,) = torch.autograd.grad(sampler.quantile(u).sum(), u)
    density = 1 / slope.abs()
    expected = 1 / (1 + s - s * math.pi / 2 * torch.sin(math.pi * U))
    assert torch.allclose(density, expected) and bool((slope < 0).all())
    ends = sampler.quantile(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    assert torch.allclose(ends, torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64), atol=1e-15)


def test_shift_is_sd3s():
    t = Shifted(Uniform(), 3.0).quantile(U)
    assert torch.allclose(t / (1 - t), 3 * U / (1 - U))  # multiplies the odds by k


@pytest.mark.parametrize("schedule", [VPLinear(), CondOT()])
def test_edm_log_normal_noise_level(schedule):
    t = EDMLogNormal(schedule).quantile(U)
    log_sigma = torch.log(schedule.sigma(t) / schedule.alpha(t))
    low, high = (stats.norm.cdf((-float(schedule.log_snr(e)) + 1.2) / 1.2) for e in (0.0, 1.0))
    came = torch.from_numpy(stats.norm.cdf((log_sigma.numpy() + 1.2) / 1.2))
    assert torch.allclose(came, low + (high - low) * U, atol=1e-9)


def test_discrete_hits_each_time_equally_often():
    t = Discrete(8).quantile(torch.linspace(0, 1, 8001, dtype=torch.float64)[:-1] + 1e-9)
    values, counts = (t * 8).round().long().unique(return_counts=True)
    assert values.tolist() == list(range(1, 9)) and set(counts.tolist()) == {1000}
    assert torch.equal(t * 8, (t * 8).round())


def test_keyed_draws_follow_the_distribution():
    u = keyed(4000).uniforms("time")
    t = LogitNormal().times(u)
    assert stats.kstest(torch.logit(t).numpy(), "norm").pvalue > 1e-3
    assert stats.kstest(u[:, 0].numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("base", [Uniform(), LogitNormal()])
def test_stratified_has_one_time_in_each_stratum(base):
    keys = keyed(64)
    t = Stratified(base).times(keys.uniforms("time"), keys.stratum, keys.strata)
    edges = base.quantile(torch.linspace(0, 1, 65, dtype=torch.float64).clamp(1e-12, 1 - 1e-12))
    counts = np.histogram(t.numpy(), edges.numpy())[0]
    assert (counts == 1).all()


def test_per_element_shares_or_not():
    n, length, p = 4000, 3, 0.2
    sampler = PerElement(Uniform(), p)
    t = sampler.times(keyed(n).uniforms("time", sampler.columns(length)))
    assert t.shape == (n, length)
    shared = (t == t[:, :1]).all(1)
    assert abs(float(shared.double().mean()) - (1 - p)) < 4 * math.sqrt(p * (1 - p) / n)
    apart = t[~shared]
    assert abs(float(np.corrcoef(apart.numpy().T)[0, 1])) < 4 / math.sqrt(len(apart))
    for column in (t[:, 0], t[:, 2], apart[:, 1]):
        assert stats.kstest(column.numpy(), "uniform").pvalue > 1e-3
    always, never = PerElement(Uniform(), 1.0), PerElement(Uniform(), 0.0)
    u = keyed(50).uniforms("time", 5)
    assert len(always.times(u).unique()) == 150 and len(never.times(u).unique()) == 50


def test_stratified_inside_per_element():
    keys = keyed(16)
    t = PerElement(Stratified(), 0.0).times(keys.uniforms("time", 6), keys.stratum, keys.strata)
    assert torch.equal((t[:, 0] * 16).floor(), torch.arange(16, dtype=torch.float64)) and t.shape == (16, 4)


def test_draw_for_plain_loops():
    generator = torch.Generator().manual_seed(0)
    t = Stratified().draw((10,), generator)
    assert torch.equal((t * 10).floor(), torch.arange(10, dtype=torch.float64))
    assert PerElement().draw((4, 6), generator).shape == (4, 6)
    again = torch.Generator().manual_seed(0)
    assert torch.equal(Stratified().draw((10,), again), t)
    with pytest.raises(ValueError, match=r"\(B, L\)"):
        PerElement().draw((4,), generator)


def test_known_elements_are_data():
    t = torch.tensor([0.3, 0.8], dtype=torch.float64)
    known = torch.tensor([[True, False, False], [False, False, True]])
    expected = torch.tensor([[0, 0.3, 0.3], [0.8, 0.8, 0]], dtype=torch.float64)
    assert torch.equal(hold_known(t, known), expected)
    assert torch.equal(hold_known(t[:, None].expand(2, 3), known), expected)
    with pytest.raises(TypeError, match="boolean"):
        hold_known(t, known.long())
    with pytest.raises(ValueError, match="fit t"):
        hold_known(t, known[:1])


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: Uniform(0.5, 0.5), "low=0.5"),
        (lambda: Uniform(-0.1, 1), "low=-0.1"),
        (lambda: Discrete(0), "T=0"),
        (lambda: LogitNormal(0, 0), "positive"),
        (lambda: Mode(1.8), "1.7519"),
        (lambda: Shifted(Uniform(), 0), "positive"),
        (lambda: EDMLogNormal(VPLinear(), mean=40.0), "misses the schedule's range"),
        (lambda: PerElement(p=1.1), "probability"),
        (lambda: Stratified().times(torch.rand(3, 1)), "stratum"),
    ],
)
def test_bad_values(build, match):
    with pytest.raises(ValueError, match=match):
        build()


def test_nesting_that_makes_no_sense():
    for build in (lambda: Shifted(PerElement()), lambda: Stratified(Stratified()), lambda: PerElement(PerElement())):
        with pytest.raises(TypeError, match="one time a sample"):
            build()
