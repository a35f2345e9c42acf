"""Measurement operators A of y = A x0 + noise, with adjoints that are adjoints.

>>> A = Blur((1, 32, 32), kernel)
>>> A(x), A.T(y), A.pinv(y), A.norm(), A.check_adjoint()
"""

from .base import SVD, LinearOperator, Operator, conjugate_gradient, inner
from .blur import Blur
from .combined import Composition, Scaled, Stack
from .downsample import Downsample
from .function import Function, LinearFunction
from .mask import Mask
from .matrix import Matrix

__all__ = [
    "SVD",
    "Blur",
    "Composition",
    "Downsample",
    "Function",
    "LinearFunction",
    "LinearOperator",
    "Mask",
    "Matrix",
    "Operator",
    "Scaled",
    "Stack",
    "conjugate_gradient",
    "inner",
]
