"""Systems by name: the models of this wing, and loading one without knowing which of them wrote it."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..core import checkpoint
from ..core.model import load_kind

__all__ = ["SYSTEMS", "Kind", "System", "kind_of", "load_model", "pretrained", "shipped", "system"]

_ASSETS = Path(__file__).parent / "assets"

Kind = Literal["graphs", "atoms", "sequences"]
"""What a system is trained on: `Graphs`, `Atoms` or `Sequences`."""


@dataclass(frozen=True)
class System:
    """Where a system is.

    Attributes:
        module: of this wing. name: of its class, which is the kind of its checkpoints. data: what it is trained on.
        about: a few words.
    """

    module: str
    name: str
    data: Kind
    about: str


#: What the command line calls a system.
SYSTEMS: dict[str, System] = {
    "gdss": System("gdss", "GDSS", "graphs", "molecules and graphs, continuous"),
    "digress": System("digress", "DiGress", "graphs", "molecules and graphs, discrete"),
    "pard": System("pard", "PARD", "graphs", "molecules and graphs, block by block"),
    "edm": System("edm", "EDM", "atoms", "molecules in space"),
    "gfmdiff": System("gfmdiff", "GFMDiff", "atoms", "molecules in space, geometry-aware"),
    "sequence": System("sequence", "MaskedSequence", "sequences", "DNA, RNA, proteins"),
}


def _entry(name: str) -> System:
    for key, entry in SYSTEMS.items():
        if name in (key, entry.name):
            return entry
    raise ValueError(f"unknown system {name!r}: expected one of {', '.join(SYSTEMS)}")


def system(name: str) -> Any:
    """The class of a system, by its name here (``"edm"``) or its own (``"EDM"``).

    Raises:
        ValueError: no such system; the names are listed.
    """
    entry = _entry(name)
    return getattr(importlib.import_module(f".{entry.module}", __package__), entry.name)


def kind_of(model: str | type | Any) -> Kind:
    """What a system is trained on, of its name, its class, or a model.

    Raises:
        ValueError: no such system.
    """
    if isinstance(model, str):
        return _entry(model).data
    return _entry(model.__name__ if isinstance(model, type) else type(model).__name__).data


def load_model(folder: str | os.PathLike[str]) -> Any:
    """The trained model in ``folder``, of whatever system wrote it.

    Args:
        folder: of a model (what `save` wrote), or the ``out`` of a training: its ``best`` where there is one, else its
            ``model``.

    Raises:
        FileNotFoundError: no such folder.
        CheckpointError: no checkpoint, a corrupted one, or one of another kind of model (which is named).
    """
    return load_kind(folder, [entry.name for entry in SYSTEMS.values()], system, "generator")


def shipped() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(p.name for p in _ASSETS.iterdir() if checkpoint.is_checkpoint(p)) if _ASSETS.is_dir() else []


def pretrained(name: str = "gdss-qm9") -> Path:
    """The folder of a model that comes with the package.

    Args:
        name: ``"gdss-qm9"``, graphs, or ``"edm-qm9"``, molecules in space. Each has its ``CARD.md``.

    Raises:
        FileNotFoundError: this installation has none of that name; those there are are listed.
    """
    folder = _ASSETS / name
    if not checkpoint.is_checkpoint(folder):
        raise FileNotFoundError(
            f"no trained model {name!r} comes with this version ({', '.join(shipped()) or 'none does'}): train one, "
            "and name its folder"
        )
    return folder
