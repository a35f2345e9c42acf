r"""Denoisers: a network, what it was trained to predict, and every other prediction derived from it.

The forms in which data and noise follow from each kind of raw output are in `conversions`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from .conversions import Form, Kind, apply, forms, prepared
from .schedules import DiscreteBetas, ProductSchedule, Schedule
from .schedules.maths import sqrt
from .spaces import Space, expand
from .tree import Tree, leaves, take, tree_map

__all__ = ["Denoiser", "Kind", "Prediction", "check_condition"]


class Prediction:
    """What a denoiser says about a state: `data`, `noise`, `velocity` and `score`, on demand.

    Attributes:
        x: the state that was asked about, (B, ...).
        t: its time, a float or a tensor (B,) or (B, L).
        reference: the known reference y, or None.
        raw: the network's output.
        data: predicted clean data E[x0 | x].
        noise: predicted noise E[n | x].
        velocity: dx/dt of the probability-flow ODE, alpha' data + beta' y + sigma' noise.
        score: gradient of log p_t at x, -noise / sigma (Gaussian schedules only).
        parts: predictions that this one was made of (guidance fills it in).
    """

    __slots__ = ("_data", "_noise", "denoiser", "parts", "raw", "reference", "t", "x")

    def __init__(
        self,
        denoiser: Denoiser,
        x: Tree,
        t: Any,
        raw: Tree,
        reference: Tree | None = None,
        data: Tree | None = None,
        noise: Tree | None = None,
        parts: dict[str, Prediction] | None = None,
    ) -> None:
        self.denoiser = denoiser
        self.x = x
        self.t = t
        self.raw = raw
        self.reference = reference
        self._data = data
        self._noise = noise
        self.parts = parts or {}

    @property
    def edited(self) -> bool:
        """Whether data or noise are known beside the raw output (derived already, or changed)."""
        return self._data is not None or self._noise is not None

    @property
    def data(self) -> Tree:
        if self._data is None:
            self._data = self.denoiser.convert(0, self.x, self.t, self.raw, self.reference)
        return self._data

    @property
    def noise(self) -> Tree:
        if self._noise is None:
            self._noise = self.denoiser.convert(1, self.x, self.t, self.raw, self.reference)
        return self._noise

    @property
    def velocity(self) -> Tree:
        denoiser, t = self.denoiser, self.t
        edited = self._data is not None and self._noise is not None
        if denoiser.prediction == "flow" and not edited:
            return self.raw if denoiser.space is None else denoiser.space.project(self.raw)

        def leaf(schedule: Schedule, data: Tensor, noise: Tensor, y: Tensor | None) -> Tensor:
            da, db, ds = schedule.derivatives(t)
            terms = [(da, data), (ds, noise)] + ([(db, y)] if y is not None else [])
            return sum((c if isinstance(c, float) else expand(c, x)) * x for c, x in terms)  # type: ignore[return-value]

        return denoiser.leafwise(leaf, self.data, self.noise, self.reference)

    @property
    def score(self) -> Tree:
        if self.denoiser.schedule.family != "gaussian":
            raise ValueError(
                f"{self.denoiser.schedule!r} has Student-t noise: it has no Gaussian score; use ODE samplers"
            )

        def leaf(schedule: Schedule, noise: Tensor, _: Tensor | None) -> Tensor:
            s = schedule.sigma(self.t)
            if isinstance(s, float):
                if s == 0.0:
                    raise ValueError(f"the score is not defined at t={self.t}, where sigma = 0")
                return noise / -s
            return noise / -expand(s, noise)

        return self.denoiser.leafwise(leaf, self.noise, None)

    def with_data(self, data: Tree, *, noise: Literal["keep", "rederive"]) -> Prediction:
        """The same prediction with other data.

        Args:
            data: the new data prediction.
            noise: "keep" the predicted noise (proximal methods, clipping) or "rederive" it so that
                x = alpha data + beta y + sigma noise holds again.
        """
        if noise == "keep":
            kept = self.noise
        elif noise == "rederive":
            kept = self.denoiser.noise_of(self.x, data, self.t, self.reference)
        else:
            raise ValueError(f'noise must be "keep" or "rederive", got {noise!r}')
        return Prediction(self.denoiser, self.x, self.t, self.raw, self.reference, data, kept, self.parts)

    def take(self, index: Any) -> Prediction:
        """The prediction for the batch elements `index`."""

        def pick(x: Tree | None) -> Tree | None:
            return None if x is None else take(x, index)

        t = self.t[index] if isinstance(self.t, Tensor) and self.t.ndim else self.t
        parts = {name: part.take(index) for name, part in self.parts.items()}
        denoiser = (
            self.denoiser.on(self.denoiser.space.take(index)) if self.denoiser.space is not None else self.denoiser
        )
        return Prediction(
            denoiser, pick(self.x), t, pick(self.raw), pick(self.reference), pick(self._data), pick(self._noise), parts
        )


Label = Literal["auto", "time", "index", "integer", "log_sigma"] | Callable[[Schedule, Any], Any]


class Denoiser:
    """A network with the schedule it was trained for: the one object that samplers ask.

    Args:
        network: `network(x, label, **condition)`; x (B, ...), label (B,) or (B, L), returns the
            shape of x. For product states x and the output are dictionaries. None for conversions,
            `add_noise` and `target` alone.
        schedule: the `Schedule` (a `ProductSchedule` for one schedule a leaf).
        prediction: what the network's output is; see the module's table. A dictionary gives one
            kind a leaf.
        space: where the states live; None for plain tensors (no projection).
        label: what the network is told about time. "time" is 1000 t; "index" the index 0..T-1 of
            a `DiscreteBetas` schedule; "log_sigma" log(sigma/alpha)/4 as in EDM; or a function
            (schedule, t) -> value. "integer" is the index as a long tensor, for networks that look it
            up in a table; times between two indices are refused. "auto": "log_sigma" for edm predictions, "index" for
            `DiscreteBetas`, else "time".
        sigma_data: standard deviation of the data, for edm predictions.

    Raises:
        ValueError: for an unknown kind or label, or a sigma_data that is not positive.
    """

    needs_grad = False
    needs_state = False

    def __init__(
        self,
        network: Callable[..., Tree] | None,
        schedule: Schedule | ProductSchedule,
        prediction: Kind | dict[str, Kind] = "noise",
        space: Space | None = None,
        label: Label = "auto",
        sigma_data: float = 0.5,
    ) -> None:
        kinds = prediction.values() if isinstance(prediction, dict) else [prediction]
        for kind in kinds:
            if kind not in get_args(Kind):
                raise ValueError(f"unknown prediction {kind!r}; expected one of {', '.join(get_args(Kind))}")
        for name in prediction if isinstance(prediction, dict) else [None]:
            if (prediction if name is None else prediction[name]) == "residual":  # type: ignore[index]
                _check_residual(schedule.leaves[name] if isinstance(schedule, ProductSchedule) and name else schedule)
        if label == "auto":
            clock = schedule.leaves[schedule.clock_leaf] if isinstance(schedule, ProductSchedule) else schedule
            label = "log_sigma" if "edm" in kinds else "index" if isinstance(clock, DiscreteBetas) else "time"
        if not callable(label) and label not in ("time", "index", "integer", "log_sigma"):
            raise ValueError(
                f'unknown label {label!r}; expected "auto", "time", "index", "integer", "log_sigma" or a function'
            )
        if not sigma_data > 0.0:
            raise ValueError(f"sigma_data is the standard deviation of the data, positive; got {sigma_data}")
        self.network: Any = network
        self.schedule = schedule
        self.prediction = prediction
        self.space = space
        self.label = label
        self.sigma_data = sigma_data
        self.half: torch.dtype | None = None
        # nothing between the state and the network: one tensor, no basis, no scaling of inputs, no autocast
        self._direct = prediction in ("noise", "data", "velocity", "flow") and schedule.basis is None
        self._memo: dict[Any, Any] = {}  # forms and labels of the times met so far: values, not state

    def __repr__(self) -> str:
        network = type(self.network).__name__
        return f"Denoiser({network}, {self.schedule!r}, prediction={self.prediction!r}, space={self.space!r})"

    def on(self, space: Space | None) -> Denoiser:
        """The same denoiser for states of another space (for example the masks of another batch)."""
        if space is self.space:
            return self
        other = copy.copy(self)
        other.space = space
        return other

    def in_half(self, dtype: torch.dtype | None) -> Denoiser:
        """The same denoiser with its network run in float16 or bfloat16; states keep their type."""
        other = copy.copy(self)
        other.half = dtype
        other._direct = self._direct and dtype is None
        return other

    # -- leaves ----------------------------------------------------------------------------------
    def _leaf_schedule(self, name: Any) -> Schedule:
        schedule = self.schedule
        return schedule.leaves[name] if isinstance(schedule, ProductSchedule) else schedule

    def _leaf_kind(self, name: str | None) -> Kind:
        return self.prediction[name] if isinstance(self.prediction, dict) else self.prediction  # type: ignore[index]

    def leafwise(self, function: Callable[..., Tensor], first: Tree, *rest: Tree | None) -> Tree:
        """`function(schedule of the leaf, leaf of each argument)`, leaf by leaf."""
        if isinstance(first, dict):
            return {
                name: function(self._leaf_schedule(name), leaf, *(None if r is None else r[name] for r in rest))
                for name, leaf in first.items()
            }
        return function(self._leaf_schedule(None), first, *rest)

    def warm(self, times: tuple[float, ...], like: Tree, copies: int = 1) -> None:
        """Make labels and coefficients for `times` now.

        Small tensors that stay, made one by one between large ones that go, cut the free memory into
        pieces: a long run over a large batch would grow without bound.

        Args:
            times: the times that will be asked about.
            like: states of the run.
            copies: how many of them guidance puts into one call.
        """
        first = leaves(like)[0]
        size = first.shape[0] * copies
        key = (times, size, first.dtype, first.device)
        if key in self._memo:
            return
        for t in times:
            self._label_of(t, size, first.dtype, first.device)
            for name in like if isinstance(like, dict) else (None,):
                if self._leaf_kind(name) != "residual":
                    self._forms_at(t, name, first.dtype)
        self._memo[key] = True

    # -- prediction ------------------------------------------------------------------------------
    def _forms_at(self, t: float, name: Any, dtype: torch.dtype) -> tuple[Form | None, Form | None]:
        found: tuple[Form | None, Form | None] | None = self._memo.get((t, name, dtype))
        if found is None:
            if len(self._memo) > 8192:
                self._memo.clear()
            both = forms(self._leaf_schedule(name), t, self._leaf_kind(name), self.sigma_data)
            found = self._memo[t, name, dtype] = (prepared(both[0], dtype), prepared(both[1], dtype))
        return found

    def _form(self, which: int, t: Any, name: str | None, dtype: torch.dtype) -> Form:
        if t.__class__ is float:
            found = self._forms_at(t, name, dtype)
        else:
            found = forms(self._leaf_schedule(name), t, self._leaf_kind(name), self.sigma_data)
        form = found[which]
        if form is None:
            if which == 0:
                raise ValueError(
                    f"t={t} has alpha = 0: a noise prediction says nothing about the data there; start at a smaller t, "
                    "or use a network that predicts data, velocity or flow"
                )
            raise ValueError(
                f"t={t} has sigma = 0: there is no noise to derive from a data prediction; stop at a larger t"
            )
        return form

    def convert(self, which: int, x: Tree, t: Any, raw: Tree, reference: Tree | None) -> Tree:
        """The data (`which` = 0) or the noise (1) from the raw output, projected onto the space."""
        if self._direct and x.__class__ is Tensor:
            out: Tree = apply(self._form(which, t, None, raw.dtype), x, raw, reference)
        elif isinstance(x, dict):
            out = {
                name: self._convert(which, x[name], t, raw[name], None if reference is None else reference[name], name)
                for name in x
            }
        else:
            out = self._convert(which, x, t, raw, reference, None)
        return out if self.space is None else self.space.project(out)

    def _convert(self, which: int, x: Tensor, t: Any, raw: Tensor, y: Tensor | None, name: str | None) -> Tensor:
        if self._leaf_kind(name) == "residual":
            self._check_shape(raw, x, name)
            residual, noise = raw.chunk(2, dim=1)
            if which == 1:
                return noise
            schedule = self._leaf_schedule(name)
            b, s = schedule.beta(t), schedule.sigma(t)
            if isinstance(b, float):
                return x - b * residual - s * noise
            return x - expand(b, x) * residual - expand(s, x) * noise
        return apply(self._form(which, t, name, raw.dtype), x, raw, y)

    def _label_value(self, t: Any) -> Any:
        label, schedule = self.label, self.schedule
        if callable(label):
            return label(schedule, t)
        clock = schedule.leaves[schedule.clock_leaf] if isinstance(schedule, ProductSchedule) else schedule
        if label == "time":
            return 1000.0 * t
        if label in ("index", "integer"):
            if not isinstance(clock, DiscreteBetas):
                raise ValueError(f'label="{label}" needs a DiscreteBetas schedule, got {clock!r}; use label="time"')
            index = t * clock.num_steps - 1.0
            return index if label == "index" else _whole(index, clock.num_steps)
        return -clock.clock(t) / 4.0

    def _label_of(self, t: float, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        key = (t, size, dtype, device)
        label = self._memo.get(key)
        if label is None or label._version:  # a network may have written into the one that it was given
            with torch.inference_mode(False):  # a label made here may meet autograd later
                kind = torch.long if self.label == "integer" else dtype
                label = self._memo[key] = torch.full((size,), self._label_value(t), dtype=kind, device=device)
        return label

    def _label(self, t: Any, x: Tree) -> Tensor:
        leaf = x if x.__class__ is Tensor else leaves(x)[0]
        if t.__class__ is float:
            return self._label_of(t, leaf.shape[0], leaf.dtype, leaf.device)
        return self._label_value(t).to(device=leaf.device, dtype=torch.long if self.label == "integer" else leaf.dtype)

    def _check_time(self, t: Any, x: Tree) -> Any:
        if isinstance(t, Tensor):
            if not t.is_floating_point():
                raise TypeError(
                    f"t is a continuous time in [0, 1], got a tensor of {t.dtype}; an index i of T is (i + 1) / T"
                )
            shape = leaves(x)[0].shape
            if t.ndim > 2 or tuple(t.shape) != tuple(shape[: t.ndim]):
                raise ValueError(f"t must have shape (), (B,) or (B, L) = {tuple(shape[:2])}, got {tuple(t.shape)}")
            if t.ndim == 0:
                return self._check_time(float(t), x)
            if t.ndim == 2 and self.space is not None and not self.space.elementwise:
                raise ValueError(
                    f"one time an element would leave {self.space!r}; give one time a sample, of shape (B,)"
                )
            self.schedule.check_time(t)
            return t.double()
        if isinstance(t, bool) or not isinstance(t, float | int):
            raise TypeError(f"t is a float or a tensor, got {type(t).__name__}")
        low, high = self.schedule.domain
        if not low <= t <= high:
            hint = "; times are continuous, an index i of T is (i + 1) / T" if isinstance(t, int) else ""
            raise ValueError(f"t={t} lies outside the schedule's times [{low}, {high}]{hint}")
        return float(t)

    def __call__(
        self,
        x: Tree,
        t: Any,
        *,
        reference: Tree | None = None,
        label: Tensor | None = None,
        state: Any = None,
        **condition: Any,
    ) -> Prediction:
        """Ask the network about `x` at time `t`.

        Args:
            x: states (B, ...), or a dictionary of leaves.
            t: a float, or a tensor of shape (), (B,) or (B, L) (one time an element).
            reference: the known y of restoration schedules, of the shape of x.
            label: what the network is told instead of the label of `t`, (B,) or (B, L).
            state: the run's state, for guidance that keeps accumulators; ignored here.
            condition: passed to the network by name.

        Raises:
            TypeError, ValueError: for times outside the schedule, integer times, labels that do not fit the
                state or the network, and for outputs whose shape is not that of the state.
        """
        if t.__class__ is not float or not 0.0 <= t <= 1.0:
            t = self._check_time(t, x)
        if label is None:
            label = self._label(t, x)
        else:
            self._check_label(label, x)
        raw = self.network(x, label, **condition) if self._direct else self._run(x, t, label, condition)
        if x.__class__ is Tensor and raw.__class__ is Tensor and raw.shape == x.shape:
            if raw.dtype is not x.dtype:  # states keep their type
                raw = raw.to(x.dtype)
        else:
            self._check_leaves(raw, x)
            raw = tree_map(lambda r, leaf: r.to(leaf.dtype), raw, x)
        return Prediction(self, x, t, raw, reference)

    def _check_label(self, label: Any, x: Tree) -> None:
        shape = leaves(x)[0].shape
        if not isinstance(label, Tensor) or label.ndim not in (1, 2) or label.shape != shape[: label.ndim]:
            came = tuple(label.shape) if isinstance(label, Tensor) else type(label).__name__
            raise ValueError(f"label must be a tensor of shape (B,) or (B, L) = {tuple(shape[:2])}, got {came}")
        if self.label in ("time", "log_sigma") and not label.is_floating_point():
            raise TypeError(f"the network is told a continuous label ({self.label!r}), got a tensor of {label.dtype}")

    def _check_leaves(self, raw: Tree, x: Tree) -> None:
        if isinstance(x, dict):
            if not isinstance(raw, dict) or set(raw) != set(x):
                came = sorted(raw) if isinstance(raw, dict) else type(raw).__name__
                raise ValueError(f"the network must return a dictionary with leaves {sorted(x)}, got {came}")
            for name in x:
                self._check_shape(raw[name], x[name], name)
        else:
            self._check_shape(raw, x, None)

    def _check_shape(self, raw: Any, x: Tensor, name: str | None) -> None:
        heads = 2 if self._leaf_kind(name) == "residual" else 1
        shape = (x.shape[0], heads * x.shape[1], *x.shape[2:]) if heads == 2 else tuple(x.shape)
        if not isinstance(raw, Tensor) or tuple(raw.shape) != shape:
            came = tuple(raw.shape) if isinstance(raw, Tensor) else type(raw).__name__
            what = f"two heads of the state's shape, stacked: {shape}" if heads == 2 else f"the state's shape {shape}"
            raise ValueError(f"{'' if name is None else f'leaf {name!r}: '}the network must return {what}, got {came}")

    def _run(self, x: Tree, t: Any, label: Tensor, condition: dict[str, Any]) -> Tree:
        schedule = self.schedule
        if schedule.basis is not None:
            basis = schedule.basis
            return basis.forward(self._network(basis.inverse(x), t, label, condition))
        return self._network(x, t, label, condition)

    def _network(self, x: Tree, t: Any, label: Tensor, condition: dict[str, Any]) -> Tree:
        if self.prediction == "edm" or isinstance(self.prediction, dict):
            x = self._scaled(x, t)
        if self.half is None:
            return self.network(x, label, **condition)
        leaf = leaves(x)[0]
        with torch.autocast(leaf.device.type, dtype=self.half):
            raw = self.network(x, label, **condition)
        return tree_map(lambda r: r.to(leaf.dtype), raw)

    def _scaled(self, x: Tree, t: Any) -> Tree:
        """EDM's c_in: unit variance at the network's input, for the leaves that predict so."""

        def scale(x: Tensor, name: str | None) -> Tensor:
            if self._leaf_kind(name) != "edm":
                return x
            schedule = self._leaf_schedule(name)
            a, s = schedule.alpha(t), schedule.sigma(t)
            m = sqrt(s * s + a * a * self.sigma_data**2)
            return x / (m if isinstance(m, float) else expand(m, x))

        return {name: scale(leaf, name) for name, leaf in x.items()} if isinstance(x, dict) else scale(x, None)

    # -- training --------------------------------------------------------------------------------
    def add_noise(self, x0: Tree, noise: Tree, t: Any, reference: Tree | None = None) -> Tree:
        """x = alpha(t) x0 + beta(t) y + sigma(t) noise, for t (), (B,) or (B, L)."""
        t = self._check_time(t, x0)

        def leaf(schedule: Schedule, x0: Tensor, n: Tensor, y: Tensor | None) -> Tensor:
            a, b, s = (_coef(c, x0) for c in (schedule.alpha(t), schedule.beta(t), schedule.sigma(t)))
            x = a * x0 + s * n
            return x if y is None else x + b * y

        return self.leafwise(leaf, x0, noise, reference)

    def target(self, x0: Tree, noise: Tree, t: Any, reference: Tree | None = None) -> Tree:
        """What the raw output should be for `x = add_noise(x0, noise, t)`.

        Raises:
            ValueError: for "flow" and "residual" schedules without the reference they need.
        """
        t = self._check_time(t, x0)
        if isinstance(x0, dict):
            return {
                name: self._target(x0[name], noise[name], t, None if reference is None else reference[name], name)
                for name in x0
            }
        return self._target(x0, noise, t, reference, None)

    def _target(self, x0: Tensor, n: Tensor, t: Any, y: Tensor | None, name: str | None) -> Tensor:
        kind, schedule = self._leaf_kind(name), self._leaf_schedule(name)
        if kind == "noise":
            return n
        if kind == "data":
            return x0
        if kind == "residual":
            if y is None:
                raise ValueError("a residual prediction is trained with a reference (the degraded data y), got None")
            return torch.cat([y - x0, n], dim=1)
        a, s = (_coef(c, x0) for c in (schedule.alpha(t), schedule.sigma(t)))
        if kind == "velocity":
            return a * n - s * x0
        if kind == "flow":
            da, db, ds = (_coef(c, x0) for c in schedule.derivatives(t))
            u = da * x0 + ds * n
            return u if y is None else u + db * y
        # edm: F such that data(F) = x0, with z = alpha x0 + sigma n
        sd = self.sigma_data
        m = sqrt(s * s + a * a * sd * sd)
        return (s * x0 - sd * sd * a * n) / (sd * m)

    def noise_of(self, x: Tree, data: Tree, t: Any, reference: Tree | None = None) -> Tree:
        """The noise for which x = alpha data + beta y + sigma noise; zero where sigma = 0."""

        def leaf(schedule: Schedule, x: Tensor, data: Tensor, y: Tensor | None) -> Tensor:
            a, b, s = schedule.alpha(t), schedule.beta(t), schedule.sigma(t)
            z = x - _coef(a, x) * data
            if y is not None:
                z = z - _coef(b, x) * y
            if isinstance(s, float):
                return z / s if s else torch.zeros_like(z)
            s = expand(s, x)
            return torch.where(s > 0, z / s.clamp_min(torch.finfo(x.dtype).tiny), z.new_zeros(()))

        return self.leafwise(leaf, x, data, reference)

    def data_of(self, x: Tree, noise: Tree, t: Any, reference: Tree | None = None) -> Tree:
        """The data for which x = alpha data + beta y + sigma noise; where alpha = 0 there is none."""

        def leaf(schedule: Schedule, x: Tensor, noise: Tensor, y: Tensor | None) -> Tensor:
            a, b, s = schedule.alpha(t), schedule.beta(t), schedule.sigma(t)
            if isinstance(a, float) and a == 0.0:
                raise ValueError(
                    f"t={t} has alpha = 0: the noise says nothing about the data there; start at a smaller t"
                )
            z = x - _coef(s, x) * noise
            if y is not None:
                z = z - _coef(b, x) * y
            return z / _coef(a, x)

        return self.leafwise(leaf, x, noise, reference)


def _whole(index: Any, steps: int) -> Any:
    """An index that is whole, as it must be for a network that looks it up in a table."""
    near = index.round() if isinstance(index, Tensor) else float(round(index))
    off = abs(index - near)
    if float(off.max() if isinstance(off, Tensor) else off) > 1e-6:
        raise ValueError(
            f"the network is told whole indices 0..{steps - 1}, got {index} between two of them; use grids.discrete or "
            "grids.from_indices, or a sampler without inner stages"
        )
    return near if isinstance(near, Tensor) else int(near)


def check_condition(names: Iterable[str]) -> None:
    """Refuse conditions named like an argument of a denoiser itself.

    Raises:
        ValueError: naming the first one.
    """
    taken = sorted(set(names) & {"x", "t", "reference", "label", "state"})
    if taken:
        raise ValueError(
            f"condition={taken[0]!r} means something else to a denoiser; give the network another name for it"
        )


def _check_residual(schedule: Schedule) -> None:
    total = [schedule.alpha(t) + schedule.beta(t) for t in (0.25, 0.75)] if not schedule.elementwise else [0.0]
    if any(abs(c - 1.0) > 1e-6 for c in total):
        raise ValueError(
            "a residual prediction needs a schedule from the data to a reference, alpha + beta = 1, such as Residual() "
            f"or MeanReverting(); got {schedule!r}"
        )


def _coef(c: Any, like: Tensor) -> Any:
    return c if isinstance(c, float) else expand(c, like)
