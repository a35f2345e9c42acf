r"""How :mod:`.model` is trained: the noise on graphs, the network of noisy graphs, the loss, the batches.

*Noise.* Every node's type and every pair's bond is a token of its own. By time t it has kept its value with probability
alpha(t), else it is a new one, drawn from the frequencies m_X of types, or m_A of bonds (no bond included), in the
training graphs: sparse graphs stay sparse on the way. Both triangles of A are one token.

*Loss* of a graph: the mean cross-entropy of its nodes' types, plus lambda times that of its pairs' bonds,

    mean_i -log p(x_i | X_t, A_t)  +  lambda mean_{i<j} -log p(a_ij | X_t, A_t),        lambda = 5.

The published mean is over all nodes, and all pairs, of a batch; here every graph counts alike. Times are continuous,
in strata of the batch; published are T equal steps drawn one by one.

*Properties* are standardised by the training graphs. The network is told a number and a flag for each: (value, 1), or
(0, 0) where it is not known, or withheld.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...core.discrete import Marginal, ProductProcess, TokenDenoiser, TokenObjective
from ...core.discrete.keep import CosineSquared
from ...core.training.times import Stratified, Uniform
from ..data.graphs import Graphs
from ..networks.graph_transformer import GraphTransformer
from ..tokens import space_of
from ..training import Rows, time_itself
from .config import DiGressConfig
from .features import atom_table, extra_features, widths

__all__ = ["GraphTokens", "TrainingSet", "build", "objective_of", "tokens_of"]

EARLIEST = 1e-3


def tokens_of(graphs: Graphs) -> dict[str, Tensor]:
    """The clean tokens of graphs, long: X (B, N), where there are types, and A (B, N, N)."""
    A = graphs.A.long()
    return {"A": A} if graphs.types is None else {"X": graphs.types.long() * graphs.mask, "A": A}


class GraphTokens(nn.Module):
    """Logits of a noisy graph's clean types and bonds, from the graph, its features, the time and what is asked for.

    Args:
        config: settings.
        types: S_X states of a node; 0 for graphs without types.
        bonds: S_A states of a pair.
        most: nodes of the largest graph.
        table: `features.atom_table` of molecules, or None.

    Shapes:
        x {"X": (B, N) long, "A": (B, N, N) long} (without "X" where types = 0), t (B,), nodes (B, N) bool,
        y (B, 2 P) or None -> logits {"X": (B, N, S_X), "A": (B, N, N, S_A)}.
    """

    table: Tensor | None

    def __init__(self, config: DiGressConfig, types: int, bonds: int, most: int, table: Tensor | None) -> None:
        super().__init__()
        c = config
        self.types, self.bonds, self.most, self.features = types, bonds, most, c.features
        self.asked = 2 * len(c.properties)
        self.register_buffer("table", table, persistent=False)
        fx, fe, fy = widths(c.features, table is not None)
        out = (max(types, 1), bonds)
        self.graph = GraphTransformer(
            (out[0] + fx, bonds + fe, 1 + fy + self.asked),
            out,
            c.layers,
            (c.dx, c.de, c.dy),
            c.heads,
            (c.ff_x, c.ff_e, c.ff_y),
            (c.mlp_x, c.mlp_e, c.mlp_y),
            c.dropout,
        )

    def forward(self, x: dict[str, Tensor], t: Tensor, nodes: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        types, A = x.get("X"), x["A"]
        extra = extra_features(types, A, nodes, self.features, self.table, self.most)
        one = nodes[..., None].float()
        node = one if types is None else nn.functional.one_hot(types, self.types) * one
        pairs = (nodes[:, :, None] & nodes[:, None, :]) & ~torch.eye(A.shape[1], dtype=torch.bool, device=A.device)
        edge = nn.functional.one_hot(A, self.bonds) * pairs[..., None].float()
        told = [t[:, None].float(), extra.graph]
        if self.asked:
            told.append(extra.graph.new_zeros(len(A), self.asked) if y is None else y.float())
        X, E = self.graph(
            torch.cat([node, extra.nodes], -1), torch.cat([edge, extra.pairs], -1), torch.cat(told, -1), nodes
        )
        return {"A": E} if types is None else {"X": X, "A": E}


def build(
    config: DiGressConfig, probs: dict[str, list[float]], most: int, vocabulary: tuple[str, ...] | None, seed: int
) -> TokenDenoiser:
    """The untrained denoiser with the initial weights of `seed`.

    Args:
        probs: `tokens.frequencies` of the training graphs.
        most: nodes of the largest graph.
        vocabulary: of molecules whose valences are told; else None.
    """
    keep = CosineSquared(config.shift)
    process = ProductProcess(**{leaf: Marginal(probs=tuple(p), keep=keep) for leaf, p in probs.items()})
    table = atom_table(vocabulary) if vocabulary is not None and config.atoms else None
    if table is not None and table.shape[1] < len(probs["X"]):  # a vocabulary of one type has a second, unused state
        table = torch.nn.functional.pad(table, (0, len(probs["X"]) - table.shape[1]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = GraphTokens(config, len(probs.get("X", ())), len(probs["A"]), most, table)
    return TokenDenoiser(network, process, label=time_itself)


def objective_of(config: DiGressConfig, typed: bool) -> TokenObjective:
    """The loss; see the module."""
    weights = {"A": config.edge_weight} | ({"X": 1.0} if typed else {})
    dropout = config.dropout_properties if config.properties else 0.0
    return TokenObjective(
        weighting="uniform",
        times=Stratified(Uniform(EARLIEST, 1.0)),
        leaf_weights=weights,
        dropout=dropout,
        null={"y": torch.zeros(2 * len(config.properties))} if config.properties else None,
        space=lambda batch: space_of(batch["condition"]["nodes"], typed),
    )


class TrainingSet(Rows):
    """Graphs as a data set.

    Args:
        graphs: padded to N nodes.
        asked: (B, 2 P), what the network is told of each graph's properties; None without properties.
    """

    def __init__(self, graphs: Graphs, asked: Tensor | None = None) -> None:
        self.graphs, self.asked = graphs, asked

    def __len__(self) -> int:
        return len(self.graphs)

    def batch(self, rows: Tensor) -> dict[str, Any]:
        """{"x": tokens, "condition": {"nodes": (B, N)} and "y" (B, 2 P) with properties}."""
        g = self.graphs
        part = Graphs(g.A[rows], g.mask[rows], None if g.types is None else g.types[rows], g.vocabulary, g.hydrogens)
        condition = {"nodes": part.mask}
        if self.asked is not None:
            condition["y"] = self.asked[rows]
        return {"x": tokens_of(part), "condition": condition}
