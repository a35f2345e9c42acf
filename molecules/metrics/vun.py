r"""Validity, uniqueness and novelty of graphs that are no molecules ("V.U.N." of SPECTRE and DiGress).

======================  ================================================================================================
``graphs_connected``    of all graphs, those in one piece
``graphs_planar``       of all graphs, those that are planar *and* in one piece: what is valid for the set "planar"
``graphs_unique``       different graphs over their number
``graphs_novel``        of the different ones, those that are not in the training set
======================  ================================================================================================

Two graphs are the same if they are isomorphic: those with the same Weisfeiler-Lehman hash (4 rounds) are compared
exactly. Graphs are simple, labels and weights count nowhere, as in :mod:`.graphs`; a graph without nodes is not valid.
"""

from __future__ import annotations

import warnings
from typing import Any

from ...core.scores import Score
from ..data.extras import networkx
from .containers import as_matrices
from .graphs import adjacency
from .uncertainty import share

__all__ = ["graph_vun"]

_ROUNDS = 4


class _Classes:
    """Isomorphism classes of graphs met so far."""

    def __init__(self) -> None:
        self.by_hash: dict[str, list[Any]] = {}

    def has(self, graph: Any, add: bool) -> bool:
        """Whether a graph like this was met; it is now, if `add`."""
        nx = networkx()
        with warnings.catch_warnings():  # that hashes differ between versions: none is kept
            warnings.simplefilter("ignore", UserWarning)
            key = nx.weisfeiler_lehman_graph_hash(graph, iterations=_ROUNDS)
        alike = self.by_hash.get(key, [])
        found = any(nx.is_isomorphic(graph, other) for other in alike)
        if add and not found:
            self.by_hash.setdefault(key, []).append(graph)
        return found


def graph_vun(
    graphs: Any,
    train: Any = None,
    *,
    planar: bool = False,
    level: float = 0.95,
) -> dict[str, Score]:
    """The scores of the module, by name.

    Args:
        graphs: networkx graphs, matrices (n, n) whose every row is a node that exists, `Graphs` or `GraphSamples`.
        train: the training graphs, alike, for ``graphs_novel``; left out where None.
        planar: with ``graphs_planar``.

    Raises:
        ImportError: networkx is missing. ValueError: no graphs, or matrices that are no graphs.
    """
    nx = networkx()
    simple = [nx.from_numpy_array(adjacency(graph)) for graph in as_matrices(graphs)]
    if not simple:
        raise ValueError("the list of graphs is empty: there is nothing to score")
    n = len(simple)
    linked = [len(g) > 0 and nx.is_connected(g) for g in simple]
    scores = [share("graphs_connected", sum(linked), n, "graphs in one piece", level=level)]
    if planar:
        flat = sum(one and nx.check_planarity(g)[0] for one, g in zip(linked, simple, strict=True))
        scores.append(share("graphs_planar", flat, n, "graphs that are planar and in one piece", level=level))
    met = _Classes()
    different = [g for g in simple if not met.has(g, add=True)]
    text = "graphs not isomorphic to an earlier one, over their number"
    scores.append(share("graphs_unique", len(different), n, text, level=level))
    if train is not None:
        known = _Classes()
        for graph in as_matrices(train):
            known.has(nx.from_numpy_array(adjacency(graph)), add=True)
        new = sum(not known.has(g, add=False) for g in different)
        text = "different graphs that are isomorphic to no training graph"
        scores.append(share("graphs_novel", new, len(different), text, level=level))
    return {score.name: score for score in scores}
