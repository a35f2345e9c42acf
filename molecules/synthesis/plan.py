"""Planning: from a target to routes from what can be bought."""

from __future__ import annotations

import csv
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, overload

from ...core.files import replacing
from ...core.noise import keyed_generator
from ...core.problems import Errors, Problems, Skipped
from ...core.scores import Score
from ...core.settings import positive_integers
from ..chem import canonical
from ..data.extras import quiet
from ..data.files import write_text
from ..data.standardise import parse_smiles
from ..metrics.uncertainty import share
from . import extras
from .config import PDVNConfig
from .inventory import Inventory
from .policy import TemplatePolicy
from .routes import Route
from .values import DualValues

__all__ = ["Algorithm", "Plan", "Plans", "plan"]

Algorithm = Literal["retro*", "pdvn"]
_COLUMNS = ("smiles", "solved", "routes", "cost", "steps", "depth", "calls", "calls_to_first", "note")


@dataclass(frozen=True)
class Plan:
    """How one target can be made.

    Attributes:
        target: canonical SMILES. routes: complete routes, the cheapest first; empty where none was found.
        calls: of the one-step model, one for each place in the tree that was expanded.
        calls_to_first: calls until the first route was complete.
        note: why there is no route, or no reaction in it.
        seconds: of wall time. info: algorithm, limits, seed, inventory.
    """

    target: str
    routes: tuple[Route, ...]
    calls: int
    calls_to_first: int | None
    note: str
    seconds: float = field(compare=False)
    info: dict[str, Any] = field(repr=False)

    @property
    def solved(self) -> bool:
        """Whether there is a route."""
        return bool(self.routes)

    @property
    def best(self) -> Route | None:
        """The cheapest route."""
        return self.routes[0] if self.routes else None

    def row(self) -> dict[str, Any]:
        """One row of a table: the target and its cheapest route."""
        best = self.best
        return {
            "smiles": self.target,
            "solved": self.solved,
            "routes": len(self.routes),
            "cost": None if best is None else best.cost,
            "steps": None if best is None else best.steps,
            "depth": None if best is None else best.depth,
            "calls": self.calls,
            "calls_to_first": self.calls_to_first,
            "note": self.note,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; the seconds are left out: they differ from run to run."""
        return {**self.row(), "routes": [route.to_dict() for route in self.routes], "info": self.info}

    def write(self, folder: str | Path) -> Path:
        """Write ``routes.json``, and ``route-1.svg``, ``route-2.svg``, ... in the order of cost; returns the folder."""
        folder = Path(folder)
        write_text(folder / "routes.json", _json(self.to_dict()))
        for number, route in enumerate(self.routes, start=1):
            write_text(folder / f"route-{number}.svg", route.svg())
        return folder


@dataclass(frozen=True)
class Plans:
    """Plans of many targets, in their order.

    Attributes:
        plans: one a target that was a molecule. skipped: what was none, with its place.
    """

    plans: tuple[Plan, ...]
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.plans)

    def __repr__(self) -> str:
        skipped = f", {len(self.skipped)} skipped" if self.skipped else ""
        return f"Plans({len(self)} targets, {sum(plan.solved for plan in self.plans)} solved{skipped})"

    def __getitem__(self, index: int) -> Plan:
        return self.plans[index]

    @property
    def solved(self) -> Score:
        """Share of targets with a route, with Wilson's interval."""
        hits = sum(plan.solved for plan in self.plans)
        return share(
            "solved", hits, len(self.plans), "targets with a route to the inventory", left_out=len(self.skipped)
        )

    def table(self) -> list[dict[str, Any]]:
        """One row a target."""
        return [plan.row() for plan in self.plans]

    def write(self, folder: str | Path) -> Path:
        """Write ``plans.csv``, ``routes.json``, and the picture of the cheapest route of each target; returns it."""
        folder = Path(folder)
        with replacing(folder / "plans.csv") as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.table())
        content = {"plans": [p.to_dict() for p in self.plans], "skipped": [str(s) for s in self.skipped]}
        write_text(folder / "routes.json", _json(content))
        for number, found in enumerate(self.plans, start=1):
            if found.best is not None:
                write_text(folder / f"target-{number}.svg", found.best.svg())
        return folder


def _json(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


@overload
def plan(
    smiles: str, inventory: Inventory, policy: TemplatePolicy, algorithm: Algorithm = ..., **options: Any
) -> Plan: ...
@overload
def plan(
    smiles: Sequence[str], inventory: Inventory, policy: TemplatePolicy, algorithm: Algorithm = ..., **options: Any
) -> Plans: ...
def plan(  # type: ignore[misc]  # the options of both forms are those named here
    smiles: str | Sequence[str],
    inventory: Inventory,
    policy: TemplatePolicy,
    algorithm: Algorithm = "retro*",
    *,
    values: DualValues | None = None,
    calls: int | None = 100,
    iterations: int | None = None,
    seconds: float | None = None,
    depth: int = 15,
    routes: int = 5,
    first: bool = False,
    config: PDVNConfig | None = None,
    seed: int = 0,
    errors: Errors = "raise",
    progress: bool = False,
) -> Plan | Plans:
    """Search routes from the inventory to one target, or to each of many.

    A search ends at the first limit that it meets, or when nothing is left to try. Target i of many depends on
    (seed, i) alone; with a limit of ``seconds`` also on the machine.

    Args:
        smiles: the target, or targets.
        inventory: what can be bought. A target in it is solved without a reaction; ``inventory.without(target)`` asks
            for how it is made.
        policy: the one-step model.
        algorithm: "retro*": Retro*-0, a reaction costs -log p; "pdvn": PDVN's tree search, a reaction costs
            ``config.reaction_cost``.
        values: the value networks, of "pdvn".
        calls: most places in the tree that are expanded, each by one call of the policy (a molecule that stands in two
            places counts twice).
        iterations: most steps of Retro*, or walks of PDVN (``config.simulations`` where None).
        seconds: most wall time. depth: most reactions one after another.
        routes: most routes that are returned.
        first: end with the first route.
        config: settings of "pdvn"; the published ones where None.
        seed: of the choices of "pdvn".
        errors: "skip": a target that is no molecule is left out and named.
        progress: show a progress bar over targets.

    Returns:
        A `Plan` for one SMILES, `Plans` for many.

    Raises:
        ImportError: syntheseus is missing.
        ValueError: a target that is no single molecule; an unknown algorithm, "pdvn" without values, limits out of
            range, no limit at all.
        RuntimeError: the policy is not trained.
    """
    settings = _checked(policy, inventory, algorithm, values, calls, iterations, seconds, depth, routes, first, config)
    single = isinstance(smiles, str)
    targets = [smiles] if isinstance(smiles, str) else list(smiles)
    if not targets:
        raise ValueError("there are no targets to plan for")
    problems = Problems("raise" if single else errors, "the targets")
    plans = []
    for index, text in enumerate(_bar(targets, progress and not single)):
        with problems.at(f"target {index + 1}"):
            target = _target(text)
            plans.append(_plan(target, inventory, policy, values, seed, index, settings))
    if single:
        return plans[0]
    return Plans(tuple(plans), problems.done(len(plans)))


@dataclass(frozen=True)
class _Settings:
    algorithm: Algorithm
    limits: Any
    routes: int
    config: PDVNConfig


def _checked(
    policy: TemplatePolicy,
    inventory: Inventory,
    algorithm: Algorithm,
    values: DualValues | None,
    calls: int | None,
    iterations: int | None,
    seconds: float | None,
    depth: int,
    routes: int,
    first: bool,
    config: PDVNConfig | None,
) -> _Settings:
    if not isinstance(policy, TemplatePolicy) or not isinstance(inventory, Inventory):
        raise TypeError(
            f"expected an Inventory and a TemplatePolicy, got {type(inventory).__name__} and {type(policy).__name__}"
        )
    if policy.network is None:
        raise RuntimeError("the policy is not trained: call fit(reactions), or TemplatePolicy.load(folder)")
    if algorithm not in ("retro*", "pdvn"):
        raise ValueError(f"algorithm must be 'retro*' or 'pdvn', got {algorithm!r}")
    if algorithm == "pdvn" and values is None:
        raise ValueError(
            "'pdvn' needs values=, its two value networks: pdvn_train gives them (untrained: DualValues())"
        )
    if calls is None and iterations is None and seconds is None:
        raise ValueError("a search without a limit may run forever: give calls, iterations or seconds")
    limits_given = {"calls": calls, "iterations": iterations, "depth": depth, "routes": routes}
    positive_integers({name: value for name, value in limits_given.items() if value is not None})
    if seconds is not None and not seconds > 0:
        raise ValueError(f"seconds must be positive, got {seconds}")
    limits = extras.search().Limits(calls, iterations, seconds, depth, first)
    return _Settings(algorithm, limits, routes, config or PDVNConfig())


def _target(text: str) -> str:
    with quiet():
        mol = parse_smiles(text)
    found = canonical(mol)
    assert found is not None
    if "." in found:
        raise ValueError(f"{text!r} is {found.count('.') + 1} molecules, a target is one")
    return found


def _plan(
    target: str,
    inventory: Inventory,
    policy: TemplatePolicy,
    values: DualValues | None,
    seed: int,
    index: int,
    settings: _Settings,
) -> Plan:
    search, limits, start = extras.search(), settings.limits, time.perf_counter()
    if settings.algorithm == "retro*":
        found = search.retro_star(target, inventory, policy, limits, settings.routes)
    else:
        found = search.pdvn(
            target, inventory, policy, values, limits, settings.routes, settings.config, random_of(seed, "plan", index)
        )
    note = ""
    if inventory.has(target):
        note = "the target itself can be bought; inventory.without(target) asks for how it is made"
    elif not found.routes:
        note = f"no route: a limit was met after {found.calls} calls"
        if found.exhausted:
            note = f"no route: nothing was left to try after {found.calls} calls"
    info = {
        "algorithm": settings.algorithm,
        "calls": limits.calls,
        "iterations": limits.iterations,
        "seconds": limits.seconds,
        "depth": limits.depth,
        "first": limits.first,
        "seed": seed,
        "inventory": repr(inventory),
    }
    routes = tuple(Route(made, cost) for cost, made in found.routes)
    return Plan(target, routes, found.calls, found.first, note, time.perf_counter() - start, info)


def random_of(seed: int, role: str, *counter: int) -> random.Random:
    """Python's generator, keyed: what syntheseus draws from."""
    return random.Random(int(keyed_generator(seed, f"synthesis/{role}", *counter).integers(2**63)))


def _bar(items: Sequence[Any], show: bool, name: str = "planning") -> Any:
    if not show:
        return items
    from tqdm.auto import tqdm

    return tqdm(items, desc=name, unit="target")
