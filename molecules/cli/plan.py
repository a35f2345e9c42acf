"""``plan``: routes of synthesis from what can be bought to molecules that are wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .messages import told
from .options import Errors, Progress, strings_of, suffix_of
from .results import clear, folder_for, report, table_of

__all__ = ["plan"]


def plan(
    targets: Annotated[list[str], typer.Argument(metavar="TARGETS", help="SMILES, or files of them (.smi, .csv).")],
    out: Annotated[
        Path,
        typer.Option(
            help="Folder: routes.json (all routes), plans.csv, report.json, and a picture of each target's cheapest "
            "route."
        ),
    ],
    inventory: Annotated[
        Path | None,
        typer.Option(
            help="What can be bought: .smi, .csv ...; needed with --policy, with --fit-templates by default the small "
            "reactants of its reactions."
        ),
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="Folder of a trained policy of single steps.")] = None,
    fit_templates: Annotated[
        str | None,
        typer.Option(help="Table of mapped reactions (or uspto50k_test) to learn a policy from, to policy/."),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only so many reactions, the first ones.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the reactions; default: the settings'.")] = None,
    pdvn_rounds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Rounds of PDVN after --fit-templates: routes to the products of the reactions teach the policy and "
            "two value networks, to policy/ and values/.",
        ),
    ] = None,
    pdvn_targets: Annotated[
        int | None, typer.Option(min=1, help="Only so many products, the first ones; default: all that must be made.")
    ] = None,
    algorithm: Annotated[
        Literal["retro*", "pdvn"], typer.Option(help="How routes are searched; pdvn needs --values or --pdvn-rounds.")
    ] = "retro*",
    values: Annotated[
        Path | None, typer.Option(help="Folder of the value networks of pdvn: the values/ of a run with --pdvn-rounds.")
    ] = None,
    calls: Annotated[
        int, typer.Option(min=1, help="Most molecules that the policy is asked about for a target.")
    ] = 100,
    depth: Annotated[int, typer.Option(min=1, help="Most reactions one after another in a route.")] = 15,
    routes: Annotated[int, typer.Option(min=1, help="Most routes for a target.")] = 5,
    make: Annotated[
        bool, typer.Option("--make", help="Make every target by reactions, even one that can be bought.")
    ] = False,
    errors: Errors = "raise",
    seed: Annotated[
        int, typer.Option(help="For the policy's first weights and pdvn's choices: same seed, same result.")
    ] = 0,
    progress: Progress = True,
) -> None:
    """Find routes of synthesis from what can be bought to the targets.

    The policy proposes single steps backwards by templates; the search strings them together. Without a trained
    --policy it is learned from --fit-templates first (with 5,000 reactions a matter of minutes), and with --pdvn-rounds
    from the routes that it finds to their products (a search a product and round). The cost of a route is the sum of
    -log p of its reactions, p the policy's probability of each: lower is likelier.

    \b
      scidiffuse molecules plan "CC(=O)Nc1ccc(O)cc1" --fit-templates uspto50k_test \\
          --inventory stock.smi --out routes
      scidiffuse molecules plan targets.smi --fit-templates mine.csv --pdvn-rounds 2 \\
          --pdvn-targets 200 --algorithm pdvn --inventory stock.smi --out routes
      scidiffuse molecules plan more.smi --policy routes/policy --values routes/values \\
          --algorithm pdvn --inventory stock.smi --out more
    """
    with told():
        if (policy is None) == (fit_templates is None):
            raise ValueError("give one of --policy, a trained one, and --fit-templates, reactions to learn it from")
        if inventory is None and fit_templates is None:
            raise ValueError("--inventory is missing: a file of what can be bought")
        if pdvn_rounds is not None and fit_templates is None:
            raise ValueError("--pdvn-rounds learns from the products of reactions: give --fit-templates")
        if pdvn_targets is not None and pdvn_rounds is None:
            raise ValueError("--pdvn-targets is of --pdvn-rounds: give that, too, or leave it out")
        if algorithm == "pdvn" and values is None and pdvn_rounds is None:
            raise ValueError("--algorithm pdvn needs --values, its value networks, or --pdvn-rounds, which trains them")
        if values is not None and (algorithm != "pdvn" or pdvn_rounds is not None):
            raise ValueError(
                "--values is of --algorithm pdvn, and not beside --pdvn-rounds, which trains some of its own"
            )
        from ..synthesis import DualValues, Inventory, TemplatePolicy
        from ..synthesis import plan as search

        wanted = _targets(targets)  # all that is given is read before anything is learned
        possible = _possible(wanted, errors)
        reactions = None if fit_templates is None else _reactions(fit_templates, limit, errors)
        stock = (
            Inventory.from_reactions(reactions or []) if inventory is None else Inventory.read(inventory, errors=errors)
        )
        if make:
            stock = stock.without(*possible)
        taught = [] if pdvn_rounds is None else _products(reactions or [], stock, pdvn_targets)
        networks = None if values is None else DualValues.load(values)
        rounds: tuple[Any, ...] = ()
        trained = TemplatePolicy.load(policy) if policy is not None else None
        with folder_for(out) as folder:
            if trained is None:
                some = reactions or []
                trained = TemplatePolicy.for_dataset(some)
                trained.fit(some, epochs=epochs, seed=seed, progress=progress)
                count, learned = len(trained.templates or ()), len(some)
                words = f"{count} template{'s' * (count != 1)} of {learned} reaction{'s' * (learned != 1)}"
                typer.echo(words, err=True)
                typer.echo(f"wrote {trained.save(folder / 'policy')}")
            if pdvn_rounds is not None:
                trained, networks, rounds = _trained(trained, taught, stock, pdvn_rounds, seed, folder, progress)
            found = search(
                wanted,
                stock,
                trained,
                algorithm,
                values=networks if algorithm == "pdvn" else None,
                calls=calls,
                depth=depth,
                routes=routes,
                seed=seed,
                errors=errors,
                progress=progress,
            )
            clear(folder)
            found.write(folder)
            scores = {"solved": found.solved}
            typer.echo(_lines(found.table()).replace("inventory.without(target)", "--make"))
            typer.echo(table_of(scores))
            facts = {"targets": targets, "inventory": repr(stock), "policy": repr(trained), "algorithm": algorithm}
            drawn = [f"target-{k}.svg" for k, one in enumerate(found.plans, start=1) if one.best is not None]
            files = [folder / name for name in ("plans.csv", "routes.json", *drawn)]
            files.append(report(folder, scores, files, **facts, seed=seed, pdvn_rounds=rounds))
            typer.echo(f"wrote {', '.join(sorted(p.name for p in files))} in {folder}")


def _targets(words: list[str]) -> list[str]:
    """SMILES, and those of the files among the words."""
    out: list[str] = []
    for word in words:
        if Path(word).is_file():
            out += strings_of(word)
        elif suffix_of(word) in (".smi", ".csv", ".tsv", ".txt", ".smiles"):
            raise FileNotFoundError(f"no file {word}")
        else:
            out.append(word)
    return out


def _possible(wanted: list[str], errors: Any) -> list[str]:
    """The targets that are molecules, canonical. Those that are left out are named by the search, not here.

    Raises:
        ValueError: a target that is no molecule, unless such are skipped; none that is one.
    """
    from ...core.problems import Problems
    from ..synthesis.plan import _target

    problems, out = Problems(errors, "the targets"), []
    for index, text in enumerate(wanted):
        with problems.at(f"target {index + 1}"):
            out.append(_target(text))
    if not out:
        problems.done(0)
    return out


def _products(reactions: list[Any], stock: Any, most: int | None) -> list[str]:
    """The first products of reactions that have to be made.

    Raises:
        ValueError: there is none.
    """
    products = list(dict.fromkeys(product for reaction in reactions for product in reaction.products))
    out = [product for product in products if not stock.has(product)]
    if not out:
        raise ValueError(
            f"--pdvn-rounds: all {len(products)} products of the reactions can be bought, so that there is nothing to "
            "learn; give another --inventory"
        )
    return out[:most]


def _trained(
    policy: Any, targets: list[str], stock: Any, rounds: int, seed: int, folder: Path, progress: bool
) -> tuple[Any, Any, tuple[Any, ...]]:
    """Policy and values after some rounds of PDVN, written to policy/ and values/, and what the rounds did.

    A round over fewer than 1,000 targets takes 30 epochs instead of 3, which would be a handful of steps.
    """
    from ..synthesis import DualValues, pdvn_train

    preset = "small" if len(targets) < 1000 else "published"
    made = pdvn_train(
        policy,
        DualValues(policy.config, seed),
        targets,
        stock,
        rounds=rounds,
        preset=preset,
        seed=seed,
        progress=progress,
    )
    for number, one in enumerate(made.rounds, start=1):
        what = f"solved {one.solved.value:.3f} of {one.solved.n} products, {one.calls} calls of the policy"
        typer.echo(f"round {number}: {what}", err=True)
    made.save(folder)
    typer.echo(f"wrote {folder / 'policy'} and {folder / 'values'}")
    return made.policy, made.values, made.rounds


def _reactions(name: str, limit: int | None, errors: Any) -> list[Any]:
    from .. import data

    if name in data.NAMED:
        found = data.load(name)
        if not isinstance(found, list):
            raise ValueError(f"{name} holds {type(found).__name__}, expected mapped reactions")
        return found[:limit]
    return data.read_reactions(name, limit=limit, errors=errors)


def _lines(rows: list[dict[str, Any]]) -> str:
    from ...core.demo import table

    keys = ("solved", "routes", "cost", "steps", "calls", "note")
    shown: dict[str, dict[str, Any]] = {}
    for k, row in enumerate(rows):
        values = {key: "-" if row[key] is None else row[key] for key in keys}
        values["solved"] = "yes" if row["solved"] else "no"
        shown[f"{k + 1} {row['smiles']}"] = {c: v if isinstance(v, float) else str(v) for c, v in values.items()}
    return table(shown)
