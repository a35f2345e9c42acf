r"""Processes on categories: how tokens lose their values, and what that says about the way back.

A token is one of S states. A *process* is a Markov chain on them in continuous time, the same for every token and
independent between tokens, from the data at t = 0 to a law that knows nothing of them at t = 1. In row convention,
q(x_t = y | x_s = x) = Q_{t|s}[x, y]:

    transition        Q_{t|s},   Q_{t|r} = Q_{s|r} Q_{t|s}
    rate              R_t,       d Q_{t|0} / dt = Q_{t|0} R_t          (Kolmogorov's forward equation)
    posterior         q(x_s | x_t, x_0) = q(x_t | x_s) q(x_s | x_0) / q(x_t | x_0)
    reverse rate      Rev_t[x, y | x_0] = R_t[y, x] q(y | x_0) / q(x | x_0),       y != x

A network gives p(x_0 | x_t), a distribution for each token; the *model's* posterior and reverse rate are the means of
those above under it. For a network that knows the true p(x_0 | x_t) of each token both are exact for a single token;
several tokens that move in one step are taken as independent, and that is the only error of a sampler.

Times are floats, or float64 tensors of shape (B,) or (B, L): one time a sample or a token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..schedules.maths import Scalar
from ..tree import Tree

__all__ = ["Process", "ProductProcess", "at", "level", "tiles"]


def level(c: Scalar, like: Tensor) -> Scalar:
    """A coefficient that is a float, (B,) or (B, L), so that it multiplies `like` (B, L, ..., S); float64 stays."""
    if not isinstance(c, Tensor):
        return c
    return c.reshape(*c.shape, *[1] * (like.ndim - c.ndim)).to(like.device)


TILE = 1 << 18
"""Probabilities that are worked on at a time on a CPU, so that what is made of them stays in its caches."""

Index = Any
"""Chooses among the tokens (B, L, ...): a boolean tensor of their shape, slices of the first dimensions, or indices."""


def at(c: Scalar | None, which: Index, shape: tuple[int, ...]) -> Scalar | None:
    """A coefficient (a float, (B,) or (B, L)) or another value of the tokens `which` out of a tensor of this shape.

    Slices keep the dimensions that it has; other choices return one number a token, (M,).
    """
    if not isinstance(c, Tensor) or c.ndim == 0:
        return c
    if isinstance(which, tuple) and isinstance(which[0], slice):
        return c[tuple(w if n > 1 else slice(None) for w, n in zip(which, c.shape, strict=False))]
    return c.reshape(*c.shape, *[1] * (len(shape) - c.ndim)).expand(*shape, *c.shape[len(shape) :])[which]


def tiles(shape: tuple[int, ...], states: int, device: torch.device) -> Iterator[tuple[slice, ...]]:
    """Slices of the first two of the tokens' dimensions, of about `TILE` probabilities each, in order."""
    room = max(1, (TILE if device.type == "cpu" else 256 * TILE) // (states * math.prod(shape[2:]) or 1))
    columns = shape[1] if len(shape) > 1 else 1
    height = max(1, room // max(columns, 1))
    for i in range(0, shape[0], height):
        if len(shape) == 1:
            yield (slice(i, i + height),)
        else:
            for j in range(0, columns, room):
                yield slice(i, i + height), slice(j, j + room)


@dataclass(frozen=True)
class Process:
    """Base of all processes: frozen dataclasses, hashable, comparable by value.

    Attributes:
        states: S, number of token ids, 0..S-1; a mask is one of them.
        mask_id: the id that stands for "no value", or None.
    """

    states: int

    family: ClassVar[Literal["categorical"]] = "categorical"
    domain: ClassVar[tuple[float, float]] = (0.0, 1.0)
    basis: ClassVar[None] = None
    elementwise: ClassVar[bool] = False
    t_start: ClassVar[float] = 1.0
    mask_id = None

    def __post_init__(self) -> None:
        states: Any = self.states
        if isinstance(states, bool) or not isinstance(states, int) or states < 2:
            hint = "; padded sequences have the space core.Masked(mask)" if isinstance(states, Tensor) else ""
            came = type(states).__name__ if hint else repr(states)
            raise ValueError(f"a process needs at least 2 states, got states={came}{hint}")

    # ------------------------------------------------------------------ what a subclass states
    def corrupt(self, x0: Tensor, t: Scalar, u: Tensor) -> Tensor:
        """x_t given x_0.

        Args:
            x0: token ids (B, ...), long.
            t: a float, (B,) or (B, L).
            u: uniforms of the shape of x0, float64.
        """
        raise NotImplementedError

    def marginal(self, t: float) -> Tensor:
        """Q_{t|0}, the law of x_t in rows for each x_0: (S, S), float64."""
        raise NotImplementedError

    def transition(self, s: float, t: float) -> Tensor:
        """Q_{t|s} for s <= t: (S, S), float64."""
        raise NotImplementedError

    def rate(self, t: float) -> Tensor:
        """R_t, the generator of the forward process: (S, S), float64; rows sum to zero."""
        raise NotImplementedError

    def forward_rate(self, x: Tensor, t: Scalar) -> Tensor:
        """R_t[x, y] of each token for every y != x, and zero at y = x: (..., S), float64.

        Args:
            x: x_t (...), long.
            t: a float, (B,) or (B, L).
        """
        raise NotImplementedError

    def prior(self) -> Tensor:
        """The law from which sampling starts, that of a token at t = 1: (S,), float64."""
        raise NotImplementedError

    def log_probs(self, logits: Tensor, x: Tensor) -> Tensor:
        """log p(x_0 | x_t) from a network's raw output: what is impossible gets -inf, and the rest sums to one.

        Args:
            logits: (..., S).
            x: x_t (...), long.
        """
        raise NotImplementedError

    def log_posterior(self, log_p: Tensor, x: Tensor, s: Scalar, t: Scalar) -> Tensor:
        """log of sum_{x_0} q(x_s | x_t, x_0) p(x_0): (..., S).

        Args:
            log_p: log p(x_0 | x_t), (..., S).
            x: x_t (...), long.
            s, t: times s < t.
        """
        raise NotImplementedError

    def reverse_rate(self, log_p: Tensor, x: Tensor, t: Scalar) -> Tensor:
        """sum_{x_0} Rev_t[x_t, y | x_0] p(x_0) for every y != x_t, and zero at y = x_t: (..., S)."""
        raise NotImplementedError

    def draw(self, log_p: Tensor, x: Tensor, s: Scalar, t: Scalar, u: Tensor, tilt: Tensor | None = None) -> Tensor:
        """x_s given x_t: one draw from the model's posterior a token.

        Args:
            log_p: log p(x_0 | x_t), (..., S), or a function (index) -> rows of it, since in many processes few tokens
                move; an index is a boolean tensor (...), a tuple of slices, or one of index tensors.
            x: x_t (...), long.
            s, t: times s < t.
            u: uniforms (...), float64.
            tilt: log-weights of the outcomes, (..., S), by which the posterior is multiplied.
        """
        raise NotImplementedError

    # ------------------------------------------------------------------ what follows
    def beta(self, t: Scalar) -> float:
        """Weight of a known reference in the state: none."""
        return 0.0

    def local(self, t: Scalar, reference: Tensor | None) -> Scalar:
        """The time as each token sees it; another one only where tokens have priorities."""
        return t

    def check_time(self, t: Any) -> None:
        """Refuse times outside of [0, 1], and what is no time.

        Raises:
            TypeError, ValueError: naming the time.
        """
        if isinstance(t, Tensor):
            if not t.is_floating_point():
                raise TypeError(f"t is a continuous time in [0, 1], got a tensor of {t.dtype}")
            bad = t[~((t >= 0.0) & (t <= 1.0))]
            if bad.numel():
                raise ValueError(f"time {float(bad.flatten()[0])} is outside [0, 1] of {self!r}")
            return
        if isinstance(t, bool) or not isinstance(t, int | float):
            raise TypeError(f"a time is a float or a floating-point tensor, got {type(t).__name__}")
        if not 0.0 <= t <= 1.0:
            raise ValueError(f"time {t} is outside [0, 1] of {self!r}")

    def check(self, x: Tensor, what: str = "tokens") -> None:
        """Refuse what are no token ids of this process.

        Raises:
            TypeError: for a type other than the integers.
            ValueError: for empty sequences and for ids out of range; the message names the first one and its place.
        """
        if x.dtype not in (torch.long, torch.int32, torch.int16, torch.uint8):
            raise TypeError(f"{what} are integer ids 0..{self.states - 1}, got a tensor of {x.dtype}")
        if x.ndim < 2 or x.numel() == 0:
            raise ValueError(f"{what} have shape (B, L, ...) with at least one token, got {tuple(x.shape)}")
        bad = ((x < 0) | (x >= self.states)).nonzero()
        if len(bad):
            place = tuple(bad[0].tolist())
            raise ValueError(
                f"token {int(x[place])} at {place} is out of range: {self!r} has the ids 0..{self.states - 1} "
                f"({len(bad)} such tokens)"
            )


class ProductProcess:
    """One process a leaf of the state, all at the same time t: nodes and edges of a graph, streams of music.

    Args:
        **leaves: a process for each leaf.

    Raises:
        TypeError, ValueError: without leaves, or for leaves that are no processes.
    """

    family: Literal["categorical"] = "categorical"
    domain = (0.0, 1.0)
    basis = None
    elementwise = False
    t_start = 1.0

    def __init__(self, **leaves: Process) -> None:
        if not leaves:
            raise ValueError("ProductProcess needs at least one leaf, as in ProductProcess(X=Uniform(4), A=Uniform(3))")
        for name, leaf in leaves.items():
            if not isinstance(leaf, Process):
                raise TypeError(f"leaf {name!r} must be a Process, got {type(leaf).__name__}")
        self.leaves = dict(leaves)
        self.clock_leaf = next(iter(leaves))

    def __hash__(self) -> int:
        return hash(tuple(sorted(self.leaves.items(), key=lambda item: item[0])))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProductProcess) and self.leaves == other.leaves

    def __repr__(self) -> str:
        return f"ProductProcess({', '.join(f'{name}={leaf!r}' for name, leaf in self.leaves.items())})"

    def check_time(self, t: Any) -> None:
        """See `Process.check_time`."""
        next(iter(self.leaves.values())).check_time(t)

    def check(self, x: Tree, what: str = "tokens") -> None:
        """See `Process.check`."""
        for name, leaf in self.leaves.items():
            leaf.check(x[name], f"{what} of leaf {name!r}")


def leafwise(process: Process | ProductProcess, function: Callable[..., Any], first: Tree, *rest: Tree | None) -> Tree:
    """`function(process of the leaf, leaf of each argument)`, leaf by leaf."""
    if isinstance(process, ProductProcess):
        return {
            name: function(leaf, first[name], *(None if r is None else r[name] for r in rest))
            for name, leaf in process.leaves.items()
        }
    return function(process, first, *rest)
