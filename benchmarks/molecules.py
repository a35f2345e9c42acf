r"""What sampling molecules costs: network calls, molecules a second, memory.

    python -m benchmarks.molecules [--samples 100] [--output FILE.json]

One process, one thread, the shipped GDSS of QM9 (8,564 + 23,825 parameters), ratios of CPU seconds.

- *recipe*: the published one, 1,000 steps of predictor-corrector (two calls of each network a step), beside S4 at 1,000
  steps (one call), and at fewer, with the validity that is left;
- *rewards*: what the reward of SVDD adds, asked about every prediction, and about those only that are new at a step;
- *triplets*: memory and seconds of the triplet attention of GFMDiff, 90 atoms, by chunk.

The earth mover's distance and the suite of graph MMDs are in `benchmarks/molecules_metrics.py`.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scidiffuse import molecules as mo
from scidiffuse.benchmarks.common.qm9 import head, percent
from scidiffuse.benchmarks.common.runs import Row, Runs
from scidiffuse.core.datasets import cache_folder
from scidiffuse.core.steering import SVDD
from scidiffuse.molecules.chem import qed
from scidiffuse.molecules.networks.dual_track import RadialBasis, TripletAttention

RESULTS = Path(__file__).parent / "results" / "molecules.json"
SHIPPED = Path(mo.__file__).parent / "assets" / "gdss-qm9"
RECIPES = (("pc", 1000), ("s4", 1000), ("pc", 500), ("s4", 250), ("s4", 100))


def recipes(model: mo.GDSS, samples: int) -> Row:
    """Molecules a second by sampler and steps, beside the published recipe."""
    out: Row = {}
    for sampler, steps in RECIPES:
        start = time.process_time()
        found = model.sample(samples, sampler=sampler, steps=steps, seed=0, max_batch=100)
        seconds = time.process_time() - start
        out[f"{sampler} {steps}"] = {
            "network_calls": found.info["network_calls"],
            "cpu_seconds": round(seconds, 2),
            "molecules_a_second": round(samples / seconds, 2),
            "valid_uncorrected_gdss": percent(found.report["valid_uncorrected_gdss"]),
        }
    base = out["pc 1000"]["molecules_a_second"]
    for row in out.values():
        row["over_published_recipe"] = round(row["molecules_a_second"] / base, 2)
    return out


def rewards(model: mo.GDSS, samples: int) -> Row:
    """CPU seconds that SVDD's reward (QED, 5 candidates, 100 steps) adds, with and without what the last step knew."""
    from scidiffuse.molecules.steering import GraphReward

    def seconds(**options: Any) -> float:
        start = time.process_time()
        model.sample(samples, sampler="pc", steps=100, seed=0, max_batch=200, **options)
        return time.process_time() - start

    steering = SVDD(qed, 5, alpha=0.0)
    out: Row = {"network_alone": round(5 * seconds(corrector="none"), 2), "kept": round(seconds(steering=steering), 2)}
    whole = GraphReward.__call__

    def forgetful(self: GraphReward, data: Any, step: Any) -> list[float]:
        self.last.clear()
        return whole(self, data, step)

    GraphReward.__call__ = forgetful  # type: ignore[method-assign]
    try:
        out["asked_every_step"] = round(seconds(steering=steering), 2)
    finally:
        GraphReward.__call__ = whole  # type: ignore[method-assign]
    return out


def one_chunk(chunk: int | None, atoms: int, width: int, batch: int) -> tuple[float, float, list[float]]:
    """CPU seconds, MiB that the process grew by at most, and some of the result; run in a process of its own."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layer = TripletAttention(width, 8, RadialBasis(math.pi, 0.1, 10.0))
    x = torch.randn(batch, atoms, 3)
    differences, pairs = x.unsqueeze(1) - x.unsqueeze(2), ~torch.eye(atoms, dtype=torch.bool).repeat(batch, 1, 1)
    p = torch.randn(batch, atoms, atoms, width, requires_grad=True)
    some = (slice(0, 1), slice(0, 6), slice(0, 6))
    for warm in (None, 1):  # once each way, so that what they import is loaded
        layer(p[some], differences[some], pairs[some], warm).sum().backward()
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    value = layer(p, differences, pairs, chunk)
    value.square().mean().backward()
    seconds = time.process_time() - start
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return seconds, grown / 1024, [float(v) for v in value.detach().flatten()[:1000]]


def triplets(atoms: int = 90, width: int = 64, batch: int = 2) -> Row:
    """Triplet attention of GFMDiff, forward and backward: seconds and memory by chunk, each in a fresh process."""
    out: Row = {"molecules": batch, "atoms": atoms, "width": width}
    first: np.ndarray | None = None
    for chunk in (1, 4, 8, 16, None):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            seconds, grown, values = pool.apply(one_chunk, (chunk, atoms, width, batch))
        found = np.array(values)
        first = found if first is None else first
        out[f"chunk {chunk or atoms}"] = {
            "cpu_seconds": round(seconds, 2), "peak_mib": round(grown),
            "largest_difference_from_chunk_1": float(np.abs(found - first).max()),
        }  # fmt: skip
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description="What sampling molecules costs.")
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs = Runs(arguments.output, cache_folder() / "molecules")
    runs.change(lambda content: content.update(head("python -m benchmarks.molecules", __file__)))
    model = mo.GDSS.load(SHIPPED)
    runs.run("triplets", triplets)
    runs.run("rewards", lambda: rewards(model, 40))
    runs.run("recipe", lambda: recipes(model, arguments.samples))


if __name__ == "__main__":
    main()
