"""Scores of generated molecules by the suite that a paper reports, in one call."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from ...core.scores import Score
from .containers import refuse_text
from .fcd import FcdStatistics, check_size, fcd, fcd_guacamol
from .moses import filters, fragments, internal_diversity, nearest_neighbour, scaffolds
from .nspdk import nspdk_mmd
from .properties import property_means
from .validity import molecules_of, novelty, uniqueness, valid_unique_novel, validity

__all__ = ["SUITES", "evaluate", "missing"]

SUITES: dict[str, tuple[str, ...]] = {
    "basic": ("valid_rdkit", "unique_all", "novel", "valid_unique_novel"),
    "moses": (
        "valid_rdkit",
        "unique@k",
        "novel",
        "filters",
        "intdiv1",
        "intdiv2",
        "snn",
        "frag",
        "scaf",
        "fcd_torch",
    ),
    "guacamol": ("valid_rdkit", "unique_all", "novel", "fcd_guacamol"),
    "gdss": ("valid_rdkit", "unique_all", "novel", "fcd_torch", "mmd_nspdk"),
    "drug": ("valid_rdkit", "mean_qed", "mean_logp", "mean_sa", "mean_weight"),
}
"""Names of scores by suite. ``unique@k`` stands for one score a k."""

_NEEDS = {
    "train": {"novel", "valid_unique_novel"},
    "reference": {"snn", "frag", "scaf", "fcd_torch", "fcd_guacamol", "mmd_nspdk"},
}

_COMPARE: dict[str, Callable[..., Score]] = {
    "snn": nearest_neighbour,
    "frag": fragments,
    "scaf": scaffolds,
    "mmd_nspdk": nspdk_mmd,
}


def missing(names: Sequence[str], *, train: Any, reference: Any) -> dict[str, list[str]]:
    """Scores that cannot be computed, by what they need: the training set or a reference, where it is None."""
    given = {"train": train, "reference": reference}
    wanted = {what: [n for n in names if n in _NEEDS[what]] for what, there in given.items() if there is None}
    return {what: some for what, some in wanted.items() if some}


def evaluate(
    molecules: Any,
    *,
    train: Any = None,
    reference: Any = None,
    suite: str | Sequence[str] = "moses",
    k: Sequence[int] = (1000, 10_000),
    fcd_reference: FcdStatistics | None = None,
    allow_small: bool = False,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Score]:
    """Scores of a suite by name, each with its protocol, n and interval.

    Args:
        molecules: all that were generated, SMILES or RDKit molecules, None or unparseable where there is none; or
            `GraphSamples`, `AtomSamples` (with what is no molecule), `Graphs`, `Atoms` as they are. Of a graph model
            the molecules of :func:`.graph_validity` count, whose three shares stand beside these.
        train: what the model was trained on, for novelty. reference: held-out molecules, for what compares
            distributions. Both alike.
        suite: a name of :data:`SUITES`, or names of scores. k: of ``unique@k``.
        fcd_reference: statistics of the reference made before. allow_small: FCD below 2,048 molecules too.
        level, seed: of the intervals.

    Raises:
        ValueError: an unknown suite or score, what a score needs is not given, no valid molecule, too few for FCD
            (said before anything is computed). TypeError: one string instead of a list.

    Warns:
        UserWarning: a k above the number of valid molecules is left out; FCD below 10,000.
    """
    names = SUITES.get(suite, (suite,)) if isinstance(suite, str) else tuple(suite)
    known = {name for some in SUITES.values() for name in some}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no suite or score {unknown[0]!r}; suites: {', '.join(SUITES)}; scores: {sorted(known)}")
    asked = [name for name in names if fcd_reference is None or not name.startswith("fcd")]
    for what, wanted in missing(asked, train=train, reference=reference).items():
        raise ValueError(f"{', '.join(wanted)} cannot be computed without {what}=: pass it, or name other scores")
    mols = molecules_of(molecules)  # parsed once
    held = None if reference is None else molecules_of(reference)
    if train is not None:
        refuse_text(train, "molecules")
    if any(name.startswith("fcd") for name in names):
        check_size(_valid(mols), len(mols), "generated", allow_small)
        if fcd_reference is not None:
            check_size(fcd_reference.n, fcd_reference.n, "reference", allow_small)
        elif held is not None:
            check_size(_valid(held), len(held), "reference", allow_small)
    some: dict[str, Any] = {"level": level}
    drawn: dict[str, Any] = {"level": level, "seed": seed}
    out: dict[str, Score] = {}
    for name in names:
        if name == "valid_rdkit":
            out[name] = validity(mols, **some)
        elif name == "unique_all":
            out[name] = uniqueness(mols, **some)
        elif name == "unique@k":
            out.update(_unique(mols, k, level))
        elif name == "novel":
            out[name] = novelty(mols, train, **some)
        elif name == "valid_unique_novel":
            out[name] = valid_unique_novel(mols, train, **some)
        elif name == "filters":
            out[name] = filters(mols, **some)
        elif name in ("intdiv1", "intdiv2"):
            out[name] = internal_diversity(mols, int(name[-1]), **some)
        elif name.startswith("mean_"):
            out.update(property_means(mols, (name.removeprefix("mean_"),), **drawn))
        elif name in ("fcd_torch", "fcd_guacamol"):
            source = fcd_reference if fcd_reference is not None else held
            assert source is not None
            distance = out.get("fcd_torch") or fcd(mols, source, allow_small=allow_small, **drawn)
            out[name] = distance if name == "fcd_torch" else fcd_guacamol(distance)
        else:
            assert held is not None
            out[name] = _COMPARE[name](mols, held, **drawn)
    return out


def _valid(mols: Sequence[Any]) -> int:
    return sum(m is not None for m in mols)


def _unique(mols: Sequence[Any], k: Sequence[int], level: float) -> dict[str, Score]:
    valid = _valid(mols)
    if short := [number for number in k if number > valid]:
        warnings.warn(
            f"unique@{short[0]} is left out: there are {valid} valid molecules (shares of other n do not compare)",
            stacklevel=3,
        )
    return {f"unique@{number}": uniqueness(mols, number, level=level) for number in k if number <= valid}
