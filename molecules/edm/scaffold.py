r"""Scaffolds in space: atoms that every sample of :mod:`.model` contains, in their places relative to each other.

Held are the elements of the first k atoms, and their positions up to one shift in common, which a diffusion without a
centre of mass leaves free: x_i - (x_1 + ... + x_k)/k, an orthogonal projection of the states. Their data prediction is
their value and their noise is rederived, so that they walk on a path of their own to it, while the network sees them at
the level of all else. The frame is the scaffold's own: the law of the samples has no preferred direction, so nothing is
lost by fixing it. Each step is taken several times from renoised states (`TimeTravel` of the core), so that the rest
and the scaffold come to fit: the inpainting of A. Lugmayr et al., "RePaint", CVPR 2022. That is an approximation: the
mean of the rest comes closer to its law with every repeat, while its spread shrinks, the more, the coarser the steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...core.hooks import Hook, Step
from ..data.atoms import Atoms
from .features import Features

__all__ = ["Scaffold"]


@dataclass(frozen=True, eq=False)
class Scaffold(Hook):
    """Hold the first k atoms; see the module.

    Args:
        positions: (k, 3), Å, in the frame that the samples get.
        h: (k, F), their features. known: (F,) bool, which of them are held.
    """

    positions: Tensor
    h: Tensor
    known: Tensor

    @classmethod
    def of(cls, scaffold: Any, features: Features, largest: int) -> Scaffold:
        """Of `Atoms` of one molecule, or an RDKit molecule with a conformer: all its atoms.

        Raises:
            TypeError: anything else, such as a SMILES, which has no geometry.
            ValueError: several molecules, no conformer, elements that the model does not know, as many atoms as its
                largest molecule.
        """
        if hasattr(scaffold, "GetConformers"):
            scaffold = Atoms.from_mols([scaffold], source="the scaffold")
        if not isinstance(scaffold, Atoms):
            raise TypeError(
                f"a scaffold in space is Atoms of one molecule, or an RDKit molecule with a conformer, got {scaffold!r}"
            )
        if len(scaffold) != 1:
            raise ValueError(f"a scaffold is one molecule, got {len(scaffold)}: give one of them, atoms[0]")
        strange = sorted(set(scaffold.elements) - set(features.elements))
        if strange:
            raise ValueError(f"the model knows the elements {list(features.elements)}, the scaffold has {strange} too")
        there = scaffold.mask[0]
        k = int(there.sum())
        if k >= largest:
            raise ValueError(
                f"the scaffold has {k} atoms, the model's largest molecules {largest}: nothing could be added"
            )
        known = torch.tensor([name != "valence" for name in features.channels])
        return cls(scaffold.positions[0, there], features.encode(scaffold)[0, there], known)

    def put(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """The state (B, ...) with the scaffold in its place; the centre of the first k atoms stays where it is."""
        k = len(self.positions)
        positions, h = x["x"].clone(), x["h"].clone()
        centred = (self.positions - self.positions.mean(0)).to(positions)
        positions[:, :k] = positions[:, :k].mean(1, keepdim=True) + centred
        h[:, :k] = torch.where(self.known.to(h.device), self.h.to(h), h[:, :k])
        return {"x": positions, "h": h}

    def on_prediction(self, step: Step) -> Step:
        return replace(step, pred=step.pred.with_data(self.put(step.pred.data), noise="rederive"))

    def frame(self, atoms: Atoms) -> Atoms:
        """Samples moved so that the scaffold is where it was given."""
        k = len(self.positions)
        shift = (self.positions - atoms.positions[:, :k]).mean(1, keepdim=True)
        moved = torch.where(atoms.mask[..., None], atoms.positions + shift, atoms.positions)
        moved[:, :k] = self.positions
        return replace(atoms, positions=moved)
