"""Data of molecules, graphs and sequences: reading, a stated policy, dense arrays, splits that do not leak, writing.

The path of a user's data: a reader of the field's formats, or SMILES, RDKit molecules, networkx, PyG; one policy,
:class:`Standardise`, whose changes are counted; one container, :class:`Graphs`, :class:`Atoms` or :class:`Sequences`,
on which everything that models or scores works; and the way back to those formats.

- containers: ``graphs``, ``atoms``, ``sequences``; ``vocabulary`` (atom types with charges)
- molecules: ``standardise`` (the policy), ``molecules`` (graphs of molecules and back), ``splits`` (keys, scaffolds)
- formats: ``smiles`` (tables, MOSES, GuacaMol), ``sdf``, ``xyz``, ``qm9``, ``geom``, ``reactions`` (USPTO),
  ``tudataset``, ``interchange`` (networkx, adjacencies), ``pyg``, ``pickles`` (SPECTRE, GDSS; never run); below them
  ``tables`` (columns of text) and ``msgpack``
- sets: ``generators`` (the graph sets of the papers, regenerated), ``named`` (:func:`load`: all, by name or path)
- ``files`` (opening, replacing at once), ``extras`` (what pip installs); refuse, or skip and name: ``core.problems``
"""

from __future__ import annotations

from ...core.problems import Errors, Skipped, SkippedData
from .atoms import Atoms
from .generators import community_small, ego_graphs, ego_small, grid, planar, sbm
from .geom import read_geom
from .graphs import Graphs
from .interchange import from_adjacency, from_networkx, read_adjacency
from .molecules import from_mols
from .named import NAMED, load, read
from .pickles import read_networkx_pickle, read_planetoid_graph, read_spectre
from .pyg import from_pyg, read_pyg
from .qm9 import qm9_atoms, qm9_graphs, qm9_table, read_qm9_raw
from .reactions import Reaction, read_reactions
from .sdf import read_sdf, read_sdf_graphs, write_sdf
from .sequences import Sequences, from_strings, read_fasta, read_sequence_table, write_fasta
from .smiles import from_smiles, read_guacamol, read_moses, read_smiles, read_smiles_table
from .splits import Split, check_leak, duplicates, keys, murcko_scaffolds, random_split, scaffold_split
from .standardise import ChangedMolecules, Report, Standardise
from .tudataset import read_tudataset
from .vocabulary import parse_vocabulary
from .xyz import read_xyz, write_xyz

__all__ = [
    "NAMED",
    "Atoms",
    "ChangedMolecules",
    "Errors",
    "Graphs",
    "Reaction",
    "Report",
    "Sequences",
    "Skipped",
    "SkippedData",
    "Split",
    "Standardise",
    "check_leak",
    "community_small",
    "duplicates",
    "ego_graphs",
    "ego_small",
    "from_adjacency",
    "from_mols",
    "from_networkx",
    "from_pyg",
    "from_smiles",
    "from_strings",
    "grid",
    "keys",
    "load",
    "murcko_scaffolds",
    "parse_vocabulary",
    "planar",
    "qm9_atoms",
    "qm9_graphs",
    "qm9_table",
    "random_split",
    "read",
    "read_adjacency",
    "read_fasta",
    "read_geom",
    "read_guacamol",
    "read_moses",
    "read_networkx_pickle",
    "read_planetoid_graph",
    "read_pyg",
    "read_qm9_raw",
    "read_reactions",
    "read_sdf",
    "read_sdf_graphs",
    "read_sequence_table",
    "read_smiles",
    "read_smiles_table",
    "read_spectre",
    "read_tudataset",
    "read_xyz",
    "sbm",
    "scaffold_split",
    "write_fasta",
    "write_sdf",
    "write_xyz",
]
