"""``evaluate``: score a model on the last windows of every series, beside the simplest baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .messages import told
from .options import (
    Cluster,
    CovariatesFile,
    Data,
    Ets,
    Freq,
    Guide,
    Horizon,
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
    Stride,
    Zone,
    covariates_of,
    guidance_of,
    load,
    panel_for,
    read,
    taken,
)
from .results import Results, folder_of, in_training

__all__ = ["evaluate"]


def evaluate(
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder: metrics.json, per_horizon.csv, fan.png, pit.png, reliability.png."),
    ] = None,
    model: Model = None,
    windows: Annotated[int, typer.Option(help="Rolling windows at the end of every series.")] = 8,
    stride: Stride = None,
    horizon: Horizon = None,
    covariates_file: CovariatesFile = None,
    num_samples: Paths = 100,
    guidance: Guide = None,
    scale: Scale = None,
    sampler: Method = None,
    steps: Steps = None,
    non_negative: NonNegative = False,
    ets: Ets = None,
    cluster: Cluster = "row",
    freq: Freq = None,
    tz: Zone = None,
    start: Start = None,
    errors: OnError = "raise",
    seed: Seed = 0,
    progress: Progress = True,
) -> None:
    """Score a model beside the simplest baselines.

    It forecasts the last windows of every series. The baselines are the seasonal naive forecast (the point of the
    papers, and with intervals), random walks, and ETS where it is installed. Each score has its definition, its n and a
    confidence interval; windows that the model was trained on are counted in a warning. Windows are counted back from
    each series' own end: see backtest for cutoffs that all series share.

    \b
      scidiffuse timeseries evaluate mine.csv --model runs/mine --windows 8 --out scores
    """
    from ..baselines import standard_baselines
    from ..forecast import rolling

    with told():
        folder = folder_of(out)
        trained = load(model)
        h = trained.config.prediction_length if horizon is None else horizon
        frame = read(data, freq, tz, start, errors)
        panel = panel_for(trained.config.freq, frame, freq, errors)
        history, actual = rolling(panel, h, windows, stride)
        result = trained.forecast(
            history,
            h,
            **taken(
                trained.forecast,
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
        if non_negative:
            result = result.non_negative()
        forecasts = {f"{trained.kind}, {num_samples} paths": result}
        forecasts |= standard_baselines(history, h, with_ets=ets)
        found = Results(forecasts, actual, history, cluster)
        typer.echo(found.table())
        if folder is not None:
            facts = {
                "data": data,
                "windows": windows,
                "stride": h if stride is None else stride,
                "horizon": h,
                "in_training_period": in_training(trained, result),
                "model": result.info,
            }
            for path in found.write(folder, **facts):
                typer.echo(f"wrote {path}")
