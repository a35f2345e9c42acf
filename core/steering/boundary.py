r"""Optimal boundary conditions: one good start noise for every input.

Y. Ma et al., "Solving diffusion ODEs with optimal boundary conditions for better image super-resolution", ICLR 2024,
section 3: a deterministic sampler is a function x_0 = h(n, y) of its start noise n and its input y (condition or
reference). The best noise depends little on the input: K shared noises are tried on R pairs of the training data,

    n* = argmax_k (1/R) sum_i score(h(n_k, y_i), i),

and n* serves for all other inputs, at no further cost. What is gained on held-out inputs must be measured there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..grids import Grid
from ..noise import SlotNoise, family_noise
from ..sample import prior_from
from ..samplers.base import Sampler
from ..spaces import Space
from ..tree import Tree, cat, take, tree_map
from .rewards import Reward, evaluate, from_basis, to_basis
from .search import Problem, at_least

__all__ = ["BoundaryResult", "boundary_search"]


@dataclass(frozen=True)
class BoundaryResult:
    """The shared start that did best.

    Attributes:
        noise: n*, (1, ...).
        best: k of n*.
        scores: of each noise on each pair, (K, R), float64.
        calls: network calls (batched).
    """

    noise: Tree
    best: int
    scores: Tensor = field(repr=False)
    calls: int
    _denoiser: Any = field(repr=False)
    _t: float = field(repr=False)

    def start(self, batch: int, reference: Tree | None = None, space: Space | None = None) -> Tree:
        """The start for other inputs: `sample(..., x=result.start(batch))`, (batch, ...).

        Args:
            batch: number of inputs.
            reference: their references, for restoration schedules.
            space: their space, where it has masks.
        """
        noise = tree_map(lambda leaf: leaf.expand(batch, *leaf.shape[1:]).clone(), self.noise)
        return _start(self._denoiser, noise if space is None else space.project(noise), self._t, reference)


def _start(denoiser: Any, noise: Tree, t: float, reference: Tree | None) -> Tree:
    """States of the prior at time t for given noise, in the data's coordinates."""
    schedule = denoiser.schedule
    reference = None if reference is None else to_basis(schedule, reference)
    return from_basis(schedule, prior_from(denoiser, noise, t, reference))


def boundary_search(
    denoiser: Any,
    sampler: Sampler,
    grid: Grid | None = None,
    *,
    reward: Reward,
    shape: Any,
    seed: int,
    candidates: int = 16,
    condition: dict[str, Any] | None = None,
    reference: Tree | None = None,
    space: Space | None = None,
    **options: Any,
) -> BoundaryResult:
    """The best of K start noises on R training inputs.

    Args:
        denoiser, sampler, grid: as for `sample`; the sampler must be deterministic.
        reward: asked K times about the R results (R, ...) of one noise, in the order of the inputs (so it may compare
            them with R targets); its step is None.
        shape: (R, ...), of the results for the R inputs.
        seed: any integer.
        candidates: K, at least 2.
        condition, reference, space: of the R inputs.
        options: further arguments of `sample` (steps, max_batch, dtype, ...).

    Raises:
        ValueError: for a stochastic sampler, K < 2, or scores that are not finite or not of shape (R,).
    """
    if sampler.stochastic:
        raise ValueError(
            f"{sampler!r} is stochastic: its result is no function of the start; use a deterministic one such as DDIM()"
        )
    at_least("candidates", candidates, 2)
    problem = Problem.make(denoiser, sampler, grid, reward, shape, seed, condition, reference, space, options)
    pairs, t = problem.size, problem.grid.times[0]
    one = problem.space_of(1).take(torch.tensor([0]))
    like = tree_map(lambda leaf: leaf[:1], problem.starts(1))
    keyed = [SlotNoise(seed, range(k, k + 1)) for k in range(candidates)]
    noises = [family_noise(denoiser.schedule, one, noise, like, 0, "prior") for noise in keyed]
    # candidates of one input stand next to each other, as in every search
    wide = tree_map(lambda leaf: leaf.repeat(pairs, *[1] * (leaf.ndim - 1)), cat(noises))
    wide = problem.space_of(candidates).project(wide)
    result = problem.run(_start(denoiser, wide, t, problem.reference_of(candidates)), candidates)
    scores = torch.stack(
        [
            evaluate(reward, take(result.x, slice(k, None, candidates)), None, name=f"reward on noise {k}")
            for k in range(candidates)
        ]
    )
    best = int(scores.mean(1).argmax())
    return BoundaryResult(noises[best], best, scores, result.calls, denoiser, t)
