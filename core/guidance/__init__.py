"""Guidance: denoisers around denoisers, and hooks where that does not suffice.

Guidance nests: `ClassifierFree(Classifier(denoiser, ...), ...)` asks the innermost first, and each layer changes the
answer of the one inside. Put what changes raw answers (conditions, models) innermost, gradients around it, and
measurements (`core.inverse`) outermost; hooks act on the answer of the whole nest, in the order in which they stand.
"""

from .base import Guidance
from .classifier import Classifier, NoiseRangeExperts, OffTheShelf, smooth_relu
from .classifier_free import ClassifierFree
from .compose import Compose, Regional, TwoModels
from .experts import distill_experts
from .residual import ResidualCFG
from .time_travel import TimeTravel

__all__ = [
    "Classifier",
    "ClassifierFree",
    "Compose",
    "Guidance",
    "NoiseRangeExperts",
    "OffTheShelf",
    "Regional",
    "ResidualCFG",
    "TimeTravel",
    "TwoModels",
    "distill_experts",
    "smooth_relu",
]
