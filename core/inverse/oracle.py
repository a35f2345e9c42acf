r"""Gaussian data: the inverse problem whose posterior is known, and by which every solver is judged.

x0 ~ N(mu, S), y = A x0 + noise n. With G = S A^T (A S A^T + noise^2)^{-1} the posterior is

    mean = mu + G (y - A mu),      covariance = S - G A S,

and the denoiser is E[x0 | x] = mu + alpha S (alpha^2 S + sigma^2)^{-1} (x - alpha mu), linear in x.

**Everything that the recorded table depends on is fixed here**: the two problems (`mild`, `harsh`) with
prior spectrum, operator, noise and the measurement itself; the schedule, the grid (`grid`), and the settings of every
solver (`entries`).

How a solver is judged (`judge`). Its mean and covariance over start noise and step noise, for the one y:

    mean error   |mean - posterior mean| / |posterior mean - mu|
    std ratio    sqrt(tr covariance / tr posterior covariance)

If the map from start noise to result is affine (deterministic sampler, no normalisation, conjugate
gradients run to the end) it is evaluated at 0 and at the d unit vectors: mean and covariance are then
exact, and what is left is the method's bias and the sampler's discretisation. Affinity is checked at one
more point, to 1e-6. Everything else is sampled, with the Monte-Carlo floor of the mean error beside it,
sqrt(tr posterior covariance / paths) / |posterior mean - mu|: a smaller error cannot be told from zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..denoisers import Denoiser
from ..grids import Grid, log_snr
from ..operators import Matrix
from ..samplers import DDIM, DDPM, DPMSolverPP, Sampler
from ..schedules import Schedule, VPLinear
from ..spaces import expand
from .base import Method
from .ddnm import DDNM
from .ddrm import DDRM
from .dds import DDS
from .diffpir import DiffPIR
from .dps import DPS
from .flowchef import FlowChef
from .moment_matched import MMPS
from .pigdm import PiGDM
from .reconstruct import reconstruct
from .red_diff import RedDiff
from .steered import Steered

__all__ = ["Entry", "Oracle", "Verdict", "entries", "grid", "harsh", "judge", "mild"]


@dataclass(frozen=True, eq=False)
class Oracle:
    """Gaussian data, a linear measurement of them, and the posterior.

    Args:
        name: of the problem.
        mu: mean, (d,), float64.
        spectrum: eigenvalues of S, (d,).
        basis: eigenvectors in columns, (d, d).
        matrix: A, (m, d).
        noise: standard deviation of the measurement's noise.
        y: the measurement, (m,).
        schedule: of the diffusion.
    """

    name: str
    mu: Tensor
    spectrum: Tensor
    basis: Tensor
    matrix: Tensor
    noise: float
    y: Tensor
    schedule: Schedule

    @classmethod
    def random(
        cls,
        name: str,
        spectrum: Tensor,
        singular: Tensor,
        noise: float,
        seed: int = 0,
        schedule: Schedule | None = None,
    ) -> Oracle:
        """A problem with these eigenvalues of the prior and singular values of A, in random directions."""
        generator = torch.Generator().manual_seed(seed)

        def rotation(n: int) -> Tensor:
            return torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0]

        d, m = len(spectrum), len(singular)
        basis, left, right = rotation(d), rotation(m), rotation(d)
        matrix = left @ torch.diag(singular) @ right[:, :m].T
        mu = torch.zeros(d, dtype=torch.float64)
        truth = basis @ (spectrum.sqrt() * torch.randn(d, generator=generator, dtype=torch.float64))
        y = matrix @ truth + noise * torch.randn(m, generator=generator, dtype=torch.float64)
        return cls(name, mu, spectrum, basis, matrix, noise, y, schedule or VPLinear())

    @property
    def covariance(self) -> Tensor:
        """S, (d, d)."""
        return (self.basis * self.spectrum) @ self.basis.T

    @property
    def operator(self) -> Matrix:
        """A."""
        return Matrix(self.matrix)

    def posterior(self) -> tuple[Tensor, Tensor]:
        """Mean (d,) and covariance (d, d) of x0 given y."""
        s, a = self.covariance, self.matrix
        inner = a @ s @ a.T + self.noise**2 * torch.eye(len(self.y), dtype=torch.float64)
        gain = torch.linalg.solve(inner, a @ s).T
        return self.mu + gain @ (self.y - a @ self.mu), s - gain @ a @ s

    def denoiser(self) -> Denoiser:
        """The exact denoiser."""
        schedule = self.schedule

        def network(x: Tensor, t: Tensor) -> Tensor:
            a, s = (expand(c, x) for c in (schedule.alpha(t.double()), schedule.sigma(t.double())))
            mu, basis, spectrum = self.mu.to(x), self.basis.to(x), self.spectrum.to(x)
            c = (x - a * mu) @ basis
            return mu + (a * spectrum / (a * a * spectrum + s * s) * c) @ basis.T

        return Denoiser(network, schedule, "data", label=lambda _, t: t)

    def errors(self, mean: Tensor, covariance: Tensor) -> tuple[float, float]:
        """Relative error of the mean, and ratio of the standard deviations."""
        true_mean, true_covariance = self.posterior()
        error = (mean - true_mean).norm() / (true_mean - self.mu).norm()
        return float(error), math.sqrt(float(covariance.trace() / true_covariance.trace()))

    def floor(self, paths: int) -> float:
        """Monte-Carlo error of the mean of exact posterior samples."""
        true_mean, true_covariance = self.posterior()
        return math.sqrt(float(true_covariance.trace()) / paths) / float((true_mean - self.mu).norm())


def mild() -> Oracle:
    """d = 32, m = 16; eigenvalues 1 to 0.5, singular values 1 to 0.7, noise 0.1: everything of one size."""
    n = torch.arange(32, dtype=torch.float64) / 31
    k = torch.arange(16, dtype=torch.float64) / 15
    return Oracle.random("mild", 0.5**n, 0.7**k, 0.1)


def harsh() -> Oracle:
    """d = 32, m = 16; eigenvalues 1 to 0.01, singular values 1 to 0.05, noise 0.05: posteriors that differ a lot."""
    n = torch.arange(32, dtype=torch.float64) / 31
    k = torch.arange(16, dtype=torch.float64) / 15
    return Oracle.random("harsh", 0.01**n, 0.05**k, 0.05)


@dataclass(frozen=True)
class Entry:
    """One line of the table: a solver with its settings, sampler and steps."""

    method: Method
    sampler: Sampler | None
    steps: int


def entries(oracle: Oracle) -> dict[str, Entry]:
    """Every solver with the settings of the recorded table. A sampler of None is the method's own."""
    v = float(oracle.spectrum.mean())
    gamma = 1.0 / oracle.noise**2
    return {
        "MMPS, solved": Entry(MMPS(16, 1e-10), DPMSolverPP(order=2), 50),
        "MMPS, 3 products": Entry(MMPS(3), DDIM(), 100),
        "PiGDM": Entry(PiGDM(v), DDIM(), 100),
        "DPS, zeta 0.25": Entry(DPS(0.25, "constant"), DDIM(), 100),
        "DPS, zeta 0.1": Entry(DPS(0.1, "constant"), DDIM(), 100),
        "DPS, paper, zeta 0.5": Entry(DPS(0.5), DDPM(), 100),
        "DPS, paper, zeta 0.15": Entry(DPS(0.15), DDPM(), 100),
        "DDS": Entry(DDS(30, gamma), DDIM(), 100),
        "DDS, noise rederived": Entry(DDS(30, gamma, "rederive"), DDIM(), 100),
        "DDS, 5 steps": Entry(DDS(5), DDIM(), 100),
        "DDRM": Entry(DDRM(), None, 100),
        "DDNM+": Entry(DDNM(), DDIM(0.85), 100),
        "DDNM+, noise rederived": Entry(DDNM(noise="rederive"), DDIM(0.85), 100),
        "DiffPIR, lambda 8": Entry(DiffPIR(8.0), None, 100),
        "DiffPIR, lambda 1, zeta 1": Entry(DiffPIR(1.0, 1.0), None, 100),
        "DiffPIR, lambda 1, ODE": Entry(DiffPIR(1.0), DDIM(), 100),
        "RedDiff, 100 steps": Entry(RedDiff(), None, 100),
        "RedDiff, 500 steps": Entry(RedDiff(), None, 500),
        "FlowChef": Entry(FlowChef(0.3), DDIM(), 100),
        "Steered": Entry(Steered(0.3), DDIM(), 100),
        "Steered, in the data": Entry(Steered(0.3, through_network=False), DDIM(), 100),
    }


@dataclass(frozen=True)
class Verdict:
    """What `judge` found.

    Attributes:
        mean_error, std_ratio: see the module.
        paths: 0 if mean and covariance are exact, else the number of samples.
        floor: Monte-Carlo floor of the mean error (0 if exact).
        misfit: mean residual over noise * sqrt(m).
        calls, vjps: of one run.
    """

    mean_error: float
    std_ratio: float
    paths: int
    floor: float
    misfit: float
    calls: int
    vjps: int


def grid(oracle: Oracle, steps: int) -> Grid:
    """Even steps in log-SNR from 1/kappa = 1/150 to 100, then to t = 0."""
    return log_snr(oracle.schedule, steps, end=float(oracle.schedule.time_of_kappa(0.01)), final_zero=True)


def judge(oracle: Oracle, entry: Entry, paths: int = 20_000, seed: int = 0, max_batch: int | None = None) -> Verdict:
    """Mean error and standard-deviation ratio of one solver."""
    d = len(oracle.mu)
    kwargs: dict[str, Any] = {
        "noise": oracle.noise,
        "method": entry.method,
        "sampler": entry.sampler,
        "grid": grid(oracle, entry.steps),
        "seed": seed,
        "dtype": torch.float64,
    }
    y = oracle.y[None]
    sampler = entry.sampler
    if sampler is not None and not sampler.stochastic:
        generator = torch.Generator().manual_seed(1)
        probe = torch.randn(1, d, generator=generator, dtype=torch.float64)
        x = torch.cat([torch.zeros(1, d, dtype=torch.float64), torch.eye(d, dtype=torch.float64), probe])
        run = reconstruct(oracle.denoiser(), oracle.operator, y, samples=d + 2, x=x, **kwargs)
        mean, columns = run.x[0, 0], run.x[0, 1:-1] - run.x[0, 0]
        affine = (run.x[0, -1] - mean - probe[0] @ columns).norm() <= 1e-6 * run.x[0, -1].norm()
        if bool(affine):
            covariance = columns.T @ columns
            error, ratio = oracle.errors(mean, covariance)
            spread = (oracle.matrix @ covariance @ oracle.matrix.T).trace()
            rms = ((oracle.y - oracle.matrix @ mean).square().sum() + spread.clamp_min(0.0)).sqrt()
            misfit = float(rms) / (oracle.noise * math.sqrt(len(oracle.y)))
            return Verdict(error, ratio, 0, 0.0, misfit, run.calls, run.vjps)
    run = reconstruct(oracle.denoiser(), oracle.operator, y, samples=paths, max_batch=max_batch, **kwargs)
    error, ratio = oracle.errors(run.mean[0], run.x[0].T.cov())
    misfit = float(run.residual.square().mean().sqrt() / run.expected_residual[0])
    return Verdict(error, ratio, paths, oracle.floor(paths), misfit, run.calls, run.vjps)
