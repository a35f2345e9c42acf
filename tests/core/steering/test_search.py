"""The searches: what they return is what they scored, costs are counted, starts keep the prior's law."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from scidiffuse.core import (
    DDIM,
    DDPM,
    Denoiser,
    DPMSolverPP,
    Masked,
    MeanReverting,
    PFGMpp,
    ProductSchedule,
    Spectral,
    VPLinear,
    sample,
)
from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.grids import default
from scidiffuse.core.noise import SlotNoise
from scidiffuse.core.spaces import Euclidean
from scidiffuse.core.steering import boundary_search, random_search, search_over_paths, zero_order_search
from scidiffuse.core.steering.paths import _renoised
from scidiffuse.core.steering.zero_order import _mixed

SCHEDULE = VPLinear()
DENOISER = GaussianMixture.example().denoiser(SCHEDULE)


def reward(x: Tensor, step: Any) -> Tensor:
    assert step is None
    return x[:, 0] - 0.5 * x[:, 1]


COMMON: dict[str, Any] = {"reward": reward, "shape": (5, 2), "seed": 4, "steps": 6}


class Counted:
    """The denoiser with its network evaluations counted."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        network = DENOISER.network

        def counted(x: Tensor, t: Tensor) -> Tensor:
            self.batches.append(len(x))
            return network(x, t)

        self.denoiser = Denoiser(counted, SCHEDULE, "data", label=DENOISER.label)


@pytest.mark.parametrize("sampler", [DDIM(), DDPM()])
def test_random_search_is_the_best_of_n(sampler: Any) -> None:
    counted = Counted()
    result = random_search(counted.denoiser, sampler, candidates=7, **COMMON)
    every = sample(DENOISER, sampler, steps=6, shape=(35, 2), seed=4)
    scores = reward(every.x, None).view(5, 7)
    torch.testing.assert_close(result.scores[0], scores.double())
    torch.testing.assert_close(result.x, every.x.view(5, 7, 2)[torch.arange(5), scores.argmax(1)])
    assert torch.equal(result.score, scores.double().max(1).values)
    assert result.evaluations == sum(counted.batches) / 5 and result.calls == len(counted.batches)
    one = random_search(DENOISER, sampler, candidates=1, **COMMON)
    torch.testing.assert_close(one.x, sample(DENOISER, sampler, steps=6, shape=(5, 2), seed=4).x)


def test_zero_order_search_never_falls_and_its_start_gives_its_sample() -> None:
    counted = Counted()
    result = zero_order_search(counted.denoiser, DDIM(), rounds=5, neighbours=3, **COMMON)
    assert (result.history.diff(dim=0) >= 0).all() and result.history.shape == (6, 5)
    assert (result.history[-1] > result.history[0]).all()
    assert result.evaluations == sum(counted.batches) / 5 and result.calls == len(counted.batches) == 36
    torch.testing.assert_close(reward(result.x, None).double(), result.score)
    torch.testing.assert_close(sample(DENOISER, DDIM(), steps=6, x=result.start).x, result.x)
    first = sample(DENOISER, DDIM(), steps=6, shape=(5, 2), seed=4).x
    torch.testing.assert_close(result.history[0], reward(first, None).double())
    best = torch.cat(result.scores, 1).max(1).values
    assert torch.equal(best, result.score)


def test_neighbours_have_the_priors_law() -> None:
    # c^2 + s^2 = 1, and the reference's share is untouched: coefficients, not samples
    grid = default(MeanReverting(), 4)
    denoiser = Denoiser(lambda x, t: x, MeanReverting(), "noise")
    y = torch.tensor([[2.0, -1.0]], dtype=torch.float64)
    beta = MeanReverting().beta(grid.times[0])
    eye = torch.eye(2, dtype=torch.float64)
    centred = _mixed(denoiser, beta * y, beta * y, y, 0.7, grid)
    torch.testing.assert_close(centred, beta * y)
    from_pivot = _mixed(denoiser, eye + beta * y, (0 * eye) + beta * y, y.expand(2, 2), 0.7, grid) - beta * y
    from_fresh = _mixed(denoiser, (0 * eye) + beta * y, eye + beta * y, y.expand(2, 2), 0.7, grid) - beta * y
    torch.testing.assert_close(from_pivot.square() + from_fresh.square(), eye)
    torch.testing.assert_close(
        from_fresh.diagonal() / from_pivot.diagonal(), torch.full((2,), 0.7, dtype=torch.float64)
    )


def test_renoising_is_the_forward_kernel() -> None:
    # alpha x0 + beta y stays on its path, and the noise's variance becomes that of the level gone back to
    schedule = MeanReverting()
    denoiser = Denoiser(lambda x, t: x, schedule, "noise")
    s, t = 0.3, 0.45
    y, x0 = torch.tensor([[3.0]], dtype=torch.float64), torch.tensor([[-2.0]], dtype=torch.float64)

    def mean(at: float) -> Tensor:
        return schedule.alpha(at) * x0 + schedule.beta(at) * y

    class Fixed:
        def __init__(self, value: float) -> None:
            self.value = value

        def __call__(self, like: Tensor, draw: int, role: str) -> Tensor:
            return torch.full_like(like, self.value)

    still = _renoised(denoiser, Euclidean(), mean(s), y, s, t, Fixed(0.0))  # type: ignore[arg-type]
    torch.testing.assert_close(still, mean(t))
    added = _renoised(denoiser, Euclidean(), mean(s), y, s, t, Fixed(1.0)) - still  # type: ignore[arg-type]
    kept = _renoised(denoiser, Euclidean(), mean(s) + schedule.sigma(s), y, s, t, Fixed(0.0)) - still  # type: ignore[arg-type]
    assert float(added**2 + kept**2) == pytest.approx(schedule.sigma(t) ** 2)


@pytest.mark.parametrize("sampler", [DDIM(), DPMSolverPP(order=2), DDPM()])
def test_search_over_paths_improves_and_counts(sampler: Any) -> None:
    counted = Counted()
    common = {**COMMON, "steps": 12, "shape": (40, 2)}
    result = search_over_paths(counted.denoiser, sampler, paths=2, branches=3, begin=4, forward=2, backward=4, **common)
    # 4 steps of 2 paths; then rounds of 4 calls of 6 branches from steps 4, 6, 8 and 10
    assert result.evaluations == sum(counted.batches) / 40 == 4 * 2 + 6 * 4 * 4
    assert result.calls == len(counted.batches) == 4 + 4 * 4
    torch.testing.assert_close(reward(result.x, None).double(), result.score)
    assert torch.equal(result.score, result.scores[-1].max(1).values)
    plain = reward(sample(DENOISER, sampler, steps=12, shape=(40, 2), seed=1).x, None)
    assert result.score.mean() > plain.mean() + 3 * plain.std() / 40**0.5
    again = search_over_paths(
        DENOISER, sampler, paths=2, branches=3, begin=4, forward=2, backward=4, max_batch=50, **common
    )
    torch.testing.assert_close(again.x, result.x, rtol=0, atol=1e-5)


def test_scores_on_the_way_are_of_the_data_prediction() -> None:
    seen = []

    def watch(x: Tensor, step: Any) -> Tensor:
        seen.append(x)
        return reward(x, step)

    search_over_paths(DENOISER, DDIM(), paths=2, branches=1, begin=2, **{**COMMON, "reward": watch})
    middle = sample(DENOISER, DDIM(), default(SCHEDULE, 6), shape=(10, 2), seed=4, until=1)
    torch.testing.assert_close(seen[0], DENOISER(middle.x, default(SCHEDULE, 6).times[1]).data)


def test_boundary_search_scores_each_noise_on_every_pair() -> None:
    target = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    shift = torch.linspace(-1, 1, 4)

    def network(x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        return DENOISER.network(x, t) + c[:, None]

    denoiser = Denoiser(network, SCHEDULE, "data", label=DENOISER.label)

    def near(x: Tensor, step: Any) -> Tensor:
        return -(x - target).norm(dim=1)

    result = boundary_search(
        denoiser, DDIM(), steps=5, reward=near, shape=(4, 2), seed=3, candidates=6, condition={"c": shift}, max_batch=7
    )
    assert result.scores.shape == (6, 4) and result.calls == 5
    noises = sample(DENOISER, DDIM(), steps=5, shape=(6, 2), seed=3, until=0).x
    for k in range(6):
        x = sample(denoiser, DDIM(), steps=5, x=noises[k : k + 1].repeat(4, 1), condition={"c": shift}).x
        torch.testing.assert_close(result.scores[k], near(x, None).double(), rtol=1e-4, atol=1e-5)
    assert result.best == int(result.scores.mean(1).argmax())
    torch.testing.assert_close(result.start(3), noises[result.best].expand(3, 2))


def test_the_shared_noise_is_placed_around_each_inputs_reference() -> None:
    schedule = MeanReverting()
    denoiser = Denoiser(lambda x, t: 0.1 * x, schedule, "noise")
    y = torch.tensor([[1.0, 0.0], [0.0, 5.0], [2.0, 2.0]])
    result = boundary_search(
        denoiser, DDIM(), steps=4, reward=lambda x, s: x.sum(1), shape=(3, 2), seed=0, candidates=4, reference=y
    )
    t = default(schedule, 4).times[0]
    torch.testing.assert_close(
        result.start(3, y) - schedule.beta(t) * y, schedule.prior_std(t) * result.noise.expand(3, 2)
    )


def test_masked_product_and_spectral_states() -> None:
    mask = torch.tensor([[True, True, False], [True, True, True]])
    masked = Denoiser(lambda x, t: 0.1 * x, SCHEDULE, "noise", Masked(mask))
    total = {"reward": lambda x, s: x.sum(1), "seed": 0, "steps": 6, "shape": (2, 3)}
    for found in (
        random_search(masked, DDIM(), candidates=3, **total),
        zero_order_search(masked, DDIM(), rounds=2, neighbours=2, **total),
        search_over_paths(masked, DDPM(), paths=2, branches=2, **total),
    ):
        assert (found.x[~mask] == 0).all() and (found.x[mask] != 0).all()
    leaves = Denoiser(
        lambda x, t: {k: 0.1 * v for k, v in x.items()}, ProductSchedule(X=SCHEDULE, A=SCHEDULE, clock="X"), "noise"
    )
    both = {**total, "shape": {"X": (2, 3), "A": (2, 4)}, "reward": lambda x, s: x["X"].sum(1) + x["A"].sum(1)}
    for found in (
        zero_order_search(leaves, DDIM(), rounds=2, neighbours=2, **both),
        search_over_paths(leaves, DDPM(), paths=2, branches=2, **both),
    ):
        torch.testing.assert_close(found.x["X"].sum(1).double() + found.x["A"].sum(1).double(), found.score)
    schedule = Spectral(tuple(4.0 / (1 + k) for k in range(8)), (8,))
    spectral = Denoiser(lambda x, t: 0.1 * x, schedule, "noise")
    found = zero_order_search(spectral, DDIM(), rounds=2, neighbours=2, **{**total, "shape": (2, 8)})
    torch.testing.assert_close(sample(spectral, DDIM(), steps=6, x=found.start).x, found.x)
    found = search_over_paths(spectral, DDIM(), paths=2, branches=2, **{**total, "shape": (2, 8)})
    torch.testing.assert_close(found.x.sum(1).double(), found.score)


def test_states_that_are_no_vectors_bring_their_own_neighbourhood() -> None:
    asked = []

    def swap(pivot: Tensor, fresh: Tensor) -> Tensor:
        asked.append(len(pivot))
        return torch.where(torch.tensor([True, False]), pivot, fresh)

    found = zero_order_search(DENOISER, DDIM(), rounds=3, neighbours=2, neighbour=swap, **COMMON)
    assert asked == [10, 10, 10]
    torch.testing.assert_close(sample(DENOISER, DDIM(), steps=6, x=found.start).x, found.x)
    start = sample(DENOISER, DDIM(), steps=6, shape=(5, 2), seed=4, until=0).x
    assert torch.equal(found.start[:, 0], start[:, 0])  # the coordinate that swaps never touch

    levels = []

    def renoise(x: Tensor, s: float, t: float, noise: SlotNoise) -> Tensor:
        levels.append((s, t))
        return x + 0.1 * noise(x, 0, "renoise")

    search_over_paths(DENOISER, DDIM(), begin=2, renoise=renoise, **COMMON)
    times = default(SCHEDULE, 6).times
    assert levels == [(times[2], times[1]), (times[4], times[3])]


def test_refusals() -> None:
    with pytest.raises(ValueError, match="stochastic: a start does not determine"):
        zero_order_search(DENOISER, DDPM(), **COMMON)
    with pytest.raises(ValueError, match="stochastic: its result is no function"):
        boundary_search(DENOISER, DDPM(), **COMMON)
    with pytest.raises(ValueError, match="candidates must be an integer >= 2"):
        boundary_search(DENOISER, DDIM(), candidates=1, **COMMON)
    with pytest.raises(ValueError, match="candidates must be an integer >= 1"):
        random_search(DENOISER, DDIM(), candidates=0, **COMMON)
    with pytest.raises(ValueError, match="radius"):
        zero_order_search(DENOISER, DDIM(), radius=0.0, **COMMON)
    with pytest.raises(ValueError, match="would never arrive"):
        search_over_paths(DENOISER, DDIM(), forward=2, backward=2, **COMMON)
    with pytest.raises(ValueError, match="begin=7"):
        search_over_paths(DENOISER, DDIM(), begin=7, **COMMON)
    with pytest.raises(TypeError, match="seed must be an integer"):
        random_search(DENOISER, DDIM(), **{**COMMON, "seed": None})
    with pytest.raises(TypeError, match="x= itself"):
        random_search(DENOISER, DDIM(), x=torch.zeros(5, 2), **COMMON)
    with pytest.raises(ValueError, match="give grid= or steps="):
        random_search(DENOISER, DDIM(), **{**COMMON, "steps": None})
    with pytest.raises(ValueError, match="walker 3 is nan on finished samples"):
        random_search(
            DENOISER,
            DDIM(),
            **{**COMMON, "reward": lambda x, s: torch.where(torch.arange(len(x)) == 3, torch.nan, 0.0)},
        )
    student = Denoiser(lambda x, t: 0.1 * x, PFGMpp(D=128), "data")
    with pytest.raises(ValueError, match="Student-t"):
        zero_order_search(student, DDIM(), **COMMON)
    with pytest.raises(ValueError, match="Student-t"):
        search_over_paths(student, DDIM(), **COMMON)
