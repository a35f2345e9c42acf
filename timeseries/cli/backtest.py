"""``backtest``: rolling origins in calendar time, tests against every baseline; retrained, where asked for."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .messages import told
from .options import (
    BatchSize,
    Cluster,
    Data,
    Decay,
    Ema,
    Ets,
    Freq,
    Guide,
    Horizon,
    MaxSteps,
    Method,
    Model,
    NonNegative,
    OnError,
    Paths,
    Progress,
    Rate,
    Scale,
    Seed,
    Start,
    Steps,
    Stride,
    Warmup,
    Zone,
    guidance_of,
    load,
    panel_for,
    read,
    taken,
)
from .results import Results, folder_of, in_training, is_point
from .systems import untrained

if TYPE_CHECKING:
    from ..comparison import Comparison
    from ..data import Panel
    from ..forecast import Forecast

__all__ = ["backtest"]


def backtest(
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder: metrics.json, forecasts.csv, per_horizon.csv, fan.png, pit.png, reliability.png."),
    ] = None,
    model: Model = None,
    windows: Annotated[int, typer.Option(help="Rolling windows.")] = 4,
    stride: Stride = None,
    horizon: Horizon = None,
    refit: Annotated[
        bool, typer.Option("--refit", help="Train anew for every window, on what lies before its cutoff.")
    ] = False,
    system: Annotated[
        Literal["tsdiff", "tsdiff-cond", "csdi"] | None,
        typer.Option(help="With --refit: what to train, instead of a --model's own configuration."),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="With --refit and --system: settings, as for fit.")] = None,
    context_length: Annotated[int | None, typer.Option(help="With --refit and --system: as for fit.")] = None,
    max_steps: MaxSteps = 1000,
    batch_size: BatchSize = 64,
    lr: Rate = 1e-3,
    warmup: Warmup = 0,
    decay: Decay = "constant",
    ema: Ema = 0.999,
    metric: Annotated[
        str, typer.Option(help="Score of the comparisons: wql_gluonts, crps_exact, scaled_crps, nd, mase ...")
    ] = "wql_gluonts",
    num_samples: Paths = 100,
    guidance: Guide = None,
    scale: Scale = None,
    sampler: Method = None,
    steps: Steps = None,
    non_negative: NonNegative = False,
    ets: Ets = None,
    cluster: Cluster = "origin",
    freq: Freq = None,
    tz: Zone = None,
    start: Start = None,
    errors: OnError = "raise",
    seed: Seed = 0,
    progress: Progress = True,
) -> None:
    """Rolling-origin backtest, with a test against each baseline.

    All series share the cutoffs; nothing after one is known to any forecast of its window. A model is taken as it is,
    with a warning where windows lie in its training period; with --refit it is trained anew for every window
    (--max-steps each).

    \b
      scidiffuse timeseries backtest mine.csv --model runs/mine --windows 12
      scidiffuse timeseries backtest mine.csv --refit --system tsdiff \\
          --preset daily --windows 3 --out results
    """
    from ..data import backtest as splits_of
    from ..data import to_panel

    with told():
        folder = folder_of(out)
        if not refit and (system or preset or context_length):
            raise ValueError("--system, --preset and --context-length go with --refit")
        if system is None and (preset or context_length):
            raise ValueError("--preset and --context-length go with --system")
        if system is not None and model is not None:
            raise ValueError("give --model, whose configuration is trained anew, or --system, not both")
        frame = read(data, freq, tz, start, errors)
        if system is not None:
            panel = to_panel(frame, freq, errors=errors)
            given = {"context_length": context_length, "prediction_length": horizon, "freq": panel.freq}
            trained = untrained(system, preset, None, None, **given)
        else:
            trained = load(model)
            panel = panel_for(trained.config.freq, frame, freq, errors)
        h = trained.config.prediction_length if horizon is None else horizon
        settings: dict[str, Any] = {
            "max_steps": max_steps,
            "batch_size": batch_size,
            "lr": lr,
            "warmup": warmup,
            "decay": decay,
            "ema": ema or None,
            "seed": seed,
            "progress": progress,
        }
        parts: dict[str, list[Forecast]] = {}
        histories, actuals, cutoffs, counted = [], [], [], 0
        for split in splits_of(panel, h, windows, stride, context=trained.config.context_length):
            cutoffs.append(str(max(split.cutoffs)))
            typer.echo(
                f"window {split.window + 1} of {windows}: known up to {cutoffs[-1]}, {len(split.history)} series"
                + (f", {int(split.cold.sum())} with a short history" if split.cold.any() else "")
                + (f", {len(split.left_out)} without a value to forecast" if split.left_out else "")
            )
            one = type(trained)(trained.config).fit(split.train, **settings) if refit else trained
            forecast = one.forecast(
                split.history,
                h,
                **taken(
                    one.forecast,
                    one.kind,
                    num_samples=num_samples,
                    guidance=guidance_of(guidance, scale, one),
                    sampler=sampler,
                    steps=steps,
                    seed=seed + split.window,
                    progress=progress,
                ),
            )
            counted += 0 if refit else in_training(one, forecast)
            parts.setdefault(_name(one, num_samples), []).append(forecast.non_negative() if non_negative else forecast)
            for name, f in _baselines(split.history, h, ets).items():
                parts.setdefault(name, []).append(f)
            histories.append(split.history)
            actuals.append(split.actual)
        found = _together(parts, histories, actuals, cluster)
        typer.echo(found.table())
        comparisons = _compared(found, metric, seed)
        typer.echo(f"\n{_shown(comparisons, metric)}")
        if folder is not None:
            facts = {
                "data": data,
                "cutoffs": cutoffs,
                "horizon": h,
                "stride": h if stride is None else stride,
                "refit": settings if refit else None,
                "in_training_period": counted,
                "model": next(iter(found.forecasts.values())).info,
                "comparisons": comparisons,
            }
            typer.echo(f"wrote {_write_forecasts(found, folder / 'forecasts.csv')}")
            for path in found.write(folder, **facts):
                typer.echo(f"wrote {path}")


def _name(model: Any, num_samples: int) -> str:
    return f"{model.kind}, {num_samples} paths"


def _baselines(history: Panel, h: int, ets: bool | None) -> dict[str, Forecast]:
    from ..baselines import standard_baselines

    return standard_baselines(history, h, with_ets=ets)


def _together(parts: dict[str, list[Forecast]], histories: list[Panel], actuals: list[Any], cluster: str) -> Results:
    """All windows as rows; a baseline that some window lacks is left out of all."""
    import numpy as np

    from ..data import Panel
    from ..forecast import joined

    for name in [name for name, forecasts in parts.items() if len(forecasts) < len(histories)]:
        text = f"baseline {name!r} exists in {len(parts.pop(name))} of {len(histories)} windows only: left out"
        warnings.warn(text, stacklevel=2)
    history = Panel(
        tuple(u for p in histories for u in p.ids),
        tuple(s for p in histories for s in p.starts),
        tuple(v for p in histories for v in p.values),
        histories[0].freq,
    )
    return Results({name: joined(f) for name, f in parts.items()}, np.concatenate(actuals), history, cluster)


def _compared(found: Results, metric: str, seed: int) -> dict[str, Comparison | str]:
    """The model beside every baseline, by one score; a sentence where that is impossible."""
    from ..comparison import compare

    (name, model), *baselines = found.forecasts.items()
    able = set(found.scores[name]) - {"nrmse", "mae_coverage", "rmse_mean"}
    if metric not in {k for k in able if not k.startswith("coverage")}:
        choice = sorted(k for k in able if not k.startswith("coverage"))
        raise ValueError(f"--metric {metric}: expected one of {', '.join(choice)}")
    out: dict[str, Comparison | str] = {}
    for other, forecast in baselines:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*loss of zero.*")
                told_apart = compare(model, forecast, found.actual, metric, found.history, seed=seed)
            out[other] = replace(told_apart, names=(name, other))
        except ValueError as error:
            out[other] = f"{metric}: {name} and {other} cannot be compared: {error}"
    return out


def _shown(comparisons: dict[str, Comparison | str], metric: str) -> str:
    """The comparisons as a table, and what the reader must know of them."""
    from ...core.demo import table

    rows: dict[str, dict[str, float | str]] = {}
    notes: dict[str, None] = {}
    for other, c in comparisons.items():
        if isinstance(c, str):
            notes[c] = None
            continue
        rows[f"model / {other}"] = {
            "ratio": c.ratio,
            "low95": c.low,
            "high95": c.high,
            "windows won": f"{c.wins.wins} of {c.wins.n}",
            "sign test p": c.wins.p_value,
            "Diebold-Mariano": "-" if c.test is None else c.test.statistic,
            "its p": "-" if c.test is None else c.test.p_value,
        }
        notes[f"intervals of {metric} ratios: {c.how}"] = None
        notes |= {c.note: None} if c.note else {}
    return "\n".join([*([table(rows)] if rows else []), *notes])


def _write_forecasts(found: Results, path: Path) -> Path:
    """All forecasts of all windows: ``unique_id, ds, cutoff, y`` and the columns of every model."""
    import pandas as pd

    from ..data import write_long

    frames: list[pd.DataFrame] = []
    for f in sorted(found.forecasts.values(), key=is_point):  # the model first; points after those with intervals
        frame = f.to_long(cutoff=True)
        if not frames:
            frame.insert(3, "y", found.actual.reshape(-1))
        columns = [f.name] if is_point(f) else list(frame.columns)
        frames.append(frame[[c for c in columns if not any(c in before for before in frames)]])
    return write_long(pd.concat(frames, axis=1), path)
