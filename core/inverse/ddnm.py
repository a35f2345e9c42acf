r"""Denoising diffusion null-space models: the range from the measurement, the null space from the prior.

Y. Wang, J. Yu, J. Zhang, "Zero-shot image restoration using denoising diffusion null-space model", ICLR
2023. Without noise (equation 13)

    D' = D - A^+ (A D - y) = A^+ y + (I - A^+ A) D.

With noise (DDNM+, equations 17 to 19) the correction A^+ n would put noise of size noise/s_i into the
singular direction i; it is shrunk, and the fresh noise of the step (standard deviation sd, entering x
beside alpha D) is reduced by what the measurement brings already:

    D' = D - V diag(l) U^T-part of A^+ (A D - y),   l_i = min(1, s_i sd / (alpha noise)),
    z_i <- z_i sqrt(1 - (alpha l_i noise / (s_i sd))^2),

so that the noise in x has its proper level. It therefore needs singular values and a sampler that adds
noise. As in the published code the predicted noise is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..denoisers import Prediction
from ..hooks import Hook, Step
from ..samplers import DDIM, DDPM, Sampler
from ..spaces import Space
from ..tree import Tree
from .base import Method, moved
from .measurement import Bound, Measurement

__all__ = ["DDNM"]


@dataclass(frozen=True)
class DDNM(Method):
    """DDNM without noise, DDNM+ with noise (Wang, Yu, Zhang, ICLR 2023). Linear operators.

    Args:
        iterations: of conjugate gradients in A^+, for operators without singular values.
        noise: "keep" the predicted noise (the method), or "rederive" it.
        eta: of the DDIM sampler that is taken when none is given.
    """

    iterations: int = 100
    noise: Literal["keep", "rederive"] = "keep"
    eta: float = 0.85

    needs_gaussian: ClassVar[bool] = False

    def sampler(self, measurement: Measurement) -> Sampler:
        return DDIM(self.eta)

    def check(
        self, measurement: Measurement, schedule: Any, space: Space | None = None, sampler: Sampler | None = None
    ) -> None:
        super().check(measurement, schedule, space, sampler)
        if measurement.noise == 0.0:
            return
        if measurement.on(space, measurement.y).svd() is None:
            raise ValueError(
                f"DDNM with noise needs the singular values of {measurement.operator!r} in a space without "
                "constraints, and there are none; use DDS(gamma=...), DiffPIR or PiGDM"
            )
        if sampler is not None and not (isinstance(sampler, DDIM | DDPM) and sampler.stochastic):
            raise ValueError(
                f"DDNM with noise hides the measurement's noise in that of the step: it needs DDIM(eta > 0) or DDPM(), "
                f"got {sampler!r}"
            )

    def predict(self, denoiser: Any, bound: Bound, x: Tree, t: Any, condition: dict[str, Any]) -> Prediction:
        pred = denoiser(x, t, **condition)
        if bound.noise > 0.0:  # the hook corrects, it knows the step
            return pred
        data = bound.pick(pred.data) + bound.pinv(bound.residual(pred.data), self.iterations)
        return moved(pred, denoiser, bound.put(pred.data, data), self.noise)

    def hooks(self, measurement: Measurement) -> list[Hook]:
        return [_Plus(measurement, self.noise)] if measurement.noise > 0.0 else []


@dataclass(frozen=True, eq=False)
class _Plus(Hook):
    """DDNM+: shrunk correction of the data, reduced fresh noise."""

    measurement: Measurement
    noise: Any

    def on_prediction(self, step: Step) -> Step:
        bound = self.measurement.on(step.space, step.pred.data)
        svd, row = bound.svd(), step.plan.row(step.state.i, step.state.age)
        sd = row.std[bound.leaf] if isinstance(row.std, dict) else row.std
        weight = row.out["x"].get("D")
        alpha = weight[bound.leaf] if isinstance(weight, dict) else weight
        if svd is None or alpha is None or (step.z is None and sd > 0.0):
            raise ValueError("DDNM with noise needs singular values and DDIM(eta > 0) or DDPM()")
        r = svd.ut(bound.residual(step.pred.data))
        s = svd.values.to(r)
        seen = s > s.max() * 1e-6
        s1 = torch.where(seen, s, 1.0)
        own = alpha * bound.noise / s1  # noise that the full correction would bring
        shrink = torch.where(seen, (sd / own).clamp_max(1.0), 0.0)
        data = bound.pick(step.pred.data) + svd.v(shrink / s1 * r)
        pred = moved(step.pred, step.pred.denoiser, bound.put(step.pred.data, data), self.noise)
        z = step.z
        if z is not None and sd > 0.0:
            leaf: Tensor = bound.pick(z)
            c = svd.vt(leaf)
            left = (1.0 - (shrink * own / sd).square()).clamp_min(0.0).sqrt()
            z = bound.put(z, leaf + svd.v((left - 1.0) * c))
        return replace(step, pred=pred, z=z)

    def take(self, index: Any) -> Hook:
        return self if self.measurement.y.shape[0] == 1 else replace(self, measurement=self.measurement.take(index))
