r"""How many generated molecules are molecules, different from each other, and new; each share by its protocol.

===========================  ===========================================================================================
``valid_rdkit``              of all given, those that RDKit reads and sanitises (MOSES, GuacaMol)
``valid_uncorrected_gdss``   of all graphs, those without an atom above its valence once N, O, S may be cations
``valid_corrected_gdss``     of all graphs, those that give a molecule after bonds were lowered: nearly all of any model
``connected``                of all graphs, those that sanitise uncorrected *and* are in one piece
``neutral``                  of all graphs, those that are connected *and* have no net charge: the protocol makes
                             cations of N, O, S with a bond too many, which are valid and seldom what is wanted
``unique_all``               of the valid, different canonical SMILES over their number; falls as n grows
``unique@k``                 the same of the first k valid ones (MOSES)
``novel``                    of the different valid ones, those whose canonical SMILES is not in the training set
``valid_unique_novel``       of all given, the different valid new ones over the number given
===========================  ===========================================================================================

The protocol of graphs is in :mod:`scidiffuse.molecules.chem`. Canonical SMILES carry stereo marks unless ``stereo`` is
False; compare a model that draws none with a training set without them, or everything is new. Hydrogens that are atoms
of a molecule become implicit first, as they do when RDKit reads SMILES, so that sets with and without them compare.

*Uncertainty.* Shares of independent cases: Wilson. A number of different molecules is no such share: with S of n valid
ones that occur once, leaving one out changes the ratio to (D - 1)/(n - 1) if it is one of them and D/(n - 1) if not,
whence the jackknife's variance  s (1 - s)/(n - 1),  s = S/n. At s = 0 and s = 1 it is zero and says nothing: there the
interval is Wilson's, as if molecules were independent.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from ...core.scores import Score, wilson
from ..chem import GraphMolecule, canonical, molecule_of, parse
from ..data.graphs import Graphs
from .containers import as_molecules, built
from .uncertainty import share

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["GraphValidity", "graph_validity", "molecules_of", "novelty", "uniqueness", "valid_unique_novel", "validity"]


def molecules_of(molecules: Any) -> list[Mol | None]:
    """RDKit molecules of SMILES and molecules, hydrogens implicit, None where one does not parse or sanitise.

    Args:
        molecules: a list of them, or what :mod:`.containers` knows: `Graphs`, `GraphSamples`, `Atoms`, `AtomSamples`.

    Raises:
        ValueError: an empty list. TypeError: neither strings nor molecules; one string.
    """
    molecules = as_molecules(molecules)
    if len(molecules) == 0:
        raise ValueError("the list of molecules is empty: there is nothing to score")
    return [_molecule(m, row) for row, m in enumerate(molecules)]


def _molecule(molecule: Any, row: int) -> Mol | None:
    if molecule is None or isinstance(molecule, str):
        return parse(molecule) if molecule else None
    if not hasattr(molecule, "GetAtoms"):
        raise TypeError(f"molecule {row} is a {type(molecule).__name__}: expected a SMILES or an RDKit molecule")
    if molecule.GetNumAtoms() == 0:
        return None
    explicit = any(atom.GetAtomicNum() == 1 for atom in molecule.GetAtoms())
    return parse(canonical(molecule) or "") if explicit or molecule.NeedsUpdatePropertyCache() else molecule


def validity(molecules: Sequence[Any], *, level: float = 0.95) -> Score:
    """``valid_rdkit`` of SMILES or molecules (None counts as invalid).

    Raises:
        ValueError: an empty list.
    """
    mols = molecules_of(molecules)
    hits = sum(m is not None for m in mols)
    return share("valid_rdkit", hits, len(mols), "share that RDKit reads and sanitises, of all given", level=level)


@dataclass(frozen=True)
class GraphValidity:
    """The four shares of generated graphs, and the molecules that the protocol makes of them.

    Attributes:
        uncorrected, corrected, connected, neutral: scores. mols: (n), None where even correction gives none.
        lowered: bond orders taken, a number a graph.
    """

    uncorrected: Score
    corrected: Score
    connected: Score
    neutral: Score
    mols: list[Mol | None]
    lowered: list[int]

    def scores(self) -> dict[str, Score]:
        """By name."""
        return {score.name: score for score in (self.uncorrected, self.corrected, self.connected, self.neutral)}


def graph_validity(graphs: Sequence[Any] | Graphs, *, level: float = 0.95, held: int = 0) -> GraphValidity:
    """Validity of molecules as :func:`.chem.build` makes them from graphs: not sanitised, Kekulé bonds.

    Args:
        graphs: such molecules, or `Graphs` of molecules. (`GraphSamples` have these scores in their ``report``.)
        held: atoms of a scaffold, the first ones, which correction keeps.

    Raises:
        ValueError: an empty list. TypeError: entries that are no molecules.
    """
    if hasattr(graphs, "report"):
        raise TypeError(
            f"{type(graphs).__name__} have these scores in their report; give molecules of chem.build, or Graphs"
        )
    if isinstance(graphs, Graphs):
        graphs = built(graphs)
    if len(graphs) == 0:
        raise ValueError("the list of graphs is empty: there is nothing to score")
    for row, graph in enumerate(graphs):
        if not hasattr(graph, "GetAtoms"):
            raise TypeError(
                f"graph {row} is a {type(graph).__name__}: expected molecules that are not sanitised, as "
                "chem.build(numbers, orders) makes them of a graph, or Graphs; validity() scores SMILES"
            )
    made = [molecule_of(graph, held) for graph in graphs]
    n = len(made)

    def score(name: str, hits: Iterable[bool], text: str) -> Score:
        return share(name, sum(hits), n, text, level=level)

    def whole(m: GraphMolecule) -> bool:
        return m.sanitised and m.fragments == 1

    return GraphValidity(
        score("valid_uncorrected_gdss", (m.uncorrected for m in made), "no atom above its valence, N O S + 1 allowed"),
        score(
            "valid_corrected_gdss",
            (m.mol is not None for m in made),
            "a molecule after bonds were lowered, the fragment of the longest SMILES",
        ),
        score("connected", (whole(m) for m in made), "sanitises uncorrected, in one piece"),
        score("neutral", (whole(m) and m.charge == 0 for m in made), "connected, without a net charge"),
        [m.mol for m in made],
        [m.lowered for m in made],
    )


def _canonical(molecules: Sequence[Any], stereo: bool) -> list[str]:
    found = [canonical(m, stereo) for m in molecules_of(molecules) if m is not None]
    return [s for s in found if s is not None]


def uniqueness(molecules: Sequence[Any], k: int | None = None, *, stereo: bool = True, level: float = 0.95) -> Score:
    """``unique_all``, or ``unique@k`` of the first k valid molecules.

    Raises:
        ValueError: no valid molecule, or fewer than k.
    """
    smiles = _canonical(molecules, stereo)
    if not smiles:
        raise ValueError(f"none of the {len(molecules)} molecules is valid: there is no uniqueness of nothing")
    if k is not None and not 1 <= k <= len(smiles):
        raise ValueError(
            f"unique@{k} needs {k} valid molecules, there are {len(smiles)}: generate more, or a smaller k"
        )
    counts = Counter(smiles[:k])
    n, different = counts.total(), len(counts)
    s = sum(c == 1 for c in counts.values()) / n
    value, how = different / n, "jackknife over molecules"
    if 0.0 < s < 1.0:
        half = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(s * (1 - s) / (n - 1))
        low, high = max(0.0, value - half), min(1.0, value + half)
    else:
        (low, high), how = wilson(different, n, level), "Wilson's interval"
    name = "unique_all" if k is None else f"unique@{k}"
    text = f"different canonical SMILES over {'all' if k is None else f'the first {k}'} valid molecules"
    text += "" if stereo else ", stereo marks ignored"
    left_out = 0 if k is not None else len(molecules) - n
    return Score(name, value, low, high, n, n, "1", text, how, level, left_out)


def novelty(
    molecules: Sequence[Any], train: Iterable[Any] | None, *, stereo: bool = True, level: float = 0.95
) -> Score:
    """``novel``: share of the different valid molecules that are not in the training set.

    Args:
        train: SMILES or molecules that the model was trained on; they are made canonical here, a matter of minutes for
            a million. Those that RDKit cannot read are left out. A *set* is taken as canonical SMILES as it stands,
            after a look at 100 of them. `Graphs`, `Atoms` and samples give their own molecules.

    Raises:
        ValueError: no training set, an unreadable one, a set that is not canonical, or no valid molecule.
        TypeError: one string, such as the name of a file.
    """
    known = _training(train, stereo)
    different = set(_canonical(molecules, stereo))
    if not different:
        raise ValueError(f"none of the {len(molecules)} molecules is valid: there is no novelty of nothing")
    text = f"share of different valid molecules not among {len(known)} training molecules, canonical SMILES"
    return share("novel", len(different - known), len(different), text, level=level)


def valid_unique_novel(
    molecules: Sequence[Any], train: Iterable[Any] | None, *, stereo: bool = True, level: float = 0.95
) -> Score:
    """``valid_unique_novel``: different valid new molecules over the number given.

    The interval takes them for independent, which at many repetitions makes it too narrow.

    Raises:
        ValueError: no training set, or an empty list.
    """
    known = _training(train, stereo)
    text = f"different valid molecules not among {len(known)} training molecules, over the number given"
    return share(
        "valid_unique_novel", len(set(_canonical(molecules, stereo)) - known), len(molecules), text, level=level
    )


def _training(train: Iterable[Any] | None, stereo: bool) -> set[str]:
    if train is None:
        raise ValueError("novelty is relative to what the model was trained on: pass train=, a list of SMILES")
    if isinstance(train, str | Path):
        raise TypeError(
            f"train= is one string, {str(train)!r}, not the training molecules: read the file first (a list of SMILES, "
            "mo.read_smiles(path, ...), mo.read(path)), or put it in a list"
        )
    if isinstance(train, (set, frozenset)):
        for smiles in islice(train, 100):
            if smiles != (own := canonical(smiles, stereo)):
                raise ValueError(
                    f"a set of training SMILES must be canonical: {smiles!r} is {own!r}; pass a list instead"
                )
        if train:
            return set(train)
    train = list(as_molecules(train))
    known = set(_canonical(train, stereo)) if train else set()
    if not known:
        raise ValueError(f"none of the {len(train)} training molecules can be read: novelty would be 1 whatever comes")
    return known
