"""Samplers: one method a file, one engine (`base`) for all that are linear."""

from .adaptive import AdaptiveDPM
from .base import Level, LinearSampler, Path, Sampler
from .ddim import DDIM, DDPM
from .dpm import DPMSolver, DPMSolverPP
from .euler import EDMStochastic, Euler, Heun
from .plan import Plan, Row
from .pndm import IPNDM, PLMS, PNDM
from .predictor_corrector import PredictorCorrector
from .splitting import S4
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
    "S4",
    "AdaptiveDPM",
    "DPMSolver",
    "DPMSolverPP",
    "EDMStochastic",
    "Euler",
    "Heun",
    "Level",
    "LinearSampler",
    "Path",
    "Plan",
    "PredictorCorrector",
    "Query",
    "Row",
    "Sampler",
    "State",
    "UniPC",
    "invert",
]
