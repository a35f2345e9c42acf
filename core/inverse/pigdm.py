r"""Pseudo-inverse guidance: the likelihood of y under a Gaussian around the denoised data.

J. Song, A. Vahdat, M. Mardani, J. Kautz, "Pseudoinverse-guided diffusion models for inverse problems",
ICLR 2023, equations 5 to 8: with x0 | x ~ N(D, r^2 I),

    p(y | x) = N(A D, r^2 A A^T + noise^2 I),
    g = J^T A^T (r^2 A A^T + noise^2)^{-1} (y - A D),          J = dD/dx,
    D' = D + (sigma^2 / alpha) g.

For data of variance v around their mean, the variance of x0 given x is at most r^2 = v k^2 / (v + k^2),
k = sigma/alpha; the paper's sigma^2 / (1 + sigma^2) is v = 1. One forward, one vector-Jacobian product.
At noise 0 and r > 0 the inverse is a pseudo-inverse, and A^T (A A^T)^+ = A^+ gives the method its name.

The covariance is right in total and wrong in shape: r^2 is the same in directions that the data leave
free and in those that they do not. `MMPS` uses the true one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ..denoisers import Prediction
from ..spaces import expand
from ..tree import Tree
from .base import Method, levels, moved, through, vjp
from .measurement import Bound

__all__ = ["PiGDM", "bayes"]


@dataclass(frozen=True)
class PiGDM(Method):
    """Pseudo-inverse guided diffusion (Song et al., ICLR 2023). Linear operators.

    Args:
        variance: v, the variance of one value of the data.
        strength: factor on the guidance, 1 is Bayes' rule.
        iterations: of conjugate gradients, for operators without singular values.
    """

    variance: float = 1.0
    strength: float = 1.0
    iterations: int = 50

    scale: ClassVar[str | None] = "strength"

    def __post_init__(self) -> None:
        if not self.variance > 0.0:
            raise ValueError(f"variance of the data must be positive, got {self.variance}")

    @property
    def vjps(self) -> int:
        return 1

    def predict(self, denoiser: Any, bound: Bound, x: Tree, t: Any, condition: dict[str, Any]) -> Prediction:
        pred, source, data = through(denoiser, x, t, condition)
        r = bound.residual(pred.data)
        a, s = levels(denoiser.schedule, t, bound, r)
        k2 = (s / a) ** 2
        v = bound.gram_solve(r, self.variance * k2 / (self.variance + k2), self.noise2(bound), self.iterations)
        g = vjp(source, bound.pick(data), bound.adjoint(v), keep=False)
        return bayes(pred, denoiser, g, self.strength)

    @staticmethod
    def noise2(bound: Bound) -> float:
        return bound.noise**2


def bayes(pred: Prediction, denoiser: Any, g: Tree, strength: float = 1.0) -> Prediction:
    """The prediction after Bayes' rule with grad log p(y | x) = g: data + (sigma^2 / alpha) g, leaf by leaf."""

    def leaf(schedule: Any, data: Tensor, g: Tensor) -> Tensor:
        a, s = schedule.alpha(pred.t), schedule.sigma(pred.t)
        c = strength * s * s / a
        return data + (c if isinstance(c, float) else expand(c, data)) * g

    data = denoiser.leafwise(leaf, pred.data, g)
    return moved(pred, denoiser, data if denoiser.space is None else denoiser.space.project(data), "rederive")
