"""The diffusion classifier against Bayes' rule on digits, with exact class models."""

import math

import pytest
import torch

from scidiffuse.core import Denoiser, Graph, Masked, PFGMpp, VPCosine, VPLinear, ZeroCoM
from scidiffuse.core.composition import DiffusionClassifier

SCHEDULE = VPCosine()


class Digits:
    """Handwritten digits with a Gaussian a class: QDA is Bayes' rule, and the denoiser is exact.

    Every sixth digit is held out (300); covariances carry a ridge of 0.03.
    """

    def __init__(self):
        load_digits = pytest.importorskip("sklearn.datasets").load_digits
        pixels, y = load_digits(return_X_y=True)
        x, y = torch.tensor(pixels / 8.0 - 1.0), torch.tensor(y)
        held = torch.arange(len(x)) % 6 == 0
        self.x, self.y = x[held], y[held]
        groups = [x[~held][y[~held] == c] for c in range(10)]
        self.means = torch.stack([g.mean(0) for g in groups])
        eye = 0.03 * torch.eye(64, dtype=torch.float64)
        self.values, self.vectors = torch.linalg.eigh(torch.stack([torch.cov(g.T) + eye for g in groups]))

    def qda(self):
        z = torch.einsum("bcd,cde->bce", self.x[:, None] - self.means, self.vectors)
        return (-0.5 * (z.square() / self.values + self.values.log()).sum(-1)).argmax(1)

    def denoiser(self):
        def network(x, t, digit):
            a, s = SCHEDULE.alpha(float(t[0])), SCHEDULE.sigma(float(t[0]))
            noise = torch.empty_like(x)
            for k in range(10):
                i = (digit == k).nonzero().flatten()
                gain = s / (a * a * self.values[k] + s * s)
                noise[i] = ((x[i] - a * self.means[k]) @ self.vectors[k] * gain) @ self.vectors[k].T
            return noise

        return Denoiser(network, SCHEDULE, "noise", label=lambda _, t: t)

    def accuracy(self, labels):
        return float((labels == self.y).double().mean())


@pytest.fixture(scope="module")
def digits():
    return Digits()


CONDITIONS = [{"digit": c} for c in range(10)]
TIMES = (0.01, 0.6)


def test_the_numbers_on_digits(digits):
    """Bayes .993; 5 shared samples .990; 5 independent ones .946 to .976."""
    assert digits.accuracy(digits.qda()) == pytest.approx(0.993, abs=0.01)
    shared, independent = (
        [
            digits.accuracy(
                DiffusionClassifier(digits.denoiser(), CONDITIONS, 5, times=TIMES, shared=s)(digits.x, seed=k).label
            )
            for k in range(4)
        ]
        for s in (True, False)
    )
    assert sum(shared) / 4 == pytest.approx(0.990, abs=0.01)
    assert 0.936 < sum(independent) / 4 < 0.986
    assert sum(shared) / 4 > sum(independent) / 4 + 0.01


def test_many_samples_and_elimination(digits):
    whole = DiffusionClassifier(digits.denoiser(), CONDITIONS, 60, times=TIMES)(digits.x, seed=0)
    assert digits.accuracy(whole.label) == pytest.approx(0.992, abs=0.01)
    staged = DiffusionClassifier(digits.denoiser(), CONDITIONS, (6, 60), (3, 1), times=TIMES)(digits.x, seed=0)
    assert digits.accuracy(staged.label) >= digits.accuracy(whole.label) - 0.01
    assert whole.calls == 300 * 10 * 60
    assert staged.calls == 300 * (10 * 6 + 3 * 54)
    assert sorted(staged.samples[0].tolist()) == [6] * 7 + [60] * 3
    picked = staged.samples.gather(1, torch.stack([staged.label, staged.runner_up], 1))
    assert bool((picked == 60).all())
    # errors decide, the margin is theirs, and where its interval excludes zero the answer is that of Bayes
    assert bool((whole.margin >= 0).all())
    torch.testing.assert_close(whole.label, whole.errors.argmin(1))
    top = whole.errors.sort(1).values
    torch.testing.assert_close(whole.margin, top[:, 1] - top[:, 0])
    sure = whole.interval[:, 0] > 0.0
    assert 0.5 < float(sure.double().mean()) <= 1.0
    unsure = (whole.label != digits.qda())[~sure]
    assert float((whole.label != digits.qda())[sure].double().mean()) < 0.01
    assert unsure.numel() < 30


def pair(schedule=SCHEDULE, space=None, gap=1.0):
    """Classes N(+-gap/2, 1) in every coordinate."""

    def network(x, t, c):
        a, s = schedule.alpha(float(t[0])), schedule.sigma(float(t[0]))
        m = (c * gap / 2).to(x).reshape(-1, *[1] * (x.ndim - 1))
        return s * (x - a * m) / (a * a + s * s)

    return Denoiser(network, schedule, "noise", space=space, label=lambda _, t: t)


TWO = [{"c": -1.0}, {"c": torch.tensor(1.0)}]


def test_the_margin_is_known():
    """n - n_c = n (1 - w s) - w a (x - m_c) with w = s/(a^2 + s^2): the mean difference of the classes' squared errors
    is (w a)^2 ((x - m_0)^2 - (x - m_1)^2)."""
    gap, x = 1.0, torch.full((400, 1), 0.2, dtype=torch.float64)
    result = DiffusionClassifier(pair(gap=gap), TWO, 16, times=(0.2, 0.8))(x, seed=0)
    expected = 0.0
    for k in range(16):
        a, s = (f(0.2 + 0.6 * (k + 0.5) / 16) for f in (SCHEDULE.alpha, SCHEDULE.sigma))
        w = s / (a * a + s * s)
        expected += (w * a) ** 2 * ((0.2 + gap / 2) ** 2 - (0.2 - gap / 2) ** 2) / 16
    signed = torch.where(result.label == 1, result.margin, -result.margin)
    assert abs(float(signed.mean()) - expected) < 4 * float(signed.std()) / 20
    # the interval is symmetric about the margin and holds the truth about as often as it says (times are spread, not
    # random, so rather more often)
    low, high = result.interval.unbind(1)
    torch.testing.assert_close(low + high, 2 * result.margin)
    flip = result.label == 0
    covered = torch.where(flip, (-high <= expected) & (expected <= -low), (low <= expected) & (expected <= high))
    assert float(covered.double().mean()) > 0.9


def test_confidence_and_single_samples():
    x = torch.full((3, 2), 0.2, dtype=torch.float64)
    narrow, wide = (DiffusionClassifier(pair(), TWO, 8, confidence=c)(x, seed=0) for c in (0.5, 0.95))
    ratio = (wide.interval[:, 1] - wide.margin) / (narrow.interval[:, 1] - narrow.margin)
    torch.testing.assert_close(ratio, torch.full_like(ratio, 1.959964 / 0.674490), rtol=1e-5, atol=0)
    one = DiffusionClassifier(pair(), TWO, 1)(x, seed=0)
    assert bool(one.margin_error.isnan().all())
    assert one.interval[:, 1].tolist() == [math.inf] * 3


def test_batches_slots_and_neighbours_do_not_matter():
    x = torch.linspace(-1, 1, 10, dtype=torch.float64).sign()[:, None] * torch.ones(3).double()
    model = DiffusionClassifier(pair(gap=2.0), TWO, 5)
    whole = model(x, seed=0)
    torch.testing.assert_close(model(x, seed=0, max_batch=3).errors, whole.errors)
    torch.testing.assert_close(model(x[4:7], seed=0, slots=range(4, 7)).errors, whole.errors[4:7])
    assert not torch.equal(model(x, seed=1).errors, whole.errors)
    assert whole.label.tolist() == [0] * 5 + [1] * 5
    l1 = DiffusionClassifier(pair(gap=2.0), TWO, 5, norm="l1")(x, seed=0)
    assert l1.label.tolist() == whole.label.tolist()
    assert float((l1.errors - whole.errors).abs().max()) > 1e-3


@pytest.mark.parametrize("space", [Masked, ZeroCoM, Graph])
def test_padding_does_not_dilute(space):
    """The error of a padded sample is that of the sample alone."""
    mask = torch.tensor([[True, True, True, False, False]])
    inside, alone = space(mask), space(mask[:, :3])
    x = torch.randn(1, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if space is not Graph:
        x = x[:, :, :2]
    small = x[:, :3, :3] if space is Graph else x[:, :3]
    a = DiffusionClassifier(pair(space=inside), TWO, 4)(x, seed=0)
    b = DiffusionClassifier(pair(space=alone), TWO, 4)(small, seed=0)
    torch.testing.assert_close(a.errors, b.errors)


def test_refusals():
    one = pair()
    for args, kw, match in (
        ((one, TWO[:1]), {}, "at least two classes"),
        ((one, [{"c": 1.0}, {"d": 1.0}]), {}, "same names"),
        ((one, TWO, 0), {}, "n_samples"),
        ((one, TWO, (5, 5), (1, 1)), {}, "n_samples"),
        ((one, TWO, (5, 9), (1,)), {}, "one entry a stage"),
        ((one, TWO, 5, (2,)), {}, "to_keep"),
        ((one, [*TWO, {"c": 0.0}], 5, (2,)), {}, "end at 1"),
        ((one, TWO), {"times": (0.5, 0.5)}, "low < high"),
        ((one, TWO), {"times": (0.5, 1.5)}, "outside"),
        ((one, TWO), {"norm": "l3"}, "norm"),
        ((one, TWO), {"confidence": 1.0}, "confidence"),
        ((pair(PFGMpp(D=16)), TWO), {}, "Student-t"),
    ):
        with pytest.raises(ValueError, match=match):
            DiffusionClassifier(*args, **kw)
    x = torch.zeros(2, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="max_batch"):
        DiffusionClassifier(one, TWO)(x, seed=0, max_batch=0)
    with pytest.raises(ValueError, match="reference must have the shape"):
        DiffusionClassifier(one, TWO)(x, seed=0, reference=x[:, :2])
    with pytest.raises(ValueError, match="does not fit"):
        DiffusionClassifier(pair(space=Masked(torch.ones(1, 4, dtype=torch.bool))), TWO)(x, seed=0)
    with pytest.raises(ValueError, match="the network must return"):
        DiffusionClassifier(Denoiser(lambda x, t, c: x[:, :1], VPLinear()), TWO, 1)(x, seed=0)
