"""Modules whose tensors stay in single precision when the network around them is cast to half.

A half-precision number keeps 8 to 11 significant bits. That is enough for the weights of a linear map, and far too
little for anything that becomes a *phase*: a frequency f rounded by a relative 2^-9 gives exp(i f l) a phase error of
f l / 512, which passes one radian long before the end of an ordinary window. State-space poles, step sizes and random
Fourier frequencies are such numbers. `FullPrecision` lets `.to(torch.bfloat16)` and `.half()` pass by them (moves
between devices and between float32 and float64 work as usual).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["FullPrecision", "working_dtype"]

_HALF = (torch.float16, torch.bfloat16)


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype in which an operation that needs at least single precision works on these real tensors."""
    dtype = torch.float32
    for tensor in tensors:
        if tensor.dtype not in _HALF and tensor.is_floating_point():
            dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype


class FullPrecision(nn.Module):
    """A module whose own parameters and buffers ignore casts to half precision."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        def keep(tensor: Tensor) -> Tensor:
            new = fn(tensor)
            if new.dtype in _HALF and tensor.dtype not in _HALF:
                return tensor.to(device=new.device)
            return new

        return super()._apply(keep, recurse)
