"""Pictures of molecules, graphs, sequences and of how good they are.

Charts are matplotlib's (``.savefig(path)``), drawings of structures RDKit's (``.save(path)``).

==============  ======================================================================================
``drawings``    :func:`molecule_grid`, :func:`graph_drawings`, :func:`molecules_3d`
``charts``      :func:`property_histograms`, :func:`mmd_bars`, :func:`validity_curve`, :func:`reward_curve` ...
``logo``        :func:`sequence_logo`
==============  ======================================================================================

A route of a synthesis draws itself: ``route.svg()``.
"""

from __future__ import annotations

from .charts import (
    PROPERTIES,
    mmd_bars,
    property_histograms,
    reward_curve,
    training_curve,
    validity_curve,
    value_histograms,
)
from .drawings import graph_drawings, molecule_grid, molecules_3d
from .logo import information, sequence_logo

__all__ = [
    "PROPERTIES",
    "graph_drawings",
    "information",
    "mmd_bars",
    "molecule_grid",
    "molecules_3d",
    "property_histograms",
    "reward_curve",
    "sequence_logo",
    "training_curve",
    "validity_curve",
    "value_histograms",
]
