r"""A transformer over nodes, edges and one global vector, that modulate each other.

C. Vignac et al., "DiGress: discrete denoising diffusion for graph generation", ICLR 2023, https://arxiv.org/abs/2209.14734,
appendix B. With node features x_i (dx), edge features e_ij (de) and global features y (dy), one layer is

    s_ij = q_i k_j / sqrt(dx / heads)        feature by feature, dx numbers a pair,
    s_ij <- s_ij (1 + W e_ij) + W' e_ij      edges modulate attention (FiLM),
    e_ij <- W_e [s_ij (1 + W y) + W' y]      the scores are the new edges,
    x_i  <- W_x [(sum_j softmax_j(s_ij) v_j) (1 + W y) + W' y],
    y    <- MLP(W y + W pool(x) + W pool(e)),

each added to what was there, normalised, and followed by a map of two layers. Softmax is over j, for each feature on
its own. pool is mean, minimum, maximum and standard deviation.

Different from the published code: pools leave out padding (there, absent nodes count as zeros); and the global vector
of the last layer, which goes nowhere, is not computed.

Permuting the nodes permutes the output, and absent nodes change nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["GraphLayer", "GraphTransformer", "pooled"]


def pooled(x: Tensor, there: Tensor) -> Tensor:
    """Mean, minimum, maximum and standard deviation of x (B, M, F) where `there` (B, M): (B, 4 F)."""
    on = there.unsqueeze(-1)
    count = on.sum(1).clamp_min(1)
    mean = (x * on).sum(1) / count
    spread = (((x - mean.unsqueeze(1)) * on).square().sum(1) / count + 1e-6).sqrt()
    low = x.masked_fill(~on, math.inf).amin(1)
    high = x.masked_fill(~on, -math.inf).amax(1)
    return torch.cat([mean, low, high, spread], -1)


def _mlp(inputs: int, hidden: int, outputs: int, last: bool = False) -> nn.Sequential:
    """Two linear layers with ReLU in between, and after them if `last`."""
    layers = [nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs)]
    return nn.Sequential(*layers, *([nn.ReLU()] if last else []))


class _Track(nn.Module):
    """What nodes, edges and global features have in common: add, normalise, a map of two layers, add, normalise."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, new: Tensor) -> Tensor:
        h = self.norms[0](h + self.dropout(new))
        more = self.down(self.dropout(nn.functional.relu(self.up(h))))
        out: Tensor = self.norms[1](h + self.dropout(more))
        return out


class GraphLayer(nn.Module):
    """One layer; see the module.

    Args:
        widths: (dx, de, dy).
        heads: of attention, a divisor of dx (it only sets the scale of the scores).
        hidden: (of x, of e, of y), features inside the maps of two layers.
        dropout: probability, on what each part adds.
        last: the global vector is not updated.

    Shapes:
        x (B, N, dx), e (B, N, N, de), y (B, dy), nodes (B, N) bool -> the same.
    """

    def __init__(
        self,
        widths: tuple[int, int, int],
        heads: int,
        hidden: tuple[int, int, int],
        dropout: float = 0.0,
        last: bool = False,
    ) -> None:
        super().__init__()
        dx, de, dy = widths
        if dx % heads:
            raise ValueError(f"{heads} heads do not divide {dx} features of a node")
        self.scale = 1.0 / math.sqrt(dx // heads)
        self.qkv = nn.Linear(dx, 3 * dx)
        self.edge_film = nn.Linear(de, 2 * dx)
        self.global_film = nn.Linear(dy, 4 * dx)
        self.node_out, self.edge_out = nn.Linear(dx, dx), nn.Linear(dx, de)
        self.node_track, self.edge_track = _Track(dx, hidden[0], dropout), _Track(de, hidden[1], dropout)
        self.global_in: nn.Linear | None = None
        if not last:
            self.global_in = nn.Linear(dy + 4 * dx + 4 * de, dy)
            self.global_mlp, self.global_track = _mlp(dy, dy, dy), _Track(dy, hidden[2], dropout)

    def forward(self, x: Tensor, e: Tensor, y: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pairs = nodes[:, :, None] & nodes[:, None, :]
        q, k, v = self.qkv(x).chunk(3, -1)
        mul, add = self.edge_film(e).chunk(2, -1)
        score = (self.scale * q)[:, :, None] * k[:, None] * (1.0 + mul) + add  # (B, N, N, dx)
        e_mul, e_add, x_mul, x_add = self.global_film(y)[:, None].chunk(4, -1)
        new_e = self.edge_out(score * (1.0 + e_mul[:, None]) + e_add[:, None])
        weights = score.masked_fill(~nodes[:, None, :, None], -math.inf).softmax(2)
        new_x = self.node_out((weights * v[:, None]).sum(2) * (1.0 + x_mul) + x_add)
        if self.global_in is not None:
            of_pairs = pooled(e.flatten(1, 2), pairs.flatten(1))
            new_y = self.global_mlp(self.global_in(torch.cat([y, pooled(x, nodes), of_pairs], -1)))
            y = self.global_track(y, new_y)
        x = self.node_track(x, new_x) * nodes.unsqueeze(-1)
        e = self.edge_track(e, new_e) * pairs.unsqueeze(-1)
        return x, e, y


class GraphTransformer(nn.Module):
    """Logits of nodes and edges from features of nodes, edges and the graph; see the module.

    The first `outputs` features of nodes and edges are added to the logits: they are the noisy one-hot values.

    Args:
        inputs: (of x, of e, of y), features that come in.
        outputs: (of x, of e), logits.
        layers: how many.
        widths, heads, hidden, dropout: see `GraphLayer`.
        mlp: (of x, of e, of y), features inside the maps into the layers, and out of them.

    Shapes:
        x (B, N, inputs[0]), e (B, N, N, inputs[1]) symmetric, y (B, inputs[2]), nodes (B, N) bool
        -> (B, N, outputs[0]), (B, N, N, outputs[1]), the latter symmetric; zero at absent nodes, and on the diagonal.
    """

    def __init__(
        self,
        inputs: tuple[int, int, int],
        outputs: tuple[int, int],
        layers: int,
        widths: tuple[int, int, int],
        heads: int,
        hidden: tuple[int, int, int],
        mlp: tuple[int, int, int],
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.outputs = outputs
        self.into = nn.ModuleList([_mlp(i, m, w, last=True) for i, m, w in zip(inputs, mlp, widths, strict=True)])
        self.layers = nn.ModuleList(
            [GraphLayer(widths, heads, hidden, dropout, last=k + 1 == layers) for k in range(layers)]
        )
        self.out = nn.ModuleList([_mlp(w, m, o) for w, m, o in zip(widths, mlp, outputs, strict=False)])

    def forward(self, x: Tensor, e: Tensor, y: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
        pairs = (nodes[:, :, None] & nodes[:, None, :]).unsqueeze(-1)
        node, edge = x[..., : self.outputs[0]], e[..., : self.outputs[1]]
        x, e, y = (part(h) for part, h in zip(self.into, (x, e, y), strict=True))
        x, e = x * nodes.unsqueeze(-1), (e + e.transpose(1, 2)) / 2 * pairs
        for layer in self.layers:
            x, e, y = layer(x, e, y, nodes)
        node, edge = node + self.out[0](x), edge + self.out[1](e)
        edge = (edge + edge.transpose(1, 2)) / 2
        diagonal = torch.eye(nodes.shape[1], dtype=torch.bool, device=edge.device)[..., None]
        return node * nodes.unsqueeze(-1), torch.where(diagonal, 0.0, edge * pairs)
