"""A gated network of dilated convolutions over windows of a time series: the peer of the S4D backbone.

Block k, on a state x (B, H, L), with dilation d_k = 2^(k mod cycle):

    a, b = split(conv_{d_k}(x + W_e e) + W_f f),    h = tanh(a) * sigmoid(b),
    x' = (x + W_x h) / sqrt(2),                      skip = W_s h,

and the skips are summed and divided by sqrt(K). Convolutions are centred (the network is not causal) and padded with
zeros; K blocks of width w see R = 1 + (w - 1) sum_k d_k positions: 511 for K = 8, w = 3. Positions further apart than
(R - 1) / 2 cannot influence each other, which is what S4D does not suffer from.

"DiffWave: A Versatile Diffusion Model for Audio Synthesis" (Kong, Ping, Huang, Zhao, Catanzaro, 2021), after "WaveNet:
A Generative Model for Raw Audio" (van den Oord et al., 2016).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from .sequence import SequenceBackbone

__all__ = ["DilatedBlock", "DilatedConvNet"]


class DilatedBlock(nn.Module):
    """The gated residual block of the module's equations.

    Args:
        channels: H.
        embedding: E, width of the embedded time.
        dilation: d.
        kernel: width w, odd.
        features: F, known features a position; 0 for none.
        dropout: probability, on the input of the convolution.

    Shapes:
        x (B, H, L), e (1 or B, E, 1 or L), f (B, F, L) or None -> state (B, H, L), skip (B, H, L).
    """

    def __init__(
        self, channels: int, embedding: int, dilation: int, kernel: int = 3, features: int = 0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"a centred convolution needs an odd kernel width, got {kernel}")
        self.time = nn.Linear(embedding, channels)
        self.dropout = nn.Dropout(dropout)
        self.conv = nn.Conv1d(channels, 2 * channels, kernel, dilation=dilation, padding=dilation * (kernel // 2))
        self.features = nn.Conv1d(features, 2 * channels, 1) if features else None
        self.out = nn.Conv1d(channels, 2 * channels, 1)
        nn.init.kaiming_normal_(self.conv.weight)
        nn.init.kaiming_normal_(self.out.weight)

    def forward(self, x: Tensor, e: Tensor, f: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = self.conv(self.dropout(x + self.time(e.transpose(1, 2)).transpose(1, 2)))
        if self.features is not None and f is not None:
            z = z + self.features(f)
        a, b = z.chunk(2, dim=1)
        residual, skip = self.out(torch.tanh(a) * torch.sigmoid(b)).chunk(2, dim=1)
        return (x + residual) * math.sqrt(0.5), skip


class DilatedConvNet(SequenceBackbone):
    """Stack of gated dilated convolutions: network(x, t, features=None, condition=None), as S4DBackbone.

    Kong et al., 2021 (DiffWave), section 3; van den Oord et al., 2016 (WaveNet).

    Args:
        channels_in: C, channels of x.
        channels: H.
        blocks: number K of residual blocks.
        kernel: width w of the convolutions, odd.
        cycle: dilations are 1, 2, 4 ... 2^(cycle-1), 1, 2 ...
        channels_out: channels of the output; None is C.
        features: F, known features a position, added inside each block.
        condition_dim: D of a condition vector for the whole window.
        embedding: features of the time embedding; time, time_scale: its kind and scale.
        init_skip: add x to the output.
        dropout: probability, inside the blocks.
        zero_init: start with an output of zero (of x, with init_skip).

    Shapes:
        x (B, L, C), t () or (B,) or (B, L), features (B, L, F), condition (B, D) -> (B, L, channels_out).

    Raises:
        ValueError: shapes that do not fit, features or condition missing or not asked for.
    """

    def __init__(
        self,
        channels_in: int,
        channels: int = 64,
        blocks: int = 8,
        kernel: int = 3,
        cycle: int = 10,
        *,
        channels_out: int | None = None,
        features: int = 0,
        condition_dim: int | None = None,
        embedding: int = 128,
        time: Literal["sinusoidal", "fourier"] = "sinusoidal",
        time_scale: float | None = None,
        init_skip: bool = False,
        dropout: float = 0.0,
        zero_init: bool = True,
    ) -> None:
        if cycle < 1:
            raise ValueError(f"cycle of dilations must be >= 1, got {cycle}")
        dilations = [2 ** (k % cycle) for k in range(blocks)]
        super().__init__(
            [DilatedBlock(channels, channels, d, kernel, features, dropout) for d in dilations],
            channels_in,
            channels,
            channels_out,
            embedding,
            channels,
            time,
            time_scale,
            features,
            condition_dim,
            init_skip,
            skip_scale=1.0 / math.sqrt(max(1, blocks)),
            zero_init=zero_init,
            channels_first=True,
        )
        self.receptive_field = 1 + (kernel - 1) * sum(dilations)
