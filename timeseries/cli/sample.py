"""``sample``: synthetic windows, and whether a model trained on them would work on real ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .messages import told
from .options import (
    TABLES,
    Freq,
    Method,
    Model,
    OnError,
    Progress,
    Seed,
    Start,
    Steps,
    Zone,
    load,
    panel_for,
    read,
    refuse_name,
    taken,
)

if TYPE_CHECKING:
    import numpy as np

    from ..data import Panel

__all__ = ["sample"]


def sample(
    n: Annotated[int, typer.Option("-n", "--number", help="How many windows.")] = 1000,
    out: Annotated[
        Path | None, typer.Option(help="Windows as .npz (windows, n x length) or .csv, .parquet (window, step, y).")
    ] = None,
    model: Model = None,
    report: Annotated[
        list[str] | None,
        typer.Option(help="Real data (file or name; may be repeated): print how good the windows are beside them."),
    ] = None,
    sampler: Method = None,
    steps: Steps = None,
    freq: Freq = None,
    tz: Zone = None,
    start: Start = None,
    errors: OnError = "raise",
    seed: Seed = 0,
    progress: Progress = True,
) -> None:
    """Draw synthetic windows of series.

    A window is a context and a horizon, in the model's scaled unit. --report fits a linear forecaster to the windows
    and scores it on the end of each real series (LPS, linear predictive score; lower is better), beside the same with
    real windows and with noise.

    \b
      scidiffuse timeseries sample -n 10000 --out windows.npz --report mine.csv
    """
    with told():
        refuse_name(out, "--out", (*TABLES, ".npz"))
        if out is None and report is None:
            raise ValueError("nothing to do: give --out, --report, or both")
        if n < 1:
            raise ValueError(f"-n must be at least 1, got {n}")
        trained = load(model)
        if getattr(trained.config, "covariates", ()):
            raise ValueError("this model has covariates, which its windows need: draw them from Python")
        panel = None
        if report:
            panel = panel_for(trained.config.freq, read(report, freq, tz, start, errors), freq, errors)
            if trained.config.scaler not in ("mean_abs", "standard"):
                raise ValueError(f"--report is for windows scaled by their context, not for {trained.kind} models")
        asked = {"sampler": sampler, "steps": steps, "seed": seed, "progress": progress}
        windows = trained.sample(n, **taken(trained.sample, trained.kind, **asked))
        if out is not None:
            typer.echo(f"wrote {_write(windows, trained, out)}")
        if panel is not None:
            typer.echo(_report(windows, trained, panel, seed))


def _write(windows: np.ndarray, trained: Any, path: Path) -> Path:
    """Windows (n, L), or (n, K, L) of K joint series, as a file that appears when it is complete."""
    import numpy as np
    import pandas as pd

    from ...core.files import replacing
    from ..data import write_long

    config, joint = trained.config, windows.ndim == 3
    names = [str(u) for u in trained.ids] if joint else []
    if not path.name.lower().endswith(".npz"):
        index = [range(len(windows)), *([names] if joint else []), range(windows.shape[-1])]
        columns = ["window", *(["unique_id"] if joint else []), "step"]
        frame = pd.MultiIndex.from_product(index, names=columns).to_frame(index=False).assign(y=windows.ravel())
        return write_long(frame, path)
    arrays: dict[str, Any] = {
        "windows": windows,
        "context_length": np.array(config.context_length),
        "prediction_length": np.array(config.prediction_length),
        "freq": np.array(config.freq or ""),
        "scaler": np.array(config.scaler),
    } | ({"unique_id": np.array(names)} if joint else {})
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def _report(windows: np.ndarray, trained: Any, panel: Panel, seed: int) -> str:
    """A table of linear predictive scores: synthetic, real, noise."""
    import numpy as np

    from ...core.demo import table
    from ..metrics import linear_predictive_score, scaled_windows
    from ..tsdiff_training import shorten

    c, n = trained.config, len(windows)
    past = shorten(panel, c.prediction_length, "horizon")  # what the score is about is not in the real windows
    real, note = scaled_windows(past, c.context_length, c.prediction_length, n, seed), ""
    if c.scaler == "standard":
        windows = _rescaled(windows, real, c.context_length)
        note = "\nthe model's windows have mean 0 and spread 1: each was given those of a real context first"
    noise = np.random.Generator(np.random.PCG64(seed)).standard_normal((n, c.length))
    noise /= np.abs(noise[:, : c.context_length]).mean(axis=1, keepdims=True)
    kinds = {
        f"synthetic, {trained.kind}": windows,
        "real": real,
        "noise": noise,
    }
    rows: dict[str, dict[str, float | str]] = {}
    for name, x in kinds.items():
        score = linear_predictive_score(x, panel, c.context_length, c.prediction_length, seed=seed)
        rows[name] = {"lps_ridge": score.value, "low95": score.low, "high95": score.high, "n": str(score.n)}
    told = f"linear predictive score on the last {c.prediction_length} steps of {len(panel)} series; lower is better"
    return f"{table(rows)}\n{told}{note}"


def _rescaled(windows: np.ndarray, real: np.ndarray, context: int) -> np.ndarray:
    """Standardised windows with the mean and spread of the context of a real one, over their mean |context|."""
    import numpy as np

    from ..windows import TINY

    mean, spread = (f(real[:, :context], axis=1, keepdims=True) for f in (np.mean, np.std))
    out = mean + spread * windows
    size = np.abs(out[:, :context]).mean(axis=1, keepdims=True)
    return out / np.where(size > TINY, size, 1.0)
