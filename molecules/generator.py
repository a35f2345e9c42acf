"""What all systems of this wing share: how they are made for data, and trained on it."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Self

from torch import nn

from ..core.model import Model
from .data import Atoms, Graphs, Sequences
from .training import Rows, budget

__all__ = ["Generator"]

_MAKERS = {
    Graphs: "data.from_smiles, data.read_...",
    Atoms: "data.qm9_atoms, data.read_sdf, ...",
    Sequences: "data.read_fasta, data.from_strings",
}


class Generator(Model):
    """A diffusion model of `Graphs`, `Atoms` or `Sequences`. A system states, beside what `Model` asks for,

    takes                      the class of its data
    _fitting(data)             the preset for such data
    _define(data), _known()    fixes, by the first data it sees, what the model is a model of; whether it did
    inputs(data)               data as the network takes them, checked
    _measure(inputs)           reads off the training data what noise and sampling need, and their digest
    _rows(inputs)              the data set of batches
    _objective()               what is minimised
    _learning(network, ...)    optimizer, and how the learning rate goes, as `core.training.fit` takes them
    """

    takes: ClassVar[type]

    # -- what a system defines -------------------------------------------------------------------------------------
    @staticmethod
    def _fitting(data: Any) -> str:
        """The preset for such data."""
        raise NotImplementedError

    def _known(self) -> bool:
        """Whether the model knows what it is a model of."""
        raise NotImplementedError

    def _define(self, data: Any) -> None:
        """Fix what it is a model of."""
        raise NotImplementedError

    def inputs(self, data: Any) -> Any:
        """Data as the network takes them."""
        raise NotImplementedError

    def _measure(self, inputs: Any) -> None:
        """Read off the training data what noise and sampling need."""
        raise NotImplementedError

    def _rows(self, inputs: Any) -> Rows:
        """The data set of batches."""
        raise NotImplementedError

    def _scorable(self, val: Any, data: Any) -> Any:
        """The validation data that a model of these training data can have a loss of."""
        return val

    def _objective(self) -> Any:
        """What is minimised."""
        raise NotImplementedError

    def _learning(self, network: nn.Module, lr: float, steps: int, epoch: float) -> dict[str, Any]:
        """Options of `core.training.fit`, for a training of so many steps, and so many steps an epoch."""
        raise NotImplementedError

    # -- for everyone ----------------------------------------------------------------------------------------------
    @classmethod
    def for_dataset(cls, data: Any, preset: str | None = None, **changes: Any) -> Self:
        """An untrained model for a data set.

        Args:
            data: what it will be trained on: fixes what the model is a model of, and the largest sample.
            preset: settings by name, see the settings' class; None: those published for the data most like these.
            changes: settings that differ.

        Raises:
            TypeError: data of another kind.
            ValueError: an unknown preset, settings out of range, data that the system is not for.
        """
        cls._check(data)
        model = cls(config=cls.config_class.preset(preset or cls._fitting(data), **changes))  # type: ignore[attr-defined]
        model._define(data)
        return model

    @classmethod
    def _check(cls, data: Any) -> None:
        """Refuse data of another kind, and none."""
        right: bool = isinstance(data, cls.takes)
        if not right:
            raise TypeError(
                f"{cls.__name__} takes {cls.takes.__name__} ({_MAKERS[cls.takes]} make them), got {type(data).__name__}"
            )
        if len(data) == 0:
            raise ValueError(f"there are no {cls.fits} to train on")

    def fit(
        self,
        data: Any,
        *,
        epochs: float | None = None,
        max_steps: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        val: Any = None,
        seed: int = 0,
        out: str | os.PathLike[str] | None = None,
        resume: bool = False,
        save_every: int | None = None,
        progress: bool = False,
        **hardware: Any,
    ) -> Self:
        """Train; earlier weights of this object are forgotten.

        Args:
            data: the training data, of the kind that the system is for.
            epochs: passes over them; the settings' own where neither epochs nor max_steps is given.
            max_steps: optimizer steps in all, instead of epochs.
            batch_size, lr: of the settings where None; a batch is never larger than the data.
            val: data for a validation loss.
            seed: of the initial weights, the order, times and noise.
            out: folder for checkpoints; resume: go on with the training in it. save_every: steps between saves.
            progress: show a progress bar.
            hardware: accelerator, devices, num_nodes, strategy, precision, workers, callbacks, log_every, val_every of
                `core.training.fit`.

        Returns:
            self, with the last weights, or their average (``config.ema``); with `val` and `out` those of the lowest
            validation loss.

        Raises:
            ImportError: Lightning is missing.
            TypeError: data of another kind.
            ValueError: none, or others than the model was made for; settings out of range; a training to resume that
                was another one.
        """
        for given in (data,) if val is None else (data, val):
            self._check(given)
        if not self._known():
            self._define(data)
        if val is not None:
            val = self._scorable(val, data)
        c, train = self.config, self.inputs(data)
        size, max_steps = budget(c, len(train), epochs, max_steps, batch_size)
        self._measure(train)
        denoiser = self._build(seed)
        return self._train(
            denoiser,
            self._rows(train),
            objective=self._objective(),
            max_steps=max_steps,
            batch_size=size,
            ema=c.ema,
            seed=seed,
            val=None if val is None else self._rows(self.inputs(val)),
            out=out,
            resume=resume,
            save_every=save_every,
            collate=Rows.collate,
            progress=progress,
            **self._learning(denoiser.network, c.lr if lr is None else lr, max_steps, len(train) / size),
            **hardware,
        )
