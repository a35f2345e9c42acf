r"""Whether three-dimensional molecules are physically sensible: PoseBusters' checks, and the strain of MMFF94.

*PoseBusters* (Buttenschoen, Morris and Deane, "PoseBusters: AI-based docking methods fail to generate physically valid
poses or generalise to novel sequences", 2024), ``config="mol"``: the checks that need no protein. One share a check,
and ``posebusters_valid``, the share that passes all. A molecule that could not be made (None) fails every one; a check
that could not be done (RDKit finds no conformers of some strained cages to compare the energy with) counts as failed.

*Strain*: E(as generated) - E(nearest minimum) in the force field MMFF94, kcal/mol; the minimum is reached from the
generated positions, so that this is the strain of bond lengths, angles and contacts, not of the choice of conformer.
One clash makes it astronomical: the median over molecules is reported. Real gas-phase geometries of another level of
theory are not at zero; give them beside.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.scores import Score
from ..data.extras import quiet, rdkit
from .uncertainty import share

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["posebusters", "strain", "strain_energy"]


def posebusters(molecules: Sequence[Mol | None], *, level: float = 0.95) -> dict[str, Score]:
    """``posebusters_valid``, and ``posebusters_<check>`` for each check of the configuration ``mol``.

    Args:
        molecules: with one conformer in three dimensions and hydrogens; None where there is no molecule.

    Raises:
        ValueError: an empty list, or a molecule without positions. ImportError: without posebusters.
    """
    try:
        from posebusters import PoseBusters
    except ImportError as error:
        raise ImportError('these checks need posebusters: pip install "scidiffuse[molecules]"') from error
    n = len(molecules)
    _some(molecules)
    _positions(molecules)
    made = [mol for mol in molecules if mol is not None]
    if not made:
        raise ValueError(f"none of the {n} molecules could be made: there is no geometry to check")
    with quiet(), _without_warnings("posebusters"):
        table = PoseBusters(config="mol").bust(made, None, None)
    passed = table.eq(True)  # NaN, a check that could not be done, is not
    text = f'of {n} molecules, {n - len(made)} of them not made; posebusters config "mol"'
    out = [
        share(
            "posebusters_valid", int(passed.all(axis=1).sum()), n, f"share that passes all checks, {text}", level=level
        )
    ]
    for check in passed.columns:
        hits = int(passed[check].sum())
        out.append(share(f"posebusters_{check}", hits, n, f"share that passes {check!r}, {text}", level=level))
    return {score.name: score for score in out}


@contextmanager
def _without_warnings(library: str) -> Iterator[None]:
    """The warnings that a library logs off: its table says the same, a check a molecule."""
    logger = logging.getLogger(library)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def strain_energy(mol: Mol, max_steps: int = 5000) -> float:
    """Strain of one molecule, kcal/mol; NaN where MMFF94 has no parameters or finds no minimum in ``max_steps``.

    Args:
        mol: sanitised, all hydrogens explicit, one conformer; it is not changed.

    Raises:
        ValueError: no positions, or hydrogens that are implicit.
    """
    _positions([mol])
    implicit = sum(atom.GetNumImplicitHs() + atom.GetNumExplicitHs() for atom in mol.GetAtoms())
    if implicit:
        raise ValueError(
            f"{implicit} hydrogens are implicit: strain needs the positions that were generated for them (a model "
            "without hydrogens has no strain energy; Chem.AddHs(mol, addCoords=True) would measure RDKit's placement)"
        )
    copy = rdkit("Chem").Mol(mol)
    fields = rdkit("Chem.rdForceFieldHelpers")
    with quiet():
        properties = fields.MMFFGetMoleculeProperties(copy)
        field = None if properties is None else fields.MMFFGetMoleculeForceField(copy, properties)
        if field is None:
            return float("nan")
        before = field.CalcEnergy()
        if field.Minimize(maxIts=max_steps) != 0:
            return float("nan")
    return float(before - field.CalcEnergy())


def strain(
    molecules: Sequence[Mol | None], *, max_steps: int = 5000, draws: int = 500, level: float = 0.95, seed: int = 0
) -> Score:
    """``strain_mmff94_median``; molecules that are None, or whose strain is NaN, are left out and counted.

    Raises:
        ValueError: as :func:`strain_energy`; nothing is left.
    """
    _some(molecules)
    energies = np.array([np.nan if mol is None else strain_energy(mol, max_steps) for mol in molecules])
    known = energies[np.isfinite(energies)]
    n = len(known)
    if n == 0:
        raise ValueError(f"none of the {len(molecules)} molecules has an MMFF94 strain energy")
    rng = np.random.Generator(np.random.PCG64(seed))
    medians = np.array([np.median(known[rng.integers(0, n, n)]) for _ in range(draws)])
    tail = (1 - level) / 2
    low, high = np.quantile(medians, [tail, 1 - tail]) if n > 1 else (np.nan, np.nan)
    text = "median over molecules of the MMFF94 energy above that of the nearest minimum"
    how = f"bootstrap over {n} molecules, {draws} draws" if n > 1 else "none: 1 molecule"
    value = float(np.median(known))
    left_out = len(molecules) - n
    return Score("strain_mmff94_median", value, float(low), float(high), n, n, "kcal/mol", text, how, level, left_out)


def _some(molecules: Sequence[Any]) -> None:
    if len(molecules) == 0:
        raise ValueError("the list of molecules is empty: there is nothing to score")


def _positions(molecules: Sequence[Mol | None]) -> None:
    for row, mol in enumerate(molecules):
        if mol is not None and (mol.GetNumConformers() == 0 or not mol.GetConformer().Is3D()):
            raise ValueError(f"molecule {row} has no positions in three dimensions: these scores are of geometries")
