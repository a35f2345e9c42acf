r"""Composition of conditions and of models.

Composed scores multiply densities: with independent conditions c_i,

    noise = noise_null + sum_i w_i (noise_i - noise_null)

samples (to the extent that products of noised densities are noised products) from
p(x) prod_i (p(x | c_i) / p(x))^{w_i}: AND for w > 0, NOT for w < 0 (N. Liu et al., "Compositional visual
generation with composable diffusion models", ECCV 2022). With two models and one weight,

    noise = noise_other + w (noise_model - noise_other),

the second one says what to move away from: a worse version of the first (T. Karras et al., "Guiding a
diffusion model with a bad version of itself", NeurIPS 2024) or the model before fine-tuning on a single
picture (Z. Zhang et al., "SINE: single image editing with text-to-image diffusion models", CVPR 2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..denoisers import Prediction
from ..tree import Tree, leaves
from .base import Guidance
from .batched import ask, mixed, null_like

__all__ = ["Compose", "Regional", "TwoModels"]


def _stacked(condition: dict[str, Any], names: Sequence[str], count: int) -> dict[str, Tensor]:
    missing = sorted(set(names) - set(condition))
    if missing:
        raise ValueError(f"guidance has a null for {missing}, but the call gives no such condition; pass condition=")
    found = {}
    for name in names:
        value = condition.pop(name)
        if not isinstance(value, Tensor) or value.ndim < 2 or value.shape[1] != count:
            came = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"condition {name!r} must hold {count} conditions a sample, shape (B, {count}, ...), got {came}"
            )
        found[name] = value
    return found


class Compose(Guidance):
    """AND and NOT of several conditions, in one call on a batch of n + 1 copies.

    The conditions of a sample are stacked in dimension 1: `condition={"condition": c}` with c of shape
    (B, n, ...).

    Args:
        denoiser: the conditional denoiser, trained with condition dropout.
        weights: w_i, one a condition; negative is NOT.
        null: the null condition, as for `ClassifierFree`.

    Raises:
        ValueError: without a null, without weights, or for conditions of another number.
    """

    def __init__(self, denoiser: Any, weights: Sequence[float], null: dict[str, Any] | None = None) -> None:
        super().__init__(denoiser)
        if not null:
            raise ValueError("composition needs the null condition used in training: null={'condition': value}")
        if not weights or not all(math.isfinite(w) for w in weights):
            raise ValueError(f"weights must be finite, one a condition, got {list(weights)}")
        self.weights, self.null = tuple(float(w) for w in weights), null
        self.copies = len(self.weights) + 1

    def __call__(self, x: Tree, t: Any, **condition: Any) -> Prediction:
        n = len(self.weights)
        stacked = _stacked(condition, list(self.null), n)
        variants: list[dict[str, Any]] = [
            {name: null_like(self.null[name], value[:, 0], name) for name, value in stacked.items()}
        ]
        variants += [{name: value[:, j] for name, value in stacked.items()} for j in range(n)]
        preds = ask(self.denoiser, x, t, variants, **condition)
        parts = {"null": preds[0], **{f"condition{j}": pred for j, pred in enumerate(preds[1:])}}
        return mixed(self, x, t, preds, [1.0 - sum(self.weights), *self.weights], parts)


class Regional(Guidance):
    """One condition a region: each element of the state follows the conditions by its own weights.

    O. Bar-Tal et al., "MultiDiffusion", ICML 2023, with weights that sum to one over the conditions.
    The condition `regions`, of shape (B, n, ...) over the state's elements, holds the weights and does
    not reach the network; the n conditions are stacked as for `Compose`.

    Args:
        denoiser: the conditional denoiser.
        names: names of the stacked conditions.

    Raises:
        ValueError: for spaces that element-wise weights would leave, or weights that do not sum to one.
    """

    def __init__(self, denoiser: Any, names: Sequence[str]) -> None:
        super().__init__(denoiser)
        self.names = tuple(names)

    def __call__(self, x: Tree, t: Any, **condition: Any) -> Prediction:
        if "regions" not in condition:
            raise ValueError("regional guidance needs condition 'regions', the weights (B, n, ...) of n conditions")
        regions = condition.pop("regions")
        if self.space is not None and not self.space.elementwise:
            raise ValueError(
                f"a weight for every element would leave {self.space!r}; compose whole conditions with Compose"
            )
        if not isinstance(x, Tensor):
            raise TypeError("regions are defined for states of one tensor")
        total = regions.sum(1)
        if not bool(torch.allclose(total, torch.ones_like(total), atol=1e-5)):
            raise ValueError(f"the weights of the regions must sum to 1 at every element, got {float(total.min())} to "
                             f"{float(total.max())}")  # fmt: skip
        n = regions.shape[1]
        stacked = _stacked(condition, self.names, n)
        variants = [{name: value[:, j] for name, value in stacked.items()} for j in range(n)]
        preds = ask(self.denoiser, x, t, variants, **condition)
        weights = [regions[:, j].reshape(*regions[:, j].shape, *[1] * (x.ndim - regions.ndim + 1)) for j in range(n)]
        return mixed(self, x, t, preds, weights, {f"condition{j}": pred for j, pred in enumerate(preds)})


class TwoModels(Guidance):
    """Guidance of one model by another: noise = other + w (model - other).

    Args:
        denoiser: the model.
        other: the model to move away from, of the same schedule.
        weight: w; 1 is the model alone, above 1 moves away from `other`.
        interval: times in which both are asked; outside the model speaks alone.

    Raises:
        ValueError: if the schedules differ or the weight is not finite.
    """

    def __init__(self, denoiser: Any, other: Any, weight: float, interval: tuple[float, float] = (0.0, 1.0)) -> None:
        super().__init__(denoiser)
        if denoiser.schedule != other.schedule:
            raise ValueError(f"both models must share one schedule, got {denoiser.schedule!r} and {other.schedule!r}")
        if not math.isfinite(weight):
            raise ValueError(f"weight must be finite, got {weight}")
        self.other, self.weight, self.interval = other, float(weight), interval

    @property
    def needs_grad(self) -> bool:
        return bool(self.denoiser.needs_grad or self.other.needs_grad)

    @property
    def needs_state(self) -> bool:
        return bool(self.denoiser.needs_state or self.other.needs_state)

    def on(self, space: Any) -> TwoModels:
        """The same guidance for states of another space."""
        new = super().on(space)
        new.other = self.other.on(space)
        return new

    def in_half(self, dtype: Any) -> TwoModels:
        """The same guidance with both networks in half precision."""
        new = super().in_half(dtype)
        new.other = self.other.in_half(dtype)
        return new

    def warm(self, times: tuple[float, ...], like: Tree, copies: int = 1) -> None:
        """See `Denoiser.warm`, for both models."""
        for one in (self.denoiser, self.other):
            one.warm(times, like, copies)

    def __call__(self, x: Tree, t: Any, **condition: Any) -> Prediction:
        model = self.denoiser(x, t, **condition)
        if self.weight == 1.0 or not self._acts(t):
            return model
        other = self.other(x, t, **condition)
        # raw outputs of two networks may be of different kinds: mix what they mean, not what they say
        if isinstance(model, Prediction):
            for pred in (model, other):
                _ = pred.data, pred.noise
        if leaves(model.raw)[0].shape != leaves(other.raw)[0].shape:
            other = Prediction(model.denoiser, x, t, model.raw, other.reference, other.data, other.noise)
        return mixed(self, x, t, [model, other], [self.weight, 1.0 - self.weight], {"model": model, "other": other})

    def _acts(self, t: Any) -> bool:
        low, high = self.interval
        if isinstance(t, Tensor):
            return bool(((t >= low) & (t <= high)).all())
        return bool(low <= t <= high)
