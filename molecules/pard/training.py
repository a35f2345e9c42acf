r"""How :mod:`.model` is trained: the processes, the loss, the batches.

*Likelihood.* With the blocks B_1 .. B_L of a graph, told by the graph alone (:mod:`.order`), and G_l all of B_1 .. B_l,

    p(G) = p(|B_1|, deg B_1) prod_l p(B_l | |B_l|, deg B_l, G_{l-1}) p(|B_{l+1}|, deg B_{l+1} | G_l),

the last size being 0. The first factor is counted in the training data. The others are networks (:mod:`.network`).

*Loss.* One step k of 1..T is drawn for a graph, all its types and bonds lose their values to t = k / T (each bond
belongs to one block), and all blocks are denoised at once, given the clean earlier ones:

    sum_{tokens} [L_k + coeff_ce (-log p(x_0 | x_t))]  +  sum_l -log p(|B_{l+1}|, deg B_{l+1} | G_l),

L_k being the divergence of the posteriors of the step (equation 2 of `core.discrete.losses`). Sums, as published: large
graphs weigh more. A bond counts once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.discrete.asked import Asked
from ...core.discrete.categorical import uniforms
from ...core.discrete.denoiser import TokenDenoiser, TokenPrediction
from ...core.discrete.interpolating import Marginal, Uniform
from ...core.discrete.losses import step_divergence, token_nll
from ...core.discrete.places import places
from ...core.discrete.process import Process, ProductProcess, leafwise
from ...core.training.keys import Keys
from ...core.training.times import Uniform as UniformTimes
from ..data.graphs import Graphs
from ..tokens import space_of
from ..training import Rows, time_itself
from .config import PARDConfig
from .network import BlockNetwork, Next, Shape
from .order import structural_order

__all__ = ["BlockLoss", "TrainingSet", "build", "first_blocks"]


class TrainingSet(Rows):
    """Graphs with their blocks, as a data set.

    Args:
        graphs: without features.
        max_hops: of the order.
    """

    def __init__(self, graphs: Graphs, max_hops: int) -> None:
        self.graphs = graphs
        self.typed = graphs.vocabulary is not None and len(graphs.vocabulary) > 1
        blocks = structural_order(graphs.A, graphs.mask, max_hops)
        self.block, self.degree = blocks.block.short(), blocks.degree.short()
        self.sizes, self.degrees = (part.short() for part in blocks.by_block())

    def __len__(self) -> int:
        return len(self.graphs)

    def batch(self, rows: Tensor) -> dict[str, Any]:
        """{"x": {"X", "A"}, "mask", "block", "degree", "sizes", "degrees"}, long, cut to the largest graph."""
        g = self.graphs
        mask = g.mask[rows]
        n = int((mask * torch.arange(1, mask.shape[1] + 1)).max())
        sizes = self.sizes[rows].long()
        most = max(1, int(sizes.ne(0).sum(1).max()))
        x = {"A": g.A[rows, :n, :n].long()}
        if self.typed and g.types is not None:
            x = {"X": g.types[rows, :n].long() * mask[:, :n], **x}
        return {
            "x": x,
            "mask": mask[:, :n],
            "block": self.block[rows, :n].long(),
            "degree": self.degree[rows, :n].long(),
            "sizes": sizes[:, :most],
            "degrees": self.degrees[rows, :most].long(),
        }


def first_blocks(data: TrainingSet, shape: Shape) -> Tensor:
    """Share of graphs by size and degree of their first block, (S + 1, D + 1), float64."""
    key = data.sizes[:, 0].long() * (shape.degree + 1) + data.degrees[:, 0].long()
    counts = torch.bincount(key, minlength=(shape.size + 1) * (shape.degree + 1)).double()
    return (counts / len(data)).reshape(shape.size + 1, shape.degree + 1)


def build(config: PARDConfig, shape: Shape, shares: dict[str, list[float]], seed: int) -> TokenDenoiser:
    """The untrained denoiser, with the initial weights of `seed`.

    Args:
        shares: `tokens.frequencies` of the training graphs.
    """

    def process(leaf: str, states: int) -> Process:
        if config.noise == "marginal":
            return Marginal(probs=tuple(shares[leaf]), keep=config.keep)
        return Uniform(states, config.keep)

    leaves = {"X": process("X", shape.types)} if shape.types > 1 else {}
    product = ProductProcess(**leaves, A=process("A", shape.bonds))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = BlockNetwork(shape, config, product)
    return TokenDenoiser(network, product, label=time_itself)


@dataclass(frozen=True)
class BlockLoss:
    """The loss of each graph; see the module. What `fit` minimises.

    Attributes:
        steps: T.
        coeff_ce: weight of the cross-entropy.
    """

    steps: int
    coeff_ce: float

    def __call__(self, denoiser: TokenDenoiser, batch: dict[str, Any], keys: Keys, *, training: bool = True) -> Tensor:
        """The loss of each graph, (B,)."""
        u = UniformTimes(0.0, 1.0).times(keys.uniforms("time"), keys.stratum, keys.strata)
        step = (u * self.steps).long().clamp(0, self.steps - 1) + 1
        parts = self.parts(denoiser, batch, step, keys.noise)
        return parts["divergence"] + self.coeff_ce * parts["ce"] + parts["size"] + parts["degree"]

    def parts(self, denoiser: TokenDenoiser, batch: dict[str, Any], step: Tensor, noise: Any) -> dict[str, Tensor]:
        """The terms of the loss of each graph at the steps (B,): divergence, ce, size, degree, (B,) each."""
        x0, network = batch["x"], denoiser.network
        assert isinstance(network, BlockNetwork)
        step = step.to(batch["mask"].device)
        space = space_of(batch["mask"], "X" in x0)
        t = step.double() / self.steps
        u = uniforms(noise, space, x0, 0, "noise")
        xt = space.project(leafwise(denoiser.process, lambda process, x, w: process.corrupt(x, t, w), x0, u))
        raw, following = network.parallel(x0, xt, t, batch["block"], batch["degree"], batch["sizes"])
        pred = TokenPrediction(denoiser, xt, t, raw)
        pred = pred.with_log_probs(pred.log_probs)
        asked = Asked(pred, x0, places(space, x0))
        size, degree = block_nll(following, batch["sizes"], batch["degrees"])
        return {
            "divergence": asked.total(step_divergence(pred, x0, t - 1.0 / self.steps)).to(size),
            "ce": asked.total(token_nll(pred, x0)).to(size),
            "size": size,
            "degree": degree,
        }


def block_nll(following: Next, sizes: Tensor, degrees: Tensor) -> tuple[Tensor, Tensor]:
    """-log p of the size, and of the degree given the size, of all blocks but the first and of the end: (B,) both.

    Args:
        following: logits of the block after each.
        sizes, degrees: (B, L) long, size 0 where there is no block.
    """
    there = sizes > 0
    next_size, next_degree = F.pad(sizes[:, 1:], (0, 1)), F.pad(degrees[:, 1:], (0, 1))
    of_size = F.cross_entropy(following.size.transpose(1, 2), next_size, reduction="none")
    of_degree = F.cross_entropy(following.degree.transpose(1, 2), next_degree, reduction="none")
    return (of_size * there).sum(1), (of_degree * (next_size > 0)).sum(1)
