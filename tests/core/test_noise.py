"""Noise is a function of (seed, slot, draw, role): not of batches, padding or order."""

from __future__ import annotations

import functools
from itertools import pairwise

import numpy as np
import pytest
import torch

from scidiffuse.core.noise import Recorded, SlotNoise, family_noise, keyed_generator
from scidiffuse.core.schedules import PFGMpp, ProductSchedule, VPLinear
from scidiffuse.core.spaces import Euclidean, Product

stats = pytest.importorskip("scipy.stats")
DTYPES = [torch.float32, torch.float64]


def draw(slots: range, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float64, k: int = 0, role: str = "step"):
    return SlotNoise(seed, slots)(torch.empty(len(slots), *shape, dtype=dtype), k, role)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("cuts", [(0, 8, 16, 21), (0, 1, 7, 9, 21), (0, 20, 21), tuple(range(22))], ids=str)
def test_any_split_of_a_batch_gets_the_same_numbers(cuts: tuple[int, ...], dtype: torch.dtype) -> None:
    whole = draw(range(21), 3, 5, dtype=dtype)
    parts = [draw(range(a, b), 3, 5, dtype=dtype) for a, b in pairwise(cuts)]
    assert whole.dtype == dtype and torch.equal(torch.cat(parts), whole)


def test_slots_name_samples_of_a_larger_run() -> None:
    assert torch.equal(draw(range(13, 18), 4), draw(range(40), 4)[13:18])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_longer_sample_only_appends_numbers(dtype: torch.dtype) -> None:
    assert torch.equal(draw(range(3, 12), 50, dtype=dtype)[:, :17], draw(range(3, 12), 17, dtype=dtype))
    assert torch.equal(draw(range(9), 6, 2, dtype=dtype).flatten(1), draw(range(9), 12, dtype=dtype))


def test_every_part_of_the_key_counts() -> None:
    """Different seeds, draws, roles, slots, blocks: different numbers, uncorrelated; the same key: the same."""
    n = 4000
    one = draw(range(1), n)[0]
    others = {
        "seed": draw(range(1), n, seed=1)[0],
        "negative seed": draw(range(1), n, seed=-1)[0],
        "draw": draw(range(1), n, k=1)[0],
        "role": draw(range(1), n, role="prior")[0],
        "slot": draw(range(1, 2), n)[0],
        "next block": draw(range(8, 9), n)[0],
    }
    rows = torch.stack([one, *others.values()])
    correlation = torch.corrcoef(rows) - torch.eye(len(rows), dtype=torch.float64)
    assert correlation.abs().max() < 4.5 / n**0.5
    assert torch.equal(one, draw(range(1), n)[0])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_numbers_are_standard_normal(dtype: torch.dtype) -> None:
    z = draw(range(40), 500, dtype=dtype)
    assert stats.kstest(z.flatten().double().numpy(), "norm").pvalue > 1e-3
    across = draw(range(20000), 1, dtype=dtype)  # one number of each of many slots
    assert stats.kstest(across.flatten().double().numpy(), "norm").pvalue > 1e-3


def test_global_generators_are_left_alone() -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    expected = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    draw(range(5), 7)
    assert torch.equal(torch.rand(1), expected[0]) and np.random.rand() == expected[1]  # noqa: NPY002


def test_keys_do_not_collide() -> None:
    keys = [(0, "a"), (0, "b"), (1, "a"), (0, "a", 1), (0, "a", 0, 1), (0, "a", 0, 0, 1), (0, "a", 1, 1)]
    firsts = [keyed_generator(*key).standard_normal() for key in keys]
    assert len(set(firsts)) == len(keys)
    assert keyed_generator(2**64 + 5, "a").random() == keyed_generator(5, "a").random()
    with pytest.raises(ValueError, match="up to three counters, got 4"):
        keyed_generator(0, "a", 1, 2, 3, 4)


def test_recorded_noise_plays_back_in_order_and_again() -> None:
    draws = list(torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0)))
    noise, like = Recorded(draws), torch.empty(3, 2, dtype=torch.float64)
    assert torch.equal(noise(like, 0, "step"), draws[0].double())
    assert torch.equal(noise(like, 5, "churn"), draws[1].double())
    assert torch.equal(noise(like, 0, "step"), draws[0].double())  # a repeated run hears the same
    with pytest.raises(ValueError, match="all 2 recorded draws are used up"):
        noise(like, 6, "step")
    with pytest.raises(ValueError, match=r"draw 0 has shape \(3, 2\), need \(4,\)"):
        Recorded(draws)(torch.empty(4), 0, "step")


@pytest.mark.parametrize("slots", [range(0, 8, 2), range(-3, 2), [0, 1, 2]], ids=str)
def test_slots_that_are_no_consecutive_indices(slots: object) -> None:
    with pytest.raises(ValueError, match="consecutive indices"):
        SlotNoise(0, slots)


def test_batch_that_does_not_fit_the_slots() -> None:
    with pytest.raises(ValueError, match="keyed for 3 samples, the state holds 4"):
        SlotNoise(0, range(3))(torch.empty(4, 2), 0, "step")


def test_student_noise_is_gaussian_over_one_radius_a_sample() -> None:
    """Its components are Student-t with D degrees of freedom; large D is the Gaussian; one leaf may have it."""
    noise, like = functools.partial(SlotNoise, 3)(range(4000)), torch.empty(4000, 3, dtype=torch.float64)
    z = Euclidean().randn(noise, like, 0, "prior")
    n = family_noise(PFGMpp(D=3), Euclidean(), noise, like, 0, "prior")
    ratio = n / z
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
    assert stats.kstest(n[:, 0].numpy(), "t", (3,)).pvalue > 1e-3
    assert stats.kstest(n[:, 0].numpy(), "norm").pvalue < 1e-3
    assert stats.kstest((ratio[:, 0] ** -2 * 3).numpy(), "chi2", (3,)).pvalue > 1e-3
    assert torch.equal(family_noise(VPLinear(), Euclidean(), noise, like, 0, "prior"), z)
    product = ProductSchedule(X=PFGMpp(D=5), h=VPLinear(), clock="X")
    both = family_noise(product, Product(X=Euclidean(), h=Euclidean()), noise, {"X": like, "h": like}, 0, "prior")
    plain = Product(X=Euclidean(), h=Euclidean()).randn(noise, {"X": like, "h": like}, 0, "prior")
    assert torch.equal(both["h"], plain["h"]) and not torch.equal(both["X"], plain["X"])
