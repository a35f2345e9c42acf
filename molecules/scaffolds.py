"""Scaffolds: molecules that every sample contains, as its first nodes."""

from __future__ import annotations

from typing import Any

from .chem import parse
from .data.graphs import Graphs
from .data.molecules import from_mols

__all__ = ["scaffold_graph"]


def scaffold_graph(scaffold: Any, vocabulary: Any, hydrogens: Any, nodes: int) -> Graphs:
    """A scaffold as the graph that a model holds.

    Args:
        scaffold: a SMILES or an RDKit molecule.
        vocabulary, hydrogens, nodes: of the model: types, kind of hydrogens, and largest graph.

    Raises:
        ValueError: no molecule; atoms that the model does not know; more of them than its largest graph.
    """
    mol = parse(scaffold) if isinstance(scaffold, str) else scaffold
    if mol is None:
        raise ValueError(f"the scaffold {scaffold!r} is no molecule")
    try:
        one = from_mols([mol], vocabulary, hydrogens=hydrogens)
    except ValueError as error:
        raise ValueError(f"the scaffold does not fit the model: {error.__cause__ or error}") from None
    if one.A.shape[-1] > nodes:
        raise ValueError(
            f"the scaffold does not fit the model: {one.A.shape[-1]} atoms, its largest molecules have {nodes}; take a "
            "smaller scaffold"
        )
    return one
