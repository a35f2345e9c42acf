"""Diagnostics: numbers that say how far a model, and what it draws, can be trusted.

================================  =====================================================================================
`TrajectoryVariance`, `keep`      samples that the data never contained: a hook, and the filter on its scores
`local_dimension`, `score_rank`   dimension of the data around a point, from the score
`audit_memorisation`              copies of training samples: nearest neighbours, tiles, groups of equal generations
`coverage`, `rank_histogram`      are posterior samples calibrated? Credible intervals, simulation-based calibration
`fokker_planck`                   is the score that of one diffusion? The residual, also as a term of a training loss
================================  =====================================================================================
"""

from .calibration import Coverage, RankHistogram, coverage, pit, pit_p_value, rank_histogram, ranks
from .dimension import Dimension, Rank, local_dimension, score_rank
from .fokker_planck import FokkerPlanck, fokker_planck, fokker_planck_loss
from .hallucination import TrajectoryVariance, keep, trajectory_variance, variance_of
from .memorisation import MemorisationReport, Pair, audit_memorisation, nearest, tile_groups

__all__ = [
    "Coverage",
    "Dimension",
    "FokkerPlanck",
    "MemorisationReport",
    "Pair",
    "Rank",
    "RankHistogram",
    "TrajectoryVariance",
    "audit_memorisation",
    "coverage",
    "fokker_planck",
    "fokker_planck_loss",
    "keep",
    "local_dimension",
    "nearest",
    "pit",
    "pit_p_value",
    "rank_histogram",
    "ranks",
    "score_rank",
    "tile_groups",
    "trajectory_variance",
    "variance_of",
]
