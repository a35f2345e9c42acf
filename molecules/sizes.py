"""How many nodes or atoms a sample has."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..core.noise import keyed_generator

__all__ = ["counts_of", "draw_sizes"]


def draw_sizes(histogram: Tensor, n: int, seed: int, least: int = 1) -> Tensor:
    """Node counts of n samples, (n,) long, from the histogram (N + 1,) of counts of at least `least`.

    Raises:
        ValueError: no training graph has so many nodes.
    """
    weights = histogram.double().clone()
    weights[:least] = 0.0
    if not bool(weights.sum() > 0):
        largest = int(histogram.nonzero().max())
        hint = ": take a smaller scaffold" if least > 1 else ""
        raise ValueError(f"no training graph has {least} nodes or more, the largest has {largest}{hint}")
    u = torch.from_numpy(keyed_generator(seed, "sizes").random(n))
    places = torch.cumsum(weights / weights.sum(), 0)
    top = int(weights.nonzero().max())
    return torch.searchsorted(places, u, right=True).clamp_max(top)


def counts_of(
    histogram: Tensor, n: int, nodes: int | Sequence[int] | None, seed: int, held: int = 0, what: str = "nodes"
) -> Tensor:
    """Node counts of n samples, (n,) long: as asked for, or drawn.

    Args:
        histogram: (N + 1,), shares of training graphs with 0..N nodes.
        nodes: one number for all, one a sample, or None: drawn from the histogram.
        seed: of the draw.
        held: nodes that are given; drawn graphs have more.
        what: they are, for messages: "nodes", "atoms", "letters".

    Raises:
        ValueError: not n counts, counts below `held` or beyond N.
    """
    if nodes is None:
        return draw_sizes(histogram, n, seed, held + 1)
    counts = torch.as_tensor(nodes).long().expand(n) if isinstance(nodes, int) else torch.as_tensor(nodes).long()
    if counts.shape != (n,):
        raise ValueError(f"give one number of {what}, or one for each of {n} samples; got {tuple(counts.shape)}")
    low, high = max(1, held), len(histogram) - 1
    if bool((counts < low).any()) or bool((counts > high).any()):
        least, most = int(counts.min()), int(counts.max())
        came = str(least) if least == most else f"{least} to {most}"
        raise ValueError(f"samples have {low} to {high} {what} (the model's largest), got {came}")
    return counts
