"""The state of a training, written and read without pickle.

Lightning hands over one nested dictionary: weights, averaged weights, optimizer, learning rate, loop counters. Its
tensors go to the checkpoint's tensor file, the rest to its JSON, in which what JSON does not know is spelled out:
a tensor as {"tensor": name}, a tuple as {"tuple": [...]}, any dictionary as {"dict": [[key, value], ...]}, a number
that is not finite as {"float": "inf"}.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from torch import Tensor

from .. import checkpoint

__all__ = ["KIND", "SafeCheckpointIO", "decode", "encode"]

KIND = "training-state"


def encode(value: Any, tensors: dict[str, Tensor], where: str = "state") -> Any:
    """`value` as JSON; its tensors are put into `tensors`.

    Raises:
        TypeError: for a value that is neither a tensor nor made of JSON's types.
    """
    if isinstance(value, Tensor):
        name = f"{len(tensors)}"
        tensors[name] = value
        return {"tensor": name}
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": str(float(value))}
    if isinstance(value, dict):
        pairs = [[encode(k, tensors, where), encode(v, tensors, f"{where}.{k}")] for k, v in value.items()]
        return {"dict": pairs}
    if isinstance(value, tuple):
        return {"tuple": [encode(v, tensors, f"{where}[{i}]") for i, v in enumerate(value)]}
    if isinstance(value, list):
        return [encode(v, tensors, f"{where}[{i}]") for i, v in enumerate(value)]
    raise TypeError(f"{where} is a {type(value).__name__}: a training state holds tensors and JSON values only")


def decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """What `encode` was given."""
    if isinstance(value, list):
        return [decode(v, tensors) for v in value]
    if isinstance(value, dict):
        ((kind, content),) = value.items()
        if kind == "tensor":
            return tensors[content]
        if kind == "tuple":
            return tuple(decode(content, tensors))
        if kind == "float":
            return float(content)
        return {_key(decode(k, tensors)): decode(v, tensors) for k, v in content}
    return value


def _key(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class SafeCheckpointIO(CheckpointIO):
    """Lightning's checkpoints as a folder of safetensors and JSON, atomically written."""

    def save_checkpoint(self, checkpoint_: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        tensors: dict[str, Tensor] = {}
        content = encode(checkpoint_, tensors)
        checkpoint.save(Path(path), tensors, {"state": content}, kind=KIND)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        read = checkpoint.load(Path(path), kind=KIND)
        state: dict[str, Any] = decode(read.config["state"], read.tensors)
        if isinstance(map_location, str | torch.device):
            state = {k: _move(v, torch.device(map_location)) for k, v in state.items()}
        return state

    def remove_checkpoint(self, path: Any) -> None:
        if checkpoint.is_checkpoint(path):
            shutil.rmtree(path)


def _move(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {k: _move(v, device) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_move(v, device) for v in value)
    return value
