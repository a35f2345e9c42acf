"""Reactions: tables of reaction SMILES ``reactants>reagents>products``, as the USPTO sets are written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.problems import Errors, Problems
from .extras import chem, quiet
from .standardise import parse_smiles
from .tables import read_table

__all__ = ["Reaction", "read_reactions"]

_COLUMNS = ("reactants>reagents>production", "rxn_smiles", "reaction_smiles", "reactions", "rxnsmiles", "smiles")


@dataclass(frozen=True)
class Reaction:
    """One reaction, its molecules as canonical SMILES with stereo and without atom maps.

    Attributes:
        reactants, reagents, products: one string a molecule. mapped: the reaction SMILES as the file has it.
        id: its name, or the row. label: the reaction class of USPTO-50k (1..10), or None.
    """

    reactants: tuple[str, ...]
    reagents: tuple[str, ...]
    products: tuple[str, ...]
    mapped: str
    id: Any
    label: int | None = None


def _side(text: str) -> tuple[str, ...]:
    """The molecules of one side. Parenthesised groups of fragments are not used by these files."""
    if not text:
        return ()
    mol = parse_smiles(text)
    for atom in mol.GetAtoms():
        atom.SetAtomMapNum(0)
    Chem = chem()
    whole = Chem.MolFromSmiles(Chem.MolToSmiles(mol))  # without maps, equal neighbours are no stereo centre any more
    if whole is None:
        raise ValueError(f"{text!r} is no possible molecule without its atom maps")
    return tuple(Chem.MolToSmiles(whole).split("."))


def _split(text: str) -> Iterator[str]:
    parts = text.strip().split(" ")[0].split(">")  # behind a blank: ChemAxon's extensions
    if len(parts) != 3:
        raise ValueError(f"{text[:60]!r} is no reaction: expected reactants>reagents>products")
    return iter(parts)


def read_reactions(
    path: str | Path, column: str | None = None, *, limit: int | None = None, errors: Errors = "raise"
) -> list[Reaction]:
    """The reactions of a ``.csv`` or ``.tsv``, also with ``.gz``.

    Args:
        path: the file. column: of the reaction SMILES; found by its name when None. ``id`` and ``class`` beside it are
            read where they are.
        limit: rows from the beginning. errors: ``"skip"`` leaves bad rows out and names them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no table (see :func:`.tables.read_table`), no such column, a row that is no reaction or has no
            product or reactant, or nothing left.
    """
    path = Path(path)
    table = read_table(path, limit=limit)
    names = [str(c) for c in table.columns]
    lower = {n.lower(): n for n in names}
    found = column if column is not None else next((lower[c] for c in _COLUMNS if c in lower), None)
    if found is None or found not in names:
        raise ValueError(f"{path.name}: no column of reactions {found or list(_COLUMNS)}; it has {names}")
    ids = table[lower["id"]].tolist() if "id" in lower else list(range(1, len(table) + 1))
    labels = table[lower["class"]].tolist() if "class" in lower else [None] * len(table)
    problems = Problems(errors, path.name)
    out = []
    with quiet():
        for row, text in enumerate(table[found].tolist()):
            with problems.at(f"row {row + 1}"):
                if not isinstance(text, str):
                    raise ValueError(f"expected a reaction SMILES, got {text!r}")
                reactants, reagents, products = map(_side, _split(text))
                if not reactants or not products:
                    raise ValueError(f"{text[:60]!r} has no {'product' if reactants else 'reactant'}")
                label: Any = labels[row]
                label = None if label is None or label != label else int(label)
                out.append(Reaction(reactants, reagents, products, text, ids[row], label))
    problems.done(len(out))
    return out
