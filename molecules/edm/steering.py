"""Steering of models of molecules in space by any function of RDKit molecules.

`SVDD` and `FeynmanKac` of the core ask a reward about the data prediction of every walker. Here that is read as atoms,
its bonds by distance, and the user's function is asked about the molecule. It need not have a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...core.hooks import Step
from .features import Features
from .samples import molecules_in

__all__ = ["AtomReward"]


@dataclass(frozen=True, eq=False)
class AtomReward:
    """A reward of states, from one of molecules.

    Attributes:
        function: molecule -> number, larger is better.
        features: of the model.
        invalid: reward of what is no molecule.
    """

    function: Callable[..., Any]
    features: Features
    invalid: float

    def __call__(self, data: dict[str, Tensor], step: Step | None) -> list[float]:
        """The reward of each state, (B,)."""
        assert step is not None
        mask = step.space.spaces["x"].mask.cpu()  # type: ignore[attr-defined]
        x, h = data["x"].cpu(), data["h"].cpu()
        _, mols = molecules_in(self.features.decode(x, h, mask.expand(len(x), -1)))
        return [self.invalid if mol is None else float(self.function(mol)) for mol in mols]
