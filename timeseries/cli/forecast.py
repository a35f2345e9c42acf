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
    CovariatesFile,
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
    covariates_of,
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
    covariates_file: CovariatesFile = None,
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
        known = covariates_of(trained.config, frame, covariates_file, tz)
        result = trained.forecast(
            panel,
            horizon,
            **taken(
                trained.forecast,
                trained.kind,
                covariates=known,
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
    reports = result.info.get("steering")
    if reports is None:
        return []
    reports = reports if isinstance(reports, list) else [reports]  # one for each origin of joint models
    met, moved = sum(r["satisfied"] for r in reports) / len(reports), sum(r["projected"] for r in reports)
    lines = [
        f"steering towards {', '.join(reports[0]['constraints'])}: {100 * met:.4g} % of the paths met it"
        + (f", {moved} were moved to the nearest that do" if moved else "")
        + f" ({reports[0]['walkers']} particles a path)"
    ]
    log_z = [z for r in reports for z in r["log_z"]]
    names = result.ids if len(log_z) == len(result.ids) else ["all series"] * len(log_z)
    shown = sorted(zip(names, log_z, strict=True), key=lambda pair: pair[1])
    for name, z in shown[:10]:
        lines.append(f"  {name}: ln Z = {z:.3g}, the model's own probability of it about {math.exp(z):.2g}")
    return lines + ([f"  and {len(shown) - 10} that are more likely"] if len(shown) > 10 else [])
