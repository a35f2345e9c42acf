"""The hallucination filter on the mode-interpolation experiments of S. Aithal, P. Maini, Z. Lipton and J. Z. Kolter,
"Understanding hallucinations in diffusion models through mode interpolation", NeurIPS 2024, sections 4 and 5.

    1-D   three Gaussians at 1, 2, 3 with standard deviation 0.05
    2-D   25 Gaussians on a 5 x 5 grid of spacing 2 with standard deviation 0.05, divided by 2.83

The process is theirs: T = 1000 betas, linear from 0.001 to 0.2, noise prediction, a network of three residual layers of
width 128, ancestral sampling with the larger variance. Training is shorter than theirs (10,000 epochs there), so there
are more hallucinations to find. A sample is *out of support* if it is further from every mode than `--radius` standard
deviations; nothing but this rule looks at the modes. Reported:

    removed   share of out-of-support samples that the filter removes
    kept      share of in-support samples that it keeps

at the fraction that balances the two (the best that a threshold can do), at the fraction that a user who knows the
share of hallucinations would choose, and as a curve; and the area under it (AUC).

    python benchmarks/hallucination.py             trains both models, writes benchmarks/results/hallucination.json
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from scidiffuse.core import DDPM, Denoiser, DiscreteBetas, Record, grids, sample
from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.diagnostics import TrajectoryVariance, keep, trajectory_variance, variance_of
from scidiffuse.core.training import Shifted, Streamed, Uniform, denoising_loss

SCHEDULE = DiscreteBetas.linear(1e-3, 0.2, 1000)


class Network(nn.Module):
    """Residual layers with a time embedding."""

    def __init__(self, dimension: int, width: int = 128, layers: int = 3) -> None:
        super().__init__()
        self.width = width
        self.first = nn.Linear(dimension, width)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU())
        self.layers = nn.ModuleList(
            nn.ModuleList([nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)])
            for _ in range(layers)
        )
        self.last = nn.Linear(width, dimension)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        half = self.width // 2
        rates = torch.exp(torch.arange(half, device=x.device) * (-math.log(1e4) / half))
        angles = label[:, None] * rates
        time_embedding = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        h = self.first(x)
        for norm, inner, outer in self.layers:
            h = h + outer(nn.functional.silu(inner(norm(h)) + time_embedding))
        return self.last(h)


@dataclass(frozen=True)
class Experiment:
    """One data set: modes (K, d), their standard deviation, and how long to train."""

    name: str
    modes: Tensor
    std: float
    steps: int

    def mixture(self) -> GaussianMixture:
        return GaussianMixture(self.modes, torch.full((len(self.modes),), self.std))

    def distance(self, x: Tensor) -> Tensor:
        """To the nearest mode in standard deviations, (B,)."""
        return torch.cdist(x.double(), self.modes.double()).min(1).values / self.std


def experiments(steps_1d: int, steps_2d: int) -> list[Experiment]:
    scale = math.sqrt(0.05**2 + 8.0)
    axis = torch.arange(-2.0, 3.0) * 2.0
    grid = torch.cartesian_prod(axis, axis) / scale
    return [
        Experiment("1-D, 3 modes", torch.tensor([[1.0], [2.0], [3.0]]), 0.05, steps_1d),
        Experiment("2-D, 5 x 5 grid", grid, 0.05 / scale, steps_2d),
    ]


def train(experiment: Experiment, batch: int, lr: float, seed: int) -> Denoiser:
    """The denoising loss of `core.training` in a plain loop, on 50,000 points."""
    generator = torch.Generator().manual_seed(seed)
    data = experiment.mixture().sample(50_000, generator).float()
    torch.manual_seed(seed)
    network = Network(data.shape[1])
    denoiser = Denoiser(network, SCHEDULE, "noise")
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, experiment.steps, 0.02 * lr)
    times = Shifted(Uniform(), 0.1)  # most of the 1000 steps are noise alone: train where the modes are decided
    for _ in range(experiment.steps):
        x0 = data[torch.randint(len(data), (batch,), generator=generator)]
        t = times.draw((batch,), generator)
        loss = denoising_loss(denoiser, x0, t, noise=Streamed(generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    return denoiser


def judge(scores: Tensor, out: Tensor) -> dict[str, float | list[list[float]]]:
    """Removed and kept shares over thresholds."""
    order = scores.argsort()
    inside = (~out[order]).double()
    kept = inside.cumsum(0) / inside.sum()
    removed = 1.0 - (1.0 - inside).cumsum(0) / (1.0 - inside).sum()
    best = int(torch.minimum(kept, removed).argmax())
    chosen = keep(scores, float((~out).double().mean()))
    at = [int((kept >= level).nonzero()[0]) for level in (0.5, 0.8, 0.9, 0.95, 0.99)]
    return {
        "removed": float(removed[best]),
        "kept": float(kept[best]),
        "fraction": (best + 1) / len(scores),
        "removed_at_known_share": float((~chosen & out).sum() / out.sum()),
        "kept_at_known_share": float((chosen & ~out).sum() / (~out).sum()),
        "auc": float((removed * inside).sum() / inside.sum()),
        "curve_kept_removed": [[round(float(kept[k]), 4), round(float(removed[k]), 4)] for k in at],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps-1d", type=int, default=10_000, help="training steps, 1-D")
    parser.add_argument("--steps-2d", type=int, default=12_000, help="training steps, 2-D")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--calls", type=int, default=1000, help="sampling steps")
    parser.add_argument("--radius", type=float, default=6.0, help="out of support beyond this many standard deviations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, default=None, help="keep trajectories here, for a look at other windows")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "hallucination.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for experiment in experiments(args.steps_1d, args.steps_2d):
        if experiment.steps == 0:
            continue
        start = time.process_time()
        denoiser = train(experiment, args.batch, args.lr, args.seed)
        trained = time.process_time() - start
        print(f"{experiment.name}: trained in {trained:.0f} s of processor time", flush=True)
        shape = (args.samples, experiment.modes.shape[1])
        grid = grids.discrete(SCHEDULE, args.calls, "trailing")
        hooks = [Record(what=("data",))] if args.save else [TrajectoryVariance(last=10)]
        result = sample(denoiser, DDPM("large"), grid, shape=shape, seed=args.seed + 1, hooks=hooks)
        if args.save:
            torch.save(
                {"x": result.x, "d": torch.stack(result.records["data"][-250:]), "t": grid.times}, f"{args.save}_{shape[1]}.pt"
            )
            scores = variance_of(result.records["data"], last=10)
        else:
            scores = trajectory_variance(result)
        print(f"sampled {time.process_time() - start - trained:.0f} s")
        distance = experiment.distance(result.x)
        for radius in (3.0, 4.0, 5.0, 6.0, 8.0):
            out = distance > radius
            row = {"name": experiment.name, "radius": radius, "out": float(out.double().mean()), **judge(scores, out)}
            rows.append(row)
            print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
    if not args.save:
        args.out.write_text(json.dumps({"machine": platform.machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
