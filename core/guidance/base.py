"""The shape of guidance: a denoiser that asks another one and changes its answer.

Guidance composes by nesting: the outermost is asked first and speaks last.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from ..denoisers import Prediction
from ..spaces import Space
from ..tree import Tree, leaves

__all__ = ["Guidance", "gradient_of", "innermost", "scores", "taken"]


class Guidance:
    """Base class: passes everything on to the denoiser inside.

    Args:
        denoiser: a `Denoiser`, or other guidance.
    """

    def __init__(self, denoiser: Any) -> None:
        self.denoiser = denoiser

    def __call__(self, x: Tree, t: Any, **condition: Any) -> Prediction:
        """The changed prediction for states `x` at time `t`; arguments as for `Denoiser`."""
        return self.denoiser(x, t, **condition)

    @property
    def schedule(self) -> Any:
        return self.denoiser.schedule

    @property
    def space(self) -> Space | None:
        return self.denoiser.space

    @property
    def needs_grad(self) -> bool:
        """Whether the loop must leave gradients possible."""
        return bool(self.denoiser.needs_grad)

    @property
    def needs_state(self) -> bool:
        """Whether calls must be given the run's state."""
        return bool(self.denoiser.needs_state)

    def _around(self, denoiser: Any) -> Self:
        other = copy.copy(self)
        other.denoiser = denoiser
        return other

    def on(self, space: Space | None) -> Self:
        """The same guidance for states of another space."""
        return self._around(self.denoiser.on(space))

    def in_half(self, dtype: Any) -> Self:
        """The same guidance with its network in half precision."""
        return self._around(self.denoiser.in_half(dtype))

    copies: int = 1
    """How many copies of the states go into one network call."""

    def warm(self, times: tuple[float, ...], like: Tree, copies: int = 1) -> None:
        """See `Denoiser.warm`."""
        self.denoiser.warm(times, like, copies * self.copies)

    def leafwise(self, *args: Any) -> Tree:
        """See `Denoiser.leafwise`."""
        return self.denoiser.leafwise(*args)

    def prior(self, *args: Any) -> Tree:
        """See `TokenDenoiser.prior`."""
        return self.denoiser.prior(*args)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.denoiser!r})"


def innermost(denoiser: Any) -> Any:
    """The denoiser at the centre of any nest of guidance."""
    while isinstance(denoiser, Guidance):
        denoiser = denoiser.denoiser
    return denoiser


def taken(condition: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The conditions that are the classifier's and not the network's, taken out of `condition`.

    Raises:
        ValueError: for one that is missing.
    """
    missing = [name for name in names if name not in condition]
    if missing:
        raise ValueError(f"the classifier needs condition {missing[0]!r}; pass condition={{{missing[0]!r}: ...}}")
    return {name: condition.pop(name) for name in names}


def scores(value: Any, batch: int, who: str) -> Tensor:
    """`value`, if it is one log-probability a sample.

    Raises:
        ValueError: for anything else.
    """
    if not isinstance(value, Tensor) or value.shape != (batch,):
        came = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{who} must return one log-probability a sample, shape ({batch},), got {came}")
    return value


def gradient_of(total: Tensor, at: Tree) -> Tree:
    """The gradient of a number in the leaves of `at`, zero for those it does not depend on."""
    names = list(at) if isinstance(at, dict) else None
    found = torch.autograd.grad(total, leaves(at), allow_unused=True)
    filled = [torch.zeros_like(x) if g is None else g for g, x in zip(found, leaves(at), strict=True)]
    return dict(zip(names, filled, strict=True)) if names else filled[0]
