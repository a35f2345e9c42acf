"""Frequencies of tokens, and validation graphs that have what no training graph has."""

from __future__ import annotations

import pytest

pytest.importorskip("rdkit")

from scidiffuse import molecules as mo
from scidiffuse.molecules.tokens import seen_in_training


def graphs(*smiles):
    return mo.from_smiles(list(smiles), "CNOF", max_atoms=4)


def test_what_no_training_graph_has_is_left_out_of_validation():
    train = graphs("CCO", "CN", "C=C")
    assert seen_in_training(graphs("CCN", "C=O"), train).smiles == ("CCN", "C=O")
    with pytest.warns(UserWarning, match=r"2 of 3 validation graphs have what no training graph has \(F, bond order 3"):
        kept = seen_in_training(graphs("CF", "C#C", "CO"), train)
    assert kept.smiles == ("CO",)
    with pytest.raises(ValueError, match=r"1 of 1 .*\(F\): split at random"):
        seen_in_training(graphs("CF"), train)


@pytest.mark.parametrize("system", [mo.DiGress, mo.PARD])
def test_a_training_is_validated_on_what_it_can_score(system, tmp_path):
    train, val = graphs(*["CCO", "CN", "C=C"] * 4), graphs("CF", "CO", "CCN")
    small = {"layers": 1, "steps": 4, "heads": 2}
    small |= {"dx": 8, "de": 8, "dy": 8} if system is mo.DiGress else {"hidden": 8, "edge_hidden": 4}
    model = system.for_dataset(graphs("CCO", "CF"), "small", **small)
    with pytest.warns(UserWarning, match="they are left out of the validation loss"):
        model.fit(train, val=val, max_steps=2, batch_size=4, save_every=1, out=tmp_path, accelerator="cpu")
    assert model.history[-1]["val_loss"] > 0
