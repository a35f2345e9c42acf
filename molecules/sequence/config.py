"""The settings of :mod:`.model`, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

__all__ = ["PRESETS", "SequenceConfig"]


@dataclass(frozen=True)
class SequenceConfig:
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
        weight_decay: of AdamW.
        ema: decay of the average of the weights that sampling uses; None: the last weights.
        energy_width, energy_depth: of the network of `train_energy`.
    """

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
    ema: float | None = 0.999
    energy_width: int = 64
    energy_depth: int = 2

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads", "epochs", "batch_size", "energy_width", "energy_depth"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        for name in ("width", "energy_width"):
            if getattr(self, name) % (2 * self.heads):
                raise ValueError(f"{name}={getattr(self, name)} must be a multiple of 2 heads={2 * self.heads}")
        choices = {"positions": ("sinusoidal", "rotary"), "decay": ("constant", "cosine")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {getattr(self, name)!r}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout is a probability below 1, got {self.dropout}")
        if not self.lr > 0.0:
            raise ValueError(f"lr must be positive, got {self.lr}")

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """The settings by name: one of :data:`PRESETS`.

        Raises:
            ValueError: no such preset; they are listed.
        """
        if name not in PRESETS:
            raise ValueError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
        return cls(**(PRESETS[name] | changes))


PRESETS: dict[str, dict[str, Any]] = {
    "small": {},
    "base": {"width": 512, "depth": 8, "heads": 8, "dropout": 0.1, "batch_size": 256, "lr": 3e-4, "warmup": 2500},
}
"""Ours: "small" for a CPU, "base" of a size that is usual for short regulatory sequences on a GPU."""
