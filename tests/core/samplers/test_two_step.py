"""BDIA and BELM run backwards exactly; DDIM does so in the limit of small steps."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from scidiffuse.core import grids
from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.sample import sample
from scidiffuse.core.samplers import BDIA, BELM, DDIM, DPMSolverPP, LinearSampler, invert
from scidiffuse.core.schedules import EDM, CondOT, MeanReverting, Schedule, VPLinear

F64 = torch.float64
DATA = GaussianMixture.example()
ENDS: dict[str, tuple[Schedule, float, float]] = {
    "VP": (VPLinear(), 0.95, 1e-3),
    "EDM": (EDM(), 0.5, 1e-4),
    "CondOT": (CondOT(), 0.97, 0.01),
}
REFERENCE = torch.tensor([[0.5, -1.0], [2.0, 0.3], [-0.7, 0.1], [0.0, 1.5]], dtype=F64)


def start(schedule: Schedule, t: float) -> Tensor:
    x0, n = torch.randn(2, 4, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    return schedule.alpha(t) * x0 + schedule.sigma(t) * n


def round_trip(sampler: LinearSampler, name: str, steps: int) -> float:
    """Relative error of the start recovered from the returned state."""
    schedule, t_max, t_min = ENDS[name]
    grid, denoiser, x = grids.log_snr(schedule, steps, t_max, t_min), DATA.denoiser(schedule), start(schedule, t_max)
    run = sample(denoiser, sampler, grid, x=x, dtype=F64)
    back = invert(denoiser, sampler, sampler.plan(schedule, grid), run.state)
    assert isinstance(back, Tensor)
    return ((back - x).abs().max() / x.abs().max()).item()


@pytest.mark.parametrize("steps", [10, 50, 100])
@pytest.mark.parametrize("name", ["VP", "CondOT"])
def test_bdia_is_inverted_from_the_returned_state(name: str, steps: int) -> None:
    assert round_trip(BDIA(), name, steps) < 1e-12


@pytest.mark.parametrize("steps", [10, 50, 100, 400])
@pytest.mark.parametrize("name", ["VP", "CondOT"])
def test_belm_is_inverted_from_the_returned_state(name: str, steps: int) -> None:
    """Here rounding errors do grow on the way back, like the square of kappa's range, but not with the steps."""
    assert round_trip(BELM(), name, steps) < 1e-10


def test_inversion_without_a_first_order_start_to_undo() -> None:
    """A run that has made its first step only is inverted too: x at the start is the register."""
    schedule = VPLinear()
    grid, denoiser, x = grids.Grid((0.9, 0.8)), DATA.denoiser(schedule), start(schedule, 0.9)
    run = sample(denoiser, BDIA(), grid, x=x, dtype=F64)
    assert torch.equal(invert(denoiser, BDIA(), BDIA().plan(schedule, grid), run.state), x)  # type: ignore[arg-type]


def test_inversion_on_the_edm_schedule() -> None:
    assert round_trip(BDIA(), "EDM", 50) < 1e-11
    assert round_trip(BELM(), "EDM", 50) < 1e-11


def test_gamma_below_one_loses_the_start() -> None:
    """Rounding errors grow like gamma^-N on the way back."""
    with pytest.warns(UserWarning, match="use gamma=1 to invert"):
        short, middle, long = (round_trip(BDIA(0.5), "VP", n) for n in (10, 50, 100))
    assert short < 1e-10
    assert middle > 1e6 * short
    assert long > 1.0


@pytest.mark.parametrize("sampler", [BDIA(), BELM()], ids=repr)
def test_inversion_with_a_reference(sampler: LinearSampler) -> None:
    schedule = MeanReverting(theta="constant")
    grid, denoiser = grids.log_snr(schedule, 50, 0.8, 1e-2), DATA.denoiser(schedule)
    x = start(schedule, 0.8) + schedule.beta(0.8) * REFERENCE
    condition = {"y": REFERENCE}
    run = sample(denoiser, sampler, grid, x=x, reference=REFERENCE, condition=condition, dtype=F64)
    plan = sampler.plan(schedule, grid)
    back = invert(denoiser, sampler, plan, run.state, reference=REFERENCE, condition=condition)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-12)


def test_x_alone_is_not_enough() -> None:
    schedule, t_max, t_min = ENDS["VP"]
    grid, denoiser = grids.log_snr(schedule, 20, t_max, t_min), DATA.denoiser(schedule)
    plan = BDIA().plan(schedule, grid)
    run = sample(denoiser, BDIA(), grid, x=start(schedule, t_max), dtype=F64)
    for state in (replace(run.state, memory={}), replace(run.state, i=10), run.state.restart(run.x)):
        with pytest.raises(ValueError, match="register 'xp'"):
            invert(denoiser, BDIA(), plan, state)
    with pytest.raises(ValueError, match="cannot be inverted exactly"):
        invert(denoiser, DDIM(), DDIM().plan(schedule, grid), run.state)
    with pytest.raises(ValueError, match="cannot be inverted exactly"):
        invert(denoiser, DPMSolverPP(), DPMSolverPP().plan(schedule, grid), run.state)


@pytest.mark.parametrize("gamma", [0.0, -1.0, 1.5, math.nan])
def test_gamma_is_checked(gamma: float) -> None:
    with pytest.raises(ValueError, match="gamma must lie in"):
        BDIA(gamma)


def test_ddim_inversion_converges_with_the_steps() -> None:
    """Encode by DDIM on the reversed grid, decode on the grid: the error halves when the steps double."""
    schedule, t_max, t_min = ENDS["VP"]
    denoiser = DATA.denoiser(schedule)
    x0 = DATA.sample(6, torch.Generator().manual_seed(1))
    errors = []
    for n in (100, 200, 400):
        grid = grids.log_snr(schedule, n, t_max, t_min)
        code = sample(denoiser, DDIM(), grid.reverse(), x=x0, dtype=F64).x
        errors.append((sample(denoiser, DDIM(), grid, x=code, dtype=F64).x - x0).norm().item())
    assert errors[1] / errors[2] == pytest.approx(2.0, rel=0.1)
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.15)


def test_first_step_is_ddim_then_the_published_combination() -> None:
    """BDIA (Zhang et al. 2024): x_new = gamma (x_before - phi(x, back)) + phi(x, forth), phi a DDIM step from x."""
    schedule = VPLinear()
    times = (0.9, 0.7, 0.4)
    denoiser, x = DATA.denoiser(schedule), start(schedule, 0.9)

    def phi(x: Tensor, s: float, t: float) -> Tensor:
        ratio = schedule.alpha(t) / schedule.alpha(s)
        return ratio * x + (schedule.sigma(t) - schedule.sigma(s) * ratio) * denoiser(x, s).noise

    middle = phi(x, 0.9, 0.7)
    for gamma in (0.4, 1.0):
        expected = gamma * (x - phi(middle, 0.7, 0.9)) + phi(middle, 0.7, 0.4)
        ours = sample(denoiser, BDIA(gamma), grids.Grid(times), x=x, dtype=F64).x
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_belm_is_exact_for_a_noise_quadratic_path() -> None:
    """With N linear in kappa, x / alpha is quadratic in kappa, which two steps of O-BELM follow exactly."""
    schedule = EDM()
    slope = torch.tensor([[0.3, -0.7]], dtype=F64)

    def network(x: Tensor, t: Tensor) -> Tensor:
        return slope * schedule.sigma(t.double()).reshape(-1, 1)

    denoiser = Denoiser(network, schedule, "noise", label=lambda schedule, t: t)
    kappas = (4.0, 3.0, 1.0)
    path = [0.5 * slope * k * k for k in kappas]
    plan = BELM().plan(schedule, grids.Grid(tuple(schedule.time_of_kappa(k) for k in kappas)))
    terms = plan.row(1, 1).out["x"]
    noise = denoiser(path[1], schedule.time_of_kappa(kappas[1])).noise
    new = terms["xp"] * path[0] + terms["x"] * path[1] + terms["P"] * noise  # type: ignore[operator]
    torch.testing.assert_close(new, path[2], rtol=1e-12, atol=1e-12)
