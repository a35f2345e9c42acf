r"""Classifier-free guidance.

J. Ho and T. Salimans, "Classifier-free diffusion guidance", 2022, equation 6, here with w = 1 meaning
the conditional model itself:

    raw = raw_null + w (raw_condition - raw_null).

The raw outputs are combined: every prediction is linear in them at a given state, so data, noise and
velocity are guided alike. Both answers come from one call on a doubled batch.

For tokens the raw outputs are logits, and the same line is p_guided ~ p_condition^w p_null^(1 - w), normalised for each
token: the guidance of masked image and language models (Y. Schiff et al., "Simple guidance mechanisms for discrete
diffusion models", ICLR 2025, D-CFG; for uniform processes they mix the posteriors of a step instead, which is not the
same).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..denoisers import Prediction
from ..spaces import Euclidean, Masked, Product, Space, default_space
from ..tree import Tree
from .base import Guidance
from .batched import ask, mixed, null_like

__all__ = ["ClassifierFree"]


class ClassifierFree(Guidance):
    """Classifier-free guidance around a denoiser that was trained with condition dropout.

    Args:
        denoiser: the conditional denoiser.
        scale: w; 1 is the conditional model, 0 the unconditional one, larger follows the condition
            more closely at the cost of variety.
        null: the condition that stood for "none" in training, one value for each condition that is
            dropped: a tensor of the shape of one sample's condition (or with a leading 1), or a number.
        interval: times (low, high) in which guidance acts; outside, the conditional model speaks
            alone, in one single-size call (T. Kynkaanniemi et al., "Applying guidance in a limited
            interval improves sample and distribution quality", NeurIPS 2024).
        rescale: 0 to 1, how far the guided data prediction's standard deviation is brought back to
            the conditional one's (S. Lin et al., "Common diffusion noise schedules and sample steps
            are flawed", WACV 2024, section 3.4).

    Raises:
        ValueError: without a null condition, or for a rescale or interval out of range.
    """

    def __init__(
        self,
        denoiser: Any,
        scale: float,
        null: dict[str, Any] | None = None,
        interval: tuple[float, float] = (0.0, 1.0),
        rescale: float = 0.0,
    ) -> None:
        super().__init__(denoiser)
        self.copies = 2
        if not null:
            raise ValueError(
                "classifier-free guidance needs the null condition used in training: null={'condition': value}; "
                "a network trained without condition dropout has none and cannot be guided so"
            )
        if not isinstance(null, dict):
            raise TypeError(f"null is a dictionary, one value for each condition by name, got {type(null).__name__}")
        if not 0.0 <= rescale <= 1.0:
            raise ValueError(f"rescale must lie in [0, 1], got {rescale}")
        if rescale and denoiser.schedule.family == "categorical":
            raise ValueError("rescale brings back a standard deviation, and tokens have none: leave it at 0")
        if not interval[0] < interval[1]:
            raise ValueError(f"interval must be (low, high) with low < high, got {interval}")
        self.scale = float(scale)
        self.null = null
        self.interval = interval
        self.rescale = rescale

    def __call__(self, x: Tree, t: Any, **condition: Any) -> Prediction:
        missing = sorted(set(self.null) - set(condition))
        if missing:
            raise ValueError(
                f"guidance has a null for {missing}, but the call gives no such condition; pass condition="
            )
        if self.scale == 1.0 or not self._acts(t):
            return self.denoiser(x, t, **condition)
        given = {name: condition.pop(name) for name in self.null}
        null = {name: null_like(self.null[name], value, name) for name, value in given.items()}
        guided, plain = ask(self.denoiser, x, t, [given, null], **condition)
        w = self._weight(t)
        pred = mixed(self, x, t, [guided, plain], [w, 1.0 - w], {"condition": guided, "null": plain})
        return self._rescaled(pred, guided) if self.rescale else pred

    def _acts(self, t: Any) -> bool:
        low, high = self.interval
        if isinstance(t, Tensor):
            return bool(((t >= low) & (t <= high)).any())
        return bool(low <= t <= high)

    def _weight(self, t: Any) -> float | Tensor:
        if not isinstance(t, Tensor) or t.ndim == 0:
            return self.scale
        low, high = self.interval
        return torch.where((t >= low) & (t <= high), self.scale, 1.0)

    def _rescaled(self, pred: Prediction, guided: Prediction) -> Prediction:
        space = self.denoiser.space or default_space(pred.x)

        def leaf(space: Space, data: Tensor, ref: Tensor) -> Tensor:
            ratio = _spread(space, ref) / _spread(space, data).clamp_min(1e-12)
            return data * (self.rescale * ratio + 1.0 - self.rescale).view(-1, *[1] * (data.ndim - 1))

        if isinstance(space, Product):
            data: Tree = {name: leaf(s, pred.data[name], guided.data[name]) for name, s in space.spaces.items()}
        else:
            data = leaf(space, pred.data, guided.data)
        return pred.with_data(data, noise="rederive")

    def __repr__(self) -> str:
        return f"ClassifierFree({self.denoiser!r}, scale={self.scale})"


def _spread(space: Space, x: Tensor) -> Tensor:
    """Root of the summed squared deviations of each sample, (B,), over the elements that count."""
    if not isinstance(space, Euclidean | Masked):
        return space.norm(x)
    mean = x.reshape(x.shape[0], -1).sum(1) / space.ndof(x)
    return space.norm(x - mean.view(-1, *[1] * (x.ndim - 1)))
