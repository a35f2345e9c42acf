"""Scores of generated molecules, graphs, geometries and biological sequences, each with its protocol, n and interval.

=====================  ===============================================================================================
:mod:`.validity`       valid (RDKit; uncorrected, corrected, connected by GDSS), unique, unique@k, novel
:mod:`.properties`     means of QED, logP, SA, weight
:mod:`.moses`          filters, internal diversity, nearest neighbour, fragments, scaffolds
:mod:`.fcd`            Fréchet ChemNet distance, and GuacaMol's exp(-0.2 FCD)
:mod:`.nspdk`          MMD in the neighbourhood subgraph pairwise distance kernel
:mod:`.graphs`         MMD of degree, clustering, orbit and spectral statistics, kernel ``emd`` or ``tv``
:mod:`.mmd`            the estimate itself, the closed-form earth mover's distance, what chance gives
:mod:`.orbits`         graphlet orbit counts
:mod:`.stability`      EDM's atom and molecule stability, bond orders from distances
:mod:`.conformers`     PoseBusters' checks, MMFF94 strain
:mod:`.conditioning`   error of a property that was asked for, beside chance
:mod:`.sequences`      k-mer correlation, hits of position weight matrices
:mod:`.report`         :func:`evaluate`: the suite of a paper in one call
=====================  ===============================================================================================

Scores of molecules and of graphs take `Graphs` and the samples of models as they are (:mod:`.containers`). What a score
is: :class:`scidiffuse.core.scores.Score`; how its interval is made: :mod:`.uncertainty`.
"""

from __future__ import annotations

from ...core.scores import Score
from .conditioning import property_error
from .conformers import posebusters, strain, strain_energy
from .fcd import FcdStatistics, fcd, fcd_guacamol, fcd_statistics
from .graphs import graph_mmd
from .mmd import GraphKernel, earth_mover
from .moses import filters, fragments, internal_diversity, nearest_neighbour, passes_filters, scaffolds
from .nspdk import nspdk_mmd
from .orbits import node_orbits
from .properties import property_means
from .report import SUITES, evaluate
from .sequences import Motif, held_out_rewards, kmer_counts, kmer_pearson, pwm_hits
from .stability import bond_orders, stability
from .validity import GraphValidity, graph_validity, novelty, uniqueness, valid_unique_novel, validity
from .vun import graph_vun

__all__ = [
    "SUITES",
    "FcdStatistics",
    "GraphKernel",
    "GraphValidity",
    "Motif",
    "Score",
    "bond_orders",
    "earth_mover",
    "evaluate",
    "fcd",
    "fcd_guacamol",
    "fcd_statistics",
    "filters",
    "fragments",
    "graph_mmd",
    "graph_validity",
    "graph_vun",
    "held_out_rewards",
    "internal_diversity",
    "kmer_counts",
    "kmer_pearson",
    "nearest_neighbour",
    "node_orbits",
    "novelty",
    "nspdk_mmd",
    "passes_filters",
    "posebusters",
    "property_error",
    "property_means",
    "pwm_hits",
    "scaffolds",
    "stability",
    "strain",
    "strain_energy",
    "uniqueness",
    "valid_unique_novel",
    "validity",
]
