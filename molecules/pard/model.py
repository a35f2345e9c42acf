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
import os
from typing import Any, ClassVar, Self

import torch

from ...core.checkpoint import Checkpoint
from ...core.discrete.denoiser import TokenDenoiser
from ...core.model import Model
from ...core.settings import positive_integers
from ..data.graphs import Graphs
from ..samples import GraphSamples, graph_samples
from ..tokens import frequencies
from ..training import budget, digest_of, same_kind
from .config import PARDConfig
from .network import Shape
from .sampling import generate
from .training import BlockLoss, TrainingSet, build, first_blocks

__all__ = ["PARD"]


class PARD(Model):
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

    @classmethod
    def for_dataset(cls, graphs: Graphs, preset: str | None = None, **changes: Any) -> Self:
        """An untrained model for a set of graphs.

        Args:
            graphs: what it will be trained on: fixes the types, the largest graph and the largest block.
            preset: settings (`PARDConfig.preset`). None, by kind and size: molecules of up to 12 nodes "qm9", larger
                ones "zinc250k"; graphs of up to 40 nodes "community_small", larger ones "planar".
            changes: settings that differ.

        Raises:
            ValueError: an unknown preset, settings out of range, graphs with features.
        """
        if preset is None:
            small, large = ("community_small", "planar") if graphs.hydrogens is None else ("qm9", "zinc250k")
            preset = small if graphs.max_nodes <= (40 if graphs.hydrogens is None else 12) else large
        model = cls(PARDConfig.preset(preset, **changes))
        model._define(graphs)
        return model

    # -- what the data say -----------------------------------------------------------------------------------------
    def _define(self, graphs: Graphs) -> TrainingSet:
        """Fix types, bond orders, and the largest graph and block, by the training graphs."""
        data = TrainingSet(self._plain(graphs), self.config.max_hops)
        self.vocabulary, self.hydrogens = graphs.vocabulary, graphs.hydrogens
        self.shape = Shape(
            types=len(graphs.vocabulary or ("",)),
            bonds=4 if graphs.hydrogens is not None else max(2, int(graphs.A.max()) + 1),
            nodes=graphs.max_nodes,
            size=int(data.sizes.max()),
            degree=int(data.degrees.max()),
        )
        return data

    @staticmethod
    def _plain(graphs: Graphs) -> Graphs:
        if not isinstance(graphs, Graphs):
            raise TypeError(
                f"PARD takes Graphs (data.from_smiles, data.read_... make them), got {type(graphs).__name__}"
            )
        if len(graphs) == 0:
            raise ValueError("there are no graphs")
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
    def fit(
        self,
        graphs: Graphs,
        *,
        epochs: float | None = None,
        max_steps: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        grad_clip: float | None = 1.0,
        val: Graphs | None = None,
        seed: int = 0,
        out: str | os.PathLike[str] | None = None,
        resume: bool = False,
        save_every: int | None = None,
        progress: bool = False,
        **hardware: Any,
    ) -> Self:
        """Train on graphs; earlier weights of this object are forgotten.

        Args:
            graphs: the training graphs.
            epochs: passes over them; the settings' own where neither epochs nor max_steps is given.
            max_steps: optimizer steps in all, instead of epochs.
            batch_size, lr: of the settings where None; a batch never has more graphs than there are.
            grad_clip: largest norm of the gradient; None: any.
            val: graphs for a validation loss.
            seed: of the initial weights, the order, times and noise.
            out: folder for checkpoints; resume: go on with the training in it. save_every: steps between saves.
            progress: show a progress bar.
            hardware: accelerator, devices, num_nodes, strategy, precision, workers, callbacks, log_every, val_every of
                `core.training.fit`.

        Returns:
            self, with the last weights, or their average (``config.ema``); with `val` and `out` those of the lowest
            validation loss.

        Raises:
            ImportError: Lightning is missing.
            ValueError: no graphs; graphs of another kind than those the model was made for; settings out of range; a
                training to resume that was another one.
        """
        if self.shape is None:
            self._define(graphs)
        c, train = self.config, self.inputs(graphs)
        shape = self._shape()
        size, max_steps = budget(c, len(train), epochs, max_steps, batch_size)
        self.first = first_blocks(train, shape)
        self.shares = frequencies(train.graphs, shape.bonds, shape.types if shape.types > 1 else 0)
        self.data = digest_of(train.graphs)
        return self._train(
            self._build(seed),
            train,
            max_steps=max_steps,
            batch_size=size,
            objective=BlockLoss(c.steps, c.coeff_ce),
            lr=c.lr if lr is None else lr,
            weight_decay=c.weight_decay,
            warmup=min(math.ceil(c.warmup * len(train) / size), max_steps // 10),
            decay="cosine",
            ema=c.ema,
            grad_clip=grad_clip,
            seed=seed,
            val=None if val is None else self.inputs(val),
            out=out,
            resume=resume,
            save_every=save_every,
            collate=TrainingSet.collate,
            progress=progress,
            **hardware,
        )

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
