"""Generate, score and plan, with a model that says what it is told."""

from __future__ import annotations

import csv
import json
import math
from types import SimpleNamespace

import pytest

pytest.importorskip("rdchiral")
pytest.importorskip("syntheseus")

from scidiffuse.molecules import chem
from scidiffuse.molecules import synthesis as sy

from .world import TARGET, inventory, policy

SAID = [TARGET, None, "CCO", "OCC", "CCCCCC", "NCCO"]


class Parrot:
    def sample(self, n, *, seed, **more):
        return SimpleNamespace(smiles=(SAID * n)[:n], seed=seed, more=more)


def test_one_row_a_different_molecule_the_best_first(tmp_path):
    found = sy.generate_and_plan(Parrot(), 6, inventory(), policy(), chem.weight, seed=3, sampling={"steps": 9})
    assert (found.n, found.invalid, found.duplicates) == (6, 1, 1)
    assert [r["sample"] for r in found.rows] == [0, 4, 5, 2]  # by weight
    assert [r["solved"] for r in found.rows] == [True, False, True, False]
    assert [r["steps"] for r in found.rows] == [2, None, 0, None]
    assert found.rows[0]["score"] == pytest.approx(159.18, abs=0.01)
    assert found.solved.value == 0.5
    assert repr(found) == "Candidates(4 molecules of 6 samples; Plans(4 targets, 2 solved))"
    assert found.samples.seed == 3 and found.samples.more == {"steps": 9}
    rows = list(csv.DictReader(found.write(tmp_path / "a.csv").open()))
    assert [r["smiles"] for r in rows] == [r["smiles"] for r in found.rows]
    content = json.loads(found.write(tmp_path / "a.json").read_text())
    assert content["invalid"] == 1 and len(content["plans"]) == 4
    assert (found.write(tmp_path / "all") / "plans" / "target-1.svg").is_file()
    with pytest.raises(ValueError, match=r"\.csv, \.json or into a folder"):
        found.write(tmp_path / "a.txt")


def test_only_the_best_are_planned_for():
    found = sy.generate_and_plan(Parrot(), 6, inventory(), policy(), chem.weight, top=1)
    assert len(found.plans) == 1 and len(found.rows) == 4
    assert found.rows[1]["note"] == "not planned for" and found.rows[1]["solved"] is None


def test_what_is_refused():
    nothing = SimpleNamespace(sample=lambda n, seed: SimpleNamespace(smiles=[None] * n))
    with pytest.raises(ValueError, match="none of the 3 samples is a molecule"):
        sy.generate_and_plan(nothing, 3, inventory(), policy())
    with pytest.raises(TypeError, match=r"a model with \.sample"):
        sy.generate_and_plan(object(), 3, inventory(), policy())
    graphs = SimpleNamespace(sample=lambda n, seed: SimpleNamespace(smiles=None))
    with pytest.raises(TypeError, match="are no molecules"):
        sy.generate_and_plan(graphs, 3, inventory(), policy())
    with pytest.raises(ValueError, match="the score of CCO is nan"):
        sy.generate_and_plan(Parrot(), 6, inventory(), policy(), lambda m: math.nan if m.GetNumAtoms() == 3 else 1.0)


def test_samples_in_pieces_are_no_targets_and_rows_keep_their_own_plans():
    said = [f"{TARGET}.{TARGET}", "CCCCCC", TARGET, "NCCO"]
    model = SimpleNamespace(sample=lambda n, seed: SimpleNamespace(smiles=said[:n]))
    found = sy.generate_and_plan(model, 4, inventory(), policy(), chem.weight)
    assert [(r["solved"], r["steps"]) for r in found.rows] == [(None, None), (True, 2), (False, None), (True, 0)]
    assert found.rows[0]["note"] == "several pieces" and len(found.plans) == 3
    broken = SimpleNamespace(sample=lambda n, seed: SimpleNamespace(smiles=["C.C"] * n))
    with pytest.raises(ValueError, match="all 1 different samples fall into several pieces"):
        sy.generate_and_plan(broken, 2, inventory(), policy())
