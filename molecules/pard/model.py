r"""PARD: graphs and molecules block by block, each block by discrete diffusion.

L. Zhao, X. Ding, L. Akoglu, "Pard: permutation-invariant autoregressive diffusion for graph generation", NeurIPS 2024,
https://arxiv.org/abs/2402.03687.

A graph tells by itself in which blocks it comes (:mod:`.order`), however its nodes are numbered. So its likelihood is a
product over blocks without any choice of an order: how large the next block is and of which degree, and what its types
and bonds are given the earlier blocks. The second factor is one diffusion of tokens, the same network for all blocks
(:mod:`.network`), and all blocks of a graph are trained in one pass (:mod:`.training`). Samples grow by blocks until
the next one has size 0 (:mod:`.sampling`): numbers of nodes need no histogram. Nothing forces a sample to fall into the
blocks that it was made in; the better the network, the more do. Molecules go through the protocol of :mod:`..chem`.

What differs from the published code, beside what the modules above say:

- Layers are normalised, never batches; see :mod:`..networks.ppgn`.
- Size and degree of the first block are drawn from their counts in the training data, jointly; published is the size
  from counts and the degree from a network.
- All data sets are trained with all blocks in parallel. The published settings of planar graphs train one partial graph
  a block instead, with eigenvectors of the graph as further features, which the parallel network cannot have.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch

from ...core.checkpoint import Checkpoint
from ...core.discrete.denoiser import TokenDenoiser
from ...core.settings import positive_integers
from ..data.graphs import Graphs
from ..generator import Generator
from ..samples import GraphSamples, graph_samples
from ..tokens import frequencies, seen_in_training
from ..training import digest_of, same_kind
from .config import PARDConfig
from .network import Shape
from .sampling import generate
from .training import BlockLoss, TrainingSet, build, first_blocks

__all__ = ["PARD"]


class PARD(Generator):
    """An autoregressive diffusion of graphs or molecules.

    Args:
        config: settings; or give its fields by name.

    Attributes:
        config: the settings.
        vocabulary, hydrogens: of the training graphs, see `Graphs`; None before, and where they have none.
        shape: numbers of types, bond orders and nodes, largest size and degree of a block; None before.
        first: (S + 1, D + 1) share of training graphs by size and degree of their first block.
        denoiser: the trained `TokenDenoiser` of states {"X", "A"}, None before `fit`.
        history: training log of the last `fit`.
        steps: optimizer steps taken, earlier runs included; 0 for a loaded model.

    Examples:
        >>> model = PARD.for_dataset(graphs, "small").fit(graphs, epochs=20, seed=0)  # doctest: +SKIP
        >>> out = model.sample(100, seed=0)  # doctest: +SKIP
        >>> out.smiles, out.report["valid_uncorrected_gdss"]  # doctest: +SKIP
    """

    kind: ClassVar[str] = "PARD"
    config_class: ClassVar[type] = PARDConfig
    fits: ClassVar[str] = "graphs"
    takes: ClassVar[type] = Graphs
    digested: ClassVar[str] = "graphs, their order and padding count"
    free: ClassVar[frozenset[str]] = frozenset({"epochs", "batch_size", "lr"})  # `fit` is told them, or checks them
    config: PARDConfig

    def __init__(self, config: PARDConfig | None = None, **settings: Any) -> None:
        super().__init__(config, **settings)
        self.vocabulary: tuple[str, ...] | None = None
        self.hydrogens: str | None = None
        self.shape: Shape | None = None
        self.first = torch.zeros(1, 1, dtype=torch.float64)
        self.shares: dict[str, list[float]] = {}

    # -- what the data say -----------------------------------------------------------------------------------------
    @staticmethod
    def _fitting(graphs: Graphs) -> str:
        if graphs.hydrogens is None:
            return "community_small" if graphs.max_nodes <= 40 else "planar"
        return "qm9" if graphs.max_nodes <= 12 else "zinc250k"

    def _known(self) -> bool:
        return self.shape is not None

    def _define(self, graphs: Graphs) -> None:
        """Fix types, bond orders, and the largest graph and block."""
        data = TrainingSet(self._plain(graphs), self.config.max_hops)
        self.vocabulary, self.hydrogens = graphs.vocabulary, graphs.hydrogens
        self.shape = Shape(
            types=len(graphs.vocabulary or ("",)),
            bonds=4 if graphs.hydrogens is not None else max(2, int(graphs.A.max()) + 1),
            nodes=graphs.max_nodes,
            size=int(data.sizes.max()),
            degree=int(data.degrees.max()),
        )

    @staticmethod
    def _plain(graphs: Graphs) -> Graphs:
        if graphs.features is not None:
            raise ValueError(
                f"PARD is a model of types and bonds; these graphs have {graphs.features.shape[-1]} real features a "
                "node: drop them, or make types of them"
            )
        return graphs

    def inputs(self, graphs: Graphs) -> TrainingSet:
        """Graphs as the network takes them, with their blocks.

        Raises:
            RuntimeError: the model has seen no graphs yet.
            ValueError: another vocabulary or kind of hydrogens; more nodes, higher bond orders, larger blocks or block
                degrees than the model knows.
        """
        shape, graphs = self._shape(), self._plain(graphs)
        same_kind(graphs, self.vocabulary, self.hydrogens)
        data = TrainingSet(graphs.padded(shape.nodes), self.config.max_hops)
        found = {
            "bond orders": (int(graphs.A.max()), shape.bonds - 1),
            "nodes in a block": (int(data.sizes.max()), shape.size),
            "a degree in a block": (int(data.degrees.max()), shape.degree),
        }
        for what, (came, most) in found.items():
            if came > most:
                raise ValueError(
                    f"the model knows {what} up to {most}, these graphs have {came}: make the model for all graphs "
                    "(PARD.for_dataset of training and validation graphs together)"
                )
        return data

    def _shape(self) -> Shape:
        if self.shape is None:
            raise RuntimeError("the model has seen no graphs: PARD.for_dataset(graphs), or fit(graphs) first")
        return self.shape

    # -- training --------------------------------------------------------------------------------------------------
    def _measure(self, data: TrainingSet) -> None:
        shape = self._shape()
        self.first, self.data = first_blocks(data, shape), digest_of(data.graphs)
        self.shares = frequencies(data.graphs, shape.bonds, shape.types if shape.types > 1 else 0)

    def _scorable(self, val: Graphs, data: Graphs) -> Graphs:
        return seen_in_training(val, data)

    def _rows(self, data: TrainingSet) -> TrainingSet:
        return data

    def _objective(self) -> BlockLoss:
        return BlockLoss(self.config.steps, self.config.coeff_ce)

    def _learning(self, network: Any, lr: float, steps: int, epoch: float) -> dict[str, Any]:
        c = self.config
        return {
            "lr": lr,
            "weight_decay": c.weight_decay,
            "warmup": min(math.ceil(c.warmup_epochs * epoch), steps // 10),
            "decay": "cosine",
            "grad_clip": c.grad_clip,
        }

    # -- sampling --------------------------------------------------------------------------------------------------
    def sample(
        self,
        n: int,
        *,
        steps: int | None = None,
        seed: int = 0,
        max_nodes: int | None = None,
        max_batch: int | None = 512,
        progress: bool = False,
    ) -> GraphSamples:
        """Draw n graphs. Their numbers of nodes come out of the model.

        Args:
            n: how many.
            steps: of diffusion, a block; of the settings where None.
            seed: of everything. Sample i depends on (seed, i) alone.
            max_nodes: largest graph; default that of the training graphs. A block that would go beyond is drawn anew
                among those that do not.
            max_batch: largest batch for the network.
            progress: show a progress bar.

        Returns:
            samples; ``info["network_calls"]`` are those of the sample of the most blocks, ``info["blocks"]`` is the
            mean number of blocks.

        Raises:
            RuntimeError: not trained.
            ValueError: n < 1, steps < 1, more nodes than the model knows, or fewer than its smallest first block.
        """
        denoiser, shape = self._trained(), self._shape()
        steps = self.config.steps if steps is None else steps
        max_nodes = shape.nodes if max_nodes is None else max_nodes
        given = {"the number of samples": n, "steps": steps, "max_nodes": max_nodes, "max_batch": max_batch}
        positive_integers({name: value for name, value in given.items() if value is not None})
        least = int(self.first.sum(1).nonzero().min())
        if not least <= max_nodes <= shape.nodes:
            raise ValueError(
                f"max_nodes goes from {least}, the smallest first block, to {shape.nodes}, the largest training graph; "
                f"got {max_nodes}"
            )
        found = generate(
            denoiser, self.first, n, nodes=max_nodes, steps=steps, seed=seed, max_batch=max_batch, progress=progress
        )
        mask = found.block >= 0
        types = None
        if self.vocabulary is not None:
            types = torch.zeros_like(mask, dtype=torch.uint8) if found.X is None else found.X.to(torch.uint8)
        graphs = Graphs(found.A.to(torch.uint8), mask, types, self.vocabulary, self.hydrogens)  # type: ignore[arg-type]
        info = {
            "model": self.kind, "steps": steps, "seed": seed, "max_nodes": max_nodes, "network_calls": found.calls,
            "blocks": float((found.block.amax(1) + 1).double().mean()),
        }  # fmt: skip
        return graph_samples(graphs, n, info)

    # -- the trained network and files -----------------------------------------------------------------------------
    def _build(self, seed: int) -> TokenDenoiser:
        return build(self.config, self._shape(), self.shares, seed)

    def _header(self) -> dict[str, Any]:
        return super()._header() | {
            "vocabulary": None if self.vocabulary is None else list(self.vocabulary),
            "hydrogens": self.hydrogens,
            "shape": self._shape()._asdict(),
            "first": self.first.tolist(),
            "shares": self.shares,
        }

    def _restore(self, read: Checkpoint) -> None:
        super()._restore(read)
        stored = read.config
        self.vocabulary = None if stored["vocabulary"] is None else tuple(stored["vocabulary"])
        self.hydrogens, self.shape = stored["hydrogens"], Shape(**stored["shape"])
        self.first = torch.tensor(stored["first"], dtype=torch.float64)
        self.shares = stored["shares"]
