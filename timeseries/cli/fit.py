"""``fit``: train a model on the user's series."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from .messages import told
from .options import (
    BatchSize,
    CovariatesFile,
    Data,
    Decay,
    Ema,
    Freq,
    MaxSteps,
    OnError,
    Progress,
    Rate,
    Start,
    Warmup,
    Zone,
    covariates_of,
    given,
    panel_for,
    read,
)
from .systems import names_of, untrained

__all__ = ["fit"]


def fit(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder: checkpoints in state/, the model in model/ (and best/).")],
    system: Annotated[
        Literal["tsdiff", "tsdiff-cond", "csdi"],
        typer.Option(help="tsdiff: any gaps, refines, synthesises; tsdiff-cond: covariates; csdi: joint series."),
    ] = "tsdiff",
    preset: Annotated[
        str | None,
        typer.Option(help="Settings by step (hourly, daily, business, weekly, monthly ... or an alias) or data set."),
    ] = None,
    size: Annotated[
        Literal["small", "medium", "paper"] | None, typer.Option(help="Size of the preset's network [default: small].")
    ] = None,
    context_length: Annotated[
        int | None, typer.Option(help="Steps a window looks back [default: 336; csdi: 168].")
    ] = None,
    horizon: Annotated[int | None, typer.Option(help="Steps ahead [default: 24].")] = None,
    covariates: Annotated[
        str | None, typer.Option(help="Columns known of the future, 'price,holiday' (tsdiff-cond).")
    ] = None,
    covariates_file: CovariatesFile = None,
    freq: Freq = None,
    tz: Zone = None,
    start: Start = None,
    errors: OnError = "raise",
    scaler: Annotated[
        Literal["mean_abs", "standard", "series", "window"] | None,
        typer.Option(help="How values are scaled [default: mean_abs]; csdi: series or window [series]."),
    ] = None,
    lags: Annotated[str | None, typer.Option(help="'none', 'auto' or steps such as '24,168' [default: none].")] = None,
    channels: Annotated[int | None, typer.Option(help="Width of the network [default: 64].")] = None,
    blocks: Annotated[int | None, typer.Option(help="Residual blocks of tsdiff [default: 3].")] = None,
    d_state: Annotated[int | None, typer.Option(help="State size of tsdiff's S4D layers [default: 64].")] = None,
    layers: Annotated[int | None, typer.Option(help="Residual layers of csdi [default: 4].")] = None,
    heads: Annotated[int | None, typer.Option(help="Attention heads of csdi [default: 8].")] = None,
    calendar: Annotated[
        bool | None, typer.Option("--calendar/--no-calendar", help="Calendar features of tsdiff-cond [default: yes].")
    ] = None,
    missing: Annotated[
        Literal["none", "random", "begin", "end", "mixed"] | None,
        typer.Option(help="What tsdiff-cond hides in training beside the horizon [default: mixed]."),
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(help="Share of the network's values dropped in training [default: 0; csdi: 0.1].")
    ] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help="Strength stored with the model for forecasting [default: 4].")
    ] = None,
    sampler: Annotated[
        Literal["ddim", "ddpm"] | None, typer.Option(help="Sampler stored with the model [default: ddpm].")
    ] = None,
    sampling_steps: Annotated[int | None, typer.Option(help="Network calls stored with the model.")] = None,
    max_steps: MaxSteps = 4000,
    batch_size: BatchSize = None,
    lr: Rate = 1e-3,
    warmup: Warmup = 0,
    decay: Decay = None,
    ema: Ema = 0.999,
    holdout: Annotated[int, typer.Option(help="Last steps of every series that training never sees.")] = 0,
    val_windows: Annotated[int, typer.Option(help="Validation horizons a series, before the holdout.")] = 0,
    save_every: Annotated[int | None, typer.Option(help="Steps between checkpoints.")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order and noise.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the training in --out.")] = False,
    devices: Annotated[str, typer.Option(help="'auto', a number or a list such as 0,2.")] = "auto",
    num_nodes: Annotated[int, typer.Option(help="Machines.")] = 1,
    strategy: Annotated[str, typer.Option(help="Lightning's: auto, ddp, fsdp ...")] = "auto",
    accelerator: Annotated[str, typer.Option(help="auto, cpu, gpu ...")] = "auto",
    precision: Annotated[str, typer.Option(help="32-true, bf16-mixed ...")] = "32-true",
    progress: Progress = True,
) -> None:
    """Train a model on your series.

    One global model learns from every window of every series. --preset chooses window, lags and sizes by the step of
    the data; single options override it. --holdout keeps a test period out of training, --val-windows a validation
    before that, by which best/ is chosen. An interrupted training goes on with --resume.

    \b
      scidiffuse timeseries fit mine.csv --out runs/mine --preset daily \\
          --holdout 90 --val-windows 3
    """
    from ...core import checkpoint
    from ...core.messages import resumable
    from ...core.training import hardware

    with told(), resumable(out) as at:
        model = untrained(
            system,
            preset,
            size,
            lags,
            context_length=context_length,
            prediction_length=horizon,
            freq=freq,
            covariates=names_of(covariates),
            scaler=scaler,
            channels=channels,
            blocks=blocks,
            d_state=d_state,
            layers=layers,
            heads=heads,
            calendar=calendar,
            missing=missing,
            dropout=dropout,
            guidance_scale=guidance_scale,
            sampler=sampler,
            sampling_steps=sampling_steps,
        )
        frame = read(data, freq, tz, start, errors)
        model.fit(
            panel_for(None, frame, freq, errors),
            **given(
                batch_size=batch_size,
                decay=decay,
                covariates=covariates_of(model.config, frame, covariates_file, tz),
            ),
            max_steps=max_steps,
            lr=lr,
            warmup=warmup,
            ema=ema or None,
            holdout=holdout,
            val_windows=val_windows,
            save_every=save_every,
            seed=seed,
            out=out,
            resume=resume,
            progress=progress,
            callbacks=at.callbacks(),
            **hardware(devices, num_nodes, strategy, accelerator, precision),
        )
    where = out / ("best" if checkpoint.is_checkpoint(out / "best") else "model")
    done = "already at" if at.before == model.steps else "trained to"
    todo = ", nothing to do" if at.before == model.steps else ""
    typer.echo(f"{done} step {model.steps}{todo}; the model is in {where}")
