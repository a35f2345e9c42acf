import math

import pytest
import torch

from scidiffuse.core import grids
from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.sample import sample
from scidiffuse.core.samplers import AdaptiveDPM, DPMSolverPP
from scidiffuse.core.schedules import VE, CondOT, MeanReverting, PFGMpp, ProductSchedule, VPLinear
from scidiffuse.core.spaces import Graph, Masked, Product, ZeroCoM

MIXTURE = GaussianMixture.example()
SCHEDULES = [VPLinear(), CondOT(), VE()]


def span(schedule):
    return grids.log_snr(schedule, 1, end=None if isinstance(schedule, VE) else 1e-2)


def start(schedule, n=6, seed=0):
    x = torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return x * schedule.prior_std(span(schedule).start)


def gaussian(schedule, variance, space=None):
    """Exact denoiser of N(0, variance) in every element; works on any shape and on product states."""

    def leaf(schedule, x, t):
        t = t.double()
        a, s = schedule.alpha(t), schedule.sigma(t)
        gain = a * variance / (a * a * variance + s * s)
        return gain.to(x).reshape(-1, *[1] * (x.ndim - 1)) * x

    def network(x, t):
        if isinstance(x, dict):
            return {name: leaf(schedule.leaves[name], value, t) for name, value in x.items()}
        return leaf(schedule, x, t)

    return Denoiser(network, schedule, "data", space, label=lambda schedule, t: t)


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_error_follows_the_tolerance(schedule, order):
    x, grid, denoiser = start(schedule), span(schedule), MIXTURE.denoiser(schedule)
    fine = grids.log_snr(schedule, 400, start=grid.start, end=grid.end)
    solver = DPMSolverPP(order=3, method="singlestep")
    truth = sample(denoiser, solver, fine, x=x, dtype=torch.float64).x
    errors, calls = [], []
    for tol in (1e-2, 1e-3, 1e-4):
        run = sample(denoiser, AdaptiveDPM(order, atol=tol / 5, rtol=tol), grid, x=x, dtype=torch.float64)
        errors.append(float((run.x - truth).abs().max()))
        calls.append(run.calls)
        assert bool((run.state.t == grid.end).all())
    assert errors[2] < 0.2 * errors[1] < 0.1 * errors[0] or errors[2] < 5e-4
    assert errors[2] < 1e-3
    # work grows like tol^(-1/p): tenfold accuracy costs 3.2 or 2.2 times the calls
    assert calls[2] / calls[1] < 1.4 * 10 ** (1 / order)


def test_exact_on_gaussian_data():
    schedule, s = VPLinear(), 0.3
    grid = grids.log_snr(schedule, 1, end=1e-2)
    x = start(schedule)
    run = sample(gaussian(schedule, s), AdaptiveDPM(3, atol=1e-7, rtol=1e-6), grid, x=x, dtype=torch.float64)

    def scale(t):
        return math.sqrt(schedule.alpha(t) ** 2 * s + schedule.sigma(t) ** 2)

    torch.testing.assert_close(run.x, x * scale(grid.end) / scale(grid.start), rtol=2e-5, atol=0)


def test_every_sample_is_alone():
    schedule = VPLinear()
    denoiser, x, grid = MIXTURE.denoiser(schedule), start(schedule, 7), span(schedule)
    sampler = AdaptiveDPM(3)
    whole = sample(denoiser, sampler, grid, x=x, dtype=torch.float64)
    parts = sample(denoiser, sampler, grid, x=x, dtype=torch.float64, max_batch=3)
    torch.testing.assert_close(whole.x, parts.x, rtol=0, atol=1e-13)
    assert torch.equal(whole.state.i, parts.state.i) and whole.calls == int(whole.state.i.max())
    assert len(set(whole.state.i.tolist())) > 1  # they did take different numbers of calls
    taken = sample(denoiser, sampler, grid, x=x[[4, 1]], dtype=torch.float64)
    torch.testing.assert_close(taken.x, whole.x[[4, 1]], rtol=0, atol=1e-13)


def test_runs_stop_and_go_on():
    schedule = VPLinear()
    denoiser, x, grid = MIXTURE.denoiser(schedule), start(schedule), span(schedule)
    whole = sample(denoiser, AdaptiveDPM(2), grid, x=x, dtype=torch.float64)
    half = sample(denoiser, AdaptiveDPM(2), grid, x=x, dtype=torch.float64, until=9)
    assert half.calls == 9
    picked = half.state.take(torch.tensor([5, 0, 2]))
    rest = sample(denoiser, AdaptiveDPM(2), grid, state=picked, dtype=torch.float64)
    torch.testing.assert_close(rest.x, whole.x[[5, 0, 2]], rtol=0, atol=1e-13)
    edited = half.state.restart(half.x)  # drops step size and history: still goes on
    again = sample(denoiser, AdaptiveDPM(2), grid, state=edited, dtype=torch.float64)
    assert (again.x - whole.x).abs().max() < 0.2


@pytest.mark.parametrize("order", [2, 3])
def test_a_rejected_step_keeps_its_first_prediction(order):
    schedule = VPLinear()
    asked = []
    exact = MIXTURE.denoiser(schedule)

    def network(x, t):
        asked.append((float(t[0]), x.clone()))
        return exact.network(x, t)

    denoiser = Denoiser(network, schedule, "data", label=lambda schedule, t: t)
    sampler = AdaptiveDPM(order, atol=1e-4, rtol=1e-4, h0=4.0)  # the first step must be rejected
    grid = span(schedule)
    run = sample(denoiser, sampler, grid, x=start(schedule, 1), dtype=torch.float64)
    assert run.calls == len(asked)
    times = [t for t, _ in asked]
    assert times.count(grid.start) == 1
    assert times[order] < grid.start and times[order] > times[1]  # second attempt: a shorter inner stage
    firsts = [times[k] for k in range(len(times)) if k == 0 or all(times[k] < t for t in times[:k])]
    assert len(firsts) < len(times)


def test_default_grid_lands_at_zero():
    schedule = VPLinear()
    run = sample(MIXTURE.denoiser(schedule), AdaptiveDPM(3), shape=(400, 2), seed=0, dtype=torch.float64)
    assert bool((run.state.t == 0.0).all())
    truth = MIXTURE.sample(4000, torch.Generator().manual_seed(1))
    assert (run.x.mean(0) - truth.mean(0)).abs().max() < 0.15
    assert (run.x.T.cov() - truth.T.cov()).abs().max() < 0.2
    # samples that arrive early wait without a change, and are never asked about at sigma = 0
    early = int(run.state.i.argmin())
    alone = sample(
        MIXTURE.denoiser(schedule),
        AdaptiveDPM(3),
        shape=(1, 2),
        seed=0,
        slots=range(early, early + 1),
        dtype=torch.float64,
    )
    torch.testing.assert_close(alone.x[0], run.x[early], rtol=0, atol=1e-12)


def test_noise_predictions_and_log_sigma_labels_are_not_asked_at_zero():
    schedule = VPLinear()

    def network(x, label):
        assert bool(torch.isfinite(label).all())
        return x

    denoiser = Denoiser(network, schedule, "noise", label="log_sigma")
    assert torch.isfinite(sample(denoiser, AdaptiveDPM(2), shape=(3, 2), seed=1).x).all()


def product(n, size):
    mask = torch.zeros(3, size, dtype=torch.bool)
    for k, count in enumerate(n):
        mask[k, :count] = True
    return Product(X=Masked(mask), A=Graph(mask))


@pytest.mark.parametrize("order", [2, 3])
def test_product_states_keep_constraints_and_ignore_padding(order):
    schedule = ProductSchedule(X=VPLinear(), A=VE(0.05, 5.0), clock="X")
    grid = grids.log_snr(schedule, 1, start=0.95, end=1e-2)
    results = []
    for size in (4, 7):
        space = product((2, 4, 3), size)
        shape = {"X": (3, size, 2), "A": (3, size, size)}
        denoiser = gaussian(schedule, 0.4, space)
        results.append(sample(denoiser, AdaptiveDPM(order), grid, shape=shape, seed=3, dtype=torch.float64))
    small, large = results
    torch.testing.assert_close(large.x["X"][:, :4], small.x["X"], rtol=0, atol=1e-6)
    torch.testing.assert_close(large.x["A"][:, :4, :4], small.x["A"], rtol=0, atol=1e-6)
    assert torch.equal(large.x["A"], large.x["A"].transpose(1, 2))
    assert not large.x["X"][:, 4:].any() and not large.x["A"][:, 4:].any() and not large.x["X"][0, 2:].any()
    assert not large.x["A"].diagonal(dim1=1, dim2=2).any()
    assert large.state.i.tolist() == small.state.i.tolist()


def test_product_weights_are_per_leaf():
    schedule = ProductSchedule(X=VPLinear(), A=CondOT(), clock="A")
    grid = grids.log_snr(schedule, 1, start=0.9, end=0.05)
    x = {"X": torch.randn(2, 3, dtype=torch.float64), "A": torch.randn(2, 3, dtype=torch.float64)}
    run = sample(gaussian(schedule, 0.5), AdaptiveDPM(3, atol=1e-7, rtol=1e-6), grid, x=x, dtype=torch.float64)
    for name, leaf in schedule.leaves.items():
        scale = [math.sqrt(leaf.alpha(t) ** 2 * 0.5 + leaf.sigma(t) ** 2) for t in (grid.end, grid.start)]
        torch.testing.assert_close(run.x[name], x[name] * scale[0] / scale[1], rtol=2e-5, atol=0)


def test_point_clouds_turn_with_their_steps():
    schedule, mask = VPLinear(), torch.ones(2, 5, dtype=torch.bool)
    space = ZeroCoM(mask)
    denoiser = gaussian(schedule, 0.2, space)
    x = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    q = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5)))[0]
    one, turned = (sample(denoiser, AdaptiveDPM(2), span(schedule), x=v, dtype=torch.float64) for v in (x, x @ q))
    torch.testing.assert_close(turned.x, one.x @ q, rtol=0, atol=1e-10)
    assert torch.equal(turned.state.i, one.state.i)
    assert one.x.sum(1).abs().max() < 1e-12


def test_references_enter_exactly():
    schedule = MeanReverting(theta="constant")
    y = torch.tensor([[0.5, -1.0], [2.0, 0.3]], dtype=torch.float64)
    x = torch.randn(2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    grid = grids.log_snr(schedule, 1, end=0.05)
    tight = AdaptiveDPM(3, atol=1e-7, rtol=1e-6)
    start_x = schedule.sigma(grid.start) * x + schedule.beta(grid.start) * y

    def network(x, t):
        t = t.double()
        a, b, s = (c.reshape(-1, 1) for c in (schedule.alpha(t), schedule.beta(t), schedule.sigma(t)))
        z = x - b * y
        return a * 0.3 / (a * a * 0.3 + s * s) * z

    denoiser = Denoiser(network, schedule, "data", label=lambda schedule, t: t)
    run = sample(denoiser, tight, grid, x=start_x, reference=y, dtype=torch.float64)

    def scale(t):
        return math.sqrt(schedule.alpha(t) ** 2 * 0.3 + schedule.sigma(t) ** 2)

    z = (start_x - schedule.beta(grid.start) * y) * scale(grid.end) / scale(grid.start)
    torch.testing.assert_close(run.x, z + schedule.beta(grid.end) * y, rtol=0, atol=1e-5)


def test_encoding_and_back():
    schedule = VPLinear()
    denoiser, tight = MIXTURE.denoiser(schedule), AdaptiveDPM(3, atol=1e-7, rtol=1e-6)
    grid = grids.log_snr(schedule, 1, start=0.8, end=0.05)
    x = MIXTURE.sample(3, torch.Generator().manual_seed(2))
    up = sample(denoiser, tight, grid.reverse(), x=x, dtype=torch.float64)
    down = sample(denoiser, tight, grid, x=up.x, dtype=torch.float64)
    torch.testing.assert_close(down.x, x, rtol=0, atol=1e-4)


def test_student_noise_is_welcome():
    schedule = PFGMpp(D=128)
    denoiser = Denoiser(lambda x, t: torch.zeros_like(x), schedule, "data")
    assert sample(denoiser, AdaptiveDPM(2), shape=(2, 3), seed=0).x.abs().max() < 1e-6


def test_refusals():
    for bad in ({"order": 4}, {"atol": 0.0}, {"rtol": -1.0}, {"theta": 1.0}, {"h_min": 1.0}, {"max_calls": 1}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            AdaptiveDPM(**bad)
    with pytest.raises(ValueError, match="start, t=1"):
        AdaptiveDPM().plan(CondOT(), grids.uniform(1, 1.0, 0.1))
    with pytest.raises(ValueError, match=r"t_min gives 0\.5"):
        AdaptiveDPM(t_min=0.5).plan(VPLinear(), grids.uniform(1, 0.4, 0.0))


def test_failures_are_named():
    schedule = VPLinear()
    exact, x, grid = MIXTURE.denoiser(schedule), start(schedule), span(schedule)
    with pytest.raises(RuntimeError, match="max_calls=10"):
        sample(exact, AdaptiveDPM(2, max_calls=10), grid, x=x)

    def broken(x, t):
        return torch.where(t.reshape(-1, 1) < 0.5, torch.nan, exact.network(x, t))

    denoiser = Denoiser(broken, schedule, "data", label=lambda schedule, t: t)
    with pytest.raises(FloatingPointError, match="sample 0 is not finite"):
        sample(denoiser, AdaptiveDPM(2), grid, x=x)
    noise = torch.Generator().manual_seed(0)

    def rough(x, t):
        return torch.randn(x.shape, generator=noise, dtype=x.dtype)

    denoiser = Denoiser(rough, schedule, "data")
    with pytest.raises(FloatingPointError, match="collapsed"):
        sample(denoiser, AdaptiveDPM(3, atol=1e-9, rtol=1e-9), grid, x=x)
