"""``forecast``: what comes after the end of every series; steered, where asked for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .messages import told
from .options import (
    PICTURES,
    TABLES,
    Data,
    Freq,
    Guide,
    Horizon,
    Level,
    Method,
    Model,
    NonNegative,
    OnError,
    Paths,
    Progress,
    Scale,
    Seed,
    Start,
    Steps,
    Zone,
    guidance_of,
    load,
    panel_for,
    read,
    refuse_level,
    refuse_name,
    taken,
)
from .results import draw

__all__ = ["forecast"]


def forecast(
    data: Data,
    out: Annotated[Path, typer.Option(help="Table of quantiles (.csv, .parquet) or all paths (.npz).")],
    model: Model = None,
    horizon: Horizon = None,
    num_samples: Paths = 100,
    plot: Annotated[Path | None, typer.Option(help="Also write a fan chart (.png, .svg, .pdf).")] = None,
    level: Level = [80, 95],  # noqa: B006
    covariates_file: Annotated[
        Path | None, typer.Option(help="Table of the covariates over the horizon: unique_id, ds and their columns.")
    ] = None,
    steer: Annotated[
        list[str] | None,
        typer.Option(
            help='Constraint that paths must meet: non-negative, capacity=100, lower=.., upper=.., "total>=480", '
            '"total<=..", "total>=480/7" (each 7 steps), "total(a,b)>=..". Quote it; may be repeated.'
        ),
    ] = None,
    walkers: Annotated[
        int | None, typer.Option(help="Particles a path when steering: as many times the cost [default: 16].")
    ] = None,
    on_violation: Annotated[
        Literal["raise", "warn", "project"] | None,
        typer.Option(help="Paths for which no particle met a constraint: end, warn, or move them [default: raise]."),
    ] = None,
    non_negative: NonNegative = False,
    guidance: Guide = None,
    scale: Scale = None,
    sampler: Method = None,
    steps: Steps = None,
    freq: Freq = None,
    tz: Zone = None,
    start: Start = None,
    errors: OnError = "raise",
    seed: Seed = 0,
    progress: Progress = True,
) -> None:
    """Forecast what comes after the end of every series.

    \b
      scidiffuse timeseries forecast mine.csv --out forecast.csv --plot fan.png

    With --steer the paths are drawn given that a constraint holds, in the data's unit; printed is what share of them
    meets it, and how likely the model itself held it (ln Z).

    \b
      scidiffuse timeseries forecast mine.csv --out low.npz \\
          --steer non-negative --steer "total<=300"
    """
    with told():
        refuse_name(out, "--out", (*TABLES, ".npz"))
        refuse_name(plot, "--plot", PICTURES)
        refuse_level(level)
        constraints = _constraints(steer, walkers, on_violation)
        trained = load(model)
        frame = read(data, freq, tz, start, errors)
        panel = panel_for(trained.config.freq, frame, freq, errors)
        result = trained.forecast(
            panel,
            horizon,
            **taken(
                trained.forecast,
                trained.kind,
                num_samples=num_samples,
                guidance=guidance_of(guidance, scale, trained),
                sampler=sampler,
                steps=steps,
                steer=constraints,
                walkers=walkers,
                on_violation=on_violation,
                seed=seed,
                progress=progress,
            ),
        )
        if non_negative:
            result = result.non_negative()
        for line in _steered(result):
            typer.echo(line)
        typer.echo(f"wrote {result.save(out, level)}")
        if plot is not None:
            typer.echo(f"wrote {draw(result.plot(panel, level=tuple({50, *level})), plot)}")


def _constraints(steer: list[str] | None, walkers: int | None, on_violation: str | None) -> list[Any] | None:
    if not steer:
        alone = "--walkers" if walkers is not None else "--on-violation" if on_violation is not None else None
        if alone:
            raise ValueError(f"{alone} goes with --steer: there is nothing to steer towards")
        return None
    from .steer import constraint

    return [constraint(text) for text in steer]


def _steered(result: Any) -> list[str]:
    """What steering reports, in lines; none where there was no steering."""
    report = result.info.get("steering")
    if report is None:
        return []
    lines = [
        f"steering towards {', '.join(report['constraints'])}: {100 * report['satisfied']:.4g} % of the paths met it"
        + (f", {report['projected']} were moved to the nearest that do" if report["projected"] else "")
        + f" ({report['walkers']} particles a path)"
    ]
    joint = len(report["log_z"]) < len(result.ids)
    shown = list(zip(["all series"] if joint else result.ids, report["log_z"], strict=True))
    for name, log_z in sorted(shown, key=lambda pair: pair[1])[:10]:
        lines.append(f"  {name}: ln Z = {log_z:.3g}, the model's own probability of it about {math.exp(log_z):.2g}")
    return lines + ([f"  and {len(shown) - 10} more likely series"] if len(shown) > 10 else [])
