"""The two value networks: can a molecule be made, and what does it cost?

V_syn(m) in (0, 1) is trained by the binary cross entropy, V_cost(m) by the squared error, both on the Morgan
fingerprint of m, each by a perceptron of its own (Liu et al., "Retrosynthetic planning with dual value networks", 2023,
https://arxiv.org/abs/2301.13755). The cost is that of the cheapest known route, in units of the reaction cost.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from ...core import checkpoint
from .config import PolicyConfig
from .networks import fingerprints, perceptron

__all__ = ["DualValues"]

KIND = "DualValues"


class DualValues:
    """V_syn and V_cost; with random weights until :func:`.pdvn.pdvn_train` has trained them.

    Args:
        config: bits, radius, hidden, layers and dropout count; the defaults where None.
        seed: of the initial weights.
    """

    def __init__(self, config: PolicyConfig | None = None, seed: int = 0) -> None:
        self.config = config or PolicyConfig()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = nn.ModuleDict({"syn": perceptron(self.config, 1), "cost": perceptron(self.config, 1)})
        self.network.eval().requires_grad_(False)

    def __repr__(self) -> str:
        return f"DualValues({self.config.layers} x {self.config.hidden} on {self.config.bits} bits)"

    def __call__(self, smiles: Sequence[str]) -> tuple[Tensor, Tensor]:
        """V_syn (B,) and V_cost (B,), not negative, of molecules.

        Raises:
            ValueError: no molecule.
        """
        if len(smiles) == 0:
            return torch.zeros(0), torch.zeros(0)
        x = fingerprints(smiles, self.config).float()
        with torch.no_grad():
            return self.network["syn"](x)[:, 0].sigmoid(), self.network["cost"](x)[:, 0].clamp(min=0)

    def copy(self) -> Self:
        """An independent copy."""
        new = copy.copy(self)
        new.network = copy.deepcopy(self.network)
        return new

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write weights and settings into ``folder``, atomically; returns it."""
        header: dict[str, Any] = {"config": asdict(self.config)}
        return checkpoint.save(folder, self.network, header, kind=KIND)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError, CheckpointError: nothing there, corrupted, foreign, or of another kind.
        """
        read = checkpoint.load(folder, kind=KIND)
        values = cls(read.settings(PolicyConfig))
        read.load_into(values.network)
        values.network.eval().requires_grad_(False)
        return values
