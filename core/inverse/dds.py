r"""Decomposed diffusion sampling: a few conjugate-gradient steps on the denoised data.

H. Chung, S. Lee, J. C. Ye, "Decomposed diffusion sampler for accelerating large-scale inverse problems",
ICLR 2024, algorithm 1 and equation 17. If the clean data live on a subspace around D, a few Krylov steps
from D stay in it:

    noiseless:  min |y - A x|^2, M steps from D;        noisy:  min (gamma/2) |y - A x|^2 + (1/2) |x - D|^2,

the second by (I + gamma A^T A) x = D + gamma A^T y. No gradient through the network. The predicted noise
is kept: the state's noise does not know the measurement. On a Gaussian oracle deriving the noise anew
instead multiplies the error of the mean several times (`oracle`).

Only samplers that step from data and noise (`DDIM`, `DDPM`, `Remix`) see the difference. Those written in
the data alone (`DPMSolverPP`, ...) imply the noise (x - alpha D) / sigma, whatever is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..denoisers import Prediction
from ..operators import conjugate_gradient
from ..tree import Tree
from .base import Method, moved
from .measurement import Bound

__all__ = ["DDS"]


@dataclass(frozen=True)
class DDS(Method):
    """Decomposed diffusion sampling (Chung, Lee, Ye, ICLR 2024). Linear operators.

    Args:
        iterations: M, conjugate-gradient steps a call.
        gamma: weight of the misfit against the distance to D (noisy measurements); None for plain least
            squares stopped after M steps, which fits what noise there is once M is large.
        noise: "keep" the predicted noise (the method), or "rederive" it.
    """

    iterations: int = 5
    gamma: float | None = None
    noise: Literal["keep", "rederive"] = "keep"

    needs_gaussian: ClassVar[bool] = False
    scale: ClassVar[str | None] = "gamma"

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {self.iterations}")
        if self.gamma is not None and not self.gamma > 0.0:
            raise ValueError(f"gamma must be positive, or None for plain least squares, got {self.gamma}")

    def predict(self, denoiser: Any, bound: Bound, x: Tree, t: Any, condition: dict[str, Any]) -> Prediction:
        pred = denoiser(x, t, **condition)
        operator, start = bound.linear, bound.pick(pred.data)
        back = bound.adjoint(bound.residual(pred.data))  # right-hand side for x - D, whose first guess is 0
        if self.gamma is None:
            move = conjugate_gradient(lambda p: bound.adjoint(operator.forward(p)), back, iterations=self.iterations)
        else:
            gamma = self.gamma
            move = conjugate_gradient(
                lambda p: p + gamma * bound.adjoint(operator.forward(p)), gamma * back, iterations=self.iterations
            )
        return moved(pred, denoiser, bound.put(pred.data, start + move), self.noise)
