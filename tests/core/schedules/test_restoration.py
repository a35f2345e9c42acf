import math
from itertools import pairwise

import pytest
from scipy.integrate import quad

from scidiffuse.core.schedules import DiscreteBetas, MeanReverting, Residual, VPLinear


@pytest.mark.parametrize("theta", ["cosine", "linear", "constant"])
def test_mean_reverting_solves_its_sde(theta):
    s = MeanReverting(sigma_max=0.15, eps=0.01, theta=theta)
    assert s.alpha(1.0) == pytest.approx(0.01, rel=1e-13)
    for t in (1e-4, 0.1, 0.5, 0.9):
        total = quad(s.rate, 0.0, t, epsabs=1e-14, epsrel=1e-12)[0]
        assert s.log_alpha(t) == pytest.approx(-total, rel=1e-9)
        assert s.beta(t) == pytest.approx(1 - s.alpha(t), rel=1e-9)
        assert s.sigma(t) ** 2 == pytest.approx(0.15**2 * (1 - s.alpha(t) ** 2), rel=1e-9)
        assert s.g2(t) == pytest.approx(2 * s.rate(t) * 0.15**2, rel=1e-14)
        assert s.drift(t) == -s.rate(t)


def test_shapes_of_theta():
    constant, linear, cosine = (MeanReverting(theta=k) for k in ("constant", "linear", "cosine"))
    assert constant.rate(0.1) == constant.rate(0.9)
    assert linear.rate(1.0) / linear.rate(0.0) == pytest.approx(200.0)
    w = math.pi / 2 / 1.008

    def bar(t):
        return math.cos(w * (t + 0.008)) ** 2 / math.cos(w * 0.008) ** 2

    assert cosine.rate(0.3) / cosine.rate(0.8) == pytest.approx((1 - bar(0.3)) / (1 - bar(0.8)), rel=1e-12)


def test_mean_reverting_parameters():
    with pytest.raises(ValueError, match=r"eps.*1\.5"):
        MeanReverting(eps=1.5)
    with pytest.raises(ValueError, match=r"theta.*square"):
        MeanReverting(theta="square")
    with pytest.raises(ValueError, match="sigma_max"):
        MeanReverting(sigma_max=-1.0)


@pytest.mark.parametrize("shrink", ["decreased", "increased", "average"])
@pytest.mark.parametrize("spread", ["decreased", "increased", "average"])
def test_residual_moves_all_the_way(shrink, spread):
    s = Residual(shrink, spread, sum_scale=0.04)
    assert (s.alpha(1.0), s.beta(1.0), s.sigma(1.0)) == (0.0, 1.0, pytest.approx(0.2))
    steps = [i / 10 for i in range(11)]
    sign = {"decreased": -1, "increased": 1, "average": 0}
    for kind, f in ((shrink, s.beta), (spread, lambda t: s.sigma(t) ** 2)):
        rises = [f(b) - f(a) for a, b in pairwise(steps)]
        for a, b in pairwise(rises):
            assert (b - a > 1e-6) - (b - a < -1e-6) == sign[kind]
    for t in steps:
        assert s.alpha(t) + s.beta(t) == pytest.approx(1.0, abs=1e-15)


def test_residual_from_ddim():
    base = DiscreteBetas.linear()
    s = Residual.from_ddim(base)
    for t in (0.1, 0.7):
        assert s.beta(t) == pytest.approx(1 - math.sqrt(base.alphas_cumprod[round(1000 * t) - 1]), rel=1e-12)
        assert s.sigma(t) == base.sigma(t)
    assert s != Residual.from_ddim(VPLinear())
    with pytest.raises(TypeError, match="Residual"):
        Residual.from_ddim(Residual())


def test_residual_parameters():
    with pytest.raises(ValueError, match=r"shrink.*flat"):
        Residual(shrink="flat")
    with pytest.raises(ValueError, match="sum_scale"):
        Residual(sum_scale=0.0)
