"""A suite is its scores, one by one; what it needs and does not get is named."""

from __future__ import annotations

import pytest

pytest.importorskip("rdkit")

from scidiffuse.molecules import metrics as m

MOLECULES = ["CCO", "CCN", "c1ccc2ccccc2c1", "CC(=O)Oc1ccccc1C(=O)O", "C((", "CCO", "CCOCC"]
TRAIN, REFERENCE = ["CCO"], ["CCN", "Cc1cccc2ccccc12", "CCOCC"]


def test_a_suite_is_its_scores():
    names = [name for name in m.SUITES["moses"] if name != "fcd_torch"]
    with pytest.warns(UserWarning, match="unique@100 is left out: there are 6 valid"):
        out = m.evaluate(MOLECULES, train=TRAIN, reference=REFERENCE, suite=names, k=(5, 100))
    assert set(out) == {*names, "unique@5"} - {"unique@k"}
    alone = {
        "valid_rdkit": m.validity(MOLECULES),
        "unique@5": m.uniqueness(MOLECULES, 5),
        "novel": m.novelty(MOLECULES, TRAIN),
        "filters": m.filters(MOLECULES),
        "intdiv2": m.internal_diversity(MOLECULES, 2),
        "snn": m.nearest_neighbour(MOLECULES, REFERENCE),
        "frag": m.fragments(MOLECULES, REFERENCE),
        "scaf": m.scaffolds(MOLECULES, REFERENCE),
    }
    for name, score in alone.items():
        assert out[name] == score, name
    assert all(score.name == name for name, score in out.items())


def test_basic_and_single_scores():
    out = m.evaluate(MOLECULES, train=TRAIN, suite="basic")
    assert {name: float(score) for name, score in out.items()} == {
        "valid_rdkit": 6 / 7,
        "unique_all": 5 / 6,
        "novel": 4 / 5,
        "valid_unique_novel": 4 / 7,
    }
    assert set(m.evaluate(MOLECULES, reference=REFERENCE, suite="mmd_nspdk")) == {"mmd_nspdk"}


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="novel cannot be computed without train="):
        m.evaluate(MOLECULES, reference=REFERENCE)
    with pytest.raises(ValueError, match="snn, frag, scaf, fcd_torch cannot be computed without reference="):
        m.evaluate(MOLECULES, train=TRAIN)
    with pytest.raises(ValueError, match="no suite or score 'fid'"):
        m.evaluate(MOLECULES, suite="fid")
    with pytest.raises(ValueError, match="FCD of 6 valid generated molecules is mostly bias"):
        m.evaluate(MOLECULES, reference=REFERENCE, suite="fcd_guacamol")
    with pytest.raises(ValueError, match="list of molecules is empty"):
        m.evaluate([], suite="valid_rdkit")
