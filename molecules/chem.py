r"""Chemistry of one molecule: properties, valences, and the correction protocol of GDSS.

*Properties.* ``qed`` (Bickerton et al., "Quantifying the chemical beauty of drugs", 2012; RDKit's mean weights),
``logp`` (Wildman and Crippen, 1999), ``sa_score`` (Ertl and Schuffenhauer, "Estimation of synthetic accessibility
score", 2009: 1 = easy .. 10 = hard; the fragment table that RDKit ships in Contrib), ``weight`` in g/mol. All take a
sanitised molecule and give a float, so that any of them is a reward.

*From a graph to a molecule* (Jo, Lee and Hwang, "Score-based generative modeling of graphs via the system of
stochastic differential equations", 2022, https://arxiv.org/abs/2202.02514, as its published evaluation does it):

1. :func:`build`: bonds are added one by one, i > j, row after row. After each, the first atom that RDKit finds above
   its valence gets the charge +1 if it is N, O or S and exactly one above {N 3, O 2, S 2}. (RDKit allows S 4 and 6, so
   that S is in practice never charged.)
2. *valid without correction*: no atom is above its valence then (:func:`valence_problems` is empty). This says nothing
   of aromaticity, of charge balance, or of connectedness.
3. :func:`correct`: while an atom is above its valence, the highest-order bond of the first such atom is lowered by one
   order (a single bond is removed); of equal bonds the first.
4. :func:`largest_fragment`: of several fragments the one with the *longest SMILES string* is kept. A long string is not
   the most atoms; ``by="atoms"`` is the other choice.

The offending atoms come from ``DetectChemistryProblems``: the words of RDKit's messages are not parsed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from .data.extras import chem as rdkit_chem
from .data.extras import quiet, rdkit

if TYPE_CHECKING:
    from rdkit.Chem import Mol, RWMol

__all__ = [
    "Correction",
    "GraphMolecule",
    "ValenceProblem",
    "build",
    "canonical",
    "correct",
    "largest_fragment",
    "logp",
    "molecule_of",
    "parse",
    "qed",
    "sa_score",
    "valence_problems",
    "weight",
]

_ONIUM = {7: 3, 8: 2, 16: 2}  # atomic number -> valence without a charge
_ORDERS = (1, 2, 3)


# --------------------------------------------------------------------------------------------------------------------
# reading and writing


def parse(smiles: str) -> Mol | None:
    """The sanitised molecule of a SMILES, None where there is none; RDKit's messages are kept quiet.

    Raises:
        TypeError: no string.
    """
    if not isinstance(smiles, str):
        raise TypeError(f"expected a SMILES string, got {type(smiles).__name__}")
    with quiet():
        return rdkit_chem().MolFromSmiles(smiles) if smiles else None


def canonical(molecule: Mol | str, stereo: bool = True) -> str | None:
    """Canonical SMILES (with stereo marks unless ``stereo=False``), None for what does not parse."""
    mol = parse(molecule) if isinstance(molecule, str) else molecule
    return None if mol is None else rdkit_chem().MolToSmiles(mol, isomericSmiles=stereo)


# --------------------------------------------------------------------------------------------------------------------
# properties


def qed(mol: Mol) -> float:
    """Quantitative estimate of drug-likeness, 0 .. 1 (1 = drug-like)."""
    return float(rdkit("Chem.QED").qed(_sanitised(mol)))


def logp(mol: Mol) -> float:
    """Octanol-water partition coefficient, log10, by Crippen's atom contributions."""
    return float(rdkit("Chem.Crippen").MolLogP(_sanitised(mol)))


def sa_score(mol: Mol) -> float:
    """Synthetic accessibility, 1 (easy) .. 10 (hard)."""
    if _sanitised(mol).GetNumAtoms() == 0:
        raise ValueError("the molecule has no atoms: there is no SA score of nothing")
    return float(rdkit("Contrib.SA_Score.sascorer").calculateScore(mol))


def weight(mol: Mol) -> float:
    """Molecular weight with average atomic masses, implicit hydrogens included, g/mol."""
    return float(rdkit("Chem.Descriptors").MolWt(_sanitised(mol)))


def _sanitised(mol: Any) -> Mol:
    if mol is None or isinstance(mol, str):
        came = "None (a SMILES that did not parse?)" if mol is None else f"the string {mol!r}"
        raise TypeError(f"expected an RDKit molecule, got {came}; chem.parse reads SMILES")
    if mol.NeedsUpdatePropertyCache():
        raise ValueError(
            "the molecule is not sanitised: call Chem.SanitizeMol, or read it back by chem.parse(Chem.MolToSmiles(mol))"
        )
    return mol


# --------------------------------------------------------------------------------------------------------------------
# valences and the correction protocol


class ValenceProblem(NamedTuple):
    """An atom above its valence: its index, its atomic number, the sum of its bond orders."""

    atom: int
    number: int
    valence: int


def valence_problems(mol: Mol) -> list[ValenceProblem]:
    """Atoms above the valence that RDKit allows them, in the order of their indices; empty = all is well.

    Args:
        mol: with Kekulé bonds (single, double, triple); it need not be sanitised, and is not changed.
    """
    Chem = rdkit_chem()
    with quiet():
        found = Chem.DetectChemistryProblems(mol, int(Chem.SanitizeFlags.SANITIZE_PROPERTIES))
    out = []
    for problem in found:
        if problem.GetType() == "AtomValenceException":
            atom = mol.GetAtomWithIdx(problem.GetAtomIdx())
            orders = sum(bond.GetBondTypeAsDouble() for bond in atom.GetBonds())
            out.append(ValenceProblem(atom.GetIdx(), atom.GetAtomicNum(), round(orders) + atom.GetNumExplicitHs()))
    return out


def build(numbers: Any, orders: Any, charge: bool = True) -> RWMol:
    """Step 1 of the protocol: a molecule, not sanitised, of atoms and bond orders.

    Args:
        numbers: (N,) atomic numbers; atoms that are not there (0) are dropped with their bonds.
        orders: (N, N) symmetric, whole numbers 0 .. 3; the diagonal counts nowhere.
        charge: whether N, O and S one above their valence become cations.

    Raises:
        ValueError: shapes that do not fit, orders outside 0 .. 3 (aromatic bonds must be Kekulé bonds first), or not
            symmetric, an atomic number outside 0 .. 118.
    """
    z, a = np.asarray(numbers), np.asarray(orders)
    if z.ndim != 1 or a.shape != (len(z), len(z)):
        raise ValueError(f"expected atomic numbers (N,) and bond orders (N, N), got {z.shape} and {a.shape}")
    if len(z) and (z.min() < 0 or z.max() > 118):
        raise ValueError(f"atomic numbers are 1 to 118, 0 where there is no atom; got {z.min()} to {z.max()}")
    if not np.isin(a, (0, *_ORDERS)).all():
        raise ValueError(
            f"bond orders are 0, 1, 2 or 3, got {sorted(set(a.ravel().tolist()) - {0, *_ORDERS})[:5]}; "
            "write aromatic bonds as Kekulé bonds"
        )
    if not (a == a.T).all():
        i, j = np.argwhere(a != a.T)[0]
        raise ValueError(f"the bond orders are not symmetric: {a[i, j]} at ({i}, {j}), {a[j, i]} at ({j}, {i})")
    keep = np.flatnonzero(z)
    z, a = z[keep], a[np.ix_(keep, keep)]
    Chem = rdkit_chem()
    mol = Chem.RWMol()
    for number in z:
        mol.AddAtom(Chem.Atom(int(number)))
    for i, j in np.argwhere(np.tril(a, -1) > 0).tolist():
        mol.AddBond(i, j, _bond(int(a[i, j])))
        if charge:
            for problem in valence_problems(mol)[:1]:
                if problem.valence - _ONIUM.get(problem.number, problem.valence) == 1:
                    mol.GetAtomWithIdx(problem.atom).SetFormalCharge(1)
    return mol


def _bond(order: int) -> Any:
    types = rdkit_chem().BondType
    return (types.SINGLE, types.DOUBLE, types.TRIPLE)[order - 1]


class Correction(NamedTuple):
    """What :func:`correct` gives: the molecule, not sanitised, and how many bond orders it cost."""

    mol: RWMol
    lowered: int


def correct(mol: Mol, held: int = 0) -> Correction:
    """Step 3 of the protocol, on a copy: bonds are lowered until no atom is above its valence.

    Args:
        held: bonds among the first so many atoms are lowered only where there is no other.

    Raises:
        ValueError: an atom above its valence has no bond to lower (its charge or hydrogens alone are too many).
    """
    Chem = rdkit_chem()
    out, lowered = Chem.RWMol(mol), 0
    while problems := valence_problems(out):
        atom = out.GetAtomWithIdx(problems[0].atom)
        bonds = list(atom.GetBonds())
        if not bonds:
            raise ValueError(
                f"atom {atom.GetIdx()} ({atom.GetSymbol()}, charge {atom.GetFormalCharge()}) is above its valence and "
                "has no bond to lower"
            )
        free = [b for b in bonds if max(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) >= held]
        bond = max(free or bonds, key=lambda b: b.GetBondTypeAsDouble())  # of equal ones the first
        i, j, order = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), int(bond.GetBondTypeAsDouble()) - 1
        out.RemoveBond(i, j)
        if order:
            out.AddBond(i, j, _bond(order))
        lowered += 1
    return Correction(out, lowered)


def largest_fragment(mol: Mol, by: Literal["smiles", "atoms"] = "smiles") -> Mol | None:
    """Step 4 of the protocol: the fragment with the longest SMILES (or the most heavy atoms), sanitised.

    Of equal fragments the first in the canonical SMILES. None if the molecule is empty or does not sanitise.

    Raises:
        ValueError: an unknown ``by``.
    """
    if by not in ("smiles", "atoms"):
        raise ValueError(f"by must be 'smiles' or 'atoms', got {by!r}")
    with quiet():
        parts = rdkit_chem().MolToSmiles(mol).split(".")
        if by == "smiles" or len(parts) == 1:
            return parse(max(parts, key=len))
        whole = [part for part in map(parse, parts) if part is not None]
    return max(whole, key=lambda m: m.GetNumHeavyAtoms()) if whole else None


@dataclass(frozen=True)
class GraphMolecule:
    """What the protocol makes of one graph.

    Attributes:
        mol: the sanitised molecule after steps 1 to 4, None if even that is none.
        uncorrected: whether no atom was above its valence after step 1.
        sanitised: whether the molecule of step 1 also sanitises as it stands (fragments and all).
        fragments: number of connected parts after step 1.
        lowered: bond orders that step 3 took.
        charge: net charge after step 1.
    """

    mol: Mol | None
    uncorrected: bool
    sanitised: bool
    fragments: int
    lowered: int
    charge: int


def molecule_of(graph: Mol, held: int = 0) -> GraphMolecule:
    """Steps 2 to 4 of the protocol, for a molecule that :func:`build` gave (or any with Kekulé bonds).

    Args:
        held: the first so many atoms are a scaffold: their bonds are lowered last, and the fragment that is kept is
            theirs, however large others are.
    """
    Chem = rdkit_chem()
    atoms = graph.GetNumAtoms()
    uncorrected = atoms > 0 and not valence_problems(graph)
    parts = len(Chem.GetMolFrags(graph)) if atoms else 0
    charge = sum(atom.GetFormalCharge() for atom in graph.GetAtoms())
    try:
        fixed, lowered = correct(graph, held)
    except ValueError:
        return GraphMolecule(None, False, False, parts, 0, charge)
    sanitised = uncorrected and parse(Chem.MolToSmiles(graph)) is not None
    mol = largest_fragment(_piece_of(fixed, held) if held else fixed) if atoms else None
    return GraphMolecule(mol, uncorrected, sanitised, parts, lowered, charge)


def _piece_of(mol: Mol, held: int) -> Mol:
    """The pieces that hold the first atoms."""
    Chem = rdkit_chem()
    rest = [i for part in Chem.GetMolFrags(mol) if min(part) >= held for i in part]
    out = Chem.RWMol(mol)
    for i in sorted(rest, reverse=True):
        out.RemoveAtom(i)
    return out
