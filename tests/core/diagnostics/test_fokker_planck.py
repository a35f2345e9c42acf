"""The Fokker-Planck residual: zero for exact scores, not for others, in every space."""

import pytest
import torch

from scidiffuse.core import (
    EDM,
    GVP,
    VE,
    CondOT,
    Denoiser,
    Euclidean,
    Graph,
    Masked,
    MeanReverting,
    PFGMpp,
    Product,
    ProductSchedule,
    SubVP,
    VPCosine,
    VPLinear,
    ZeroCoM,
)
from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.diagnostics import fokker_planck, fokker_planck_loss
from scidiffuse.core.noise import SlotNoise

MIXTURE = GaussianMixture.example()
SCHEDULES = [VPLinear(), VPCosine(), SubVP(), GVP(), CondOT(), VE(), EDM()]


def points(schedule, n=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    t = torch.linspace(0.15, 0.85, n, dtype=torch.float64)
    noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    return MIXTURE.denoiser(schedule).add_noise(MIXTURE.sample(n, generator), noise, t), t


def wrong(schedule, by=0.1):
    """The exact denoiser plus a smooth error."""
    exact = MIXTURE.denoiser(schedule)
    return Denoiser(lambda x, t: exact.network(x, t) + by * torch.sin(x), schedule, "data", label=lambda _, t: t)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_zero_for_the_exact_score_and_not_for_another(schedule):
    x, t = points(schedule)
    exact = fokker_planck(MIXTURE.denoiser(schedule), x, t, time="exact")
    assert float(exact.relative.max()) < 1e-10
    torch.testing.assert_close(exact.rate, exact.flux, rtol=1e-8, atol=1e-10)
    assert exact.norm.shape == exact.relative.shape == (6,)
    assert float(fokker_planck(wrong(schedule), x, t, time="exact").relative.min()) > 1e-4


def test_the_difference_is_of_second_order():
    x, t = points(VPLinear())
    errors = [fokker_planck(MIXTURE.denoiser(VPLinear()), x, t, h=h).norm for h in (4e-3, 2e-3)]
    torch.testing.assert_close(errors[0] / errors[1], torch.full_like(t, 4.0), rtol=0.05, atol=0)


def test_a_float_time_is_one_time_for_all():
    x, _ = points(VPLinear())
    one = fokker_planck(wrong(VPLinear()), x, 0.4)
    many = fokker_planck(wrong(VPLinear()), x, torch.full((6,), 0.4))
    torch.testing.assert_close(one.residual, many.residual, rtol=1e-5, atol=1e-6)


def test_the_gauge_that_sampling_cannot_see_is_seen():
    """A time-independent error of the score, s + c: ds/dt = 0 = grad(c^2), but grad(2 s.c) and f remain."""
    schedule, c = EDM(0.05, 4.0), 0.3
    variance = 1.0

    def network(x, t):  # data prediction of N(0, 1) data, with the score moved by c
        s2 = (schedule.sigma(t.double()) ** 2)[:, None]
        return x + s2 * (-x / (variance + s2) + c)

    x, t = torch.tensor([[0.5], [-1.0]], dtype=torch.float64), torch.tensor([0.2, 0.5], dtype=torch.float64)
    result = fokker_planck(Denoiser(network, schedule, "data", label=lambda _, t: t), x, t, time="exact")
    s2 = schedule.sigma(t) ** 2
    # r = -grad(g^2/2 * 2 c s) = g^2 c / (1 + s^2)
    torch.testing.assert_close(result.residual[:, 0], schedule.g2(t) * c / (1 + s2))
    torch.testing.assert_close(result.loss(), schedule.g2(t) * (schedule.g2(t) * c / (1 + s2)) ** 2)
    torch.testing.assert_close(result.loss(1.0), schedule.g2(t) * schedule.g2(t) * c / (1 + s2))


def test_hutchinson_is_unbiased_keyed_and_does_not_depend_on_batches():
    schedule = VPLinear()
    x, t = points(schedule)
    options = {"divergence": "hutchinson", "seed": 3}
    exact = fokker_planck(wrong(schedule), x, t, time="exact")
    many = fokker_planck(wrong(schedule), x, t, time="exact", probes=400, **options)
    gap = (many.residual - exact.residual).abs().max() / exact.flux.abs().max()
    assert 0.0 < float(gap) < 0.1
    whole = fokker_planck(wrong(schedule), x, t, **options).residual
    part = fokker_planck(wrong(schedule), x[2:4], t[2:4], slots=range(2, 4), **options).residual
    torch.testing.assert_close(part, whole[2:4])


def gaussian(space, schedule):
    """Exact denoiser of standard normal data of the space with variance 0.25."""

    def network(x, t):
        a, s = schedule.alpha(t.double()), schedule.sigma(t.double())
        gain = a * 0.25 / (a * a * 0.25 + s * s)

        def leaf(v):
            return gain.view(-1, *[1] * (v.ndim - 1)) * v + v.square() * 0.0

        return {k: leaf(v) for k, v in x.items()} if isinstance(x, dict) else leaf(x)

    return Denoiser(network, schedule, "data", space=space, label=lambda _, t: t)


MASK = torch.tensor([[True, True, True, False], [True, True, True, True]])


@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
@pytest.mark.parametrize(
    ("space", "like"),
    [
        (Masked(MASK), torch.zeros(2, 4)),
        (ZeroCoM(MASK), torch.zeros(2, 4, 3)),
        (Graph(MASK), torch.zeros(2, 4, 4)),
        (Product(X=Masked(MASK), A=Graph(MASK)), {"X": torch.zeros(2, 4), "A": torch.zeros(2, 4, 4)}),
        (Product(X=Euclidean()), {"X": torch.zeros(2, 3)}),
    ],
    ids=["masked", "zero-com", "graph", "product", "euclidean"],
)
def test_zero_for_gaussian_data_in_every_space(space, like, divergence):
    like = {k: v.double() for k, v in like.items()} if isinstance(like, dict) else like.double()
    x = space.randn(SlotNoise(1, range(2)), like, 0)
    t = torch.tensor([0.3, 0.6], dtype=torch.float64)
    result = fokker_planck(gaussian(space, VPLinear()), x, t, time="exact", divergence=divergence, seed=0, probes=2)
    assert float(result.relative.max()) < 1e-12


def test_a_reference_moves_the_drift():
    schedule = MeanReverting()
    x, t = points(VPLinear())
    y = torch.full_like(x, 0.7)

    def network(x, t):
        a, s, b = (f(t.double()) for f in (schedule.alpha, schedule.sigma, schedule.beta))
        return MIXTURE.data(x - b[:, None] * y, a, s)

    denoiser = Denoiser(network, schedule, "data", label=lambda _, t: t)
    assert float(fokker_planck(denoiser, x, t, time="exact", reference=y).relative.max()) < 1e-9
    with pytest.raises(ValueError, match="needs reference="):
        fokker_planck(denoiser, x, t)


def test_training_on_the_residual_lowers_it():
    """Parameters of a wrong score, led back by the regulariser alone."""
    schedule = VPLinear()
    exact = MIXTURE.denoiser(schedule)
    error = torch.nn.Parameter(torch.tensor(0.2, dtype=torch.float64))
    denoiser = Denoiser(lambda x, t: exact.network(x, t) + error * torch.sin(x), schedule, "data", label=lambda _, t: t)
    x, _ = points(schedule)
    t = torch.linspace(0.3, 0.7, 6, dtype=torch.float64)
    optimizer = torch.optim.Adam([error], lr=0.02)
    losses = []
    for _ in range(10):
        loss = fokker_planck_loss(denoiser, x, t, time="exact").mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.05 * losses[0]
    assert abs(float(error.detach())) < 0.05
    assert fokker_planck_loss(denoiser, x, t, divergence="hutchinson", seed=1).requires_grad


def test_gradients_reach_every_parameter_of_a_float32_network():
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2, bias=False))
    denoiser = Denoiser(lambda x, t: layers(torch.cat([x, t[:, None] / 1000], 1)), VPLinear())
    x, t = points(VPLinear())
    loss = fokker_planck_loss(denoiser, x.float(), t, divergence="hutchinson", probes=2, seed=0)
    assert loss.shape == (6,) and bool((loss > 0).all())
    loss.mean().backward()
    for parameter in layers.parameters():
        assert parameter.grad is not None and 0.0 < float(parameter.grad.norm()) < 1e6


def test_refusals():
    x, t = points(VPLinear())
    denoiser = MIXTURE.denoiser(VPLinear())
    with pytest.raises(ValueError, match="Student-t noise"):
        fokker_planck(Denoiser(lambda x, t: x, PFGMpp(D=64), "data"), x, 0.5)
    with pytest.raises(ValueError, match="one f"):
        fokker_planck(Denoiser(lambda x, t: x, ProductSchedule(X=VPLinear(), clock="X")), {"X": x}, 0.5)
    with pytest.raises(ValueError, match="is an end"):
        fokker_planck(denoiser, x, 0.0)
    with pytest.raises(ValueError, match="is outside"):
        fokker_planck(denoiser, x, 1.5)
    with pytest.raises(ValueError, match="one time a sample"):
        fokker_planck(denoiser, x, torch.full((6, 2), 0.5))
    with pytest.raises(TypeError, match="continuous"):
        fokker_planck(denoiser, x, torch.arange(6))
    with pytest.raises(ValueError, match="give seed="):
        fokker_planck(denoiser, x, t, divergence="hutchinson")
    with pytest.raises(ValueError, match="probes must be"):
        fokker_planck(denoiser, x, t, divergence="hutchinson", seed=0, probes=0)
    with pytest.raises(ValueError, match="must be differentiable"):
        fokker_planck(Denoiser(lambda x, t: torch.zeros_like(x), VPLinear()), x, t)
    with pytest.raises(ValueError, match="h must be positive"):
        fokker_planck(denoiser, x, t, h=0.0)
    with pytest.raises(ValueError, match="m must be positive"):
        fokker_planck(denoiser, x, t).loss(0.0)
