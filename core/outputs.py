"""Results as files that appear when they are complete: pictures, and numbers as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw", "write_json"]


def draw(figure: Figure, path: Path) -> Path:
    """Write a picture; returns the path."""
    with replacing(path) as partial:
        figure.savefig(partial, format=path.suffix.lower().lstrip("."), dpi=120)
    return path


def write_json(value: Any, path: Path) -> Path:
    """Write plain values as JSON; what is not finite becomes null."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(_plain(value), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | bool | int) else str(value)
