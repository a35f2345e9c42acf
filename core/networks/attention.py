"""Multi-head self-attention over a set of tokens, shared by the U-Net and the DiT.

    softmax(Q K^T / sqrt(d)) V for each head, then a linear map.

Queries, keys and values carry no bias (a bias of the keys shifts all scores of a query alike and cancels in the
softmax). "Attention Is All You Need" (Vaswani et al., 2017, section 3.2).
"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["SelfAttention"]


class SelfAttention(nn.Module):
    """Every token looks at every (unmasked) token.

    Args:
        width: W of the tokens.
        heads: number of heads, a divisor of W.

    Shapes:
        x (B, N, W), mask (B, N) bool, True where a token exists -> (B, N, W).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"{width} features do not divide into {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, d) each
        keys = None if mask is None else mask[:, None, None, :]
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=keys)
        return self.out(y.transpose(1, 2).flatten(-2))
