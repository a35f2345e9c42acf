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
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...core.files import existing
from ...core.problems import Errors, Problems
from .atoms import Atoms, converted, stack_atoms
from .extras import chem
from .files import check_limit, read_text
from .molecules import _arrays
from .msgpack import values
from .pickles import RDKIT, restricted
from .vocabulary import atomic_numbers

__all__ = ["read_geom"]

_Part = tuple[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray | None]
_Entries = Iterator[tuple[Any, Callable[[], Any]]]  # the SMILES, and what reads the conformers


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
        errors: ``"skip"`` leaves bad molecules out and names them; a molecule is left out with all its conformers.

    Returns:
        one entry a conformer; ids are ``"<SMILES>#<rank>"``; properties ``boltzmannweight`` and ``totalenergy``
        (Hartree); bonds in the second layout.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a pickle without ``allow_pickle``, a damaged file, another content, a pickle of the folder that is
            not there, an atom that is no element, distances that are not in Å, or nothing left.
    """
    path = existing(path)
    check_limit(limit)
    if conformers < 1:
        raise ValueError(f"conformers is the number taken of each molecule, at least 1, got {conformers}")
    if path.name.endswith((".msgpack", ".msgpack.gz")):
        entries = _crude(path)
    elif path.suffix == ".json":
        entries = _folder(path, allow_pickle)
    elif path.suffix in (".pickle", ".pkl"):
        single, entry = _pickled(path, allow_pickle)
        entries = iter([(single, partial(_same, entry))])
    else:
        raise ValueError(f"{path.name}: expected a .msgpack, a summary_*.json or a .pickle of GEOM")
    problems = Problems(errors, path.name)
    parts: list[_Part] = []
    ids, smiles, weights, energies = [], [], [], []
    for count, (name, entry_of) in enumerate(entries):
        if limit is not None and count >= limit:
            break
        with problems.at(f"molecule {name!r}"):
            if not isinstance(name, str):
                raise ValueError(f"expected the SMILES as text, got {type(name).__name__}")
            ranked = _ranked(entry_of())[:conformers]
            mine = [_part(conformer) for _, _, conformer in ranked]  # all of it is read before any of it is kept
            parts += mine
            ids += [f"{name}#{rank}" for rank in range(len(mine))]
            smiles += [name] * len(mine)
            weights += [weight for weight, _, _ in ranked]
            energies += [energy for _, energy, _ in ranked]
    problems.done(len(parts))
    numbers = {"boltzmannweight": np.array(weights), "totalenergy": np.array(energies)}
    return stack_atoms(parts, ids=tuple(ids), smiles=tuple(smiles), properties=numbers)


def _ranked(entry: Any) -> list[tuple[float, float, dict[str, Any]]]:
    """Boltzmann weight, energy and content of each conformer, by falling weight; those without one come last."""
    found = entry.get("conformers") if isinstance(entry, dict) else None
    if not isinstance(found, list) or not found:
        raise ValueError("no conformers")
    odd = [conformer for conformer in found if not isinstance(conformer, dict)]
    if odd:
        raise ValueError(f"expected each conformer as a dictionary, got {type(odd[0]).__name__}")
    read = [(_number(c, "boltzmannweight"), _number(c, "totalenergy"), c) for c in found]
    return sorted(read, key=lambda c: np.inf if np.isnan(c[0]) else -c[0])


def _number(conformer: dict[str, Any], key: str) -> float:
    value = conformer.get(key, np.nan)
    try:
        return float(value)
    except (ValueError, TypeError):
        raise ValueError(f"{key} must be a number, got {value!r}") from None


def _crude(path: Path) -> _Entries:
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            for batch in values(file):
                if not isinstance(batch, dict):
                    raise ValueError(f"expected maps from SMILES to conformers, got {type(batch).__name__}")
                for name, entry in batch.items():
                    yield name, partial(_same, entry)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path.name} is damaged, or no gzip file: {error}; fetch it again") from error
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def _same(entry: Any) -> Any:
    return entry


def _folder(path: Path, allow_pickle: bool) -> _Entries:
    try:
        summary = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path.name} is no JSON: {error}") from error
    if not isinstance(summary, dict):
        raise ValueError(f"{path.name}: expected a map from SMILES to what is known of the molecule")
    root = path.parent.resolve()
    for name, about in summary.items():
        if isinstance(about, dict) and "pickle_path" in about:
            yield name, partial(_inside, root, str(about["pickle_path"]), allow_pickle)


def _inside(root: Path, place: str, allow_pickle: bool) -> Any:
    """The pickle at a place of the folder."""
    target = (root / place).resolve()
    if not target.is_relative_to(root):
        raise ValueError(f"{place!r} leads out of its folder")
    if not target.is_file():
        raise ValueError(f"no file {place}")
    return _pickled(target, allow_pickle)[1]


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
    try:
        xyz = np.asarray(conformer.get("xyz", ()), dtype=float)
    except (ValueError, TypeError) as error:
        raise ValueError(f"xyz must be rows of [atomic number, x, y, z]: {error}") from error
    if xyz.ndim != 2 or xyz.shape[1] != 4:
        raise ValueError(f"xyz must be rows of [atomic number, x, y, z], got shape {xyz.shape}")
    return atomic_numbers(xyz[:, 0]), None, converted(xyz[:, 1:], None), None
