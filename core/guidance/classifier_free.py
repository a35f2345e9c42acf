r"""Classifier-free guidance.

J. Ho and T. Salimans, "Classifier-free diffusion guidance", 2022, equation 6, here with w = 1 meaning
the conditional model itself:

    raw = raw_null + w (raw_condition - raw_null).

The raw outputs are combined: every prediction is linear in them at a given state, so data, noise and
velocity are guided alike. Both answers come from one call on a doubled batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..denoisers import Prediction
from ..tree import Tree, cat, tree_map
from .base import Guidance

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
        if not null:
            raise ValueError(
                "classifier-free guidance needs the null condition used in training: null={'condition': value}; "
                "a network trained without condition dropout has none and cannot be guided so"
            )
        if not 0.0 <= rescale <= 1.0:
            raise ValueError(f"rescale must lie in [0, 1], got {rescale}")
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
        n = (x if isinstance(x, Tensor) else next(iter(x.values()))).shape[0]
        passed = {k: condition.pop(k) for k in ("reference", "label", "state") if k in condition}
        doubled = {name: self._double(name, value, n) for name, value in condition.items()}
        extra = {k: v if v is None or k == "state" else cat([v, v]) for k, v in passed.items()}
        space = self.denoiser.space
        twice = self.denoiser if space is None else self.denoiser.on(space.take(torch.arange(n).repeat(2)))
        t2 = torch.cat([t, t]) if isinstance(t, Tensor) and t.ndim else t
        both = twice(cat([x, x]), t2, **extra, **doubled)
        guided, plain = both.take(slice(0, n)), both.take(slice(n, 2 * n))
        w = self.scale
        raw = tree_map(lambda c, u: torch.lerp(u, c, w), guided.raw, plain.raw)
        pred = Prediction(
            _inner(self.denoiser), x, t, raw, passed.get("reference"), parts={"condition": guided, "null": plain}
        )
        return self._rescaled(pred, guided) if self.rescale else pred

    def _acts(self, t: Any) -> bool:
        low, high = self.interval
        if isinstance(t, Tensor):
            return bool(((t >= low) & (t <= high)).any())
        return bool(low <= t <= high)

    def _double(self, name: str, value: Any, n: int) -> Any:
        if name not in self.null:
            return cat([value, value]) if isinstance(value, Tensor) and value.ndim and value.shape[0] == n else value
        if not isinstance(value, Tensor):
            raise TypeError(f"condition {name!r} must be a tensor with one entry a sample, got {type(value).__name__}")
        null = torch.as_tensor(self.null[name], dtype=value.dtype, device=value.device)
        if null.ndim == value.ndim and null.shape[0] != 1:
            raise ValueError(f"null[{name!r}] is one condition, got shape {tuple(null.shape)} for {tuple(value.shape)}")
        return torch.cat([value, null.expand_as(value)])

    def _rescaled(self, pred: Prediction, guided: Prediction) -> Prediction:
        def leaf(data: Tensor, ref: Tensor) -> Tensor:
            dims = tuple(range(1, data.ndim))
            ratio = ref.std(dims, keepdim=True) / data.std(dims, keepdim=True).clamp_min(1e-12)
            return data * (self.rescale * ratio + 1.0 - self.rescale)

        return pred.with_data(tree_map(leaf, pred.data, guided.data), noise="rederive")

    def __repr__(self) -> str:
        return f"ClassifierFree({self.denoiser!r}, scale={self.scale})"


def _inner(denoiser: Any) -> Any:
    while isinstance(denoiser, Guidance):
        denoiser = denoiser.denoiser
    return denoiser
