"""The settings of :mod:`.model`, each with its reason, those published for five data sets, and one for laptops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ...core.settings import Settings

__all__ = ["PRESETS", "DiGressConfig"]


_DRUGS = {"layers": 12, "dy": 128, "ff_y": 256, "mlp_y": 256}
_LARGE = {"ff_e": 64, "ff_y": 256, "mlp_x": 128, "mlp_e": 64, "steps": 1000}

PRESETS: dict[str, dict[str, Any]] = {
    "qm9": {},
    "moses": _DRUGS | {"epochs": 300, "batch_size": 256},
    "guacamol": _DRUGS | {"epochs": 1000, "batch_size": 32},
    "community_small": {"layers": 8, "epochs": 1_000_000, "batch_size": 256},
    "planar": _LARGE | {"layers": 10, "epochs": 100_000, "batch_size": 64},
    "sbm": _LARGE | {"layers": 8, "epochs": 50_000, "batch_size": 16},
    "small": {
        "layers": 4, "dx": 64, "de": 32, "dy": 32, "heads": 4, "ff_x": 128, "ff_e": 64, "ff_y": 64, "mlp_x": 64,
        "mlp_e": 32, "mlp_y": 32, "dropout": 0.0, "steps": 100, "epochs": 2, "batch_size": 64, "lr": 2e-3,
        "decay": "cosine", "ema": 0.999,
    },
}  # fmt: skip
"""Settings by data set, as they differ from the defaults (QM9's): published, but for "small", for a CPU."""


@dataclass(frozen=True)
class DiGressConfig(Settings):
    """Everything that defines a DiGress model. Immutable; stored in the checkpoint. The defaults are those of QM9.

    Attributes:
        layers: of the graph transformer.
        dx, de, dy: features of a node, of an edge, of the graph, in the layers. Edges cost most: N^2 dx numbers.
        heads: of attention; divides dx.
        ff_x, ff_e, ff_y: features inside the maps of two layers in each layer.
        mlp_x, mlp_e, mlp_y: features inside the maps into the layers and out of them.
        dropout: inside the layers; 0.1, as the published network has without saying so.
        features: what the network is told of the noisy graph: "all", "cycles" (counts alone), or "none"; see
            :mod:`.features`. "all" as published: the network cannot count cycles by itself.
        atoms: of molecules, valences and weight are told, too.
        edge_weight: lambda of the cross-entropy of edges beside that of nodes; 5 as published.
        shift: of the cosine schedule, alpha = cos^2(pi / 2 (t + shift) / (1 + shift)) over its value at 0.
        steps: of sampling, where `sample` is given none; the published number of steps of training, too. Here training
            times are continuous, and any number of steps can be taken.
        properties: names of the properties that samples can be asked for; none by default.
        dropout_properties: share of training graphs whose properties are not told, so that guidance can compare.
        epochs, batch_size, lr: of training, where `fit` is given none.
        decay: of the learning rate over the training, "constant" as published, or "cosine".
        weight_decay: of AdamW; 1e-12 as published.
        grad_clip: largest norm of the gradient; None: any, as published.
        ema: decay of the average of the weights that sampling uses; None: the last weights, as published.
    """

    presets: ClassVar[Mapping[str, dict[str, Any]]] = PRESETS

    layers: int = 9
    dx: int = 256
    de: int = 64
    dy: int = 64
    heads: int = 8
    ff_x: int = 256
    ff_e: int = 128
    ff_y: int = 128
    mlp_x: int = 256
    mlp_e: int = 128
    mlp_y: int = 128
    dropout: float = 0.1
    features: Literal["all", "cycles", "none"] = "all"
    atoms: bool = True
    edge_weight: float = 5.0
    shift: float = 0.008
    steps: int = 500
    properties: tuple[str, ...] = ()
    dropout_properties: float = 0.1
    epochs: int = 1000
    batch_size: int = 1024
    lr: float = 2e-4
    decay: Literal["constant", "cosine"] = "constant"
    weight_decay: float = 1e-12
    grad_clip: float | None = 1.0
    ema: float | None = None

    def __post_init__(self) -> None:
        self._positive(
            "layers", "dx", "de", "dy", "heads", "ff_x", "ff_e", "ff_y", "mlp_x", "mlp_e", "mlp_y", "steps", "epochs",
            "batch_size",
        )  # fmt: skip
        if self.dx % self.heads:
            raise ValueError(f"heads={self.heads} must divide dx={self.dx}")
        self._one_of(features=("all", "cycles", "none"), decay=("constant", "cosine"), atoms=(True, False))
        for name in ("dropout", "dropout_properties"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} is a probability below 1, got {getattr(self, name)}")
        for name in ("edge_weight", "lr"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not isinstance(self.properties, tuple) or len(set(self.properties)) < len(self.properties):
            raise ValueError(f"properties is a tuple of different names, got {self.properties!r}")
