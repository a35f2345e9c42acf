"""Steering on a model of real data: the small denoiser of handwritten digits, steered to one class by a judge's word.

    python -m benchmarks.steering [--output benchmarks/results/steering.json]

The denoiser is asked unconditionally (class label "any"). The reward is log p(target | x) of quadratic discriminant
analysis on the *training* images. What is reported is judged by two things that no method was told: the share of
samples that a second judge assigns to the target (nearest class mean on the *held-out* images), and log p(x, target)
of the first judge up to a constant, which falls when samples leave the digits. Every row says what it costs in network
evaluations a returned sample; "none" and "condition" (the denoiser's own class label) are the ends of the scale.

The boundary search has no target: its reward is closeness of a class-conditional sample to a training image of that
class, on 30 pairs, and it is reported on 30 held-out pairs beside the mean over the noises it did not choose.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scidiffuse.core import DDIM, DDPM, sample
from scidiffuse.core.digits import NULL, QDA, digits, load
from scidiffuse.core.steering import (
    FeynmanKac,
    boundary_search,
    random_search,
    search_over_paths,
    svdd,
    zero_order_search,
)

RESULTS = Path(__file__).parent / "results" / "steering.json"
STEPS, SIZE, SEED = 30, 40, 0


class Judges:
    """The reward's judge and the one that is kept aside."""

    def __init__(self) -> None:
        x, c = digits()
        held, labels = digits(held_out=True)
        self.qda = QDA(x, c)
        self.means = torch.stack([held[labels == k].mean(0).flatten() for k in range(10)])

    def reward(self, target: int) -> Any:
        """log p(target | x)."""
        return lambda x, step: self.qda.log_posterior(x)[:, target]

    def report(self, x: Tensor, target: int) -> dict[str, float]:
        """What the module's docstring names, as means over the samples."""
        nearest = torch.cdist(x.flatten(1), self.means).argmin(1)
        return {
            "log_posterior": float(self.qda.log_posterior(x)[:, target].mean()),
            "share_by_other_judge": float((nearest == target).float().mean()),
            "log_joint": float(self.qda.log_joint(x)[:, target].mean()),
            "distinct": len({tuple(row) for row in x.flatten(1).mul(1e4).round().long().tolist()}) / len(x),
        }


def anything(size: int, label: int = NULL) -> dict[str, Any]:
    return {"condition": torch.full((size,), label)}


def steered(target: int, judges: Judges, size: int = SIZE, steps: int = STEPS, walkers: int = 8) -> dict[str, Any]:
    """Every method on one target class: {method: (samples, network evaluations a sample)}."""
    denoiser, reward = load(), judges.reward(target)
    shape, common = (size, 1, 8, 8), {"steps": steps, "seed": SEED}
    plain = sample(denoiser, DDPM(), shape=shape, condition=anything(size), **common)
    own = sample(denoiser, DDPM(), shape=shape, condition=anything(size, target), **common)
    out: dict[str, Any] = {"none": (plain.x, steps), "condition": (own.x, steps)}
    many = (size * walkers, 1, 8, 8)
    for potential in ("difference", "max", "sum"):
        lam = 0.2 if potential == "sum" else 1.0
        hook = FeynmanKac(reward, walkers, lam, potential)
        result = sample(denoiser, DDPM(), shape=many, condition=anything(size * walkers), hooks=[hook], **common)
        out[f"feynman_kac_{potential}"] = (result.x[::walkers], steps * walkers)
    problem: dict[str, Any] = {"reward": reward, "shape": shape, "condition": anything(size), **common}
    for alpha in (0.5, 0.0):
        result = svdd(denoiser, DDPM(), candidates=walkers, alpha=alpha, **problem)
        out[f"svdd_alpha_{alpha}"] = (result.x, result.records["svdd_evaluations"])
    best = random_search(denoiser, DDIM(), candidates=walkers, **problem)
    out["random_search"] = (best.x, best.evaluations)
    best = zero_order_search(denoiser, DDIM(), rounds=3, neighbours=2, radius=0.5, **problem)
    out["zero_order_search"] = (best.x, best.evaluations)
    best = search_over_paths(denoiser, DDIM(), paths=2, branches=2, begin=steps // 5, forward=2, backward=6, **problem)
    out["search_over_paths"] = (best.x, best.evaluations)
    return out


def boundary(pairs: int = 30, candidates: int = 24, steps: int = 10) -> dict[str, Any]:
    """One start noise for all: chosen on training pairs, judged on held-out ones."""
    denoiser = load()
    (x, c), (held, labels) = digits(), digits(held_out=True)

    def closeness(target: Tensor) -> Any:
        return lambda x, step: -(x - target).square().flatten(1).mean(1)

    def search(target: Tensor, label: Tensor) -> Any:
        return boundary_search(
            denoiser, DDIM(), steps=steps, reward=closeness(target), shape=(pairs, 1, 8, 8), seed=SEED,
            candidates=candidates, condition={"condition": label},
        )  # fmt: skip

    chosen = search(x[:pairs], c[:pairs])
    every = search(held[:pairs], labels[:pairs])  # the same noises on the held-out pairs
    mse = -every.scores.mean(1)
    return {
        "train_mse_best": float(-chosen.scores.mean(1).max()),
        "train_mse_mean": float(-chosen.scores.mean()),
        "held_out_mse_chosen": float(mse[chosen.best]),
        "held_out_mse_mean": float(mse.mean()),
        "held_out_mse_sd_over_noises": float(mse.std()),
        "held_out_rank_of_chosen": int((mse < mse[chosen.best]).sum()) + 1,
        "noises": candidates,
        "pairs": pairs,
        "network_calls": chosen.calls,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    judges = Judges()
    table: dict[str, dict[str, float]] = {}
    targets = (3, 8)
    for target in targets:
        for method, (x, evaluations) in steered(target, judges).items():
            row = table.setdefault(method, {"evaluations_a_sample": float(evaluations)})
            for name, value in judges.report(x, target).items():
                row[name] = row.get(name, 0.0) + value / len(targets)
    held, labels = digits(held_out=True)
    real = [judges.report(held[labels == t], t) for t in targets]
    table["held_out_images"] = {name: sum(r[name] for r in real) / len(real) for name in real[0]}
    start = time.process_time()
    shared = boundary()
    result = {
        "data": "scikit-learn load_digits, 8 x 8; denoiser core/assets/digits",
        "reward": "log p(target | x), quadratic discriminant analysis; targets 3 and 8, means over both",
        "samples_a_target": SIZE, "steps": STEPS, "walkers": 8, "seed": SEED,
        "methods": table, "boundary": shared, "boundary_cpu_seconds": round(time.process_time() - start, 2),
    }  # fmt: skip
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    columns = ("evaluations_a_sample", "log_posterior", "share_by_other_judge", "log_joint", "distinct")
    print("".join(f"{name:>24}" for name in ("method", *columns)))
    for method, row in table.items():
        print(f"{method:>24}" + "".join(f"{row.get(name, float('nan')):24.3f}" for name in columns))
    print(json.dumps(shared, indent=1))


if __name__ == "__main__":
    main()
