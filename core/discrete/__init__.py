"""Diffusion on tokens and categories: atoms and bonds, bases and residues, codes of motion and music.

The verbs are those of the core: a process corrupts tokens, a denoiser predicts them back, a sampler walks from noise to
data, guidance changes what the denoiser says, steering weighs many walkers on the way.

>>> from scidiffuse.core import sample
>>> from scidiffuse.core.discrete import FirstHitting, Masked, TokenDenoiser
>>> denoiser = TokenDenoiser(network, Masked(states=5))     # four bases and the mask
>>> x = sample(denoiser, FirstHitting(), shape=(16, 200), seed=0).x
"""

from .contrastive import ContrastiveObjective
from .denoiser import TokenDenoiser, TokenPrediction
from .drakes import drakes
from .energy import EDLM, AutoregressiveEnergy, NeuralEnergy, nce_loss
from .guidance import TokenClassifier
from .interpolating import Marginal, Masked, MaskUniform, Uniform
from .likelihood import TokenLikelihood, bits_per_token
from .losses import continuous_elbo, cross_entropy, discrete_elbo, prior_kl
from .objective import TokenObjective
from .paths import MetricPath, MixturePath
from .priority import PriorityMasked, importance
from .process import Process, ProductProcess
from .rewards import OverDraws
from .samplers import Ancestral, ConfidenceOrdered, Euler, FirstHitting, Loop, Remasking, TauLeaping
from .step_times import ImportanceObjective, StepTimes
from .truncate import Truncate

__all__ = [
    "EDLM",
    "Ancestral",
    "AutoregressiveEnergy",
    "ConfidenceOrdered",
    "ContrastiveObjective",
    "Euler",
    "FirstHitting",
    "ImportanceObjective",
    "Loop",
    "Marginal",
    "MaskUniform",
    "Masked",
    "MetricPath",
    "MixturePath",
    "NeuralEnergy",
    "OverDraws",
    "PriorityMasked",
    "Process",
    "ProductProcess",
    "Remasking",
    "StepTimes",
    "TauLeaping",
    "TokenClassifier",
    "TokenDenoiser",
    "TokenLikelihood",
    "TokenObjective",
    "TokenPrediction",
    "Truncate",
    "Uniform",
    "bits_per_token",
    "continuous_elbo",
    "cross_entropy",
    "discrete_elbo",
    "drakes",
    "importance",
    "nce_loss",
    "prior_kl",
]
