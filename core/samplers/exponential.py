r"""Weights of exponential Adams methods, the common root of DDIM, DPM-Solver and UniPC.

In lam = log(alpha / sigma) the probability-flow ODE has the exact solution (C. Lu et al.,
"DPM-Solver", NeurIPS 2022, proposition 3.1, and "DPM-Solver++", 2022, proposition 4.1)

    x_t = (sigma_t / sigma_s) x_s + alpha_t  int_0^h  e^{-(h - u)} D(lam_s + u) du          (data)
    x_t = (alpha_t / alpha_s) x_s - sigma_t  int_0^h  e^{h - u}    N(lam_s + u) du          (noise)

A polynomial through values at lam_s + r_j h turns each integral into a weighted sum. The moments are

    int_0^1 e^{z (1 - v)} v^k dv = k! phi_{k+1}(z),    z = -h (data) or h (noise),

with phi_1(z) = (e^z - 1)/z and phi_{k+1}(z) = (phi_k(z) - 1/k!)/z, by its series for small z.
Weights are planned in float64 as Python floats, or as tensors when the schedule has one value per
element.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["adams", "phi", "root"]


def phi(k: int, z: Any) -> Any:
    """phi_k(z), k >= 0, for a float or a float64 tensor; accurate also for small z."""
    if isinstance(z, Tensor):
        small = z.abs() < 1.0
        safe = torch.where(small, torch.ones_like(z), z)
        return torch.where(small, _series(k, z), _recurrence(k, safe))
    if abs(z) < 1.0:
        return _series(k, z)
    return _recurrence(k, z)


def _series(k: int, z: Any) -> Any:
    total = 0.0 * z
    for j in range(19, -1, -1):
        total = total * z + 1.0 / math.factorial(j + k)
    return total


def _recurrence(k: int, z: Any) -> Any:
    value = z.exp() if isinstance(z, Tensor) else math.exp(z)
    for j in range(k):
        value = (value - 1.0 / math.factorial(j)) / z
    return value


def adams(h: Any, nodes: Sequence[Any], sign: float = -1.0) -> list[Any]:
    """Weights w_j with  int_0^h e^{sign (h - u)} p(u) du = sum_j w_j p(r_j h)  for polynomials p.

    Args:
        h: step in lam.
        nodes: the r_j, distinct, in units of h; as many as the degree of exactness plus one.
        sign: -1 for data predictions, +1 for noise predictions.

    Returns:
        One weight a node (floats, or tensors of the shape of h).
    """
    n = len(nodes)
    moments = [math.factorial(k) * phi(k + 1, sign * h) * h for k in range(n)]
    weights = []
    for j in range(n):
        # coefficients of the Lagrange polynomial of node j, lowest power first
        poly: list[Any] = [1.0]
        for m in range(n):
            if m == j:
                continue
            scale = 1.0 / (nodes[j] - nodes[m])
            shifted = [0.0, *poly]
            poly = [(a - nodes[m] * b) * scale for a, b in zip(shifted, [*poly, 0.0], strict=True)]
        weights.append(sum(c * moment for c, moment in zip(poly, moments, strict=True)))
    return weights


def root(value: Any) -> Any:
    """Square root that takes rounding below zero as zero."""
    return value.clamp_min(0.0).sqrt() if isinstance(value, Tensor) else math.sqrt(max(value, 0.0))
