"""Long two-sided convolution by FFT, with a backward pass written out.

    y_l = sum_{|m| < L} K_m u_{l-m},  0 <= l < L,

is circular convolution on n >= 2L - 1 points with K_m stored at m mod n and u padded by zeros: with U = rfft(u) and
S = rfft(K), y = irfft(U S) cut to L points. The adjoint in u is correlation, grad u = irfft(rfft(g) conj(S)) cut to L,
and the adjoint in S is (c_k / n) sum_batch conj(U_k) rfft(g)_k with c_k = 2 where a frequency stands for its mirror
image too and 1 at k = 0 and n/2. Both need real transforms alone; automatic differentiation of the transforms would use
complex ones of the full size.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

__all__ = ["fft_convolve", "fft_length", "inside_functorch"]


@functools.lru_cache(maxsize=256)
def fft_length(n: int) -> int:
    """The smallest even number >= n without a prime factor above 5 (fast to transform)."""
    n = max(2, n)
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1 and n % 2 == 0:
            return n
        n += 1


def inside_functorch() -> bool:
    """Whether torch.func transforms are at work: a Function without their rules must step aside."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def _plain(u: Tensor, spectrum: Tensor, n: int) -> Tensor:
    return torch.fft.irfft(torch.fft.rfft(u, n=n) * spectrum, n=n)[..., : u.shape[-1]]


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, spectrum: Tensor, n: int) -> Tensor:
        transformed = torch.fft.rfft(u, n=n)
        ctx.n = n
        ctx.save_for_backward(u, spectrum, transformed if ctx.needs_input_grad[1] else None)
        return torch.fft.irfft(transformed * spectrum, n=n)[..., : u.shape[-1]]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        u, spectrum, transformed = ctx.saved_tensors
        n, need = ctx.n, ctx.needs_input_grad
        if torch.is_grad_enabled():  # create_graph: the gradient itself is differentiated
            wanted = [tensor for tensor, needed in zip((u, spectrum), need, strict=False) if needed]
            y = _plain(u, spectrum, n)
            found = iter(torch.autograd.grad(y, wanted, grads[0], create_graph=True))
            return next(found) if need[0] else None, next(found) if need[1] else None, None
        g = torch.fft.rfft(grads[0], n=n)
        grad_u = torch.fft.irfft(g * spectrum.conj(), n=n)[..., : u.shape[-1]] if need[0] else None
        grad_spectrum = None
        if need[1]:
            grad_spectrum = (transformed.conj() * g).sum(0) * (2.0 / n)
            grad_spectrum[..., 0] *= 0.5
            grad_spectrum[..., -1] *= 0.5
        return grad_u, grad_spectrum, None


def fft_convolve(u: Tensor, spectrum: Tensor, n: int) -> Tensor:
    """Circular convolution on n points (n even) of u with the kernel of which `spectrum` is the rfft, cut to L.

    Shapes:
        u (B, H, L) real, spectrum (H, n/2 + 1) complex -> (B, H, L).
    """
    gradients = torch.is_grad_enabled() and (u.requires_grad or spectrum.requires_grad)
    forward_mode = torch.autograd.forward_ad._current_level >= 0
    if not gradients or forward_mode or torch.compiler.is_compiling() or inside_functorch():
        return _plain(u, spectrum, n)
    return _Convolve.apply(u, spectrum, n)
