"""The settings of :mod:`.model`, each with its reason, and those that models of molecules in space share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ...core.settings import Settings

__all__ = ["AtomConfig", "EDMConfig"]


@dataclass(frozen=True)
class AtomConfig(Settings):
    """What all diffusion models of molecules in space share. Immutable; stored in the checkpoint.

    Attributes:
        diffusion_steps: T of the schedule, see :mod:`.schedule`; 1000 as EDM.
        precision: noise at level 0 and data at level T, as squares; 1e-5 as EDM.
        type_divisor, number_divisor: what one-hot types, and atomic numbers and valences, are divided by; 4 and 10 as
            published, see :mod:`.features`.
        properties: names of properties that the network is told.
        dropout_properties: share of training molecules whose properties are not told, so that guidance can compare;
            0.1 as usual for classifier-free guidance. 0: they are always told, as in EDM.
        epochs, batch_size, lr: of training, where `fit` is given none.
        decay: of lr over the training: "constant" as published, or "cosine" to zero, which short trainings need.
        weight_decay: of Adam (AMSGrad); 1e-12 as published.
        ema: decay of the average of the weights that sampling uses; None: the last weights.
        grad_clip: largest norm of the gradient; None: no clipping. The published codes clip at a multiple of the norms
            of the last 50 steps, which a constant of this size does as well once training has settled.
    """

    diffusion_steps: int = 1000
    precision: float = 1e-5
    type_divisor: float = 4.0
    number_divisor: float = 10.0
    properties: tuple[str, ...] = ()
    dropout_properties: float = 0.1
    epochs: int = 3000
    batch_size: int = 64
    lr: float = 1e-4
    decay: Literal["constant", "cosine"] = "constant"
    weight_decay: float = 1e-12
    ema: float | None = 0.9999
    grad_clip: float | None = 5.0

    def __post_init__(self) -> None:
        self._positive("diffusion_steps", "epochs", "batch_size")
        names: Any = self.properties
        if isinstance(names, str):
            raise TypeError(f"properties is a tuple of names, got {names!r}: write ({names!r},)")
        object.__setattr__(self, "properties", tuple(names))
        self._one_of(decay=("constant", "cosine"))
        if not 0.0 < self.precision < 0.5:
            raise ValueError(f"precision must lie between 0 and 1/2, got {self.precision}")
        if not 0.0 <= self.dropout_properties < 1.0:
            raise ValueError(f"dropout_properties is a share in [0, 1), got {self.dropout_properties}")
        for name in ("type_divisor", "number_divisor", "lr"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True)
class EDMConfig(AtomConfig):
    """Everything that defines an EDM model. The defaults are those published for QM9.

    Attributes:
        hidden, layers: width and layers of the network, see `EGNN`.
        reach: largest shift of the network over all layers.
        scale: what sums over neighbours are divided by: 1 for QM9; larger molecules need about their size.
    """

    presets: ClassVar[Mapping[str, dict[str, Any]]] = {
        "qm9": {},
        "small": {
            "hidden": 64,
            "layers": 4,
            "lr": 2e-3,
            "decay": "cosine",
            "ema": 0.999,
            "epochs": 100,
            "grad_clip": 1.0,
        },
        "tiny": {
            "hidden": 48, "layers": 3, "lr": 2e-3, "decay": "cosine", "ema": 0.999, "epochs": 100, "grad_clip": 1.0,
            "batch_size": 32,
        },
    }  # fmt: skip

    hidden: int = 256
    layers: int = 9
    reach: float = 15.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._positive("hidden", "layers")
        for name in ("reach", "scale"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
