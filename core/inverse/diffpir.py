r"""Denoising diffusion models for plug-and-play restoration: a proximal step on the denoised data.

Y. Zhu et al., "Denoising diffusion models for plug-and-play image restoration" (DiffPIR), CVPR workshops
2023, algorithm 1. With k = sigma/alpha,

    D' = argmin_x |y - A x|^2 + rho |x - D|^2,    rho = lambda noise^2 / k^2,
    noise' from (x, D'),    x_next = alpha D' + sigma (sqrt(1 - zeta) noise' + sqrt(zeta) z).

lambda = 1 is the posterior of y under N(D, k^2 I); the paper uses 1 to 25. The noise is derived anew
("effective" noise), the opposite of DDS's choice: the mixing of fresh noise by zeta makes up for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..denoisers import Prediction
from ..samplers import Sampler
from ..samplers.base import LinearSampler, Path
from ..samplers.plan import Row
from ..tree import Tree
from .base import Method, levels, moved
from .measurement import Bound, Measurement

__all__ = ["DiffPIR", "Remix"]


@dataclass(frozen=True)
class Remix(LinearSampler):
    """x_next = alpha D + sigma (sqrt(1 - zeta) N + sqrt(zeta) z), DiffPIR's step.

    Args:
        zeta: share of fresh noise; 0 is DDIM, 1 forgets the predicted noise.
    """

    zeta: float = 0.3

    def __post_init__(self) -> None:
        if not 0.0 <= self.zeta <= 1.0:
            raise ValueError(f"zeta must lie in [0, 1], got {self.zeta}")

    @property
    def stochastic(self) -> bool:
        return self.zeta > 0.0

    def rows(self, path: Path) -> Sequence[Sequence[Row]]:
        rows, keep, fresh = [], math.sqrt(1.0 - self.zeta), math.sqrt(self.zeta)
        for k in range(path.steps):
            s, t = path[k], path[k + 1]
            out = {"x": {"D": t.alpha, "N": keep * t.sigma, "z": fresh * t.sigma}}
            rows.append([Row(s.t, t.t, out, step=k, std=fresh * t.sigma)])
        return rows


@dataclass(frozen=True)
class DiffPIR(Method):
    """DiffPIR (Zhu et al., 2023). Linear operators, noise > 0.

    Args:
        lambda_: weight of the prior; smaller trusts the measurement more.
        zeta: share of fresh noise in each step, used by the sampler that is taken when none is given.
        iterations: of conjugate gradients, for operators without singular values.
        noise: "rederive" the noise (the method), or "keep" it.
    """

    lambda_: float = 8.0
    zeta: float = 0.3
    iterations: int = 50
    noise: Literal["keep", "rederive"] = "rederive"

    needs_noise: ClassVar[bool] = True
    needs_gaussian: ClassVar[bool] = False
    scale: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        if not self.lambda_ > 0.0:
            raise ValueError(f"lambda_ must be positive, got {self.lambda_}")

    def sampler(self, measurement: Measurement) -> Sampler:
        return Remix(self.zeta)

    def predict(self, denoiser: Any, bound: Bound, x: Tree, t: Any, condition: dict[str, Any]) -> Prediction:
        pred = denoiser(x, t, **condition)
        a, s = levels(denoiser.schedule, t, bound, bound.y(bound.pick(pred.data)))
        rho = self.lambda_ * (bound.noise * a / s) ** 2
        data = bound.put(pred.data, bound.prox(pred.data, rho, self.iterations))
        return moved(pred, denoiser, data, self.noise)
