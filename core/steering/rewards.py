"""Rewards: asked safely, and named when they answer badly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..hooks import Step
from ..tree import Tree, batch_size, leaves, tree_map

__all__ = ["Reward", "evaluate", "from_basis", "pick_step", "repeat", "to_basis"]

Reward = Callable[[Tree, Step | None], Any]
"""(data prediction, step) -> (B,): finite, larger is better, on the scale of a log-weight.

The data are a tree, batch first, in their own coordinates (also under a schedule with a basis). The step is that of the
run (its time is `step.query.t`), or None where finished samples are judged outside of a run. The answer is a tensor, an
array or a sequence of B numbers. Rewards are called without gradients.
"""


def from_basis(schedule: Any, x: Tree) -> Tree:
    """States in the data's own coordinates."""
    return x if schedule.basis is None else schedule.basis.inverse(x)


def to_basis(schedule: Any, x: Tree) -> Tree:
    """Data in the coordinates in which the schedule acts."""
    return x if schedule.basis is None else schedule.basis.forward(x)


def when(step: Step | None) -> str:
    """The step in words."""
    if step is None:
        return "on finished samples"
    t = step.query.t
    if isinstance(t, Tensor):
        t = float(t.reshape(-1)[0])
    return f"at call {step.call} (t={t:.6g})"


def evaluate(reward: Reward, data: Tree, step: Step | None, *, offset: int = 0, name: str = "reward") -> Tensor:
    """Ask `reward` about `data`; the answer as float64 (B,) on the device of the data.

    Args:
        offset: index of the first walker in the whole run, for messages.
        name: what is asked, for messages.

    Raises:
        TypeError: if the answer cannot be read as numbers.
        ValueError: if it has not the shape (B,) or is not finite; the message names the walker and the step.
    """
    size, device = batch_size(data), leaves(data)[0].device
    answer = reward(data, step)
    try:
        values = torch.as_tensor(answer).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"the {name} must return a tensor or {size} numbers, one a walker; {when(step)} it returned a "
            f"{type(answer).__name__}"
        ) from error
    if values.shape != (size,):
        raise ValueError(
            f"the {name} must return shape ({size},), one number a walker (first walker {offset}); "
            f"{when(step)} it returned {tuple(values.shape)}"
        )
    values = values.to(device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)
    bad = (~torch.isfinite(values)).nonzero().flatten().tolist()
    if bad:
        raise ValueError(
            f"the {name} of walker {offset + bad[0]} is {values[bad[0]].item()} {when(step)} ({len(bad)} of {size} "
            "walkers are not finite); give a large negative number instead of -inf, and check it on noisy predictions"
        )
    return values


def pick_step(step: Step, index: Tensor, aux: dict[str, Tensor] | None = None) -> Step:
    """The step with its walkers replaced by the walkers `index`: state, query and prediction, but not the noise.

    The noise of a step belongs to the slot, not to the walker: copies of one walker part again at the next noise.
    """

    def take(value: Any) -> Any:
        return value[index] if isinstance(value, Tensor) and value.ndim else value

    state = step.state if aux is None else replace(step.state, aux={**step.state.aux, **aux})
    state = state.take(index)
    query = step.query._replace(
        x=tree_map(lambda v: v[index], step.query.x), t=take(step.query.t), label=take(step.query.label), state=state
    )
    return replace(step, state=state, query=query, pred=step.pred.take(index))


def repeat(tree: Any, walkers: int) -> Any:
    """Each sample `walkers` times, next to each other: conditions and references for groups of walkers.

    Args:
        tree: a tensor (B, ...), or a dictionary of those; other values of a dictionary are kept.
        walkers: size of a group.
    """

    def leaf(value: Any) -> Any:
        return value.repeat_interleave(walkers, 0) if isinstance(value, Tensor) and value.ndim else value

    return tree_map(leaf, tree)
