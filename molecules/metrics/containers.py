"""What scores take beside lists: the containers of this wing as they are, without their absent nodes.

===================  ==========================================  ===================================================
container            as molecules                                as graphs
===================  ==========================================  ===================================================
`Graphs`             its SMILES, else its atoms and bonds        adjacency matrices of the nodes that its mask has
`GraphSamples`       its molecules, one a sample, None for none  those of its graphs (samples without nodes: in none)
`Atoms`              its SMILES
`AtomSamples`        its SMILES, one a sample, None for none
===================  ==========================================  ===================================================
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..building import unsanitised
from ..data.atoms import Atoms
from ..data.graphs import Graphs

__all__ = ["as_graphs", "as_matrices", "as_molecules", "built", "other_graphs", "refuse_text"]


def refuse_text(given: Any, what: str) -> None:
    """Refuse one string or path where many things are expected: its letters are none of them.

    Raises:
        TypeError: that says to read the file first.
    """
    if isinstance(given, str | Path):
        raise TypeError(
            f"expected a list of {what}, got one string, {str(given)!r}: put it in a list, or read the file first "
            "(mo.read_smiles, mo.read)"
        )


def as_molecules(given: Any) -> Any:
    """SMILES or molecules (not always sanitised), None for none, of a container; anything else as it is.

    Raises:
        TypeError: a container without molecules, or one string.
    """
    refuse_text(given, "molecules")
    if isinstance(given, Graphs):
        if given.smiles is not None:
            return list(given.smiles)
        if given.hydrogens is None:
            raise TypeError(f"expected molecules, got {given!r}: these graphs have no atom types (hydrogens=None)")
        return built(given)
    if _held(given, Graphs) is not None:
        if given.mols is None:
            raise TypeError("expected molecules: these samples are other graphs; graph_mmd and graph_vun score them")
        return given.mols
    atoms = given if isinstance(given, Atoms) else _held(given, Atoms)
    if atoms is None:
        return given
    if given.smiles is None:
        raise TypeError(f"expected molecules, got {atoms!r} without SMILES: give molecules, such as atoms.to_mols()")
    return [smiles or None for smiles in given.smiles]


def as_graphs(given: Any) -> Any:
    """`Graphs` of samples; anything else as it is.

    Raises:
        TypeError: atoms in space, which are no graphs, or one string.
    """
    refuse_text(given, "graphs")
    if isinstance(given, Atoms) or _held(given, Atoms) is not None:
        raise TypeError("expected graphs, got atoms in space: they have no edges of their own")
    held = _held(given, Graphs)
    return given if held is None else held


def other_graphs(given: Any) -> Graphs | None:
    """`Graphs`, or those of samples, that are no molecules; None for anything else."""
    held = given if isinstance(given, Graphs) else _held(given, Graphs)
    return held if isinstance(held, Graphs) and held.hydrogens is None else None


def as_matrices(given: Any) -> Any:
    """Bond orders or adjacency (n, n) of each graph of a container, n the nodes that exist; anything else as it is.

    Raises:
        TypeError: as :func:`as_graphs`.
    """
    graphs = as_graphs(given)
    if not isinstance(graphs, Graphs):
        return graphs
    return [a[np.ix_(m, m)] for a, m in zip(graphs.A.numpy(), graphs.mask.numpy(), strict=True)]


def built(graphs: Graphs) -> list[Any]:
    """The molecules of graphs of molecules, not sanitised: step 1 of the protocol of :mod:`..chem`.

    Raises:
        TypeError: graphs without atom types.
    """
    if graphs.types is None or graphs.vocabulary is None or graphs.hydrogens is None:
        raise TypeError(f"expected molecules, got {graphs!r}: these graphs have no atom types (hydrogens=None)")
    return unsanitised(graphs.A, graphs.mask, graphs.types, graphs.vocabulary, graphs.hydrogens)


def _held(given: Any, kind: type) -> Any:
    """The `Graphs` or `Atoms` that the samples of a model hold, None where something is no samples of that kind."""
    found = getattr(given, "graphs" if kind is Graphs else "atoms", None)
    return found if isinstance(found, kind) else None
