"""DiGress: graphs and molecules by discrete diffusion of node types and bonds."""

from .config import DiGressConfig
from .model import DiGress

__all__ = ["DiGress", "DiGressConfig"]
