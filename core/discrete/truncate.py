r"""Truncated draws: the unlikely tail of every prediction is cut off before tokens are drawn from it.

Of the values of a token, ordered by probability, the smallest set is kept whose probability reaches r (the value that
crosses r is kept, so that one always is), and the rest become impossible. "Top-r" of VQ-Diffusion and CDCD (S. Gu et
al., CVPR 2022; r = 0.86 for text, as their code runs it), "nucleus" or "top-p" of language models (A. Holtzman et al.,
"The curious case of neural text degeneration", ICLR 2020). It trades variety for fidelity: what is sampled is no longer
the law of the model, and likelihood bounds say nothing about it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..hooks import Hook, Step
from ..tree import tree_map

__all__ = ["Truncate"]


@dataclass(frozen=True)
class Truncate(Hook):
    """Keep the likeliest values of each token, up to the probability r.

    Args:
        r: in (0, 1]; 1 keeps everything.

    Raises:
        ValueError: for r out of range.
    """

    r: float = 0.86

    def __post_init__(self) -> None:
        if not 0.0 < self.r <= 1.0:
            raise ValueError(f"r is the probability to keep, in (0, 1], got {self.r}")

    def on_prediction(self, step: Step) -> Step:
        if self.r == 1.0:
            return step
        return replace(step, pred=step.pred.with_log_probs(tree_map(self._cut, step.pred.log_probs)))

    def _cut(self, log_probs: Tensor) -> Tensor:
        values, order = log_probs.sort(-1, descending=True)
        before = values.exp().cumsum(-1) - values.exp()  # probability of what is likelier
        kept = torch.where(before < self.r, values, -torch.inf)
        return torch.empty_like(log_probs).scatter(-1, order, kept).log_softmax(-1)
