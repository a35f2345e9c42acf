r"""Steering of :mod:`.model` by rewards on molecules, and scaffolds that stay as they are.

*Rewards.* `SVDD` and `FeynmanKac` of the core ask a reward about the data prediction of every walker. Here that is
quantised and read as a molecule by the protocol of :mod:`..chem` (corrected, largest fragment), and the user's function
is asked about the RDKit molecule. It need not have a gradient. What is no molecule has the reward ``invalid``.

X. Li et al., "Derivative-free guidance in continuous and discrete diffusion models with soft value-based decoding"
(SVDD), 2024; R. Singhal et al., "A general framework for inference-time scaling and steering of diffusion models",
2025.

*Scaffolds.* The first k nodes and all pairs of them are known. Their data prediction is their value and their noise is
rederived, so that they walk on a path of their own to it, while the networks see them at the level of all else; the
pairs between scaffold and new nodes are free. `Known` of the core does the same for states whose elements are free of
each other, and refuses graphs; a symmetric block of known pairs is the case in which A stays symmetric, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor

from ...core.hooks import Hook, Step
from ..chem import molecule_of
from ..steering import Steering, with_reward
from .config import GDSSConfig
from .quantise import Discrete, Meaning, quantise, to_molecules

__all__ = ["GraphReward", "Scaffold", "prepared"]


@dataclass(frozen=True, eq=False)
class GraphReward:
    """A reward of states, from one of molecules (or of adjacency matrices, where graphs are no molecules).

    From step to step most predictions are the same graph again: the rewards of the last call are kept.

    Attributes:
        function: molecule (or (n, n) array of 0 and 1) -> number, larger is better.
        config, meaning: of the model.
        invalid: reward of what is no molecule.
    """

    function: Callable[[Any], float]
    config: GDSSConfig
    meaning: Meaning
    invalid: float
    last: dict[bytes, float] = field(default_factory=dict, repr=False)

    def __call__(self, data: dict[str, Tensor], step: Step | None) -> list[float]:
        """The reward of each state, (B,)."""
        assert step is not None
        mask = step.space.spaces["X"].mask  # type: ignore[attr-defined]
        X, A = data["X"].cpu(), data["A"].cpu()
        d = quantise(X, A, mask.cpu().expand(len(X), -1), self.config, self.meaning.molecules)
        keys = [
            a.tobytes() + t.tobytes() + m.tobytes()
            for a, t, m in zip(d.A.numpy(), d.types.numpy(), d.mask.numpy(), strict=True)
        ]
        now: dict[bytes, float] = {}
        for row, key in enumerate(keys):
            if key not in now:
                now[key] = self.last[key] if key in self.last else self._reward(d, row)
        self.last.clear()
        self.last.update(now)
        return [now[key] for key in keys]

    def _reward(self, d: Discrete, row: int) -> float:
        one = Discrete(*(part[row : row + 1] for part in d))
        if self.meaning.molecules:
            mol = molecule_of(to_molecules(one, self.meaning)[0]).mol
            return self.invalid if mol is None else float(self.function(mol))
        n = int(one.mask.sum())
        return float(self.function(np.asarray(one.A[0, :n, :n])))


def prepared(steering: Any, config: GDSSConfig, meaning: Meaning, invalid: float) -> Steering:
    """The hook that a run takes, of one whose reward is a function of molecules.

    Raises:
        TypeError: neither `SVDD` nor `FeynmanKac`.
        ValueError: a model whose leaves are not sampled together, a learned value.
    """
    if config.coupling == "sequential":
        raise ValueError('steering needs X and A in one run; with coupling="sequential" there is none')
    return with_reward(steering, lambda function: GraphReward(function, config, meaning, invalid))


@dataclass(frozen=True, eq=False)
class Scaffold(Hook):
    """Hold the first k nodes and all pairs of them; see the module.

    Args:
        X: (k, F), their features.
        A: (k, k), symmetric, zero diagonal.
    """

    X: Tensor
    A: Tensor

    def put(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """The state (B, ...) with the scaffold in its place."""
        k = len(self.X)
        X, A = x["X"].clone(), x["A"].clone()
        X[:, :k], A[:, :k, :k] = self.X.to(X), self.A.to(A)
        return {"X": X, "A": A}

    def on_prediction(self, step: Step) -> Step:
        return replace(step, pred=step.pred.with_data(self.put(step.pred.data), noise="rederive"))
