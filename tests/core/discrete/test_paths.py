"""Paths of least kinetic energy: their rates transport what they state, and no other rates do so more cheaply."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from scidiffuse.core.discrete import Marginal, Masked, MaskUniform, Uniform, paths
from scidiffuse.core.discrete.certain import certain
from scidiffuse.core.discrete.closed_form import p_value
from scidiffuse.core.discrete.keep import Cosine, CosineSquared, Exponential, Linear, LogLinear, Table
from scidiffuse.core.discrete.paths import MetricPath, MixturePath, TokenPath, kinetic_energy

DISTANCES = ((0.0, 1.0, 2.5, 0.7), (1.0, 0.0, 1.2, 0.4), (2.5, 1.2, 0.0, 3.0), (0.7, 0.4, 3.0, 0.0))
PATHS = [
    MetricPath(distances=DISTANCES, a=1.0, c=1.5),
    MetricPath.ordinal(5, power=1.0, a=5.0, c=1.0),
    MetricPath.embedded(torch.tensor([[0.0, 0.3], [1.0, 0.0], [-0.2, 1.0]]), power=4.0, a=0.9, c=3.0),
    MixturePath(probs=(0.1, 0.2, 0.3, 0.4)),
    MixturePath(probs=(0.0, 0.5, 0.5, 0.0)),
    MixturePath(probs=(1.0, 1.0, 2.0), keep="linear"),
]
KEEPS = [Linear(), LogLinear(), Cosine(), CosineSquared(), Exponential(), Table((1.0, 0.7, 0.2, 0.0))]
TIMES = [float(t) for t in np.random.default_rng(0).uniform(0.05, 0.95, size=6)]
IDS = {"ids": repr}


def every_pair(states: int) -> tuple[torch.Tensor, torch.Tensor]:
    """x0 and x of all pairs, (S, S) each."""
    ids = torch.arange(states)
    return ids[:, None].expand(states, states), ids.expand(states, states)


def sure(x0: torch.Tensor, states: int) -> torch.Tensor:
    return certain(torch.zeros(*x0.shape, states, dtype=torch.float64), x0)


def transported(p: torch.Tensor, rates: torch.Tensor) -> torch.Tensor:
    """What rates (x0, x, y) do to the laws p (x0, x): inflow less outflow."""
    flux = torch.where(p.unsqueeze(-1) > 0.0, p.unsqueeze(-1) * rates, 0.0)
    return flux.sum(1) - flux.sum(2)


@pytest.mark.parametrize("path", PATHS, **IDS)
def test_marginals_are_laws_from_the_prior_to_the_token(path):
    for t in (0.0, 1e-300, 1e-3, *TIMES, 1.0):
        p = path.marginal(t)
        assert bool((p >= 0.0).all())
        torch.testing.assert_close(p.sum(1), torch.ones(path.states).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(path.marginal(0.0), torch.eye(path.states).double(), rtol=0, atol=1e-15)
    torch.testing.assert_close(path.marginal(1.0), path.prior().expand(path.states, -1), rtol=0, atol=1e-15)


@pytest.mark.parametrize("path", PATHS, **IDS)
def test_derivative_is_that_of_the_marginal(path):
    h = 1e-5
    for t in TIMES:
        slope = (path.marginal(t + h) - path.marginal(t - h)) / (2.0 * h)
        torch.testing.assert_close(path.derivative(t), slope, rtol=1e-6, atol=1e-7)
    assert bool(torch.isfinite(path.derivative(0.0)).all())
    if not (isinstance(path, MetricPath) and path.a < 1.0):
        assert bool(torch.isfinite(path.derivative(1.0)).all())


@pytest.mark.parametrize("path", PATHS, **IDS)
def test_rates_are_those_of_the_least_flux_and_satisfy_kolmogorov_forward(path):
    x0, x = every_pair(path.states)
    for t in TIMES:
        p, dot = path.marginal(t), -path.derivative(t)  # the paper's time runs the other way
        rates = path.conditional_rate(x0, x, t)
        flux = (p[:, :, None] * dot[:, None, :] - dot[:, :, None] * p[:, None, :]).clamp_min(0.0)
        torch.testing.assert_close(p[:, :, None] * rates * (p[:, :, None] > 0.0), flux, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(transported(p, rates), dot, rtol=0, atol=1e-10)


@pytest.mark.parametrize("keep", KEEPS, **IDS)
@pytest.mark.parametrize("kind", ["masked", "uniform", "marginal", "mask_uniform"])
def test_interpolating_rates_satisfy_kolmogorov_there_and_back(kind, keep):
    process = {
        "masked": lambda: Masked(4, keep=keep),
        "uniform": lambda: Uniform(4, keep=keep),
        "marginal": lambda: Marginal(probs=(0.1, 0.2, 0.7), keep=keep),
        "mask_uniform": lambda: MaskUniform(4, keep=keep, uniform=0.3),
    }[kind]()
    x0, x = every_pair(process.states)
    data = x0[:, 0] != process.mask_id if process.mask_id is not None else torch.ones(process.states, dtype=torch.bool)
    eye = torch.eye(process.states, dtype=torch.float64)
    for t in TIMES:
        p = process.marginal(t)
        slope = float(keep.speed(t)) * (process.prior() - eye)  # d/dt of alpha 1 + (1 - alpha) r
        torch.testing.assert_close((p @ process.rate(t))[data], slope[data], rtol=0, atol=1e-10)
        back = process.reverse_rate(sure(x0, process.states), x, t)
        torch.testing.assert_close(transported(p, back)[data], -slope[data], rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", [Uniform(4), Marginal(probs=(0.1, 0.2, 0.7)), MaskUniform(4, uniform=0.3)], **IDS)
def test_reverse_rates_at_the_noisy_end_stir_by_the_prior(kind):
    """lambda is infinite at t = 1: what is left is a large rate whose targets have the law of the noise."""
    x0, x = every_pair(kind.states)
    for t in (1.0, torch.ones(kind.states, kind.states, dtype=torch.float64)):
        back = kind.reverse_rate(sure(x0, kind.states), x, t)
        assert bool(torch.isfinite(back).all())
        p = kind.prior().expand(kind.states, -1)
        moved = transported(p, back) / back.sum(-1).amax()
        data = torch.arange(kind.states) != (-1 if kind.mask_id is None else kind.mask_id)
        assert float(back[data].sum(-1).amax()) > 1e6
        assert float(moved[data].abs().max()) < 1e-6


@pytest.mark.parametrize("path", PATHS, **IDS)
def test_model_rate_is_the_mean_over_the_prediction(path):
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(path.states, (3, 4), generator=rng)
    log_p = path.log_probs(torch.randn(3, 4, path.states, generator=rng).double(), x)
    times = torch.rand(3, 4, generator=rng).double() * 0.9 + 0.05
    for t in (0.4, times[:, 0], times):
        want = sum(
            log_p[..., k : k + 1].exp() * path.conditional_rate(torch.full_like(x, k), x, t) for k in range(path.states)
        )
        torch.testing.assert_close(path.reverse_rate(log_p, x, t), want, rtol=1e-10, atol=1e-12)
        assert bool((path.reverse_rate(log_p, x, t).gather(-1, x.unsqueeze(-1)) == 0.0).all())
        s = 0.5 * t
        jumps = sum(
            log_p[..., k : k + 1].exp() * path.conditional_jumps(torch.full_like(x, k), x, s, t)
            for k in range(path.states)
        )
        torch.testing.assert_close(path.reverse_jumps(log_p, x, s, t), jumps, rtol=1e-10, atol=1e-12)
    # one time a token is the same as each token at its time
    whole = path.reverse_rate(log_p, x, times)
    for i, j in product(range(3), range(4)):
        one = path.reverse_rate(log_p[i : i + 1, j : j + 1], x[i : i + 1, j : j + 1], float(times[i, j]))
        torch.testing.assert_close(whole[i, j], one[0, 0], rtol=1e-10, atol=1e-12)
    assert path.reverse_rate(log_p.float(), x, 0.4).dtype == torch.float32


@pytest.mark.parametrize("path", PATHS[:3], **IDS)
@pytest.mark.parametrize("block", [1, 60, 1 << 21])
def test_mean_rates_of_metric_paths_however_they_are_cut(path, block, monkeypatch):
    """Many tokens of one value and few of others, several times: the mean is the sum over x_0, its gradient and second
    gradient those of the sum."""
    monkeypatch.setattr(paths, "BLOCK", block)
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(path.states, (3, 20), generator=rng)
    x[:, 5:17] = 0
    times = torch.tensor([0.3, 0.7, 0.3], dtype=torch.float64)
    u = torch.randn(3, 20, path.states, generator=rng).double().log_softmax(-1).requires_grad_()
    one = torch.stack([path.conditional_rate(torch.full_like(x, k), x, times) for k in range(path.states)], -2)
    want = torch.einsum("blk,blkv->blv", u.exp(), one)
    rates = path.reverse_rate(u, x, times)
    torch.testing.assert_close(rates, want, rtol=1e-10, atol=1e-12)
    weight = torch.randn(rates.shape, generator=rng).double()
    slopes = [torch.autograd.grad((r * weight).sum(), u, create_graph=True)[0] for r in (rates, want)]
    torch.testing.assert_close(*slopes, rtol=1e-10, atol=1e-12)
    curves = [torch.autograd.grad(s.square().sum(), u)[0] for s in slopes]
    torch.testing.assert_close(*curves, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("path", PATHS, **IDS)
def test_logarithms_of_rates_are_those_and_reach_further(path):
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(path.states, (3, 4), generator=rng)
    log_p = path.log_probs(torch.randn(3, 4, path.states, generator=rng).double(), x)
    for t in (0.4, torch.rand(3, generator=rng).double() * 0.9 + 0.05):
        rates = path.reverse_rate(log_p, x, t)
        torch.testing.assert_close(path.log_reverse_rate(log_p, x, t), rates.log(), rtol=1e-10, atol=1e-12)
        # a prediction that is a hundred times surer than float32 can say
        confident = path.log_probs(-200.0 * torch.arange(path.states).expand(3, 4, -1), x)
        assert confident.dtype == torch.float32
        few = path.reverse_rate(confident, x, t)
        more = path.log_reverse_rate(confident, x, t)
        exact = path.log_reverse_rate(confident.double(), x, t)
        assert more.dtype == torch.float64
        torch.testing.assert_close(more, exact, rtol=1e-12, atol=0)
        assert bool((few[more < -110.0] == 0.0).all()) and bool(torch.isneginf(more[few > 0.0]).logical_not().all())


def test_metric_paths_jump_nearer_and_mixtures_to_the_value():
    path = PATHS[0]
    x0, x = every_pair(4)
    rates, d = path.conditional_rate(x0, x, 0.5), path.distances
    nearer = d[:, None, :] < d[:, :, None]
    assert bool(((rates > 0.0) == nearer).all())
    rates = PATHS[3].conditional_rate(x0, x, 0.5)
    assert bool(((rates > 0.0) == ((x != x0).unsqueeze(-1) & (torch.arange(4) == x0.unsqueeze(-1)))).all())


def test_beta_of_small_a_counts_what_it_gains_where_its_derivative_is_infinite():
    path = MetricPath.ordinal(3, a=0.5, c=2.0)
    x0, x = every_pair(3)
    with pytest.raises(ValueError, match=r"infinite at t = 1.*reverse_jumps"):
        path.conditional_rate(x0, x, 1.0)
    d = path.distances
    want = path.beta_of(0.9) / 3.0 * (d[:, :, None] - d[:, None, :]).clamp_min(0.0)
    torch.testing.assert_close(path.conditional_jumps(x0, x, 0.9, 1.0), want, rtol=1e-12, atol=0)
    one = torch.ones(3, 3, dtype=torch.float64)
    torch.testing.assert_close(path.conditional_jumps(x0, x, 0.9 * one, one), want, rtol=1e-12, atol=0)
    steep = MetricPath.ordinal(3, a=2.0, c=2.0)  # convex beta: rate times length
    rate = steep.conditional_rate(x0, x, 0.6)
    torch.testing.assert_close(steep.conditional_jumps(x0, x, 0.5, 0.6), 0.1 * rate, rtol=1e-12, atol=0)


# ---------------------------------------------------------------------- least energy
def energy(net: torch.Tensor, extra: torch.Tensor, p: torch.Tensor) -> float:
    """sum j^2 / (p p) of the flux [net]_+ + extra, with an antisymmetric net flux and a symmetric extra one."""
    j = net.clamp_min(0.0) + extra
    return float((j.square() / (p[:, None] * p[None, :])).sum())


@pytest.mark.parametrize("path", [PATHS[0], PATHS[3]], **IDS)
def test_no_other_flux_that_transports_the_path_has_less_energy(path):
    rng = torch.Generator().manual_seed(1)
    for t, x0 in product(TIMES[:3], range(4)):
        p, dot = path.marginal(t)[x0], -path.derivative(t)[x0]
        net = dot[:, None] * p[None, :] - p[:, None] * dot[None, :]
        least = energy(net, torch.zeros(4, 4).double(), p)
        assert least == pytest.approx(float((dot.square() / p).sum()), rel=1e-10)
        for scale in (1e-3, 0.1, 1.0):
            a = torch.randn(4, 4, generator=rng).double()
            a = a - a.T
            rows = a.sum(1)
            cycle = scale * (a - rows[:, None] * p[None, :] + p[:, None] * rows[None, :])  # moves nothing
            torch.testing.assert_close((net + cycle).sum(1), dot, rtol=0, atol=1e-10)
            assert energy(net + cycle, torch.zeros(4, 4).double(), p) > least
            both_ways = scale * torch.rand(4, 4, generator=rng).double()
            assert energy(net, both_ways + both_ways.T, p) > least


def test_mixtures_on_the_great_circle_have_the_least_energy():
    """4 Om^2; keeping linearly or by a cosine costs without bound, for 1 - k starts like t."""
    probs = (0.05, 0.15, 0.8)
    best = kinetic_energy(MixturePath(probs=probs), panels=50)
    om = torch.tensor([math.acos(math.sqrt(q)) for q in probs], dtype=torch.float64)
    torch.testing.assert_close(best, 4.0 * om**2, rtol=1e-8, atol=0)
    for keep in ("linear", "cosine"):
        coarse, fine = (kinetic_energy(MixturePath(probs=probs, keep=keep), panels=n) for n in (50, 100))
        assert bool((coarse > best).all()) and bool((fine > coarse).all())
    sine = kinetic_energy(MixturePath(probs=probs, keep="cosine_squared"), panels=50)
    assert bool((sine > best).all()) and bool((sine < coarse).all())
    unseen = MixturePath(probs=(0.0, 0.5, 0.5))  # a token that the prior never gives: as from a mask
    assert float(kinetic_energy(unseen, panels=50)[0]) == pytest.approx(math.pi**2, rel=1e-8)
    uniform = 4.0 * math.acos(math.sqrt(0.2)) ** 2
    assert bool((kinetic_energy(PATHS[1], panels=400) > uniform).all())


def test_mixtures_meet_the_processes_they_share_marginals_with():
    probs = (0.1, 0.2, 0.7)
    for keep, t in product(("linear", "cosine", "cosine_squared"), TIMES):
        mixture, chain = MixturePath(probs=probs, keep=keep), Marginal(probs=probs, keep=keep)
        torch.testing.assert_close(mixture.marginal(t), chain.marginal(t), rtol=0, atol=1e-14)
    masked, unseen = Masked(3, keep="cosine_squared"), MixturePath(probs=(0.0, 0.5, 0.5))
    for t in TIMES:
        rate = masked.reverse_rate(sure(torch.tensor([[0]]), 3), torch.tensor([[2]]), t)[0, 0, 0]
        assert float(unseen.conditional_rate(torch.tensor([[0]]), torch.tensor([[2]]), t)[0, 0, 0]) == pytest.approx(
            float(rate), rel=1e-12
        )
        assert float(rate) == pytest.approx(math.pi / math.tan(0.5 * math.pi * t), rel=1e-12)


def test_a_token_that_the_prior_never_gives_is_known():
    path = MixturePath(probs=(0.0, 0.5, 0.5))
    log_p = path.log_probs(torch.zeros(1, 2, 3).double(), torch.tensor([[0, 1]]))
    torch.testing.assert_close(log_p.exp(), torch.tensor([[[1.0, 0, 0], [1 / 3, 1 / 3, 1 / 3]]]).double())


@pytest.mark.parametrize("path", PATHS, **IDS)
def test_corrupted_tokens_have_the_marginal_law(path):
    n = 3000
    x0 = torch.arange(path.states).repeat_interleave(n)[None].repeat(2, 1)
    u = torch.from_numpy(np.random.default_rng(3).uniform(size=x0.shape))
    times = torch.tensor([0.3, 0.7], dtype=torch.float64)
    x = path.corrupt(x0, times, u)
    assert bool((path.corrupt(x0[:1], 0.3, u[:1]) == x[:1]).all())
    assert bool((path.corrupt(x0, times[:, None].expand(x0.shape), u) == x).all())
    assert bool((path.corrupt(x0[:1], 0.0, u[:1]) == x0[:1]).all())
    for row, t in zip(x, times.tolist(), strict=True):
        for k, want in enumerate(path.marginal(t)):
            counts = torch.bincount(row[x0[0] == k], minlength=path.states)
            # 46 tests in this file at 1e-6 each: a false alarm in 2e4 runs
            assert p_value(counts, want) > 1e-6


# ---------------------------------------------------------------------- objects and errors
def test_paths_are_hashable_and_compare_by_value():
    table = torch.tensor(DISTANCES, dtype=torch.float64)
    path = MetricPath(distances=table, a=1.0, c=1.5)
    assert path == PATHS[0] and hash(path) == hash(PATHS[0])
    before = path.marginal(0.5)
    table[0, 1] = 9.0  # the table was copied
    assert torch.equal(path.marginal(0.5), before)
    path.marginal(0.5).zero_()  # and what is handed out, too
    assert torch.equal(path.marginal(0.5), before)
    assert path != MetricPath(distances=DISTANCES, a=2.0, c=1.5)
    assert path != MetricPath(distances=table, a=1.0, c=1.5)
    assert repr(path) == "MetricPath(states=4, a=1.0, c=1.5)"
    assert MixturePath(probs=(1, 1, 2)) == MixturePath(probs=(0.25, 0.25, 0.5))
    assert hash(MixturePath(probs=(1, 1, 2))) == hash(MixturePath(probs=(0.25, 0.25, 0.5)))
    ordinal = MetricPath.ordinal(3, power=2.0)
    torch.testing.assert_close(ordinal.distances, torch.tensor([[0.0, 1, 4], [1, 0, 1], [4, 1, 0]]).double())


@pytest.mark.parametrize("path", [PATHS[0], PATHS[3]], **IDS)
def test_what_needs_a_joint_law_is_refused_and_names_the_samplers(path):
    assert isinstance(path, TokenPath)
    x, log_p = torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, 2, 4).double()
    for ask in (
        lambda: path.transition(0.1, 0.2),
        lambda: path.rate(0.5),
        lambda: path.log_posterior(log_p, x, 0.1, 0.2),
        lambda: path.draw(log_p, x, 0.1, 0.2, torch.zeros(1, 2).double()),
    ):
        with pytest.raises(ValueError, match=r"not a joint law.*Euler\(\) or TauLeaping\(\)"):
            ask()


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="square table"):
        MetricPath(distances=torch.zeros(2, 3))
    with pytest.raises(ValueError, match="positive between two states"):
        MetricPath(distances=torch.zeros(3, 3))
    with pytest.raises(ValueError, match="zero from a state to itself"):
        MetricPath(distances=torch.ones(3, 3))
    with pytest.raises(ValueError, match="finite"):
        MetricPath(distances=[[0.0, math.nan], [1.0, 0.0]])
    with pytest.raises(ValueError, match="a of beta"):
        MetricPath.ordinal(3, a=0.0)
    with pytest.raises(ValueError, match="c of beta"):
        MetricPath.ordinal(3, c=math.inf)
    with pytest.raises(ValueError, match=r"\(S, dim\)"):
        MetricPath.embedded(torch.zeros(3))
    with pytest.raises(ValueError, match="not all zero"):
        MixturePath(probs=(0.5, -0.5))
    with pytest.raises(ValueError, match=r"use Masked\(3, keep='cosine_squared'\)"):
        MixturePath(probs=(0.0, 0.0, 1.0))
    with pytest.raises(ValueError, match="leaves"):
        MixturePath(probs=(0.5, 0.5), keep=Exponential(1.0))
