"""Constraints in one word each: what ``--steer`` understands.

    non-negative                 every step is at least 0
    lower=NUMBER                 every step is at least NUMBER
    upper=NUMBER                 every step is at most NUMBER (also capacity=NUMBER)
    total>=NUMBER                the sum over the horizon is at least NUMBER (also total<=NUMBER)
    total>=NUMBER/STEPS          the same for each window of so many steps
    total(A,B)>=NUMBER           the sum of several series over the horizon, together

Numbers are in the unit of the data. Nothing is evaluated: what is none of these forms is refused.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from ..constraints import Bounds, Capacity, Constraint, NonNegative, Scenario, Total

__all__ = ["GRAMMAR", "constraint"]

GRAMMAR = (
    "non-negative | lower=NUMBER | upper=NUMBER | capacity=NUMBER | total>=NUMBER | total<=NUMBER | "
    "total>=NUMBER/STEPS | total(SERIES,SERIES)>=NUMBER"
)

_BOUND = re.compile(r"(lower|upper|capacity)=(.+)")
_TOTAL = re.compile(r"total(?:\s*\((.+)\))?\s*(>=|<=)([^/]+)(?:/(.+))?")


def constraint(text: str) -> Constraint:
    """The constraint that a word stands for.

    Raises:
        ValueError: it is none of the forms; they are listed.
    """
    word = re.sub(r"\s+", "", text) if "(" not in text else text.strip()
    if word == "non-negative":
        return NonNegative()
    if match := _BOUND.fullmatch(word):
        limit = _number(match[2], text)
        return Bounds(lower=limit) if match[1] == "lower" else Capacity(limit)
    if match := _TOTAL.fullmatch(word):
        series, sign, number, steps = match.groups()
        bound = {"at_least" if sign == ">=" else "at_most": _number(number, text)}
        if series is not None:
            if steps is not None:
                raise _wrong(text, "a total of several series is over the whole horizon")
            return _joint(tuple(name.strip() for name in series.split(",")), **bound)
        return Total(**bound, window=None if steps is None else _steps(steps, text))
    raise _wrong(text, 'quote it, or the shell takes the > for itself: --steer "total>=480"' if word == "total" else "")


def _wrong(text: str, why: str) -> ValueError:
    return ValueError(f"--steer {text!r}{': ' + why if why else ''}; expected {GRAMMAR}")


def _number(word: str, text: str) -> float:
    try:
        value = float(word)
    except ValueError:
        raise _wrong(text, f"{word!r} is no number") from None
    if not math.isfinite(value):
        raise _wrong(text, f"{word!r} is not finite")
    return value


def _steps(word: str, text: str) -> int:
    if not re.fullmatch(r"[1-9]\d*", word):
        raise _wrong(text, f"{word!r} is no number of steps")
    return int(word)


def _joint(series: tuple[str, ...], **limit: Any) -> Scenario:
    """A bound on the sum of several series over the horizon."""
    name = f"total({','.join(series)})"

    def total(paths: np.ndarray, ids: np.ndarray) -> np.ndarray:
        names = [str(u) for u in ids]
        foreign = [s for s in series if s not in names]
        if foreign:
            raise ValueError(f"--steer {name}: no series {foreign}; there are {names[:20]}")
        return np.asarray(paths[:, [names.index(s) for s in series]].sum(axis=(1, 2)))

    return Scenario(total, name=name, joint=True, **limit)
