"""What models of graphs sample: graphs, the molecules that they are, and how many are valid."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..core.scores import Score
from .data.graphs import Graphs

__all__ = ["GraphSamples"]


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

    def __len__(self) -> int:
        return len(self.graphs if self.smiles is None else self.smiles)

    def write(self, path: str | Path) -> Path:
        """Write ``.smi`` (a SMILES and the number of the sample a line, valid molecules only) or ``.npz`` (the graphs).

        Raises:
            ValueError: another suffix, or ``.smi`` of graphs that are no molecules.
        """
        path = Path(path)
        if path.suffix == ".npz":
            return self.graphs.save(path)
        if path.suffix != ".smi":
            raise ValueError(f"samples are written as .smi or .npz, got {path.name!r}")
        if self.smiles is None:
            raise ValueError("these graphs are no molecules: write an .npz")
        partial = path.with_name(f".partial-{path.name}")
        lines = [f"{s} {i}\n" for i, s in enumerate(self.smiles) if s is not None]
        partial.write_text("".join(lines), encoding="utf-8")
        partial.replace(path)
        return path
