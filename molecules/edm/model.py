r"""EDM: molecules in space by one equivariant diffusion of positions and atom types.

E. Hoogeboom, V. G. Satorras, C. Vignac, M. Welling, "Equivariant diffusion for molecule generation in 3D", ICML 2022,
https://arxiv.org/abs/2203.17003.

A molecule of n atoms is x (n, 3), positions without their mean, and h (n, F), one-hot types and atomic numbers, divided
so that h is decided later than x (:mod:`.features`). Both are diffused together by the schedule of :mod:`.schedule`; an
equivariant network (:mod:`..networks.egnn`) predicts the noise in both (:mod:`.training`), and ancestral sampling walks
back. The law of the samples is invariant: noise without a mean has no preferred direction, and the network turns with
its input. The number of atoms is drawn from the training molecules; the network may be told properties of the molecule
(:mod:`.conditioning`).

What differs from the published code: the loss divides by the atoms that exist; level 0 is trained as all others, and
the last step lands on the data prediction (both of no consequence at a noise of 0.003 Å); no formal charges; the
gradient's norm is clipped by a constant; whether properties are known is told by a flag, so that they can be dropped.
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from ..networks.egnn import EGNN
from .base import AtomModel
from .config import AtomConfig, EDMConfig
from .features import Part

__all__ = ["EDM"]


class EDM(AtomModel):
    """A diffusion model of molecules in space.

    Args:
        config: settings; or give its fields by name.

    Attributes:
        config: the settings.
        features: how atoms become states, read from the training molecules; None before.
        conditioning: what is known of the properties it is told.
        nodes: the largest number of atoms. sizes: (nodes + 1,) share of training molecules with 0..nodes atoms.
        denoiser: the trained `Denoiser` of states {"x", "h"}, None before `fit`.
        history: training log of the last `fit`.
        steps: optimizer steps taken, earlier runs included; 0 for a loaded model.

    Examples:
        >>> model = EDM.for_dataset(atoms, "small").fit(atoms, max_steps=5000, seed=0)  # doctest: +SKIP
        >>> out = model.sample(100, steps=100, seed=0)  # doctest: +SKIP
        >>> out.smiles, out.report["molecule_stability_edm"], out.write("out.sdf")  # doctest: +SKIP
    """

    kind: ClassVar[str] = "EDM"
    config_class: ClassVar[type[AtomConfig]] = EDMConfig
    parts: ClassVar[tuple[Part, ...]] = ("types", "number")
    config: EDMConfig

    def network(self, features: int, context: int) -> nn.Module:
        c = self.config
        return EGNN(features, context, c.hidden, c.layers, c.reach, c.scale)
