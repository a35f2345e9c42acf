"""The table of "polynomial_2": levels, precision, clipping, and the grids that visit it."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from scidiffuse.molecules.edm.schedule import level, polynomial, times_of


def test_levels_are_those_of_the_formula():
    steps, s = 1000, 1e-5
    schedule = polynomial(steps)
    assert schedule.num_steps == steps + 1
    for i in (0, 1, 250, 500, 900):  # where the clipping has not set in
        wanted = (1 - 2 * s) * (1 - (i / steps) ** 2) ** 2 + s
        assert schedule.alphas_cumprod[i] == pytest.approx(wanted, rel=1e-9)
        assert schedule.alpha((i + 1) / (steps + 1)) ** 2 == pytest.approx(wanted, rel=1e-9)
    assert schedule.sigma(1 / (steps + 1)) ** 2 == pytest.approx(s, rel=1e-6)


def test_the_last_ratio_is_clipped():
    steps = 1000
    bars = polynomial(steps).alphas_cumprod
    unclipped = (1 - (999 / 1000) ** 2) ** 2  # level 999; the next would be 0, its ratio is clipped to 1e-3
    assert bars[-1] == pytest.approx((1 - 2e-5) * unclipped * 1e-3 + 1e-5, rel=1e-7)
    assert all(a > b for a, b in pairwise(bars))


def test_networks_are_told_the_level():
    schedule = polynomial(4)
    assert [level(schedule, (i + 1) / 5) for i in range(5)] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    t = torch.tensor([0.2, 1.0], dtype=torch.float64)
    torch.testing.assert_close(level(schedule, t), torch.tensor([0.0, 1.0], dtype=torch.float64))


def test_grids_visit_all_levels_or_some_with_both_ends():
    schedule = polynomial(10)
    assert times_of(schedule, None).times == pytest.approx([*((i + 1) / 11 for i in reversed(range(11))), 0.0])
    assert times_of(schedule, 3).times == pytest.approx([1.0, 6 / 11, 1 / 11, 0.0])
    for steps in (1, 12, 2.5, True):
        with pytest.raises(ValueError, match="from 2 to the 11 levels"):
            times_of(schedule, steps)


def test_bad_settings():
    with pytest.raises(ValueError, match="positive integer"):
        polynomial(0)
    with pytest.raises(ValueError, match="precision"):
        polynomial(10, precision=0.7)
