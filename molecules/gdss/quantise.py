r"""From the real numbers that :mod:`.model` samples to graphs, and from graphs to molecules.

*Molecules.* Bond orders: A < 1/2, < 3/2, < 5/2, and above are 0, 1, 2, 3. Types: the published rule thresholds X at
1/2, gives what is left of one (1 - sum) to a virtual type and takes the argmax: the first type above 1/2, and no atom
where there is none. Virtual atoms are dropped with their bonds: a graph may be smaller than it was drawn, or empty.

*Other graphs.* An edge is A >= 1/2. Nodes without an edge are dropped, as published (a graph without an edge is then
one node), or kept. X was the degree, which A says by itself, or types (argmax), or features, which stay as they are.

Existing nodes are moved to the front in their order.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..building import unsanitised
from ..data.graphs import Graphs
from ..data.standardise import ChangedMolecules
from ..data.vocabulary import element, parse_type
from .config import GDSSConfig

__all__ = ["Discrete", "Meaning", "elements_only", "quantise", "to_graphs", "to_molecules"]


class Meaning(NamedTuple):
    """What X and A of a model mean.

    Attributes:
        inputs: "types", "degrees" or "features": what X is.
        vocabulary, hydrogens: of the graphs, see `Graphs`; hydrogens is None where they are no molecules.
    """

    inputs: str
    vocabulary: tuple[str, ...] | None
    hydrogens: str | None

    @property
    def molecules(self) -> bool:
        """Whether the graphs are molecules."""
        return self.hydrogens is not None


class Discrete(NamedTuple):
    """Quantised states: A (B, N, N) uint8, mask (B, N), types (B, N) uint8 (meaningless for untyped graphs), and where
    each node was before existing ones moved to the front, (B, N) long."""

    A: Tensor
    mask: Tensor
    types: Tensor
    order: Tensor


def quantise(X: Tensor, A: Tensor, mask: Tensor, config: GDSSConfig, molecules: bool) -> Discrete:
    """Thresholds, policies on nodes, and order; see the module.

    Args:
        X, A, mask: (B, N, F), (B, N, N), (B, N).
        config: says what becomes of isolated nodes and virtual atoms.
        molecules: whether they are molecules.
    """
    types = X.argmax(-1)
    if molecules:
        orders = (A >= 0.5).to(torch.uint8) + (A >= 1.5).to(torch.uint8) + (A >= 2.5).to(torch.uint8)
        if config.virtual == "drop":
            sure = X > 0.5
            types = sure.to(torch.uint8).argmax(-1)  # of several the first
            mask = mask & sure.any(-1)
    else:
        orders = (A >= 0.5).to(torch.uint8)
        if config.isolated == "drop":
            linked = mask & orders.ne(0).any(-1)
            first = torch.arange(mask.shape[1]) == mask.to(torch.uint8).argmax(1, keepdim=True)
            mask = torch.where(linked.any(1, keepdim=True), linked, first)
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
    mask, types = mask.gather(1, order), types.gather(1, order)
    orders = torch.take_along_dim(torch.take_along_dim(orders, order[:, :, None], 1), order[:, None, :], 2)
    return Discrete(orders * (mask[:, :, None] & mask[:, None, :]), mask, (types * mask).to(torch.uint8), order)


def to_graphs(X: Tensor, A: Tensor, mask: Tensor, config: GDSSConfig, meaning: Meaning) -> tuple[Graphs, list[int]]:
    """Samples as graphs, without the empty ones, and the places of those that are not empty (their ``ids``).

    Raises:
        ValueError: all of them are empty.
    """
    d = quantise(X, A, mask, config, meaning.molecules)
    keep = d.mask.any(1).nonzero().flatten()
    if len(keep) == 0:
        raise ValueError(
            f"all {len(mask)} samples are empty: no node has a type above 1/2. Is the model trained? "
            'virtual="argmax" gives every node its likeliest type'
        )
    typed = meaning.inputs == "types"
    features = None
    if meaning.inputs == "features":
        features = (torch.take_along_dim(X, d.order[:, :, None], 1) * d.mask[..., None])[keep]
    graphs = Graphs(
        d.A[keep],
        d.mask[keep],
        d.types[keep] if typed else None,
        meaning.vocabulary if typed else None,
        meaning.hydrogens,  # type: ignore[arg-type]
        features,
        ids=tuple(keep.tolist()),
    )
    return graphs, keep.tolist()


def to_molecules(d: Discrete, meaning: Meaning) -> list[Any]:
    """RDKit molecules, not sanitised, one a graph; see :func:`..building.unsanitised`."""
    return unsanitised(d.A, d.mask, d.types, meaning.vocabulary or (), meaning.hydrogens or "implicit")


def elements_only(graphs: Graphs) -> Graphs:
    """Molecules whose types are elements, charges left out, as the published models are trained: ``N+`` becomes ``N``.

    Sampling gives charges back to N, O and S one above their valence; anions do not come back: the acetate ion becomes
    acetic acid. How many molecules lose charges, and of which atoms, is said in a
    :class:`~scidiffuse.molecules.data.ChangedMolecules` warning. SMILES stay as given.

    Raises:
        ValueError: the graphs are no molecules.
    """
    if graphs.hydrogens is None or graphs.types is None or graphs.vocabulary is None:
        raise ValueError("these graphs are no molecules: they have no atom types")
    symbols = [element(parse_type(name)[0]) for name in graphs.vocabulary]
    vocabulary = tuple(dict.fromkeys(symbols))
    index = torch.tensor([vocabulary.index(symbol) for symbol in symbols], dtype=torch.uint8)
    _warn_of_charges(graphs.types, graphs.mask, graphs.vocabulary)
    return replace(graphs, types=index[graphs.types.long()] * graphs.mask, vocabulary=vocabulary)


def _warn_of_charges(types: Tensor, mask: Tensor, vocabulary: Sequence[str]) -> None:
    """Say how many molecules have charged atoms, and how many atoms of each charged type there are."""
    charged = torch.tensor([parse_type(name)[1] != 0 for name in vocabulary])
    atoms = charged[types.long()] & mask
    molecules = int(atoms.any(1).sum())
    if not molecules:
        return
    counts = torch.bincount(types[atoms].long(), minlength=len(vocabulary)).tolist()
    listing = ", ".join(f"{count} {name}" for name, count in zip(vocabulary, counts, strict=True) if count)
    warnings.warn(
        f"elements_only: charges dropped in {molecules} of {len(mask)} molecules ({listing}); sampling gives them back "
        "to N, O and S one above their valence, to no other atom",
        ChangedMolecules,
        stacklevel=3,
    )
