"""Several models, or several conditions of one, asked about the same state in one go."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..denoisers import Prediction, check_condition
from ..guidance.base import Guidance
from ..spaces import Space
from ..tree import Tree, batch_size, cat, leaves, tree_map

__all__ = ["Ensemble", "same_schedule"]


def same_schedule(denoisers: Sequence[Any], what: str) -> None:
    """Refuse models that disagree about what a noisy state is.

    Raises:
        ValueError: naming the first schedule that differs from the first model's.
    """
    first = denoisers[0].schedule
    for k, denoiser in enumerate(denoisers[1:], start=1):
        if denoiser.schedule != first:
            raise ValueError(
                f"{what} needs one noise schedule, but model 0 has {first!r} and model {k} has {denoiser.schedule!r}: "
                "their states at time t are not the same kind of thing"
            )


class Ensemble(Guidance):
    """M models that are asked together; `SuperDiff` weighs their answers.

    Used as the denoiser of a run with a `SuperDiff` hook. Asked alone it answers with the plain mean, and every
    model's own answer is in `Prediction.parts` as "0", "1", ....

    Args:
        denoisers: two or more denoisers (guidance included) with the same schedule, each one call; or one denoiser,
            which answers for all `conditions` in a single call on an M-fold batch.
        conditions: for each model the keyword arguments of its network; tensors hold one sample's condition and
            are repeated over the batch. They come in addition to those of the run.

    Raises:
        ValueError: for fewer than two models, schedules that differ, Student-t noise, or a number of conditions that
            does not fit.
    """

    def __init__(self, denoisers: Any, conditions: Sequence[dict[str, Any]] | None = None) -> None:
        self.shared = not isinstance(denoisers, list | tuple)
        self.denoisers: list[Any] = [denoisers] if self.shared else list(denoisers)
        count = len(conditions or []) if self.shared else len(self.denoisers)
        if count < 2:
            raise ValueError(
                f"a composition needs at least two models, got {count}: give a list of denoisers, or one denoiser and "
                "a list of conditions"
            )
        if conditions is not None and len(conditions) != count:
            raise ValueError(f"{count} models need {count} conditions, got {len(conditions)}")
        same_schedule(self.denoisers, "a composition of models")
        if self.denoisers[0].schedule.family != "gaussian":
            raise ValueError(
                f"{self.denoisers[0].schedule!r} has Student-t noise, hence no score; use a Gaussian schedule"
            )
        super().__init__(self.denoisers[0])
        self.conditions = [dict(c) for c in conditions] if conditions is not None else [{} for _ in range(count)]
        check_condition(name for c in self.conditions for name in c)
        if self.shared and len({frozenset(c) for c in self.conditions}) != 1:
            names = [sorted(c) for c in self.conditions]
            raise ValueError(f"conditions of one denoiser must have the same names, got {names}")

    @property
    def count(self) -> int:
        """Number M of models."""
        return len(self.conditions)

    @property
    def needs_grad(self) -> bool:
        return any(bool(d.needs_grad) for d in self.denoisers)

    @property
    def needs_state(self) -> bool:
        return True

    def _with(self, denoisers: list[Any]) -> Ensemble:
        other = copy.copy(self)
        other.denoisers, other.denoiser = denoisers, denoisers[0]
        return other

    def on(self, space: Space | None) -> Ensemble:
        return self._with([d.on(space) for d in self.denoisers])

    def in_half(self, dtype: Any) -> Ensemble:
        return self._with([d.in_half(dtype) for d in self.denoisers])

    def __repr__(self) -> str:
        return f"Ensemble({self.denoisers!r}, models={self.count})"

    def __call__(self, x: Tree, t: Any, *, state: Any = None, **condition: Any) -> Prediction:
        if state is not None and "log_q" not in state.aux:
            raise ValueError("an Ensemble is sampled with hooks=[SuperDiff(...)], which weighs its models")
        if self.shared:
            preds = self._together(x, t, condition)
        else:
            n = batch_size(x)
            preds = [
                d(x, t, **{**condition, **{name: _repeat(v, n, x) for name, v in own.items()}})
                for d, own in zip(self.denoisers, self.conditions, strict=True)
            ]
        return combine(preds, torch.full((batch_size(x), self.count), 1.0 / self.count, dtype=torch.float64))

    def _together(self, x: Tree, t: Any, condition: dict[str, Any]) -> list[Prediction]:
        """One call on the batch repeated for every condition."""
        n, m = batch_size(x), self.count
        many: dict[str, Any] = {}
        for name, value in condition.items():
            batched = isinstance(value, dict) or (isinstance(value, Tensor) and value.ndim and value.shape[0] == n)
            many[name] = cat([value] * m) if batched else value
        for name in self.conditions[0]:
            many[name] = cat([_repeat(own[name], n, x) for own in self.conditions])
        denoiser = self.denoisers[0]
        if denoiser.space is not None:
            denoiser = denoiser.on(denoiser.space.take(torch.arange(n).repeat(m)))
        both = denoiser(cat([x] * m), torch.cat([t] * m) if isinstance(t, Tensor) and t.ndim else t, **many)
        parts = [both.take(slice(k * n, (k + 1) * n)) for k in range(m)]
        return parts


def _repeat(value: Any, n: int, x: Tree) -> Tensor:
    """One sample's condition for the whole batch, (n, ...)."""
    device = leaves(x)[0].device
    value = value.to(device) if isinstance(value, Tensor) else torch.as_tensor(value, device=device)
    return value.expand(n, *value.shape)


def combine(preds: Sequence[Prediction], weights: Tensor) -> Prediction:
    """The prediction sum_i weights[:, i] preds[i] (weights (B, M) that add up to one), with its parts."""

    def mix(*values: Tensor) -> Tensor:
        w = weights.to(values[0])
        return sum(w[:, i].reshape(-1, *[1] * (v.ndim - 1)) * v for i, v in enumerate(values))  # type: ignore[return-value]

    data, noise, raw = (tree_map(mix, *(getattr(p, name) for p in preds)) for name in ("data", "noise", "raw"))
    first = preds[0]
    parts = {str(i): p for i, p in enumerate(preds)}
    return Prediction(first.denoiser, first.x, first.t, raw, first.reference, data, noise, parts)
