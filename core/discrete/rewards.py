r"""Rewards of tokens on the way: asked about draws of the prediction instead of its mode.

Steering asks a reward about the data prediction. For tokens that is the mode of p(x_0^i | x_t), token by token: where
most of a sequence is masked the mode is the same for all walkers, and often no likely sequence at all. What the way
should be judged by is the soft value

    v(x_t) = (1 / lambda) log E[exp(lambda r(x_0)) | x_t],

which draws of the factorised prediction estimate, with whatever it misses, at no further network call. Weights remain
exact for every estimate, since they telescope to the reward of the finished sample (`core.steering`). It pays for
masked sequences and rewards that tilt much; in uniform processes, where every state has values, the mode does about as
well. Few draws of a steep reward are a noisy value: samples come closer to the target, but weights may vary more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ..hooks import Step
from ..steering.rewards import Reward, evaluate
from ..tree import Tree

__all__ = ["OverDraws"]


@dataclass(frozen=True)
class OverDraws:
    """A reward of finished tokens, made one of predictions: asked about whole sequences drawn from p(x_0 | x_t).

    Args:
        reward: see `core.steering.Reward`; asked `draws` times a step, each time about (B, L, ...) in the order of the
            batch. Finished samples are asked about plainly.
        draws: sequences drawn for each prediction, at least 1.
        kind: "log_mean_exp", the soft value above, or "mean", E[r(x_0) | x_t].
        lam: lambda of the soft value: that of `FeynmanKac`, or 1 / alpha of `SVDD`; not 0.
        name: of the draws; two rewards of one run with the same name see the same sequences.

    Raises:
        ValueError: for fewer than one draw, an unknown kind, or a lambda that is zero or not finite.
    """

    reward: Reward
    draws: int = 8
    kind: Literal["log_mean_exp", "mean"] = "log_mean_exp"
    lam: float = 1.0
    name: str = "reward"

    def __post_init__(self) -> None:
        if not callable(self.reward):
            raise TypeError(f"the reward must be callable, got {type(self.reward).__name__}")
        if isinstance(self.draws, bool) or not isinstance(self.draws, int) or self.draws < 1:
            raise ValueError(f"draws must be an integer >= 1, got {self.draws!r}")
        if self.kind not in ("log_mean_exp", "mean"):
            raise ValueError(f'kind must be "log_mean_exp" or "mean", got {self.kind!r}')
        if not math.isfinite(self.lam) or self.lam == 0.0:
            raise ValueError(f"lam scales the reward in the exponent: finite and not 0, got {self.lam}")

    def __call__(self, data: Tree, step: Step | None) -> Any:
        if step is None or step.new is not None:  # finished
            return self.reward(data, step)
        if step.noise is None:
            raise ValueError("draws come from the run's noise, this step carries none: run it through sample()")
        given: Any = step.pred
        pred = given.with_log_probs(given.log_probs)  # once, for all draws
        values = []
        for j in range(self.draws):
            x0 = pred.draw(step.noise, step.space, step.state.draws, f"{self.name}/{j}")
            values.append(evaluate(self.reward, x0, step))
        r: Tensor = torch.stack(values)
        if self.kind == "mean":
            return r.mean(0)
        return ((self.lam * r).logsumexp(0) - math.log(self.draws)) / self.lam
