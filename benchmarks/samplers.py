"""Per-step cost of samplers on a trivial network, beside diffusers and azula.

The network is one multiplication, so what is timed is the method's own work: label, conversion of the
prediction, coefficients and the update. All competitors run in one process, one thread, interleaved,
each after an untimed run of its own; the minimum over repetitions is reported in microseconds a step,
and as a ratio to ours. Planning is cached and reported separately, as are the network alone and a bare
loop of the same arithmetic. Stochastic samplers draw keyed noise, which costs about 10 ns a number.

    python benchmarks/samplers.py            writes benchmarks/results/samplers.json
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from scidiffuse.core import grids
from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.sample import sample
from scidiffuse.core.samplers import DDIM, DDPM, PNDM, DPMSolverPP, Euler, Heun, Sampler, UniPC
from scidiffuse.core.samplers import base as engine
from scidiffuse.core.schedules import DiscreteBetas

warnings.filterwarnings("ignore")
SHAPES = {"(8, 16)": (8, 16), "(8, 3, 32, 32)": (8, 3, 32, 32)}
STEPS = 50
SCHEDULE = DiscreteBetas.linear(1e-4, 0.02, 1000)


def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return x * 0.5


def ours(sampler: Sampler, x: torch.Tensor) -> Callable[[], object]:
    denoiser = Denoiser(network, SCHEDULE, "noise")
    grid = grids.discrete(SCHEDULE, STEPS, "leading")
    return lambda: sample(denoiser, sampler, grid, x=x, seed=0)


def diffusers_run(name: str, x: torch.Tensor, **config: object) -> Callable[[], object]:
    from diffusers import schedulers

    peer = getattr(schedulers, name)(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, **config)

    def run() -> torch.Tensor:
        peer.set_timesteps(STEPS)
        y = x
        with torch.inference_mode():
            for t in peer.timesteps:
                y = peer.step(network(peer.scale_model_input(y, t), t), t, y).prev_sample
        return y

    return run


def azula_run(name: str, x: torch.Tensor, **config: object) -> Callable[[], object]:
    from azula import denoise, noise
    from azula import sample as azula_sample

    class Backbone(torch.nn.Module):
        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return x * 0.5

    denoiser = denoise.SimpleDenoiser(Backbone(), noise.VPSchedule())
    peer = getattr(azula_sample, name)(denoiser, steps=STEPS, silent=True, **config)

    def run() -> torch.Tensor:
        with torch.inference_mode():
            return peer(x)

    return run


def bare(x: torch.Tensor) -> Callable[[], object]:
    """The arithmetic of DPM-Solver++(2M) with constants: what no implementation can avoid."""

    def run() -> torch.Tensor:
        y, last = x, x
        with torch.inference_mode():
            for _ in range(STEPS):
                label = torch.full((x.shape[0],), 3.0)
                data = (network(y, label) * 0.1).add_(y, alpha=0.2)
                y = (y * 0.9).add_(data, alpha=0.1).add_(last, alpha=0.05)
                last = data
        return y

    return run


def clock(runs: dict[str, Callable[[], object]], repeats: int = 40) -> dict[str, float]:
    """Minimum microseconds a step of each run, interleaved."""
    best = dict.fromkeys(runs, float("inf"))
    for run in runs.values():
        run()
    for _ in range(repeats):
        for name, run in runs.items():
            run()  # the one before has emptied the caches: every competitor is timed warm
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    return {name: seconds / STEPS * 1e6 for name, seconds in best.items()}


def planning() -> dict[str, float]:
    """Milliseconds of planning 50 steps, cold."""
    result = {}
    for sampler in (DDIM(), DPMSolverPP(2), UniPC(2)):
        best = float("inf")
        for _ in range(10):
            engine._plan.cache_clear()
            grid = grids.discrete(SCHEDULE, STEPS, "leading")
            start = time.perf_counter()
            sampler.plan(SCHEDULE, grid)
            best = min(best, time.perf_counter() - start)
        result[repr(sampler)] = best * 1e3
    return result


def memory() -> dict[str, float]:
    """Peak of tensors held at once, in states: x, the declared registers, and a call's temporaries."""
    size = 8 * 3 * 64 * 64
    x = torch.randn(8, 3, 64, 64)
    result = {}
    for sampler in (DDIM(), DPMSolverPP(2), DPMSolverPP(3), UniPC(2)):
        registers = len(sampler.plan(SCHEDULE, grids.discrete(SCHEDULE, STEPS, "leading")).memory)
        with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            ours(sampler, x)()
        held = peak = 0
        for event in profile.profiler.kineto_results.events():
            if event.name() == "[memory]":
                held += event.nbytes()
                peak = max(peak, held)
        result[repr(sampler)] = {"registers": registers, "peak_states": round(peak / (4 * size), 2)}  # type: ignore[assignment]
    return result


def main() -> None:
    torch.set_num_threads(1)
    table: dict[str, dict[str, float]] = {}
    for label, shape in SHAPES.items():
        x = torch.randn(*shape)
        runs = {
            "network alone": lambda x=x: [network(x, x) for _ in range(STEPS)],
            "bare loop": bare(x),
            "ours DPM-Solver++(2M)": ours(DPMSolverPP(2), x),
            "ours UniPC-2": ours(UniPC(2), x),
            "ours DDIM": ours(DDIM(), x),
            "ours DDPM": ours(DDPM(), x),
            "ours Euler": ours(Euler(), x),
            "ours Heun": ours(Heun(), x),
            "ours PNDM": ours(PNDM(), x),
            "diffusers DPM-Solver++(2M)": diffusers_run("DPMSolverMultistepScheduler", x),
            "diffusers UniPC-2": diffusers_run("UniPCMultistepScheduler", x),
            "diffusers DDIM": diffusers_run("DDIMScheduler", x, clip_sample=False),
            "diffusers DDPM": diffusers_run("DDPMScheduler", x, clip_sample=False),
            "diffusers Euler": diffusers_run("EulerDiscreteScheduler", x),
            "diffusers Heun": diffusers_run("HeunDiscreteScheduler", x),
            "diffusers PNDM": diffusers_run("PNDMScheduler", x),
        }
        try:
            runs |= {
                "azula xEAB-2": azula_run("xEABSampler", x, order=2),
                "azula DDIM": azula_run("DDIMSampler", x),
            }
        except (ImportError, AttributeError) as error:
            print("azula is not installed:", error)
        table[label] = clock(runs)
    ratios = {
        label: {
            "diffusers / ours, DPM-Solver++(2M)": row["diffusers DPM-Solver++(2M)"] / row["ours DPM-Solver++(2M)"],
            "the same without the network's own time": (row["diffusers DPM-Solver++(2M)"] - row["network alone"])
            / (row["ours DPM-Solver++(2M)"] - row["network alone"]),
            "diffusers / ours, UniPC-2": row["diffusers UniPC-2"] / row["ours UniPC-2"],
            "diffusers / ours, DDIM": row["diffusers DDIM"] / row["ours DDIM"],
            "diffusers / ours, DDPM": row["diffusers DDPM"] / row["ours DDPM"],
            **(
                {"azula / ours, second-order multistep": row["azula xEAB-2"] / row["ours DPM-Solver++(2M)"]}
                if "azula xEAB-2" in row
                else {}
            ),
        }
        for label, row in table.items()
    }
    result = {
        "machine": f"{platform.machine()}, one thread, torch {torch.__version__}",
        "peers": {name: _version(name) for name in ("diffusers", "azula")},
        "microseconds_per_step": table,
        "ratios": ratios,
        "planning_ms_50_steps": planning(),
        "memory": memory(),
        "import_seconds": imports(),
    }
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "samplers.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def imports() -> dict[str, float]:
    """Seconds of importing a module in a fresh interpreter, less those of starting one: minimum of five."""

    def start(code: str) -> float:
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            times.append(time.perf_counter() - begin)
        return min(times)

    empty = start("pass")
    return {name: round(start(f"import {name}") - empty, 3) for name in ("scidiffuse", "torch", "scidiffuse.core")}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
