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

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ...core.hooks import Hook, Step
from ..steering import GraphReward, Steering, with_reward
from .config import GDSSConfig
from .quantise import Meaning, quantise

__all__ = ["Scaffold", "prepared"]


def prepared(steering: Any, config: GDSSConfig, meaning: Meaning, invalid: float, held: int = 0) -> Steering:
    """The hook that a run takes, of one whose reward is a function of molecules.

    Raises:
        TypeError: neither `SVDD` nor `FeynmanKac`.
        ValueError: a model whose leaves are not sampled together, a learned value.
    """
    if config.coupling == "sequential":
        raise ValueError('steering needs X and A in one run; with coupling="sequential" there is none')

    def read(data: dict[str, Tensor], nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        d = quantise(data["X"], data["A"], nodes, config, meaning.molecules)
        return d.A, d.mask, d.types

    return with_reward(steering, lambda f: GraphReward(f, read, meaning.vocabulary, meaning.hydrogens, invalid, held))


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
