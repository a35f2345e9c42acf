r"""The networks of :mod:`.model`: one that denoises a block given earlier ones, and one that says how the next one is.

*Positions.* A position is a node with what is known of it. It is *real* if its types and bonds are the data's, and
*virtual* if it belongs to the block that is being generated, noisy. Who sees whom:

    a real node      the real nodes of its own and of earlier blocks,
    a virtual node   the virtual nodes of its own block, and the real nodes of earlier blocks.

*Sequential*: N positions, the nodes of the last block virtual. That is how graphs are sampled, block by block.

*Parallel*: 2N positions, every node once real and once virtual. One pass says of every block what the sequential pass
says of it given the true earlier blocks, since no position sees what would not be there. That is how all blocks of a
graph are trained at once. Every pair of nodes belongs to one block, the later one's, so that a noisy copy of the whole
graph holds the noisy states of all its blocks: bonds of a virtual node are those of the copy.

*Denoising.* The network is told the degree of every block, how many blocks two nodes are apart, on request the number
of the block, and the time at virtual nodes alone. Its logits of x_0 start from what x_t itself says: in

    p(x_0 | x_t, rest)  ~  p(x_0 | rest) q(x_t | x_0)

the second factor is known, alpha 1[x_0 = x_t] + (1 - alpha) r_{x_t}, and log(1 + alpha / ((1 - alpha) r_{x_t})) is
added at x_0 = x_t. (The published network learns a monotonic function of the time in its place.)

*The next block*: from the sum over all real nodes up to block l, and that over block l itself, the size of block l + 1
(0: the graph is finished), and from both and that size its degree. Published is a network of its own; with ``shared``
it is the real half of the denoising network, whose real positions do not depend on the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.discrete.interpolating import Interpolating
from ...core.discrete.process import ProductProcess, level
from ...core.networks.time_embedding import SinusoidalEmbedding
from ..networks.ppgn import PPGNTransformer, perceptron
from .config import PARDConfig

__all__ = ["BlockNetwork", "Next", "Shape", "sees"]

APART = 8
"""Blocks apart beyond which the network is not told how many."""

SURE = 30.0
"""Largest logit that x_t itself gives."""


class Shape(NamedTuple):
    """What a set of graphs is like: node types F (1 where they have none), bond orders C (0 included), nodes N, and the
    largest size and degree of a block."""

    types: int
    bonds: int
    nodes: int
    size: int
    degree: int


class Next(NamedTuple):
    """Logits of the block after each block: size (B, L, S + 1), and degree given the size (B, L, D + 1)."""

    size: Tensor
    degree: Tensor


def sees(block: Tensor, virtual: Tensor) -> Tensor:
    """Who sees whom, (B, P, P) bool; see the module.

    Args:
        block: (B, P) long, -1 where nothing is.
        virtual: (B, P) bool.
    """
    one, other = block.unsqueeze(2), block.unsqueeze(1)
    same = (one == other) & (virtual.unsqueeze(2) == virtual.unsqueeze(1))
    earlier = (one > other) & ~virtual.unsqueeze(1)
    return (same | earlier) & (one >= 0) & (other >= 0)


class Trunk(nn.Module):
    """Embeddings, and the transformer of :mod:`..networks.ppgn`.

    Shapes:
        X (B, P) long, A (B, P, P) long, block (B, P) long, degree (B, P) long, virtual (B, P) bool, t (B,) or None ->
        h (B, P, D), e (B, P, P, E).
    """

    def __init__(self, shape: Shape, config: PARDConfig) -> None:
        super().__init__()
        c, D, E = config, config.hidden, config.edge_hidden
        self.no_bond, self.top = shape.bonds, shape.degree
        self.types, self.degrees = nn.Embedding(shape.types, D), nn.Embedding(shape.degree + 1, D)
        self.virtual = nn.Embedding(2, D)
        self.number = nn.Embedding(shape.nodes, D) if c.absolute else None
        self.bonds, self.apart = nn.Embedding(shape.bonds + 1, E), nn.Embedding(2 * APART + 1, E)
        self.time = nn.Sequential(SinusoidalEmbedding(D, scale=1000.0), nn.Linear(D, D), nn.SiLU(), nn.Linear(D, D))
        self.transformer = PPGNTransformer(D, E, c.layers, c.heads)

    def forward(
        self, X: Tensor, A: Tensor, block: Tensor, degree: Tensor, virtual: Tensor, t: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        h = self.types(X) + self.degrees(degree.clamp_max(self.top)) + self.virtual(virtual.long())
        if self.number is not None:
            h = h + self.number(block.clamp_min(0))
        if t is not None:
            h = h + self.time(t.to(h.dtype)).unsqueeze(1) * virtual.unsqueeze(-1)
        itself = torch.eye(A.shape[1], dtype=torch.bool, device=A.device)
        apart = (block.unsqueeze(2) - block.unsqueeze(1)).clamp(-APART, APART) + APART
        e = self.bonds(torch.where(itself, self.no_bond, A)) + self.apart(apart)
        out: tuple[Tensor, Tensor] = self.transformer(h, e, sees(block, virtual))
        return out


def _beside(h: Tensor, e: Tensor, M: Tensor) -> Tensor:
    """Nodes with their own pair and the mean of the pairs with those that they see: (B, P, D + 2 E)."""
    own = e.diagonal(dim1=1, dim2=2).transpose(1, 2)
    share = M.to(e.dtype) / M.sum(2, keepdim=True).clamp_min(1)
    mean = torch.einsum("bij,bije->bie", share, e + e.transpose(1, 2)) / 2.0
    return torch.cat([h, own, mean], -1)


class BlockNetwork(nn.Module):
    """Both networks; see the module.

    Args:
        shape: what the graphs are like.
        config: widths, depth, and whether the networks are one.
        process: of the leaves "A" and, where nodes have types, "X".
    """

    def __init__(self, shape: Shape, config: PARDConfig, process: ProductProcess) -> None:
        super().__init__()
        D, E = config.hidden, config.edge_hidden
        self.shape, self.process = shape, process
        self.denoiser = Trunk(shape, config)
        self.counter = None if config.shared else Trunk(shape, config)
        self.node_out = perceptron(D + 2 * E, D, shape.types) if "X" in process.leaves else None
        self.pair_h, self.pair_e = nn.Linear(D, D), nn.Linear(E, D)
        self.pair_out = perceptron(D, D, shape.bonds)
        self.gather = nn.Sequential(nn.Linear(D + 2 * E, D), nn.SiLU())
        self.sizes = nn.Embedding(shape.size + 1, D)
        self.size_out, self.degree_hidden = perceptron(2 * D, D, shape.size + 1), nn.Linear(2 * D, D)
        self.degree_out = nn.Linear(D, shape.degree + 1)

    # -- all blocks at once ----------------------------------------------------------------------------------------
    def parallel(
        self,
        clean: Mapping[str, Tensor],
        noisy: Mapping[str, Tensor],
        t: Tensor,
        block: Tensor,
        degree: Tensor,
        sizes: Tensor,
    ) -> tuple[dict[str, Tensor], Next]:
        """Logits of x_0 of all blocks, given the clean earlier ones, and of the next block after each.

        Args:
            clean, noisy: x_0 and x_t, {"X": (B, N), "A": (B, N, N)} long; without "X" where nodes have no types.
            t: (B,).
            block, degree: (B, N) long, see `order.Blocks`.
            sizes: (B, L) long, of each block, which the degree of a block is asked for with.

        Returns:
            {"X": (B, N, F), "A": (B, N, N, C)}, and `Next` of blocks 0..L-1.
        """
        n, twice = block.shape[1], torch.cat([block, block], 1)
        virtual = torch.zeros_like(twice, dtype=torch.bool)
        virtual[:, n:] = True
        X = torch.cat([_types(clean, block), _types(noisy, block)], 1)
        A = torch.cat([torch.cat([clean["A"], noisy["A"]], 2), torch.cat([noisy["A"], noisy["A"]], 2)], 1)
        h, e = self.denoiser(X, A, twice, torch.cat([degree, degree], 1), virtual, t)
        real, noise = slice(None, n), slice(n, None)
        M = sees(twice, virtual)
        # a pair of nodes is found at the virtual position of the later one
        later, same = block.unsqueeze(2) > block.unsqueeze(1), block.unsqueeze(2) == block.unsqueeze(1)
        down = e[:, noise, real] + e[:, real, noise].transpose(1, 2)
        both = e[:, noise, noise] + e[:, noise, noise].transpose(1, 2)
        pair = _chosen(same, both, later, down, down.transpose(1, 2))
        x = self.pair_h(h)
        r, v = x[:, real], x[:, noise]
        ends = _chosen(
            same, v.unsqueeze(2) + v.unsqueeze(1), later, v.unsqueeze(2) + r.unsqueeze(1),
            r.unsqueeze(2) + v.unsqueeze(1),
        )  # fmt: skip
        of_nodes = _beside(h, e, M)[:, noise] if self.node_out is not None else None
        raw = self._logits(of_nodes, pair, ends, noisy, t)
        if self.counter is None:
            h, e, M = h[:, real], e[:, real, real], M[:, real, real]
        else:
            none = torch.zeros_like(block, dtype=torch.bool)
            h, e = self.counter(X[:, real], clean["A"], block, degree, none, None)
            M = M[:, real, real]
        known = self._known(h, e, M, block, sizes.shape[1])
        following = F.pad(sizes[:, 1:], (0, 1))
        return raw, Next(self.size_out(known), self._degree(known, following))

    def forward(
        self, x: Mapping[str, Tensor], t: Tensor, clean: Mapping[str, Tensor], block: Tensor, degree: Tensor
    ) -> dict[str, Tensor]:
        """The logits of x_0 of all blocks alone, as `parallel`."""
        return self.parallel(clean, x, t, block, degree, block.new_zeros(len(block), 1))[0]

    # -- one block after the other ---------------------------------------------------------------------------------
    def sequential(
        self, x: Mapping[str, Tensor], t: Tensor, block: Tensor, degree: Tensor, current: Tensor
    ) -> dict[str, Tensor]:
        """Logits of x_0 of one block of each graph; what is said of other nodes and pairs means nothing.

        Args:
            x: noisy in block `current`, clean in earlier ones.
            t: (B,). block, degree: (B, N) long, -1 where no node is yet. current: (B,) long.
        """
        virtual = block == current.unsqueeze(1)
        h, e = self.denoiser(_types(x, block), x["A"], block, degree, virtual, t)
        v = self.pair_h(h)
        of_nodes = _beside(h, e, sees(block, virtual)) if self.node_out is not None else None
        return self._logits(of_nodes, e + e.transpose(1, 2), v.unsqueeze(2) + v.unsqueeze(1), x, t)

    def next_size(self, x: Mapping[str, Tensor], block: Tensor, degree: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the size of the next block, (B, S + 1), and what `next_degree` asks for.

        Args:
            x: clean graphs so far. block, degree: (B, N) long, -1 where no node is yet.
        """
        none = torch.zeros_like(block, dtype=torch.bool)
        trunk = self.denoiser if self.counter is None else self.counter
        h, e = trunk(_types(x, block), x["A"], block, degree, none, None)
        last = block.amax(1)
        known = self._known(h, e, sees(block, none), block, int(last.max()) + 1)
        known = known[torch.arange(len(block)), last]
        return self.size_out(known), known

    def next_degree(self, known: Tensor, size: Tensor) -> Tensor:
        """Logits of the degree of the next block, (B, D + 1), given what `next_size` returned and the size (B,)."""
        return self._degree(known, size)

    # -- parts -----------------------------------------------------------------------------------------------------
    def _logits(
        self, of_nodes: Tensor | None, pair: Tensor, ends: Tensor, x: Mapping[str, Tensor], t: Tensor
    ) -> dict[str, Tensor]:
        raw = {}
        if self.node_out is not None:
            raw["X"] = self._with_evidence("X", self.node_out(of_nodes), x["X"], t)
        hidden = F.silu(self.pair_e(pair) + ends)
        raw["A"] = self._with_evidence("A", self.pair_out(hidden), x["A"], t)
        return raw

    def _with_evidence(self, leaf: str, logits: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """Logits with log q(x_t | x_0) added, up to what is the same for all x_0."""
        process = self.process.leaves[leaf]
        assert isinstance(process, Interpolating)
        t = t.double()
        r = process.replacement().to(x.device)[x].clamp_min(1e-12)
        ratio = level(process.schedule.alpha(t), x) / (level(process.schedule.lost(t), x) * r).clamp_min(1e-30)
        said = torch.log1p(ratio).clamp_max(SURE).to(logits.dtype)
        return logits.scatter_add(-1, x.unsqueeze(-1), said.unsqueeze(-1))

    def _known(self, h: Tensor, e: Tensor, M: Tensor, block: Tensor, blocks: int) -> Tensor:
        """What is known after each block, (B, L, 2 D)."""
        of_nodes = self.gather(_beside(h, e, M)) / self.shape.nodes**0.5
        member = block.unsqueeze(1) == torch.arange(blocks, device=block.device).unsqueeze(1)  # (B, L, N)
        of_block = member.to(h.dtype) @ of_nodes
        return torch.cat([of_block.cumsum(1), of_block], -1)

    def _degree(self, known: Tensor, size: Tensor) -> Tensor:
        out: Tensor = self.degree_out(F.silu(self.degree_hidden(known) + self.sizes(size)))
        return out


def _types(x: Mapping[str, Tensor], block: Tensor) -> Tensor:
    return x["X"] if "X" in x else torch.zeros_like(block)


def _chosen(same: Tensor, of_same: Tensor, later: Tensor, of_later: Tensor, of_earlier: Tensor) -> Tensor:
    return torch.where(same.unsqueeze(-1), of_same, torch.where(later.unsqueeze(-1), of_later, of_earlier))
