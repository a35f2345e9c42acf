"""Fingerprints, and the perceptrons that read them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..chem import parse
from ..data.extras import quiet, rdkit
from .config import PolicyConfig

__all__ = ["Arrays", "Branches", "Learner", "fingerprints", "perceptron"]


def fingerprints(smiles: Sequence[str], config: PolicyConfig) -> Tensor:
    """Morgan fingerprints, (B, bits) of 0 and 1 as uint8.

    Raises:
        ValueError: no molecule, by its place.
    """
    out = torch.zeros(len(smiles), config.bits, dtype=torch.uint8)
    with quiet():
        generator = rdkit("Chem.rdFingerprintGenerator").GetMorganGenerator(radius=config.radius, fpSize=config.bits)
        for row, text in enumerate(smiles):
            mol = parse(text)
            if mol is None:
                raise ValueError(f"molecule {row + 1}: {text!r} is no molecule")
            out[row] = torch.from_numpy(generator.GetFingerprintAsNumPy(mol))
    return out


def perceptron(config: PolicyConfig, outputs: int) -> nn.Sequential:
    """(B, bits) -> (B, outputs), ``layers`` hidden layers of ReLU with dropout."""
    parts: list[nn.Module] = []
    width = config.bits
    for _ in range(config.layers):
        parts += [nn.Linear(width, config.hidden), nn.ReLU(), nn.Dropout(config.dropout)]
        width = config.hidden
    return nn.Sequential(*parts, nn.Linear(width, outputs))


class Branches(nn.Module):
    """The two branches of the one-step model.

    ``proposal`` scores all templates; its ``top`` best are the only ones tried. ``choice`` weighs these against each
    other. Until :meth:`split` both are the same network. Then the proposal is frozen: whatever planning teaches the
    choice, only reactions that the one-step model finds plausible are ever tried.

    Args:
        config: settings. templates: their number.
    """

    def __init__(self, config: PolicyConfig, templates: int) -> None:
        super().__init__()
        self.top = min(config.top, templates)
        self.proposal = perceptron(config, templates)
        self.choice = self.proposal

    @property
    def is_split(self) -> bool:
        """Whether the choice is a network of its own."""
        return self.choice is not self.proposal

    def split(self) -> None:
        """Give the choice its own weights, equal at first, and freeze the proposal."""
        if not self.is_split:
            self.choice = copy.deepcopy(self.proposal)
        self.proposal.requires_grad_(False)
        self.choice.requires_grad_(True)

    def candidates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Fingerprints (B, bits) -> numbers of the candidates (B, top), and the log of their probabilities (B, top)."""
        with torch.no_grad():
            scores = self.proposal(x)
        best = scores.topk(self.top, dim=-1).indices
        scores = self.choice(x) if self.is_split else scores
        return best, scores.gather(-1, best).log_softmax(-1)


class Learner:
    """What `core.training.fit` trains here: a network alone, without a schedule (it asks for nothing else)."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network


class Arrays:
    """A data set of equally long tensors, by name.

    Args:
        parts: tensors (N, ...).
    """

    def __init__(self, **parts: Tensor) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    def __getitem__(self, index: Any) -> dict[str, Tensor]:
        return {name: part[index] for name, part in self.parts.items()}
