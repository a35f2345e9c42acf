r"""A higher-order graph transformer that goes through all blocks of a graph at once without looking ahead.

Positions are nodes; h (B, P, D) are their features and e (B, P, P, E) those of ordered pairs. M (B, P, P) says who sees
whom: M_ij = True if position i sees j. It is a partial order by blocks: i sees itself and its block, what i sees sees
nothing that i does not see, and of two positions in different blocks at most one sees the other. The pair (i, j)
belongs to the one that sees the other, its *owner*; pairs of which neither does are empty, zero throughout.

**What may be known.** h_i is computed from positions that i sees, e_ij from those that the owner sees.

*Transformer.* Each layer first lets pairs hear their ends, then nodes attend on what they see, with the pair's features
in the logits and in the values:

    g_ij = q_i + k_j,    u_ij = SiLU(W_1 e_ij + g_ij + (W_2 e_ij) g_ij),    e_ij += W_o u_ij
    a_ij = softmax_{j: M_ij} (w . u_ij),                                    h_i  += W sum_j a_ij [V h_j + V' u_ij]

*Causal product.* PPGN (H. Maron et al., "Provably powerful graph networks", NeurIPS 2019) multiplies matrices of pairs,
(X_1 X_2)_ij = sum_k X_1ik X_2kj, whose k runs over all positions. With M in front of it,

    (X_1 o M) X_2 + X_1 (X_2 o M^T) - (X_1 o M) (X_2 o M^T),

k runs over what i *or* j sees: since the owner sees all that the other sees, over what the owner sees. It is divided by
the square root of their number.

L. Zhao, X. Ding, L. Akoglu, "Pard: permutation-invariant autoregressive diffusion for graph generation", NeurIPS 2024,
section 4. Normalisation is by layers (before each part): batch normalisation, published for most data sets, mixes the
statistics of what is known with those of what is to be predicted, and of one graph with others.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["CausalPPGN", "PPGNTransformer", "PairAttention", "causal_product", "perceptron"]


def perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two linear layers with SiLU in between, on the last axis."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, outputs))


def causal_product(X1: Tensor, X2: Tensor, M: Tensor) -> Tensor:
    """The matrix product over what the owner of each pair sees; see the module.

    Args:
        X1, X2: (B, E, P, P), zero at empty pairs.
        M: (B, P, P), 1 where the first sees the second; of the type of X1.

    Returns:
        (B, E, P, P); what stands at empty pairs means nothing.
    """
    M = M.unsqueeze(1)
    seen1, seen2 = X1 * M, X2 * M.transpose(-1, -2)
    return seen1 @ (X2 - seen2) + X1 @ seen2


class PairAttention(nn.Module):
    """The transformer's part of a layer: pairs hear their ends, nodes attend with pairs.

    Args:
        width, pair_width: D and E. heads: divides D.

    Shapes:
        h (B, P, D), e (B, P, P, E), M (B, P, P) bool, pairs (B, P, P) bool: M or its transpose -> h, e.

    Raises:
        ValueError: heads that do not divide the width.
    """

    def __init__(self, width: int, pair_width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads={heads} do not divide the width {width}")
        self.heads = heads
        self.norm_h, self.norm_e, self.norm_f = nn.LayerNorm(width), nn.LayerNorm(pair_width), nn.LayerNorm(width)
        self.ends = nn.Linear(width, 2 * pair_width)
        self.pair = nn.Linear(pair_width, 2 * pair_width)
        self.logits = nn.Linear(pair_width, heads)
        self.values = nn.Linear(width, width)
        self.pair_values = nn.Parameter(torch.randn(heads, pair_width, width // heads) * pair_width**-0.5)
        self.out_h, self.out_e = nn.Linear(width, width), nn.Linear(pair_width, pair_width)
        self.feed = perceptron(width, 2 * width, width)

    def forward(self, h: Tensor, e: Tensor, M: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm_h(h)
        q, k = self.ends(x).chunk(2, -1)
        g = q.unsqueeze(2) + k.unsqueeze(1)
        add, times = self.pair(self.norm_e(e)).chunk(2, -1)
        u = F.silu(add + g + times * g)
        e = e + self.out_e(u) * pairs.unsqueeze(-1)
        a = self.logits(u).masked_fill(~M.unsqueeze(-1), -torch.inf)
        a = torch.where(M.any(2)[:, :, None, None], a, 0.0).softmax(2)  # absent positions see nothing
        v = self.values(x).unflatten(-1, (self.heads, -1))  # (B, P, H, D / H)
        of_nodes = torch.einsum("bijh,bjhd->bihd", a, v)
        of_pairs = torch.einsum("bihe,hed->bihd", a.transpose(2, 3) @ u, self.pair_values)
        h = h + self.out_h((of_nodes + of_pairs).flatten(2))
        return h + self.feed(self.norm_f(h)), e


class CausalPPGN(nn.Module):
    """The matrix product's part of a layer, with a perceptron of each pair after it.

    Args:
        pair_width: E.

    Shapes:
        e (B, P, P, E), M (B, P, P) bool, pairs (B, P, P) bool -> e.
    """

    def __init__(self, pair_width: int) -> None:
        super().__init__()
        E = pair_width
        self.norm, self.norm_f = nn.LayerNorm(E), nn.LayerNorm(E)
        self.left, self.right = perceptron(2 * E, E, E), perceptron(E, E, E)
        self.out, self.feed = nn.Linear(E, E), perceptron(E, 2 * E, E)

    def forward(self, e: Tensor, M: Tensor, pairs: Tensor) -> Tensor:
        there, sees = pairs.unsqueeze(-1), M.to(e.dtype)
        x = self.norm(e)
        X1 = (F.silu(self.left(torch.cat([x, x.transpose(1, 2)], -1))) * there).movedim(-1, 1)
        X2 = (F.silu(self.right(x)) * there).movedim(-1, 1)
        seen = sees.sum(2)
        owner = torch.maximum(seen.unsqueeze(2), seen.unsqueeze(1)).clamp_min(1.0)  # the owner sees more
        product = causal_product(X1, X2, sees) * owner.rsqrt().unsqueeze(1)
        e = e + self.out(product.movedim(1, -1)) * there
        return e + self.feed(self.norm_f(e)) * there


class PPGNTransformer(nn.Module):
    """Layers of `PairAttention` and `CausalPPGN`, and a last normalisation; see the module.

    Args:
        width, pair_width, layers, heads: D, E, how many layers and attention heads.

    Shapes:
        h (B, P, D), e (B, P, P, E), M (B, P, P) bool -> h, e; e is zero at empty pairs.
    """

    def __init__(self, width: int, pair_width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.ModuleList(PairAttention(width, pair_width, heads) for _ in range(layers))
        self.products = nn.ModuleList(CausalPPGN(pair_width) for _ in range(layers))
        self.norm_h, self.norm_e = nn.LayerNorm(width), nn.LayerNorm(pair_width)

    def forward(self, h: Tensor, e: Tensor, M: Tensor) -> tuple[Tensor, Tensor]:
        pairs = M | M.transpose(1, 2)
        e = e * pairs.unsqueeze(-1)
        for attention, product in zip(self.attention, self.products, strict=True):
            h, e = attention(h, e, M, pairs)
            e = product(e, M, pairs)
        return self.norm_h(h), self.norm_e(e) * pairs.unsqueeze(-1)
