r"""The denoising loss, in plain torch, for every prediction kind and every space.

With x_t = alpha x0 + beta y + sigma n and the target r*(x0, n, t) of the network's raw output r,

    L_i = sum_e m_e w(t_i) |r*_e - r_e|^2 / sum_e m_e         (a sample)
    L   = mean_i L_i                                            (a batch)

where e runs over the elements that count: those of the space (behind no mask), those of a loss mask, and not those that
were given as known. A masked mean is taken sample by sample and never over the batch, so that a sample weighs the same
however long it is and whatever it is batched with. The error is projected onto the space first: what the network says
outside of it is never used and must not be trained on.

A training loop without any framework::

    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(denoiser.network.parameters(), lr=1e-3)
    for step in range(1000):
        x0 = data[torch.randint(len(data), (64,), generator=generator)]
        t = Uniform().draw((64,), generator)
        loss = denoising_loss(denoiser, x0, t, noise=Streamed(generator))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ..denoisers import Denoiser, check_condition
from ..noise import Noise, family_noise
from ..spaces import Euclidean, Space, ZeroCoM, default_space, expand
from ..tree import Tree, batch_size, leaves
from .conditioning import check_null, drop_condition, perturb_embedding, perturbing
from .keys import Keys
from .times import TimeSampler, Uniform, hold_known
from .weightings import Weighting, raw_weight

__all__ = ["Objective", "Streamed", "denoising_loss"]


@dataclass(frozen=True)
class Streamed:
    """Noise from a generator, in the order in which it is asked for: for plain loops. A `Noise`."""

    generator: torch.Generator

    def __call__(self, like: Tensor, draw: int = 0, role: str = "noise") -> Tensor:
        """Standard normal numbers of the shape, type and device of `like`."""
        device = self.generator.device
        z = torch.randn(like.shape, generator=self.generator, dtype=like.dtype, device=device)
        return z.to(like.device)


def denoising_loss(
    denoiser: Denoiser,
    x0: Tree,
    t: Tensor,
    *,
    noise: Noise | Tree,
    condition: Mapping[str, Any] | None = None,
    reference: Tree | None = None,
    mask: Tree | None = None,
    known: Tensor | None = None,
    weighting: Weighting | None = None,
    distance: Callable[[Tensor], Tensor] = torch.square,
    leaf_weights: Mapping[str, float] | None = None,
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """The loss of a denoiser on clean data.

    Args:
        denoiser: what is trained; its space tells which elements count.
        x0: clean data (B, ...), or a dictionary of leaves. In the data's coordinates, also where the schedule acts in
            another basis.
        t: times (B,), or (B, L) for one time an element.
        noise: the noise n itself, a tree like x0 (of the space, in the schedule's basis), or a `Noise` to draw it from.
        condition: passed to the network by name.
        reference: the known y of restoration schedules, like x0.
        mask: boolean, True = counts, of the shape of x0 or of its leading dimensions (a dictionary for product states).
        known: boolean (B, L); these elements are given as clean data (time 0) and do not count.
        weighting: omega of `weightings`; None weighs the raw error by one.
        distance: elementwise function of the raw error with distance(0) = 0; the square.
        leaf_weights: weight of each leaf of a product state; one.
        reduction: "mean" over the batch, or "none" for the loss of each sample, (B,).

    Raises:
        TypeError: for integer times and masks that are not boolean.
        ValueError: for shapes that do not fit, and for times that vary inside a sample of a space that forbids it.
    """
    if reduction not in ("mean", "none"):
        raise ValueError(f'reduction must be "mean" or "none", got {reduction!r}')
    batch = batch_size(x0)
    if not isinstance(t, Tensor) or not t.is_floating_point():
        came = t.dtype if isinstance(t, Tensor) else type(t).__name__
        raise TypeError(f"t is a floating-point tensor of shape (B,) or (B, L), got {came}")
    schedule, space = denoiser.schedule, denoiser.space or default_space(x0)
    space.check(x0)
    if known is not None:
        t = hold_known(t, known)
    if t.ndim not in (1, 2) or t.shape[0] != batch:
        raise ValueError(f"t must have shape (B,) or (B, L) with B = {batch}, got {tuple(t.shape)}")
    if t.ndim == 2 and not space.elementwise:
        raise ValueError(
            f"{space!r} needs one time a sample: times that vary inside a sample leave the space; use (B,)"
        )

    if schedule.basis is not None:
        x0 = schedule.basis.forward(x0)
        reference = None if reference is None else schedule.basis.forward(reference)
    x0 = space.project(x0)
    if reference is not None:
        reference = space.project(reference)
    n = family_noise(schedule, space, noise, x0, 0, "noise") if callable(noise) else noise
    x = denoiser.add_noise(x0, n, t, reference)
    raw = denoiser(x, t, reference=reference, **(condition or {})).raw
    target = denoiser.target(x0, n, t, reference)

    safe = t if known is None else torch.where(known.to(t.device), torch.full_like(t, 0.5), t)
    spaces = getattr(space, "spaces", None)
    kinds = denoiser.prediction
    kinds = dict.fromkeys(x0, kinds) if isinstance(x0, dict) and not isinstance(kinds, dict) else kinds
    total: Tensor | None = None
    for name in list(x0) if isinstance(x0, dict) else [None]:

        def pick(tree: Tree, name: str | None = name) -> Tensor:
            return tree if name is None else tree[name]

        weight = raw_weight(weighting, denoiser, safe, name)
        part = _leaf_loss(
            pick(raw),
            pick(target),
            space if name is None or spaces is None else spaces[name],
            None if mask is None else pick(mask),
            known,
            weight,
            distance,
            heads=2 if (kinds if name is None else kinds[name]) == "residual" else 1,
        )
        if name is not None and leaf_weights is not None:
            if set(leaf_weights) != set(x0):
                raise ValueError(f"leaf_weights names {sorted(leaf_weights)}, the state has leaves {sorted(x0)}")
            part = leaf_weights[name] * part
        total = part if total is None else total + part
    assert total is not None
    return total.mean() if reduction == "mean" else total


def _leaf_loss(
    raw: Tensor,
    target: Tensor,
    space: Space,
    mask: Tensor | None,
    known: Tensor | None,
    weight: Tensor | None,
    distance: Callable[[Tensor], Tensor],
    heads: int = 1,
) -> Tensor:
    """Mean over the elements of each sample that count, (B,); over both heads of a residual network."""
    if raw.shape != target.shape:
        raise ValueError(f"the network returned {tuple(raw.shape)}, its target has {tuple(target.shape)}")
    if heads == 2:
        halves = zip(raw.chunk(2, 1), target.chunk(2, 1), strict=True)
        first, second = (_leaf_loss(r, q, space, mask, known, weight, distance) for r, q in halves)
        return (first + second) / 2
    error = space.project(target - raw.to(target.dtype))
    value = distance(error)
    if weight is not None:
        value = value * expand(weight, value)
    masks = [m for m in (mask, None if known is None else ~known) if m is not None]
    if isinstance(space, Euclidean) and not masks:
        return value.flatten(1).mean(1)
    if isinstance(space, ZeroCoM):
        if masks:
            raise ValueError("a mask inside a zero-centre-of-mass state leaves its space: drop whole samples instead")
        return value.flatten(1).sum(1) / space.ndof(error).to(value)
    counts = space.project(torch.ones_like(value))
    for extra in masks:
        counts = counts * _spread(extra, value)
    return (value * counts).flatten(1).sum(1) / counts.flatten(1).sum(1).clamp_min(1)


def _spread(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        raise TypeError(f"a loss mask is a boolean tensor (True = counts), got {mask.dtype}; use mask.bool()")
    if mask.ndim > like.ndim or any(m not in (1, n) for m, n in zip(mask.shape, like.shape, strict=False)):
        raise ValueError(f"a loss mask of shape {tuple(mask.shape)} does not fit {tuple(like.shape)}")
    return mask.reshape(*mask.shape, *[1] * (like.ndim - mask.ndim)).to(like)


_FIELDS = ("x", "condition", "reference", "mask", "known")


@dataclass(frozen=True)
class Objective:
    """What a training minimises: the denoising loss with keyed times, noise and condition dropout.

    `objective(denoiser, batch, keys)` is the loss of each sample, (B,), in plain torch. `fit` needs nothing else, so
    any function of that signature can take its place.

    A batch is a tensor x0 (B, ...), or a dictionary with

    - "x": clean data, a tensor or a dictionary of leaves;
    - "condition": tensors (B, ...) by name, passed to the network (not named x, t, reference, label or state, which
      are the denoiser's own arguments);
    - "reference": the known y of restoration schedules, like x;
    - "mask": boolean, True = counts in the loss;
    - "known": boolean (B, L), True = given as clean data.

    Attributes:
        times: at which times; uniform on (0, 1).
        weighting: omega of `weightings`; None weighs the raw error by one.
        distance: elementwise function of the raw error with distance(0) = 0; the square.
        leaf_weights: weight of each leaf of a product state.
        dropout: probability of replacing the condition by the null condition (training only).
        null: the null condition by name, see `drop_condition`.
        cep: gamma of condition-embedding perturbation, for conditions that are embeddings, by name (training only).
            Embeddings made inside the network take a `ConditionPerturbation` layer instead.
        cep_distribution: "normal" or "uniform".
        space: builds the space of a batch from its dictionary, for spaces whose masks differ from batch to batch;
            the dictionary may then hold further entries. None: the denoiser's own space.
    """

    times: TimeSampler = field(default_factory=Uniform)
    weighting: Weighting | None = None
    distance: Callable[[Tensor], Tensor] = torch.square
    leaf_weights: Mapping[str, float] | None = None
    dropout: float = 0.0
    null: Mapping[str, Any] | None = None
    cep: Mapping[str, float] | None = None
    cep_distribution: Literal["normal", "uniform"] = "normal"
    space: Callable[[Mapping[str, Any]], Space] | None = None

    def __post_init__(self) -> None:
        check_null(self.null, self.dropout)

    def __call__(self, denoiser: Denoiser, batch: Any, keys: Keys, *, training: bool = True) -> Tensor:
        """The loss of each sample, (B,).

        Raises:
            TypeError, ValueError: for a batch that is not as described above, and as `denoising_loss`.
        """
        entries = entries_of(batch, self.space is not None)
        x0 = entries["x"]
        if batch_size(x0) != len(keys):
            raise ValueError(f"the batch holds {batch_size(x0)} samples, there are {len(keys)} keys")
        for leaf in leaves(x0):
            if not leaf.is_floating_point():
                raise TypeError(f"clean data must be floating point, got {leaf.dtype}; use .float()")
        if self.space is not None:
            denoiser = denoiser.on(self.space(entries))
        first = leaves(x0)[0]
        if self.times.per_element and first.ndim < 2:
            raise ValueError(f"one time an element needs data (B, L, ...), got {tuple(first.shape)}")
        length = first.shape[1] if self.times.per_element else 1
        t = self.times.times(keys.uniforms("time", self.times.columns(length)), keys.stratum, keys.strata)

        noise = keys.noise
        condition = dict(entries.get("condition") or {})
        check_condition(condition)
        if training:
            for name, gamma in (self.cep or {}).items():
                if name not in condition:
                    raise ValueError(f"CEP of condition {name!r}, but the batch's condition has {sorted(condition)}")
                condition[name] = perturb_embedding(
                    condition[name], gamma, noise, distribution=self.cep_distribution, role=f"cep/{name}"
                )
            if self.dropout:
                condition = drop_condition(condition, self.null or {}, self.dropout, keys.uniforms("drop")[:, 0])
        with perturbing(denoiser.network if training else None, noise):
            return denoising_loss(
                denoiser,
                x0,
                t,
                noise=noise,
                condition=condition,
                reference=entries.get("reference"),
                mask=entries.get("mask"),
                known=entries.get("known"),
                weighting=self.weighting,
                distance=self.distance,
                leaf_weights=self.leaf_weights,
                reduction="none",
            )


def entries_of(batch: Any, more: bool) -> Mapping[str, Any]:
    """A batch as a dictionary with "x"; see `Objective`.

    Args:
        batch: a tensor, a list of one, or a dictionary.
        more: whether the dictionary may hold other entries than those of `Objective`.

    Raises:
        TypeError, ValueError: for a batch that is not one of these.
    """
    if isinstance(batch, Tensor):
        return {"x": batch}
    if isinstance(batch, list | tuple) and len(batch) == 1 and isinstance(batch[0], Tensor):
        return {"x": batch[0]}
    if not isinstance(batch, Mapping):
        raise TypeError(f"a batch is a tensor or a dictionary with 'x', got {type(batch).__name__}")
    if "x" not in batch:
        raise ValueError(f"a batch's dictionary needs 'x', the clean data; got {sorted(batch)}")
    strange = sorted(set(batch) - set(_FIELDS))
    if strange and not more:
        raise ValueError(
            f"a batch holds {', '.join(_FIELDS)}; got {strange} too: put what the network needs in 'condition'"
        )
    return batch
