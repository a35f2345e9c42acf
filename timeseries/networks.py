r"""The network of CSDI: attention over time, then over series, in gated residual layers.

A window is a table of K series and L steps. Every cell enters with two numbers, its value where that is given as a
condition and its noisy value where it is not; the state of the network is h (B, K, L, C). One layer, with the embedded
diffusion step e, the side information s of each cell, and linear maps W that act cell by cell:

    y = h + W_e e,    y = over_series(over_time(y)),    z = W_y y + W_s s,    (a, b) = halves of z,
    (r, k) = halves of W_o (sigmoid(a) * tanh(b)),      h' = (h + r) / sqrt(2),   skip = k.

`over_time` is a transformer encoder layer on the L cells of each series, `over_series` one on the K cells of each step;
where there is one series (one step) there is nothing to attend to and it is left out, as published. The output is
W_2 relu(W_1 (sum of skips) / sqrt(layers)), with W_2 = 0 in the beginning.

*Side information* s of the cell of series k at step l: sines and cosines of the place l in the window (128 numbers), an
embedding of the series k learnt by the model (16), and whether the cell is given (1). W_s s is a sum of a function of
l, one of k and one of the flag, and is computed as that sum: the same numbers without a table of 145 features a cell.

Attention is :func:`torch.nn.functional.scaled_dot_product_attention`, whose memory does not grow with L^2 or K^2.

Tashiro, Song, Song, Ermon, "CSDI: Conditional Score-based Diffusion Models for Probabilistic Time Series Imputation",
NeurIPS 2021, section 4 and appendix E.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["CSDINetwork", "EncoderLayer", "StepEmbedding"]


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear map with the initial weights of CSDI's 1x1 convolutions: normal, variance 2 / inputs."""
    layer = nn.Linear(inputs, outputs)
    nn.init.kaiming_normal_(layer.weight)
    return layer


def _positions(length: int, dim: int, like: Tensor) -> Tensor:
    """Sines and cosines of 0 .. length-1, (length, dim): frequencies 10000^(-2 i / dim), side by side in pairs."""
    place = torch.arange(length, device=like.device, dtype=torch.float64)
    w = 10_000.0 ** (-torch.arange(0, dim, 2, device=like.device, dtype=torch.float64) / dim)
    phase = place[:, None] * w
    return torch.stack([phase.sin(), phase.cos()], dim=-1).flatten(1).to(like.dtype)


class StepEmbedding(nn.Module):
    """The diffusion step i = 0 .. T-1, embedded: sines and cosines of i 10^(4 j / (D/2 - 1)), two layers with SiLU.

    The frequencies *rise* from 1 to 10^4, as in DiffWave and CSDI: neighbouring steps get unlike codes, and only the T
    whole steps have one. They are made once, in double precision.

    Args:
        timesteps: T. dim: D, even, at least 4.

    Shapes:
        i (B,) integer -> (B, D).
    """

    table: Tensor

    def __init__(self, timesteps: int, dim: int = 128) -> None:
        super().__init__()
        w = 10.0 ** (4.0 * torch.arange(dim // 2, dtype=torch.float64) / (dim // 2 - 1))
        phase = torch.arange(timesteps, dtype=torch.float64)[:, None] * w
        self.register_buffer("table", torch.cat([phase.sin(), phase.cos()], dim=1).float(), persistent=False)
        self.first = nn.Linear(dim, dim)
        self.second = nn.Linear(dim, dim)

    def forward(self, i: Tensor) -> Tensor:
        e = self.table[i].to(self.first.weight.dtype)
        return nn.functional.silu(self.second(nn.functional.silu(self.first(e))))


class EncoderLayer(nn.Module):
    """A transformer encoder layer, normalised after each part: attention, then Linear, GELU, Linear.

    "Attention Is All You Need" (Vaswani et al., 2017, section 3.1). The map, the initial weights and the places of
    dropout are those of :class:`torch.nn.TransformerEncoderLayer`, which CSDI takes.

    Args:
        width: C. heads: a divisor of C. feedforward: width between the two linear maps. dropout: probability.

    Shapes:
        x (B, N, C) -> (B, N, C).
    """

    def __init__(self, width: int, heads: int, feedforward: int = 64, dropout: float = 0.1) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"{width} channels do not divide into {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.first = nn.Linear(width, feedforward)
        self.second = nn.Linear(feedforward, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def _attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, d) each
        p = self.dropout.p if self.training else 0.0
        y = nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=p)
        return self.out(y.transpose(1, 2).flatten(-2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.dropout(self._attend(x)))
        y = self.second(self.dropout(nn.functional.gelu(self.first(x))))
        return self.norm2(x + self.dropout(y))


class ResidualLayer(nn.Module):
    """One layer of the module's equations.

    Args:
        channels: C. heads, feedforward, dropout: of the two encoder layers.
        embedding: width of the embedded diffusion step. positions, series: widths of the two parts of s.

    Shapes:
        h (B, K, L, C), e (B, E), place (L, P), who (B, K, S), given (B, K, L) -> state and skip, (B, K, L, C) each.
    """

    def __init__(
        self, channels: int, heads: int, feedforward: int, dropout: float, embedding: int, positions: int, series: int
    ) -> None:
        super().__init__()
        self.step = nn.Linear(embedding, channels)
        self.over_time = EncoderLayer(channels, heads, feedforward, dropout)
        self.over_series = EncoderLayer(channels, heads, feedforward, dropout)
        self.mid = _linear(channels, 2 * channels)
        self.side = _linear(positions + series + 1, 2 * channels)
        self.out = _linear(channels, 2 * channels)
        self.parts = (positions, series, 1)

    def forward(self, h: Tensor, e: Tensor, place: Tensor, who: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        batch, series, steps, _ = h.shape
        y = h + self.step(e)[:, None, None]
        if steps > 1:
            y = self.over_time(y.flatten(0, 1)).unflatten(0, (batch, series))
        if series > 1:
            y = self.over_series(y.transpose(1, 2).flatten(0, 1)).unflatten(0, (batch, steps)).transpose(1, 2)
        of_place, of_series, of_flag = self.side.weight.split(self.parts, dim=1)
        z = self.mid(y)
        z = z + nn.functional.linear(place, of_place, self.side.bias)  # (L, 2C)
        z = z + nn.functional.linear(who, of_series)[:, :, None]  # (B, K, 1, 2C)
        z = torch.addcmul(z, given[..., None], of_flag[:, 0])
        a, b = z.chunk(2, dim=-1)
        residual, skip = self.out(torch.sigmoid(a) * torch.tanh(b)).chunk(2, dim=-1)
        return (h + residual) / math.sqrt(2.0), skip


class CSDINetwork(nn.Module):
    """Predicts the noise of the cells that are not given, from those that are.

    Args:
        series: how many series the model knows.
        channels: C. layers: residual layers. heads: of attention. feedforward: width inside the encoder layers.
        timesteps: T, whole diffusion steps that have an embedding.
        embedding: of the diffusion step, even. time_embedding: of the place in the window, even.
        series_embedding: of the series.
        dropout: probability in the encoder layers.

    Shapes:
        x (B, K, L), label (B,) integer diffusion step, values (B, K, L), given (B, K, L) bool, who (B, K) integer,
        which series each row is -> noise (B, K, L). K and L may differ from call to call.

    What stands in `values` where nothing is given, and in `x` where something is, never enters.
    """

    def __init__(
        self,
        series: int,
        channels: int = 64,
        layers: int = 4,
        heads: int = 8,
        feedforward: int = 64,
        timesteps: int = 50,
        embedding: int = 128,
        time_embedding: int = 128,
        series_embedding: int = 16,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.time_embedding = time_embedding
        self.who = nn.Embedding(series, series_embedding)
        self.step = StepEmbedding(timesteps, embedding)
        self.inputs = _linear(2, channels)
        self.layers = nn.ModuleList(
            ResidualLayer(channels, heads, feedforward, dropout, embedding, time_embedding, series_embedding)
            for _ in range(layers)
        )
        self.hidden = _linear(channels, channels)
        self.outputs = nn.Linear(channels, 1)
        nn.init.zeros_(self.outputs.weight)
        nn.init.zeros_(self.outputs.bias)

    def forward(self, x: Tensor, label: Tensor, *, values: Tensor, given: Tensor, who: Tensor) -> Tensor:
        dtype = self.hidden.weight.dtype
        cells = torch.stack([values.where(given, 0.0), x.masked_fill(given, 0.0)], dim=-1).to(dtype)
        h = nn.functional.relu(self.inputs(cells))
        e = self.step(label)
        place = _positions(x.shape[2], self.time_embedding, h)
        flag, of = given.to(dtype), self.who(who)
        total = torch.zeros_like(h)
        for layer in self.layers:
            h, skip = layer(h, e, place, of, flag)
            total = total + skip
        y = nn.functional.relu(self.hidden(total / math.sqrt(len(self.layers))))
        return self.outputs(y)[..., 0]
