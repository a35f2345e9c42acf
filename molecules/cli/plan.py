"""``plan``: routes of synthesis from what can be bought to molecules that are wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .messages import told
from .options import Errors, Progress, folder_of, strings_of, suffix_of
from .results import report, table_of

__all__ = ["plan"]


def plan(
    targets: Annotated[list[str], typer.Argument(metavar="TARGETS", help="SMILES, or files of them (.smi, .csv).")],
    out: Annotated[Path, typer.Option(help="Folder: routes.json, plans.csv, report.json and a picture a route.")],
    inventory: Annotated[
        Path | None, typer.Option(help="What can be bought: .smi, .csv ...; default: small reactants of the templates.")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="Folder of a trained policy of single steps.")] = None,
    fit_templates: Annotated[
        str | None,
        typer.Option(help="Table of mapped reactions (or uspto50k_test) to learn a policy from, to policy/."),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="As many reactions, from the beginning.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the reactions; default: the settings'.")] = None,
    algorithm: Annotated[Literal["retro*", "pdvn"], typer.Option(help="Of the search.")] = "retro*",
    values: Annotated[Path | None, typer.Option(help="Folder of value networks, of pdvn.")] = None,
    calls: Annotated[int, typer.Option(min=1, help="Most molecules that the policy is asked about, a target.")] = 100,
    depth: Annotated[int, typer.Option(min=1, help="Most reactions one after another.")] = 15,
    routes: Annotated[int, typer.Option(min=1, help="Most routes a target.")] = 5,
    make: Annotated[
        bool, typer.Option("--make", help="How the targets are made, even those in the inventory.")
    ] = False,
    errors: Errors = "raise",
    seed: Annotated[int, typer.Option(help="Of the policy's weights and of pdvn's choices.")] = 0,
    progress: Progress = True,
) -> None:
    """Find routes of synthesis from what can be bought to the targets.

    The policy proposes single steps backwards by templates; the search strings them together. Without a trained
    --policy it is learned from --fit-templates first (with 5,000 reactions a matter of minutes).

    \b
      scidiffuse molecules plan "CC(=O)Nc1ccc(O)cc1" --fit-templates uspto50k_test \\
          --inventory stock.smi --out routes
    """
    with told():
        if (policy is None) == (fit_templates is None):
            raise ValueError("give one of --policy, a trained one, and --fit-templates, reactions to learn it from")
        if inventory is None and fit_templates is None:
            raise ValueError("--inventory is missing: a file of what can be bought")
        if (algorithm == "pdvn") != (values is not None):
            raise ValueError("--algorithm pdvn needs --values, its value networks, and only it does")
        wanted = _targets(targets)
        folder = folder_of(out)
        from ..synthesis import DualValues, Inventory, TemplatePolicy
        from ..synthesis import plan as search

        reactions = None if fit_templates is None else _reactions(fit_templates, limit, errors)
        if reactions is None:
            steps = TemplatePolicy.load(policy)  # type: ignore[arg-type]
        else:
            steps = TemplatePolicy.for_dataset(reactions)
            steps.fit(reactions, epochs=epochs, seed=seed, progress=progress)
            typer.echo(f"{len(steps.templates or ())} templates of {len(reactions)} reactions", err=True)
            typer.echo(f"wrote {steps.save(folder / 'policy')}")
        stock = (
            Inventory.from_reactions(reactions or []) if inventory is None else Inventory.read(inventory, errors=errors)
        )
        if make:
            stock = stock.without(*wanted)
        found = search(
            wanted,
            stock,
            steps,
            algorithm,
            values=None if values is None else DualValues.load(values),
            calls=calls,
            depth=depth,
            routes=routes,
            seed=seed,
            errors=errors,
            progress=progress,
        )
        found.write(folder)
        scores = {"solved": found.solved}
        typer.echo(_lines(found.table()))
        typer.echo(table_of(scores))
        report(
            folder, scores, targets=targets, inventory=repr(stock), policy=repr(steps), algorithm=algorithm, seed=seed
        )
        typer.echo(f"wrote {', '.join(sorted(p.name for p in folder.iterdir() if p.is_file()))} in {folder}")


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
