r"""GFMDiff: EDM with a transformer of atoms and pairs, valences among the features, and a loss on the bonds.

C. Xu et al., "Geometric-facilitated denoising diffusion model for 3D molecule generation", AAAI 2024,
https://arxiv.org/abs/2401.02683.

Process, states, training and sampling are EDM's (:mod:`..edm.model`), with T = 500 levels. Beside types and atomic
numbers atoms have their valence (:mod:`..edm.features`; the paper calls it degree). The network is the dual-track
transformer (:mod:`..networks.dual_track`), and a further loss asks the distances of the data prediction for the valence
that it predicts (:mod:`.valency`); both say what differs from the published code. ``gf_weight=0`` is the same model
without that loss.
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from ..edm.base import AtomModel
from ..edm.config import AtomConfig
from ..edm.features import Part
from ..edm.training import Extra
from ..networks.dual_track import DualTrack
from .config import GFMDiffConfig
from .valency import ValencyLoss

__all__ = ["GFMDiff"]


class GFMDiff(AtomModel):
    """A diffusion model of molecules in space, with attributes and verbs as `EDM`.

    Args:
        config: settings; or give its fields by name.

    Examples:
        >>> model = GFMDiff.for_dataset(atoms, "small").fit(atoms, max_steps=5000, seed=0)  # doctest: +SKIP
        >>> out = model.sample(100, steps=100, seed=0)  # doctest: +SKIP
        >>> out.report["molecule_stability_edm"]  # doctest: +SKIP
    """

    kind: ClassVar[str] = "GFMDiff"
    config_class: ClassVar[type[AtomConfig]] = GFMDiffConfig
    parts: ClassVar[tuple[Part, ...]] = ("types", "number", "valence")
    config: GFMDiffConfig

    def network(self, features: int, context: int) -> nn.Module:
        c = self.config
        return DualTrack(
            features, context, c.width, c.hidden, c.blocks, c.heads, c.dropout, c.outer, c.geometry, c.angle_step,
            c.reach, c.chunk,
        )  # fmt: skip

    def extra_loss(self) -> Extra | None:
        c = self.config
        if c.gf_weight == 0.0:
            return None
        loss = ValencyLoss(self._features(), c.gf_weight, c.gf_power, c.gf_softness)
        loss.lengths()  # elements without bond lengths are refused before the training, not in it
        return loss
