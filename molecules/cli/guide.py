"""``guide``: samples with more of a property, by a reward that needs no gradient."""

from __future__ import annotations

import importlib
import inspect
import math
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .messages import told
from .options import (
    Condition,
    Draw,
    Errors,
    GuidanceScale,
    MaxBatch,
    Model,
    Nodes,
    Number,
    Out,
    Progress,
    Reference,
    Sampler,
    Scaffold,
    Seed,
    Set,
    Steps,
    Train,
    condition_of,
    folder_of,
    load,
    sampler_of,
    scaffold_of,
    settings_of,
)
from .results import known_beside, pictures, report, scores_of, table_of, write_samples
from .sample import arguments, reading_of

if TYPE_CHECKING:
    from ...core.scores import Score

__all__ = ["guide", "reward_of"]

#: GDSS steers without its corrector: unguided samples of the same sampler tell what the reward alone did.
CONTROL = "unguided, without corrector"
OWN = {"qed": "qed", "logp": "logp", "sa": "sa_score", "weight": "weight"}


def reward_of(name: str, minimise: bool = False) -> Callable[[Any], float]:
    """A function of a sample: one of this package's properties, or the user's ``module:function``.

    Raises:
        ValueError: neither, or nothing that can be called. ImportError: from the user's module.
    """
    if name in OWN:
        from .. import chem

        function = getattr(chem, OWN[name])
    else:
        module, colon, attribute = name.partition(":")
        if not colon or not module or not attribute:
            raise ValueError(f"--reward {name}: expected {', '.join(OWN)}, or module:function")
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            function = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name != module.split(".")[0] and error.name != module:
                raise
            raise ValueError(f"--reward {name}: no module {module!r} here or among what is installed") from error
        except AttributeError as error:
            raise ValueError(f"--reward {name}: {module} has no {attribute!r}") from error
        if not callable(function):
            raise ValueError(f"--reward {name}: {attribute} is no function")
    return (lambda x: -float(function(x))) if minimise else function


def guide(
    reward: Annotated[
        str, typer.Argument(metavar="REWARD", help="qed, logp, sa, weight, or module:function of a sample.")
    ],
    out: Out,
    method: Annotated[
        Literal["svdd", "fk"], typer.Option(help="svdd: the best of some candidates a step; fk: weighted walkers.")
    ] = "svdd",
    candidates: Annotated[int, typer.Option(min=2, help="Of svdd, a step.")] = 10,
    alpha: Annotated[float, typer.Option(help="Temperature of svdd; 0 keeps the best candidate.")] = 0.0,
    walkers: Annotated[int, typer.Option(min=2, help="Of fk, a sample.")] = 8,
    lam: Annotated[float, typer.Option("--lambda", help="How strongly the reward tilts fk.")] = 10.0,
    minimise: Annotated[bool, typer.Option("--minimise", help="Less of the property instead, e.g. of sa.")] = False,
    invalid: Annotated[float, typer.Option(help="Reward of what is no molecule, as it is maximised.")] = 0.0,
    best_of: Annotated[
        bool, typer.Option("--best-of", help="Also the best of N unguided samples, N for equal network calls.")
    ] = False,
    n: Number = 64,
    model: Model = None,
    sampler: Sampler = None,
    steps: Steps = None,
    nodes: Nodes = None,
    scaffold: Scaffold = None,
    condition: Condition = None,
    guidance_scale: GuidanceScale = None,
    settings: Set = None,
    train: Train = None,
    reference: Reference = None,
    errors: Errors = "skip",
    draw: Draw = 36,
    max_batch: MaxBatch = None,
    seed: Seed = 0,
    progress: Progress = True,
) -> None:
    """Samples with more of a property: the sampler is steered by a reward, no gradient needed.

    Beside the guided samples stand unguided ones of the same seed, and with --best-of the best of as many as cost the
    same network calls. Cost: candidates (or walkers) times that of sample. GDSS steers without its Langevin corrector,
    which undoes the choices; unguided samples without it are then scored, too.

    \b
      scidiffuse molecules guide mine:score --method fk --out guided

    \b
      scidiffuse molecules guide qed --candidates 10 --sampler s4 --steps 200 \\
          --best-of --out guided
    """
    with told():
        if n < 1:
            raise ValueError(f"-n must be at least 1, got {n}")
        from ...core.steering import SVDD, FeynmanKac

        function: Any = reward_of(reward, minimise)
        steering: Any = SVDD(function, candidates, alpha) if method == "svdd" else FeynmanKac(function, walkers, lam)
        trained = load(model)
        asked = arguments(
            trained,
            settings_of(settings),
            condition_of(trained.sample, condition, guidance_scale),
            sampler=sampler_of(trained.sample, sampler),
            steps=steps,
            nodes=nodes,
            scaffold=scaffold_of(trained, scaffold),
            max_batch=max_batch,
            seed=seed,
            progress=progress,
        )
        known = inspect.signature(trained.sample).parameters
        if "steering" not in known:
            raise ValueError(f"{type(trained).__name__} cannot be steered: choose another system, or score its samples")
        steered = {"steering": steering} | ({"invalid": invalid} if "invalid" in known else {})
        beside = known_beside(trained, train, reference, **reading_of(trained, errors, None))
        folder = folder_of(out)
        begin = time.perf_counter()
        result = trained.sample(n, **asked, **steered)
        seconds = time.perf_counter() - begin
        written = write_samples(result, folder)
        many = (candidates if method == "svdd" else walkers) if best_of else 1
        plain = trained.sample(n * many, **asked)

        objects = {"guided": _objects(result), "unguided": _objects(plain)}
        if result.info.get("sampler") != plain.info.get("sampler"):  # then they differ by more than the reward
            objects[CONTROL] = _objects(trained.sample(n, **asked | {"corrector": "none"}))
        values = {name: _rewards(function, some, invalid) for name, some in objects.items()}
        if best_of:
            values[f"best of {many}"] = _best(values["unguided"], many)
        values["unguided"] = values["unguided"][:n]
        scores = scores_of(result, beside)
        label = f"-{reward}" if minimise else reward
        scores |= {f"reward, {name}": _mean(name, label, v, invalid) for name, v in values.items()}
        typer.echo(table_of(scores))
        facts = {
            "reward": label,
            "method": method,
            **({"candidates": candidates, "alpha": alpha} if method == "svdd" else {"walkers": walkers, "lambda": lam}),
            "invalid": invalid,
            "best_of": many if best_of else None,
            "model": None if model is None else str(model),
            "system": type(trained).__name__,
            "n": n,
            "info": result.info,
            "seconds": round(seconds, 2),
            "rewards": values,
        }
        written.append(report(folder, scores, **facts))
        if draw:
            from ...core.outputs import draw as draw_figure
            from ..plots import value_histograms

            order = [name for name in values if name not in ("unguided", CONTROL)] + ["unguided"]
            figure = value_histograms({label: {name: values[name] for name in order}})
            written.append(draw_figure(figure, folder / "reward.png"))
        smiles = getattr(plain, "smiles", None)
        sets = {} if smiles is None else {"unguided": smiles[:n]}
        written += pictures(
            result, folder, draw, beside.reference, scores, label="guided", highlight=scaffold, sets=sets
        )
        for path in written:
            typer.echo(f"wrote {path}")


def _objects(result: Any) -> list[Any]:
    """What a reward is asked about: molecules, else adjacency matrices, else strings."""
    if getattr(result, "mols", None) is not None:
        return list(result.mols)
    if hasattr(result, "sequences"):
        return list(result.sequences.strings())
    from ..metrics.containers import as_matrices

    return [(a != 0).astype(int) for a in as_matrices(result)]


def _rewards(function: Callable[[Any], float], objects: list[Any], invalid: float) -> list[float]:
    from ..data.extras import quiet

    with quiet():
        return [invalid if x is None else float(function(x)) for x in objects]


def _best(values: list[float], many: int) -> list[float]:
    """The largest of each group of `many`."""
    return [max(values[k : k + many]) for k in range(0, len(values) - many + 1, many)]


def _mean(name: str, label: str, values: list[float], invalid: float) -> Score:
    from ..metrics.uncertainty import mean

    finite = [v if math.isfinite(v) else math.nan for v in values]
    return mean(
        f"reward_{name}", finite, "1", f"mean of {label}, what is no molecule counts {invalid:g}", what="samples"
    )
