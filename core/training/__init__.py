"""Training: losses, times and weightings in plain torch; `fit` through Lightning.

Everything but `fit` needs torch alone: `denoising_loss` in a ten-line loop is a training, too. `fit` imports Lightning
when it is called.
"""

from .conditioning import ConditionPerturbation, drop_condition, perturb_embedding, perturbing
from .fit import FitResult, fit, hardware
from .keys import Augmented, Key, KeyedBatches, KeyedNoise, Keys
from .losses import Objective, Streamed, denoising_loss
from .times import (
    Discrete,
    EDMLogNormal,
    LogitNormal,
    Mode,
    PerElement,
    Shifted,
    Stratified,
    TimeSampler,
    Uniform,
    hold_known,
)
from .weightings import SNR, EDMWeight, MinSNR, UniformNoise, Weighting

__all__ = [
    "SNR",
    "Augmented",
    "ConditionPerturbation",
    "Discrete",
    "EDMLogNormal",
    "EDMWeight",
    "FitResult",
    "Key",
    "KeyedBatches",
    "KeyedNoise",
    "Keys",
    "LogitNormal",
    "MinSNR",
    "Mode",
    "Objective",
    "PerElement",
    "Shifted",
    "Stratified",
    "Streamed",
    "TimeSampler",
    "Uniform",
    "UniformNoise",
    "Weighting",
    "denoising_loss",
    "drop_condition",
    "fit",
    "hardware",
    "hold_known",
    "perturb_embedding",
    "perturbing",
]
