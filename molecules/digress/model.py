r"""DiGress: graphs and molecules by discrete diffusion, one token a node and one a pair of nodes.

C. Vignac, I. Krawczuk, A. Siraudin, B. Wang, V. Cevher, P. Frossard, "DiGress: discrete denoising diffusion for graph
generation", ICLR 2023, https://arxiv.org/abs/2209.14734.

A graph is the types X (N) of its nodes and the bonds A (N, N) of its pairs, 0 for none. By time t each has kept its
value with probability alpha(t), else it was drawn anew from the frequencies in the training graphs (:mod:`.training`).
A graph transformer (:mod:`..networks.graph_transformer`) sees the noisy graph and features of it that message passing
cannot find (:mod:`.features`), and says for each token which value it had. Sampling goes back step by step,

    x_s ~ sum_{x_0} q(x_s | x_t, x_0) p(x_0 | X_t, A_t),         each token on its own,

with the posteriors of the process (`core.discrete.Ancestral`). Nothing is rounded at the end: samples are graphs.
Molecules then go through the same protocol of correction as those of the other models (:mod:`..samples`).

*Asking for properties.* A model whose settings name ``properties`` is told them in training, and withheld them now and
then. ``sample(condition={"mu": 2.5}, guidance_scale=2.0)`` multiplies p(x_0 | ., 2.5)^2 p(x_0 | .)^-1: guidance without
a classifier (J. Ho and T. Salimans, 2022). The published guidance is by a regressor's gradient.

What differs from the published code, beside what the modules above say: continuous training times; noise keyed by the
sample, so that a graph depends neither on the batch it is sampled in nor on the padding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...core.checkpoint import Checkpoint
from ...core.discrete import Ancestral, TokenDenoiser, TokenObjective
from ...core.guidance import ClassifierFree
from ...core.sample import sample
from ...core.samplers.base import Sampler
from ...core.settings import positive_integers
from ..conditions import numbers_of
from ..data.graphs import Graphs
from ..generator import Generator
from ..samples import GraphSamples, graph_samples
from ..scaffolds import scaffold_graph
from ..sizes import counts_of
from ..steering import GraphReward, Steering, choose, with_reward
from ..tokens import frequencies, seen_in_training, space_of
from ..training import digest_of, same_kind
from .config import DiGressConfig
from .steering import Scaffold, read
from .training import TrainingSet, build, objective_of

__all__ = ["DiGress"]


class DiGress(Generator):
    """A discrete diffusion model of graphs or molecules.

    Args:
        config: settings; or give its fields by name.

    Attributes:
        config: the settings.
        vocabulary, hydrogens: of the training graphs, see `Graphs`; None before, and for graphs without.
        nodes, bonds: N, the nodes of the largest graph, and the states of a pair (4 of molecules).
        sizes: (N + 1,) share of training graphs with 0..N nodes.
        probs: frequencies of types "X" and bonds "A" in the training graphs.
        scales: mean and standard deviation of each property in them.
        denoiser: the trained `TokenDenoiser` of states {"X", "A"} ({"A"} without types), None before `fit`.
        history: training log of the last `fit`.
        steps: optimizer steps taken, earlier runs included; 0 for a loaded model.

    Examples:
        >>> model = DiGress.for_dataset(graphs, "small").fit(graphs, max_steps=3000, seed=0)  # doctest: +SKIP
        >>> out = model.sample(100, seed=0)  # doctest: +SKIP
        >>> out.smiles, out.report["valid_uncorrected_gdss"]  # doctest: +SKIP
    """

    kind: ClassVar[str] = "DiGress"
    config_class: ClassVar[type] = DiGressConfig
    fits: ClassVar[str] = "graphs"
    takes: ClassVar[type] = Graphs
    digested: ClassVar[str] = "graphs, their order and padding count"
    free: ClassVar[frozenset[str]] = frozenset({"steps"})
    config: DiGressConfig

    def __init__(self, config: DiGressConfig | None = None, **settings: Any) -> None:
        super().__init__(config, **settings)
        self.vocabulary: tuple[str, ...] | None = None
        self.hydrogens: str | None = None
        self.nodes = self.bonds = 0
        self.sizes = torch.zeros(1, dtype=torch.float64)
        self.probs: dict[str, list[float]] = {}
        self.scales: dict[str, list[float]] = {}

    # -- what the data say -----------------------------------------------------------------------------------------
    @property
    def typed(self) -> bool:
        """Whether nodes have types."""
        return self.vocabulary is not None

    @staticmethod
    def _fitting(graphs: Graphs) -> str:
        limits = ((12, "qm9"), (math.inf, "moses"))
        if graphs.hydrogens is None:
            limits = ((40, "community_small"), (100, "planar"), (math.inf, "sbm"))  # type: ignore[assignment]
        return next(name for most, name in limits if graphs.max_nodes <= most)

    def _known(self) -> bool:
        return self.nodes > 0

    def _define(self, graphs: Graphs) -> None:
        """Fix types, states of a pair, and N."""
        self._refuse_features(graphs)
        self.vocabulary, self.hydrogens, self.nodes = graphs.vocabulary, graphs.hydrogens, graphs.max_nodes
        self.bonds = 4 if graphs.hydrogens is not None else max(2, int(graphs.A.max()) + 1)

    @staticmethod
    def _refuse_features(graphs: Graphs) -> None:
        if graphs.features is not None:
            raise ValueError(
                "DiGress is for graphs whose nodes have types, or nothing; these have features, which are numbers: "
                "take GDSS, or dataclasses.replace(graphs, features=None)"
            )

    def inputs(self, graphs: Graphs) -> Graphs:
        """Graphs as the network takes them: padded to N nodes.

        Raises:
            RuntimeError: the model has seen no graphs yet.
            ValueError: another vocabulary or kind of hydrogens, too many nodes, unknown bonds.
        """
        if not self._known():
            raise RuntimeError("the model has seen no graphs: DiGress.for_dataset(graphs), or fit(graphs) first")
        self._refuse_features(graphs)
        same_kind(graphs, self.vocabulary, self.hydrogens)
        if int(graphs.A.max()) >= self.bonds:
            raise ValueError(f"the model knows bonds 0 to {self.bonds - 1}, these graphs have {int(graphs.A.max())}")
        return graphs.padded(self.nodes)

    def _measure(self, graphs: Graphs) -> None:
        """Read off the training graphs what noise and sampling need."""
        self.sizes, self.data = graphs.node_histogram(), digest_of(graphs)
        self.probs, self.scales = frequencies(graphs, self.bonds), {}
        for name in self.config.properties:
            values = self._property(graphs, name)
            values = values[torch.isfinite(values)]
            if len(values) == 0:
                raise ValueError(f"no training graph has a value of the property {name!r}")
            self.scales[name] = [float(values.mean()), max(float(values.std(correction=0)), 1e-6)]
        for name, value in self.scales.items():
            self.data += f" {name}:{value[0]:.9g}:{value[1]:.9g}"

    @staticmethod
    def _property(graphs: Graphs, name: str) -> Tensor:
        if name not in graphs.properties:
            raise ValueError(f"the graphs have no property {name!r}; they have {sorted(graphs.properties)}")
        return graphs.properties[name]

    def _asked(self, values: Mapping[str, Any], n: int) -> Tensor | None:
        """What the network is told of properties, (n, 2 P): (value, 1), or (0, 0) where not known."""
        if not self.config.properties:
            return None
        parts = []
        for name in self.config.properties:
            mean, scale = self.scales[name]
            value = torch.as_tensor(values.get(name, math.nan), dtype=torch.float64).expand(n)
            known = torch.isfinite(value)
            parts += [torch.where(known, (value - mean) / scale, 0.0), known.double()]
        return torch.stack(parts, 1).float()

    def _scorable(self, val: Graphs, data: Graphs) -> Graphs:
        return seen_in_training(val, data)

    def _rows(self, graphs: Graphs) -> TrainingSet:
        values = {name: self._property(graphs, name) for name in self.config.properties}
        return TrainingSet(graphs, self._asked(values, len(graphs)))

    # -- training --------------------------------------------------------------------------------------------------
    def _objective(self) -> TokenObjective:
        return objective_of(self.config, self.typed)

    def _learning(self, network: Any, lr: float, steps: int, epoch: float) -> dict[str, Any]:
        c = self.config
        return {
            "lr": lr,
            "decay": c.decay,
            "optimizer": lambda p: torch.optim.AdamW(p, lr=lr, weight_decay=c.weight_decay, amsgrad=True),
            "grad_clip": c.grad_clip,
        }

    # -- sampling --------------------------------------------------------------------------------------------------
    def sample(
        self,
        n: int,
        *,
        steps: int | None = None,
        sampler: Sampler | None = None,
        seed: int = 0,
        nodes: int | Sequence[int] | None = None,
        condition: Mapping[str, Any] | None = None,
        guidance_scale: float = 1.0,
        steering: Steering | None = None,
        invalid: float = 0.0,
        scaffold: Any = None,
        max_batch: int | None = 512,
        progress: bool = False,
    ) -> GraphSamples:
        """Draw n graphs.

        Args:
            n: how many.
            steps: network calls, of the settings where None.
            sampler: of the core, for products of processes; default `core.discrete.Ancestral`, as published.
            seed: of sizes and noise. Sample i depends on (seed, i) alone.
            nodes: their node counts, one number or one a sample; None: drawn from the histogram of the training graphs.
            condition: properties that are asked for, by name: a number each, or one a sample. Those left out are not
                asked for.
            guidance_scale: w of p(x_0 | ., condition)^w p(x_0 | .)^(1 - w); 1 is the model as trained.
            steering: `core.steering.SVDD` or `FeynmanKac` with a reward of RDKit molecules (of arrays (n, n) of 0 and 1
                for other graphs). Each sample then costs `candidates` or `walkers` runs; of a Feynman-Kac group one
                walker is drawn by its weight.
            invalid: reward of what is no molecule; less than any molecule has, -10 for a reward of -SA.
            scaffold: a molecule or SMILES (of other graphs, a `Graphs` of one) whose nodes and bonds every sample has,
                as its first nodes; samples then have more nodes than it, where none are given. New bonds may start at
                any of its nodes. Where a molecule needs correction, bonds of the scaffold are lowered last, and its
                piece is kept. Bonds are held as Kekulé bonds: what grows around a ring decides whether it is aromatic.
            max_batch: largest batch for the network.
            progress: show a progress bar.

        Raises:
            RuntimeError: not trained.
            TypeError: no sampler of the core.
            ValueError: n < 1, steps < 1, counts of nodes or properties that the model does not know, a scaffold that
                does not fit.
        """
        denoiser: Any = self._trained()
        positive_integers({"the number of samples": n, "the number of steps": 1 if steps is None else steps})
        steps = self.config.steps if steps is None else steps
        fixed = None if scaffold is None else self._scaffold(scaffold)
        held = 0 if fixed is None else len(fixed.A)
        counts = counts_of(self.sizes, n, nodes, seed, held)
        hook = None if steering is None else self._hook(steering, invalid, held)
        walkers = 1 if hook is None else hook.group
        mask = (torch.arange(self.nodes) < counts[:, None]).repeat_interleave(walkers, 0)
        told, denoiser = self._condition(denoiser, condition, guidance_scale, n)
        given = {"nodes": mask} | ({} if told is None else {"y": told.repeat_interleave(walkers, 0)})
        shape = {"X": mask.shape} if self.typed else {}
        method = Ancestral() if sampler is None else sampler
        if not isinstance(method, Sampler):
            raise TypeError(f"sampler must be one of core.discrete, such as Ancestral(), got {sampler!r}")
        result = sample(
            denoiser,
            method,
            steps=steps,
            shape=shape | {"A": (*mask.shape, self.nodes)},
            space=space_of(mask, self.typed),
            condition=given,
            hooks=[h for h in (fixed, hook) if h is not None],
            seed=seed,
            max_batch=None if max_batch is None else max(max_batch, walkers),
            progress=progress,
        )
        chosen = torch.arange(n) if hook is None else choose(hook, result.state.aux, len(mask), seed, "digress")
        x = {name: leaf[chosen].cpu() for name, leaf in result.x.items()}
        info = {
            "model": self.kind, "sampler": repr(method), "steps": steps, "seed": seed,
            "network_calls": result.calls * walkers, "condition": None if condition is None else dict(condition),
            "guidance_scale": guidance_scale, "steering": None if steering is None else type(steering).__name__,
        }  # fmt: skip
        return graph_samples(self._graphs(x, mask[chosen]), n, info, result.records, held)

    def _graphs(self, x: dict[str, Tensor], mask: Tensor) -> Graphs:
        types = x["X"].to(torch.uint8) if self.typed else None
        return Graphs(x["A"].to(torch.uint8), mask, types, self.vocabulary, self.hydrogens)  # type: ignore[arg-type]

    def _condition(
        self, denoiser: Any, condition: Mapping[str, Any] | None, scale: float, n: int
    ) -> tuple[Tensor | None, Any]:
        """What the network is told (n, 2 P), and the denoiser with guidance."""
        unknown = sorted(set(condition or {}) - set(self.config.properties))
        if unknown:
            raise ValueError(
                f"the model cannot be asked for {unknown}; it was trained with properties={self.config.properties}"
            )
        if scale != 1.0 and not condition:
            raise ValueError(f"guidance_scale={scale} needs a condition= to guide to")
        if scale != 1.0 and not self.config.dropout_properties:
            raise ValueError("guidance needs a model that was trained with dropout_properties > 0, this one was not")
        told = self._asked({name: numbers_of(name, value, n) for name, value in (condition or {}).items()}, n)
        if scale == 1.0 or told is None:
            return told, denoiser
        return told, ClassifierFree(denoiser, scale, null={"y": torch.zeros(told.shape[1])})

    def _hook(self, steering: Any, invalid: float, held: int) -> Steering:
        """The steering of the core with a reward of tokens."""
        return with_reward(steering, lambda f: GraphReward(f, read, self.vocabulary, self.hydrogens, invalid, held))

    def _scaffold(self, scaffold: Any) -> Scaffold:
        if isinstance(scaffold, Graphs):
            one = self.inputs(scaffold)
            if len(one) != 1:
                raise ValueError(f"a scaffold is one graph, got {len(one)}")
        elif self.hydrogens is None:
            raise ValueError(f"scaffolds of graphs that are no molecules are Graphs of one, got {scaffold!r}")
        else:
            one = scaffold_graph(scaffold, self.vocabulary, self.hydrogens, self.nodes)
        k = int(one.num_nodes[0])
        types = None if one.types is None else one.types[0, :k].long()
        return Scaffold(types, one.A[0, :k, :k].long(), self.nodes)

    # -- the trained network and files -----------------------------------------------------------------------------
    def _build(self, seed: int) -> TokenDenoiser:
        return build(self.config, self.probs, self.nodes, self.vocabulary if self.hydrogens is not None else None, seed)

    def _header(self) -> dict[str, Any]:
        return super()._header() | {
            "vocabulary": None if self.vocabulary is None else list(self.vocabulary),
            "hydrogens": self.hydrogens,
            "nodes": self.nodes,
            "bonds": self.bonds,
            "sizes": self.sizes.tolist(),
            "probs": self.probs,
            "scales": self.scales,
        }

    def _restore(self, read: Checkpoint) -> None:
        super()._restore(read)
        stored = read.config
        self.vocabulary = None if stored["vocabulary"] is None else tuple(stored["vocabulary"])
        self.hydrogens, self.nodes, self.bonds = stored["hydrogens"], int(stored["nodes"]), int(stored["bonds"])
        self.sizes = torch.tensor(stored["sizes"], dtype=torch.float64)
        self.probs, self.scales = stored["probs"], stored["scales"]
