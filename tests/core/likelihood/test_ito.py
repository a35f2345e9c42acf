"""The Ito density estimator against exact densities along stochastic paths."""

import math
import warnings

import pytest
import torch

from scidiffuse.core import (
    DDIM,
    DDPM,
    EDM,
    CondOT,
    Denoiser,
    DPMSolverPP,
    EDMStochastic,
    Graph,
    Heun,
    Masked,
    MeanReverting,
    PFGMpp,
    Product,
    ProductSchedule,
    SlotNoise,
    VPLinear,
    ZeroCoM,
    grids,
    sample,
)
from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.likelihood import ItoDensity, ito_increment
from scidiffuse.core.likelihood.ito import expected_error

MIXTURE = GaussianMixture.example()
QUIET = ItoDensity(tolerance=1e9)


def errors(schedule, sampler, steps, n=400, seed=0):
    grid = grids.log_snr(schedule, steps)
    result = sample(
        MIXTURE.denoiser(schedule), sampler, grid, shape=(n, 2), seed=seed, dtype=torch.float64, hooks=[QUIET]
    )
    return result.state.aux["log_q"] - MIXTURE.log_prob(result.x, schedule, grid.end)


def test_convergence():
    """Bias like 1/N, root mean square like N^(-1/2); recorded on 1,000 paths for N = 100, 400, 1600, 6400: bias .33,
    .083, .022, .0066 and root mean square .91, .43, .21, .11."""
    bias, rms = [], []
    for steps in (50, 200, 800):
        e = errors(EDM(0.05, 20.0), DDPM("large"), steps)
        bias.append(float(e.mean()))
        rms.append(float(e.square().mean().sqrt()))
    assert rms == pytest.approx([1.30, 0.61, 0.30], rel=0.2)
    assert 0.0 < bias[1] < 0.4 * bias[0]
    assert abs(bias[2]) < 0.1
    # an exact order: -1/2 within 15 %
    assert math.log(rms[0] / rms[2]) / math.log(16) == pytest.approx(0.5, abs=0.075)


@pytest.mark.parametrize("sampler", [DDPM(), DDPM("large"), DDIM(eta=1.0)], ids=repr)
@pytest.mark.parametrize("schedule", [VPLinear(), CondOT()], ids=lambda s: type(s).__name__)
def test_every_schedule_and_sampler(schedule, sampler):
    """The stated bound holds, and does not exaggerate."""
    spread = []
    for steps in (100, 400):
        bound = expected_error(schedule, sampler.plan(schedule, grids.log_snr(schedule, steps)), 2.0)
        e = errors(schedule, sampler, steps, 300)
        assert 0.5 * bound < float(e.std()) < 1.1 * bound
        assert abs(float(e.mean())) < bound
        spread.append(abs(float(e.mean())))
    assert spread[1] < 0.4 * spread[0]


def test_the_formula_of_the_paper():
    """d log q = <dx, s> + [div f + <f - g^2 s/2, s>] dtau, for a path that is none of the model's own."""
    schedule, t, dt = VPLinear(), 0.4, 1e-5
    generator = torch.Generator().manual_seed(0)
    x = MIXTURE.sample(5, generator)
    z = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    pred = MIXTURE.denoiser(schedule)(x, t)
    f, g2, s = schedule.drift(t), schedule.g2(t), pred.score
    dx = 3.0 * dt * torch.ones_like(x) + math.sqrt(g2 * dt) * z
    expected = (dx * s).sum(1) + (2 * f + ((f * x - 0.5 * g2 * s) * s).sum(1)) * dt
    got = ito_increment(pred, x + dx, t - dt)
    # equal to first order: the difference is of order dt^(3/2)
    assert float((got - expected).abs().max()) < 50 * dt**1.5
    assert float(expected.abs().max()) > 1e-4


def test_against_the_exact_change_on_gaussians():
    """Every degree of freedom of the space counts, and no other: one too many costs log(alpha_0/alpha_1) = 5 nats."""
    mask = torch.tensor([[True, True, True, False]])
    for space, shape, half in (
        (Masked(mask), (600, 4, 2), 1.0),
        (ZeroCoM(mask), (600, 4, 2), 1.0),
        (Graph(mask), (600, 4, 4), 0.5),
    ):
        schedule, c = VPLinear(), 0.6

        def network(x, t, schedule=schedule, c=c):
            a, s = schedule.alpha(float(t[0])), schedule.sigma(float(t[0]))
            return x * a * c * c / (a * a * c * c + s * s)

        grid = grids.log_snr(schedule, 150)
        denoiser = Denoiser(network, schedule, "data", space=space, label=lambda _, t: t)
        result = sample(denoiser, DDPM("large"), grid, shape=shape, seed=0, dtype=torch.float64, hooks=[QUIET])
        v = schedule.alpha(grid.end) ** 2 * c * c + schedule.sigma(grid.end) ** 2
        d = space.ndof(result.x).double()
        exact = -0.5 * (half * result.x.square().flatten(1).sum(1) / v + d * math.log(2 * math.pi * v))
        e = result.state.aux["log_q"] - exact
        bound = expected_error(schedule, DDPM("large").plan(schedule, grid), float(d[0]))
        assert 0.5 * bound < float(e.std()) < 1.1 * bound
        assert abs(float(e.mean())) < bound


def test_product_states():
    """A product's density is that of its leaves, each under its own schedule."""
    schedule = ProductSchedule(clock="X", X=VPLinear(), A=CondOT())
    mask = torch.tensor([[True, True, True, False]])
    space = Product(X=Masked(mask), A=Graph(mask))
    denoiser = Denoiser(lambda x, t: {n: 0.3 * v.tanh() for n, v in x.items()}, schedule, "noise", space=space)
    like = {"X": torch.zeros(3, 4, 2, dtype=torch.float64), "A": torch.zeros(3, 4, 4, dtype=torch.float64)}
    x = space.randn(SlotNoise(0, range(3)), like, 0)
    new = space.randn(SlotNoise(1, range(3)), like, 0)
    whole = ito_increment(denoiser(x, 0.5), new, 0.45)
    total = torch.zeros(3, dtype=torch.float64)
    for name in ("X", "A"):
        one = Denoiser(lambda x, t: 0.3 * x.tanh(), schedule.leaves[name], "noise", space=space.spaces[name])
        total += ito_increment(one(x[name], 0.5), new[name], 0.45)
    torch.testing.assert_close(whole, total)


def test_reference():
    """A reference moves the state and nothing else."""
    schedule, generator = MeanReverting(), torch.Generator().manual_seed(0)
    x, new, y = (MIXTURE.sample(4, generator) for _ in range(3))
    denoiser = MIXTURE.denoiser(schedule)
    plain = ito_increment(denoiser(x, 0.5), new, 0.4)
    a, b = x + schedule.beta(0.5) * y, new + schedule.beta(0.4) * y
    torch.testing.assert_close(ito_increment(denoiser(a, 0.5, reference=y, y=y), b, 0.4), plain)


def test_goes_on_and_splits():
    schedule = EDM(0.05, 20.0)
    grid = grids.log_snr(schedule, 40)
    kw = {"dtype": torch.float64, "hooks": [QUIET], "seed": 1}
    denoiser = MIXTURE.denoiser(schedule)
    whole = sample(denoiser, DDPM(), grid, shape=(6, 2), **kw).state.aux["log_q"]
    half = sample(denoiser, DDPM(), grid, shape=(6, 2), until=20, **kw)
    rest = sample(denoiser, DDPM(), grid, state=half.state, **kw)
    assert torch.equal(rest.state.aux["log_q"], whole)
    split = sample(denoiser, DDPM(), grid, shape=(6, 2), max_batch=4, **kw).state.aux["log_q"]
    torch.testing.assert_close(split, whole)


def test_warns_at_few_steps():
    schedule = EDM(0.05, 20.0)
    kw = {"shape": (2, 2), "seed": 0, "dtype": torch.float64, "hooks": [ItoDensity()]}
    with pytest.warns(UserWarning, match=r"30 steps may be off by \d.* nats"):
        sample(MIXTURE.denoiser(schedule), DDPM(), grids.log_snr(schedule, 30), **kw)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample(MIXTURE.denoiser(schedule), DDPM(), grids.log_snr(schedule, 700), until=2, **kw)


@pytest.mark.parametrize(
    ("sampler", "match"),
    [
        (DDIM(), "deterministic"),
        (Heun(), "deterministic"),
        (DPMSolverPP(order=2), "deterministic"),
        (DDIM(eta=0.5), "0.5 of the SDE's noise"),
        (EDMStochastic(), "inside a step"),
    ],
    ids=repr,
)
def test_samplers_without_the_noise_of_the_sde_are_refused(sampler, match):
    schedule = EDM(0.05, 20.0)
    with pytest.raises(ValueError, match=match):
        sample(MIXTURE.denoiser(schedule), sampler, grids.log_snr(schedule, 20), shape=(2, 2), seed=0, hooks=[QUIET])


def test_refusals():
    schedule = VPLinear()
    with pytest.raises(ValueError, match="without noise"):
        sample(MIXTURE.denoiser(schedule), DDPM(), steps=20, shape=(2, 2), seed=0, hooks=[QUIET])
    with pytest.raises(ValueError, match="no data is left"):
        sample(MIXTURE.denoiser(CondOT()), DDPM(), grids.uniform(10, 1.0, 0.1), shape=(2, 2), seed=0, hooks=[QUIET])
    x = torch.zeros(2, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="Student-t"):
        ito_increment(MIXTURE.denoiser(PFGMpp(D=16))(x, 0.5), x, 0.4)
    with pytest.raises(ValueError, match="one time"):
        ito_increment(MIXTURE.denoiser(schedule)(x, torch.tensor([0.5, 0.4])), x, 0.3)
    with pytest.raises(ValueError, match="lacks one of them"):
        ito_increment(MIXTURE.denoiser(CondOT())(x, 1.0), x, 0.3)
