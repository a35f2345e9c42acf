r"""Dense networks on graphs: what a diffusion of (X, A) asks for the scores of nodes and of edges.

Shapes throughout: X (B, N, F) node features, A (B, N, N) symmetric with real weights (a noisy adjacency has any sign),
mask (B, N), True = the node exists. X, and A at absent nodes, are zero: then absent nodes change nothing, because a
convolution only moves features along the rows of A.

*Graph convolution* (T. Kipf and M. Welling, "Semi-supervised classification with graph convolutional networks", ICLR
2017), with the diagonal of A set to one and d_i = max(1, sum_j A_ij):

    H' = D^{-1/2} A D^{-1/2} H W + b.

*Graph multi-head attention* (J. Baek, M. Kang, S. J. Hwang, "Accurate learning of graph representations with graph
multiset pooling", ICLR 2021): queries, keys and values are convolutions. The attention weights *are* the new adjacency:

    A' = 1/h sum_heads tanh(Q K^T / sqrt(d_out)),      symmetrised.

*The two score networks* are those of J. Jo, S. Lee, S. J. Hwang, "Score-based generative modeling of graphs via the
system of stochastic differential equations" (GDSS), ICML 2022, appendix. The adjacency and its powers are the channels
that attention starts from; every layer attends once on every channel, and mixes channels pair by pair. All channels of
a layer are computed in one product (the published code goes through them one by one); the parameters are as many.

Everything is equivariant: permuting the nodes permutes the output.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...core.networks.time_embedding import SinusoidalEmbedding

__all__ = ["AttentionLayer", "DenseGCN", "EdgeScore", "GraphAttention", "NodeScore", "mlp", "normalised", "powers"]


def normalised(A: Tensor) -> Tensor:
    """D^{-1/2} A D^{-1/2} with ones on the diagonal of A and degrees of at least 1, (..., N, N)."""
    A = torch.where(torch.eye(A.shape[-1], dtype=torch.bool, device=A.device), A.new_ones(()), A)
    scale = A.sum(-1).clamp(min=1.0).rsqrt()
    return scale.unsqueeze(-1) * A * scale.unsqueeze(-2)


def powers(A: Tensor, count: int) -> Tensor:
    """A, A^2, ..., A^count as channels: (B, N, N) -> (B, count, N, N)."""
    out = [A]
    for _ in range(count - 1):
        out.append(out[-1] @ A)
    return torch.stack(out, 1)


def mlp(linears: int, inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """`linears` linear layers with ELU in between, on the last axis."""
    widths = [inputs, *[hidden] * (linears - 1), outputs]
    layers: list[nn.Module] = []
    for k in range(linears):
        layers += [nn.ELU()] * (k > 0) + [nn.Linear(widths[k], widths[k + 1])]
    return nn.Sequential(*layers)


def _on_nodes(x: Tensor, mask: Tensor) -> Tensor:
    return x * mask.unsqueeze(-1).to(x.dtype)


def _on_pairs(x: Tensor, mask: Tensor) -> Tensor:
    """Pairs (B, ..., N, N) of which one is absent become zero."""
    there = mask.to(x.dtype)
    pairs = there.unsqueeze(-1) * there.unsqueeze(-2)
    return x * pairs.reshape(pairs.shape[0], *[1] * (x.ndim - 3), *pairs.shape[1:])


class DenseGCN(nn.Module):
    """One graph convolution; see the module.

    Args:
        inputs, outputs: features a node before and after.

    Shapes:
        x (B, N, inputs), A (B, N, N) as `normalised` gives it -> (B, N, outputs).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(inputs, outputs)))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, A: Tensor) -> Tensor:
        return A @ (x @ self.weight) + self.bias


class GraphAttention(nn.Module):
    """Multi-head attention on every one of C adjacency channels, each with weights of its own.

    Args:
        channels: C.
        inputs: features a node.
        attention: width of queries and keys over all heads.
        outputs: width d_out of the values.
        heads: h; divides `attention`.

    Shapes:
        x (B, N, inputs), A (B, C, N, N) -> values (B, N, C * outputs), or None if not asked for, and attention
        (B, C, N, N).

    Raises:
        ValueError: if the heads do not divide the width.
    """

    def __init__(self, channels: int, inputs: int, attention: int, outputs: int, heads: int = 4) -> None:
        super().__init__()
        if attention % heads:
            raise ValueError(f"{heads} heads do not divide attention={attention}")
        self.heads, self.widths = heads, (attention, attention, outputs)
        parts = [[nn.init.xavier_uniform_(torch.empty(inputs, w)) for w in self.widths] for _ in range(channels)]
        self.weight = nn.Parameter(torch.stack([torch.cat(part, 1) for part in parts], 1))  # (inputs, C, 2 a + d_out)
        self.bias = nn.Parameter(torch.zeros(channels, 1, sum(self.widths)))

    def forward(self, x: Tensor, A: Tensor, values: bool = True) -> tuple[Tensor | None, Tensor]:
        widths = self.widths if values else self.widths[:2]
        weight, bias = self.weight[..., : sum(widths)], self.bias[..., : sum(widths)]
        h = torch.tensordot(x, weight, dims=1).transpose(1, 2)  # (B, C, N, 2 a + d_out)
        q, k, *v = (normalised(A) @ h + bias).split(widths, -1)
        q, k = (part.unflatten(-1, (self.heads, -1)).transpose(2, 3) for part in (q, k))  # (B, C, h, N, a / h)
        attention = torch.tanh(q @ k.transpose(-1, -2) / math.sqrt(self.widths[2])).mean(2)
        attention = (attention + attention.transpose(-1, -2)) / 2
        return v[0].transpose(1, 2).flatten(2) if v else None, attention


class AttentionLayer(nn.Module):
    """Graph attention, then a mixing of channels: new node features and a new adjacency.

    Args:
        channels_in, channels_out: adjacency channels before and after.
        inputs, attention, outputs, heads: see `GraphAttention`; `outputs` are the node features after.
        linears: layers of the network that mixes channels, pair by pair.

    Shapes:
        x (B, N, inputs), A (B, channels_in, N, N), mask (B, N) -> (B, N, outputs), (B, channels_out, N, N); without
        `values` the node features are those that came.
    """

    def __init__(
        self, channels_in: int, channels_out: int, inputs: int, attention: int, outputs: int, linears: int, heads: int
    ) -> None:
        super().__init__()
        hidden = 2 * max(channels_in, channels_out)
        self.attention = GraphAttention(channels_in, inputs, attention, outputs, heads)
        self.pairs = mlp(linears, 2 * channels_in, hidden, channels_out)
        self.nodes = mlp(2, channels_in * outputs, hidden, outputs)

    def forward(self, x: Tensor, A: Tensor, mask: Tensor, values: bool = True) -> tuple[Tensor, Tensor]:
        found, attention = self.attention(x, A, values)
        new = self.pairs(torch.cat([attention, A], 1).movedim(1, -1)).movedim(-1, 1)
        new = new + new.transpose(-1, -2)
        x = x if found is None else torch.tanh(_on_nodes(self.nodes(found), mask))
        return x, _on_pairs(new, mask)


class _Told(nn.Module):
    """The embedding of the time, if the network is told the time at all; no parameters."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.embedding = SinusoidalEmbedding(width, scale=1000.0) if width else None

    def beside(self, x: Tensor, t: Tensor | None) -> Tensor:
        """`x` (B, ..., F) with the embedding of t (B,) beside its last axis."""
        if self.embedding is None:
            return x
        if t is None:
            raise ValueError("this network is told the time: give t (B,)")
        e = self.embedding(t).to(x.dtype)
        return torch.cat([x, e.reshape(len(e), *[1] * (x.ndim - 2), -1).expand(*x.shape[:-1], -1)], -1)


class NodeScore(nn.Module):
    """Score of the node features: graph convolutions with tanh, all of them together into an MLP of three layers.

    Args:
        features: F.
        depth: graph convolutions.
        hidden: features of each.
        time: features of the time's embedding, even; 0: not told (as published).

    Shapes:
        X (B, N, F), A (B, N, N), mask (B, N), t (B,) or None -> (B, N, F), zero at absent nodes.
    """

    def __init__(self, features: int, depth: int, hidden: int, time: int = 0) -> None:
        super().__init__()
        inputs = features + time
        self.told = _Told(time)
        self.layers = nn.ModuleList(DenseGCN(hidden if k else inputs, hidden) for k in range(depth))
        width = inputs + depth * hidden
        self.final = mlp(3, width, 2 * width, features)

    def forward(self, X: Tensor, A: Tensor, mask: Tensor, t: Tensor | None = None) -> Tensor:
        A, x = normalised(A), self.told.beside(X, t)
        seen = [x]
        for layer in self.layers:
            x = torch.tanh(layer(x, A))
            seen.append(x)
        return _on_nodes(self.final(torch.cat(seen, -1)), mask)


class EdgeScore(nn.Module):
    """Score of the adjacency: layers of graph attention, the channels of all of them into one MLP, pair by pair.

    Args:
        features: F.
        hidden: node features inside.
        layers: of attention, at least 2.
        linears: of the networks that mix channels.
        c_init: powers of A that are the first channels.
        c_hidden, c_final: channels after the layers in between, and after the last.
        attention: width of queries and keys after the first layer (whose width is `hidden`).
        heads: of attention.
        time: features of the time's embedding, even; 0: not told (as published).

    The values of the last layer would go nowhere and are not computed: their parameters exist, so that they are as many
    as published, and get no gradient.

    Shapes:
        X (B, N, F), A (B, N, N), mask (B, N), t (B,) or None -> (B, N, N), symmetric, zero on the diagonal and at
        absent nodes.

    Raises:
        ValueError: for fewer than two layers.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        layers: int,
        linears: int,
        c_init: int = 2,
        c_hidden: int = 8,
        c_final: int = 4,
        attention: int = 16,
        heads: int = 4,
        time: int = 0,
    ) -> None:
        super().__init__()
        if layers < 2:
            raise ValueError(f"the network of edges needs at least 2 layers of attention, got {layers}")
        self.c_init, self.told = c_init, _Told(time)
        channels = [c_init, *[c_hidden] * (layers - 1), c_final]
        self.layers = nn.ModuleList(
            AttentionLayer(
                channels[k], channels[k + 1], hidden if k else features + time, attention if k else hidden, hidden,
                linears, heads,
            )
            for k in range(layers)
        )  # fmt: skip
        width = sum(channels) + time
        self.final = mlp(3, width, 2 * width, 1)

    def forward(self, X: Tensor, A: Tensor, mask: Tensor, t: Tensor | None = None) -> Tensor:
        x, channels = self.told.beside(X, t), powers(A, self.c_init)
        seen = [channels]
        for k, layer in enumerate(self.layers, start=1):
            x, channels = layer(x, channels, mask, values=k < len(self.layers))
            seen.append(channels)
        pairs = self.told.beside(torch.cat(seen, 1).movedim(1, -1), t)
        score = _on_pairs(self.final(pairs).squeeze(-1), mask)
        return score.masked_fill(torch.eye(score.shape[-1], dtype=torch.bool, device=score.device), 0.0)
