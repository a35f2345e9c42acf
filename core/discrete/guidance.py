r"""Guidance of tokens by a predictor of noisy tokens.

Bayes' rule holds for every transition and every rate of a Markov chain: conditioned on y,

    p(x_s | x_t, y) = p(x_s | x_t) p(y | x_s) / p(y | x_t),        Rev^y_t[x, x'] = Rev_t[x, x'] p(y | x') / p(y | x).

A step in which one token i moves to v needs the ratio for the neighbour x^{i->v} alone, so that

    tilt[i, v]  =  w (log p(y | x^{i->v}) - log p(y | x))

multiplies rates exactly (H. Nisonoff et al., "Unlocking guidance for discrete state-space diffusion and flow models",
ICLR 2025). In samplers that move several tokens in a step by their posteriors (Y. Schiff et al., "Simple guidance
mechanisms for discrete diffusion models", ICLR 2025, D-CBG) the product of single-token ratios stands for the joint
one: an error that vanishes as steps become small, and is none where one token moves a step. Both ask the predictor at
the time of x_t (about neighbours of a whole mask, too, which exist just before t = 1); staying has the tilt zero.

*Exact*: every neighbour is asked about: B (1 + M (S - 1)) sequences a network call, M the tokens that may move (of a
masked process the masked ones, with S - 1 values each; otherwise all L).
*Taylor*: the first-order expansion in the one-hot input h, log p(y | x^{i->v}) - log p(y | x) = g[i, v] - g[i, x^i]
with g = d log p / d h: one backward pass, exact for predictors that are linear in h.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ..guidance.base import Guidance, gradient_of, innermost, scores, taken
from ..spaces import Graph, Product, Space, default_space
from ..tree import Tree, batch_size, leaves, take, tree_map
from .denoiser import TokenPrediction
from .interpolating import Masked
from .places import places
from .process import Process

__all__ = ["TokenClassifier"]

FLOOR = 100.0
"""Log-probabilities count down to -FLOOR, and ratios up to exp(FLOOR): impossible is very unlikely, never nan."""


class TokenClassifier(Guidance):
    """Guidance by log p(y | x_t) of noisy tokens, for every sampler whose transitions can be tilted.

    It tilts transitions and leaves the prediction of the data as it is: `pred.tilt` is added to, on top of what
    guidance inside has put there. Put guidance that changes predictions (`ClassifierFree`) inside. Moves of known
    tokens of a masked process back to the mask (remasking samplers) are not guided.

    Args:
        denoiser: a `TokenDenoiser`, or guidance around one.
        log_prob: (x_t, t, **condition) -> log p(y | x_t), (N,). "exact": x_t are token ids (N, L, ...); "taylor":
            one-hot numbers (N, L, ..., S), differentiable. t is a float, or a tensor with N rows.
        scale: w; 1 is Bayes' rule, larger sharpens.
        method: "exact" or "taylor".
        conditions: names of the call's conditions that go to `log_prob` instead of to the network (its tensors (B, ...)
            are repeated for the neighbours).
        max_rows: largest number of neighbours asked about in one call of `log_prob`.

    Raises:
        ValueError: for continuous data, an unknown method, or numbers out of range; when asked, for answers of another
            shape.
        FloatingPointError: for answers that are nan or +inf.
    """

    def __init__(
        self,
        denoiser: Any,
        log_prob: Callable[..., Tensor],
        scale: float = 1.0,
        method: Literal["exact", "taylor"] = "exact",
        conditions: Sequence[str] = (),
        max_rows: int = 4096,
    ) -> None:
        super().__init__(denoiser)
        if denoiser.schedule.family != "categorical":
            raise ValueError(
                f"TokenClassifier weighs replacements of tokens, and {denoiser.schedule!r} is a schedule of continuous "
                "data: use core.guidance.Classifier"
            )
        if method not in ("exact", "taylor"):
            raise ValueError(f'method must be "exact" or "taylor", got {method!r}')
        if not math.isfinite(scale):
            raise ValueError(f"scale must be finite, got {scale}")
        if isinstance(max_rows, bool) or not isinstance(max_rows, int) or max_rows < 1:
            raise ValueError(f"max_rows must be an integer >= 1, got {max_rows!r}")
        self.log_prob, self.scale, self.method = log_prob, float(scale), method
        self.conditions, self.max_rows = tuple(conditions), max_rows

    @property
    def needs_grad(self) -> bool:
        return self.method == "taylor" or super().needs_grad

    def __repr__(self) -> str:
        return f"TokenClassifier({self.denoiser!r}, scale={self.scale}, method={self.method!r})"

    def __call__(self, x: Tree, t: Any, **condition: Any) -> Any:
        mine = taken(condition, self.conditions)
        pred: TokenPrediction = self.denoiser(x, t, **condition)
        if self.scale == 0.0:
            return pred
        space = self.space or default_space(x)
        free = pred.denoiser.leafwise(_free, x, places(space, x))
        tilt = self._exact(x, t, mine, space, free) if self.method == "exact" else self._taylor(x, t, mine, space, free)
        like = leaves(pred.raw)[0]
        return pred.with_tilt(tree_map(lambda leaf: self.scale * leaf.to(like), _mirrored(tilt, space)))

    # ------------------------------------------------------------------ every neighbour
    def _exact(self, x: Tree, t: Any, mine: dict[str, Any], space: Space, free: Tree) -> Tree:
        here = self._asked(x, t, mine)
        process = innermost(self).process
        if isinstance(x, dict):
            return {name: self._leaf(process.leaves[name], name, x, t, mine, space, free[name], here) for name in x}
        return self._leaf(process, None, x, t, mine, space, free, here)

    def _leaf(
        self, process: Process, name: str | None, x: Tree, t: Any, mine: dict[str, Any], space: Space, free: Tensor,
        here: Tensor,
    ) -> Tensor:  # fmt: skip
        tokens = x if name is None else x[name]
        tilt = torch.zeros(*tokens.shape, process.states, dtype=here.dtype, device=here.device)
        size = batch_size(x)
        for place, value in _moves(process, tokens, free, self.max_rows):
            rows = place[0]
            other = take(x, rows)
            changed = (other if name is None else other[name]).clone()
            changed[(torch.arange(len(rows), device=rows.device), *place[1:])] = value
            other = space.take(rows).project(changed if name is None else {**other, name: changed})
            times = t[rows] if isinstance(t, Tensor) and t.ndim else t
            given = {
                k: v[rows] if isinstance(v, Tensor) and v.ndim and v.shape[0] == size else v for k, v in mine.items()
            }
            tilt[(*place, value)] = self._asked(other, times, given) - here[rows]
        return tilt

    def _asked(self, x: Tree, t: Any, mine: dict[str, Any]) -> Tensor:
        value = scores(self.log_prob(x, t, **mine), batch_size(x), "log_prob").detach()
        return self._sane(value, t).clamp_min(-FLOOR)

    # ------------------------------------------------------------------ one gradient
    def _taylor(self, x: Tree, t: Any, mine: dict[str, Any], space: Space, free: Tree) -> Tree:
        def hot(process: Process, leaf: Tensor) -> Tensor:
            return one_hot(leaf, process.states).to(torch.get_default_dtype()).requires_grad_(True)

        with torch.enable_grad():
            h = innermost(self).leafwise(hot, x)
            value = self._sane(scores(self.log_prob(h, t, **mine), batch_size(x), "log_prob"), t)
            if not value.requires_grad:
                raise ValueError(
                    "log_prob does not depend on its one-hot input in a differentiable way: use method='exact'"
                )
            gradient = gradient_of(value.sum(), h)

        def leaf(g: Tensor, tokens: Tensor, moves: Tensor) -> Tensor:
            ratio = (g - g.gather(-1, tokens.unsqueeze(-1))).clamp(-FLOOR, FLOOR)
            return torch.where(moves.unsqueeze(-1), ratio, ratio.new_zeros(()))

        return tree_map(leaf, _mirrored(gradient, space), x, free)

    def _sane(self, value: Tensor, t: Any) -> Tensor:
        bad = (value.isnan() | value.isposinf()).nonzero().flatten().tolist()
        if bad:
            raise FloatingPointError(
                f"the predictor's log-probability is {float(value[bad[0]])} at t={t} in row {bad[0]} of {len(value)}; "
                "check it on such noisy tokens"
            )
        return value


def _free(process: Process, x: Tensor, real: Tensor) -> Tensor:
    """The tokens that may move on the way to the data."""
    return real & (x == process.mask) if isinstance(process, Masked) else real


def _moves(process: Process, x: Tensor, free: Tensor, rows: int) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
    """Places (one index a dimension) and new values of all single-token moves, at most `rows` at a time."""
    values = torch.arange(process.states, device=x.device)
    if isinstance(process, Masked):
        values = values[values != process.mask]
    at = free.nonzero()
    total = len(at) * len(values)
    for first in range(0, total, rows):
        pair = torch.arange(first, min(first + rows, total), device=x.device)
        place, value = at[pair // len(values)].unbind(1), values[pair % len(values)]
        new = value != x[place]
        if bool(new.any()):
            yield tuple(p[new] for p in place), value[new]


def _mirrored(tilt: Tree, space: Space) -> Tree:
    """Entries of a graph plus their mirror images: an edge moves at both of them."""
    if isinstance(space, Product):
        return {name: _mirrored(tilt[name], one) for name, one in space.spaces.items()}
    return tilt + tilt.transpose(1, 2) if isinstance(space, Graph) else tilt
