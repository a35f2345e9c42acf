r"""UniPC: every answer of the network corrects the last step and predicts the next one.

W. Zhao et al., "UniPC: a unified predictor-corrector framework for fast sampling of diffusion
models", NeurIPS 2023 (data-prediction form). The corrector (UniC-p) interpolates the prediction at
the *predicted* state as well; it needs no further call and raises the order to p + 1. Apart from the
shortcut rho = 1/2 for one unknown, where B(h) enters (bh1: B = -h, bh2: B = e^{-h} - 1), the weights
are those of exact interpolation. The variant `vary_coeff` of the official code is of first order and
is not offered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..schedules import maths as m
from .base import LinearSampler, Path
from .dpm import Method, _Rule, multistep_order, singlestep_rows, singular_row
from .exponential import adams
from .plan import Combination, Row

__all__ = ["UniPC"]


@dataclass(frozen=True)
class UniPC(LinearSampler):
    """Unified predictor-corrector of order `order` + 1 (the paper calls it UniPC-p, p = `order`).

    Args:
        order: p, 1 to 3.
        variant: "bh2" (default), "bh1", or "exact" (no shortcut).
        startup: "multistep" (as published) or "singlestep" first steps.
        lower_order_final: lower the order in the last steps; None does so below 15 steps.
    """

    order: int = 2
    variant: Literal["bh1", "bh2", "exact"] = "bh2"
    startup: Method = "multistep"
    lower_order_final: bool | None = None

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3):
            raise ValueError(f"order must be 1, 2 or 3, got {self.order}")
        if self.variant not in ("bh1", "bh2", "exact"):
            raise ValueError(f'variant must be "bh1", "bh2" or "exact", got {self.variant!r}')
        if self.startup not in ("multistep", "singlestep"):
            raise ValueError(f'startup must be "multistep" or "singlestep", got {self.startup!r}')

    @property
    def nominal_order(self) -> int:
        return self.order + 1

    def rows(self, path: Path) -> Sequence[Sequence[Row]]:
        rows: list[list[Row]] = []
        warm = self.order if self.startup == "singlestep" else 0
        for k in range(path.steps):
            if k < warm:
                rows += singlestep_rows(_Rule("data"), path, k, min(self.order + 1, 3), "heun", self.order)
            else:
                rows.append([self._row(path, k, age, corrected=k > warm) for age in range(self.order + 1)])
        return rows

    def _row(self, path: Path, k: int, age: int, corrected: bool) -> Row:
        s, t = path[k], path[k + 1]
        age = min(age, k)
        history = {f"P{j + 1}": {f"P{j}" if j else "P": 1.0} for j in reversed(range(self.order)) if j <= age}
        here: Combination = {"x": 1.0}
        if corrected and age > 0 and not path.singular(k - 1):
            here = self._correct(path, k, age)
        if path.singular(k):
            return singular_row(_Rule("data"), s, t, k, history, 1)
        order = self._order(path, k, age)
        w = self._predict(path, k, order)
        out = {source: c * (t.sigma / s.sigma) for source, c in here.items()}
        for j, weight in enumerate(w):
            name = f"P{j}" if j else "P"
            out[name] = out.get(name, 0.0) + t.alpha * weight
        return Row(s.t, t.t, {"x": out, "xs": here, **history}, "data", levels={"xs": s.t}, step=k, gains=1)

    def _order(self, path: Path, k: int, age: int) -> int:
        order = multistep_order(k, path.steps, self.order, age, self.lower_order_final)
        while order > 1 and path.singular(k - order + 1):
            order -= 1
        return order

    def _predict(self, path: Path, k: int, order: int) -> list[Any]:
        """Weights of P (here), P1, ... for the step from times[k] to times[k + 1]."""
        s, h = path[k], path[k + 1].lam - path[k].lam
        nodes = [0.0, *((path[k - j].lam - s.lam) / h for j in range(1, order))]
        if order == 2 and self.variant != "exact":
            base, b = adams(h, [0.0])[0], -self._b(h)
            return [base - 0.5 * b / nodes[1], 0.5 * b / nodes[1]]
        return adams(h, nodes)

    def _correct(self, path: Path, k: int, age: int) -> Combination:
        """The state at times[k] again, now also from P, the prediction at its predicted value."""
        r, s = path[k - 1], path[k]
        order = self._order(path, k - 1, age - 1)
        h = s.lam - r.lam
        nodes = [1.0, 0.0, *((path[k - 1 - j].lam - r.lam) / h for j in range(1, order))]
        if order == 1 and self.variant != "exact":
            base, b = adams(h, [0.0])[0], -self._b(h)
            w = [0.5 * b, base - 0.5 * b]
        else:
            w = adams(h, nodes)
        names = ["P", *(f"P{j}" for j in range(1, order + 1))]
        return {"xs": s.sigma / r.sigma, **{name: s.alpha * c for name, c in zip(names, w, strict=True)}}

    def _b(self, h: Any) -> Any:
        if self.variant == "bh1":
            return -h
        return m.expm1(-h)
