"""The one call: what it returns, that batches do not matter, composition in its order, and refusals."""

from dataclasses import dataclass

import pytest
import torch

from scidiffuse.core import DDIM, DDPM, ClassifierFree, Denoiser, DPMSolverPP, Hook, Masked, VPLinear, sample
from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.guidance import Guidance
from scidiffuse.core.inverse import (
    DDNM,
    DDRM,
    DDS,
    DPS,
    MMPS,
    DiffPIR,
    FlowChef,
    Measurement,
    Method,
    PiGDM,
    RedDiff,
    Steered,
    reconstruct,
)
from scidiffuse.core.inverse.base import moved
from scidiffuse.core.inverse.oracle import grid, mild
from scidiffuse.core.operators import LinearFunction, Mask, Matrix
from scidiffuse.core.spaces import expand

SCHEDULE = VPLinear()
DENOISER = GaussianMixture.example().denoiser(SCHEDULE)
A = Matrix(torch.tensor([[1.0, 0.5]]))
METHODS = [DPS(), PiGDM(), MMPS(2), DDS(3), DDRM(), DDNM(), DiffPIR(), RedDiff(), FlowChef(), Steered()]


def _run(method, y=None, **change):
    y = torch.tensor([[0.8], [-0.4]]) if y is None else y
    return reconstruct(
        DENOISER, A, y, **{"noise": 0.2, "method": method, "steps": 6, "samples": 3, "seed": 0, **change}
    )


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_result(method):
    run = _run(method)
    assert run.x.shape == (2, 3, 2) and run.mean.shape == run.std.shape == (2, 2)
    torch.testing.assert_close(run.mean, run.x.mean(1))
    torch.testing.assert_close(run.std, run.x.std(1))
    y = torch.tensor([[0.8], [-0.4]])
    torch.testing.assert_close(run.residual, torch.stack([(y[i] - A(run.x[i])).norm(dim=1) for i in range(2)]))
    torch.testing.assert_close(run.expected_residual, torch.full((2,), 0.2, dtype=torch.float64))
    assert run.calls == 6 and run.vjps == 6 * method.vjps
    assert type(method).__name__ in repr(run) and run.x.dtype == torch.float32
    assert not torch.equal(run.x[0], run.x[1])


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_batches_do_not_change_the_numbers(method):
    """The same noise and the same answer however the run is cut; measurements and masks are cut along."""
    whole = _run(method, dtype=torch.float64)
    parts = _run(method, dtype=torch.float64, max_batch=2)
    torch.testing.assert_close(parts.x, whole.x, rtol=1e-9, atol=1e-9)
    first = _run(method, y=torch.tensor([[0.8]]), dtype=torch.float64)
    torch.testing.assert_close(first.x[0], whole.x[0], rtol=1e-9, atol=1e-9)


def test_a_mask_a_measurement():
    operator = Mask(torch.tensor([[True, False], [False, True]]), batched=True)
    run = reconstruct(
        DENOISER, operator, torch.tensor([[0.5, torch.nan], [torch.nan, -0.5]]), noise=0.0, method=DDS(), steps=6,
        samples=3, seed=0, max_batch=2,
    )  # fmt: skip
    torch.testing.assert_close(run.x[0, :, 0], torch.full((3,), 0.5))
    torch.testing.assert_close(run.x[1, :, 1], torch.full((3,), -0.5))


@pytest.mark.parametrize("method", [m for m in METHODS if not isinstance(m, DDRM | RedDiff | DDNM)])
@pytest.mark.parametrize("sampler", [DDIM(), DPMSolverPP(order=2)], ids=lambda s: type(s).__name__)
def test_linear_samplers(method, sampler):
    free, guided = (_run(m, sampler=sampler, steps=20).residual.mean() for m in (Method(), method))
    assert guided < free


def test_by_hand_is_the_same():
    y = torch.tensor([[0.8]])
    measurement = Measurement(A, y, 0.2)
    for method in (DPS(), PiGDM(), DDS(), DDNM()):
        by_hand = sample(
            method.guide(DENOISER, measurement), DDPM(), steps=6, shape=(3, 2), hooks=method.hooks(measurement), seed=0
        )
        assert torch.equal(by_hand.x, _run(method, y=y, sampler=DDPM()).x[0])


class _LinearReward(Guidance):
    """exp(<g, x0>) tilts a Gaussian: data + V g with V = (sigma^2/alpha) J (exact classifier guidance)."""

    def __init__(self, denoiser, g):
        super().__init__(denoiser)
        self.g = g

    @property
    def needs_grad(self):
        return True

    def __call__(self, x, t, **condition):
        with torch.enable_grad():
            source = x if x.requires_grad else x.detach().requires_grad_()
            pred = self.denoiser(source, t, **condition)
            (slope,) = torch.autograd.grad(pred.data, source, self.g.expand_as(x), create_graph=True)
            a, s = self.schedule.alpha(t), self.schedule.sigma(t)
            return moved(pred, self, pred.data + s * s / a * slope, "rederive")


def _conditional(oracle):
    """The oracle's Gaussian with its mean at c * (1, ..., 1), null c = 0."""
    base = oracle.denoiser().network

    def network(x, t, c):
        mu = c[:, None].to(x).expand_as(x)
        a = expand(oracle.schedule.alpha(t.double()), x)
        return mu + base(x - a * mu, t)

    return Denoiser(network, oracle.schedule, "data", label=lambda _, t: t)


def _posterior_mean(oracle, mu):
    s, a = oracle.covariance, oracle.matrix
    inner = a @ s @ a.T + oracle.noise**2 * torch.eye(len(oracle.y))
    return mu + s @ a.T @ torch.linalg.solve(inner, oracle.y - a @ mu)


def test_classifier_free_reward_and_measurement_compose_exactly():
    """Gaussian prior N(w c, S), tilted by <g, x0> to N(w c + S g, S), then measured: all in closed form."""
    oracle, w, c = mild(), 2.0, 0.3
    g = 0.2 * torch.randn(32, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    free = ClassifierFree(_conditional(oracle), scale=w, null={"c": 0.0})
    kwargs = {
        "noise": oracle.noise, "sampler": DPMSolverPP(order=2), "grid": grid(oracle, 50), "seed": 0,
        "x": torch.zeros(1, 32, dtype=torch.float64), "condition": {"c": torch.tensor([c])}, "dtype": torch.float64,
    }  # fmt: skip
    mu = torch.full((32,), w * c, dtype=torch.float64)
    for denoiser, prior in ((free, mu), (_LinearReward(free, g), mu + oracle.covariance @ g)):
        found = reconstruct(denoiser, oracle.operator, oracle.y[None], method=MMPS(16, 1e-10), **kwargs).mean[0]
        expected = _posterior_mean(oracle, prior)
        assert float((found - expected).norm() / expected.norm()) < 0.01
        assert float((expected - _posterior_mean(oracle, 0 * mu)).norm() / expected.norm()) > 0.1  # it matters


def test_the_other_order_is_refused():
    oracle = mild()
    inside = PiGDM().guide(_conditional(oracle), Measurement(oracle.operator, oracle.y[None], oracle.noise))
    with pytest.raises(ValueError, match="ClassifierFree around a measurement would lose it"):
        reconstruct(
            ClassifierFree(inside, 2.0, null={"c": 0.0}),
            oracle.operator,
            oracle.y[None],
            noise=0.1,
            method=DDS(),
            seed=0,
        )


@dataclass(frozen=True)
class _Seen(Hook):
    """A reward sees data that explain the measurement, and states after the method's own correction."""

    log: list

    def on_prediction(self, step):
        self.log.append(A(step.pred.data))
        return step

    def on_step(self, step):
        self.log.append(step.new.age)
        return step.new


def test_hooks_act_after_the_measurement():
    log = []
    y = torch.tensor([[0.8]])
    reconstruct(DENOISER, A, y, noise=0.0, method=DDS(), steps=3, samples=2, seed=0, hooks=[_Seen(log)])
    torch.testing.assert_close(log[0], y.expand(2, 1))
    log.clear()
    reconstruct(
        DENOISER,
        A,
        y,
        noise=0.1,
        method=DPS(),
        sampler=DPMSolverPP(order=2),
        steps=3,
        samples=2,
        seed=0,
        hooks=[_Seen(log)],
    )
    assert log[1::2] == [0, 0, 0]  # DPS's edit came first: the history is gone


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (DPS(1e3, "constant"), r"DPS diverged: lower zeta \(now 1000\)"),
        (FlowChef(50.0), r"FlowChef diverged: lower rate \(now 50\)"),
        (Steered(50.0), r"Steered diverged: lower k \(now 50\)"),
        (PiGDM(strength=1e4), r"PiGDM diverged: lower strength"),
        (RedDiff(rate=1e4), r"RedDiff diverged: lower rate"),
    ],
)
def test_divergence_names_the_scale(method, message):
    with pytest.raises(FloatingPointError, match=message):
        _run(method, steps=30)


def test_overflow_names_the_scale_too():
    y = torch.tensor([[0.8]])
    cubic = LinearFunction(lambda x: x * 1e15, (2,), lambda v: v * 1e15)
    with pytest.raises(FloatingPointError, match="FlowChef diverged: lower rate"):
        reconstruct(DENOISER, cubic, y.expand(1, 2), noise=0.1, method=FlowChef(), steps=5, seed=0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"noise": -1.0}, ValueError, "0 or more"),
        ({"noise": torch.ones(1)}, TypeError, "one number"),
        ({"method": DDS}, TypeError, "solver such as"),
        ({"operator": lambda x: x}, TypeError, "LinearFunction"),
        ({"y": torch.ones(1, 2)}, ValueError, r"y must have shape \(n, 1\)"),
        ({"y": torch.full((1, 1), torch.nan)}, ValueError, "measurement 0 of 1 is not finite"),
        ({"samples": 0}, ValueError, "samples"),
        ({"seed": 0.5}, TypeError, "seed"),
        ({"x": torch.zeros(5, 2)}, ValueError, "1 x 2 start states"),
        ({"grid": grid(mild(), 4), "steps": 3}, ValueError, "grid has 4 steps"),
        ({"space": Masked(torch.ones(3, 2, dtype=torch.bool))}, ValueError, "the space is that of 3"),
        ({"reference": torch.zeros(2, 2)}, ValueError, "reference must hold 1"),
        (
            {"operator": LinearFunction(lambda x: x[:, :1], (2,), lambda v: v.expand(-1, 2))},
            ValueError,
            "not its adjoint",
        ),
        ({"shape": (3,)}, ValueError, r"measures samples of shape \(2,\)"),
    ],
)
def test_bad_input(change, error, message):
    kwargs = {
        "operator": A, "y": torch.ones(1, 1), "noise": 0.1, "method": DDS(), "steps": 3, "samples": 2, "seed": 0,
        **change,
    }  # fmt: skip
    if "grid" in change and "steps" not in change:
        kwargs.pop("steps")
    with pytest.raises(error, match=message):
        reconstruct(DENOISER, kwargs.pop("operator"), kwargs.pop("y"), **kwargs)


def test_networks_that_cut_the_graph_are_named():
    cut = Denoiser(lambda x, t: x.detach(), SCHEDULE, "data")
    with pytest.raises(ValueError, match="does not depend on its input"):
        reconstruct(cut, A, torch.ones(1, 1), noise=0.1, method=PiGDM(), steps=3, seed=0)
