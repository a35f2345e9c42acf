r"""The scores of MOSES beside validity, uniqueness, novelty and FCD, as its code computes them (molsets 0.3.1).

Polykovskiy et al., "Molecular Sets (MOSES): A Benchmarking Platform for Molecular Generation Models", 2020,
https://arxiv.org/abs/1811.12823. All are over the valid molecules, repetitions included. T is the Tanimoto similarity
of Morgan fingerprints (radius 2, 1024 bits).

- ``filters``: share that passes: no charged atom, elements C N S O F Cl Br H, no ring of 8 or more atoms, none of the
  22 medicinal chemistry patterns (MCF) and none of the 480 PAINS patterns (as RDKit ships them), hydrogens explicit.
- ``intdiv1``: 1 - mean_ij T_ij, i = j included.
- ``intdiv2``: 1 - mean_i sqrt(mean_j T_ij^2). The paper's formula has the root outside of both means; its code, and
  every table of results made by it, has it inside.
- ``snn``: mean over generated of the largest T to a reference molecule.
- ``frag``: cosine of the counts of BRICS fragments (Degen et al., 2008) in generated and reference molecules.
- ``scaf``: the same of Bemis-Murcko scaffolds with at least 2 rings.

*Uncertainty.* ``filters``: Wilson. ``snn``: bootstrap. ``intdiv``: normal, by the influence of each molecule, which for
p = 1 is 2 (mean T - mean_j T_ij). ``frag``, ``scaf``: :func:`.uncertainty.around`. The reference is taken as given.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.scores import Score
from ..data.extras import chem as rdkit_chem
from ..data.extras import rdkit
from .uncertainty import around, mean, share, weights
from .validity import molecules_of

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["filters", "fragments", "internal_diversity", "nearest_neighbour", "passes_filters", "scaffolds"]

_ELEMENTS = frozenset(("C", "N", "S", "O", "F", "Cl", "Br", "H"))
_BLOCK = 4000  # rows of a block of pairwise similarities


def _valid(molecules: Sequence[Any], role: str = "generated") -> list[Mol]:
    mols = [m for m in molecules_of(molecules) if m is not None]
    if not mols:
        raise ValueError(f"none of the {len(molecules)} {role} molecules is valid")
    return mols


# --------------------------------------------------------------------------------------------------------------------
# filters


@lru_cache(maxsize=1)
def _patterns() -> tuple[Any, ...]:
    """MCF and PAINS as query molecules."""
    from rdkit import RDConfig

    with (Path(__file__).parents[1] / "assets" / "moses_mcf.csv").open(newline="") as file:
        smarts = [row["smarts"] for row in csv.DictReader(file)]
    with (Path(RDConfig.RDDataDir) / "Pains" / "wehi_pains.csv").open(newline="") as file:
        smarts += [row[0].strip() for row in csv.reader(file) if row]
    return tuple(map(rdkit_chem().MolFromSmarts, smarts))


def passes_filters(mol: Mol) -> bool:
    """Whether one sanitised molecule passes the filters of MOSES (module docstring)."""
    if any(a.GetFormalCharge() != 0 or a.GetSymbol() not in _ELEMENTS for a in mol.GetAtoms()):
        return False
    if any(len(ring) >= 8 for ring in mol.GetRingInfo().AtomRings()):
        return False
    explicit = rdkit_chem().AddHs(mol)
    return not any(explicit.HasSubstructMatch(pattern) for pattern in _patterns())


def filters(molecules: Sequence[Any], *, level: float = 0.95) -> Score:
    """``filters``; some ten milliseconds a molecule: there are 502 patterns.

    Raises:
        ValueError: no valid molecule.
    """
    mols = _valid(molecules)
    text = "share of valid molecules without charge, ring >= 8, foreign element, MCF or PAINS pattern (MOSES)"
    left_out = len(molecules) - len(mols)
    return share("filters", sum(map(passes_filters, mols)), len(mols), text, level=level, left_out=left_out)


# --------------------------------------------------------------------------------------------------------------------
# fingerprints


def _fingerprints(mols: Sequence[Mol]) -> np.ndarray:
    """(n, 1024) float32 of 0 and 1: products of them are exact."""
    generator = rdkit("Chem.rdFingerprintGenerator").GetMorganGenerator(radius=2, fpSize=1024)
    return np.stack([generator.GetFingerprintAsNumPy(mol) for mol in mols]).astype(np.float32)


def _tanimoto(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n, m) float64; molecules without a bit are alike."""
    both = (x @ y.T).astype(np.float64)
    either = x.sum(1)[:, None] + y.sum(1)[None] - both
    return np.divide(both, either, out=np.ones_like(both), where=either > 0)


def internal_diversity(molecules: Sequence[Any], p: int = 1, *, level: float = 0.95) -> Score:
    """``intdiv1`` or ``intdiv2``.

    Raises:
        ValueError: p is not 1 or 2, or no valid molecule.
    """
    if p not in (1, 2):
        raise ValueError(f"p must be 1 or 2, got {p}")
    mols = _valid(molecules)
    x, n = _fingerprints(mols), len(mols)
    blocks = [slice(k, k + _BLOCK) for k in range(0, n, _BLOCK)]
    g = np.concatenate([(_tanimoto(x[b], x) ** p).mean(axis=1) for b in blocks])  # mean_j T_ij^p
    root = g ** (1 / p)
    slope = g ** (1 / p - 1) / p  # of the root, at each g
    back = sum(slope[b] @ (_tanimoto(x[b], x) ** p) for b in blocks) / n
    influence = (root - root.mean()) + (back - (slope * g).mean())
    half = NormalDist().inv_cdf((1 + level) / 2) * float(np.sqrt((influence**2).sum() / (n * max(n - 1, 1))))
    value = 1 - float(root.mean())
    low, high = (max(0.0, value - half), min(1.0, value + half)) if n > 1 else (float("nan"), float("nan"))
    text = f"1 - mean_i (mean_j T_ij^{p})^(1/{p}), Tanimoto of Morgan fingerprints, radius 2, 1024 bits (MOSES)"
    how = f"normal, by the influence of each of {n} molecules"
    return Score(f"intdiv{p}", value, low, high, n, n, "1", text, how, level, len(molecules) - n)


def nearest_neighbour(
    molecules: Sequence[Any], reference: Sequence[Any], *, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> Score:
    """``snn``: mean similarity to the nearest reference molecule.

    Raises:
        ValueError: no valid molecule on either side.
    """
    mols, others = _valid(molecules), _valid(reference, "reference")
    x, y = _fingerprints(mols), _fingerprints(others)
    best = np.zeros(len(x))
    for i in range(0, len(x), _BLOCK):
        for j in range(0, len(y), _BLOCK):
            rows = slice(i, i + _BLOCK)
            best[rows] = np.maximum(best[rows], _tanimoto(x[rows], y[j : j + _BLOCK]).max(axis=1))
    text = (
        f"mean largest Tanimoto similarity (Morgan, radius 2, 1024 bits) to {len(others)} reference molecules (MOSES)"
    )
    full = np.concatenate([best, np.full(len(molecules) - len(mols), np.nan)])
    return mean("snn", full, "1", text, draws=draws, level=level, seed=seed)


# --------------------------------------------------------------------------------------------------------------------
# fragments and scaffolds


def _brics(mol: Mol) -> list[str]:
    return rdkit_chem().MolToSmiles(rdkit("Chem.BRICS").BreakBRICSBonds(mol)).split(".")


def _scaffold(mol: Mol) -> list[str]:
    core = rdkit("Chem.Scaffolds.MurckoScaffold").GetScaffoldForMol(mol)
    if core.GetRingInfo().NumRings() < 2:
        return []
    return [rdkit_chem().MolToSmiles(core)]


def fragments(
    molecules: Sequence[Any], reference: Sequence[Any], *, draws: int = 200, level: float = 0.95, seed: int = 0
) -> Score:
    """``frag``: cosine of BRICS fragment counts; NaN where one side has none.

    Raises:
        ValueError: no valid molecule on either side.
    """
    return _cosine("frag", "BRICS fragments", _brics, molecules, reference, draws, level, seed)


def scaffolds(
    molecules: Sequence[Any], reference: Sequence[Any], *, draws: int = 200, level: float = 0.95, seed: int = 0
) -> Score:
    """``scaf``: cosine of counts of Murcko scaffolds with 2 rings or more; NaN where one side has none.

    Raises:
        ValueError: no valid molecule on either side.
    """
    text = "Bemis-Murcko scaffolds of 2 rings or more"
    return _cosine("scaf", text, _scaffold, molecules, reference, draws, level, seed)


def _cosine(
    name: str,
    what: str,
    parts: Callable[[Mol], list[str]],
    molecules: Sequence[Any],
    reference: Sequence[Any],
    draws: int,
    level: float,
    seed: int,
) -> Score:
    from scipy.sparse import csr_matrix

    mols, others = _valid(molecules), _valid(reference, "reference")
    known = Counter(part for mol in others for part in parts(mol))
    own = [parts(mol) for mol in mols]
    place = {part: k for k, part in enumerate(dict.fromkeys([*known, *(part for row in own for part in row)]))}
    r = np.array([known.get(part, 0) for part in place], dtype=np.float64)
    rows = np.repeat(np.arange(len(own)), [len(row) for row in own])
    columns = [place[part] for row in own for part in row]
    counts = csr_matrix((np.ones(len(columns)), (rows, columns)), shape=(len(own), len(place)))
    length, along = np.linalg.norm(r), counts @ r

    def cosine(w: np.ndarray) -> float:
        below = length * np.linalg.norm(counts.T @ w)
        return float(w @ along / below) if below > 0 else float("nan")

    n = len(mols)
    rng = np.random.Generator(np.random.PCG64(seed))
    redrawn = np.array([cosine(w) for w in weights(n, draws, rng)]) if n > 1 else np.zeros(0)
    redrawn = redrawn[np.isfinite(redrawn)]  # without what drew no molecule that has a part
    text = f"cosine of counts of {what} in generated and {len(others)} reference molecules (MOSES)"
    value = cosine(np.full(n, 1 / n))
    left_out = len(molecules) - n
    return around(name, value, redrawn, n, "1", text, bounds=(0.0, 1.0), level=level, left_out=left_out)
