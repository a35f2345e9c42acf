"""A set of molecules with coordinates in dense arrays.

With B molecules of at most N atoms::

    positions  (B, N, 3)  Å; zero at absent atoms. Never centred here: a file comes back as it was
    numbers    (B, N)     atomic numbers; 0 at absent atoms
    charges    (B, N)     formal charges, 0 where the format says none
    mask       (B, N)     True = the atom exists
    bonds      (B, N, N)  orders 0..3 where the format has bonds (SDF), else None

**Units.** An XYZ file does not say them. The shortest distance between two atoms of a molecule is 0.7 Å (H-H) to 1.5 Å
(C-C); beyond 1.6 or below 0.5 it is not Å, but probably Bohr (1 Bohr = 0.529177 Å), or nm, or broken. Molecules of one
atom say nothing, and 0.74 Å of H2 is 1.4 Bohr, which the check cannot see. ``units="bohr"`` converts; a set of metal
clusters or noble gases, whose shortest distances are longer, is read with ``units="angstrom"``, which takes the word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from ...core.problems import Errors, Problems
from .extras import chem, quiet, rdkit
from .files import load_arrays, save_arrays
from .graphs import check_lengths, chosen, packed_ids, unpacked_ids
from .molecules import _arrays, build, check_mol
from .vocabulary import sort_types

if TYPE_CHECKING:
    from ...core.spaces import ZeroCoM

__all__ = ["BOHR", "Atoms", "Units", "check_distances", "check_not_flat", "converted", "stack_atoms"]

Units = Literal["angstrom", "bohr"]

BOHR = 0.529177210903
"""Å a Bohr (CODATA 2018)."""

SHORTEST, LONGEST = 0.5, 1.6
"""Between these lies the shortest distance of any molecule in Å."""

_KIND = "scidiffuse-atoms-1"
_TENSORS = ("positions", "numbers", "charges", "mask", "bonds")


def check_distances(positions: np.ndarray) -> None:
    """Refuse a molecule whose coordinates (n, 3) are not in Å; see the module.

    Raises:
        ValueError: not finite, or the shortest distance is below 0.5 or beyond 1.6.
    """
    if not np.isfinite(positions).all():
        raise ValueError("coordinates that are not finite")
    if len(positions) < 2:
        return
    squared = ((positions[:, None] - positions[None]) ** 2).sum(-1)
    shortest = float(np.sqrt(squared[np.triu_indices(len(positions), 1)].min()))
    if not SHORTEST <= shortest <= LONGEST:
        guess = "Bohr? units='bohr' converts" if shortest > LONGEST else "nm, or atoms on top of each other?"
        raise ValueError(
            f"the shortest distance of two atoms is {shortest:.3g}, in Å it lies between {SHORTEST} and {LONGEST}: "
            f"{guess} (units='angstrom' takes the file's word)"
        )


def check_not_flat(mol: Any) -> None:
    """Refuse an RDKit molecule whose first conformer is a drawing.

    Raises:
        ValueError: it is: all z = 0, and marked 2D.
    """
    conformer = mol.GetConformer()
    if not conformer.Is3D() and mol.GetNumAtoms() > 1 and not conformer.GetPositions()[:, 2].any():
        raise ValueError("a flat drawing (all z = 0, marked 2D), not the geometry of a molecule")


def converted(positions: np.ndarray, units: Units | None) -> np.ndarray:
    """Coordinates (n, 3) in Å: checked (None), taken (``"angstrom"``) or converted and checked (``"bohr"``).

    Raises:
        ValueError: other units, or those of :func:`check_distances`.
    """
    if units not in (None, "angstrom", "bohr"):
        raise ValueError(f"units must be 'angstrom', 'bohr' or None (Å, checked), got {units!r}")
    if not np.isfinite(positions).all():
        raise ValueError("coordinates that are not finite")
    if units == "bohr":
        positions = positions * BOHR
    if units != "angstrom":
        check_distances(positions)
    return positions


@dataclass(frozen=True)
class Atoms:
    """B molecules with coordinates, padded to N atoms.

    Attributes:
        positions: (B, N, 3) float32, Å. numbers: (B, N) uint8. charges: (B, N) int8. mask: (B, N) bool.
        bonds: (B, N, N) uint8 orders 0..3, or None.
        ids: a name for each molecule. smiles: where the source gives them, "" where not for one.
        properties: (B,) float64 each, NaN = not known.

    Raises:
        TypeError, ValueError: shapes, dtypes or values that do not fit.
    """

    positions: Tensor
    numbers: Tensor
    charges: Tensor
    mask: Tensor
    bonds: Tensor | None = None
    ids: tuple[Any, ...] = ()
    smiles: tuple[str, ...] | None = None
    properties: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.ids:
            object.__setattr__(self, "ids", tuple(range(len(self.mask))))
        mask = self.mask
        if mask.dtype != torch.bool:
            raise TypeError(f"mask must be bool (True = the atom exists), got {mask.dtype}")
        if mask.ndim != 2 or self.positions.shape != (*mask.shape, 3):
            raise ValueError(
                f"expected positions (B, N, 3) and mask (B, N), got {tuple(self.positions.shape)}, {tuple(mask.shape)}"
            )
        for name in ("numbers", "charges"):
            if getattr(self, name).shape != mask.shape:
                raise ValueError(f"{name} must be {tuple(mask.shape)}, got {tuple(getattr(self, name).shape)}")
        self._refuse(~mask.any(1), "has no atom")
        self._refuse(~self.positions.isfinite().flatten(1).all(1), "has coordinates that are not finite")
        self._refuse(
            (mask & ((self.numbers < 1) | (self.numbers > 118))).any(1), "has an atom without an atomic number"
        )
        if self.bonds is not None:
            if self.bonds.shape != (*mask.shape, mask.shape[1]):
                raise ValueError(f"bonds must be (B, N, N), got {tuple(self.bonds.shape)}")
            self._refuse(
                (self.bonds != self.bonds.transpose(1, 2)).flatten(1).any(1), "has bonds that are not symmetric"
            )
            self._refuse((self.bonds.ne(0).any(2) & ~mask).any(1), "has a bond at an absent atom")
        check_lengths(len(mask), "molecules", {"ids": self.ids, "smiles": self.smiles, **self.properties})

    def _refuse(self, bad: Tensor, what: str) -> None:
        rows = bad.nonzero().flatten().tolist()
        if rows:
            raise ValueError(f"molecule {rows[0]} (id {self.ids[rows[0]]!r}) {what}")

    def __len__(self) -> int:
        return len(self.mask)

    def __repr__(self) -> str:
        bonds = "with bonds" if self.bonds is not None else "without bonds"
        return f"Atoms({len(self)} molecules {bonds}, up to {self.mask.shape[1]} atoms)"

    @property
    def num_atoms(self) -> Tensor:
        """(B,) long: the atoms of each molecule."""
        return self.mask.sum(1)

    @property
    def elements(self) -> tuple[str, ...]:
        """The elements that occur, by atomic number."""
        return sort_types((int(z), 0) for z in self.numbers[self.mask].unique())

    def types(self, elements: Sequence[str] | None = None) -> Tensor:
        """(B, N, F) float32: one-hot elements, zero at absent atoms.

        Args:
            elements: the F symbols; default :attr:`elements`.

        Raises:
            ValueError: an atom of another element.
        """
        from .vocabulary import number_of

        numbers = torch.tensor([number_of(e) for e in (elements or self.elements)])
        hot = (self.numbers.long()[..., None] == numbers) & self.mask[..., None]
        self._refuse((self.mask & ~hot.any(2)).any(1), f"has an atom that is none of {list(elements or self.elements)}")
        return hot.float()

    def space(self) -> ZeroCoM:
        """The space that a diffusion of the positions lives in: their centre of mass is zero."""
        from ...core.spaces import ZeroCoM

        return ZeroCoM(self.mask)

    def __getitem__(self, index: Any) -> Atoms:
        """Some of the molecules: a slice, a list or tensor of numbers, a bool mask, or one number (a set of one)."""
        return replace(self, **chosen(self, index, _TENSORS))

    def to_mols(self, *, bonds: Literal["given", "perceive", "none"] = "given", sanitise: bool = True) -> list[Any]:
        """RDKit molecules with a conformer each.

        A molecule without any hydrogen atom gets the implied ones of its bonds; in every other all hydrogens are atoms.

        Args:
            bonds: ``"given"`` (those of the file; error where there are none), ``"perceive"`` (RDKit's DetermineBonds
                by distances and the total charge; None where it finds no molecule), or ``"none"`` (atoms only).
            sanitise: check the chemistry of given bonds.

        Raises:
            ValueError: ``"given"`` without bonds, or bonds that are no possible molecule.
        """
        if bonds not in ("given", "perceive", "none"):
            raise ValueError(f"bonds must be 'given', 'perceive' or 'none', got {bonds!r}")
        if bonds == "given" and self.bonds is None:
            raise ValueError("these atoms have no bonds: ask for bonds='perceive' (by distances) or 'none'")
        Chem = chem()
        out: list[Any] = []
        with quiet():
            for b in range(len(self)):
                there = self.mask[b].nonzero().flatten()
                charges = self.charges[b, there].tolist()
                atoms = list(zip(self.numbers[b, there].tolist(), charges, strict=True))
                known = self.bonds if bonds == "given" else None
                a = np.zeros((len(there),) * 2) if known is None else known[b][there][:, there].numpy()
                heavy_only = bonds == "given" and all(number != 1 for number, _ in atoms)
                mol = build(atoms, a, "implicit" if heavy_only else "explicit")
                conformer = Chem.Conformer(len(there))
                conformer.SetPositions(self.positions[b, there].double().numpy())
                conformer.Set3D(True)
                mol.AddConformer(conformer, assignId=True)
                if bonds == "given" and sanitise:
                    try:
                        Chem.SanitizeMol(mol)
                    except Chem.MolSanitizeException as error:
                        raise ValueError(f"molecule {b} (id {self.ids[b]!r}): {error}") from error
                out.append(_perceived(mol, sum(charges)) if bonds == "perceive" else mol)
        return out

    def save(self, path: str | Path) -> Path:
        """Write an ``.npz``, whole or not at all; :meth:`load` reads it back.

        Raises:
            ValueError: another suffix. TypeError: ids that are no numbers, text or None.
        """
        arrays = {k: getattr(self, k).numpy() for k in _TENSORS if getattr(self, k) is not None}
        arrays |= packed_ids(self.ids)
        if self.smiles is not None:
            arrays["smiles"] = np.asarray(self.smiles)
        arrays |= {f"property/{k}": v.numpy() for k, v in self.properties.items()}
        return save_arrays(path, _KIND, arrays)

    @classmethod
    def load(cls, path: str | Path) -> Atoms:
        """What :meth:`save` wrote.

        Raises:
            FileNotFoundError: no such file. ValueError: damaged, or another content.
        """
        arrays = load_arrays(path, _KIND)
        parts: dict[str, Any] = {k: torch.from_numpy(v) for k, v in arrays.items() if k in _TENSORS}
        parts["ids"] = unpacked_ids(arrays)
        if "smiles" in arrays:
            parts["smiles"] = tuple(arrays["smiles"].tolist())
        named = {k.removeprefix("property/"): torch.from_numpy(v) for k, v in arrays.items() if "/" in k}
        return cls(**parts, properties=named)

    def to_pyg(self) -> list[Any]:
        """``torch_geometric.data.Data`` objects; see :func:`.pyg.atoms_to_pyg`."""
        from .pyg import atoms_to_pyg

        return atoms_to_pyg(self)

    @classmethod
    def from_pyg(cls, data: Iterable[Any], **more: Any) -> Atoms:
        """Atoms of ``torch_geometric.data.Data``; see :func:`.pyg.atoms_from_pyg` for ``bonds, properties, units,
        errors``."""
        from .pyg import atoms_from_pyg

        return atoms_from_pyg(data, **more)

    def to_sdf(self, path: str | Path, *, complete: bool = False) -> Path:
        """Write an SDF (``.gz`` by the name) with the bonds there are; see :func:`.sdf.write_sdf`."""
        from .sdf import write_sdf

        return write_sdf(self, path, complete=complete)

    def to_xyz(self, path: str | Path) -> Path:
        """Write an XYZ, extended by the properties there are; see :func:`.xyz.write_xyz`."""
        from .xyz import write_xyz

        return write_xyz(self, path)

    @classmethod
    def from_mols(
        cls,
        mols: Iterable[Any],
        *,
        ids: Sequence[Any] | None = None,
        properties: dict[str, Any] | None = None,
        units: Units | None = None,
        errors: Errors = "raise",
        source: str = "the molecules",
    ) -> Atoms:
        """Atoms of RDKit molecules, with the positions of their first conformer and kekulised bonds.

        Args:
            mols: with hydrogens as atoms where there are some. ids: one a molecule. properties: numbers by name.
            units: None checks that they are Å. errors: ``"skip"`` leaves bad ones out. source: for the messages.

        Raises:
            ValueError: no molecule, no conformer, a flat drawing, distances that are not in Å, bonds without an order,
                hydrogens of which only some are atoms, or not one id and property a molecule.
        """
        mols = list(mols)
        check_lengths(len(mols), "molecules", {"ids": ids, **(properties or {})})
        problems = Problems(errors, source)
        found, rows, smiles = [], [], []
        with quiet():
            for row, mol in enumerate(mols):
                with problems.at(f"molecule {row if ids is None else ids[row]!r}"):
                    check_mol(mol)
                    if mol.GetNumConformers() == 0:
                        raise ValueError("a molecule without coordinates")
                    check_not_flat(mol)
                    _check_hydrogen_atoms(mol)
                    a, atoms, _ = _arrays(mol, "implicit" if _implied(mol) else "explicit")
                    numbers, charges = (np.array(t) for t in zip(*atoms, strict=True))
                    found.append((numbers, charges, converted(mol.GetConformer().GetPositions(), units), a))
                    smiles.append(chem().MolToSmiles(chem().RemoveHs(mol)))
                    rows.append(row)
        problems.done(len(found))
        take = np.array(rows)
        return stack_atoms(
            found,
            ids=tuple(rows) if ids is None else tuple(ids[r] for r in rows),
            smiles=tuple(smiles),
            properties={k: np.asarray(v, dtype=np.float64)[take] for k, v in (properties or {}).items()},
        )


def _implied(mol: Any) -> bool:
    """Whether some hydrogens are no atoms."""
    return any(atom.GetTotalNumHs() for atom in mol.GetAtoms())


def _check_hydrogen_atoms(mol: Any) -> None:
    if _implied(mol) and any(atom.GetAtomicNum() == 1 for atom in mol.GetAtoms()):
        raise ValueError(
            "some hydrogens are atoms and others are implied (polar hydrogens only?): add them with their coordinates, "
            "or remove them all"
        )


def _perceived(mol: Any, charge: int) -> Any:
    """The molecule with bonds by distances, or None."""
    try:
        mol = chem().Mol(mol)
        for atom in mol.GetAtoms():
            atom.SetFormalCharge(0)
        rdkit("Chem.rdDetermineBonds").DetermineBonds(mol, charge=charge)
        chem().SanitizeMol(mol)
    except (ValueError, RuntimeError):  # RDKit's own exceptions are ValueErrors
        return None
    return mol


def stack_atoms(
    parts: Sequence[tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray | None]],
    *,
    ids: tuple[Any, ...] = (),
    smiles: tuple[str, ...] | None = None,
    properties: dict[str, np.ndarray] | None = None,
) -> Atoms:
    """Pad numbers (n,), charges (n,), positions (n, 3) in Å and bonds (n, n) of many molecules."""
    size, n = len(parts), max(len(p[0]) for p in parts)
    positions = np.zeros((size, n, 3), dtype=np.float32)
    numbers, charges = np.zeros((size, n), dtype=np.uint8), np.zeros((size, n), dtype=np.int8)
    mask = np.zeros((size, n), dtype=bool)
    bonds = np.zeros((size, n, n), dtype=np.uint8) if all(p[3] is not None for p in parts) else None
    for b, (z, q, x, a) in enumerate(parts):
        k = len(z)
        numbers[b, :k], positions[b, :k], mask[b, :k] = z, x, True
        if q is not None:
            charges[b, :k] = q
        if bonds is not None and a is not None:
            bonds[b, :k, :k] = a
    return Atoms(
        torch.from_numpy(positions),
        torch.from_numpy(numbers),
        torch.from_numpy(charges),
        torch.from_numpy(mask),
        None if bonds is None else torch.from_numpy(bonds),
        ids,
        smiles,
        {k: torch.from_numpy(np.array(v, dtype=np.float64)) for k, v in (properties or {}).items()},
    )
