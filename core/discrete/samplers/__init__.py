"""Samplers of tokens, one a file; all run through `core.sample`."""

from .ancestral import Ancestral
from .base import TokenSampler
from .first_hitting import FirstHitting

__all__ = ["Ancestral", "FirstHitting", "TokenSampler"]
