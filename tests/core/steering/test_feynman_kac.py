"""Feynman-Kac steering against exactly tilted laws.

The mixture is walked by its exact transitions (no discretisation error), so whatever differs is the steering's. A
statistic fails when |z| > Z; with all 60 statistics of this file two-sided, Z = 4.9 is a false alarm with a probability
below 60 * 1e-6 < 1e-4. Seeds are fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from scidiffuse.core import (
    DDIM,
    DDPM,
    Denoiser,
    DPMSolverPP,
    EDMStochastic,
    Euclidean,
    Grid,
    Hook,
    Masked,
    MeanReverting,
    Product,
    ProductSchedule,
    VPLinear,
    sample,
)
from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.noise import SlotNoise
from scidiffuse.core.samplers import Query, Sampler, State
from scidiffuse.core.steering import SVDD, FeynmanKac, effective_size, log_mean, repeat, systematic
from scidiffuse.core.steering.resampling import pick

Z = 4.9
MIXTURE = GaussianMixture.example()
SLOPE = torch.tensor([1.0, -0.7], dtype=torch.float64)


def linear(x: Tensor, step: Any) -> Tensor:
    return x.double() @ SLOPE


def tilted(b: Tensor) -> tuple[GaussianMixture, float]:
    """p(x) exp(b.x) / Z and log Z: component k is moved by c_k^2 b and reweighted by exp(b.mu_k + c_k^2 |b|^2 / 2)."""
    g = MIXTURE
    log = g.weights.log() + g.means @ b + g.stds**2 * (b @ b) / 2
    return GaussianMixture(g.means + g.stds[:, None] ** 2 * b, g.stds, log.softmax(0)), float(log.logsumexp(0))


def statistics(x: Tensor, truth: GaussianMixture) -> Tensor:
    """Coordinates, squares, and the components' responsibilities (whose expectations are the weights)."""
    return torch.cat([x, x.square(), truth._components(x, 1.0, 0.0)[0].softmax(1)[:, :2]], 1)


def expected(truth: GaussianMixture) -> Tensor:
    w, m, c = truth.weights[:, None], truth.means, truth.stds[:, None]
    return torch.cat([(w * m).sum(0), (w * (m**2 + c**2)).sum(0), truth.weights[:2]])


def z_scores(values: Tensor, log_w: Tensor, log_z: float, truth: Tensor, allowance: float = 0.0) -> Tensor:
    """z of the mean weight and of ratio estimates, from independent groups.

    Args:
        values: (G, K, S) statistics; log_w: (G, K) unnormalised.
        allowance: a bias that is known and not the steering's, taken off the deviations.
    """
    w = (log_w - log_z).exp()
    mass = w.mean(1)
    parts = (w[..., None] * values).mean(1)
    ratio = parts.mean(0) / mass.mean()
    noise = (parts - mass[:, None] * ratio) / mass.mean()
    error = torch.cat([mass.mean()[None] - 1.0, ratio - truth])
    se = torch.cat([mass.std()[None], noise.std(0)]) / len(w) ** 0.5
    return (error.abs() - allowance).clamp_min(0.0) / se


@dataclass(frozen=True)
class ExactAncestral(Sampler):
    """x_t | x_s of the mixture itself: a component by its responsibility, then its Gaussian."""

    schedule: VPLinear
    times: tuple[float, ...]

    @property
    def stochastic(self) -> bool:
        return True

    def plan(self, schedule: Any, grid: Any) -> None:
        return None

    def done(self, plan: Any, state: State) -> bool:
        return state.i >= len(self.times) - 1

    def time(self, plan: Any, state: State) -> float:
        return self.times[state.i]

    def draw(self, plan: Any, state: State, space: Any, noise: Any) -> dict[str, Tensor]:
        u = noise(state.x.new_empty(len(state.x), 1), state.draws, "component")
        return {"z": space.randn(noise, state.x, state.draws, "step"), "u": torch.special.ndtr(u)}

    def query(self, plan: Any, state: State, z: Any, space: Any, reference: Any) -> Query:
        return Query(state.x, self.times[state.i], None, state)

    def advance(self, plan: Any, state: State, query: Query, pred: Any, z: Any, space: Any, reference: Any) -> State:
        s, t = self.times[state.i], self.times[state.i + 1]
        a, b, v = self.schedule.alpha(s), self.schedule.alpha(t), self.schedule.sigma(s)
        u = self.schedule.sigma(t)
        c = (MIXTURE._components(state.x, a, v)[0].softmax(1).cumsum(1) < z["u"]).sum(1).clamp_max(2)
        mean, sd = MIXTURE.means[c], MIXTURE.stds[c, None]
        # joint Gaussian of (x_s, x_t) given the component: covariance (a/b) Var(x_t) for a < b (forward Markov chain)
        var_s, var_t = (a * sd) ** 2 + v * v, (b * sd) ** 2 + u * u
        gain = (a / b) * var_t / var_s
        x = b * mean + gain * (state.x - a * mean) + (var_t - gain * (a / b) * var_t).clamp_min(0).sqrt() * z["z"]
        return State(x, state.i + 1, 0, {}, state.aux, None, state.draws + 1)


SCHEDULE = VPLinear()
TIMES = (1.0, 0.6, 0.4, 0.25, 0.15, 0.08, 0.03, 0.0)
EXACT = ExactAncestral(SCHEDULE, TIMES)
DENOISER = MIXTURE.denoiser(SCHEDULE)


def run(hook: Any, n: int, seed: int, sampler: Any = EXACT, **options: Any) -> Any:
    if sampler is EXACT:
        options.setdefault("grid", Grid(TIMES))
    hooks = list(hook) if isinstance(hook, tuple | list) else [hook]
    return sample(DENOISER, sampler, shape=(n, 2), seed=seed, dtype=torch.float64, hooks=hooks, **options)


def test_the_tests_own_sampler_has_the_exact_law() -> None:
    x = sample(DENOISER, EXACT, Grid(TIMES), shape=(20000, 2), seed=5, dtype=torch.float64).x
    z = z_scores(statistics(x, MIXTURE)[:, None], torch.zeros(20000, 1, dtype=torch.float64), 0.0, expected(MIXTURE))
    assert z[1:].max() < Z


@pytest.mark.parametrize(("potential", "threshold"), list(product(["difference", "max", "sum"], [0.0, 0.5, 1.0])))
def test_reproduces_the_tilted_mixture(potential: Any, threshold: float) -> None:
    k, n, lam = 8, 16000, 0.1 if potential == "sum" else 0.8  # a sum tilts too far on the way
    truth, log_z = tilted(lam * SLOPE)
    hook = FeynmanKac(linear, k, lam, potential, threshold, final="resample" if threshold == 0.5 else "weights")
    result = run(hook, n, seed=3)
    log_w = result.state.aux["fk_log_w"].view(-1, k)
    z = z_scores(statistics(result.x, truth).view(-1, k, 6), log_w, log_z, expected(truth))
    assert z.max() < Z, z
    untilted = z_scores(statistics(result.x, truth).view(-1, k, 6), log_w, 0.0, expected(MIXTURE))
    assert untilted.max() > Z  # the test can fail
    resampled = [bool((a.view(-1, k) != torch.arange(k)).any()) for a in result.records["fk_ancestors"][:-1]]
    assert any(resampled) == (threshold > 0.0)


def test_reproduces_the_tilted_mixture_with_a_solver_of_the_package() -> None:
    # 64 steps of SDE-DPM-Solver++: its own law is off by up to 0.02 in these statistics (the allowance)
    truth, log_z = tilted(SLOPE)
    result = run(FeynmanKac(linear, 8, 1.0), 4000, 11, DPMSolverPP(order=2, eta=1.0), steps=64)
    log_w = result.state.aux["fk_log_w"].view(-1, 8)
    z = z_scores(statistics(result.x, truth).view(-1, 8, 6), log_w, log_z, expected(truth), allowance=0.02)
    assert z.max() < Z, z


@pytest.mark.parametrize("sampler", [DDIM(), DPMSolverPP(order=2)])
def test_deterministic_samplers_give_importance_weights_and_ask_once(sampler: Any) -> None:
    asked = []

    def reward(x: Tensor, step: Any) -> Tensor:
        asked.append(len(x))
        return linear(x, step)

    plain = sample(DENOISER, sampler, steps=8, shape=(24, 2), seed=0, dtype=torch.float64).x
    weighted = run(FeynmanKac(reward, 6, 2.0, final="weights"), 24, 0, sampler, steps=8)
    assert asked == [24]
    assert torch.equal(weighted.x, plain)
    assert torch.allclose(weighted.state.aux["fk_log_w"], 2.0 * linear(plain, None))
    drawn = run(FeynmanKac(linear, 6, 2.0), 24, 0, sampler, steps=8)
    index = drawn.records["fk_ancestors"][-1] + torch.arange(24) // 6 * 6
    assert torch.equal(drawn.x, plain[index])


@pytest.mark.parametrize("potential", ["difference", "max", "sum"])
@pytest.mark.parametrize("every", [1, 3])
def test_the_product_of_potentials_telescopes(potential: Any, every: int) -> None:
    result = run(FeynmanKac(linear, 4, 1.7, potential, threshold=0.0, every=every, final="weights"), 40, 2)
    torch.testing.assert_close(result.state.aux["fk_log_w"], 1.7 * linear(result.x, None), rtol=0, atol=1e-12)
    assert len(result.records["fk_t"]) == len(range(0, len(TIMES) - 1, every)) + 1


def test_a_weight_is_kept_when_the_group_is_not_resampled() -> None:
    # a weak reward: the effective size never falls below the threshold, and every increment must still count
    result = run(FeynmanKac(linear, 4, 0.05, threshold=0.5, final="weights"), 40, 2)
    assert all(bool((ess > 2.0).all()) for ess in result.records["fk_ess"])
    torch.testing.assert_close(result.state.aux["fk_log_w"], 0.05 * linear(result.x, None), rtol=0, atol=1e-13)
    for before, after in zip(result.records["fk_log_w"], result.records["fk_reward"], strict=True):
        torch.testing.assert_close(before, 0.05 * after, rtol=0, atol=1e-13)


def test_resampling_leaves_the_mean_weight_of_a_group() -> None:
    result = run(FeynmanKac(linear, 8, 3.0), 32, 2)
    last = result.records["fk_log_w"][-1].view(-1, 8)
    torch.testing.assert_close(result.state.aux["fk_log_w"].view(-1, 8), log_mean(last)[:, None].expand(-1, 8))


def test_the_same_numbers_in_chunks_and_in_two_parts() -> None:
    def hook() -> FeynmanKac:
        return FeynmanKac(linear, 4, 3.0)

    whole = run(hook(), 32, 7)
    assert any(bool((a.view(-1, 4) != torch.arange(4)).any()) for a in whole.records["fk_ancestors"])
    chunks = run(hook(), 32, 7, max_batch=10)
    torch.testing.assert_close(chunks.x, whole.x, rtol=0, atol=1e-12)
    for name in ("fk_ess", "fk_ancestors", "fk_log_w", "fk_reward"):
        for one, other in zip(chunks.records[name], whole.records[name], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
    first = run(hook(), 32, 7, until=3)
    assert "fk_log_g" in first.state.aux
    second = sample(DENOISER, EXACT, Grid(TIMES), state=first.state, seed=7, dtype=torch.float64, hooks=[hook()])
    assert torch.equal(second.x, whole.x)
    assert "fk_log_g" not in second.state.aux


class Spy(Hook):
    """Every step as it passes by."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_prediction(self, step: Any) -> Any:
        self.seen.append(step)
        return step


@pytest.mark.parametrize("sampler", [DPMSolverPP(order=3, eta=1.0), EDMStochastic(churn=10.0), DDPM()])
def test_history_query_and_prediction_follow_the_walker_and_noise_does_not(sampler: Any) -> None:
    before, after = Spy(), Spy()
    result = run((before, FeynmanKac(linear, 8, 4.0), after), 16, 1, sampler, steps=8)
    moved = 0
    for k, (old, new) in enumerate(zip(before.seen, after.seen, strict=True)):
        index = result.records["fk_ancestors"][k] + torch.arange(16) // 8 * 8
        moved += int((index != torch.arange(16)).any())
        for one, other in (
            (new.state.x, old.state.x),
            (new.query.x, old.query.x),
            (new.pred.x, old.pred.x),
            (new.pred.data, old.pred.data),
            (new.pred.noise, old.pred.noise),
            *((new.state.memory[name], old.state.memory[name]) for name in old.state.memory),
        ):
            assert torch.equal(one, other[index])
        assert set(new.state.memory) == set(old.state.memory)
        assert new.z is old.z
    assert moved > 0


def test_the_sampler_goes_on_from_the_resampled_query() -> None:
    # the reward keeps walker 3 at every call; its churned query is what a Heun step starts from: copies must stay equal
    def reward(x: Tensor, step: Any) -> Tensor:
        return torch.arange(len(x)) * 100.0

    sampler = EDMStochastic(churn=1e6, s_min=0.0, s_max=1e6)
    reached = []

    class After(Hook):
        def on_step(self, step: Any) -> State:
            reached.append(step.new.x)
            return step.new

    run((FeynmanKac(reward, 4), After()), 4, 1, sampler, grid=Grid((0.6, 0.4, 0.2, 0.0)))
    assert len(reached) == 5
    for x in reached:
        assert (x == x[0]).all()


@pytest.mark.parametrize(
    "hook", [FeynmanKac(linear, 4, 4.0), SVDD(linear, 4), SVDD(linear, 4, value=lambda x, t: x[:, 0])]
)
def test_no_random_number_is_used_twice(hook: Any) -> None:
    asked = []

    class Watched(SlotNoise):
        def __call__(self, like: Tensor, draw: int, role: str) -> Tensor:
            asked.append((draw, role))
            return super().__call__(like, draw, role)

    run(hook, 8, None, DDPM(), steps=6, noise=lambda slots: Watched(0, slots))  # type: ignore[arg-type]
    assert len(set(asked)) == len(asked)
    assert any("resample" in role for _, role in asked)


def test_systematic_resampling_copies_each_walker_its_share_and_is_unbiased() -> None:
    generator = torch.Generator().manual_seed(0)
    log_w = torch.randn(5, 7, generator=generator, dtype=torch.float64) * 2
    w = log_w.softmax(1)
    us = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    total = torch.zeros(5, 7, dtype=torch.float64)
    chosen = torch.zeros(5, 7, dtype=torch.float64)
    for u in us:
        index = systematic(log_w, u.expand(5))
        assert (index.diff(dim=1) >= 0).all()
        counts = torch.zeros(5, 7).scatter_add_(1, index, torch.ones(5, 7))
        assert (counts >= (7 * w).floor() - 1e-9).all() and (counts <= (7 * w).ceil() + 1e-9).all()
        total += counts
        chosen += torch.nn.functional.one_hot(pick(log_w, u.expand(5)), 7)
    torch.testing.assert_close(total / 4000, 7 * w, rtol=0, atol=7 / 4000)
    torch.testing.assert_close(chosen / 4000, w, rtol=0, atol=2 / 4000)
    equal = torch.zeros(2, 7, dtype=torch.float64)
    assert torch.equal(systematic(equal, torch.tensor([0.01, 0.99])), torch.arange(7).expand(2, 7))
    assert torch.allclose(effective_size(equal), torch.full((2,), 7.0, dtype=torch.float64))
    alone = torch.tensor([[0.0, -1e9]], dtype=torch.float64)
    assert effective_size(alone).item() == 1.0 and log_mean(alone).item() == pytest.approx(-0.6931471805599453)


# -- states that are no vectors ---------------------------------------------------------------------------------------


class Tokens(Euclidean):
    """Words over {0, 1, 2}, 2 = masked: nothing can be added here."""

    def lincomb(self, terms: Any) -> Any:
        raise AssertionError("tokens cannot be added")


LAW = torch.rand(8, generator=torch.Generator().manual_seed(4), dtype=torch.float64) + 0.1
LAW = LAW / LAW.sum()
WORDS = torch.tensor(list(product([0.0, 1.0], repeat=3)))


def posterior(x: Tensor) -> Tensor:
    """P(word | unmasked tokens), (B, 8)."""
    fits = ((x[:, None] == 2) | (x[:, None] == WORDS.to(x))).all(-1)
    return torch.where(fits, LAW, 0.0) / torch.where(fits, LAW, 0.0).sum(1, keepdim=True)


@dataclass(frozen=True)
class Guess:
    x: Tensor
    data: Tensor  # mean word

    def take(self, index: Any) -> Guess:
        return Guess(self.x[index], self.data[index])


class Model:
    schedule, space, needs_grad, needs_state = VPLinear(), Tokens(), False, False

    def __call__(self, x: Tensor, t: float, **_: Any) -> Guess:
        return Guess(x, (posterior(x) @ WORDS.double()).to(x))


@dataclass(frozen=True)
class Unmask(Sampler):
    """One token a call, from its exact conditional: the law of the result is exactly LAW."""

    @property
    def stochastic(self) -> bool:
        return True

    def plan(self, schedule: Any, grid: Any) -> None:
        return None

    def done(self, plan: Any, state: State) -> bool:
        return state.i >= 3

    def time(self, plan: Any, state: State) -> float:
        return 1.0 - state.i / 3

    def draw(self, plan: Any, state: State, space: Any, noise: Any) -> Tensor:
        return torch.special.ndtr(noise(state.x.new_empty(len(state.x), 1, dtype=torch.float64), state.draws, "token"))

    def query(self, plan: Any, state: State, z: Any, space: Any, reference: Any) -> Query:
        return Query(state.x, self.time(plan, state), None, state)

    def advance(self, plan: Any, state: State, query: Query, pred: Any, z: Any, space: Any, reference: Any) -> State:
        one = (posterior(state.x) * WORDS[:, state.i]).sum(1, keepdim=True)
        x = state.x.clone()
        x[:, state.i] = (z < one).squeeze(1).to(x)
        return State(x, state.i + 1, 0, {}, state.aux, None, state.draws + 1)


def word_reward(x: Tensor, step: Any) -> list[float]:
    return [float(w @ torch.tensor([0.6, -0.9, 0.3]) + 0.7 * w[0] * w[2]) for w in x.float()]


def word_index(x: Tensor) -> Tensor:
    return (x.long() * torch.tensor([4, 2, 1])).sum(1)


@pytest.mark.parametrize("potential", ["difference", "max", "sum"])
def test_tokens_are_tilted_exactly(potential: Any) -> None:
    k, n = 8, 4000
    result = sample(
        Model(), Unmask(), Grid((1.0, 0.0)), x=torch.full((n, 3), 2.0), seed=6,
        hooks=[FeynmanKac(word_reward, k, potential=potential, threshold=0.99)],
    )  # fmt: skip
    tilt = LAW * torch.tensor(word_reward(WORDS, None), dtype=torch.float64).exp()
    values = torch.nn.functional.one_hot(word_index(result.x), 8).double().view(-1, k, 8)
    z = z_scores(values, result.state.aux["fk_log_w"].view(-1, k), float(tilt.sum().log()), tilt / tilt.sum())
    assert z.max() < Z, z
    assert any(bool((a.view(-1, k) != torch.arange(k)).any()) for a in result.records["fk_ancestors"][:-1])


def test_product_states_are_resampled_leaf_by_leaf() -> None:
    schedule = ProductSchedule(X=VPLinear(), A=VPLinear(), clock="X")
    space = Product(X=Euclidean(), A=Masked(torch.ones(8, 3, dtype=torch.bool)))
    denoiser = Denoiser(lambda x, t: {k: 0.1 * v for k, v in x.items()}, schedule, "noise", space)
    first = sample(
        denoiser, DDPM(), steps=6, shape={"X": (8, 2), "A": (8, 3)}, seed=0,
        hooks=[FeynmanKac(lambda d, s: 5.0 * d["X"][:, 0], 4, threshold=0.0)],
    )  # fmt: skip
    index = first.records["fk_ancestors"][-1] + torch.arange(8) // 4 * 4
    assert (index != torch.arange(8)).any()
    for leaf in first.x.values():  # copies are copies in both leaves
        same = index[:, None] == index[None]
        assert torch.equal((leaf[:, None] == leaf[None]).all(-1), same)


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"walkers": 1}, "at least 2"),
        ({"walkers": 4, "lam": float("inf")}, "lam must be finite"),
        ({"walkers": 4, "lam": float("nan")}, "lam must be finite"),
        ({"walkers": 4, "potential": "product"}, "potential"),
        ({"walkers": 4, "threshold": 1.5}, "threshold"),
        ({"walkers": 4, "every": 0}, "every"),
        ({"walkers": 4, "final": "best"}, "final"),
    ],
)
def test_refuses_settings(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FeynmanKac(linear, **arguments)


def test_refuses_a_batch_that_groups_do_not_fill() -> None:
    with pytest.raises(ValueError, match=r"groups of 4 walkers.*6"):
        run(FeynmanKac(linear, 4), 6, 0)
    with pytest.raises(ValueError, match="smaller than a group"):
        run(FeynmanKac(linear, 4), 8, 0, max_batch=3)


def test_names_the_walker_and_the_step_of_a_bad_reward() -> None:
    def late(x: Tensor, step: Any) -> Tensor:
        r = linear(x, step)
        if step.call == 2 and x[0, 0] == x[0, 0]:
            r = torch.where(torch.arange(len(x)) == 1, torch.nan, r)
        return r

    with pytest.raises(ValueError, match=r"reward of walker 1 is nan at call 2 \(t=0.4\)"):
        run(FeynmanKac(late, 4), 8, 0)

    def second_chunk(x: Tensor, step: Any) -> Tensor:
        return linear(x, step) if chunk.pop(0) else linear(x, step) - torch.inf

    chunk = [True] * len(TIMES) + [False]
    with pytest.raises(ValueError, match=r"walker 4 is -inf at call 0"):
        run(FeynmanKac(second_chunk, 4), 8, 0, max_batch=4)
    with pytest.raises(ValueError, match=r"shape \(8,\).*at call 0 .*\(8, 1\)"):
        run(FeynmanKac(lambda x, s: x[:, :1], 4), 8, 0)
    with pytest.raises(TypeError, match="returned a str"):
        run(FeynmanKac(lambda x, s: "good", 4), 8, 0)


def test_refuses_groups_that_do_not_share_their_reference_or_mask() -> None:
    denoiser = Denoiser(lambda x, t: 0.1 * x, MeanReverting(), "noise")
    y = torch.arange(8.0)[:, None].expand(8, 2)
    hook = FeynmanKac(lambda x, s: x[:, 0], 4)
    with pytest.raises(ValueError, match="group 0 have different references"):
        sample(denoiser, DDPM(), steps=4, shape=(8, 2), reference=y, seed=0, hooks=[hook])
    shared = sample(denoiser, DDPM(), steps=4, shape=(8, 2), reference=repeat(y[:2], 4), seed=0, hooks=[hook])
    assert shared.x.shape == (8, 2)
    mask = torch.ones(8, 2, dtype=torch.bool)
    mask[5, 1] = False
    masked = denoiser.on(Masked(mask))
    with pytest.raises(ValueError, match="group 1 have different masks"):
        sample(masked, DDPM(), steps=4, shape=(8, 2), reference=repeat(y[:2], 4), seed=0, hooks=[hook])
