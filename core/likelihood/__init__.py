"""Likelihoods: how probable a model finds given data, and how probable the points of a run."""

from .ito import ItoDensity, ito_increment
from .ode import Likelihood, log_likelihood

__all__ = ["ItoDensity", "Likelihood", "ito_increment", "log_likelihood"]
