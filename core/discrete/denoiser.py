r"""Denoisers of tokens: a network that says, for every token, which value it had in the data.

The network's output are logits (B, L, S); what the process makes impossible (the mask, another value of a token that is
not masked) is taken out here and nowhere else. Everything else follows from log p(x_0 | x_t): posteriors and rates are
the process' matter, draws the sampler's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ..noise import Noise
from ..spaces import Space, default_space, expand
from ..tree import Tree, leaves, take, tree_map
from .categorical import categorical, uniforms
from .certain import certain
from .interpolating import REACHED, Interpolating, Masked
from .process import Process, ProductProcess, leafwise

__all__ = ["TokenDenoiser", "TokenPrediction"]


class TokenPrediction:
    """What a denoiser says about tokens, on demand.

    Attributes:
        x: the tokens that were asked about, (B, L, ...), or a dictionary of leaves.
        t: their time, a float or a tensor (B,) or (B, L).
        raw: the network's logits (B, L, ..., S).
        log_probs: log p(x_0 | x_t) of every token, (B, L, ..., S).
        probs: the probabilities themselves.
        data: the likeliest value of every token, (B, L, ...), long: what rewards are asked about on the way.
        tilt: log-weights of the next value of each token, (B, L, ..., S), by which guidance multiplies transitions, or
            None.
        reference: what the process knows of each token (priorities), or None.
        parts: predictions that this one was made of.
    """

    __slots__ = ("_log_probs", "denoiser", "parts", "raw", "reference", "t", "tilt", "x")

    def __init__(
        self,
        denoiser: TokenDenoiser,
        x: Tree,
        t: Any,
        raw: Tree,
        reference: Tree | None = None,
        log_probs: Tree | None = None,
        parts: dict[str, TokenPrediction] | None = None,
        tilt: Tree | None = None,
    ) -> None:
        self.denoiser, self.x, self.t, self.raw, self.reference = denoiser, x, t, raw, reference
        self._log_probs, self.parts, self.tilt = log_probs, parts or {}, tilt

    @property
    def edited(self) -> bool:
        """Whether the probabilities are not those of the raw output."""
        return self._log_probs is not None

    @property
    def log_probs(self) -> Tree:
        if self._log_probs is None:
            return self.denoiser.leafwise(lambda process, raw, x: process.log_probs(raw, x), self.raw, self.x)
        return self._log_probs

    @property
    def probs(self) -> Tree:
        return tree_map(torch.exp, self.log_probs)

    @property
    def data(self) -> Tree:
        modes = tree_map(lambda leaf: leaf.argmax(-1), self.log_probs)
        return modes if self.denoiser.space is None else self.denoiser.space.project(modes)

    def rows(self, name: str | None = None) -> Any:
        """A function: boolean (B, L, ...) -> log p(x_0 | x_t) of those tokens, (M, S), of one leaf.

        What is not asked for is not computed: in a step few tokens of a masked sequence are decided.
        """

        def pick(tree: Tree) -> Tensor:
            return tree if name is None else tree[name]

        if self._log_probs is not None:
            known = pick(self._log_probs)
            return lambda which: known[which]
        raw, x, process = pick(self.raw), pick(self.x), self.denoiser.leaf(name)
        return lambda which: process.log_probs(raw[which], x[which])

    def draw(self, noise: Noise, space: Space | None, draw: int, role: str = "data") -> Tree:
        """One sample of p(x_0 | x_t), every token on its own: (B, L, ...)."""
        space = space or self.denoiser.space or default_space(self.x)
        u = uniforms(noise, space, self.x, draw, role)
        return space.project(tree_map(categorical, self.log_probs, u))

    def with_log_probs(self, log_probs: Tree) -> TokenPrediction:
        """The same prediction with other probabilities."""
        return TokenPrediction(
            self.denoiser, self.x, self.t, self.raw, self.reference, log_probs, self.parts, self.tilt
        )

    def with_data(self, data: Tree, *, noise: Any = None) -> TokenPrediction:
        """The prediction that is sure of `data` (B, L, ...), token ids."""

        return self.with_log_probs(tree_map(certain, self.raw, data))

    def with_known(self, values: Tree, known: Tree) -> TokenPrediction:
        """The prediction that is sure of known tokens.

        Args:
            values: token ids, of the shape of x or with 1 in the batch dimension.
            known: boolean of that shape or of its leading dimensions, True = known.

        Raises:
            ValueError: for a known token that is out of range or the mask.
        """

        def leaf(process: Process, log_probs: Tensor, tokens: Tensor, known: Tensor) -> Tensor:
            tokens = tokens.to(log_probs.device).expand(log_probs.shape[:-1])
            known = known.to(log_probs.device).reshape(*known.shape, *[1] * (tokens.ndim - known.ndim))
            bad = (known & ~_data(process, tokens)).nonzero()
            if len(bad):
                place = tuple(bad[0].tolist())
                raise ValueError(
                    f"known token {int(tokens[place])} at {place} is no data of {process!r}: known tokens are ids "
                    f"0..{process.states - 1} without the mask"
                )
            return torch.where(known.unsqueeze(-1), certain(log_probs, torch.where(known, tokens, 0)), log_probs)

        return self.with_log_probs(self.denoiser.leafwise(leaf, self.log_probs, values, known))

    def with_tilt(self, tilt: Tree) -> TokenPrediction:
        """The prediction whose transitions are multiplied by exp(tilt), on top of what tilts them already."""
        if self.tilt is not None:
            tilt = tree_map(torch.add, self.tilt, tilt)
        return TokenPrediction(
            self.denoiser, self.x, self.t, self.raw, self.reference, self._log_probs, self.parts, tilt
        )

    def take(self, index: Any) -> TokenPrediction:
        """The prediction for the batch elements `index`."""

        def pick(x: Tree | None) -> Tree | None:
            return None if x is None else take(x, index)

        t = self.t[index] if isinstance(self.t, Tensor) and self.t.ndim else self.t
        parts = {name: part.take(index) for name, part in self.parts.items()}
        space = self.denoiser.space
        denoiser = self.denoiser if space is None else self.denoiser.on(space.take(index))
        return TokenPrediction(
            denoiser, pick(self.x), t, pick(self.raw), pick(self.reference), pick(self._log_probs), parts,
            pick(self.tilt),
        )  # fmt: skip

    def mixed(self, preds: Sequence[TokenPrediction], weights: Sequence[Any], parts: dict[str, Any]) -> TokenPrediction:
        """The product prod_k p_k^{w_k} of predictions of the same tokens, normalised: logits are averaged.

        Args:
            preds: predictions, this one among them.
            weights: one for each, summing to one: a float, or a tensor that `spaces.expand` fits to logits.
            parts: kept as `parts`.
        """

        def total(trees: list[Tree]) -> Tree:
            if isinstance(trees[0], dict):
                return {name: total([tree[name] for tree in trees]) for name in trees[0]}
            out = trees[0].new_zeros(())
            for tree, w in zip(trees, weights, strict=True):
                w = expand(w, tree) if isinstance(w, Tensor) else torch.tensor(w, dtype=tree.dtype, device=tree.device)
                # what counts positively and is impossible stays so; what counts for nothing, or against, says nothing
                hard = torch.where(w > 0.0, -torch.inf, 0.0).to(tree)
                out = out + torch.where(torch.isneginf(tree), hard, tree * w)
            return out

        if any(p.tilt is not None for p in preds):
            raise ValueError(
                "predictions that a predictor tilts cannot be mixed: put TokenClassifier around ClassifierFree "
                "or Compose, not inside"
            )
        raw = total([p.raw for p in preds])
        log_probs = None
        if any(p.edited for p in preds):
            log_probs = tree_map(lambda leaf: leaf.log_softmax(-1), total([p.log_probs for p in preds]))
        return TokenPrediction(self.denoiser, self.x, self.t, raw, self.reference, log_probs, parts)

    def __repr__(self) -> str:
        shapes = tree_map(lambda leaf: tuple(leaf.shape), self.x)
        return f"TokenPrediction(x={shapes}, t={self.t}, edited={self.edited}, tilted={self.tilt is not None})"


def _check_space(space: Any) -> None:
    if space is not None and not isinstance(space, Space):
        raise TypeError(
            f"space says where tokens exist, as core.Masked(mask) does for padded sequences; got {space!r} "
            "(core.discrete.Masked is a process)"
        )


def _left(process: Process, t: float) -> float:
    """How far the law at t is from the prior, as the probability that it is the data's."""
    if isinstance(process, Interpolating):
        return float(process.schedule.alpha(t))
    return float((process.marginal(t) - process.prior()).abs().sum(1).max()) / 2.0


def _data(process: Process, tokens: Tensor) -> Tensor:
    """Where tokens can be data: in range, and not the mask."""
    inside = (tokens >= 0) & (tokens < process.states)
    return inside if process.mask_id is None else inside & (tokens != process.mask_id)


Label = Literal["time"] | Callable[[Any, Any], Any]


class TokenDenoiser:
    """A network with the process it was trained for: what samplers of tokens ask.

    Args:
        network: `network(x, label, **condition)`; x long (B, L, ...), label (B,) or (B, L); returns logits
            (B, L, ..., S). For product states x and the output are dictionaries. Masked models may ignore the label.
        process: a `Process`, or a `ProductProcess` for one a leaf.
        space: where tokens exist: None (everywhere), `Masked(mask)` for padded sequences, `Graph(node_mask)` for
            symmetric adjacency, `Product` of those.
        label: what the network is told about time: "time" is 1000 t, or a function (process, t) -> value.

    Raises:
        TypeError: for a process or a space that is none.
        ValueError: for an unknown label, or a network built for another number of states.
    """

    needs_grad = False
    needs_state = False

    def __init__(
        self,
        network: Callable[..., Tree] | None,
        process: Process | ProductProcess,
        space: Space | None = None,
        label: Label = "time",
    ) -> None:
        if not isinstance(process, Process | ProductProcess):
            raise TypeError(
                f"a TokenDenoiser needs a process on tokens such as Masked(27), got {process!r}; use Denoiser for "
                "schedules of continuous data"
            )
        _check_space(space)
        states = getattr(network, "states", None)
        if isinstance(process, Process) and isinstance(states, int) and states != process.states:
            raise ValueError(
                f"the network was built for {states} states, {process!r} has {process.states}: count the mask in both"
            )
        if not callable(label) and label != "time":
            raise ValueError(f'label is "time" or a function (process, t) -> value, got {label!r}')
        self.network: Any = network
        self.process = process
        self.space = space
        self.label = label
        self.half: torch.dtype | None = None

    @property
    def schedule(self) -> Any:
        """The process, under the name that samplers know."""
        return self.process

    def __repr__(self) -> str:
        return f"TokenDenoiser({type(self.network).__name__}, {self.process!r}, space={self.space!r})"

    def on(self, space: Space | None) -> TokenDenoiser:
        """The same denoiser for states of another space (the padding of another batch)."""
        if space is self.space:
            return self
        _check_space(space)
        other = copy.copy(self)
        other.space = space
        return other

    def in_half(self, dtype: torch.dtype | None) -> TokenDenoiser:
        """The same denoiser with its network run in float16 or bfloat16; logits come back in float32."""
        other = copy.copy(self)
        other.half = dtype
        return other

    def leaf(self, name: str | None) -> Process:
        """The process of one leaf."""
        return self.process if isinstance(self.process, Process) else self.process.leaves[str(name)]

    def leafwise(self, function: Callable[..., Any], first: Tree, *rest: Tree | None) -> Tree:
        """`function(process of the leaf, leaf of each argument)`, leaf by leaf."""
        return leafwise(self.process, function, first, *rest)

    def prior(self, like: Tree, t: float, noise: Noise, space: Space) -> Tree:
        """Tokens of the law at t = 1, of the shape of `like`, for a run that starts at t.

        Raises:
            ValueError: where that law is not the one at t (masked processes may start from masks at any time).
        """

        def leaf(process: Process, u: Tensor) -> Tensor:
            if t < 1.0 and not isinstance(process, Masked) and (left := _left(process, t)) > REACHED:
                raise ValueError(
                    f"the grid starts at t={t}, where {process!r} still holds {left:.3g} of the data: start at t = 1, "
                    "or give the states there as x="
                )
            c = process.prior().cumsum(0).to(u.device)
            return torch.searchsorted(c, (u * c[-1]).contiguous(), right=True).clamp_max(process.states - 1)

        return self.leafwise(leaf, uniforms(noise, space, like, 0, "prior"))

    def __call__(
        self,
        x: Tree,
        t: Any,
        *,
        reference: Tree | None = None,
        label: Tensor | None = None,
        state: Any = None,
        **condition: Any,
    ) -> TokenPrediction:
        """Ask the network about the tokens `x` at time `t`.

        Args:
            x: token ids (B, L, ...), long, or a dictionary of leaves.
            t: a float, or a tensor (B,) or (B, L).
            reference: priorities of the tokens, for processes that have them.
            label: what the network is told instead of the label of `t`.
            state: ignored.
            condition: passed to the network by name.

        Raises:
            ValueError: for times outside [0, 1], and logits that are not (B, L, ..., S).
        """
        if label is None:
            label = self._label(t, leaves(x)[0])
        if self.half is None:
            raw = self.network(x, label, **condition)
        else:
            with torch.autocast(leaves(x)[0].device.type, dtype=self.half):
                raw = self.network(x, label, **condition)
        raw = self.leafwise(self._checked, raw, x) if not isinstance(x, dict) or self._named(raw, x) else raw
        return TokenPrediction(self, x, t, raw, reference)

    def _label(self, t: Any, x: Tensor) -> Tensor:
        if not isinstance(t, float) or not 0.0 <= t <= 1.0:
            self.process.check_time(t)
        value = 1000.0 * t if self.label == "time" else self.label(self.process, t)
        if isinstance(value, Tensor):
            value = value.to(device=x.device)
            return value.expand(x.shape[0]) if value.ndim == 0 else value
        return torch.full((x.shape[0],), value, dtype=torch.float64, device=x.device)

    def _named(self, raw: Any, x: dict[str, Tensor]) -> bool:
        if not isinstance(raw, dict) or set(raw) != set(x):
            came = sorted(raw) if isinstance(raw, dict) else type(raw).__name__
            raise ValueError(f"the network must return a dictionary with leaves {sorted(x)}, got {came}")
        return True

    @staticmethod
    def _checked(process: Process, raw: Any, x: Tensor) -> Tensor:
        if not isinstance(raw, Tensor) or raw.shape != (*x.shape, process.states):
            came = tuple(raw.shape) if isinstance(raw, Tensor) else type(raw).__name__
            raise ValueError(f"the network must return logits of shape {(*x.shape, process.states)}, got {came}")
        return raw if raw.dtype in (torch.float32, torch.float64) else raw.float()
