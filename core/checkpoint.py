"""Checkpoints: tensors in safetensors, everything else in JSON, never pickle.

A checkpoint is a folder of two files::

    checkpoint.json               format, format version, kind, config, and the name and SHA-256 of the tensor file
    tensors-<12 hex>.safetensors  "model/..." the state dict, "extra/..." other tensors (normaliser statistics)

The tensor file is named after its content and `checkpoint.json` is the only file that is ever replaced, by one atomic
rename on a complete, flushed copy. So there is no instant at which the folder holds half a checkpoint: a process that
is killed while it saves leaves the previous checkpoint, whole. Other files of the folder are never touched.

Reading checks everything that can be wrong before a tensor is used: the format, its version, the kind (the class that
wrote it) and the digest of the tensors.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .. import __version__

__all__ = ["FORMAT_VERSION", "Checkpoint", "CheckpointError", "is_checkpoint", "load", "save"]

T = TypeVar("T")

FORMAT = "scidiffuse-checkpoint"
FORMAT_VERSION = 1
"""Version of the layout that this module writes; it reads this one and older ones."""

_HEAD = "checkpoint.json"
_TENSOR_FILE = re.compile(r"tensors-[0-9a-f]{12}\.safetensors")
_TEMPORARY = ".partial-"


class CheckpointError(ValueError):
    """A checkpoint that is corrupted, foreign, of another kind, or newer than this version."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        tensors: the state dict of the model.
        config: the configuration, as plain JSON values (tuples came back as lists).
        kind: name of the model class that wrote it.
        extra: other tensors, for example normaliser statistics.
        version: version of the format it was written in.
        written_by: version of scidiffuse that wrote it.
        folder: where it was read from.
    """

    tensors: dict[str, Tensor] = field(repr=False)
    config: dict[str, Any]
    kind: str
    extra: dict[str, Tensor] = field(default_factory=dict, repr=False)
    version: int = FORMAT_VERSION
    written_by: str = __version__
    folder: Path | None = None

    def settings(self, config_class: type[T]) -> T:
        """The settings under "config", as an object of their dataclass (lists become tuples).

        Raises:
            CheckpointError: none, or some that this version lacks.
        """
        stored = dict(self.config.get("config", {}))
        if not stored:
            raise CheckpointError(
                f"{self._where()} holds weights without settings: give a folder that save or fit wrote"
            )
        strange = sorted(set(stored) - {f.name for f in dataclasses.fields(config_class)})  # type: ignore[arg-type]
        if strange:
            raise CheckpointError(f"{self._where()} has the settings {strange}, which this version lacks")
        return config_class(**{k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()})

    def load_into(self, module: nn.Module) -> None:
        """Copy `tensors` into `module`, whose names and shapes must be the same, and put it into eval mode.

        Raises:
            CheckpointError: naming the missing, unexpected and mis-shaped tensors.
        """
        own = module.state_dict()
        missing = sorted(own.keys() - self.tensors.keys())
        unexpected = sorted(self.tensors.keys() - own.keys())
        shapes = [
            f"{name}: {tuple(self.tensors[name].shape)} saved, {tuple(own[name].shape)} in the module"
            for name in sorted(own.keys() & self.tensors.keys())
            if own[name].shape != self.tensors[name].shape
        ]
        if missing or unexpected or shapes:
            raise CheckpointError(
                f"{self._where()} does not fit {type(module).__name__}: "
                f"missing {_some(missing)}; unexpected {_some(unexpected)}; other shapes {_some(shapes)}. "
                "Build the module from the checkpoint's own config."
            )
        module.load_state_dict(self.tensors)
        module.eval()

    def _where(self) -> str:
        return f"checkpoint {str(self.folder)!r}" if self.folder else "the checkpoint"


def save(
    folder: str | os.PathLike[str],
    model: nn.Module | Mapping[str, Tensor],
    config: Any = None,
    *,
    kind: str,
    extra: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write a checkpoint to `folder`, atomically; a checkpoint that is there already is replaced.

    Args:
        folder: created with its parents where missing. Files that are not of a checkpoint are left alone.
        model: the module, or its state dict.
        config: a dictionary, or a dataclass, of JSON values: what `load` needs to build the module again.
        kind: name of the model class; `load(kind=...)` compares it.
        extra: other tensors that travel with the model, such as normaliser statistics.

    Returns:
        The folder.

    Raises:
        TypeError: if the config holds something that JSON cannot, or a value to save is not a tensor.
        ValueError: if the config holds a number that is not finite, `kind` is empty, or `folder` is a file.
    """
    folder = Path(folder)
    if not isinstance(kind, str) or not kind:
        raise ValueError(f"kind is the name of the model class, a non-empty string, got {kind!r}")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"a checkpoint is a folder, but {str(folder)!r} is a file; give another name or move it")
    if config is not None and dataclasses.is_dataclass(config) and not isinstance(config, type):
        config = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    config = _plain({} if config is None else config, "config")
    if not isinstance(config, dict):
        raise TypeError(f"config must be a dictionary or a dataclass, got {type(config).__name__}")

    given: Any = model
    if not isinstance(given, nn.Module | Mapping):
        hint = "; pass its .network" if isinstance(getattr(given, "network", None), nn.Module) else ""
        raise TypeError(f"model is a module or its state dict, got {type(given).__name__}{hint}")
    state = model.state_dict() if isinstance(model, nn.Module) else model
    flat = {f"model/{name}": _tensor(value, name) for name, value in state.items()}
    flat |= {f"extra/{name}": _tensor(value, name) for name, value in (extra or {}).items()}

    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{_TEMPORARY}{os.getpid()}.safetensors"
    save_file(flat, partial, metadata={"format": "pt"})
    partial.chmod(0o644)  # safetensors writes for the owner alone
    _flush(partial)
    digest = _sha256(partial)
    name = f"tensors-{digest[:12]}.safetensors"
    os.replace(partial, folder / name)

    head = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "kind": kind,
        "scidiffuse": __version__,
        "tensors": {"file": name, "sha256": digest},
        "config": config,
    }
    partial = folder / f"{_TEMPORARY}{os.getpid()}.json"
    partial.write_text(json.dumps(head, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    _flush(partial)
    os.replace(partial, folder / _HEAD)  # the one instant at which the new checkpoint takes the old one's place
    for path in folder.iterdir():
        if (_TENSOR_FILE.fullmatch(path.name) and path.name != name) or path.name.startswith(_TEMPORARY):
            path.unlink(missing_ok=True)
    return folder


def is_checkpoint(folder: str | os.PathLike[str]) -> bool:
    """Whether `folder` holds a checkpoint's head; says nothing on whether it is sound."""
    return (Path(folder) / _HEAD).is_file()


def load(folder: str | os.PathLike[str], *, kind: str | None = None, device: str | torch.device = "cpu") -> Checkpoint:
    """Read and verify the checkpoint in `folder`.

    Args:
        folder: what `save` was given.
        kind: refuse a checkpoint of any other kind; None takes all.
        device: where the tensors go.

    Raises:
        FileNotFoundError: if there is no such folder.
        CheckpointError: if it is not a checkpoint, newer than this version, of another kind, truncated or corrupted.
    """
    folder = Path(folder)
    head = _head(folder)
    if kind is not None and head["kind"] != kind:
        raise CheckpointError(
            f"checkpoint {str(folder)!r} holds a {head['kind']!r}, expected a {kind!r}; "
            f"load it with the class that wrote it"
        )
    try:
        flat = _read(folder, head, device)
    except FileNotFoundError:  # replaced by another process between the two reads: its new head names the new file
        again = _head(folder)
        if again["tensors"] == head["tensors"]:
            raise CheckpointError(
                f"checkpoint {str(folder)!r} is incomplete: {head['tensors']['file']!r}, which {_HEAD} names, is "
                "missing; copy the whole folder again"
            ) from None
        head = again
        flat = _read(folder, head, device)
    strays = [name for name in flat if not name.startswith(("model/", "extra/"))]
    if strays:
        raise CheckpointError(f"checkpoint {str(folder)!r} holds tensors of no known part: {_some(strays)}")
    return Checkpoint(
        tensors={name[6:]: value for name, value in flat.items() if name.startswith("model/")},
        extra={name[6:]: value for name, value in flat.items() if name.startswith("extra/")},
        config=head["config"],
        kind=head["kind"],
        version=head["version"],
        written_by=str(head.get("scidiffuse", "unknown")),
        folder=folder,
    )


def _head(folder: Path) -> dict[str, Any]:
    path = folder / _HEAD
    where = f"checkpoint {str(folder)!r}"
    if folder.is_file():
        raise CheckpointError(
            f"{str(folder)!r} is a file; a scidiffuse checkpoint is a folder with {_HEAD} and a safetensors file. "
            "Pickled checkpoints (.ckpt, .pt, .pth, .bin) are never read: convert their tensors with checkpoint.save"
        )
    if not folder.exists():
        raise FileNotFoundError(f"no checkpoint at {str(folder)!r}: the folder does not exist")
    if not path.is_file():
        found = _some(sorted(p.name for p in folder.iterdir()))
        raise CheckpointError(
            f"{str(folder)!r} is not a scidiffuse checkpoint: it has no {_HEAD} (it holds {found}); "
            "give the folder that `save` wrote"
        )
    try:
        head = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{where} is corrupted: {_HEAD} is not JSON ({error}); restore or retrain it") from None
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        came = head.get("format") if isinstance(head, dict) else type(head).__name__
        raise CheckpointError(
            f"{where} is foreign: {_HEAD} says format {came!r}, expected {FORMAT!r}; "
            "load it with the program that wrote it"
        )
    version = head.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise CheckpointError(f"{where} is corrupted: format version {version!r} is not a positive integer")
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{where} has format version {version}, this scidiffuse ({__version__}) reads up to {FORMAT_VERSION}; "
            f"it was written by scidiffuse {head.get('scidiffuse')!r}: upgrade to that version"
        )
    tensors = head.get("tensors")
    sound = (
        isinstance(head.get("kind"), str)
        and isinstance(head.get("config"), dict)
        and isinstance(tensors, dict)
        and isinstance(tensors.get("sha256"), str)
        and isinstance(tensors.get("file"), str)
        and _TENSOR_FILE.fullmatch(tensors["file"]) is not None  # a plain name: cannot point out of the folder
    )
    if not sound:
        raise CheckpointError(
            f"{where} is corrupted: {_HEAD} needs 'kind', 'config' and 'tensors' with a file name and its SHA-256"
        )
    return head


def _read(folder: Path, head: dict[str, Any], device: str | torch.device) -> dict[str, Tensor]:
    path = folder / head["tensors"]["file"]
    came, expected = _sha256(path), head["tensors"]["sha256"]
    if came != expected:
        raise CheckpointError(
            f"checkpoint {str(folder)!r} is corrupted: {path.name!r} ({path.stat().st_size} bytes) has SHA-256 "
            f"{came[:12]}..., {_HEAD} expects {expected[:12]}...; the file is truncated or was changed: copy it again"
        )
    try:
        return load_file(path, device=str(device))
    except SafetensorError as error:
        raise CheckpointError(
            f"checkpoint {str(folder)!r} is corrupted: {path.name!r} is no safetensors file ({error})"
        ) from None


def _plain(value: Any, where: str) -> Any:
    """`value` in JSON's own types; tuples become lists and nested dataclasses dictionaries."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}: JSON holds finite numbers only; use None")
        return value
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where} has the key {key!r} ({type(key).__name__}): JSON keys are strings")
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name), f"{where}.{f.name}") for f in dataclasses.fields(value)}
    raise TypeError(
        f"{where} is a {type(value).__name__}, which JSON cannot hold: use numbers, strings, lists and dictionaries, "
        "and give tensors as `extra`"
    )


def _tensor(value: Any, name: str) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name!r} is a {type(value).__name__}, a checkpoint holds tensors: put it in the config")
    value = value.detach().cpu()
    return value.clone(memory_format=torch.contiguous_format)  # safetensors refuses tensors that share memory


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _some(names: list[str], limit: int = 4) -> str:
    if not names:
        return "none"
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
