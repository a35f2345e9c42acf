"""The settings of :mod:`.model`, each with its reason, and those published for six data sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ...core.settings import Settings
from .schedules import Process, schedule_of

__all__ = ["PRESETS", "Coupling", "GDSSConfig", "Sampling"]

Coupling = Literal["joint", "independent", "sequential"]
Sampling = Literal["pc", "s4"]


def _graphs(depth: int, layers: int, batch_size: int, **changes: Any) -> dict[str, Any]:
    """What the four sets of graphs without types have in common."""
    vp: Process = ("VP", 0.1, 1.0)
    return {
        "x_process": vp, "a_process": vp, "depth": depth, "hidden": 32, "layers": layers, "linears": 2,
        "attention": 32, "epochs": 5000, "batch_size": batch_size, "lr": 0.01,
    } | changes  # fmt: skip


PRESETS: dict[str, dict[str, Any]] = {
    "community_small": _graphs(3, 5, 128, predictor="euler_maruyama", snr=0.05, scale_eps=0.7),
    "ego_small": _graphs(2, 5, 128, predictor="euler_maruyama", corrector="none"),
    "enzymes": _graphs(5, 7, 64, a_process=("VE", 0.2, 1.0), sampler="s4", snr=0.15, scale_eps=0.7, ema=0.999),
    "grid": _graphs(5, 7, 8, a_process=("VP", 0.2, 0.8), snr=0.1, scale_eps=0.7, ema=0.999),
    "qm9": {},
    "zinc250k": {
        "x_process": ("VP", 0.1, 1.0), "a_process": ("VE", 0.2, 1.0), "layers": 6, "epochs": 500, "scale_eps": 0.9,
    },
}  # fmt: skip
"""Published settings by data set, as they differ from the defaults (QM9's)."""


@dataclass(frozen=True)
class GDSSConfig(Settings):
    """Everything that defines a GDSS model. Immutable; stored in the checkpoint. The defaults are those of QM9.

    Attributes:
        x_process, a_process: the process of each leaf, ``("VP" | "VE" | "subVP", at t = 0, at t = 1)``; see
            :mod:`.schedules`.
        depth, hidden: graph convolutions of the network of nodes, and features in both networks.
        layers, linears: attention layers of the network of edges, and layers of the networks that mix its channels.
        c_init, c_hidden, c_final, attention, heads: see `EdgeScore`; 2, 8, 4, 4 heads on every published data set.
        time: features of the time's embedding that both networks are given; 0: they are not told the time, as
            published.
        coupling: "joint": both networks see (X, A), the method. Two ablations: "independent": each is blind to the
            other leaf; "sequential": nodes are drawn first, by a network blind to A, and then A by one that sees the
            finished X.
        start: where sampling starts. "standard": N(0, I), as published, although p_1 is something else with the
            published constants. "moments": a Gaussian with the mean and variance that p_1 has in the training data, one
            for each feature and one for all pairs.
        isolated: of graphs that are no molecules: "drop" nodes without an edge from samples, as published (then a
            graph without edges comes back as one node), or "keep" them.
        virtual: of molecules: a node none of whose types exceeds 1/2 is "drop": no atom, as published, or "argmax":
            its likeliest type all the same.
        epochs, batch_size, lr: of training, where `fit` is given none.
        decay: factor of the learning rate after every epoch; or "constant", or "cosine" to zero.
        weight_decay: of Adam. grad_clip: largest norm of the gradient of each of both networks; None: any.
        ema: decay of the average of the weights that sampling uses; None: the last weights, as published for most data
            sets.
        sampler: "pc" (predictor-corrector, two network calls a step) or "s4" (one), where `sample` is given none.
        predictor: of "pc": "reverse_diffusion" or "euler_maruyama".
        corrector: "langevin" or "none", in both samplers.
        snr, scale_eps: of the Langevin corrector: signal-to-noise ratio, and factor on its noise.
        compat: "published": norms of the corrector averaged over the batch, so that a graph depends on those sampled
            beside it. None: norms of each graph.
        t_train: training times are uniform on [t_train, 1].
        t_end: sampling goes from 1 to t_end in equal steps, and from there to the data.
    """

    presets: ClassVar[Mapping[str, dict[str, Any]]] = PRESETS

    x_process: Process = ("VE", 0.1, 1.0)
    a_process: Process = ("VE", 0.1, 1.0)
    depth: int = 2
    hidden: int = 16
    layers: int = 3
    linears: int = 3
    c_init: int = 2
    c_hidden: int = 8
    c_final: int = 4
    attention: int = 16
    heads: int = 4
    time: int = 0
    coupling: Coupling = "joint"
    start: Literal["standard", "moments"] = "standard"
    isolated: Literal["drop", "keep"] = "drop"
    virtual: Literal["drop", "argmax"] = "drop"
    epochs: int = 300
    batch_size: int = 1024
    lr: float = 0.005
    decay: Literal["constant", "cosine"] | float = 0.999
    weight_decay: float = 1e-4
    grad_clip: float | None = 1.0
    ema: float | None = None
    sampler: Sampling = "pc"
    predictor: Literal["reverse_diffusion", "euler_maruyama"] = "reverse_diffusion"
    corrector: Literal["langevin", "none"] = "langevin"
    snr: float = 0.2
    scale_eps: float = 0.7
    compat: Literal["published"] | None = None
    t_train: float = 1e-5
    t_end: float = 1e-4

    def __post_init__(self) -> None:
        schedule_of(self.x_process, "x_process")
        schedule_of(self.a_process, "a_process")
        self._positive(
            "depth", "hidden", "layers", "linears", "c_init", "c_hidden", "c_final", "attention", "heads", "epochs",
            "batch_size",
        )  # fmt: skip
        if self.layers < 2:
            raise ValueError(f"layers must be at least 2, got {self.layers}")
        for name in ("hidden", "attention"):
            if getattr(self, name) % self.heads:
                raise ValueError(f"heads={self.heads} must divide {name}={getattr(self, name)}")
        if isinstance(self.time, bool) or not isinstance(self.time, int) or self.time < 0 or self.time % 2:
            raise ValueError(f"time must be 0 or an even number of features, got {self.time!r}")
        self._one_of(
            coupling=("joint", "independent", "sequential"),
            start=("standard", "moments"),
            isolated=("drop", "keep"),
            virtual=("drop", "argmax"),
            sampler=("pc", "s4"),
            predictor=("reverse_diffusion", "euler_maruyama"),
            corrector=("langevin", "none"),
            compat=(None, "published"),
        )
        for name in ("t_train", "t_end"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        if not self.lr > 0.0:
            raise ValueError(f"lr must be positive, got {self.lr}")


OF_SAMPLER = frozenset({"snr", "scale_eps", "predictor", "corrector", "compat"})
"""Settings that "pc" and "s4" are made with."""

OF_SAMPLING = OF_SAMPLER | {"start", "isolated", "virtual", "t_end"}
"""Settings that `GDSS.sample` takes, and with which a training may go on when they differ."""
