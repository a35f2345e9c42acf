"""What models of graphs sample: graphs, the molecules that they are, and how many are valid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..core.scores import Score
from .building import unsanitised
from .data.files import write_text
from .data.graphs import Graphs

__all__ = ["GraphSamples", "graph_samples", "in_words"]


def in_words(report: Mapping[str, Score]) -> str:
    """The scores of a report, as samples show them: ``"; connected 0.98, ..."``, nothing of none."""
    return "; " + ", ".join(f"{name} {score.value:.3g}" for name, score in report.items()) if report else ""


@dataclass(frozen=True)
class GraphSamples:
    """What models of graphs sample.

    Attributes:
        graphs: the samples as graphs, without empty ones; ``graphs.ids`` says which sample each is.
        mols: of molecules, for each of the n samples: the molecule after correction (largest fragment, sanitised), None
            where there is none. None for other graphs.
        smiles: their canonical SMILES.
        report: of molecules, validity without and with correction and connectedness, by name, see
            :func:`..metrics.validity.graph_validity`.
        info: model, sampler, steps, seed, network calls, steering.
        X, A, mask: of continuous models the samples before quantisation, (n, N, F), (n, N, N), (n, N); else None.
        records: what steering recorded.
    """

    graphs: Graphs
    mols: list[Any] | None
    smiles: list[str | None] | None
    report: dict[str, Score]
    info: dict[str, Any]
    X: Tensor | None = field(default=None, repr=False)
    A: Tensor | None = field(default=None, repr=False)
    mask: Tensor | None = field(default=None, repr=False)
    records: dict[str, Any] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        known = "" if self.smiles is None else f", {sum(s is not None for s in self.smiles)} with a molecule"
        return f"GraphSamples({len(self)}{known}, {self.graphs!r}{in_words(self.report)})"

    def __len__(self) -> int:
        return len(self.graphs if self.smiles is None else self.smiles)

    def write(self, path: str | Path) -> Path:
        """Write ``.smi`` (a SMILES and the number of the sample a line, valid molecules only), also ``.smi.gz``, or
        ``.npz`` (the graphs), whole or not at all; a folder that is missing is made.

        Raises:
            ValueError: another suffix, or ``.smi`` of graphs that are no molecules.
        """
        path = Path(path)
        if path.suffix == ".npz":
            return self.graphs.save(path)
        if not path.name.lower().removesuffix(".gz").endswith(".smi"):
            raise ValueError(f"samples are written as .smi.gz, .smi or .npz, got {path.name!r}")
        if self.smiles is None:
            raise ValueError("these graphs are no molecules: write an .npz")
        return write_text(path, "".join(f"{s} {i}\n" for i, s in enumerate(self.smiles) if s is not None))


def graph_samples(
    graphs: Graphs, n: int, info: dict[str, Any], records: dict[str, Any] | None = None, held: int = 0
) -> GraphSamples:
    """The result of a model whose samples are graphs as they come; molecules go through the protocol of :mod:`.chem`.

    Args:
        graphs: the samples that are not empty, their nodes first; ``graphs.ids`` are their numbers among the n.
        n: samples, empty ones included.
        info, records: see `GraphSamples`.
        held: nodes of a scaffold, the first ones, which correction keeps.
    """
    if graphs.hydrogens is None or graphs.types is None or graphs.vocabulary is None:
        return GraphSamples(graphs, None, None, {}, info, records=records or {})
    from .chem import canonical, rdkit_chem
    from .metrics.validity import graph_validity

    made: list[Any] = [rdkit_chem().RWMol() for _ in range(n)]
    built = unsanitised(graphs.A, graphs.mask, graphs.types, graphs.vocabulary, graphs.hydrogens)
    for i, mol in zip(graphs.ids, built, strict=True):
        made[i] = mol
    found = graph_validity(made, held=held)
    smiles = [None if mol is None else canonical(mol) for mol in found.mols]
    return GraphSamples(graphs, found.mols, smiles, found.scores(), info, records=records or {})
