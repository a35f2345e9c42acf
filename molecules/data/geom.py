"""GEOM (Axelrod and Gómez-Bombarelli, "GEOM, energy-annotated molecular conformations", Sci. Data 2022).

Each molecule has many conformers with a Boltzmann weight. Two layouts:

- ``drugs_crude.msgpack``, ``qm9_crude.msgpack``: maps from SMILES to ``{"conformers": [{"xyz": [[Z, x, y, z], ...],
  "boltzmannweight": w, "totalenergy": E, ...}], ...}``, some thousand molecules a map; Å and Hartree;
- ``rdkit_folder``: ``summary_drugs.json`` and a pickle a molecule, ``{"smiles": ..., "conformers": [{"rd_mol": mol,
  "boltzmannweight": w, ...}], ...}``, with bonds. A pickle can run code: see :mod:`.pickles`.

**Which conformers.** They are in no reliable order in the files. ``conformers`` says how many are taken, by falling
Boltzmann weight; 1 is the most probable one. EDM takes 30 a molecule, by rising energy, which is the same order but for
the degeneracies.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...core.files import existing
from ...core.problems import Errors, Problems
from .atoms import Atoms, converted, stack_atoms
from .extras import chem
from .files import read_text
from .molecules import _arrays
from .msgpack import values
from .pickles import RDKIT, restricted

__all__ = ["read_geom"]

_Part = tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray | None]


def read_geom(
    path: str | Path,
    *,
    conformers: int = 1,
    limit: int | None = None,
    allow_pickle: bool = False,
    errors: Errors = "raise",
) -> Atoms:
    """Conformers of either layout.

    Args:
        path: the ``.msgpack`` (``.gz``), the ``summary_*.json`` of an ``rdkit_folder``, or one ``.pickle``.
        conformers: how many a molecule at most, by falling Boltzmann weight.
        limit: molecules from the beginning. allow_pickle: for the second layout; refused by default.
        errors: ``"skip"`` leaves bad molecules out and names them.

    Returns:
        one entry a conformer; ids are ``"<SMILES>#<rank>"``; properties ``boltzmannweight`` and ``totalenergy``
        (Hartree); bonds in the second layout.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a pickle without ``allow_pickle``, another content, distances that are not in Å, or nothing left.
    """
    path = existing(path)
    if conformers < 1:
        raise ValueError(f"conformers is the number taken of each molecule, at least 1, got {conformers}")
    if path.name.endswith((".msgpack", ".msgpack.gz")):
        entries = _crude(path)
    elif path.suffix == ".json":
        entries = _folder(path, allow_pickle)
    elif path.suffix in (".pickle", ".pkl"):
        entries = iter([_pickled(path, allow_pickle)])
    else:
        raise ValueError(f"{path.name}: expected a .msgpack, a summary_*.json or a .pickle of GEOM")
    problems = Problems(errors, path.name)
    parts: list[_Part] = []
    ids, smiles, weights, energies = [], [], [], []
    for count, (name, entry) in enumerate(entries):
        if limit is not None and count >= limit:
            break
        with problems.at(f"molecule {name!r}"):
            found = entry.get("conformers") if isinstance(entry, dict) else None
            if not isinstance(found, list) or not found:
                raise ValueError("no conformers")
            ranked = sorted(found, key=lambda c: -float(c.get("boltzmannweight", 0.0)))[:conformers]
            mine = [_part(c) for c in ranked]
            for rank, (part, conformer) in enumerate(zip(mine, ranked, strict=True)):
                parts.append(part)
                ids.append(f"{name}#{rank}")
                smiles.append(name)
                weights.append(float(conformer.get("boltzmannweight", np.nan)))
                energies.append(float(conformer.get("totalenergy", np.nan)))
    problems.done(len(parts))
    numbers = {"boltzmannweight": np.array(weights), "totalenergy": np.array(energies)}
    return stack_atoms(parts, ids=tuple(ids), smiles=tuple(smiles), properties=numbers)


def _crude(path: Path) -> Iterator[tuple[str, Any]]:
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        for batch in values(file):
            if not isinstance(batch, dict):
                raise ValueError(f"{path.name}: expected maps from SMILES to conformers, got {type(batch).__name__}")
            yield from batch.items()


def _folder(path: Path, allow_pickle: bool) -> Iterator[tuple[str, Any]]:
    summary = json.loads(read_text(path))
    if not isinstance(summary, dict):
        raise ValueError(f"{path.name}: expected a map from SMILES to what is known of the molecule")
    root = path.parent.resolve()
    for name, about in summary.items():
        if isinstance(about, dict) and "pickle_path" in about:
            target = (root / str(about["pickle_path"])).resolve()
            if not target.is_relative_to(root):
                raise ValueError(f"{path.name}: {about['pickle_path']!r} leads out of its folder")
            yield name, _pickled(target, allow_pickle)[1]


def _pickled(path: Path, allow_pickle: bool) -> tuple[str, Any]:
    entry = restricted(path, RDKIT, allow_pickle=allow_pickle, what="GEOM's dictionaries of RDKit molecules")
    if not isinstance(entry, dict):
        raise ValueError(f"{path.name}: expected a dictionary with 'conformers', got {type(entry).__name__}")
    return str(entry.get("smiles", path.stem)), entry


def _part(conformer: dict[str, Any]) -> _Part:
    """Numbers, charges, positions and bonds of one conformer."""
    if "rd_mol" in conformer:
        mol = conformer["rd_mol"]
        if not isinstance(mol, chem().Mol) or mol.GetNumConformers() == 0:
            raise ValueError("rd_mol is no RDKit molecule with coordinates")
        bonds, atoms, _ = _arrays(mol, "explicit")
        numbers, charges = (np.array(t) for t in zip(*atoms, strict=True))
        return numbers, charges, converted(mol.GetConformer().GetPositions(), None), bonds
    xyz = np.asarray(conformer.get("xyz", ()), dtype=float)
    if xyz.ndim != 2 or xyz.shape[1] != 4:
        raise ValueError(f"xyz must be rows of [atomic number, x, y, z], got shape {xyz.shape}")
    return xyz[:, 0].astype(int), None, converted(xyz[:, 1:], None), None
