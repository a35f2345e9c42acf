"""What the ``molecules`` extra installs, imported by the function that needs it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["chem", "geometric", "networkx", "pandas", "quiet", "rdkit"]


def _need(module: str, who: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        top = module.split(".")[0]
        raise ImportError(f'{who} needs {top}: pip install "scidiffuse[molecules]"') from error


def chem() -> Any:
    """The module ``rdkit.Chem``; its absence prints the pip line."""
    return _need("rdkit.Chem", "scidiffuse.molecules")


def rdkit(part: str) -> Any:
    """A part of RDKit: ``rdkit("Chem.inchi")``."""
    return _need(f"rdkit.{part}", "scidiffuse.molecules")


def pandas() -> Any:
    """The module ``pandas``."""
    return _need("pandas", "a table of molecules")


def networkx() -> Any:
    """The module ``networkx``."""
    return _need("networkx", "this conversion of graphs")


def geometric() -> Any:
    """The module ``torch_geometric.data``."""
    return _need("torch_geometric.data", "a conversion to or from PyG")


@contextmanager
def quiet() -> Iterator[None]:
    """RDKit's messages off: what is wrong with a molecule is said in our errors, with its row."""
    block = rdkit("rdBase").BlockLogs()
    try:
        yield
    finally:
        del block
