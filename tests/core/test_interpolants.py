"""Stochastic interpolants against the closed form between two Gaussian mixtures with independent coupling."""

import math

import pytest
import torch

from scidiffuse.core import grids
from scidiffuse.core.interpolants import StochasticInterpolant, ode_sample, sde_sample

ALL = [
    StochasticInterpolant(),
    StochasticInterpolant("linear", "brownian", 2.0),
    StochasticInterpolant("linear", "quadratic"),
    StochasticInterpolant("trigonometric", "sine_squared", 0.5),
    StochasticInterpolant("trigonometric", "sigmoid"),
    StochasticInterpolant("encoder_decoder", "sine_squared"),
    StochasticInterpolant("trigonometric", "none"),
]
IDS = [f"{i.path}-{i.gamma_kind}" for i in ALL]


class Bridge:
    """b and eta between mixtures of isotropic Gaussians: given the pair of components, everything is linear.

    Given (i, j): mean = alpha m0_i + beta m1_j, V = alpha^2 v0 + beta^2 v1 + gamma^2,
    b = mean' + (alpha alpha' v0 + beta beta' v1 + gamma gamma')/V (x - mean), eta = gamma/V (x - mean).
    """

    def __init__(self, interpolant, m0, v0, m1, v1):
        self.i = interpolant
        self.m0, self.m1 = (torch.tensor(m, dtype=torch.float64) for m in (m0, m1))
        self.v0, self.v1 = v0, v1

    def draw(self, n, generator):
        out = []
        for means, v in ((self.m0, self.v0), (self.m1, self.v1)):
            which = torch.randint(0, len(means), (n,), generator=generator)
            z = torch.randn(n, means.shape[1], generator=generator, dtype=torch.float64)
            out.append(means[which] + math.sqrt(v) * z)
        return out

    def _parts(self, x, t):
        a, b, c = (f(t)[:, None] for f in (self.i.alpha, self.i.beta, self.i.gamma))
        da, db, _ = (d[:, None] for d in self.i.derivatives(t))
        V = a**2 * self.v0 + b**2 * self.v1 + c**2
        dV = a * da * self.v0 + b * db * self.v1 + self.i.gamma_rate(t)[:, None]
        pairs = [(p, q) for p in self.m0 for q in self.m1]
        rest = torch.stack([x - a * p - b * q for p, q in pairs], 1)
        drift = torch.stack([da * p + db * q for p, q in pairs], 1)
        weight = (-0.5 * rest.square().sum(-1) / V).softmax(1)[..., None]
        return weight, rest, drift, V[..., None], dV[..., None], c[..., None]

    def velocity(self, x, t):
        w, rest, drift, V, dV, _ = self._parts(x, t)
        return (w * (drift + dV / V * rest)).sum(1)

    def denoiser(self, x, t):
        w, rest, _, V, _, c = self._parts(x, t)
        return (w * c / V * rest).sum(1)


def gaussian(interpolant):
    return Bridge(interpolant, [[1.0, -2.0]], 0.5, [[-1.0, 0.5]], 2.0)


def mixture(interpolant):
    return Bridge(interpolant, [[-2.0, 0.0], [2.0, 0.0]], 0.3, [[0.0, 2.0], [0.0, -2.0], [2.5, 0.0]], 0.2)


@pytest.fixture
def gen():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("i", ALL, ids=IDS)
def test_coefficients(i):
    assert (i.alpha(0.0), i.beta(0.0), i.gamma(0.0)) == (1.0, 0.0, pytest.approx(0.0, abs=1e-15))
    assert (i.alpha(1.0), i.beta(1.0), i.gamma(1.0)) == (
        pytest.approx(0.0, abs=1e-15),
        1.0,
        pytest.approx(0.0, abs=1e-15),
    )
    h = 1e-6
    for t in (0.01, 0.3, 0.77, 0.995):
        for f, exact in zip((i.alpha, i.beta, i.gamma), i.derivatives(t), strict=True):
            assert exact == pytest.approx((f(t + h) - f(t - h)) / (2 * h), rel=1e-6, abs=1e-8)
            assert float(f(torch.tensor(t, dtype=torch.float64))) == pytest.approx(f(t), abs=1e-15)
        assert i.gamma_rate(t) == pytest.approx(i.gamma(t) * i.derivatives(t)[2], rel=1e-12)
        assert i.gamma(t) > 0 or i.gamma_kind == "none"


def test_known_values():
    assert StochasticInterpolant(scale=2.0).gamma(0.25) == pytest.approx(math.sqrt(2 * 0.25 * 0.75))
    encoder = StochasticInterpolant("encoder_decoder", "sine_squared")
    assert encoder.alpha(0.5) == encoder.beta(0.5) == 0.0 and encoder.gamma(0.5) == 1.0
    assert encoder.alpha(0.7) == 0.0 and encoder.beta(0.3) == 0.0
    circle = StochasticInterpolant("trigonometric")
    assert circle.alpha(0.2) ** 2 + circle.beta(0.2) ** 2 == pytest.approx(1.0)


@pytest.mark.parametrize("i", ALL[:-1], ids=IDS[:-1])
@pytest.mark.parametrize("antithetic", [True, False])
def test_losses_are_least_at_the_closed_form(i, antithetic, gen):
    # at the minimiser f the gradient along any direction d is zero, E[(f - target) . d] = 0, and the value is -E|f|^2/2
    bridge = mixture(i)
    x0, x1 = bridge.draw(8_000, gen)
    t = 0.02 + 0.96 * torch.rand(len(x0), generator=gen, dtype=torch.float64)
    for loss, field in ((i.velocity_loss, bridge.velocity), (i.denoiser_loss, bridge.denoiser)):
        c = torch.zeros(3, dtype=torch.float64, requires_grad=True)

        def bent(x, t, field=field, c=c):
            f = field(x, t)
            return f + c[0] * f + c[1] * torch.sin(x) + c[2] * t[:, None]

        seeded = torch.Generator().manual_seed(1)
        value = loss(bent, x0, x1, seeded, t, antithetic)
        (grad,) = torch.autograd.grad(value, c)
        noise = 5 / math.sqrt(2 * len(x0)) * 4  # the targets have a standard deviation of up to 4
        assert grad.abs().max() < noise, (grad, noise)
        bump = torch.tensor([0.2, 0.0, 0.0], dtype=torch.float64)
        worse = loss(lambda x, t: bent(x, t, c=bump), x0, x1, torch.Generator().manual_seed(1), t, antithetic)  # noqa: B023
        assert worse > value


def test_antithetic_pairs_bound_the_variance_at_the_ends(gen):
    i = StochasticInterpolant()
    bridge = gaussian(i)
    spread = {}
    for antithetic in (True, False):
        for end in (1e-3, 1e-5):
            values = []
            for _ in range(60):
                x0, x1 = bridge.draw(64, gen)
                t = torch.full((64,), end, dtype=torch.float64)
                values.append(float(i.velocity_loss(bridge.velocity, x0, x1, gen, t, antithetic)))
            spread[antithetic, end] = float(torch.tensor(values).std())
    assert spread[False, 1e-5] > 5 * spread[False, 1e-3]  # grows as 1/sqrt(t)
    assert spread[True, 1e-5] < 1.5 * spread[True, 1e-3]
    assert spread[True, 1e-5] < 0.05 * spread[False, 1e-5]


@pytest.mark.parametrize("i", ALL[:-1], ids=IDS[:-1])
def test_score_is_that_of_the_marginal(i, gen):
    bridge = gaussian(i)
    x = torch.randn(6, 2, generator=gen, dtype=torch.float64)
    t = torch.tensor([0.1, 0.3, 0.5, 0.6, 0.8, 0.97], dtype=torch.float64)
    a, b, c = (f(t)[:, None] for f in (i.alpha, i.beta, i.gamma))
    exact = -(x - a * bridge.m0 - b * bridge.m1) / (a**2 * 0.5 + b**2 * 2.0 + c**2)
    torch.testing.assert_close(i.score(bridge.denoiser, x, t), exact)
    with pytest.raises(ValueError, match="gamma = 0"):
        i.score(bridge.denoiser, x, torch.zeros(6, dtype=torch.float64))


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_ode_reaches_the_exact_map_at_its_order(method, order, backward, gen):
    # Gaussian to Gaussian: x -> m1 + sqrt(v1/v0) (x - m0), whatever the path between
    bridge = gaussian(StochasticInterpolant("trigonometric", "sine_squared"))
    x0 = bridge.draw(20, gen)[0]
    x1 = bridge.m1 + math.sqrt(2.0 / 0.5) * (x0 - bridge.m0)
    start, end = (x1, x0) if backward else (x0, x1)
    error = [
        float((ode_sample(bridge.velocity, start, n, backward=backward, method=method) - end).abs().max())
        for n in (40, 80)
    ]
    assert math.log2(error[-2] / error[-1]) > order - 0.15
    assert error[-1] < (0.1 if order == 1 else 2e-3)


def test_forward_then_backward_returns(gen):
    bridge = mixture(StochasticInterpolant())
    x = bridge.draw(50, gen)[0]
    back = [
        float((ode_sample(bridge.velocity, ode_sample(bridge.velocity, x, n), n, backward=True) - x).abs().max())
        for n in (50, 200)
    ]
    assert back[1] < 0.05 and back[1] < back[0] / 3


def energy_distance(x, y):
    return float(2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean())


@pytest.mark.parametrize("i", [ALL[0], ALL[3], ALL[5]], ids=[IDS[0], IDS[3], IDS[5]])
@pytest.mark.parametrize("backward", [False, True])
def test_sde_and_ode_have_the_marginals_of_the_data(i, backward, gen):
    bridge = mixture(i)
    n = 800
    x0, x1 = bridge.draw(n, gen)
    start, target = (x1, x0) if backward else (x0, x1)
    fresh = bridge.draw(n, gen)[0 if backward else 1]
    floor = energy_distance(fresh, target)
    ode = ode_sample(bridge.velocity, start, 40, backward=backward)
    sde = sde_sample(i, bridge.velocity, bridge.denoiser, start, gen, 80, eps=0.5, backward=backward)
    heun = sde_sample(i, bridge.velocity, bridge.denoiser, start, gen, 40, eps=0.5, backward=backward, method="heun")
    assert energy_distance(start, target) > 0.5
    for x in (ode, sde, heun):
        assert energy_distance(x, target) < 0.015 + 3 * floor
    assert energy_distance(sde, ode) < 0.015 + 3 * floor
    assert (sde - ode).abs().mean() > 0.1  # other paths, same law


def test_sign_of_the_score_matters_by_direction(gen):
    # the forward drift used backwards does not keep the law: the test above could not pass with a wrong sign
    i = StochasticInterpolant()
    bridge = mixture(i)
    _, x1 = bridge.draw(500, gen)
    right = sde_sample(i, bridge.velocity, bridge.denoiser, x1, gen, 60, eps=1.0, backward=True)
    wrong = sde_sample(i, bridge.velocity, lambda x, t: -bridge.denoiser(x, t), x1, gen, 60, eps=1.0, backward=True)
    target = bridge.draw(500, gen)[0]
    assert energy_distance(wrong, target) > 5 * energy_distance(right, target)


def test_without_noise_the_sde_is_the_ode(gen):
    i = StochasticInterpolant()
    bridge = mixture(i)
    x = bridge.draw(10, gen)[0]
    ode = ode_sample(bridge.velocity, x, 20, method="euler")
    assert torch.equal(sde_sample(i, bridge.velocity, bridge.denoiser, x, gen, 20, eps=0.0), ode)
    assert torch.equal(sde_sample(i, bridge.velocity, bridge.denoiser, x, gen, 20, eps=lambda t: 0.0), ode)


def test_only_the_generator_is_random():
    i = StochasticInterpolant()
    bridge = mixture(i)
    x = bridge.draw(10, torch.Generator().manual_seed(0))[0]
    runs = []
    for seed, world in ((3, 0), (3, 1), (4, 1)):
        torch.manual_seed(world)
        g = torch.Generator().manual_seed(seed)
        runs.append(
            (
                sde_sample(i, bridge.velocity, bridge.denoiser, x, g, 10),
                float(i.velocity_loss(bridge.velocity, x, x, g)),
            )
        )
    assert torch.equal(runs[0][0], runs[1][0]) and runs[0][1] == runs[1][1]
    assert not torch.equal(runs[0][0], runs[2][0]) and runs[0][1] != runs[2][1]


def test_grids_and_shapes(gen):
    i = StochasticInterpolant()
    x = torch.randn(4, 3, 5, generator=gen)
    fields = (lambda x, t: x * t[:, None, None], lambda x, t: x)
    for n in (3, grids.uniform(3, 0.0, 1.0)):
        assert ode_sample(fields[0], x, n).shape == x.shape
    torch.testing.assert_close(ode_sample(fields[0], x, 3), ode_sample(fields[0], x, grids.uniform(3, 0.0, 1.0)))
    assert sde_sample(i, *fields, x, gen, 3).dtype == torch.float32
    assert i.velocity_loss(fields[0], x, x, gen).dtype == torch.float32
    with pytest.raises(ValueError, match="runs backward"):
        ode_sample(fields[0], x, grids.uniform(3))
    with pytest.raises(ValueError, match="leaves"):
        ode_sample(fields[0], x, grids.uniform(3, 0.0, 1.5))


def test_refusals(gen):
    x = torch.zeros(4, 2)
    none = StochasticInterpolant(gamma_kind="none")
    field = lambda x, t: x  # noqa: E731
    with pytest.raises(ValueError, match="no score"):
        sde_sample(none, field, field, x, gen)
    with pytest.raises(ValueError, match="no noise"):
        none.denoiser_loss(field, x, x, gen)
    with pytest.raises(ValueError, match="needs a gamma"):
        StochasticInterpolant("encoder_decoder", "none")
    with pytest.raises(ValueError, match=r"path.*curly"):
        StochasticInterpolant("curly")
    with pytest.raises(ValueError, match=r"gamma_kind.*loud"):
        StochasticInterpolant(gamma_kind="loud")
    with pytest.raises(ValueError, match="scale"):
        StochasticInterpolant(scale=0.0)
    with pytest.raises(ValueError, match=r"\(4, 2\) and \(3, 2\)"):
        none.velocity_loss(field, x, x[:3], gen)
    with pytest.raises(ValueError, match=r"\(4,\), got \(2,\)"):
        none.velocity_loss(field, x, x, gen, torch.tensor([0.1, 0.2]))
    with pytest.raises(ValueError, match=r"eps.*-1"):
        sde_sample(StochasticInterpolant(), field, field, x, gen, eps=-1.0)
    with pytest.raises(ValueError, match=r"method.*rk4"):
        ode_sample(field, x, method="rk4")
    assert hash(StochasticInterpolant()) == hash(StochasticInterpolant())
