"""Likelihoods: how probable a model finds given data, and how probable the points of a run.

>>> result = log_likelihood(denoiser, x)                                # exact ODE log density: .log_prob (B,)
>>> result = log_likelihood(denoiser, x, divergence="hutchinson", probes=16, seed=0)    # with .standard_error
>>> run = sample(denoiser, DDPM(), grids.log_snr(schedule, 1000), shape=shape, seed=0, hooks=[ItoDensity()])
>>> run.state.aux["log_q"]                                              # log density of every sample, for free
"""

from .ito import ItoDensity, ito_increment
from .ode import Likelihood, log_likelihood

__all__ = ["ItoDensity", "Likelihood", "ito_increment", "log_likelihood"]
