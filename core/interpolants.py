"""Stochastic interpolants: a bridge between two data sets, learnt by regression and walked by ODE or SDE.

Given pairs (x0, x1) from two data sets (independent draws, or paired by a coupling) and noise z, let

    I_t = alpha(t) x0 + beta(t) x1 + gamma(t) z,     t in [0, 1],

with alpha(0) = beta(1) = 1, alpha(1) = beta(0) = 0 and gamma(0) = gamma(1) = 0: time runs from the first data
set to the second. Two conditional expectations carry everything,

    velocity   b(x, t)   = E[alpha' x0 + beta' x1 + gamma' z | I_t = x],    minimises |b|^2/2 - (I' + gamma' z) . b
    denoiser   eta(x, t) = E[z | I_t = x],                                  minimises |eta|^2/2 - z . eta

because the score of I_t is s = -eta/gamma and the law p_t of I_t is transported by each of

    dX = b dt,   dX = (b + eps s) dt + sqrt(2 eps) dW  (forwards),   dX = (b - eps s) dt + sqrt(2 eps) dW  (backwards).

With gamma = sqrt(a t (1 - t)) the derivative gamma' is infinite at the ends, and so is the variance of the velocity
loss there. The pair I with +z and with -z cures it: the singular parts of the two targets are opposite and what
remains of them is gamma' z . (b(I+) - b(I-)), where gamma' |I+ - I-| ~ gamma' gamma stays bounded.

Reference: Stochastic Interpolants: A Unifying Framework for Flows and Diffusions (Albergo, Boffi and
Vanden-Eijnden, 2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from .grids import Grid, uniform
from .schedules import maths as m
from .schedules.maths import Scalar

__all__ = ["Gamma", "Path", "StochasticInterpolant", "ode_sample", "sde_sample"]

Path = Literal["linear", "trigonometric", "encoder_decoder"]
Gamma = Literal["brownian", "quadratic", "sine_squared", "sigmoid", "none"]
Field = Callable[[Tensor, Tensor], Tensor]
"""A vector field (x (B, ...), t (B,)) -> (B, ...)."""

_STEEPNESS = 10.0


def _logistic(x: Scalar) -> Scalar:
    return x.sigmoid() if isinstance(x, Tensor) else 1.0 / (1.0 + math.exp(-x))


@dataclass(frozen=True)
class StochasticInterpolant:
    """The coefficients of I_t = alpha x0 + beta x1 + gamma z and the losses of its two fields.

    Args:
        path: alpha and beta. "linear" 1 - t and t; "trigonometric" cos(pi t/2) and sin(pi t/2);
            "encoder_decoder" cos^2(pi t) on the own half of the way and 0 on the other: the first data set is
            turned into noise and the noise into the second, for which gamma must not vanish at t = 1/2.
        gamma: "brownian" sqrt(t (1 - t)), "quadratic" t (1 - t), "sine_squared" sin^2(pi t), "sigmoid" a
            difference of logistic functions of steepness 10, "none" 0 (velocity and ODE only).
        scale: a, multiplies gamma^2; 2 with "brownian" is sqrt(2 t (1 - t)).

    Raises:
        ValueError: for unknown names, a scale that is not positive, or "encoder_decoder" without noise.
    """

    path: Path = "linear"
    gamma_kind: Gamma = "brownian"
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.path not in get_args(Path):
            raise ValueError(f"path must be one of {get_args(Path)}, got {self.path!r}")
        if self.gamma_kind not in get_args(Gamma):
            raise ValueError(f"gamma_kind must be one of {get_args(Gamma)}, got {self.gamma_kind!r}")
        if not (self.scale > 0.0 and math.isfinite(self.scale)):
            raise ValueError(f"scale must be positive and finite, got {self.scale}")
        if self.path == "encoder_decoder" and self.gamma_kind == "none":
            raise ValueError('path="encoder_decoder" passes through pure noise at t = 1/2: it needs a gamma')

    # ------------------------------------------------------------------ coefficients
    def alpha(self, t: Scalar) -> Scalar:
        """Weight of x0."""
        if self.path == "linear":
            return 1.0 - t
        if self.path == "trigonometric":
            return m.sin(0.5 * math.pi * (1.0 - t))
        return m.where(t < 0.5, m.cos(math.pi * t) ** 2, m.as_like(0.0, t))

    def beta(self, t: Scalar) -> Scalar:
        """Weight of x1."""
        if self.path == "linear":
            return 1.0 * t
        if self.path == "trigonometric":
            return m.sin(0.5 * math.pi * t)
        return m.where(t > 0.5, m.cos(math.pi * t) ** 2, m.as_like(0.0, t))

    def gamma(self, t: Scalar) -> Scalar:
        """Scale of the noise, zero at both ends."""
        return math.sqrt(self.scale) * self._shape(t)[0]

    def derivatives(self, t: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        """(alpha', beta', gamma'); gamma' of "brownian" is +-inf at the ends."""
        half = 0.5 * math.pi
        zero = m.as_like(0.0, t)
        if self.path == "linear":
            rates = m.as_like(-1.0, t), m.as_like(1.0, t)
        elif self.path == "trigonometric":
            rates = -half * m.sin(half * t), half * m.sin(half * (1.0 - t))
        else:
            rate = -math.pi * m.sin(2.0 * math.pi * t)
            rates = m.where(t < 0.5, rate, zero), m.where(t > 0.5, rate, zero)
        return *rates, math.sqrt(self.scale) * self._shape(t)[1]

    def gamma_rate(self, t: Scalar) -> Scalar:
        """gamma gamma' = (gamma^2)'/2, finite everywhere."""
        if self.gamma_kind == "brownian":
            return self.scale * (0.5 - t)
        shape, rate = self._shape(t)
        return self.scale * shape * rate

    def _shape(self, t: Scalar) -> tuple[Scalar, Scalar]:
        """gamma / sqrt(scale) and its derivative."""
        if self.gamma_kind == "none":
            return m.as_like(0.0, t), m.as_like(0.0, t)
        if self.gamma_kind == "quadratic":
            return t * (1.0 - t), 1.0 - 2.0 * t
        if self.gamma_kind == "sine_squared":
            return m.sin(math.pi * t) ** 2, math.pi * m.sin(2.0 * math.pi * t)
        if self.gamma_kind == "brownian":
            root = m.sqrt(t * (1.0 - t))
            return root, m.div(0.5 - t, root)
        f = _STEEPNESS
        up, down = _logistic(f * (t - 0.5) + 1.0), _logistic(f * (t - 0.5) - 1.0)
        ends = _logistic(-0.5 * f + 1.0) - _logistic(-0.5 * f - 1.0)
        return up - down - ends, f * (up * (1.0 - up) - down * (1.0 - down))

    # ------------------------------------------------------------------ training
    def interpolate(self, x0: Tensor, x1: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """I_t for times t (B,) and noise z of the shape of x0."""
        a, b, c = (_column(f(t), x0) for f in (self.alpha, self.beta, self.gamma))
        return a * x0 + b * x1 + c * z

    def velocity_target(self, x0: Tensor, x1: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """alpha' x0 + beta' x1 + gamma' z, whose conditional mean is the velocity."""
        a, b, c = (_column(d, x0) for d in self.derivatives(t))
        return a * x0 + b * x1 + c * z

    def velocity_loss(
        self,
        velocity: Field,
        x0: Tensor,
        x1: Tensor,
        generator: torch.Generator,
        t: Tensor | None = None,
        antithetic: bool = True,
    ) -> Tensor:
        """Mean over samples and elements of |b|^2/2 - (I' + gamma' z) . b; may be negative.

        Args:
            velocity: the field to train.
            x0, x1: samples of the two data sets, (B, ...), paired by position.
            generator: draws z, and t where it is not given.
            t: times (B,) inside (0, 1); default uniform.
            antithetic: evaluate at +z and -z and average, which keeps the variance bounded at the ends. Twice
                the network's batch.
        """
        t, z = self._draw(x0, x1, generator, t)
        if not antithetic:
            b = velocity(self.interpolate(x0, x1, t, z), t)
            return (0.5 * b.square() - self.velocity_target(x0, x1, t, z) * b).mean()
        x = torch.cat([self.interpolate(x0, x1, t, z), self.interpolate(x0, x1, t, -z)])
        target = torch.cat([self.velocity_target(x0, x1, t, z), self.velocity_target(x0, x1, t, -z)])
        b = velocity(x, torch.cat([t, t]))
        return (0.5 * b.square() - target * b).mean()

    def denoiser_loss(
        self,
        denoiser: Field,
        x0: Tensor,
        x1: Tensor,
        generator: torch.Generator,
        t: Tensor | None = None,
        antithetic: bool = True,
    ) -> Tensor:
        """Mean over samples and elements of |eta|^2/2 - z . eta; arguments as in `velocity_loss`."""
        if self.gamma_kind == "none":
            raise ValueError('gamma_kind="none" has no noise to predict')
        t, z = self._draw(x0, x1, generator, t)
        if antithetic:
            x = torch.cat([self.interpolate(x0, x1, t, z), self.interpolate(x0, x1, t, -z)])
            t, z = torch.cat([t, t]), torch.cat([z, -z])
        else:
            x = self.interpolate(x0, x1, t, z)
        eta = denoiser(x, t)
        return (0.5 * eta.square() - z * eta).mean()

    def _draw(self, x0: Tensor, x1: Tensor, generator: torch.Generator, t: Tensor | None) -> tuple[Tensor, Tensor]:
        if x0.shape != x1.shape:
            raise ValueError(f"x0 and x1 must have one shape, got {tuple(x0.shape)} and {tuple(x1.shape)}")
        if t is None:
            # the open interval: 0 and 1 have no finite gamma'
            t = torch.rand(x0.shape[0], generator=generator, dtype=torch.float64, device=x0.device)
            t = t.clamp(1e-6, 1.0 - 1e-6).to(x0.dtype)
        elif t.shape != x0.shape[:1]:
            raise ValueError(f"t must have shape {tuple(x0.shape[:1])}, got {tuple(t.shape)}")
        z = torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)
        return t, z

    # ------------------------------------------------------------------ fields
    def score(self, denoiser: Field, x: Tensor, t: Tensor) -> Tensor:
        """Score of the law of I_t, -eta/gamma.

        Raises:
            ValueError: where gamma = 0, at the ends, or everywhere for gamma_kind="none".
        """
        gamma = self.gamma(t)
        if bool((gamma <= 0.0).any()):
            raise ValueError(f"gamma = 0 at some of the times {t.flatten()[:4].tolist()}: no score there")
        return -denoiser(x, t) / _column(gamma, x)


def _column(c: Tensor, x: Tensor) -> Tensor:
    return c.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def _grid(steps: int | Grid, backward: bool) -> Grid:
    grid = (
        steps
        if isinstance(steps, Grid)
        else uniform(steps, 0.0, 1.0).reverse()
        if backward
        else uniform(steps, 0.0, 1.0)
    )
    if grid.descending != backward:
        raise ValueError(
            f"{grid!r} runs {'backward' if grid.descending else 'forward'}, backward={backward} was asked for"
        )
    if min(grid.start, grid.end) < 0.0 or max(grid.start, grid.end) > 1.0:
        raise ValueError(f"{grid!r} leaves [0, 1]")
    return grid


def _check_method(method: str) -> None:
    if method not in ("euler", "heun"):
        raise ValueError(f'method must be "euler" or "heun", got {method!r}')


def ode_sample(
    velocity: Field,
    x: Tensor,
    steps: int | Grid = 50,
    *,
    backward: bool = False,
    method: Literal["euler", "heun"] = "heun",
) -> Tensor:
    """Carry samples from one data set to the other along dX = b dt.

    Args:
        velocity: the field b.
        x: samples of the first data set, (B, ...); of the second one if `backward`.
        steps: number of equal steps over [0, 1], or a grid (increasing; decreasing if `backward`).
        backward: from the second data set to the first.
        method: "euler" (order 1, one call a step) or "heun" (order 2, two calls).
    """
    _check_method(method)
    for t, s in _grid(steps, backward).pairs():
        h = s - t
        b = velocity(x, x.new_full((x.shape[0],), t))
        ahead = x + h * b
        x = ahead if method == "euler" else x + 0.5 * h * (b + velocity(ahead, x.new_full((x.shape[0],), s)))
    return x


def sde_sample(
    interpolant: StochasticInterpolant,
    velocity: Field,
    denoiser: Field,
    x: Tensor,
    generator: torch.Generator,
    steps: int | Grid = 200,
    *,
    eps: float | Callable[[float], float] = 1.0,
    backward: bool = False,
    method: Literal["euler", "heun"] = "euler",
) -> Tensor:
    """Carry samples along dX = (b +- eps s) dt + sqrt(2 eps) dW, s = -eta/gamma; the marginals are the ODE's.

    Where gamma = 0 the score is not defined and that evaluation is taken with eps = 0, as the ODE.

    Args:
        interpolant: gives gamma.
        velocity, denoiser: the fields b and eta.
        x: samples of the first data set, (B, ...); of the second one if `backward`.
        generator: draws the increments of the Brownian motion.
        steps: number of equal steps over [0, 1], or a grid.
        eps: strength of the noise, a constant or a function of time; 0 is the ODE.
        backward: from the second data set to the first.
        method: "euler" (Euler-Maruyama) or "heun" (drift averaged over both ends of the step).

    Raises:
        ValueError: for an interpolant without noise, a negative eps, or a grid of the wrong direction.
    """
    _check_method(method)
    if interpolant.gamma_kind == "none":
        raise ValueError('gamma_kind="none" has no score: use ode_sample')
    sign = -1.0 if backward else 1.0

    def strength(t: float) -> float:
        e = eps(t) if callable(eps) else float(eps)
        if not e >= 0.0:
            raise ValueError(f"eps must not be negative, got {e} at t={t}")
        return e if interpolant.gamma(t) > 0.0 else 0.0

    def drift(x: Tensor, t: float, e: float) -> Tensor:
        time = x.new_full((x.shape[0],), t)
        b = velocity(x, time)
        return b if e == 0.0 else b.sub(denoiser(x, time), alpha=sign * e / interpolant.gamma(t))

    for t, s in _grid(steps, backward).pairs():
        h, e = s - t, strength(t)
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        d, kick = drift(x, t, e), math.sqrt(2.0 * e * abs(h)) * z
        ahead = x + h * d + kick
        if method == "heun" and strength(s) > 0.0 and e > 0.0:
            ahead = x + 0.5 * h * (d + drift(ahead, s, e)) + kick
        x = ahead
    return x
