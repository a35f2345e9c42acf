"""EDM: molecules in space by one equivariant diffusion of positions and atom types."""

from .config import EDMConfig
from .model import EDM
from .samples import AtomSamples

__all__ = ["EDM", "AtomSamples", "EDMConfig"]
