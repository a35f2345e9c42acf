r"""Bounds on what :mod:`.model` may predict as data while sampling.

At the first levels alpha is a few thousandths, and the data prediction (x_t - sigma noise)/alpha multiplies every error
of the network by hundreds. The published 1,000 steps change little at a time there; with a quarter of them one sample
in a few hundred is thrown so far out that it never comes back. No molecule of n atoms in one piece reaches farther from
its centre than n bonds of 1.6 Å, and no feature is larger than the largest element has it: beyond that, positions are
scaled back as a whole, features cut off, and the noise is rederived. All of it commutes with turning, shifting and
permuting atoms. Within the bounds, which is everywhere but at the first few steps, nothing changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from ...core.hooks import Hook, Step

__all__ = ["BOND", "Bounds"]

#: Å, longer than any bond between C, N, O, F and H.
BOND = 1.6


@dataclass(frozen=True)
class Bounds(Hook):
    """Keep the data prediction among what molecules can be; see the module.

    Attributes:
        features: the largest value that a feature can have.
        bond: Å for each atom of a molecule: the largest distance from its centre.
    """

    features: float
    bond: float = BOND

    def on_prediction(self, step: Step) -> Step:
        atoms = step.space.spaces["x"].mask  # type: ignore[attr-defined]
        x, h = step.pred.data["x"], step.pred.data["h"]
        reach: Tensor = x.square().sum(-1).amax(-1).sqrt()
        scale = (self.bond * atoms.sum(-1).to(x) / reach.clamp_min(1e-12)).clamp_max(1.0)
        data = {"x": x * scale[:, None, None], "h": h.clamp(-self.features, self.features)}
        return replace(step, pred=step.pred.with_data(data, noise="rederive"))
