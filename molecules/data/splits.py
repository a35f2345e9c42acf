"""Parts for training, validation and test that do not share molecules, or scaffolds.

**The same molecule** is decided by a key: the ``"inchikey"`` of standard InChI, which is blind to how a molecule was
written and to mobile hydrogens (an amide and its imidic acid share one, a ketone and its enol do not), or the canonical
``"smiles"`` without stereo, which tells tautomers apart. Stereoisomers: graphs cannot hold them, so keys are made of
the molecule without stereo.

**Scaffold**: G. W. Bemis, M. A. Murcko, "The properties of known drugs. 1. Molecular frameworks", J. Med. Chem. 1996:
rings and what links them, as RDKit's MurckoScaffold writes them. Molecules without a ring have the empty scaffold and
stay together as one group.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .atoms import Atoms
from .extras import chem, quiet, rdkit
from .graphs import Graphs
from .sequences import Sequences
from .standardise import parse_smiles

__all__ = ["Key", "Split", "check_leak", "duplicates", "keys", "murcko_scaffolds", "random_split", "scaffold_split"]

Key = Literal["inchikey", "smiles"]
Molecules = Graphs | Atoms | Sequence[str]

_SHOWN = 3


@dataclass(frozen=True)
class Split:
    """Row numbers of three parts, ascending: ``graphs[split.train]``."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray

    def __repr__(self) -> str:
        return f"Split(train={len(self.train)}, val={len(self.val)}, test={len(self.test)})"


def _strings(molecules: Molecules) -> list[str]:
    if isinstance(molecules, Graphs | Atoms):
        if molecules.smiles is None:
            what = "graphs" if isinstance(molecules, Graphs) else "atoms"
            raise ValueError(f"these {what} have no SMILES, so it cannot be said which of them are the same molecule")
        return list(molecules.smiles)
    if not isinstance(molecules, Iterable):
        raise TypeError(f"expected Graphs, Atoms or SMILES, got {type(molecules).__name__}")
    return [molecules] if isinstance(molecules, str) else list(molecules)


def keys(molecules: Molecules, by: Key = "inchikey") -> list[str]:
    """The key of each molecule.

    Args:
        molecules: graphs of molecules, atoms, or SMILES. by: see the module.

    Raises:
        TypeError: another container.
        ValueError: another word, no SMILES, a string that is no SMILES (with its number), or one without an InChI.
    """
    if by not in ("inchikey", "smiles"):
        raise ValueError(f"by must be 'inchikey' or 'smiles', got {by!r}")
    Chem, inchi = chem(), rdkit("Chem.inchi")
    out = []
    with quiet():
        for row, text in enumerate(_strings(molecules)):
            mol = _parsed(row, text)
            Chem.RemoveStereochemistry(mol)
            key = inchi.MolToInchiKey(mol) if by == "inchikey" else Chem.MolToSmiles(mol)
            if not key:
                raise ValueError(f"molecule {row} ({text!r}) has no InChI; compare by='smiles'")
            out.append(key)
    return out


def _parsed(row: int, text: str) -> Any:
    try:
        return parse_smiles(text)
    except ValueError as error:
        raise ValueError(f"molecule {row}: {error}") from error


def murcko_scaffolds(molecules: Molecules) -> list[str]:
    """The Murcko scaffold of each molecule as SMILES without stereo, ``""`` where there is no ring.

    Raises:
        TypeError, ValueError: as :func:`keys`.
    """
    murcko = rdkit("Chem.Scaffolds.MurckoScaffold")
    with quiet():
        parsed = [_parsed(row, text) for row, text in enumerate(_strings(molecules))]
        return [murcko.MurckoScaffoldSmiles(mol=mol, includeChirality=False) for mol in parsed]


def duplicates(molecules: Molecules, by: Key = "inchikey") -> np.ndarray:
    """(B,) bool: True where an earlier molecule is the same one; ``graphs[~duplicates(graphs)]`` has each once."""
    seen: set[str] = set()
    out = []
    for key in keys(molecules, by):
        out.append(key in seen)
        seen.add(key)
    return np.array(out, dtype=bool)


def _assign(groups: list[list[int]], shares: Sequence[float], total: int) -> Split:
    """Whole groups, in their order, each to the part that lacks most of its share."""
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"shares are three parts of 1 for train, val and test, got {tuple(shares)}")
    target = np.array(shares) * total
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for members in groups:
        lacking = target - np.array([len(p) for p in parts])
        parts[int(np.argmax(lacking))].extend(members)
    return Split(*(np.array(sorted(p), dtype=np.int64) for p in parts))


def _grouped(names: Sequence[str]) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        groups.setdefault(name, []).append(row)
    return list(groups.values())


def random_split(
    molecules: Molecules | Sequences,
    shares: Sequence[float] = (0.8, 0.1, 0.1),
    *,
    seed: int,
    by: Key | None = "inchikey",
) -> Split:
    """Parts by chance; rows of the same molecule stay together, so that none is in two parts.

    Args:
        molecules: graphs, atoms, or SMILES; with ``by=None`` any set that has a length.
        shares: of train, val, test. seed: of the permutation.
        by: the key; None does not look (graphs that are no molecules, sequences, or a set known to hold each once:
            0.3 ms a molecule are saved).

    Raises:
        TypeError: another container. ValueError: shares that are no parts of 1, and those of :func:`keys`.
    """
    if by is None:
        names = [str(i) for i in range(len(molecules))]
    elif isinstance(molecules, Sequences):
        raise TypeError("sequences have no SMILES to tell them by: by=None splits their rows")
    else:
        names = keys(molecules, by)
    groups = _grouped(names)
    order = np.random.default_rng(seed).permutation(len(groups))
    return _assign([groups[i] for i in order], shares, len(names))


def scaffold_split(
    molecules: Molecules, shares: Sequence[float] = (0.8, 0.1, 0.1), *, seed: int | None = None
) -> Split:
    """Parts without a common scaffold.

    Args:
        molecules: graphs, atoms, or SMILES. shares: of train, val, test; met as far as the largest group allows.
        seed: None takes the largest scaffolds first (which fills the training part with the common ones, as
            MoleculeNet does); a number takes them in a random order.

    Raises:
        ValueError: as :func:`random_split`.
    """
    groups = _grouped(murcko_scaffolds(molecules))
    if seed is None:
        groups.sort(key=lambda g: (-len(g), g[0]))
    else:
        groups = [groups[i] for i in np.random.default_rng(seed).permutation(len(groups))]
    return _assign(groups, shares, sum(map(len, groups)))


def check_leak(
    train: Molecules,
    test: Molecules,
    by: Literal["inchikey", "smiles", "scaffold"] = "inchikey",
) -> None:
    """Refuse two parts that share a molecule or scaffold.

    Args:
        train, test: graphs, atoms, or SMILES. by: the key, or ``"scaffold"``; the empty scaffold counts.

    Raises:
        ValueError: what is shared: how many of ``test``, and the first.
    """
    of = murcko_scaffolds if by == "scaffold" else (lambda m: keys(m, by))
    known: dict[str, int] = {}
    for row, key in enumerate(of(train)):
        known.setdefault(key, row)
    shared = [(row, known[key]) for row, key in enumerate(of(test)) if key in known]
    if shared:
        texts = _strings(test), _strings(train)
        first = "; ".join(f"{texts[0][i]} (test {i}, train {j})" for i, j in shared[:_SHOWN])
        raise ValueError(
            f"{len(shared)} of {len(texts[0])} test molecules share their {by} with a training one: {first}; split by "
            "random_split or scaffold_split, or drop them"
        )
