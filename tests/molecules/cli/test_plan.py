"""Planning from the command line, in a world of one reaction."""

from __future__ import annotations

import csv
import json

import pytest

pytest.importorskip("syntheseus")
pytest.importorskip("rdchiral")

from scidiffuse import molecules as mo

#: Amides of acids and amines, mapped.
REACTIONS = [
    "[CH3:1][CH2:6][C:2](=[O:3])[OH:9].[NH2:4][CH2:5][CH2:7][CH3:8]"
    ">>[CH3:1][CH2:6][C:2](=[O:3])[NH:4][CH2:5][CH2:7][CH3:8]",
    "[CH3:8][CH2:1][CH2:6][C:2](=[O:3])[OH:9].[NH2:4][CH2:5][CH3:7]"
    ">>[CH3:8][CH2:1][CH2:6][C:2](=[O:3])[NH:4][CH2:5][CH3:7]",
]
TARGET = "CCNC(=O)CC"


@pytest.fixture
def world(tmp_path):
    with (tmp_path / "reactions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["rxn_smiles"], *([r] for r in REACTIONS)])
    (tmp_path / "stock.smi").write_text("CCC(=O)O acid\nCCN amine\n")
    return tmp_path


def test_a_policy_is_learned_and_finds_the_route_that_there_is(world, call):
    out = world / "out"
    words = ["--fit-templates", world / "reactions.csv", "--inventory", world / "stock.smi", "--no-progress"]
    text = call("plan", TARGET, *words, "--epochs", 3, "--out", out)
    routes = json.loads((out / "routes.json").read_text())
    assert routes["plans"][0]["solved"] and routes["plans"][0]["steps"] == 1
    rows = list(csv.DictReader((out / "plans.csv").open()))
    assert rows[0]["smiles"] == mo.chem.canonical(TARGET) and rows[0]["solved"] == "True"
    assert "<svg" in (out / "target-1.svg").read_text() and "solved" in text
    assert json.loads((out / "report.json").read_text())["scores"]["solved"]["value"] == 1.0
    # the policy that was written plans without the reactions
    (world / "targets.smi").write_text(f"{TARGET} x\nCCCCCC y\n")
    more = ["--policy", out / "policy", "--inventory", world / "stock.smi", "--no-progress"]
    call("plan", world / "targets.smi", *more, "--out", world / "again")
    plans = json.loads((world / "again" / "routes.json").read_text())["plans"]
    assert [p["solved"] for p in plans] == [True, False]


def test_what_can_be_bought_is_made_only_when_asked(world, call):
    (world / "stock.smi").write_text(f"CCC(=O)O\nCCN\n{TARGET}\n")
    words = ["--fit-templates", world / "reactions.csv", "--inventory", world / "stock.smi", "--no-progress"]
    call("plan", TARGET, *words, "--epochs", 3, "--out", world / "a")
    call("plan", TARGET, *words, "--epochs", 3, "--make", "--out", world / "b")
    steps = [json.loads((world / k / "routes.json").read_text())["plans"][0]["steps"] for k in "ab"]
    assert steps == [0, 1]
    # the same folder again, for what has no route: nothing of the run before is left, or told as written
    more = ["--policy", world / "b" / "policy", "--inventory", world / "stock.smi", "--no-progress"]
    (world / "b" / "own.txt").write_text("mine")
    text = call("plan", "CCCCCC", *more, "--out", world / "b")
    assert "wrote plans.csv, report.json, routes.json in" in text
    left = {"plans.csv", "report.json", "routes.json", "own.txt", "policy"}
    assert {p.name for p in (world / "b").iterdir()} == left
    text = call("plan", TARGET, *more, "--out", world / "c")
    assert "--make asks for how it is made" in text and "inventory.without" not in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([TARGET], "give one of --policy, a trained one, and --fit-templates"),
        ([TARGET, "--policy", "p"], "--inventory is missing"),
        ([TARGET, "--fit-templates", "reactions.csv", "--algorithm", "pdvn"], "needs --values"),
        (["none.smi", "--fit-templates", "reactions.csv"], "no file none.smi"),
        ([TARGET, "--fit-templates", "none.csv"], "no file none.csv"),
        ([TARGET, "--fit-templates", "sbm"], "holds Graphs, expected mapped reactions"),
    ],
)
def test_bad_input_is_one_line(words, says, world, call, monkeypatch):
    monkeypatch.chdir(world)
    text = call("plan", *words, "--out", world / "x", "--no-progress", code=2)
    assert says in text and text.startswith("error: ") and text.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["XX"], "target 1"),
        (["XX", "--errors", "skip"], "the targets: nothing is left, 1 bad: target 1"),
        ([TARGET, "CC.CC"], "target 2"),
        ([TARGET, "--inventory", "none.smi"], "no file none.smi"),
        ([TARGET, "--algorithm", "pdvn", "--values", "none"], "none"),
        ([TARGET, "--values", "none"], "--values is of --algorithm pdvn"),
        ([TARGET, "--pdvn-targets", 3], "--pdvn-targets is of --pdvn-rounds"),
        ([TARGET, "--pdvn-rounds", 1, "--inventory", "all.smi"], "all 2 products of the reactions can be bought"),
    ],
)
def test_what_cannot_be_is_told_before_a_policy_is_trained(words, says, world, call, monkeypatch):
    from scidiffuse.molecules.synthesis import TemplatePolicy

    def never(*_, **__):
        raise AssertionError("this was to be refused before")

    monkeypatch.setattr(TemplatePolicy, "fit", never)
    monkeypatch.chdir(world)
    (world / "all.smi").write_text("CCCNC(=O)CC\nCCNC(=O)CCC\n")
    text = call("plan", *words, "--fit-templates", "reactions.csv", "--out", "x", "--no-progress", code=2)
    assert says in text and text.startswith("error: ") and not (world / "x").exists()


def test_targets_that_are_no_molecules_are_left_out_where_it_is_asked(world, call):
    words = ["--fit-templates", world / "reactions.csv", "--inventory", world / "stock.smi", "--no-progress"]
    text = call("plan", TARGET, "XX", *words, "--epochs", 1, "--make", "--errors", "skip", "--out", world / "out")
    assert "the targets: left out 1 of 2: target 2" in text
    assert len(json.loads((world / "out" / "routes.json").read_text())["plans"]) == 1


def test_rounds_of_pdvn_give_the_values_that_its_search_needs(world, call):
    (world / "stock.smi").write_text("CCC(=O)O\nCCN\nCCCN\nCCCC(=O)O\n")
    stock = ["--inventory", world / "stock.smi", "--no-progress", "--algorithm", "pdvn"]
    words = ["--fit-templates", world / "reactions.csv", "--epochs", 3, "--pdvn-rounds", 2, "--pdvn-targets", 1]
    text = call("plan", TARGET, *stock, *words, "--out", world / "out")
    assert "round 1: solved 1.000 of 1 products" in text and "round 2: solved" in text
    report = json.loads((world / "out" / "report.json").read_text())
    assert set(report["pdvn_rounds"][1]["losses"]) == {"policy", "syn", "cost"}
    first = json.loads((world / "out" / "routes.json").read_text())["plans"][0]
    assert first["solved"] and first["info"]["algorithm"] == "pdvn"
    models = ["--policy", world / "out" / "policy", "--values", world / "out" / "values"]
    call("plan", TARGET, *stock, *models, "--out", world / "again")
    again = json.loads((world / "again" / "routes.json").read_text())["plans"][0]
    assert again["routes"] == first["routes"]
    text = call("plan", TARGET, *stock, *models, "--pdvn-rounds", 1, "--out", world / "again", code=2)
    assert "--pdvn-rounds learns from the products of reactions: give --fit-templates" in text
