"""The text folders of TUDataset (Morris et al., 2020): ENZYMES, PROTEINS, MUTAG, DD ...

``<name>_A.txt`` has one directed edge a line, ``i, j``, of nodes that are counted from 1 through all graphs;
``<name>_graph_indicator.txt`` says for each node to which graph it belongs; ``_node_labels.txt``,
``_node_attributes.txt`` and ``_graph_labels.txt`` are optional. Edge labels are not read.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ...core.files import existing
from ...core.problems import Errors
from .files import read_lines
from .graphs import Graphs
from .interchange import from_adjacency

__all__ = ["read_tudataset"]


def _rows(path: Path) -> np.ndarray:
    """The numbers of a comma-separated file, (rows, columns)."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "loadtxt: input contained no data")
            rows = np.loadtxt(read_lines(path), delimiter=",", ndmin=2)
    except ValueError as error:
        raise ValueError(f"{path.name}: expected numbers and commas, the same number in each line: {error}") from error
    if not len(rows):
        raise ValueError(f"{path.name} is empty")
    return rows


def _counted(path: Path, columns: int, expected: str, most: float = np.inf) -> np.ndarray:
    """The whole numbers from 1 to `most` of a file, (rows, columns)."""
    rows = _rows(path)
    if rows.shape[1] != columns:
        raise ValueError(f"{path.name}: expected {expected}, got {rows.shape[1]} numbers a line")
    return _whole(rows, path.name, expected, 1, most)


def _whole(rows: np.ndarray, name: str, expected: str, least: float = -np.inf, most: float = np.inf) -> np.ndarray:
    """Rows of whole numbers from `least` to `most`, as integers; the first line that has others is named."""
    bad = ~(np.isfinite(rows) & (rows == np.round(rows)) & (rows >= least) & (rows <= most)).all(1)
    if bad.any():
        line = int(bad.argmax())
        came = ", ".join(f"{number:g}" for number in rows[line])
        raise ValueError(f"{name}, line {line + 1}: expected {expected}, got {came}")
    return rows.astype(np.int64)


def read_tudataset(
    folder: str | Path,
    *,
    min_nodes: int = 1,
    max_nodes: int | None = None,
    drop_isolated: bool = False,
    errors: Errors = "raise",
) -> Graphs:
    """A TUDataset folder.

    Args:
        folder: with the files of one set. min_nodes, max_nodes: sizes that are kept. GDSS's ENZYMES is
            ``min_nodes=10, drop_isolated=True``: 587 of 600 graphs, of up to 125 nodes.
        drop_isolated: leave nodes without an edge out, and graphs of which nothing remains.
        errors: ``"skip"`` leaves bad graphs out and names them.

    Returns:
        graphs with the node labels as types (where there are some), ``properties["label"]`` of the graph labels, node
        attributes as ``features``; ids are the numbers of the set, from 1.

    Raises:
        FileNotFoundError: no ``*_A.txt`` or ``*_graph_indicator.txt``.
        ValueError: files of unequal length, numbers that are not whole or not counted from 1, an edge between two
            graphs or out of range, an edge in one direction only, a self-loop, or nothing left.
    """
    folder = existing(folder)
    found = sorted(folder.glob("*_A.txt"))
    if len(found) != 1:
        raise FileNotFoundError(f"expected one file *_A.txt in {folder}, found {[f.name for f in found]}")
    name = found[0].name.removesuffix("_A.txt")
    indicator = existing(folder / f"{name}_graph_indicator.txt")
    graph_of = _counted(indicator, 1, "the number of a graph, whole and counted from 1")[:, 0] - 1
    nodes_there = len(graph_of)
    edges = _counted(found[0], 2, f"pairs of nodes from 1 to {nodes_there}, whole numbers", most=nodes_there) - 1
    crossing = graph_of[edges[:, 0]] != graph_of[edges[:, 1]]
    if crossing.any():
        raise ValueError(f"{found[0].name}, line {int(crossing.argmax()) + 1}: an edge between two graphs")
    labels = _optional(folder / f"{name}_node_labels.txt", len(graph_of), "nodes")
    attributes = _optional(folder / f"{name}_node_attributes.txt", len(graph_of), "nodes")
    targets = _optional(folder / f"{name}_graph_labels.txt", int(graph_of.max()) + 1, "graphs")
    keep = np.bincount(edges.ravel(), minlength=len(graph_of)) > 0 if drop_isolated else np.ones(len(graph_of), bool)
    nodes = [np.flatnonzero((graph_of == g) & keep) for g in range(int(graph_of.max()) + 1)]
    largest = max_nodes if max_nodes is not None else len(graph_of)
    chosen = [g for g, members in enumerate(nodes) if max(min_nodes, 1) <= len(members) <= largest]
    if not chosen:
        raise ValueError(f"{folder.name}: no graph has {min_nodes} to {largest} nodes")
    place = np.full(len(graph_of), -1)
    for members in nodes:
        place[members] = np.arange(len(members))
    adjacencies = {g: np.zeros((len(nodes[g]),) * 2, dtype=np.uint8) for g in chosen}
    for (i, j), g in zip(edges.tolist(), graph_of[edges[:, 0]].tolist(), strict=True):
        if g in adjacencies:
            adjacencies[g][place[i], place[j]] = 1
    if labels is not None:
        labels = _whole(labels[:, :1], f"{name}_node_labels.txt", "a label, a whole number")
    names = None if labels is None else sorted(set(labels[:, 0].tolist()))
    index = {label: i for i, label in enumerate(names or ())}
    types = None if labels is None else [[index[int(t)] for t in labels[nodes[g], 0]] for g in chosen]
    graphs = from_adjacency(
        adjacencies.values(),
        types=types,
        labels=None if names is None else [str(n) for n in names],
        ids=[g + 1 for g in chosen],
        properties={} if targets is None else {"label": targets[chosen, 0]},
        errors=errors,
        source=folder.name,
    )
    if attributes is None:
        return graphs
    features = torch.zeros(*graphs.mask.shape, attributes.shape[1])
    for b, number in enumerate(graphs.ids):
        members = nodes[number - 1]
        features[b, : len(members)] = torch.as_tensor(attributes[members])
    return replace(graphs, features=features)


def _optional(path: Path, count: int, what: str) -> np.ndarray | None:
    if not path.exists():
        return None
    rows = _rows(path)
    if len(rows) != count:
        raise ValueError(f"{path.name} has {len(rows)} lines, there are {count} {what}")
    return rows
