r"""Zero-order search: walk from start to better start, by the verifier's word alone.

N. Ma et al., "Inference-time scaling for diffusion models beyond scaling denoising steps", 2025, section 3 (zero-order
search). A pivot start n; in each round N neighbours

    n_j = (n + rho z_j) / sqrt(1 + rho^2),     z_j independent draws of the prior,

each of which has the prior's law if n does (a fixed Euclidean step would leave the shell on which the prior lives). The
best of the neighbours and the pivot is the next pivot, so the best score never falls. The start must determine the
sample: deterministic samplers only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..grids import Grid
from ..samplers.base import Sampler
from ..spaces import Space
from ..tree import Tree
from .rewards import Reward, from_basis, repeat, to_basis
from .search import Problem, SearchResult, at_least, best_of

__all__ = ["zero_order_search"]


def zero_order_search(
    denoiser: Any,
    sampler: Sampler,
    grid: Grid | None = None,
    *,
    reward: Reward,
    shape: Any,
    seed: int,
    rounds: int = 4,
    neighbours: int = 4,
    radius: float = 0.3,
    neighbour: Callable[[Tree, Tree], Tree] | None = None,
    condition: dict[str, Any] | None = None,
    reference: Tree | None = None,
    space: Space | None = None,
    **options: Any,
) -> SearchResult:
    """Search the neighbourhood of the best start so far, for each of B samples.

    Args:
        denoiser, sampler, grid: as for `sample`; the sampler must be deterministic.
        reward: the verifier, asked about all samples of a round at once; its step is None.
        shape: of the B samples to return.
        seed: any integer.
        rounds: rounds after the first start; each runs `neighbours` starts a sample.
        neighbours: N.
        radius: rho, size of a step relative to the prior.
        neighbour: (pivots, fresh draws of the prior) -> new starts, instead of the formula above, for states that are
            no vectors.
        condition, reference, space: of the B samples; repeated here.
        options: further arguments of `sample`.

    Returns:
        A `SearchResult`; history has rounds + 1 rows and never falls; evaluations are calls (1 + rounds N).

    Raises:
        ValueError: for a stochastic sampler, a radius that is not positive, or Student-t noise without `neighbour`.
    """
    if sampler.stochastic:
        raise ValueError(
            f"{sampler!r} is stochastic: a start does not determine its sample, and a better start means nothing. Use "
            "a deterministic sampler such as DDIM(), or steer with FeynmanKac, SVDD or random_search"
        )
    at_least("rounds", rounds, 1)
    at_least("neighbours", neighbours, 1)
    if not (math.isfinite(radius) and radius > 0.0):
        raise ValueError(f"radius must be positive and finite, got {radius}")
    problem = Problem.make(denoiser, sampler, grid, reward, shape, seed, condition, reference, space, options)
    if neighbour is None and denoiser.schedule.family != "gaussian":
        raise ValueError("neighbours of Student-t noise are not Student-t noise: give neighbour=, or use random_search")

    pivot = problem.starts(1)
    result = problem.run(pivot, 1)
    x, calls, evaluations = result.x, result.calls, result.calls
    scores = [problem.score(x)]
    score = scores[0][:, 0]
    history = [score]
    wide = problem.space_of(neighbours)
    for k in range(rounds):
        fresh = problem.starts(neighbours, "neighbour", k)
        pivots = repeat(pivot, neighbours)
        if neighbour is not None:
            start = neighbour(pivots, fresh)
        else:
            mixed = _mixed(denoiser, pivots, fresh, problem.reference_of(neighbours), radius, problem.grid)
            start = wide.project(mixed)
        result = problem.run(start, neighbours)
        scores.append(problem.score(result.x))
        found, best, _ = best_of(result.x, scores[-1])
        better = best > score
        x = problem.space_of(1).where(better, found, x)
        pivot = problem.space_of(1).where(better, best_of(start, scores[-1])[0], pivot)
        score = torch.where(better, best, score)
        history.append(score)
        calls += result.calls
        evaluations += result.calls * neighbours
    return SearchResult(x, score, pivot, torch.stack(history), scores, calls, evaluations)


def _mixed(denoiser: Any, pivot: Tree, fresh: Tree, reference: Tree | None, radius: float, grid: Grid) -> Tree:
    """Neighbours with the prior's law; the reference's share beta y is left as it is."""
    schedule = denoiser.schedule
    pivot, fresh = to_basis(schedule, pivot), to_basis(schedule, fresh)
    reference = None if reference is None else to_basis(schedule, reference)
    c, s, t = 1.0 / math.hypot(1.0, radius), radius / math.hypot(1.0, radius), grid.times[0]

    def leaf(schedule: Any, n: Tensor, z: Tensor, y: Tensor | None) -> Tensor:
        x = c * n + s * z
        if y is None:
            return x
        beta = schedule.beta(t)
        return x + (1.0 - c - s) * (beta.to(y) if isinstance(beta, Tensor) else beta) * y

    return from_basis(schedule, denoiser.leafwise(leaf, pivot, fresh, reference))
