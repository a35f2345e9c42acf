"""Samplers of tokens, one a file; all run through `core.sample`."""

from .ancestral import Ancestral
from .base import TokenSampler

__all__ = ["Ancestral", "TokenSampler"]
