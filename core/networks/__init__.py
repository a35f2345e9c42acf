"""Networks: forward(x, t, **condition) returns an output of the shape of x.

x is batch first; t is the label that the denoiser made of the time, of shape (), (B,) or, for networks over sequences,
(B, L). The networks know nothing of schedules; whatever they are asked to predict is settled outside.
"""

from .dilated import DilatedBlock, DilatedConvNet
from .dit import DiT, DiTBlock
from .s4d import S4D
from .s4d_backbone import S4DBackbone, S4DBlock
from .time_embedding import FourierEmbedding, SinusoidalEmbedding, TimeEmbedding
from .token_transformer import TokenBlock, TokenTransformer
from .unet import UNet
from .vector_quantizer import CodebookUsage, Quantized, ResidualQuantizer, VectorQuantizer, codebook_orthogonality

__all__ = [
    "S4D",
    "CodebookUsage",
    "DiT",
    "DiTBlock",
    "DilatedBlock",
    "DilatedConvNet",
    "FourierEmbedding",
    "Quantized",
    "ResidualQuantizer",
    "S4DBackbone",
    "S4DBlock",
    "SinusoidalEmbedding",
    "TimeEmbedding",
    "TokenBlock",
    "TokenTransformer",
    "UNet",
    "VectorQuantizer",
    "codebook_orthogonality",
]
