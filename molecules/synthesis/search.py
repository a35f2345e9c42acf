"""The searches of syntheseus, on our policy, inventory and values. Imported by the functions that need syntheseus.

Retro* (Chen, Li, Dai and Song, "Retro*: learning retrosynthetic planning with neural guided A* search", 2020) with the
cost -log p of a reaction and no value function is Retro*-0. PDVN's search is a Monte Carlo tree search on the same
tree of molecules (OR nodes: one reaction suffices) and reactions (AND nodes: all reactants are needed).

syntheseus keeps nodes and reactants in Python sets, whose order differs from one process to the next, and breaks ties
by it. Here nodes are ordered by when they were made, and reactants by their SMILES, so that a search is the same
wherever it is run.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from syntheseus.interface.bag import Bag
from syntheseus.interface.models import BackwardReactionModel
from syntheseus.interface.molecule import Molecule
from syntheseus.interface.reaction import SingleProductReaction
from syntheseus.search import INT_INF
from syntheseus.search.algorithms.best_first.retro_star import RetroStarSearch
from syntheseus.search.algorithms.pdvn import PDVN_MCTS, pdvn_extract_training_data
from syntheseus.search.graph.and_or import AndNode, AndOrGraph, OrNode
from syntheseus.search.mol_inventory import BaseMolInventory
from syntheseus.search.node_evaluation.base import NoCacheNodeEvaluator
from syntheseus.search.node_evaluation.common import (
    ConstantNodeEvaluator,
    ReactionModelLogProbCost,
    ReactionModelProbPolicy,
)

from .config import PDVNConfig
from .inventory import Inventory
from .policy import TemplatePolicy
from .routes import Made, Step, cheapest
from .values import DualValues

__all__ = ["Experience", "Limits", "Searched", "experience", "pdvn", "policy_model", "retro_star"]


@dataclass(frozen=True)
class Limits:
    """Where a search ends: molecules expanded, iterations of the algorithm, seconds, reactions in a row, and whether
    the first route is enough."""

    calls: int | None
    iterations: int | None
    seconds: float | None
    depth: int
    first: bool

    def keywords(self) -> dict[str, Any]:
        """As syntheseus names them; its depth counts molecules and reactions."""
        return {
            "limit_reaction_model_calls": INT_INF if self.calls is None else self.calls,
            "limit_iterations": INT_INF if self.iterations is None else self.iterations,
            "time_limit_s": math.inf if self.seconds is None else self.seconds,
            "max_expansion_depth": 2 * self.depth,
            "stop_on_first_solution": self.first,
            "prevent_repeat_mol_in_trees": True,
        }


@dataclass(frozen=True)
class Searched:
    """What a search came to: its routes by cost, its calls in all and until the first route, and its tree."""

    routes: list[tuple[float, Made]]
    calls: int
    first: int | None
    graph: AndOrGraph
    exhausted: bool


# --------------------------------------------------------------------------------------------------------------------
# our objects as those of syntheseus


class OrderedReaction(SingleProductReaction):
    """A reaction whose different reactants come in the order of their SMILES."""

    @property
    def unique_reactants(self) -> Any:
        return dict.fromkeys(self.reactants).keys()


class PolicyModel(BackwardReactionModel):
    """A `TemplatePolicy` as a one-step model.

    A molecule that it was asked about before counts as a call all the same: in a tree a few molecules that are made
    from each other can stand in very many places, and a search that has those for nothing does not end.
    """

    def __init__(self, policy: TemplatePolicy) -> None:
        super().__init__(
            use_cache=True,
            count_cache_in_num_calls=True,
            remove_product_in_reactants=True,
            default_num_results=policy.config.top,
        )
        self.policy = policy

    def _get_reactions(self, inputs: list[Molecule], num_results: int) -> list[Sequence[SingleProductReaction]]:
        return [[_reaction(mol, s) for s in self.policy.propose(mol.smiles)[:num_results]] for mol in inputs]

    def get_parameters(self) -> Any:
        """The parameters of the networks."""
        return () if self.policy.network is None else self.policy.network.parameters()


def policy_model(policy: TemplatePolicy) -> PolicyModel:
    """See `TemplatePolicy.reaction_model`."""
    return PolicyModel(policy)


def _molecule(smiles: str) -> Molecule:
    return Molecule(smiles, canonicalize=False, make_rdkit_mol=False)


def _reaction(product: Molecule, suggestion: Any) -> OrderedReaction:
    return OrderedReaction(
        reactants=Bag(_molecule(s) for s in suggestion.reactants),
        product=product,
        metadata={"probability": suggestion.probability, "template": suggestion.template},
    )


class _Inventory(BaseMolInventory):
    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory

    def is_purchasable(self, mol: Molecule) -> bool:
        return self.inventory.has(mol.smiles)


class _Values(NoCacheNodeEvaluator[OrNode]):
    """V_syn (index 0) or V_cost (index 1) of the molecules of nodes; each molecule is computed once a search."""

    def __init__(self, values: DualValues, which: int, known: dict[str, tuple[float, float]]) -> None:
        super().__init__()
        self.values, self.which, self.known = values, which, known

    def _evaluate_nodes(self, nodes: Sequence[OrNode], graph: Any = None) -> list[float]:
        for node in nodes:
            if node.mol.smiles not in self.known:
                syn, cost = self.values([node.mol.smiles])
                self.known[node.mol.smiles] = float(syn), float(cost)
        return [self.known[node.mol.smiles][self.which] for node in nodes]


class _Ordered:
    """Nodes in the order in which they were made."""

    def expand_node(self, node: Any, graph: Any, force_expansion: bool = False) -> Any:
        new = super().expand_node(node, graph, force_expansion)  # type: ignore[misc]
        for place, child in enumerate(new):
            child.data["order"] = len(graph) - len(new) + place
        return new

    def set_node_values(self, nodes: Any, graph: Any) -> Any:
        found = super().set_node_values(nodes, graph)  # type: ignore[misc]
        return sorted(found, key=lambda n: n.data.get("order", 0))


class _RetroStar(_Ordered, RetroStarSearch):
    pass


class _PDVN(_Ordered, PDVN_MCTS):
    pass


# --------------------------------------------------------------------------------------------------------------------
# searches


def retro_star(target: str, inventory: Inventory, policy: TemplatePolicy, limits: Limits, routes: int) -> Searched:
    """Retro*-0: best-first search by -log p of the reactions (p cut to [1e-10, 0.999])."""
    model = policy_model(policy)
    search = _RetroStar(
        reaction_model=model,
        mol_inventory=_Inventory(inventory),
        and_node_cost_fn=ReactionModelLogProbCost(normalize=False),
        value_function=ConstantNodeEvaluator(0.0),
        **limits.keywords(),
    )
    graph, _ = search.run_from_mol(_molecule(target))
    return _searched(graph, model, "retro_star_rxn_cost", routes, limits.depth)


def pdvn(
    target: str,
    inventory: Inventory,
    policy: TemplatePolicy,
    values: DualValues,
    limits: Limits,
    routes: int,
    config: PDVNConfig,
    random_state: random.Random,
) -> Searched:
    """PDVN's tree search: `config.simulations` walks where the limits give no number of iterations."""
    model = policy_model(policy)
    known: dict[str, tuple[float, float]] = {}
    settings = limits.keywords()
    if limits.iterations is None:
        settings["limit_iterations"] = config.simulations
    search = _PDVN(
        reaction_model=model,
        mol_inventory=_Inventory(inventory),
        c_dead=config.dead_end,
        value_function_syn=_Values(values, 0, known),
        value_function_cost=_Values(values, 1, known),
        and_node_cost_fn=ConstantNodeEvaluator(config.reaction_cost),
        policy=ReactionModelProbPolicy(),
        bound_constant=config.puct,
        random_state=random_state,
        **settings,
    )
    graph, _ = search.run_from_mol(_molecule(target))
    return _searched(graph, model, "pdvn_reaction_cost", routes, limits.depth)


def _searched(graph: AndOrGraph, model: PolicyModel, cost: str, routes: int, depth: int) -> Searched:
    def parts(node: Any) -> list[tuple[Step, list[Any]]]:
        return [(_step(cast(AndNode, c), cost), list(graph.successors(c))) for c in graph.successors(node)]

    found = cheapest(graph.root_node, routes, lambda n: n.mol.smiles, lambda n: n.mol.metadata["is_purchasable"], parts)
    exhausted = not _open(graph.root_node, graph, depth)
    return Searched(found, model.num_calls(), _first(graph.root_node, graph), graph, exhausted)


def _open(node: Any, graph: AndOrGraph, depth: int) -> bool:
    """Whether a search that went on might still find a first route to an unsolved node."""
    children = list(graph.successors(node))
    if isinstance(node, AndNode):
        return all(c.has_solution or _open(c, graph, depth) for c in children)
    if not node.is_expanded:
        return bool(not node.mol.metadata["is_purchasable"] and node.depth < 2 * depth)
    return any(_open(c, graph, depth) for c in children)


def _step(node: AndNode, cost: str) -> Step:
    reaction = node.reaction
    return Step(
        reaction.product.smiles,
        tuple(m.smiles for m in reaction.reactants),
        reaction.metadata["template"],
        reaction.metadata["probability"],
        float(node.data[cost]),  # type: ignore[literal-required]
    )


def _first(node: Any, graph: AndOrGraph) -> int | None:
    """Calls of the model until a node was solved; None where it is not."""
    if not node.has_solution:
        return None
    children = list(graph.successors(node))
    if isinstance(node, AndNode):
        return max(c for c in (_first(child, graph) for child in children) if c is not None)
    if node.mol.metadata["is_purchasable"]:
        return int(node.data["num_calls_rxn_model"])
    return min(c for c in (_first(child, graph) for child in children) if c is not None)


# --------------------------------------------------------------------------------------------------------------------
# what a search teaches


@dataclass(frozen=True)
class Experience:
    """What one search says about one molecule that cannot be bought.

    Attributes:
        smiles: the molecule. syn: target of V_syn. cost: of its cheapest route, None where it has none.
        templates: those of the first reactions of its cheapest routes.
    """

    smiles: str
    syn: float
    cost: float | None
    templates: tuple[str, ...]


def experience(graph: AndOrGraph, unsolved: float) -> list[Experience]:
    """The targets that a finished search of :func:`pdvn` gives, one a molecule, by SMILES.

    V_syn: 1 for a solved molecule; 0 for one that no reaction makes; ``unsolved`` times the mean of what the search was
    told of it in its visits (the largest over its places in the tree) for the others. Molecules that were never visited
    and are not solved say nothing.
    """
    data = pdvn_extract_training_data(graph)
    seen: dict[str, float] = {}
    for node in graph.nodes():
        if isinstance(node, OrNode) and node.num_visit > 0:
            told = float(node.data["pdvn_mcts_v_syn"])
            seen[node.mol.smiles] = max(seen.get(node.mol.smiles, 0.0), told)
    out = []
    for mol, outcome in sorted(data.mol_to_synthesizability.items(), key=lambda item: item[0].smiles):
        smiles = mol.smiles
        if mol.metadata["is_purchasable"]:
            continue
        if outcome > 0:
            reactions = data.mol_to_reactions_for_min_syn[mol]
            templates = tuple(sorted({r.metadata["template"] for r in reactions}))
            out.append(Experience(smiles, 1.0, float(data.mol_to_min_syn_cost[mol]), templates))
        elif outcome < 0:
            out.append(Experience(smiles, 0.0, None, ()))
        elif smiles in seen:
            out.append(Experience(smiles, unsolved * seen[smiles], None, ()))
    return out
