"""The DPM-Encoder reproduces data exactly; translation between Gaussians is known in closed form."""

import pytest
import torch

from scidiffuse.core import (
    BDIA,
    DDIM,
    DDPM,
    EDM,
    ClassifierFree,
    CondOT,
    Denoiser,
    DPMSolverPP,
    EDMStochastic,
    Graph,
    Masked,
    MeanReverting,
    PFGMpp,
    Product,
    ProductSchedule,
    SlotNoise,
    Spectral,
    VPCosine,
    VPLinear,
    ZeroCoM,
    grids,
    sample,
)
from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.composition import Replay, decode, encode, translate

MIXTURE = GaussianMixture.example()
SCHEDULE = VPLinear()
GRIDS = {
    "to zero": lambda s: grids.default(s, 25),
    "to small noise": lambda s: grids.log_snr(s, 25),
    "from the middle": lambda s: grids.uniform(12, 0.5, 0.0),
}


def draw(n, seed=0):
    return MIXTURE.sample(n, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sampler", [DDIM(eta=0.1), DDIM(eta=1.0), DDPM(), DDPM("large")], ids=repr)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("schedule", [SCHEDULE, EDM(0.02, 20.0), CondOT()], ids=lambda s: type(s).__name__)
def test_decoding_reproduces_the_data(schedule, sampler, grid):
    x, denoiser = draw(6), MIXTURE.denoiser(schedule)
    code = encode(denoiser, x, sampler, GRIDS[grid](schedule), seed=3)
    assert float((decode(denoiser, code) - x).abs().max()) < 1e-10
    assert (code.residual is None) == (grid == "to small noise")
    # the plain sampler on the recorded noise walks the same path
    again = sample(denoiser, sampler, code.grid, x=code.x, noise=code.recorded(), dtype=torch.float64).x
    again = again if code.residual is None else again + code.residual
    assert float((again - x).abs().max()) < 1e-10


def test_the_codes_of_data_are_normal_under_the_right_model():
    """z of the exact model is standard normal, for data of that model and the sampler's full noise."""
    code = encode(MIXTURE.denoiser(SCHEDULE), draw(800), DDPM(), grids.log_snr(SCHEDULE, 200), seed=0)
    z = torch.stack(list(code.z[:-1]))
    assert float(z.std()) == pytest.approx(1.0, abs=0.03)
    assert float(z.mean().abs()) < 0.02
    assert float((z[1:] * z[:-1]).mean().abs()) < 0.02
    assert float(code.x.std()) == pytest.approx(1.0, abs=0.06)


def test_seeds_slots_and_float32():
    denoiser, x = MIXTURE.denoiser(SCHEDULE), draw(5)
    grid = grids.default(SCHEDULE, 10)
    one, two = (encode(denoiser, x, DDPM(), grid, seed=s) for s in (0, 1))
    assert float((one.x - two.x).abs().max()) > 0.1
    part = encode(denoiser, x[2:4], DDPM(), grid, seed=0, slots=range(2, 4))
    torch.testing.assert_close(part.x, one.x[2:4])
    torch.testing.assert_close(part.z[3], one.z[3][2:4])
    torch.testing.assert_close(decode(denoiser, one, max_batch=2), x)
    single = encode(denoiser, x.float(), DDPM(), grid, seed=0)
    assert single.x.dtype == torch.float32
    torch.testing.assert_close(decode(denoiser, single), x.float(), rtol=0, atol=1e-5)


def test_translation_between_gaussians():
    """Same noise, same start: the difference of two linear chains is a recursion without data in it."""
    c, shift = 0.5, torch.tensor([4.0, -2.0], dtype=torch.float64)
    a = GaussianMixture(torch.tensor([[0.5, 0.5]]), torch.tensor([c]))
    b = GaussianMixture(a.means + shift, a.stds)
    x = a.sample(20, torch.Generator().manual_seed(0))
    for sampler, grid in ((DDPM(), grids.default(SCHEDULE, 40)), (DDIM(eta=0.3), grids.uniform(15, 0.6, 0.0))):
        moved = 0.0
        for (row,) in sampler.plan(SCHEDULE, grid).rows:
            alpha, sigma = SCHEDULE.alpha(row.t), SCHEDULE.sigma(row.t)
            gain = alpha * c * c / (alpha**2 * c * c + sigma**2)
            data = 1.0 - gain * alpha + gain * moved
            moved = row.out["x"]["D"] * data + row.out["x"]["N"] * (moved - alpha * data) / sigma
        y = translate(a.denoiser(SCHEDULE), b.denoiser(SCHEDULE), x, sampler, grid, seed=1)
        torch.testing.assert_close(y - x, (moved * shift).expand_as(x), rtol=0, atol=1e-9)
        # all the way from noise it is the whole shift; from the middle less
        assert (abs(moved - 1.0) < 1e-3) == (grid.times[0] == SCHEDULE.t_start)


def test_translation_keeps_what_the_domains_share():
    """Two mixtures with the same components elsewhere: samples keep component and place."""
    other = GaussianMixture(MIXTURE.means + torch.tensor([5.0, -3.0]), MIXTURE.stds, MIXTURE.weights)
    x = draw(50)
    y = translate(MIXTURE.denoiser(SCHEDULE), other.denoiser(SCHEDULE), x, DDPM(), steps=50, seed=0)
    assert float((y - x - torch.tensor([5.0, -3.0])).abs().max()) < 0.01


def test_one_model_with_two_conditions_and_guidance():
    def network(x, t, c):
        a, s = SCHEDULE.alpha(float(t[0])), SCHEDULE.sigma(float(t[0]))
        m = c[:, None].to(x) * torch.tensor([1.0, 0.0], dtype=x.dtype)
        return m + a * 0.25 / (a * a * 0.25 + s * s) * (x - a * m)

    denoiser = Denoiser(network, SCHEDULE, "data", label=lambda _, t: t)
    guided = ClassifierFree(denoiser, scale=2.0, null={"c": 0.0})
    x = 0.5 * draw(4) + torch.tensor([-1.0, 0.0])
    here, there = {"c": torch.full((4,), -1.0)}, {"c": torch.full((4,), 1.0)}
    kw = {"steps": 40, "seed": 0, "source_condition": here, "target_condition": there}
    y = translate(denoiser, denoiser, x, DDPM(), **kw)
    torch.testing.assert_close(y - x, torch.tensor([2.0, 0.0]).double().expand(4, 2), rtol=0, atol=0.01)
    z = translate(denoiser, guided, x, DDPM(), **kw)
    torch.testing.assert_close(z - x, torch.tensor([3.0, 0.0]).double().expand(4, 2), rtol=0, atol=0.02)
    code = encode(guided, x, DDPM(), steps=20, seed=0, condition=here)
    assert float((decode(guided, code, condition=here) - x).abs().max()) < 1e-10


MASK = torch.tensor([[True, True, True, False], [True, True, True, True]])


@pytest.mark.parametrize(
    ("space", "shape"),
    [
        (Masked(MASK), (2, 4, 2)),
        (ZeroCoM(MASK), (2, 4, 2)),
        (Graph(MASK), (2, 4, 4)),
        (Product(X=ZeroCoM(MASK), A=Graph(MASK)), {"X": (2, 4, 2), "A": (2, 4, 4)}),
    ],
    ids=["masked", "com", "graph", "product"],
)
def test_every_space(space, shape):
    product = isinstance(shape, dict)
    schedule = ProductSchedule(clock="X", X=VPLinear(), A=VPCosine()) if product else SCHEDULE
    like = {n: torch.zeros(s).double() for n, s in shape.items()} if product else torch.zeros(shape).double()

    def network(x, t):
        return {n: v.tanh() for n, v in x.items()} if isinstance(x, dict) else x.tanh()

    denoiser = Denoiser(network, schedule, "noise", space=space)
    x = space.randn(SlotNoise(0, range(2)), like, 0)
    for grid in (grids.default(schedule, 10), grids.log_snr(schedule, 10)):
        code = encode(denoiser, x, DDIM(eta=0.5), grid, seed=0)
        out = decode(denoiser, code)
        assert float(space.norm(space.lincomb([(1.0, out), (-1.0, x)])).max()) < 1e-10
        for z in code.z[:-1]:  # noises live in the space
            assert float(space.norm(space.lincomb([(1.0, z), (-1.0, space.project(z))])).max()) < 1e-9
        with pytest.raises(ValueError, match=r"decode\(\)"):
            code.recorded()
        split = decode(denoiser, code, max_batch=1) if not product else out
        assert float(space.norm(space.lincomb([(1.0, split), (-1.0, x)])).max()) < 1e-10


def test_reference_and_frequencies():
    schedule, y = MeanReverting(), draw(4, 1)
    x, kw = draw(4), {"reference": y, "condition": {"y": y}}
    denoiser = MIXTURE.denoiser(schedule)
    code = encode(denoiser, x, DDIM(eta=0.5), steps=10, seed=0, **kw)
    assert float((decode(denoiser, code, **kw) - x).abs().max()) < 1e-10

    schedule = Spectral.power_law((6,), c1=0.8, c2=1.0)
    denoiser = Denoiser(lambda x, t: x.tanh(), schedule, "noise")
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    code = encode(denoiser, x, DDIM(eta=0.5), steps=10, seed=0)
    assert float((decode(denoiser, code) - x).abs().max()) < 1e-10


@pytest.mark.parametrize(
    ("sampler", "match"),
    [
        (DDIM(), "needs eta > 0"),
        (DPMSolverPP(order=2), "needs eta > 0"),
        (BDIA(), "needs eta > 0"),
        (EDMStochastic(), "no chain of single noisy steps"),
    ],
    ids=repr,
)
def test_samplers_without_a_code(sampler, match):
    with pytest.raises(ValueError, match=match):
        encode(MIXTURE.denoiser(SCHEDULE), draw(2), sampler, steps=5, seed=0)


def test_refusals():
    denoiser, x = MIXTURE.denoiser(SCHEDULE), draw(2)
    with pytest.raises(ValueError, match="one noise schedule"):
        translate(denoiser, MIXTURE.denoiser(VPCosine()), x, DDPM(), steps=5, seed=0)
    with pytest.raises(ValueError, match="give grid= or steps="):
        encode(denoiser, x, DDPM(), seed=0)
    with pytest.raises(ValueError, match="5 steps"):
        encode(denoiser, x, DDPM(), grids.default(SCHEDULE, 5), steps=6, seed=0)
    with pytest.raises(ValueError, match="reference must have the shape"):
        encode(denoiser, x, DDPM(), steps=5, seed=0, reference=x[:1])
    with pytest.raises(TypeError, match="floating"):
        encode(denoiser, torch.ones(2, 2, dtype=torch.long), DDPM(), steps=5, seed=0)
    with pytest.raises(ValueError, match="cannot encode on a grid that ascends"):
        encode(denoiser, x, DDPM(), grids.default(SCHEDULE, 5).reverse(), seed=0)
    student = MIXTURE.denoiser(PFGMpp(D=16))
    with pytest.raises(ValueError, match="Student-t"):
        encode(student, x, DDIM(eta=0.5), steps=5, seed=0)
    with pytest.raises(ValueError, match="rows are recorded"):
        sample(denoiser, DDPM(), steps=3, shape=(2, 2), seed=0, hooks=[Replay([None])])
