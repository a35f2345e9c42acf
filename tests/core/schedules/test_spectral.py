import math
import pickle

import pytest
import torch

from scidiffuse.core.schedules import Hartley, Spectral


@pytest.fixture
def gen():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("shape", "axes"), [((3, 9), (-1,)), ((3, 8, 2), (-2,)), ((2, 1, 6, 5), (-2, -1))])
def test_hartley_is_orthonormal_and_its_own_inverse(shape, axes, gen):
    x, y = torch.randn(2, *shape, generator=gen, dtype=torch.float64)
    h = Hartley(axes)
    torch.testing.assert_close(h.inverse(h.forward(x)), x)
    torch.testing.assert_close((h.forward(x) * h.forward(y)).sum(), (x * y).sum())
    assert not torch.allclose(h.forward(x), x)


def test_hartley_bins_are_frequencies():
    n = torch.arange(12, dtype=torch.float64)
    c = Hartley().forward(torch.cos(2 * math.pi * 3 * n / 12 + 0.4))
    assert set(torch.nonzero(c.abs() > 1e-9).flatten().tolist()) == {3, 9}
    assert Hartley().forward(torch.ones(4, dtype=torch.bfloat16)).dtype == torch.bfloat16
    with pytest.raises(ValueError, match="negative"):
        Hartley((1,))


POWER = (9.0, 2.0, 1.0, 0.3, 0.01, 0.3, 1.0, 2.0)


def test_spectrum_of_the_process_is_the_geometric_path():
    s = Spectral(POWER, (8,))
    c0 = torch.tensor([POWER], dtype=torch.float64)
    for t in (0.0, 1e-3, 0.3, 0.9, 1.0):
        torch.testing.assert_close(s.alpha(t) ** 2 * c0 + s.sigma(t) ** 2, c0 ** (1 - t), rtol=1e-13, atol=0)
        torch.testing.assert_close(s.alpha(t) ** 2 + s.sigma(t) ** 2, torch.ones(1, 8, dtype=torch.float64))
    torch.testing.assert_close(s.alpha(0.3)[0, 2] ** 2, torch.tensor(0.7, dtype=torch.float64))  # C0 = 1: 1 - t


def test_spectrum_holds_on_samples(gen):
    # smooth series, noised through the schedule in its basis: measured power is C0^(1 - t) in every bin
    n, length = 20000, 16
    white = torch.randn(n, length, generator=gen, dtype=torch.float64)
    x = (white + white.roll(1, 1) + white.roll(2, 1)) / math.sqrt(3)
    s = Spectral.from_data(x)
    z = s.basis.forward(x)
    for t in (0.2, 0.6, 0.95):
        noisy = s.alpha(t) * z + s.sigma(t) * torch.randn(n, length, generator=gen, dtype=torch.float64)
        power = noisy.square().mean(0)
        power = 0.5 * (power + power.flip(0).roll(1, 0))
        expected = torch.tensor(s.power, dtype=torch.float64) ** (1 - t)
        torch.testing.assert_close(power, expected, rtol=5 * math.sqrt(2 / n), atol=0)


def test_shapes_of_times(gen):
    s = Spectral.from_data(torch.randn(50, 6, 5, 2, generator=gen), (-3, -2))
    assert s.shape == (6, 5, 1)
    t = torch.tensor([0.1, 0.5, 0.9])
    for f in (s.alpha, s.sigma, s.beta, s.log_snr, s.drift, s.g2):
        assert f(0.5).shape == (1, 6, 5, 1) and f(0.5).dtype == torch.float64
        assert f(t).shape == (3, 6, 5, 1)
        torch.testing.assert_close(f(t)[1:2], f(0.5))
    assert all(d.shape == (3, 6, 5, 1) for d in s.derivatives(t))
    assert s.clock(t).shape == s.prior_std(t).shape == (3,)
    with pytest.raises(ValueError, match="per sample"):
        s.alpha(torch.rand(3, 4))
    assert Spectral.from_data(torch.randn(9, 6, 2, generator=gen), (-2,), per_channel=True).shape == (6, 2)


def test_rates():
    s = Spectral(POWER, (8,))
    h = 1e-5
    for t in (0.01, 0.4, 0.97):
        for f, exact in zip((s.alpha, s.beta, s.sigma), s.derivatives(t), strict=True):
            torch.testing.assert_close(exact, (f(t + h) - f(t - h)) / (2 * h), rtol=1e-5, atol=1e-9)
        da, _, ds = s.derivatives(t)
        torch.testing.assert_close(s.drift(t), da / s.alpha(t), rtol=1e-11, atol=0)
        torch.testing.assert_close(s.g2(t), 2 * s.sigma(t) * ds - 2 * s.sigma(t) ** 2 * s.drift(t), rtol=1e-9, atol=0)
        torch.testing.assert_close(s.log_snr(t), (s.alpha(t) / s.sigma(t)).log(), rtol=0, atol=1e-12)
    assert (s.alpha(1.0) == 0).all() and (s.sigma(0.0) == 0).all() and (s.alpha(0.0) == 1).all()
    assert (s.derivatives(0.0)[2] == math.inf).all() and (s.log_snr(0.0) == math.inf).all()


@pytest.mark.parametrize("power", [POWER, (100.0, 50.0), (1e-6, 1e-4), (2.0, 0.5), (1.0,)])
def test_clock_inverts(power):
    s = Spectral(power, (len(power),))
    for t in (1e-6, 1e-3, 0.2, 0.5, 0.8, 0.999, 1 - 1e-6):
        assert s.clock(s.time_of_clock(s.clock(t))) == pytest.approx(s.clock(t), abs=1e-9)
        assert s.time_of_clock(s.clock(t)) == pytest.approx(t, rel=1e-9, abs=1e-14)
        assert float(s.clock(torch.tensor(t, dtype=torch.float64))) == pytest.approx(s.clock(t), rel=1e-14)
    assert s.clock(0.0) == math.inf and s.clock(1.0) == -math.inf
    mean = math.prod(power) ** (1 / len(power))
    assert s.clock(0.3) == pytest.approx(float(Spectral((mean,), (1,)).log_snr(0.3)), abs=1e-9)
    assert s.clock(s.t_start) == pytest.approx(s.start_log_snr, abs=1e-6)


def test_power_law():
    s = Spectral.power_law((3, 8, 8), (-2, -1))
    assert s.shape == (1, 8, 8)
    power = torch.tensor(s.power).reshape(8, 8)
    assert power[3, 4] == pytest.approx(1.59 / (0.0086 + 5.0) ** 2, rel=1e-6)
    assert torch.equal(power, power.T) and power[1, 2] == power[7, 6]


def test_value_semantics_and_bad_input(gen):
    s = Spectral(POWER, (8,))
    assert s == Spectral(POWER, (8,)) and hash(s) == hash(Spectral(POWER, (8,)))
    assert s != Spectral(POWER, (2, 4)) and s != Spectral(POWER[::-1], (8,))
    assert pickle.loads(pickle.dumps(s)) == s
    assert s.elementwise and len(repr(s)) < 100
    with pytest.raises(TypeError, match="time_of_clock"):
        s.time_of_log_snr(0.0)
    with pytest.raises(ValueError, match=r"power\[1\] = 0"):
        Spectral((1.0, 0.0), (2,))
    with pytest.raises(ValueError, match="needs 3"):
        Spectral((1.0, 2.0), (3,))
    with pytest.raises(ValueError, match="axes"):
        Spectral((1.0, 2.0), (2,), (-2,))
    with pytest.raises(ValueError, match="zero everywhere"):
        Spectral.from_data(torch.zeros(4, 8))
    with pytest.raises(ValueError, match="finite"):
        Spectral.from_data(torch.full((4, 8), math.nan))
    with pytest.raises(ValueError, match=r"\(4,\)"):
        Spectral.from_data(torch.randn(4, generator=gen))
