"""DNA, RNA and proteins by masked diffusion: samples, likelihoods, motifs held, rewards."""

from .config import SequenceConfig
from .model import MaskedSequence
from .samples import SequenceSamples

__all__ = ["MaskedSequence", "SequenceConfig", "SequenceSamples"]
