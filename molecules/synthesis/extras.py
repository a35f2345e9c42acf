"""The packages that planning needs, imported by the function that needs them."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["rdchiral", "search"]


def _need(module: str, package: str | None, top: str, who: str) -> Any:
    try:
        return importlib.import_module(module, package)
    except ImportError as error:
        if (error.name or "").split(".")[0] not in (top, "rdkit", "networkx"):
            raise  # a mistake of ours, not an extra that is absent
        raise ImportError(f'{who} needs {error.name}: pip install "scidiffuse[molecules]"') from error


def rdchiral(part: str) -> Any:
    """A part of rdchiral: ``rdchiral("main")``; its absence prints the pip line."""
    return _need(f"rdchiral.{part}", None, "rdchiral", "a reaction template")


def search() -> Any:
    """The module :mod:`.search`, which is built on syntheseus; its absence prints the pip line."""
    return _need(".search", __package__, "syntheseus", "planning a synthesis")
