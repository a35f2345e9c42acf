"""A suite is its scores, one by one; what it needs and does not get is named."""

from __future__ import annotations

import importlib

import numpy as np
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


@pytest.mark.parametrize("fcd_reference", [None, "statistics"])
def test_the_size_for_fcd_is_looked_at_before_anything_is_computed(fcd_reference, monkeypatch):
    report = importlib.import_module("scidiffuse.molecules.metrics.report")
    monkeypatch.setattr(report, "validity", None)  # would fail if it were called
    with pytest.raises(ValueError, match="FCD of 6 valid generated molecules is mostly bias"):
        m.evaluate(MOLECULES, train=TRAIN, reference=REFERENCE)
    many = ["CCO", "CCN"] * 1100
    words, more = "FCD of 3 valid reference molecules", {}
    if fcd_reference:
        words, more = "FCD of 7 valid reference", {"fcd_reference": m.FcdStatistics(np.zeros(2), np.eye(2), 7)}
    with pytest.raises(ValueError, match=words):
        m.evaluate(many, train=TRAIN, reference=REFERENCE, **more)
    with pytest.raises(ValueError, match="only one of the 2 generated"):
        m.evaluate(["C", "C(("], train=TRAIN, reference=REFERENCE, allow_small=True)


def test_the_suite_of_properties():
    out = m.evaluate(MOLECULES, suite="drug")
    assert set(out) == set(m.SUITES["drug"]) and out["mean_qed"].n == 6
    assert out["mean_weight"] == m.property_means(MOLECULES, ["weight"])["mean_weight"]


@pytest.mark.parametrize("which", ["molecules", "train", "reference"])
def test_the_name_of_a_file_is_no_list_of_molecules(which):
    given = {"molecules": MOLECULES, "train": TRAIN, "reference": REFERENCE} | {which: "CNO.smi"}
    with pytest.raises(TypeError, match=r"one string, 'CNO\.smi'"):
        m.evaluate(given.pop("molecules"), **given, suite=("valid_rdkit", "novel", "snn"))
