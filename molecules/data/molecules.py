r"""Molecules to graphs and back, and where the way is not exact.

**There.** The molecule is kekulised: aromatic rings get alternating single and double bonds, so that every bond has an
order 1, 2 or 3. A node is an atom of a type of the vocabulary, which is an element and a formal charge.

**Back.** The atoms and bonds are put together, and RDKit's valence model fills the hydrogens in (``hydrogens =
"implicit"``) or must find them among the nodes (``"explicit"``: a missing one is a radical, never silently added).
Aromaticity is perceived again, and the SMILES is canonical, without stereo and isotopes.

**What has no place in such a graph**: radicals, and hydrogens beyond the default valence (``C[PH4]``) would come back
as another molecule, so they are refused, by comparing the hydrogens of every atom there and back; aromatic systems that
cannot be kekulised and bonds that are not single, double or triple are refused, too. Stereo and isotopes are dropped,
which :class:`.Standardise` counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch

from ...core.problems import Errors, Problems
from .extras import chem, quiet
from .graphs import Graphs, Hydrogens, check_lengths, stack
from .vocabulary import parse_type, parse_vocabulary, sort_types

__all__ = ["build", "check_mol", "chemistry_problems", "from_mols", "place", "to_mols", "to_smiles"]


def chemistry_problems(mol: Any) -> str:
    """What RDKit finds wrong with the chemistry of an unsanitised molecule, as one line."""
    found = [problem.Message() for problem in chem().DetectChemistryProblems(mol)]
    if not found:
        return "RDKit cannot sanitise it"
    return "; ".join(found) + (" (atoms counted from 0)" if "atom" in found[0] else "")


def place(atom: Any) -> str:
    """An RDKit atom as messages name it, ``"atom 0 (C; counted from 0)"``: rows and lines are counted from 1."""
    return f"atom {atom.GetIdx()} ({atom.GetSymbol()}; counted from 0)"


def check_mol(mol: Any) -> None:
    """Refuse what is no sanitised RDKit molecule with an atom.

    Raises:
        ValueError: something else (it is shown), no atom, or not sanitised.
    """
    if not isinstance(mol, chem().Mol):
        raise ValueError(f"expected an RDKit molecule, got {mol!r} (RDKit gives None for what it cannot read)")
    if mol.GetNumAtoms() == 0:
        raise ValueError("a molecule without atoms")
    if mol.NeedsUpdatePropertyCache():
        raise ValueError("an unsanitised molecule, whose hydrogens are not known: Chem.SanitizeMol it first")


def _arrays(mol: Any, hydrogens: Hydrogens) -> tuple[np.ndarray, list[tuple[int, int]], Any]:
    """Bond orders (n, n), the (number, charge) of each atom, and the kekulised molecule."""
    Chem = chem()
    check_mol(mol)
    mol = Chem.Mol(mol)
    try:
        Chem.Kekulize(mol, clearAromaticFlags=True)
    except Chem.KekulizeException as error:
        raise ValueError(f"aromatic bonds that cannot be kekulised: {str(error).strip()}") from error
    except (Chem.MolSanitizeException, RuntimeError) as error:
        raise ValueError(f"cannot be kekulised: {error}") from error
    order = {Chem.BondType.SINGLE: 1, Chem.BondType.DOUBLE: 2, Chem.BondType.TRIPLE: 3}
    n = mol.GetNumAtoms()
    a = np.zeros((n, n), dtype=np.uint8)
    for bond in mol.GetBonds():
        kind = bond.GetBondType()
        if kind not in order:
            raise ValueError(f"a bond of type {kind}: only single, double and triple bonds have a place in the graph")
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        a[i, j] = a[j, i] = order[kind]
    atoms = []
    for atom in mol.GetAtoms():
        if atom.GetAtomicNum() == 0:
            raise ValueError(f"{place(atom)} is no element but a wildcard ('*', 'R')")
        if atom.GetNumRadicalElectrons():
            raise ValueError(
                f"a radical at {place(atom)}, which a graph of types and bonds cannot "
                "hold; with radicals='fill' Standardise adds hydrogens"
            )
        if hydrogens == "explicit" and atom.GetTotalNumHs():
            raise ValueError(f"hydrogens='explicit', but {place(atom)} has some that are no atoms")
        atoms.append((atom.GetAtomicNum(), atom.GetFormalCharge()))
    if hydrogens == "implicit" and any(z == 1 for z, _ in atoms) and any(z != 1 for z, _ in atoms):
        raise ValueError(
            "hydrogens='implicit', but some hydrogens are atoms: with hydrogens='implicit' Standardise removes them"
        )
    return a, atoms, mol


def build(atoms: Sequence[tuple[int, int]], a: np.ndarray, hydrogens: Hydrogens = "implicit") -> Any:
    """The unsanitised RDKit molecule of atoms (atomic number, charge) and bond orders (n, n) 0..3."""
    Chem = chem()
    orders = (None, Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE)
    mol = Chem.RWMol()
    for number, charge in atoms:
        atom = Chem.Atom(number)
        atom.SetFormalCharge(charge)
        atom.SetNoImplicit(hydrogens == "explicit")
        mol.AddAtom(atom)
    for i, j in zip(*np.triu(a, 1).nonzero(), strict=True):
        mol.AddBond(int(i), int(j), orders[int(a[i, j])])
    return mol.GetMol()


def _check_hydrogens(mol: Any, atoms: list[tuple[int, int]], a: np.ndarray, hydrogens: Hydrogens) -> None:
    """Refuse a molecule that would come back with other hydrogens."""
    Chem = chem()
    back = build(atoms, a, hydrogens)
    if Chem.SanitizeMol(back, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
        raise ValueError(f"the graph of it is no molecule: {chemistry_problems(build(atoms, a, hydrogens))}")
    for there, here in zip(mol.GetAtoms(), back.GetAtoms(), strict=True):
        came, went = here.GetTotalNumHs(), there.GetTotalNumHs()
        if came != went or here.GetNumRadicalElectrons():
            raise ValueError(
                f"{place(there)} has {went} hydrogens, its default valence gives {came}: "
                "a graph of types and bonds cannot say so"
            )


def from_mols(
    mols: Iterable[Any],
    vocabulary: str | Sequence[str] | None = None,
    *,
    max_atoms: int | None = None,
    hydrogens: Hydrogens = "implicit",
    stereo: bool = False,
    ids: Sequence[Any] | None = None,
    properties: dict[str, Any] | None = None,
    errors: Errors = "raise",
    names: Sequence[str] | None = None,
    source: str = "the molecules",
) -> Graphs:
    """Graphs of RDKit molecules.

    Args:
        mols: sanitised molecules; those of a user go through :class:`.Standardise` first.
        vocabulary: ``"CNOF"``, or a sequence of types with charges; default: all that occur, neutral ones first.
        max_atoms: the largest molecule that is taken. hydrogens: see :class:`.Graphs`; must fit the molecules.
        stereo: whether ``smiles`` of the graphs have the marks of the molecules, for which a graph has no place.
        ids: one a molecule. properties: one number a molecule each.
        errors: ``"skip"`` leaves molecules out that have no place in a graph, and names them.
        names: where each stood, for the messages; default ``"molecule <id>"``. source: what they call the input.

    Raises:
        ValueError: see the module; an atom type outside the vocabulary; more than ``max_atoms`` atoms; not one id, name
            and property a molecule.
    """
    Chem = chem()
    mols = list(mols)
    check_lengths(len(mols), "molecules", {"ids": ids, "names": names, **(properties or {})})
    wanted = None if vocabulary is None else {parse_type(t): i for i, t in enumerate(parse_vocabulary(vocabulary))}
    problems = Problems(errors, source)
    found: list[tuple[np.ndarray, list[tuple[int, int]]]] = []
    rows, smiles = [], []
    with quiet():
        for row, mol in enumerate(mols):
            where = names[row] if names is not None else f"molecule {row if ids is None else ids[row]!r}"
            with problems.at(where):
                a, atoms, kekule = _arrays(mol, hydrogens)
                if max_atoms is not None and len(atoms) > max_atoms:
                    raise ValueError(f"{len(atoms)} atoms, max_atoms={max_atoms}")
                unknown = sorted(set(atoms) - set(wanted)) if wanted is not None else []
                if unknown:
                    raise ValueError(
                        f"atom type {', '.join(sort_types(unknown))} outside the vocabulary {_words(vocabulary)}; "
                        "charged atoms are types of their own, as 'N+'"
                    )
                _check_hydrogens(kekule, atoms, a, hydrogens)
                heavy = Chem.RemoveHs(mol) if hydrogens == "explicit" else mol
                smiles.append(Chem.MolToSmiles(heavy, isomericSmiles=stereo))
                found.append((a, atoms))
                rows.append(row)
    problems.done(len(found))
    types = parse_vocabulary(vocabulary) if vocabulary is not None else sort_types(t for _, ts in found for t in ts)
    index = {parse_type(t): i for i, t in enumerate(types)}
    A, mask, kinds = stack([(a, np.array([index[t] for t in atoms])) for a, atoms in found])
    take = torch.as_tensor(rows)
    return Graphs(
        A,
        mask,
        kinds,
        types,
        hydrogens,
        ids=tuple(rows) if ids is None else tuple(ids[r] for r in rows),
        smiles=tuple(smiles),
        properties={k: torch.as_tensor(np.asarray(v, dtype=np.float64))[take] for k, v in (properties or {}).items()},
    )


def _words(vocabulary: str | Sequence[str] | None) -> str:
    return " ".join(parse_vocabulary(vocabulary or ()))


def to_mols(graphs: Graphs, *, sanitise: bool = True, errors: Literal["raise", "none"] = "raise") -> list[Any]:
    """RDKit molecules of the graphs, in their order.

    Args:
        graphs: molecules (``hydrogens`` is set).
        sanitise: False gives the atoms and bonds as they are, for a validity protocol to look at.
        errors: ``"none"`` puts None where a graph is no molecule; a model's samples are asked in this way.

    Raises:
        ValueError: no molecules, or a graph that RDKit cannot sanitise.
    """
    if graphs.hydrogens is None or graphs.types is None or graphs.vocabulary is None:
        raise ValueError("these graphs are no molecules: they have no atom types (hydrogens=None)")
    if errors not in ("raise", "none"):
        raise ValueError(f"errors must be 'raise' or 'none', got {errors!r}")
    Chem = chem()
    pairs = [parse_type(t) for t in graphs.vocabulary]
    A, mask, types = graphs.A.numpy(), graphs.mask.numpy(), graphs.types.numpy()
    out: list[Any] = []
    with quiet():
        for b in range(len(graphs)):
            there = mask[b].nonzero()[0]
            atoms = [pairs[t] for t in types[b, there]]
            mol = build(atoms, A[b][np.ix_(there, there)], graphs.hydrogens)
            if sanitise and Chem.SanitizeMol(mol, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
                if errors == "raise":
                    fresh = build(atoms, A[b][np.ix_(there, there)], graphs.hydrogens)
                    raise ValueError(
                        f"graph {b} (id {graphs.ids[b]!r}) is no molecule: {chemistry_problems(fresh)} "
                        "(errors='none' gives None instead)"
                    )
                mol = None
            out.append(mol)
    return out


def to_smiles(graphs: Graphs, *, errors: Literal["raise", "none"] = "raise") -> list[str | None]:
    """Canonical SMILES of the graphs, hydrogens removed; arguments and errors as :func:`to_mols`."""
    Chem = chem()
    out: list[str | None] = []
    with quiet():
        for mol in to_mols(graphs, errors=errors):
            if mol is not None and graphs.hydrogens == "explicit":
                mol = Chem.RemoveHs(mol)
            out.append(None if mol is None else Chem.MolToSmiles(mol))
    return out
