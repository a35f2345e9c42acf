"""ODE log-likelihood against exact densities, in every space."""

import math

import pytest
import torch

from scidiffuse.core import (
    DDPM,
    EDM,
    GVP,
    VE,
    CondOT,
    Denoiser,
    DiscreteBetas,
    Euclidean,
    Graph,
    Grid,
    Heun,
    Masked,
    MeanReverting,
    PFGMpp,
    Product,
    ProductSchedule,
    Spectral,
    VPCosine,
    VPLinear,
    ZeroCoM,
    grids,
)
from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.likelihood import log_likelihood
from scidiffuse.core.likelihood.measure import basis, probe
from scidiffuse.core.noise import SlotNoise
from scidiffuse.core.tree import leaves

MIXTURE = GaussianMixture.example()
FINE = {"rtol": 1e-8, "atol": 1e-8}


def draw(n, seed=0):
    return MIXTURE.sample(n, torch.Generator().manual_seed(seed))


def exact_prior(schedule):
    return lambda x, t: MIXTURE.log_prob(x, schedule, t)


@pytest.mark.parametrize(
    "schedule", [VPLinear(), VPCosine(), VE(), EDM(), CondOT(), GVP()], ids=lambda s: type(s).__name__
)
def test_within_1e_6_of_the_mixture(schedule):
    x = draw(8)
    start = grids.log_snr(schedule, 1).end
    result = log_likelihood(MIXTURE.denoiser(schedule), x, prior=exact_prior(schedule), **FINE)
    torch.testing.assert_close(result.log_prob, MIXTURE.log_prob(x, schedule, start), rtol=0, atol=1e-6)
    torch.testing.assert_close(result.log_prob, result.prior + result.change)
    assert bool((result.standard_error == 0).all())


def test_from_end_to_end_with_the_schedules_own_prior():
    """CondOT at t = 1 is pure noise: nothing but the model is needed."""
    schedule, x = CondOT(), draw(8)
    result = log_likelihood(MIXTURE.denoiser(schedule), x, Grid((1e-3, 1.0)), **FINE)
    torch.testing.assert_close(result.log_prob, MIXTURE.log_prob(x, schedule, 1e-3), rtol=0, atol=1e-6)


def test_the_default_prior_is_off_by_the_data_left_at_the_end():
    schedule, x = VPLinear(), draw(32)
    error = (log_likelihood(MIXTURE.denoiser(schedule), x, **FINE).log_prob - MIXTURE.log_prob(x, schedule, 1e-3)).abs()
    assert 1e-5 < float(error.max()) < 0.02


@pytest.mark.parametrize(("method", "order"), [("heun", 2), ("rk4", 4)])
def test_order_of_convergence(method, order):
    schedule, x = VPLinear(), draw(4)
    exact = MIXTURE.log_prob(x, schedule, 1e-3)
    errors = []
    for steps in (40, 80):
        result = log_likelihood(MIXTURE.denoiser(schedule), x, steps=steps, method=method, prior=exact_prior(schedule))
        errors.append(float((result.log_prob - exact).abs().max()))
        assert result.calls == steps * order
    assert math.log2(errors[0] / errors[1]) > order - 0.3


def test_a_sample_does_not_depend_on_its_neighbours():
    schedule, x = VPLinear(), torch.cat([draw(3), torch.tensor([[30.0, -20.0]], dtype=torch.float64)])
    denoiser = MIXTURE.denoiser(schedule)
    together = log_likelihood(denoiser, x).log_prob
    alone = torch.cat([log_likelihood(denoiser, x[k : k + 1]).log_prob for k in range(4)])
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-10)


def test_hutchinson_is_unbiased_and_knows_its_error():
    schedule, x = VPLinear(), draw(1).expand(100, 2)
    exact = MIXTURE.log_prob(x, schedule, 1e-3)
    for kind in ("rademacher", "gaussian"):
        result = log_likelihood(
            MIXTURE.denoiser(schedule), x, steps=60, method="rk4", divergence="hutchinson", probes=8, probe_kind=kind,
            seed=3, prior=exact_prior(schedule),
        )  # fmt: skip
        error = result.log_prob - exact
        assert abs(float(error.mean())) < 5 * float(error.std()) / 10
        # the reported error is the true one: their ratio over 100 x 8 probes
        ratio = float(error.square().mean().sqrt() / result.standard_error.square().mean().sqrt())
        assert 0.75 < ratio < 1.3
    single = log_likelihood(
        MIXTURE.denoiser(schedule), x[:2], steps=5, method="heun", divergence="hutchinson", probes=1, seed=0
    )
    assert bool(single.standard_error.isnan().all())


def test_probes_are_keyed_by_slot():
    denoiser, x = MIXTURE.denoiser(VPLinear()), draw(6)
    kw = {"steps": 5, "method": "heun", "divergence": "hutchinson", "probes": 2, "seed": 1}
    whole = log_likelihood(denoiser, x, **kw).log_prob
    part = log_likelihood(denoiser, x[2:5], slots=range(2, 5), **kw).log_prob
    torch.testing.assert_close(whole[2:5], part, rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------ spaces: Gaussian data of variance c^2 in each
def gaussian(schedule, space, c=0.6):
    def network(x, t):
        t0 = float(t.flatten()[0]) if bool((t == t.flatten()[0]).all()) else t.double()

        def leaf(x, s):
            a, sd = s.alpha(t0), s.sigma(t0)
            gain = a * c * c / (a * a * c * c + sd * sd)
            return x * (gain if isinstance(gain, float) else gain.reshape(-1, *[1] * (x.ndim - 1)))

        if isinstance(x, dict):
            return {
                n: leaf(v, schedule.leaves[n] if isinstance(schedule, ProductSchedule) else schedule)
                for n, v in x.items()
            }
        return leaf(x, schedule)

    return Denoiser(network, schedule, "data", space=space, label=lambda s, t: t)


MASK = torch.tensor([[True, True, True, False], [True, True, True, True]])
SPACES = {
    "masked": (Masked(MASK), (2, 4, 2), [6, 8]),
    "com": (ZeroCoM(MASK), (2, 4, 2), [4, 6]),
    "graph": (Graph(MASK), (2, 4, 4), [3, 6]),
    "graph_channels": (Graph(MASK), (2, 4, 4, 2), [6, 12]),
}


@pytest.mark.parametrize("name", SPACES)
def test_subspaces(name):
    """log N(x; 0, v) in ndof dimensions; signs see the trace of a multiple of the identity without error, except
    where a projection mixes them."""
    space, shape, ndof = SPACES[name]
    schedule = VPLinear()
    denoiser = gaussian(schedule, space)
    x = 0.7 * space.randn(SlotNoise(0, range(2)), torch.zeros(shape, dtype=torch.float64), 0)
    grid = Grid((1e-3, 1.0))
    v, v_end = (schedule.alpha(t) ** 2 * 0.36 + schedule.sigma(t) ** 2 for t in grid.times)
    half = 0.5 if isinstance(space, Graph) else 1.0  # coordinates of a graph: entries above the diagonal
    d = torch.tensor(ndof, dtype=torch.float64)

    def density(x, v):
        return -0.5 * (half * x.square().flatten(1).sum(1) / v + d * math.log(2 * math.pi * v))

    result = log_likelihood(denoiser, x, grid, prior=lambda x, t: density(x, v_end), **FINE)
    assert result.ndof.tolist() == ndof
    torch.testing.assert_close(result.log_prob, density(x, v), rtol=0, atol=1e-6)
    near = log_likelihood(denoiser, x, grid)  # the prior of the space itself
    torch.testing.assert_close(near.log_prob, density(x, v), rtol=0, atol=1e-3)

    kw = {"steps": 10, "method": "rk4"}
    probes = 60 if name == "com" else 2
    exact, guess = (
        log_likelihood(denoiser, x, **kw),
        log_likelihood(denoiser, x, divergence="hutchinson", probes=probes, seed=0, **kw),
    )
    error = guess.standard_error
    assert float(error.max()) < 0.6
    assert (float(error.min()) > 1e-3) == (name == "com")
    assert bool(((guess.log_prob - exact.log_prob).abs() < 5 * error + 1e-9).all())


def test_product_states_with_a_schedule_each():
    space = Product(X=Masked(MASK), A=Graph(MASK))
    schedule = ProductSchedule(clock="X", X=CondOT(), A=CondOT(shift=3.0))
    noise = SlotNoise(0, range(2))
    like = {"X": torch.zeros(2, 4, 2, dtype=torch.float64), "A": torch.zeros(2, 4, 4, dtype=torch.float64)}
    x = space.randn(noise, like, 0)
    result = log_likelihood(gaussian(schedule, space), x, Grid((1e-3, 1.0)), **FINE)
    expected = torch.zeros(2, dtype=torch.float64)
    for name, d, half in (("X", [6, 8], 1.0), ("A", [3, 6], 0.5)):
        s = schedule.leaves[name]
        v = s.alpha(1e-3) ** 2 * 0.36 + s.sigma(1e-3) ** 2
        n = torch.tensor(d, dtype=torch.float64)
        expected -= 0.5 * (half * x[name].square().flatten(1).sum(1) / v + n * math.log(2 * math.pi * v))
    torch.testing.assert_close(result.log_prob, expected, rtol=0, atol=1e-6)


def test_basis_and_probes_resolve_the_identity():
    """The trace of random matrices between projections, and E u u' = the projection."""
    for space, shape, ndof in SPACES.values():
        like = torch.zeros(shape, dtype=torch.float64)
        total = sum((e * e).flatten(1).sum(1) for e in basis(space, like))
        assert total.tolist() == pytest.approx(ndof)
        many = like.repeat(1000, *[1] * (like.ndim - 1))
        wide = type(space)(MASK.repeat(1000, 1))
        eye = torch.eye(like[0].numel(), dtype=torch.float64).reshape(-1, *shape[1:])
        want = torch.stack([type(space)(MASK[b : b + 1]).project(eye).flatten(1) for b in range(2)])
        for kind in ("rademacher", "gaussian"):
            u = probe(wide, kind, SlotNoise(0, range(2000)), many, 0).reshape(1000, 2, -1)
            cover = torch.einsum("kbi,kbj->bij", u, u) / 1000
            assert float((cover - want).abs().max()) < 6 * math.sqrt(3 / 1000)


def test_frequencies_and_reference():
    schedule = Spectral.power_law((6,), c1=0.8, c2=1.0)

    def network(x, t):  # white Gaussian data of variance 1/4, with the network in the data's own coordinates
        z = schedule.basis.forward(x)
        a, s = schedule.alpha(float(t[0])), schedule.sigma(float(t[0]))
        return schedule.basis.inverse(z * a * 0.25 / (a * a * 0.25 + s * s))

    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a, s = schedule.alpha(1e-3), schedule.sigma(1e-3)
    denoiser = Denoiser(network, schedule, "data", label=lambda _, t: t)

    def normal(x, var):
        return -0.5 * (x.square() / var + (2 * math.pi * var).log()).sum(1)

    end = schedule.alpha(0.9) ** 2 * 0.25 + schedule.sigma(0.9) ** 2
    grid = Grid(tuple(1e-3 * 900 ** (k / 80) for k in range(81)))
    result = log_likelihood(denoiser, x, grid, method="rk4", prior=lambda z, t: normal(z, end))
    expected = normal(schedule.basis.forward(x), a * a * 0.25 + s * s)
    torch.testing.assert_close(result.log_prob, expected, rtol=0, atol=1e-5)

    schedule, y = MeanReverting(), draw(4, 1)
    shift = schedule.beta(0.05) * y
    t0, x = 0.05, draw(4)
    result = log_likelihood(
        MIXTURE.denoiser(schedule), x, Grid((t0, 1.0)), condition={"y": y}, reference=y, **FINE,
        prior=lambda z, t: MIXTURE.log_prob(z - schedule.beta(t) * y, schedule, t),
    )  # fmt: skip
    torch.testing.assert_close(result.log_prob, MIXTURE.log_prob(x - shift, schedule, t0), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="needs reference="):
        log_likelihood(MIXTURE.denoiser(schedule), x, Grid((t0, 1.0)), condition={"y": y})


def test_bits_per_dim():
    schedule, x = CondOT(), draw(4)
    result = log_likelihood(MIXTURE.denoiser(schedule), x)
    torch.testing.assert_close(result.bits_per_dim(), -result.log_prob / (2 * math.log(2)))
    torch.testing.assert_close(result.bits_per_dim(2 / 256), result.bits_per_dim() + 7)  # 8-bit data in [-1, 1]
    with pytest.raises(ValueError, match="bin_width"):
        result.bits_per_dim(0.0)


def test_float32_and_inference_mode():
    with torch.inference_mode():
        x = draw(4).float()
        result = log_likelihood(MIXTURE.denoiser(CondOT()), x)
    assert result.log_prob.dtype == torch.float64
    assert leaves(result.latent)[0].dtype == torch.float32
    torch.testing.assert_close(result.log_prob, MIXTURE.log_prob(x.double(), CondOT(), 9.11e-4), rtol=0, atol=2e-2)


@pytest.mark.parametrize(
    ("kw", "error", "match"),
    [
        ({"method": DDPM()}, ValueError, "adds noise"),
        ({"method": Heun()}, TypeError, "sampler"),
        ({"method": "euler"}, ValueError, "method must be"),
        ({"method": "rk4"}, ValueError, "give grid= or steps="),
        ({"divergence": "skilling"}, ValueError, "divergence must be"),
        ({"divergence": "hutchinson"}, ValueError, "seed"),
        ({"divergence": "hutchinson", "seed": 0, "probes": 0}, ValueError, "probes"),
        ({"divergence": "hutchinson", "seed": 0, "probe_kind": "sphere"}, ValueError, "probe_kind"),
        ({"grid": Grid((0.0, 1.0))}, ValueError, "singular at t=0"),
        ({"grid": Grid((0.1, 1.0)), "steps": 3}, ValueError, "1 steps"),
        ({"prior": lambda x, t: torch.zeros(3, 1)}, ValueError, "one log density a sample"),
        ({"rtol": 0.0}, ValueError, "positive"),
        ({"reference": torch.zeros(3, 1)}, ValueError, "reference must have the shape"),
        ({"space": Masked(torch.tensor([[True, False]]))}, ValueError, "outside"),
    ],
)
def test_refusals(kw, error, match):
    with pytest.raises(error, match=match):
        log_likelihood(MIXTURE.denoiser(VPLinear()), draw(3), **kw)


def test_more_refusals():
    class Odd(Euclidean):
        pass

    class Sphere(type(Euclidean()).__mro__[1]):
        pass

    x = draw(3)
    log_likelihood(MIXTURE.denoiser(CondOT()), x, space=Odd(), steps=3, method="heun")
    with pytest.raises(ValueError, match="not defined here"):
        log_likelihood(MIXTURE.denoiser(CondOT()), x, space=Sphere())
    with pytest.raises(ValueError, match="Student-t"):
        log_likelihood(MIXTURE.denoiser(PFGMpp(D=32)), x)
    with pytest.raises(TypeError, match="float32 or float64"):
        log_likelihood(MIXTURE.denoiser(CondOT()), x.half())
    blind = Denoiser(lambda x, t: x.detach() * 0.0, CondOT(), "flow")
    with pytest.raises(ValueError, match="does not depend on x"):
        log_likelihood(blind, x)
    broken = Denoiser(lambda x, t: x / (t.reshape(-1, 1) < 500.0), CondOT(), "flow")
    with pytest.raises(FloatingPointError, match="not finite at t="):
        log_likelihood(broken, x, steps=4, method="rk4")
    with pytest.raises(ValueError, match="frequencies"):
        log_likelihood(gaussian(Spectral.power_law((4,)), None), x.new_zeros(2, 4), space=Masked(MASK))


def test_a_table_of_betas():
    """Its velocity jumps at the table's nodes, which leaves the first order to every method."""
    schedule, x = DiscreteBetas.linear(), draw(4)
    exact, errors = MIXTURE.log_prob(x, schedule, 0.01), []
    for steps in (99, 198):
        grid = grids.uniform(steps, 0.01, 1.0)
        result = log_likelihood(MIXTURE.denoiser(schedule), x, grid, method="rk4", prior=exact_prior(schedule))
        errors.append(float((result.log_prob - exact).abs().max()))
    assert errors[0] < 5e-3
    assert errors[1] < 0.6 * errors[0]
