r"""Solvers of other packages on the problems of `convergence`: same network, same grid, same start.

All of them run in y = (x - beta y0)/alpha, the variable in which every schedule is the same problem, and the result
is multiplied back; a method in log-SNR does not notice. diffusers' schedulers, which want integer time steps of a
table of betas, are handed the noise levels kappa = sigma/alpha of the grid instead, in their variance-preserving
scaling (alpha = 1/sqrt(1 + kappa^2)); they start up as published, with lower orders, and lower the
order in the last steps of runs below 15; DPM-Solver++ keeps its state in float32 there. azula's samplers take the grid
as its own log-linear VE schedule, in float64.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from . import grids
from .convergence import STEPS, Measurement, Problem, problems

__all__ = ["PEERS", "absent", "installed", "peers"]

PEERS = ("diffusers", "azula")

Data = Callable[[Tensor, float], Tensor]
"""E[x0 | y] for y = x0 + kappa n."""
Solve = Callable[[Data, Tensor, list[float]], tuple[Tensor, int]]
"""(data prediction, y at the first level, levels kappa) -> (y at the last level, network calls)."""


def installed() -> dict[str, str]:
    """Version of every peer that can be imported."""
    found = {}
    for name in PEERS:
        if importlib.util.find_spec(name) is not None:
            found[name] = version(name)
    return found


def absent() -> tuple[str, ...]:
    """Names of the peers that are not installed."""
    here = installed()
    return tuple(name for name in PEERS if name not in here)


def peers(
    steps: Sequence[int] = STEPS,
    on: Sequence[Problem] | None = None,
    *,
    progress: Callable[[str], None] | None = None,
) -> list[Measurement]:
    """Errors of every installed peer's solvers; an empty list without any.

    Args:
        steps: numbers of steps, increasing.
        on: the problems; default `problems()`.
        progress: called with the name of each package before it runs.
    """
    rows = []
    for package, number in installed().items():
        if progress is not None:
            progress(f"{package} {number}")
        solvers = {"diffusers": _diffusers, "azula": _azula}[package]()
        for problem in problems() if on is None else on:
            for name, solve in solvers.items():
                rows.append(_measure(problem, name, solve, f"{package} {number}", steps))
    return rows


def _measure(problem: Problem, name: str, solve: Solve, package: str, steps: Sequence[int]) -> Measurement:
    shift = 0.0 if problem.reference is None else problem.reference

    def data(y: Tensor, kappa: float) -> Tensor:
        return problem.mixture.data(y, 1.0, kappa)

    errors, calls = [], []
    (a, b, _), (a_end, b_end, _) = problem.levels(problem.t_max), problem.levels(problem.t_min)
    for n in steps:
        grid = grids.log_snr(problem.schedule, n, problem.t_max, problem.t_min)
        kappas = [float(problem.schedule.kappa(t)) for t in grid.times]
        with torch.no_grad():
            y, count = solve(data, (problem.start - b * shift) / a, kappas)
        errors.append(problem.error(y.double() * a_end + b_end * shift))
        calls.append(count)
    return Measurement(problem.name, name, tuple(steps), tuple(errors), tuple(calls), package=package)


def _diffusers() -> dict[str, Solve]:
    schedulers = importlib.import_module("diffusers.schedulers")

    def solver(cls: str, **options: Any) -> Solve:
        def solve(data: Data, y: Tensor, kappas: list[float]) -> tuple[Tensor, int]:
            n = len(kappas) - 1
            scheduler = getattr(schedulers, cls)(prediction_type="sample", final_sigmas_type="sigma_min", **options)
            scheduler.set_timesteps(n)
            scheduler.sigmas = torch.tensor(kappas, dtype=torch.float64)
            scheduler.timesteps = torch.arange(n)
            scheduler.num_inference_steps = n
            scheduler.set_begin_index(0)
            x = y / math.sqrt(1.0 + kappas[0] ** 2)
            for k, kappa in enumerate(kappas[:-1]):
                scale = math.sqrt(1.0 + kappa * kappa)
                x = scheduler.step(data(x.double() * scale, kappa), scheduler.timesteps[k], x).prev_sample
            return x.double() * math.sqrt(1.0 + kappas[-1] ** 2), n

        return solve

    return {
        "DPM-Solver++2M": solver("DPMSolverMultistepScheduler", solver_order=2),
        "DPM-Solver++3M": solver("DPMSolverMultistepScheduler", solver_order=3),
        "UniPC-2": solver("UniPCMultistepScheduler", solver_order=2),
        "UniPC-3": solver("UniPCMultistepScheduler", solver_order=3),
    }


def _azula() -> dict[str, Solve]:
    samplers = importlib.import_module("azula.sample")
    denoise = importlib.import_module("azula.denoise")
    noise = importlib.import_module("azula.noise")

    class Exact(denoise.Denoiser):  # type: ignore[name-defined]
        def __init__(self, data: Data, schedule: Any) -> None:
            super().__init__()
            self.data, self.schedule, self.calls = data, schedule, 0

        def forward(self, x: Tensor, t: Tensor) -> Any:
            self.calls += 1
            return denoise.DiracPosterior(self.data(x, float(self.schedule.sigma(t))))

    def solver(cls: str, **options: Any) -> Solve:
        def solve(data: Data, y: Tensor, kappas: list[float]) -> tuple[Tensor, int]:
            exact = Exact(data, noise.VESchedule(kappas[-1], kappas[0]))
            n = len(kappas) - 1
            y = getattr(samplers, cls)(exact, steps=n, silent=True, dtype=torch.float64, **options)(y)
            return y, exact.calls

        return solve

    return {
        "Heun": solver("HeunSampler"),
        "xEAB-2": solver("xEABSampler", order=2),
        "xEAB-3": solver("xEABSampler", order=3),
        "REAB-3": solver("REABSampler", order=3),
    }
