"""Means of properties over generated molecules: what a set is like, and what steering or a condition has moved.

=================  =========  =======================================================================================
``mean_qed``       1          drug-likeness, 0 .. 1 (Bickerton et al., 2012; RDKit's mean weights)
``mean_logp``      1          octanol-water partition coefficient, log10 (Wildman and Crippen, 1999)
``mean_sa``        1          synthetic accessibility, 1 easy .. 10 hard (Ertl and Schuffenhauer, 2009; RDKit's Contrib)
``mean_weight``    g/mol      molecular weight, average atomic masses
=================  =========  =======================================================================================

All over the valid molecules, repetitions included, hydrogens implicit; what is no molecule is left out and counted. The
functions are those of :mod:`..chem`. A mean says nothing of validity: put ``valid_rdkit`` beside it, and the same means
of the training set. About 1 ms a molecule of the size of QM9's, most of it QED.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...core.scores import Score
from ..chem import logp, qed, sa_score, weight
from ..data.extras import quiet
from .uncertainty import mean
from .validity import molecules_of

__all__ = ["PROPERTIES", "property_means"]

PROPERTIES: dict[str, tuple[Callable[[Any], float], str, str]] = {
    "qed": (qed, "1", "QED (RDKit's mean weights)"),
    "logp": (logp, "1", "logP (Crippen)"),
    "sa": (sa_score, "1", "SA score (RDKit's Contrib)"),
    "weight": (weight, "g/mol", "molecular weight"),
}
"""Function of a sanitised molecule, its unit, and what it is, by name."""


def property_means(
    molecules: Any,
    functions: Sequence[str] | Mapping[str, Callable[[Any], float]] = ("qed", "logp", "sa", "weight"),
    *,
    unit: str = "1",
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Score]:
    """``mean_qed``, ``mean_logp``, ...: each with a bootstrap interval over molecules.

    Args:
        molecules: SMILES or molecules, None for none; or `Graphs`, `GraphSamples`, `AtomSamples` as they are.
        functions: names of :data:`PROPERTIES`, or functions of a sanitised molecule (hydrogens implicit) by name, NaN
            where there is no value. unit: of such functions. draws, level, seed: of the bootstrap.

    Raises:
        ValueError: an unknown name, no valid molecule. TypeError: one name that is not in a list.
    """
    if isinstance(functions, str):
        raise TypeError(f"functions is a list of names, or functions by name; got the string {functions!r}")
    if strange := [name for name in functions if not isinstance(functions, Mapping) and name not in PROPERTIES]:
        raise ValueError(f"no property {strange[0]!r}; there are {', '.join(PROPERTIES)}, or give functions by name")
    mols = molecules_of(molecules)
    out = {}
    for name in functions:
        own = (functions[name], unit, name) if isinstance(functions, Mapping) else PROPERTIES[name]
        function, unit_of, text = own
        with quiet():
            values = [float("nan") if mol is None else float(function(mol)) for mol in mols]
        text = f"mean {text} of valid molecules, repetitions included"
        out[f"mean_{name}"] = mean(f"mean_{name}", values, unit_of, text, draws=draws, level=level, seed=seed)
    return out
