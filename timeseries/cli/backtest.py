"""``backtest``: rolling origins in calendar time, tests against every baseline; retrained, where asked for."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .messages import told
from .options import (
    BatchSize,
    Cluster,
    CovariatesFile,
    Data,
    Decay,
    Ema,
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
    Rate,
    Scale,
    Seed,
    Start,
    Steps,
    Stride,
    Warmup,
    Zone,
    covariates_of,
    given,
    guidance_of,
    load,
    panel_for,
    read,
    taken,
)
from .results import Results, folder_of, in_training, is_point
from .systems import names_of, untrained

if TYPE_CHECKING:
    from ..comparison import Comparison
    from ..data import Split
    from ..forecast import Forecast

__all__ = ["backtest"]

Metric = Literal[
    "wql_gluonts", "wql_csdi", "wql_exact", "crps_exact", "scaled_crps", "nd", "mae_median", "mase", "msis_95"
]


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
    covariates: Annotated[str | None, typer.Option(help="With --refit and --system tsdiff-cond: as for fit.")] = None,
    covariates_file: CovariatesFile = None,
    max_steps: Annotated[int, typer.Option(help="With --refit: optimizer steps of each training.")] = 1000,
    batch_size: BatchSize = None,
    lr: Rate = 1e-3,
    warmup: Warmup = 0,
    decay: Decay = None,
    ema: Ema = 0.999,
    metric: Annotated[Metric, typer.Option(help="Score of the comparisons.")] = "wql_gluonts",
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
      scidiffuse timeseries backtest mine.csv --refit --preset daily --windows 3
    """
    from ..baselines import standard_baselines
    from ..data import backtest as splits_of

    with told():
        folder = folder_of(out)
        if system is not None and not refit:
            raise ValueError("--system goes with --refit: without, a trained --model is taken as it is")
        if system is None and (preset or context_length or covariates):
            raise ValueError("--preset, --context-length and --covariates go with --refit and --system")
        if system is not None and model is not None:
            raise ValueError("give --model, whose configuration is trained anew, or --system, not both")
        frame = read(data, freq, tz, start, errors)
        if system is not None:
            panel = panel_for(None, frame, freq, errors)
            settings = {"context_length": context_length, "prediction_length": horizon, "freq": panel.freq}
            one = untrained(system, preset, None, None, covariates=names_of(covariates), **settings)
        else:
            one = load(model)
            panel = panel_for(one.config.freq, frame, freq, errors)
        h = one.config.prediction_length if horizon is None else horizon
        known = covariates_of(one.config, frame, covariates_file, tz)
        training = given(max_steps=max_steps, batch_size=batch_size, lr=lr, warmup=warmup, decay=decay, seed=seed)
        training["ema"] = ema or None
        sampling = taken(
            one.forecast,
            one.kind,
            covariates=known,
            num_samples=num_samples,
            guidance=guidance_of(guidance, scale, one),
            sampler=sampler,
            steps=steps,
            progress=progress,
        )

        def forecast(split: Split) -> Forecast:
            fitted = one
            if refit:
                fitted = type(one)(one.config)
                fitted.fit(split.train, progress=progress, **training, **given(covariates=known))
            found = fitted.forecast(split.history, h, seed=seed + split.window, **sampling)
            return found.non_negative() if non_negative else found

        splits, parts = [], []
        for split in splits_of(panel, h, windows, stride, context=one.config.context_length):
            typer.echo(_about(split, windows))
            named = {f"{one.kind}, {num_samples} paths": forecast(split)}
            parts.append(named | standard_baselines(split.history, h, with_ets=ets))
            splits.append(split)
        results = _together(parts, splits, cluster)
        comparisons = _compared(results, metric, seed)
        typer.echo(f"{results.table()}\n\n{_shown(comparisons, metric)}")
        if folder is not None:
            ours = next(iter(results.forecasts.values()))
            facts = {
                "data": data,
                "cutoffs": [str(max(split.cutoffs)) for split in splits],
                "horizon": h,
                "stride": h if stride is None else stride,
                "refit": training if refit else None,
                "in_training_period": 0 if refit else in_training(one, ours),
                "model": ours.info,
                "comparisons": comparisons,
            }
            typer.echo(f"wrote {_write_forecasts(results, folder / 'forecasts.csv')}")
            for path in results.write(folder, **facts):
                typer.echo(f"wrote {path}")


def _about(split: Split, windows: int) -> str:
    return (
        f"window {split.window + 1} of {windows}: known up to {max(split.cutoffs)}, {len(split.history)} series"
        + (f", {int(split.cold.sum())} with a short history" if split.cold.any() else "")
        + (f", {len(split.left_out)} without a value to forecast" if split.left_out else "")
    )


def _together(parts: list[dict[str, Forecast]], splits: list[Split], cluster: str) -> Results:
    """All windows as rows; a baseline that some window lacks is left out of all."""
    import numpy as np

    from ..data import Panel
    from ..forecast import joined

    names = dict.fromkeys(name for part in parts for name in part)
    for name in [name for name in names if not all(name in part for part in parts)]:
        del names[name]
        text = f"baseline {name!r} exists in {sum(name in part for part in parts)} of {len(parts)} windows: left out"
        warnings.warn(text, stacklevel=2)
    histories = [split.history for split in splits]
    history = Panel(
        tuple(u for p in histories for u in p.ids),
        tuple(s for p in histories for s in p.starts),
        tuple(v for p in histories for v in p.values),
        histories[0].freq,
    )
    forecasts = {name: joined([part[name] for part in parts]) for name in names}
    return Results(forecasts, np.concatenate([split.actual for split in splits]), history, cluster)


def _compared(found: Results, metric: str, seed: int) -> dict[str, Comparison | str]:
    """The model beside every baseline, by one score; a sentence where that is impossible."""
    from ..comparison import compare

    (name, model), *baselines = found.forecasts.items()
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
