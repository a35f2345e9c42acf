"""What happens to a molecule before it becomes data: a stated policy, and a count of everything it changed.

A graph of atom types and bonds cannot hold stereo, isotopes or radicals, and a data set of single molecules should hold
no salts. Files are full of them. Each of these is either refused or changed in one stated way, and
:class:`Report` says how often. Nothing else is changed: tautomers stay as they are written (there is no canonical
tautomer that every tool agrees on), and so do Kekulé forms, which the canonical SMILES does not see.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ...core.problems import Errors, Problems, Skipped
from .extras import chem, quiet, rdkit
from .graphs import Hydrogens
from .molecules import chemistry_problems, place

__all__ = ["ChangedMolecules", "Report", "Standardise", "parse_smiles"]


class ChangedMolecules(UserWarning):
    """Something in the molecules was changed (by :class:`Standardise`, or by what says so), with counts."""


_WORDS = {
    "fragments": "salts or mixtures, of which the largest fragment was kept",
    "neutralised": "charges neutralised by moving protons",
    "charged": "with formal charges, kept as atom types of their own",
    "stereo": "stereo dropped",
    "isotopes": "isotopes dropped",
    "radicals": "radicals filled with hydrogens",
    "atom_maps": "atom map numbers removed",
}


@dataclass
class Report:
    """How many molecules came, stayed, and were changed.

    Attributes:
        read: molecules that came. kept: those that remain.
        counts: molecules with each change; the keys are those of :class:`Standardise`'s list.
        skipped: what was left out, with place and reason.
    """

    read: int = 0
    kept: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    skipped: tuple[Skipped, ...] = ()

    def __str__(self) -> str:
        changes = [f"{n} {_WORDS[key]}" for key, n in sorted(self.counts.items()) if n]
        return f"{self.kept} of {self.read} molecules kept" + "".join(f"; {c}" for c in changes)


@dataclass(frozen=True)
class Standardise:
    """The policy.

    Attributes:
        fragments: of a record with several (``.`` in a SMILES): ``"refuse"``, or keep the ``"largest"``: most heavy
            atoms, then largest mass, then the SMILES that sorts first.
        charges: ``"keep"`` (a charged atom is a type of its own), ``"neutralise"`` by adding or removing protons where
            that is possible (RDKit's Uncharger; ammonium groups of four carbons stay charged), or ``"refuse"``.
        stereo: ``"drop"``, ``"refuse"``, or ``"keep"`` in the molecules and in ``smiles`` of their graphs, which still
            have no place for it: for geometries that are made of them, not for training.
        isotopes: ``"drop"`` (deuterium becomes hydrogen) or ``"refuse"``.
        radicals: ``"refuse"``, or ``"fill"`` with hydrogens, which makes another molecule of it.
        hydrogens: ``"implicit"``: hydrogens are no atoms (but in H2 and H+); ``"explicit"``: all are.

    Atom map numbers are always removed. Wildcards (``*``, ``R``) are always refused.
    """

    fragments: Literal["refuse", "largest"] = "refuse"
    charges: Literal["keep", "neutralise", "refuse"] = "keep"
    stereo: Literal["drop", "refuse", "keep"] = "drop"
    isotopes: Literal["drop", "refuse"] = "drop"
    radicals: Literal["refuse", "fill"] = "refuse"
    hydrogens: Hydrogens = "implicit"

    def __post_init__(self) -> None:
        allowed = {
            "fragments": ("refuse", "largest"),
            "charges": ("keep", "neutralise", "refuse"),
            "stereo": ("drop", "refuse", "keep"),
            "isotopes": ("drop", "refuse"),
            "radicals": ("refuse", "fill"),
            "hydrogens": ("implicit", "explicit"),
        }
        for name, words in allowed.items():
            if getattr(self, name) not in words:
                raise ValueError(f"{name} must be one of {list(words)}, got {getattr(self, name)!r}")

    def __call__(self, mol: Any, counts: Counter[str] | None = None) -> Any:
        """One molecule, a new one.

        Args:
            mol: a sanitised RDKit molecule. counts: gets one for each kind of change.

        Raises:
            ValueError: no RDKit molecule, or what the policy refuses, naming the option that would change it.
        """
        Chem = chem()
        if not isinstance(mol, Chem.Mol):
            raise ValueError(f"expected a SMILES or an RDKit molecule, got {mol!r}")
        found: Counter[str] = Counter()
        mol = Chem.Mol(mol)
        for atom in mol.GetAtoms():
            if atom.GetAtomicNum() == 0:
                raise ValueError(f"{place(atom)} is no element but a wildcard ('*', 'R')")
            if atom.GetAtomMapNum():
                atom.SetAtomMapNum(0)
                found["atom_maps"] = 1
        mol = self._isotopes(mol, found)
        mol = self._fragment(mol, found)
        mol = self._stereo(mol, found)
        mol = self._radicals(mol, found)
        mol = self._charges(mol, found)
        mol = Chem.AddHs(mol) if self.hydrogens == "explicit" else Chem.RemoveHs(mol)
        if counts is not None:
            counts.update(found)
        return mol

    def _isotopes(self, mol: Any, found: Counter[str]) -> Any:
        if not any(atom.GetIsotope() for atom in mol.GetAtoms()):
            return mol
        if self.isotopes == "refuse":
            raise ValueError("isotopes, and isotopes='refuse'; 'drop' ignores them")
        for atom in mol.GetAtoms():
            atom.SetIsotope(0)
        found["isotopes"] = 1
        return mol

    def _fragment(self, mol: Any, found: Counter[str]) -> Any:
        Chem = chem()
        fragments = Chem.GetMolFrags(mol, asMols=True)
        if len(fragments) < 2:
            return mol
        if self.fragments == "refuse":
            raise ValueError(
                f"{len(fragments)} fragments (a salt or mixture), and fragments='refuse'; 'largest' keeps one"
            )
        mass = rdkit("Chem.Descriptors").MolWt
        found["fragments"] = 1
        return min(fragments, key=lambda m: (-m.GetNumHeavyAtoms(), -mass(m), Chem.MolToSmiles(m)))

    def _stereo(self, mol: Any, found: Counter[str]) -> Any:
        Chem = chem()
        flat = Chem.ChiralType.CHI_UNSPECIFIED
        centres = any(atom.GetChiralTag() != flat for atom in mol.GetAtoms())
        if centres:  # coordinates give every tetrahedral atom a tag, also where two neighbours are the same
            Chem.AssignStereochemistry(mol, cleanIt=True, force=True)
            centres = any(atom.GetChiralTag() != flat for atom in mol.GetAtoms())
        if self.stereo == "keep":
            return mol
        none = (Chem.BondStereo.STEREONONE, Chem.BondStereo.STEREOANY)
        if not centres and all(bond.GetStereo() in none for bond in mol.GetBonds()):
            return mol
        if self.stereo == "refuse":
            raise ValueError("stereo, which the graph cannot hold, and stereo='refuse'; 'drop' ignores it")
        Chem.RemoveStereochemistry(mol)
        found["stereo"] = 1
        return mol

    def _radicals(self, mol: Any, found: Counter[str]) -> Any:
        radical = [atom for atom in mol.GetAtoms() if atom.GetNumRadicalElectrons()]
        if not radical:
            return mol
        if self.radicals == "refuse":
            raise ValueError(f"a radical at {place(radical[0])}, and radicals='refuse'; 'fill' adds hydrogens")
        for atom in radical:
            atom.SetNumExplicitHs(atom.GetTotalNumHs() + atom.GetNumRadicalElectrons())
            atom.SetNumRadicalElectrons(0)
        chem().SanitizeMol(mol)
        found["radicals"] = 1
        return mol

    def _charges(self, mol: Any, found: Counter[str]) -> Any:
        if not any(atom.GetFormalCharge() for atom in mol.GetAtoms()):
            return mol
        if self.charges == "refuse":
            raise ValueError(
                "formal charges, and charges='refuse'; 'keep' makes them atom types, 'neutralise' moves protons"
            )
        if self.charges == "neutralise":
            before = chem().MolToSmiles(mol)
            mol = rdkit("Chem.MolStandardize.rdMolStandardize").Uncharger().uncharge(mol)
            found["neutralised"] = int(chem().MolToSmiles(mol) != before)
        found["charged"] = int(any(atom.GetFormalCharge() for atom in mol.GetAtoms()))
        return mol

    def apply(
        self,
        mols: Iterable[Any],
        *,
        errors: Errors = "raise",
        names: Sequence[str] | None = None,
        source: str = "the molecules",
        warn: bool = True,
    ) -> tuple[list[Any], list[int], Report]:
        """Many molecules or SMILES.

        Args:
            mols: sanitised RDKit molecules, or SMILES. errors: ``"skip"`` leaves the bad ones out and names them.
            names: where each stood, for the messages; default ``"molecule 0"`` and so on.
            source: what the messages call the input.
            warn: say what was changed in a :class:`ChangedMolecules` warning (charges that are kept are no change).

        Returns:
            the molecules that remain, their numbers in the input, and the report.

        Raises:
            ValueError: a SMILES that is none, what the policy refuses, or nothing left.
        """
        problems = Problems(errors, source)
        report = Report()
        kept, rows = [], []
        with quiet():
            for row, mol in enumerate(mols):
                report.read += 1
                with problems.at(names[row] if names is not None else f"molecule {row}"):
                    kept.append(self(parse_smiles(mol) if isinstance(mol, str) else mol, report.counts))
                    rows.append(row)
        report.kept = len(kept)
        report.skipped = problems.done(len(kept))
        if warn and any(n for key, n in report.counts.items() if key not in ("charged", "atom_maps")):
            warnings.warn(f"{source}: {report}", ChangedMolecules, stacklevel=2)
        return kept, rows, report


def parse_smiles(smiles: str) -> Any:
    """The sanitised RDKit molecule of a SMILES.

    Raises:
        ValueError: not a string, not a SMILES, or no possible molecule: the message says which, and why.
    """
    Chem = chem()
    if not isinstance(smiles, str) or not smiles.strip():
        raise ValueError(f"expected a SMILES, got {smiles!r}")
    smiles = smiles.strip()
    mol = Chem.MolFromSmiles(smiles)
    if mol is not None:
        return mol
    raw = Chem.MolFromSmiles(smiles, sanitize=False)
    shown = smiles if len(smiles) <= 80 else f"{smiles[:77]}..."
    if raw is None:
        raise ValueError(f"{shown!r} is no SMILES: its brackets, rings or symbols do not close")
    raise ValueError(f"{shown!r} is no possible molecule: {chemistry_problems(raw)}")
