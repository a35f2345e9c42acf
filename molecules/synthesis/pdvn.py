r"""PDVN: the one-step model learns from complete routes.

G. Liu, D. Xue, S. Xie, Y. Xia, A. Tripp, K. Maziarz, M. Segler, T. Qin, Z. Zhang, T.-Y. Liu, "Retrosynthetic planning
with dual value networks", ICML 2023, https://arxiv.org/abs/2301.13755.

A round has two phases.

*Planning.* For each target a tree search (syntheseus's ``PDVN_MCTS``) of ``simulations`` walks. A walk at a molecule
takes the reaction with the largest

    -[V_syn V_cost + (1 - V_syn) c_dead] + C p sqrt(N_parent) / (1 + N),

V_syn and V_cost the means of what earlier walks brought back, p the policy's probability, N visits; at a reaction it
goes to a reactant that is not expanded, else to one that is not solved, else to any. What a leaf brings back is (1, 0)
if it can be bought, (0, c_dead) if it cannot be made, and else what the value networks say; a reaction brings the
product of its reactants' V_syn, and its cost plus the sum of their V_cost.

*Updating.* From each tree, for each molecule that cannot be bought (:func:`.search.experience`):

    V_syn   binary cross entropy to 1 if it was solved, 0 if nothing makes it, else 0.8 x its mean V_syn in the tree;
    V_cost  squared error to the cost of its cheapest route, where it was solved;
    policy  cross entropy, over the candidates of the frozen branch, of the template that begins its cheapest route.

The trained policy is meant to be plugged into Retro*-0: ``plan(target, inventory, result.policy)``.

Departures from the published training: one update a round on all its searches (there: a stream of searches, an update
each 1024); a molecule that was met in several searches counts once a round, with its best outcome; equally cheap first
reactions are a pair each.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core import checkpoint
from ...core.scores import Score
from ..data.files import read_text, write_text
from ..metrics.uncertainty import share
from . import extras
from .config import PDVNConfig
from .inventory import Inventory
from .networks import Arrays, Learner, fingerprints
from .plan import _bar, _target, random_of
from .policy import TemplatePolicy
from .values import DualValues

__all__ = ["PDVNResult", "Round", "imitate", "merged", "pdvn_train"]


@dataclass(frozen=True)
class Round:
    """What one round did.

    Attributes:
        solved: share of targets that its searches solved. calls: of the one-step model in all searches.
        molecules, routes, pairs: molecules that taught V_syn, V_cost and (molecule, template) pairs that taught the
            policy.
        losses: the last loss of "policy", "syn" and "cost"; those without data are absent.
    """

    solved: Score
    calls: int
    molecules: int
    routes: int
    pairs: int
    losses: dict[str, float]


@dataclass(frozen=True)
class PDVNResult:
    """What :func:`pdvn_train` gives: the trained policy and values, and what each round did."""

    policy: TemplatePolicy
    values: DualValues
    rounds: tuple[Round, ...]

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``policy`` and ``values`` into folders of ``folder``; returns it."""
        folder = Path(folder)
        self.policy.save(folder / "policy")
        self.values.save(folder / "values")
        return folder


def pdvn_train(
    policy: TemplatePolicy,
    values: DualValues,
    targets: Sequence[str],
    inventory: Inventory,
    *,
    rounds: int = 1,
    config: PDVNConfig | None = None,
    preset: str | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    save_every: int = 10,
    progress: bool = False,
) -> PDVNResult:
    """Train a policy and its values by planning; what is given stays as it is.

    Args:
        policy: trained on reactions. values: of the same fingerprints.
        targets: molecules to plan for; purchasable ones are left out.
        inventory: what can be bought.
        rounds: of planning and updating.
        config: settings, or ``preset``, a name of `PDVNConfig.preset`; the published ones where both are None.
        seed: of the searches and of the order of training. Search i of round r depends on (seed, r, i) and the weights.
        out: folder; of each round the experience of its searches, the training of each network, and the result.
        resume: go on with what is in it. A training that was stopped and resumed gives the same weights.
        save_every: searches between two saves.
        progress: show progress bars.

    Raises:
        ImportError: syntheseus or Lightning is missing.
        RuntimeError: the policy is not trained.
        ValueError: no target that has to be made, a target that is no molecule, values of other fingerprints, a folder
            that holds another training, or one while `resume` is False.
    """
    if config is not None and preset is not None:
        raise ValueError("give config or preset, not both")
    c = config or PDVNConfig.preset(preset or "published")
    if policy.network is None:
        raise RuntimeError("the policy is not trained: call fit(reactions), or TemplatePolicy.load(folder)")
    if (policy.config.bits, policy.config.radius) != (values.config.bits, values.config.radius):
        raise ValueError(
            f"policy and values see other fingerprints ({policy.config.bits} bits, radius {policy.config.radius}, and "
            f"{values.config.bits}, {values.config.radius}): make the values by DualValues(policy.config)"
        )
    if rounds < 1 or save_every < 1:
        raise ValueError(f"rounds and save_every must be at least 1, got {rounds} and {save_every}")
    make = [t for t in dict.fromkeys(_target(t) for t in targets) if not inventory.has(t)]
    if not make:
        raise ValueError(f"none of the {len(targets)} targets has to be made: there is nothing to learn from")
    out = None if out is None else Path(out)
    if out is not None:
        _same(out, policy, values, make, inventory, c, seed, resume)
    elif resume:
        raise ValueError("resume=True needs the folder `out` of the training to go on with")
    policy, values = policy.copy(), values.copy()
    assert policy.network is not None
    policy.network.split()
    policy.network.requires_grad_(False)
    done = []
    for number in range(1, rounds + 1):
        folder = None if out is None else out / f"round-{number}"
        searches = _search(make, inventory, policy, values, c, seed, number, folder, save_every, progress)
        done.append(_update(policy, values, searches, c, seed, number, folder, progress))
        if folder is not None:
            PDVNResult(policy, values, tuple(done)).save(folder)
    return PDVNResult(policy, values, tuple(done))


# --------------------------------------------------------------------------------------------------------------------
# planning


def _search(
    targets: list[str],
    inventory: Inventory,
    policy: TemplatePolicy,
    values: DualValues,
    c: PDVNConfig,
    seed: int,
    number: int,
    folder: Path | None,
    save_every: int,
    progress: bool,
) -> list[dict[str, Any]]:
    """The experience of each target: {"solved", "calls", "molecules": [experience as a dictionary]}."""
    search = extras.search()
    file = None if folder is None else folder / "searches.json"
    found: list[dict[str, Any]] = json.loads(read_text(file)) if file is not None and file.is_file() else []
    limits = search.Limits(c.expansions, None, None, c.depth, False)
    for index in _bar(range(len(found), len(targets)), progress, f"round {number}, planning"):
        one = search.pdvn(
            targets[index], inventory, policy, values, limits, 1, c, random_of(seed, "pdvn", number, index)
        )
        molecules = [asdict(e) for e in search.experience(one.graph, c.unsolved)]
        found.append({"solved": bool(one.routes), "calls": one.calls, "molecules": molecules})
        if file is not None and (len(found) % save_every == 0 or len(found) == len(targets)):
            write_text(file, json.dumps(found) + "\n")
    return found


def merged(searches: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The experience of all searches, one entry a molecule with its best outcome: solved before unsolved, then the
    lowest cost or the highest V_syn. Sorted by SMILES."""
    best: dict[str, dict[str, Any]] = {}
    for one in searches:
        for molecule in one["molecules"]:
            now = best.get(molecule["smiles"])
            if now is None or _merit(molecule) > _merit(now):
                best[molecule["smiles"]] = dict(molecule)
            elif _merit(molecule) == _merit(now) and now["cost"] is not None:
                now["templates"] = sorted({*now["templates"], *molecule["templates"]})
    return [best[smiles] for smiles in sorted(best)]


def _merit(molecule: dict[str, Any]) -> tuple[bool, float]:
    cost = molecule["cost"]
    return (True, -round(cost, 9)) if cost is not None else (False, molecule["syn"])


# --------------------------------------------------------------------------------------------------------------------
# updating


def _update(
    policy: TemplatePolicy,
    values: DualValues,
    searches: list[dict[str, Any]],
    c: PDVNConfig,
    seed: int,
    number: int,
    folder: Path | None,
    progress: bool,
) -> Round:
    found = merged(searches)
    solved = [m for m in found if m["cost"] is not None]
    pairs = [(m["smiles"], template) for m in solved for template in m["templates"]]
    data = {
        "syn": (values.network["syn"], _syn_loss, _targets(values, found, "syn")),
        "cost": (values.network["cost"], _cost_loss, _targets(values, solved, "cost")),
        "policy": (policy.network, _choice_loss, _choices(policy, pairs)),
    }
    losses = {}
    for name, (network, loss, arrays) in data.items():
        if arrays is not None:
            out = None if folder is None else folder / "training" / name
            losses[name] = _train(network, loss, arrays, c, seed + number, out, progress)
    hits = sum(one["solved"] for one in searches)
    score = share("solved", hits, len(searches), f"targets with a route within {c.simulations} walks of PDVN")
    calls = sum(one["calls"] for one in searches)
    return Round(score, calls, len(found), len(solved), len(pairs), losses)


def _targets(values: DualValues, molecules: list[dict[str, Any]], which: str) -> Arrays | None:
    if not molecules:
        return None
    y = torch.tensor([m[which] for m in molecules], dtype=torch.float32)
    return Arrays(x=fingerprints([m["smiles"] for m in molecules], values.config), y=y)


def _choices(policy: TemplatePolicy, pairs: Sequence[tuple[str, str]]) -> Arrays | None:
    """Fingerprints, candidates, and the place of the taught template among them; without pairs where it is none."""
    assert policy.templates is not None
    index = {s: i for i, s in enumerate(policy.templates.smarts)}
    known = [(smiles, index[template]) for smiles, template in pairs if template in index]
    if not known:
        return None
    best = torch.cat([policy.candidates([smiles])[0] for smiles, _ in known])
    hit = best == torch.tensor([number for _, number in known])[:, None]
    kept = hit.any(-1)
    if not kept.any():
        return None
    x = fingerprints([smiles for smiles, _ in known], policy.config)
    return Arrays(x=x[kept], best=best[kept], y=hit[kept].float().argmax(-1))


def imitate(
    policy: TemplatePolicy, pairs: Sequence[tuple[str, str]], config: PDVNConfig | None = None, *, seed: int = 0
) -> TemplatePolicy:
    """The policy half of an update alone: a copy of ``policy`` whose choice is trained on given pairs.

    Args:
        pairs: (SMILES, template); pairs whose template is not among the molecule's candidates are left out.
        config: epochs, batch_size, lr and grad_clip count.
        seed: of the order.

    Raises:
        ValueError: no pair is left.
    """
    new = policy.copy()
    if new.network is None:
        raise RuntimeError("the policy is not trained: call fit(reactions), or TemplatePolicy.load(folder)")
    new.network.split()
    data = _choices(new, pairs)
    if data is None:
        raise ValueError(f"none of the {len(pairs)} pairs has a template among the candidates of its molecule")
    _train(new.network, _choice_loss, data, config or PDVNConfig(), seed, None, False)
    return new


def _syn_loss(learner: Any, batch: dict[str, Tensor], keys: Any, training: bool = True) -> Tensor:
    return F.binary_cross_entropy_with_logits(learner.network(batch["x"].float())[:, 0], batch["y"], reduction="none")


def _cost_loss(learner: Any, batch: dict[str, Tensor], keys: Any, training: bool = True) -> Tensor:
    return F.mse_loss(learner.network(batch["x"].float())[:, 0], batch["y"], reduction="none")


def _choice_loss(learner: Any, batch: dict[str, Tensor], keys: Any, training: bool = True) -> Tensor:
    scores = learner.network.choice(batch["x"].float()).gather(-1, batch["best"])
    return F.cross_entropy(scores, batch["y"], reduction="none")


def _train(
    network: nn.Module | None,
    loss: Callable[..., Tensor],
    data: Arrays,
    c: PDVNConfig,
    seed: int,
    out: Path | None,
    progress: bool,
) -> float:
    """Train one network in place; its last loss."""
    from ...core.training import fit

    assert network is not None
    trained = cast(Any, network).choice if loss is _choice_loss else network
    trained.requires_grad_(True)
    size = min(c.batch_size, len(data))
    steps = max(1, round(c.epochs * len(data) / size))
    result = fit(
        cast(Any, Learner(network)),
        data,
        max_steps=steps,
        batch_size=size,
        objective=loss,
        optimizer=lambda parameters: torch.optim.Adam([p for p in parameters if p.requires_grad], lr=c.lr),
        lr=c.lr,
        ema=None,
        grad_clip=c.grad_clip,
        seed=seed,
        out=out,
        resume=out is not None,
        log_every=1,
        progress=progress,
        accelerator="cpu",
    )
    network.eval().requires_grad_(False)
    return float(result.history[-1]["loss"])


def _same(
    out: Path,
    policy: TemplatePolicy,
    values: DualValues,
    targets: list[str],
    inventory: Inventory,
    c: PDVNConfig,
    seed: int,
    resume: bool,
) -> None:
    """Refuse to mix two trainings in one folder."""
    digest = hashlib.sha256()
    assert policy.network is not None
    for network in (policy.network, values.network):
        for name, tensor in network.state_dict().items():
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    now = {
        "settings": asdict(c),
        "seed": seed,
        "targets": hashlib.sha256("\n".join(targets).encode()).hexdigest()[:16],
        "inventory": hashlib.sha256("\n".join(inventory).encode()).hexdigest()[:16],
        "weights": digest.hexdigest()[:16],
    }
    file = out / "training.json"
    if not file.is_file():
        write_text(file, json.dumps(now, indent=1) + "\n")
        return
    if not resume:
        raise ValueError(f"{str(out)!r} holds a training already: pass resume=True, or give another folder")
    try:
        before = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise checkpoint.CheckpointError(f"{str(file)!r} is corrupted: {error}") from None
    different = [name for name, value in now.items() if before.get(name) != value]
    if different:
        raise ValueError(
            f"cannot resume the training in {str(out)!r}: its {', '.join(different)} were others; use the same, or "
            "another folder"
        )
