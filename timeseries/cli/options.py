"""The options that verbs share, and reading what they name: data, model, sampling."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    import pandas as pd

    from ..data import Panel

__all__ = ["covariates_of", "given", "guidance_of", "load", "panel_for", "read", "refuse_name", "taken"]

TABLES = (".csv", ".csv.gz", ".parquet", ".pq")
PICTURES = (".png", ".svg", ".pdf")

# -- data
Data = Annotated[
    list[str], typer.Argument(metavar="DATA", help="Files, folders or names of data sets, put together into one.")
]
Freq = Annotated[
    str | None,
    typer.Option(help="Pandas alias of the data's step (h, D, 15min ...); inferred by default."),
]
Zone = Annotated[str | None, typer.Option("--tz", help="Zone of local wall times in tables, e.g. Europe/Berlin.")]
Start = Annotated[str | None, typer.Option(help="First time, for files without dates (needs --freq).")]
OnError = Annotated[
    Literal["raise", "skip"],
    typer.Option(help="What to do with bad rows and series: end, or leave them out and name them."),
]
CovariatesFile = Annotated[
    Path | None,
    typer.Option(help="Table of covariates (unique_id, ds, columns), of the horizon too; it goes before the data."),
]
# -- model
Model = Annotated[
    Path | None, typer.Option(help="Folder of a trained model, or the --out of a fit; default: the one that ships.")
]
Horizon = Annotated[int | None, typer.Option(help="Steps ahead; the model's by default.")]
# -- sampling
Paths = Annotated[int, typer.Option("--num-samples", help="Sample paths a series.")]
Guide = Annotated[
    Literal["quantile", "mse"] | None, typer.Option(help="Energy of the self-guidance; default: quantile.")
]
Scale = Annotated[float | None, typer.Option(help="Strength of the guidance; default: the model's.")]
Method = Annotated[Literal["ddim", "ddpm"] | None, typer.Option(help="Sampler; default: the model's.")]
Steps = Annotated[int | None, typer.Option(help="Network calls a path; default: the model's.")]
NonNegative = Annotated[bool, typer.Option("--non-negative", help="Clip the sample paths at 0.")]
Seed = Annotated[int, typer.Option(help="Of the noise: same seed, same numbers.")]
Progress = Annotated[bool, typer.Option(help="Show a progress bar.")]
# -- training
MaxSteps = Annotated[int, typer.Option(help="Optimizer steps in all.")]
BatchSize = Annotated[int | None, typer.Option(help="Windows a step, over all processes [default: 64; csdi: 16].")]
Rate = Annotated[float, typer.Option("--lr", help="Learning rate.")]
Warmup = Annotated[int, typer.Option(help="Steps of linear warm-up.")]
Decay = Annotated[
    Literal["constant", "cosine"] | None,
    typer.Option(help="Learning rate after the warm-up [default: constant; csdi: cosine]."),
]
Ema = Annotated[float, typer.Option(help="Decay of the averaged weights; 0 for none.")]
# -- output
Level = Annotated[list[float], typer.Option(help="Central intervals, in percent; may be repeated.")]
Stride = Annotated[int | None, typer.Option(help="Steps between the windows' origins; the horizon by default.")]
Ets = Annotated[bool | None, typer.Option(help="ETS among the baselines; default: where statsforecast is installed.")]
Cluster = Annotated[
    Literal["row", "series", "origin"],
    typer.Option(help="What the intervals of scores take as independent: windows, series, or forecast dates."),
]


def read(
    data: list[str],
    freq: str | None = None,
    tz: str | None = None,
    start: str | None = None,
    errors: Literal["raise", "skip"] = "raise",
) -> pd.DataFrame:
    """All data, one long frame."""
    import pandas as pd

    from ..data import load as load_data

    frames = [load_data(name, freq, start=start, tz=tz, errors=errors) for name in data]
    return frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)


def panel_for(
    model_freq: str | None, frame: pd.DataFrame, freq: str | None = None, errors: Literal["raise", "skip"] = "raise"
) -> Panel:
    """The frame on the grid of a model, for data that have its frequency by themselves (or are said to have it)."""
    from ..data import to_model_panel, to_panel

    if model_freq is None:
        return to_panel(frame, freq, errors=errors)
    if freq is None and errors == "raise":
        return to_model_panel(frame, model_freq)
    return to_model_panel(to_panel(frame, freq, errors=errors), model_freq)


def covariates_of(
    config: Any, frame: pd.DataFrame, file: Path | None = None, tz: str | None = None
) -> pd.DataFrame | None:
    """What a model is to be told of the future: its covariates in the data, and in a file, which is right where both
    have a value. None for a model without.

    Raises:
        ValueError: the data (and the file) lack columns, have two rows of one time, or a file was given to a model that
            has no covariates.
    """
    columns = list(getattr(config, "covariates", ()))
    if not columns:
        if file is not None:
            raise ValueError("--covariates-file: this model has no covariates; train one with --covariates")
        return None
    import pandas as pd

    from ..data import read_long

    parts = [frame] if set(columns) <= set(frame.columns) else []
    if file is not None:
        parts.append(read_long(file, tz=tz))
    for part in parts or [frame]:
        lacking = [c for c in columns if c not in part.columns]
        if lacking:
            raise ValueError(
                f"this model has the covariates {', '.join(columns)}: the {'file' if part is not frame else 'data'} "
                f"lack the columns {', '.join(lacking)}, and have {', '.join(map(str, part.columns))}"
            )
    if len(parts) == 1:
        return parts[0][["unique_id", "ds", *columns]]
    from ..covariates import read_known

    known = read_known(parts[1], columns, "--covariates-file").over(read_known(frame, columns, "the data"))
    rows = []
    for u, (times, values) in known.series.items():
        rows.append(pd.DataFrame(values, columns=columns).assign(unique_id=u, ds=times))
    return pd.concat(rows, ignore_index=True)


def load(folder: Path | None) -> Any:
    """The model in a folder, of whatever system; the one that ships where there is none."""
    from .. import pretrained
    from ..models import load_model

    return load_model(pretrained() if folder is None else folder)


def refuse_name(path: Path | None, option: str, kinds: tuple[str, ...]) -> None:
    """Refuse a file that could not be written, before the work."""
    if path is not None and not path.name.lower().endswith(kinds):
        raise ValueError(f"{option} {path}: the name must end in {', '.join(kinds)}")


def refuse_level(level: list[float]) -> None:
    """Refuse intervals that are not in percent."""
    if any(not 0 < v < 100 for v in level):
        raise ValueError(f"--level is in percent, between 0 and 100, got {level}")


def guidance_of(kind: str | None, scale: float | None, model: Any) -> Any:
    """The guidance that was asked for, None where nothing was."""
    if kind is None and scale is None:
        return None
    from ..guidance import MSEGuidance, QuantileGuidance

    if kind == "mse":
        return MSEGuidance() if scale is None else MSEGuidance(scale)
    return QuantileGuidance(getattr(model.config, "guidance_scale", 1.0) if scale is None else scale)


def given(**options: Any) -> dict[str, Any]:
    """Those options that have a value."""
    return {name: value for name, value in options.items() if value is not None}


def taken(verb: Callable[..., Any], who: str, **options: Any) -> dict[str, Any]:
    """The arguments that were given (not None), if the verb of this model has them all.

    Raises:
        ValueError: it has not; its name and the options are said.
    """
    known: Mapping[str, Any] = inspect.signature(verb).parameters
    asked = given(**options)
    words = {"guidance": "--guidance or --scale"}
    foreign = [words.get(name, f"--{name.replace('_', '-')}") for name in asked if name not in known]
    if foreign:
        raise ValueError(f"{who} models have no {', '.join(foreign)}: leave out what they do not take")
    return asked
