"""What the models of all wings share: settings, the trained network, resuming, and files.

A model is untrained settings until `fit`, or `load`, gives it a denoiser. A subclass states

    kind, config_class          its name in checkpoints, and its frozen dataclass of settings
    fits, digested              what `fit` takes, and what of it the digest counts: words for messages
    free                        settings that may differ between a training and its continuation
    _build(seed)                the untrained denoiser
    _header(), _restore(read)   what travels in the checkpoint beside the weights
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from . import checkpoint
from .training.fit import FitResult, fit
from .training.interruption import same_training

__all__ = ["Model", "fit_model", "load_kind"]


class Model:
    """A model of a wing; see the module.

    Args:
        config: settings; or give its fields by name.

    Attributes:
        config: the settings.
        denoiser: the trained denoiser, None before.
        history: training log of the last `fit`: rows of step, epoch, loss, lr, val_loss.
        steps: optimizer steps taken, earlier runs included; 0 for a loaded model.
        data: digest of the training data, by which a resumed training knows that they are the same ones.
    """

    kind: ClassVar[str]
    config_class: ClassVar[type]
    fits: ClassVar[str] = "data"
    digested: ClassVar[str] = "values and their order count"
    free: ClassVar[frozenset[str]] = frozenset()
    config: Any

    def __init__(self, config: Any = None, **settings: Any) -> None:
        name = self.config_class.__name__
        if config is not None and settings:
            raise TypeError(f"give a {name} or its fields, not both (got config and {sorted(settings)})")
        if config is not None and not isinstance(config, self.config_class):
            raise TypeError(f"config must be a {name}, got {type(config).__name__}")
        self.config = config or self.config_class(**settings)
        self.denoiser: Any = None
        self.history: list[dict[str, float]] = []
        self.steps = 0
        self.data = ""

    def __repr__(self) -> str:
        return f"{self.kind}({self.config}, {self._state()})"

    def _state(self) -> str:
        return "trained" if self.denoiser is not None else "not trained"

    # -- what a system defines -------------------------------------------------------------------------------------
    def _build(self, seed: int) -> Any:
        """The denoiser with the initial weights of `seed`."""
        raise NotImplementedError

    def _header(self) -> dict[str, Any]:
        """What is stored beside the weights: JSON values."""
        return {"config": asdict(self.config), "data": self.data}

    def _restore(self, read: checkpoint.Checkpoint) -> None:
        """Take up what `_header` and `_extra` stored, settings excepted."""
        self.data = str(read.config.get("data", ""))

    def _extra(self) -> dict[str, Tensor]:
        """Tensors that are stored beside the network's."""
        return {}

    # -- the trained network ---------------------------------------------------------------------------------------
    def _train(self, denoiser: Any, data: Any, **options: Any) -> Self:
        """Train a denoiser as `fit_model` does, and take up what comes of it."""
        result = fit_model(
            denoiser, data, kind=self.kind, header=self._header(), free=self.free, digested=self.digested, **options
        )
        self.history, self.steps, self.denoiser = result.history, result.steps, result.denoiser
        self._freeze()
        return self

    def _trained(self) -> Any:
        if self.denoiser is None:
            raise RuntimeError(
                f"this {self.kind} is not trained: call fit({self.fits}) first, or {type(self).__name__}.load(folder)"
            )
        return self.denoiser

    def _network(self) -> nn.Module:
        network = self._trained().network
        assert isinstance(network, nn.Module)
        return network

    def _freeze(self) -> None:
        self._network().eval().requires_grad_(False)

    # -- files -----------------------------------------------------------------------------------------------------
    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write weights (safetensors) and settings (JSON) into ``folder``, atomically; returns it."""
        return checkpoint.save(folder, self._network(), self._header(), kind=self.kind, extra=self._extra())

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read what `save`, or `fit` with ``out`` (its ``model`` and ``best``), wrote.

        Raises:
            FileNotFoundError, CheckpointError: nothing there, corrupted, foreign, or of another kind.
        """
        read = checkpoint.load(folder, kind=cls.kind)
        model = cls(config=read.settings(cls.config_class))
        model._restore(read)
        model.denoiser = model._build(0)
        read.load_into(model._network())
        model._freeze()
        return model


def fit_model(
    denoiser: Any,
    data: Any,
    *,
    kind: str,
    header: dict[str, Any],
    max_steps: int,
    val: Any = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    free: Collection[str] = (),
    digested: str = Model.digested,
    **options: Any,
) -> FitResult:
    """`core.training.fit` for models: resumes only the training that it was, and ends with the best weights.

    Args:
        denoiser, data, max_steps, val, out, resume, options: of `core.training.fit`.
        kind, header: of the checkpoint; the header's "config" and "data" must be those of a training to resume.
        free, digested: see `core.training.interruption.same_training`.

    Returns:
        its result; with `val` and `out` the network has the weights of the lowest validation loss.

    Raises:
        ValueError: a training to resume that was another one.
    """
    if resume and out is not None:
        same_training(Path(out), kind, header, max_steps, free, digested)
    result = fit(
        denoiser, data, max_steps=max_steps, val=val, out=out, resume=resume, kind=kind, config=header, **options
    )
    if val is not None and out is not None and checkpoint.is_checkpoint(Path(out) / "best"):
        network: Any = result.denoiser.network
        checkpoint.load(Path(out) / "best", kind=kind).load_into(network)
    return result


def load_kind(
    folder: str | os.PathLike[str], kinds: Collection[str], system: Callable[[str], Any], what: str = "model"
) -> Any:
    """The trained model in ``folder``, of whichever system of a wing wrote it.

    Args:
        folder: of a model (what `save` wrote), or the ``out`` of a training: its ``best`` where there is one, else its
            ``model``.
        kinds: of the wing's checkpoints. system: kind -> class. what: they are, for the message.

    Raises:
        FileNotFoundError: no such folder.
        CheckpointError: no checkpoint, a corrupted one, or one of another kind of model (which is named).
    """
    path = Path(folder)
    if not checkpoint.is_checkpoint(path):  # the folder of a training
        path = next((path / k for k in ("best", "model") if checkpoint.is_checkpoint(path / k)), path)
    kind = checkpoint.load(path).kind
    if kind not in kinds:
        raise checkpoint.CheckpointError(
            f"checkpoint {str(path)!r} holds a {kind!r}, which is no {what} of this wing: expected one of "
            f"{', '.join(kinds)}; load it with the class that wrote it"
        )
    return system(kind).load(path)
