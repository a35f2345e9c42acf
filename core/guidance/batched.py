"""Several questions in one network call, and answers mixed with weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..denoisers import Prediction
from ..spaces import expand
from ..tree import Tree, cat, leaves
from .base import innermost

__all__ = ["ask", "mixed", "null_like", "tilted"]


def null_like(null: Any, value: Any, name: str) -> Tensor:
    """The null condition, one entry a sample, of the shape of `value`.

    Raises:
        TypeError, ValueError: if `value` has not one entry a sample or `null` is not one condition.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"condition {name!r} must be a tensor with one entry a sample, got {type(value).__name__}")
    null = torch.as_tensor(null, dtype=value.dtype, device=value.device)
    if null.ndim == value.ndim and null.ndim and null.shape[0] != 1:
        raise ValueError(f"null[{name!r}] is one condition, got shape {tuple(null.shape)} for {tuple(value.shape)}")
    return null.expand_as(value)


def ask(denoiser: Any, x: Tree, t: Any, variants: Sequence[dict[str, Any]], **common: Any) -> list[Prediction]:
    """One call on a batch of len(variants) copies, each with its own conditions.

    Args:
        denoiser: what to ask.
        x, t: the states (B, ...) and their time.
        variants: conditions that differ, each a tensor (B, ...).
        common: conditions and arguments that all share; tensors (B, ...) are repeated.

    Returns:
        One prediction a variant.
    """
    n, k = leaves(x)[0].shape[0], len(variants)

    def repeat(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: repeat(leaf) for name, leaf in value.items()}
        if isinstance(value, Tensor) and value.ndim and value.shape[0] == n:
            return torch.cat([value] * k)
        return value

    for variant in variants:
        for name, value in variant.items():
            if not isinstance(value, Tensor) or value.ndim == 0 or value.shape[0] != n:
                came = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(f"condition {name!r} needs one entry for each of {n} samples, got {came}")
    state = common.pop("state", None)
    shared = {name: repeat(value) for name, value in common.items()}
    different = {name: torch.cat([variant[name] for variant in variants]) for name in variants[0]}
    space = denoiser.space
    wide = denoiser if space is None else denoiser.on(space.take(torch.arange(n).repeat(k)))
    times = torch.cat([t] * k) if isinstance(t, Tensor) and t.ndim else t
    pred = wide(cat([x] * k), times, state=state, **shared, **different)
    return [pred.take(slice(j * n, (j + 1) * n)) for j in range(k)]


def mixed(denoiser: Any, x: Tree, t: Any, preds: Sequence[Any], weights: Sequence[Any], parts: dict[str, Any]) -> Any:
    """The prediction whose raw output, data and noise are the weighted sums of those of `preds`.

    Args:
        denoiser: the guidance or denoiser that the answer stands for.
        x, t: what was asked.
        preds: answers at the same x and t.
        weights: one for each, summing to one: a float, or a tensor that `spaces.expand` fits to a state.
        parts: kept as `Prediction.parts`.
    """

    if hasattr(preds[0], "mixed"):  # of tokens: logarithms of probabilities are summed, and normalised
        return preds[0].mixed(preds, weights, parts)

    def total(trees: Sequence[Tree]) -> Tree:
        if isinstance(trees[0], dict):
            return {name: total([tree[name] for tree in trees]) for name in trees[0]}
        out = trees[0] * _weight(weights[0], trees[0])
        for tree, weight in zip(trees[1:], weights[1:], strict=True):
            out = out + tree * _weight(weight, tree)
        return out

    raw = total([p.raw for p in preds])
    # an answer that guidance changed speaks through its data and noise, which raw knows nothing of
    edited = any(p.edited for p in preds)
    data = total([p.data for p in preds]) if edited else None
    noise = total([p.noise for p in preds]) if edited else None
    return Prediction(innermost(denoiser), x, t, raw, preds[0].reference, data, noise, parts)


def _weight(weight: Any, like: Tensor) -> Any:
    return expand(weight, like) if isinstance(weight, Tensor) else weight


def tilted(pred: Prediction, gradient: Tree, weight: float) -> Prediction:
    """The prediction whose score is higher by `weight` * `gradient`.

    With noise = -sigma score: noise - sigma w g, and data + (sigma^2 / alpha) w g, so that
    x = alpha data + beta y + sigma noise still holds.
    """
    t = pred.t

    def moved(schedule: Any, data: Tensor, g: Tensor) -> Tensor:
        c = weight * schedule.sigma(t) ** 2 / schedule.alpha(t)
        return data + (expand(c, g) if isinstance(c, Tensor) else c) * g

    def quieter(schedule: Any, noise: Tensor, g: Tensor) -> Tensor:
        c = weight * schedule.sigma(t)
        return noise - (expand(c, g) if isinstance(c, Tensor) else c) * g

    data = pred.denoiser.leafwise(moved, pred.data, gradient)
    noise = pred.denoiser.leafwise(quieter, pred.noise, gradient)
    return Prediction(pred.denoiser, pred.x, t, pred.raw, pred.reference, data, noise, {**pred.parts, "unguided": pred})
