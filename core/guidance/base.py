"""The shape of guidance: a denoiser that asks another one and changes its answer.

Guidance composes by nesting: the outermost is asked first and speaks last.
"""

from __future__ import annotations

import copy
from typing import Any, Self

from ..denoisers import Prediction
from ..spaces import Space
from ..tree import Tree

__all__ = ["Guidance", "innermost"]


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

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.denoiser!r})"


def innermost(denoiser: Any) -> Any:
    """The denoiser at the centre of any nest of guidance."""
    while isinstance(denoiser, Guidance):
        denoiser = denoiser.denoiser
    return denoiser
