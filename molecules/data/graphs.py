"""A set of graphs in dense arrays: molecules without coordinates, and graphs of any other kind.

With B graphs of at most N nodes and F types or features::

    A      (B, N, N)  bond orders 0..3 of kekulised molecules; 0 and 1 of other graphs. Symmetric, zero diagonal
    mask   (B, N)     True = the node exists. Explicit, never derived from A: a single atom is a graph without an edge
    types  (B, N)     which entry of the vocabulary a node is; 0 at absent nodes, where it means nothing
    X      (B, N, F)  one-hot of the types, or the given features; zero at absent nodes

A and types are stored as bytes: a million molecules of 27 atoms take 0.8 GB, their X in float32 with eight types as
much again, so X is made of the batch that is asked for: ``graphs[index].X``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from .files import load_arrays, save_arrays
from .vocabulary import parse_vocabulary

if TYPE_CHECKING:
    from ...core.spaces import Product

__all__ = [
    "Graphs",
    "Hydrogens",
    "check_lengths",
    "chosen",
    "packed_ids",
    "rows_of",
    "stack",
    "unpacked_ids",
]

Hydrogens = Literal["implicit", "explicit"]

_KIND = "scidiffuse-graphs-1"


@dataclass(frozen=True)
class Graphs:
    """B graphs, padded to N nodes.

    Attributes:
        A: (B, N, N) uint8, bond orders 0..3, or 0 and 1.
        mask: (B, N) bool, True = the node exists.
        types: (B, N) uint8, the index of each node in ``vocabulary``; None where nodes have no type.
        vocabulary: what the types are: ``("C", "N", "O", "F", "N+")``, or labels of other nodes.
        hydrogens: of molecules: ``"implicit"`` (heavy atoms only, hydrogens fill the valences) or ``"explicit"`` (every
            hydrogen is a node). None: no molecules.
        features: (B, N, F) float32 node features; X where they are given.
        ids: a name for each graph: row numbers when not given.
        smiles: of molecules, as standardised.
        properties: (B,) float64 each, NaN = not known.

    Raises:
        TypeError, ValueError: shapes, dtypes or values that do not fit; see :meth:`check`.
    """

    A: Tensor
    mask: Tensor
    types: Tensor | None = None
    vocabulary: tuple[str, ...] | None = None
    hydrogens: Hydrogens | None = None
    features: Tensor | None = None
    ids: tuple[Any, ...] = ()
    smiles: tuple[str, ...] | None = None
    properties: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.ids:
            object.__setattr__(self, "ids", tuple(range(len(self.A))))
        self.check()

    def check(self) -> None:
        """Everything that a set of graphs must be.

        Raises:
            TypeError: a mask that is not bool, bond orders that are not integers (1.5 is an aromatic bond).
            ValueError: shapes that do not fit, an adjacency that is not symmetric or has a diagonal, edges at absent
                nodes, a graph without a node, orders beyond 3, types beyond the vocabulary.
        """
        A, mask = self.A, self.mask
        if mask.dtype != torch.bool:
            raise TypeError(f"mask must be bool (True = the node exists), got {mask.dtype}")
        if A.is_floating_point():
            raise TypeError(
                f"A must hold integers (bond orders 0..3), got {A.dtype}; aromatic bonds (1.5) have no place: kekulise"
            )
        if A.ndim != 3 or A.shape[1] != A.shape[2] or mask.shape != A.shape[:2]:
            raise ValueError(f"expected A (B, N, N) and mask (B, N), got {tuple(A.shape)} and {tuple(mask.shape)}")
        self._refuse(~mask.any(1), "has no node")
        self._refuse(A.ne(A.transpose(1, 2)).flatten(1).any(1), "has an adjacency that is not symmetric")
        self._refuse(A.diagonal(dim1=1, dim2=2).ne(0).any(1), "has an edge from a node to itself")
        self._refuse((A.ne(0).any(2) & ~mask).any(1), "has an edge at a node that its mask calls absent")
        if self.hydrogens not in (None, "implicit", "explicit"):
            raise ValueError(f"hydrogens must be 'implicit', 'explicit' or None, got {self.hydrogens!r}")
        if self.hydrogens is not None:
            if self.types is None or self.vocabulary is None:
                raise ValueError("molecules need types and a vocabulary")
            parse_vocabulary(self.vocabulary)
            self._refuse(
                (A > 3).flatten(1).any(1), "has a bond order beyond 3 (4 is an aromatic bond in some files: kekulise)"
            )
        if (self.types is None) != (self.vocabulary is None):
            raise ValueError("types and vocabulary come together")
        if self.types is not None and self.vocabulary is not None:
            if self.types.shape != mask.shape:
                raise ValueError(
                    f"types must have the shape of mask {tuple(mask.shape)}, got {tuple(self.types.shape)}"
                )
            self._refuse(
                (self.types.long() >= len(self.vocabulary)).any(1),
                f"has a type beyond the vocabulary of {len(self.vocabulary)}",
            )
        if self.features is not None and (self.features.shape[:2] != mask.shape or self.features.ndim != 3):
            raise ValueError(f"features must be (B, N, F), got {tuple(self.features.shape)}")
        check_lengths(len(A), "graphs", {"ids": self.ids, "smiles": self.smiles, **self.properties})

    def _refuse(self, bad: Tensor, what: str) -> None:
        rows = bad.nonzero().flatten().tolist()
        if rows:
            more = f", and {len(rows) - 1} more" if len(rows) > 1 else ""
            raise ValueError(f"graph {rows[0]} (id {self.ids[rows[0]]!r}) {what}{more}")

    def __len__(self) -> int:
        return len(self.A)

    def __repr__(self) -> str:
        kind = f"molecules, {self.hydrogens} hydrogens" if self.hydrogens else "graphs"
        types = f", types {' '.join(self.vocabulary)}" if self.vocabulary and len(self.vocabulary) <= 20 else ""
        return f"Graphs({len(self)} {kind}, up to {self.max_nodes} nodes{types})"

    @property
    def max_nodes(self) -> int:
        """N, the number of nodes that the arrays are padded to."""
        return self.A.shape[1]

    @property
    def num_nodes(self) -> Tensor:
        """(B,) long: the nodes of each graph."""
        return self.mask.sum(1)

    @property
    def X(self) -> Tensor:  # the letter of the papers
        """(B, N, F) float32: the features, else the one-hot types, else a constant 1; zero at absent nodes."""
        if self.features is not None:
            x = self.features.float()
        elif self.types is not None and self.vocabulary is not None:
            x = torch.nn.functional.one_hot(self.types.long(), len(self.vocabulary)).float()
        else:
            x = torch.ones(*self.mask.shape, 1)
        return x * self.mask[..., None]

    def node_histogram(self) -> Tensor:
        """(N + 1,) float64: the share of graphs with 0, 1, ..., N nodes, which sizes of samples are drawn from."""
        return torch.bincount(self.num_nodes, minlength=self.max_nodes + 1).double() / len(self)

    def with_degrees(self, width: int | None = None) -> Graphs:
        """The graphs with the one-hot degree of each node as its features, as GDSS feeds graphs without types.

        Args:
            width: F, one more than the largest degree; default: as found.

        Raises:
            ValueError: a degree of ``width`` or more.
        """
        degree = self.A.ne(0).sum(2)
        width = int(degree.max()) + 1 if width is None else width
        self._refuse((degree >= width).any(1), f"has a node of degree {int(degree.max())}, width={width} is too small")
        x = torch.nn.functional.one_hot(degree, width).float() * self.mask[..., None]
        return replace(self, features=x)

    def space(self) -> Product:
        """The space that a diffusion of (X, A) lives in: ``Product(X=Masked(mask), A=Graph(mask))``."""
        from ...core.spaces import Graph, Masked, Product

        return Product(X=Masked(self.mask), A=Graph(self.mask))

    def __getitem__(self, index: Any) -> Graphs:
        """Some of the graphs: a slice, a list or tensor of numbers, a bool mask, or one number (a set of one)."""
        return replace(self, **chosen(self, index, _TENSORS))

    def padded(self, nodes: int | None = None) -> Graphs:
        """The same graphs in arrays of ``nodes`` places (default: as few as the last existing node needs).

        Raises:
            ValueError: a graph does not fit.
        """
        last = (self.mask * torch.arange(1, self.max_nodes + 1)).amax(1)
        nodes = int(last.max()) if nodes is None else nodes
        self._refuse(last > nodes, f"has {int(last.max())} nodes, {nodes} are asked for")
        more = nodes - self.max_nodes

        def pad(x: Any, dims: int, tail: int = 0) -> Any:
            return None if x is None else torch.nn.functional.pad(x, [0, 0] * tail + [0, more] * dims)

        return replace(
            self,
            A=pad(self.A, 2),
            mask=pad(self.mask, 1),
            types=pad(self.types, 1),
            features=pad(self.features, 1, 1),
        )

    # Other representations; each is a function of a module of its own.

    def to_mols(self, *, sanitise: bool = True, errors: Literal["raise", "none"] = "raise") -> list[Any]:
        """RDKit molecules; see :func:`.molecules.to_mols`."""
        from .molecules import to_mols

        return to_mols(self, sanitise=sanitise, errors=errors)

    def to_smiles(self, *, errors: Literal["raise", "none"] = "raise") -> list[str | None]:
        """Canonical SMILES; see :func:`.molecules.to_smiles`."""
        from .molecules import to_smiles

        return to_smiles(self, errors=errors)

    def to_pyg(self) -> list[Any]:
        """``torch_geometric.data.Data`` objects; see :func:`.pyg.to_pyg`."""
        from .pyg import to_pyg

        return to_pyg(self)

    def to_networkx(self) -> list[Any]:
        """``networkx.Graph`` objects; see :func:`.interchange.to_networkx`."""
        from .interchange import to_networkx

        return to_networkx(self)

    def save(self, path: str | Path) -> Path:
        """Write an ``.npz``, whole or not at all; :meth:`load` reads it back.

        Raises:
            ValueError: another suffix. TypeError: ids that are no numbers, text or None.
        """
        arrays = {
            k: getattr(self, k).numpy() for k in ("A", "mask", "types", "features") if getattr(self, k) is not None
        }
        arrays |= packed_ids(self.ids)
        texts = {"vocabulary": self.vocabulary, "smiles": self.smiles, "hydrogens": self.hydrogens}
        arrays |= {k: np.asarray(v) for k, v in texts.items() if v is not None}
        arrays |= {f"property/{k}": v.numpy() for k, v in self.properties.items()}
        return save_arrays(path, _KIND, arrays)

    @classmethod
    def load(cls, path: str | Path) -> Graphs:
        """What :meth:`save` wrote.

        Raises:
            FileNotFoundError: no such file. ValueError: damaged, or another content.
        """
        arrays = load_arrays(path, _KIND)
        parts: dict[str, Any] = {k: torch.from_numpy(v) for k, v in arrays.items() if k in _TENSORS}
        parts |= {k: tuple(arrays[k].tolist()) for k in ("vocabulary", "smiles") if k in arrays}
        parts["ids"] = unpacked_ids(arrays)
        if "hydrogens" in arrays:
            parts["hydrogens"] = str(arrays["hydrogens"])
        named = {k.removeprefix("property/"): torch.from_numpy(v) for k, v in arrays.items() if "/" in k}
        return cls(**parts, properties=named)


_TENSORS = ("A", "mask", "types", "features")


def chosen(whole: Any, index: Any, tensors: Sequence[str]) -> dict[str, Any]:
    """The fields of some entries of a container: its `tensors` by name, ids, SMILES and properties."""
    rows = rows_of(index, len(whole))
    take = torch.as_tensor(rows, dtype=torch.long)  # also of no rows
    held = {k: getattr(whole, k) for k in tensors}
    return {k: None if v is None else v[take] for k, v in held.items()} | {
        "ids": tuple(whole.ids[i] for i in rows),
        "smiles": None if whole.smiles is None else tuple(whole.smiles[i] for i in rows),
        "properties": {k: v[take] for k, v in whole.properties.items()},
    }


def rows_of(index: Any, count: int) -> list[int]:
    """Row numbers, of ``count``, that a slice, list, tensor, mask or number means.

    Raises:
        IndexError: a number out of range, or a mask of another length.
    """
    if isinstance(index, int | np.integer):
        index = [int(index)]
    if isinstance(index, slice):
        return list(range(count))[index]
    rows = torch.as_tensor(np.asarray(index))
    if rows.dtype == torch.bool:
        if rows.shape != (count,):
            raise IndexError(f"a bool index has one entry for each of {count}, got {tuple(rows.shape)}")
        return rows.nonzero().flatten().tolist()
    out = rows.long().flatten().tolist()
    if any(not -count <= i < count for i in out):
        raise IndexError(f"index {max(out, key=abs)} out of {count} entries")
    return [i % count for i in out]


def check_lengths(count: int, what: str, named: Mapping[str, Any]) -> None:
    """Refuse lists beside ``count`` entries that have another length; None is no list.

    Raises:
        ValueError: another length. TypeError: no list.
    """
    for name, value in named.items():
        if value is None:
            continue
        expected = f"{name}: expected one entry for each of {count} {what}, got"
        try:
            came = len(value)
        except TypeError:  # also of an array or tensor without a dimension
            raise TypeError(f"{expected} {value!r}") from None
        if came != count:
            raise ValueError(f"{expected} {came}")


def packed_ids(ids: Sequence[Any]) -> dict[str, np.ndarray]:
    """Ids as an array that an ``.npz`` can hold without a pickle: JSON where they are of several kinds.

    Raises:
        TypeError: ids that are no numbers, text or None.
    """
    plain = [i.item() if isinstance(i, np.generic) else i for i in ids]
    odd = [i for i in plain if not isinstance(i, str | int | float | None)]
    if odd:
        raise TypeError(f"ids are saved where they are numbers, text or None, got {odd[0]!r}: replace(..., ids=...)")
    array = np.asarray(plain)
    same = len({type(i) for i in plain}) == 1 and array.dtype != object
    return {"ids": array} if same else {"ids_json": np.asarray(json.dumps(plain))}


def unpacked_ids(arrays: Mapping[str, np.ndarray]) -> tuple[Any, ...]:
    """The ids that :func:`packed_ids` packed, as they were."""
    return tuple(json.loads(str(arrays["ids_json"])) if "ids_json" in arrays else arrays["ids"].tolist())


def stack(parts: Sequence[tuple[np.ndarray, np.ndarray | None]]) -> tuple[Tensor, Tensor, Tensor | None]:
    """Pad adjacencies (n, n) and types (n,) of many graphs: A (B, N, N), mask (B, N), types (B, N) or None."""
    n = max(len(a) for a, _ in parts)
    most = max((int(np.max(t)) for _, t in parts if t is not None), default=0)
    if most > 255:
        raise ValueError(f"types are stored as bytes, 0 to 255, got {most}")
    A = np.zeros((len(parts), n, n), dtype=np.uint8)
    mask = np.zeros((len(parts), n), dtype=bool)
    types = None if parts[0][1] is None else np.zeros((len(parts), n), dtype=np.uint8)
    for i, (a, t) in enumerate(parts):
        A[i, : len(a), : len(a)] = a
        mask[i, : len(a)] = True
        if types is not None and t is not None:
            types[i, : len(a)] = t
    return torch.from_numpy(A), torch.from_numpy(mask), None if types is None else torch.from_numpy(types)
