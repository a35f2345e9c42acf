"""What models of molecules in space sample: atoms with positions, the molecules they are, and how good they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from ...core.scores import Score
from ..chem import build, canonical
from ..data.atoms import Atoms
from ..data.extras import chem, quiet
from ..metrics.stability import VALENCES, bond_orders, stability
from ..metrics.uncertainty import share
from ..metrics.validity import uniqueness, validity
from ..samples import in_words

__all__ = ["AtomSamples", "molecules_in"]


def molecules_in(atoms: Atoms) -> tuple[Tensor, list[Any]]:
    """Bond orders by EDM's distances (B, N, N) uint8, and sanitised molecules with a conformer, or None.

    Raises:
        ValueError: elements of which no bond lengths are known.
    """
    orders = bond_orders(atoms.numbers.numpy(), atoms.positions.numpy(), atoms.mask.numpy())
    Chem = chem()
    mols: list[Any] = []
    with quiet():
        for b, mask in enumerate(atoms.mask.numpy()):
            mol = build(atoms.numbers[b].numpy()[mask], orders[b][mask][:, mask], charge=False)
            for atom in mol.GetAtoms():
                atom.SetNoImplicit(True)  # every hydrogen is an atom
            try:
                Chem.SanitizeMol(mol)
            except Chem.MolSanitizeException:
                mols.append(None)
                continue
            conformer = Chem.Conformer(int(mask.sum()))
            conformer.SetPositions(atoms.positions[b].double().numpy()[mask])
            conformer.Set3D(True)
            mol.AddConformer(conformer, assignId=True)
            mols.append(mol.GetMol())
    return torch.from_numpy(orders).to(torch.uint8), mols


@dataclass(frozen=True)
class AtomSamples:
    """What models of molecules in space sample.

    Attributes:
        atoms: the samples: positions in Å, elements, bonds by distance (EDM's lengths).
        mols: for each the molecule of these bonds, sanitised, all hydrogens atoms, with a conformer; None where RDKit
            refuses. None of all where bond lengths of an element are not known.
        smiles: canonical SMILES without hydrogens, of several fragments with dots; None as ``mols``.
        report: atom and molecule stability (EDM), valid, in one piece (``connected_edm``), unique, by name. A heap of
            atoms too far apart for any bond is valid, too: stability and connectedness say more.
        info: model, sampler, steps, seed, network calls, guidance_scale, steering.
        x, h, mask: the samples as they were sampled, (n, N, 3), (n, N, F), (n, N).
        records: what steering recorded.
    """

    atoms: Atoms
    mols: list[Any] | None
    smiles: list[str | None] | None
    report: dict[str, Score]
    info: dict[str, Any]
    x: Tensor = field(repr=False)
    h: Tensor = field(repr=False)
    mask: Tensor = field(repr=False)
    records: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        atoms: Atoms,
        x: dict[str, Tensor],
        info: dict[str, Any],
        records: dict[str, Any],
        properties: Mapping[str, Tensor],
    ) -> Self:
        """Judge samples."""
        mols = smiles = None
        report: dict[str, Score] = {}
        atoms = replace(atoms, properties=dict(properties))
        if set(atoms.numbers[atoms.mask].tolist()) <= set(VALENCES):
            bonds, mols = molecules_in(atoms)
            atoms = replace(atoms, bonds=bonds)
            with quiet():
                smiles = [None if mol is None else canonical(chem().RemoveHs(mol)) for mol in mols]
            report = stability(atoms)
            report["valid_rdkit"] = validity(smiles)
            whole = sum(s is not None and "." not in s for s in smiles)
            text = "bonds by EDM's lengths and margins sanitise, in one piece"
            report["connected_edm"] = share("connected_edm", whole, len(smiles), text)
            if any(smiles):
                unique = uniqueness(smiles)
                report[unique.name] = unique
        return cls(atoms, mols, smiles, report, info, x["x"], x["h"], atoms.mask, records)

    def __repr__(self) -> str:
        known = "" if self.smiles is None else f", {sum(s is not None for s in self.smiles)} with a molecule"
        return f"AtomSamples({len(self)}{known}, {self.atoms!r}{in_words(self.report)})"

    def __len__(self) -> int:
        return len(self.atoms)

    def write(self, path: str | Path) -> Path:
        """Write ``.sdf`` (positions and bonds) or ``.xyz`` (positions), also ``.gz``; ``.npz`` reads back as Atoms.

        Raises:
            ValueError: another suffix.
        """
        path = Path(path)
        name = path.name.lower().removesuffix(".gz")
        if name.endswith((".sdf", ".sd")):
            return self.atoms.to_sdf(path, complete=True)  # every hydrogen is an atom
        if name.endswith((".xyz", ".extxyz")):
            return self.atoms.to_xyz(path)
        if name.endswith(".npz"):
            return self.atoms.save(path)
        raise ValueError(f"samples are written as .sdf, .xyz or .npz, got {path.name!r}")
