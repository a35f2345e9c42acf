"""Every schedule against its own definition: identities, derivatives, inverses, floats against tensors."""

import math
import pickle

import pytest
import torch

from scidiffuse.core.schedules import (
    EDM,
    GVP,
    VE,
    CondOT,
    DiscreteBetas,
    KineticOptimal,
    MeanReverting,
    PFGMpp,
    Residual,
    SubVP,
    VPCosine,
    VPLinear,
)

S_VALUES = [0.1, 0.3, 1.0, 3.0, 10.0]
SEPARATION = [0.02, 0.2, 0.8, 0.98, 0.999]
SCHEDULES = {
    "vp_linear": lambda: VPLinear(),
    "vp_constant": lambda: VPLinear(beta_min=3.0, beta_max=3.0),
    "vp_cosine": lambda: VPCosine(),
    "vp_cosine_clipped": lambda: VPCosine(min_log_snr=-5.1),
    "betas_linear": lambda: DiscreteBetas.linear(),
    "betas_linear_100": lambda: DiscreteBetas.linear(1e-4, 0.1, 100),
    "betas_quadratic": lambda: DiscreteBetas.quadratic(),
    "betas_scaled": lambda: DiscreteBetas.scaled_linear(),
    "betas_cosine": lambda: DiscreteBetas.squared_cosine(num_steps=50),
    "sub_vp": lambda: SubVP(),
    "ve": lambda: VE(),
    "edm": lambda: EDM(),
    "cond_ot": lambda: CondOT(),
    "cond_ot_shifted": lambda: CondOT(shift=3.0),
    "gvp": lambda: GVP(),
    "mean_reverting_cosine": lambda: MeanReverting(),
    "mean_reverting_linear": lambda: MeanReverting(sigma_max=0.1, theta="linear"),
    "mean_reverting_constant": lambda: MeanReverting(eps=0.005, theta="constant"),
    "residual": lambda: Residual(),
    "residual_generation": lambda: Residual(shrink="increased", spread="decreased", sum_scale=1.0),
    "residual_average": lambda: Residual(shrink="average", spread="average"),
    "residual_from_ddim": lambda: Residual.from_ddim(DiscreteBetas.linear()),
    "pfgmpp": lambda: PFGMpp(D=128),
    "kinetic": lambda: KineticOptimal.from_separation(S_VALUES, SEPARATION),
}
PRESERVING = {name for name in SCHEDULES if name.startswith(("vp", "betas", "gvp", "residual_from"))}
EXPLODING = {"ve", "edm", "pfgmpp"}
# not at nodes of the tables, where the rate jumps; relative to the end of the domain
TIMES = [1.3e-5, 0.00213, 0.0517, 0.2871, 0.5031, 0.7719, 0.9543, 0.9931]


@pytest.fixture(params=list(SCHEDULES))
def named(request):
    return request.param, SCHEDULES[request.param]()


def times_of(schedule):
    return [t * min(1.0, schedule.domain[1]) for t in TIMES]


def test_starts_at_clean_data(named):
    _, s = named
    assert s.alpha(0.0) == 1.0
    assert s.sigma(0.0) == 0.0 and math.copysign(1.0, s.sigma(0.0)) == 1.0
    assert s.beta(0.0) == 0.0
    assert s.log_snr(0.0) == math.inf
    assert s.kappa(0.0) == 0.0


def test_noise_is_monotone_in_time(named):
    _, s = named
    t = torch.linspace(0, min(1.0, s.domain[1]), 1001, dtype=torch.float64)
    lam = s.log_snr(t)
    assert (lam.diff() < 0).all()
    assert (s.g2(t[:-1]) >= 0).all()


def test_variance_is_preserved_exactly_where_promised(named):
    name, s = named
    for t in times_of(s):
        total = s.alpha(t) ** 2 + s.sigma(t) ** 2
        if name in PRESERVING:
            assert total == pytest.approx(1.0, abs=4e-15)
        else:
            assert abs(total - 1.0) > 1e-12  # the others are none of them
    if name in PRESERVING - {"residual_from_ddim"}:
        assert s.prior_std(0.4) == 1.0
    else:
        assert s.prior_std(0.4) == s.sigma(0.4)


def test_log_snr_and_kappa_follow_from_alpha_and_sigma(named):
    _, s = named
    for t in times_of(s):
        assert s.log_snr(t) == pytest.approx(math.log(s.alpha(t) / s.sigma(t)), abs=1e-11)
        assert s.kappa(t) == pytest.approx(s.sigma(t) / s.alpha(t), rel=1e-14)
        assert s.clock(t) == s.log_snr(t)


def test_small_noise_keeps_its_relative_precision(named):
    # sigma^2 = integral of its rate: q ~ c t^p near 0, so sigma(t)^2 (p + 1)/(q t) -> 1; 1 - alpha^2 would be 0 here
    _, s = named
    t = 1e-18
    a, b = s.sigma(t), s.sigma(4 * t)
    assert a > 0.0
    assert b / a == pytest.approx(2.0, rel=1e-6) or b / a == pytest.approx(4.0, rel=1e-6)


def test_derivatives_are_those_of_the_functions(named):
    _, s = named
    for t in times_of(s):
        h = 1e-4 * t * (1 - t)
        if isinstance(s, DiscreteBetas) or getattr(s, "base", None) is not None:
            h = min(h, 1e-7)
        for f, exact in zip((s.alpha, s.beta, s.sigma), s.derivatives(t), strict=True):
            numeric = (8 * (f(t + h) - f(t - h)) - (f(t + 2 * h) - f(t - 2 * h))) / (12 * h)
            rounding = 1e-15 * max(abs(f(t)), 1e-300) / h
            assert exact == pytest.approx(numeric, rel=1e-8, abs=20 * rounding + 1e-12), (t, f)


def test_derivatives_agree_with_autograd(named):
    _, s = named
    t = torch.tensor(times_of(s), dtype=torch.float64, requires_grad=True)
    for f, exact in zip((s.alpha, s.beta, s.sigma), s.derivatives(t), strict=True):
        value = f(t).sum()
        grad = torch.autograd.grad(value, t, allow_unused=True)[0] if value.requires_grad else torch.zeros_like(t)
        torch.testing.assert_close(exact.detach(), grad, rtol=1e-9, atol=1e-11)


def test_sde_coefficients_are_the_identity(named):
    # f = alpha'/alpha and g^2 = 2 sigma sigma' - 2 sigma^2 f
    _, s = named
    for t in times_of(s):
        da, _, ds = s.derivatives(t)
        f = s.drift(t)
        assert f == pytest.approx(da / s.alpha(t), rel=1e-11, abs=1e-14)
        assert s.g2(t) == pytest.approx(2 * s.sigma(t) * ds - 2 * s.sigma(t) ** 2 * f, rel=1e-9)


def test_ends_have_limits_not_exceptions(named):
    _, s = named
    end = min(1.0, s.domain[1])
    for t in (0.0, end):
        values = [s.alpha(t), s.beta(t), s.sigma(t), *s.derivatives(t), s.log_snr(t), s.drift(t), s.g2(t)]
        assert not any(math.isnan(v) for v in values), (t, values)
        tensors = [torch.tensor(t, dtype=torch.float64)]
        for f in (s.alpha, s.beta, s.sigma, s.log_snr, s.drift, s.g2):
            assert float(f(tensors[0])) == pytest.approx(f(t), rel=1e-14)
        for a, b in zip(s.derivatives(tensors[0]), s.derivatives(t), strict=True):
            assert float(a) == pytest.approx(b, rel=1e-14)


def test_time_of_log_snr_inverts(named):
    _, s = named
    for t in times_of(s):
        lam = s.log_snr(t)
        back = s.time_of_log_snr(lam)
        assert back == pytest.approx(t, rel=1e-9, abs=1e-14)
        assert s.log_snr(back) == pytest.approx(lam, abs=1e-10)
        assert s.time_of_kappa(s.kappa(t)) == pytest.approx(t, rel=1e-9, abs=1e-13)
        assert s.time_of_clock(s.clock(t)) == back
    t = torch.tensor(times_of(s), dtype=torch.float64)
    lam = s.log_snr(t)
    torch.testing.assert_close(s.log_snr(s.time_of_log_snr(lam)), lam, rtol=0, atol=1e-10)
    assert s.time_of_log_snr(math.inf) == 0.0


def test_floats_and_tensors_agree(named):
    _, s = named
    times = [0.0, *times_of(s), min(1.0, s.domain[1])]
    t = torch.tensor(times, dtype=torch.float64)
    for f in (s.alpha, s.beta, s.sigma, s.log_snr, s.prior_std, s.kappa, s.drift, s.g2):
        value = f(t)
        assert isinstance(value, torch.Tensor) and value.shape == t.shape and value.dtype == t.dtype
        for a, b in zip(value.tolist(), times, strict=True):
            single = f(b)
            assert isinstance(single, float)
            assert a == pytest.approx(single, rel=2e-15, abs=2e-15), (f, b)


def test_tensors_of_any_shape_and_dtype(named):
    _, s = named
    t = torch.rand(3, 5, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.05
    for f in (s.alpha, s.sigma, s.beta, s.log_snr, s.drift, s.g2):
        assert f(t).shape == (3, 5) and f(t).dtype == torch.float32
        torch.testing.assert_close(f(t)[1], f(t[1]))
    assert all(d.shape == (3, 5) and d.dtype == torch.float32 for d in s.derivatives(t))
    assert s.time_of_log_snr(s.log_snr(t)).shape == (3, 5)


def test_value_semantics(named):
    name, s = named
    again = SCHEDULES[name]()
    assert s == again and hash(s) == hash(again)
    assert pickle.loads(pickle.dumps(s)) == s
    assert s != GVP() or name == "gvp"
    assert type(s).__name__ in repr(s)
    assert len(repr(s)) < 200
    with pytest.raises(AttributeError):
        s.family = "student"


def test_start_of_sampling_holds_data(named):
    _, s = named
    assert 0.99 < s.t_start <= 1.0
    assert s.alpha(s.t_start) > 0.0
    if s.alpha(min(1.0, s.domain[1])) > 0.99 * math.exp(s.start_log_snr):
        assert s.t_start == min(1.0, s.domain[1])
    else:
        assert s.log_snr(s.t_start) == pytest.approx(s.start_log_snr, abs=1e-9)


def test_times_are_checked(named):
    _, s = named
    s.check_time(0.0)
    s.check_time(torch.tensor([0.0, 0.5]))
    with pytest.raises(ValueError, match=r"-0\.1"):
        s.check_time(-0.1)
    with pytest.raises(ValueError, match="17"):
        s.check_time(torch.tensor([0.5, 17.0]))
    with pytest.raises(ValueError, match="nan"):
        s.check_time(math.nan)
    with pytest.raises(TypeError, match=r"\(i \+ 1\) / T"):
        s.check_time(torch.tensor([3, 4]))
    with pytest.raises(TypeError, match="str"):
        s.check_time("0.5")
