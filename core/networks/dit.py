"""Diffusion transformer (DiT) with adaLN-Zero, over sequences (1-D) and images (2-D).

The input is cut into patches, each a token of W features with its position added as fixed sines and cosines. A block
acts on the tokens by attention and by a two-layer map, both modulated by the embedded time and condition c:

    (s1, b1, g1, s2, b2, g2) = W_c silu(c),
    x = x + g1 * attend((1 + s1) norm(x) + b1),
    x = x + g2 * mlp((1 + s2) norm(x) + b2),

with norm a layer normalisation without weights. W_c starts at zero ("adaLN-Zero"): at initialisation every gate g is 0
and every block is the identity; the last linear map starts at zero too, so the first output is zero.

c is one vector a sample for t of shape () or (B,), and one vector a token for t of shape (B, L): each token is then
modulated by the noise level of its own.

"Scalable Diffusion Models with Transformers" (Peebles, Xie, 2023, section 3.2); a time for each frame or token as in
"Diffusion Forcing" (Chen et al., 2024).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from .attention import SelfAttention
from .conditioning import Conditioning
from .time_embedding import TimeEmbedding, check_time

__all__ = ["DiT", "DiTBlock", "position_embedding"]


def position_embedding(sizes: tuple[int, ...], width: int, like: Tensor) -> Tensor:
    """Fixed sines and cosines of positions on a grid: (prod(sizes), width), row-major, in the dtype of `like`.

    Each axis takes an equal share of the features (Vaswani et al., 2017, section 3.5, an axis).
    """
    share = width // len(sizes)
    w = torch.exp(torch.arange(share // 2, device=like.device) * (-math.log(10_000.0) / (share // 2)))
    parts = []
    for axis, size in enumerate(sizes):
        phase = torch.arange(size, device=like.device, dtype=torch.float32)[:, None] * w
        one = torch.cat([phase.sin(), phase.cos()], dim=-1)
        shape = [1] * len(sizes) + [share]
        shape[axis] = size
        parts.append(one.reshape(shape).expand(*sizes, share))
    return torch.cat(parts, dim=-1).reshape(-1, width).to(like.dtype)


def _modulate(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return x * (1 + scale) + shift


class DiTBlock(nn.Module):
    """The modulated transformer block of the module's equations; the identity at initialisation.

    Args:
        width: W.
        heads: number of attention heads.
        mlp_ratio: hidden features of the two-layer map, as a multiple of W.

    Shapes:
        x (B, N, W), c (1 or B, 1 or N, W), mask (B, N) or None -> (B, N, W).
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        hidden = int(mlp_ratio * width)
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width))
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, c: Tensor, mask: Tensor | None = None) -> Tensor:
        s1, b1, g1, s2, b2, g2 = self.modulation(nn.functional.silu(c)).chunk(6, dim=-1)
        x = x + g1 * self.attention(_modulate(self.norm(x), s1, b1), mask)
        return x + g2 * self.mlp(_modulate(self.norm(x), s2, b2))


class DiT(nn.Module):
    """Diffusion transformer: network(x, t, condition=None, concat=None, mask=None).

    Peebles and Xie, 2023. Sequences are (B, L, C), images (B, C, H, W); any length or size that the patches divide.

    Args:
        dims: 1 (sequences) or 2 (images).
        channels_in: C of x.
        width: W, features of a token.
        depth: number of blocks.
        heads: heads of the attention, a divisor of W.
        patch: elements a token (1-D) or side of a square patch (2-D).
        mlp_ratio: hidden features of the blocks' two-layer maps, as a multiple of W.
        positions: add position embeddings (without them the network commutes with permutations of the tokens).
        channels_out: channels of the output; None is C.
        concat_channels: channels of a known signal of the size of x, concatenated to it; 0 for none.
        condition_dim: D of a condition vector; or classes: number of classes of integer labels.
        time, time_scale: kind and scale of the time embedding (256 features, as published).

    Shapes:
        1-D: x (B, L, C), concat (B, L, concat_channels), mask (B, L) bool, True where an element exists (patch = 1);
        2-D: x (B, C, H, W), concat (B, concat_channels, H, W);
        t () or (B,), or one time a token: (B, L) with patch = 1, or (B, number of patches), row-major;
        condition (B, D) or labels (B,). The output has the shape of x, with channels_out channels.

    Raises:
        ValueError: shapes that do not fit, inputs missing or not asked for.
    """

    def __init__(
        self,
        dims: int,
        channels_in: int,
        width: int = 256,
        depth: int = 6,
        heads: int = 4,
        patch: int = 1,
        *,
        mlp_ratio: float = 4.0,
        positions: bool = True,
        channels_out: int | None = None,
        concat_channels: int = 0,
        condition_dim: int | None = None,
        classes: int | None = None,
        time: Literal["sinusoidal", "fourier"] = "sinusoidal",
        time_scale: float | None = None,
    ) -> None:
        super().__init__()
        channels_out = channels_in if channels_out is None else channels_out
        if dims not in (1, 2):
            raise ValueError(f"a DiT takes sequences (dims=1) or images (dims=2), got dims={dims}")
        if min(channels_in, channels_out, width, depth, patch) < 1:
            raise ValueError("channels_in, channels_out, width, depth and patch must all be >= 1")
        if width % (2 * dims):
            raise ValueError(f"sines and cosines of {dims} axes need a width divisible by {2 * dims}, got {width}")
        self.dims, self.patch, self.positions = dims, patch, positions
        self.channels_in, self.channels_out, self.concat_channels = channels_in, channels_out, concat_channels
        self.input = nn.Linear((channels_in + concat_channels) * patch**dims, width)
        self.time = TimeEmbedding(256, width, time, time_scale)
        self.condition = Conditioning(width, condition_dim, classes)
        self.blocks = nn.ModuleList([DiTBlock(width, heads, mlp_ratio) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, channels_out * patch**dims)
        for layer in (self.modulation, self.output):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def _grid(self, x: Tensor) -> tuple[int, ...]:
        """Number of patches along each axis."""
        channels = x.shape[-1] if self.dims == 1 else x.shape[1] if x.ndim > 1 else -1
        if x.ndim != self.dims + 2 or channels != self.channels_in:
            layout = f"(B, L, {self.channels_in})" if self.dims == 1 else f"(B, {self.channels_in}, H, W)"
            raise ValueError(f"{self.dims}-D DiT expects x of shape {layout}, got {tuple(x.shape)}")
        sizes = tuple(x.shape[1:2] if self.dims == 1 else x.shape[2:])
        if any(n % self.patch or n < 1 for n in sizes):
            near = tuple(max(1, -(-n // self.patch)) * self.patch for n in sizes)
            raise ValueError(f"size {sizes} is not a multiple of the patch {self.patch}; pad to {near} and crop")
        return tuple(n // self.patch for n in sizes)

    def _tokens(self, x: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Patches as rows: (B, N, C p^dims)."""
        p = self.patch
        if self.dims == 1:
            return x.reshape(x.shape[0], grid[0], p * x.shape[-1])
        patches = x.reshape(x.shape[0], x.shape[1], grid[0], p, grid[1], p)
        return patches.permute(0, 2, 4, 1, 3, 5).reshape(x.shape[0], grid[0] * grid[1], -1)

    def _untoken(self, y: Tensor, grid: tuple[int, ...]) -> Tensor:
        p, c = self.patch, self.channels_out
        if self.dims == 1:
            return y.reshape(y.shape[0], grid[0] * p, c)
        patches = y.reshape(y.shape[0], grid[0], grid[1], c, p, p).permute(0, 3, 1, 4, 2, 5)
        return patches.reshape(y.shape[0], c, grid[0] * p, grid[1] * p)

    def _join(self, x: Tensor, concat: Tensor | None) -> Tensor:
        axis = 2 if self.dims == 1 else 1
        if not self.concat_channels:
            if concat is not None:
                n = concat.shape[axis]
                raise ValueError(f"DiT takes no concatenated channels: build it with concat_channels={n}")
            return x
        wanted = list(x.shape)
        wanted[axis] = self.concat_channels
        if concat is None or list(concat.shape) != wanted:
            came = "none" if concat is None else str(tuple(concat.shape))
            raise ValueError(f"DiT was built with concat_channels: pass concat of shape {tuple(wanted)}, got {came}")
        return torch.cat([x, concat.to(x.dtype)], dim=axis)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        condition: Tensor | None = None,
        concat: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        grid = self._grid(x)
        batch, tokens = x.shape[0], math.prod(grid)
        check_time(t, batch, tokens, f"one time a sample, or one for each of the {tokens} tokens")
        if mask is not None and (self.dims != 1 or self.patch != 1 or mask.shape != (batch, tokens)):
            wanted = f"here ({batch}, {tokens}); got {tuple(mask.shape)}"
            raise ValueError(f"mask (B, L) is for sequences with patch 1, {wanted}")
        h = self.input(self._tokens(self._join(x, concat), grid))
        if self.positions:
            h = h + position_embedding(grid, h.shape[-1], h)
        c = self.time(t)
        c = c if t.ndim == 2 else c.reshape(-1, 1, c.shape[-1])
        extra = self.condition(condition, batch)
        c = c if extra is None else c + extra.unsqueeze(1)
        for block in self.blocks:
            h = block(h, c, None if mask is None else mask.bool())
        s, b = self.modulation(nn.functional.silu(c)).chunk(2, dim=-1)
        return self._untoken(self.output(_modulate(self.norm(h), s, b)), grid)
