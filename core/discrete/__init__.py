"""Diffusion on tokens and categories: atoms and bonds, bases and residues, codes of motion and music.

The verbs are those of the core: a process corrupts tokens, a denoiser predicts them back, a sampler walks from noise to
data, guidance changes what the denoiser says, steering weighs many walkers on the way.

>>> from scidiffuse.core import sample
>>> from scidiffuse.core.discrete import FirstHitting, Masked, TokenDenoiser
>>> denoiser = TokenDenoiser(network, Masked(states=5))     # four bases and the mask
>>> x = sample(denoiser, FirstHitting(), shape=(16, 200), seed=0).x
"""

from .denoiser import TokenDenoiser, TokenPrediction
from .interpolating import Marginal, Masked, MaskUniform, Uniform
from .process import Process, ProductProcess
from .samplers import Ancestral

__all__ = [
    "Ancestral",
    "Marginal",
    "MaskUniform",
    "Masked",
    "Process",
    "ProductProcess",
    "TokenDenoiser",
    "TokenPrediction",
    "Uniform",
]
