"""Molecules, graphs and biological sequences: data, models, scores, and how to make what was found.

>>> from scidiffuse import molecules as mo
>>> model = mo.load_model(mo.pretrained("gdss-qm9"))             # weights that ship; "edm-qm9": in 3-D
>>> out = model.sample(100, sampler="s4", steps=200, seed=0)     # out.smiles, out.mols, out.report
>>> out.write("samples.smi"); mo.plots.molecule_grid(out.smiles[:24]).save("samples.png")
>>> graphs = mo.load("qm9", limit=5000)                          # or mo.read_smiles("mine.csv"), mo.read("mine.sdf")
>>> part = mo.random_split(graphs, (0.9, 0.0, 0.1), seed=0); train, test = graphs[part.train], graphs[part.test]
>>> mine = mo.DiGress.for_dataset(train, "small").fit(train, max_steps=2000, seed=0)
>>> mo.evaluate(out, train=train, reference=test, suite="gdss", allow_small=True)
>>> model.sample(16, sampler="s4", steps=100, steering=SVDD(mo.chem.qed, candidates=5, alpha=0.0))  # core.steering
>>> mo.synthesis.plan("CC(=O)Nc1ccccc1", inventory, policy).write("routes")

Nothing heavy is imported until a name is used. Molecules need RDKit, tables pandas, and so on: all of them come with
``pip install "scidiffuse[molecules]"``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data import (
        Atoms,
        Graphs,
        Reaction,
        Sequences,
        Split,
        Standardise,
        check_leak,
        duplicates,
        from_adjacency,
        from_mols,
        from_networkx,
        from_pyg,
        from_smiles,
        from_strings,
        load,
        qm9_atoms,
        qm9_graphs,
        random_split,
        read,
        read_fasta,
        read_geom,
        read_reactions,
        read_sdf,
        read_smiles,
        read_tudataset,
        read_xyz,
        scaffold_split,
    )
    from .digress import DiGress, DiGressConfig
    from .edm import EDM, AtomSamples, EDMConfig
    from .gdss import GDSS, GDSSConfig, elements_only
    from .gfmdiff import GFMDiff, GFMDiffConfig
    from .metrics import (
        Motif,
        Score,
        bond_orders,
        evaluate,
        fcd,
        fcd_guacamol,
        fcd_statistics,
        filters,
        fragments,
        graph_mmd,
        graph_validity,
        graph_vun,
        held_out_rewards,
        internal_diversity,
        kmer_pearson,
        nearest_neighbour,
        novelty,
        nspdk_mmd,
        posebusters,
        property_error,
        property_means,
        pwm_hits,
        scaffolds,
        stability,
        strain,
        uniqueness,
        valid_unique_novel,
        validity,
    )
    from .pard import PARD, PARDConfig, structural_order
    from .samples import GraphSamples
    from .sequence import MaskedSequence, SequenceConfig, SequenceSamples
    from .systems import load_model, pretrained

# module -> its public names; a module without names is only reached as an attribute (`molecules.registry`)
_WHERE: dict[str, tuple[str, ...]] = {
    "chem": (),
    "data": (
        "Atoms",
        "Graphs",
        "Reaction",
        "Sequences",
        "Split",
        "Standardise",
        "check_leak",
        "duplicates",
        "from_adjacency",
        "from_mols",
        "from_networkx",
        "from_pyg",
        "from_smiles",
        "from_strings",
        "load",
        "qm9_atoms",
        "qm9_graphs",
        "random_split",
        "read",
        "read_fasta",
        "read_geom",
        "read_reactions",
        "read_sdf",
        "read_smiles",
        "read_tudataset",
        "read_xyz",
        "scaffold_split",
    ),
    "digress": (
        "DiGress",
        "DiGressConfig",
    ),
    "edm": (
        "EDM",
        "AtomSamples",
        "EDMConfig",
    ),
    "gdss": (
        "GDSS",
        "GDSSConfig",
        "elements_only",
    ),
    "gfmdiff": (
        "GFMDiff",
        "GFMDiffConfig",
    ),
    "metrics": (
        "Motif",
        "Score",
        "bond_orders",
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
        "kmer_pearson",
        "nearest_neighbour",
        "novelty",
        "nspdk_mmd",
        "posebusters",
        "property_error",
        "property_means",
        "pwm_hits",
        "scaffolds",
        "stability",
        "strain",
        "uniqueness",
        "valid_unique_novel",
        "validity",
    ),
    "pard": (
        "PARD",
        "PARDConfig",
        "structural_order",
    ),
    "plots": (),
    "registry": (),
    "samples": ("GraphSamples",),
    "sequence": (
        "MaskedSequence",
        "SequenceConfig",
        "SequenceSamples",
    ),
    "synthesis": (),
    "systems": (
        "load_model",
        "pretrained",
    ),
}
_MODULE = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "EDM",
    "GDSS",
    "PARD",
    "AtomSamples",
    "Atoms",
    "DiGress",
    "DiGressConfig",
    "EDMConfig",
    "GDSSConfig",
    "GFMDiff",
    "GFMDiffConfig",
    "GraphSamples",
    "Graphs",
    "MaskedSequence",
    "Motif",
    "PARDConfig",
    "Reaction",
    "Score",
    "SequenceConfig",
    "SequenceSamples",
    "Sequences",
    "Split",
    "Standardise",
    "bond_orders",
    "check_leak",
    "duplicates",
    "elements_only",
    "evaluate",
    "fcd",
    "fcd_guacamol",
    "fcd_statistics",
    "filters",
    "fragments",
    "from_adjacency",
    "from_mols",
    "from_networkx",
    "from_pyg",
    "from_smiles",
    "from_strings",
    "graph_mmd",
    "graph_validity",
    "graph_vun",
    "held_out_rewards",
    "internal_diversity",
    "kmer_pearson",
    "load",
    "load_model",
    "nearest_neighbour",
    "novelty",
    "nspdk_mmd",
    "posebusters",
    "pretrained",
    "property_error",
    "property_means",
    "pwm_hits",
    "qm9_atoms",
    "qm9_graphs",
    "random_split",
    "read",
    "read_fasta",
    "read_geom",
    "read_reactions",
    "read_sdf",
    "read_smiles",
    "read_tudataset",
    "read_xyz",
    "scaffold_split",
    "scaffolds",
    "stability",
    "strain",
    "structural_order",
    "uniqueness",
    "valid_unique_novel",
    "validity",
]


def __getattr__(name: str) -> Any:
    if name in _MODULE:
        value = getattr(importlib.import_module(f".{_MODULE[name]}", __name__), name)
        globals()[name] = value
        return value
    if name in _WHERE:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE, *__all__})
