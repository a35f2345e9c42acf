r"""Conditional probability paths with rates of least kinetic energy: any p_t(x | x_0) that becomes x_0 at t = 0.

N. Shaul et al., "Flow matching with general discrete paths: a kinetic-optimal perspective", ICLR 2025. The paper's time
runs from noise to data: it is 1 - t here, and a dot means its derivative, so that d/dt = -dot.

A path states where a token is, not how it moves: no joint law of x_s and x_t, hence no posterior, only rates. Walking
to the data, a flux j(y, x) >= 0 from x to y must transport the path,

    p_dot(y) = sum_x j(y, x) - j(x, y).

Of all of them take the one of least energy E = sum_{x != y} j(y, x)^2 / (p(x) p(y)). With multipliers f its condition
is j(y, x) = p(x) p(y) [f(y) - f(x)]_+, and since sum_x p(x) p(y) (f(y) - f(x)) = p(y) (f(y) - sum_x p(x) f(x)), the
constraint holds for f = p_dot / p:

    j(y, x) = [p(x) p_dot(y) - p_dot(x) p(y)]_+,         u(x -> y | x_0) = j(y, x) / p(x),        E = sum_x p_dot^2 / p.

E is four times the squared speed of sqrt(p) on the sphere. Between p_0 and one token x_0, at the angle Om with
cos Om = sqrt(p_0(x_0)), the path of least energy is therefore the great circle, sqrt(p) = [sin(t Om) sqrt(p_0) +
sin((1 - t) Om) e_{x_0}] / sin Om, with E = 4 Om^2 throughout.

*Mixture.* That circle is a mixture, p_t = (1 - k) p_0 + k delta_{x_0} with 1 - k = sin^2(t Om) / sin^2 Om; a mask has
Om = pi/2 and k = cos^2(pi t / 2) = sin^2 of the paper's time. Tokens jump straight to x_0:

    u(x -> x_0) = k_dot / (1 - k) = 2 Om cot(t Om),      and to nothing else.

*Metric.* p_t = softmax(-beta(t) d(x, x_0)), beta = c ((1 - t) / t)^a: uniform at t = 1, x_0 at t = 0, and on the way
tokens are near x_0. Here f = -beta_dot (d - mean d), so that tokens jump closer and never away:

    u(x -> y) = p_t(y | x_0) beta_dot [d(x, x_0) - d(y, x_0)]_+.

The model's rate is the mean of u over p(x_0 | x_t). With the exact p(x_0 | x_t) its chain has the right marginals and
ends in the law of the data. But the rates given x_0 are not the reversal of one chain for all x_0 (where a token has
been says more about x_0 than where it is), so that likelihood bounds are not tight: see `losses`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

import torch
from torch import Tensor

from ..schedules import maths as m
from ..schedules.maths import Scalar
from .categorical import BLOCK, categorical
from .certain import certain
from .interpolating import REACHED
from .keep import Keep, keep_of
from .process import Process, level

__all__ = ["MetricPath", "MixturePath", "TokenPath", "kinetic_energy"]

HUGE = 1e150
"""Stands for infinity in beta and its derivative at t = 0: products with zero stay zero."""

LEAST = 1e-250
"""Smallest mean of rates whose logarithm is taken: its inverse times what rates are is a number, too."""


@dataclass(frozen=True)
class TokenPath(Process):
    """Base of paths that are stated by p_t(x | x_0) alone; sampled with `Euler` and `TauLeaping`."""

    # ------------------------------------------------------------------ what a path states
    def log_rows(self, x0: Tensor, t: Scalar) -> Tensor:
        """log p_t(. | x_0) of tokens x0 (...): (..., S), float64. t is a float, (B,) or (B, L)."""
        raise NotImplementedError

    def derivative(self, t: float) -> Tensor:
        """d marginal / dt in rows for each x_0: (S, S), float64."""
        raise NotImplementedError

    def conditional_rate(self, x0: Tensor, x: Tensor, t: Scalar) -> Tensor:
        """u(x -> y | x_0) for every y, zero at y = x: (..., S), float64; of order S for each token.

        Args:
            x0, x: token ids (...), long.
            t: a float, (B,) or (B, L).
        """
        raise NotImplementedError

    def log_reverse_rate(self, log_p: Tensor, x: Tensor, t: Scalar) -> Tensor:
        """log of `reverse_rate`, -inf where that is zero: (..., S), float64.

        Rates of confident predictions are too small for float32; here what matters of them is left.
        """
        raise NotImplementedError

    # ------------------------------------------------------------------ what follows
    def conditional_jumps(self, x0: Tensor, x: Tensor, s: Scalar, t: Scalar) -> Tensor:
        """Expected number of jumps x -> y from t to s, with what changes slowly held at its value at t: (..., S)."""
        rate = self.conditional_rate(x0, x, t)
        return rate * level(t - s, rate)

    def reverse_jumps(self, log_p: Tensor, x: Tensor, s: Scalar, t: Scalar) -> Tensor:
        """The mean of `conditional_jumps` over p(x_0 | x_t), (..., S)."""
        rate = self.reverse_rate(log_p, x, t)
        return rate * (level(t - s, rate).to(rate) if isinstance(t - s, Tensor) else t - s)

    def marginal(self, t: float) -> Tensor:
        return self.log_rows(torch.arange(self.states), t).exp()

    def corrupt(self, x0: Tensor, t: Scalar, u: Tensor) -> Tensor:
        return categorical(self.log_rows(x0, t), u).to(x0.dtype)

    def log_probs(self, logits: Tensor, x: Tensor) -> Tensor:
        return logits.log_softmax(-1)

    # ------------------------------------------------------------------ what a path leaves open
    def _no_joint(self, what: str) -> NoReturn:
        raise ValueError(
            f"{type(self).__name__} states where a token is at each time, not a joint law of two times: it has no "
            f"{what}; sample it with Euler() or TauLeaping(), which need rates only"
        )

    def transition(self, s: float, t: float) -> Tensor:
        """None: raises a ValueError."""
        self._no_joint("transition")

    def rate(self, t: float) -> Tensor:
        """None: raises a ValueError."""
        self._no_joint("forward rate")

    def log_posterior(self, log_p: Tensor, x: Tensor, s: Scalar, t: Scalar) -> Tensor:
        """None: raises a ValueError."""
        self._no_joint("posterior")

    def draw(self, log_p: Any, x: Tensor, s: Scalar, t: Scalar, u: Tensor, tilt: Tensor | None = None) -> Tensor:
        """None: raises a ValueError."""
        self._no_joint("posterior to draw from")


@dataclass(frozen=True)
class MixturePath(TokenPath):
    """p_t(. | x_0) = (1 - k) p_0 + k delta_{x_0}, by default with the k of least kinetic energy, one a data token.

    The marginals with a common k are those of `Marginal` and `Uniform`, which also stir the noise on the way back; here
    a token jumps to its value and nowhere else.

    Args:
        probs: p_0, the law at t = 1: S numbers >= 0, of which two are positive; normalised here.
        keep: None for the optimal k, or a schedule of `core.discrete.keep` (or its name) whose alpha is k.

    Raises:
        ValueError: for numbers that are no law, and for a law of one state, which is a mask: use `Masked`.
    """

    states: int = 0
    probs: tuple[float, ...] = ()
    keep: Keep | str | None = None

    def __post_init__(self) -> None:
        probs = tuple(float(p) for p in self.probs)
        if not all(math.isfinite(p) and p >= 0.0 for p in probs) or sum(probs) <= 0.0:
            raise ValueError(f"probs are the prior's probabilities, finite and >= 0, not all zero; got {probs}")
        if sum(p > 0.0 for p in probs) == 1:
            raise ValueError(
                f"a prior of one state is a mask: use Masked({len(probs)}, keep='cosine_squared'), the same path"
            )
        total = sum(probs)
        object.__setattr__(self, "probs", tuple(p / total for p in probs))
        object.__setattr__(self, "states", len(probs))
        object.__setattr__(self, "keep", None if self.keep is None else keep_of(self.keep))
        super().__post_init__()
        if isinstance(self.keep, Keep) and float(self.keep.alpha(1.0)) > REACHED:
            raise ValueError(f"{self.keep!r} leaves {float(self.keep.alpha(1.0)):.3g} of the data at t = 1")

    @cached_property
    def _p0(self) -> Tensor:
        with torch.inference_mode(False):  # it may meet autograd later
            return torch.tensor(self.probs, dtype=torch.float64)

    @cached_property
    def _Om(self) -> Tensor:
        """Angle between the prior and each data token, (S,)."""
        with torch.inference_mode(False):
            return torch.atan2((1.0 - self._p0).sqrt(), self._p0.sqrt())

    def prior(self) -> Tensor:
        return self._p0.clone()

    def _lost(self, t: Scalar) -> tuple[Tensor, Tensor]:
        """1 - k and its derivative by t, for each data token: (S,), or (..., S) for times (...)."""
        if isinstance(self.keep, Keep):
            both = (self.keep.lost(t), self.keep.speed(t))
            lost, speed = (torch.as_tensor(c, dtype=torch.float64).unsqueeze(-1) for c in both)
            return lost.expand(*lost.shape[:-1], self.states), speed.expand(*speed.shape[:-1], self.states)
        t = torch.as_tensor(t, dtype=torch.float64).unsqueeze(-1)
        Om = self._Om.to(t.device)
        sin2 = Om.sin().square()
        return (t * Om).sin().square() / sin2, Om * (2.0 * t * Om).sin() / sin2

    def _of(self, table: Tensor, x0: Tensor) -> Tensor:
        """The entry of each token in a table (S,), (B, S) or (B, L, S)."""
        table = table.to(x0.device)
        table = table.reshape(*table.shape[:-1], *[1] * (x0.ndim + 1 - table.ndim), self.states)
        return table.expand(*x0.shape, self.states).gather(-1, x0.long().unsqueeze(-1)).squeeze(-1)

    def log_rows(self, x0: Tensor, t: Scalar) -> Tensor:
        lost, p0 = self._of(self._lost(t)[0], x0), self._p0.to(x0.device)
        rows = p0.log() + lost.log().unsqueeze(-1)
        return rows.scatter(-1, x0.long().unsqueeze(-1), torch.log1p(-lost * (1.0 - p0[x0.long()])).unsqueeze(-1))

    def derivative(self, t: float) -> Tensor:
        return self._lost(t)[1][:, None] * (self._p0 - torch.eye(self.states, dtype=torch.float64))

    def _hazard(self, t: Scalar) -> Tensor:
        """k_dot / (1 - k) for each data token, (S,) or (..., S); infinite at t = 0."""
        lost, speed = self._lost(t)
        return speed / lost

    def conditional_rate(self, x0: Tensor, x: Tensor, t: Scalar) -> Tensor:
        hazard = torch.where(x0 == x, 0.0, self._of(self._hazard(t), x0))
        out = torch.zeros((*x0.shape, self.states), dtype=torch.float64, device=x0.device)
        return out.scatter(-1, x0.long().unsqueeze(-1), hazard.unsqueeze(-1))

    def _hazards(self, t: Scalar, log_p: Tensor) -> Tensor:
        """`_hazard`, so that it multiplies (..., S); float64."""
        hazard = self._hazard(t)
        return hazard.reshape(*hazard.shape[:-1], *[1] * (log_p.ndim - hazard.ndim), self.states).to(log_p.device)

    def reverse_rate(self, log_p: Tensor, x: Tensor, t: Scalar) -> Tensor:
        return (log_p.exp() * self._hazards(t, log_p).to(log_p)).scatter(-1, x.unsqueeze(-1), 0.0)

    def log_reverse_rate(self, log_p: Tensor, x: Tensor, t: Scalar) -> Tensor:
        return (log_p.double() + self._hazards(t, log_p).log()).scatter(-1, x.unsqueeze(-1), -torch.inf)

    def log_probs(self, logits: Tensor, x: Tensor) -> Tensor:
        """A token that the prior never gives is the data's."""
        log_p = logits.log_softmax(-1)
        if min(self.probs) > 0.0:
            return log_p
        known = (self._p0.to(x.device)[x] == 0.0).unsqueeze(-1)
        return torch.where(known, certain(log_p, x), log_p)


@dataclass(frozen=True, eq=False, repr=False)
class MetricPath(TokenPath):
    """p_t(x | x_0) = softmax(-beta(t) d(x, x_0)) with beta = c ((1 - t) / t)^a: tokens come nearer, step by step.

    For states that have neighbours: intensities, bins, codes with an embedding. What is held is the table of distances,
    8 S^2 bytes.

    The mean of the rates over p(x_0 | x_t) costs of the order of S^2 for each token: a matrix (S, S) for every pair of
    time and value of x_t, which serves all tokens that share it, and S^2 exponentials for every time. So one time for a
    batch is cheapest, one a sample costs more, one a token most. Beside its result some blocks of `BLOCK` numbers are
    held, and nothing for the backward pass, which forms the matrices again. Samplers with `target="draw"` need rows
    only, of order S a token.

    A step of a sampler sees the smaller of beta_dot(t) (t - s) and beta(s) - beta(t). For a >= 1 that is the former,
    rate times length; for a < 1 beta_dot is infinite at t = 1, and the latter counts at first.

    Args:
        distances: (S, S), `distances[x0, x]` = d(x, x_0): zero on the diagonal, positive elsewhere. Need not be a
            metric: squares and fourth powers are in use.
        a, c: of beta, positive. Larger c d: the data are decided earlier.

    Raises:
        ValueError: for distances that are no such table, or a, c that are not positive.
    """

    states: int = 0
    distances: Any = ()
    a: float = 1.0
    c: float = 1.0

    def __post_init__(self) -> None:
        d = torch.as_tensor(self.distances, dtype=torch.float64).detach().cpu().clone()
        if d.ndim != 2 or d.shape[0] != d.shape[1]:
            raise ValueError(f"distances are a square table (S, S), got shape {tuple(d.shape)}")
        off = d[~torch.eye(len(d), dtype=torch.bool)]
        if not bool(torch.isfinite(d).all()) or bool((d.diagonal() != 0.0).any()) or not bool((off > 0.0).all()):
            raise ValueError(
                "distances must be finite, zero from a state to itself and positive between two states (two states at "
                "distance zero cannot be told apart at t = 0)"
            )
        for name, value in (("a", self.a), ("c", self.c)):
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} of beta = c ((1 - t) / t)^a must be positive and finite, got {value}")
        object.__setattr__(self, "distances", d)
        object.__setattr__(self, "states", len(d))
        super().__post_init__()

    @classmethod
    def embedded(cls, points: Tensor, power: float = 2.0, a: float = 1.0, c: float = 1.0) -> MetricPath:
        """d(x, y) = |e_x - e_y|^power for embeddings `points` (S, dim), as they come (not normalised)."""
        points = torch.as_tensor(points, dtype=torch.float64).detach().cpu()
        if points.ndim != 2:
            raise ValueError(f"points are embeddings (S, dim), got shape {tuple(points.shape)}")
        distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
        return cls(distances=distance**power, a=a, c=c)

    @classmethod
    def ordinal(cls, states: int, power: float = 1.0, a: float = 1.0, c: float = 1.0) -> MetricPath:
        """States in order, evenly on [-1, 1]: d(x, y) = |x - y|^power there."""
        return cls.embedded(torch.linspace(-1.0, 1.0, states, dtype=torch.float64)[:, None], power, a, c)

    @cached_property
    def _hash(self) -> int:
        return hash((type(self), self.a, self.c, self.distances.numpy().tobytes()))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (
            type(other) is type(self)
            and isinstance(other, MetricPath)
            and (self.a, self.c) == (other.a, other.c)
            and torch.equal(self.distances, other.distances)
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(states={self.states}, a={self.a}, c={self.c})"

    # ------------------------------------------------------------------ beta
    def beta_of(self, t: Scalar) -> Scalar:
        """beta(t), from 0 at t = 1 to `HUGE` at t = 0."""
        return m.clip(self.c * m.exp(self.a * (m.log(1.0 - t) - m.log(t))), 0.0, HUGE)

    def beta_dot(self, t: Scalar) -> Scalar:
        """-d beta / dt = c a (1 - t)^(a - 1) / t^(a + 1), at most `HUGE`.

        Raises:
            ValueError: at t = 1 for a < 1, where it is infinite.
        """
        if self.a < 1.0 and bool((t == 1.0).any() if isinstance(t, Tensor) else t == 1.0):
            raise ValueError(
                f"the rate of {self!r} is infinite at t = 1, since a < 1: ask for a smaller time, or for the jumps of "
                "a step (reverse_jumps), as Euler() and TauLeaping() do"
            )
        return self._beta_dot(t)

    def _beta_dot(self, t: Scalar) -> Scalar:
        power = -(self.a + 1.0) * m.log(t)
        if self.a != 1.0:
            power = power + (self.a - 1.0) * m.log(1.0 - t)
        return m.clip(self.c * self.a * m.exp(power), 0.0, HUGE)

    def _gain(self, s: Scalar, t: Scalar) -> Scalar:
        """What beta gains in a step: the smaller of beta_dot(t) (t - s) and beta(s) - beta(t)."""
        rate, gain = self._beta_dot(t) * (t - s), self.beta_of(s) - self.beta_of(t)
        return torch.minimum(rate, gain) if isinstance(rate, Tensor) else min(rate, gain)

    # ------------------------------------------------------------------ the path
    def prior(self) -> Tensor:
        return torch.full((self.states,), 1.0 / self.states, dtype=torch.float64)

    def log_rows(self, x0: Tensor, t: Scalar) -> Tensor:
        d = self.distances.to(x0.device)[x0.long()]
        return (-level(self.beta_of(t), d) * d).log_softmax(-1)

    def derivative(self, t: float) -> Tensor:
        p, d = self.marginal(float(t)), self.distances
        return p * (self.beta_dot(t) * (d - (p * d).sum(1, keepdim=True)))

    def _nearer(self, x0: Tensor, x: Tensor, t: Scalar) -> Tensor:
        """p_t(y | x_0) [d(x, x_0) - d(y, x_0)]_+: (..., S)."""
        d = self.distances.to(x0.device)[x0.long()]
        return self.log_rows(x0, t).exp() * (d.gather(-1, x.long().unsqueeze(-1)) - d).clamp_min(0.0)

    def conditional_rate(self, x0: Tensor, x: Tensor, t: Scalar) -> Tensor:
        nearer = self._nearer(x0, x, t)
        return nearer * level(self.beta_dot(t), nearer)

    def conditional_jumps(self, x0: Tensor, x: Tensor, s: Scalar, t: Scalar) -> Tensor:
        nearer = self._nearer(x0, x, t)
        return nearer * level(self._gain(s, t), nearer)

    def _mean(self, log_p: Tensor, x: Tensor, t: Scalar) -> Tensor:
        """The mean of `_nearer` over p(x_0): (..., S), float64."""
        rows = log_p.reshape(-1, self.states).double().exp()
        times, at = torch.as_tensor(t, dtype=torch.float64, device=x.device).unique(return_inverse=True)
        at = level(at, x).expand(x.shape).reshape(-1)
        mean: Tensor = _Mean.apply(rows, self, x.reshape(-1).long(), times, at, False)
        return mean.reshape(log_p.shape)

    def _rates(self, log_p: Tensor, x: Tensor, t: Scalar, factor: Scalar) -> Tensor:
        rates = self._mean(log_p, x, t)
        return (rates * level(factor, rates)).clamp_max(torch.finfo(log_p.dtype).max).to(log_p.dtype)

    def reverse_rate(self, log_p: Tensor, x: Tensor, t: Scalar) -> Tensor:
        return self._rates(log_p, x, t, self.beta_dot(t))

    def reverse_jumps(self, log_p: Tensor, x: Tensor, s: Scalar, t: Scalar) -> Tensor:
        return self._rates(log_p, x, t, self._gain(s, t))

    def log_reverse_rate(self, log_p: Tensor, x: Tensor, t: Scalar) -> Tensor:
        """As the base says. The mean is formed in float64: below 1e-250 its logarithm reads -inf."""
        mean, factor = self._mean(log_p, x, t), level(self.beta_dot(t), log_p)
        some = mean > LEAST
        return torch.where(some, torch.where(some, mean, 1.0).log() + m.log(factor), -torch.inf)


class _Mean(torch.autograd.Function):
    """rows @ M for each token, M[x_0, y] = p_t(y | x_0) [d(x, x_0) - d(y, x_0)]_+; linear, so its gradient is g @ M^T.

    Args (of `apply`):
        rows: (N, S), float64.
        path: gives p_t and d.
        x: tokens (N,).
        times: the different times (T,), float64; at: which of them each token has, (N,).
        transposed: multiply by M^T.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, path: MetricPath, x: Tensor, times: Tensor, at: Tensor, transposed: bool
    ) -> Tensor:
        ctx.rest = path, x, times, at, transposed
        states, d = path.states, path.distances.to(rows.device)
        ids = torch.arange(states, device=rows.device)
        out, size = torch.empty_like(rows), max(1, BLOCK // states**2)
        order, pair, start, count = _groups(at * states + x, states)
        first = 0
        for k, groups in enumerate(
            (pair // states // size).bincount().tolist()
        ):  # blocks of times, sorted as pairs are
            here = times[k * size : (k + 1) * size]
            tables = path.log_rows(ids.expand(len(here), states), here).exp()
            alike = first + count[first : first + groups].argsort()  # in number of tokens: little is padded
            first += groups
            for part in alike.split(max(1, size // 8)):
                nearer = torch.sub(d.T[pair[part] % states].unsqueeze(-1), d).clamp_min_(0.0)
                nearer *= tables if len(here) == 1 else tables[pair[part] // states - k * size]
                place = torch.arange(int(count[part[-1]]), device=rows.device)
                real = place < count[part, None]
                which = order[torch.where(real, start[part, None] + place, 0)]
                made = torch.bmm(rows[which], nearer.mT if transposed else nearer)
                out[which[real]] = made[real]
        return out

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor | None, ...]:
        path, x, times, at, transposed = ctx.rest
        return _Mean.apply(grad[0], path, x, times, at, not transposed), None, None, None, None, None


def _groups(pair: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tokens with the same number in `pair` (N,), in groups of `most` at most.

    Returns:
        order (N,) of the tokens by group; of each group its number, its first place in that order and its size.
    """
    order = pair.argsort()
    ids, count = pair[order].unique_consecutive(return_counts=True)
    pieces = (count + most - 1) // most
    rank = torch.arange(int(pieces.sum()), device=pair.device) - (pieces.cumsum(0) - pieces).repeat_interleave(pieces)
    start = (count.cumsum(0) - count).repeat_interleave(pieces) + rank * most
    size = (count.repeat_interleave(pieces) - rank * most).clamp_max(most)
    return order, ids.repeat_interleave(pieces), start, size


def kinetic_energy(path: TokenPath, panels: int = 400) -> Tensor:
    """int sum_x p_dot(x | x_0)^2 / p(x | x_0) dt for each data token x_0, the energy of the best rates: (S,).

    By Gauss-Legendre quadrature with three points on each of `panels` panels of [0, 1]. Mixtures whose 1 - k starts
    like t have infinite energy; the number returned for them is that of the quadrature and grows with `panels`. The
    least there is, between p_0 and x_0, is 4 Om^2.

    Args:
        path: with `marginal` and `derivative`.
        panels: number of panels.
    """
    total = torch.zeros(path.states, dtype=torch.float64)
    for k in range(panels):
        for node, weight in ((-math.sqrt(0.6), 5.0 / 18.0), (0.0, 8.0 / 18.0), (math.sqrt(0.6), 5.0 / 18.0)):
            t = (k + 0.5 + 0.5 * node) / panels
            p, dot = path.marginal(t), path.derivative(t)
            total += weight / panels * torch.where(p > 0.0, dot.square() / p, 0.0).sum(1)
    return total
