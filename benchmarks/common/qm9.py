"""QM9 as the benchmarks of molecules split it, and the head of their results files."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

import torch

from scidiffuse import molecules as mo
from scidiffuse.benchmarks.common.runs import Row
from scidiffuse.core.datasets import cache_folder

__all__ = ["Parts", "graphs", "head", "percent"]

Parts = tuple[mo.Graphs, mo.Graphs]


@cache
def graphs(held: int = 10_000) -> Parts:
    """All molecules of qm9pack but `held` ones for training, and those for comparison: elements, implicit hydrogens.

    The order is a permutation by the seed 0. QM9 holds each molecule once.
    """
    file = cache_folder() / "qm9-elements.npz"
    if file.exists():
        whole = mo.Graphs.load(file)
    else:
        whole = mo.elements_only(mo.qm9_graphs()).padded(9)
        file.parent.mkdir(parents=True, exist_ok=True)
        whole.save(file)
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))
    return whole[order[held:]], whole[order[:held]]


def head(command: str, file: str, note: str = "") -> Row:
    """What every results file starts with."""
    return {
        "command": command,
        "program": Path(file).name,
        "machine": {
            "cores": os.cpu_count(), "threads": torch.get_num_threads(),
            "processor": platform.processor() or platform.machine(), "python": platform.python_version(),
            "torch": torch.__version__,
            "note": note or "CPU seconds of a process on a machine that was shared by several others",
        },
    }  # fmt: skip


def percent(score: mo.Score) -> Row:
    """A share with its interval, for the results."""
    return {"value": round(score.value, 4), "low95": round(score.low, 4), "high95": round(score.high, 4), "n": score.n}
