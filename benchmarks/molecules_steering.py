r"""QED of molecules by SVDD and by Feynman-Kac steering of GDSS, beside best-of-N at equal network calls.

    python -m benchmarks.molecules_steering [--model FOLDER] [--samples 100] [--seeds 0 1 2] [--output FILE.json]

The model is the shipped one (GDSS on QM9) unless `--model` names another. With M candidates (SVDD, the best is kept:
alpha = 0) or M walkers (Feynman-Kac, lambda = 30), 100 steps of reverse diffusion without corrector, a sample costs
100 M network calls. Best-of-N draws M molecules for that by S4, 100 steps, which makes better molecules, and keeps the
one of the highest QED. "with corrector" is SVDD with the published sampler, S4 with the Langevin corrector. The mean is
over samples that are molecules; `molecules` says how many are, `valid` how many needed no correction.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scidiffuse import molecules as mo
from scidiffuse.benchmarks.common.qm9 import head
from scidiffuse.benchmarks.common.runs import Row, Runs
from scidiffuse.core.datasets import cache_folder
from scidiffuse.core.scores import bootstrap
from scidiffuse.core.steering import SVDD, FeynmanKac
from scidiffuse.molecules.chem import canonical, qed

RESULTS = Path(__file__).parent / "results" / "molecules_steering.json"
SHIPPED = Path(mo.__file__).parent / "assets" / "gdss-qm9"
CANDIDATES = (1, 2, 5, 10)
METHODS = ("SVDD", "best of N", "Feynman-Kac", "with corrector")
STEPS = 100
SCALE = 30.0  # of the Feynman-Kac rewards


def scored(mols: list[Any], seconds: float, calls: int) -> Row:
    """Mean QED with a bootstrap interval over samples, and how many are molecules and different."""
    found = [m for m in mols if m is not None]
    values = np.array([qed(m) for m in found])
    low, high, _ = bootstrap(np.column_stack([values, np.ones(len(values))]), lambda s: s[:, 0] / s[:, 1])
    return {
        "mean_qed": round(float(values.mean()), 4), "low95": round(low, 4), "high95": round(high, 4),
        "molecules": f"{len(found)} of {len(mols)}", "different": len({canonical(m) for m in found}),
        "network_calls_each": calls, "cpu_seconds": round(seconds, 1),
    }  # fmt: skip


def run(model: mo.GDSS, method: str, m: int, samples: int, seed: int) -> Row:
    """One row: `samples` molecules at 100 m network calls each."""
    start = time.process_time()
    common: dict[str, Any] = {"steps": STEPS, "seed": seed, "max_batch": 200}
    if method in ("unguided", "best of N"):
        drawn = model.sample(samples * m, sampler="s4", **common).mols
        assert drawn is not None
        best = [max(drawn[i : i + m], key=lambda x: -1.0 if x is None else qed(x)) for i in range(0, samples * m, m)]
        return scored(best, time.process_time() - start, STEPS * m)
    steering = FeynmanKac(qed, m, SCALE) if method == "Feynman-Kac" else SVDD(qed, m, alpha=0.0)  # type: ignore[arg-type]
    sampler = {"sampler": "s4", "corrector": "langevin"} if method == "with corrector" else {"sampler": "pc"}
    out = model.sample(samples, steering=steering, **sampler, **common)
    assert out.mols is not None
    row = scored(out.mols, time.process_time() - start, out.info["network_calls"])
    return row | {"valid": round(out.report["valid_uncorrected_gdss"].value, 3)}


def summary(found: Row) -> Row:
    """Mean and standard deviation over seeds."""
    out: Row = {}
    for key, row in found.items():
        out.setdefault(key.rsplit("/", 1)[0], []).append(row["mean_qed"])
    return {
        k: {"seeds": len(v), "mean_qed": [round(float(np.mean(v)), 4), round(float(np.std(v)), 4)]}
        for k, v in out.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Steering of GDSS by QED.")
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = mo.GDSS.load(arguments.model)
    runs = Runs(arguments.output, cache_folder() / "molecules_steering")
    runs.change(lambda content: content.update(head("python -m benchmarks.molecules_steering", __file__)))
    for seed in arguments.seeds:
        for m in CANDIDATES:
            for method in METHODS if m > 1 else ("unguided",):
                key = f"{method}, {m:02d}/{seed}"
                runs.run(key, lambda k=method, m=m, s=seed: run(model, k, m, arguments.samples, s))
    runs.change(lambda content: content.update(samples=arguments.samples, summary=summary(content["runs"])))
    for name, row in runs.read()["summary"].items():
        print(f"{name:20} {row}")


if __name__ == "__main__":
    main()
