r"""FlowChef: steer the trajectory by a gradient that skips the network.

M. Patel, S. Wen, D. Metaxas, Y. Yang, "Steering rectified flow models in the vector field for controlled
image generation" (FlowChef), 2024. Along nearly straight flows dD/dx is nearly the identity times a
constant, so the gradient of the misfit in D may be applied to x directly:

    x_next = step(x) - rate grad_D |y - A(D)|^2 / 2,      D = D(x).

No backpropagation; several inner steps cost no call, since D moves along with x:
D <- D - rate grad. Meant for deterministic flows; a learned Jacobian far from the identity is ignored
entirely, which is a different bias from DPS's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..hooks import Hook, Step
from ..samplers.state import State
from .base import Method
from .measurement import Measurement

__all__ = ["FlowChef"]


@dataclass(frozen=True)
class FlowChef(Method):
    """FlowChef (Patel et al., 2024). Any differentiable operator, deterministic samplers.

    Args:
        rate: step along the gradient; below 2 / |A|^2 for linear operators.
        inner: gradient steps a call.
    """

    rate: float = 0.3
    inner: int = 1

    needs_linear: ClassVar[bool] = False
    needs_gaussian: ClassVar[bool] = False
    needs_ode: ClassVar[bool] = True
    scale: ClassVar[str | None] = "rate"

    def __post_init__(self) -> None:
        if self.inner < 1:
            raise ValueError(f"inner must be at least 1, got {self.inner}")

    def guide(self, denoiser: Any, measurement: Measurement) -> Any:
        self.check(measurement, denoiser.schedule, denoiser.space)
        return denoiser

    def hooks(self, measurement: Measurement) -> list[Hook]:
        return [_Steer(measurement, self)]


@dataclass(frozen=True, eq=False)
class _Steer(Hook):
    """x <- x - rate grad, after the sampler's step."""

    measurement: Measurement
    method: FlowChef

    def on_step(self, step: Step) -> State:
        new = super().on_step(step)
        self.method.check(self.measurement, step.schedule, step.space, step.sampler)
        bound = self.measurement.on(step.space, new.x)
        leaf = first = bound.pick(step.pred.data)
        for _ in range(self.method.inner):
            data = bound.put(step.pred.data, leaf)
            leaf = leaf + self.method.rate * bound.pull(data, bound.residual(data))
        return new.restart(bound.put(new.x, bound.pick(new.x) + (leaf - first)))

    def take(self, index: Any) -> Hook:
        if self.measurement.y.shape[0] == 1:
            return self
        return _Steer(self.measurement.take(index), self.method)
