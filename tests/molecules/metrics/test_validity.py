"""Shares counted by hand, and the jackknife of uniqueness against leaving each molecule out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rdkit")

import scidiffuse.molecules.chem as chem
from scidiffuse.core.scores import wilson
from scidiffuse.molecules.metrics.validity import (
    graph_validity,
    novelty,
    uniqueness,
    valid_unique_novel,
)

GIVEN = ["CCO", "OCC", "c1ccccc1", "C((", None, "CC", "C[N", "CCO"]


def graph(numbers, *bonds):
    orders = np.zeros((len(numbers), len(numbers)), dtype=int)
    for i, j, order in bonds:
        orders[i, j] = orders[j, i] = order
    return chem.build(numbers, orders)


def validity(molecules):
    from scidiffuse.molecules.metrics import validity as score

    return score(molecules)


def test_valid_is_what_rdkit_reads():
    score = validity(GIVEN)
    assert float(score) == 5 / 8 and (score.n, score.low, score.high) == (8, *wilson(5, 8))
    assert float(validity([chem.parse("CC"), None])) == 0.5
    assert float(validity(["F(C)C"])) == 0.0  # reads, but does not sanitise
    assert float(validity([graph([6, 6], (0, 1, 1)), graph([9, 6, 6], (0, 1, 1), (0, 2, 1))])) == 0.5


def test_graphs_by_the_protocol():
    """A molecule; a cation; fluorine with two bonds; two pieces; no atoms."""
    graphs = [
        graph([6, 8], (0, 1, 2)),
        graph([7, 6, 6, 6, 6], *[(0, i, 1) for i in range(1, 5)]),
        graph([9, 6, 6], (0, 1, 1), (0, 2, 1)),
        graph([6, 6, 8], (0, 1, 1)),
        graph([0, 0]),
    ]
    out = graph_validity(graphs)
    assert {name: float(score) for name, score in out.scores().items()} == {
        "valid_uncorrected_gdss": 3 / 5,
        "valid_corrected_gdss": 4 / 5,
        "connected": 2 / 5,
        "neutral": 1 / 5,
    }
    assert [chem.canonical(m) if m else None for m in out.mols] == ["C=O", "C[N+](C)(C)C", "CF", "CC", None]
    assert out.lowered == [0, 0, 1, 0, 0]
    with pytest.raises(ValueError, match="list of graphs is empty"):
        graph_validity([])


def test_uniqueness_counts_canonical_smiles():
    score = uniqueness(GIVEN)
    assert score.name == "unique_all" and float(score) == 3 / 5 and (score.n, score.left_out) == (5, 3)
    assert float(uniqueness(GIVEN, k=2)) == 1 / 2 and uniqueness(GIVEN, k=3).name == "unique@3"
    both = ["C[C@H](O)F", "C[C@@H](O)F"]
    assert float(uniqueness(both)) == 1.0 and float(uniqueness(both, stereo=False)) == 0.5


def test_jackknife_of_uniqueness():
    smiles = ["C" * k for k in [1, 1, 2, 3, 3, 3, 4, 5, 6, 7]]
    left_out = [float(uniqueness(smiles[:i] + smiles[i + 1 :])) for i in range(10)]
    variance = 9 / 10 * np.square(np.array(left_out) - np.mean(left_out)).sum()
    score = uniqueness(smiles)
    assert float(score) - score.low == pytest.approx(1.959964 * np.sqrt(variance), rel=1e-6)


def test_novelty_is_over_different_molecules():
    score = novelty(GIVEN, ["OCC", "not a molecule"])
    assert float(score) == 2 / 3 and score.n == 3 and "1 training molecules" in score.definition
    assert float(novelty(["CC"], ["CC"])) == 0.0
    assert float(valid_unique_novel(GIVEN, ["CCO"])) == 2 / 8


def test_a_set_is_taken_as_canonical_if_it_is():
    assert novelty(GIVEN, {"CCO", "CC"}) == novelty(GIVEN, ["OCC", "CC"])
    with pytest.raises(ValueError, match="'OCC' is 'CCO'; pass a list"):
        novelty(GIVEN, {"OCC"})


def test_explicit_hydrogens_compare_with_implicit_ones():
    from rdkit import Chem

    explicit = [Chem.AddHs(chem.parse(smiles)) for smiles in ("CCO", "CC")]
    assert float(novelty(explicit, ["CCO"])) == 1 / 2
    assert float(uniqueness([*explicit, "CCO"])) == 2 / 3


def test_bad_input():
    with pytest.raises(ValueError, match="list of molecules is empty"):
        validity([])
    with pytest.raises(TypeError, match="one string"):
        validity("CCO")
    with pytest.raises(TypeError, match="molecule 1 is a int"):
        validity(["C", 3])
    with pytest.raises(ValueError, match="none of the 2 molecules is valid"):
        uniqueness(["C((", None])
    with pytest.raises(ValueError, match="unique@9 needs 9 valid molecules, there are 5"):
        uniqueness(GIVEN, k=9)
    for function in (novelty, valid_unique_novel):
        with pytest.raises(ValueError, match="pass train="):
            function(GIVEN, None)
        with pytest.raises(ValueError, match="none of the 1 training molecules"):
            function(GIVEN, ["C(("])
    with pytest.raises(ValueError, match="no novelty of nothing"):
        novelty(["C(("], ["C"])


def test_different_molecules_have_an_interval_too():
    score = uniqueness(["C" * k for k in range(1, 21)])
    assert float(score) == score.high == 1.0 and 0.8 < score.low < 0.9 and "Wilson" in score.uncertainty


@pytest.mark.parametrize("function", [novelty, valid_unique_novel])
@pytest.mark.parametrize("train", ["CNO.smi", Path("CNO.smi")])
def test_the_name_of_a_file_is_no_training_set(function, train):
    with pytest.raises(TypeError, match=r"'CNO\.smi', not the training molecules: read the file first"):
        function(GIVEN, train)


@pytest.mark.parametrize(("given", "came"), [(["CC"], "str"), ([np.zeros((2, 2))], "ndarray"), ([None], "NoneType")])
def test_what_is_no_molecule_of_a_graph_is_told(given, came):
    with pytest.raises(TypeError, match=f"graph 0 is a {came}: expected molecules that are not sanitised"):
        graph_validity(given)
