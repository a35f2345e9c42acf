r"""Scores of forecasts: which units are independent, and skill. What a score is: :mod:`scidiffuse.core.scores`.

Nearly every score here is a function of sums over rows, s = g(sum_r a_r, sum_r b_r, ...): wQL = sum of losses / sum of
|y|; MASE = sum of row means / number of rows; a geometric mean = exp(sum of logs / number). Its interval comes from
the bootstrap over the units that may be taken as independent. Which units those are is a statement about the data:

- ``row``: every row, when rows are different series, or windows far apart;
- ``series``: all windows of a series together, when series are independent and windows of one are not;
- ``origin``: all series of one forecast date together, when what happens at a date happens to all series.

Rows that are dependent but drawn as independent make the interval too narrow. With one unit there is no interval (NaN).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from ...core.scores import Score, bootstrap, check_bootstrap

__all__ = ["Cluster", "Score", "bootstrap", "check_bootstrap", "skill"]

Cluster = Literal["row", "series", "origin"]


def skill(
    model: Mapping[str, float | Score],
    baseline: Mapping[str, float | Score],
    select: Callable[[str], bool] | None = None,
) -> dict:
    """1 - model/baseline for the scores that both report under the *same* definition (positive = the model is better).

    Args:
        model, baseline: name -> number, or name -> :class:`Score`. select: which names; wQL and CRPS by default.

    Raises:
        ValueError: they have no definition in common: a wQL by ``gluonts`` and one by ``csdi`` are not comparable; or
            two scores of one name that count a different number of observations.
    """
    pick = select or (lambda name: name.startswith(("wql", "crps", "scaled_crps")))
    ours, theirs = {k for k in model if pick(k)}, {k for k in baseline if pick(k)}
    common = sorted(ours & theirs)
    if not common:
        raise ValueError(
            f"no score with the same definition: the model has {sorted(ours)}, the baseline {sorted(theirs)}; compute "
            "both by one method"
        )
    for k in common:
        a, b = model[k], baseline[k]
        if isinstance(a, Score) and isinstance(b, Score) and a.n != b.n:
            raise ValueError(
                f"{k} of the model counts {a.n} observations, of the baseline {b.n}: score both on the same ones"
            )
    return {k: 1.0 - float(model[k]) / float(baseline[k]) for k in common}
