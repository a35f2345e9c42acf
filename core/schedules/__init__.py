"""Schedules: x_t = alpha(t) x0 + beta(t) y + sigma(t) n, each in closed form. See `base` for the contract."""

from .base import Basis, ProductSchedule, Schedule, VariancePreserving
from .conditional_ot import CondOT
from .discrete_betas import DiscreteBetas
from .kinetic import KineticOptimal, Separation, kinetic_energy
from .pfgmpp import PFGMpp
from .restoration import MeanReverting, Residual, ResidualFrom
from .spectral import Hartley, Spectral
from .variance_exploding import EDM, VE
from .variance_preserving import GVP, SubVP, VPCosine, VPLinear

__all__ = [
    "EDM",
    "GVP",
    "VE",
    "Basis",
    "CondOT",
    "DiscreteBetas",
    "Hartley",
    "KineticOptimal",
    "MeanReverting",
    "PFGMpp",
    "ProductSchedule",
    "Residual",
    "ResidualFrom",
    "Schedule",
    "Separation",
    "Spectral",
    "SubVP",
    "VPCosine",
    "VPLinear",
    "VariancePreserving",
    "kinetic_energy",
]
