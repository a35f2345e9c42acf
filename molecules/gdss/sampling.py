r"""How :mod:`.model` samples: node counts, grid, samplers, start, and what comes of it.

*Node counts* are drawn from the histogram of the training graphs; the count of sample i depends on (seed, i) alone.

*Grid.* Equal steps from 1 to t_end (1e-4), and a last one to the data, which adds no noise: with 1000 steps the times
that the published samplers visit. Under VP the published code takes its coefficients from a table of 1000 betas; the
core's reverse diffusion takes them from alpha between two times, which is the same to first order in the step. The
published Euler step goes on beyond the data by its full 1/1000, ours ends at them.

*Predictor-corrector* ("pc"): at every time a Langevin correction of X and A from one joint prediction, then a step of
the reverse SDE of both from another: two network calls a step. *S4*: one call for both, see `core.samplers.splitting`.

*Sequential.* X alone is sampled first, then quantised, then A is sampled under it, with the noise of its own leaf.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core import grids
from ...core.denoisers import Denoiser
from ...core.hooks import Hook
from ...core.noise import Noise, SlotNoise
from ...core.sample import Result, sample
from ...core.samplers import S4, PredictorCorrector
from ...core.samplers.base import Sampler
from ...core.schedules import ProductSchedule
from ...core.spaces import Graph, Masked
from ..data.graphs import Graphs
from ..training import time_itself
from .config import GDSSConfig
from .training import GraphScores, space_of

__all__ = ["Moments", "moments_of", "run", "sampler_of", "times_of"]

Moments = dict[str, list[float]]
"""Mean and variance of the training data: "X_mean", "X_var" (F), "A_mean", "A_var" (1)."""


def moments_of(graphs: Graphs) -> Moments:
    """Mean and variance of X over nodes, and of A over pairs of nodes."""
    x = torch.zeros(2, graphs[:1].X.shape[-1], dtype=torch.float64)
    a = torch.zeros(2, dtype=torch.float64)
    nodes = pairs = 0
    for first in range(0, len(graphs), 4096):
        part = graphs[first : first + 4096]
        X, A, n = part.X.double(), part.A.double(), part.num_nodes
        x += torch.stack([X.sum((0, 1)), X.square().sum((0, 1))])
        a += torch.stack([A.sum(), A.square().sum()])
        nodes += int(n.sum())
        pairs += int((n * (n - 1)).sum())
    out: Moments = {}
    for leaf, (mean, square) in {"X": x / nodes, "A": a[:, None] / max(1, pairs)}.items():
        out |= {f"{leaf}_mean": mean.tolist(), f"{leaf}_var": (square - mean.square()).clamp_min(0.0).tolist()}
    return out


def times_of(steps: int, t_end: float) -> grids.Grid:
    """The published grid; see the module.

    Raises:
        ValueError: steps < 1.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps must be a positive integer, got {steps!r}")
    inner = np.linspace(1.0, t_end, steps).tolist() if steps > 1 else [1.0]
    return grids.Grid((*inner, 0.0))


def sampler_of(config: GDSSConfig, sampler: str | Sampler | None) -> Sampler:
    """The sampler by name, with the settings of the model; or one of the core's, as it is.

    Raises:
        ValueError: an unknown name.
    """
    if isinstance(sampler, Sampler):
        return sampler
    name, corrects = sampler or config.sampler, config.corrector == "langevin"
    if name == "pc":
        return PredictorCorrector(
            config.predictor, config.corrector, config.snr, scale_eps=config.scale_eps, compat=config.compat
        )
    if name == "s4":
        return S4(config.snr if corrects else 0.0, config.scale_eps, compat=config.compat)
    raise ValueError(f"sampler must be 'pc', 's4' or a sampler of the core, got {sampler!r}")


@dataclass(frozen=True)
class _OfLeaf:
    """The noise that a leaf of a joint run would get, for a run of that leaf alone."""

    noise: Noise
    leaf: str

    def __call__(self, like: Tensor, draw: int, role: str) -> Tensor:
        return self.noise(like, draw, f"{role}/{self.leaf}")


def _start(
    schedule: ProductSchedule, moments: Moments, mask: Tensor, features: int, seed: int, dtype: torch.dtype
) -> dict[str, Tensor]:
    """States at t = 1 with the mean and variance that p_1 has in the training data."""
    size, n = mask.shape
    like = {"X": torch.zeros(size, n, features, dtype=dtype), "A": torch.zeros(size, n, n, dtype=dtype)}
    space = space_of(mask)
    z = space.randn(SlotNoise(seed, range(size)), like, 0, "prior")
    out = {}
    for leaf, own in schedule.leaves.items():
        mean, var = (torch.tensor(moments[f"{leaf}_{what}"], dtype=dtype) for what in ("mean", "var"))
        a, s = own.alpha(1.0), own.sigma(1.0)
        out[leaf] = a * mean + (a * a * var + s * s).sqrt() * z[leaf]
    projected: dict[str, Tensor] = space.project(out)
    return projected


def run(
    denoiser: Denoiser,
    config: GDSSConfig,
    mask: Tensor,
    features: int,
    moments: Moments,
    *,
    one_hot: bool,
    sampler: Sampler,
    steps: int,
    seed: int,
    max_batch: int | None,
    hooks: Sequence[Hook] = (),
    dtype: torch.dtype = torch.float32,
    progress: bool = False,
) -> Result:
    """Walk from noise to data for graphs with the nodes `mask` (B, N); X of the result has `features` columns.

    Args:
        one_hot: whether X is one-hot, and so quantised before A is drawn under it ("sequential").
    """
    size, n = mask.shape
    grid = times_of(steps, config.t_end)
    shape = {"X": (size, n, features), "A": (size, n, n)}
    start = None
    if config.start == "moments":
        start = _start(denoiser.schedule, moments, mask, features, seed, dtype)  # type: ignore[arg-type]
    common: dict[str, Any] = {"max_batch": max_batch, "hooks": hooks, "dtype": dtype, "progress": progress}
    if config.coupling != "sequential":
        begin = {"shape": shape} if start is None else {"x": start}
        return sample(
            denoiser, sampler, grid, space=space_of(mask), condition={"nodes": mask}, seed=seed, **begin, **common
        )

    network = denoiser.network
    assert isinstance(network, GraphScores)

    def alone(leaf: str, function: Any, space: Any, condition: dict[str, Tensor]) -> Result:
        schedule = denoiser.schedule.leaves[leaf]  # type: ignore[union-attr]
        begin = {"shape": shape[leaf]} if start is None else {"x": start[leaf]}
        return sample(
            Denoiser(function, schedule, "noise", label=time_itself), sampler, grid, space=space, condition=condition,
            noise=lambda slots: _OfLeaf(SlotNoise(seed, slots), leaf), **begin, **common,
        )  # fmt: skip

    first = alone("X", network.of_nodes, Masked(mask), {"nodes": mask})
    X = first.x
    given = torch.nn.functional.one_hot(X.argmax(-1), features).to(X) * mask[..., None] if one_hot else X
    second = alone("A", network.of_edges, Graph(mask), {"nodes": mask, "given": given})
    return Result({"X": given, "A": second.x}, second.state, {}, first.calls + second.calls)
