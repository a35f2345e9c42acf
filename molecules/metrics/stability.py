r"""Stability of generated atoms in space, as EDM counts it: bond orders from distances, valences from bond orders.

Hoogeboom et al., "Equivariant Diffusion for Molecule Generation in 3D", 2022, https://arxiv.org/abs/2203.17003. Two
atoms closer than the typical length of their single bond + 10 pm are bonded; closer than that of their double bond + 5
pm, doubly; of their triple bond + 3 pm, triply (each only below the one before). An atom is stable if the sum of its
bond orders *is* its valence, H 1, C 4, N 3, O 2, F 1 (neutral atoms only); a molecule if all its atoms are.

The typical lengths are tabulated values of handbooks (wiredchemist.com, "Common Bond Energies and Bond Lengths";
chemistry-reference.com, "Bond Lengths and Enthalpies"), in pm, the margins EDM's choice, by which the real molecules of
QM9 come out best. Aromatic bonds are taken as single or double by their length, ions are never stable: of real QM9
molecules about 95 % are stable, which is the ceiling of the score, not 100 %. It is a score of small neutral molecules;
larger ones (GEOM) were scored with single bonds only (``single_only``), and there it says little.

Validity in EDM's papers means that :func:`bond_orders` gives a molecule that RDKit sanitises: :func:`.chem.build` of
its orders.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...core.scores import Score, bootstrap, wilson
from ..data.atoms import Atoms
from .uncertainty import share

__all__ = ["BOND_LENGTHS", "MARGINS", "VALENCES", "bond_orders", "limits", "stability"]

BOND_LENGTHS: dict[int, dict[str, int]] = {
    1: {
        "H-H": 74, "H-C": 109, "H-N": 101, "H-O": 96, "H-F": 92, "H-B": 119, "H-Si": 148, "H-P": 144, "H-As": 152,
        "H-S": 134, "H-Cl": 127, "H-Br": 141, "H-I": 161,
        "C-C": 154, "C-N": 147, "C-O": 143, "C-F": 135, "C-Si": 185, "C-P": 184, "C-S": 182, "C-Cl": 177, "C-Br": 194,
        "C-I": 214,
        "N-N": 145, "N-O": 140, "N-F": 136, "N-Cl": 175, "N-Br": 214, "N-S": 168, "N-I": 222, "N-P": 177,
        "O-O": 148, "O-F": 142, "O-Br": 172, "O-S": 151, "O-P": 163, "O-Si": 163, "O-Cl": 164, "O-I": 194,
        "F-F": 142, "F-S": 158, "F-Si": 160, "F-Cl": 166, "F-Br": 178, "F-P": 156, "F-I": 187,
        "B-Cl": 175,
        "Si-Si": 233, "Si-S": 200, "Si-Cl": 202, "Si-Br": 215, "Si-I": 243,
        "Cl-Cl": 199, "Cl-P": 203, "Cl-S": 207, "Cl-Br": 214,
        "S-S": 204, "S-Br": 225, "S-P": 210, "S-I": 234,
        "Br-Br": 228, "Br-P": 222,
        "P-P": 221,
        "I-I": 266,
    },
    2: {"C-C": 134, "C-N": 129, "C-O": 120, "C-S": 160, "N-N": 125, "N-O": 121, "O-O": 121, "O-P": 150, "P-S": 186},
    3: {"C-C": 120, "C-N": 116, "C-O": 113, "N-N": 110},
}  # fmt: skip
"""Typical lengths in pm of bonds of order 1, 2, 3."""

MARGINS = {1: 10, 2: 5, 3: 3}
"""Added to a typical length, pm."""

VALENCES: dict[int, tuple[int, ...]] = {
    1: (1,), 5: (3,), 6: (4,), 7: (3,), 8: (2,), 9: (1,), 14: (4,), 15: (3, 5), 16: (4,), 17: (1,), 33: (3,), 35: (1,),
    53: (1,),
}  # fmt: skip
"""Sums of bond orders at which an atom counts as stable, by atomic number (EDM's, so that S is stable at 4 only)."""

_NUMBERS = {
    "H": 1, "B": 5, "C": 6, "N": 7, "O": 8, "F": 9, "Si": 14, "P": 15, "S": 16, "Cl": 17, "As": 33, "Br": 35, "I": 53,
}  # fmt: skip
_PAIRS_AT_ONCE = 4_000_000


def _thresholds() -> np.ndarray:
    """(3, 54, 54) largest distances in Å for orders 1, 2, 3; 0 where there is no such bond."""
    out = np.zeros((3, 54, 54))
    for order, table in BOND_LENGTHS.items():
        for pair, length in table.items():
            i, j = (_NUMBERS[symbol] for symbol in pair.split("-"))
            out[order - 1, i, j] = out[order - 1, j, i] = (length + MARGINS[order]) / 100
    return out


_LIMIT = _thresholds()


def limits(numbers: Sequence[int]) -> np.ndarray:
    """(3, T, T) largest distances in Å of bonds of orders 1, 2, 3 between T elements; 0 where there is no such bond.

    Raises:
        ValueError: an element without bond lengths.
    """
    unknown = sorted(set(numbers) - set(VALENCES))
    if unknown:
        raise ValueError(f"no bond lengths for atomic numbers {unknown}; the tables of EDM know {sorted(VALENCES)}")
    z = np.asarray(numbers)
    return _LIMIT[:, z[:, None], z]


def _checked(numbers: Any, positions: np.ndarray | None, mask: np.ndarray | None) -> tuple[np.ndarray, ...]:
    atoms = getattr(numbers, "atoms", numbers)  # of samples
    if isinstance(atoms, Atoms):
        if positions is not None or mask is not None:
            raise TypeError("Atoms have positions and a mask of their own: give them alone")
        numbers, positions, mask = atoms.numbers.numpy(), atoms.positions.numpy(), atoms.mask.numpy()
    if positions is None:
        raise TypeError(
            f"expected Atoms alone, or atomic numbers (B, N) and positions (B, N, 3); got a {type(numbers).__name__} "
            "without positions"
        )
    z, x = np.asarray(numbers), np.asarray(positions, dtype=np.float64)
    if z.ndim != 2 or x.shape != (*z.shape, 3):
        raise ValueError(f"expected atomic numbers (B, N) and positions (B, N, 3), got {z.shape} and {x.shape}")
    there = (z > 0) if mask is None else np.asarray(mask, dtype=bool)
    if there.shape != z.shape:
        raise ValueError(f"expected a mask {z.shape}, got {there.shape}")
    if not np.isfinite(x[there]).all():
        raise ValueError(f"{int((~np.isfinite(x[there])).any(axis=1).sum())} atoms have positions that are not finite")
    unknown = sorted(set(z[there].tolist()) - set(VALENCES))
    if unknown:
        raise ValueError(
            f"no bond lengths for atomic numbers {unknown}; the tables of EDM know {sorted(VALENCES)} (leave such "
            "molecules out, or judge them by posebusters)"
        )
    return np.where(there, z, 0).astype(np.int64), np.where(there[..., None], x, 0.0), there


def bond_orders(
    numbers: Any,
    positions: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    *,
    single_only: bool = False,
) -> np.ndarray:
    """Bond orders 0 .. 3 by distance, (B, N, N), int64.

    Args:
        numbers: (B, N) atomic numbers, 0 where there is no atom; or `Atoms` (or samples of them), which need nothing
            beside them. positions: (B, N, 3), Å. mask: (B, N), which atoms are there; ``numbers > 0`` by default.
        single_only: every bond counts once.

    Raises:
        ValueError: shapes that do not fit, positions that are not finite, elements without bond lengths.
        TypeError: numbers without positions, or `Atoms` with some.
    """
    z, x, there = _checked(numbers, positions, mask)
    d = np.sqrt(((x[:, :, None] - x[:, None]) ** 2).sum(axis=-1))
    first, second, third = (limit[z[:, :, None], z[:, None]] for limit in _LIMIT)
    single = d < first
    double = single & (d < second)
    triple = double & (d < third)
    orders = single.astype(np.int64)
    if not single_only:
        orders += double.astype(np.int64) + triple
    pair = there[:, :, None] & there[:, None] & ~np.eye(z.shape[1], dtype=bool)
    return np.where(pair, orders, 0)


def stability(
    numbers: Any,
    positions: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    *,
    single_only: bool = False,
    valences: Mapping[int, Sequence[int]] = VALENCES,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Score]:
    """``atom_stability_edm`` and ``molecule_stability_edm`` of B molecules.

    Args:
        numbers, positions, mask, single_only: as :func:`bond_orders`; hydrogens are atoms here.
        valences: allowed sums of bond orders by atomic number. draws, level, seed: of the bootstrap over molecules.

    Raises:
        ValueError: as :func:`bond_orders`; no molecule, or molecules without atoms.

    Warns:
        UserWarning: none of the atoms is a hydrogen, and not all are stable: bonds to hydrogens that are left out are
            missing from every sum.
    """
    z, x, there = _checked(numbers, positions, mask)
    if len(z) == 0 or not there.any(axis=1).all():
        raise ValueError(
            f"there are {len(z)} molecules, {int((~there.any(axis=1)).sum())} of them without atoms: stability is of "
            "molecules with atoms; leave the others out and say how many"
        )
    allowed = np.zeros((54, 32), dtype=bool)
    for number, sums in valences.items():
        allowed[number, list(sums)] = True
    stable = np.zeros_like(there)
    step = max(1, _PAIRS_AT_ONCE // z.shape[1] ** 2)
    for k in range(0, len(z), step):
        rows = slice(k, k + step)
        sums = bond_orders(z[rows], x[rows], there[rows], single_only=single_only).sum(axis=-1)
        stable[rows] = allowed[z[rows], np.minimum(sums, 31)] & there[rows]
    if not (z == 1).any() and not (stable | ~there).all():
        warnings.warn(
            f"none of the atoms of the {len(z)} molecules is a hydrogen: an atom whose hydrogens are left out lacks "
            "their bonds and counts as not stable; score molecules with hydrogens as atoms",
            stacklevel=2,
        )
    columns = np.stack([stable.sum(axis=1), there.sum(axis=1)], axis=1).astype(np.float64)
    low, high, units = bootstrap(columns, lambda s: s[:, 0] / s[:, 1], draws=draws, level=level, seed=seed)
    source = f"bootstrap over {units} molecules, {draws} draws"
    if low == high and low in (0.0, 1.0):  # resampling cannot tell how far from certain that is
        (low, high), source = wilson(int(low) * units, units, level), f"Wilson's interval of {units} molecules"
    how = "bond orders by EDM's lengths and margins" + (", single bonds only" if single_only else "")
    atoms = Score(
        "atom_stability_edm",
        float(columns[:, 0].sum() / columns[:, 1].sum()),
        low,
        high,
        int(columns[:, 1].sum()),
        units,
        "1",
        f"share of atoms whose bond orders sum to their valence; {how}",
        source,
        level,
    )
    whole = int((columns[:, 0] == columns[:, 1]).sum())
    text = f"share of molecules whose atoms are all stable; {how}"
    return {score.name: score for score in (atoms, share("molecule_stability_edm", whole, len(z), text, level=level))}
