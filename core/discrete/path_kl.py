r"""How far one masked model has gone from another: the Kullback-Leibler divergence of their reverse chains.

Both models walk back the same masked process, from all masks at t = 1. In a step from t to s < t a token that is not
masked stays. A masked one is decided with the probability

    rho = (lost_t - lost_s) / lost_t,        lost = 1 - alpha,

by the model's own p(x_0 | x_t), and else stays masked. The divergence of one token's step is therefore

    sum_k rho p(k) log [rho p(k) / (rho q(k))] + (1 - rho) log 1  =  rho KL(p || q),

exactly, for any size of step: rho is the process', not the model's. Tokens move independently within a step, so the
divergence of the step is the sum over *masked* tokens, and by the chain rule that of the laws P and Q of whole paths is

    KL(P || Q) = sum_{steps} E_{x_t ~ P} [ rho sum_{masked i} KL(p_i(. | x_t) || q_i(. | x_t)) ],

which tends to the integral of (lost' / lost) sum KL dt as steps become small. What a path ends in is a function of the
path: KL(P || Q) bounds the divergence of the samples' laws from above, for every grid.

Its use in C. Wang et al., "Fine-tuning discrete diffusion models via reward optimization with applications to DNA and
protein design" (DRAKES), ICLR 2025: E_P[r] - alpha KL(P || Q) is largest at P = Q exp(r / alpha) / Z, whose samples
have the law q(x_0) exp(r(x_0) / alpha) / Z. (The published code weighs the divergence by the mass that is *not* masked,
where a model that carries known tokens over says the same as the base: on hard states that sum is zero.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import grids
from ..denoisers import check_condition
from ..noise import Noise, SlotNoise
from ..spaces import Space, default_space
from .categorical import uniforms
from .denoiser import TokenDenoiser
from .interpolating import Masked
from .places import places
from .process import Process

__all__ = ["PathKL", "check_masked", "divergence", "hard_steps", "path_kl", "step_kl"]


def check_masked(denoiser: Any, what: str = "denoiser") -> Masked:
    """The process of a denoiser, which must be `Masked`.

    Raises:
        TypeError: for what is no `TokenDenoiser`.
        ValueError: for another process, and for tokens with priorities.
    """
    if not isinstance(denoiser, TokenDenoiser):
        raise TypeError(f"{what} must be a TokenDenoiser, got {type(denoiser).__name__}")
    if not isinstance(denoiser.process, Masked):
        raise ValueError(
            f"{what} walks back {denoiser.process!r}; this is defined for the process Masked(states), in which masked "
            "tokens are decided once and for all"
        )
    if type(denoiser.process).local is not Process.local:
        raise ValueError(
            f"{what} walks back {denoiser.process!r}, in which every token has a time of its own; here all "
            "tokens share one: use Masked(states)"
        )
    return denoiser.process


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) of each token: (B, L, S), (B, L, S) -> (B, L). What p excludes counts nothing."""
    none = torch.isneginf(log_p)
    return (log_p.exp() * torch.where(none, log_p.new_zeros(()), log_p - log_q)).sum(-1)


def step_kl(process: Masked, log_p: Tensor, log_q: Tensor, weight: Tensor, s: float, t: float) -> Tensor:
    """The divergence of one reverse step from t to s, in nats.

    Args:
        process: the masked process.
        log_p: log p(x_0 | x_t) of the model, (B, L, S).
        log_q: the same of the base.
        weight: 1 where a token of x_t is masked, 0 elsewhere (or the masked share of a soft token), (B, L).
        s, t: times s < t.

    Returns:
        (B,).
    """
    rho = 1.0 - float(process.schedule.lost(s)) / float(process.schedule.lost(t))
    return rho * (weight * divergence(log_p, log_q)).flatten(1).sum(1)


def hard_steps(
    denoiser: TokenDenoiser, base: TokenDenoiser, x: Tensor, times: Sequence[float], noise: Noise, space: Space,
    condition: dict[str, Any], role: str = "step",
) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
    """Ancestral steps of `denoiser` from x at times[0] to times[-1], with their divergence from `base`.

    The draws are the core's own, exact. The divergence is as differentiable as the caller's mode allows.

    Yields:
        (divergence of the step (B,), the new x (B, L)).
    """
    process = check_masked(denoiser)
    real: Any = places(space, x)
    for i in range(len(times) - 1):
        t, s = times[i], times[i + 1]
        log_p = denoiser(x, t, **condition).log_probs
        with torch.no_grad():
            log_q = base(x, t, **condition).log_probs
        weight = ((x == process.mask) & real).to(log_p.dtype)
        kl = step_kl(process, log_p, log_q, weight, s, t)
        u = uniforms(noise, space, x, i, role)
        x = space.project(process.draw(log_p.detach(), x, s, t, u))
        yield kl, x


@dataclass(frozen=True)
class PathKL:
    """What `path_kl` measured.

    Attributes:
        x: the samples that the paths ended in, (B, L).
        kl: summed divergence of the steps of each path, (B,), nats; its mean estimates KL(P || Q) without bias.
    """

    x: Tensor
    kl: Tensor

    @property
    def mean(self) -> float:
        """The estimate of KL(P || Q), nats a sequence."""
        return float(self.kl.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of `mean`."""
        return float(self.kl.std() / len(self.kl) ** 0.5)


@torch.no_grad()
def path_kl(
    denoiser: TokenDenoiser,
    base: TokenDenoiser,
    *,
    shape: Sequence[int],
    steps: int,
    seed: int,
    condition: dict[str, Any] | None = None,
    device: torch.device | str | None = None,
) -> PathKL:
    """Sample by ancestral steps and measure how far the paths' law is from the base's.

    Args:
        denoiser: the model P, of a `Masked` process.
        base: the model Q, of the same process.
        shape: of the samples, batch first: (B, L).
        steps: number of equal steps in t. The divergence belongs to that grid; it grows a little with the steps.
        seed: any integer.
        condition: keyword arguments of both networks.
        device: of the samples; default that of the model's parameters, the CPU where it has none.

    Raises:
        TypeError, ValueError: for processes that are not masked, or not the same.
    """
    process = check_masked(denoiser)
    if check_masked(base, "base") != process:
        raise ValueError(f"paths of {process!r} and of {base.process!r} cannot be compared: give the same process")
    check_condition(condition or {})
    x = torch.full(tuple(shape), process.mask, device=_device(denoiser.network) if device is None else device)
    process.check(x)
    space = denoiser.space or default_space(x)
    x = space.project(x)
    total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    noise = SlotNoise(seed, range(len(x)))
    for kl, new in hard_steps(denoiser, base, x, grids.uniform(steps).times, noise, space, condition or {}):
        total, x = total + kl.double(), new
    return PathKL(x, total)


def _device(network: Any) -> torch.device:
    """Where a network's parameters are."""
    first = next(network.parameters(), None) if isinstance(network, torch.nn.Module) else None
    return torch.device("cpu") if first is None else first.device
