r"""How models of molecules in space are trained: the batches and the loss.

A level i = 0 .. T is drawn, all equally likely, noise n of the space (no mean in x, none at absent atoms), and the
network predicts it. The loss of a molecule of m atoms is

    (|n_x - n_x'|^2 + |n_h - n_h'|^2) / (m (3 + F)),

EDM's simplified loss, but divided by the atoms of the molecule, not by the padded number, so that a molecule weighs
the same in every batch. At level 0 EDM trains on the likelihood of the data instead; here that level is as the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ...core.denoisers import Denoiser
from ...core.training.conditioning import drop_condition
from ...core.training.keys import Keys
from ...core.training.times import Discrete
from ..data.atoms import Atoms
from ..training import Rows
from .features import Features, space_of

__all__ = ["AtomLoss", "AtomSet", "Extra"]

Extra = Callable[[dict[str, Tensor], Tensor, Tensor], Tensor]
"""(data prediction, atoms (B, N), alpha (B,)) -> a further loss of each molecule, (B,)."""


class AtomSet(Rows):
    """Molecules as a data set.

    Args:
        atoms: that `Features.check` has passed. features: how they are encoded.
        context: what the network is told of each, (B, C), or None.
    """

    def __init__(self, atoms: Atoms, features: Features, context: Tensor | None) -> None:
        self.mask, self.context, self.h = atoms.mask, context, features.encode(atoms)
        self.x: Tensor = atoms.space().project(atoms.positions)

    def __len__(self) -> int:
        return len(self.mask)

    def batch(self, rows: Tensor) -> dict[str, Any]:
        """{"x": {"x", "h"}, "atoms", "context"}, padded to the largest molecule of the batch."""
        mask = self.mask[rows]
        n = int(mask.any(0).nonzero().max()) + 1
        batch = {"x": {"x": self.x[rows, :n], "h": self.h[rows, :n]}, "atoms": mask[:, :n]}
        return batch if self.context is None else batch | {"context": self.context[rows]}


@dataclass(frozen=True)
class AtomLoss:
    """The loss of each molecule; see the module. What `fit` minimises.

    Attributes:
        dropout: share of molecules whose context is not told in training.
        extra: a further loss on the data prediction, or None.
    """

    dropout: float = 0.0
    extra: Extra | None = field(default=None)

    def __call__(self, denoiser: Denoiser, batch: dict[str, Any], keys: Keys, *, training: bool = True) -> Tensor:
        """The loss, (B,)."""
        u = keys.uniforms("time")
        t = Discrete(denoiser.schedule.num_steps).times(u, keys.stratum, keys.strata)  # type: ignore[union-attr]
        condition = {"context": batch["context"]} if "context" in batch else {}
        if condition and training:
            condition = drop_condition(condition, {"context": 0.0}, self.dropout, keys.uniforms("drop")[:, 0])
        return self.at(denoiser, batch, t, keys.noise, condition)

    def at(
        self, denoiser: Denoiser, batch: dict[str, Any], t: Tensor, noise: Any, condition: dict[str, Tensor]
    ) -> Tensor:
        """The loss at the times t (B,), of noise drawn here."""
        x0, atoms = batch["x"], batch["atoms"]
        space = space_of(atoms)
        n = space.randn(noise, x0, 0, "noise")
        pred = denoiser.on(space)(denoiser.add_noise(x0, n, t), t, atoms=atoms, **condition)
        error = space.project({name: n[name] - pred.raw[name] for name in x0})
        width = x0["x"].shape[-1] + x0["h"].shape[-1]
        total = sum(e.square().flatten(1).sum(1) for e in error.values())
        loss: Tensor = total / (atoms.sum(1) * width)
        if self.extra is not None:
            alpha = denoiser.schedule.alpha(t.double()).to(loss)  # type: ignore[union-attr]
            loss = loss + self.extra(pred.data, atoms, alpha)
        return loss
