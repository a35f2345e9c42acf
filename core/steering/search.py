"""Search at inference time: the best of N, and what all searches share.

N. Ma et al., "Inference-time scaling for diffusion models beyond scaling denoising steps", 2025, section 3: a
*verifier* (any `Reward`, here asked about finished samples) and an *algorithm* that proposes starts. Random search runs
N independent starts and keeps the best by the verifier. It is the baseline that the other searches must beat at an
equal number of network evaluations, and it over-fits the verifier as they do: judge the outcome by another one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..grids import Grid, default
from ..noise import SlotNoise, keyed_generator
from ..sample import Result, prior, sample
from ..samplers.base import Sampler
from ..spaces import Space, default_space
from ..tree import Tree, batch_size, take, tree_map
from .rewards import Reward, evaluate, from_basis, repeat, to_basis

__all__ = ["SearchResult", "random_search"]


@dataclass(frozen=True)
class SearchResult:
    """What a search found for each of B samples.

    Attributes:
        x: the best samples (B, ...).
        score: their scores (B,), float64.
        start: the states that they began from, None where a sample has no single start.
        history: best score of each sample after each round, (rounds, B).
        scores: every score that was seen, in the order of the rounds: tensors (B, candidates of the round).
        calls: network calls (batched).
        evaluations: network evaluations for each returned sample, the cost to compare searches by.
    """

    x: Tree
    score: Tensor
    start: Tree | None
    history: Tensor
    scores: list[Tensor] = field(repr=False)
    calls: int
    evaluations: int


@dataclass(frozen=True)
class Problem:
    """A search's fixed parts: B samples, each with N candidates next to each other.

    Args as for `sample`; `options` go there unchanged.
    """

    denoiser: Any
    sampler: Sampler
    grid: Grid
    reward: Reward
    shape: Any
    seed: int
    condition: dict[str, Any] | None
    reference: Tree | None
    space: Space | None
    options: dict[str, Any]

    @classmethod
    def make(
        cls, denoiser: Any, sampler: Sampler, grid: Grid | None, reward: Reward, shape: Any, seed: int, condition: Any,
        reference: Tree | None, space: Space | None, options: dict[str, Any],
    ) -> Problem:  # fmt: skip
        """Check the arguments that all searches share.

        Raises:
            TypeError, ValueError: for arguments that do not fit.
        """
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise TypeError(f"a search draws its starts: seed must be an integer, got {type(seed).__name__}")
        if not callable(reward):
            raise TypeError(f"the reward must be callable, got {type(reward).__name__}")
        taken = sorted({"x", "state", "noise", "slots", "until"} & set(options))
        if taken:
            raise TypeError(f"a search decides on {taken[0]}= itself")
        steps = options.pop("steps", None)
        if grid is None:
            if steps is None:
                raise ValueError("give grid= or steps=")
            grid = default(denoiser.schedule, steps)
        elif steps is not None:
            raise ValueError("give grid= or steps=, not both")
        sampler.check(denoiser.schedule, space or denoiser.space or default_space(_empty(shape, 1)))
        return cls(denoiser, sampler, grid, reward, shape, seed, condition, reference, space or denoiser.space, options)

    @property
    def size(self) -> int:
        """B."""
        return batch_size(_empty(self.shape, 1))

    def space_of(self, candidates: int) -> Space:
        """The space of B N states."""
        if self.space is None:
            return default_space(_empty(self.shape, 1))
        return self.space.take(torch.arange(self.size).repeat_interleave(candidates))

    def reference_of(self, candidates: int) -> Tree | None:
        """The references of B N states."""
        return None if self.reference is None else repeat(self.reference, candidates)

    def starts(self, candidates: int, role: str = "", *counter: int) -> Tree:
        """B N draws of the prior; without a role those that `sample` itself draws from the seed."""
        seed = sub_seed(self.seed, role, *counter) if role else self.seed
        noise = SlotNoise(seed, range(self.size * candidates))
        dtype = self.options.get("dtype", torch.float32)
        real = dtype if dtype in (torch.float32, torch.float64) else torch.float32
        like = _empty(self.shape, candidates, real, self.options.get("device"))
        schedule, y = self.denoiser.schedule, self.reference_of(candidates)
        y = None if y is None else to_basis(schedule, y)
        return from_basis(schedule, prior(self.denoiser, like, self.grid.times[0], noise, self.space_of(candidates), y))

    def run(
        self, x: Tree, candidates: int, seed: int | None = None, grid: Grid | None = None, hooks: Any = ()
    ) -> Result:
        """Sample from B N states at the first time of the grid."""
        condition = self.condition and {
            name: repeat(v, candidates) if isinstance(v, Tensor) and v.ndim and v.shape[0] == self.size else v
            for name, v in self.condition.items()
        }
        options = dict(self.options)
        space = self.space_of(candidates) if self.space is not None else None
        denoiser = self.denoiser if space is None else self.denoiser.on(space)
        return sample(
            denoiser, self.sampler, grid or self.grid, x=x, condition=condition, space=space,
            reference=self.reference_of(candidates), seed=self.seed if seed is None else seed,
            hooks=(*options.pop("hooks", ()), *hooks), **options,
        )  # fmt: skip

    def score(self, x: Tree) -> Tensor:
        """Scores (B, N) of B N finished samples."""
        return evaluate(self.reward, x, None).view(self.size, -1)


def sub_seed(seed: int, role: str, *counter: int) -> int:
    """Another seed, determined by this one and what it is for."""
    return int(keyed_generator(seed, f"search/{role}", *counter).integers(2**62))


def best_of(x: Tree, scores: Tensor) -> tuple[Tree, Tensor, Tensor]:
    """The best of N candidates next to each other: states (B, ...), scores (B,), indices into the batch (B,)."""
    score, which = scores.max(1)
    index = torch.arange(len(scores), device=which.device) * scores.shape[1] + which
    return take(x, index), score, index


def at_least(name: str, value: int, least: int) -> None:
    """Refuse counts that are too small."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")


def _empty(shape: Any, times: int, dtype: torch.dtype = torch.float32, device: Any = None) -> Tree:
    def leaf(s: Any) -> Tensor:
        return torch.empty(s[0] * times, *s[1:], dtype=dtype, device=device)

    return {name: leaf(s) for name, s in shape.items()} if isinstance(shape, dict) else leaf(shape)


def random_search(
    denoiser: Any,
    sampler: Sampler,
    grid: Grid | None = None,
    *,
    reward: Reward,
    shape: Any,
    seed: int,
    candidates: int = 8,
    condition: dict[str, Any] | None = None,
    reference: Tree | None = None,
    space: Space | None = None,
    **options: Any,
) -> SearchResult:
    """The best of N independent samples, for each of B.

    Args:
        denoiser, sampler, grid: as for `sample`; any sampler.
        reward: the verifier, asked once about all B N samples (candidates of one sample next to each other); its step
            is None.
        shape: of the B samples to return.
        seed: any integer. N = 1 gives the samples of `sample(shape=shape, seed=seed)`.
        candidates: N, at least 2 to be of use.
        condition, reference, space: of the B samples; repeated here.
        options: further arguments of `sample` (steps, max_batch, dtype, ...).

    Raises:
        TypeError, ValueError: for arguments that do not fit; for scores that are not finite.
    """
    at_least("candidates", candidates, 1)
    problem = Problem.make(denoiser, sampler, grid, reward, shape, seed, condition, reference, space, options)
    start = problem.starts(candidates)
    result = problem.run(start, candidates)
    scores = problem.score(result.x)
    x, score, index = best_of(result.x, scores)
    kept = tree_map(lambda leaf: leaf[index], start)
    return SearchResult(x, score, kept, score[None], [scores], result.calls, result.calls * candidates)
