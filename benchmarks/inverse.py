"""Inverse solvers on problems with a known posterior: calls, seconds, and how far each is from the truth.

Everything that the numbers depend on is fixed in `core/inverse/oracle.py`: prior, operator, noise, measurement, grid,
and the settings of every solver. Deterministic solvers whose map is affine are evaluated exactly (mean and covariance
from d + 1 runs); the others with 20,000 paths, beside the Monte-Carlo floor of the mean error.

Seconds are for 64 samples in one batch, float32, with a network of realistic cost for its size (three dense layers of
width 512 around the exact denoiser, multiplied by zero), so that vector-Jacobian products are paid for.

    python benchmarks/inverse.py             writes benchmarks/results/inverse.json and prints the table

deepinv's DPS is compared in `inverse_deepinv.py`: it needs torchvision and therefore an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import asdict
from pathlib import Path

import torch

from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.inverse import reconstruct
from scidiffuse.core.inverse.oracle import Entry, Oracle, entries, grid, harsh, judge, mild

SAMPLES = 64


class Costly(torch.nn.Module):
    """The exact denoiser plus zero times a network, so that calls cost something."""

    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        d, w = len(oracle.mu), 512
        self.exact = oracle.denoiser().network
        self.weights = [torch.randn(a, b, generator=generator) / a**0.5 for a, b in ((d, w), (w, w), (w, w), (w, d))]

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        h = x
        for weight in self.weights:
            h = torch.tanh(h @ weight)
        return self.exact(x, t) + 0.0 * h


def seconds(oracle: Oracle, entry: Entry, repetitions: int) -> float:
    """Shortest of several runs."""
    denoiser = Denoiser(Costly(oracle), oracle.schedule, "data", label=lambda _, t: t)
    best = float("inf")
    for _ in range(repetitions):
        start = time.perf_counter()
        reconstruct(
            denoiser,
            oracle.operator,
            oracle.y[None].float(),
            noise=oracle.noise,
            method=entry.method,
            sampler=entry.sampler,
            grid=grid(oracle, entry.steps),
            samples=SAMPLES,
            seed=0,
        )
        best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", type=int, default=20_000, help="samples for solvers that are not affine")
    parser.add_argument("--repetitions", type=int, default=3, help="timed runs, the shortest counts")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "inverse.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for oracle in (mild(), harsh()):
        print(
            f"\n{oracle.name}: Monte-Carlo floor of the mean error at {args.paths} paths {oracle.floor(args.paths):.4f}"
        )
        print(
            f"{'solver':28}{'sampler':22}{'N':>5}{'mean error':>12}{'std ratio':>11}{'misfit':>8}{'paths':>7}", end=""
        )
        print(f"{'calls':>7}{'vjps':>6}{'seconds':>9}")
        for name, entry in entries(oracle).items():
            verdict = judge(oracle, entry, args.paths, max_batch=5000)
            cost = seconds(oracle, entry, args.repetitions)
            sampler = "its own" if entry.sampler is None else repr(entry.sampler)
            print(
                f"{name:28}{sampler:22.21}{entry.steps:5}{verdict.mean_error:12.4f}{verdict.std_ratio:11.3f}"
                f"{verdict.misfit:8.3f}{verdict.paths or 'exact':>7}{verdict.calls:7}{verdict.vjps:6}{cost:9.3f}",
                flush=True,
            )
            row = {"problem": oracle.name, "solver": name, "method": repr(entry.method), "sampler": sampler}
            rows.append({**row, "steps": entry.steps, **asdict(verdict), "seconds": round(cost, 4)})
    record = {
        "protocol": {
            "problems": {o.__name__: o.__doc__ for o in (mild, harsh)},
            "mean_error": "|mean - posterior mean| / |posterior mean - prior mean|",
            "std_ratio": "sqrt(trace of covariance / trace of posterior covariance)",
            "misfit": "root mean square of |y - A x| over noise * sqrt(m)",
            "paths": "0: mean and covariance exact, from an affine map; else samples",
            "seconds": f"{SAMPLES} samples, float32, one thread, shortest of {args.repetitions}",
            "deepinv": "see inverse_deepinv.json",
        },
        "environment": {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine()},
        "rows": rows,
    }
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
