"""The ground floor: schedules, spaces, denoisers, grids, samplers, guidance. It knows no scientific field.

*A schedule corrupts data, a denoiser predicts the data back, a sampler walks from noise to data along a grid of times,
guidance changes what the denoiser says.*

>>> from scidiffuse.core import DPMSolverPP, Denoiser, VPCosine, sample
>>> denoiser = Denoiser(network, VPCosine(), prediction="noise")
>>> x = sample(denoiser, DPMSolverPP(order=2), steps=20, shape=(16, 3, 32, 32), seed=0).x

Here are the names that sampling needs. Beside them, each imported when named:

    guidance      denoisers around denoisers: classifiers, composition, two models, regions, time travel
    inverse       data behind measurements; `operators` are what measures
    steering      many walkers and a reward: Feynman-Kac, SVDD, searches
    likelihood    log densities of points and of runs
    composition   superposition of models, translation, a diffusion model as a classifier
    diagnostics   hallucination, memorisation, calibration, dimension, Fokker-Planck residual
    discrete      tokens and categories: processes, samplers and losses of their own under the same `sample`
    sharded       runs that do not fit into memory
    grids         the times of a run
    networks, training, checkpoint, datasets, interpolants, scores
    closed_form   data whose diffusion is known exactly; `convergence` holds samplers to it
"""

from .. import __version__ as __version__  # first: makes a bare `import core` from the repository root fail loudly
from . import grids
from .denoisers import Denoiser, Prediction
from .grids import Grid
from .guidance import ClassifierFree
from .hooks import Clamp, DynamicThreshold, Hook, Known, Record
from .noise import Recorded, SlotNoise
from .sample import Result, sample
from .samplers import (
    BDIA,
    BELM,
    DDIM,
    DDPM,
    IPNDM,
    PLMS,
    PNDM,
    S4,
    AdaptiveDPM,
    DPMSolver,
    DPMSolverPP,
    EDMStochastic,
    Euler,
    Heun,
    PredictorCorrector,
    Sampler,
    State,
    UniPC,
    invert,
)
from .schedules import (
    EDM,
    GVP,
    VE,
    CondOT,
    DiscreteBetas,
    KineticOptimal,
    MeanReverting,
    PFGMpp,
    ProductSchedule,
    Residual,
    Schedule,
    Spectral,
    SubVP,
    VPCosine,
    VPLinear,
)
from .spaces import Euclidean, Graph, Masked, Product, Space, ZeroCoM

__all__ = [
    "BDIA",
    "BELM",
    "DDIM",
    "DDPM",
    "EDM",
    "GVP",
    "IPNDM",
    "PLMS",
    "PNDM",
    "S4",
    "VE",
    "AdaptiveDPM",
    "Clamp",
    "ClassifierFree",
    "CondOT",
    "DPMSolver",
    "DPMSolverPP",
    "Denoiser",
    "DiscreteBetas",
    "DynamicThreshold",
    "EDMStochastic",
    "Euclidean",
    "Euler",
    "Graph",
    "Grid",
    "Heun",
    "Hook",
    "KineticOptimal",
    "Known",
    "Masked",
    "MeanReverting",
    "PFGMpp",
    "Prediction",
    "PredictorCorrector",
    "Product",
    "ProductSchedule",
    "Record",
    "Recorded",
    "Residual",
    "Result",
    "Sampler",
    "Schedule",
    "SlotNoise",
    "Space",
    "Spectral",
    "State",
    "SubVP",
    "UniPC",
    "VPCosine",
    "VPLinear",
    "ZeroCoM",
    "grids",
    "invert",
    "sample",
]
