r"""PARD on QM9: blocks by a structural order against one block, at equal diffusion steps; DiGress beside them.

    python -m benchmarks.molecules_pard [--arms hops1 hops0 digress] [--seeds 0 1 2] [--budget 1.0] [--work FOLDER]
        [--output FILE.json]

Every (arm, seed) is a run of its own, skipped where the results hold it; a training that was stopped goes on from its
checkpoint under `--work`. One thread a process.

*Data.* QM9 but 10,000 molecules, heavy atoms, elements without charges (`benchmarks/common/qm9.py`).

*Models.* The preset "small" (not the published size), 3,000 steps of 64 molecules. The authors' ablation, at 140 steps
a graph: "hops0" diffuses the whole graph as one block in 140; "hops1" every block in 40, for the training graphs have
3.55 blocks in the mean.
DiGress: its preset "small", 140 steps of sampling, one seed.

*What is measured.* 1,000 molecules by the protocol of GDSS: valid without correction, in one piece, unique, novel,
NSPDK and FCD (of 1,000 molecules: biased upwards, alike for all) to the 10,000 held out.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import torch

from scidiffuse import molecules as mo
from scidiffuse.benchmarks.common.arms import options, over_seeds, trained
from scidiffuse.benchmarks.common.qm9 import graphs, head, percent
from scidiffuse.benchmarks.common.runs import Row, Runs

RESULTS = Path(__file__).parent / "results" / "molecules_pard.json"
SAMPLES, STEPS = 1_000, 3_000
ARMS: dict[str, tuple[type, Row, int]] = {  # system, settings, diffusion steps of sampling a block
    "hops1": (mo.PARD, {"max_hops": 1, "steps": 40}, 40),
    "hops0": (mo.PARD, {"max_hops": 0, "steps": 140}, 140),
    "digress": (mo.DiGress, {}, 140),
}


def run(arm: str, seed: int, runs: Runs) -> Row:
    """One run."""
    system, settings, calls = ARMS[arm]
    steps = max(1, round(STEPS * runs.budget))
    folder = runs.work / f"{arm}-{steps}-{seed}"
    train, held = graphs()
    start = time.process_time()
    model = trained(
        folder, lambda: system.for_dataset(train, "small", **settings),  # type: ignore[attr-defined]
        train, max_steps=steps, batch_size=64, seed=seed, save_every=250,
    )  # fmt: skip
    out: Row = {"cpu_seconds_training": round(time.process_time() - start, 1)}
    start = time.process_time()
    found = model.sample(SAMPLES, steps=calls, seed=seed, max_batch=250)
    out["cpu_seconds_sampling"] = round(time.process_time() - start, 1)
    out |= {k: round(float(found.info[k]), 2) for k in ("network_calls", "blocks") if k in found.info}
    out |= {name: percent(score) for name, score in found.report.items()}
    scores = mo.evaluate(
        found.smiles, train=train.smiles, reference=held.smiles, suite="gdss", allow_small=True,
        fcd_reference=mo.fcd_statistics(held.smiles),
    )  # fmt: skip
    return out | {name: percent(score) for name, score in scores.items()}


def summary(found: Row) -> Row:
    """Mean and standard deviation over seeds."""
    return {arm: over_seeds([row for key, row in found.items() if key.startswith(f"{arm}/")]) for arm in ARMS}


def main() -> None:
    arguments = options("PARD with and without its order, and DiGress.", ARMS, RESULTS)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning)
    runs = Runs(arguments.output, arguments.work, arguments.budget)
    runs.change(lambda content: content.update(head("python -m benchmarks.molecules_pard", __file__)))
    for seed in arguments.seeds:
        for arm in arguments.arms:
            if arm != "digress" or seed == arguments.seeds[0]:
                runs.run(f"{arm}/{seed}", lambda a=arm, s=seed: run(a, s, runs))
    runs.change(lambda content: content.update(summary=summary(content["runs"])))
    for name, row in runs.read()["summary"].items():
        print(f"{name:10} {row}")


if __name__ == "__main__":
    main()
