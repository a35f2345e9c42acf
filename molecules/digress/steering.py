"""Steering of :mod:`.model` by rewards on molecules, and scaffolds that stay as they are.

*Rewards.* `SVDD` and `FeynmanKac` of the core ask a reward about the likeliest value of every token of every walker.
Here these are read as a molecule by the protocol of :mod:`..chem` (corrected, largest fragment), and the user's
function is asked about the RDKit molecule; about the adjacency, where graphs are no molecules. It needs no gradient.

*Scaffolds.* The first k nodes and all pairs of them are known: the network's probabilities there become certain, so
that their tokens walk on a path of their own to their values while the network sees them as noisy as all else. The
pairs between scaffold and new nodes are free. `Known` of the core does the same for states whose elements are free of
each other, and refuses graphs; a symmetric block of known pairs is the case in which A stays symmetric, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...core.hooks import Hook, Step

__all__ = ["Scaffold", "read"]


def read(data: dict[str, Tensor], nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A, mask and types of the graphs that tokens are."""
    A = data["A"]
    return A, nodes, data.get("X", torch.zeros_like(A[:, :, 0]))


@dataclass(frozen=True, eq=False)
class Scaffold(Hook):
    """Hold the first k nodes and all pairs of them; see the module.

    Args:
        X: (k,) long, their types; None for graphs without types.
        A: (k, k) long, symmetric, zero diagonal.
        most: N, nodes of a state.
    """

    X: Tensor | None
    A: Tensor
    most: int

    def on_prediction(self, step: Step) -> Step:
        k, n = len(self.A), self.most
        there = torch.arange(n) < k
        known = {"A": (there[:, None] & there)[None]}
        values = {"A": torch.nn.functional.pad(self.A, (0, n - k, 0, n - k))[None]}
        if self.X is not None:
            known["X"], values["X"] = there[None], torch.nn.functional.pad(self.X, (0, n - k))[None]
        return replace(step, pred=step.pred.with_known(values, known))
