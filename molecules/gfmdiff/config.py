"""The settings of :mod:`.model`, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..edm.config import AtomConfig
from ..networks.dual_track import Geometry

__all__ = ["GFMDiffConfig"]


@dataclass(frozen=True)
class GFMDiffConfig(AtomConfig):
    """Everything that defines a GFMDiff model. The defaults are those published for QM9.

    Attributes:
        width, hidden, blocks, heads, dropout: of the network, see `DualTrack`.
        outer: width of the vectors whose outer product enters pairs: the full one, 256, published for QM9 (most of the
            network's parameters); None: both vectors side by side, published for GEOM-Drugs.
        geometry: whether blocks are told distances and angles of the moved positions ("blocks", published) or of those
            that came in ("input": less than half the time).
        angle_step: distance of the centres of angles, radians.
        reach: largest shift of a pair in a block, Å.
        chunk: centres of angles at a time: memory is linear in it, results do not depend on it. None: all.
        gf_weight: of the loss on bonds, 0.01 as published; 0: none, EDM's loss alone.
        gf_power: that loss counts alpha_t to this power: 1 as published. Larger ones keep it to the low noise at which
            distances mean something, see :mod:`.valency`.
        gf_softness: width of the soft threshold of bond lengths, Å.
    """

    presets: ClassVar[Mapping[str, dict[str, Any]]] = {
        "qm9": {},
        "small": {
            "diffusion_steps": 500, "width": 64, "hidden": 128, "blocks": 3, "heads": 4, "dropout": 0.0, "outer": 8,
            "geometry": "input", "angle_step": 0.4, "lr": 2e-3, "decay": "cosine", "ema": 0.999, "epochs": 100,
            "batch_size": 64, "grad_clip": 1.0,
        },
        "tiny": {
            "diffusion_steps": 500, "width": 32, "hidden": 64, "blocks": 2, "heads": 4, "dropout": 0.0, "outer": 8,
            "geometry": "input", "angle_step": 0.4, "lr": 2e-3, "decay": "cosine", "ema": 0.999, "epochs": 100,
            "batch_size": 32, "grad_clip": 1.0,
        },
    }  # fmt: skip

    diffusion_steps: int = 500
    width: int = 256
    hidden: int = 512
    blocks: int = 5
    heads: int = 8
    dropout: float = 0.1
    outer: int | None = 256
    geometry: Geometry = "blocks"
    angle_step: float = 0.1
    reach: float = 20.0
    chunk: int | None = None
    gf_weight: float = 0.01
    gf_power: float = 1.0
    gf_softness: float = 0.05
    batch_size: int = 16
    ema: float | None = 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        self._positive("width", "hidden", "blocks", "heads", *(n for n in ("outer", "chunk") if getattr(self, n)))
        if self.width % self.heads:
            raise ValueError(f"heads={self.heads} must divide width={self.width}")
        if self.geometry not in ("blocks", "input"):
            raise ValueError(f"geometry must be 'blocks' or 'input', got {self.geometry!r}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")
        for name in ("outer", "chunk"):
            if getattr(self, name) == 0:
                raise ValueError(f"{name} must be a positive integer or None, got 0")
        for name in ("angle_step", "reach", "gf_softness"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("gf_weight", "gf_power"):
            if not getattr(self, name) >= 0.0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
