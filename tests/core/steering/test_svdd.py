"""SVDD: exact when weighted, near the tilted law when not, and counted in network evaluations.

A statistic fails when |z| > 4.9; the file has fewer than 60, so a false alarm has a probability below 1e-4.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from scidiffuse.core import DDIM, DDPM, Denoiser, DPMSolverPP, EDMStochastic, Grid, VPLinear, sample
from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.samplers import Query, Sampler, State
from scidiffuse.core.steering import SVDD, svdd

Z = 4.9
TIMES = (1.0, 0.6, 0.4, 0.25, 0.15, 0.08, 0.03, 0.0)
SCHEDULE = VPLinear()
SLOPE = torch.tensor([0.8, -0.5], dtype=torch.float64)


MIXTURE = GaussianMixture.example()


class Mixture:
    """The mixture with its exact transitions: nothing but the steering can be wrong."""

    def level(self, t: float) -> tuple[float, float]:
        return SCHEDULE.alpha(t), SCHEDULE.sigma(t)

    def data(self, x: Tensor, t: float) -> Tensor:
        return MIXTURE.data(x, *self.level(t))

    def value(self, x: Tensor, t: Any) -> Tensor:
        """log E[exp(b.x0) | x_t], the exact soft value at alpha = 1: x0 | x_t is a mixture of Gaussians."""
        a, s = self.level(float(t))
        log, d, v = MIXTURE._components(x, a, s)
        mean = MIXTURE.means + (a * MIXTURE.stds**2 / v)[..., None] * d
        var = MIXTURE.stds**2 * s * s / v
        return (log.log_softmax(1) + mean @ SLOPE + 0.5 * (SLOPE @ SLOPE) * var).logsumexp(1)

    def denoiser(self) -> Denoiser:
        return Denoiser(lambda x, t: self.data(x, float(t[0])), SCHEDULE, "data", label=lambda schedule, t: t)


TRUTH = Mixture()
LOG_TILT = MIXTURE.weights.log() + MIXTURE.means @ SLOPE + MIXTURE.stds**2 * (SLOPE @ SLOPE) / 2
LOG_Z = float(LOG_TILT.logsumexp(0))
TILTED = GaussianMixture(MIXTURE.means + MIXTURE.stds[:, None] ** 2 * SLOPE, MIXTURE.stds, LOG_TILT.softmax(0))


class Exact(Sampler):
    """x_t | x_s of the mixture itself: a component by its responsibility, then its Gaussian."""

    @property
    def stochastic(self) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def plan(self, schedule: Any, grid: Any) -> None:
        return None

    def done(self, plan: Any, state: State) -> bool:
        return state.i >= len(TIMES) - 1

    def time(self, plan: Any, state: State) -> float:
        return TIMES[state.i]

    def draw(self, plan: Any, state: State, space: Any, noise: Any) -> dict[str, Tensor]:
        u = noise(state.x.new_empty(len(state.x), 1), state.draws, "component")
        return {"z": space.randn(noise, state.x, state.draws, "step"), "u": torch.special.ndtr(u)}

    def query(self, plan: Any, state: State, z: Any, space: Any, reference: Any) -> Query:
        return Query(state.x, TIMES[state.i], None, state)

    def advance(self, plan: Any, state: State, query: Query, pred: Any, z: Any, space: Any, reference: Any) -> State:
        (a, s), (b, u) = TRUTH.level(TIMES[state.i]), TRUTH.level(TIMES[state.i + 1])
        k = (MIXTURE._components(state.x, a, s)[0].softmax(1).cumsum(1) < z["u"]).sum(1).clamp_max(2)
        mean, sd = MIXTURE.means[k], MIXTURE.stds[k, None]
        var_s, var_t = (a * sd) ** 2 + s * s, (b * sd) ** 2 + u * u
        gain = a / b * var_t / var_s
        x = b * mean + gain * (state.x - a * mean) + (var_t - gain * a / b * var_t).clamp_min(0).sqrt() * z["z"]
        return State(x, state.i + 1, 0, {}, state.aux, None, state.draws + 1)


def linear(x: Tensor, step: Any) -> Tensor:
    return x.double() @ SLOPE


def nothing(x: Tensor, t: Any) -> Tensor:
    return torch.zeros(len(x))


def run(n: int, seed: int, **arguments: Any) -> Any:
    arguments = {"reward": linear, "alpha": 1.0, **arguments}
    return svdd(TRUTH.denoiser(), Exact(), Grid(TIMES), shape=(n, 2), seed=seed, dtype=torch.float64, **arguments)


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    w, m, c = TILTED.weights[:, None], TILTED.means, TILTED.stds[:, None]
    truth = torch.cat([(w * m).sum(0), (w * (m**2 + c**2)).sum(0), TILTED.weights[:2]])
    return torch.cat([x, x.square(), TILTED._components(x, 1.0, 0.0)[0].softmax(1)[:, :2]], 1), truth


@pytest.mark.parametrize("candidates", [2, 8])
@pytest.mark.parametrize("value", [None, TRUTH.value, nothing])
def test_weighted_by_w_the_law_is_exact_for_every_value_and_number(candidates: int, value: Any) -> None:
    result = run(4000, 1, candidates=candidates, value=value)
    w = (result.state.aux["svdd_log_w"] - LOG_Z).exp()
    values, truth = statistics(result.x)
    ratio = (w[:, None] * values).mean(0) / w.mean()
    noise = w[:, None] * (values - ratio) / w.mean()
    error = torch.cat([(w.mean() - 1.0)[None], ratio - truth])
    se = torch.cat([w.std()[None], noise.std(0)]) / len(w) ** 0.5
    assert (error / se).abs().max() < Z, error / se


def test_unweighted_with_the_exact_value_and_many_candidates_it_is_the_tilted_law() -> None:
    # the bias of M candidates falls as 1/M; at M = 20 it is below the Monte-Carlo error of 2000 samples
    result = run(2000, 2, candidates=20, value=TRUTH.value)
    values, truth = statistics(result.x)
    z = (values.mean(0) - truth).abs() / (values.std(0) / len(values) ** 0.5)
    assert z.max() < Z, z
    # with the exact value the weights say so, too: they are next to constant
    assert (result.state.aux["svdd_log_w"] - LOG_Z).std() < 0.5
    few = statistics(run(2000, 2, candidates=2, value=TRUTH.value).x)[0]
    assert ((few.mean(0) - truth).abs() / (few.std(0) / len(few) ** 0.5)).max() > Z  # two candidates are too few


def test_more_reward_with_a_lower_temperature_and_alpha_zero_takes_the_best() -> None:
    rewards = [linear(run(200, 3, candidates=6, alpha=a).x, None).mean() for a in (4.0, 1.0, 0.25, 0.0)]
    assert all(a < b for a, b in pairwise(rewards))
    best = run(50, 4, candidates=5, alpha=0.0)
    assert (best.state.aux["svdd_log_w"] == 0).all()
    hook = SVDD(linear, 5, 0.0)
    groups = sample(
        TRUTH.denoiser(), Exact(), Grid(TIMES), shape=(250, 2), seed=4, dtype=torch.float64, hooks=[hook], until=1
    )
    # after one call: all five went on from the start with the best data prediction
    start = sample(TRUTH.denoiser(), Exact(), Grid(TIMES), shape=(250, 2), seed=4, dtype=torch.float64, until=0).x
    top = linear(TRUTH.data(start, 1.0), None).view(-1, 5).max(1).values
    torch.testing.assert_close(groups.records["svdd_value"][0].view(-1, 5), top[:, None].expand(-1, 5))


def test_network_evaluations_are_counted_and_none_is_superfluous() -> None:
    asked: list[int] = []
    exact = TRUTH.denoiser()
    network = exact.network
    exact.network = lambda x, t: (asked.append(len(x)), network(x, t))[1]
    common: dict[str, Any] = {"reward": linear, "candidates": 4, "seed": 0, "dtype": torch.float64, "shape": (6, 2)}
    result = svdd(exact, Exact(), Grid(TIMES), **common)
    assert result.calls == len(asked) == len(TIMES) - 1 and set(asked) == {24}
    assert result.records["svdd_evaluations"] == sum(asked) / 6 and result.x.shape == (6, 2)
    asked.clear()
    result = svdd(exact, Exact(), Grid(TIMES), value=TRUTH.value, **common)
    assert result.calls == len(asked) == len(TIMES) - 1 and set(asked) == {6}
    assert result.records["svdd_evaluations"] == sum(asked) / 6 and result.x.shape == (6, 2)


@pytest.mark.parametrize("value", [None, TRUTH.value])
@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_the_same_numbers_in_chunks(value: Any, alpha: float) -> None:
    whole = run(12, 5, candidates=3, alpha=alpha, value=value)
    parts = run(12, 5, candidates=3, alpha=alpha, value=value, max_batch=7)
    torch.testing.assert_close(parts.x, whole.x, rtol=0, atol=1e-12)
    torch.testing.assert_close(parts.state.aux["svdd_log_w"], whole.state.aux["svdd_log_w"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("value", [None, TRUTH.value])
@pytest.mark.parametrize("sampler", [DDPM(), DDIM(eta=1.0), DPMSolverPP(order=2, eta=1.0)])
def test_raises_the_reward_with_the_samplers_of_the_package(sampler: Any, value: Any) -> None:
    common: dict[str, Any] = {"steps": 12, "shape": (64, 2), "seed": 0, "dtype": torch.float64}
    plain = linear(sample(TRUTH.denoiser(), sampler, **common).x, None)
    steered = svdd(TRUTH.denoiser(), sampler, reward=linear, candidates=8, alpha=0.2, value=value, **common)
    assert linear(steered.x, None).mean() > plain.mean() + 3 * plain.std() / 8


def test_conditions_and_references_are_repeated_for_the_candidates() -> None:
    seen = []

    def network(x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        seen.append(c)
        return 0.1 * x + 0 * c[:, None]

    denoiser = Denoiser(network, SCHEDULE, "noise")
    c = torch.tensor([1.0, 2.0, 3.0])
    svdd(denoiser, DDPM(), reward=lambda x, s: x[:, 0], candidates=2, steps=3, shape=(3, 2), seed=0, condition={"c": c})
    assert torch.equal(seen[0], torch.tensor([1.0, 1.0, 2.0, 2.0, 3.0, 3.0]))


def test_refusals() -> None:
    for arguments, message in (
        ({"candidates": 1}, "at least 2"),
        ({"alpha": -0.1}, "alpha"),
        ({"alpha": float("nan")}, "alpha"),
    ):
        with pytest.raises(ValueError, match=message):
            SVDD(linear, **arguments)
    common: dict[str, Any] = {"reward": linear, "candidates": 3, "steps": 4, "shape": (4, 2), "seed": 0}
    with pytest.raises(ValueError, match="deterministic: all candidates would be equal"):
        svdd(TRUTH.denoiser(), DDIM(), **common)
    with pytest.raises(ValueError, match="before the network call"):
        svdd(TRUTH.denoiser(), EDMStochastic(churn=10.0), grid=Grid((0.5, 0.3, 0.0)), value=TRUTH.value,
             **{k: v for k, v in common.items() if k != "steps"})  # fmt: skip
    with pytest.raises(ValueError, match=r"value of walker 0 is inf at call 0"):
        svdd(TRUTH.denoiser(), DDPM(), value=lambda x, t: torch.full((len(x),), torch.inf), **common)
    with pytest.raises(ValueError, match=r"reward must return shape \(12,\)"):
        svdd(TRUTH.denoiser(), DDPM(), **{**common, "reward": lambda x, s: x})
    with pytest.raises(ValueError, match=r"fill a batch|multiple"):
        sample(TRUTH.denoiser(), DDPM(), steps=3, shape=(4, 2), seed=0, hooks=[SVDD(linear, 3)])
