"""GDSS: graphs and molecules by one joint diffusion of node features and adjacency."""

from .config import GDSSConfig
from .model import GDSS
from .quantise import elements_only

__all__ = ["GDSS", "GDSSConfig", "elements_only"]
