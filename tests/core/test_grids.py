"""Grids: order, ends, spacing, and the index lists of diffusers' schedulers."""

import math

import pytest
import torch

from scidiffuse.core import grids
from scidiffuse.core.grids import Grid
from scidiffuse.core.schedules import (
    EDM,
    GVP,
    VE,
    CondOT,
    DiscreteBetas,
    MeanReverting,
    PFGMpp,
    ProductSchedule,
    Spectral,
    VPCosine,
    VPLinear,
)


def test_grid_basics():
    g = Grid((1.0, 0.5, 0.25, 0.0))
    assert len(g) == g.steps == 3
    assert (g.start, g.end, g.inner) == (1.0, 0.0, (0.5, 0.25))
    assert g.descending and not g.reverse().descending
    assert g.reverse().times == (0.0, 0.25, 0.5, 1.0)
    assert g.reverse().reverse() == g and hash(g.reverse().reverse()) == hash(g)
    assert g != g.reverse()
    assert g.pairs() == ((1.0, 0.5), (0.5, 0.25), (0.25, 0.0))
    assert repr(g) == "Grid(1, 0.5, 0.25, 0)"
    assert "50 steps" in repr(grids.uniform(50))
    assert Grid([1, 0]).times == (1.0, 0.0)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ((), "at least two"),
        ((0.7,), r"at least two.*0\.7"),
        ((1.0, 0.4, 0.4, 0.0), r"times\[1\] = 0\.4 is followed by times\[2\] = 0\.4"),
        ((1.0, 0.4, 0.6), r"decreasing.*0\.6"),
        ((0.0, 0.4, 0.3), r"increasing.*0\.3"),
        ((1.0, math.nan), r"times\[1\] = nan"),
        ((math.inf, 0.0), r"times\[0\] = inf"),
    ],
)
def test_grid_refuses(times, message):
    with pytest.raises(ValueError, match=message):
        Grid(times)


def test_uniform_and_quadratic():
    assert grids.uniform(4).times == (1.0, 0.75, 0.5, 0.25, 0.0)
    g = grids.quadratic(7, 0.9, 0.01)
    roots = torch.tensor(g.times).double().sqrt()
    even = torch.full((7,), (0.1 - math.sqrt(0.9)) / 7, dtype=torch.float64)
    torch.testing.assert_close(roots.diff(), even, rtol=0, atol=1e-6)
    assert (g.start, g.end) == (0.9, 0.01)
    with pytest.raises(ValueError, match=r"-0\.1"):
        grids.quadratic(3, 1.0, -0.1)
    with pytest.raises(ValueError, match="0"):
        grids.uniform(0)
    with pytest.raises(TypeError, match=r"2\.5"):
        grids.uniform(2.5)


@pytest.mark.parametrize("schedule", [VPLinear(), VPCosine(), EDM(), VE(), CondOT(3.0), DiscreteBetas.linear()])
def test_log_snr_is_even_in_log_snr(schedule):
    g = grids.check(grids.log_snr(schedule, 12), schedule)
    lam = torch.tensor([schedule.log_snr(t) for t in g.times], dtype=torch.float64)
    torch.testing.assert_close(lam.diff(), (lam[-1] - lam[0]).expand(12) / 12, rtol=1e-9, atol=1e-9)
    assert g.start == schedule.t_start and len(g) == 12
    with_zero = grids.log_snr(schedule, 12, final_zero=True)
    assert len(with_zero) == 12 and with_zero.end == 0.0 and with_zero.times[-2] == g.end
    with pytest.raises(ValueError, match=r"end=0\.0"):
        grids.log_snr(schedule, 5, end=0.0)


def test_log_snr_refuses_a_start_without_data():
    with pytest.raises(ValueError, match=r"start=1\.0"):
        grids.log_snr(CondOT(), 5, start=1.0)


@pytest.mark.parametrize("schedule", [EDM(), VE(), VPLinear(), CondOT(), PFGMpp(D=64)])
@pytest.mark.parametrize("rho", [1.0, 7.0])
def test_karras_levels(schedule, rho):
    n = 9
    g = grids.check(grids.karras(schedule, n, rho=rho, sigma_min=0.02, sigma_max=40.0), schedule)
    assert len(g) == n and g.end == 0.0
    for i, t in enumerate(g.times[:-1]):  # Karras et al., eq. 5
        level = (40 ** (1 / rho) + i / (n - 1) * (0.02 ** (1 / rho) - 40 ** (1 / rho))) ** rho
        assert schedule.kappa(t) == pytest.approx(level, rel=1e-10)
    assert len(grids.karras(schedule, n, final_zero=False)) == n


def test_karras_takes_the_schedules_own_ends():
    for s in (EDM(0.01, 60.0), VE(0.02, 30.0)):
        g = grids.karras(s, 5)
        assert g.start == 1.0
        assert s.sigma(g.times[-2]) == pytest.approx(s.sigma_min, rel=1e-12)
    assert len(grids.karras(EDM(), 1)) == 1
    with pytest.raises(ValueError, match="90"):
        grids.karras(EDM(), 5, sigma_min=90.0)


# ---------------------------------------------------------------------------- tables of betas
def indices_of(schedule, grid):
    return [round(schedule.index_of_time(t)) for t in grid.times]


@pytest.mark.parametrize("steps", [1, 2, 10, 13, 50, 333, 999, 1000])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_discrete_equals_diffusers(steps, spacing):
    from diffusers.schedulers import DDIMScheduler, DDPMScheduler

    s = DiscreteBetas.linear()
    ours = indices_of(s, grids.discrete(s, steps, spacing))
    assert ours[-1] == -1  # t = 0: the step the peer's constant stride gets wrong
    for peer in (DDIMScheduler, DDPMScheduler):
        scheduler = peer(timestep_spacing=spacing)
        scheduler.set_timesteps(steps)
        assert ours[:-1] == scheduler.timesteps.tolist()


@pytest.mark.parametrize("steps", [10, 13, 50])
def test_discrete_offset_equals_diffusers(steps):
    from diffusers.schedulers import DDIMScheduler

    s = DiscreteBetas.scaled_linear()
    scheduler = DDIMScheduler(timestep_spacing="leading", steps_offset=1)
    scheduler.set_timesteps(steps)
    assert indices_of(s, grids.discrete(s, steps, offset=1))[:-1] == scheduler.timesteps.tolist()


def test_discrete_times_hit_the_table():
    s = DiscreteBetas.linear()
    g = grids.discrete(s, 13, "trailing")
    for i, t in zip(indices_of(s, g)[:-1], g.times, strict=False):
        assert s.alpha(t) ** 2 == pytest.approx(s.alphas_cumprod[i], rel=1e-13)
    assert s.alpha(g.end) == 1.0
    assert len(g) == 13 and len(grids.discrete(s, 13, final_zero=False)) == 12
    assert grids.from_indices(s, [999, 500, 0]).times == (1.0, 0.501, 0.001, 0.0)


def test_discrete_refuses():
    s = DiscreteBetas.linear(num_steps=10)
    with pytest.raises(ValueError, match="steps=11"):
        grids.discrete(s, 11)
    with pytest.raises(ValueError, match="index 10 "):
        grids.discrete(s, 10, offset=1)
    with pytest.raises(ValueError, match="sideways"):
        grids.discrete(s, 5, "sideways")
    with pytest.raises(ValueError, match="leading"):
        grids.discrete(s, 5, "trailing", offset=1)
    with pytest.raises(TypeError, match="VPLinear"):
        grids.discrete(VPLinear(), 5)
    with pytest.raises(ValueError, match="index -1"):
        grids.from_indices(s, [3, -1])


# ---------------------------------------------------------------------------- against a schedule
def test_default():
    for s in (EDM(), VE(), PFGMpp(D=8)):
        assert grids.default(s, 18) == grids.karras(s, 18)
    assert grids.default(VPLinear(), 10) == grids.uniform(10)
    for s in (CondOT(), GVP(), VPCosine()):
        g = grids.default(s, 10)
        assert s.alpha(g.start) > 0.0 and g.start == s.t_start and g.end == 0.0
        assert grids.default(s, 10, allow_alpha_zero=True) == grids.uniform(10)
    short = VPCosine(min_log_snr=-5.1)
    assert grids.check(grids.default(short, 10, allow_alpha_zero=True), short).start == short.domain[1]


def test_default_on_products_and_spectra():
    product = ProductSchedule(X=VPLinear(), A=CondOT(), clock="X")
    g = grids.check(grids.default(product, 10), product)
    assert g.start == CondOT().t_start
    lam = [product.clock(t) for t in grids.log_snr(product, 8).times]
    assert torch.tensor(lam).diff().std() < 1e-5
    spectral = Spectral((4.0, 1.0, 0.1, 1.0), (4,))
    grids.check(grids.default(spectral, 10), spectral)
    lam = [spectral.clock(t) for t in grids.log_snr(spectral, 8).times]
    assert torch.tensor(lam).diff().std() < 1e-5


def test_check_and_explicit():
    s = VPLinear()
    assert grids.explicit([0.9, 0.3, 0.0], s).times == (0.9, 0.3, 0.0)
    assert grids.explicit(torch.tensor([0.5, 0.25])).times == (0.5, 0.25)
    assert grids.explicit([0.0, 0.5], s).start == 0.0
    with pytest.raises(ValueError, match=r"1\.5"):
        grids.explicit([1.5, 0.0], s)
    with pytest.raises(ValueError, match=r"-0\.5"):
        grids.explicit([0.5, -0.5], s)
    assert grids.explicit([1.2, 0.0], EDM()).start == 1.2  # churn

    class Floored(VPLinear):
        def sigma(self, t):
            return max(super().sigma(t) - 0.5, 0.0)

    with pytest.raises(ValueError, match=r"sigma = 0 at times\[1\] = 0\.01"):
        grids.check(Grid((1.0, 0.01, 0.0)), Floored())
    with pytest.raises(ValueError, match="first"):
        grids.check(Grid((0.0, 0.01, 1.0)), Floored())


def test_mean_reverting_starts_at_one():
    assert grids.default(MeanReverting(), 5) == grids.uniform(5)
