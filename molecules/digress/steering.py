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

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.hooks import Hook, Step
from ..chem import molecule_of
from ..samples import unsanitised

__all__ = ["Scaffold", "TokenReward"]


@dataclass(frozen=True, eq=False)
class TokenReward:
    """A reward of tokens, from one of molecules (or of adjacency matrices, where graphs are no molecules).

    From step to step most predictions are the same graph again: the rewards of the last call are kept.

    Attributes:
        function: molecule (or (n, n) array of 0 and 1) -> number, larger is better.
        vocabulary, hydrogens: of the graphs; hydrogens is None where they are no molecules.
        invalid: reward of what is no molecule.
    """

    function: Callable[[Any], float]
    vocabulary: tuple[str, ...] | None
    hydrogens: str | None
    invalid: float
    last: dict[bytes, float] = field(default_factory=dict, repr=False)

    def __call__(self, data: dict[str, Tensor], step: Step | None) -> list[float]:
        """The reward of each state, (B,)."""
        assert step is not None
        mask = step.space.spaces["A"].mask.cpu()  # type: ignore[attr-defined]
        A = data["A"].cpu()
        X = data["X"].cpu() if "X" in data else torch.zeros_like(A[:, :, 0])
        rows = [a[m][:, m].numpy().tobytes() + x[m].numpy().tobytes() for a, m, x in zip(A, mask, X, strict=True)]
        now: dict[bytes, float] = {}
        for i, key in enumerate(rows):
            if key not in now:
                now[key] = self.last[key] if key in self.last else self._reward(*(p[i : i + 1] for p in (A, mask, X)))
        self.last.clear()
        self.last.update(now)
        return [now[key] for key in rows]

    def _reward(self, A: Tensor, mask: Tensor, X: Tensor) -> float:
        """The reward of one graph, (1, N, N), (1, N), (1, N)."""
        if self.hydrogens is None or self.vocabulary is None:
            n = int(mask.sum())
            return float(self.function(np.asarray(A[0, :n, :n])))
        mol = molecule_of(unsanitised(A, mask, X, self.vocabulary, self.hydrogens)[0]).mol
        return self.invalid if mol is None else float(self.function(mol))


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
