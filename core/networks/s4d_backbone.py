"""A gated residual network of S4D layers over windows of a time series, in the spirit of TSDiff.

Block, on a state x (B, L, H), with the embedded time e and known features f:

    z = x + W_e e,    z = z + mix(gelu(S4D(norm(z)))) + W_f f,    h = tanh(z) * sigmoid(z),
    x' = x + W_x h,   skip = W_s h.

The gate multiplies two squashings of the *same* tensor (DiffWave splits the channels instead). S4D sees the whole
window in both directions, so three blocks are enough; everything else acts position by position.

"Predict, Refine, Synthesize: Self-Guiding Diffusion Models for Probabilistic Time Series Forecasting" (Kollovieh,
Ansari, Bohlke-Schneider, Zschiegner, Wang, Wang, 2023). There the layer is S4 (normal plus low rank, state 128); here
it is S4D, whose kernel is cheaper, with state 64.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from .s4d import S4D, Initialisation
from .sequence import SequenceBackbone

__all__ = ["S4DBackbone", "S4DBlock"]


class S4DBlock(nn.Module):
    """The gated residual block of the module's equations.

    Args:
        channels: H.
        embedding: E, width of the embedded time.
        d_state, init, bidirectional: of the S4D layer.
        features: F, known features a position; 0 for none.
        dropout: probability after the S4D layer.

    Shapes:
        x (B, L, H), e (1 or B, 1 or L, E), f (B, L, F) or None -> state (B, L, H), skip (B, L, H).
    """

    def __init__(
        self,
        channels: int,
        embedding: int,
        d_state: int = 64,
        init: Initialisation = "legs",
        bidirectional: bool = True,
        features: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.time = nn.Linear(embedding, channels)
        self.norm = nn.LayerNorm(channels)
        self.s4d = S4D(channels, d_state, init, bidirectional)
        self.mix = nn.Linear(channels, channels)
        self.features = nn.Linear(features, channels) if features else None
        self.dropout = nn.Dropout(dropout)
        self.residual = nn.Linear(channels, channels)
        self.skip = nn.Linear(channels, channels)

    def forward(self, x: Tensor, e: Tensor, f: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = x + self.time(e)
        z = z + self.dropout(self.mix(nn.functional.gelu(self.s4d(self.norm(z)))))
        if self.features is not None and f is not None:
            z = z + self.features(f)
        h = torch.tanh(z) * torch.sigmoid(z)
        return x + self.residual(h), self.skip(h)


class S4DBackbone(SequenceBackbone):
    """Stack of gated S4D blocks: network(x, t, features=None, condition=None).

    Kollovieh et al., 2023 (TSDiff), section on the architecture, with S4D layers.

    Args:
        channels_in: C, channels of x (the series, then its lags).
        channels: H.
        blocks: number of residual blocks.
        d_state: N, state size of the S4D layers.
        channels_out: channels of the output; None is C.
        init: initialisation of the S4D layers, "legs", "lin" or "inv".
        bidirectional: let every position see the whole window; without it the network is causal.
        features: F, known features a position (covariates, observed past and its mask ...), added after each S4D.
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
        blocks: int = 3,
        d_state: int = 64,
        *,
        channels_out: int | None = None,
        init: Initialisation = "legs",
        bidirectional: bool = True,
        features: int = 0,
        condition_dim: int | None = None,
        embedding: int = 128,
        time: Literal["sinusoidal", "fourier"] = "sinusoidal",
        time_scale: float | None = None,
        init_skip: bool = False,
        dropout: float = 0.0,
        zero_init: bool = True,
    ) -> None:
        stack = [S4DBlock(channels, channels, d_state, init, bidirectional, features, dropout) for _ in range(blocks)]
        super().__init__(
            stack,
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
            skip_scale=1.0,
            zero_init=zero_init,
            channels_first=False,
        )
