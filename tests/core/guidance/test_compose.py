"""Composition of conditions and models against closed forms."""

from __future__ import annotations

import pytest
import torch

from scidiffuse.core import DDIM, Denoiser, VPLinear, ZeroCoM, grids, sample
from scidiffuse.core.guidance import ClassifierFree, Compose, Regional, TwoModels

SCHEDULE = VPLinear()


def network(x: torch.Tensor, t: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
    """Exact noise of x0 ~ N(condition, 1): sigma (x - alpha c), for unit variance."""
    t = t.double() / 1000
    a, s = SCHEDULE.alpha(t)[:, None], SCHEDULE.sigma(t)[:, None]
    calls.append(len(x))
    return s * (x - a * condition[:, None])


calls: list[int] = []
X = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_and_multiplies_densities() -> None:
    """p(x) prod p(x|c_i)/p(x) of unit Gaussians with a null at 0 is a unit Gaussian at sum w_i c_i."""
    inner = Denoiser(network, SCHEDULE)
    conditions = torch.tensor([[1.0, -3.0]], dtype=torch.float64).expand(6, 2)
    guided = Compose(inner, [0.5, -1.0], {"condition": 0.0})
    calls.clear()
    ours = guided(X, 0.4, condition=conditions)
    assert calls == [18]
    truth = inner(X, 0.4, condition=torch.full((6,), 0.5 * 1.0 + 3.0, dtype=torch.float64))
    torch.testing.assert_close(ours.data, truth.data)
    grid = grids.uniform(10, 0.99, 0.0)
    a = sample(guided, DDIM(), grid, x=X, condition={"condition": conditions}, dtype=torch.float64, max_batch=4).x
    b = sample(
        inner,
        DDIM(),
        grid,
        x=X,
        condition={"condition": torch.full((6,), 3.5, dtype=torch.float64)},
        dtype=torch.float64,
    ).x
    torch.testing.assert_close(a, b)


def test_one_condition_is_classifier_free_guidance() -> None:
    inner = Denoiser(network, SCHEDULE)
    c = torch.linspace(-1, 1, 6, dtype=torch.float64)
    a = Compose(inner, [2.5], {"condition": 0.0})(X, 0.6, condition=c[:, None])
    b = ClassifierFree(inner, 2.5, {"condition": 0.0})(X, 0.6, condition=c)
    torch.testing.assert_close(a.noise, b.noise)


def test_two_models() -> None:
    """A good model N(1, 1) and a bad one N(0, 1): weight w moves the mean to w."""

    def fixed(mean: float) -> Denoiser:
        return Denoiser(lambda x, t: network(x, t, torch.full((len(x),), mean, dtype=torch.float64)), SCHEDULE)

    guided = TwoModels(fixed(1.0), fixed(0.0), 1.7)
    torch.testing.assert_close(guided(X, 0.5).data, fixed(1.7)(X, 0.5).data)
    calls.clear()
    TwoModels(fixed(1.0), fixed(0.0), 1.7, interval=(0.0, 0.2))(X, 0.5)
    assert calls == [6]
    # another kind of prediction in the second model
    data = Denoiser(lambda x, t: fixed(0.0)(x, float(t[0]) / 1000).data, SCHEDULE, "data")
    torch.testing.assert_close(TwoModels(fixed(1.0), data, 1.7)(X, 0.5).data, fixed(1.7)(X, 0.5).data)
    with pytest.raises(ValueError, match="share one schedule"):
        TwoModels(fixed(1.0), Denoiser(network, VPLinear(0.2, 20.0)), 1.7)


def test_regions() -> None:
    inner = Denoiser(network, SCHEDULE)
    regions = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]], dtype=torch.float64).expand(6, 2, 2)
    conditions = torch.tensor([[1.0, -3.0]], dtype=torch.float64).expand(6, 2)
    ours = Regional(inner, ["condition"])(X, 0.4, regions=regions, condition=conditions).data
    for element in range(2):
        truth = inner(X, 0.4, condition=conditions[:, element]).data
        torch.testing.assert_close(ours[:, element], truth[:, element])
    with pytest.raises(ValueError, match=r"sum to 1 at every element, got 2\.0"):
        Regional(inner, ["condition"])(X, 0.4, regions=regions * 2, condition=conditions)
    points = Denoiser(network, SCHEDULE, space=ZeroCoM(torch.ones(6, 4, dtype=torch.bool)))
    with pytest.raises(ValueError, match="would leave ZeroCoM"):
        Regional(points, ["condition"])(torch.zeros(6, 4, 3), 0.4, regions=regions, condition=conditions)


def test_refusals() -> None:
    inner = Denoiser(network, SCHEDULE)
    with pytest.raises(ValueError, match="needs the null condition"):
        Compose(inner, [1.0])
    with pytest.raises(ValueError, match=r"shape \(B, 2, \.\.\.\), got \(6, 3\)"):
        Compose(inner, [1.0, 1.0], {"condition": 0.0})(X, 0.5, condition=torch.zeros(6, 3))
