"""Routes: how a target is made from what can be bought, and the cheapest ones of a tree of possibilities."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Made", "Route", "Step", "cheapest"]


@dataclass(frozen=True)
class Step:
    """One reaction of a route.

    Attributes:
        product: SMILES. reactants: SMILES, sorted. template: retro SMARTS. probability: by the one-step model.
        cost: what the search was told that it costs.
    """

    product: str
    reactants: tuple[str, ...]
    template: str
    probability: float
    cost: float

    def __str__(self) -> str:
        return f"{'.'.join(self.reactants)}>>{self.product}"


@dataclass(frozen=True)
class Made:
    """A molecule of a route: bought (no step), or made by a step from others.

    Attributes:
        smiles: the molecule. step: its reaction, None if it is bought. parts: its different reactants.
    """

    smiles: str
    step: Step | None = None
    parts: tuple[Made, ...] = ()

    def walk(self) -> Iterator[Made]:
        """This molecule and all below it, each before its parts."""
        yield self
        for part in self.parts:
            yield from part.walk()

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, for JSON."""
        if self.step is None:
            return {"smiles": self.smiles, "bought": True}
        step = {"template": self.step.template, "probability": self.step.probability, "cost": self.step.cost}
        return {"smiles": self.smiles, "bought": False, **step, "from": [part.to_dict() for part in self.parts]}


@dataclass(frozen=True)
class Route:
    """A complete route: all its leaves can be bought.

    Attributes:
        tree: the target, down to what is bought. cost: sum of the costs of its reactions.
    """

    tree: Made
    cost: float

    def __repr__(self) -> str:
        return f"Route({self.target}: {self.steps} reactions, depth {self.depth}, cost {self.cost:.4g})"

    @property
    def target(self) -> str:
        """SMILES of what is made."""
        return self.tree.smiles

    @property
    def reactions(self) -> tuple[Step, ...]:
        """Its reactions, the last one of the synthesis first."""
        return tuple(m.step for m in self.tree.walk() if m.step is not None)

    @property
    def leaves(self) -> tuple[str, ...]:
        """What is bought: SMILES, sorted, each once."""
        return tuple(sorted({m.smiles for m in self.tree.walk() if m.step is None}))

    @property
    def steps(self) -> int:
        """Number of reactions."""
        return len(self.reactions)

    @property
    def depth(self) -> int:
        """Most reactions one after another."""

        def depth(made: Made) -> int:
            return 0 if made.step is None else 1 + max(depth(part) for part in made.parts)

        return depth(self.tree)

    def svg(self) -> str:
        """A picture: molecules in boxes (green: bought), arrows from the reactants up to their product."""
        from .draw import route_svg

        return route_svg(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "cost": self.cost,
            "steps": self.steps,
            "depth": self.depth,
            "leaves": list(self.leaves),
            "reactions": [str(step) for step in self.reactions],
            "tree": self.tree.to_dict(),
        }


def cheapest(
    root: Any,
    k: int,
    name: Callable[[Any], str],
    bought: Callable[[Any], bool],
    reactions: Callable[[Any], list[tuple[Step, list[Any]]]],
) -> list[tuple[float, Made]]:
    """The k cheapest routes in a tree of molecules and reactions, by cost.

    Exact: the k cheapest of a molecule are among those made of the k cheapest of its reactants. Of equal cost the one
    whose reaction stands first.

    Args:
        root: the target's node. name: its SMILES. bought: whether it can be bought (then it is, at no cost).
        reactions: of a node: steps with the nodes of their different reactants.
    """
    if bought(root):
        return [(0.0, Made(name(root)))]
    found: list[tuple[float, Made]] = []
    for step, parts in reactions(root):
        sets: list[tuple[float, tuple[Made, ...]]] = [(step.cost, ())]
        for part in parts:
            below = cheapest(part, k, name, bought, reactions)
            pairs = [(cost + c, (*made, m)) for cost, made in sets for c, m in below]
            sets = heapq.nsmallest(k, pairs, key=lambda pair: pair[0])
            if not sets:
                break
        found += [(cost, Made(name(root), step, made)) for cost, made in sets]
    return [pair for pair in heapq.nsmallest(k, found, key=lambda pair: pair[0]) if math.isfinite(pair[0])]
