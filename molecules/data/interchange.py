"""Graphs of plain arrays and of networkx: adjacency matrices, ``networkx.Graph``, npz. PyG's are in :mod:`.pyg`.

Each door makes the same checks: an adjacency that is symmetric and has no diagonal (a directed edge or a self-loop is
an error that names the graph), integers where bond orders are meant, a mask that is explicit, so that isolated nodes
and single nodes survive.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...core.files import existing
from ...core.problems import Errors, Problems
from .extras import networkx
from .files import load_arrays
from .graphs import Graphs, check_lengths, stack

__all__ = ["binary", "from_adjacency", "from_networkx", "read_adjacency", "to_networkx"]


def binary(a: Any) -> np.ndarray:
    """One checked adjacency (n, n) of 0 and 1, as bytes.

    Raises:
        ValueError: no square, no 0 and 1, not symmetric, or a self-loop.
    """
    a = np.asarray(a)
    if a.ndim != 2 or a.shape[0] != a.shape[1] or len(a) == 0:
        raise ValueError(f"an adjacency is (n, n) with n >= 1, got shape {a.shape}")
    if not np.isin(a, (0, 1)).all():
        raise ValueError("an adjacency holds 0 and 1; weights and bond orders have no place in a graph without types")
    if (a != a.T).any():
        i, j = np.argwhere(a != a.T)[0]
        raise ValueError(f"the adjacency is not symmetric: entry ({i}, {j}) is {a[i, j]}, ({j}, {i}) is {a[j, i]}")
    if a.diagonal().any():
        raise ValueError(f"node {int(a.diagonal().argmax())} has an edge to itself")
    return a.astype(np.uint8)


def from_adjacency(
    adjacencies: Iterable[Any],
    *,
    types: Sequence[Any] | None = None,
    labels: Sequence[str] | None = None,
    ids: Sequence[Any] | None = None,
    properties: dict[str, Any] | None = None,
    errors: Errors = "raise",
    source: str = "the graphs",
) -> Graphs:
    """Graphs of adjacency matrices (n, n) of 0 and 1, of any sizes; every row is a node, also one without an edge.

    Args:
        adjacencies: arrays or tensors. types: (n,) integers each, numbers of ``labels``.
        labels: what the types are. ids: one a graph. properties: one number a graph each.
        errors: ``"skip"`` leaves bad graphs out and names them. source: for the messages.

    Raises:
        ValueError: no square, no 0 and 1, not symmetric, a self-loop, types that do not fit, not one entry of
            ``types``, ``ids`` and properties a graph, or nothing left.
    """
    adjacencies = list(adjacencies)
    check_lengths(len(adjacencies), "graphs", {"types": types, "ids": ids, **(properties or {})})
    problems = Problems(errors, source)
    parts: list[tuple[np.ndarray, np.ndarray | None]] = []
    rows = []
    for row, a in enumerate(adjacencies):
        with problems.at(f"graph {row if ids is None else ids[row]!r}"):
            a = binary(a)
            kinds = None if types is None else np.asarray(types[row])
            fits = kinds is None or (kinds.shape == (len(a),) and np.isin(kinds, range(len(labels or ()))).all())
            if kinds is not None and not fits:
                raise ValueError(
                    f"expected {len(a)} types from 0 to {len(labels or ()) - 1}, got {kinds.tolist()[:10]}"
                )
            parts.append((a, kinds))
            rows.append(row)
    problems.done(len(parts))
    A, mask, kinds_ = stack(parts)
    return Graphs(
        A,
        mask,
        kinds_,
        None if labels is None else tuple(labels),
        ids=tuple(rows) if ids is None else tuple(ids[r] for r in rows),
        properties={k: torch.as_tensor(np.asarray(v, dtype=np.float64)[rows]) for k, v in (properties or {}).items()},
    )


def from_networkx(graphs: Iterable[Any], *, label: str | None = None, **more: Any) -> Graphs:
    """Graphs of ``networkx.Graph`` objects, their nodes in their own order.

    Args:
        graphs: undirected, without self-loops and parallel edges. label: a node attribute that becomes the types.
        more: ``ids, properties, errors, source`` of :func:`from_adjacency`.

    Raises:
        TypeError: one graph instead of many.
        ValueError: no ``networkx.Graph``, directed, parallel edges, a node without the attribute, labels that are
            neither all numbers nor all text, and those of :func:`from_adjacency`.
    """
    nx = networkx()
    if isinstance(graphs, nx.Graph):
        raise TypeError("expected many graphs, got one: pass [graph]")
    graphs = list(graphs)
    ids, properties = more.pop("ids", None), more.pop("properties", None) or {}
    check_lengths(len(graphs), "graphs", {"ids": ids, **properties})
    problems = Problems(more.pop("errors", "raise"), more.get("source", "the graphs"))
    kept, arrays, names = [], [], []
    for row, graph in enumerate(graphs):
        with problems.at(f"graph {row if ids is None else ids[row]!r}"):
            if not isinstance(graph, nx.Graph):
                raise ValueError(f"expected a networkx.Graph, got {graph!r:.60}")
            if graph.is_directed() or graph.is_multigraph():
                raise ValueError(f"expected an undirected simple graph, got {type(graph).__name__}")
            if graph.number_of_nodes() == 0:
                raise ValueError("a graph without nodes")
            absent = [] if label is None else [n for n, data in graph.nodes(data=True) if label not in data]
            if absent:
                raise ValueError(f"node {absent[0]!r} has no attribute {label!r}")
            arrays.append(binary(nx.to_numpy_array(graph, weight=None)))
            names.append(None if label is None else [data[label] for _, data in graph.nodes(data=True)])
            kept.append(row)
    problems.done(len(kept))
    more["ids"] = kept if ids is None else [ids[r] for r in kept]
    more["properties"] = {k: np.asarray(v, dtype=np.float64)[kept] for k, v in properties.items()}
    if label is None:
        return from_adjacency(arrays, **more)
    odd = [name for row in names for name in row or () if not isinstance(name, str | int | float | np.generic)]
    if odd:
        raise ValueError(f"labels {label!r} are text or numbers, got {odd[0]!r:.60}")
    found: list[Any] = list({name for row in names for name in row or ()})
    if len({isinstance(name, str) for name in found}) > 1:
        raise ValueError(f"labels {label!r} are all text or all numbers, got {sorted(map(repr, found))[:10]}")
    found.sort()
    index = {name: i for i, name in enumerate(found)}
    types = [[index[name] for name in row or ()] for row in names]
    return from_adjacency(arrays, types=types, labels=[str(name) for name in found], **more)


def to_networkx(graphs: Graphs) -> list[Any]:
    """``networkx.Graph`` objects, nodes 0, 1, ...: node attribute ``label`` where there are types, edge attribute
    ``order`` in molecules; absent nodes are left out, isolated ones stay."""
    nx = networkx()
    out = []
    for b in range(len(graphs)):
        there = graphs.mask[b].nonzero().flatten().numpy()
        a = graphs.A[b].numpy()[np.ix_(there, there)]
        graph = nx.Graph()
        graph.add_nodes_from(range(len(there)))
        pairs = zip(*np.triu(a, 1).nonzero(), strict=True)
        for i, j in pairs:
            graph.add_edge(int(i), int(j), **({"order": int(a[i, j])} if graphs.hydrogens else {}))
        if graphs.types is not None and graphs.vocabulary is not None:
            names = {i: graphs.vocabulary[t] for i, t in enumerate(graphs.types[b].numpy()[there])}
            nx.set_node_attributes(graph, names, "label")
        out.append(graph)
    return out


def read_adjacency(path: str | Path, *, errors: Errors = "raise") -> Graphs:
    """Adjacency matrices of an ``.npz`` or ``.npy``.

    One array (B, N, N) in ``A``, ``adj`` or ``adjs`` (or the only one) with ``mask`` (B, N) or ``n_nodes`` (B,) beside
    it; without these every row is a node. Or many arrays (n, n), one a graph, in the order of their names.

    Raises:
        FileNotFoundError: no such file.
        ValueError: pickled content, no such array, and those of :func:`from_adjacency`.
    """
    path = existing(path)
    arrays = {"A": _load_npy(path)} if path.suffix == ".npy" else load_arrays(path)
    key = next((k for k in ("A", "adj", "adjs") if k in arrays), next(iter(arrays)) if len(arrays) == 1 else None)
    if key is not None and arrays[key].ndim == 3:
        batch = arrays[key]
        mask = arrays.get("mask")
        if mask is None and "n_nodes" in arrays:
            mask = np.arange(batch.shape[1]) < arrays["n_nodes"][:, None]
        if mask is None:
            return from_adjacency(batch, errors=errors, source=path.name)
        if mask.shape != batch.shape[:2]:
            raise ValueError(f"{path.name}: mask must be {batch.shape[:2]}, got {mask.shape}")
        there = [m.astype(bool) for m in mask]
        beyond = [i for i, (a, m) in enumerate(zip(batch, there, strict=True)) if a[~m].any() or a[:, ~m].any()]
        if beyond:
            raise ValueError(f"{path.name}: graph {beyond[0]} has an edge at a node that its mask calls absent")
        cut = [a[np.ix_(m, m)] for a, m in zip(batch, there, strict=True)]
        return from_adjacency(cut, errors=errors, source=path.name)
    squares = {k: v for k, v in arrays.items() if v.ndim == 2 and v.shape[0] == v.shape[1]}
    if not squares or len(squares) < len(arrays):
        raise ValueError(
            f"{path.name}: expected A (B, N, N), or squares (n, n), got { {k: v.shape for k, v in arrays.items()} }"
        )
    return from_adjacency(squares.values(), ids=list(squares), errors=errors, source=path.name)


def _load_npy(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path.name} cannot be read: {error}; expected an array of numbers") from error
