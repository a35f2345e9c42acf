r"""Search over paths: branch on the way instead of at the start.

N. Ma et al., "Inference-time scaling for diffusion models beyond scaling denoising steps", 2025, section 3 (search over
paths). N samples are brought to some level of the grid. Then, until the data end is reached: M copies of each are
re-noised by `forward` steps of the grid,

    x_t = a (x_s - beta_s y) + beta_t y + sqrt(sigma_t^2 - a^2 sigma_s^2) z,      a = alpha_t / alpha_s,

and denoised by `backward` > `forward` steps; the N best of the N M, by the verifier's score, go on. Scores on the way
are those of the data prediction that the last call made anyway: the verifier costs no network call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..grids import Grid
from ..hooks import Hook, Step
from ..noise import SlotNoise
from ..samplers.base import Sampler
from ..samplers.exponential import root
from ..samplers.state import State
from ..spaces import Space
from ..tree import Tree, take
from .rewards import Reward, from_basis, repeat, to_basis
from .search import Problem, SearchResult, at_least, best_of, sub_seed

__all__ = ["search_over_paths"]

Renoise = Callable[[Tree, float, float, Any], Tree]
"""(states, their level, the level to go back to, noise) -> states."""


class _Last(Hook):
    """The data prediction of the last call."""

    def __init__(self) -> None:
        self._data: Tree = None

    def on_start(self, state: State, space: Space) -> State:
        self._data = None
        return state

    def on_prediction(self, step: Step) -> Step:
        self._data = from_basis(step.schedule, step.pred.data)
        return step

    def records(self) -> dict[str, Any]:
        return {"last_data": [self._data]}

    def take(self, index: Any) -> Hook:
        return _Last()


def search_over_paths(
    denoiser: Any,
    sampler: Sampler,
    grid: Grid | None = None,
    *,
    reward: Reward,
    shape: Any,
    seed: int,
    paths: int = 2,
    branches: int = 2,
    begin: int | None = None,
    forward: int = 1,
    backward: int = 3,
    renoise: Renoise | None = None,
    condition: dict[str, Any] | None = None,
    reference: Tree | None = None,
    space: Space | None = None,
    **options: Any,
) -> SearchResult:
    """Re-noise a little, denoise a little more, keep the best, for each of B samples.

    Args:
        denoiser, sampler, grid: as for `sample`; any sampler, on a grid that descends.
        reward: the verifier; its step is None.
        shape: of the B samples to return.
        seed: any integer.
        paths: N, paths kept a sample.
        branches: M, re-noised copies of each path a round.
        begin: step of the grid at which branching begins; default a quarter of the grid.
        forward, backward: steps of the grid to go back and to denoise, 1 <= forward < backward, forward <= begin.
        renoise: instead of the formula above, for states that are no vectors.
        condition, reference, space: of the B samples; repeated here.
        options: further arguments of `sample`.

    Returns:
        A `SearchResult`; history holds the best score of each round (it may fall: re-noised paths are new samples); it
        ends with that of x.

    Raises:
        ValueError: for counts that do not fit the grid, or a Student-t schedule without `renoise`.
    """
    at_least("paths", paths, 1)
    at_least("branches", branches, 1)
    at_least("forward", forward, 1)
    problem = Problem.make(denoiser, sampler, grid, reward, shape, seed, condition, reference, space, options)
    times = problem.grid.times
    last = len(times) - 1
    begin = max(forward, last // 4) if begin is None else begin
    if backward <= forward:
        raise ValueError(f"backward={backward} must be larger than forward={forward}: paths would never arrive")
    if not forward <= begin <= last:
        raise ValueError(f"begin={begin} must lie between forward={forward} and the {last} steps of the grid")
    if renoise is None and denoiser.schedule.family != "gaussian":
        raise ValueError(
            "re-noising adds Gaussian noise, the schedule's is "
            f"{'Student-t' if denoiser.schedule.family == 'student' else 'that of tokens'}: give renoise= or use "
            "random_search"
        )
    if not times[0] > times[-1]:
        raise ValueError("search over paths goes from noise to data: the grid must descend")

    part = Grid(times[: begin + 1]) if begin < last else problem.grid
    hook = _Last()
    result = problem.run(problem.starts(paths), paths, sub_seed(seed, "begin"), part, (hook,))
    x, calls, evaluations = result.x, result.calls, result.calls * paths
    scores = [problem.score(x if begin == last else result.records["last_data"][0])]
    history = [scores[0].max(1).values]
    wide, k, draw = paths * branches, begin, 0
    while k < last:
        back, on = k - forward, min(k - forward + backward, last)
        noise = SlotNoise(sub_seed(seed, "renoise", draw), range(problem.size * wide))
        copies = repeat(x, branches)
        if renoise is not None:
            copies = renoise(copies, times[k], times[back], noise)
        else:
            y = problem.reference_of(wide)
            copies = _renoised(denoiser, problem.space_of(wide), copies, y, times[k], times[back], noise)
        result = problem.run(copies, wide, sub_seed(seed, "branch", draw), Grid(times[back : on + 1]), (hook,))
        calls, evaluations = calls + result.calls, evaluations + result.calls * wide
        scores.append(problem.score(result.x if on == last else result.records["last_data"][0]))
        best = scores[-1].topk(paths, 1)
        index = torch.arange(problem.size, device=best.indices.device)[:, None] * wide + best.indices
        x = take(result.x, index.reshape(-1))
        history.append(best.values[:, 0])
        k, draw = on, draw + 1
    final = scores[-1] if scores[-1].shape[1] == paths else scores[-1].topk(paths, 1).values
    x, score, _ = best_of(x, final)
    return SearchResult(x, score, None, torch.stack(history), scores, calls, evaluations)


def _renoised(
    denoiser: Any, space: Space, x: Tree, reference: Tree | None, s: float, t: float, noise: SlotNoise
) -> Tree:
    """From level s back to t > s by the forward kernel."""
    schedule = denoiser.schedule
    x, reference = to_basis(schedule, x), None if reference is None else to_basis(schedule, reference)
    z = space.randn(noise, x, 0, "renoise")

    def leaf(schedule: Any, x: Tensor, z: Tensor, y: Tensor | None) -> Tensor:
        a = schedule.alpha(t) / schedule.alpha(s)
        sd = root(schedule.sigma(t) ** 2 - a * a * schedule.sigma(s) ** 2)
        terms = [(a, x), (sd, z)] + ([] if y is None else [(schedule.beta(t) - a * schedule.beta(s), y)])
        return sum((c.to(v) if isinstance(c, Tensor) else c) * v for c, v in terms)  # type: ignore[return-value]

    return from_basis(schedule, denoiser.leafwise(leaf, x, z, reference))
