import math

import pytest

from scidiffuse.core.schedules import GVP, SubVP, VPCosine, VPLinear


def test_linear_end_point():
    s = VPLinear(0.1, 20.0)
    assert s.alpha(1.0) == pytest.approx(math.exp(-10.05 / 2), rel=1e-15)
    assert s.g2(0.0) == 0.1 and s.g2(1.0) == 20.0


def test_sub_vp_has_the_square_of_the_noise():
    vp, sub = VPLinear(), SubVP()
    for t in (1e-6, 0.1, 0.5, 1.0):
        assert sub.alpha(t) == vp.alpha(t)
        assert sub.sigma(t) == pytest.approx(vp.sigma(t) ** 2, rel=1e-14)
        assert sub.g2(t) == pytest.approx(vp.g2(t) * (1 - vp.alpha(t) ** 4), rel=1e-9)


@pytest.mark.parametrize("s", [0.008, 0.05])
def test_cosine_is_that_of_nichol_and_dhariwal(s):
    def bar(t):
        return math.cos((t + s) / (1 + s) * math.pi / 2) ** 2 / math.cos(s / (1 + s) * math.pi / 2) ** 2

    schedule = VPCosine(s=s)
    for t in (0.01, 0.3, 0.9, 0.999):
        assert schedule.alpha(t) ** 2 == pytest.approx(bar(t), rel=1e-12)
        assert math.exp(schedule.log_alpha(t)) == pytest.approx(schedule.alpha(t), rel=1e-14)
        assert schedule.time_of_log_alpha(schedule.log_alpha(t)) == pytest.approx(t, rel=1e-10)
    assert schedule.alpha(1.0) == 0.0 and schedule.sigma(1.0) == pytest.approx(1.0, abs=1e-15)


def test_cosine_clipped_in_log_snr():
    s = VPCosine(min_log_snr=-5.1)
    assert s.domain[1] < 1.0
    assert s.log_snr(s.domain[1]) == pytest.approx(-5.1, abs=1e-12)
    with pytest.raises(ValueError, match=r"time 1\.0 is outside"):
        s.check_time(1.0)
    assert s.alpha(0.3) == VPCosine().alpha(0.3)


def test_gvp_is_a_quarter_circle():
    s = GVP()
    assert s.alpha(1 / 3) == pytest.approx(math.sqrt(3) / 2, rel=1e-15)
    assert s.sigma(1 / 3) == pytest.approx(0.5, rel=1e-15)
    assert s.log_snr(0.5) == pytest.approx(0.0, abs=1e-15)
    assert s.time_of_log_alpha(math.log(math.sqrt(0.5))) == pytest.approx(0.5, rel=1e-14)


def test_parameters_are_checked():
    with pytest.raises(ValueError, match=r"beta_max.*0\.05"):
        VPLinear(0.1, 0.05)
    with pytest.raises(ValueError, match=r"beta_min.*-1"):
        SubVP(-1.0)
    with pytest.raises(ValueError, match="s must be"):
        VPCosine(s=0.0)
    with pytest.raises(ValueError, match="min_log_snr"):
        VPCosine(min_log_snr=math.inf)
