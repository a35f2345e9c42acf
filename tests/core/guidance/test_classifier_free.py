"""Classifier-free guidance: linear in its scale, one call on a doubled batch, and composable."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scidiffuse.core import grids
from scidiffuse.core.denoisers import Denoiser, Prediction
from scidiffuse.core.guidance import ClassifierFree, Guidance
from scidiffuse.core.sample import sample
from scidiffuse.core.samplers import DDIM, DPMSolverPP
from scidiffuse.core.schedules import MeanReverting, ProductSchedule, VPLinear
from scidiffuse.core.spaces import Masked, Product, ZeroCoM, expand

C = torch.tensor([[0.5], [1.0], [-2.0]], dtype=torch.float64)
NULL = {"c": torch.tensor([0.25])}
calls: list[tuple[int, ...]] = []


def network(x: Tensor, t: Tensor, c: Tensor, scale: float = 1.0) -> Tensor:
    calls.append(tuple(x.shape))
    return torch.tanh(x * scale + expand(c[:, 0], x)) + expand(t / 1000.0, x) * x


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=["noise", "data", "velocity", "flow", "edm"])
def denoiser(request: pytest.FixtureRequest) -> Denoiser:
    calls.clear()
    return Denoiser(network, VPLinear(), request.param)


TIMES = [0.4, torch.tensor([0.2, 0.5, 0.8]).double(), torch.tensor([[0.2, 0.3], [0.5, 0.6], [0.8, 0.9]]).double()]


@pytest.mark.parametrize("t", TIMES, ids=["float", "(B,)", "(B, L)"])
def test_linear_between_null_and_condition(denoiser: Denoiser, t: object) -> None:
    x = normal(3, 2)
    with_c, without = denoiser(x, t, c=C), denoiser(x, t, c=torch.full_like(C, 0.25))
    assert (with_c.data - without.data).abs().min() > 1e-4
    for w in (0.0, 1.0, 3.5):
        pred = ClassifierFree(denoiser, w, NULL)(x, t, c=C)
        for name in ("data", "noise", "velocity", "score"):
            expected = (1 - w) * getattr(without, name) + w * getattr(with_c, name)
            torch.testing.assert_close(getattr(pred, name), expected, rtol=1e-10, atol=1e-10)


def test_one_call_on_a_doubled_batch(denoiser: Denoiser) -> None:
    ClassifierFree(denoiser, 2.0, NULL)(normal(3, 2), 0.5, c=C)
    assert calls == [(6, 2)]
    ClassifierFree(denoiser, 1.0, NULL)(normal(3, 2), 0.5, c=C)
    assert calls[1:] == [(3, 2)]


def test_other_conditions_labels_and_references_are_doubled_unchanged() -> None:
    seen = {}

    def spy(x: Tensor, t: Tensor, c: Tensor, extra: Tensor, factor: float) -> Tensor:
        seen.update(t=t, c=c, extra=extra, factor=factor)
        return 0.5 * x + c

    y, extra, label = normal(3, 1, seed=1), normal(3, 4), torch.tensor([7.0, 8.0, 9.0])
    denoiser = Denoiser(spy, MeanReverting(), "data")
    x = normal(3, 1)
    pred = ClassifierFree(denoiser, 2.0, {"c": 0.25})(x, 0.3, reference=y, label=label, c=C, extra=extra, factor=3.0)
    assert torch.equal(seen["extra"], extra.repeat(2, 1)) and torch.equal(seen["t"], label.repeat(2))
    assert torch.equal(seen["c"], torch.cat([C, torch.full_like(C, 0.25)])) and seen["factor"] == 3.0
    torch.testing.assert_close(pred.data, 0.5 * x + 2.0 * C - 0.25)
    a, b, s = (f(0.3) for f in (MeanReverting().alpha, MeanReverting().beta, MeanReverting().sigma))
    torch.testing.assert_close(a * pred.data + b * y + s * pred.noise, x)


def test_labels_as_integers() -> None:
    denoiser = Denoiser(lambda x, t, k: x * k[:, None], VPLinear(), "data")
    x, k = normal(3, 2), torch.tensor([1, 2, 3])
    pred = ClassifierFree(denoiser, 2.0, {"k": 10})(x, 0.5, k=k)
    torch.testing.assert_close(pred.data, x * (2 * k - 10)[:, None])


def test_interval(denoiser: Denoiser) -> None:
    guided, x = ClassifierFree(denoiser, 3.0, NULL, interval=(0.3, 0.6)), normal(3, 2)
    full = ClassifierFree(denoiser, 3.0, NULL)
    calls.clear()
    assert torch.equal(guided(x, 0.7, c=C).raw, denoiser(x, 0.7, c=C).raw) and {shape[0] for shape in calls} == {3}
    assert torch.equal(guided(x, 0.45, c=C).raw, full(x, 0.45, c=C).raw)
    t = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)  # every sample by its own time
    raw = guided(x, t, c=C).raw
    torch.testing.assert_close(raw[1], full(x, t, c=C).raw[1])
    torch.testing.assert_close(raw[[0, 2]], denoiser(x, t, c=C).raw[[0, 2]])


@pytest.mark.parametrize("phi", [0.0, 0.7, 1.0])
def test_rescale_brings_back_the_standard_deviation(denoiser: Denoiser, phi: float) -> None:
    x = normal(3, 50)
    plain, guided = denoiser(x, 0.4, c=C), ClassifierFree(denoiser, 4.0, NULL)(x, 0.4, c=C)
    pred = ClassifierFree(denoiser, 4.0, NULL, rescale=phi)(x, 0.4, c=C)
    ratio = plain.data.std(1, keepdim=True) / guided.data.std(1, keepdim=True)
    torch.testing.assert_close(pred.data, guided.data * (phi * ratio + 1 - phi))
    torch.testing.assert_close(VPLinear().alpha(0.4) * pred.data + VPLinear().sigma(0.4) * pred.noise, x)


def test_rescale_does_not_see_padding() -> None:
    x, mask = normal(3, 6), torch.tensor([[1, 1, 1, 1, 0, 0]] * 3).bool()
    small = ClassifierFree(Denoiser(network, VPLinear(), "data"), 3.0, NULL, rescale=0.8)(x[:, :4], 0.4, c=C)
    masked = Denoiser(network, VPLinear(), "data", Masked(mask))
    large = ClassifierFree(masked, 3.0, NULL, rescale=0.8)(masked.space.project(x), 0.4, c=C)
    torch.testing.assert_close(large.data[:, :4], small.data)
    assert (large.data[:, 4:] == 0).all()


class Shift(Guidance):
    """Edits the data and keeps the noise, as proximal guidance does; its raw output knows nothing of it."""

    def __call__(self, x: Tensor, t: object, **condition: object) -> Prediction:
        pred = super().__call__(x, t, **condition)
        return pred.with_data(pred.data + 10.0 * condition["c"], noise="keep")


def test_edits_of_guidance_inside_are_heard(denoiser: Denoiser) -> None:
    x, w = normal(3, 2), 2.5
    inner = Shift(denoiser)
    pred = ClassifierFree(inner, w, NULL)(x, 0.4, c=C)
    with_c, without = inner(x, 0.4, c=C), inner(x, 0.4, c=torch.full_like(C, 0.25))
    torch.testing.assert_close(pred.data, torch.lerp(without.data, with_c.data, w))
    torch.testing.assert_close(pred.noise, torch.lerp(without.noise, with_c.noise, w))
    torch.testing.assert_close(pred.velocity, torch.lerp(without.velocity, with_c.velocity, w))
    assert (pred.data - ClassifierFree(denoiser, w, NULL)(x, 0.4, c=C).data).abs().min() > 1.0
    outer = Shift(ClassifierFree(denoiser, w, NULL))(x, 0.4, c=C)
    torch.testing.assert_close(outer.data, ClassifierFree(denoiser, w, NULL)(x, 0.4, c=C).data + 10.0 * C)


def test_two_conditions_by_nesting() -> None:
    """raw = r00 + w1 (r10 - r00) + w2 (...), in one call on four batches."""
    calls.clear()

    def two(x: Tensor, t: Tensor, c: Tensor, d: Tensor) -> Tensor:
        calls.append(tuple(x.shape))
        return torch.sin(x + c) * d

    denoiser, x, d = Denoiser(two, VPLinear(), "data"), normal(3, 2), normal(3, 1, seed=2)
    nested = ClassifierFree(ClassifierFree(denoiser, 2.0, {"c": 0.0}), 3.0, {"d": 0.5})
    got = nested(x, 0.5, c=C, d=d)
    assert calls == [(12, 2)]

    def inner(d: Tensor) -> Tensor:
        return torch.lerp(torch.sin(x) * d, torch.sin(x + C) * d, 2.0)

    torch.testing.assert_close(got.data, torch.lerp(inner(torch.full_like(d, 0.5)), inner(d), 3.0))


def test_masks_products_and_batches_in_a_run() -> None:
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]]).bool()
    space = Product(X=ZeroCoM(mask), h=Masked(mask))
    schedule = ProductSchedule(X=VPLinear(), h=VPLinear(), clock="X")

    def both(x: dict[str, Tensor], t: Tensor, c: Tensor) -> dict[str, Tensor]:
        return {name: network(leaf, t, c) for name, leaf in x.items()}

    guided = ClassifierFree(Denoiser(both, schedule, "data", space), 2.0, NULL, rescale=0.5)
    given = {"shape": {"X": (3, 4, 2), "h": (3, 4, 5)}, "seed": 0, "dtype": torch.float64, "condition": {"c": C}}
    x = sample(guided, DPMSolverPP(2), grids.uniform(5, 0.9), **given).x
    assert x["X"].sum(1).abs().max() < 1e-13 and (x["X"][~mask] == 0).all() and (x["h"][~mask] == 0).all()
    for width in (1, 2):
        parts = sample(guided, DPMSolverPP(2), grids.uniform(5, 0.9), max_batch=width, **given).x
        torch.testing.assert_close(parts, x, rtol=0, atol=1e-12)


def test_scale_one_run_is_the_conditional_run() -> None:
    denoiser = Denoiser(network, VPLinear(), "data")
    runs = [
        sample(d, DDIM(), steps=6, shape=(3, 2), seed=0, dtype=torch.float64, condition={"c": C}).x
        for d in (denoiser, ClassifierFree(denoiser, 1.0, NULL), ClassifierFree(denoiser, 1.0 + 1e-14, NULL))
    ]
    assert torch.equal(runs[0], runs[1])
    torch.testing.assert_close(runs[2], runs[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda d: ClassifierFree(d, 2.0), ValueError, "null condition"),
        (lambda d: ClassifierFree(d, 2.0, {}), ValueError, "null condition"),
        (lambda d: ClassifierFree(d, 2.0, NULL, rescale=1.5), ValueError, "1.5"),
        (lambda d: ClassifierFree(d, 2.0, NULL, interval=(0.5, 0.5)), ValueError, r"\(0.5, 0.5\)"),
        (lambda d: ClassifierFree(d, 2.0, NULL)(normal(3, 2), 0.5), ValueError, r"\['c'\]"),
        (lambda d: ClassifierFree(d, 2.0, NULL)(normal(3, 2), 0.5, c=1.0), TypeError, "'c'.*float"),
        (
            lambda d: ClassifierFree(d, 2.0, NULL)(normal(3, 2), 0.5, c=C[:1]),
            ValueError,
            r"3 samples, got shape \(1, 1\)",
        ),
        (
            lambda d: ClassifierFree(d, 2.0, {"c": C})(normal(3, 2), 0.5, c=C),
            ValueError,
            r"one condition, got shape \(3, 1\)",
        ),
        (lambda d: sample(ClassifierFree(d, 2.0, NULL), DDIM(), steps=3, shape=(3, 2), seed=0), ValueError, r"\['c'\]"),
    ],
)
def test_refusals(denoiser: Denoiser, make: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(denoiser)
