"""Clean tokens, corrupted and asked about: what all losses of token denoisers begin with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..noise import Noise
from ..spaces import Space, default_space
from ..training.times import hold_known
from ..tree import Tree, batch_size, leaves, tree_map
from .categorical import uniforms
from .denoiser import TokenPrediction
from .interpolating import Marginal
from .places import places
from .process import Process, ProductProcess, leafwise, level

__all__ = ["Asked", "ask", "clean_tokens", "spread"]


@dataclass(frozen=True)
class Asked:
    """Clean data, corrupted and asked about.

    Attributes:
        pred: what the denoiser says about x_t.
        x0: the clean tokens, (B, L, ...) or a dictionary of leaves; zero in padding.
        counts: boolean, like x0: the tokens that count in a loss.
    """

    pred: TokenPrediction
    x0: Tree
    counts: Tree

    def total(self, values: Tree) -> Tensor:
        """Sum of one number a token over those that count, over all leaves: (B,), float64."""

        def leaf(values: Tensor, counts: Tensor) -> Tensor:
            return torch.where(counts, values, values.new_zeros(())).flatten(1).sum(1, dtype=torch.float64)

        return torch.stack(leaves(tree_map(leaf, values, self.counts))).sum(0)

    def mean(self, values: Tree, leaf_weights: Mapping[str, float] | None = None) -> Tensor:
        """Mean of one number a token over those that count, (B,); leaves add, with their weights."""
        parts = tree_map(_mean, values, self.counts)
        if not isinstance(parts, dict):
            return parts
        if leaf_weights is not None and set(leaf_weights) != set(parts):
            raise ValueError(f"leaf_weights names {sorted(leaf_weights)}, the state has leaves {sorted(parts)}")
        return torch.stack([part * (leaf_weights or {}).get(name, 1.0) for name, part in parts.items()]).sum(0)


def _mean(values: Tensor, counts: Tensor) -> Tensor:
    total = torch.where(counts, values, values.new_zeros(())).flatten(1).sum(1)
    return total / counts.flatten(1).sum(1).clamp_min(1)


def ask(
    denoiser: Any,
    x0: Tree,
    t: Tensor,
    *,
    noise: Noise | Tree,
    condition: Mapping[str, Any] | None = None,
    reference: Tree | None = None,
    mask: Tree | None = None,
    known: Tensor | None = None,
    check: bool = True,
) -> Asked:
    """Corrupt clean tokens to time t and ask the denoiser about them.

    Args:
        denoiser: a `TokenDenoiser`, or guidance around one.
        x0: clean token ids (B, L, ...), or a dictionary of leaves.
        t: times (B,), or (B, L) for one time a token.
        noise: uniforms in (0, 1), float64, like x0; or a `Noise` to draw them from.
        condition: passed to the network by name.
        reference: priorities of the tokens, for processes that have them.
        mask: boolean, True = counts in the loss, of the shape of x0 or of its leading dimensions.
        known: boolean (B, L); these tokens are given as clean data (time 0) and do not count.
        check: whether to look at every token (`check_clean`).

    Raises:
        TypeError: for integer times, masks that are not boolean, tokens that are no integers.
        ValueError: for shapes that do not fit, tokens out of range, and a mask inside the clean data.
    """
    process, batch = denoiser.schedule, batch_size(x0)
    if not isinstance(t, Tensor) or not t.is_floating_point():
        came = t.dtype if isinstance(t, Tensor) else type(t).__name__
        raise TypeError(f"t is a floating-point tensor of shape (B,) or (B, L), got {came}")
    space = denoiser.space or default_space(x0)
    space.check(x0)
    x0 = clean_tokens(process, x0, space) if check else space.project(x0)
    if known is not None:
        t = hold_known(t, known)
    if t.ndim not in (1, 2) or t.shape[0] != batch:
        raise ValueError(f"t must have shape (B,) or (B, L) with B = {batch}, got {tuple(t.shape)}")
    if t.ndim == 2 and not space.elementwise:
        raise ValueError(
            f"{space!r} needs one time a sample: times that vary inside a sample leave the space; use (B,)"
        )
    t = t.to(leaves(x0)[0].device, torch.float64)
    u = uniforms(noise, space, x0, 0, "noise") if callable(noise) else noise

    def corrupt(process: Process, x0: Tensor, u: Tensor, y: Tensor | None) -> Tensor:
        if u.shape != x0.shape or u.dtype != torch.float64:
            raise ValueError(f"need one float64 uniform a token, {tuple(x0.shape)}; got {u.dtype} {tuple(u.shape)}")
        return process.corrupt(x0, process.local(t, y), u)

    x = space.project(leafwise(process, corrupt, x0, u, reference))
    pred = denoiser(x, t, **({} if reference is None else {"reference": reference}), **(condition or {}))
    counts = places(space, x0)
    if mask is not None:
        counts = tree_map(lambda c, m: c & spread(m, c, "a loss mask"), counts, mask)
    if known is not None:
        counts = tree_map(lambda c: c & ~spread(known, c, "known"), counts)
    return Asked(pred, x0, counts)


def spread(mask: Tensor, like: Tensor, what: str) -> Tensor:
    """A boolean mask of leading dimensions, so that it applies to `like`.

    Raises:
        TypeError, ValueError: for masks that are not boolean, or do not fit; the message calls them `what`.
    """
    if mask.dtype != torch.bool:
        raise TypeError(f"{what} is a boolean tensor, got {mask.dtype}; use .bool()")
    if mask.ndim > like.ndim or any(m not in (1, n) for m, n in zip(mask.shape, like.shape, strict=False)):
        raise ValueError(f"{what} of shape {tuple(mask.shape)} does not fit {tuple(like.shape)}")
    return level(mask, like)


def clean_tokens(process: Process | ProductProcess, x0: Tree, space: Space) -> Tree:
    """The clean tokens, long, zero in padding; refused where they cannot be data.

    Raises:
        TypeError: for tokens that are no integers.
        ValueError: for empty sequences, tokens out of range, the mask, and tokens of frequency zero; the message names
            the first one and its place.
    """
    x0, real = space.project(x0), places(space, x0)

    def leaf(process: Process, x0: Tensor, real: Tensor) -> Tensor:
        process.check(x0, "clean tokens")
        mask_id = getattr(process, "mask_id", None)
        if mask_id is not None:
            _refuse(
                (x0 == mask_id) & real,
                x0,
                f"is the mask of {process!r}, which is no data: the mask is a state of its own beside the data's "
                f"{process.states - 1} tokens",
            )
        if isinstance(process, Marginal):
            none = torch.tensor([p == 0.0 for p in process.probs], device=x0.device)
            _refuse(none[x0] & real, x0, f"has frequency zero in {process!r}: take frequencies that cover the data")
        return x0.long()

    return leafwise(process, leaf, x0, real)


def _refuse(bad: Tensor, x0: Tensor, why: str) -> None:
    where = bad.nonzero()
    if len(where):
        place = tuple(where[0].tolist())
        raise ValueError(f"clean token {int(x0[place])} at {place} {why} ({len(where)} such tokens)")
