"""Diffusion posterior sampling beside deepinv's: calls, seconds and error on the same problem.

deepinv needs torchvision, so it lives in an environment of its own; this script runs there:

    pip install deepinv scidiffuse           in a fresh environment
    python benchmarks/inverse_deepinv.py     writes benchmarks/results/inverse_deepinv.json

Same denoiser (exact for Gaussian data, plus zero times a network of realistic cost), same measurement, same schedule
(VP, beta 0.1 to 20), same grid of 100 steps, ancestral sampler, 64 timed samples, float32 network, one thread. The two
weigh the gradient differently (deepinv multiplies it into the score, the paper subtracts it after the step), so each is
given the best of its own five scales, found on 2,000 samples.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import deepinv
import torch
from deepinv.sampling import DDPMSolver, DPSDataFidelity, PosteriorDiffusion, VariancePreservingDiffusion
from inverse import Costly

from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.inverse import DPS, reconstruct
from scidiffuse.core.inverse.oracle import Oracle, grid, harsh, mild
from scidiffuse.core.samplers import DDPM

STEPS, PATHS, TIMED = 100, 2000, 64


class Peer(deepinv.models.Denoiser):
    """The denoiser in deepinv's letters: x0 + sigma n -> x0, images (B, 1, 1, d)."""

    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        self.network, self.schedule, self.calls = Costly(oracle), oracle.schedule, 0

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, **_: object) -> torch.Tensor:
        self.calls += 1
        level = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1)[:1]
        t = self.schedule.time_of_kappa(level)
        alpha = self.schedule.alpha(t).to(x)
        flat = x.flatten(1)
        return self.network(alpha * flat, t.to(x).expand(len(flat))).reshape(x.shape)


def peer(oracle: Oracle, weight: float) -> tuple[Callable[[int], torch.Tensor], Peer]:
    model = Peer(oracle)
    matrix = oracle.matrix.float()
    physics = deepinv.physics.LinearPhysics(
        A=lambda x, **_: (x.flatten(1) @ matrix.to(x).T)[:, None, None],
        A_adjoint=lambda y, **_: (y.flatten(1) @ matrix.to(y))[:, None, None],
    )
    times = torch.tensor(grid(oracle, STEPS).times, dtype=torch.float64)
    sampler = PosteriorDiffusion(
        data_fidelity=DPSDataFidelity(denoiser=model, weight=weight),
        denoiser=model,
        sde=VariancePreservingDiffusion(dtype=torch.float64),
        solver=DDPMSolver(timesteps=times, rng=torch.Generator()),
        minus_one_one=False,
        verbose=False,
    )

    def run(n: int) -> torch.Tensor:
        y = oracle.y.expand(n, 1, 1, -1).clone()
        return sampler(y, physics, x_init=(n, 1, 1, len(oracle.mu)), seed=0).flatten(1).detach()

    return run, model


def ours(oracle: Oracle, zeta: float) -> tuple[Callable[[int], torch.Tensor], list[int]]:
    denoiser = Denoiser(Costly(oracle), oracle.schedule, "data", label=lambda _, t: t)
    calls = [0]

    def run(n: int) -> torch.Tensor:
        found = reconstruct(
            denoiser,
            oracle.operator,
            oracle.y[None].float(),
            noise=oracle.noise,
            method=DPS(zeta),
            sampler=DDPM(),
            grid=grid(oracle, STEPS),
            samples=n,
            seed=0,
        )
        calls[0] = found.calls
        return found.x[0]

    return run, calls


def best(
    oracle: Oracle, make: Callable[..., tuple[Callable[[int], torch.Tensor], object]], scales: list[float]
) -> dict:
    rows = []
    for scale in scales:
        run, counter = make(oracle, scale)
        try:
            x = run(PATHS).double()
        except FloatingPointError:
            continue
        error, ratio = oracle.errors(x.mean(0), x.T.cov())
        if error == error:
            rows.append((error, ratio, scale))
    error, ratio, scale = min(rows)
    run, counter = make(oracle, scale)
    if isinstance(counter, Peer):
        counter.calls = 0
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        run(TIMED)
        seconds.append(time.perf_counter() - start)
    calls = counter.calls / 4 if isinstance(counter, Peer) else counter[0]  # type: ignore[index]
    return {
        "scale": scale,
        "mean_error": round(error, 4),
        "std_ratio": round(ratio, 3),
        "calls": calls,
        "seconds": round(min(seconds), 3),
    }


def main() -> None:
    torch.set_num_threads(1)
    table = {}
    for oracle in (mild(), harsh()):
        table[oracle.name] = {
            "scidiffuse DPS": best(oracle, ours, [0.1, 0.2, 0.35, 0.5, 0.7]),
            "deepinv DPS": best(oracle, peer, [1.0, 3.0, 10.0, 30.0, 100.0]),
            "Monte-Carlo floor": round(oracle.floor(PATHS), 4),
        }
        print(oracle.name, json.dumps(table[oracle.name], indent=1))
    record = {
        "deepinv": deepinv.__version__,
        "torch": torch.__version__,
        "steps": STEPS,
        "paths": PATHS,
        "table": table,
    }
    record["note"] = "each at the best of its five scales; seconds for 64 samples, shortest of 4, on a shared machine"
    out = Path(__file__).parent / "results" / "inverse_deepinv.json"
    out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
