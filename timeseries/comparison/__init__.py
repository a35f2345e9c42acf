"""Is one forecast better than another, or lucky? Tests and intervals of differences, scale-free ratios, win counts.

====================  ================================================================================================
:mod:`.dm`            Diebold-Mariano test, corrected for small samples
:mod:`.blocks`        block bootstrap of dependent data, automatic length of blocks
:mod:`.ratios`        geometric mean of ratios to a baseline; win counts with the sign test
:mod:`.pairs`         :func:`compare`: all of it for two forecasts of the same rows
====================  ================================================================================================
"""

from __future__ import annotations

from .blocks import BlockBootstrap, block_bootstrap, block_length
from .dm import DieboldMariano, diebold_mariano
from .pairs import Comparison, compare
from .ratios import WinCounts, relative_score, win_counts

__all__ = [
    "BlockBootstrap",
    "Comparison",
    "DieboldMariano",
    "WinCounts",
    "block_bootstrap",
    "block_length",
    "compare",
    "diebold_mariano",
    "relative_score",
    "win_counts",
]
