"""alpha(t): closed forms agree with each other, ends are exact, derivatives and inverses are those of the function."""

from __future__ import annotations

import math

import pytest
import torch

from scidiffuse.core.discrete.keep import (
    Cosine,
    CosineShifted,
    CosineSquared,
    Exponential,
    Keep,
    Linear,
    LogLinear,
    Table,
    keep_of,
)

ALL = [
    Linear(), LogLinear(), LogLinear(0.0), Cosine(), CosineSquared(), CosineShifted(), CosineShifted(0.3),
    Exponential(), Table((1.0, 0.8, 0.3, 0.0)),
]  # fmt: skip
TIMES = torch.tensor([0.03, 0.2, 0.5, 0.71, 0.97], dtype=torch.float64)


@pytest.mark.parametrize("keep", ALL, ids=repr)
def test_floats_and_tensors_agree(keep: Keep) -> None:
    for name in ("alpha", "lost", "speed"):
        many = getattr(keep, name)(TIMES)
        one = [getattr(keep, name)(float(t)) for t in TIMES]
        torch.testing.assert_close(many, torch.tensor(one, dtype=torch.float64), rtol=1e-14, atol=0.0)


@pytest.mark.parametrize("keep", ALL, ids=repr)
def test_alpha_and_lost_are_complements_and_speed_is_the_derivative(keep: Keep) -> None:
    torch.testing.assert_close(keep.alpha(TIMES) + keep.lost(TIMES), torch.ones_like(TIMES), rtol=1e-14, atol=0.0)
    h = 1e-6
    numeric = (keep.lost(TIMES + h) - keep.lost(TIMES - h)) / (2 * h)
    torch.testing.assert_close(keep.speed(TIMES), numeric, rtol=1e-8, atol=1e-9)
    assert bool((keep.speed(TIMES) > 0).all())


@pytest.mark.parametrize("keep", ALL, ids=repr)
def test_time_of_lost_is_the_inverse(keep: Keep) -> None:
    torch.testing.assert_close(keep.time_of_lost(keep.lost(TIMES)), TIMES, rtol=1e-9, atol=0.0)
    assert keep.lost(0.0) == 0.0
    assert keep.time_of_lost(keep.lost(0.4)) == pytest.approx(0.4, rel=1e-12)


@pytest.mark.parametrize("keep", ALL, ids=repr)
def test_lost_does_not_cancel_next_to_the_data(keep: Keep) -> None:
    t = 1e-12
    assert keep.lost(t) == pytest.approx(keep.speed(t / 2) * t, rel=1e-6)
    assert keep.lost(t) > 0.0


def test_what_is_left_at_the_end() -> None:
    assert Linear().alpha(1.0) == Cosine().alpha(1.0) == 0.0
    assert CosineSquared().alpha(1.0) == pytest.approx(0.0, abs=1e-30)
    assert LogLinear(1e-3).alpha(1.0) == pytest.approx(1e-3)
    assert Exponential(10.0).alpha(1.0) == math.exp(-10.0)


def test_the_shifted_cosine_is_a_quotient_of_cosines_not_squared() -> None:
    h = [0.5 * math.pi * (t + 0.008) / 1.008 for t in (0.0, 0.3, 0.9)]
    keep = CosineShifted()
    assert [keep.alpha(t) for t in (0.3, 0.9)] == pytest.approx(
        [math.cos(x) / math.cos(h[0]) for x in h[1:]], rel=1e-13
    )
    assert (keep.alpha(0.0), keep.alpha(1.0)) == (pytest.approx(1.0), 0.0)
    assert keep.time_of_lost(keep.lost(1e-9)) == pytest.approx(1e-9, rel=1e-12)
    assert keep_of("cosine_shifted") == keep


def test_the_shifted_squared_cosine_is_the_one_of_images_and_graphs() -> None:
    f = [math.cos(0.5 * math.pi * (t + 0.008) / 1.008) ** 2 for t in (0.0, 0.3, 0.9)]
    keep = CosineSquared(0.008)
    assert [keep.alpha(t) for t in (0.3, 0.9)] == pytest.approx([x / f[0] for x in f[1:]], rel=1e-13)
    assert keep.time_of_lost(keep.lost(1e-9)) == pytest.approx(1e-9, rel=1e-12)
    assert (keep.alpha(1.0), keep.time_of_lost(0.0)) == (0.0, 0.0)


def test_a_table_is_met_at_its_nodes() -> None:
    table = Table((1.0, 0.8, 0.3, 0.0))
    assert [table.alpha(k / 3) for k in range(4)] == pytest.approx([1.0, 0.8, 0.3, 0.0])
    assert table.speed(0.5) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: LogLinear(1.0), ValueError, "got 1.0"),
        (lambda: Exponential(0.0), ValueError, "got 0.0"),
        (lambda: CosineShifted(0.0), ValueError, "got 0.0"),
        (lambda: CosineSquared(-0.1), ValueError, "got -0.1"),
        (lambda: Table((0.9, 0.1)), ValueError, "from 0.9"),
        (lambda: Table((1.0,)), ValueError, "got 1 "),
        (lambda: Table((1.0, 0.5, 0.6)), ValueError, r"alphas\[1\] = 0.5"),
        (lambda: keep_of("sigmoid"), ValueError, "'sigmoid'.*linear"),
        (lambda: keep_of(3), TypeError, "got 3"),
    ],
)
def test_refusals(make: object, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()  # type: ignore[operator]
