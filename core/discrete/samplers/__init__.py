"""Samplers of tokens, one a file; all run through `core.sample`."""

from .ancestral import Ancestral
from .base import TokenSampler
from .confidence import ConfidenceOrdered
from .ctmc import Euler, TauLeaping
from .first_hitting import FirstHitting
from .remasking import Loop, Remasking

__all__ = ["Ancestral", "ConfidenceOrdered", "Euler", "FirstHitting", "Loop", "Remasking", "TauLeaping", "TokenSampler"]
