"""The settings of :mod:`.model`, each with its reason; those published for six data sets, and one for CPUs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ...core.discrete.keep import keep_of
from ...core.settings import Settings

__all__ = ["PRESETS", "PARDConfig"]


_BASE: dict[str, Any] = {"layers": 6, "hidden": 128, "edge_hidden": 32, "steps": 40}

PRESETS: dict[str, dict[str, Any]] = {
    "qm9": {},
    "zinc250k": {"epochs": 70, "warmup_epochs": 0.0, "absolute": False},
    "moses": {"epochs": 40, "lr": 2e-4, "warmup_epochs": 0.0},
    "community_small": _BASE
    | {"noise": "marginal", "coeff_ce": 0.01, "epochs": 1000, "batch_size": 512, "lr": 5e-4},
    "planar": {
        "max_hops": 1, "layers": 10, "edge_hidden": 32, "absolute": False, "epochs": 400, "batch_size": 6, "lr": 3e-4,
        "warmup_epochs": 0.0,
    },
    "sbm": _BASE | {"coeff_ce": 0.01, "epochs": 300, "batch_size": 24, "lr": 2e-4},
    "small": {
        "steps": 20, "layers": 3, "hidden": 64, "edge_hidden": 16, "heads": 4, "shared": True, "epochs": 20,
        "batch_size": 64, "lr": 2e-3, "warmup_epochs": 0.1, "ema": 0.999,
    },
}  # fmt: skip
"""Settings by name, as they differ from the defaults (QM9's). "small" is ours, for CPUs."""


@dataclass(frozen=True)
class PARDConfig(Settings):
    """Everything that defines a PARD model. Immutable; stored in the checkpoint. The defaults are those of QM9.

    Attributes:
        max_hops: how far weighted degrees look, see :mod:`.order`; more hops, more and smaller blocks. 0: one block for
            the whole graph, diffusion alone (the authors' ablation).
        steps: diffusion steps a block, in training and, where `sample` is given none, in sampling.
        noise: what lost types and bonds become: "uniform" (any, equally likely), as published for most data sets, or
            "marginal" (drawn from their frequencies in the training data).
        keep: alpha(t), a name of `core.discrete.keep`; the published cosine is not squared.
        coeff_ce: weight of -log p(x_0 | x_t) beside the divergence of the posteriors.
        layers, hidden, edge_hidden, heads: of both networks: layers, features of nodes and of pairs, attention heads.
        absolute: whether nodes are told the number of their block, beside how far blocks are apart. Left out where
            blocks are many and their numbers mean little.
        shared: whether the next block is told by the denoising network's real half instead of a network of its own;
            published as an option, at about three quarters of the cost of a step.
        epochs, batch_size, lr: of training, where `fit` is given none; the learning rate falls to zero as a cosine.
        warmup_epochs: epochs in which the learning rate rises, at most a tenth of the training.
        weight_decay: of AdamW. grad_clip: largest norm of the gradient; None: any.
        ema: decay of the average of the weights that sampling uses; None: the last weights, as published.
    """

    presets: ClassVar[Mapping[str, dict[str, Any]]] = PRESETS

    max_hops: int = 3
    steps: int = 50
    noise: Literal["uniform", "marginal"] = "uniform"
    keep: str = "cosine_shifted"
    coeff_ce: float = 0.1
    layers: int = 8
    hidden: int = 256
    edge_hidden: int = 64
    heads: int = 8
    absolute: bool = True
    shared: bool = False
    epochs: int = 100
    batch_size: int = 128
    lr: float = 4e-4
    warmup_epochs: float = 5.0
    weight_decay: float = 0.01
    grad_clip: float | None = 1.0
    ema: float | None = None

    def __post_init__(self) -> None:
        self._positive("steps", "layers", "hidden", "edge_hidden", "heads", "epochs", "batch_size")
        if isinstance(self.max_hops, bool) or not isinstance(self.max_hops, int) or self.max_hops < 0:
            raise ValueError(f"max_hops must be a number of hops, 0 or more, got {self.max_hops!r}")
        if self.hidden % self.heads or self.hidden % 2:
            raise ValueError(f"hidden={self.hidden} must be even and a multiple of heads={self.heads}")
        if self.noise not in ("uniform", "marginal"):
            raise ValueError(f"noise must be 'uniform' or 'marginal', got {self.noise!r}")
        if not isinstance(self.keep, str):
            raise ValueError(f"keep must be a name of core.discrete.keep, got {self.keep!r}")
        keep_of(self.keep)
        for name in ("coeff_ce", "warmup_epochs", "weight_decay"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"{name} must be finite and not negative, got {value}")
        if not self.lr > 0.0:
            raise ValueError(f"lr must be positive, got {self.lr}")
        if self.ema is not None and not 0.0 < self.ema < 1.0:
            raise ValueError(f"ema must lie between 0 and 1, or be None, got {self.ema}")
