"""SuperDiff against closed forms on Gaussians: OR is the mixture, AND the surface of equal densities."""

import math

import pytest
import torch

from scidiffuse.core import (
    DDIM,
    DDPM,
    EDM,
    ClassifierFree,
    Denoiser,
    Graph,
    Masked,
    PFGMpp,
    Product,
    ProductSchedule,
    VPCosine,
    VPLinear,
    grids,
    sample,
)
from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.composition import Ensemble, SuperDiff
from scidiffuse.core.likelihood import ItoDensity

SCHEDULE = VPLinear()
C = 0.5


def gauss(*mean, c=C):
    return GaussianMixture(torch.tensor([mean]), torch.tensor([c]))


def run(models, mode, steps=200, n=400, schedule=SCHEDULE, final_zero=True, seed=0, sampler=None, **kw):
    hook = SuperDiff(len(models), mode, tolerance=1e9, **kw)
    grid = grids.log_snr(schedule, steps, final_zero=final_zero)
    return sample(
        Ensemble([m.denoiser(schedule) for m in models]), sampler or DDPM("large"), grid,
        shape=(n, models[0].means.shape[1]), seed=seed, dtype=torch.float64, hooks=[hook],
    )  # fmt: skip


def test_or_is_the_mixture():
    """Three models with weights 1 : 2 : 4."""
    centres = torch.tensor([[2.0, 0.0], [-1.0, 1.8], [-1.0, -1.8]])
    result = run([gauss(*m) for m in centres.tolist()], "or", bias=[0.0, math.log(2.0), math.log(4.0)], n=600)
    nearest = torch.cdist(result.x, centres.double()).argmin(1)
    share = torch.bincount(nearest, minlength=3) / 600
    # 4 standard deviations of 600 draws, and the estimator's bias of some percent
    assert (share - torch.tensor([1, 2, 4]) / 7).abs().max() < 0.08 + 0.03
    off = result.x - centres.double()[nearest]
    assert float(off.std()) == pytest.approx(C, rel=0.08)
    assert float(off.mean(0).abs().max()) < 0.1
    # each sample is explained by the model it came from
    assert float((result.state.aux["log_q"].argmax(1) == nearest).double().mean()) > 0.97
    torch.testing.assert_close(result.state.aux["kappa"].sum(1), torch.ones(600, dtype=torch.float64))


def test_or_with_one_sure_model_is_that_model():
    """With a bias of 1e4 nats the run is the other model's own, noise for noise."""
    models = [gauss(1.5, 0.0), gauss(-1.5, 0.0)]
    grid = grids.log_snr(SCHEDULE, 30)
    alone = sample(models[1].denoiser(SCHEDULE), DDPM(), grid, shape=(5, 2), seed=4, dtype=torch.float64).x
    both = run(models, "or", steps=30, n=5, final_zero=False, seed=4, bias=[0.0, 1e4], sampler=DDPM()).x
    torch.testing.assert_close(both, alone)


def test_temperature_hardens_the_choice():
    models = [gauss(1.0, 0.0), gauss(-1.0, 0.0)]
    soft, hard = (run(models, "or", steps=40, n=100, temperature=T).state.aux["kappa"] for T in (0.1, 50.0))
    assert float(hard.amax(1).mean()) > 0.99 > float(soft.amax(1).mean())


@pytest.mark.parametrize("schedule", [SCHEDULE, EDM(0.02, 20.0)], ids=lambda s: type(s).__name__)
def test_and_of_two_gaussians(schedule):
    """Samples lie where both densities are equal, and are N(0, C^2) along that plane."""
    models = [gauss(1.5, 0.0, 0.0), gauss(-1.5, 0.0, 0.0)]
    result = run(models, "and", schedule=schedule)
    log_q = result.state.aux["log_q"]
    assert float((log_q[:, 0] - log_q[:, 1]).abs().max()) < 1e-9  # equal by construction, as estimated
    assert float(result.x[:, 0].std()) < 0.04 * C
    along = result.x[:, 1:]
    assert float(along.std()) == pytest.approx(C, rel=4 / math.sqrt(2 * 800) + 0.02)
    assert float(along.mean(0).abs().max()) < 4 * C / math.sqrt(400)
    torch.testing.assert_close(result.state.aux["kappa"].sum(1), torch.ones(400, dtype=torch.float64))


def test_and_of_three_gaussians():
    """Three densities that agree on one line."""
    models = [gauss(1.5, 0.0, 0.3), gauss(-1.0, 1.2, 0.3), gauss(-1.0, -1.2, 0.3)]
    result = run(models, "and", n=200)
    log_q = result.state.aux["log_q"]
    assert float((log_q - log_q[:, :1]).abs().max()) < 1e-8
    centre = torch.linalg.solve(
        torch.tensor([[2.5, -1.2], [2.5, 1.2]], dtype=torch.float64),
        torch.tensor([0.5 * (2.25 - 1 - 1.44)] * 2, dtype=torch.float64),
    )
    assert float((result.x[:, :2] - centre).abs().max()) < 0.1
    assert float(result.x[:, 2].mean()) == pytest.approx(0.3, abs=4 * C / math.sqrt(200))
    assert float(result.x[:, 2].std()) == pytest.approx(C, rel=0.2)


def test_and_with_a_wanted_difference():
    """l moves the surface: log q_0 + l_0 = log q_1 is x_0 = -l_0 C^2 / (2 m)."""
    result = run([gauss(1.5, 0.0), gauss(-1.5, 0.0)], "and", bias=[3.0, 0.0], n=100, steps=300)
    assert float(result.x[:, 0].mean()) == pytest.approx(-3.0 * C**2 / 3.0, abs=0.04)


def test_and_of_one_model_twice_is_that_model():
    model = GaussianMixture.example()
    grid = grids.log_snr(SCHEDULE, 30)
    alone = sample(model.denoiser(SCHEDULE), DDPM(), grid, shape=(5, 2), seed=4, dtype=torch.float64)
    both = run([model, model], "and", steps=30, n=5, final_zero=False, seed=4, sampler=DDPM())
    torch.testing.assert_close(both.x, alone.x)
    torch.testing.assert_close(both.state.aux["kappa"], torch.full((5, 2), 0.5, dtype=torch.float64))


def conditional(schedule=SCHEDULE):
    """One network for N((c, 0), C^2)."""

    def network(x, t, c):
        a, s = schedule.alpha(float(t[0])), schedule.sigma(float(t[0]))
        m = torch.stack([c, torch.zeros_like(c)], 1).to(x)
        return m + a * C * C / (a * a * C * C + s * s) * (x - a * m)

    return Denoiser(network, schedule, "data", label=lambda _, t: t)


def test_one_network_with_many_conditions_is_asked_once():
    calls = []
    inner = conditional()

    def counted(x, t, c):
        calls.append(x.shape[0])
        return inner.network(x, t, c)

    denoiser = Denoiser(counted, SCHEDULE, "data", label=lambda _, t: t)
    grid = grids.log_snr(SCHEDULE, 20)
    kw = {"shape": (4, 2), "seed": 0, "dtype": torch.float64, "hooks": [SuperDiff(2, "and", tolerance=1e9)]}
    conditions = [{"c": 1.5}, {"c": torch.tensor(-1.5)}]
    one = sample(Ensemble(denoiser, conditions), DDPM(), grid, **kw)
    assert calls == [8] * 20
    two = sample(Ensemble([conditional(), conditional()], conditions), DDPM(), grid, **kw)
    models = [gauss(1.5, 0.0), gauss(-1.5, 0.0)]
    three = sample(Ensemble([m.denoiser(SCHEDULE) for m in models]), DDPM(), grid, **kw)
    torch.testing.assert_close(one.x, two.x)
    torch.testing.assert_close(one.x, three.x)
    split = sample(Ensemble(denoiser, conditions), DDPM(), grid, max_batch=3, **kw)
    torch.testing.assert_close(split.x, one.x)
    torch.testing.assert_close(split.state.aux["log_q"], one.state.aux["log_q"])


def test_guided_models_compose():
    guided = ClassifierFree(conditional(), scale=2.0, null={"c": 0.0})
    kw = {"seed": 0, "dtype": torch.float64, "hooks": [SuperDiff(2, "and", tolerance=1e9)]}
    ensemble = Ensemble([guided, guided], [{"c": 1.5}, {"c": -1.5}])
    result = sample(ensemble, DDPM(), grids.log_snr(SCHEDULE, 50), shape=(8, 2), **kw)
    log_q = result.state.aux["log_q"]
    assert float((log_q[:, 0] - log_q[:, 1]).abs().max()) < 1e-8


def test_a_run_goes_on_from_its_state():
    models = [gauss(1.5, 0.0), gauss(-1.5, 0.0)]
    ensemble = Ensemble([m.denoiser(SCHEDULE) for m in models])
    grid = grids.log_snr(SCHEDULE, 20)
    kw = {"seed": 0, "dtype": torch.float64, "hooks": [SuperDiff(2, "or", tolerance=1e9)]}
    whole = sample(ensemble, DDPM(), grid, shape=(4, 2), **kw)
    half = sample(ensemble, DDPM(), grid, shape=(4, 2), until=9, **kw)
    rest = sample(ensemble, DDPM(), grid, state=half.state, **kw)
    assert torch.equal(rest.x, whole.x)
    assert torch.equal(rest.state.aux["log_q"], whole.state.aux["log_q"])


def test_product_states():
    mask = torch.tensor([[True, True, True, False]])
    space = Product(X=Masked(mask), A=Graph(mask))
    schedule = ProductSchedule(clock="X", X=VPLinear(), A=VPCosine())
    models = [
        Denoiser(lambda x, t, k=k: {n: k * v.tanh() for n, v in x.items()}, schedule, "noise", space=space)
        for k in (0.3, 0.6)
    ]
    result = sample(
        Ensemble(models), DDPM(), grids.log_snr(schedule, 20), shape={"X": (3, 4, 2), "A": (3, 4, 4)}, seed=0,
        dtype=torch.float64, hooks=[SuperDiff(2, "and", tolerance=1e9)],
    )  # fmt: skip
    log_q = result.state.aux["log_q"]
    assert float((log_q[:, 0] - log_q[:, 1]).abs().max()) < 1e-8
    assert bool((result.x["A"] == result.x["A"].transpose(1, 2)).all())
    assert float(result.x["X"][:, 3].abs().max()) == 0.0


def test_asked_alone_an_ensemble_answers_with_the_mean():
    models = [gauss(1.5, 0.0), gauss(-1.5, 0.0)]
    x = torch.ones(2, 2, dtype=torch.float64)
    pred = Ensemble([m.denoiser(SCHEDULE) for m in models])(x, 0.5)
    parts = [m.denoiser(SCHEDULE)(x, 0.5) for m in models]
    for name in ("data", "noise", "velocity", "score"):
        mean = sum(getattr(p, name) for p in parts) / 2
        torch.testing.assert_close(getattr(pred, name), mean)
    torch.testing.assert_close(pred.parts["1"].data, parts[1].data)


def test_few_steps_warn():
    models = [gauss(1.5, 0.0), gauss(-1.5, 0.0)]
    kw = {"shape": (2, 2), "seed": 0, "hooks": [SuperDiff(2, tolerance=0.5)]}
    with pytest.warns(UserWarning, match="may be off by"):
        sample(Ensemble([m.denoiser(SCHEDULE) for m in models]), DDPM(), steps=10, **kw)


def test_refusals():
    a, b = (gauss(m, 0.0).denoiser(SCHEDULE) for m in (1.5, -1.5))
    with pytest.raises(ValueError, match="one noise schedule, but model 0 has VPLinear"):
        Ensemble([a, gauss(1.5, 0.0).denoiser(VPCosine())])
    with pytest.raises(ValueError, match="at least two"):
        Ensemble([a])
    with pytest.raises(ValueError, match="at least two"):
        Ensemble(conditional(), [{"c": 1.0}])
    with pytest.raises(ValueError, match="2 models need 2 conditions"):
        Ensemble([a, b], [{}])
    with pytest.raises(ValueError, match="same names"):
        Ensemble(conditional(), [{"c": 1.0}, {"d": 1.0}])
    with pytest.raises(ValueError, match="Student-t"):
        Ensemble([gauss(m, 0.0).denoiser(PFGMpp(D=16)) for m in (0.0, 1.0)])
    for kw, match in (
        ({"mode": "xor"}, "mode"),
        ({"models": 1}, "at least two"),
        ({"bias": [1.0]}, "one number for each"),
        ({"temperature": 0.0}, "temperature"),
    ):
        with pytest.raises(ValueError, match=match):
            SuperDiff(**{"models": 2, **kw})
    kw = {"steps": 4, "shape": (2, 2), "seed": 0}
    both = Ensemble([a, b])
    with pytest.raises(ValueError, match=r"hooks=\[SuperDiff"):
        sample(both, DDPM(), **kw)
    with pytest.raises(ValueError, match="deterministic"):
        sample(both, DDIM(), hooks=[SuperDiff(2)], **kw)
    with pytest.raises(ValueError, match="of the SDE's noise"):
        sample(both, DDIM(eta=0.5), hooks=[SuperDiff(2)], **kw)
    with pytest.raises(ValueError, match="Ensemble of 3 models"):
        sample(both, DDPM(), hooks=[SuperDiff(3)], **kw)
    with pytest.raises(ValueError, match="Ensemble of 2 models"):
        sample(a, DDPM(), hooks=[SuperDiff(2)], **kw)
    with pytest.raises(ValueError, match="SuperDiff already keeps"), pytest.warns(UserWarning, match="nats"):
        sample(both, DDPM(), grids.log_snr(SCHEDULE, 5), shape=(2, 2), seed=0, hooks=[SuperDiff(2), ItoDensity()])
