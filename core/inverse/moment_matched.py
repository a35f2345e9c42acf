r"""Moment-matched posterior sampling: the likelihood of y with the covariance that the denoiser knows.

F. Rozet, G. Andry, F. Lanusse, G. Louppe, "Learning diffusion priors from observations by expectation
maximization", NeurIPS 2024, section 4 (MMPS); B. Boys et al., "Tweedie moment projected diffusions for
inverse problems", 2023 (TMPD). By Tweedie's second formula the covariance of x0 given x is

    V = (sigma^2 / alpha) J,      J = dD/dx, symmetric for an exact denoiser,

so that p(y | x) is matched in mean and covariance by N(A D, noise^2 + A V A^T), and

    g = J^T A^T (noise^2 + A V A^T)^{-1} (y - A D),            D' = D + (sigma^2 / alpha) g.

This is exact for Gaussian data. The system is solved by conjugate gradients, each product one
vector-Jacobian product through the network: u = J^T A^T p, then noise^2 p + (sigma^2/alpha) A u. Since
the answer is a combination of the p, J^T A^T of it is the same combination of the u, and the last product
costs nothing: at most `iterations` vector-Jacobian products and one forward a call.

A network's Jacobian is not quite symmetric and may have negative directions, and conjugate gradients on
such a system walk off: on a trained network eight unguarded products were worse than one by a factor of a
hundred. A covariance has p^T A V A^T p >= 0, hence p^T M p >= noise^2 |p|^2; a direction that breaks this
ends the iteration of its sample, and what was found until there is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..denoisers import Prediction
from ..operators import inner
from ..tree import Tree, tree_map
from .base import Method, levels, through, vjp
from .measurement import Bound
from .pigdm import bayes

__all__ = ["MMPS"]


def _column(c: Tensor, like: Tensor) -> Tensor:
    return c.view(-1, *[1] * (like.ndim - 1)).to(like.real.dtype if like.is_complex() else like.dtype)


@dataclass(frozen=True)
class MMPS(Method):
    """Moment-matched posterior sampling (Rozet et al., NeurIPS 2024). Linear operators, noise > 0.

    Args:
        iterations: conjugate-gradient steps, each one vector-Jacobian product; 1 is the cheapest useful
            value, as many as there are distinct scales in A V A^T / noise^2 the exact one.
        tolerance: stop earlier when the relative residual of every sample is below this.
        strength: factor on the guidance, 1 is Bayes' rule.
    """

    iterations: int = 5
    tolerance: float = 1e-6
    strength: float = 1.0

    needs_noise: ClassVar[bool] = True
    scale: ClassVar[str | None] = "strength"

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {self.iterations}")

    @property
    def vjps(self) -> int:
        return self.iterations

    def predict(self, denoiser: Any, bound: Bound, x: Tree, t: Any, condition: dict[str, Any]) -> Prediction:
        pred, source, data = through(denoiser, x, t, condition)
        measured = bound.pick(data)
        r = bound.residual(pred.data)
        a, s = levels(denoiser.schedule, t, bound, measured)
        c, noise2 = s * s / a, bound.noise**2
        p, rr = r, inner(r, r)
        g = tree_map(torch.zeros_like, pred.data)
        stop = self.tolerance**2 * rr
        for k in range(self.iterations):
            u = vjp(source, measured, bound.adjoint(p), keep=k + 1 < self.iterations)  # J^T A^T p
            q = noise2 * p + bound.linear.forward(c * bound.project(bound.pick(u)))
            curvature = inner(p, q)
            ok = (rr > stop) & (curvature > 0.999 * noise2 * inner(p, p))  # V is a covariance in this direction
            step = torch.where(ok, rr / torch.where(ok, curvature, 1.0), 0.0)
            g = tree_map(lambda g, u, step=step: g + _column(step, g) * u, g, u)
            r = r - _column(step, r) * q
            new = inner(r, r)
            if not bool((ok & (new > stop)).any()):
                break
            p = r + _column(torch.where(ok, new / torch.where(ok, rr, 1.0), 0.0), p) * p
            rr = torch.where(ok, new, 0.0)
        return bayes(pred, denoiser, g, self.strength)
