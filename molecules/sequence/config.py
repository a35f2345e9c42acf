"""The settings of :mod:`.model`, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ...core.settings import Settings

__all__ = ["PRESETS", "SequenceConfig"]


PRESETS: dict[str, dict[str, Any]] = {
    "small": {},
    "base": {"width": 512, "depth": 8, "heads": 8, "dropout": 0.1, "batch_size": 256, "lr": 3e-4, "warmup": 2500},
}
"""Ours: "small" for a CPU, "base" of a size that is usual for short regulatory sequences on a GPU."""


@dataclass(frozen=True)
class SequenceConfig(Settings):
    """Everything that defines a MaskedSequence model. Immutable; stored in the checkpoint.

    Attributes:
        width, depth, heads: of the transformer. The defaults train in minutes on a CPU.
        positions: "sinusoidal": the network knows at which place a letter stands, which it must where all is masked and
            which regulatory sequences cut around a site need; no place beyond the longest training sequence means
            anything. "rotary": differences of places alone.
        dropout: inside the transformer.
        keep: how masks spread over time, a name of `core.discrete.keep`; without effect on first-hitting samples of an
            exact network.
        epochs, batch_size, lr: of training, where `fit` is given none.
        warmup: steps that lead up to lr.
        decay: of lr over the training: "cosine" to zero, or "constant".
        weight_decay: of AdamW. grad_clip: largest norm of the gradient; None: any.
        ema: decay of the average of the weights that sampling uses; None: the last weights.
        energy_width, energy_depth: of the network of `train_energy`.
    """

    presets: ClassVar[Mapping[str, dict[str, Any]]] = PRESETS

    width: int = 128
    depth: int = 4
    heads: int = 4
    positions: Literal["sinusoidal", "rotary"] = "sinusoidal"
    dropout: float = 0.0
    keep: str = "linear"
    epochs: int = 20
    batch_size: int = 64
    lr: float = 1e-3
    warmup: int = 50
    decay: Literal["constant", "cosine"] = "cosine"
    weight_decay: float = 0.01
    grad_clip: float | None = 1.0
    ema: float | None = 0.999
    energy_width: int = 64
    energy_depth: int = 2

    def __post_init__(self) -> None:
        self._positive("width", "depth", "heads", "epochs", "batch_size", "energy_width", "energy_depth")
        for name in ("width", "energy_width"):
            if getattr(self, name) % (2 * self.heads):
                raise ValueError(f"{name}={getattr(self, name)} must be a multiple of 2 heads={2 * self.heads}")
        self._one_of(positions=("sinusoidal", "rotary"), decay=("constant", "cosine"))
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout is a probability below 1, got {self.dropout}")
        if not self.lr > 0.0:
            raise ValueError(f"lr must be positive, got {self.lr}")
