r"""BDIA and BELM: two-step methods that can be run backwards exactly.

Both step with x_new = a x_previous + b x + c N(x). N is asked at the state in the middle, which the
way back knows, so x_previous = (x_new - b x - c N(x)) / a is algebra, not a fixed-point iteration.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ..spaces import Space, default_space
from ..tree import Tree
from .base import LinearSampler, Path
from .plan import Plan, Row
from .pndm import _phi
from .state import State

__all__ = ["BDIA", "BELM", "invert"]


@dataclass(frozen=True)
class _TwoStep(LinearSampler):
    """The register "xp" holds the state one step before x."""

    invertible: ClassVar[bool] = True

    def rows(self, path: Path) -> Sequence[Sequence[Row]]:
        rows = []
        for k in range(path.steps):
            s, t = path[k], path[k + 1]
            first = Row(
                s.t, t.t, {"x": _phi(s, t, {"P": 1.0}), "xp": {"x": 1.0}}, "noise", levels={"xp": s.t}, step=k, gains=1
            )
            if k == 0:
                rows.append([first])
                continue
            out = {"x": self._combination(path, k), "xp": {"x": 1.0}}
            rows.append([first, Row(s.t, t.t, out, "noise", levels={"xp": s.t}, step=k, gains=1)])
        return rows

    def _combination(self, path: Path, k: int) -> dict[str, Any]:
        raise NotImplementedError


@dataclass(frozen=True)
class BDIA(_TwoStep):
    """Bi-directional integration approximation of DDIM.

    G. Zhang, J. P. Lewis, W. B. Kleijn, "Exact diffusion inversion via bi-directional integration
    approximation", ECCV 2024. Order 2 for gamma = 1, else 1.

    Args:
        gamma: weight of the backward estimate, in (0, 1]. The way back multiplies rounding errors by
            1/gamma a step, so only gamma = 1 can be inverted over many steps.
    """

    gamma: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.gamma <= 1.0:
            raise ValueError(f"gamma must lie in (0, 1], got {self.gamma}; gamma = 0 is DDIM()")

    @property
    def nominal_order(self) -> int:
        return 2 if self.gamma == 1.0 else 1

    def _combination(self, path: Path, k: int) -> dict[str, Any]:
        r, s, t = path[k - 1], path[k], path[k + 1]
        forward, backward = _phi(s, t, {"P": 1.0}), _phi(s, r, {"P": 1.0})
        return {
            "xp": self.gamma,
            "x": forward["x"] - self.gamma * backward["x"],
            "P": forward["P"] - self.gamma * backward["P"],
        }


@dataclass(frozen=True)
class BELM(_TwoStep):
    r"""Bidirectional explicit linear multistep sampler, two steps (O-BELM). Order 2.

    F. Wang et al., "BELM: bidirectional explicit linear multi-step sampler for exact inversion in
    diffusion models", NeurIPS 2024. In y = x / alpha over kappa, with H and h the last and the next
    step in kappa: y_new = (h/H)^2 y_previous + (1 - (h/H)^2) y + h (h + H) / H N, exact for
    quadratics.
    """

    @property
    def nominal_order(self) -> int:
        return 2

    def _combination(self, path: Path, k: int) -> dict[str, Any]:
        r, s, t = path[k - 1], path[k], path[k + 1]
        big, h = s.kappa - r.kappa, t.kappa - s.kappa
        q = (h / big) * (h / big)
        return {
            "xp": q * t.alpha / r.alpha,
            "x": (1.0 - q) * t.alpha / s.alpha,
            "P": t.alpha * h * (h + big) / big,
        }


@torch.no_grad()
def invert(
    denoiser: Any, sampler: LinearSampler, plan: Plan, state: State, *, reference: Tree | None = None,
    condition: dict[str, Any] | None = None,
) -> Tree:  # fmt: skip
    """The start of a run from its returned state, exact up to rounding.

    Args:
        denoiser: the one of the run.
        sampler: `BDIA` or `BELM`.
        plan: `sampler.plan(schedule, grid)` of the run.
        state: the state at the end of the whole run.
        reference, condition: of the run.

    Returns:
        The states at the first time of the grid.

    Raises:
        ValueError: for samplers that are not invertible, or a state that is not the end of this plan
            or lost its memory.
    """
    if not sampler.invertible:
        raise ValueError(
            f"{sampler!r} cannot be inverted exactly; use BDIA() or BELM(), or DDIM() on the reversed grid"
        )
    if state.i != len(plan.rows) or "xp" not in state.memory or state.age != len(plan.rows):
        raise ValueError(
            f"need the state at the end of an unbroken run of {len(plan.rows)} calls with its register 'xp', "
            f"got i={state.i}, age={state.age}, memory {sorted(state.memory)}"
        )
    if getattr(sampler, "gamma", 1.0) != 1.0:
        warnings.warn(
            f"{sampler!r}: the way back multiplies rounding errors by 1/gamma a step, "
            f"{sampler.gamma ** -len(plan.rows):.1g} in all; use gamma=1 to invert",  # type: ignore[attr-defined]
            stacklevel=2,
        )
    space: Space = denoiser.space or default_space(state.x)
    x, previous = state.x, state.memory["xp"]
    for i in range(len(plan.rows) - 1, 0, -1):
        row = plan.row(i, 1)
        terms = row.out["x"]
        pred = denoiser(previous, row.t, reference=reference, **(condition or {}))
        inverse = _reciprocal(terms["xp"])
        parts = [(inverse, x), (_times(terms["x"], inverse), previous), (_times(terms["P"], inverse), pred.noise)]
        if reference is not None and "y" in terms:
            parts.append((_times(terms["y"], inverse), reference))
        x, previous = previous, space.lincomb(parts)
    return previous


def _reciprocal(c: Any) -> Any:
    return {name: 1.0 / v for name, v in c.items()} if isinstance(c, dict) else 1.0 / c


def _times(c: Any, inverse: Any) -> Any:
    """-c * inverse, leaf by leaf."""
    if isinstance(c, dict) or isinstance(inverse, dict):
        names = c if isinstance(c, dict) else inverse
        pick = lambda v, name: v[name] if isinstance(v, dict) else v  # noqa: E731
        return {name: -pick(c, name) * pick(inverse, name) for name in names}
    return -c * inverse
