"""Plans in a world where every route can be listed, and what planning refuses."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

pytest.importorskip("rdchiral")
pytest.importorskip("syntheseus")

from scidiffuse.core.problems import SkippedData
from scidiffuse.molecules import synthesis as sy
from scidiffuse.molecules.synthesis import extras

from .world import AMIDE, ESTER, STOCK, TARGET, cheapest, inventory, policy


def log_cost(suggestion):
    return -math.log(min(suggestion.probability, 0.999))


@pytest.mark.parametrize("weights", [(0.6, 0.3, 0.1), (0.05, 0.05, 0.9), (0.1, 0.8, 0.1)])
@pytest.mark.parametrize("more", [(), ("CC(=O)Cl",)])
def test_retro_star_finds_the_cheapest_of_all_routes(weights, more):
    model, stock = policy(weights), inventory(*more)
    found = sy.plan(TARGET, stock, model, calls=50)
    assert found.solved and found.best.steps == 2
    assert found.best.cost == pytest.approx(cheapest(TARGET, stock, model, log_cost), abs=1e-6)
    assert [r.cost for r in found.routes] == sorted(r.cost for r in found.routes)
    assert set(found.best.leaves) <= {*STOCK, *more}
    assert found.best.cost == pytest.approx(sum(s.cost for s in found.best.reactions))


def test_all_routes_are_found_and_none_twice():
    found = sy.plan(TARGET, inventory("CC(=O)Cl"), policy(), calls=50, routes=20)
    ways = {tuple(str(s) for s in r.reactions) for r in found.routes}
    assert len(ways) == len(found.routes) == 4  # the amide before or after the ester, by acid or by chloride
    assert found.calls_to_first <= found.calls


def test_pdvn_finds_it_too_and_its_cost_counts_reactions():
    found = sy.plan(TARGET, inventory(), policy(), "pdvn", values=sy.DualValues(policy().config), iterations=60, seed=1)
    assert found.solved and found.best.steps == 2
    assert found.best.cost == pytest.approx(0.2)
    assert {s.template for s in found.best.reactions} == {AMIDE, ESTER}


def test_a_longer_route_wins_where_it_is_likelier():
    """One step by a rare template against two by frequent ones: -log p decides, not the number of steps."""
    at_once = "[C:1](=[O:2])-[N:3]-[C:4]-[C:5]-[O:6]>>[C:1](=[O:2])-[O:6]-[C:5]-[C:4]-[N:3]"
    model = policy((1e-6, 0.5, 0.5), (at_once, AMIDE, ESTER))
    stock = inventory("CCC(=O)OCCOC(C)=O")
    found = sy.plan(TARGET, stock, model, calls=50)
    assert found.best.steps == 2
    assert found.best.cost == pytest.approx(cheapest(TARGET, stock, model, log_cost), abs=1e-6)


def test_what_cannot_be_made_says_so_and_what_is_cut_short_says_that():
    stock = sy.Inventory(["CC(=O)O"])
    none = sy.plan(TARGET, stock, policy(), calls=1000)
    assert not none.solved and none.best is None and none.routes == ()
    assert "nothing was left to try" in none.note
    short = sy.plan(TARGET, inventory(), policy(), calls=1)
    assert not short.solved and "a limit was met after 1 calls" in short.note
    assert not sy.plan(TARGET, inventory(), policy(), depth=1).solved


def test_molecules_that_are_made_from_each_other_do_not_make_a_search_endless():
    """Three alcohols, each free or as an ether: 8 molecules, but many more ways through them."""
    templates = ("[C:1]-[OH:2]>>[C:1]-[O:2]-C", "[C:1]-[O:2]-[CH3]>>[C:1]-[OH:2]")
    found = sy.plan("OCCC(O)CCCCO", sy.Inventory(["C"]), policy((0.5, 0.5), templates), calls=20)
    assert not found.solved and found.calls == 20


def test_a_target_that_can_be_bought():
    stock = inventory(TARGET)
    bought = sy.plan(TARGET, stock, policy())
    assert bought.solved and bought.best.steps == bought.best.depth == bought.calls == bought.calls_to_first == 0
    assert bought.best.leaves == (bought.target,) and "can be bought" in bought.note
    assert sy.plan(TARGET, stock.without(TARGET), policy()).best.steps == 2


def test_many_targets_bad_ones_skipped_and_named():
    with pytest.warns(SkippedData, match=r"target 2.*C1CC.*target 4.*is 2 molecules"):
        plans = sy.plan([TARGET, "C1CC", "CCO", "CC.CC"], inventory(), policy(), errors="skip")
    assert len(plans) == 2 and [p.solved for p in plans.plans] == [True, False]
    assert [s.where for s in plans.skipped] == ["target 2", "target 4"]
    assert plans.solved.value == 0.5 and plans.solved.left_out == 2
    assert repr(plans) == "Plans(2 targets, 1 solved, 2 skipped)"
    with pytest.raises(ValueError, match="target 2"):
        sy.plan([TARGET, "C1CC"], inventory(), policy())
    with pytest.raises(ValueError, match="C1CC"):
        sy.plan("C1CC", inventory(), policy(), errors="skip")
    with pytest.raises(ValueError, match="no targets"):
        sy.plan([], inventory(), policy())


def test_limits_and_algorithms_are_checked():
    for wrong, words in (
        ({"algorithm": "a*"}, "'retro\\*' or 'pdvn'"),
        ({"algorithm": "pdvn"}, "needs values="),
        ({"calls": 0}, "calls must be a positive integer"),
        ({"calls": None}, "without a limit"),
        ({"seconds": -1.0}, "seconds must be positive"),
        ({"routes": True}, "routes must be"),
    ):
        with pytest.raises(ValueError, match=words):
            sy.plan(TARGET, inventory(), policy(), **wrong)
    with pytest.raises(TypeError, match="expected an Inventory"):
        sy.plan(TARGET, list(STOCK), policy())
    with pytest.raises(RuntimeError, match="not trained"):
        sy.plan(TARGET, inventory(), sy.TemplatePolicy())


def test_missing_syntheseus_prints_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "syntheseus", None)
    for name in [n for n in sys.modules if n.startswith("syntheseus.") or n == "scidiffuse.molecules.synthesis.search"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r'pip install "scidiffuse\[molecules\]"'):
        extras.search()


def test_files(tmp_path):
    plans = sy.plan([TARGET, "CCO"], inventory(), policy())
    plans.write(tmp_path / "all")
    plans[0].write(tmp_path / "one")
    content = json.loads((tmp_path / "one" / "routes.json").read_text())
    assert content["solved"] and content["routes"][0]["tree"]["smiles"] == plans[0].target
    assert sorted(p.name for p in (tmp_path / "all").iterdir()) == ["plans.csv", "routes.json", "target-1.svg"]
    lines = (tmp_path / "all" / "plans.csv").read_text().splitlines()
    assert len(lines) == 3 and lines[2].startswith("CCO,False,0,,")


def test_the_picture_shows_every_molecule_of_the_route():
    route = sy.plan(TARGET, inventory(), policy()).best
    root = ET.fromstring(route.svg())
    space = "{http://www.w3.org/2000/svg}"
    titles = [e.text for g in root.iter(f"{space}g") for e in g.findall(f"{space}title")]
    assert sorted(titles) == sorted(m.smiles for m in route.tree.walk())
    arrows = [e for e in root.iter(f"{space}path") if e.get("marker-end")]
    assert len(arrows) == len(titles) - 1  # one to every molecule but the target


def test_the_same_in_every_process():
    """Python's hashes of strings differ between processes; plans do not."""
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from world import *;"
        "o = dict(values=sy.DualValues(policy().config), routes=9, iterations=9);"
        "ps = [sy.plan([TARGET] * 2, inventory('CC(=O)Cl'), policy(), a, **o) for a in ('retro*', 'pdvn')];"
        "print(json.dumps([q.to_dict() for p in ps for q in p.plans]))"
    )
    env = {**os.environ, "PYTHONHASHSEED": "1"}
    other = subprocess.check_output([sys.executable, "-c", code, str(Path(__file__).parent)], env=env)
    options = {"values": sy.DualValues(policy().config), "routes": 9, "iterations": 9}
    own = [sy.plan([TARGET] * 2, inventory("CC(=O)Cl"), policy(), a, **options) for a in ("retro*", "pdvn")]
    assert json.loads(other) == json.loads(json.dumps([p.to_dict() for plans in own for p in plans.plans]))
    assert all(p.solved for plans in own for p in plans.plans)
