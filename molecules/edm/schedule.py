r"""The noise schedule of :mod:`.model`: "polynomial_2", as a table of the core.

E. Hoogeboom et al., 2022, appendix B. With T steps, at the T + 1 levels i = 0 .. T,

    alpha_i^2 = (1 - 2 s) c_i + s,       c_i = prod_{j <= i} max(b_j / b_{j-1}, 1e-3),      b_i = (1 - (i/T)^2)^2,

with the precision s = 1e-5: level 0 has a little noise (sigma = 0.0032), level T a little data. The networks are told
i/T. Here that is a table of T + 1 levels whose level i is at t = (i + 1)/(T + 1); t = 0 is the data itself, and the
last step, from level 0 to t = 0, lands on the data prediction. The published last step draws from
N(data, (sigma/alpha)^2) instead: noise of 0.0032 Å, left out here.
"""

from __future__ import annotations

from typing import Any

from ...core import grids
from ...core.schedules import DiscreteBetas

__all__ = ["level", "polynomial", "times_of"]


def polynomial(steps: int, power: float = 2.0, precision: float = 1e-5, clip: float = 1e-3) -> DiscreteBetas:
    """The table of T + 1 levels for T = `steps`; see the module.

    Raises:
        ValueError: fewer than 1 step, a precision outside (0, 1/2).
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps must be a positive integer, got {steps!r}")
    if not 0.0 < precision < 0.5:
        raise ValueError(f"precision must lie between 0 and 1/2, got {precision}")
    squares = [(1.0 - (i / steps) ** power) ** 2 for i in range(steps + 1)]
    kept, levels = 1.0, []
    for i, b in enumerate(squares):
        kept *= max(b / squares[i - 1], clip) if i else 1.0
        levels.append((1.0 - 2.0 * precision) * kept + precision)
    return DiscreteBetas.from_alphas_cumprod(levels)


def level(schedule: Any, t: Any) -> Any:
    """What the networks are told of t: i/T."""
    return (t * schedule.num_steps - 1.0) / (schedule.num_steps - 1.0)


def times_of(schedule: DiscreteBetas, calls: int | None) -> grids.Grid:
    """The grid of so many network calls: all levels (None), or some evenly spaced ones, T and 0 among them.

    Raises:
        ValueError: fewer than 2 calls, or more than there are levels.
    """
    top = schedule.num_steps
    calls = top if calls is None else calls
    if isinstance(calls, bool) or not isinstance(calls, int) or not 2 <= calls <= top:
        raise ValueError(f"steps must be a whole number from 2 to the {top} levels of the schedule, got {calls!r}")
    return grids.from_indices(schedule, [round((top - 1) * (1 - k / (calls - 1))) for k in range(calls)])
