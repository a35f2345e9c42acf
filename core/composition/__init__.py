"""Composition of models: superposition, translation between two models, and a generative model as a classifier.

>>> sample(Ensemble([cats, dogs]), DDPM(), steps=500, shape=shape, seed=0, hooks=[SuperDiff(2, "and")])
>>> translate(cats, dogs, x, DDIM(eta=0.1), steps=100, seed=0)
>>> DiffusionClassifier(denoiser, [{"digit": c} for c in range(10)], (20, 200), to_keep=(3, 1))(x, seed=0).label
"""

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
