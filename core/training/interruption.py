"""Trainings that are interrupted: the step that they had reached, that of the last checkpoint, and what may go on."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

__all__ = ["Position", "interrupted", "same_training", "saved_step"]


class Position:
    """The step that a training has reached, for the message of an interrupted one.

    Args:
        before: the step of the checkpoint that it goes on from, None where there is none.
    """

    def __init__(self, before: int | None = None) -> None:
        self.step, self.before = 0, before

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


def same_training(
    out: Path, kind: str, header: dict[str, Any], max_steps: int, free: Collection[str], digested: str
) -> None:
    """Refuse to go on with a training of another model or of other data, or one that has gone further.

    Args:
        out: folder of the training.
        kind, header: of its checkpoints; "config" are the settings, "data" is a digest.
        max_steps: that are asked for now.
        free: settings that may differ.
        digested: what the digest counts, for the message.

    Raises:
        ValueError: naming what differs.
    """
    from .. import checkpoint

    step = saved_step(out)
    if step is None:
        return
    if checkpoint.is_checkpoint(out / "model"):
        before = checkpoint.load(out / "model", kind=kind).config
        was, now = before.get("config", {}), header["config"]
        different = [
            f"{k} was {was[k]!r}, now {v!r}"
            for k, v in now.items()
            if k in was and k not in free and was[k] != _json(v)
        ]
        if different:
            raise ValueError(
                f"cannot resume the training in {str(out)!r} with another model ({'; '.join(different)}): use the same "
                "settings, or another folder"
            )
        if before.get("data", header["data"]) != header["data"]:
            raise ValueError(
                f"cannot resume the training in {str(out)!r} on other data: they had the digest {before['data']}, "
                f"these have {header['data']} ({digested}); use the same data, or another folder"
            )
    if step > max_steps:
        raise ValueError(
            f"the training in {str(out)!r} is already at step {step}, nothing to do up to max_steps={max_steps}: ask "
            "for more steps, or load its model"
        )


def _json(value: Any) -> Any:
    """A setting as it comes back from JSON."""
    return [_json(v) for v in value] if isinstance(value, list | tuple) else value
