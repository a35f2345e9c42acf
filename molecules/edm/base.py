"""What diffusion models of molecules in space share: everything but the network, the features and a further loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...core.checkpoint import Checkpoint
from ...core.denoisers import Denoiser
from ...core.guidance import ClassifierFree, TimeTravel
from ...core.sample import sample
from ...core.samplers import DDPM
from ...core.samplers.base import Sampler
from ...core.settings import positive_integers
from ..data.atoms import Atoms
from ..generator import Generator
from ..sizes import counts_of
from ..steering import Steering, choose, with_reward
from .bounds import Bounds
from .conditioning import Conditioning
from .config import AtomConfig
from .features import Features, Part, digest_of_atoms, space_of
from .samples import AtomSamples
from .scaffold import Scaffold
from .schedule import level, polynomial, times_of
from .steering import AtomReward
from .training import AtomLoss, AtomSet, Extra

__all__ = ["AtomModel"]


class AtomModel(Generator):
    """A diffusion model of molecules in space: the verbs that `EDM` and `GFMDiff` share.

    A system states its `kind`, its settings, the `parts` of its features, its network and a further loss.
    """

    config_class: ClassVar[type[AtomConfig]]
    fits: ClassVar[str] = "atoms"
    takes: ClassVar[type] = Atoms
    digested: ClassVar[str] = "positions, elements, properties, their order and padding count"
    parts: ClassVar[tuple[Part, ...]]

    def __init__(self, config: AtomConfig | None = None, **settings: Any) -> None:
        super().__init__(config, **settings)
        self.features: Features | None = None
        self.conditioning = Conditioning((), (), (), {})
        self.nodes = 0
        self.sizes = torch.zeros(1, dtype=torch.float64)

    # -- what a system states --------------------------------------------------------------------------------------
    def network(self, features: int, context: int) -> nn.Module:
        """The untrained network for F features and C numbers of context."""
        raise NotImplementedError

    def extra_loss(self) -> Extra | None:
        """A further loss on the data prediction."""
        return None

    # -- what the data say -----------------------------------------------------------------------------------------
    @staticmethod
    def _fitting(atoms: Atoms) -> str:
        return "qm9"

    def _known(self) -> bool:
        return self.features is not None

    def _define(self, atoms: Atoms) -> None:
        c = self.config
        self.features = Features(atoms.elements, self.parts, (c.type_divisor, c.number_divisor))
        self.nodes = int(atoms.num_atoms.max())
        self.features.check(atoms, self.nodes)

    def _features(self) -> Features:
        if self.features is None:
            raise RuntimeError(f"the model has seen no molecules: {self.kind}.for_dataset(atoms), or fit(atoms) first")
        return self.features

    def inputs(self, atoms: Atoms) -> Atoms:
        """Molecules as the network takes them.

        Raises:
            RuntimeError: the model has seen no molecules yet.
            TypeError, ValueError: no molecules, single atoms, other elements or larger molecules than the model knows.
        """
        return self._features().check(atoms, self.nodes)

    def _rows(self, atoms: Atoms) -> AtomSet:
        known = self.conditioning
        for name in known.names:
            if name not in atoms.properties:
                raise ValueError(f"the molecules have no property {name!r}; they have {list(atoms.properties)}")
        context = known.context({n: atoms.properties[n] for n in known.names}) if known.names else None
        return AtomSet(atoms, self._features(), context)

    def _build(self, seed: int) -> Denoiser:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self.network(self._features().width, self.conditioning.width)
        schedule = polynomial(self.config.diffusion_steps, precision=self.config.precision)
        return Denoiser(network, schedule, "noise", label=level)

    # -- training --------------------------------------------------------------------------------------------------
    def _measure(self, atoms: Atoms) -> None:
        names = self.config.properties
        self.conditioning, self.data = Conditioning.of(atoms, names), digest_of_atoms(atoms, names)
        self.sizes = torch.bincount(atoms.num_atoms, minlength=self.nodes + 1).double() / len(atoms)

    def _objective(self) -> AtomLoss:
        c = self.config
        return AtomLoss(c.dropout_properties if c.properties else 0.0, self.extra_loss())

    def _learning(self, network: nn.Module, lr: float, steps: int, epoch: float) -> dict[str, Any]:
        c = self.config
        return {
            "lr": lr,
            "decay": c.decay,
            "optimizer": lambda p: torch.optim.Adam(p, lr=lr, weight_decay=c.weight_decay, amsgrad=True),
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
        scaffold: Any = None,
        scaffold_repeats: int | None = None,
        steering: Steering | None = None,
        invalid: float = 0.0,
        max_batch: int | None = 256,
        progress: bool = False,
    ) -> AtomSamples:
        """Draw n molecules.

        Args:
            n: how many.
            steps: network calls; None: every level of the schedule, T + 1. Fewer visit evenly spaced levels.
            sampler: of the core; None: ancestral (`DDPM`), as published. ``DDIM()`` keeps more of the quality at few
                steps.
            seed: of sizes, properties and noise. Sample i depends on (seed, i) alone.
            nodes: numbers of atoms, one or one a sample; None: drawn from the histogram of the training molecules.
            condition: of a model trained with properties: what is asked for, by name, one number or one a sample;
                those not named are drawn as the training molecules of that size have them.
            guidance_scale: w of classifier-free guidance towards the properties; 1: the conditional model.
            scaffold: `Atoms` of one molecule, or an RDKit molecule with a conformer, whose atoms every sample has, as
                its first ones and where they are; sizes are then drawn among those that are larger. Hydrogens that
                are to be drawn are left out of it. See :mod:`.scaffold`.
            scaffold_repeats: how often each step is then taken, so that the rest comes to fit; calls are as many times
                more. Five repeats of a fifth of the steps do much better than one of all. None: 5, with steering,
                which repeats would undo, 1.
            steering: `core.steering.SVDD` or `FeynmanKac` with a reward of RDKit molecules (all hydrogens atoms, with a
                conformer). Each sample then costs `candidates` or `walkers` runs.
            invalid: reward of what is no molecule; less than any molecule has, -10 for a reward of -SA.
            max_batch: largest batch for the network.
            progress: show a progress bar.

        Raises:
            RuntimeError: not trained.
            TypeError, ValueError: n < 1, steps or sizes that the model does not have, properties it was not trained
                with, guidance of a model that always saw its properties, a scaffold that does not fit.
        """
        denoiser, features = self._trained(), self._features()
        positive_integers({"the number of samples": n})
        fixed = None if scaffold is None else Scaffold.of(scaffold, features, self.nodes)
        again = None if fixed is None else self._repeats(scaffold_repeats, steering)
        counts = self._counts(n, nodes, seed, 0 if fixed is None else len(fixed.positions))
        grid = times_of(denoiser.schedule, steps)
        asked = self.conditioning.asked(condition, counts, seed)
        method = DDPM() if sampler is None else sampler
        hook = None if steering is None else with_reward(steering, lambda f: AtomReward(f, features, invalid))
        walkers = 1 if hook is None else hook.group
        mask = (torch.arange(int(counts.max())) < counts[:, None]).repeat_interleave(walkers, 0)
        given: dict[str, Any] = {"atoms": mask}
        if self.conditioning.names:
            given["context"] = self.conditioning.context(asked).repeat_interleave(walkers, 0)
        result = sample(
            self._guided(denoiser, guidance_scale),
            method,
            grid,
            shape={"x": (*mask.shape, 3), "h": (*mask.shape, features.width)},
            space=space_of(mask),
            condition=given,
            hooks=[h for h in (Bounds(features.largest), fixed, hook, again) if h is not None],
            seed=seed,
            max_batch=None if max_batch is None else max(max_batch, walkers),
            progress=progress,
        )
        chosen = torch.arange(n) if hook is None else choose(hook, result.state.aux, len(mask), seed, self.kind)
        x = {name: leaf[chosen].cpu() for name, leaf in result.x.items()}
        info = {
            "model": self.kind, "sampler": repr(method), "steps": grid.steps, "seed": seed,
            "condition": None if condition is None else dict(condition), "guidance_scale": guidance_scale,
            "network_calls": result.calls * walkers, "steering": None if steering is None else type(steering).__name__,
        }  # fmt: skip
        atoms = features.decode(x["x"], x["h"], mask[chosen])
        return AtomSamples.of(atoms if fixed is None else fixed.frame(atoms), x, info, result.records, asked)

    def _counts(self, n: int, nodes: int | Sequence[int] | None, seed: int, held: int) -> Tensor:
        if nodes is not None and int(torch.as_tensor(nodes).min()) < 2:
            raise ValueError("molecules have at least 2 atoms here: a single one has no geometry; ask for nodes >= 2")
        return counts_of(self.sizes, n, nodes, seed, held=max(held, 1 if nodes is None else 2), what="atoms")

    @staticmethod
    def _repeats(repeats: int | None, steering: Steering | None) -> TimeTravel:
        if steering is not None and repeats not in (None, 1):
            raise ValueError(f"scaffold_repeats={repeats} would undo what steering chooses: leave it out, or give 1")
        return TimeTravel((5 if steering is None else 1) if repeats is None else repeats)

    def _guided(self, denoiser: Denoiser, scale: float) -> Any:
        if scale == 1.0:
            return denoiser
        if not self.conditioning.names or not self.config.dropout_properties > 0.0:
            raise ValueError(
                f"guidance_scale={scale} needs a model trained with properties that were dropped at times: "
                "properties=(...) and dropout_properties > 0 in its settings"
            )
        return ClassifierFree(denoiser, scale, null={"context": 0.0})

    # -- files -----------------------------------------------------------------------------------------------------
    def _header(self) -> dict[str, Any]:
        return super()._header() | {
            "elements": list(self._features().elements),
            "nodes": self.nodes,
            "sizes": self.sizes.tolist(),
            "conditioning": asdict(self.conditioning),
        }

    def _restore(self, read: Checkpoint) -> None:
        super()._restore(read)
        c, stored = self.config, read.config
        self.features = Features(tuple(stored["elements"]), self.parts, (c.type_divisor, c.number_divisor))
        self.nodes = int(stored["nodes"])
        self.sizes = torch.tensor(stored["sizes"], dtype=torch.float64)
        known = stored["conditioning"]
        self.conditioning = Conditioning(
            tuple(known["names"]), tuple(known["mean"]), tuple(known["mad"]), known["histograms"]
        )
