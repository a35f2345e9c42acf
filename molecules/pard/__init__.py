"""PARD: graphs and molecules block by block, each block by discrete diffusion."""

from .config import PARDConfig
from .model import PARD
from .order import Blocks, structural_order

__all__ = ["PARD", "Blocks", "PARDConfig", "structural_order"]
