r"""Ancestral sampling: every token goes back one step of the chain, by the posterior under the network.

    x_s ~ sum_{x_0} q(x_s | x_t, x_0) p(x_0 | x_t),        each token on its own.

J. Austin et al., "Structured denoising diffusion models in discrete state-spaces" (D3PM), NeurIPS 2021; for masked
processes S. Sahoo et al., "Simple and effective masked diffusion language models" (MDLM), NeurIPS 2024, section 3.3.
The mean is taken over the exact posteriors (which divide by q(x_t | x_0)), so that one token alone follows the true
chain for any steps; the D3PM parametrisation without that division does so only for steps that become small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...samplers.state import Query, State
from ...spaces import Space
from ...tree import Tree
from ..process import Process
from .base import Steps, TokenSampler, among, each, own_places

__all__ = ["Ancestral"]


@dataclass(frozen=True)
class Ancestral(TokenSampler):
    """Ancestral sampling of any process with posteriors; as many network calls as the grid has steps."""

    def advance(
        self, plan: Steps, state: State, query: Query, pred: Any, z: Tree, space: Space,
        reference: Tree | None,
    ) -> State:  # fmt: skip
        s, t = plan.times[state.i + 1], plan.times[state.i]

        def leaf(
            process: Process, rows: Any, x: Tensor, u: Tensor, tilt: Tensor | None, y: Tensor | None, own: Tensor | None
        ) -> Tensor:
            return among(own, process.draw, rows, x, process.local(s, y), process.local(t, y), u, tilt)

        x = space.project(each(pred, leaf, state.x, z, pred.tilt, reference, own_places(space, state.x)))
        return State(x, state.i + 1, 0, {}, state.aux, None, state.draws + 1)
