"""The frame that sequence backbones share: what goes in, what comes out, how the blocks are told the time.

A window x (B, L, C) is lifted to H features a position, passes K residual blocks that each return a new state and a
skip, and the sum of the skips goes through a small head back to the channels of the output:

    z = relu(W_in x),    z, s_k = block_k(z, e(t), features),    out = W_2 relu(W_1 sum_k s_k)  [+ x].

This is the frame of DiffWave (Kong et al., 2021) and of TSDiff (Kollovieh et al., 2023); S4DBackbone and
DilatedConvNet differ in their blocks alone and are interchangeable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from .time_embedding import TimeEmbedding, check_time

__all__ = ["SequenceBackbone"]


class SequenceBackbone(nn.Module):
    """Input and output layers, time embedding and checks around the blocks of a subclass.

    A block is called as block(z, e, f): state z (B, L, H), embedding e (1 or B, 1 or L, E), features f (B, L, F) or
    None; it returns the new state and its skip, both (B, L, H). With `channels_first` all four have their last two
    axes exchanged.

    Args:
        blocks: the residual blocks.
        channels_in: C of the input.
        channels: H.
        channels_out: C of the output; None is channels_in.
        embedding: features of the time embedding.
        embedding_width: E.
        time, time_scale: kind and scale of the time embedding.
        features: F, number of known features a position (0: none are taken).
        condition_dim: D of a condition vector for the whole window, added to the time embedding (None: none is taken).
        init_skip: add the input to the output.
        skip_scale: factor on the sum of the skips.
        zero_init: start with an output of zero (of x, with init_skip), as DiffWave and CSDI do.
        channels_first: layout that the blocks want.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        channels_in: int,
        channels: int,
        channels_out: int | None,
        embedding: int,
        embedding_width: int,
        time: Literal["sinusoidal", "fourier"],
        time_scale: float | None,
        features: int,
        condition_dim: int | None,
        init_skip: bool,
        skip_scale: float,
        zero_init: bool,
        channels_first: bool,
    ) -> None:
        super().__init__()
        channels_out = channels_in if channels_out is None else channels_out
        if min(channels_in, channels_out, channels) < 1 or not blocks:
            raise ValueError("channels_in, channels_out, channels and the number of blocks must all be >= 1")
        if init_skip and channels_out != channels_in:
            raise ValueError(
                f"init_skip adds the input to the output: {channels_in} and {channels_out} channels differ"
            )
        self.channels_in, self.channels_out, self.features = channels_in, channels_out, features
        self.condition_dim, self.init_skip, self.skip_scale = condition_dim, init_skip, skip_scale
        self.channels_first = channels_first
        self.input = nn.Linear(channels_in, channels)
        self.time = TimeEmbedding(embedding, embedding_width, time, time_scale, final_activation=True)
        self.condition = None if condition_dim is None else nn.Linear(condition_dim, embedding_width)
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels_out)
        if zero_init:
            nn.init.zeros_(self.output.weight)
            nn.init.zeros_(self.output.bias)

    def _embed(self, x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        """(1 or B, 1 or L, E)"""
        batch, length = x.shape[:2]
        check_time(t, batch, length, "one time a window, or one a position")
        e = self.time(t)
        e = e.reshape(-1, 1, e.shape[-1]) if t.ndim < 2 else e
        if self.condition is None:
            if condition is not None:
                raise ValueError("this network takes no condition vector: build it with condition_dim=D")
            return e
        if condition is None or condition.shape != (batch, self.condition_dim):
            came = "none" if condition is None else str(tuple(condition.shape))
            raise ValueError(f"condition vector: got {came}, expected shape ({batch}, {self.condition_dim})")
        return e + self.condition(condition.to(e.dtype)).unsqueeze(1)

    def _check(self, x: Tensor, features: Tensor | None) -> None:
        name = type(self).__name__
        if x.ndim != 3 or x.shape[-1] != self.channels_in or x.shape[1] < 1:
            raise ValueError(f"{name} expects x of shape (B, L >= 1, {self.channels_in}), got {tuple(x.shape)}")
        wanted = (*x.shape[:2], self.features)
        if self.features and (features is None or tuple(features.shape) != wanted):
            came = "none" if features is None else str(tuple(features.shape))
            raise ValueError(
                f"{name} was built with features={self.features}: pass features of shape {wanted}, got {came}"
            )
        if not self.features and features is not None:
            raise ValueError(f"{name} takes no features a position: build it with features={features.shape[-1]}")

    def forward(self, x: Tensor, t: Tensor, features: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        self._check(x, features)
        e = self._embed(x, t, condition)
        z = torch.relu(self.input(x))
        f = None if features is None else features.to(z.dtype)
        if self.channels_first:
            z, e = z.transpose(1, 2).contiguous(), e.transpose(1, 2)
            f = None if f is None else f.transpose(1, 2)
        total: Tensor | None = None
        for block in self.blocks:
            z, skip = block(z, e, f)
            total = skip if total is None else total + skip
        assert total is not None  # there is at least one block
        if self.channels_first:
            total = total.transpose(1, 2)
        out = self.output(torch.relu(self.head(self.skip_scale * total)))
        return x + out if self.init_skip else out
