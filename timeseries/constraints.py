r"""What a forecast is steered towards: hard constraints, scenarios and rewards, all in the data's own units.

A *hard constraint* has margins g_1 .. g_m, functions of a path that are all >= 0 where it holds: y_t - lower and
upper - y_t for bounds, sum y - X for a total, tolerance - |y_total - sum y_parts| for a hierarchy. Each margin has a
*size* in the data's unit, by which it is made comparable: the scale s of the series (what the model divides its windows
by), times sqrt(n) for a sum of n steps. A *reward* is any function of a path, on the scale of a log-weight.

Most constraints speak of one series at a time. A *joint* one (a hierarchy, a scenario over all series) needs the paths
of all series together.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Aggregate", "Bounds", "Capacity", "Constraint", "NonNegative", "Reward", "Scenario", "Steering", "Total"]

Limit = float | Sequence[float] | np.ndarray | Mapping[Any, Any]


class Steering:
    """Base class: something that says which paths are wanted.

    Paths come as float64 (B, h), with the index of their series (B,); where `joint`, as (B, series, h).

    Attributes:
        joint: whether it speaks of all series together.
    """

    joint: bool = False

    @property
    def label(self) -> str:
        """How messages name it."""
        return repr(self)

    def check(self, ids: tuple[Any, ...], h: int) -> None:
        """Refuse what does not fit the series and the horizon."""


class Constraint(Steering):
    """Base class of hard constraints."""

    def margins(self, y: np.ndarray, rows: np.ndarray, ids: tuple[Any, ...]) -> np.ndarray:
        """(B, m), all >= 0 where the constraint holds."""
        raise NotImplementedError

    def sizes(self, scale: np.ndarray, rows: np.ndarray, ids: tuple[Any, ...], h: int) -> np.ndarray:
        """The size of each margin, broadcast to (B, m); `scale` (series,)."""
        return scale[rows][:, None]

    def project(self, y: np.ndarray, rows: np.ndarray, ids: tuple[Any, ...], scale: np.ndarray) -> np.ndarray:
        """The nearest paths that satisfy it.

        Raises:
            ValueError: there is no such formula.
        """
        raise ValueError(
            f"{self.label} has no projection: it can be met by walkers alone (on_violation='raise' or 'warn')"
        )


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or math.isnan(value):
        raise ValueError(f"{name} must be a number, got {value!r}")
    return float(value)


def _limits(limit: Limit | None, ids: tuple[Any, ...], h: int, free: float, what: str) -> np.ndarray:
    """(series, h) limits; `free` where there is none."""
    out = np.full((len(ids), h), free)
    if limit is None:
        return out
    if isinstance(limit, Mapping):
        foreign = [u for u in limit if u not in set(ids)]
        if foreign:
            raise ValueError(f"{what} names series that are not forecast: {foreign[:5]}; there are {list(ids)[:20]}")
        parts = [(i, limit[u]) for i, u in enumerate(ids) if u in limit]
    else:
        parts = [(i, limit) for i in range(len(ids))]
    for i, value in parts:
        try:
            array = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{what} must be a number, {h} numbers or a mapping of series to those") from error
        if array.shape not in ((), (h,)) or np.isnan(array).any():
            raise ValueError(
                f"{what} of series {ids[i]!r} must be one number or {h} (one a step), none of them NaN; got shape "
                f"{array.shape}"
            )
        out[i] = array
    return out


@dataclass(frozen=True, eq=False)
class Bounds(Constraint):
    """lower <= y_t <= upper at every step.

    Args:
        lower, upper: in the data's unit: a number, h numbers (one a step), or a mapping from series to either, which
            leaves the others free. None: no bound.
    """

    lower: Limit | None = None
    upper: Limit | None = None

    def __post_init__(self) -> None:
        if self.lower is None and self.upper is None:
            raise ValueError(f"{type(self).__name__} bounds nothing: give lower= or upper=")

    @property
    def label(self) -> str:
        def short(v: Any) -> Any:
            return v if isinstance(v, int | float) else "..."

        low = "" if self.lower is None else f"{short(self.lower)} <= "
        return f"{low}y" + ("" if self.upper is None else f" <= {short(self.upper)}")

    def _both(self, ids: tuple[Any, ...], h: int) -> tuple[np.ndarray, np.ndarray]:
        low = _limits(self.lower, ids, h, -np.inf, "lower")
        return low, _limits(self.upper, ids, h, np.inf, "upper")

    def check(self, ids: tuple[Any, ...], h: int) -> None:
        """Refuse bounds that cross."""
        low, high = self._both(ids, h)
        bad = (low > high).any(1)
        if bad.any():
            raise ValueError(f"the bounds of series {ids[int(bad.argmax())]!r} cross: nothing lies between them")

    def margins(self, y: np.ndarray, rows: np.ndarray, ids: tuple[Any, ...]) -> np.ndarray:
        """y - lower and upper - y, infinite where free."""
        low, high = self._both(ids, y.shape[-1])
        return np.concatenate([y - low[rows], high[rows] - y], axis=1)

    def project(self, y: np.ndarray, rows: np.ndarray, ids: tuple[Any, ...], scale: np.ndarray) -> np.ndarray:
        """Clipped paths."""
        low, high = self._both(ids, y.shape[-1])
        return np.clip(y, low[rows], high[rows])


class NonNegative(Bounds):
    """y_t >= 0 at every step of every series."""

    def __init__(self) -> None:
        super().__init__(lower=0.0)


class Capacity(Bounds):
    """y_t <= upper at every step.

    Args:
        upper: as in `Bounds`.
    """

    def __init__(self, upper: Limit) -> None:
        super().__init__(upper=upper)


@dataclass(frozen=True)
class Total(Constraint):
    """at_least <= sum of y over each window of steps <= at_most: "the weekly total is at least X".

    Args:
        at_least, at_most: in the data's unit; None: no bound.
        window: steps of a window; windows follow each other from the first step, an incomplete last one is free. None:
            the whole horizon.
    """

    at_least: float | None = None
    at_most: float | None = None
    window: int | None = None

    def __post_init__(self) -> None:
        _check_range(self)
        if self.window is not None and (isinstance(self.window, bool) or self.window < 1):
            raise ValueError(f"window is a number of steps, at least 1, got {self.window!r}")

    @property
    def label(self) -> str:
        return _range_label(self, "total" if self.window is None else f"total of {self.window} steps")

    def check(self, ids: tuple[Any, ...], h: int) -> None:
        """Refuse windows longer than the horizon."""
        if self.window is not None and self.window > h:
            raise ValueError(f"a total over {self.window} steps does not fit the horizon of {h}")

    def _sums(self, y: np.ndarray) -> np.ndarray:
        n = self.window or y.shape[-1]
        count = y.shape[-1] // n
        return y[..., : count * n].reshape(*y.shape[:-1], count, n).sum(-1)

    def margins(self, y: np.ndarray, rows: np.ndarray, ids: tuple[Any, ...]) -> np.ndarray:
        """sum - at_least and at_most - sum of each window."""
        return _range_margins(self, self._sums(y))

    def sizes(self, scale: np.ndarray, rows: np.ndarray, ids: tuple[Any, ...], h: int) -> np.ndarray:
        """sqrt(window) times the scale of the series."""
        return scale[rows][:, None] * math.sqrt(self.window or h)

    def project(self, y: np.ndarray, rows: np.ndarray, ids: tuple[Any, ...], scale: np.ndarray) -> np.ndarray:
        """What lacks or exceeds is spread evenly over the steps of the window."""
        n, sums = self.window or y.shape[-1], self._sums(y)
        change = np.clip(sums, self.at_least, self.at_most) - sums
        out = y.copy()
        out[..., : sums.shape[-1] * n] += np.repeat(change / n, n, axis=-1)
        return out


@dataclass(frozen=True)
class Scenario(Constraint):
    """at_least <= function(path) <= at_most, for any function of a path.

    Args:
        function: of paths float64 (B, h), or of (paths, ids) with the ids (B,) of their series, to B numbers; where
            `joint`, of paths (B, series, h), or of (paths, ids) with the ids of the series. It need not be
            differentiable.
        at_least, at_most: None: no bound.
        name: for messages.
        joint: whether the function takes all series at once.
        size: a typical change of the function, in its own unit, which says how much a miss weighs on the way (not at
            the end); by default the scale of the series (their mean, where joint).
    """

    function: Callable[..., Any]
    at_least: float | None = None
    at_most: float | None = None
    name: str = "scenario"
    joint: bool = False
    size: float | None = None

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"the function of a scenario must be callable, got {type(self.function).__name__}")
        _check_range(self)
        if self.size is not None and not (0 < _number(self.size, "size") < math.inf):
            raise ValueError(f"size must be positive and finite, got {self.size}")

    @property
    def label(self) -> str:
        return _range_label(self, self.name)

    def margins(self, y: np.ndarray, rows: np.ndarray, ids: tuple[Any, ...]) -> np.ndarray:
        """function - at_least and at_most - function."""
        return _range_margins(self, _asked(self.function, y, rows, ids, self.joint, self.name)[:, None])

    def sizes(self, scale: np.ndarray, rows: np.ndarray, ids: tuple[Any, ...], h: int) -> np.ndarray:
        """`size`, or the scale of the series."""
        if self.size is not None:
            return np.full((1, 1), self.size)
        return np.full((1, 1), scale.mean()) if self.joint else scale[rows][:, None]


@dataclass(frozen=True)
class Aggregate(Constraint):
    """A hierarchy: y_total = sum of y_parts at every step, to a tolerance. A joint constraint.

    An equality is met by no particle: what is asked of them is to come within the tolerance, all steps and series at
    once, which becomes unlikely fast as the hierarchy grows (`Forecast.info["steering"]` says how likely).
    ``on_violation="project"`` makes the sums exact.

    Args:
        total: series.
        parts: the series that add up to it.
        tolerance: in the data's unit; by default a tenth of the scale of the total.
    """

    total: Any
    parts: tuple[Any, ...]
    tolerance: float | None = None
    _slack: float = field(default=0.0, repr=False)
    joint = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        if not self.parts or len(set(self.parts)) < len(self.parts) or self.total in self.parts:
            raise ValueError(f"a hierarchy needs distinct parts beside its total, got {self.total!r} and {self.parts}")
        if self.tolerance is not None and not (0 < _number(self.tolerance, "tolerance") < math.inf):
            raise ValueError(f"tolerance must be positive and finite, got {self.tolerance}")

    @property
    def label(self) -> str:
        return f"{self.total!r} = " + " + ".join(repr(u) for u in self.parts)

    def check(self, ids: tuple[Any, ...], h: int) -> None:
        """Refuse series that are not forecast, or forecast several times."""
        lacking = [u for u in (self.total, *self.parts) if u not in set(ids)]
        if lacking:
            raise ValueError(f"the hierarchy names series that are not forecast: {lacking}; there are {list(ids)[:20]}")
        if len(set(ids)) < len(ids):
            raise ValueError("a hierarchy needs every series once; forecast one window at a time")

    def _weights(self, ids: tuple[Any, ...]) -> np.ndarray:
        w = np.zeros(len(ids))
        w[ids.index(self.total)] = 1.0
        w[[ids.index(u) for u in self.parts]] = -1.0
        return w

    def margins(self, y: np.ndarray, rows: np.ndarray, ids: tuple[Any, ...]) -> np.ndarray:
        """tolerance - |y_total - sum y_parts|."""
        return self._slack - np.abs(np.einsum("bnh,n->bh", y, self._weights(ids)))

    def scaled(self, ids: tuple[Any, ...], scale: np.ndarray) -> Aggregate:
        """The same with its tolerance in numbers."""
        slack = 0.1 * float(scale[ids.index(self.total)]) if self.tolerance is None else self.tolerance
        return Aggregate(self.total, self.parts, self.tolerance, slack)

    def sizes(self, scale: np.ndarray, rows: np.ndarray, ids: tuple[Any, ...], h: int) -> np.ndarray:
        """The root of the sum of the squared scales of total and parts."""
        return np.full((1, 1), math.sqrt(float((scale**2) @ self._weights(ids) ** 2)))

    def project(self, y: np.ndarray, rows: np.ndarray, ids: tuple[Any, ...], scale: np.ndarray) -> np.ndarray:
        """The nearest paths whose sums are exact, series weighted by 1 / scale^2 (reconciliation by least squares)."""
        w = self._weights(ids)
        give = scale**2 * w
        return y - np.einsum("bh,n->bnh", np.einsum("bnh,n->bh", y, w), give / (w @ give))


@dataclass(frozen=True)
class Reward(Steering):
    """A wish: paths of law p are tilted to p exp(weight function).

    Args:
        function: as in `Scenario`; larger is better, on the scale of a log-weight, finite.
        weight: lambda.
        name: for messages.
        joint: whether it takes all series at once.
    """

    function: Callable[..., Any]
    weight: float = 1.0
    name: str = "reward"
    joint: bool = False

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"a reward must be callable, got {type(self.function).__name__}")
        if not math.isfinite(_number(self.weight, "weight")):
            raise ValueError(f"weight must be finite, got {self.weight}")

    @property
    def label(self) -> str:
        return f"{self.weight:g} x {self.name}"

    def __call__(self, y: np.ndarray, rows: np.ndarray, ids: tuple[Any, ...]) -> np.ndarray:
        """(B,) log-weights."""
        return self.weight * _asked(self.function, y, rows, ids, self.joint, self.name)


def _check_range(c: Total | Scenario) -> None:
    for name in ("at_least", "at_most"):
        if getattr(c, name) is not None:
            _number(getattr(c, name), name)
    if c.at_least is None and c.at_most is None:
        raise ValueError(f"{type(c).__name__} asks for nothing: give at_least= or at_most=")
    if c.at_least is not None and c.at_most is not None and c.at_least > c.at_most:
        raise ValueError(f"at_least={c.at_least} is above at_most={c.at_most}: nothing lies between them")


def _range_label(c: Total | Scenario, name: str) -> str:
    low = "" if c.at_least is None else f"{c.at_least:g} <= "
    return f"{low}{name}" + ("" if c.at_most is None else f" <= {c.at_most:g}")


def _range_margins(c: Total | Scenario, v: np.ndarray) -> np.ndarray:
    parts = [v - c.at_least] if c.at_least is not None else []
    return np.concatenate(parts + ([c.at_most - v] if c.at_most is not None else []), axis=1)


def _asked(
    function: Callable[..., Any], y: np.ndarray, rows: np.ndarray, ids: tuple[Any, ...], joint: bool, name: str
) -> np.ndarray:
    """What a user's function says of paths: float64 (B,)."""
    try:
        required = [
            p
            for p in inspect.signature(function).parameters.values()
            if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):  # built in, without a signature
        required = []
    names = np.empty(len(ids), dtype=object)
    names[:] = ids
    answer = function(y, names if joint else names[rows]) if len(required) > 1 else function(y)
    try:
        out = np.asarray(answer, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name!r} must return {len(y)} numbers, it returned a {type(answer).__name__}") from error
    if out.shape != (len(y),):
        raise ValueError(f"{name!r} must return one number a path, shape ({len(y)},), it returned {out.shape}")
    if not np.isfinite(out).all():
        raise ValueError(
            f"{name!r} returned {out[~np.isfinite(out)][0]} for {int((~np.isfinite(out)).sum())} of {len(y)} paths: "
            "give a large negative number instead of -inf, and check it on unlikely paths"
        )
    return out
