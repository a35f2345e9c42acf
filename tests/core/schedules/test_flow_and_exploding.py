import math
from itertools import pairwise

import pytest
import torch
from scipy import stats

from scidiffuse.core.schedules import EDM, VE, CondOT, PFGMpp


def test_shift_is_the_one_of_sd3():
    for k in (0.5, 1.0, 3.0):
        s, plain = CondOT(shift=k), CondOT()
        for t in (0.1, 0.5, 0.9):
            shifted = k * t / (1 + (k - 1) * t)
            assert s.sigma(t) == pytest.approx(shifted, rel=1e-15)
            assert s.alpha(t) == pytest.approx(1 - shifted, rel=1e-13)
            assert s.kappa(t) == pytest.approx(k * plain.kappa(t), rel=1e-13)
    with pytest.raises(ValueError, match=r"shift.*0"):
        CondOT(shift=0.0)


def test_edm():
    s = EDM(0.002, 80.0)
    assert s.sigma(1.0) == 80.0 and s.sigma(0.25) == 20.0
    assert s.time_of_kappa(80.0) == 1.0
    assert s.domain[1] > math.sqrt(2)  # churn reaches sqrt(2) sigma_max
    with pytest.raises(ValueError, match="sigma_max"):
        EDM(1.0, 0.5)


def test_ve_has_songs_diffusion_and_a_clean_start():
    s = VE(0.01, 50.0)
    assert s.sigma(1.0) == pytest.approx(50.0, rel=1e-14)
    assert s.sigma(0.0) == 0.0
    r = math.sqrt(1 + 5000.0**2)
    for t in (0.2, 0.5, 0.9):
        assert s.g2(t) == pytest.approx(0.01**2 * r ** (2 * t) * 2 * math.log(r), rel=1e-12)
        assert math.hypot(s.sigma(t), 0.01) == pytest.approx(0.01 * r**t, rel=1e-12)  # geometric but for sigma_min


@pytest.mark.parametrize("D", [3, 30])
def test_pfgmpp_noise_is_multivariate_student_t(D):
    s = PFGMpp(D=D)
    assert s.family == "student" and EDM().family == "gaussian"
    g = torch.Generator().manual_seed(0)
    n, dim = 4000, 3
    scale = s.draw_noise_scale(n, g)
    noise = torch.randn(n, dim, generator=g, dtype=torch.float64) * scale[:, None]
    assert stats.kstest(noise[:, 0].numpy(), stats.t(D).cdf).pvalue > 0.01
    assert stats.kstest((noise.square().sum(1) / dim).numpy(), stats.f(dim, D).cdf).pvalue > 0.01  # one tau a sample
    normal = stats.kstest(noise[:, 0].numpy(), stats.norm.cdf).pvalue
    assert normal < 0.01 or D > 10


def test_pfgmpp_tends_to_edm():
    spread = []
    for D in (10, 100, 1000):
        s = PFGMpp(D=D)
        spread.append(float((s.draw_noise_scale(4000, torch.Generator().manual_seed(1)) - 1).square().mean().sqrt()))
        assert s.sigma(0.3) == EDM().sigma(0.3)
    for a, b in pairwise(spread):
        assert b / a == pytest.approx(10**-0.5, rel=0.25)  # sd of 1/sqrt(tau) ~ 1/sqrt(2 D)
    assert spread[-1] == pytest.approx(1 / math.sqrt(2000), rel=0.1)


def test_pfgmpp_parameters():
    tau = torch.tensor([1.0, 4.0])
    assert PFGMpp().noise_scale(tau).tolist() == [1.0, 0.5]
    for bad in (0, 2.5, -3):
        with pytest.raises(ValueError, match=f"whole number; got {bad}"):
            PFGMpp(D=bad)
    assert type(PFGMpp(D=64.0).D) is int
    assert PFGMpp(D=64) != PFGMpp(D=128)
    assert PFGMpp() != EDM()
