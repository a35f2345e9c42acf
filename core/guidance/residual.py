r"""Residual classifier-free guidance: the unconditional noise for nothing, or for one call.

A. Kodaira et al., "StreamDiffusion: a pipeline-level solution for real-time interactive generation",
2023. Classifier-free guidance asks twice a step. Here the unconditional noise is replaced by

    self      delta n_T, the noise that the run started from: no further call;
    onetime   delta N_null, the null prediction at the first step: one further call.

    noise = delta n + w (noise_condition - delta n)

Needs a run that starts from noise and adds none on the way: then n_T is what the unconditional model
would roughly keep predicting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from ..hooks import Hook, Step
from ..samplers.state import State
from ..spaces import Space
from ..tree import Tree

__all__ = ["ResidualCFG"]


@dataclass(frozen=True, eq=False)
class ResidualCFG(Hook):
    """Residual classifier-free guidance (a hook: it remembers the start of the run).

    Args:
        scale: w.
        delta: moderates the residual noise.
        mode: "self" or "onetime".
        null: the null condition for "onetime", as for `ClassifierFree`.
        condition: the run's conditions, for "onetime" (the null replaces those it names).

    Raises:
        ValueError: for an unknown mode, "onetime" without a null, product states, or a stochastic sampler.
    """

    scale: float = 1.5
    delta: float = 1.0
    mode: Literal["self", "onetime"] = "self"
    null: dict[str, Any] | None = None
    condition: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.mode not in ("self", "onetime"):
            raise ValueError(f'mode must be "self" or "onetime", got {self.mode!r}')
        if self.mode == "onetime" and not self.null:
            raise ValueError("mode='onetime' asks once for the null condition: give null={'condition': value}")
        if not math.isfinite(self.scale) or not math.isfinite(self.delta):
            raise ValueError(f"scale and delta must be finite, got {self.scale} and {self.delta}")

    def on_start(self, state: State, space: Space) -> State:
        if isinstance(state.x, dict):
            raise ValueError("residual guidance keeps the start of one tensor; product states are not supported")
        return replace(state, aux={**state.aux, "rcfg": state.x.clone()})

    def on_prediction(self, step: Step) -> Step:
        if step.sampler.stochastic:
            raise ValueError(f"{step.sampler!r} adds noise on the way: residual guidance needs a deterministic sampler")
        pred, state = step.pred, step.state
        kept = state.aux["rcfg"]
        if step.call == 0:
            kept = self._first(step, kept)
            state = replace(state, aux={**state.aux, "rcfg": kept})
        w = self.scale
        noise = torch.lerp(self.delta * kept, pred.noise, w)
        data = pred.denoiser.data_of(pred.x, noise, pred.t, pred.reference)
        new = type(pred)(pred.denoiser, pred.x, pred.t, pred.raw, pred.reference, data, noise, {"condition": pred})
        return replace(step, pred=new, state=state)

    def _first(self, step: Step, x: Tree) -> Tree:
        """The residual noise, from the start of the run."""
        t = step.query.t
        if self.mode == "self":
            return x / float(step.schedule.prior_std(t))
        given = dict(self.condition or {})
        for name, value in (self.null or {}).items():
            like = given.get(name)
            null = torch.as_tensor(value)
            given[name] = null.expand_as(like) if isinstance(like, torch.Tensor) else null.expand(len(x), *null.shape)
        return step.pred.denoiser(step.query.x, t, reference=step.reference, **given).noise

    def take(self, index: Any) -> ResidualCFG:
        def pick(v: Any) -> Any:
            return v[index] if isinstance(v, torch.Tensor) and v.ndim else v

        return replace(
            self, condition=None if self.condition is None else {k: pick(v) for k, v in self.condition.items()}
        )
