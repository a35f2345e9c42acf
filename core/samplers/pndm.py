r"""Pseudo-numerical methods: Adams-Bashforth on the noise, carried over by DDIM's transfer.

L. Liu et al., "Pseudo numerical methods for diffusion models on manifolds", ICLR 2022. With

    phi(x, e, s, t) = (alpha_t / alpha_s) x + (sigma_t - sigma_s alpha_t / alpha_s) e

every step is phi of a weighted noise e. The weights are those of constant steps, so the methods are
of order 2 on other grids. They differ in how they start: PNDM with pseudo Runge-Kutta steps (four
calls), PLMS with a pseudo Heun step, iPNDM with lower orders (Q. Zhang and Y. Chen, "Fast sampling
of diffusion models with exponential integrator", ICLR 2023, appendix).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .base import Level, LinearSampler, Path
from .plan import Combination, Row

__all__ = ["IPNDM", "PLMS", "PNDM"]

_ADAMS = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def _phi(s: Level, t: Level, noise: dict[str, float], source: str = "x") -> Combination:
    """phi(x, e, s, t) with e a combination of registers."""
    if isinstance(s.alpha, float) and s.alpha == 0.0:
        raise ValueError(
            f"the grid starts at t={s.t}, where alpha = 0: methods on the noise prediction cannot; start at a smaller t"
        )
    ratio = t.alpha / s.alpha
    weight = t.sigma - s.sigma * ratio
    return {source: ratio, **{name: weight * c for name, c in noise.items()}}


def _history(age: int, depth: int = 3) -> dict[str, Combination]:
    return {f"P{j + 1}": {f"P{j}" if j else "P": 1.0} for j in reversed(range(depth)) if j <= age}


def _adams(path: Path, k: int, age: int, order: int) -> Row:
    """The Adams-Bashforth step k with as much history as there is."""
    s, t = path[k], path[k + 1]
    weights = _ADAMS[min(order, age + 1) - 1]
    noise = {f"P{j}" if j else "P": w for j, w in enumerate(weights)}
    return Row(s.t, t.t, {"x": _phi(s, t, noise), **_history(age, order - 1)}, "noise", step=k, gains=1)


@dataclass(frozen=True)
class IPNDM(LinearSampler):
    """Improved PNDM: Adams-Bashforth with constant coefficients from the first step on.

    Args:
        order: 1 to 4; the order of convergence is min(order, 2) on grids that are not uniform.
    """

    order: int = 4

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3, 4):
            raise ValueError(f"order must be 1 to 4, got {self.order}")

    @property
    def nominal_order(self) -> int:
        return min(self.order, 2)

    def rows(self, path: Path) -> Sequence[Sequence[Row]]:
        return [[_adams(path, k, min(age, k), self.order) for age in range(self.order)] for k in range(path.steps)]


@dataclass(frozen=True)
class PLMS(LinearSampler):
    """Pseudo linear multistep: a pseudo Heun step (two calls), then Adams-Bashforth 2, 3, 4.

    R. Rombach et al., latent diffusion, use it under this name. Order 2.
    """

    @property
    def nominal_order(self) -> int:
        return 2

    def rows(self, path: Path) -> Sequence[Sequence[Row]]:
        s, t = path[0], path[1]
        first = Row(
            s.t, t.t, {"x": _phi(s, t, {"P": 1.0}), "xs": {"x": 1.0}, "P1": {"P": 1.0}}, "noise",
            levels={"xs": s.t}, last=False, gains=1,
        )  # fmt: skip
        second = Row(t.t, t.t, {"x": _phi(s, t, {"P": 0.5, "P1": 0.5}, "xs")}, "noise")
        rows = [[first], [second]] if _finite(t) else [[_adams(path, 0, 0, 4)]]
        return rows + [[_adams(path, k, min(age, k), 4) for age in range(4)] for k in range(1, path.steps)]


def _finite(t: Level) -> bool:
    return bool((t.sigma > 0.0).all()) if isinstance(t.sigma, Tensor) else t.sigma > 0.0


@dataclass(frozen=True)
class PNDM(LinearSampler):
    """PNDM with its pseudo Runge-Kutta warm-up: four calls in each of the first three steps. Order 2.

    The stage in the middle of a step sits at the middle of its times, as published.
    """

    @property
    def nominal_order(self) -> int:
        return 2

    def rows(self, path: Path) -> Sequence[Sequence[Row]]:
        rows: list[list[Row]] = []
        for k in range(path.steps):
            if k < 3 and _finite(path[k + 1]):
                rows += self._runge_kutta(path, k)
            else:
                rows.append([_adams(path, k, min(age, k), 4) for age in range(4)])
        return rows

    def _runge_kutta(self, path: Path, k: int) -> list[list[Row]]:
        s, t = path[k], path[k + 1]
        m = path.level((s.t + t.t) / 2)
        start = [
            Row(
                s.t, m.t, {"x": _phi(s, m, {"P": 1.0}), "xs": {"x": 1.0}, **_history(age)}, "noise",
                levels={"xs": s.t}, step=k, last=False, gains=1,
            )
            for age in range(4)
        ]  # fmt: skip
        second = Row(m.t, m.t, {"x": _phi(s, m, {"P": 1.0}, "xs"), "K": {"P": 1.0}}, "noise", step=k, last=False)
        third = Row(
            m.t, t.t, {"x": _phi(s, t, {"P": 1.0}, "xs"), "K": {"K": 1.0, "P": 1.0}}, "noise", step=k, last=False
        )
        noise = {"P1": 1 / 6, "K": 2 / 6, "P": 1 / 6}
        fourth = Row(t.t, t.t, {"x": _phi(s, t, noise, "xs")}, "noise", step=k)
        return [start, [second], [third], [fourth]]
