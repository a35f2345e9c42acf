"""Composition of models: superposition, translation between two models, and a generative model as a classifier."""

from .cycle import Code, Replay, decode, encode, translate
from .diffusion_classifier import Classification, DiffusionClassifier
from .ensemble import Ensemble
from .superdiff import SuperDiff

__all__ = [
    "Classification",
    "Code",
    "DiffusionClassifier",
    "Ensemble",
    "Replay",
    "SuperDiff",
    "decode",
    "encode",
    "translate",
]
