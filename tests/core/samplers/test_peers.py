"""The same network, grid and noise as `diffusers.schedulers`, where those are right.

The peers keep their tables in float32; they are given the float64 table here so that what is compared
is the method. Euler and Heun run in x / alpha there, so their state is multiplied by alpha.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from scidiffuse.core import grids
from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.noise import Recorded
from scidiffuse.core.sample import sample
from scidiffuse.core.samplers import (
    DDIM,
    DDPM,
    IPNDM,
    PLMS,
    PNDM,
    DPMSolver,
    DPMSolverPP,
    EDMStochastic,
    Euler,
    Heun,
    UniPC,
)
from scidiffuse.core.schedules import EDM, DiscreteBetas

warnings.filterwarnings("ignore", module="diffusers")
peers = pytest.importorskip("diffusers.schedulers", reason="the peer diffusers is in the dev extra")

SCHEDULE = DiscreteBetas.linear(1e-4, 0.02, 1000)
CONFIG = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
WEIGHT = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 3


def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """A smooth nonlinear noise prediction that depends on the time."""
    t = t.reshape(-1, 1).to(x) / 1000.0
    return torch.tanh(x @ WEIGHT + torch.cos(3.0 * t)) * (0.5 + t) + 0.3 * x


@pytest.fixture
def start() -> torch.Tensor:
    return torch.randn(4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def make(name: str, steps: int, **config: object) -> object:
    peer = getattr(peers, name)(**{**CONFIG, **config})
    peer.alphas_cumprod = torch.tensor(SCHEDULE.alphas_cumprod, dtype=torch.float64)
    peer.betas = torch.tensor(SCHEDULE.betas, dtype=torch.float64)
    peer.alphas = 1.0 - peer.betas
    peer.set_timesteps(steps)
    return peer


def run(peer: object, x: torch.Tensor, **step: object) -> torch.Tensor:
    for t in peer.timesteps:
        inputs = peer.scale_model_input(x, t)
        x = peer.step(network(inputs, t.reshape(1)), t, x, **step).prev_sample
    return x


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float) -> None:
    error = (ours - theirs).abs().max() / theirs.abs().max()
    assert error < tolerance, f"relative difference {error:.2e}"


def denoiser() -> Denoiser:
    return Denoiser(network, SCHEDULE, "noise")


def leading(steps: int) -> grids.Grid:
    return grids.discrete(SCHEDULE, steps, "leading")


def test_ddim(start: torch.Tensor) -> None:
    peer = make("DDIMScheduler", 50, clip_sample=False, timestep_spacing="leading", set_alpha_to_one=True)
    ours = sample(denoiser(), DDIM(), leading(50), x=start, dtype=torch.float64)
    close(ours.x, run(peer, start), 1e-6)
    assert ours.calls == 50


def test_ddim_with_noise(start: torch.Tensor) -> None:
    generator = torch.Generator().manual_seed(2)
    draws = [torch.randn(start.shape, generator=generator, dtype=torch.float64) for _ in range(20)]
    peer = make("DDIMScheduler", 20, clip_sample=False, timestep_spacing="leading", set_alpha_to_one=True)
    x = start
    for t, z in zip(peer.timesteps, draws, strict=True):
        x = peer.step(network(x, t.reshape(1)), t, x, eta=0.7, variance_noise=z).prev_sample
    ours = sample(denoiser(), DDIM(eta=0.7), leading(20), x=start, noise=Recorded(draws), dtype=torch.float64).x
    close(ours, x, 1e-6)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm(start: torch.Tensor, variance: str) -> None:
    steps = 50
    peer = make(
        "DDPMScheduler", steps, clip_sample=False, timestep_spacing="leading", variance_type=f"fixed_{variance}"
    )
    generator = torch.Generator().manual_seed(3)
    draws = [torch.randn(start.shape, generator=generator, dtype=torch.float64) for _ in range(steps - 1)]
    generator.manual_seed(3)
    theirs = run(peer, start, generator=generator)
    ours = sample(denoiser(), DDPM(variance), leading(steps), x=start, noise=Recorded(draws), dtype=torch.float64).x
    close(ours, theirs, 1e-6)


@pytest.mark.parametrize(("name", "sampler"), [("EulerDiscreteScheduler", Euler()), ("HeunDiscreteScheduler", Heun())])
def test_euler_and_heun(start: torch.Tensor, name: str, sampler: object) -> None:
    peer = make(name, 25, timestep_spacing="leading")
    sigmas = np.sqrt(1 / np.array(SCHEDULE.alphas_cumprod) - 1)
    # their float32 table of noise levels, replaced by the float64 one on the same indices
    index = peer.timesteps.long().tolist()  # inner ones twice for Heun
    levels = [sigmas[i] for i in index]
    peer.sigmas = torch.tensor([*levels, 0.0], dtype=torch.float64)
    alpha = SCHEDULE.alphas_cumprod[index[0]] ** 0.5
    ours = sample(denoiser(), sampler, leading(25), x=start, dtype=torch.float64).x
    close(ours, run(peer, start / alpha), 1e-6)


def test_edm_with_churn() -> None:
    """EDM's stochastic Euler with churn on the preconditioned network."""
    schedule = EDM()
    peer = peers.EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5, prediction_type="epsilon")
    peer.set_timesteps(18)
    sigmas = peer.sigmas.double()
    peer.sigmas = sigmas

    def raw(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x @ WEIGHT + t.reshape(-1, 1).to(x))

    generator = torch.Generator().manual_seed(4)
    x = sigmas[0] * torch.randn(4, 6, generator=generator, dtype=torch.float64)
    start, draws = x, []
    churn, low, high, s_noise = 6.0, 0.05, 50.0, 1.003
    for t, sigma in zip(peer.timesteps, sigmas, strict=False):
        # the peer adds noise inside its step, after the network has run: evaluate the network where it should be
        gamma = min(churn / 18, 2**0.5 - 1) if low <= sigma <= high else 0.0
        hat = sigma * (1 + gamma)
        z = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        if gamma:
            draws.append(z)
            x = x + (hat**2 - sigma**2).sqrt() * s_noise * z
        out = raw(peer.precondition_inputs(x, hat), 0.25 * torch.log(hat))
        data = peer.precondition_outputs(x, out, hat)
        following = sigmas[peer.timesteps.tolist().index(t.item()) + 1]
        x = x + (x - data) / hat * (following - hat)
    ours = sample(
        Denoiser(raw, schedule, "edm", sigma_data=0.5),
        EDMStochastic(churn=churn, s_min=low, s_max=high, s_noise=s_noise, heun=False),
        grids.explicit([schedule.time_of_kappa(float(s)) if s > 0 else 0.0 for s in sigmas]),
        x=start, noise=Recorded(draws), dtype=torch.float64,
    ).x  # fmt: skip
    close(ours, x, 1e-6)


def test_edm_euler_scheduler() -> None:
    """Their own step without churn: preconditioning and Euler step together."""
    schedule = EDM()
    peer = peers.EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5, prediction_type="epsilon")
    peer.set_timesteps(18)
    peer.sigmas = peer.sigmas.double()

    def raw(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x @ WEIGHT + t.reshape(-1, 1).to(x))

    x = start = peer.sigmas[0] * torch.randn(4, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    for i, t in enumerate(peer.timesteps):
        inputs = peer.scale_model_input(x, t)
        x = peer.step(raw(inputs, 0.25 * peer.sigmas[i].log()), t, x).prev_sample
    times = [schedule.time_of_kappa(float(s)) if s > 0 else 0.0 for s in peer.sigmas]
    ours = sample(Denoiser(raw, schedule, "edm"), Euler(), grids.explicit(times), x=start, dtype=torch.float64).x
    close(ours, x, 1e-6)


@pytest.mark.parametrize("steps", [10, 25])
@pytest.mark.parametrize(
    ("sampler", "config"),
    [
        (DPMSolverPP(order=1), {"solver_order": 1}),
        (DPMSolverPP(order=2), {"solver_order": 2, "solver_type": "midpoint"}),
        (DPMSolverPP(order=2, variant="heun"), {"solver_order": 2, "solver_type": "heun"}),
        (DPMSolverPP(order=3, compat="published"), {"solver_order": 3, "solver_type": "midpoint"}),
    ],
)
def test_dpm_solver_pp(start: torch.Tensor, sampler: object, config: dict[str, object], steps: int) -> None:
    peer = make("DPMSolverMultistepScheduler", steps, timestep_spacing="leading", **config)
    ours = sample(denoiser(), sampler, _at(peer), x=start, dtype=torch.float64).x
    close(ours, run(peer, start), 5e-6)


def test_sde_dpm_solver_pp(start: torch.Tensor) -> None:
    peer = make("DPMSolverMultistepScheduler", 20, timestep_spacing="leading", algorithm_type="sde-dpmsolver++")
    draws = [
        torch.randn(start.shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(20)
    ]
    x = start
    for t, z in zip(peer.timesteps, draws, strict=True):
        x = peer.step(network(x, t.reshape(1)), t, x, variance_noise=z).prev_sample
    ours = sample(
        denoiser(), DPMSolverPP(order=2, eta=1.0), _at(peer), x=start, noise=Recorded(draws), dtype=torch.float64
    )
    close(ours.x, x, 5e-6)


@pytest.mark.parametrize("order", [1, 2])
def test_sde_dpm_solver(start: torch.Tensor, order: int) -> None:
    """The noise-prediction SDE form ends at the noise of index 0, for it is not defined at sigma = 0."""
    peer = make(
        "DPMSolverMultistepScheduler", 20, timestep_spacing="leading", algorithm_type="sde-dpmsolver",
        solver_order=order, final_sigmas_type="sigma_min",
    )  # fmt: skip
    draws = [
        torch.randn(start.shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(20)
    ]
    x = start
    for t, z in zip(peer.timesteps, draws, strict=True):
        x = peer.step(network(x, t.reshape(1)), t, x, variance_noise=z).prev_sample
    grid = grids.explicit([*_at(peer).times[:-1], 1 / 1000])
    sampler = DPMSolver(order, "multistep", eta=1.0)
    close(sample(denoiser(), sampler, grid, x=start, noise=Recorded(draws), dtype=torch.float64).x, x, 5e-6)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("steps", [10, 25])
def test_unipc(start: torch.Tensor, order: int, steps: int) -> None:
    peer = make(
        "UniPCMultistepScheduler", steps, timestep_spacing="leading", solver_order=order, solver_type="bh2",
        final_sigmas_type="zero",
    )  # fmt: skip
    ours = sample(denoiser(), UniPC(order, "bh2", lower_order_final=True), _at(peer), x=start, dtype=torch.float64).x
    close(ours, run(peer, start), 5e-6)


@pytest.mark.parametrize(("sampler", "skip"), [(PNDM(), False), (PLMS(), True)])
def test_pndm(start: torch.Tensor, sampler: object, skip: bool) -> None:
    peer = make("PNDMScheduler", 25, timestep_spacing="leading", skip_prk_steps=skip, set_alpha_to_one=True)
    close(sample(denoiser(), sampler, leading(25), x=start, dtype=torch.float64).x, run(peer, start), 5e-6)


def test_ipndm_weights() -> None:
    """The Adams-Bashforth weights integrate polynomials of their degree exactly."""
    from scidiffuse.core.samplers.pndm import _ADAMS

    for weights in _ADAMS:
        for power in range(len(weights)):
            assert sum(w * (-j) ** power for j, w in enumerate(weights)) == pytest.approx(1 / (power + 1), abs=1e-14)
    assert IPNDM(4).nominal_order == 2


def _at(peer: object) -> grids.Grid:
    """The grid that visits the peer's indices and ends at t = 0."""
    return grids.from_indices(SCHEDULE, [int(i) for i in peer.timesteps])
