"""Training by planning: targets by hand, the update, resuming, what is refused."""

from __future__ import annotations

import random

import pytest
import torch

pytest.importorskip("rdchiral")
pytest.importorskip("syntheseus")
pytest.importorskip("lightning")

from scidiffuse.molecules import synthesis as sy
from scidiffuse.molecules.synthesis import pdvn, search

from .world import AMIDE, CHLORIDE, ESTER, TARGET, inventory, policy

FAST = sy.PDVNConfig(simulations=30, epochs=30, lr=1e-2)


def searched(target, stock, model, values, simulations=30):
    limits = search.Limits(500, simulations, None, 15, False)
    return search.pdvn(target, stock, model, values, limits, 1, FAST, random.Random(0))


def test_targets_by_hand():
    """TARGET is solved by two reactions of cost 0.1; its parts by one; ethanol, which nothing makes, is a dead
    end of value 0."""
    model = policy((0.1, 0.45, 0.45))
    found = searched(TARGET, inventory(), model, sy.DualValues(model.config), simulations=100)
    told = {e.smiles: e for e in search.experience(found.graph, 0.8)}
    whole = told[TARGET]
    assert whole.syn == 1.0 and whole.cost == pytest.approx(0.2)
    assert whole.templates == tuple(sorted((AMIDE, ESTER)))  # both orders cost the same
    assert told["CC(=O)NCCO"].cost == pytest.approx(0.1) and told["CC(=O)NCCO"].templates == (AMIDE,)
    dead = searched("CCO", inventory(), model, sy.DualValues(model.config))
    assert search.experience(dead.graph, 0.8) == [search.Experience("CCO", 0.0, None, ())]
    assert not {"CC(=O)O", "CCC(=O)O", "NCCO"} & set(told)  # what can be bought teaches nothing


def test_unsolved_molecules_are_taught_a_part_of_what_the_search_thinks():
    model = policy()
    values = sy.DualValues(model.config, seed=3)
    found = searched(TARGET, sy.Inventory(["C"]), model, values, simulations=2)
    told = {e.smiles: e for e in search.experience(found.graph, 0.8)}
    graph = found.graph
    root = graph.root_node
    assert not root.has_solution
    assert told[TARGET].syn == pytest.approx(0.8 * root.data["pdvn_mcts_v_syn"])
    assert told[TARGET].cost is None


def test_the_first_backup_is_the_product_of_the_reactants():
    """One walk, one reaction: V_syn of the root is that of the reactant it went to times 0, the others' start value,
    and V_cost that of it plus the reaction's cost."""
    model = policy((1.0,), (ESTER,))
    stock, values = sy.Inventory(["CO"]), sy.DualValues(model.config, seed=1)
    found = searched("COC(C)=O", stock, model, values, simulations=1)
    (reaction,) = found.graph.successors(found.graph.root_node)
    visited = [n for n in found.graph.successors(reaction) if n.num_visit]
    assert len(visited) == 1
    syn, cost = values([visited[0].mol.smiles])
    assert reaction.data["pdvn_mcts_v_cost"] == pytest.approx(float(cost) + 0.1, abs=1e-6)
    assert reaction.data["pdvn_mcts_v_syn"] == 0.0 and 0 < float(syn) < 1


def test_the_best_outcome_of_several_searches_counts():
    def one(**molecule):
        return {"molecules": [{"smiles": "C", "syn": 0.1, "cost": None, "templates": (), **molecule}]}

    assert pdvn.merged([one(syn=0.2), one(syn=0.4), one(syn=0.3)])[0]["syn"] == 0.4
    solved = {"syn": 1.0, "templates": ("a",)}
    (best,) = pdvn.merged([one(**solved, cost=0.3), one(syn=0.9), one(**solved, cost=0.2), one(**solved, cost=0.4)])
    assert best["cost"] == 0.2
    (both,) = pdvn.merged([one(**solved, cost=0.2), one(syn=1.0, cost=0.2, templates=("b",))])
    assert both["templates"] == ["a", "b"]


@pytest.fixture(scope="module")
def result():
    return sy.pdvn_train(policy(), sy.DualValues(policy().config), [TARGET, "CCO"], inventory(), config=FAST, seed=0)


def test_a_round_teaches_the_choice_and_not_the_proposal(result):
    """The chloride, a dead end, was the likeliest; afterwards the acid is. The frozen branch proposes as before."""
    before = policy()
    assert before.propose(TARGET)[0].template == CHLORIDE
    after = result.policy.propose(TARGET)
    assert after[0].template in (AMIDE, ESTER) and after[-1].template == CHLORIDE
    assert torch.equal(result.policy.candidates([TARGET])[0], before.candidates([TARGET])[0])
    assert result.rounds[0].solved.value == 0.5 and set(result.rounds[0].losses) == {"policy", "syn", "cost"}
    plans = [sy.plan(TARGET, inventory(), model, first=True) for model in (before, result.policy)]
    assert plans[1].calls_to_first == 2 < plans[0].calls_to_first


def test_values_learn_their_targets(result):
    syn, cost = result.values([TARGET, "CC(=O)Cl"])
    assert syn[0] > 0.8 and syn[1] < 0.2
    assert cost[0] == pytest.approx(0.2, abs=0.05)


def test_what_was_given_stays_as_it_was(result):
    given = policy()
    before = [p.clone() for p in given.network.parameters()]
    sy.pdvn_train(given, sy.DualValues(given.config), [TARGET], inventory(), config=FAST)
    assert all(torch.equal(a, b) for a, b in zip(before, given.network.parameters(), strict=True))
    assert not given.network.is_split


def test_files(result, tmp_path):
    folder = result.save(tmp_path)
    back, values = sy.TemplatePolicy.load(folder / "policy"), sy.DualValues.load(folder / "values")
    assert back.propose(TARGET) == result.policy.propose(TARGET) != policy().propose(TARGET)
    assert all(torch.equal(a, b) for a, b in zip(values([TARGET]), result.values([TARGET]), strict=True))


def test_stopped_and_resumed_is_the_same(result, tmp_path, monkeypatch):
    def train(**more):
        values = sy.DualValues(policy().config)
        return sy.pdvn_train(policy(), values, [TARGET, "CCO"], inventory(), config=FAST, save_every=1, **more)

    real = search.pdvn
    calls = []

    def stops(target, *rest):
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(target, *rest)

    monkeypatch.setattr(search, "pdvn", stops)
    with pytest.raises(KeyboardInterrupt):
        train(out=tmp_path)
    again = train(out=tmp_path, resume=True)
    assert calls == [TARGET, "CCO", "CCO"]  # the first search was not run again
    assert _equal(again, result)
    assert _equal(sy.TemplatePolicy.load(tmp_path / "round-1" / "policy"), result.policy)
    with pytest.raises(ValueError, match="holds a training already"):
        train(out=tmp_path)
    with pytest.raises(ValueError, match="its seed were others"):
        train(out=tmp_path, resume=True, seed=5)


def test_imitation_of_given_pairs():
    taught = sy.imitate(policy(), [(TARGET, ESTER)], FAST)
    assert taught.propose(TARGET)[0].template == ESTER
    with pytest.raises(ValueError, match="none of the 1 pairs"):
        sy.imitate(policy(top=1), [(TARGET, ESTER)], FAST)


def test_what_is_refused():
    values = sy.DualValues(policy().config)
    with pytest.raises(ValueError, match="none of the 1 targets has to be made"):
        sy.pdvn_train(policy(), values, ["NCCO"], inventory())
    with pytest.raises(ValueError, match="other fingerprints"):
        sy.pdvn_train(policy(), sy.DualValues(), [TARGET], inventory())
    with pytest.raises(RuntimeError, match="not trained"):
        sy.pdvn_train(sy.TemplatePolicy(), values, [TARGET], inventory())
    with pytest.raises(ValueError, match="needs the folder"):
        sy.pdvn_train(policy(), values, [TARGET], inventory(), resume=True)
    with pytest.raises(ValueError, match="unsolved in"):
        sy.PDVNConfig(unsolved=2.0)


def _equal(a, b):
    if isinstance(a, sy.PDVNResult):
        return _equal(a.policy, b.policy) and _equal(a.values, b.values) and a.rounds == b.rounds
    return all(torch.equal(x, y) for x, y in zip(a.network.parameters(), b.network.parameters(), strict=True))
