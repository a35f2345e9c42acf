"""What samples are asked for: properties as numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["numbers_of"]


def numbers_of(name: str, value: Any, n: int) -> Tensor:
    """A property of n samples, (n,) float64, of one number, or one a sample.

    Raises:
        ValueError: no numbers, not finite, or neither one nor n of them.
    """
    try:
        numbers = torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the property {name!r} is a number, or one for each of {n} samples; got {value!r}") from error
    if numbers.shape not in ((), (n,)) or not bool(numbers.isfinite().all()):
        came = f"shape {tuple(numbers.shape)}" if numbers.ndim else f"{value!r}"
        raise ValueError(f"the property {name!r} is one finite number, or one for each of {n} samples; got {came}")
    return numbers.expand(n).clone()
