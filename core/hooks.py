"""Hooks: what may look at, or change, a run between the network and the sampler.

A hook is asked at three places: before the network (`on_query`), after it (`on_prediction`) and
after the sampler's step (`on_step`). Guidance that is a function of the denoiser alone is written as
a denoiser around a denoiser instead (`core.guidance`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from .denoisers import Prediction
from .noise import Noise
from .samplers.state import Query, State
from .spaces import Euclidean, Masked, Space
from .tree import Tree, tree_map

__all__ = ["Clamp", "DynamicThreshold", "Hook", "Known", "Record", "Step"]


@dataclass(frozen=True)
class Step:
    """One network call, as hooks see it.

    Attributes:
        state: the run before the sampler's step.
        query: what was asked.
        pred: what the denoiser answered, a `Prediction` (of tokens, a `TokenPrediction`).
        z: the noise that the step will use, or None.
        reference: the known y, or None.
        schedule, space, sampler, plan: of the run.
        call: index of the network call.
        new: the run after the step (in `on_step` only).
        noise: the run's keyed noise, for hooks that draw (resampling) or that ask the sampler for more candidates.
    """

    state: State
    query: Query
    pred: Any
    z: Tree | None
    reference: Tree | None
    schedule: Any
    space: Space
    sampler: Any
    plan: Any
    call: int
    new: State | None = None
    noise: Noise | None = None


class Hook:
    """Base class; override what is needed.

    Attributes:
        group: walkers that must stay in one batch, next to each other.
        needs_grad: whether gradients must be possible inside the loop.
    """

    group: int = 1
    needs_grad: bool = False

    def on_start(self, state: State, space: Space) -> State:
        """The run's first state."""
        return state

    def on_query(self, query: Query, space: Space) -> Query:
        """Before the network call."""
        return query

    def on_prediction(self, step: Step) -> Step:
        """After the network call: change the prediction, or resample state and prediction."""
        return step

    def on_step(self, step: Step) -> State:
        """After the sampler's step; an edit of x is `State.restart`."""
        if step.new is None:
            raise ValueError("on_step needs the new state")
        return step.new

    def take(self, index: Any) -> Hook:
        """The hook for the batch elements `index` (hooks that hold one value a sample override it)."""
        return self

    def records(self) -> dict[str, Any]:
        """What the hook collected, for `Result.records`."""
        return {}


def _edited(step: Step, change: Callable[[Tree], Tree]) -> Tree:
    """The data prediction after `change`, which acts in the data's own coordinates."""
    basis, data = step.schedule.basis, step.pred.data
    return change(data) if basis is None else basis.forward(change(basis.inverse(data)))


def _pixels(space: Space, name: str) -> None:
    if not isinstance(space, Euclidean | Masked):
        raise ValueError(
            f"{name} bounds single values: it would leave {space!r}; use it on Euclidean or Masked states only"
        )


@dataclass(frozen=True)
class Clamp(Hook):
    """Bound the data prediction to [low, high] (pixel-like data only).

    Args:
        low, high: bounds, in the units of the data.
        noise: "keep" the predicted noise or "rederive" it so that the state stays explained.
    """

    low: float = -1.0
    high: float = 1.0
    noise: Any = "rederive"

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"Clamp needs low < high, got low={self.low}, high={self.high}")

    def on_prediction(self, step: Step) -> Step:
        _pixels(step.space, "Clamp")
        data = _edited(step, lambda data: data.clamp(self.low, self.high))
        return replace(step, pred=step.pred.with_data(step.space.project(data), noise=self.noise))


@dataclass(frozen=True)
class DynamicThreshold(Hook):
    """Clamp to the sample's own quantile and divide by it (pixel-like data only).

    C. Saharia et al., "Photorealistic text-to-image diffusion models with deep language
    understanding" (Imagen), NeurIPS 2022, section 2.3: s = max(quantile(|x0|), bound), then
    x0 <- clamp(x0, -s, s) * bound / s. Under a mask only real elements count.

    Args:
        quantile: in (0, 1].
        bound: range of the data, in its units.
        noise: as in `Clamp`.
    """

    quantile: float = 0.995
    bound: float = 1.0
    noise: Any = "rederive"

    def __post_init__(self) -> None:
        if not 0.0 < self.quantile <= 1.0:
            raise ValueError(f"quantile must lie in (0, 1], got {self.quantile}")
        if not self.bound > 0.0:
            raise ValueError(f"bound must be positive, the largest |value| of the data; got {self.bound}")

    def on_prediction(self, step: Step) -> Step:
        _pixels(step.space, "DynamicThreshold")
        data = _edited(step, lambda data: self._bounded(data, step.space))
        return replace(step, pred=step.pred.with_data(data, noise=self.noise))

    def _bounded(self, data: Tensor, space: Space) -> Tensor:
        size = data.abs().flatten(1)
        count = space.ndof(data)[:, None] - 1  # padding is sorted to the front
        order = torch.where(space.project(torch.ones_like(data)).flatten(1).bool(), size, -1.0).sort(1).values
        place = size.shape[1] - 1 - count + self.quantile * count.double()
        low, high = (order.gather(1, p.long()) for p in (place.floor(), place.ceil()))
        s = torch.lerp(low, high, (place - place.floor()).to(data)).clamp_min(self.bound)
        s = s.view(-1, *[1] * (data.ndim - 1))
        return data.clamp(-s, s) * (self.bound / s)


def _check_known(x: Tensor, values: Tensor, mask: Tensor) -> None:
    size, shape = x.shape[0], tuple(x.shape)
    if values.shape[0] not in (1, size) or values.shape[1:] != x.shape[1:]:
        raise ValueError(f"known values must have the shape of the state {shape}, got {tuple(values.shape)}")
    if mask.ndim > x.ndim or mask.shape[0] not in (1, size) or mask.shape[1:] != x.shape[1 : mask.ndim]:
        raise ValueError(f"the mask of known elements does not fit a state of shape {shape}, got {tuple(mask.shape)}")


@dataclass(frozen=True, eq=False)
class Known(Hook):
    """Hold known elements: inpainting, continuation, imputation.

    The data prediction of a known element is its known value and its noise is rederived, so known
    elements walk on their own exact path, no step is repeated and no history is lost. With
    `per_element_time` the network is shown the clean known values at time 0 instead, which needs a
    network trained with one time an element (FVDM: Y. Liu et al., "Redefining temporal modeling in
    video diffusion", 2024).

    Of tokens the network's probabilities at known places become certain. Under a masked process it is shorter, and one
    network call a token cheaper, to start from `x=` with the known tokens in place and the mask elsewhere.

    Args:
        values: known values, of the shape of the state (a tree for product states).
        mask: boolean, True = known; (B, L) or the shape of `values`, or 1 in the batch dimension.
        per_element_time: tell the network time 0 for known elements; mask (B, L).

    Raises:
        TypeError: if the mask is not boolean.
        ValueError: on shapes that do not fit, or a space that known elements would leave.
    """

    values: Tree
    mask: Tree
    per_element_time: bool = False

    def __post_init__(self) -> None:
        for mask in self.mask.values() if isinstance(self.mask, dict) else [self.mask]:
            if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
                raise TypeError(
                    f"mask must be a boolean tensor (True = known), got {getattr(mask, 'dtype', type(mask))}"
                )
        if self.per_element_time and (isinstance(self.mask, dict) or self.mask.ndim != 2):
            raise ValueError("per_element_time needs a mask of shape (B, L)")

    def on_start(self, state: State, space: Space) -> State:
        if not space.elementwise:
            raise ValueError(f"single known elements would leave {space!r}; give the known part as a condition instead")
        tree_map(_check_known, state.x, self.values, self.mask)
        return state

    def _where(self, x: Tree) -> Tree:
        def choose(x: Tensor, known: Tensor, mask: Tensor) -> Tensor:
            mask = mask.to(x.device).reshape(*mask.shape, *[1] * (x.ndim - mask.ndim))
            return torch.where(mask, known.to(x), x)

        return tree_map(choose, x, self.values, self.mask)

    def on_query(self, query: Query, space: Space) -> Query:
        if not self.per_element_time:
            return query
        t = query.t if isinstance(query.t, Tensor) else torch.tensor(query.t, dtype=torch.float64)
        t = torch.where(self.mask.to(t.device), 0.0, t if t.ndim == 2 else t.reshape(-1, 1))
        return query._replace(x=self._where(query.x), t=t.expand(query.x.shape[:2]))

    def on_prediction(self, step: Step) -> Step:
        pred = step.pred
        if hasattr(pred, "with_known"):  # of tokens
            return replace(step, pred=pred.with_known(self.values, self.mask))
        data = step.space.project(_edited(step, self._where))
        if not self.per_element_time:
            return replace(step, pred=pred.with_data(data, noise="rederive"))
        # the state itself is still at the row's level: what the sampler asked, before it was shown clean values
        query = step.sampler.query(step.plan, step.state, step.z, step.space, step.reference)
        noise = pred.denoiser.noise_of(query.x, data, query.t, pred.reference)
        here = Prediction(pred.denoiser, query.x, query.t, pred.raw, pred.reference, data, noise)
        return replace(step, query=query, pred=here)

    def take(self, index: Any) -> Hook:
        def pick(v: Tensor) -> Tensor:
            return v if v.shape[0] == 1 else v[index]

        return replace(self, values=tree_map(pick, self.values), mask=tree_map(pick, self.mask))


@dataclass(eq=False)
class Record(Hook):
    """Keep the trajectory: lists of times, states and data predictions, one entry a network call.

    Args:
        every: keep each `every`-th call.
        what: any of "x", "data", "noise".
        device: where to keep it.
    """

    every: int = 1
    what: tuple[str, ...] = ("x", "data")
    device: str = "cpu"
    _kept: dict[str, list[Any]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every must be at least 1, got {self.every}")
        strange = sorted(set(self.what) - {"x", "data", "noise"})
        if strange:
            raise ValueError(f'what may name "x", "data" and "noise", got {strange}')

    def on_start(self, state: State, space: Space) -> State:
        self._kept = {name: [] for name in ("t", *self.what)}
        return state

    def on_prediction(self, step: Step) -> Step:
        if step.call % self.every == 0:
            self._kept["t"].append(step.query.t)
            for name in self.what:
                value = step.query.x if name == "x" else getattr(step.pred, name)
                self._kept[name].append(tree_map(lambda leaf: leaf.detach().to(self.device).clone(), value))
        return step

    def records(self) -> dict[str, Any]:
        return dict(self._kept)

    def take(self, index: Any) -> Hook:
        return replace(self, _kept={})
