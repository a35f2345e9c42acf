"""Benchmarks that train several arms from several seeds: their options, their models, and what seeds have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scidiffuse.benchmarks.common.runs import Row
from scidiffuse.core.checkpoint import is_checkpoint
from scidiffuse.core.datasets import cache_folder

__all__ = ["options", "over_seeds", "trained"]


def options(description: str, arms: Iterable[str], results: Path) -> argparse.Namespace:
    """What the command line says: arms, seeds, budget, work, output."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--arms", nargs="+", choices=list(arms), default=list(arms))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--budget", type=float, default=1.0, help="factor on all training steps")
    parser.add_argument("--work", type=Path, default=cache_folder() / results.stem)
    parser.add_argument("--output", type=Path, default=results)
    return parser.parse_args()


def trained(folder: Path, untrained: Callable[[], Any], *data: Any, **training: Any) -> Any:
    """The model of a run: loaded where it is done, else trained, or trained on from the folder's checkpoint.

    Args:
        folder: of the run. untrained: makes the model. data, training: arguments of its `fit`.
    """
    model = untrained()
    if is_checkpoint(folder / "done"):
        return type(model).load(folder / "done")
    model.fit(*data, out=folder, resume=True, accelerator="cpu", **training)
    model.save(folder / "done")
    return model


def over_seeds(tables: Sequence[Row], names: Iterable[str] | None = None) -> Row:
    """Number of runs, and mean and standard deviation over them of all scores (or of those named)."""
    names = [k for k, v in tables[0].items() if isinstance(v, dict)] if names is None and tables else names or ()
    return {"seeds": len(tables)} | {
        k: [round(float(f([t[k]["value"] for t in tables if k in t])), 5) for f in (np.mean, np.std)]
        for k in names
        if k in tables[0]
    }
