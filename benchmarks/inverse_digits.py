"""Inverse solvers with a trained network on real data: held-out handwritten digits, three measurements.

The network is the one in `core/assets/digits`, 16 held-out images, 4 samples of each, 50 steps, noise 0.05 on values in
[-1, 1], no class given. Settings are the defaults where not shown. `rmse` is that of the samples' mean; `spread` is the
root mean square of their standard deviation over the rmse, corrected for 4 samples, 1 where the spread tells the error;
`misfit` is |y - A x| over noise * sqrt(m), 1 where the samples explain the measurement as the truth does.
The pseudo-inverse is the baseline without a model.

    python benchmarks/inverse_digits.py      writes benchmarks/results/inverse_digits.json
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch

from scidiffuse.core.digits import NULL, digits, load
from scidiffuse.core.inverse import (
    DDNM,
    DDRM,
    DDS,
    DPS,
    MMPS,
    DiffPIR,
    FlowChef,
    PiGDM,
    RedDiff,
    Steered,
    reconstruct,
)
from scidiffuse.core.operators import Blur, Downsample, Mask

METHODS = [
    MMPS(1),
    MMPS(5),
    MMPS(16),
    PiGDM(0.5),
    DPS(0.5),
    DPS(1.0),
    DDS(5, 100.0),
    DDS(5, 3.0),
    DDRM(),
    DDNM(),
    DiffPIR(),
    DiffPIR(1.0, 1.0),
    RedDiff(),
    FlowChef(0.5),
    Steered(0.5),
]
NOISE, IMAGES, SAMPLES, STEPS = 0.05, 16, 4, 50


def main() -> None:
    torch.set_num_threads(1)
    denoiser, truth = load(), digits(held_out=True)[0][:IMAGES]
    generator = torch.Generator().manual_seed(0)
    operators = {
        "half of the pixels": Mask(torch.rand(1, 8, 8, generator=generator) < 0.5),
        "means of 2 x 2": Downsample((1, 8, 8), 2),
        "blur 3 x 3": Blur((1, 8, 8), torch.ones(3, 3) / 9),
    }
    rows = []
    for name, operator in operators.items():
        clean = operator(truth)
        y = operator.clean(clean + NOISE * torch.randn(clean.shape, generator=generator))
        baseline = float((operator.pinv(y) - truth).square().mean().sqrt())
        print(f"\n{name}: pseudo-inverse {baseline:.3f}")
        rows.append({"operator": name, "method": "pseudo-inverse", "rmse": round(baseline, 4)})
        for method in METHODS:
            start = time.perf_counter()
            run = reconstruct(
                denoiser,
                operator,
                y,
                noise=NOISE,
                method=method,
                samples=SAMPLES,
                steps=STEPS,
                seed=0,
                condition={"condition": torch.full((IMAGES,), NULL)},
            )
            rmse = float((run.mean - truth).square().mean().sqrt())
            row = {
                "operator": name,
                "method": repr(method),
                "rmse": round(rmse, 4),
                "spread": round(float(run.std.square().mean().mul(1 + 1 / SAMPLES).sqrt()) / rmse, 3),
                "misfit": round(float(run.misfit.mean()), 3),
                "calls": run.calls,
                "vjps": run.vjps,
                "seconds": round(time.perf_counter() - start, 2),
            }
            rows.append(row)
            print(f"{row['method'][:58]:60}{rmse:8.3f}{row['spread']:8.2f}{row['misfit']:8.2f}{row['seconds']:8.1f}s")
    out = Path(__file__).parent / "results" / "inverse_digits.json"
    out.write_text(json.dumps({"protocol": __doc__, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
