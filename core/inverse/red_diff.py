r"""RED-diff: reconstruction as optimisation, the network as a regulariser at every noise level.

M. Mardani, J. Song, J. Kautz, A. Vahdat, "A variational perspective on solving inverse problems with
diffusion models", ICLR 2024, algorithm 1. A Gaussian of vanishing width around mu is fitted to the
posterior by descending, along times from noise to data,

    x_t = alpha mu + sigma n,
    L = v |y - A(mu)|^2 / (2 m) + l_t < noise(x_t) - n , mu > / d,        l_t = weight sigma / alpha,

where the bracket is not differentiated: nothing goes back through the network. Adam (0.9, 0.99).

It finds one mode-like point, not a posterior: the spread of repeated runs measures the optimiser, not
the uncertainty. And it over-fits the measurement's noise. The regulariser's weight l_t falls to zero with
t while the misfit's stays, so the last steps are plain least squares, and the residual ends below
noise sqrt(m). `Reconstruction.residual` beside `expected_residual` shows it; a larger `weight`, fewer
steps or a smaller rate hold it back. The weights do not know the noise level: tune them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..grids import Grid, check
from ..guidance.base import innermost
from ..noise import Noise
from ..operators import LinearOperator
from ..samplers import Sampler
from ..spaces import Space
from ..tree import Tree, leaves, tree_map
from .base import Method
from .measurement import Measurement

__all__ = ["RedDiff"]


@dataclass(frozen=True)
class RedDiff(Method):
    """RED-diff (Mardani et al., ICLR 2024). Any differentiable operator; an optimiser, not a sampler.

    Args:
        rate: Adam's step.
        weight: of the regulariser; the paper's 0.25.
        misfit: v, weight of the misfit.
        betas: of Adam.
    """

    rate: float = 0.1
    weight: float = 0.25
    misfit: float = 1.0
    betas: tuple[float, float] = (0.9, 0.99)

    needs_linear: ClassVar[bool] = False
    needs_euclidean: ClassVar[bool] = True
    scale: ClassVar[str | None] = "rate"

    def guide(self, denoiser: Any, measurement: Measurement) -> Any:
        raise ValueError("RedDiff is an optimiser and guides no sampler; call reconstruct(..., method=RedDiff())")

    def check(
        self, measurement: Measurement, schedule: Any, space: Space | None = None, sampler: Sampler | None = None
    ) -> None:
        super().check(measurement, schedule, space, None)
        if sampler is not None:
            raise ValueError(f"RedDiff is an optimiser and takes no sampler, got {sampler!r}; give grid= or steps=")

    def solve(
        self,
        denoiser: Any,
        measurement: Measurement,
        grid: Grid,
        like: Tree,
        noise: Noise,
        space: Space,
        x: Tree | None = None,
        reference: Tree | None = None,
        condition: dict[str, Any] | None = None,
    ) -> tuple[Tree, int]:
        """Descend along the times of `grid` (its noisy ones), one call each.

        Args:
            like: states of the wanted shape and type.
            x: where to start; default A^+ y (nonlinear operators: zero).

        Returns:
            mu and the number of calls.
        """
        check(grid, denoiser.schedule)
        if x is None:
            x = tree_map(torch.zeros_like, like)
            bound = measurement.on(space, like)
            if isinstance(measurement.operator, LinearOperator):
                start = bound.pinv(bound.y(bound.pick(like))).expand_as(bound.pick(like))
                x = bound.put(x, start.clone())
        else:
            bound, x = measurement.on(space, x), tree_map(torch.clone, x)
        mu: list[Tensor] = [leaf.contiguous().clone() for leaf in leaves(x)]
        names = list(x) if isinstance(x, dict) else None

        def tree(values: list[Tensor]) -> Tree:
            return values[0] if names is None else dict(zip(names, values, strict=True))

        adam = torch.optim.Adam(mu, lr=self.rate, betas=self.betas)
        count = measurement.operator.count(measurement.y).to(mu[0])
        times = [t for t in grid.times if t != grid.times[-1] or _positive(denoiser.schedule.sigma(t))]
        for k, t in enumerate(times):
            z = space.randn(noise, tree(mu), k, "step")
            with torch.no_grad():
                noisy = innermost(denoiser).add_noise(tree(mu), z, t, reference)
                pred = denoiser(noisy, t, reference=reference, **(condition or {}))

                def gap(schedule: Any, n: Tensor, z: Tensor, t: float = t) -> Tensor:
                    level = self.weight * schedule.sigma(t) / schedule.alpha(t)
                    return level / n[0].numel() * (n - z)

                pull = denoiser.leafwise(gap, pred.noise, z)
                r = bound.residual(tree(mu))
                back = bound.pull(tree(mu), r)
                back = self.misfit * back / count.view(-1, *[1] * (back.ndim - 1))
                total = bound.put(pull, bound.pick(pull) - back)
            for value, g in zip(mu, leaves(total), strict=True):
                value.grad = g
            adam.step()
        if not all(bool(torch.isfinite(leaf).all()) for leaf in mu):
            raise FloatingPointError("the samples are not finite")
        return tree([leaf.detach() for leaf in mu]), len(times)


def _positive(sigma: Any) -> bool:
    return all(s > 0.0 for s in sigma.values()) if isinstance(sigma, dict) else sigma > 0.0
