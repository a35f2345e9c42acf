r"""GDSS on QM9 and community-small, at a budget that two cores can pay.

    python -m benchmarks.molecules_gdss [--arms headline joint independent sequential community] [--seeds 0 1 2]
        [--budget 1.0] [--work FOLDER] [--output FILE.json]

Every (arm, seed) is a run of its own, skipped where the results hold it; a training that was stopped goes on from its
checkpoint under `--work`. One thread a process: start one process an arm for two cores.

*Data.* All of QM9 (qm9pack) but 10,000 molecules, which are the reference; atoms without charges, as published.
community-small: 100 graphs of SPECTRE's file, 80 for training, 20 for test.

*Models.* The published settings of each set, but for QM9 batches of 256 (published 1,024) and a learning rate that
decays to a tenth over the run (published .999 an epoch of 300); averaged weights.

    headline        the long run, 20,000 steps; 1,000 samples by predictor-corrector and by S4, 1,000 steps each, and at
                    equal numbers of network calls
    joint           8,000 steps; 1,000 samples by S4 and PC at 250 network calls
    independent     the same, each network blind to the other leaf
    sequential      the same, X first, then A under it
    community       5,000 steps (epochs); 1,000 steps of predictor-corrector and S4, 100 samples against the 20 test
                    graphs, beside the training graphs against the same
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import torch

from scidiffuse import molecules as mo
from scidiffuse.benchmarks.common.arms import options, over_seeds, trained
from scidiffuse.benchmarks.common.qm9 import graphs, head, percent
from scidiffuse.benchmarks.common.runs import Row, Runs

RESULTS = Path(__file__).parent / "results" / "molecules_gdss.json"
COUPLINGS = ("joint", "independent", "sequential")
ARMS = ("headline", *COUPLINGS, "community")
STEPS = {"headline": 20_000, "community": 5_000}  # others 8,000
SAMPLES = 1_000
CALLS = {  # sampler, steps: S4 asks each network once a step, the predictor-corrector twice
    "headline": (("s4", 1000), ("pc", 1000), ("pc", 500), ("s4", 200), ("pc", 100)),
    "ablation": (("s4", 250), ("pc", 125)),
    "community": (("pc", 1000), ("s4", 1000)),
}


def model_of(arm: str, seed: int, train: mo.Graphs, runs: Runs, **settings: Any) -> mo.GDSS:
    """The model of an arm and seed: loaded, trained on, or trained."""
    steps = max(1, round(STEPS.get(arm, 8_000) * runs.budget))
    folder = runs.work / f"{arm}-{steps}-{seed}"
    config: Row = {"coupling": arm} if arm in COUPLINGS else {}
    size = min(settings["batch_size"], len(train))
    if arm != "community":
        config["decay"] = 0.1 ** (len(train) / (steps * size))
    model: mo.GDSS = trained(
        folder, lambda: mo.GDSS.for_dataset(train, ema=0.999, **config),  # type: ignore[arg-type]
        train, max_steps=steps, seed=seed, save_every=500,
        batch_size=settings["batch_size"],
    )  # fmt: skip
    return model


def molecules(arm: str, seed: int, runs: Runs) -> Row:
    """A run on QM9."""
    train, held = graphs()
    start = time.process_time()
    model = model_of(arm, seed, train, runs, batch_size=256)
    out: Row = {"cpu_seconds_training": round(time.process_time() - start, 1)}
    for sampler, steps in CALLS["headline" if arm == "headline" else "ablation"]:
        out[f"{sampler} {steps}"] = sampled(model, sampler, steps, seed, train, held)
    return out


def sampled(model: mo.GDSS, sampler: str, steps: int, seed: int, train: mo.Graphs, held: mo.Graphs) -> Row:
    """Scores of 1,000 molecules; uniqueness, novelty and distances are of the corrected ones, as published."""
    start = time.process_time()
    found = model.sample(SAMPLES, sampler=sampler, steps=steps, seed=seed, max_batch=100)
    seconds = time.process_time() - start
    out: Row = {"network_calls_each": round(found.info["network_calls"]), "cpu_seconds": round(seconds, 1)}
    out |= {name: percent(score) for name, score in found.report.items()}
    scores = mo.evaluate(
        found.smiles, train=train.smiles, reference=held.smiles, suite="gdss", allow_small=True,
        fcd_reference=mo.fcd_statistics(held.smiles),
    )  # fmt: skip
    return out | {name: percent(score) for name, score in scores.items()}


def communities(seed: int, runs: Runs) -> Row:
    """A run on community-small."""
    whole = mo.load("spectre_community_small")
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))
    test, train = whole[order[:20]], whole[order[20:]]
    start = time.process_time()
    model = model_of("community", seed, train, runs, batch_size=128)
    out: Row = {
        "cpu_seconds_training": round(time.process_time() - start, 1),
        "train against test": distances(train, test),
    }
    for sampler, steps in CALLS["community"]:
        start = time.process_time()
        found = model.sample(100, sampler=sampler, steps=steps, seed=seed, max_batch=100)
        seconds = round(time.process_time() - start, 1)
        out[f"{sampler} {steps}"] = {"cpu_seconds": seconds} | distances(found.graphs, test)
    return out


def distances(made: mo.Graphs, test: mo.Graphs) -> Row:
    """MMDs by name, with both kernels of the field."""
    scores = {
        name: score
        for kernel in ("emd", "tv")
        for name, score in mo.graph_mmd(list(made.to_networkx()), list(test.to_networkx()), kernel=kernel).items()
    }
    return {
        name: {"value": round(s.value, 5), "low95": round(s.low, 5), "high95": round(s.high, 5), "n": s.n}
        for name, s in scores.items()
    }


def summary(found: Row) -> Row:
    """Mean and standard deviation over seeds, by arm and sampler."""
    out: Row = {}
    names = ("valid_uncorrected_gdss", "connected", "unique_all", "novel", "mmd_nspdk", "fcd_torch")
    for arm in ARMS:
        rows = [row for key, row in found.items() if key.startswith(f"{arm}/")]
        for sampler in sorted({k for row in rows for k, v in row.items() if isinstance(v, dict)}):
            tables = [row[sampler] for row in rows if sampler in row]
            keys = names if arm != "community" else [k for k in tables[0] if k.startswith("mmd")]
            out[f"{arm}, {sampler}"] = over_seeds(tables, keys)
    return out


def main() -> None:
    arguments = options("GDSS on QM9 and community-small.", ARMS, RESULTS)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message=".*FCD.*|.*biased.*")
    runs = Runs(arguments.output, arguments.work, arguments.budget)
    runs.change(lambda content: content.update(head("python -m benchmarks.molecules_gdss", __file__)))
    for seed in arguments.seeds:
        for arm in arguments.arms:
            if seed != arguments.seeds[0] and arm in ("headline", "community"):
                continue
            one = (lambda s=seed: communities(s, runs)) if arm == "community" else (
                lambda a=arm, s=seed: molecules(a, s, runs)
            )  # fmt: skip
            runs.run(f"{arm}/{seed}", one)
    runs.change(lambda content: content.update(summary=summary(content["runs"])))
    for name, row in runs.read()["summary"].items():
        print(f"{name:30} {row}")


if __name__ == "__main__":
    main()
