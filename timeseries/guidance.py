r"""Observation self-guidance: an unconditional model of windows, pulled towards what was seen, is a forecaster.

Let y be the known entries of a window (mask m) and xhat0(x_t) the model's own data prediction. Where a conditional
model would need p(x_t | y), self-guidance takes log p(y | x_t) = -s E(x_t) + const with an energy on the residual
e = y - xhat0(x_t), summed over the observed entries:

    mean square   E = sum_m e^2                        (no factor 1/2)
    quantile      E = sum_m max(k e, (k - 1) e)        the pinball loss at level k, an asymmetric Laplace likelihood

and moves the reverse step by its gradient, taken through the network at the same call that predicts the noise: one
forward and one backward pass a step.

    DDIM   eps <- eps + s sigma_t grad E(x_t)                     then an ordinary step
    DDPM   x_{t-1} <- (ancestral step from x_t) - s btilde_t grad E(x_t)

btilde_t is the variance of the step, so that the last step, which adds no noise, is not guided. Kollovieh et al.,
"Predict, Refine, Synthesize: Self-Guiding Diffusion Models for Probabilistic Time Series Forecasting", NeurIPS 2023,
section 3.1 and algorithm 1.

*Levels.* Under the quantile energy, path i of the S paths of a series is drawn towards its own level
k_i = i / (S + 1), i = 1 .. S. The paths are therefore **not** independent draws: the ensemble spreads because its
members were sent to different levels, and it is tied to S and to their order.

*How exact it is.* On a Gaussian process with known posterior (:mod:`.oracle`; AR(1) with coefficient 0.9 and unit
variance, 36 of 48 steps observed) the guided law follows in closed form, without sampling. No scale reaches the
posterior; what is left, on average over all contexts of the process:

    sampler      scale   rms left  bias of   sd of the
                         on the    the       horizon
                         context   horizon
    DDPM, 100    0.5     0.51     0.35     1.03
                 1       0.42     0.33     0.99
                 2       0.34     0.35     0.95
                 4       0.26     0.41     0.93
    DDIM, 100    0.5     0.46     0.44     0.99
                 1       0.37     0.48     0.95
                 2       0.29     0.53     0.92
                 4       0.21     0.61     0.89
    DDIM, 20     0.25    0.54     0.45     0.99
                 0.5     0.44     0.45     0.94
                 1       0.34     0.48     0.90
                 2       0.26     0.54     0.87

with bias and sd in units of the posterior's sd (unguided: 1.4, 0.91, 1.27). The context is met within 0.2 to 0.5 prior
standard deviations, the spread of the horizon is right within 13 %, and its centre is off by a third to a half of a
posterior standard deviation: the ancestral form at a scale of 1 is nearest. Where half of the context is missing the
bias is 0.21 (at random), 0.33 (the first half) and 0.10 (the last half). With 20 DDIM steps a scale of 4 diverges, with
100 DDPM steps one of 8. Quantile ensembles of 100 paths have 1.03 (DDPM, 100 steps, scale 4) and 1.07 (DDIM, 20, 2)
times the CRPS of the posterior itself; no guidance at all, 1.15.

*Divergence.* The gradient of the mean-square energy grows with the residual, so that its explicit step is unstable
when s is too large (on a Gaussian process with known answer: fine to s = 4, diverging at 8, 1e27 at 16). The pinball
gradient is bounded, and so is the harm. :class:`DivergenceGuard` watches the norm of the state and the residual that
is left at the end, and stops (or warns) with the remedy.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ..core.denoisers import Denoiser, Prediction
from ..core.guidance import Guidance
from ..core.guidance.batched import tilted
from ..core.hooks import Hook, Step
from ..core.samplers.state import State

__all__ = [
    "AncestralGuidance",
    "DivergenceError",
    "DivergenceGuard",
    "MSEGuidance",
    "QuantileGuidance",
    "SelfGuided",
    "quantile_levels",
]


class DivergenceError(RuntimeError):
    """Guidance was so strong that the samples ran away."""


def quantile_levels(paths: int, series: int = 1) -> Tensor:
    """k_i = i / (S + 1), i = 1 .. S, repeated for each series: float32 (series * paths,).

    Raises:
        ValueError: fewer than 2 paths: one path has one level, 1/2, and no spread.
    """
    if paths < 2:
        raise ValueError(
            f"quantile guidance gives path i of S the level i/(S+1); with num_samples={paths} every path is a median, "
            "there is no spread: ask for at least 2 (100 is usual), or use MSEGuidance"
        )
    return (torch.arange(1, paths + 1, dtype=torch.float64) / (paths + 1)).repeat(series).to(torch.float32)


def _check_scale(scale: float) -> None:
    if not (isinstance(scale, int | float) and 0 <= scale < float("inf")):
        raise ValueError(f"the guidance scale is a finite number >= 0, got {scale!r}")


@dataclass(frozen=True)
class MSEGuidance:
    """Mean-square energy E = sum e^2. Usable for scales up to about 4 on unit-scale data; diverges above.

    Args:
        scale: s, the strength; 0 switches guidance off.
    """

    scale: float = 2.0
    leveled = False

    def __post_init__(self) -> None:
        _check_scale(self.scale)

    def energy(self, e: Tensor, observed: Tensor, level: Tensor | None = None) -> Tensor:
        """E (B,) of residuals e = y - xhat0 (B, ...) over the observed entries."""
        return (e.square() * observed).flatten(1).sum(1)


@dataclass(frozen=True)
class QuantileGuidance:
    """Quantile energy E = sum max(k e, (k - 1) e), one level k a path. The default; bounded at any scale.

    Args:
        scale: s. The paper's scales lie between 1 (KDD, Wikipedia) and 8 (solar, exchange rates).
    """

    scale: float = 4.0
    leveled = True

    def __post_init__(self) -> None:
        _check_scale(self.scale)

    def energy(self, e: Tensor, observed: Tensor, level: Tensor | None = None) -> Tensor:
        """E (B,) of residuals e = y - xhat0 (B, ...) over the observed entries, at levels (B,)."""
        if level is None:
            raise ValueError("the quantile energy needs the level of each path")
        k = level.reshape(-1, *[1] * (e.ndim - 1)).to(e)
        return (torch.maximum(k * e, (k - 1) * e) * observed).flatten(1).sum(1)


class _Guided(Prediction):
    """A prediction that remembers the energy's gradient at x_t."""

    __slots__ = ("gradient",)

    gradient: Tensor

    def take(self, index: Any) -> _Guided:
        """The prediction for the batch elements `index`, gradient included (particles are resampled)."""
        part = super().take(index)
        out = _Guided(part.denoiser, part.x, part.t, part.raw, part.reference, part.data, part.noise, part.parts)
        out.gradient = self.gradient[index]
        return out


class SelfGuided(Guidance):
    """A denoiser around a denoiser that guides towards observations.

    Call it with the conditions ``values`` and ``observed`` (both of the state's shape, (B, L, K); ``observed`` boolean)
    and, for the quantile energy, ``level`` (B,). They are cut with the batch by `sample`.

    Args:
        denoiser: the unconditional model.
        guidance: the energy and its scale.
        rule: ``"ddim"`` moves the predicted noise. ``"ddpm"`` leaves the prediction as it is, for
            :class:`AncestralGuidance` to move the step: use both together.
    """

    needs_grad = True

    def __init__(
        self,
        denoiser: Denoiser,
        guidance: MSEGuidance | QuantileGuidance,
        rule: Literal["ddim", "ddpm"] = "ddim",
    ) -> None:
        super().__init__(denoiser)
        if rule not in ("ddim", "ddpm"):
            raise ValueError(f"rule must be 'ddim' or 'ddpm', got {rule!r}")
        if denoiser.schedule.family != "gaussian":
            raise ValueError(f"self-guidance is derived for Gaussian noise, got {denoiser.schedule!r}")
        self.guidance, self.rule = guidance, rule

    def __repr__(self) -> str:
        return f"SelfGuided({self.denoiser!r}, {self.guidance!r}, rule={self.rule!r})"

    def __call__(self, x: Tensor, t: Any, **condition: Any) -> Prediction:
        """The guided prediction at x (B, L, K) and scalar time t.

        Raises:
            ValueError: missing observations, shapes that differ, or a time for each element.
        """
        if "values" not in condition or "observed" not in condition:
            raise ValueError("self-guidance needs the conditions 'values' and 'observed', of the state's shape")
        values, observed, level = (condition.pop(name, None) for name in ("values", "observed", "level"))
        if values.shape != x.shape or observed.shape != x.shape:
            raise ValueError(
                f"values and observed must have the state's shape {tuple(x.shape)}, got {tuple(values.shape)} and "
                f"{tuple(observed.shape)}"
            )
        if isinstance(t, Tensor) and t.ndim:
            raise ValueError("self-guidance is defined for one time for all walkers, got a tensor of times")
        with torch.enable_grad():
            z = x.detach().requires_grad_(True)
            pred = self.denoiser(z, t, **condition)
            energy = self.guidance.energy(values - pred.data, observed, level)
            (gradient,) = torch.autograd.grad(energy.sum(), z)
        data, noise = pred.data.detach(), pred.noise.detach()
        plain = Prediction(pred.denoiser, x, pred.t, pred.raw.detach(), pred.reference, data, noise)
        told = tilted(plain, gradient, -self.guidance.scale) if self.rule == "ddim" else plain
        out = _Guided(pred.denoiser, x, pred.t, plain.raw, pred.reference, told.data, told.noise, {"unguided": plain})
        out.gradient = gradient
        return out


@dataclass(frozen=True)
class AncestralGuidance(Hook):
    """The guided ancestral step: x_{t-1} <- x_{t-1} - s btilde_t grad E(x_t), with btilde_t the variance of the step.

    Goes with ``SelfGuided(..., rule="ddpm")`` and the DDPM sampler.

    Args:
        scale: s.
    """

    scale: float = 2.0

    def on_step(self, step: Step) -> State:
        """The state after the guided step."""
        new = super().on_step(step)
        if not isinstance(step.pred, _Guided):
            raise ValueError("AncestralGuidance needs the gradient of SelfGuided(..., rule='ddpm')")
        sd = step.plan.row(step.state.i, step.state.age).std
        if not sd or not self.scale:
            return new
        return replace(new, x=new.x - self.scale * sd * sd * step.pred.gradient)


@dataclass
class DivergenceGuard(Hook):
    """Stop a run that guidance has blown up, and say what to do.

    A noised window has the root mean square sqrt(alpha^2 r^2 + sigma^2) <= max(1, r), where r is that of the data. The
    guard takes r from the observed values and trips

    - on the way, when a walker's rms exceeds ``limit`` max(1, r) or is not finite (working guidance overshoots to 6, at
      few DDIM steps and large scales to 15; a diverging run passes 1e5 within a few steps);
    - at the end, when the residual left on the observed entries, averaged over the walkers, exceeds ``residual``
      max(1, r): predicting nothing at all would have been closer.

    Args:
        values, observed: (B, L, K), as given to :class:`SelfGuided`.
        limit, residual: factors.
        action: ``"raise"`` a :class:`DivergenceError`, or ``"warn"`` once.
        scale: named in the message. leveled: quantile guidance is in use, and need not be recommended.
    """

    values: Tensor
    observed: Tensor
    limit: float = 50.0
    residual: float = 2.0
    action: Literal["raise", "warn"] = "raise"
    scale: float = 0.0
    told: list[bool] = field(default_factory=lambda: [False])
    leveled: bool = False

    def _size(self) -> Tensor:
        count = self.observed.flatten(1).sum(1).clamp_min(1)
        return ((self.values * self.observed).square().flatten(1).sum(1) / count).sqrt().clamp_min(1.0)

    def on_step(self, step: Step) -> State:
        """The state, unchanged."""
        new = super().on_step(step)
        size = self._size()
        rms = new.x.square().flatten(1).mean(1).sqrt()
        bad = ~(rms <= self.limit * size)
        if bool(bad.any()):
            worst = float((rms / size).nan_to_num(1e38).max())
            self._trip(int(bad.sum()), len(rms), f"at call {step.call} the state has {worst:.3g} times the data's size")
        if step.sampler.done(step.plan, new) and bool(self.observed.any()):
            count = self.observed.flatten(1).sum(1).clamp_min(1)
            left = (((new.x - self.values) * self.observed).square().flatten(1).sum(1) / count).sqrt()
            if not bool((left / size).mean() <= self.residual):
                mean = float(left.mean())
                self._trip(len(left), len(left), f"the residual left on the context is {mean:.3g} on average")
        return new

    def _trip(self, bad: int, total: int, what: str) -> None:
        message = (
            f"guidance diverged in {bad} of {total} paths: {what}. Reduce the scale (now {self.scale:g})"
            + (" or take more steps" if self.leveled else ", take more steps, or use QuantileGuidance")
            + "; a model that was hardly trained fails in the same way"
        )
        if self.action == "raise":
            raise DivergenceError(message)
        if not self.told[0]:
            self.told[0] = True
            warnings.warn(message, stacklevel=2)

    def take(self, index: Any) -> DivergenceGuard:
        """The guard for the walkers `index`; all parts warn once together."""
        return replace(self, values=self.values[index], observed=self.observed[index])
