"""Two things done to the condition in training only: dropping it, and perturbing its embedding.

*Condition dropout* replaces the condition by a null condition with probability p, so that one network learns both the
conditional and the unconditional denoiser (J. Ho and T. Salimans, "Classifier-free diffusion guidance", 2022,
algorithm 1).

*Condition-embedding perturbation* (CEP) adds noise to the embedding c of dimension d,

    c + sqrt(gamma / d) n,  n ~ N(0, I)      or      c + u,  u ~ U(-sqrt(gamma/d), sqrt(gamma/d))

(H. Chen et al., "Slight corruption in pre-training data makes better diffusion models", NeurIPS 2024; gamma = 1). With
gamma = 0, and outside of training, the embedding passes untouched, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..noise import Noise

__all__ = ["ConditionPerturbation", "check_null", "drop_condition", "perturb_embedding", "perturbing"]

Distribution = Literal["normal", "uniform"]


def check_null(null: Mapping[str, Any] | None, p: float) -> None:
    """Refuse a dropout that cannot work.

    Raises:
        ValueError: if `p` is no probability, or positive without a null condition.
    """
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"the probability of dropping the condition lies in [0, 1], got {p}")
    if p > 0 and not null:
        raise ValueError(
            f"dropping the condition with probability {p} needs a null condition, got {null!r}: pass for example "
            "null={'group': num_groups} or null={'text': 0.0}; the same value is needed when sampling with guidance"
        )


def drop_condition(condition: Mapping[str, Tensor], null: Mapping[str, Any], p: float, u: Tensor) -> dict[str, Tensor]:
    """`condition` with the entries of `null` replaced together in the samples where u < p.

    Args:
        condition: tensors (B, ...) by name.
        null: what stands for "no condition": a number, or a tensor of the shape of one sample, by name. Entries of
            `condition` that have no null are never dropped.
        p: probability of dropping.
        u: uniforms (B,), one a sample.

    Raises:
        ValueError: for a bad `p`, a null condition that is missing or that `condition` does not have.
    """
    check_null(null, p)
    absent = sorted(set(null) - set(condition))
    if absent:
        raise ValueError(f"null condition for {absent}, but the batch's condition has {sorted(condition)}")
    out = dict(condition)
    if p == 0:
        return out
    for name, value in null.items():
        c = condition[name]
        value = torch.as_tensor(value, dtype=c.dtype, device=c.device)
        if value.ndim and value.shape != c.shape[1:]:
            raise ValueError(
                f"null condition {name!r} has shape {tuple(value.shape)}, a sample has {tuple(c.shape[1:])}"
            )
        drop = (u.to(c.device) < p).view(-1, *[1] * (c.ndim - 1))
        out[name] = torch.where(drop, value, c)
    return out


def perturb_embedding(
    c: Tensor, gamma: float, noise: Noise, *, distribution: Distribution = "normal", role: str = "cep"
) -> Tensor:
    """CEP of an embedding `c` (B, ..., d). With gamma = 0 it is `c` itself.

    Args:
        c: embedding, floating point.
        gamma: strength; the perturbation's norm is about sqrt(gamma), whatever d.
        noise: where the numbers come from.
        distribution: "normal" or "uniform".

    Raises:
        TypeError: if `c` is not floating point (embed labels first).
        ValueError: for a negative gamma or an unknown distribution.
    """
    if not c.is_floating_point():
        raise TypeError(f"CEP perturbs an embedding, got a tensor of {c.dtype}: embed the labels first")
    if not gamma >= 0:
        raise ValueError(f"CEP needs gamma >= 0, got {gamma}")
    if distribution not in ("normal", "uniform"):
        raise ValueError(f'CEP\'s distribution is "normal" or "uniform", got {distribution!r}')
    if gamma == 0:
        return c
    z = noise(c, 0, role)
    if distribution == "uniform":
        z = 2 * torch.special.ndtr(z) - 1
    return c + math.sqrt(gamma / c.shape[-1]) * z


class ConditionPerturbation(nn.Module):
    """CEP as a layer: put it behind the embedding of a condition.

    It perturbs inside `with perturbing(network, noise)` in training mode, and is the identity everywhere else: it has
    no random state of its own.

    Args:
        gamma: strength, see `perturb_embedding`.
        distribution: "normal" or "uniform".

    Shapes:
        input and output (B, ..., d).
    """

    def __init__(self, gamma: float = 1.0, distribution: Distribution = "normal") -> None:
        super().__init__()
        if not gamma >= 0:
            raise ValueError(f"CEP needs gamma >= 0, got {gamma}")
        if distribution not in ("normal", "uniform"):
            raise ValueError(f'CEP\'s distribution is "normal" or "uniform", got {distribution!r}')
        self.gamma, self.distribution = gamma, distribution
        self._noise: tuple[Noise, str] | None = None

    def forward(self, c: Tensor) -> Tensor:
        """The embedding, perturbed while training."""
        if not self.training or self._noise is None or self.gamma == 0:
            return c
        noise, role = self._noise
        return perturb_embedding(c, self.gamma, noise, distribution=self.distribution, role=role)

    def extra_repr(self) -> str:
        return f"gamma={self.gamma}, distribution={self.distribution!r}"


@contextmanager
def perturbing(network: Any, noise: Noise) -> Iterator[None]:
    """Give every `ConditionPerturbation` of `network` the noise of this batch, each under its own role."""
    modules = network.modules() if isinstance(network, nn.Module) else ()
    layers = [module for module in modules if isinstance(module, ConditionPerturbation)]
    for i, layer in enumerate(layers):
        layer._noise = (noise, f"cep/{i}")
    try:
        yield
    finally:
        for layer in layers:
            layer._noise = None
