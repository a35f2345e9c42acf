"""MOSES' scores by hand on a few molecules, similarities by RDKit's own functions, filters by known members."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

pytest.importorskip("rdkit")

from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

m = importlib.import_module("scidiffuse.molecules.metrics.moses")

DRUGS = [
    "CC(=O)Oc1ccccc1C(=O)O",
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
    "CC(=O)Nc1ccc(O)cc1",
    "COc1ccc2cc(ccc2c1)C(C)C(=O)O",
    "OC(=O)Cc1ccccc1Nc1c(Cl)cccc1Cl",
    "CN(C)CCc1c[nH]c2ccccc12",
    "Clc1ccc(cc1)C(c1ccccc1)N1CCNCC1",
]


def tanimoto(a: str, b: str) -> float:
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    return DataStructs.TanimotoSimilarity(*(generator.GetFingerprint(Chem.MolFromSmiles(s)) for s in (a, b)))


def test_there_are_22_and_480_patterns():
    assert len(m._patterns()) == 502 and None not in m._patterns()


@pytest.mark.parametrize(
    ("smiles", "passes"),
    [
        ("CCOc1ccccc1", True),
        ("CC(=O)N1CCCC1", True),
        ("C[N+](C)(C)C", False),  # charge
        ("CP(C)C", False),  # element
        ("C1CCCCCCC1", False),  # ring of 8
        ("C1CCCCCC1", True),  # ring of 7
        ("C=CC#N", False),  # MCF 1, acrylonitrile
        ("C1CO1", False),  # MCF 5, epoxide
        ("CCN=C=O", False),  # MCF 6, isocyanate
        ("CC=O", False),  # MCF 7, aldehyde
        ("CCCBr", False),  # MCF 4: hydrogens are matched as atoms
        ("CSSC", False),  # MCF 16
        ("O=C1C=CC(=O)C=C1", False),  # PAINS, quinone
        ("Oc1ccccc1O", False),  # PAINS, catechol
    ],
)
def test_filters(smiles, passes):
    assert m.passes_filters(Chem.MolFromSmiles(smiles)) is passes


def test_share_that_passes():
    score = m.filters(["CCOc1ccccc1", "C=CC#N", "C(("])
    assert float(score) == 0.5 and (score.n, score.left_out) == (2, 1)


@pytest.mark.parametrize("p", [1, 2])
def test_internal_diversity_of_two_by_hand(p):
    T = tanimoto(*DRUGS[:2])
    expected = 1 - ((1 + T**p) / 2) ** (1 / p)
    assert float(m.internal_diversity(DRUGS[:2], p)) == pytest.approx(expected, abs=1e-12)
    assert float(m.internal_diversity([DRUGS[0]] * 3, p)) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("p", [1, 2])
def test_root_inside_the_mean_and_interval_by_numerical_influence(p, monkeypatch):
    T = np.array([[tanimoto(a, b) for b in DRUGS] for a in DRUGS]) ** p
    score = m.internal_diversity(DRUGS, p)
    assert float(score) == pytest.approx(1 - np.mean(T.mean(axis=1) ** (1 / p)), abs=1e-12)
    monkeypatch.setattr(m, "_BLOCK", 3)
    assert m.internal_diversity(DRUGS, p) == score
    # the derivative of the score when a molecule's weight grows, and the standard error that follows from it
    n, step = len(DRUGS), 1e-6
    diversity = lambda w: 1 - w @ (T @ w) ** (1 / p)  # noqa: E731
    even = np.full(n, 1 / n)
    influence = [(diversity(even + step * (np.eye(n)[i] - even)) - diversity(even)) / step for i in range(n)]
    error = np.sqrt(np.square(influence).sum() / (n * (n - 1)))
    assert (score.high - score.low) / 2 == pytest.approx(1.959964 * error, rel=1e-4)


def test_nearest_neighbour(monkeypatch):
    generated, reference = DRUGS[:5], DRUGS[3:]
    expected = np.mean([max(tanimoto(a, b) for b in reference) for a in generated])
    score = m.nearest_neighbour([*generated, "C(("], reference)
    assert float(score) == pytest.approx(expected) and score.left_out == 1
    monkeypatch.setattr(m, "_BLOCK", 2)
    assert float(m.nearest_neighbour(generated, reference)) == pytest.approx(expected)
    assert float(m.nearest_neighbour(DRUGS, DRUGS)) == 1.0


def test_scaffolds_by_hand():
    """Naphthalene twice and biphenyl once against one of each: (2 + 1) / (sqrt 5 sqrt 2). One ring is none."""
    naphthalene, biphenyl, toluene = "Cc1cccc2ccccc12", "Cc1ccc(cc1)-c1ccccc1", "Cc1ccccc1"
    score = m.scaffolds([naphthalene, naphthalene, biphenyl, toluene], [biphenyl, "c1ccc2ccccc2c1"])
    assert float(score) == pytest.approx(3 / np.sqrt(10)) and score.high <= 1
    assert np.isnan(float(m.scaffolds([toluene], [biphenyl])))
    assert float(m.scaffolds([biphenyl], [naphthalene])) == 0.0


def test_fragments_by_hand():
    """An ether breaks at its oxygen into [3*]O[3*] and two [4*]CC: counts (1, 2) against ethane's (1) elsewhere."""
    assert m._brics(Chem.MolFromSmiles("CCOCC")).count("[4*]CC") == 2
    assert float(m.fragments(DRUGS, DRUGS)) == pytest.approx(1.0)
    assert float(m.fragments(["CCCC"], ["CCOCC"])) == 0.0
    assert float(m.fragments(["CCOCC", "CCCC"], ["CCOCC"])) == pytest.approx(np.sqrt(5) / np.sqrt(6))


def test_bad_input():
    with pytest.raises(ValueError, match="p must be 1 or 2"):
        m.internal_diversity(DRUGS, 3)
    for function in (m.nearest_neighbour, m.fragments, m.scaffolds):
        with pytest.raises(ValueError, match="none of the 1 reference molecules"):
            function(DRUGS, ["C(("])
        with pytest.raises(ValueError, match="none of the 1 generated molecules"):
            function(["C(("], DRUGS)
    for function in (m.filters, m.internal_diversity):
        with pytest.raises(ValueError, match="none of the 2 generated"):
            function(["C((", None])
