r"""Conversions between kinds of prediction: data and noise from any raw output.

With x = alpha x0 + beta y + sigma n, write z = x - beta y. Each kind of raw output r gives the data
and the noise as one linear form each in (z, r, y), without going through the other:

============  =====================================  ==========================================
kind          data x0                                noise n
============  =====================================  ==========================================
noise         (z - sigma r) / alpha                  r
data          r                                      (z - alpha r) / sigma
velocity      (alpha z - sigma r) / s                (sigma z + alpha r) / s,  s = alpha^2 + sigma^2
flow          (sigma' z - sigma w) / d               (alpha w - alpha' z) / d, w = r - beta' y,
                                                     d = alpha sigma' - sigma alpha'
edm           (sd^2 alpha z + sigma sd m r) / m^2    (sigma z - alpha sd m r) / m^2,
                                                     m^2 = sigma^2 + alpha^2 sd^2
residual      x - beta R - sigma E                   E,  where r = (R, E) stacked in dimension 1
============  =====================================  ==========================================

Deriving the noise from the data at sigma = 0.002 in float32 loses four digits; these forms do not.
`velocity` is the v of T. Salimans and J. Ho, "Progressive distillation for fast sampling of
diffusion models", ICLR 2022; `flow` is dx/dt along the path (Y. Lipman et al., "Flow matching for
generative modeling", ICLR 2023); `edm` the preconditioned network of T. Karras et al., "Elucidating
the design space of diffusion-based generative models", NeurIPS 2022, table 1; `residual` the two
heads of J. Liu et al., "Residual denoising diffusion models", CVPR 2024.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from .schedules import Schedule
from .schedules.maths import sqrt
from .spaces import expand

__all__ = ["Form", "Kind", "apply", "forms", "prepared"]

Kind = Literal["noise", "data", "velocity", "flow", "edm", "residual"]
Form = tuple[Any, Any, Any]
"""Coefficients of (x, raw, y)."""


def forms(schedule: Schedule, t: Any, kind: Kind, sd: float) -> tuple[Form | None, Form | None]:
    """Coefficients of (x, raw, y) in the data and in the noise; None where it is not defined."""
    a, b, s = schedule.alpha(t), schedule.beta(t), schedule.sigma(t)
    scalar = isinstance(s, float)
    zero = 0.0 if scalar else 0 * s
    one = zero + 1.0
    if kind == "noise":
        if a == 0.0 if scalar else bool((a == 0.0).any()):
            return None, (zero, one, zero)
        return (1 / a, -s / a, -b / a), (zero, one, zero)
    if kind == "data":
        if scalar and s == 0.0:
            return (zero, one, zero), None
        r = 1 / s if scalar else torch.where(s > 0.0, 1 / s, zero)  # elements without noise have none to derive
        return (zero, one, zero), (r, -a * r, -b * r)
    if kind == "velocity":
        n = a * a + s * s
        return (a / n, -s / n, -a * b / n), (s / n, a / n, -s * b / n)
    if kind == "flow":
        da, db, ds = schedule.derivatives(t)
        if scalar and math.isinf(ds):  # t = 0 where sigma grows like sqrt(t): the state is the data
            return (1 / a, zero, -b / a), None
        sharp = None if scalar else torch.isinf(ds)
        if sharp is not None:
            ds = torch.where(sharp, one, ds)
        d = a * ds - s * da
        data = (ds / d, -s / d, (s * db - ds * b) / d)
        noise = (-da / d, a / d, (da * b - a * db) / d)
        if sharp is not None:
            x, r, y = data
            data = (torch.where(sharp, 1 / a, x), torch.where(sharp, zero, r), torch.where(sharp, -b / a, y))
            x, r, y = noise
            noise = (torch.where(sharp, zero, x), torch.where(sharp, zero, r), torch.where(sharp, zero, y))
        return data, noise
    if kind == "edm":
        m = sqrt(s * s + a * a * sd * sd)
        n = m * m
        return (sd * sd * a / n, s * sd / m, -sd * sd * a * b / n), (s / n, -a * sd / m, -s * b / n)
    raise ValueError(f"unknown prediction {kind!r}; expected one of {', '.join(get_args(Kind))}")


def apply(form: Form, x: Tensor, raw: Tensor, y: Tensor | None) -> Tensor:
    cx, cr, cy = form
    if cx.__class__ is float:
        if cr is None:
            return raw
        out = (raw * cr).add_(x, alpha=cx)
        if y is not None and cy != 0.0:
            out.add_(y, alpha=cy)
        return out
    out = expand(cx, x) * x + expand(cr, x) * raw
    return out if y is None else out + expand(cy, x) * y


def prepared(form: Form | None, dtype: torch.dtype) -> Form | None:
    """A form of floats with the coefficient of raw as a 0-dimensional tensor (a product at half the
    cost), or as None where the form is the raw output itself."""
    if form is None or not isinstance(form[0], float):
        return form
    cx, cr, cy = form
    with torch.inference_mode(False):  # it may meet autograd later
        return cx, None if cx == 0.0 and cr == 1.0 and cy == 0.0 else torch.tensor(cr, dtype=dtype), cy
