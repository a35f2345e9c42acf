"""Graphs of other libraries and of plain arrays: adjacency lists, networkx, PyG, npz.

Each door makes the same checks: an adjacency that is symmetric and has no diagonal (a directed edge or a self-loop is
an error that names the graph), integers where bond orders are meant, a mask that is explicit, so that isolated nodes
and single nodes survive.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...core.files import existing
from ...core.problems import Errors, Problems
from .extras import chem, geometric, networkx, quiet
from .files import load_arrays
from .graphs import Graphs, stack
from .molecules import chemistry_problems, from_mols
from .standardise import Standardise

__all__ = [
    "from_adjacency",
    "from_networkx",
    "from_pyg",
    "pyg_mols",
    "read_adjacency",
    "read_pyg",
    "to_networkx",
    "to_pyg",
]


def _binary(a: Any) -> np.ndarray:
    """One checked adjacency (n, n) of 0 and 1."""
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
        ValueError: no square, no 0 and 1, not symmetric, a self-loop, types that do not fit, or nothing left.
    """
    problems = Problems(errors, source)
    parts: list[tuple[np.ndarray, np.ndarray | None]] = []
    rows = []
    for row, a in enumerate(adjacencies):
        with problems.at(f"graph {row if ids is None else ids[row]!r}"):
            a = _binary(a)
            kinds = None if types is None else np.asarray(types[row])
            if kinds is not None and (kinds.shape != (len(a),) or kinds.min() < 0 or kinds.max() >= len(labels or ())):
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
        ValueError: directed, parallel edges, a node without the attribute, and those of :func:`from_adjacency`.
    """
    nx = networkx()
    graphs = list(graphs)
    problems = Problems(more.pop("errors", "raise"), more.get("source", "the graphs"))
    kept, arrays, names = [], [], []
    for row, graph in enumerate(graphs):
        with problems.at(f"graph {row}"):
            if graph.is_directed() or graph.is_multigraph():
                raise ValueError(f"expected an undirected simple graph, got {type(graph).__name__}")
            if graph.number_of_nodes() == 0:
                raise ValueError("a graph without nodes")
            absent = [] if label is None else [n for n, data in graph.nodes(data=True) if label not in data]
            if absent:
                raise ValueError(f"node {absent[0]!r} has no attribute {label!r}")
            arrays.append(_binary(nx.to_numpy_array(graph, weight=None)))
            names.append(None if label is None else [data[label] for _, data in graph.nodes(data=True)])
            kept.append(row)
    problems.done(len(kept))
    ids, properties = more.pop("ids", None), more.pop("properties", None)
    more["ids"] = kept if ids is None else [ids[r] for r in kept]
    more["properties"] = {k: np.asarray(v, dtype=np.float64)[kept] for k, v in (properties or {}).items()}
    if label is None:
        return from_adjacency(arrays, **more)
    found = sorted({name for row in names for name in row or ()})
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


def to_pyg(graphs: Graphs) -> list[Any]:
    """``torch_geometric.data.Data`` objects.

    ``x`` (n, F) float32, ``edge_index`` (2, E) both directions, ``edge_attr`` (E, 3) one-hot of single, double and
    triple bonds in molecules, ``y`` (1, P) of the properties in their order, ``smiles`` where there are some.
    """
    Data = geometric().Data
    out = []
    X = graphs.X
    for b in range(len(graphs)):
        there = graphs.mask[b].nonzero().flatten()
        a = graphs.A[b][there][:, there]
        edges = a.nonzero().T.contiguous()
        data = Data(x=X[b, there], edge_index=edges, num_nodes=len(there))
        if graphs.hydrogens:
            data.edge_attr = torch.nn.functional.one_hot(a[edges[0], edges[1]].long() - 1, 3).float()
        if graphs.smiles is not None:
            data.smiles = graphs.smiles[b]
        if graphs.properties:
            data.y = torch.stack([v[b] for v in graphs.properties.values()])[None].float()
        out.append(data)
    return out


def pyg_mols(data: Iterable[Any], errors: Errors = "raise") -> tuple[list[Any], list[int]]:
    """RDKit molecules of PyG ``Data`` with atomic numbers ``z`` (n,) and ``edge_attr`` (E, 3 or 4): one-hot single,
    double, triple, aromatic, as PyG's QM9 has them; and their numbers in the input.

    Aromatic bonds are kekulised by RDKit, with the hydrogens that are nodes; formal charges are not in such data: a
    nitrogen of four bonds (and the like) gets the charge that makes it possible.

    Raises:
        ValueError: no ``z`` or ``edge_attr``, a directed edge, or no possible molecule.
    """
    Chem = chem()
    kinds = (Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE, Chem.BondType.AROMATIC)
    problems = Problems(errors, "the PyG data")
    out, rows = [], []
    with quiet():
        for row, item in enumerate(data):
            with problems.at(f"graph {row}"):
                z, attr = getattr(item, "z", None), getattr(item, "edge_attr", None)
                if z is None or attr is None or attr.ndim != 2 or attr.shape[1] not in (3, 4):
                    raise ValueError("expected atomic numbers z (n,) and one-hot bonds edge_attr (E, 3 or 4)")
                mol = Chem.RWMol()
                for number in z.tolist():
                    atom = Chem.Atom(int(number))
                    atom.SetNoImplicit(bool((z == 1).any()))
                    mol.AddAtom(atom)
                bonds = {}
                for (i, j), kind in zip(item.edge_index.T.tolist(), attr.argmax(1).tolist(), strict=True):
                    bonds[i, j] = kind
                for (i, j), kind in bonds.items():
                    if bonds.get((j, i)) != kind:
                        raise ValueError(f"edge ({i}, {j}) has no partner ({j}, {i}) of the same kind")
                    if i < j:
                        mol.AddBond(i, j, kinds[kind])
                        mol.GetBondBetweenAtoms(i, j).SetIsAromatic(kind == 3)
                        if kind == 3:
                            mol.GetAtomWithIdx(i).SetIsAromatic(True)
                            mol.GetAtomWithIdx(j).SetIsAromatic(True)
                out.append(_charged(mol))
                rows.append(row)
    problems.done(len(out))
    return out, rows


def _charged(mol: Any) -> Any:
    """The sanitised molecule, with +1 at N, O, S that have one bond too many and -1 at those left one short."""
    Chem = chem()
    if Chem.SanitizeMol(Chem.RWMol(mol), catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
        for problem in Chem.DetectChemistryProblems(mol):
            if problem.GetType() != "AtomValenceException":
                raise ValueError(chemistry_problems(mol))
            atom = mol.GetAtomWithIdx(problem.GetAtomIdx())
            if atom.GetAtomicNum() not in (7, 8, 16):
                raise ValueError(chemistry_problems(mol))
            atom.SetFormalCharge(1)
    done = mol.GetMol()
    if Chem.SanitizeMol(done, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
        raise ValueError(chemistry_problems(mol.GetMol()))
    short = [atom for atom in done.GetAtoms() if atom.GetNumRadicalElectrons() == 1]
    positive = sum(atom.GetFormalCharge() for atom in done.GetAtoms())
    if short and len(short) == positive:  # a zwitterion without its charges: nothing else balances them
        for atom in short:
            atom.SetFormalCharge(-1)
            atom.SetNumRadicalElectrons(0)
        Chem.SanitizeMol(done)
    return done


def from_pyg(
    data: Iterable[Any],
    vocabulary: str | Sequence[str] | None = None,
    *,
    standardise: Standardise | None = None,
    errors: Errors = "raise",
) -> Graphs:
    """Graphs of PyG ``Data``: molecules where they have ``z`` and ``edge_attr``, plain graphs else.

    Args:
        data: the objects. vocabulary, standardise: of molecules, as :func:`.smiles.from_smiles`.
        errors: ``"skip"`` leaves bad ones out and names them.

    Raises:
        ValueError: a directed edge, a self-loop, no possible molecule, or nothing left.
    """
    data = list(data)
    if data and getattr(data[0], "z", None) is not None:
        mols, rows = pyg_mols(data, errors)
        policy = standardise or Standardise()
        kept, mine, _ = policy.apply(mols, errors=errors, names=[f"graph {r}" for r in rows], source="the PyG data")
        ids = [rows[m] for m in mine]
        return from_mols(kept, vocabulary, hydrogens=policy.hydrogens, ids=ids, errors=errors, source="the PyG data")
    arrays = []
    for item in data:
        a = np.zeros((item.num_nodes, item.num_nodes), dtype=np.uint8)
        a[item.edge_index[0].numpy(), item.edge_index[1].numpy()] = 1
        arrays.append(a)
    return from_adjacency(arrays, errors=errors, source="the PyG data")


def read_pyg(path: str | Path) -> list[Any]:
    """The ``Data`` objects of a processed file of a PyG ``InMemoryDataset`` (``processed/data_v3.pt``).

    Only tensors and PyG's own classes are read: a file with other pickled objects is refused.

    Raises:
        FileNotFoundError: no such file. ValueError: another content.
    """
    pyg = geometric()
    path = existing(path)
    module = "torch_geometric.data.data"
    known = [getattr(importlib.import_module(module), n, None) for n in ("Data", "DataEdgeAttr", "DataTensorAttr")]
    known.append(importlib.import_module("torch_geometric.data.storage").GlobalStorage)
    try:
        with torch.serialization.safe_globals([k for k in known if k is not None]):
            content = torch.load(path, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(
            f"{path.name} cannot be read without running code from it: {str(error).splitlines()[0]}; expected what "
            "InMemoryDataset.save writes"
        ) from error
    if not isinstance(content, tuple) or len(content) not in (2, 3):
        raise ValueError(f"{path.name}: expected (data, slices) or (data, slices, class), got {type(content).__name__}")
    store, slices = content[0], content[1]
    data = pyg.Data.from_dict(store) if isinstance(store, dict) else store
    if slices is None:
        return [data]
    separate = importlib.import_module("torch_geometric.data.separate").separate
    count = len(next(iter(slices.values()))) - 1
    return [separate(cls=data.__class__, batch=data, idx=i, slice_dict=slices, decrement=False) for i in range(count)]


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
