r"""Denoising diffusion restoration models: sampling in the singular directions of the operator.

B. Kawar, M. Elad, S. Ermon, J. Song, "Denoising diffusion restoration models", NeurIPS 2022, equations 4
to 8. With A = U S V^T, write xb = V^T x / alpha, yb = S^+ U^T y, k = sigma/alpha, and in each direction
with s > 0 let n = noise/s be the noise of yb. A variational chain that has the diffusion's marginals and
sees y starts at

    xb ~ N(yb, k^2 - n^2)                                   (N(0, k^2) where s = 0 or k < n)

and goes from level k' to k < k' with the denoised data Db and noise z by

    s = 0      Db + sqrt(1 - eta^2) (k / k') (xb' - Db) + eta k z
    k < n      Db + sqrt(1 - eta^2) (k / n)  (yb - Db)  + eta k z
    k >= n     (1 - eta_b) Db + eta_b yb + sqrt(k^2 - eta_b^2 n^2) z.

It is a sampler of its own, since the measurement enters the noise too. Defaults are the paper's,
eta = 0.85 and eta_b = 1. What it guarantees are the noise levels of the chain, not the
posterior: well-measured directions take the measurement whole (eta_b = 1) whatever the prior says of them,
and the spread is too small even for Gaussians aligned with A.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..denoisers import Prediction
from ..grids import Grid, check
from ..noise import Noise
from ..samplers import Sampler
from ..samplers.state import Query, State
from ..schedules import ProductSchedule
from ..spaces import Space
from ..tree import Tree
from .base import Method
from .measurement import Measurement

__all__ = ["DDRM", "DDRMSampler"]


@dataclass(frozen=True)
class DDRM(Method):
    """DDRM (Kawar et al., NeurIPS 2022). Linear operators with a singular value decomposition.

    Args:
        eta: fresh noise in unmeasured and in noisy directions, 0 to 1.
        eta_b: weight of the measurement in directions that it knows well, 0 to 1.
    """

    eta: float = 0.85
    eta_b: float = 1.0

    needs_euclidean: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (0.0 <= self.eta <= 1.0 and 0.0 <= self.eta_b <= 1.0):
            raise ValueError(f"eta and eta_b must lie in [0, 1], got {self.eta} and {self.eta_b}")

    def sampler(self, measurement: Measurement) -> Sampler:
        return DDRMSampler(measurement, self.eta, self.eta_b)

    def guide(self, denoiser: Any, measurement: Measurement) -> Any:
        self.check(measurement, denoiser.schedule, denoiser.space)
        return denoiser

    def check(
        self, measurement: Measurement, schedule: Any, space: Space | None = None, sampler: Sampler | None = None
    ) -> None:
        super().check(measurement, schedule, space, sampler)
        if isinstance(schedule, ProductSchedule) or measurement.operator.leaf is not None:
            raise ValueError(
                "DDRM is a sampler for states of one tensor; use DDS, DDNM, PiGDM or MMPS for product states"
            )
        if measurement.operator.svd() is None:  # type: ignore[attr-defined]
            raise ValueError(
                f"DDRM needs the singular value decomposition of {measurement.operator!r}; use DDS, PiGDM or MMPS, or "
                "give the operator an svd()"
            )
        if sampler is not None and not isinstance(sampler, DDRMSampler):
            raise ValueError(
                f"DDRM is a sampler of its own and cannot be combined with {sampler!r}; leave sampler= out"
            )


@dataclass(frozen=True)
class _Grid:
    schedule: Any
    times: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class DDRMSampler(Sampler):
    """The chain of DDRM for one measurement. Made by `DDRM.sampler`."""

    measurement: Measurement
    eta: float
    eta_b: float

    families: ClassVar[frozenset[str]] = frozenset({"gaussian"})

    @property
    def stochastic(self) -> bool:
        return True

    def plan(self, schedule: Any, grid: Grid) -> _Grid:
        check(grid, schedule)
        if not grid.descending:
            raise ValueError("DDRM goes from noise to data, the grid ascends")
        if schedule.alpha(grid.times[0]) == 0.0:
            raise ValueError(f"t={grid.times[0]} has alpha = 0: DDRM starts from data and noise; start at a smaller t")
        if schedule.beta(grid.times[0]) != 0.0:
            raise ValueError(f"DDRM is not defined for {schedule!r}, whose states hold a reference")
        return _Grid(schedule, grid.times)

    def total(self, plan: _Grid) -> int:
        return len(plan.times) - 1

    def done(self, plan: _Grid, state: State) -> bool:
        return bool(state.i >= len(plan.times) - 1)

    def time(self, plan: _Grid, state: State) -> float:
        return plan.times[state.i]

    def _parts(self, x: Tensor) -> tuple[Any, Tensor, Tensor, Tensor]:
        """The decomposition, yb, n = noise/s and where s > 0."""
        bound = self.measurement.on(None, x)
        svd = bound.svd()
        if svd is None:
            raise ValueError("DDRM needs the singular value decomposition of the operator")
        s = svd.values.to(x)
        seen = s > s.max() * 1e-6
        s1 = torch.where(seen, s, 1.0)
        yb = torch.where(seen, svd.ut(bound.y(x)) / s1, 0.0)
        return svd, yb, bound.noise / s1, seen

    def start(self, plan: _Grid, x: Tree, space: Space) -> State:
        t = plan.times[0]
        a, k = plan.schedule.alpha(t), plan.schedule.kappa(t)
        n0 = x / plan.schedule.prior_std(t)
        svd, yb, n, seen = self._parts(x)
        nb = svd.vt(n0)
        known = seen & (k >= n)
        width = torch.where(known, (k * k - n * n).clamp_min(0.0).sqrt(), k)
        xb = torch.where(known, yb, 0.0) + width * nb
        return State(a * (k * n0 + svd.v(xb - k * nb)))

    def draw(self, plan: _Grid, state: State, space: Space, noise: Noise) -> Tree:
        return space.randn(noise, state.x, state.draws, "step")

    def query(self, plan: _Grid, state: State, z: Tree | None, space: Space, reference: Tree | None) -> Query:
        return Query(state.x, plan.times[state.i], None, state)

    def advance(
        self, plan: _Grid, state: State, query: Query, pred: Prediction, z: Any, space: Space, reference: Tree | None
    ) -> State:
        schedule, t = plan.schedule, plan.times[state.i + 1]
        a, k = schedule.alpha(t), schedule.sigma(t) / schedule.alpha(t)
        svd, yb, n, seen = self._parts(state.x)
        data, keep = pred.data, (1.0 - self.eta**2) ** 0.5
        free = data + k * (keep * pred.noise + self.eta * z)  # (xb' - Db) / k' is the predicted noise
        db, zb = svd.vt(data), svd.vt(z)
        weak = db + keep * k / n.clamp_min(1e-30) * (yb - db) + self.eta * k * zb
        spread = (k * k - (self.eta_b * n).square()).clamp_min(0.0).sqrt()
        strong = (1.0 - self.eta_b) * db + self.eta_b * yb + spread * zb
        xb = torch.where(seen, torch.where(n <= k, strong, weak), svd.vt(free))
        return State(a * (free + svd.v(xb - svd.vt(free))), state.i + 1, 0, {}, state.aux, None, state.draws + 1)
