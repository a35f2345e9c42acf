"""Models by name: the systems of this wing, and loading a model without knowing which of them wrote it."""

from __future__ import annotations

import importlib
import os
from typing import Any

from ..core.model import load_kind

__all__ = ["SYSTEMS", "load_model", "system"]

#: What the command line calls a system -> its module and class, whose name is the kind of its checkpoints.
SYSTEMS: dict[str, tuple[str, str]] = {
    "tsdiff": ("tsdiff", "TSDiff"),
    "tsdiff-cond": ("tsdiff_cond", "TSDiffCond"),
    "csdi": ("csdi", "CSDI"),
}


def system(name: str) -> Any:
    """The class of a system, by its name here (``"tsdiff-cond"``) or its own (``"TSDiffCond"``).

    Raises:
        ValueError: no such system; the names are listed.
    """
    for key, (module, kind) in SYSTEMS.items():
        if name in (key, kind):
            return getattr(importlib.import_module(f".{module}", __package__), kind)
    raise ValueError(f"unknown system {name!r}: expected one of {', '.join(SYSTEMS)}")


def load_model(folder: str | os.PathLike[str]) -> Any:
    """The trained model in ``folder``, of whatever system wrote it.

    Args:
        folder: of a model (what `save` wrote), or the ``out`` of a training: its ``best`` where there is one, else its
            ``model``.

    Raises:
        FileNotFoundError: no such folder.
        CheckpointError: no checkpoint, a corrupted one, or one of another kind of model (which is named).
    """
    return load_kind(folder, [kind for _, kind in SYSTEMS.values()], system)
