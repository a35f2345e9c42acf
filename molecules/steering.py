"""What steering by rewards of molecules has in common, whatever the states of a model are.

`SVDD` and `FeynmanKac` of the core know rewards of states; a user has one of molecules. A model wraps that into one of
its states, and after the run one walker of each group is what the user gets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..core.noise import SlotNoise
from ..core.steering import SVDD, FeynmanKac
from ..core.steering.resampling import pick, uniforms

__all__ = ["Steering", "choose", "with_reward"]

Steering = SVDD | FeynmanKac


def with_reward(steering: Any, wrap: Callable[[Any], Any]) -> Steering:
    """The hook that a run takes: `steering` with a reward of states, which `wrap` makes of its own one of molecules.

    Raises:
        TypeError: neither `SVDD` nor `FeynmanKac`.
        ValueError: a learned value.
    """
    if not isinstance(steering, SVDD | FeynmanKac):
        raise TypeError(
            f"steering must be core.steering.SVDD(reward, ...) or FeynmanKac(reward, walkers, ...), got {steering!r}"
        )
    if isinstance(steering, SVDD) and steering.value is not None:
        raise ValueError("a learned value sees states, not molecules: use core.steering.svdd on the model's denoiser")
    reward = wrap(steering.reward)
    if isinstance(steering, FeynmanKac):
        return replace(steering, reward=reward, final="weights")  # one walker a group is chosen by `choose`
    return replace(steering, reward=reward)


def choose(hook: Steering, aux: dict[str, Tensor], size: int, seed: int, role: str) -> Tensor:
    """Which walker of each group is returned, (n,) long, of `size` walkers; `role` keys the draw."""
    starts = torch.arange(0, size, hook.group)
    if isinstance(hook, SVDD):
        return starts  # all walkers of a group are copies of the one that was kept
    log_w = aux[f"{hook.name}_log_w"].cpu().view(-1, hook.group)
    u = uniforms(SlotNoise(seed, range(size)), torch.empty(size), hook.group, 0, f"{role}/choose")
    return starts + pick(log_w, u)
