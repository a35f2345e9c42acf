"""Circular convolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import SVD, LinearOperator

__all__ = ["Blur"]


class Blur(LinearOperator):
    """Circular convolution along the last dimensions, by FFT.

    Args:
        shape: of one sample.
        kernel: weights with their centre in the middle (odd sizes), one dimension for each last
            dimension that is blurred.
        leaf: the measured leaf of a product state.

    Raises:
        ValueError: if the kernel is larger than the sample or has an even size.
    """

    def __init__(self, shape: Sequence[int], kernel: Tensor, leaf: str | None = None) -> None:
        self.shape, self.leaf, self.dims = tuple(shape), leaf, kernel.ndim
        sizes = self.shape[len(self.shape) - kernel.ndim :]
        if not 1 <= kernel.ndim <= len(self.shape) or any(k > n for k, n in zip(kernel.shape, sizes, strict=True)):
            raise ValueError(f"a kernel of shape {tuple(kernel.shape)} does not fit samples of shape {self.shape}")
        if any(k % 2 == 0 for k in kernel.shape):
            raise ValueError(f"kernel sizes must be odd, so that the kernel has a centre; got {tuple(kernel.shape)}")
        padded = torch.zeros(sizes, dtype=torch.float64)
        padded[tuple(slice(0, k) for k in kernel.shape)] = kernel.double()
        padded = torch.roll(padded, [-(k // 2) for k in kernel.shape], dims=list(range(kernel.ndim)))
        self.transfer = torch.fft.fftn(padded)

    def _filter(self, x: Tensor, gain: Tensor) -> Tensor:
        dims = tuple(range(x.ndim - self.dims, x.ndim))
        kind = torch.complex128 if x.dtype == torch.float64 else torch.complex64
        return torch.fft.ifftn(torch.fft.fftn(x, dim=dims) * gain.to(x.device, kind), dim=dims).real

    def forward(self, x: Tensor) -> Tensor:
        return self._filter(x, self.transfer)

    def adjoint(self, v: Tensor) -> Tensor:
        return self._filter(v, self.transfer.conj())

    def _hartley(self, x: Tensor) -> Tensor:
        f = torch.fft.fftn(x, dim=tuple(range(x.ndim - self.dims, x.ndim)), norm="ortho")
        return f.real - f.imag

    def svd(self) -> SVD:
        size = self.transfer.abs()
        phase = torch.where(size > 0, self.transfer / size.clamp_min(1e-300), 1.0)
        return SVD(
            size.expand(self._domain(None)),
            lambda c: self._filter(self._hartley(c), phase),
            lambda y: self._hartley(self._filter(y, phase.conj())),
            self._hartley,
            self._hartley,
        )
