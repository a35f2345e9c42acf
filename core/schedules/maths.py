"""Elementary functions of a time that is a float or a tensor.

A schedule is one formula used in two places: a sampler plans its coefficients once with Python floats,
a training loss or a per-element time needs the same numbers as a tensor. Writing the formula with the
functions below serves both: a float goes through `math`, a tensor through `torch`.

Where a limit exists in the extended reals it is returned instead of an exception, so that schedules can
be asked at their end points: log(0) = -inf, exp(1000) = inf, 1/0 = inf. A product 0 * inf is never formed
here; formulas that would meet one are rearranged by the schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "Scalar",
    "as_like",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "clip",
    "cos",
    "div",
    "exp",
    "expm1",
    "finite_bisection",
    "log",
    "log1p",
    "sin",
    "softplus",
    "sqrt",
    "tan",
    "where",
    "x_minus_sin",
]

Scalar = Any
"""A float or a tensor; a function given one kind returns the same kind."""


def exp(x: Scalar) -> Scalar:
    """e^x; inf instead of an overflow error."""
    if isinstance(x, Tensor):
        return x.exp()
    return math.exp(x) if x < 709.0 else math.inf


def expm1(x: Scalar) -> Scalar:
    """e^x - 1 without cancellation; inf instead of an overflow error."""
    if isinstance(x, Tensor):
        return x.expm1()
    return math.expm1(x) if x < 709.0 else math.inf


def log(x: Scalar) -> Scalar:
    """log x with log 0 = -inf; nan for negative x."""
    if isinstance(x, Tensor):
        return x.log()
    return math.log(x) if x > 0.0 else (-math.inf if x == 0.0 else math.nan)


def log1p(x: Scalar) -> Scalar:
    """log(1 + x) without cancellation, -inf at x = -1; nan below."""
    if isinstance(x, Tensor):
        return x.log1p()
    return math.log1p(x) if x > -1.0 else (-math.inf if x == -1.0 else math.nan)


def softplus(x: Scalar) -> Scalar:
    """log(1 + e^x), exact for large |x|."""
    if isinstance(x, Tensor):
        return torch.logaddexp(x, torch.zeros_like(x))
    return x + math.log1p(math.exp(-x)) if x > 0.0 else math.log1p(math.exp(x))


def sqrt(x: Scalar) -> Scalar:
    return x.sqrt() if isinstance(x, Tensor) else math.sqrt(x)


def sin(x: Scalar) -> Scalar:
    return x.sin() if isinstance(x, Tensor) else math.sin(x)


def cos(x: Scalar) -> Scalar:
    return x.cos() if isinstance(x, Tensor) else math.cos(x)


def tan(x: Scalar) -> Scalar:
    return x.tan() if isinstance(x, Tensor) else math.tan(x)


def atan(x: Scalar) -> Scalar:
    return x.atan() if isinstance(x, Tensor) else math.atan(x)


def asin(x: Scalar) -> Scalar:
    return x.asin() if isinstance(x, Tensor) else math.asin(x)


def asinh(x: Scalar) -> Scalar:
    return x.asinh() if isinstance(x, Tensor) else math.asinh(x)


def atan2(y: Scalar, x: Scalar) -> Scalar:
    return torch.atan2(y, x) if isinstance(y, Tensor) else math.atan2(y, x)


def clip(x: Scalar, low: float, high: float) -> Scalar:
    """x kept between low and high."""
    return x.clamp(low, high) if isinstance(x, Tensor) else min(max(x, low), high)


def div(a: Scalar, b: Scalar) -> Scalar:
    """a / b with the limits of the extended reals: a / 0 = +-inf, 0 / 0 = nan, finite / inf = 0."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return a / b
    if b == 0.0:
        return math.nan if a == 0.0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1.0, b)
    return a / b


def where(condition: Any, a: Scalar, b: Scalar) -> Scalar:
    """a where the condition holds, else b; both are evaluated."""
    if isinstance(condition, Tensor):
        return torch.where(condition, a, b)
    return a if condition else b


def as_like(value: float, t: Scalar) -> Scalar:
    """The constant `value` as a float, or filled into a tensor of the shape of t."""
    return torch.full_like(t, value) if isinstance(t, Tensor) else float(value)


def x_minus_sin(x: Scalar) -> Scalar:
    """x - sin x without cancellation near zero (six terms of the series for |x| < 1/2)."""
    x2 = x * x
    series = 1.0 - x2 / 156.0
    for k in (110.0, 72.0, 42.0, 20.0):
        series = 1.0 - x2 / k * series
    return where(abs(x) < 0.5, x * x2 / 6.0 * series, x - sin(x))


def finite_bisection(f: Callable[[Scalar], Scalar], value: Scalar, low: float, high: float) -> Scalar:
    """Solve f(x) = value for a decreasing f on [low, high] by bisection down to the spacing of float64.

    Args:
        f: decreasing function of a float or a float64 tensor; may be +-inf at the ends.
        value: the levels wanted, a float or a tensor.
        low, high: ends of the interval; levels that f does not reach give the nearer end.

    Returns:
        x of the kind (and shape) of value.
    """
    if isinstance(value, Tensor):
        target = value.double()
        a, b = torch.full_like(target, low), torch.full_like(target, high)
        for _ in range(120):
            middle = 0.5 * (a + b)
            above = f(middle) > target
            a, b = torch.where(above, middle, a), torch.where(above, b, middle)
        x = 0.5 * (a + b)
        x = torch.where(target >= f(torch.full_like(target, low)), low, x)
        x = torch.where(target <= f(torch.full_like(target, high)), high, x)
        return x.to(value.dtype)
    if value >= f(low):
        return float(low)
    if value <= f(high):
        return float(high)
    left, right = float(low), float(high)
    while True:
        centre = 0.5 * (left + right)
        if centre <= left or centre >= right:
            return centre
        if f(centre) > value:
            left = centre
        else:
            right = centre
