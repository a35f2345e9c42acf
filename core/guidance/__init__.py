"""Guidance: denoisers around denoisers."""

from .base import Guidance
from .classifier_free import ClassifierFree

__all__ = ["ClassifierFree", "Guidance"]
