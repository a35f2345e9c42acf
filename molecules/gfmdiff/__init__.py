"""GFMDiff: EDM with a transformer of atoms and pairs, valences among the features, and a loss on the bonds."""

from .config import GFMDiffConfig
from .model import GFMDiff
from .valency import ValencyLoss

__all__ = ["GFMDiff", "GFMDiffConfig", "ValencyLoss"]
