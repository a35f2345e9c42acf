"""The settings of the one-step model, of the value networks and of their training by planning."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

__all__ = ["PDVNConfig", "PolicyConfig"]


@dataclass(frozen=True)
class PolicyConfig:
    """Everything that defines a `TemplatePolicy` and its `DualValues`. Immutable; stored in the checkpoints.

    Attributes:
        bits, radius: of the Morgan fingerprint (a bit is 0 or 1, stereo not told) that all networks see; 2048 and 2 as
            published.
        hidden, layers: width and number of hidden layers; 128 and 1, as published for the value networks.
        dropout: share of hidden units dropped in training. 0.2: some thousand reactions and as many templates overfit.
        top: templates that the frozen branch proposes for a molecule, the only ones that are tried; 50 as published.
        min_count: templates of fewer reactions are left out by `TemplatePolicy.for_dataset`.
        epochs, batch_size, lr, weight_decay: of `fit`, where it is given none.
        ema: decay of the average of the weights, None: the last weights.
    """

    bits: int = 2048
    radius: int = 2
    hidden: int = 128
    layers: int = 1
    dropout: float = 0.2
    top: int = 50
    min_count: int = 1
    epochs: int = 30
    batch_size: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.0
    ema: float | None = None

    def __post_init__(self) -> None:
        for name in ("bits", "hidden", "layers", "top", "min_count", "epochs", "batch_size"):
            _whole(name, getattr(self, name), 1)
        _whole("radius", self.radius, 0)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        _positive("lr", self.lr)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """Settings by name, with changes: "uspto50k", for some thousand reactions; "toy", for a handful.

        Raises:
            ValueError: an unknown name.
        """
        return _preset(cls, _POLICY, name, changes)


@dataclass(frozen=True)
class PDVNConfig:
    """Everything that defines the training by planning (:mod:`.pdvn`). The defaults are the published ones.

    Attributes:
        reaction_cost, dead_end: cost of a reaction, and of a molecule that cannot be made.
        puct: constant C of the bonus for reactions that were seldom tried.
        simulations: walks from the target down, a search.
        expansions: most molecules that are expanded, a search.
        depth: most reactions one after another.
        unsolved: an unsolved molecule is taught as makeable by this factor times what the search thinks of it.
        epochs, batch_size, lr, grad_clip: of the three networks, each round.
    """

    reaction_cost: float = 0.1
    dead_end: float = 5.0
    puct: float = 1.0
    simulations: int = 100
    expansions: int = 500
    depth: int = 15
    unsolved: float = 0.8
    epochs: int = 3
    batch_size: int = 128
    lr: float = 1e-3
    grad_clip: float = 0.5

    def __post_init__(self) -> None:
        for name in ("simulations", "expansions", "depth", "epochs", "batch_size"):
            _whole(name, getattr(self, name), 1)
        for name in ("reaction_cost", "dead_end", "lr", "grad_clip"):
            _positive(name, getattr(self, name))
        if not 0 <= self.unsolved <= 1 or self.puct < 0:
            raise ValueError(f"expected unsolved in [0, 1] and puct >= 0, got {self.unsolved} and {self.puct}")

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """Settings by name, with changes: "published"; "small", with 30 epochs a round, for hundreds of targets
        (three epochs of so few pairs are a handful of steps).

        Raises:
            ValueError: an unknown name.
        """
        return _preset(cls, _PDVN, name, changes)


_POLICY: dict[str, dict[str, Any]] = {
    "uspto50k": {},
    "toy": {"bits": 256, "hidden": 32, "dropout": 0.0, "epochs": 200, "batch_size": 16, "lr": 1e-2},
}
_PDVN: dict[str, dict[str, Any]] = {"published": {}, "small": {"epochs": 30}}


def _preset(cls: Any, known: dict[str, dict[str, Any]], name: str, changes: dict[str, Any]) -> Any:
    if name not in known:
        raise ValueError(f"unknown preset {name!r}; there are {sorted(known)}")
    return cls(**{**known[name], **changes})


def _whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")


def _positive(name: str, value: float) -> None:
    if not value > 0 or not math.isfinite(value):
        raise ValueError(f"{name} must be positive and finite, got {value}")
