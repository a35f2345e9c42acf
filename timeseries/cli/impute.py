"""``impute``: what is missing inside the series."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from .messages import told
from .options import (
    PICTURES,
    TABLES,
    CovariatesFile,
    Data,
    Freq,
    Guide,
    Level,
    Method,
    Model,
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

__all__ = ["impute"]


def impute(
    data: Data,
    out: Annotated[Path, typer.Option(help="Quantiles of the missing steps (.csv, .parquet) or all paths (.npz).")],
    filled: Annotated[
        Path | None, typer.Option(help="Also write the series with their medians filled in (.csv, .parquet).")
    ] = None,
    model: Model = None,
    covariates_file: CovariatesFile = None,
    num_samples: Paths = 100,
    plot: Annotated[Path | None, typer.Option(help="Also draw the gaps (.png, .svg, .pdf).")] = None,
    level: Level = [80, 95],  # noqa: B006
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
    """Fill the gaps of every series, with uncertainty.

    What is drawn is what may have been, given everything that was observed. Missing are steps without a row, and rows
    without a value. A path fills all gaps of its series together, so that totals and extremes of a series have a
    distribution (.npz); medians alone (--filled) are smoother than data.

    \b
      scidiffuse timeseries impute mine.csv --out gaps.csv --filled filled.csv
    """
    with told():
        refuse_name(out, "--out", (*TABLES, ".npz"))
        refuse_name(filled, "--filled", TABLES)
        refuse_name(plot, "--plot", PICTURES)
        refuse_level(level)
        trained = load(model)
        frame = read(data, freq, tz, start, errors)
        panel = panel_for(trained.config.freq, frame, freq, errors)
        if not any(np.isnan(y).any() for y in panel.values):
            raise ValueError("nothing is missing in these series: there is nothing to impute")
        result = trained.impute(
            panel,
            **taken(
                trained.impute,
                trained.kind,
                covariates=covariates_of(trained.config, frame, covariates_file, tz),
                num_samples=num_samples,
                guidance=guidance_of(guidance, scale, trained),
                sampler=sampler,
                steps=steps,
                seed=seed,
                progress=progress,
            ),
        )
        gaps = sum(len(result.gaps(i)) for i in range(len(result)))
        count = sum(int(m.sum()) for m in result.missing)
        typer.echo(f"{count} missing steps in {gaps} gaps of {len(result)} series")
        typer.echo(f"wrote {result.save(out, level)}")
        if filled is not None:
            from ..data import write_long

            typer.echo(f"wrote {write_long(result.to_panel(), filled)}")
        if plot is not None:
            typer.echo(f"wrote {draw(result.plot(), plot)}")
