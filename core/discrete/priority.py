r"""Masked processes in which tokens have priorities: what matters is masked last and restored first.

H. Kong et al., "Priority-centric human motion generation in discrete latent space" (M2DM), ICCV 2023. The paper has no
public code; the schedule is our construction of what it describes. With m = lost(t) the masked fraction of the plain
process and an importance I_i of each token, of mean zero over a sequence,

    lost_i = m - c_i sin(pi m),        c_i = strength I_i, kept in [-1/pi, 1/pi].

Each lost_i rises from 0 to 1 with m exactly when |c_i| <= 1/pi, so that the process is a masked process with a clock of
its own for every token: `local` gives the time that token i of the plain process would call it, and posteriors, bounds
and samplers stay exact. What an exact network samples does not depend on the order of the tokens; what an imperfect one
samples, and what a given masked fraction leaves to be seen, does.

The importance is given as `reference=` when sampling, and as "reference" of a training batch: (B, L), of the state's
shape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..schedules import maths as m
from ..schedules.maths import Scalar
from .categorical import categorical
from .interpolating import Masked
from .process import level

__all__ = ["PriorityMasked", "importance"]


def importance(score: Tensor, mask: Tensor | None = None) -> Tensor:
    """An importance from any score: mean zero in each sequence, largest absolute value one.

    Args:
        score: (B, L), larger = more important.
        mask: boolean (B, L), True = real token; zero elsewhere.

    Returns:
        (B, L), of the type of `score`. Sequences whose tokens all have one score get zeros.

    Raises:
        ValueError: for scores that are not finite.
    """
    if not bool(torch.isfinite(score).all()):
        raise ValueError("the score of every token must be finite to rank them by importance")
    weight = torch.ones_like(score) if mask is None else mask.to(score)
    centred = (score - (score * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp_min(1.0)) * weight
    top = centred.abs().amax(1, keepdim=True)
    return torch.where(top > 0.0, centred / top.clamp_min(torch.finfo(score.dtype).tiny), torch.zeros_like(score))


@dataclass(frozen=True)
class PriorityMasked(Masked):
    """A masked process whose tokens are masked in the order of their importance, as far as `strength` goes.

    Args:
        states, keep, mask_id: as for `Masked`; `keep` gives the masked fraction at importance zero.
        strength: factor on the importance, >= 0; 0 is `Masked`.
    """

    strength: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (math.isfinite(self.strength) and self.strength >= 0.0):
            raise ValueError(f"strength must be finite and >= 0, got {self.strength}")

    def _shift(self, reference: Tensor | None) -> Tensor:
        """c_i."""
        if reference is None:
            raise ValueError(
                f"{self!r} masks tokens by importance: give reference=, the importance of each token (B, L), for "
                "example importance(score)"
            )
        if not bool(torch.isfinite(reference).all()):
            place = tuple((~torch.isfinite(reference)).nonzero()[0].tolist())
            raise ValueError(f"the importance of token {place} is {float(reference[place])}; it must be finite")
        return (self.strength * reference.double()).clamp(-1.0 / math.pi, 1.0 / math.pi)

    def _lost(self, t: Scalar, reference: Tensor | None) -> Tensor:
        """lost_i(t), of the shape of the reference; (1 - pi c) m + c (pi m - sin pi m), which does not cancel."""
        return self._lost_at(t, self._shift(reference))

    def _lost_at(self, t: Scalar, c: Tensor) -> Tensor:
        plain = level(self.schedule.lost(t), c)
        if not isinstance(plain, Tensor):
            plain = torch.full_like(c, plain)
        return ((1.0 - math.pi * c) * plain + c * m.x_minus_sin(math.pi * plain)).clamp(0.0, 1.0)

    def _speed_at(self, t: Scalar, c: Tensor) -> Tensor:
        """d lost_i / dt."""
        plain, speed = level(self.schedule.lost(t), c), level(self.schedule.speed(t), c)
        return (1.0 - math.pi * c * m.cos(math.pi * plain)) * speed

    def local(self, t: Scalar, reference: Tensor | None) -> Tensor:
        return self.schedule.time_of_lost(self._lost(t, reference))

    def hazard(self, t: Scalar, reference: Tensor | None = None) -> Tensor:
        c = self._shift(reference)
        return self._speed_at(t, c) / self._lost_at(t, c)

    def next_hit(self, t: Tensor, masked: Tensor, u: Tensor, reference: Tensor | None = None) -> Tensor:
        """As for `Masked`: sum_i log lost_i(t') = sum_i log lost_i(t) + log u, solved in log t' by Newton's method.

        Steps that leave the interval that is known to hold the answer are replaced by halving it.
        """
        c = self._shift(reference)

        def total(time: Tensor) -> tuple[Tensor, Tensor]:
            """The sum over masked tokens, and its derivative in log time."""
            lost = self._lost_at(time, c)
            slope = self._speed_at(time, c) / lost * time[:, None]
            return (torch.where(masked, value, 0.0).sum(1) for value in (lost.log(), slope))  # type: ignore[return-value]

        some = masked.any(1)
        start, _ = total(t)
        target = start + u.log()
        low, high = torch.full_like(t, -745.0), t.log()
        y = high + u.log() / masked.sum(1).clamp_min(1)  # exact for equal priorities under the linear clock
        for _ in range(64):
            value, slope = total(y.exp())
            low, high = torch.where(value < target, y, low), torch.where(value < target, high, y)
            step = (value - target) / slope.clamp_min(1e-300)
            if bool((~some | (step.abs() < 1e-14)).all()):
                break
            y = torch.where((y - step > low) & (y - step < high), y - step, 0.5 * (low + high))
        return torch.where(some, y.exp(), torch.zeros_like(t))

    def where_hit(self, t: Tensor, masked: Tensor, u: Tensor, reference: Tensor | None = None) -> Tensor:
        weights = torch.where(masked, self.hazard(t, reference).log(), -torch.inf)
        some = masked.any(1)
        out = torch.zeros_like(t, dtype=torch.long)
        out[some] = categorical(weights[some], u[some])
        return out
