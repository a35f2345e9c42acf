"""Multi-head attention over a set of tokens, shared by the U-Net, the DiT and the transformer of token sequences.

    softmax(Q K^T / sqrt(d)) V for each head, then a linear map.

Queries, keys and values carry no bias (a bias of the keys shifts all scores of a query alike and cancels in the
softmax). "Attention Is All You Need" (Vaswani et al., 2017, section 3.2).

*Rotary positions.* The features of a head are read as d/2 complex numbers. The one of index k is turned by the angle
m w_k at position m, w_k = P^{-k/(d/2)}, in queries and keys alike. A score is then the real part of

    sum_k (e^{i m w_k} q_k) conj(e^{i n w_k} k_k) = sum_k e^{i (m - n) w_k} q_k conj(k_k),

which depends on positions through the difference m - n alone. Values are not turned, and there are no weights.
"RoFormer: Enhanced Transformer with Rotary Position Embedding" (Su et al., 2021, section 3.2). The two parts of a
complex number stand d/2 features apart here, side by side in the paper: the same up to an order of the features.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .precision import working_dtype

__all__ = ["CrossAttention", "SelfAttention", "rotary"]


def rotary(length: int, dim: int, like: Tensor, period: float = 10_000.0) -> Callable[[Tensor], Tensor]:
    """The rotation of queries and keys at positions 0..length-1, for the `rotate` of SelfAttention.

    Su et al., 2021. The angles are formed in float32 (float64 beside float64), whatever the precision of the network.

    Args:
        length: N, number of positions.
        dim: d, features of a head; even.
        like: a tensor on the device, and of the precision, of the network.
        period: P; the longest period is 2 pi P positions, nearly.

    Shapes:
        The returned function: (..., N, d) -> (..., N, d), dtype kept.

    Raises:
        ValueError: d is odd.
    """
    if dim < 2 or dim % 2:
        raise ValueError(f"rotary positions turn pairs of features: a head needs an even number of them, got {dim}")
    dtype = working_dtype(like)
    w = torch.exp(torch.arange(dim // 2, device=like.device, dtype=dtype) * (-math.log(period) / (dim // 2)))
    angle = torch.arange(length, device=like.device, dtype=dtype)[:, None] * w
    cos, sin = angle.cos(), angle.sin()

    def rotate(x: Tensor) -> Tensor:
        real, imaginary = x.chunk(2, dim=-1)
        return torch.cat([real * cos - imaginary * sin, real * sin + imaginary * cos], dim=-1).to(x.dtype)

    return rotate


class SelfAttention(nn.Module):
    """Every token looks at every (unmasked) token.

    Args:
        width: W of the tokens.
        heads: number of heads, a divisor of W.

    Shapes:
        x (B, N, W), mask (B, N) bool, True where a token exists -> (B, N, W).
        rotate: a function of queries and keys (B, heads, N, W / heads) that brings positions in, such as `rotary`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"{width} features do not divide into {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, rotate: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, d) each
        if rotate is not None:
            q, k = rotate(q), rotate(k)
        keys = None if mask is None else mask[:, None, None, :]
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=keys)
        return self.out(y.transpose(1, 2).flatten(-2))


class CrossAttention(nn.Module):
    """Every token looks at every (unmasked) element of a context; where there is none to look at, the output is zero.

    Args:
        width: W of the tokens.
        context_dim: D of the context.
        heads: number of heads, a divisor of W.

    Shapes:
        x (B, N, W), context (B, M, D), mask (B, M) bool, True where an element of the context exists -> (B, N, W).
    """

    def __init__(self, width: int, context_dim: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"{width} features do not divide into {heads} heads")
        self.heads = heads
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(context_dim, 2 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(context).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if mask is None:
            keys = some = None
        else:
            some = mask.any(-1)[:, None, None]  # a softmax over no keys is undefined: look at all, then drop the result
            keys = mask[:, None, None, :] | ~some[..., None]
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=keys)
        y = self.out(y.transpose(1, 2).flatten(-2))
        return y if some is None else torch.where(some, y, 0.0)
