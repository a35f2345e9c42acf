r"""GDSS: graphs and molecules by one joint diffusion of node features and adjacency.

J. Jo, S. Lee, S. J. Hwang, "Score-based generative modeling of graphs via the system of stochastic differential
equations", ICML 2022, https://arxiv.org/abs/2202.02514.

A graph is X (N, F), the features of its nodes, and A (N, N), its adjacency with bond orders 0..3 as plain numbers. Both
are diffused at the same time t, each by its own process (:mod:`.schedules`), in the space of graphs with the same
nodes: A symmetric without a diagonal, and zeros where no node is. The reverse-time system

    dX = [f_X X - g_X^2 grad_X log p_t(X, A)] dt + g_X dw,      dA = [f_A A - g_A^2 grad_A log p_t(X, A)] dt + g_A dw

is coupled by its scores: two networks that each see X and A (:mod:`..networks.gdss`), trained together
(:mod:`.training`) and walked together (:mod:`.sampling`). Samples are thresholded (:mod:`.quantise`),
and molecules go through the published protocol of correction (:mod:`..chem`).

What differs from the published code, beside what the modules above say:

- Nodes are told by an explicit mask. The published flags are "has an edge", which loses single atoms.
- Corrector norms are those of each graph, not means over the batch (``compat="published"`` has those).
- Noise is keyed by the sample: a graph does not depend on the batch it is sampled in, nor on the padding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch

from ...core.checkpoint import Checkpoint
from ...core.denoisers import Denoiser
from ...core.samplers.base import Sampler
from ...core.settings import positive_integers
from ..data.graphs import Graphs
from ..generator import Generator
from ..samples import GraphSamples, graph_samples
from ..scaffolds import scaffold_graph
from ..sizes import counts_of
from ..steering import Steering, choose
from ..training import digest_of, same_kind
from .config import OF_SAMPLER, OF_SAMPLING, GDSSConfig
from .quantise import Meaning, to_graphs
from .sampling import Moments, moments_of, run, sampler_of
from .steering import Scaffold, prepared
from .training import GraphLoss, SeparateAdam, TrainingSet, build

__all__ = ["GDSS"]


class GDSS(Generator):
    """A diffusion model of graphs or molecules.

    Args:
        config: settings; or give its fields by name.

    Over several processes it is trained with ``strategy="ddp_find_unused_parameters_true"``: the values of the last
    attention layer go nowhere.

    Attributes:
        config: the settings.
        meaning: what X and A are, read from the training graphs; None before.
        features, nodes: F and N.
        sizes: (N + 1,) share of training graphs with 0..N nodes.
        denoiser: the trained `Denoiser` of states {"X", "A"}, None before `fit`.
        history: training log of the last `fit`.
        steps: optimizer steps taken, earlier runs included; 0 for a loaded model.

    Examples:
        >>> model = GDSS.for_dataset(graphs).fit(graphs, epochs=20, seed=0)  # doctest: +SKIP
        >>> out = model.sample(100, sampler="s4", seed=0)  # doctest: +SKIP
        >>> out.smiles, out.report["valid_uncorrected_gdss"]  # doctest: +SKIP
    """

    kind: ClassVar[str] = "GDSS"
    config_class: ClassVar[type] = GDSSConfig
    fits: ClassVar[str] = "graphs"
    takes: ClassVar[type] = Graphs
    digested: ClassVar[str] = "graphs, their order and padding count"
    free: ClassVar[frozenset[str]] = OF_SAMPLING | {"sampler"}
    config: GDSSConfig

    def __init__(self, config: GDSSConfig | None = None, **settings: Any) -> None:
        super().__init__(config, **settings)
        self.meaning: Meaning | None = None
        self.features = self.nodes = 0
        self.sizes = torch.zeros(1, dtype=torch.float64)
        self.moments: Moments = {}

    # -- what the data say -----------------------------------------------------------------------------------------
    @staticmethod
    def _fitting(graphs: Graphs) -> str:
        limits = ((12, "qm9"), (math.inf, "zinc250k"))
        if graphs.hydrogens is None:
            limits = ((40, "community_small"), (160, "enzymes"), (math.inf, "grid"))  # type: ignore[assignment]
        return next(name for most, name in limits if graphs.max_nodes <= most)

    def _known(self) -> bool:
        return self.meaning is not None

    def _define(self, graphs: Graphs) -> None:
        """Fix what X and A mean, F and N."""
        inputs = "features" if graphs.features is not None else "types" if graphs.types is not None else "degrees"
        self.meaning = Meaning(inputs, graphs.vocabulary, graphs.hydrogens)
        self.features = int((graphs.with_degrees() if inputs == "degrees" else graphs[:1]).X.shape[-1])
        self.nodes = graphs.max_nodes

    def inputs(self, graphs: Graphs) -> Graphs:
        """Graphs as the networks take them: with X, padded to N nodes.

        Raises:
            RuntimeError: the model does not know yet what X is.
            ValueError: another vocabulary or kind of hydrogens, too many nodes, degrees or features.
        """
        meaning = self._meaning()
        same_kind(graphs, meaning.vocabulary, meaning.hydrogens)
        graphs = graphs.padded(self.nodes)
        if meaning.inputs == "degrees":
            return graphs.with_degrees(self.features)
        if (graphs.features is not None) != (meaning.inputs == "features") or graphs[:1].X.shape[-1] != self.features:
            raise ValueError(
                f"the model takes {self.features} {meaning.inputs} a node, these graphs have {graphs[:1].X.shape[-1]} "
                f"{'features' if graphs.features is not None else 'types'}"
            )
        return graphs

    def _measure(self, graphs: Graphs) -> None:
        """Read off the training graphs what sampling needs: node counts, mean and variance of p_0."""
        self.sizes, self.data, self.moments = graphs.node_histogram(), digest_of(graphs), moments_of(graphs)

    def _meaning(self) -> Meaning:
        if self.meaning is None:
            raise RuntimeError("the model has seen no graphs: GDSS.for_dataset(graphs), or fit(graphs) first")
        return self.meaning

    # -- training --------------------------------------------------------------------------------------------------
    def _rows(self, graphs: Graphs) -> TrainingSet:
        return TrainingSet(graphs)

    def _objective(self) -> GraphLoss:
        return GraphLoss(self.config.t_train, self.config.coupling)

    def _learning(self, network: Any, lr: float, steps: int, epoch: float) -> dict[str, Any]:
        c, both = self.config, [network.nodes, network.edges]
        return {
            "lr": lr,
            "decay": c.decay,
            "optimizer": lambda _: SeparateAdam(both, lr, c.weight_decay, c.grad_clip),
            "grad_clip": None,  # the optimizer clips, each network by itself
        }

    # -- sampling --------------------------------------------------------------------------------------------------
    def sample(
        self,
        n: int,
        *,
        sampler: str | Sampler | None = None,
        steps: int = 1000,
        seed: int = 0,
        nodes: int | Sequence[int] | None = None,
        steering: Steering | None = None,
        invalid: float = 0.0,
        scaffold: Any = None,
        max_batch: int | None = 512,
        progress: bool = False,
        **changes: Any,
    ) -> GraphSamples:
        """Draw n graphs.

        Args:
            n: how many.
            sampler: "pc" (two network calls a step), "s4" (one), or a sampler of the core; of the settings where None.
            steps: of the grid, 1000 as published.
            seed: of sizes and noise. Sample i depends on (seed, i) alone.
            nodes: their node counts, one number or one a sample; None: drawn from the histogram of the training graphs.
            steering: `core.steering.SVDD` or `FeynmanKac` with a reward of RDKit molecules (of arrays (n, n) of 0 and 1
                for other graphs). Each sample then costs `candidates` or `walkers` runs; of a Feynman-Kac group one
                walker is drawn by its weight. With "pc" and "s4" steered samples are drawn without the Langevin
                corrector, unless ``corrector="langevin"`` asks for it: it moves a graph so far that what was gained by
                a choice is lost at the next step. A sampler of the core is taken as it is.
            invalid: reward of what is no molecule; less than any molecule has, -10 for a reward of -SA.
            scaffold: of molecules: a molecule or SMILES whose atoms and bonds every sample has, as its first nodes;
                samples then have more nodes than it, where none are given. New bonds may start at any of its atoms.
                Where a molecule needs correction, bonds of the scaffold are lowered last, and its piece is kept.
                Bonds are held as Kekulé bonds: what grows around a ring decides whether it is aromatic.
            max_batch: largest batch for the networks.
            progress: show a progress bar.
            changes: settings of sampling that differ from the model's: snr, scale_eps, predictor, corrector, compat,
                start, isolated, virtual, t_end.

        Raises:
            RuntimeError: not trained.
            ValueError: n < 1, steps < 1, counts of nodes that the model does not know, an unknown sampler or setting,
                a scaffold that does not fit.
        """
        denoiser, meaning = self._trained(), self._meaning()
        positive_integers({"the number of samples": n})
        own = sorted(OF_SAMPLER & set(changes)) if isinstance(sampler, Sampler) else []
        if own:
            raise ValueError(f"{own} are settings of 'pc' and 's4': set them in the sampler that you give")
        if steering is not None:
            changes = {"corrector": "none"} | changes
        config = self._changed(changes)
        method = sampler_of(config, sampler)
        fixed = None if scaffold is None else self._scaffold(scaffold)
        held = 0 if fixed is None else len(fixed.X)
        counts = counts_of(self.sizes, n, nodes, seed, held)
        hook = None if steering is None else prepared(steering, config, meaning, invalid, held)
        walkers = 1 if hook is None else hook.group
        mask = (torch.arange(self.nodes) < counts[:, None]).repeat_interleave(walkers, 0)
        result = run(
            denoiser,
            config,
            mask,
            self.features,
            self.moments,
            one_hot=meaning.inputs != "features",
            sampler=method,
            steps=steps,
            seed=seed,
            max_batch=None if max_batch is None else max(max_batch, walkers),
            hooks=[h for h in (fixed, hook) if h is not None],
            progress=progress,
        )
        chosen = torch.arange(n) if hook is None else choose(hook, result.state.aux, len(mask), seed, "gdss")
        x = {name: leaf[chosen].cpu() for name, leaf in result.x.items()}
        if fixed is not None:
            x = fixed.put(x)
        info = {
            "model": self.kind, "sampler": repr(method), "steps": steps, "seed": seed, "start": config.start,
            "network_calls": result.calls * walkers, "steering": None if steering is None else type(steering).__name__,
        }  # fmt: skip
        graphs, _ = to_graphs(x["X"], x["A"], mask[chosen], config, meaning)
        found = graph_samples(graphs, n, info, result.records, held)
        return replace(found, X=x["X"], A=x["A"], mask=mask[chosen])

    def _changed(self, changes: dict[str, Any]) -> GDSSConfig:
        strange = sorted(set(changes) - OF_SAMPLING)
        if strange:
            raise ValueError(f"{strange} are no settings of sampling; those are {sorted(OF_SAMPLING)}")
        return replace(self.config, **changes)

    def _scaffold(self, scaffold: Any) -> Scaffold:
        meaning = self._meaning()
        if not meaning.molecules:
            raise ValueError("scaffolds are molecules, this is a model of other graphs")
        if self.config.coupling == "sequential":
            raise ValueError('scaffolds need X and A in one run; with coupling="sequential" there is none')
        one = scaffold_graph(scaffold, meaning.vocabulary, meaning.hydrogens, self.nodes)
        return Scaffold(one.X[0], one.A[0].float())

    # -- the trained network and files -----------------------------------------------------------------------------
    def _build(self, seed: int) -> Denoiser:
        return build(self.config, self.features, seed)

    def _header(self) -> dict[str, Any]:
        inputs, vocabulary, hydrogens = self._meaning()
        return super()._header() | {
            "inputs": inputs,
            "vocabulary": None if vocabulary is None else list(vocabulary),
            "hydrogens": hydrogens,
            "features": self.features,
            "nodes": self.nodes,
            "sizes": self.sizes.tolist(),
            "moments": self.moments,
        }

    def _restore(self, read: Checkpoint) -> None:
        super()._restore(read)
        stored = read.config
        vocabulary = stored["vocabulary"]
        self.meaning = Meaning(stored["inputs"], None if vocabulary is None else tuple(vocabulary), stored["hydrogens"])
        self.features, self.nodes = int(stored["features"]), int(stored["nodes"])
        self.sizes = torch.tensor(stored["sizes"], dtype=torch.float64)
        self.moments = stored["moments"]
