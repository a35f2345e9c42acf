"""Stochastic samplers by their law: on Gaussian data every state is Gaussian, and its moments follow without sampling.

The exact denoiser of N(m, c^2) is affine, so every register of a plan is const + sum of coefficients times independent
standard normal numbers: the start and each row's z. `law` carries those coefficients through the rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from scidiffuse.core import grids
from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.noise import Recorded
from scidiffuse.core.sample import sample
from scidiffuse.core.samplers import DDIM, DDPM, DPMSolver, DPMSolverPP, EDMStochastic, LinearSampler
from scidiffuse.core.schedules import VE, CondOT, PFGMpp, Schedule, VPLinear

M, C = 0.8, 0.5
ENDS: dict[str, tuple[Schedule, float, float]] = {
    "VP": (VPLinear(), 0.9, 0.01),
    "VE": (VE(), 0.8, 0.2),
    "CondOT": (CondOT(), 0.95, 0.02),
}
STOCHASTIC: dict[str, tuple[LinearSampler, int]] = {  # method and weak order
    "DDIM, eta=1": (DDIM(1.0), 1),
    "DDIM, eta=0.5": (DDIM(0.5), 1),
    "DDPM, small": (DDPM("small"), 1),
    "DDPM, large": (DDPM("large"), 1),
    "SDE-DPM-Solver++1": (DPMSolverPP(1, eta=1.0), 1),
    "SDE-DPM-Solver++2M": (DPMSolverPP(2, eta=1.0), 2),
    "SDE-DPM-Solver++2M, heun": (DPMSolverPP(2, variant="heun", eta=1.0), 2),
    "SDE-DPM-Solver++2S": (DPMSolverPP(2, "singlestep", eta=1.0), 2),
    "SDE-DPM-Solver++3M": (DPMSolverPP(3, eta=1.0), 2),
    "SDE-DPM-Solver-1": (DPMSolver(1, eta=1.0), 1),
    "SDE-DPM-Solver-2M": (DPMSolver(2, "multistep", eta=1.0), 2),
    "SDE-DPM-Solver-2S, eta=0.5": (DPMSolver(2, eta=0.5), 2),
    "EDM": (EDMStochastic(churn=5.0, s_noise=1.0), 2),
    "EDM, Euler": (EDMStochastic(churn=5.0, s_noise=1.0, heun=False), 1),
}


@dataclass
class Law:
    """A Gaussian register: mean, and coefficients of (start, z_1, z_2, ...)."""

    mean: float
    coefficients: np.ndarray

    @property
    def variance(self) -> float:
        return float((self.coefficients**2).sum())


def law(sampler: LinearSampler, schedule: Schedule, grid: grids.Grid, mean: float, sd: float) -> Law:
    """The law of the last state, from N(mean, sd^2) at the first time."""
    plan = sampler.plan(schedule, grid)
    width = 1 + plan.calls
    unit = np.eye(width)
    zero = np.zeros(width)

    def combine(terms: dict[str, float], letters: dict[str, Law]) -> Law:
        parts = [(c, letters[s]) for s, c in terms.items() if c != 0.0]
        return Law(sum(c * p.mean for c, p in parts), sum((c * p.coefficients for c, p in parts), zero))

    registers = {"x": Law(mean, sd * unit[0])}
    age = draws = 0
    for i in range(plan.calls):
        row = plan.row(i, age)
        letters = dict(registers)
        if "z" in row.sources:
            draws += 1
            letters["z"] = Law(0.0, unit[draws])
        q = letters["q"] = combine(row.query, letters)
        a, s = schedule.alpha(row.t), schedule.sigma(row.t)
        gain = a * C**2 / (a**2 * C**2 + s**2)
        data = letters["D"] = Law(M + gain * (q.mean - a * M), gain * q.coefficients)
        noise = letters["N"] = Law((q.mean - a * data.mean) / s, (q.coefficients - a * data.coefficients) / s)
        letters["P"] = {"data": data, "noise": noise}[row.use]
        registers |= {register: combine(terms, letters) for register, terms in row.out.items()}
        age += row.gains
    x = registers["x"]
    return Law(x.mean, x.coefficients[: 1 + draws])


def marginal(schedule: Schedule, t: float) -> tuple[float, float]:
    a, s = schedule.alpha(t), schedule.sigma(t)
    return a * M, math.hypot(a * C, s)


def weak_error(sampler: LinearSampler, name: str, steps: int) -> tuple[float, float]:
    """Error of mean and of variance after `steps` steps, from the exact law at the start (mean shifted by 0.3)."""
    schedule, start, end = ENDS[name]
    (mean, sd), (mean1, sd1) = marginal(schedule, start), marginal(schedule, end)
    out = law(sampler, schedule, grids.log_snr(schedule, steps, start, end), mean, sd)
    return abs(out.mean - mean1), abs(out.variance - sd1**2)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_law_is_what_the_engine_runs(name: str) -> None:
    sampler, _ = STOCHASTIC[name]
    schedule, start, end = ENDS["VP"]
    grid = grids.log_snr(schedule, 16, start, end)
    mean, sd = marginal(schedule, start)
    out = law(sampler, schedule, grid, mean, sd)
    assert len(out.coefficients) > 14  # the noise is there
    z = torch.randn(len(out.coefficients), 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mixture = GaussianMixture(torch.tensor([[M]], dtype=torch.float64), torch.tensor([C], dtype=torch.float64))
    run = sample(
        mixture.denoiser(schedule), sampler, grid, x=mean + sd * z[0], noise=Recorded(list(z[1:])), dtype=torch.float64
    )
    assert run.x.item() == pytest.approx(out.mean + float(out.coefficients @ z.flatten().numpy()), abs=1e-10)


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("variance", ["small", "large"])
def test_ancestral_moments_follow_the_exact_recursion(variance: str, name: str) -> None:
    schedule, start, end = ENDS[name]
    grid = grids.log_snr(schedule, 30, start, end)
    mean, sd = marginal(schedule, start)
    var = sd**2
    for s, t in grid.pairs():
        a, b, u, v = schedule.alpha(s), schedule.alpha(t), schedule.sigma(s), schedule.sigma(t)
        step = u**2 - (a / b) ** 2 * v**2  # variance of x_s given x_t
        posterior = v**2 * step / u**2  # variance of x_t given x_s and x0; its mean is linear in both
        on_x, on_data = (a / b) * v**2 / u**2, b * step / u**2
        gain = a * C**2 / (a**2 * C**2 + u**2)
        mean = on_x * mean + on_data * (M + gain * (mean - a * M))
        var = (on_x + on_data * gain) ** 2 * var + (posterior if variance == "small" else step)
    for sampler in (DDPM(variance), DDIM(1.0)) if variance == "small" else (DDPM(variance),):  # type: ignore[arg-type]
        out = law(sampler, schedule, grid, *marginal(schedule, start))
        assert out.mean == pytest.approx(mean, rel=1e-10)
        assert out.variance == pytest.approx(var, rel=1e-10)


@pytest.mark.parametrize("name", ENDS)
def test_first_order_sde_step(name: str) -> None:
    """Lu et al. 2022: (sigma_t/sigma_s) e^-h x + alpha_t (1 - e^-2h) D + sigma_t sqrt(1 - e^-2h) z."""
    schedule, start, end = ENDS[name]
    (row,) = (rows[0] for rows in DPMSolverPP(1, eta=1.0).plan(schedule, grids.Grid((start, end))).rows)
    h = schedule.log_snr(end) - schedule.log_snr(start)
    expected = {
        "x": schedule.sigma(end) / schedule.sigma(start) * math.exp(-h),
        "P": -schedule.alpha(end) * math.expm1(-2 * h),
        "z": schedule.sigma(end) * math.sqrt(-math.expm1(-2 * h)),
    }
    assert row.out["x"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("method", STOCHASTIC)
def test_weak_error_falls_with_its_order(method: str, name: str) -> None:
    sampler, order = STOCHASTIC[method]
    (mean1, var1), (mean2, var2) = (weak_error(sampler, name, n) for n in (200, 400))
    measured = math.log2(var1 / var2)
    if isinstance(sampler, DPMSolver):  # its leading terms nearly cancel here: the order is met from above
        assert order - 0.25 < measured < order + 1.25
    else:
        assert measured == pytest.approx(order, abs=0.25)
    assert mean2 < 1e-9 or math.log2(mean1 / mean2) > order - 0.25
    assert var2 < 0.02 * C**2


def test_large_variance_is_larger() -> None:
    schedule, start, end = ENDS["VP"]
    grid = grids.log_snr(schedule, 10, start, end)
    small, large = (law(DDPM(v), schedule, grid, *marginal(schedule, start)).variance for v in ("small", "large"))  # type: ignore[arg-type]
    assert large > small * 1.05


@pytest.mark.parametrize("method", STOCHASTIC)
def test_student_noise_is_refused(method: str) -> None:
    schedule = PFGMpp()
    mixture = GaussianMixture.example()
    with pytest.raises(ValueError, match=r"(?i)student"):
        sample(mixture.denoiser(schedule), STOCHASTIC[method][0], steps=4, shape=(2, 2), seed=0)
