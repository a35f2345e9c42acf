"""Inverse problems: data from noisy measurements, with the model of the data as the prior.

>>> from scidiffuse.core.inverse import MMPS, reconstruct
>>> from scidiffuse.core.operators import Blur
>>> result = reconstruct(denoiser, Blur((1, 32, 32), kernel), y, noise=0.05, method=MMPS(), samples=8, seed=0)
>>> result.mean, result.std, result.residual, result.expected_residual

========  =============================================  ========  =========  =======================
method    idea                                           operator  gradients  noise of y
========  =============================================  ========  =========  =======================
MMPS      Bayes with the denoiser's own covariance       linear    several    > 0
PiGDM     Bayes with one variance                        linear    one        any
DPS       gradient of the misfit after each step         any       one        any (not used)
DDS       conjugate gradients on the denoised data       linear    none       any (gamma)
DDNM      range from y, null space from the model        linear    none       0; > 0 with an SVD
DDRM      chain in the singular directions               SVD       none       any
DiffPIR   proximal step on the denoised data             linear    none       > 0
RedDiff   optimisation with the network as regulariser   any       none       any (not used)
FlowChef  gradient that skips the network                any       none       any (not used)
Steered   energy descent on the denoised data            any       one        any (not used)
========  =============================================  ========  =========  =======================

How far each is from the truth where the truth is known: `benchmarks/inverse.py`, on `oracle.Oracle`. With a trained
network on real data: `benchmarks/inverse_digits.py`. Step sizes (zeta, rate, k, gamma) belong to the problem, and the
method that is best at its best step size changes with it; `Reconstruction.misfit` far from 1 says that one is off.
"""

from .base import Measured, Method
from .ddnm import DDNM
from .ddrm import DDRM
from .dds import DDS
from .diffpir import DiffPIR
from .dps import DPS
from .flowchef import FlowChef
from .measurement import Measurement
from .moment_matched import MMPS
from .pigdm import PiGDM
from .reconstruct import Reconstruction, reconstruct
from .red_diff import RedDiff
from .steered import Steered

__all__ = [
    "DDNM",
    "DDRM",
    "DDS",
    "DPS",
    "MMPS",
    "DiffPIR",
    "FlowChef",
    "Measured",
    "Measurement",
    "Method",
    "PiGDM",
    "Reconstruction",
    "RedDiff",
    "Steered",
    "reconstruct",
]
