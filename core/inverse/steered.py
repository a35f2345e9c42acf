r"""Steered diffusion: walk the denoised data down an energy before every step.

N. Nair et al., "Steered diffusion: a generalized framework for plug-and-play conditional image synthesis",
ICCV 2023, algorithm 1: with an energy V of clean data,

    D <- D - k grad_x V(D(x)),   repeated, then the usual step with the new D.

Here V(D) = |y - A(D)|^2 / 2, or any energy that is given. The gradient goes through the network, one
vector-Jacobian product a repetition; with `through_network=False` it is taken in D (no product).
The predicted noise is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..denoisers import Prediction
from ..tree import Tree, tree_map
from .base import Method, moved, through, vjp
from .measurement import Bound

__all__ = ["Steered"]


@dataclass(frozen=True)
class Steered(Method):
    """Steered diffusion (Nair et al., ICCV 2023). Any differentiable operator.

    Args:
        k: step along the gradient.
        repeats: gradient steps a call.
        energy: V, data (B, ...) -> (B,); default half the squared misfit of the measurement.
        through_network: take the gradient in x (the method), or in D.
        noise: "keep" the predicted noise (the method), or "rederive" it.
    """

    k: float = 0.3
    repeats: int = 1
    energy: Callable[[Tree], Tensor] | None = None
    through_network: bool = True
    noise: Literal["keep", "rederive"] = "keep"

    needs_linear: ClassVar[bool] = False
    scale: ClassVar[str | None] = "k"

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ValueError(f"repeats must be at least 1, got {self.repeats}")

    @property
    def vjps(self) -> int:
        return self.repeats if self.through_network else 0

    def _slope(self, bound: Bound, data: Tree) -> Tensor:
        """-dV/dD of the measured leaf."""
        if self.energy is None:
            return bound.pull(data, bound.residual(data))
        with torch.enable_grad():
            leaf = bound.pick(data).detach().requires_grad_()
            value = self.energy(bound.put(data, leaf))
            if value.shape != leaf.shape[:1]:
                raise ValueError(
                    f"the energy must return one number a sample, ({leaf.shape[0]},), got {tuple(value.shape)}"
                )
            return bound.project(-torch.autograd.grad(value.sum(), leaf)[0])

    def predict(self, denoiser: Any, bound: Bound, x: Tree, t: Any, condition: dict[str, Any]) -> Prediction:
        if not self.through_network:
            pred = denoiser(x, t, **condition)
            data = pred.data
            for _ in range(self.repeats):
                data = bound.put(data, bound.pick(data) + self.k * self._slope(bound, data))
            return moved(pred, denoiser, data, self.noise)
        pred, source, graph = through(denoiser, x, t, condition)
        data = pred.data
        for k in range(self.repeats):
            push = vjp(source, bound.pick(graph), self._slope(bound, data), keep=k + 1 < self.repeats)
            data = tree_map(lambda d, g: d + self.k * g, data, push)
        data = data if denoiser.space is None else denoiser.space.project(data)
        return moved(pred, denoiser, data, self.noise)
