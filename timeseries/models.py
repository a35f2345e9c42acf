"""Models by name: the systems of this wing, and loading a model without knowing which of them wrote it."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from ..core import checkpoint

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
    path = Path(folder)
    if not checkpoint.is_checkpoint(path):  # the folder of a training
        path = next((path / k for k in ("best", "model") if checkpoint.is_checkpoint(path / k)), path)
    kind = checkpoint.load(path).kind
    kinds = [known for _, known in SYSTEMS.values()]
    if kind not in kinds:
        raise checkpoint.CheckpointError(
            f"checkpoint {str(path)!r} holds a {kind!r}, which is no model of this wing: expected one of "
            f"{', '.join(kinds)}; load it with the class that wrote it"
        )
    return system(kind).load(path)
