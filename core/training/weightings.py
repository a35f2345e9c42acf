r"""How errors at different noise levels are weighed.

A weighting is a function omega of lambda = log(alpha/sigma), and weighs the squared error of the *data* prediction:

    L = E_t [ omega(lambda_t) |x0 - D(x_t, t)|^2 ].

The raw output r of a network enters the data prediction linearly, D = ... + g(t) r (`Denoiser` lists g for each kind:
-sigma/alpha for noise, 1 for data, ...), so the same loss in the units of the raw output has the weight omega g^2:

    L = E_t [ omega(lambda_t) g(t)^2 |target - r|^2 ].

One weighting therefore means the same loss whatever the network predicts. Without a weighting the raw error is taken as
it is. Densities of times and weightings are two handles on one thing: only their product counts in expectation.

==================  ==========================  ==================================================================
`UniformNoise`      snr = exp(2 lambda)         plain error of the noise. J. Ho et al., "Denoising diffusion
                                                probabilistic models", NeurIPS 2020, eq. 14
`MinSNR`            min(snr, gamma)             T. Hang et al., "Efficient diffusion training via min-SNR weighting
                                                strategy", ICCV 2023; gamma = 5
`SNR`               max(snr + shift, floor)^p   T. Salimans and J. Ho, "Progressive distillation", ICLR 2022, section 4:
                                                shift 1 is the plain error of v, floor 1 the truncated SNR
`EDMWeight`         (k^2 + sd^2) / (k sd)^2     k = sigma/alpha. T. Karras et al., 2022, table 1: the plain error of
                                                the preconditioned network
==================  ==========================  ==================================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["SNR", "EDMWeight", "MinSNR", "UniformNoise", "Weighting", "raw_weight"]


class Weighting:
    """Base class: writes log omega(lambda)."""

    def log_weight(self, log_snr: Tensor) -> Tensor:
        """log omega at lambda = log(alpha/sigma), elementwise."""
        raise NotImplementedError

    def __call__(self, log_snr: Tensor) -> Tensor:
        """omega at lambda = log(alpha/sigma): the weight of the squared error of the data prediction."""
        return self.log_weight(log_snr).exp()


@dataclass(frozen=True)
class UniformNoise(Weighting):
    """The squared error of the predicted noise, the same at all levels."""

    def log_weight(self, log_snr: Tensor) -> Tensor:
        return 2 * log_snr


@dataclass(frozen=True)
class MinSNR(Weighting):
    """min(snr, gamma)."""

    gamma: float = 5.0

    def __post_init__(self) -> None:
        if not self.gamma > 0:
            raise ValueError(f"min-SNR needs gamma > 0, got {self.gamma}")

    def log_weight(self, log_snr: Tensor) -> Tensor:
        return (2 * log_snr).clamp(max=math.log(self.gamma))


@dataclass(frozen=True)
class SNR(Weighting):
    """max(snr + shift, floor) ** power."""

    power: float = 1.0
    shift: float = 0.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        if self.shift < 0 or self.floor < 0:
            raise ValueError(f"SNR needs shift >= 0 and floor >= 0, got shift={self.shift}, floor={self.floor}")

    def log_weight(self, log_snr: Tensor) -> Tensor:
        value = 2 * log_snr
        if self.shift:
            value = torch.logaddexp(value, torch.full_like(value, math.log(self.shift)))
        if self.floor:
            value = value.clamp(min=math.log(self.floor))
        return self.power * value


@dataclass(frozen=True)
class EDMWeight(Weighting):
    """(k^2 + sd^2) / (k sd)^2, k = sigma/alpha."""

    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if not self.sigma_data > 0:
            raise ValueError(f"EDM needs sigma_data > 0, got {self.sigma_data}")

    def log_weight(self, log_snr: Tensor) -> Tensor:
        log_var = 2 * math.log(self.sigma_data)  # omega = (1 + sd^2 snr) / sd^2
        return torch.logaddexp(torch.zeros_like(log_snr), 2 * log_snr + log_var) - log_var


def raw_weight(weighting: Weighting | None, denoiser: Any, t: Tensor, leaf: str | None = None) -> Tensor | None:
    """omega g^2: the weight of the squared error of the raw output at times `t`, float64, on the CPU.

    It has the shape of `t`, or (B, *features) for a schedule whose coefficients vary inside a sample.

    Args:
        weighting: None for a weight of one on the raw error.
        denoiser: its schedule gives lambda, its prediction kind g.
        t: times (B,) or (B, L), strictly inside the schedule.
        leaf: of a product state, which.

    Raises:
        ValueError: for a "residual" network (its two heads have no common g), or where the weight is not finite.
    """
    if weighting is None:
        return None
    schedule, kind = denoiser.schedule, denoiser.prediction
    schedule = schedule.leaves[leaf] if hasattr(schedule, "leaves") else schedule
    kind = kind[leaf] if isinstance(kind, dict) else kind
    if kind == "residual":
        raise ValueError(
            "a residual network has two heads, which no weighting of the data error fits: use weighting=None"
        )
    t = t.detach().double().cpu()
    a, s = torch.as_tensor(schedule.alpha(t)), torch.as_tensor(schedule.sigma(t))
    log_s = s.log()
    if kind == "noise":
        log_gain = log_s - a.log()
    elif kind == "data":
        log_gain = torch.zeros_like(log_s)
    elif kind == "velocity":
        log_gain = log_s - (a.square() + s.square()).log()
    elif kind == "flow":
        da, _, ds = schedule.derivatives(t)
        log_gain = log_s - (a * ds - s * da).abs().log()
    else:  # edm
        sd = denoiser.sigma_data
        log_gain = log_s + math.log(sd) - (s.square() + (a * sd).square()).log() / 2
    weight = (weighting.log_weight(torch.as_tensor(schedule.log_snr(t))) + 2 * log_gain).exp()
    bad = ~weight.isfinite()
    if bad.any():
        when = t[bad.reshape(*t.shape, -1).any(-1)][0]
        raise ValueError(
            f"{weighting!r} gives the weight {float(weight[bad][0])} to a {kind!r} network at t={float(when)}: "
            "keep the times away from the ends of the schedule, for example Uniform(1e-4, 0.999)"
        )
    return weight
