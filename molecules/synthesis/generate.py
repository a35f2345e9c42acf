"""Generate, score and plan in one call: which of the good molecules can be made?"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.files import replacing
from ...core.scores import Score
from .. import chem
from ..data.files import write_text
from ..metrics.uncertainty import share
from .inventory import Inventory
from .plan import Plan, Plans, _json, plan
from .policy import TemplatePolicy

__all__ = ["Candidates", "generate_and_plan"]

_COLUMNS = ("rank", "sample", "smiles", "score", "solved", "cost", "steps", "depth", "calls", "note")


@dataclass(frozen=True)
class Candidates:
    """Generated molecules, the best score first, each with its plan.

    Attributes:
        rows: rank, sample (its number among the samples), smiles, score, and of its plan solved, cost, steps, depth,
            calls, note; these are None for molecules that were not planned for.
        plans: of the ``top`` first rows, in their order.
        n: samples drawn. invalid: those without a molecule. duplicates: those that repeat an earlier one.
        samples: what the model gave.
    """

    rows: tuple[dict[str, Any], ...]
    plans: Plans
    n: int
    invalid: int
    duplicates: int
    samples: Any

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"Candidates({len(self)} molecules of {self.n} samples; {self.plans!r})"

    @property
    def solved(self) -> Score:
        """Share of the planned molecules that have a route, with Wilson's interval."""
        hits = sum(p.solved for p in self.plans.plans)
        return share("solved", hits, len(self.plans), "planned molecules with a route to the inventory")

    def write(self, path: str | Path) -> Path:
        """Write the rows to ``.csv``, or rows, counts and routes to ``.json``; or all of it, with the pictures of the
        routes, into a folder (a name without suffix).

        Raises:
            ValueError: another suffix.
        """
        path = Path(path)
        if path.suffix == ".csv":
            with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(self.rows)
            return path
        if path.suffix == ".json":
            content = {
                "n": self.n,
                "invalid": self.invalid,
                "duplicates": self.duplicates,
                "rows": list(self.rows),
                "plans": [p.to_dict() for p in self.plans.plans],
            }
            return write_text(path, _json(content))
        if path.suffix:
            raise ValueError(f"candidates are written as .csv, .json or into a folder, got {path.name!r}")
        self.write(path / "candidates.csv")
        self.plans.write(path / "plans")
        return path


def generate_and_plan(
    model: Any,
    n: int,
    inventory: Inventory,
    policy: TemplatePolicy,
    score: Callable[[Any], float] = chem.qed,
    *,
    top: int | None = None,
    seed: int = 0,
    sampling: dict[str, Any] | None = None,
    progress: bool = False,
    **planning: Any,
) -> Candidates:
    """Draw molecules from a model, score them, and plan how to make them.

    Args:
        model: anything with ``.sample(n, seed=..., ...)`` whose result has ``.smiles``, None where there is no
            molecule: the models of this wing.
        n: samples to draw.
        inventory, policy: see `plan`.
        score: of an RDKit molecule; larger is better.
        top: plan for this many of the best only; None: for all. Samples in several pieces are no targets.
        seed: of samples and plans.
        sampling: further arguments of ``model.sample``. planning: of `plan`.
        progress: show progress bars.

    Raises:
        TypeError: a model without such a ``sample``.
        ValueError: no sample is a molecule in one piece, a score that is no finite number; and what `plan` raises.
    """
    if not callable(getattr(model, "sample", None)):
        raise TypeError(f"expected a model with .sample(n), got {type(model).__name__}")
    if top is not None and top < 1:
        raise ValueError(f"top must be at least 1, or None for all, got {top}")
    samples = model.sample(n, seed=seed, **(sampling or {}))
    smiles = getattr(samples, "smiles", None)
    if smiles is None:
        raise TypeError(f"the samples of this {type(model).__name__} are no molecules: they have no .smiles")
    first: dict[str, int] = {}
    invalid = duplicates = 0
    for number, text in enumerate(smiles):
        found = None if not text else chem.canonical(text)
        if found is None:
            invalid += 1
        elif found in first:
            duplicates += 1
        else:
            first[found] = number
    if not first:
        raise ValueError(f"none of the {len(smiles)} samples is a molecule: there is nothing to plan for")
    scored = [(_finite(score(chem.parse(s)), s), s, number) for s, number in first.items()]
    scored.sort(key=lambda entry: (-entry[0], entry[2]))
    whole = [s for _, s, _ in scored if "." not in s]
    if not whole:
        raise ValueError(f"all {len(scored)} different samples fall into several pieces: there is nothing to plan for")
    plans = plan(whole[:top], inventory, policy, seed=seed, progress=progress, **planning)
    planned = {own.target: own for own in plans.plans}
    rows: list[dict[str, Any]] = []
    for value, s, number in scored:
        own = _of_plan(planned.get(s), "several pieces" if "." in s else "not planned for")
        rows.append({"rank": len(rows) + 1, "sample": number, "smiles": s, "score": value, **own})
    return Candidates(tuple(rows), plans, len(smiles), invalid, duplicates, samples)


def _finite(value: Any, smiles: str) -> float:
    """The score as a number; refused where it is none."""
    if not math.isfinite(value):
        raise ValueError(f"the score of {smiles} is {value}: a score is a finite number")
    return float(value)


def _of_plan(found: Plan | None, why: str) -> dict[str, Any]:
    names = ("solved", "cost", "steps", "depth", "calls", "note")
    if found is None:
        return {**dict.fromkeys(names), "note": why}
    row = found.row()
    return {name: row[name] for name in names}
