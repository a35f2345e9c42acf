"""U-Net with residual blocks and attention, for signals (1-D), images (2-D) and volumes (3-D).

Level k works at the resolution 2^-k with multipliers[k] * channels features. On the way down every block's result is
kept; on the way up it is concatenated to the input of the block that mirrors it, so that fine detail does not have to
pass through the coarse levels. A residual block is told the embedded time and condition e by scale and shift after its
second normalisation:

    h = conv(silu(norm(x))),    (s, b) = W e,    h = conv0(silu((1 + s) norm(h) + b)),    out = (x or conv1x1(x)) + h,

where conv0 starts at zero, so every block starts as the identity; the last convolution of the network starts at zero
too, so its first output is zero. At the levels named in `attention`, and in the middle, each residual block is followed
by self-attention over all positions, x + out0(attend(norm(x))).

"U-Net: Convolutional Networks for Biomedical Image Segmentation" (Ronneberger, Fischer, Brox, 2015); "Denoising
Diffusion Probabilistic Models" (Ho, Jain, Abbeel, 2020, appendix B); scale and shift, zero starts and attention at
several levels as in "Diffusion Models Beat GANs on Image Synthesis" (Dhariwal, Nichol, 2021, section 3).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from .attention import SelfAttention
from .conditioning import Conditioning
from .time_embedding import TimeEmbedding, check_time

__all__ = ["AttentionBlock", "ResidualBlock", "UNet", "group_norm"]

_CONV: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def _zero(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation (Wu, He, 2018) with at most 32 groups of at least 4 channels (or one group)."""
    groups = next(g for g in range(max(1, min(32, channels // 4)), 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


class ResidualBlock(nn.Module):
    """The residual block of the module's equations.

    Args:
        dims: 1, 2 or 3 spatial dimensions.
        channels_in, channels_out: features before and after.
        embedding: E, width of the embedded time and condition.
        dropout: probability, before the second convolution.

    Shapes:
        x (B, channels_in, *size), e (1 or B, E) -> (B, channels_out, *size).
    """

    def __init__(self, dims: int, channels_in: int, channels_out: int, embedding: int, dropout: float = 0.0) -> None:
        super().__init__()
        conv = _CONV[dims]
        self.norm1 = group_norm(channels_in)
        self.conv1 = conv(channels_in, channels_out, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * channels_out)
        self.norm2 = group_norm(channels_out)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = _zero(conv(channels_out, channels_out, 3, padding=1))
        self.skip = nn.Identity() if channels_in == channels_out else conv(channels_in, channels_out, 1)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        silu = nn.functional.silu
        h = self.conv1(silu(self.norm1(x)))
        s, b = self.modulation(silu(e)).unflatten(-1, (-1, *(1,) * (x.ndim - 2))).chunk(2, dim=1)
        h = self.conv2(self.dropout(silu((1 + s) * self.norm2(h) + b)))
        return self.skip(x) + h


class AttentionBlock(nn.Module):
    """x + attention over all positions of norm(x); starts as the identity.

    Shapes:
        x (B, channels, *size) -> the same.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.attention = SelfAttention(channels, heads)
        _zero(self.attention.out)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        return x + self.attention(tokens).transpose(1, 2).reshape(x.shape)


class _Stage(nn.Module):
    """A residual block and, where asked for, attention."""

    def __init__(self, block: ResidualBlock, attention: AttentionBlock | None) -> None:
        super().__init__()
        self.block, self.attention = block, attention

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        x = self.block(x, e)
        return x if self.attention is None else self.attention(x)


class _Upsample(nn.Module):
    """Twice the size by repetition, then a convolution."""

    def __init__(self, dims: int, channels: int) -> None:
        super().__init__()
        self.conv = _CONV[dims](channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(nn.functional.interpolate(x, scale_factor=2, mode="nearest"))


class UNet(nn.Module):
    """U-Net with time, condition and attention: network(x, t, condition=None, concat=None).

    Ronneberger et al., 2015; Ho et al., 2020; Dhariwal and Nichol, 2021 (see the module).

    Args:
        dims: 1, 2 or 3 spatial dimensions.
        channels_in: C of x.
        channels: features of the first level.
        multipliers: features of level k are multipliers[k] * channels; K = len(multipliers) levels.
        blocks: residual blocks a level on the way down (one more on the way up).
        attention: levels with self-attention (0 is the finest); its cost grows with the square of the positions.
        middle_attention: self-attention between the two middle blocks.
        heads: heads of the attention.
        channels_out: channels of the output; None is C.
        concat_channels: channels of a known signal of the size of x, concatenated to it (a degraded image, a mask,
            a neighbouring slice); 0 for none.
        condition_dim: D of a condition vector; or classes: number of classes of integer labels.
        dropout: probability, inside the residual blocks.
        time, time_scale: kind and scale of the time embedding.

    Shapes:
        x (B, C, *size), t () or (B,), condition (B, D) or labels (B,), concat (B, concat_channels, *size)
        -> (B, channels_out, *size). Each size must be a multiple of 2^(K-1) (`network.multiple`).

    Raises:
        ValueError: shapes that do not fit, condition or concat missing or not asked for, levels that do not exist.
    """

    def __init__(
        self,
        dims: int,
        channels_in: int,
        channels: int = 64,
        multipliers: Sequence[int] = (1, 2, 4),
        blocks: int = 2,
        *,
        attention: Collection[int] = (),
        middle_attention: bool = True,
        heads: int = 4,
        channels_out: int | None = None,
        concat_channels: int = 0,
        condition_dim: int | None = None,
        classes: int | None = None,
        dropout: float = 0.0,
        time: Literal["sinusoidal", "fourier"] = "sinusoidal",
        time_scale: float | None = None,
    ) -> None:
        super().__init__()
        channels_out = channels_in if channels_out is None else channels_out
        if dims not in _CONV:
            raise ValueError(f"a U-Net has 1, 2 or 3 dimensions, got {dims}")
        if not multipliers or min(channels_in, channels_out, channels, blocks, *multipliers) < 1:
            raise ValueError("a U-Net needs at least one level, and channels, multipliers and blocks >= 1")
        levels = len(multipliers)
        if any(not 0 <= level < levels for level in attention):
            raise ValueError(f"attention at levels {sorted(attention)}, but the levels are 0..{levels - 1}")
        self.dims, self.channels_in, self.channels_out = dims, channels_in, channels_out
        self.concat_channels, self.multiple = concat_channels, 2 ** (levels - 1)
        e = 4 * channels
        conv = _CONV[dims]
        self.time = TimeEmbedding(2 * max(32, channels // 2), e, time, time_scale)
        self.condition = Conditioning(e, condition_dim, classes)

        def stage(before: int, after: int, attend: bool) -> _Stage:
            block = ResidualBlock(dims, before, after, e, dropout)
            return _Stage(block, AttentionBlock(after, heads) if attend else None)

        self.input = conv(channels_in + concat_channels, channels, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        width, kept = channels, [channels]
        for level, multiplier in enumerate(multipliers):
            for _ in range(blocks):
                self.down.append(stage(width, multiplier * channels, level in attention))
                width = multiplier * channels
                kept.append(width)
            if level < levels - 1:
                self.down.append(conv(width, width, 3, stride=2, padding=1))
                kept.append(width)
        self.middle1 = stage(width, width, middle_attention)
        self.middle2 = stage(width, width, False)
        for level in reversed(range(levels)):
            for _ in range(blocks + 1):
                self.up.append(stage(width + kept.pop(), multipliers[level] * channels, level in attention))
                width = multipliers[level] * channels
            if level:
                self.up.append(_Upsample(dims, width))
        self.norm = group_norm(width)
        self.output = _zero(conv(width, channels_out, 3, padding=1))

    def _check(self, x: Tensor, t: Tensor, concat: Tensor | None) -> None:
        name = f"{self.dims}-D U-Net"
        if x.ndim != self.dims + 2 or x.shape[1] != self.channels_in:
            layout = ", ".join(("D", "H", "W")[3 - self.dims :]) if self.dims > 1 else "L"
            raise ValueError(f"{name} expects x of shape (B, {self.channels_in}, {layout}), got {tuple(x.shape)}")
        size, m = tuple(x.shape[2:]), self.multiple
        if any(n % m or n < 1 for n in size):
            near = tuple(max(1, -(-n // m)) * m for n in size)
            raise ValueError(
                f"{name} halves the size {m.bit_length() - 1} times: each size must be a multiple of {m}, got {size}; "
                f"pad to {near} and crop the result, or build the network with fewer multipliers"
            )
        check_time(t, x.shape[0], why="a U-Net takes one time a sample")
        wanted = (x.shape[0], self.concat_channels, *size)
        if self.concat_channels and (concat is None or tuple(concat.shape) != wanted):
            came = "none" if concat is None else str(tuple(concat.shape))
            raise ValueError(f"{name} was built with concat_channels: pass concat of shape {wanted}, got {came}")
        if not self.concat_channels and concat is not None:
            raise ValueError(f"{name} takes no concatenated channels: build it with concat_channels={concat.shape[1]}")

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None, concat: Tensor | None = None) -> Tensor:
        self._check(x, t, concat)
        e = self.time(t.reshape(-1))
        c = self.condition(condition, x.shape[0])
        e = e if c is None else e + c
        h = self.input(x if concat is None else torch.cat([x, concat.to(x.dtype)], dim=1))
        kept = [h]
        for layer in self.down:
            h = layer(h, e) if isinstance(layer, _Stage) else layer(h)
            kept.append(h)
        h = self.middle2(self.middle1(h, e), e)
        for layer in self.up:
            h = layer(torch.cat([h, kept.pop()], dim=1), e) if isinstance(layer, _Stage) else layer(h)
        return self.output(nn.functional.silu(self.norm(h)))
