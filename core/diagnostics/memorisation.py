r"""Did the model learn the data or store them? Generated samples against their nearest training samples.

A small distance to the training set means nothing by itself: in a dense region everything is near something. The scale
is the training set's own. With d(i, j) the root mean square difference of generated sample i and training sample j,

    ratio_i = d(i, j*) / d(j*, nearest other training sample),           j* = argmin_j d(i, j):

about 1 for a fresh draw, small for a copy; below 1/2 by chance with a probability of the order 2^-n in n effective
dimensions, so that in a handful of them single flags mean little. The *tile* distance guards against backgrounds:
large flat areas make different images look alike on average. A sample is cut into tiles (4 x 4 by default) and

    tile(i, j) = max over tiles of the root mean square difference in that tile,

so that two samples are near only if they agree everywhere. Generations that agree among themselves in this sense, in
connected groups of three and more, are the mark of a memorised sample that can be extracted without the training set.

All distances are taken block by block: at most `max_batch` by `max_batch` at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from ..spaces import Euclidean, Masked, Space

__all__ = ["MemorisationReport", "Pair", "audit_memorisation", "nearest", "tile_groups"]


@dataclass(frozen=True)
class Pair:
    """A generated sample that is suspiciously near a training sample.

    Attributes:
        generated, training: their names (indices without names).
        distance: root mean square difference, in units of the data.
        ratio: to the training sample's distance to its own nearest neighbour.
        tile: largest root mean square difference of a tile.
        by: the tests that flagged it: "ratio", "tile".
    """

    generated: str
    training: str
    distance: float
    ratio: float
    tile: float
    by: tuple[str, ...]


@dataclass(frozen=True)
class MemorisationReport:
    """What `audit_memorisation` returns.

    Attributes:
        pairs: the flagged ones, nearest first.
        groups: connected groups of at least `group` generations within the tile threshold, by name.
        distance, index: to and of the nearest training sample of each generation, (G,).
        ratio: of each generation, (G,).
        tile_distance, tile_index: smallest tile distance of each generation and where, (G,).
        train_distance: each training sample's distance to its nearest neighbour, (T,).
        rank: share of training samples that are at least as near to another one, (G,): about uniform for fresh
            draws, near 0 for copies.
        duplicates: training samples that another one equals.
        ratio_threshold, tile_threshold: what was flagged.
    """

    pairs: list[Pair]
    groups: list[tuple[str, ...]]
    distance: Tensor
    index: Tensor
    ratio: Tensor
    tile_distance: Tensor
    tile_index: Tensor
    train_distance: Tensor
    rank: Tensor
    duplicates: int
    ratio_threshold: float
    tile_threshold: float

    @property
    def share(self) -> float:
        """Share of generations that were flagged."""
        return len(self.pairs) / len(self.distance)

    def __str__(self) -> str:
        median = float(self.ratio.median())
        lines = [
            f"{len(self.pairs)} of {len(self.distance)} samples are flagged (ratio < {self.ratio_threshold:g} or tile "
            f"distance < {self.tile_threshold:.3g}); median ratio {median:.2f}; {len(self.groups)} groups of "
            f"near-equal samples; {self.duplicates} duplicates among the {len(self.train_distance)} training samples"
        ]
        lines += [
            f"  {p.generated} ~ {p.training}: distance {p.distance:.3g}, ratio {p.ratio:.2f}, tile {p.tile:.3g}"
            for p in self.pairs[:10]
        ]
        return "\n".join(lines)


def audit_memorisation(
    generated: Tensor,
    training: Tensor,
    *,
    names: Sequence[str] | None = None,
    training_names: Sequence[str] | None = None,
    ratio: float = 0.5,
    tiles: int | Sequence[int] = 4,
    tile_threshold: float | None = None,
    group: int = 3,
    features: Callable[[Tensor], Tensor] | None = None,
    space: Space | None = None,
    max_batch: int = 1024,
) -> MemorisationReport:
    """Compare generated samples with the training set.

    N. Carlini et al., "Extracting training data from diffusion models", USENIX Security 2023, section 4 (tiles, groups
    of generations) and section 5 (distances relative to other samples).

    Args:
        generated: (G, ...).
        training: (T, ...), T >= 2.
        names, training_names: for the report; default indices.
        ratio: flag below this distance ratio.
        tiles: tiles along each of the last (up to two) dimensions, one number or one for each.
        tile_threshold: flag below this tile distance, in units of the data; default half the 5 % quantile of the tile
            distances between training samples and their nearest others.
        group: smallest group of generations.
        features: a map of a block of samples to vectors in which distances mean something (fingerprints, invariant
            descriptors); tiles are then not used.
        space: where the samples live, for spaces without a meaningful distance to be refused.
        max_batch: block size; memory is of the order max_batch^2.

    Raises:
        TypeError: for samples that are not floating-point tensors.
        ValueError: for shapes that do not fit, and for spaces in which the plain distance is not one: point clouds and
            graphs are the same under rotation or relabelling; give features=.
    """
    generated, training = _checked(generated, training, space, features)
    if features is not None:
        generated, training = _mapped(features, generated, max_batch), _mapped(features, training, max_batch)
        tiles = 1
    if not ratio > 0.0 or group < 2:
        raise ValueError(f"ratio must be positive and group at least 2, got {ratio} and {group}")
    cuts = _cuts(generated.shape[1:], tiles)
    labels = _names(names, len(generated), "names")
    training_labels = _names(training_names, len(training), "training_names")
    distance, index = nearest(generated, training, max_batch=max_batch)
    own, _ = nearest(training, None, max_batch=max_batch)
    exact = own == 0.0
    usual = own[~exact].median() if bool((~exact).any()) else own.new_tensor(1.0)
    scale = torch.where(exact, usual, own)  # a duplicate has no distance of its own
    relative = distance / scale[index]
    tile, tile_index = _nearest(generated, training, cuts, max_batch)
    if tile_threshold is None:
        own_tile, _ = _nearest(training, None, cuts, max_batch)
        own_tile = own_tile[own_tile > 0]
        tile_threshold = 0.5 * float(own_tile.quantile(0.05)) if len(own_tile) else 0.0
    elif not tile_threshold >= 0.0:
        raise ValueError(f"tile_threshold must not be negative, got {tile_threshold}")
    by_ratio, by_tile = relative < ratio, tile < tile_threshold
    pairs = []
    for i in (by_ratio | by_tile).nonzero().flatten().tolist():
        j = int(index[i]) if bool(by_ratio[i]) else int(tile_index[i])
        d = float(_rms(generated[i : i + 1], training[j : j + 1])[0, 0])
        worst = float(_tile(generated[i : i + 1], training[j : j + 1], cuts)[0, 0])
        by = tuple(name for name, flags in (("ratio", by_ratio), ("tile", by_tile)) if bool(flags[i]))
        pairs.append(Pair(labels[i], training_labels[j], d, d / float(scale[j]), worst, by))
    pairs.sort(key=lambda pair: pair.ratio)
    groups = tile_groups(generated, tile_threshold, tiles=tiles, least=group, max_batch=max_batch)
    rank = torch.searchsorted(own.sort().values, distance, right=True).double() / len(own)
    return MemorisationReport(
        pairs, [tuple(labels[i] for i in one) for one in groups], distance, index, relative, tile, tile_index, own,
        rank, int(exact.sum()), ratio, tile_threshold,
    )  # fmt: skip


def nearest(x: Tensor, others: Tensor | None, *, max_batch: int = 1024) -> tuple[Tensor, Tensor]:
    """Root mean square distance to, and index of, the nearest of `others` for each of x; `others=None`: another of x.

    Args:
        x: (B, ...).
        others: (T, ...) or None.
        max_batch: block size.

    Returns:
        Distances, float64 (B,), and indices, long (B,).
    """
    return _nearest(x, others, None, max_batch)


def tile_groups(
    x: Tensor, threshold: float, *, tiles: int | Sequence[int] = 4, least: int = 3, max_batch: int = 1024
) -> list[tuple[int, ...]]:
    """Connected groups of samples whose tile distance is below `threshold`, largest first.

    Args:
        x: (B, ...).
        threshold: in units of the data.
        tiles: as for `audit_memorisation`.
        least: smallest group.
        max_batch: block size.
    """
    cuts = _cuts(x.shape[1:], tiles)
    parent = list(range(len(x)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, first in _blocks(x, max_batch):
        for b, second in _blocks(x[a:], max_batch):
            close = (_tile(first, second, cuts) < threshold).nonzero().tolist()
            for i, j in close:
                parent[root(a + i)] = root(a + b + j)
    members: dict[int, list[int]] = {}
    for i in range(len(x)):
        members.setdefault(root(i), []).append(i)
    return sorted((tuple(m) for m in members.values() if len(m) >= least), key=lambda m: (-len(m), m))


def _checked(
    generated: Tensor, training: Tensor, space: Space | None, features: Callable[[Tensor], Tensor] | None
) -> tuple[Tensor, Tensor]:
    for name, x in (("generated", generated), ("training", training)):
        if not isinstance(x, Tensor) or not x.is_floating_point():
            came = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"{name} must be a floating-point tensor (B, ...), got {came}")
        if x.ndim < 2:
            raise ValueError(f"{name} must have shape (B, ...), got {tuple(x.shape)}")
    if space is not None and features is None and not isinstance(space, Euclidean | Masked):
        raise ValueError(
            f"states of {space!r} are equal under rotation or relabelling, so their plain distance means nothing: give "
            "features=, a function to invariant vectors"
        )
    if generated.shape[1:] != training.shape[1:]:
        raise ValueError(f"generated samples are {tuple(generated.shape[1:])}, training {tuple(training.shape[1:])}")
    if len(generated) < 1 or len(training) < 2:
        raise ValueError(f"need samples and at least 2 training samples, got {len(generated)} and {len(training)}")
    for name, x in (("generated", generated), ("training", training)):
        if not bool(torch.isfinite(x).all()):
            raise ValueError(f"{name} holds values that are not finite")
    return generated.detach(), training.detach()


def _mapped(features: Callable[[Tensor], Tensor], x: Tensor, size: int) -> Tensor:
    out = torch.cat([features(block) for _, block in _blocks(x, size)])
    if out.ndim != 2 or len(out) != len(x):
        raise ValueError(f"features must map (B, ...) to vectors (B, F), got {tuple(out.shape)} for {len(x)} samples")
    return out


def _names(names: Sequence[str] | None, size: int, what: str) -> list[str]:
    if names is None:
        return [str(i) for i in range(size)]
    if len(names) != size:
        raise ValueError(f"{what} holds {len(names)} names for {size} samples")
    return [str(name) for name in names]


def _blocks(x: Tensor, size: int) -> Iterator[tuple[int, Tensor]]:
    if size < 1:
        raise ValueError(f"max_batch must be at least 1, got {size}")
    for start in range(0, len(x), size):
        yield start, x[start : start + size]


def _cuts(shape: Sequence[int], tiles: int | Sequence[int]) -> list[Any]:
    """Tiles of the last dimensions, as even as they go."""
    axes = min(2, len(shape)) if isinstance(tiles, int) else len(tiles)
    counts = [tiles] * axes if isinstance(tiles, int) else [int(k) for k in tiles]
    if not 0 < axes <= len(shape) or min(counts) < 1:
        raise ValueError(f"tiles={tiles} does not fit samples of shape {tuple(shape)}")
    sides = list(zip(shape[len(shape) - axes :], counts, strict=True))
    if isinstance(tiles, int):
        sides = [(n, min(n, k)) for n, k in sides]
    elif any(k > n for n, k in sides):
        raise ValueError(f"{counts} tiles do not fit into sides of {[n for n, _ in sides]}")
    ranges = [[slice(n * k // count, n * (k + 1) // count) for k in range(count)] for n, count in sides]
    return [(..., *cut) for cut in product(*ranges)]


def _rms(a: Tensor, b: Tensor) -> Tensor:
    a, b = a.double().flatten(1), b.double().flatten(1)
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist") / math.sqrt(a.shape[1])


def _tile(a: Tensor, b: Tensor, cuts: list[Any]) -> Tensor:
    out = _rms(a[cuts[0]], b[cuts[0]])
    for cut in cuts[1:]:
        torch.maximum(out, _rms(a[cut], b[cut]), out=out)
    return out


def _nearest(x: Tensor, others: Tensor | None, cuts: list[Any] | None, size: int) -> tuple[Tensor, Tensor]:
    against = x if others is None else others
    best, place = [], []
    for a, first in _blocks(x, size):
        low = torch.full((len(first),), math.inf, dtype=torch.float64, device=x.device)
        at = torch.zeros(len(first), dtype=torch.long, device=x.device)
        for b, second in _blocks(against, size):
            d = _rms(first, second) if cuts is None else _tile(first, second, cuts)
            if others is None and a == b:
                d.fill_diagonal_(math.inf)
            value, index = d.min(1)
            at = torch.where(value < low, index + b, at)
            low = torch.minimum(value, low)
        best.append(low)
        place.append(at)
    return torch.cat(best), torch.cat(place)
