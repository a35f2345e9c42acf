r"""The one-step model: which reactions might make this molecule?

A perceptron on the Morgan fingerprint scores all templates (Segler and Waller, "Neural-symbolic machine learning for
retrosynthesis and reaction prediction", 2017, https://doi.org/10.1002/chem.201605499). With f the fingerprint of a
molecule m, C(m) the ``top`` templates with the highest proposal(f), and for t in C(m)

    p(t | m) = softmax_{t in C(m)} choice(f)_t,

the templates of C(m) are applied to m. A template with k outcomes gives each p / k, equal sets of reactants add their
probabilities up, and the reactions that exist are normalised: sum_r p(r | m) = 1 where there is any.

Proposal and choice are the same network after :meth:`TemplatePolicy.fit`, on pairs (product, template). Training by
planning (:mod:`.pdvn`) changes the choice alone, the two-branch structure of Liu et al. (2023).
"""

from __future__ import annotations

import copy
import hashlib
import math
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core import checkpoint
from ...core.model import fit_model
from ...core.scores import Score
from ..data.reactions import Reaction
from ..metrics.uncertainty import share
from ..training import budget
from . import extras
from .config import PolicyConfig
from .networks import Arrays, Branches, Learner, fingerprints
from .templates import Extraction, Product, Templates, extract, key_of

__all__ = ["Suggestion", "TemplatePolicy"]

KIND = "TemplatePolicy"
_REMEMBERED = 20_000


@dataclass(frozen=True)
class Suggestion:
    """One reaction that might make a molecule.

    Attributes:
        reactants: canonical SMILES, sorted. probability: see the module. template: the likeliest that gives them.
    """

    reactants: tuple[str, ...]
    probability: float
    template: str


class TemplatePolicy:
    """A model of single retrosynthetic steps by templates.

    Args:
        config: settings; or give its fields by name.

    Attributes:
        config: the settings.
        templates: what it chooses from; None before `for_dataset` or `fit`.
        network: the trained `Branches`, None before `fit`.
        history: training log of the last `fit`.
        steps: optimizer steps of the last `fit`; 0 for a loaded model.

    Examples:
        >>> policy = TemplatePolicy.for_dataset(reactions).fit(reactions, seed=0)  # doctest: +SKIP
        >>> policy.propose("CC(=O)Nc1ccccc1")[0].reactants  # doctest: +SKIP
    """

    def __init__(self, config: PolicyConfig | None = None, **settings: Any) -> None:
        if config is not None and settings:
            raise TypeError(f"give a PolicyConfig or its fields, not both (got config and {sorted(settings)})")
        self.config = config or PolicyConfig(**settings)
        self.templates: Templates | None = None
        self.network: Branches | None = None
        self.history: list[dict[str, float]] = []
        self.steps = 0
        self.data = ""
        self._applied: OrderedDict[str, dict[int, tuple[tuple[str, ...], ...]]] = OrderedDict()

    def __repr__(self) -> str:
        known = "no templates" if self.templates is None else f"{len(self.templates)} templates"
        return f"TemplatePolicy({known}, {'trained' if self.network is not None else 'not trained'})"

    @classmethod
    def for_dataset(
        cls, data: Sequence[Reaction] | Extraction | Templates, preset: str | None = None, **changes: Any
    ) -> Self:
        """An untrained model with the templates of mapped reactions.

        Args:
            data: reactions, what `extract` gave of them, or templates.
            preset: see `PolicyConfig.preset`; None: "uspto50k".
            changes: settings that differ.

        Raises:
            ValueError: no template; an unknown preset, settings out of range.
        """
        model = cls(PolicyConfig.preset(preset or "uspto50k", **changes))
        if isinstance(data, Templates):
            model.templates = data
        else:
            model.templates = (data if isinstance(data, Extraction) else _extracted(data, model.config)).templates
        if len(model.templates) == 0:
            raise ValueError("there are no templates to choose from")
        return model

    # -- training ----------------------------------------------------------------------------------------------------
    def fit(
        self,
        data: Sequence[Reaction] | Extraction,
        *,
        products: Sequence[str] | None = None,
        epochs: float | None = None,
        max_steps: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        val: Sequence[Reaction] | None = None,
        seed: int = 0,
        out: str | os.PathLike[str] | None = None,
        resume: bool = False,
        save_every: int | None = None,
        progress: bool = False,
        **hardware: Any,
    ) -> Self:
        """Train on (product, template); earlier weights of this object are forgotten.

        Args:
            data: mapped reactions; those whose template is not among the model's are left out. Or an `Extraction`,
                which saves extracting again, with ``products``, the product of each of its reactions.
            epochs, max_steps, batch_size, lr: of the settings where None.
            val: reactions for a validation loss.
            seed: of the initial weights, the order and dropout.
            out, resume, save_every, progress, hardware: as `core.training.fit` has them.

        Returns:
            self; with `val` and `out` with the weights of the lowest validation loss.

        Raises:
            ImportError: Lightning, RDKit or rdchiral is missing.
            ValueError: no reaction has one of the templates, settings out of range, a training to resume that was
                another one.
        """
        c = self.config
        if isinstance(data, Extraction) and products is None:
            raise ValueError("an Extraction needs products=, the product of each of its reactions")
        if not isinstance(data, Extraction):
            products, data = [r.products[0] for r in data], _extracted(data, c)
        if self.templates is None:
            self.templates = data.templates
        assert products is not None
        train = self._pairs(data, products)
        held = None if val is None else self._pairs(_extracted(val, c), [r.products[0] for r in val])
        size, max_steps = budget(c, len(train), epochs, max_steps, batch_size)
        self.data = _digest(train, self.templates)
        network = build(c, len(self.templates), seed)
        result = fit_model(
            Learner(network),
            train,
            max_steps=max_steps,
            batch_size=size,
            objective=_template_loss,
            lr=c.lr if lr is None else lr,
            weight_decay=c.weight_decay,
            ema=c.ema,
            seed=seed,
            val=held,
            out=out,
            resume=resume,
            save_every=save_every,
            kind=KIND,
            header=self._header(split=False),
            free={"top"},
            digested="products, templates and their order count",
            progress=progress,
            **hardware,
        )
        self.history, self.steps, self.network = result.history, result.steps, network
        network.eval().requires_grad_(False)
        return self

    def _pairs(self, data: Extraction, products: Sequence[str]) -> Arrays:
        """Fingerprints and numbers of templates, of the reactions whose template the model has."""
        if len(products) != len(data.labels):
            raise ValueError(f"{len(products)} products for {len(data.labels)} reactions")
        assert self.templates is not None
        index = {key_of(s): i for i, s in enumerate(self.templates.smarts)}
        places = [index.get(key_of(s)) for s in data.templates.smarts]
        found = [
            (product, place)
            for product, label in zip(products, data.labels, strict=True)
            if label is not None and (place := places[label]) is not None
        ]
        if not found:
            raise ValueError("none of these reactions has one of the model's templates: there is nothing to train on")
        return Arrays(x=fingerprints([p for p, _ in found], self.config), y=torch.tensor([t for _, t in found]))

    # -- one step ----------------------------------------------------------------------------------------------------
    def candidates(self, smiles: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Numbers of the candidate templates (B, top) and their probabilities before they are tried (B, top)."""
        with torch.no_grad():
            best, logs = self._trained().candidates(fingerprints(smiles, self.config).float())
        return best, logs.exp()

    def propose(self, smiles: str) -> list[Suggestion]:
        """The reactions that might make a molecule, the likeliest first; empty where no candidate applies.

        Raises:
            RuntimeError: not trained. ValueError: no molecule.
        """
        self._trained()
        assert self.templates is not None
        product = Product(smiles)
        best, p = self.candidates([product.smiles])
        known = self._applied.setdefault(product.smiles, {})  # outcomes do not depend on weights
        self._applied.move_to_end(product.smiles)
        if len(self._applied) > _REMEMBERED:
            self._applied.popitem(last=False)
        total: dict[tuple[str, ...], float] = {}
        by: dict[tuple[str, ...], str] = {}
        for number, probability in zip(best[0].tolist(), p[0].double().tolist(), strict=True):
            smarts = self.templates.smarts[number]
            if number not in known:
                known[number] = tuple(product.reactants(smarts))
            for reactants in known[number]:
                part = probability / len(known[number])
                if reactants not in total or part > total[reactants]:
                    by[reactants] = smarts
                total[reactants] = total.get(reactants, 0.0) + part
        whole = math.fsum(total.values())
        if whole <= 0:
            return []
        ordered = sorted(total, key=lambda r: (-total[r], r))
        return [Suggestion(r, total[r] / whole, by[r]) for r in ordered]

    def accuracy(self, reactions: Sequence[Reaction], k: int = 1) -> Score:
        """Share of reactions whose reactants are among the k likeliest suggestions for their product."""
        if not reactions or k < 1:
            raise ValueError(f"expected reactions and k >= 1, got {len(reactions)} and {k}")
        hits = 0
        for reaction in reactions:
            found = [s.reactants for s in self.propose(reaction.products[0])[:k]]
            hits += tuple(sorted(reaction.reactants)) in found
        return share(f"top{k}_exact", hits, len(reactions), f"recorded reactants among the {k} likeliest, with stereo")

    def reaction_model(self) -> Any:
        """The policy as a ``BackwardReactionModel`` of syntheseus, with an empty cache and a count of calls of 0.

        Raises:
            ImportError: syntheseus is missing.
        """
        self._trained()
        return extras.search().policy_model(self)

    def copy(self) -> Self:
        """An independent copy (outcomes of templates that are known already are shared)."""
        new = copy.copy(self)
        new.network, new.history = copy.deepcopy(self.network), list(self.history)
        return new

    def _trained(self) -> Branches:
        if self.network is None:
            raise RuntimeError(
                "this TemplatePolicy is not trained: call fit(reactions), or TemplatePolicy.load(folder)"
            )
        return self.network

    # -- files -------------------------------------------------------------------------------------------------------
    def _header(self, split: bool) -> dict[str, Any]:
        assert self.templates is not None
        return {
            "config": asdict(self.config),
            "templates": list(self.templates.smarts),
            "counts": list(self.templates.counts),
            "split": split,
            "data": self.data,
        }

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write weights (safetensors), settings and templates (JSON) into ``folder``, atomically; returns it."""
        network = self._trained()
        return checkpoint.save(folder, network, self._header(network.is_split), kind=KIND)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read what `save`, or `fit` with ``out`` (its ``model`` and ``best``), wrote.

        Raises:
            FileNotFoundError, CheckpointError: nothing there, corrupted, foreign, or of another kind.
        """
        read = checkpoint.load(folder, kind=KIND)
        model = cls(read.settings(PolicyConfig))
        model.templates = Templates(tuple(read.config["templates"]), tuple(read.config["counts"]))
        model.data = read.config["data"]
        model.network = build(model.config, len(model.templates), 0)
        if read.config["split"]:
            model.network.split()
        read.load_into(model.network)
        model.network.eval().requires_grad_(False)
        return model


def build(config: PolicyConfig, templates: int, seed: int) -> Branches:
    """The networks, with initial weights of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Branches(config, templates)


def _template_loss(learner: Any, batch: dict[str, Tensor], keys: Any, training: bool = True) -> Tensor:
    """Cross entropy over all templates, (B,)."""
    return F.cross_entropy(learner.network.proposal(batch["x"].float()), batch["y"], reduction="none")


def _extracted(reactions: Sequence[Reaction], config: PolicyConfig) -> Extraction:
    if not reactions or not all(isinstance(r, Reaction) for r in reactions):
        came = type(reactions[0]).__name__ if reactions else "none"
        raise ValueError(f"expected mapped reactions (data.read_reactions reads them), got {came}")
    return extract(reactions, config.min_count)


def _digest(pairs: Arrays, templates: Templates) -> str:
    digest = hashlib.sha256("\n".join(templates.smarts).encode())
    for part in pairs.parts.values():
        digest.update(part.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
