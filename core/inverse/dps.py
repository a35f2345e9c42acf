r"""Diffusion posterior sampling: step first, then walk down the gradient of the misfit.

H. Chung, J. Kim, M. McCann, M. Klasky, J. C. Ye, "Diffusion posterior sampling for general noisy inverse
problems", ICLR 2023, algorithm 1:

    x_{i-1} = x'_{i-1} - zeta_i grad_{x_i} |y - A(D(x_i))|^2,      zeta_i = zeta / |y - A(D(x_i))|.

The gradient goes through the network: one forward and one vector-Jacobian product a call,
grad = -2 J^T A'^T (y - A(D)) with J = dD/dx.

What it leaves out: p(y | x_t) has the covariance noise^2 + A V A^T, V the covariance of the data given
the state. DPS replaces it by a constant whose size zeta hides, so its mean is pulled towards the data
too strongly late and too weakly early, and its spread is not the posterior's: on Gaussians see
`oracle`. The step size is a setting of the problem, not a constant of nature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from ..denoisers import Prediction
from ..hooks import Hook, Step
from ..samplers import DDPM, Sampler
from ..samplers.state import State
from ..tree import Tree, tree_map
from .base import Method, through, vjp
from .measurement import Bound, Measurement

__all__ = ["DPS"]


@dataclass(frozen=True)
class DPS(Method):
    """Diffusion posterior sampling (Chung et al., ICLR 2023, algorithm 1). Any differentiable operator.

    Args:
        zeta: step size; the paper's images use 0.3 to 1.
        weight: "residual" divides by |y - A(D)| as in the paper (the published code's scale is twice
            this zeta: it differentiates the norm, not its square); "constant" does not.
    """

    zeta: float = 0.5
    weight: Literal["residual", "constant"] = "residual"

    needs_linear: ClassVar[bool] = False
    scale: ClassVar[str | None] = "zeta"

    def __post_init__(self) -> None:
        if self.weight not in ("residual", "constant"):
            raise ValueError(f'weight must be "residual" or "constant", got {self.weight!r}')

    @property
    def vjps(self) -> int:
        return 1

    def sampler(self, measurement: Measurement) -> Sampler:
        return DDPM()

    def predict(self, denoiser: Any, bound: Bound, x: Tree, t: Any, condition: dict[str, Any]) -> Prediction:
        pred, source, data = through(denoiser, x, t, condition)
        r = bound.residual(pred.data)
        push = vjp(source, bound.pick(data), bound.pull(pred.data, r), keep=False)  # J^T A^T r
        if self.weight == "residual":
            size = bound.squared(r).sqrt().clamp_min(1e-12)
            push = tree_map(lambda g: g / size.view(-1, *[1] * (g.ndim - 1)).to(g), push)
        # carried as a part, so that nothing is stored outside the run
        pred.parts["push"] = Prediction(pred.denoiser, x, pred.t, pred.raw, data=push)
        return pred

    def hooks(self, measurement: Measurement) -> list[Hook]:
        return [_Correction(2.0 * self.zeta)]


@dataclass(frozen=True)
class _Correction(Hook):
    """x <- x + step * push, after the sampler's step."""

    step: float

    def on_step(self, step: Step) -> State:
        new = super().on_step(step)
        if "push" not in step.pred.parts:
            raise ValueError(
                "DPS's correction needs the outermost denoiser to be DPS(...).guide(denoiser, measurement)"
            )

        def leaf(x: Tensor, g: Tensor) -> Tensor:
            return x + self.step * g

        return new.restart(step.space.project(tree_map(leaf, new.x, step.pred.parts["push"].data)))
