"""First-hitting sampling against ancestral sampling of masked tokens: wall clock, network calls, memory of the draws.

    python benchmarks/discrete_sampling.py                  all of it, recorded in results/discrete_sampling.json
    python benchmarks/discrete_sampling.py --quick          lengths 64 and 256, once

One process, one thread; the variants of a row are run in turn and the smallest time of each counts. The network is a
`TokenTransformer` with random weights: its answers do not matter for the time, and both samplers ask the same one.

* first-hitting: `FirstHitting()`, L calls.
* ancestral: `Ancestral()` with 1000 steps, 1000 calls.
* ancestral, cached: the same run with a network that answers from its last call where no token has changed (possible
  where it is not told the time, as here). It is called N (1 - (1 - 1/N)^(B L)) times on average.
* recipe: the cached run with the draws of the published recipe: Gumbel numbers in float64 for every token and category
  at every step, whether the token is decided or not.

All of these have one law, but for the step error of 1000 steps, which first-hitting sampling does not have
(tests/core/discrete/samplers hold both to the exact law).
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scidiffuse.core import sample
from scidiffuse.core.discrete import Ancestral, FirstHitting, Masked, TokenDenoiser
from scidiffuse.core.discrete.categorical import categorical, gumbel_max
from scidiffuse.core.networks import TokenTransformer

RESULTS = Path(__file__).parent / "results" / "discrete_sampling.json"
STEPS = 1000


class Cached:
    """A network that is asked again only where a token has changed."""

    def __init__(self, network: Callable[..., Tensor]) -> None:
        self.network, self.calls = network, 0
        self.last: tuple[Tensor, Tensor] | None = None

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        if self.last is None or not torch.equal(self.last[0], x):
            self.calls += 1
            self.last = (x.clone(), self.network(x, t))
        return self.last[1]


def recipe(network: Callable[..., Tensor], shape: tuple[int, int], states: int, steps: int) -> Tensor:
    """Ancestral sampling with a float64 Gumbel number for every token and category at every step."""
    generator = torch.Generator().manual_seed(0)
    x = torch.full(shape, states - 1)
    with torch.inference_mode():
        for k in range(steps, 0, -1):
            stay = (k - 1) / k
            p = network(x, torch.zeros(shape[0]))[..., :-1].double().softmax(-1) * (1.0 - stay)
            p = torch.cat([p, torch.full((*shape, 1), stay, dtype=torch.float64)], -1)
            u = torch.rand(p.shape, generator=generator, dtype=torch.float64)
            x = torch.where(x == states - 1, gumbel_max(p.log(), u), x)
    return x


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    out = call()
    return time.perf_counter() - start, out


def row(length: int, states: int, width: int, depth: int, repeats: int, batch: int = 1) -> dict[str, Any]:
    """All variants at one length and vocabulary."""
    torch.manual_seed(0)
    network = TokenTransformer(states, width, depth, 4, time=None).eval()
    torch.nn.init.normal_(next(p for n, p in network.named_parameters() if n.endswith("output.weight")), std=0.02)
    process, shape = Masked(states), (batch, length)

    def run(sampler: Any, cached: bool) -> int:
        inner = Cached(network) if cached else network
        result = sample(TokenDenoiser(inner, process), sampler, steps=None if sampler.adaptive else STEPS,
                        shape=shape, seed=0)  # fmt: skip
        return inner.calls if isinstance(inner, Cached) else result.calls

    def by_recipe() -> int:
        inner = Cached(network)
        recipe(inner, shape, states, STEPS)
        return inner.calls

    variants: dict[str, Callable[[], int]] = {
        "first_hitting": lambda: run(FirstHitting(), False),
        "ancestral": lambda: run(Ancestral(), False),
        "ancestral_cached": lambda: run(Ancestral(), True),
        "recipe_cached": by_recipe,
    }
    sample(TokenDenoiser(network, process), FirstHitting(), shape=shape, seed=0, until=3)  # warm
    best: dict[str, float] = {}
    calls: dict[str, int] = {}
    for _ in range(repeats):
        for name, variant in variants.items():
            seconds, calls[name] = timed(variant)
            best[name] = min(best.get(name, seconds), seconds)
    return {
        "length": length,
        "states": states,
        "batch": batch,
        "network": {"width": width, "depth": depth},
        "seconds": best,
        "calls": calls,
        "ratio_to_first_hitting": {name: best[name] / best["first_hitting"] for name in best},
    }


MEMORY = """
import resource, sys, torch
from scidiffuse.core.discrete import Masked
from scidiffuse.core.discrete.categorical import gumbel_max
torch.set_num_threads(1)
batch, length, states, how = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
process = Masked(states)
raw = torch.randn(batch, length, states)
x = torch.full((batch, length), states - 1)
u = torch.rand(batch, length, dtype=torch.float64)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with torch.inference_mode():
    if how == "ours":
        process.draw(lambda which: process.log_probs(raw[which], x[which]), x, 0.499, 0.5, u)
    elif how == "all":  # every token is decided in this step
        process.draw(lambda which: process.log_probs(raw[which], x[which]), x, 0.0, 0.5, u)
    else:
        p = raw.double().softmax(-1)
        gumbel_max(p.log(), torch.rand(p.shape, dtype=torch.float64))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) / 1024)
"""


def memory(batch: int = 4, length: int = 1024, states: int = 32_768) -> dict[str, Any]:
    """Growth of the peak resident memory in one draw, MiB, each in a process of its own."""

    def grown(how: str) -> float:
        command = [sys.executable, "-c", MEMORY, str(batch), str(length), str(states), how]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    return {
        "batch": batch,
        "length": length,
        "states": states,
        "logits_mib": batch * length * states * 4 / 2**20,
        "float64_gumbel_mib": grown("gumbel"),
        "ours_one_step_of_500_mib": grown("ours"),
        "ours_all_tokens_at_once_mib": grown("all"),
    }


def draws(rows: int = 4096, states: int = 32_768) -> dict[str, Any]:
    """Seconds to draw one category a row: one float64 uniform a row against float64 and float32 Gumbel numbers."""
    logits = torch.randn(rows, states)
    u = torch.rand(rows, dtype=torch.float64)
    g = torch.Generator().manual_seed(0)
    variants = {
        "inverse_cdf_float64": lambda: categorical(logits, u),
        "gumbel_float64": lambda: gumbel_max(logits, torch.rand(logits.shape, generator=g, dtype=torch.float64)),
        "gumbel_float32": lambda: gumbel_max(logits, torch.rand(logits.shape, generator=g)),
    }
    best: dict[str, float] = {}
    for _ in range(3):
        for name, variant in variants.items():
            best[name] = min(best.get(name, 1e9), timed(variant)[0])
    return {"rows": rows, "states": states, "seconds": best}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="lengths 64 and 256, once")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    plan = [(64, 32, 128, 4), (256, 32, 128, 4), (64, 8192, 128, 4), (256, 8192, 128, 4)]
    if not quick:
        plan.insert(2, (1024, 32, 128, 4))
    rows = []
    for length, states, width, depth in plan:
        rows.append(row(length, states, width, depth, 1 if quick or length * states > 500_000 else 2))
        print(json.dumps(rows[-1]["ratio_to_first_hitting"]), length, states, flush=True)
    record = {
        "machine": {"cores": 2, "threads": 1, "torch": torch.__version__, "python": platform.python_version()},
        "command": "python benchmarks/discrete_sampling.py" + (" --quick" if quick else ""),
        "steps": STEPS,
        "runs": rows,
        "memory": memory(),
        "draws": draws(),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps({"memory": record["memory"], "draws": record["draws"]}, indent=1))


if __name__ == "__main__":
    main()
