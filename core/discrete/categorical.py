r"""Draws from categorical distributions, exact to float64 without a float64 copy of the logits.

**Inverse CDF.** With weights w_k and one uniform u, the draw is the first k with w_1 + ... + w_k > u (w_1 + ... + w_K).
Rows are taken in blocks of a fixed number of entries: only one block at a time exists in float64, whatever the batch,
the length and the vocabulary. One uniform a token is drawn, not one a token and category.

**Gumbel maximum.** argmax_k (log w_k - log(-log u_k)) has the same law if the u_k are real numbers. In float32 they
are multiples of 2^-24 at the upper end, so that Gumbel numbers end at 16.6. Where many categories share little
probability (a masked token that should rarely be decided: 1/1000 of the mass over 50,000 tokens), the draws that must
win are those of the tail beyond, and nearly all of them are missing (K. Zheng et al., "Masked diffusion models are
secretly time-agnostic masked models and exploit inaccurate categorical sampling", ICLR 2025). Float64 by default;
float32 must be asked for, and less is refused.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..noise import Noise
from ..spaces import Space
from ..tree import Tree, tree_map

__all__ = ["BLOCK", "categorical", "check_gumbel", "gumbel", "gumbel_max", "uniforms"]

BLOCK = 1 << 21
"""Largest number of entries that are held in float64 at a time (16 MiB)."""

_TINY, _ONE = 2.0**-1074, 1.0 - 2.0**-53


def uniforms(noise: Noise, space: Space, like: Tree, draw: int, role: str = "step") -> Tree:
    """Uniform numbers in (0, 1), float64, of the shape of `like`, from a run's keyed noise.

    The noise is standard normal by protocol; its distribution function turns it into uniforms. Spaces fill the places
    that count, mirrored in graphs; elsewhere stands 1/2.
    """
    wide = tree_map(lambda leaf: torch.zeros((), dtype=torch.float64, device=leaf.device).expand(leaf.shape), like)
    return tree_map(lambda z: torch.special.ndtr(z).clamp(_TINY, _ONE), space.randn(noise, wide, draw, role))


def categorical(log_weights: Tensor, u: Tensor) -> Tensor:
    """One category a row by its weight.

    Args:
        log_weights: logarithms of the weights, (..., K), not normalised; -inf for weights of zero.
        u: uniforms (...), float64.

    Returns:
        long (...). A category of weight zero is never drawn.

    Raises:
        TypeError: for uniforms that are not float64.
        FloatingPointError: for rows that hold nan or +inf, or no positive weight at all.
    """
    if u.dtype != torch.float64:
        raise TypeError(
            f"categories are drawn with float64 uniforms, got {u.dtype}: fewer digits change the law where many "
            "categories share little probability"
        )
    k = log_weights.shape[-1]
    if u.shape != log_weights.shape[:-1]:
        raise ValueError(f"need one uniform a row, {tuple(log_weights.shape[:-1])}; got {tuple(u.shape)}")
    rows, u = log_weights.reshape(-1, k), u.reshape(-1)
    out = torch.empty(len(rows), dtype=torch.long, device=rows.device)
    step = max(1, BLOCK // max(k, 1))
    for first in range(0, len(rows), step):
        part = rows[first : first + step].double()
        c = (part - part.amax(-1, keepdim=True)).exp_().cumsum(-1)
        total = c[:, -1]
        bad = (~(torch.isfinite(total) & (total > 0.0))).nonzero().flatten()
        if bad.numel():
            raise FloatingPointError(
                f"row {first + int(bad[0])} of {len(rows)} holds no distribution over {k} categories (nan, +inf or "
                "nothing but -inf among its logarithms): check the network's output"
            )
        target = torch.minimum(u[first : first + step] * total, torch.nextafter(total, torch.zeros_like(total)))
        out[first : first + step] = torch.searchsorted(c, target[:, None], right=True).squeeze(1)
    return out.reshape(log_weights.shape[:-1])


def check_gumbel(dtype: torch.dtype) -> None:
    """Refuse Gumbel numbers of less than float32.

    Raises:
        TypeError: for any type but float64 and float32.
    """
    if dtype not in (torch.float64, torch.float32):
        raise TypeError(
            f"Gumbel numbers in {dtype} end at about {8 if dtype == torch.float16 else 6}: the tail that decides rare "
            "events is missing and samples are wrong; use float64"
        )


def gumbel(u: Tensor) -> Tensor:
    """Standard Gumbel numbers -log(-log u) of uniforms u in (0, 1).

    Raises:
        TypeError: for uniforms of less than float32.
    """
    check_gumbel(u.dtype)
    end = torch.finfo(u.dtype)
    return -(-u.clamp(end.tiny, 1.0 - end.eps / 2.0).log()).log()  # 1 is what a uniform may round to


def gumbel_max(log_weights: Tensor, u: Tensor) -> Tensor:
    """One category a row as argmax(log weight + Gumbel), in the type of `u`.

    Args:
        log_weights: (..., K).
        u: uniforms (..., K), float64; with float32 the law is wrong in the way described above.
    """
    return (log_weights.to(u.dtype) + gumbel(u)).argmax(-1)
