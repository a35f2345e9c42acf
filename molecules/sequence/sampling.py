"""The samplers of :mod:`.model` by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...core.discrete import Ancestral, Euler, FirstHitting, TauLeaping
from ...core.samplers.base import Sampler

__all__ = ["SAMPLERS", "STEPS", "method_of"]

SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "first_hitting": FirstHitting,
    "ancestral": Ancestral,
    "euler": Euler,
    "tau_leaping": TauLeaping,
}

STEPS = 128
"""Network calls of samplers that take steps, where none are given."""


def method_of(sampler: Any, steps: int | None) -> tuple[Sampler, int | None]:
    """The sampler, by name or as it is, and its steps; None for first-hitting, which has none.

    Raises:
        ValueError: an unknown name, steps out of range, steps of first-hitting.
    """
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise ValueError(f"steps must be a positive integer, got {steps!r}")
    if not isinstance(sampler, Sampler):
        if sampler not in SAMPLERS:
            names = ", ".join(map(repr, SAMPLERS))
            raise ValueError(f"sampler must be one of {names} or a sampler of the core, got {sampler!r}")
        sampler = SAMPLERS[sampler]()
    if isinstance(sampler, FirstHitting):
        if steps is not None:
            raise ValueError(
                f"first-hitting has no steps, got steps={steps}: it makes a call a letter (FirstHitting(tokens=k): "
                'for k of them); sampler="ancestral" takes steps'
            )
        return sampler, None
    return sampler, STEPS if steps is None else steps
