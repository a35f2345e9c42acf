r"""Reaction templates: rules that take a product apart, read from mapped reactions.

A template is a retro reaction SMARTS ``product>>reactants``. It is read from one mapped reaction by rdchiral's
extractor (Coley, Green, Jensen, "RDChiral: An RDKit wrapper for handling stereochemistry in retrosynthetic template
extraction and application", 2019, https://doi.org/10.1021/acs.jcim.9b00286):

- the *reaction centre* is the mapped atoms whose bonds, hydrogens, charge, degree or stereo differ between both sides,
  and the leaving groups;
- on the side of the reactants it is widened by :data:`RADIUS` = 1 bond, and by whole functional groups of a fixed list
  that the centre touches (acids, amides, boronic acids, Boc, tosyl, ...); the atoms so added are generalised;
- the side of the product holds the same mapped atoms and no more.

Atoms on one side only then lose their map numbers, and the others are numbered by their order. (rdchiral needs that:
with recent versions of RDKit it fails on templates whose leaving groups are numbered.) The order of atoms in such a
string still depends on the numbers in the reaction, so templates are compared by :func:`key_of`, which does not: two
reactions that break the same bonds in the same surroundings are one template with a count.

:func:`apply` gives the sets of reactants of a product, stereo respected. The test of a template is whether it finds the
reactants of its own reaction: :func:`recovery`.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ...core.problems import Skipped
from ...core.scores import Score
from ..chem import canonical, parse
from ..data.extras import chem, quiet
from ..data.files import read_lines, write_text
from ..data.reactions import Reaction
from ..metrics.uncertainty import share
from . import extras

__all__ = [
    "RADIUS",
    "Extraction",
    "TemplateError",
    "Templates",
    "apply",
    "extract",
    "key_of",
    "recovery",
    "template_of",
]

RADIUS = 1
"""Bonds by which the reaction centre is widened on the side of the reactants; fixed by rdchiral's extractor."""

_HEADER = "template\tcount"
_MAP = re.compile(r":(\d+)\]")


class TemplateError(ValueError):
    """A reaction from which no template can be read, or a string that is none."""


@dataclass(frozen=True)
class Templates:
    """Distinct templates, the most frequent first.

    Attributes:
        smarts: one retro SMARTS a template. counts: reactions each was read from.
    """

    smarts: tuple[str, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.smarts) != len(self.counts):
            raise ValueError(f"expected one count a template, got {len(self.counts)} for {len(self.smarts)}")
        if len(set(self.smarts)) != len(self.smarts):
            twice = Counter(self.smarts).most_common(1)[0][0]
            raise ValueError(f"a template stands twice: {twice!r}; add its counts up")

    def __len__(self) -> int:
        return len(self.smarts)

    def __repr__(self) -> str:
        return f"Templates({len(self)} templates of {sum(self.counts)} reactions)"

    def write(self, path: str | Path) -> Path:
        """Write a tab-separated text, ``template`` and ``count``, at once; gzipped for ``.tsv.gz``."""
        lines = [_HEADER, *(f"{s}\t{c}" for s, c in zip(self.smarts, self.counts, strict=True))]
        return write_text(path, "\n".join(lines) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> Templates:
        """Read what :meth:`write` wrote; each template is tried.

        Raises:
            FileNotFoundError: no such file.
            ValueError: another header, or a line that is no template, named by its number.
        """
        lines = list(read_lines(path))
        name = Path(path).name
        if not lines or lines[0] != _HEADER:
            came = lines[0][:60] if lines else "nothing"
            raise ValueError(f"{name} is no file of templates: expected the first line {_HEADER!r}, got {came!r}")
        smarts, counts = [], []
        for number, line in enumerate(lines[1:], start=2):
            fields = line.split("\t")
            if len(fields) != 2 or not fields[1].isdigit() or int(fields[1]) < 1:
                raise ValueError(f"{name}, line {number}: expected a template, a tab and a count, got {line[:80]!r}")
            try:
                check(fields[0])
            except TemplateError as error:
                raise ValueError(f"{name}, line {number}: {error}") from error
            smarts.append(fields[0])
            counts.append(int(fields[1]))
        return cls(tuple(smarts), tuple(counts))


@dataclass(frozen=True)
class Extraction:
    """What :func:`extract` found.

    Attributes:
        templates: the distinct ones.
        labels: for each reaction the number of its template, None where there is none.
        failures: why reactions gave none, with counts. failed: which ones.
    """

    templates: Templates
    labels: tuple[int | None, ...]
    failures: dict[str, int]
    failed: tuple[Skipped, ...]

    def __repr__(self) -> str:
        return f"Extraction({self.templates!r}, {len(self.failed)} of {len(self.labels)} reactions without one)"


# --------------------------------------------------------------------------------------------------------------------
# reading templates


def template_of(mapped: str) -> str:
    """The canonical template of one mapped reaction ``reactants>reagents>product``.

    Raises:
        TemplateError: why there is none.
    """
    parts = mapped.strip().split(" ")[0].split(">")
    if len(parts) != 3 or not parts[0] or not parts[2]:
        raise TemplateError("no reaction: expected reactants>reagents>product")
    if "." in parts[2]:
        raise TemplateError("several products")
    if not _MAP.search(parts[2]) or not _MAP.search(parts[0]):
        raise TemplateError("no atom maps")
    try:
        with quiet(), contextlib.redirect_stdout(io.StringIO()), _numpy_seeded():
            found = extras.rdchiral("template_extractor").extract_from_reaction(
                {"reactants": parts[0], "products": parts[2], "_id": 0}
            )
    except ImportError:
        raise
    except Exception as error:  # the extractor has no errors of its own: it fails by KeyError, IndexError, RuntimeError
        raise TemplateError(f"the extractor failed with {type(error).__name__}") from error
    if not found:
        raise TemplateError("too many atoms of the product are not mapped")
    if "reaction_smarts" not in found:
        raise TemplateError("no atom changes, or the stereo cannot be made consistent")
    smarts = _canonical(found["reaction_smarts"])
    check(smarts)
    return smarts


@contextlib.contextmanager
def _numpy_seeded() -> Iterator[None]:
    """The extractor shuffles stereo centres by numpy's global generator: the same order every time, and put back."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _canonical(smarts: str) -> str:
    """Without map numbers of one side only, the others numbered by their order."""
    sides = smarts.split(">>")
    both = set(_MAP.findall(sides[0])) & set(_MAP.findall(sides[1]))
    number: dict[str, str] = {}

    def renumbered(match: re.Match[str]) -> str:
        old = match.group(1)
        return f":{number.setdefault(old, str(len(number) + 1))}]" if old in both else "]"

    return _MAP.sub(renumbered, smarts)


@lru_cache(maxsize=50_000)
def key_of(smarts: str) -> str:
    """A text that is the same for templates that differ in the order of atoms and in map numbers alone.

    Both sides are written as one graph, in which mapped atoms are joined by a bond of its own kind; its canonical
    SMILES is the key. Stereo marks of SMARTS depend on the order of atoms: a template with such is its own key.
    """
    if any(mark in smarts for mark in "@/\\"):
        return smarts
    Chem = chem()
    graph, atoms, bonds = Chem.RWMol(), [], []
    pairs: dict[int, list[int]] = {}
    for side, text in zip("<>", smarts.split(">>"), strict=True):
        part, offset = Chem.MolFromSmarts(text), graph.GetNumAtoms()
        for atom in part.GetAtoms():
            place = graph.AddAtom(Chem.Atom(0))
            atoms.append(side + _MAP.sub("]", atom.GetSmarts()))
            if atom.GetAtomMapNum():
                pairs.setdefault(atom.GetAtomMapNum(), []).append(place)
        for bond in part.GetBonds():
            graph.AddBond(offset + bond.GetBeginAtomIdx(), offset + bond.GetEndAtomIdx(), Chem.BondType.SINGLE)
            bonds.append(bond.GetSmarts() or "-")
    for pair in pairs.values():
        if len(pair) == 2:
            graph.AddBond(*pair, Chem.BondType.SINGLE)
            bonds.append("^")
    whole = graph.GetMol()
    Chem.FastFindRings(whole)
    every = list(range(len(atoms)))
    return str(Chem.MolFragmentToSmiles(whole, every, atomSymbols=atoms, bondSymbols=bonds, allBondsExplicit=True))


def check(smarts: str) -> None:
    """Raise `TemplateError` for a string that rdchiral cannot use as a template."""
    sides = smarts.split(">>") if isinstance(smarts, str) else []
    if len(sides) != 2 or not all(sides):
        raise TemplateError(f"{str(smarts)[:80]!r} is no template: expected a SMARTS product>>reactants")
    if chem().MolFromSmarts(sides[0]) is not None and "." in sides[0]:
        raise TemplateError("the product's side of the template is in several pieces")
    try:
        _rule(smarts)
    except ImportError:
        raise
    except Exception as error:  # RDKit and rdchiral raise ValueError, RuntimeError, KeyError, ...
        raise TemplateError(f"{smarts[:80]!r} is no template: {str(error).strip()[:120]}") from error


def extract(reactions: Sequence[Reaction | str], min_count: int = 1) -> Extraction:
    """The templates of mapped reactions.

    Args:
        reactions: as `read_reactions` gives them, or mapped reaction SMILES.
        min_count: templates of fewer reactions are left out (their reactions then have none).

    Raises:
        ValueError: not one template was found.
    """
    found: list[str | None] = []
    why: list[tuple[int, str]] = []
    for row, reaction in enumerate(reactions):
        try:
            found.append(template_of(reaction if isinstance(reaction, str) else reaction.mapped))
        except TemplateError as error:
            found.append(None)
            why.append((row, str(error)))
    found = _merged(found)
    counts = Counter(s for s in found if s is not None)
    kept = sorted((s for s, c in counts.items() if c >= min_count), key=lambda s: (-counts[s], s))
    index = {s: i for i, s in enumerate(kept)}
    rare = [row for row, s in enumerate(found) if s is not None and s not in index]
    why += [(row, f"a template of fewer than {min_count} reactions") for row in rare]
    if not kept:
        reason = f"; the first: {why[0][1]}" if why else ""
        raise ValueError(f"no template in {len(found)} reactions{reason}. Reactions need atom maps on both sides")
    failures = dict(Counter(reason for _, reason in why).most_common())
    failed = tuple(Skipped(f"reaction {row + 1}", reason) for row, reason in sorted(why))
    labels = tuple(None if s is None else index.get(s) for s in found)
    return Extraction(Templates(tuple(kept), tuple(counts[s] for s in kept)), labels, failures, failed)


def _merged(found: list[str | None]) -> list[str | None]:
    """Templates of one key as one string: the most frequent, of equally frequent ones the first in the alphabet."""
    counts = Counter(s for s in found if s is not None)
    name: dict[str, str] = {}
    for smarts in sorted(counts, key=lambda s: (-counts[s], s)):
        name.setdefault(key_of(smarts), smarts)
    return [None if s is None else name[key_of(s)] for s in found]


# --------------------------------------------------------------------------------------------------------------------
# applying templates


@lru_cache(maxsize=20_000)
def _rule(smarts: str) -> tuple[Any, Any]:
    """The prepared reaction, and the pattern that a product must have."""
    with quiet():
        rule = extras.rdchiral("main").rdchiralReaction(smarts)
        return rule, chem().MolFromSmarts(smarts.split(">>")[0])


class Product:
    """A molecule prepared for many templates.

    Args:
        smiles: of one molecule.

    Raises:
        ValueError: no molecule.
    """

    def __init__(self, smiles: str) -> None:
        mol = parse(smiles)
        if mol is None or mol.GetNumAtoms() == 0:
            raise ValueError(f"{smiles!r} is no molecule")
        self.mol, self.smiles = mol, chem().MolToSmiles(mol)
        self._prepared: Any = None

    def reactants(self, smarts: str) -> list[tuple[str, ...]]:
        """The sets of reactants that one template gives, each sorted; see :func:`apply`."""
        rule, pattern = _rule(smarts)
        if not self.mol.HasSubstructMatch(pattern):  # far cheaper than to run the reaction, and most do not match
            return []
        with quiet():
            try:
                if self._prepared is None:
                    self._prepared = extras.rdchiral("main").rdchiralReactants(self.smiles)
                found = extras.rdchiral("main").rdchiralRun(rule, self._prepared, combine_enantiomers=False)
            except Exception:  # some products break rdchiral's bookkeeping of stereo: then the template gives nothing
                return []
            sets = {_parts(outcome) for outcome in found}
        return sorted(s for s in sets if s and self.smiles not in s)


def _parts(outcome: str) -> tuple[str, ...]:
    """The canonical molecules of one outcome, sorted; empty where one of them is impossible."""
    parts = [canonical(part) for part in outcome.split(".")]
    return tuple(sorted(p for p in parts if p)) if all(parts) else ()


def apply(template: str, product: str) -> list[tuple[str, ...]]:
    """All sets of reactants that a template gives for a product.

    Args:
        template: a retro SMARTS. product: a SMILES.

    Returns:
        Canonical SMILES, each set sorted, the sets sorted; empty where the template does not fit. Outcomes with an
        impossible molecule, or with the product among the reactants, are left out.

    Raises:
        ValueError: no template, or no molecule.
    """
    check(template)
    return Product(product).reactants(template)


def recovery(reactions: Iterable[Reaction], extraction: Extraction) -> Score:
    """Share of reactions whose own template, applied to the product, gives exactly the recorded reactants.

    Reactions without a template count as not recovered. Reactants are compared as canonical SMILES with stereo.

    Raises:
        ValueError: another number of reactions than was extracted.
    """
    reactions = list(reactions)
    if len(reactions) != len(extraction.labels):
        raise ValueError(f"{len(reactions)} reactions, but the extraction is of {len(extraction.labels)}")
    hits = 0
    for reaction, label in zip(reactions, extraction.labels, strict=True):
        if label is not None and len(reaction.products) == 1:
            found = Product(reaction.products[0]).reactants(extraction.templates.smarts[label])
            hits += tuple(sorted(reaction.reactants)) in found
    return share(
        "template_recovery",
        hits,
        len(reactions),
        f"reactions whose own template (rdchiral, radius {RADIUS}) gives exactly their reactants, stereo included",
        left_out=0,
    )
