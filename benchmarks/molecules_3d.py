r"""GFMDiff with and without its loss on bonds, and EDM, on small molecules of QM9, at a budget that two cores can pay.

    python -m benchmarks.molecules_3d [--arms headline scaffold with without edm published] [--seeds 0 1 2]
        [--budget 1.0] [--work FOLDER] [--output FILE.json]

Every (arm, seed) is a run of its own, skipped where the results hold it; a training that was stopped goes on from its
checkpoint under `--work`. One thread a process.

*Data.* The molecules of QM9 (qm9pack) with at most 12 atoms, hydrogens included: the triplets of GFMDiff cost N^3.

*The long run* ("headline", the first seed only). EDM "small" with 5 layers of 96, 32,000 steps of 32 molecules of at
most 14 atoms, all but 1,000 that are held out: the weights that ship as `edm-qm9`. 500 molecules at 1,000, 250 and 100
steps, with novelty, and, of the first 300, PoseBusters and strain; beside the same scores of those held out.

*A scaffold* ("scaffold", the first seed only): the weights that ship draw 200 molecules of 12 atoms around the carbons
of methylcyclopropane, each step taken 1, 2, 5 or 10 times at 250 network calls in all; beside them 200 free molecules
of 12 atoms.

*Ablation.* The presets "small", not the published sizes. GFMDiff: 322,368 parameters, 3,000 steps of 32 molecules,
without its loss on bonds ("without"), with it at the published weight of .01 alpha_t ("published"), and at a hundred
times that where noise is low, alpha_t^8 ("with"): the same seeds, batches and noise. EDM: 151,434 parameters, 6,000
steps of 32. Learning rates fall as a cosine; weights are averaged.

Of the ablation 500 molecules at 250 ancestral steps are measured: atom and molecule stability of EDM (bond orders by
distance), validity, one piece, uniqueness; beside them the same scores of real molecules.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from scidiffuse import molecules as mo
from scidiffuse.benchmarks.common.arms import options, over_seeds, trained
from scidiffuse.benchmarks.common.qm9 import head, percent
from scidiffuse.benchmarks.common.runs import Row, Runs
from scidiffuse.core.datasets import cache_folder
from scidiffuse.molecules.edm.samples import molecules_in

RESULTS = Path(__file__).parent / "results" / "molecules_3d.json"
LARGEST, HEADLINE_LARGEST, HELD = 12, 14, 1_000
SAMPLES, CALLS = 500, 250
HEADLINE_CALLS = (250, 100, 1000)
REPEATS = (1, 2, 5, 10)
CHECKED = 300  # PoseBusters takes half a second a molecule
ARMS: dict[str, tuple[type, int, Row]] = {
    "headline": (mo.EDM, 32_000, {"hidden": 96, "layers": 5, "lr": 1e-3}),
    "with": (mo.GFMDiff, 3_000, {"gf_weight": 1.0, "gf_power": 8.0}),
    "without": (mo.GFMDiff, 3_000, {"gf_weight": 0.0}),
    "edm": (mo.EDM, 6_000, {}),
    "published": (mo.GFMDiff, 3_000, {"gf_weight": 0.01, "gf_power": 1.0}),
}


@cache
def atoms(largest: int) -> mo.Atoms:
    """Molecules of QM9 of at most so many atoms, their arrays as small as that."""
    file = cache_folder() / f"qm9-atoms-{largest}.npz"
    if file.exists():
        return mo.Atoms.load(file)
    whole = mo.qm9_atoms()
    some = whole[whole.num_atoms <= largest]
    last = int((some.mask * torch.arange(1, some.mask.shape[1] + 1)).max())
    small = mo.Atoms(
        some.positions[:, :last], some.numbers[:, :last], some.charges[:, :last], some.mask[:, :last], ids=some.ids,
        smiles=some.smiles,
    )  # fmt: skip
    small.save(file)
    return small


def parts(largest: int) -> tuple[mo.Atoms, mo.Atoms]:
    """Molecules to train on and those held out, by a permutation of the seed 0."""
    whole = atoms(largest)
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))
    return whole[order[HELD:]], whole[order[:HELD]]


def run(arm: str, seed: int, runs: Runs, train: mo.Atoms) -> tuple[Any, Row]:
    """Train one model, or load it where that is done."""
    system, full, settings = ARMS[arm]
    steps = max(1, round(full * runs.budget))
    start = time.process_time()
    model = trained(
        runs.work / f"{arm}-{steps}-{seed}",
        lambda: system.for_dataset(train, "small", **settings),  # type: ignore[attr-defined]
        train, max_steps=steps, batch_size=32, seed=seed, save_every=250,
    )  # fmt: skip
    seconds = round(time.process_time() - start, 1)
    return model, {"cpu_seconds_training": seconds, "training_molecules": len(train)}


def sampled(model: Any, n: int, steps: int, seed: int) -> tuple[Any, Row]:
    """Samples, and what they cost and are worth."""
    start = time.process_time()
    found = model.sample(n, steps=steps, seed=seed, max_batch=100)
    row: Row = {"cpu_seconds_sampling": round(time.process_time() - start, 1)}
    return found, row | {name: percent(score) for name, score in found.report.items()}


def ablation(arm: str, seed: int, runs: Runs) -> Row:
    """One arm from one seed."""
    model, row = run(arm, seed, runs, atoms(LARGEST))
    return row | sampled(model, SAMPLES, CALLS, seed)[1]


def headline(seed: int, steps: int, runs: Runs) -> Row:
    """The long run, sampled in so many steps."""
    train, _ = parts(HEADLINE_LARGEST)
    model, row = run("headline", seed, runs, train)
    found, scores = sampled(model, SAMPLES, steps, seed)
    novel = percent(mo.novelty(found, train, stereo=False))
    return row | scores | {"novel": novel} | geometry(found.mols)


def scaffold(seed: int) -> Row:
    """Molecules around three carbons of a ring and one beside it, by how often each step is taken."""
    whole, model = atoms(HEADLINE_LARGEST), mo.load_model(mo.pretrained("edm-qm9"))
    one = whole[(whole.smiles or ()).index("CC1CC1")]
    heavy = one.mask & (one.numbers > 1)
    held = replace(one, mask=heavy, numbers=one.numbers * heavy)
    out: Row = {}
    for repeats in (0, *REPEATS):
        options: Row = {"scaffold": held, "scaffold_repeats": repeats} if repeats else {}
        found = model.sample(200, steps=CALLS // max(1, repeats), seed=seed, nodes=12, max_batch=100, **options)
        name = f"{repeats} times" if repeats else "free"
        out[name] = {"network_calls": found.info["network_calls"]}
        out[name] |= {name: percent(score) for name, score in found.report.items()}
    return out


def geometry(mols: list[Any]) -> Row:
    """PoseBusters and strain of the first ones; what is no molecule counts as failed, and has no strain."""
    scores = mo.posebusters(mols[:CHECKED]) | {"strain": mo.strain(mols[:CHECKED])}
    return {name: percent(score) for name, score in scores.items()}


def real(largest: int) -> Row:
    """The scores of real molecules, those held out."""
    _, held = parts(largest)
    scores = mo.stability(held.numbers.numpy(), held.positions.numpy(), held.mask.numpy())
    out = {name: percent(score) for name, score in scores.items()}
    return out | (geometry(molecules_in(held)[1]) if largest == HEADLINE_LARGEST else {})


def summary(found: Row) -> Row:
    """Mean and standard deviation over seeds."""
    rows = {arm: [row for key, row in found.items() if key.startswith(f"{arm}/")] for arm in ARMS if arm != "headline"}
    return {arm: over_seeds(some) for arm, some in rows.items()}


def main() -> None:
    arguments = options("GFMDiff with and without its loss on bonds, and EDM.", (*ARMS, "scaffold"), RESULTS)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning)
    runs = Runs(arguments.output, arguments.work, arguments.budget)
    runs.change(lambda content: content.update(head("python -m benchmarks.molecules_3d", __file__)))
    for largest in (LARGEST, HEADLINE_LARGEST):
        runs.run(f"real molecules of at most {largest} atoms", lambda n=largest: real(n))
    for seed in arguments.seeds:
        for arm in arguments.arms:
            if arm == "scaffold":
                if seed == arguments.seeds[0]:
                    runs.run(f"scaffold/{seed}", lambda s=seed: scaffold(s))
            elif arm != "headline":
                runs.run(f"{arm}/{seed}", lambda a=arm, s=seed: ablation(a, s, runs))
            elif seed == arguments.seeds[0]:
                for steps in HEADLINE_CALLS:
                    runs.run(f"headline/{seed}, {steps} steps", lambda s=seed, n=steps: headline(s, n, runs))
    runs.change(lambda content: content.update(summary=summary(content["runs"])))
    for name, row in runs.read()["summary"].items():
        print(f"{name:10} {row}")


if __name__ == "__main__":
    main()
