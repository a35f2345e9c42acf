"""``guide``: samples with more of a property, by a reward that needs no gradient."""

from __future__ import annotations

import csv
import inspect
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
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
    load,
    scaffold_of,
    settings_of,
)
from .results import (
    clear,
    folder_for,
    known_beside,
    model_name,
    pictures,
    report,
    scores_of,
    table_of,
    write_samples,
)
from .rewards import LOWEST, Reward, reward_of
from .sample import arguments, in_pieces, reading_of, sampler_for

if TYPE_CHECKING:
    from ...core.scores import Score

__all__ = ["guide"]

#: GDSS steers without its corrector: unguided samples of the same sampler tell what the reward alone did.
CONTROL = "unguided, without corrector"


@dataclass(frozen=True)
class Judged:
    """Samples and their values.

    Attributes:
        numbers: which samples they are. texts: SMILES or letters, None of what has none. values: the property; None of
            what is no molecule.
    """

    numbers: list[int]
    texts: list[str | None]
    values: list[float | None]

    def at(self, places: Sequence[int]) -> Judged:
        """Some of them."""
        parts: Any = ([some[k] for k in places] for some in (self.numbers, self.texts, self.values))
        return Judged(*parts)


def guide(
    reward: Annotated[
        str,
        typer.Argument(
            metavar="REWARD",
            help="qed, logp, sa, weight, or module:function, a Python function here or installed that gets an RDKit "
            "molecule (of graphs an array of 0 and 1, of sequences a string) and returns a number.",
        ),
    ],
    out: Out,
    method: Annotated[
        Literal["svdd", "fk"],
        typer.Option(help="svdd: of some candidates the best goes on, at every step; fk: weighted walkers."),
    ] = "svdd",
    candidates: Annotated[int, typer.Option(min=2, help="Candidates at every step of svdd.")] = 10,
    alpha: Annotated[float, typer.Option(help="Temperature of svdd; 0 keeps the best candidate.")] = 0.0,
    walkers: Annotated[int, typer.Option(min=2, help="Walkers for every sample of fk.")] = 8,
    lam: Annotated[float, typer.Option("--lambda", help="How strongly the reward tilts fk.")] = 10.0,
    minimise: Annotated[bool, typer.Option("--minimise", help="Less of the property instead, e.g. of sa.")] = False,
    invalid: Annotated[
        float | None,
        typer.Option(
            help="Reward of what is no molecule (with --minimise the property's negative), which then counts in the "
            "means; default: lower than that of any molecule, and left out of the means.",
            show_default=False,
        ),
    ] = None,
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
    same network calls; rewards.csv has every molecule with its value. Cost: candidates (or walkers) times that of
    sample. GDSS steers without its Langevin corrector, which undoes the choices; unguided samples without it are then
    scored, too.

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

        asking = reward_of(reward, minimise)
        steering: Any = SVDD(asking, candidates, alpha) if method == "svdd" else FeynmanKac(asking, walkers, lam)  # type: ignore[arg-type]
        trained = load(model)
        asked = arguments(
            trained,
            settings_of(settings),
            condition_of(trained.sample, condition, guidance_scale),
            sampler=sampler_for(trained, sampler),
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
        lowest = LOWEST if invalid is None else invalid
        steered = {"steering": steering} | ({"invalid": lowest} if "invalid" in known else {})
        beside = known_beside(trained, train, reference, **reading_of(trained, errors, None))
        with folder_for(out) as folder:
            begin = time.perf_counter()
            result = trained.sample(n, **asked, **steered)
            seconds = time.perf_counter() - begin
            clear(folder)
            written = write_samples(result, folder)
            many = (candidates if method == "svdd" else walkers) if best_of else 1
            plain = trained.sample(n * many, **asked)

            sets = {"guided": _judged(asking, result, invalid)}
            drawn = _judged(asking, plain, invalid)
            sets["unguided"] = drawn.at(range(n))
            if result.info.get("sampler") != plain.info.get("sampler"):  # then they differ by more than the reward
                sets[CONTROL] = _judged(asking, trained.sample(n, **asked | {"corrector": "none"}), invalid)
            if best_of:
                sets[f"best of {many}"] = drawn.at(_best(drawn.values, many, asking.minimise))
            written.append(_table(sets, asking.name, folder / "rewards.csv"))
            scores = scores_of(result, beside)
            scores |= {
                # what is maximised is the reward; of what is minimised the property itself is told
                f"{asking.name if minimise else 'reward'}, {name}": found
                for name, some in sets.items()
                if (found := _mean(name, asking, some.values, invalid)) is not None
            }
            typer.echo(table_of(scores))
            in_pieces(scores)
            if empty := [name for name, some in sets.items() if all(v is None for v in some.values)]:
                typer.echo(f"no mean where no sample is a molecule: {', '.join(empty)}", err=True)
            facts = {
                "reward": asking.name,
                "minimise": minimise,
                "method": method,
                **(
                    {"candidates": candidates, "alpha": alpha}
                    if method == "svdd"
                    else {"walkers": walkers, "lambda": lam}
                ),
                "invalid": invalid,
                "best_of": many if best_of else None,
                "model": model_name(model),
                "system": type(trained).__name__,
                "n": n,
                "info": result.info,
                "seconds": round(seconds, 2),
                "rewards": {name: some.values for name, some in sets.items()},
            }
            report(folder, scores, written, **facts)
            if draw:
                written += _histogram(sets, asking, folder / "reward.png")
            others = getattr(plain, "smiles", None)
            written += pictures(
                result,
                folder,
                draw,
                beside.reference,
                scores,
                label="guided",
                highlight=scaffold,
                sets={} if others is None else {"unguided": others[:n]},
                legends=_legends(sets["guided"].values, asking),
            )
            written.append(report(folder, scores, written, **facts))
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


def _judged(reward: Reward, result: Any, invalid: float | None) -> Judged:
    """Samples with their values; what is no molecule has the one of `invalid`, a reward."""
    from ..data.extras import quiet

    objects = _objects(result)
    none = None if invalid is None else reward.sign * invalid
    with quiet():
        values = [none if x is None else reward.value(x) for x in objects]
    texts = objects if hasattr(result, "sequences") else getattr(result, "smiles", None)
    return Judged(list(range(len(objects))), list(texts or [None] * len(objects)), values)


def _best(values: Sequence[float | None], many: int, minimise: bool = False) -> list[int]:
    """The place of the best of each group of `many`; of a group without a value the first."""
    sign = -1.0 if minimise else 1.0

    def rank(k: int) -> float:
        value = values[k]
        return -math.inf if value is None else sign * value

    return [max(range(k, k + many), key=rank) for k in range(0, len(values) - many + 1, many)]


def _table(sets: Mapping[str, Judged], name: str, path: Path) -> Path:
    """Every sample of every set with its value, as a table."""
    from ...core.files import replacing

    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["set", "sample", "text", name])
        for label, some in sets.items():
            for number, text, value in zip(some.numbers, some.texts, some.values, strict=True):
                writer.writerow([label, number, text or "", "" if value is None else repr(value)])
    return path


def _mean(name: str, reward: Reward, values: Sequence[float | None], invalid: float | None) -> Score | None:
    """The mean of those that have a value; None where none has."""
    from ..metrics.uncertainty import mean

    finite = [v if v is not None and math.isfinite(v) else math.nan for v in values]
    if all(map(math.isnan, finite)):
        return None
    what = "is left out" if invalid is None else f"counts {reward.sign * invalid:g}"
    label = f"{reward.name}, which is minimised" if reward.minimise else reward.name
    return mean(f"reward_{name}", finite, "1", f"mean of {label}; what is no molecule {what}", what="samples")


def _histogram(sets: Mapping[str, Judged], reward: Reward, path: Path) -> list[Path]:
    """The values of all sets that have some, the unguided ones grey."""
    from ...core.outputs import draw
    from ..plots import value_histograms

    order = [name for name in sets if name not in ("unguided", CONTROL)] + ["unguided"]
    some = {name: [v for v in sets[name].values if v is not None and math.isfinite(v)] for name in order}
    some = {name: values for name, values in some.items() if values}
    return [draw(value_histograms({reward.label: some}), path)] if some else []


def _legends(values: Sequence[float | None], reward: Reward) -> list[str]:
    """The value of each, as it stands below a drawing."""
    from ..plots import PROPERTIES

    name = PROPERTIES[reward.name][1].split(",")[0] if reward.name in PROPERTIES else reward.name.partition(":")[2]
    return ["" if value is None else f"{name} {value:.3g}" for value in values]
