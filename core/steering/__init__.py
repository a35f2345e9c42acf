"""Steering: many walkers, and a reward that says which of them to keep.

A `Reward` is any Python function (data prediction, step) -> one number a sample, finite, larger is better, on the scale
of a log-weight. It need not be differentiable: nothing here takes its gradient.

==========================  =======================================================  ===================================
method                      what it does                                             samplers
==========================  =======================================================  ===================================
`FeynmanKac`                K walkers a group, weighted and resampled on the way     stochastic; importance weights at
                                                                                     the end for deterministic ones
`SVDD`, `svdd`              M candidates a step, one is kept                         stochastic
`random_search`             best of N                                                any
`zero_order_search`         neighbours of the best start so far                      deterministic
`search_over_paths`         re-noise a little, denoise a little more, keep the best  any
`boundary_search`           one start noise for all inputs, chosen on a few          deterministic
==========================  =======================================================  ===================================

Nothing here assumes that states can be added. `FeynmanKac` and `SVDD` use of a sampler `stochastic`, `done`, `time`
(and `draw`, `advance` for a learned value), of a run `State.take`, `State.where` and `Prediction.take`: samplers of
tokens that answer those are steered by the same code. The searches need starts (`denoiser.leafwise`, `Space.randn`),
and take the neighbourhood and the re-noising as functions where states are not vectors.
"""

from .boundary import BoundaryResult, boundary_search
from .feynman_kac import FeynmanKac
from .paths import search_over_paths
from .resampling import effective_size, log_mean, systematic
from .rewards import Reward, repeat
from .search import SearchResult, random_search
from .svdd import SVDD, svdd
from .zero_order import zero_order_search

__all__ = [
    "SVDD",
    "BoundaryResult",
    "FeynmanKac",
    "Reward",
    "SearchResult",
    "boundary_search",
    "effective_size",
    "log_mean",
    "random_search",
    "repeat",
    "search_over_paths",
    "svdd",
    "systematic",
    "zero_order_search",
]
