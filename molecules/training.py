"""What the trainings of all models share: what a resumed training must have in common with the interrupted one."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..core import checkpoint
from .data.graphs import Graphs

__all__ = ["digest_of", "same_training"]


def digest_of(graphs: Graphs) -> str:
    """The first 16 hex digits of SHA-256 over nodes, edges and X, by which a resumed training knows its data."""
    digest = hashlib.sha256(repr((graphs.vocabulary, graphs.hydrogens)).encode())
    for part in (graphs.A, graphs.mask, graphs.types, graphs.features):
        digest.update(b"-" if part is None else part.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def same_training(out: Path, kind: str, config: Any, data: str, max_steps: int, free: Collection[str] = ()) -> None:
    """Refuse to go on with a training of another model or of other data, or one that has gone further.

    Raises:
        ValueError: naming what differs.
    """
    if not checkpoint.is_checkpoint(out / "state"):
        return
    from ..core.training.state import SafeCheckpointIO

    if checkpoint.is_checkpoint(out / "model"):
        before = checkpoint.load(out / "model", kind=kind).config
        was, now = before["config"], asdict(config)
        different = [
            f"{k} was {was[k]!r}, now {v!r}"
            for k, v in now.items()
            if k in was and k not in free and (tuple(was[k]) if isinstance(was[k], list) else was[k]) != v
        ]
        if different:
            raise ValueError(
                f"cannot resume the training in {str(out)!r} with another model ({'; '.join(different)}): use the same "
                "settings, or another folder"
            )
        if before["data"] != data:
            raise ValueError(
                f"cannot resume the training in {str(out)!r} on other data: they had the digest {before['data']}, "
                f"these have {data} (graphs, their order and padding count); use the same data, or another folder"
            )
    step = int(SafeCheckpointIO().load_checkpoint(out / "state")["global_step"])
    if step > max_steps:
        raise ValueError(
            f"the training in {str(out)!r} is already at step {step}, nothing to do up to max_steps={max_steps}: ask "
            "for more steps, or load its model"
        )
