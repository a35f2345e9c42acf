"""Does one round of PDVN make a one-step model solve more targets per call?

    python -m benchmarks.molecules_planning                     three seeds, the recorded result
    python -m benchmarks.molecules_planning --seeds 7 --test 50 for a look

The 5,007 reactions of the USPTO-50k test file are all there is here, so this is a small world and says so: the
published templates, routes and building blocks are not used, and no number compares with the paper's.

1. Templates are read from all reactions; reported: how many reactions their own template recovers.
2. For each seed the reactions are split at random: 3,000 train the one-step model; of the next 1,000 only the products
   are used, as targets of the PDVN round; the products of the others are the test. Targets have at most 22 heavy atoms
   and are not in the inventory.
3. The inventory: the reactants of all reactions with at most 12 heavy atoms, those of test reactions included: who
   plans knows what can be bought, and not how to get there.
4. Each test target is planned for by Retro*-0 with at most 50 calls of the one-step model, by the policy *before*, by
   the policy *after* one PDVN round, and by a control, *more*: the same number of further steps on as many pairs
   (product, template) of the training reactions. The control has seen as much, but no routes.

The settings were chosen on seed 99, which is not reported. The score that was fixed beforehand: the share of targets
solved within N calls, averaged over N = 1 .. 50. Its difference after - before is given with a bootstrap interval over
targets, seeds pooled (targets of different seeds overlap: whole molecules are redrawn).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from scidiffuse.core.scores import bootstrap, wilson
from scidiffuse.molecules import chem, data
from scidiffuse.molecules import synthesis as sy
from scidiffuse.molecules.data.files import write_text

CALLS = 50
BUDGETS = (1, 2, 5, 10, 20, 50)
LARGEST = 22
FILE = "uspto50k_canonicalized_test.csv"


def heavy(smiles: str) -> int:
    """Heavy atoms of a molecule."""
    return chem.parse(smiles).GetNumHeavyAtoms()


def targets_of(reactions: list[Any], inventory: sy.Inventory, limit: int) -> list[str]:
    """Products to plan for, each once."""
    products = dict.fromkeys(r.products[0] for r in reactions)
    return [p for p in products if heavy(p) <= LARGEST and not inventory.has(p)][:limit]


def calls_to_first(targets: list[str], inventory: sy.Inventory, policy: sy.TemplatePolicy) -> np.ndarray:
    """Calls until the first route, infinite where none was found."""
    plans = sy.plan(targets, inventory, policy, calls=CALLS, first=True).plans
    return np.array([np.inf if p.calls_to_first is None else p.calls_to_first for p in plans])


def over_budgets(first: np.ndarray) -> np.ndarray:
    """Of each target the share of N = 1 .. CALLS within which it is solved."""
    return (first[:, None] <= np.arange(1, CALLS + 1)).mean(1)


def part(found: sy.Extraction, rows: np.ndarray) -> sy.Extraction:
    """The extraction of some of the reactions: the templates that occur in them."""
    smarts = [None if (t := found.labels[i]) is None else found.templates.smarts[t] for i in rows]
    counts = Counter(s for s in smarts if s is not None)
    kept = sorted(counts, key=lambda s: (-counts[s], s))
    index = {s: i for i, s in enumerate(kept)}
    labels = tuple(None if s is None else index[s] for s in smarts)
    return sy.Extraction(sy.Templates(tuple(kept), tuple(counts[s] for s in kept)), labels, {}, ())


def one_seed(seed: int, reactions: list[Any], found: sy.Extraction, args: argparse.Namespace) -> dict[str, Any]:
    """One split: the calls to the first route of every test target, by policy."""
    start = time.process_time()
    order = np.random.default_rng(seed).permutation(len(reactions))
    train, middle, test = (order[:3000], order[3000:4000], order[4000:])
    inventory = sy.Inventory.from_reactions(reactions, args.largest)
    own = part(found, train)
    products = [reactions[i].products[0] for i in train]
    before = sy.TemplatePolicy.for_dataset(own).fit(own, products=products, seed=seed, accelerator="cpu")
    learn = targets_of([reactions[i] for i in middle], inventory, args.targets)
    config = sy.PDVNConfig.preset("small", simulations=args.simulations, epochs=args.epochs)
    values = sy.DualValues(before.config, seed)
    result = sy.pdvn_train(before, values, learn, inventory, rounds=args.rounds, config=config, seed=seed)
    pairs = [(p, own.templates.smarts[t]) for p, t in zip(products, own.labels, strict=True) if t is not None]
    pairs = [pairs[i] for i in np.random.default_rng(seed).permutation(len(pairs))[: result.rounds[-1].pairs]]
    more = sy.imitate(before, pairs, config, seed=seed)
    held = targets_of([reactions[i] for i in test], inventory, args.test)
    policies = {"before": before, "after": result.policy, "more": more}
    first = {name: calls_to_first(held, inventory, policy) for name, policy in policies.items()}
    row = {
        "seed": seed,
        "templates": len(own.templates),
        "inventory": len(inventory),
        "learning_targets": len(learn),
        "test_targets": len(held),
        "rounds": [{**r.__dict__, "solved": r.solved.to_dict()} for r in result.rounds],
        "solved_within": {name: {str(n): float((f <= n).mean()) for n in BUDGETS} for name, f in first.items()},
        "mean_over_budgets": {name: float(over_budgets(f).mean()) for name, f in first.items()},
        "cpu_seconds": round(time.process_time() - start, 1),
    }
    return {"row": row, "targets": held, "first": first}


def difference(runs: list[dict[str, Any]], a: str, b: str) -> dict[str, Any]:
    """Mean over targets of (a - b), with its interval."""
    d = np.concatenate([over_budgets(run["first"][a]) - over_budgets(run["first"][b]) for run in runs])
    names = [t for run in runs for t in run["targets"]]
    low, high, units = bootstrap(np.stack([d, np.ones(len(d))], 1), lambda s: s[:, 0] / s[:, 1], names)
    return {"value": float(d.mean()), "low": low, "high": high, "n": len(d), "molecules": units, "level": 0.95}


def solved(runs: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Share solved within each budget, seeds pooled."""
    first = np.concatenate([run["first"][name] for run in runs])
    out = {}
    for n in BUDGETS:
        hits = int((first <= n).sum())
        low, high = wilson(hits, len(first))
        out[str(n)] = {"value": hits / len(first), "low": low, "high": high, "n": len(first)}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--test", type=int, default=400, help="test targets, at most")
    parser.add_argument("--targets", type=int, default=500, help="targets of the PDVN round, at most")
    parser.add_argument("--simulations", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--largest", type=int, default=12, help="heavy atoms of what can be bought")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "molecules_planning.json")
    args = parser.parse_args()
    path = Path(os.environ.get("SCIDIFFUSE_DATA", "")) / "molecules" / FILE
    reactions = [r for r in data.read_reactions(path, errors="skip") if len(r.products) == 1]
    found = sy.extract(reactions)
    recovered = sy.recovery(reactions, found)
    print(f"{found}; {recovered}", flush=True)
    runs = []
    for seed in args.seeds:
        run = one_seed(seed, reactions, found, args)
        runs.append(run)
        print(json.dumps(run["row"]["mean_over_budgets"]), json.dumps(run["row"]["solved_within"]), flush=True)
        result = {
            "versions": {name: version(name) for name in ("rdkit", "rdchiral", "syntheseus", "torch")},
            "data": f"{FILE}, {len(reactions)} reactions",
            "settings": {k: v for k, v in vars(args).items() if k != "output"} | {"calls": CALLS, "atoms": LARGEST},
            "templates": {
                "distinct": len(found.templates),
                "reactions": len(reactions),
                "failures": found.failures,
                "recovery": recovered.to_dict(),
            },
            "solved_within": {name: solved(runs, name) for name in ("before", "after", "more")},
            "mean_over_budgets_difference": {
                "after - before": difference(runs, "after", "before"),
                "after - more": difference(runs, "after", "more"),
                "more - before": difference(runs, "more", "before"),
            },
            "seeds": [r["row"] for r in runs],
        }
        write_text(args.output, json.dumps(result, indent=1) + "\n")  # after each seed: what is known is kept
    print(json.dumps(result["mean_over_budgets_difference"], indent=1))


if __name__ == "__main__":
    main()
