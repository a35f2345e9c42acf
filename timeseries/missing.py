r"""Contexts with values missing: the three scenarios in which TSDiff is tested.

Of the C steps of a context, a share (one half in the paper) is hidden:

    random     RM     steps drawn without replacement, anywhere
    begin      BM-B   one block, at the beginning of the context: a shorter history
    end        BM-E   one block, at its end: the forecast begins after a blackout

Kollovieh et al., "Predict, Refine, Synthesize", NeurIPS 2023, section 4.1. What is hidden is NaN, as everywhere: the
models see what they see of a real gap.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from .data import Panel

__all__ = ["Scenario", "hidden", "hide"]

Scenario = Literal["random", "begin", "end"]
_PUBLISHED = {"rm": "random", "bm-b": "begin", "bm-e": "end"}


def hidden(
    length: int, scenario: Scenario | str, share: float = 0.5, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Which of ``length`` steps are hidden: bool (length,), round(share * length) of them.

    Args:
        length: C, steps of the context.
        scenario: "random", "begin" or "end"; or the paper's names "RM", "BM-B", "BM-E".
        share: of the steps, in [0, 1].
        rng: of the random scenario.

    Raises:
        ValueError: an unknown scenario, a share outside [0, 1], or no generator where one is needed.
    """
    name = _PUBLISHED.get(str(scenario).lower(), scenario)
    if name not in get_args(Scenario):
        raise ValueError(f"scenario must be 'random' (RM), 'begin' (BM-B) or 'end' (BM-E), got {scenario!r}")
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], got {share}")
    count = round(share * length)
    out = np.zeros(length, dtype=bool)
    if name == "begin":
        out[:count] = True
    elif name == "end":
        out[length - count :] = True
    else:
        if rng is None:
            raise ValueError("the random scenario draws its steps: pass rng=")
        out[rng.permutation(length)[:count]] = True
    return out


def hide(panel: Panel, context: int, scenario: Scenario | str, share: float = 0.5, seed: int = 0) -> Panel:
    """Histories with a share of their last ``context`` steps replaced by NaN; what lies before stays.

    Args:
        panel: histories, each ending where its forecast begins.
        context: C. scenario, share: see :func:`hidden`; of a shorter history the steps that it has.
        seed: of the random scenario; row i draws from (seed, i).

    Raises:
        ValueError: as :func:`hidden`.
    """
    values = []
    for i, y in enumerate(panel.values):
        gone = hidden(min(context, len(y)), scenario, share, np.random.default_rng((seed, i)))
        y = y.copy()
        y[len(y) - len(gone) :][gone] = np.nan
        values.append(y)
    return replace(panel, values=tuple(values))
