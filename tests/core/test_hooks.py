"""Hooks against hand computations, and inpainting against the exact conditional."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from scidiffuse.core import grids
from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.hooks import Clamp, DynamicThreshold, Hook, Known, Record, Step
from scidiffuse.core.sample import sample
from scidiffuse.core.samplers import BDIA, DDIM, DDPM, DPMSolverPP, EDMStochastic, Heun, Sampler, State, UniPC
from scidiffuse.core.schedules import MeanReverting, ProductSchedule, Spectral, VPLinear
from scidiffuse.core.spaces import Euclidean, Graph, Masked, Product, ZeroCoM, expand

MEAN = torch.tensor([1.0, -0.5, 0.3, 2.0], dtype=torch.float64)
STD = torch.tensor([0.3, 1.0, 0.7, 0.1], dtype=torch.float64)
SCHEDULE = VPLinear()
GRID = grids.uniform(12, 0.95, 0.0)


def gaussian(x: Tensor, t: Tensor) -> Tensor:
    """E[x0 | x] for x0 ~ N(MEAN, diag STD^2); t (B,) or (B, L) is the time itself."""
    a, s = (expand(c, x) for c in (SCHEDULE.alpha(t.double()), SCHEDULE.sigma(t.double())))
    m, v = MEAN.to(x), STD.to(x).square()
    return m + a * v / (a * a * v + s * s) * (x - a * m)


DENOISER = Denoiser(gaussian, SCHEDULE, "data", label=lambda schedule, t: t)


def go(sampler: Sampler, n: int = 5, denoiser: Denoiser = DENOISER, **given: object):
    return sample(denoiser, sampler, GRID, shape=(n, 4), seed=0, **{"dtype": torch.float64, **given})


def known(n: int = 5, **more: object) -> Known:
    values = torch.tensor([[9.0, float("nan"), -7.0, float("nan")]], dtype=torch.float64).repeat(n, 1)
    mask = torch.tensor([[True, False, True, False]])
    return Known(values, mask.expand(n, -1) if more else mask, **more)


class Spread(Hook):
    """Makes the data prediction large, to be bounded by what follows."""

    def on_prediction(self, step: Step) -> Step:
        return replace(step, pred=step.pred.with_data(step.pred.data * 4.0, noise="keep"))


class Last(Hook):
    """Keeps the last prediction."""

    def on_prediction(self, step: Step) -> Step:
        self.pred = step.pred
        return step


# -- clamp and threshold ---------------------------------------------------------------------------
def test_clamp_bounds_the_data_and_the_state_stays_explained() -> None:
    last = Last()
    x = go(DPMSolverPP(2), hooks=[Spread(), Clamp(-0.5, 1.5), last]).x
    assert x.min() == -0.5 and x.max() == 1.5
    pred = last.pred
    t = GRID.times[-2]
    torch.testing.assert_close(SCHEDULE.alpha(t) * pred.data + SCHEDULE.sigma(t) * pred.noise, pred.x)


def test_dynamic_threshold_against_a_hand_computation() -> None:
    """The 0.75 quantile of |x0| = 0, 1, 2, 4 is 2.5; below the bound nothing happens."""
    data = torch.tensor([[0.0, -1.0, 2.0, 4.0], [0.1, 0.2, -0.3, 0.4]], dtype=torch.float64)
    last = Last()
    fixed = Denoiser(lambda x, t: data, SCHEDULE, "data")
    go(DDIM(), 2, fixed, hooks=[DynamicThreshold(0.75, 1.0), last])
    expected = torch.stack([torch.tensor([0.0, -0.4, 0.8, 1.0], dtype=torch.float64), data[1]])
    torch.testing.assert_close(last.pred.data, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("quantile", [0.3, 0.5, 0.77, 1.0])
def test_the_quantile_is_torchs_and_padding_does_not_count(quantile: float) -> None:
    data = torch.randn(3, 7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 5
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0, 0]], dtype=torch.bool)
    hook, last = DynamicThreshold(quantile, 0.5), Last()
    denoiser = Denoiser(lambda x, t: data, SCHEDULE, "data", Masked(mask))
    sample(denoiser, DDIM(), GRID, shape=data.shape, seed=0, dtype=torch.float64, hooks=[hook, last])
    for k in range(3):
        real = data[k][mask[k]]
        s = real.abs().flatten().quantile(quantile).clamp_min(0.5)
        torch.testing.assert_close(last.pred.data[k][mask[k]], real.clamp(-s, s) * 0.5 / s)
        assert (last.pred.data[k][~mask[k]] == 0).all()


@pytest.mark.parametrize("hook", [Clamp(), DynamicThreshold()], ids=repr)
def test_bounding_single_values_is_refused_where_it_leaves_the_space(hook: Hook) -> None:
    mask = torch.ones(2, 4, dtype=torch.bool)
    for space, shape in ((ZeroCoM(mask), (2, 4, 3)), (Graph(mask), (2, 4, 4)), (Product(X=Euclidean()), {"X": (2, 4)})):
        with pytest.raises(ValueError, match=rf"{type(hook).__name__}.*{type(space).__name__}"):
            sample(Denoiser(lambda x, t: x, SCHEDULE, "data", space), DDIM(), GRID, shape=shape, seed=0, hooks=[hook])
    with pytest.raises(ValueError, match="quantile"):
        DynamicThreshold(0.0)


def test_bounds_hold_in_the_datas_coordinates_also_where_the_state_lives_elsewhere() -> None:
    schedule = Spectral((4.0, 1.0, 0.5, 1.0), (4,))
    wild = Denoiser(lambda x, t: 3.0 * torch.tanh(x) + 1.0, schedule, "data")
    x = sample(
        wild, DDIM(), grids.uniform(8, 0.9), shape=(4, 4), seed=0, dtype=torch.float64, hooks=[Clamp(-0.5, 1.5)]
    ).x
    assert x.min() >= -0.5 - 1e-12 and x.max() <= 1.5 + 1e-12 and (x > 1.4).any()


# -- known elements --------------------------------------------------------------------------------
SAMPLERS = [
    DDIM(),
    Heun(),
    DPMSolverPP(2),
    DPMSolverPP(3),
    UniPC(3),
    BDIA(),
    DDPM(),
    EDMStochastic(),
    DPMSolverPP(2, eta=1.0),
]


@pytest.mark.parametrize("per_element_time", [False, True])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_known_elements_are_exact_and_the_others_do_not_notice(sampler: Sampler, per_element_time: bool) -> None:
    """Independent elements: given the known ones, the others walk exactly as without them, history included."""
    hook = known(per_element_time=True) if per_element_time else known()
    x, free = go(sampler, hooks=[hook]).x, go(sampler).x
    exact = torch.tensor([9.0, -7.0], dtype=torch.float64).expand(5, 2)
    torch.testing.assert_close(x[:, [0, 2]], exact, rtol=0, atol=1e-13 if isinstance(sampler, BDIA) else 0.0)
    torch.testing.assert_close(x[:, [1, 3]], free[:, [1, 3]], rtol=0, atol=1e-11)


def test_unknown_elements_have_the_law_of_the_conditional() -> None:
    x = sample(
        DENOISER, DPMSolverPP(2, eta=1.0), grids.log_snr(SCHEDULE, 60, final_zero=True), shape=(4000, 4), seed=1,
        dtype=torch.float64, hooks=[known(4000)],
    ).x[:, [1, 3]]  # fmt: skip
    assert (x.mean(0) - MEAN[[1, 3]]).abs().max() < 0.06
    assert (x.std(0) / STD[[1, 3]] - 1.0).abs().max() < 0.06


def test_known_elements_walk_their_own_path() -> None:
    """Between the calls they are alpha times the value plus sigma times their noise."""
    states: list[State] = []

    class Keep(Hook):
        def on_step(self, step: Step) -> State:
            states.append(super().on_step(step))
            return states[-1]

    last = Last()
    go(DPMSolverPP(2), hooks=[known(), Keep(), last])
    n = (states[0].x[:, 0] - SCHEDULE.alpha(GRID.times[1]) * 9.0) / SCHEDULE.sigma(GRID.times[1])
    for state in states:
        t = GRID.times[state.i]
        torch.testing.assert_close(state.x[:, 0], SCHEDULE.alpha(t) * 9.0 + SCHEDULE.sigma(t) * n)


def test_the_network_sees_clean_values_at_time_zero() -> None:
    seen = []

    def spy(x: Tensor, t: Tensor) -> Tensor:
        seen.append((x.clone(), t.clone()))
        return gaussian(x, t)

    go(DDIM(), 3, Denoiser(spy, SCHEDULE, "data", label=lambda schedule, t: t), hooks=[known(3, per_element_time=True)])
    for (x, t), level in zip(seen, GRID.times, strict=False):
        assert t.shape == (3, 4)
        assert (t[:, [0, 2]] == 0).all() and torch.allclose(
            t[:, [1, 3]], torch.full((3, 2), level, dtype=torch.float64)
        )
        assert (x[:, 0] == 9.0).all() and (x[:, 2] == -7.0).all()


def test_known_elements_with_a_reference_a_mask_and_a_product() -> None:
    y = torch.full((2, 4), 0.5, dtype=torch.float64)
    hook = Known(torch.full((2, 4), 3.0), torch.tensor([[True, True, False, False]]))
    space = Masked(torch.tensor([[True, False, True, True], [True, True, True, False]]))
    schedule = MeanReverting()
    x = sample(
        Denoiser(lambda x, t: 0.1 * x, schedule, "data", space), UniPC(2), GRID, shape=(2, 4), seed=0, reference=y,
        hooks=[hook], dtype=torch.float64,
    ).x  # fmt: skip
    assert x[:, :2].tolist() == [[3.0, 0.0], [3.0, 3.0]] and x[1, 3] == 0.0
    product = Denoiser(lambda x, t: x, ProductSchedule(a=VPLinear(), b=VPLinear(), clock="a"), "data")
    values, mask = (
        {"a": torch.ones(1, 3), "b": torch.zeros(1, 2)},
        {"a": torch.ones(1, 3).bool(), "b": torch.zeros(1, 2).bool()},
    )
    out = sample(product, DDIM(), GRID, shape={"a": (2, 3), "b": (2, 2)}, seed=0, hooks=[Known(values, mask)]).x
    assert (out["a"] == 1).all() and not (out["b"] == 0).any()


def test_known_pixels_of_a_spectral_run() -> None:
    hook = Known(torch.full((1, 4), 0.7), torch.tensor([[True, False, False, True]]))
    denoiser = Denoiser(lambda x, t: torch.tanh(x), Spectral((4.0, 1.0, 0.5, 1.0), (4,)), "data")
    x = sample(denoiser, DDIM(), grids.uniform(8, 0.9), shape=(3, 4), seed=0, hooks=[hook], dtype=torch.float64).x
    torch.testing.assert_close(x[:, [0, 3]], torch.full((3, 2), 0.7, dtype=torch.float64), rtol=0, atol=1e-7)
    assert (x[:, 1] - 0.7).abs().min() > 1e-3


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Known(torch.zeros(5, 4), torch.zeros(5, 4)), TypeError, "float32"),
        (lambda: Known(torch.zeros(5, 4), torch.zeros(5, 4, 1).bool(), per_element_time=True), ValueError, r"\(B, L\)"),
        (lambda: go(DDIM(), hooks=[Known(torch.zeros(5, 3), torch.zeros(5, 3).bool())]), ValueError, r"\(5, 4\), got \(5, 3\)"),  # noqa: E501
        (lambda: go(DDIM(), hooks=[Known(torch.zeros(5, 4), torch.zeros(2, 4).bool())]), ValueError, r"got \(2, 4\)"),
        (
            lambda: sample(
                Denoiser(lambda x, t: x, SCHEDULE, "data", ZeroCoM(torch.ones(2, 4).bool())), DDIM(), GRID, shape=(2, 4, 3),  # noqa: E501
                seed=0, hooks=[Known(torch.zeros(2, 4, 3), torch.zeros(2, 4).bool())],
            ),
            ValueError, "ZeroCoM",
        ),
    ],
)  # fmt: skip
def test_known_refuses(make: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Clamp(1.0, -1.0), r"low=1\.0, high=-1\.0"),
        (lambda: DynamicThreshold(1.5), r"\(0, 1\], got 1\.5"),
        (lambda: DynamicThreshold(bound=0.0), r"positive.*got 0\.0"),
        (lambda: Record(every=0), "got 0"),
        (lambda: Record(what=("x", "score")), "'score'"),
    ],
)
def test_settings_of_hooks_are_checked(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# -- records and cutting ---------------------------------------------------------------------------
def test_record_keeps_the_trajectory() -> None:
    result = go(DDIM(), hooks=[Record(what=("x", "data", "noise"))])
    kept = result.records
    assert kept["t"] == list(GRID.times[:-1]) and len(kept["x"]) == result.calls == 12
    for t, x, data, noise in zip(kept["t"], kept["x"], kept["data"], kept["noise"], strict=True):
        torch.testing.assert_close(x, SCHEDULE.alpha(t) * data + SCHEDULE.sigma(t) * noise)
        torch.testing.assert_close(data, gaussian(x, torch.full((5,), t, dtype=torch.float64)))
    assert torch.equal(kept["data"][-1], result.x)
    assert not kept["x"][0].is_inference()
    assert len(go(Heun(), hooks=[Record(every=4, what=("x",))]).records["x"]) == 6


@pytest.mark.parametrize("width", [1, 2, 3])
def test_hooks_are_cut_with_the_batch(width: int) -> None:
    hook = Known(torch.arange(20.0).reshape(5, 4), torch.tensor([[True, False, False, True]]).repeat(5, 1))
    whole = go(DPMSolverPP(2), hooks=[hook, Record()])
    parts = go(DPMSolverPP(2), hooks=[hook, Record()], max_batch=width)
    assert torch.equal(parts.x[:, 0], torch.tensor([0.0, 4.0, 8.0, 12.0, 16.0], dtype=torch.float64))
    torch.testing.assert_close(parts.x, whole.x, rtol=0, atol=1e-13)
    for name in ("x", "data"):
        torch.testing.assert_close(parts.records[name], whole.records[name], rtol=0, atol=1e-13)
    assert parts.records["t"] == whole.records["t"]


def test_hooks_that_need_their_walkers_together() -> None:
    class Pairs(Hook):
        group = 2
        sizes: list[int] = []  # noqa: RUF012

        def on_prediction(self, step: Step) -> Step:
            self.sizes.append(step.query.x.shape[0])
            return step

    go(DDIM(), 6, hooks=[Pairs()], max_batch=5)
    assert Pairs.sizes == [4] * 12 + [2] * 12
    with pytest.raises(ValueError, match="groups of 2 walkers, the batch of 5"):
        go(DDIM(), 5, hooks=[Pairs()])
    with pytest.raises(ValueError, match="max_batch=1 is smaller than a group of 2"):
        go(DDIM(), 6, hooks=[Pairs()], max_batch=1)
    for junk in ("hook", Known):
        with pytest.raises(TypeError, match="sequence of Hook"):
            go(DDIM(), 6, hooks=[junk])
