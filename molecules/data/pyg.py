"""PyTorch Geometric: ``Data`` objects of graphs, molecules and geometries, there and back, and its processed files.

What is written and read of each ``Data``, with n nodes and E directed edges (each bond is two)::

    edge_index      (2, E) long      every edge in both directions
    x               (n, F) float32   node features, one-hot types, or a constant 1: ``Graphs.X``
    z               (n,) long        atomic numbers: what makes a molecule of it
    formal_charge   (n,) long        formal charges. Without it (PyG's QM9) they are told from the valences
    edge_attr       (E, 3 or 4)      one-hot single, double, triple (and aromatic, which is kekulised)
    pos             (n, 3) float32   Å, of :class:`.Atoms`
    y               (1, P) float32   the properties, in their order; names are not part of the format
    smiles          text             as the set has it; not read where there are bonds

**There and back.** ``from_pyg(graphs.to_pyg(), graphs.vocabulary, properties=list(graphs.properties))`` gives the same
graphs, of molecules with ``standardise=Standardise(hydrogens=graphs.hydrogens)``, and ``Atoms.from_pyg(atoms.to_pyg(),
properties=list(atoms.properties))`` the same atoms. Ids become the numbers in the list, properties are rounded to
float32, and molecules whose bonds are no possible chemistry (samples) are refused, with their number.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ...core.files import existing
from ...core.problems import Errors, Problems
from .atoms import Atoms, Units, converted, stack_atoms
from .extras import chem, geometric, quiet
from .graphs import Graphs
from .interchange import binary, from_adjacency
from .molecules import chemistry_problems, from_mols
from .pickles import DAMAGED
from .standardise import Standardise
from .vocabulary import atomic_numbers, parse_type, parse_vocabulary

__all__ = ["atoms_from_pyg", "atoms_to_pyg", "from_pyg", "pyg_mols", "read_pyg", "to_pyg"]

_SOURCE = "the PyG data"

T = TypeVar("T")


# ---------------------------------------------------------------------------------------------------------------- there
def to_pyg(graphs: Graphs) -> list[Any]:
    """``torch_geometric.data.Data`` objects of graphs, of molecules with atomic numbers, charges and bonds; see the
    module."""
    out = []
    X, y = graphs.X, _y(graphs.properties)
    atoms = torch.tensor([parse_type(t) for t in graphs.vocabulary or ()]) if graphs.hydrogens else None
    for b in range(len(graphs)):
        there = graphs.mask[b].nonzero().flatten()
        a = graphs.A[b][there][:, there]
        data = _data(a, graphs.hydrogens is not None, y, graphs.smiles, b)
        data.x = X[b, there]
        if atoms is not None and graphs.types is not None:
            data.z, data.formal_charge = atoms[graphs.types[b, there].long()].T.contiguous()
        out.append(data)
    return out


def atoms_to_pyg(atoms: Atoms) -> list[Any]:
    """``torch_geometric.data.Data`` objects of molecules with coordinates (Å), with their bonds where there are some;
    see the module."""
    out = []
    y = _y(atoms.properties)
    for b in range(len(atoms)):
        there = atoms.mask[b].nonzero().flatten()
        data = _data(None if atoms.bonds is None else atoms.bonds[b][there][:, there], True, y, atoms.smiles, b)
        data.z, data.formal_charge = atoms.numbers[b, there].long(), atoms.charges[b, there].long()
        data.pos, data.num_nodes = atoms.positions[b, there], len(there)
        out.append(data)
    return out


def _y(properties: dict[str, Tensor]) -> Tensor | None:
    """The properties of all, (B, 1, P)."""
    return torch.stack(list(properties.values()), 1)[:, None].float() if properties else None


def _data(a: Tensor | None, orders: bool, y: Tensor | None, smiles: tuple[str, ...] | None, b: int) -> Any:
    """A Data with the edges of an adjacency (n, n), their orders, and what belongs to the whole graph."""
    data = geometric().Data()
    if a is not None:
        edges = a.nonzero().T.contiguous()
        data.edge_index, data.num_nodes = edges, len(a)
        if orders:
            data.edge_attr = torch.nn.functional.one_hot(a[edges[0], edges[1]].long() - 1, 3).float()
    if smiles is not None:
        data.smiles = smiles[b]
    if y is not None:
        data.y = y[b]
    return data


# ----------------------------------------------------------------------------------------------------------------- back
def from_pyg(
    data: Iterable[Any],
    vocabulary: str | Sequence[str] | None = None,
    *,
    properties: Sequence[str] | None = None,
    standardise: Standardise | None = None,
    errors: Errors = "raise",
) -> Graphs:
    """Graphs of PyG ``Data``: molecules where they have ``z`` (then ``edge_attr`` says the bonds), plain graphs else.

    Args:
        data: the objects.
        vocabulary: of molecules, as :func:`.smiles.from_smiles`; of plain graphs, what the columns of a one-hot ``x``
            mean, which then becomes the types. Without it the ``x`` of plain graphs becomes their features (but the
            constant 1 that stands for none); the ``x`` of molecules is not read.
        properties: names for the columns of ``y``. None: ``y`` if all have one number each, ``y0, y1, ...`` if all have
            the same number of columns, none else (``y`` of nodes).
        standardise: of molecules, as :func:`.smiles.from_smiles`. Its ``hydrogens`` are implicit by default.
        errors: ``"skip"`` leaves bad ones out and names them.

    Raises:
        TypeError: one Data instead of many.
        ValueError: no edges, an edge beyond the nodes, in one direction only or to itself, an atom that is no element,
            no possible molecule, an ``x`` or ``y`` that does not fit, or nothing left.
    """
    data = _listed(data)
    if any(getattr(item, "z", None) is not None for item in data):
        pairs, rows = _each(data, errors, lambda item: (_mol(item), _target(item, properties)))
        policy = standardise or Standardise()
        names = [f"graph {r}" for r in rows]
        kept, mine, _ = policy.apply([mol for mol, _ in pairs], errors=errors, names=names, source=_SOURCE)
        values = _named([pairs[m][1] for m in mine], properties)
        ids = [rows[m] for m in mine]
        return from_mols(
            kept,
            vocabulary,
            hydrogens=policy.hydrogens,
            stereo=policy.stereo == "keep",
            ids=ids,
            properties=values,
            errors=errors,
            names=[names[m] for m in mine],
            source=_SOURCE,
        )
    labels = None if vocabulary is None else _labels(vocabulary)
    width = _width(data)
    if labels is not None and width != len(labels):
        raise ValueError(f"vocabulary names {len(labels)} types, x (n, F) of these graphs has F = {width}")
    found, rows = _each(
        data, errors, lambda item: (_adjacency(item), _node_rows(item, width, labels), _target(item, properties))
    )
    graphs = from_adjacency(
        [a for a, _, _ in found],
        types=None if labels is None else [x.argmax(1) for _, x, _ in found],
        labels=labels,
        ids=rows,
        properties=_named([target for _, _, target in found], properties),
        source=_SOURCE,
    )
    constant = width == 1 and all((x == 1).all() for _, x, _ in found)
    if width is None or labels is not None or constant:
        return graphs
    features = torch.zeros(*graphs.mask.shape, width)
    for b, (_, x, _) in enumerate(found):
        features[b, : len(x)] = torch.as_tensor(x)
    return replace(graphs, features=features)


def atoms_from_pyg(
    data: Iterable[Any],
    *,
    bonds: bool = True,
    properties: Sequence[str] | None = None,
    units: Units | None = None,
    errors: Errors = "raise",
) -> Atoms:
    """Molecules with coordinates of PyG ``Data`` with ``z`` and ``pos``, as PyG's QM9 has them.

    Args:
        data: the objects.
        bonds: whether bonds are read where there is an ``edge_attr``; False where edges are neighbours in space.
        properties: names for the columns of ``y``, as :func:`from_pyg`.
        units: of ``pos``; None checks that they are Å. errors: ``"skip"`` leaves bad ones out and names them.

    Raises:
        TypeError: one Data instead of many.
        ValueError: no ``z`` or ``pos``, distances that are not in Å, and, with bonds, those of :func:`from_pyg`.
    """
    data = _listed(data)
    bonds = bonds and any(getattr(item, "edge_attr", None) is not None for item in data)

    def read(item: Any) -> tuple[Any, ...]:
        numbers, charges = _atoms(item)
        pos = _array(getattr(item, "pos", None), "pos (n, 3)")
        if pos.shape != (len(numbers), 3):
            raise ValueError(f"expected pos ({len(numbers)}, 3), got {pos.shape}")
        mol = _mol(item) if bonds else None
        text = getattr(item, "smiles", None)
        part = (numbers, charges, converted(pos.astype(float), units), None)
        return mol, part, text if isinstance(text, str) else "", _target(item, properties)

    found, rows = _each(data, errors, read)
    values = _named([target for *_, target in found], properties)
    if not bonds:
        smiles = tuple(text for _, _, text, _ in found)
        return stack_atoms(
            [part for _, part, _, _ in found],
            ids=tuple(rows),
            smiles=smiles if any(smiles) else None,
            properties={k: np.array(v) for k, v in values.items()},
        )
    for mol, (_, _, positions, _), _, _ in found:
        conformer = chem().Conformer(len(positions))
        conformer.SetPositions(positions)
        conformer.Set3D(True)
        mol.AddConformer(conformer, assignId=True)
    mols = [mol for mol, *_ in found]
    return Atoms.from_mols(mols, ids=rows, properties=values, units="angstrom", errors=errors, source=_SOURCE)


def pyg_mols(data: Iterable[Any], errors: Errors = "raise") -> tuple[list[Any], list[int]]:
    """RDKit molecules of PyG ``Data`` with atomic numbers ``z`` (n,) and ``edge_attr`` (E, 3 or 4): one-hot single,
    double, triple, aromatic, as PyG's QM9 has them; and their numbers in the input.

    Aromatic bonds are kekulised by RDKit, with the hydrogens that are nodes. Formal charges are those of
    ``formal_charge``; PyG's own data have none: there a nitrogen of four bonds (and the like) gets the charge that
    makes it possible.

    Raises:
        ValueError: no ``z`` or ``edge_attr``, an atom that is no element, a directed edge, or no possible molecule.
    """
    return _each(_listed(data), errors, _mol)


def _listed(data: Iterable[Any]) -> list[Any]:
    if isinstance(data, geometric().Data):
        raise TypeError(f"expected many Data objects, got one {type(data).__name__}: [data], or batch.to_data_list()")
    return list(data)


def _each(data: list[Any], errors: Errors, read: Callable[[Any], T]) -> tuple[list[T], list[int]]:
    """What `read` makes of each graph, and the numbers of those that are not left out."""
    problems = Problems(errors, _SOURCE)
    out, rows = [], []
    with quiet():
        for row, item in enumerate(data):
            with problems.at(f"graph {row}"):
                if not isinstance(item, geometric().Data):
                    raise TypeError(f"expected a PyG Data, got {type(item).__name__}")
                out.append(read(item))
                rows.append(row)
    problems.done(len(out))
    return out, rows


def _array(value: Any, expected: str) -> np.ndarray:
    if not isinstance(value, Tensor):
        raise ValueError(f"expected {expected}, got {value!r:.60}")
    return value.detach().cpu().numpy()


def _edges(item: Any, n: int) -> list[list[int]]:
    """Pairs of nodes of one graph of n nodes."""
    edges = _array(getattr(item, "edge_index", None), "edges edge_index (2, E)")
    if edges.ndim != 2 or len(edges) != 2 or edges.dtype.kind not in "iu":
        raise ValueError(f"expected edges edge_index (2, E) of integers, got {edges.dtype} of shape {edges.shape}")
    beyond = edges[(edges < 0) | (edges >= n)]
    if len(beyond):
        raise ValueError(f"an edge at node {beyond[0]}, the graph has the nodes 0 to {n - 1}")
    return edges.T.tolist()


def _adjacency(item: Any) -> np.ndarray:
    if getattr(item, "edge_index", None) is None:
        raise ValueError("no edges: expected edge_index (2, E)")
    n = item.num_nodes
    if n is None:
        raise ValueError("num_nodes is not known: give the Data x, pos or num_nodes")
    a = np.zeros((n, n), dtype=np.uint8)
    for i, j in _edges(item, n):
        a[i, j] = 1
    return binary(a)


def _width(data: list[Any]) -> int | None:
    """F, which most graphs with an x (n, F) have; None where no graph has an x."""
    shapes = [list(getattr(item.x, "shape", [])) for item in data if getattr(item, "x", None) is not None]
    if not shapes:
        return None
    widths = Counter(shape[1] for shape in shapes if len(shape) == 2)
    return int(widths.most_common(1)[0][0]) if widths else 1


def _node_rows(item: Any, width: int | None, labels: list[str] | None) -> np.ndarray:
    """x (n, F) of a plain graph, one-hot where its columns have labels."""
    if width is None:
        return np.zeros((0, 0))
    x = _array(getattr(item, "x", None), "node features x (n, F) as the other graphs have them")
    if x.shape != (item.num_nodes, width):
        raise ValueError(f"expected node features x ({item.num_nodes}, F) with the F of the others, got {x.shape}")
    if labels is not None and not (np.isin(x, (0, 1)).all() and (x.sum(1) == 1).all()):
        raise ValueError("x is not one-hot, so its columns are no types: vocabulary=None reads it as features")
    return x


def _labels(vocabulary: str | Sequence[str]) -> list[str]:
    return list(parse_vocabulary(vocabulary) if isinstance(vocabulary, str) else vocabulary)


def _target(item: Any, names: Sequence[str] | None) -> list[float] | None:
    """The numbers of one graph, or None where y is not of the whole graph (only without names)."""
    y = getattr(item, "y", None)
    if names is None:
        whole = isinstance(y, Tensor) and (y.numel() == 1 or (y.ndim == 2 and len(y) == 1))
        return y.double().flatten().tolist() if isinstance(y, Tensor) and whole else None
    y = _array(y, f"y (1, {len(names)}) of the properties {list(names)}")
    if y.size != len(names):
        raise ValueError(f"y has {y.size} numbers {y.shape}, there are {len(names)} names: {list(names)}")
    return y.astype(float).ravel().tolist()


def _named(targets: list[list[float] | None], names: Sequence[str] | None) -> dict[str, list[float]]:
    """Properties by name; see :func:`from_pyg`."""
    if names is not None and len(set(names)) < len(names):
        raise ValueError(f"properties names each column of y once, got {list(names)}")
    rows = [target for target in targets if target is not None]
    widths = {len(row) for row in rows}
    if len(rows) < len(targets) or len(widths) != 1:
        return {}
    if names is None:
        width = widths.pop()
        names = ["y"] if width == 1 else [f"y{i}" for i in range(width)]
    return {name: [row[k] for row in rows] for k, name in enumerate(names)}


def _atoms(item: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Atomic numbers (n,) and formal charges (n,), or None where they are not said."""
    numbers = atomic_numbers(_array(getattr(item, "z", None), "atomic numbers z (n,)"))
    if not len(numbers):
        raise ValueError("a molecule without atoms")
    charges = getattr(item, "formal_charge", None)
    if charges is None:
        return numbers, None
    charges = _array(charges, "formal_charge (n,)")
    if charges.shape != numbers.shape or (charges != np.round(charges)).any() or (np.abs(charges) > 127).any():
        raise ValueError(f"expected formal_charge ({len(numbers)},) of whole numbers, got {charges.tolist()!r:.60}")
    return numbers, charges.astype(int)


def _mol(item: Any) -> Any:
    """The sanitised molecule of one Data; see :func:`pyg_mols`."""
    Chem = chem()
    kinds = (Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE, Chem.BondType.AROMATIC)
    attr = getattr(item, "edge_attr", None)
    if getattr(item, "z", None) is None or attr is None or attr.ndim != 2 or attr.shape[1] not in (3, 4):
        raise ValueError("expected atomic numbers z (n,) and one-hot bonds edge_attr (E, 3 or 4)")
    numbers, charges = _atoms(item)
    edges = _edges(item, len(numbers))
    if len(attr) != len(edges) or not (((attr == 0) | (attr == 1)).all() and (attr.sum(1) == 1).all()):
        raise ValueError(f"expected one-hot bonds edge_attr ({len(edges)}, 3 or 4), one row an edge, got other numbers")
    mol = Chem.RWMol()
    for number in numbers.tolist():
        atom = Chem.Atom(number)
        atom.SetNoImplicit(bool((numbers == 1).any()))
        mol.AddAtom(atom)
    bonds = {(i, j): kind for (i, j), kind in zip(edges, attr.argmax(1).tolist(), strict=True)}
    for (i, j), kind in bonds.items():
        if i == j:
            raise ValueError(f"node {i} has an edge to itself")
        if bonds.get((j, i)) != kind:
            raise ValueError(f"edge ({i}, {j}) has no partner ({j}, {i}) of the same kind")
        if i < j:
            mol.AddBond(i, j, kinds[kind])
            mol.GetBondBetweenAtoms(i, j).SetIsAromatic(kind == 3)
            if kind == 3:
                mol.GetAtomWithIdx(i).SetIsAromatic(True)
                mol.GetAtomWithIdx(j).SetIsAromatic(True)
    if charges is None:
        return _charged(mol)
    for atom, charge in zip(mol.GetAtoms(), charges.tolist(), strict=True):
        atom.SetFormalCharge(charge)
    return _sanitised(mol)


def _sanitised(mol: Any) -> Any:
    Chem = chem()
    done = mol.GetMol()
    if Chem.SanitizeMol(done, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
        raise ValueError(chemistry_problems(mol.GetMol()))
    return done


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
    done = _sanitised(mol)
    short = [atom for atom in done.GetAtoms() if atom.GetNumRadicalElectrons() == 1]
    positive = sum(atom.GetFormalCharge() for atom in done.GetAtoms())
    if short and len(short) == positive:  # a zwitterion without its charges: nothing else balances them
        for atom in short:
            atom.SetFormalCharge(-1)
            atom.SetNumRadicalElectrons(0)
        Chem.SanitizeMol(done)
    return done


# ---------------------------------------------------------------------------------------------------------------- files
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
    except DAMAGED as error:
        said = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"{path.name} cannot be read without running code from it, or is damaged: {said}; expected what "
            "InMemoryDataset.save writes"
        ) from error
    if not isinstance(content, tuple) or len(content) not in (2, 3):
        raise ValueError(f"{path.name}: expected (data, slices) or (data, slices, class), got {type(content).__name__}")
    store, slices = content[0], content[1]
    data = pyg.Data.from_dict(store) if isinstance(store, dict) else store
    if not isinstance(data, pyg.Data):
        raise ValueError(f"{path.name}: expected (data, slices) with a Data or its dictionary, got {store!r:.60}")
    if slices is None:
        return [data]
    if not isinstance(slices, dict) or not slices:
        raise ValueError(f"{path.name}: expected the slices of each attribute of the data, got {slices!r:.60}")
    separate = importlib.import_module("torch_geometric.data.separate").separate
    try:
        count = len(next(iter(slices.values()))) - 1
        return [
            separate(cls=data.__class__, batch=data, idx=i, slice_dict=slices, decrement=False) for i in range(count)
        ]
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{path.name}: slices that do not fit its data: {error!r}") from error
