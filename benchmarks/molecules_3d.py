r"""GFMDiff with and without its loss on bonds, and EDM, on small molecules of QM9, at a budget that two cores can pay.

    python -m benchmarks.molecules_3d [--arms with without edm published] [--seeds 0 1 2] [--budget 1.0] [--work FOLDER]
        [--output FILE.json]

Every (arm, seed) is a run of its own, skipped where the results hold it; a training that was stopped goes on from its
checkpoint under `--work`. One thread a process.

*Data.* The molecules of QM9 (qm9pack) with at most 12 atoms, hydrogens included: the triplets of GFMDiff cost N^3.

*Models.* The presets "small", not the published sizes. GFMDiff: 322,368 parameters, 3,000 steps of 32 molecules, with
its loss on bonds ("with"), with that loss alone switched off ("without"), and with its published weight of .01 alpha_t
instead of the preset's alpha_t^8 ("published"): the same seeds, batches and noise. EDM: 151,434 parameters, 6,000 steps
of 32. Learning rates fall as a cosine; weights are averaged.

*What is measured.* 500 molecules at 250 ancestral steps: atom and molecule stability of EDM (bond orders by distance),
validity, one piece, uniqueness; beside them the same scores of real molecules.
"""

from __future__ import annotations

import time
import warnings
from functools import cache
from pathlib import Path

import torch

from scidiffuse import molecules as mo
from scidiffuse.benchmarks.common.arms import options, over_seeds, trained
from scidiffuse.benchmarks.common.qm9 import head, percent
from scidiffuse.benchmarks.common.runs import Row, Runs
from scidiffuse.core.datasets import cache_folder

RESULTS = Path(__file__).parent / "results" / "molecules_3d.json"
LARGEST = 12
SAMPLES, CALLS = 500, 250
ARMS: dict[str, tuple[type, int, Row]] = {
    "with": (mo.GFMDiff, 3_000, {}),
    "without": (mo.GFMDiff, 3_000, {"gf_weight": 0.0}),
    "edm": (mo.EDM, 6_000, {}),
    "published": (mo.GFMDiff, 3_000, {"gf_weight": 0.01, "gf_power": 1.0}),
}


@cache
def atoms() -> mo.Atoms:
    """Molecules of QM9 of at most 12 atoms, their arrays as small as that."""
    file = cache_folder() / f"qm9-atoms-{LARGEST}.npz"
    if file.exists():
        return mo.Atoms.load(file)
    whole = mo.qm9_atoms()
    some = whole[whole.num_atoms <= LARGEST]
    last = int((some.mask * torch.arange(1, some.mask.shape[1] + 1)).max())
    small = mo.Atoms(
        some.positions[:, :last], some.numbers[:, :last], some.charges[:, :last], some.mask[:, :last], ids=some.ids,
        smiles=some.smiles,
    )  # fmt: skip
    small.save(file)
    return small


def run(arm: str, seed: int, runs: Runs) -> Row:
    """One run."""
    system, full, settings = ARMS[arm]
    steps = max(1, round(full * runs.budget))
    folder = runs.work / f"{arm}-{steps}-{seed}"
    start = time.process_time()
    model = trained(
        folder, lambda: system.for_dataset(atoms(), "small", **settings),  # type: ignore[attr-defined]
        atoms(), max_steps=steps, batch_size=32, seed=seed, save_every=250,
    )  # fmt: skip
    out: Row = {"cpu_seconds_training": round(time.process_time() - start, 1), "training_molecules": len(atoms())}
    start = time.process_time()
    found = model.sample(SAMPLES, steps=CALLS, seed=seed, max_batch=100)
    out["cpu_seconds_sampling"] = round(time.process_time() - start, 1)
    return out | {name: percent(score) for name, score in found.report.items()}


def real() -> Row:
    """The scores of real molecules."""
    part = atoms()[torch.randperm(len(atoms()), generator=torch.Generator().manual_seed(0))[:SAMPLES]]
    scores = mo.stability(part.numbers.numpy(), part.positions.numpy(), part.mask.numpy())
    return {name: percent(score) for name, score in scores.items()}


def summary(found: Row) -> Row:
    """Mean and standard deviation over seeds."""
    return {arm: over_seeds([row for key, row in found.items() if key.startswith(f"{arm}/")]) for arm in ARMS}


def main() -> None:
    arguments = options("GFMDiff with and without its loss on bonds, and EDM.", ARMS, RESULTS)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning)
    runs = Runs(arguments.output, arguments.work, arguments.budget)
    runs.change(lambda content: content.update(head("python -m benchmarks.molecules_3d", __file__)))
    runs.run("real molecules", real)
    for seed in arguments.seeds:
        for arm in arguments.arms:
            runs.run(f"{arm}/{seed}", lambda a=arm, s=seed: run(a, s, runs))
    runs.change(lambda content: content.update(summary=summary(content["runs"])))
    for name, row in runs.read()["summary"].items():
        print(f"{name:10} {row}")


if __name__ == "__main__":
    main()
