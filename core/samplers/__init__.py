"""Samplers: one method a file, one engine (`base`) for all that are linear."""

from .base import Level, LinearSampler, Path, Sampler
from .ddim import DDIM, DDPM
from .dpm import DPMSolver, DPMSolverPP
from .euler import EDMStochastic, Euler, Heun
from .plan import Plan, Row
from .pndm import IPNDM, PLMS, PNDM
from .state import Query, State
from .two_step import BDIA, BELM, invert
from .unipc import UniPC

__all__ = [
    "BDIA",
    "BELM",
    "DDIM",
    "DDPM",
    "IPNDM",
    "PLMS",
    "PNDM",
    "DPMSolver",
    "DPMSolverPP",
    "EDMStochastic",
    "Euler",
    "Heun",
    "Level",
    "LinearSampler",
    "Path",
    "Plan",
    "Query",
    "Row",
    "Sampler",
    "State",
    "UniPC",
    "invert",
]
