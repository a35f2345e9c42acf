"""What can be bought: the leaves at which a synthesis may end."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, Self

from ...core.problems import Errors, Problems
from ..chem import parse
from ..data.extras import chem, quiet, rdkit
from ..data.files import read_lines, write_text
from ..data.reactions import Reaction
from ..data.smiles import is_header
from ..data.standardise import parse_smiles

__all__ = ["Inventory"]

Key = Literal["smiles", "inchikey"]
_COLUMNS = ("smiles", "canonical_smiles", "mol", "molecule")
_KEY_COLUMNS = ("inchikey", "inchi_key", "inchi key")


class Inventory:
    """A set of purchasable molecules.

    Args:
        molecules: SMILES, or InChIKeys with ``by="inchikey"``.
        by: what makes two molecules the same: the canonical SMILES with stereo, or the standard InChIKey, which does
            not tell mobile hydrogens (tautomers) apart.
        source: where they come from, for reports.
        errors: ``"skip"`` leaves out what is no molecule and names it.

    Raises:
        ValueError: nothing in it, no molecule, another ``by``.
    """

    def __init__(
        self, molecules: Iterable[str], by: Key = "smiles", source: str = "the inventory", errors: Errors = "raise"
    ) -> None:
        if by not in ("smiles", "inchikey"):
            raise ValueError(f"by must be 'smiles' or 'inchikey', got {by!r}")
        if isinstance(molecules, str):
            raise TypeError("an inventory is made of many SMILES, got one string; Inventory.read reads files")
        self.by: Key = by
        self.source = source
        problems, keys = Problems(errors, source), set()
        with quiet():
            for row, text in enumerate(molecules):
                with problems.at(f"entry {row + 1}"):
                    keys.add(self._stored(text))
        problems.done(len(keys))
        self._keys = frozenset(keys)

    def __repr__(self) -> str:
        return f"Inventory({len(self)} molecules by {self.by}, {self.source})"

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        """Its SMILES (or InChIKeys), sorted."""
        return iter(sorted(self._keys))

    def __contains__(self, smiles: object) -> bool:
        """Whether a molecule can be bought.

        Raises:
            ValueError: no SMILES.
        """
        with quiet():
            return self._of(str(smiles)) in self._keys

    def has(self, smiles: str) -> bool:
        """The same for a SMILES that is canonical already: no parsing where molecules are told by their SMILES."""
        return smiles in self._keys if self.by == "smiles" else smiles in self

    def without(self, *molecules: str) -> Self:
        """The inventory without some molecules: to make what could also be bought."""
        new = object.__new__(type(self))
        new.by, new.source = self.by, self.source
        with quiet():
            new._keys = self._keys - {self._of(smiles) for smiles in molecules}
        if not new._keys:
            raise ValueError(f"{self.source}: nothing would be left of the inventory")
        return new

    def _stored(self, text: str) -> str:
        if self.by == "inchikey" and isinstance(text, str):
            word = text.strip()
            if len(word) == 27 and word[14:15] == word[25:26] == "-" and word.replace("-", "").isalpha():
                return word
        return self._of(text)

    def _of(self, smiles: str) -> str:
        mol = parse_smiles(smiles)
        return str(chem().MolToSmiles(mol) if self.by == "smiles" else rdkit("Chem.inchi").MolToInchiKey(mol))

    # -- files and reactions -----------------------------------------------------------------------------------------
    @classmethod
    def read(cls, path: str | Path, column: str | None = None, by: Key = "smiles", errors: Errors = "raise") -> Self:
        """Read a ``.smi`` or ``.txt`` (a SMILES, and whatever behind a blank, a line; ``#`` begins a comment; a first
        line ``smiles ...`` is a header), a ``.csv`` or a ``.tsv``, all also with ``.gz``.

        Args:
            path: the file. column: of a table; found by its name (``smiles``; ``inchikey`` with ``by="inchikey"``)
                when None.
            by: see the class. errors: see the class.

        Raises:
            FileNotFoundError: no such file.
            ValueError: another suffix, no such column, nothing in it, or no molecule, by its place.
        """
        path = Path(path)
        name = path.name.lower().removesuffix(".gz")
        lines = read_lines(path)
        if name.endswith((".smi", ".smiles", ".txt")):
            entries = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
            if entries and is_header(entries[0]):
                entries = entries[1:]
        elif name.endswith((".csv", ".tsv")):
            entries = _column(path.name, lines, "\t" if name.endswith(".tsv") else ",", column, by)
        else:
            raise ValueError(f"cannot tell the format of {path.name}: expected .smi, .txt, .csv or .tsv")
        return cls(entries, by, path.name, errors)

    @classmethod
    def from_reactions(cls, reactions: Sequence[Reaction], max_atoms: int | None = 14) -> Self:
        """A small inventory for demonstrations: the reactants of reactions with at most ``max_atoms`` heavy atoms.

        It is no catalogue of anything: that a molecule was a reactant once does not say that it is sold.
        """
        reactants = sorted({smiles for reaction in reactions for smiles in reaction.reactants})
        small = [s for s in reactants if max_atoms is None or _heavy(s) <= max_atoms]
        size = "" if max_atoms is None else f" with at most {max_atoms} heavy atoms"
        return cls(small, "smiles", f"reactants of {len(reactions)} reactions{size}")

    def write(self, path: str | Path) -> Path:
        """Write its SMILES (or InChIKeys), one a line, sorted, at once."""
        return write_text(path, "".join(f"{key}\n" for key in self))


def _heavy(smiles: str) -> int:
    mol = parse(smiles)
    return 0 if mol is None else int(mol.GetNumHeavyAtoms())


def _column(name: str, lines: Iterable[str], separator: str, column: str | None, by: Key) -> list[str]:
    rows = csv.reader(lines, delimiter=separator)
    head = [title.strip() for title in next(rows, [])]
    wanted = (_KEY_COLUMNS if by == "inchikey" else ()) + _COLUMNS
    lower = {title.lower(): title for title in head}
    found = column if column is not None else next((lower[w] for w in wanted if w in lower), None)
    if found is None or found not in head:
        raise ValueError(f"{name}: no column of molecules {found or list(wanted)}; it has {head}")
    at = head.index(found)
    return [row[at] if at < len(row) else "" for row in rows if row]
