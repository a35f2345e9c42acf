"""``refine``: improve somebody else's forecast with a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .messages import told
from .options import (
    PICTURES,
    TABLES,
    Data,
    Freq,
    Horizon,
    Level,
    Model,
    OnError,
    Progress,
    Seed,
    Start,
    Zone,
    load,
    panel_for,
    read,
    refuse_level,
    refuse_name,
)
from .results import draw

if TYPE_CHECKING:
    from ..data import Panel

__all__ = ["refine"]

BASES = ("seasonal-naive", "random-walk")


def refine(
    base: Annotated[
        str,
        typer.Argument(
            metavar="BASE",
            help="The forecast to improve: a table (unique_id, ds and a model's columns, as Nixtla's libraries write "
            "them), an .npz of this command, or seasonal-naive or random-walk, made here.",
        ),
    ],
    data: Data,
    out: Annotated[Path, typer.Option(help="Table of quantiles (.csv, .parquet) or all paths (.npz).")],
    model: Model = None,
    column: Annotated[str | None, typer.Option(help="Which model, in a table that holds several.")] = None,
    horizon: Horizon = None,
    method: Annotated[
        Literal["lmc", "ml"], typer.Option(help="Langevin walk, or maximum likelihood (the same without noise).")
    ] = "lmc",
    regulariser: Annotated[
        Literal["quantile", "mse"], typer.Option(help="What holds the forecast near what is known.")
    ] = "quantile",
    iterations: Annotated[int, typer.Option(help="Steps of the walk.")] = 20,
    step_size: Annotated[float, typer.Option(help="Their size.")] = 0.1,
    noise_scale: Annotated[float, typer.Option(help="Noise of the Langevin walk.")] = 0.1,
    num_samples: Annotated[
        int | None, typer.Option(help="Sample paths a series; the base's number, or 100, by default.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Also write a fan chart (.png, .svg, .pdf).")] = None,
    level: Level = [80, 95],  # noqa: B006
    freq: Freq = None,
    tz: Zone = None,
    start: Start = None,
    errors: OnError = "raise",
    seed: Seed = 0,
    progress: Progress = True,
) -> None:
    """Improve the forecast of any other model.

    A trained model is the prior: the forecast is moved to where the model finds it plausible. BASE must continue DATA:
    its first step is the one after the end of each series.

    \b
      scidiffuse timeseries refine theirs.csv mine.csv --out refined.csv
      scidiffuse timeseries refine seasonal-naive mine.csv --out refined.csv
    """
    with told():
        refuse_name(out, "--out", (*TABLES, ".npz"))
        refuse_name(plot, "--plot", PICTURES)
        refuse_level(level)
        if base not in BASES:
            refuse_name(Path(base), "BASE", (*TABLES, ".tsv", ".npz"))
            if horizon is not None:
                raise ValueError(f"--horizon is for {' and '.join(BASES)}: a file has its own horizon")
        trained = load(model)
        panel = panel_for(trained.config.freq, read(data, freq, tz, start, errors), freq, errors)
        result = trained.refine(
            _base(base, panel, horizon or trained.config.prediction_length, tz),
            panel,
            method=method,
            regulariser=regulariser,
            iterations=iterations,
            step_size=step_size,
            noise_scale=noise_scale,
            num_samples=num_samples,
            column=column,
            seed=seed,
            progress=progress,
        )
        typer.echo(f"wrote {result.save(out, level)}")
        if plot is not None:
            typer.echo(f"wrote {draw(result.plot(panel, level=tuple({50, *level})), plot)}")


def _base(name: str, panel: Panel, h: int, tz: str | None) -> Any:
    """The base forecast: made here, or read."""
    from ..baselines import random_walk, seasonal_naive_intervals
    from ..data import read_long
    from ..forecast import Forecast

    if name == "seasonal-naive":
        return seasonal_naive_intervals(panel, h)
    if name == "random-walk":
        return random_walk(panel, h)
    return Forecast.load(name) if name.lower().endswith(".npz") else read_long(name, tz=tz)
