"""Files of the field that are pickles, read without running what they hold.

A pickle can run any code when it is read. Many data sets exist in no other form, so:

- ``.pt`` files of tensors (SPECTRE) are read by ``torch.load(weights_only=True)``, which builds tensors, nothing else;
- networkx pickles (GDSS's ``community_small.pkl``, GraphRNN's) and RDKit pickles (GEOM) are refused unless you say
  ``allow_pickle=True``, and then the reader builds only the classes that such files need, by name, and refuses every
  other: no function of the file's choosing is called. Take such files from where you would take a program.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...core.files import existing
from ...core.problems import Errors, Problems
from .graphs import Graphs
from .interchange import binary, from_adjacency, from_networkx

__all__ = ["DAMAGED", "read_networkx_pickle", "read_planetoid_graph", "read_spectre", "restricted"]

_PLAIN = {
    "builtins": (
        "object",
        "set",
        "frozenset",
        "dict",
        "list",
        "tuple",
        "int",
        "float",
        "complex",
        "bool",
        "slice",
        "bytearray",
    ),
    "collections": ("OrderedDict", "defaultdict"),
}
NETWORKX = {
    **_PLAIN,
    "copyreg": ("_reconstructor",),
    "_codecs": ("encode",),
    "networkx.classes.graph": ("Graph", "_CachedPropertyResetterAdj", "_CachedPropertyResetterNode"),
    "networkx.classes.reportviews": ("NodeView", "EdgeView", "DegreeView"),
    "networkx.classes.coreviews": ("AdjacencyView", "AtlasView"),
    "numpy": ("ndarray", "dtype"),
    "numpy.core.multiarray": ("scalar", "_reconstruct"),
    "numpy._core.multiarray": ("scalar", "_reconstruct"),
}
RDKIT = {**NETWORKX, "rdkit.Chem.rdchem": ("Mol", "RWMol"), "rdkit.Chem": ("Mol",)}
DAMAGED = (
    pickle.UnpicklingError,
    struct.error,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What an unpickler raises of a file that is no pickle, or was changed."""
_OLD_NAMES = {"__builtin__": "builtins", "copy_reg": "copyreg", "numpy.core.multiarray": "numpy._core.multiarray"}


def restricted(path: str | Path, allowed: Mapping[str, tuple[str, ...]], *, allow_pickle: bool, what: str) -> Any:
    """The content of a pickle that holds classes of ``allowed`` (module -> names) and no other.

    Args:
        path: the file. allowed: what may be built. allow_pickle: the user's word. what: what is expected, for messages.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no ``allow_pickle``, a class that is not allowed (it is named), or no pickle.
    """
    path = existing(path)
    if not allow_pickle:
        raise ValueError(
            f"{path.name} is a pickle, which can run code when it is read; if you trust where it comes from, pass "
            f"allow_pickle=True (then only the classes of {what} are built)"
        )

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if name in allowed.get(_OLD_NAMES.get(module, module), ()) or name in allowed.get(module, ()):
                return super().find_class(_OLD_NAMES.get(module, module), name)
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no part of {what}")

    try:
        return Reader(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except DAMAGED as error:
        raise ValueError(f"{path.name} is refused or damaged: {error}") from error


def read_networkx_pickle(path: str | Path, *, allow_pickle: bool = False, errors: Errors = "raise") -> Graphs:
    """A pickled list of ``networkx.Graph`` (GDSS's ``data/*.pkl``), or of several such lists, one behind the other.

    Args:
        path: the file. allow_pickle: see the module. errors: ``"skip"`` leaves bad graphs out and names them.

    Raises:
        ValueError: no ``allow_pickle``, other classes in it, no list of graphs, and those of :func:`.from_networkx`.
    """
    content = restricted(path, NETWORKX, allow_pickle=allow_pickle, what="a list of networkx graphs")
    items = list(content) if isinstance(content, list | tuple) else [content]
    flat = [g for item in items for g in (item if isinstance(item, list | tuple) else [item])]
    if not flat or not all(hasattr(g, "is_directed") for g in flat):
        raise ValueError(f"{Path(path).name}: expected a list of networkx graphs, got {type(content).__name__}")
    return from_networkx(flat, errors=errors, source=Path(path).name)


def read_planetoid_graph(path: str | Path, *, allow_pickle: bool = False) -> dict[int, list[int]]:
    """The adjacency lists of ``ind.citeseer.graph`` and its like, which :func:`.generators.ego_small` is made of.

    Raises:
        ValueError: no ``allow_pickle``, other classes in it, or no dictionary of lists.
    """
    content = restricted(path, _PLAIN, allow_pickle=allow_pickle, what="a dictionary of lists")
    if not isinstance(content, dict) or not all(isinstance(v, list) for v in content.values()):
        raise ValueError(
            f"{Path(path).name}: expected a dictionary of lists of neighbours, got {type(content).__name__}"
        )
    return {int(k): [int(v) for v in vs] for k, vs in content.items()}


def read_spectre(path: str | Path, *, errors: Errors = "raise") -> Graphs:
    """A ``.pt`` file of SPECTRE (Martinkus et al., 2022): its first entry is a list of adjacencies, the fourth the
    numbers of nodes. Eigenvectors, which it holds too, are not read further.

    Raises:
        FileNotFoundError: no such file. ValueError: another content, and those of :func:`.from_adjacency`.
    """
    path = existing(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        said = (str(error).splitlines() or [""])[0]
        raise ValueError(f"{path.name} is no file of tensors: {said}") from error
    adjacencies = content[0] if isinstance(content, list | tuple) and content else None
    if not isinstance(adjacencies, list) or not all(isinstance(a, torch.Tensor) for a in adjacencies):
        raise ValueError(f"{path.name}: expected a list that begins with a list of adjacencies, as SPECTRE saves it")
    sizes = content[3] if len(content) > 3 and isinstance(content[3], list) else [None] * len(adjacencies)
    if len(sizes) != len(adjacencies):
        raise ValueError(f"{path.name}: {len(adjacencies)} adjacencies, but {len(sizes)} numbers of nodes beside them")
    problems = Problems(errors, path.name)
    cut, rows = [], []
    for row, (a, n) in enumerate(zip(adjacencies, sizes, strict=True)):
        with problems.at(f"graph {row}"):
            cut.append(_cut(a.numpy(), n))
            rows.append(row)
    problems.done(len(cut))
    return from_adjacency(cut, ids=rows, source=path.name)


def _cut(a: np.ndarray, n: Any) -> np.ndarray:
    """The checked adjacency of the first n nodes, of which the others must be padding."""
    if n is None:
        return binary(a)
    if a.ndim != 2 or not 1 <= n <= len(a) or n != int(n):
        raise ValueError(f"an adjacency of shape {a.shape} for {n} nodes")
    n = int(n)
    if a[n:].any() or a[:, n:].any():
        raise ValueError(f"an edge beyond its {n} nodes")
    return binary(a[:n, :n])
