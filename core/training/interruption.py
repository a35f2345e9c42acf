"""Trainings that are interrupted: which step they had reached, and which step the last checkpoint has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["Position", "interrupted", "saved_step"]


class Position:
    """The step that a training has reached, for the message of an interrupted one."""

    def __init__(self) -> None:
        self.step = 0

    def callbacks(self) -> list[Any]:
        """What tells: none without Lightning, whose absence `fit` reports."""
        try:
            from lightning.pytorch.callbacks import LambdaCallback
        except ImportError:
            return []

        def note(trainer: Any, *_: Any) -> None:
            self.step = int(trainer.global_step)

        return [LambdaCallback(on_train_batch_end=note)]


def saved_step(out: Path) -> int | None:
    """The step of the last checkpoint in the folder of a training, None where there is none."""
    from .. import checkpoint

    if not checkpoint.is_checkpoint(out / "state"):
        return None
    from .state import SafeCheckpointIO

    return int(SafeCheckpointIO().load_checkpoint(out / "state")["global_step"])


def interrupted(error: BaseException) -> bool:
    """Whether Ctrl-C is behind it: Lightning turns a KeyboardInterrupt into a SystemExit."""
    return isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt)
