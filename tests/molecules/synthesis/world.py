"""A small world with three reactions, in which every route can be listed."""

from __future__ import annotations

import math

import torch

from scidiffuse.molecules import synthesis as sy
from scidiffuse.molecules.synthesis.policy import build

CHLORIDE = "[C:1](=[O:2])-[N:3]>>Cl-[C:1]=[O:2].[N:3]"
AMIDE = "[C:1](=[O:2])-[N:3]>>O-[C:1]=[O:2].[N:3]"
ESTER = "[C:1](=[O:2])-[O:3]-[C:4]>>O-[C:1]=[O:2].[O:3]-[C:4]"
TARGET = "CCC(=O)OCCNC(C)=O"  # an amide of acetic acid and an ester of propionic acid, on ethanolamine
STOCK = ("CC(=O)O", "CCC(=O)O", "NCCO")


def policy(weights=(0.6, 0.3, 0.1), templates=(CHLORIDE, AMIDE, ESTER), **changes):
    """A policy whose probabilities are the same for all molecules, before it is known what applies."""
    model = sy.TemplatePolicy.for_dataset(sy.Templates(templates, (1,) * len(templates)), "toy", **changes)
    model.network = build(model.config, len(templates), 0)
    with torch.no_grad():
        model.network.proposal[-1].weight.zero_()
        model.network.proposal[-1].bias.copy_(torch.tensor(weights).log())
    model.network.eval().requires_grad_(False)
    return model


def inventory(*more):
    return sy.Inventory([*STOCK, *more])


def cheapest(smiles, stock, model, cost, depth=6):
    """The cost of the cheapest route, by trying all of them."""
    if smiles in stock:
        return 0.0
    if depth == 0:
        return math.inf
    return min(
        (
            cost(s) + sum(cheapest(r, stock, model, cost, depth - 1) for r in set(s.reactants))
            for s in model.propose(smiles)
        ),
        default=math.inf,
    )
