import math

import pytest
import torch

from scidiffuse.core import grids
from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.noise import Recorded, SlotNoise
from scidiffuse.core.sample import sample
from scidiffuse.core.samplers import S4, PredictorCorrector
from scidiffuse.core.schedules import VE, CondOT, DiscreteBetas, MeanReverting, PFGMpp, ProductSchedule, VPLinear
from scidiffuse.core.spaces import Graph, Masked, Product

VARIANCE = 0.3


def gain(schedule, t):
    a, s = schedule.alpha(t), schedule.sigma(t)
    return a * VARIANCE / (a * a * VARIANCE + s * s)


def gaussian(schedule, space=None):
    """Exact denoiser of N(0, VARIANCE) in every element; works on any shape and on product states."""

    def leaf(schedule, x, t):
        return gain(schedule, t.double()).to(x).reshape(-1, *[1] * (x.ndim - 1)) * x

    def network(x, t):
        if isinstance(x, dict):
            return {name: leaf(schedule.leaves[name], value, t) for name, value in x.items()}
        return leaf(schedule, x, t)

    return Denoiser(network, schedule, "data", space, label=lambda schedule, t: t)


def marginal(schedule, t):
    return schedule.alpha(t) ** 2 * VARIANCE + schedule.sigma(t) ** 2


def energy(a, b):
    def mean(p, q):
        return torch.cdist(p, q).mean()

    return float(2 * mean(a, b) - mean(a, a) - mean(b, b))


@pytest.mark.parametrize("predictor", ["reverse_diffusion", "euler_maruyama"])
@pytest.mark.parametrize("schedule", [VPLinear(), VE(0.05, 5.0), CondOT()], ids=lambda s: type(s).__name__)
def test_one_step_is_the_formula(schedule, predictor):
    s, t = 0.6, 0.45
    x, z = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sampler = PredictorCorrector(predictor, "none", denoise=False)
    run = sample(gaussian(schedule), sampler, grids.explicit([s, t]), x=x, noise=Recorded([z]), dtype=torch.float64)
    score = -x / marginal(schedule, s)
    if predictor == "reverse_diffusion":
        a = schedule.alpha(s) / schedule.alpha(t)
        v = schedule.sigma(s) ** 2 - a**2 * schedule.sigma(t) ** 2
        expected = (2 - a) * x + v * score + math.sqrt(v) * z
    else:
        dt, g2 = s - t, schedule.g2(s)
        expected = x - schedule.drift(s) * x * dt + g2 * score * dt + math.sqrt(g2 * dt) * z
    torch.testing.assert_close(run.x, expected, rtol=1e-11, atol=1e-12)
    assert run.calls == 1 and run.state.draws == 1


def test_the_published_update_of_a_table_of_betas():
    schedule = DiscreteBetas.linear(num_steps=100)
    i = 57
    s, t = (i + 1) / 100, i / 100
    beta = 1 - (schedule.alpha(s) / schedule.alpha(t)) ** 2
    x, z = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sampler = PredictorCorrector(corrector="none", denoise=False)
    run = sample(gaussian(schedule), sampler, grids.explicit([s, t]), x=x, noise=Recorded([z]), dtype=torch.float64)
    score = -x / marginal(schedule, s)
    torch.testing.assert_close(run.x, (2 - math.sqrt(1 - beta)) * x + beta * score + math.sqrt(beta) * z)


@pytest.mark.parametrize("compat", [None, "published"])
def test_one_correction_is_the_formula(compat):
    schedule, s, t, snr, scale = VPLinear(), 0.6, 0.5, 0.2, 0.7
    x, z = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sampler = PredictorCorrector("none", snr=snr, scale_eps=scale, denoise=False, compat=compat)
    run = sample(gaussian(schedule), sampler, grids.explicit([s, t]), x=x, noise=Recorded([z]), dtype=torch.float64)
    score, a2 = -x / marginal(schedule, s), (schedule.alpha(s) / schedule.alpha(t)) ** 2
    if compat == "published":
        ratio = z.norm(dim=1).mean() / score.norm(dim=1).mean()
    else:
        ratio = (math.sqrt(3) / score.norm(dim=1, keepdim=True)).clamp_max(schedule.sigma(s))
        assert (ratio < schedule.sigma(s)).any() and (ratio == schedule.sigma(s)).any()  # both sides of the bound
    eps = 2 * a2 * (snr * ratio) ** 2
    torch.testing.assert_close(run.x, x + eps * score + scale * (2 * eps) ** 0.5 * z)


@pytest.mark.parametrize("predictor", ["reverse_diffusion", "euler_maruyama"])
def test_weak_order_one(predictor):
    """The variance of Gaussian data follows an exact recursion: every move is linear in (x, z)."""

    def error(schedule, steps):
        grid = grids.log_snr(schedule, steps, start=0.95, end=0.01)
        sampler = PredictorCorrector(predictor, "none", denoise=False)
        v = marginal(schedule, grid.start)
        for move in sampler.plan(schedule, grid).moves:
            factor = move.x + move.n * schedule.sigma(move.t) / marginal(schedule, move.t)
            v = factor**2 * v + move.z**2
        return abs(v / marginal(schedule, grid.end) - 1)

    for schedule in (VPLinear(), VE(0.05, 5.0), CondOT()):
        assert error(schedule, 400) / error(schedule, 800) > 2**0.9
        assert error(schedule, 800) < 0.02


@pytest.mark.parametrize("corrector", ["none", "langevin"])
@pytest.mark.parametrize("schedule", [VPLinear(), VE(0.01, 8.0)], ids=lambda s: type(s).__name__)
def test_mixture(schedule, corrector):
    mixture = GaussianMixture.example()
    grid = grids.uniform(50) if isinstance(schedule, VPLinear) else grids.log_snr(schedule, 50, final_zero=True)
    run = sample(mixture.denoiser(schedule), PredictorCorrector(corrector=corrector), grid, shape=(1500, 2), seed=0)
    truth = mixture.sample(1500, torch.Generator().manual_seed(1))
    # two sets of exact samples of this size differ by 0.0007; the prior by 0.04 to 0.1
    assert energy(run.x.double(), truth) < 0.008
    assert run.calls == (50 if corrector == "none" else 100)


def test_the_corrector_keeps_its_level_and_mends_a_wrong_state():
    schedule, n = VE(0.01, 8.0), 2000
    t = 0.7
    sampler = PredictorCorrector("none", corrector_steps=60, denoise=False, snr=0.25)
    grid = grids.explicit([t, t - 1e-6])
    for scale in (1.0, 2.0):
        x = torch.randn(n, 16, generator=torch.Generator().manual_seed(0)) * math.sqrt(scale * marginal(schedule, t))
        run = sample(gaussian(schedule), sampler, grid, x=x, seed=1)
        assert run.calls == 60
        # Langevin with step eps has the stationary variance V / (1 - eps / (2 V)), eps = 2 snr^2 min(V, sigma^2)
        bias = 1 / (1 - 0.25**2 * min(1.0, schedule.sigma(t) ** 2 / marginal(schedule, t)))
        assert float(run.x.var()) == pytest.approx(bias * marginal(schedule, t), rel=0.03)


def test_counted_calls_and_quiet_end():
    schedule, seen = VPLinear(), []
    exact = gaussian(schedule)

    def network(x, t):
        seen.append(float(t[0]))
        return exact.network(x, t)

    denoiser = Denoiser(network, schedule, "data", label=lambda schedule, t: t)
    grid = grids.uniform(4)
    run = sample(denoiser, PredictorCorrector(corrector_steps=2), grid, shape=(3, 2), seed=0, dtype=torch.float64)
    assert run.calls == len(seen) == 12 and run.state.draws == 11  # all but the last move draw
    assert seen == [t for t in grid.times[:-1] for _ in range(3)]
    # the last move is deterministic: from the state before it, another seed gives the same
    before = sample(
        denoiser, PredictorCorrector(corrector_steps=2), grid, shape=(3, 2), seed=0, until=11, dtype=torch.float64
    )
    last = sample(
        denoiser, PredictorCorrector(corrector_steps=2), grid, state=before.state, seed=99, dtype=torch.float64
    )
    assert torch.equal(last.x, run.x) and last.calls == 1


def graphs(size):
    mask = torch.zeros(4, size, dtype=torch.bool)
    for k, count in enumerate((2, 4, 1, 3)):
        mask[k, :count] = True
    return Product(X=Masked(mask), A=Graph(mask))


SAMPLERS = [
    PredictorCorrector(),
    PredictorCorrector("euler_maruyama", snr={"X": 0.1, "A": 0.2}, scale_eps={"X": 1.0, "A": 0.5}),
    PredictorCorrector(compat="published"),
    S4(),
    S4(snr={"X": 0.1, "A": 0.2}, weight="integrated"),
    S4(compat="published"),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_graphs_keep_their_constraints_and_ignore_padding(sampler):
    schedule = ProductSchedule(X=VPLinear(), A=VE(0.05, 3.0), clock="X")
    runs = []
    for size in (4, 6):
        space = graphs(size)
        shape = {"X": (4, size, 2), "A": (4, size, size)}
        run = sample(
            gaussian(schedule, space), sampler, grids.uniform(8, 0.95, 0.0), shape=shape, seed=3, dtype=torch.float64
        )
        runs.append(run.x)
    small, large = runs
    torch.testing.assert_close(large["X"][:, :4], small["X"], rtol=0, atol=1e-6)
    torch.testing.assert_close(large["A"][:, :4, :4], small["A"], rtol=0, atol=1e-6)
    assert torch.isfinite(small["X"]).all() and small["X"][0, :2].abs().max() > 1e-3
    assert torch.equal(large["A"], large["A"].transpose(1, 2))
    assert not large["X"][:, 4:].any() and not large["A"][:, 4:].any() and not small["X"][0, 2:].any()
    assert not large["A"].diagonal(dim1=1, dim2=2).any() and not small["A"][2].any()


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_cutting_the_batch(sampler):
    schedule = ProductSchedule(X=VPLinear(), A=VE(0.05, 3.0), clock="X")
    denoiser, shape = gaussian(schedule, graphs(4)), {"X": (4, 4, 2), "A": (4, 4, 4)}
    grid = grids.uniform(5, 0.95, 0.0)
    whole, cut = (
        sample(denoiser, sampler, grid, shape=shape, seed=3, max_batch=width, dtype=torch.float64).x
        for width in (None, 3)
    )
    error = max(float((whole[name] - cut[name]).abs().max()) for name in whole)
    assert error > 1e-4 if sampler.compat == "published" else error < 1e-12


@pytest.mark.parametrize("sampler", [PredictorCorrector(), PredictorCorrector("euler_maruyama"), S4()], ids=repr)
def test_a_reference_only_shifts(sampler):
    schedule = MeanReverting()
    y = torch.tensor([[0.5, -1.0], [2.0, 0.3]], dtype=torch.float64)

    def network(x, t):
        z = x - schedule.beta(t.double()).reshape(-1, 1) * (y if x.shape == y.shape else 0)
        return gain(schedule, t.double()).reshape(-1, 1) * z

    denoiser = Denoiser(network, schedule, "data", label=lambda schedule, t: t)
    grid, results = grids.uniform(4, 0.9, 0.1), []
    z0 = torch.randn(2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for shift in (0.0, 1.0):
        y = shift * torch.tensor([[0.5, -1.0], [2.0, 0.3]], dtype=torch.float64)
        x = z0 + schedule.beta(grid.start) * y
        run = sample(denoiser, sampler, grid, x=x, reference=y, seed=2, dtype=torch.float64)
        results.append(run.x - schedule.beta(grid.end) * y)
    torch.testing.assert_close(*results, rtol=0, atol=1e-12)


def test_draws_are_keyed():
    schedule, grid = VPLinear(), grids.uniform(3)
    noise = SlotNoise(5, range(2))
    x = torch.zeros(2, 3, dtype=torch.float64)
    run = sample(gaussian(schedule), PredictorCorrector(), grid, x=x, seed=5, until=1, dtype=torch.float64)
    z = noise(x, 0, "corrector")
    torch.testing.assert_close(run.x / run.x.abs().max(), z / z.abs().max())


def test_refusals():
    cases = [
        ({"predictor": "x"}, "predictor must"),
        ({"corrector": "x"}, "corrector must"),
        ({"predictor": "none", "corrector": "none"}, "nothing would happen"),
        ({"corrector_steps": 0}, "corrector_steps"),
        ({"snr": -0.1}, "snr"),
        ({"scale_eps": {"X": math.nan}}, "scale_eps"),
        ({"compat": "other"}, "compat"),
    ]
    for bad, message in cases:
        with pytest.raises(ValueError, match=message):
            PredictorCorrector(**bad)
    sampler = PredictorCorrector()
    with pytest.raises(ValueError, match="alpha = 0 at the start t=1"):
        sampler.plan(CondOT(), grids.uniform(3))
    with pytest.raises(ValueError, match="ascends"):
        sampler.plan(VPLinear(), grids.uniform(3, 0.1, 0.9))
    with pytest.raises(ValueError, match="student"):
        sample(gaussian(PFGMpp(D=64)), sampler, steps=3, shape=(2, 2), seed=0)
    schedule = ProductSchedule(X=VPLinear(), A=VPLinear(), clock="X")
    shape = {"X": (4, 4, 2), "A": (4, 4, 4)}
    with pytest.raises(ValueError, match=r"no value for the leaf 'A'"):
        sample(gaussian(schedule, graphs(4)), PredictorCorrector(snr={"X": 0.1}), steps=2, shape=shape, seed=0)
    with pytest.raises(ValueError, match="state is one tensor"):
        sample(gaussian(VPLinear()), PredictorCorrector(snr={"X": 0.1}), steps=2, shape=(2, 2), seed=0)
    assert hash(PredictorCorrector(snr={"X": 0.1})) == hash(PredictorCorrector(snr={"X": 0.1}))
