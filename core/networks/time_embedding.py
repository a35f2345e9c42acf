"""Embeddings of the time label: how a network is told the noise level.

A network sees the level as a number t (the label its denoiser makes: a step index 0..999, 1000 t, log(sigma)/4 ...).
One number moves a deep network little, so it is spread over D features, half sines and half cosines of D/2 phases:

    e(t) = [cos(w_1 t), ..., cos(w_{D/2} t), sin(w_1 t), ..., sin(w_{D/2} t)].

* *Sinusoidal*: w_k = P^{-(k-1)/(D/2)}, periods from 2 pi to 2 pi P in geometric progression. The inner product
  <e(t), e(s)> = sum_k cos(w_k (t - s)) depends on the distance of two times alone. Made for labels of order 100.
* *Random Fourier*: w_k = 2 pi f_k with f_k ~ N(0, s^2), drawn once and frozen; the inner product approximates a
  Gaussian kernel of width 1 / (2 pi s). Made for labels of order 1, such as log(sigma).

All embeddings take t of shape (), (B,) or (B, L) and add one last axis: (D,), (B, D) or (B, L, D).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from .precision import FullPrecision, working_dtype

__all__ = ["FourierEmbedding", "SinusoidalEmbedding", "TimeEmbedding", "check_time"]


def check_time(t: Tensor, batch: int, length: int | None = None, why: str = "") -> None:
    """Refuse a time label whose shape does not belong to the input.

    Args:
        t: the label, shape (), (B,) or (B, L).
        batch: B.
        length: L, the number of elements that may have a time each; None where the network has no such axis.
        why: what L is (or why there is none), for the message.

    Raises:
        TypeError: t is not a tensor.
        ValueError: its shape is none of the above.
    """
    if not isinstance(t, Tensor):
        raise TypeError(f"t must be a torch.Tensor of shape (), (B,) or (B, L), got {type(t).__name__}")
    allowed: list[tuple[int, ...]] = [(), (batch,)]
    if length is not None:
        allowed.append((batch, length))
    if tuple(t.shape) not in allowed:
        wanted = " or ".join(str(shape) for shape in allowed)
        raise ValueError(f"time label of shape {tuple(t.shape)}, expected {wanted}{': ' + why if why else ''}")


def _check_dim(dim: int) -> None:
    if dim < 2 or dim % 2:
        raise ValueError(f"an embedding of sines and cosines needs an even dimension >= 2, got {dim}")


class SinusoidalEmbedding(nn.Module):
    """Sines and cosines of geometrically spaced frequencies; no parameters.

    "Attention Is All You Need" (Vaswani et al., 2017, section 3.5), used for diffusion steps by "Denoising Diffusion
    Probabilistic Models" (Ho, Jain, Abbeel, 2020). The phases are formed in float32 (float64 for a float64 label),
    whatever the precision of the network.

    Args:
        dim: D, even.
        max_period: P; the longest period is 2 pi P in units of the label.
        scale: the label is multiplied by it (1000 for labels in [0, 1]).

    Shapes:
        t (...,) -> (..., D), float32 or float64.
    """

    def __init__(self, dim: int, max_period: float = 10_000.0, scale: float = 1.0) -> None:
        super().__init__()
        _check_dim(dim)
        self.dim, self.max_period, self.scale = dim, float(max_period), float(scale)

    def forward(self, t: Tensor) -> Tensor:
        dtype = working_dtype(t)
        half = self.dim // 2
        steps = torch.arange(half, dtype=dtype, device=t.device)
        w = torch.exp(steps * (-math.log(self.max_period) / half))
        phase = (self.scale * t.to(dtype)).unsqueeze(-1) * w
        return torch.cat([phase.cos(), phase.sin()], dim=-1)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, max_period={self.max_period:g}, scale={self.scale:g}"


class FourierEmbedding(FullPrecision):
    """Sines and cosines of random frequencies, drawn once from a seed and saved with the weights.

    "Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains" (Tancik et al., 2020),
    used for diffusion times by "Score-Based Generative Modeling through Stochastic Differential Equations"
    (Song et al., 2021). The frequencies stay in float32 when the network is cast to half precision.

    Args:
        dim: D, even.
        scale: s, standard deviation of the frequencies (cycles per unit of the label).
        seed: of the frequencies; two embeddings of one seed are equal.

    Shapes:
        t (...,) -> (..., D), float32 or float64.
    """

    frequencies: Tensor

    def __init__(self, dim: int, scale: float = 16.0, seed: int = 0) -> None:
        super().__init__()
        _check_dim(dim)
        generator = torch.Generator().manual_seed(seed)
        frequencies = scale * torch.randn(dim // 2, generator=generator, dtype=torch.float64)
        self.dim, self.scale = dim, float(scale)
        self.register_buffer("frequencies", frequencies.to(torch.float32))

    def forward(self, t: Tensor) -> Tensor:
        dtype = working_dtype(t, self.frequencies)
        phase = (2.0 * math.pi) * t.to(dtype).unsqueeze(-1) * self.frequencies.to(dtype)
        return torch.cat([phase.cos(), phase.sin()], dim=-1)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, scale={self.scale:g}"


class TimeEmbedding(nn.Module):
    """An embedding followed by Linear, SiLU, Linear: the vector that the blocks of a network see.

    Args:
        dim: D, features of the embedding.
        width: W, of the result.
        kind: "sinusoidal" or "fourier".
        scale: of the embedding (see there); None takes its default.
        final_activation: a SiLU after the last Linear (TSDiff and DiffWave have it; U-Net and DiT apply it in the
            block).

    Shapes:
        t (...,) -> (..., W) in the dtype of the weights.
    """

    def __init__(
        self,
        dim: int,
        width: int,
        kind: Literal["sinusoidal", "fourier"] = "sinusoidal",
        scale: float | None = None,
        final_activation: bool = False,
    ) -> None:
        super().__init__()
        if kind == "sinusoidal":
            self.embedding: nn.Module = SinusoidalEmbedding(dim, scale=1.0 if scale is None else scale)
        elif kind == "fourier":
            self.embedding = FourierEmbedding(dim, scale=16.0 if scale is None else scale)
        else:
            raise ValueError(f'kind of time embedding must be "sinusoidal" or "fourier", got {kind!r}')
        self.first = nn.Linear(dim, width)
        self.second = nn.Linear(width, width)
        self.final_activation = final_activation

    def forward(self, t: Tensor) -> Tensor:
        e = self.embedding(t).to(self.first.weight.dtype)
        e = self.second(nn.functional.silu(self.first(e)))
        return nn.functional.silu(e) if self.final_activation else e
