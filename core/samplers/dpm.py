r"""DPM-Solver and DPM-Solver++, singlestep and multistep, and their SDE forms.

C. Lu et al., "DPM-Solver: a fast ODE solver for diffusion probabilistic model sampling in around 10
steps", NeurIPS 2022, and "DPM-Solver++: fast solver for guided sampling of diffusion probabilistic
models", 2022. From s to t with h = lam_t - lam_s, eta the amount of noise (0: ODE, 1: the reverse
SDE), H = (1 + eta) h:

    x_t = (sigma_t / sigma_s) e^{-eta h} x_s + alpha_t sum_j w_j D_j + sigma_t sqrt(1 - e^{-2 eta h}) z

with w the weights of `exponential.adams` for H (DPM-Solver++), or with those for h (DPM-Solver)

    x_t = (alpha_t / alpha_s) x_s - sigma_t (1 + eta) sum_j w_j N_j + sigma_t sqrt(eta (e^{2h} - 1)) z.

Both solve dx = [f x + (1 + eta) g^2 / (2 sigma) N] dt + sqrt(eta) g dw, whose marginals are those of the
process for every eta.

The third-order multistep formula as published (and as in diffusers and k-diffusion) lacks a factor 2
in its second divided difference and is of order 2; here `order=3` is of order 3, and
`compat="published"` gives the published one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..schedules import maths as m
from .base import Level, LinearSampler, Path
from .exponential import adams, phi, root
from .plan import Combination, Row, Use

__all__ = ["DPMSolver", "DPMSolverPP", "multistep_order", "singlestep_rows"]

Method = Literal["multistep", "singlestep"]
Variant = Literal["midpoint", "heun"]


@dataclass(frozen=True)
class _Rule:
    """The two prediction types in one notation: x_t = x_s * keep + scale * sum w_j P_j + noise * z."""

    use: Use
    eta: float = 0.0

    @property
    def sign(self) -> float:
        return -1.0 if self.use == "data" else 1.0

    def stretch(self, h: Any) -> tuple[Any, float]:
        """Length of the exponential's argument and factor of its integral."""
        return ((1.0 + self.eta) * h, 1.0) if self.use == "data" else (h, 1.0 + self.eta)

    def weights(self, h: Any, nodes: Sequence[Any]) -> list[Any]:
        length, factor = self.stretch(h)
        return [factor * w for w in adams(length, nodes, self.sign)]

    def keep(self, s: Level, t: Level) -> Any:
        """What the linear part of the step makes of x_s, and of noise that was added at s."""
        if self.use == "noise":
            return t.alpha / s.alpha
        return t.sigma / s.sigma * (m.exp(-self.eta * (t.lam - s.lam)) if self.eta else 1.0)

    def step(self, s: Level, t: Level, weights: dict[str, Any], source: str = "x") -> Combination:
        scale = -t.sigma if self.use == "noise" else t.alpha
        out = {source: self.keep(s, t), **{p: scale * w for p, w in weights.items()}}
        if self.eta:
            out["z"] = self.sd(s, t)
        return out

    def sd(self, s: Level, t: Level) -> Any:
        if not self.eta:
            return 0.0
        h = t.lam - s.lam
        if self.use == "noise":
            return t.sigma * root(self.eta * m.expm1(2.0 * h))
        return t.sigma * root(-m.expm1(-2.0 * self.eta * h))


def singular_row(rule: _Rule, s: Level, t: Level, k: int, history: dict[str, Combination], gains: int) -> Row:
    """The first-order step where lam is infinite: from alpha = 0, or to sigma = 0."""
    noise = {"z": t.sigma} if rule.eta else {"N": t.sigma}
    sd = t.sigma if rule.eta else 0.0
    return Row(s.t, t.t, {"x": {"D": t.alpha, **noise}, **history}, rule.use, step=k, gains=gains, std=sd)


def multistep_order(k: int, steps: int, order: int, age: int, lower_order_final: bool | None) -> int:
    """Order of a multistep row: limited by history, and near the end when asked (or below 15 steps)."""
    lower = steps < 15 if lower_order_final is None else lower_order_final
    return min(order, age + 1, steps - k if lower else order)


def singlestep_rows(rule: _Rule, path: Path, k: int, order: int, variant: Variant, keep: int = 1) -> list[list[Row]]:
    """The rows of one singlestep step of order 1 to 3; `keep` history registers are maintained."""
    s, t = path[k], path[k + 1]
    h = t.lam - s.lam
    history = {f"P{j + 1}": {f"P{j}" if j else "P": 1.0} for j in reversed(range(keep))}

    def past(age: int) -> dict[str, Combination]:
        return {r: c for r, c in history.items() if int(r[1:]) <= age + 1}

    if path.singular(k):
        return [[singular_row(rule, s, t, k, past(age), 1) for age in range(keep)]]
    if order == 1:
        w = rule.weights(h, [0.0])
        rows = [{"x": rule.step(s, t, {"P": w[0]})} | past(age) for age in range(keep)]
        return [[Row(s.t, t.t, out, rule.use, step=k, gains=1, std=rule.sd(s, t)) for out in rows]]
    stages = [path.between(k, j / order) for j in range(1, order)]
    levels = {"xs": s.t}

    def first(age: int) -> Row:
        u = stages[0]
        out = {"x": rule.step(s, u, {"P": rule.weights(u.lam - s.lam, [0.0])[0]}), "xs": {"x": 1.0}, **past(age)}
        if rule.eta:
            out["Z1"] = {"z": 1.0}
        return Row(s.t, u.t, out, rule.use, levels=levels, step=k, last=False, gains=1, std=rule.sd(s, u))

    rows_ = [[first(age) for age in range(keep)]]
    if order == 2:
        u = stages[0]
        r = (u.lam - s.lam) / h
        if variant == "midpoint":
            w0 = rule.weights(h, [0.0])[0]
            w = [w0 * (1.0 - 0.5 / r), w0 * 0.5 / r]
        else:
            w = rule.weights(h, [0.0, r])
        final = rule.step(s, t, {"P1": w[0], "P": w[1]}, "xs")
        if rule.eta:  # the noise of the stage is the first part of the noise of the step
            final["Z1"] = rule.keep(u, t) * rule.sd(s, u)
            final["z"] = rule.sd(u, t)
        rows_.append([Row(u.t, t.t, {"x": final}, rule.use, step=k, std=rule.sd(u, t))])
        return rows_
    u1, u2 = stages
    r1, r2 = (u1.lam - s.lam) / h, (u2.lam - s.lam) / h
    w = rule.weights(u2.lam - s.lam, [0.0, r1 / r2])
    middle = {"x": rule.step(s, u2, {"P1": w[0], "P": w[1]}, "xs")}
    rows_.append([Row(u1.t, u2.t, middle, rule.use, step=k, last=False)])
    w = rule.weights(h, [0.0, r2])
    rows_.append([Row(u2.t, t.t, {"x": rule.step(s, t, {"P1": w[0], "P": w[1]}, "xs")}, rule.use, step=k)])
    return rows_


@dataclass(frozen=True)
class _DPM(LinearSampler):
    """Shared fields and rows of the two solvers."""

    order: int = 2
    method: Method = "multistep"
    variant: Variant = "midpoint"
    startup: Method = "multistep"
    lower_order_final: bool | None = None
    compat: Literal["published"] | None = None
    eta: float = 0.0

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3):
            raise ValueError(f"order must be 1, 2 or 3, got {self.order}")
        for name, value in (("method", self.method), ("startup", self.startup)):
            if value not in ("multistep", "singlestep"):
                raise ValueError(f'{name} must be "multistep" or "singlestep", got {value!r}')
        if self.variant not in ("midpoint", "heun"):
            raise ValueError(f'variant must be "midpoint" or "heun", got {self.variant!r}')
        if self.compat not in (None, "published"):
            raise ValueError(f'compat must be None or "published", got {self.compat!r}')
        if self.eta < 0.0:
            raise ValueError(f"eta must be >= 0, got {self.eta}")
        if self.eta > 0.0 and self.order == 3 and "singlestep" in (self.method, self.startup):
            raise ValueError(
                "there is no third-order singlestep SDE form; use order=2, or method and startup multistep"
            )

    @property
    def stochastic(self) -> bool:
        return self.eta > 0.0

    @property
    def _rule(self) -> _Rule:
        raise NotImplementedError

    @property
    def nominal_order(self) -> int:
        if self.stochastic:
            return 0
        return 2 if self.compat == "published" and self.method == "multistep" and self.order == 3 else self.order

    def rows(self, path: Path) -> Sequence[Sequence[Row]]:
        rule, order = self._rule, self.order
        if self.method == "singlestep":
            return [row for k in range(path.steps) for row in singlestep_rows(rule, path, k, order, self.variant)]
        rows: list[list[Row]] = []
        warm = order - 1 if self.startup == "singlestep" else 0
        keep = max(order - 1, 1)
        for k in range(path.steps):
            if k < warm:
                rows += singlestep_rows(rule, path, k, order, self.variant, keep)
            else:
                rows.append([self._row(rule, path, k, age) for age in range(order)])
        return rows

    def _row(self, rule: _Rule, path: Path, k: int, age: int) -> Row:
        s, t = path[k], path[k + 1]
        history: dict[str, Combination] = {}
        if self.order > 2 and age > 0:
            history["P2"] = {"P1": 1.0}
        if self.order > 1:
            history["P1"] = {"P": 1.0}
        if path.singular(k):
            return singular_row(rule, s, t, k, history, 1)
        order = multistep_order(k, path.steps, self.order, min(age, k), self.lower_order_final)
        while order > 1 and path.singular(k - order + 1):
            order -= 1
        h = t.lam - s.lam
        r0 = (s.lam - path[k - 1].lam) / h if order > 1 else 0.0
        w0 = rule.weights(h, [0.0])[0]
        if order == 1:
            w = [w0]
        elif order == 2 and self.variant == "midpoint":
            w = [w0 * (1.0 + 0.5 / r0), -w0 * 0.5 / r0]
        elif order == 2:
            w = rule.weights(h, [0.0, -r0])
        elif self.compat == "published":
            w = self._published_third(rule, h, r0, (path[k - 1].lam - path[k - 2].lam) / h)
        else:
            w = rule.weights(h, [0.0, -r0, -(s.lam - path[k - 2].lam) / h])
        names = ("P", "P1", "P2")
        out = {"x": rule.step(s, t, dict(zip(names, w, strict=False))), **history}
        return Row(s.t, t.t, out, rule.use, step=k, gains=1, std=rule.sd(s, t))

    @staticmethod
    def _published_third(rule: _Rule, h: Any, r0: Any, r1: Any) -> list[Any]:
        """The published weights: the second divided difference without its factor 2 (order 2)."""
        big, factor = rule.stretch(h)
        i0, i1, i2 = (factor * big * phi(j, rule.sign * big) for j in (1, 2, 3))
        # d0 = (P - P1) / r0, d1 = (P1 - P2) / r1, D1 = d0 + r0 / (r0 + r1) (d0 - d1), D2 = (d0 - d1) / (r0 + r1)
        a, b = 1.0 + r0 / (r0 + r1), -r0 / (r0 + r1)  # D1 = a d0 + b d1
        c = 1.0 / (r0 + r1)  # D2 = c (d0 - d1)
        d0, d1 = i1 * a + i2 * c, i1 * b - i2 * c
        return [i0 + d0 / r0, -d0 / r0 + d1 / r1, -d1 / r1]


@dataclass(frozen=True)
class DPMSolverPP(_DPM):
    """DPM-Solver++ in its data-prediction form: 1, 2S, 3S, 2M, 3M, and the SDE forms.

    Args:
        order: 1, 2 or 3.
        method: "multistep" (one call a step) or "singlestep" (`order` calls a step).
        variant: of the second-order formula: "midpoint", or "heun" (exact interpolation).
        startup: of multistep methods: lower orders, as published, or "singlestep" steps of the same
            order (needed for the full order of convergence).
        lower_order_final: lower the order in the last steps; None does so below 15 steps.
        compat: "published" uses the published third-order weights (order 2).
        eta: noise on the way; 0 is the ODE, 1 the reverse SDE ("SDE-DPM-Solver++").
    """

    @property
    def _rule(self) -> _Rule:
        return _Rule("data", self.eta)


@dataclass(frozen=True)
class DPMSolver(_DPM):
    """DPM-Solver in its noise-prediction form: 1, 2S, 3S, 2M, 3M, and the SDE forms.

    Args:
        order, method, variant, startup, lower_order_final, compat, eta: as in `DPMSolverPP`; eta = 1 is
            "SDE-DPM-Solver".
    """

    method: Method = "singlestep"

    @property
    def _rule(self) -> _Rule:
        return _Rule("noise", self.eta)
