r"""TSDiff on the data of its paper, at a budget that two cores can pay: exchange rates and hourly M4, three seeds.

    python -m benchmarks.timeseries_reproduction [--sets ...] [--seeds 0 1 2] [--arms ...] [--budget 1.0]
        [--work FOLDER] [--output FILE.json]

Every (data set, arm, seed) is a run of its own, skipped where the results hold it; a training that was stopped goes on
from its checkpoint under `--work`. `--budget` is a factor on the training steps (another budget needs another
`--output`). One thread a process: start one process a data set for two cores.

*Data.* `exchange_rate_nips` whole: 8 training series, 40 test rows (5 windows x 8) of 30 business days. `m4_hourly`:
40 of its 414 series, the 10 largest by sum |y| in training (they carry most of the weight of wQL) and 30 spread evenly
over the others by size, one test row of 48 hours each. Both from the raw files, as GluonTS builds them.

*Models.* One unconditional TSDiff a seed, small preset (32 channels), no lags; settings below. The paper trains 128,000
steps of 64 windows with 64 channels.

*What is measured*, 100 paths a row (50 where it is said), wQL of GluonTS and more, every score with a bootstrap
interval over rows; the baselines see what the model sees.

    quantile, mse       forecasts by quantile and mean-square self-guidance, 20 guided DDIM steps. The scale of each is
                        chosen on validation horizons, the last ones of the training series, which were kept from the
                        training; once a data set (seed 0).
    quantile ddpm       100 guided ancestral steps at the paper's scale (8 and 2); one seed, for it takes five times as
                        long.
    refine-*            the point seasonal naive forecast refined: Langevin or maximum likelihood, quantile or
                        mean-square regulariser, 20 iterations; 50 paths.
    missing-*           half of the context hidden (RM, BM-B, BM-E), no retraining; 50 paths.
    lps                 linear predictive score of 10,000 windows: synthetic (from the model), real (from the training
                        series), and independent noise.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
import warnings
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch

from scidiffuse import timeseries as ts
from scidiffuse.benchmarks.common.runs import Row, Runs
from scidiffuse.core.checkpoint import is_checkpoint
from scidiffuse.core.datasets import cache_folder
from scidiffuse.timeseries.missing import hide

RESULTS = Path(__file__).parent / "results" / "timeseries_reproduction.json"
PATHS, FEWER, WINDOWS = 100, 50, 10_000
TUNING = 25  # paths a row when scales are chosen
SCALES = {"quantile": (0.5, 1.0, 2.0, 4.0), "mse": (0.25, 0.5, 1.0, 2.0, 4.0)}
MISSING = {"missing-RM": "random", "missing-BM-B": "begin", "missing-BM-E": "end"}
REFINED = {
    "refine-lmc-quantile": ("lmc", "quantile"),
    "refine-ml-quantile": ("ml", "quantile"),
    "refine-lmc-mse": ("lmc", "mse"),
    "refine-ml-mse": ("ml", "mse"),
}
ARMS = ("quantile", "mse", "refine-lmc-quantile", *MISSING, "lps", "quantile ddpm", *list(REFINED)[1:])
SHOWN = ("wql_gluonts", "wql_exact", "crps_exact", "scaled_crps", "mase", "nd", "coverage_80", "mae_coverage")


@dataclass(frozen=True)
class Setting:
    """A data set's model, training, and how a forecast of it is refined."""

    preset: str
    changes: Row = field(default_factory=dict)
    steps: int = 5000
    validation: int = 1  # horizons a series, kept from training
    season: int = 1  # of the baseline that is refined
    step_size: float = 0.1  # of the refinement


SETS = {
    "exchange_rate_nips": Setting("exchange_rate_nips", {"lags": None}, validation=4, season=5, step_size=0.01),
    "m4_hourly": Setting("m4_hourly", {"lags": None}, validation=1, season=24),
}
TRAINING = {"batch_size": 32, "lr": 2e-3, "warmup": 200, "decay": "cosine", "ema": 0.999, "save_every": 250}


@dataclass(frozen=True)
class Data:
    """Training series; histories and horizons of the test rows; the same of the validation rows."""

    train: ts.Panel
    history: ts.Panel
    actual: np.ndarray
    validation: tuple[ts.Panel, np.ndarray]


def m4_subset(train: ts.Panel, count: int = 40, largest: int = 10) -> list[int]:
    """Positions of the subset: the largest series by sum |y|, and others spread evenly by size."""
    order = np.argsort([-np.nansum(np.abs(v)) for v in train.values], kind="stable")
    spread = np.linspace(largest, len(order) - 1, count - largest).round().astype(int)
    return sorted([*order[:largest].tolist(), *order[spread].tolist()])


@cache
def data_of(name: str) -> Data:
    bench = ts.benchmark(name)
    train, history, actual = bench.train, bench.history, bench.actual
    if name == "m4_hourly":
        rows = m4_subset(train)
        train, history, actual = train.rows(rows), history.rows(rows), actual[rows]
    return Data(train, history, actual, ts.rolling(train, bench.horizon, SETS[name].validation))


def trained(name: str, seed: int, runs: Runs) -> ts.TSDiff:
    """The model of a seed: loaded, trained on, or trained."""
    setting = SETS[name]
    steps = max(1, round(setting.steps * runs.budget))
    folder = runs.work / f"{name}-{steps}-{seed}"
    if is_checkpoint(folder / "done"):
        return ts.TSDiff.load(folder / "done")
    model = ts.TSDiff(ts.TSDiffConfig.preset(setting.preset, **setting.changes))
    model.fit(
        data_of(name).train, max_steps=steps, val_windows=setting.validation, seed=seed, out=folder, resume=True,
        accelerator="cpu", **TRAINING,
    )  # fmt: skip
    model.save(folder / "done")
    return model


def scored(forecast: ts.Forecast, actual: np.ndarray, history: ts.Panel, seconds: float) -> Row:
    table = ts.scores(forecast, actual, history)
    row: Row = {k: float(f"{table[k].value:.6g}") for k in SHOWN if k in table}
    head = table["wql_gluonts"]
    return row | {"wql_low95": head.low, "wql_high95": head.high, "rows": len(actual), "seconds": round(seconds, 1)}


def guided(
    model: ts.TSDiff, history: ts.Panel, kind: str, scale: float, paths: int, sampler: str = "ddim", seed: int = 0
) -> tuple[ts.Forecast, float]:
    """A forecast and the CPU seconds it took; divergence is a warning here, for the scale that diverges is a result."""
    guidance = ts.QuantileGuidance(scale) if kind == "quantile" else ts.MSEGuidance(scale)
    start = time.process_time()
    forecast = model.forecast(
        history, num_samples=paths, guidance=guidance, sampler=sampler, seed=seed, max_batch=32, on_divergence="warn"
    )  # fmt: skip
    return forecast, time.process_time() - start


def tune(name: str, kind: str, runs: Runs) -> float:
    """The scale with the lowest wQL on the validation horizons, seed 0."""

    def search() -> Row:
        model, (history, actual) = trained(name, 0, runs), data_of(name).validation
        table = {f"{s:g}": guided(model, history, kind, s, TUNING)[0].wql(actual) for s in SCALES[kind]}
        best = min(table, key=lambda k: (not np.isfinite(table[k]), table[k]))
        return {"wql": table, "scale": float(best), "rows": len(actual), "paths": TUNING}

    return float(runs.run(f"{name}/tune {kind}/0", search)["scale"])


def baselines(name: str) -> Row:
    """The baselines on the whole and on the hidden contexts."""
    data, setting = data_of(name), SETS[name]
    out: Row = {}
    for label, history in {"": data.history, **{f"{k}: ": hidden(name, v) for k, v in MISSING.items()}}.items():
        for kind, forecast in ts.standard_baselines(history, data.actual.shape[1], setting.season).items():
            out[label + kind] = scored(forecast, data.actual, data.history, 0.0)
    return out


def hidden(name: str, scenario: str) -> ts.Panel:
    config = ts.TSDiffConfig.preset(SETS[name].preset)
    return hide(data_of(name).history, config.context_length, scenario, 0.5, seed=0)


def arm(name: str, kind: str, seed: int, runs: Runs) -> Row:
    """One run."""
    model, data, setting = trained(name, seed, runs), data_of(name), SETS[name]
    if kind in SCALES:
        forecast, seconds = guided(model, data.history, kind, tune(name, kind, runs), PATHS, seed=seed)
    elif kind == "quantile ddpm":
        scale = model.config.guidance_scale
        forecast, seconds = guided(model, data.history, "quantile", scale, PATHS, "ddpm", seed)
    elif kind in MISSING:
        scale, history = tune(name, "quantile", runs), hidden(name, MISSING[kind])
        forecast, seconds = guided(model, history, "quantile", scale, FEWER, seed=seed)
    elif kind in REFINED:
        method, regulariser = REFINED[kind]
        base = ts.seasonal_naive(data.history, data.actual.shape[1], setting.season)
        start = time.process_time()
        forecast = model.refine(
            base, data.history, method=method, regulariser=regulariser, step_size=setting.step_size,
            num_samples=FEWER, seed=seed, max_batch=32,
        )  # fmt: skip
        seconds = time.process_time() - start
    else:
        return lps(name, model, seed)
    return scored(forecast, data.actual, data.history, seconds)


def lps(name: str, model: ts.TSDiff, seed: int) -> Row:
    """Linear predictive scores of synthetic windows, of real ones, and of noise of the same size."""
    data, c = data_of(name), model.config
    shape = (c.context_length, c.prediction_length)
    test = [np.concatenate([y, a]) for y, a in zip(data.history.values, data.actual, strict=True)]
    start = time.process_time()
    synthetic = model.sample(WINDOWS, sampler="ddim", steps=20, seed=seed, max_batch=64)
    seconds = time.process_time() - start
    real = ts.scaled_windows(data.train, *shape, WINDOWS, seed)
    noise = 1 + real.std() * np.random.default_rng(seed).standard_normal(real.shape)
    values = {
        kind: ts.linear_predictive_score(w, test, *shape).value
        for kind, w in {"synthetic": synthetic, "real": real, "noise": noise}.items()
    }
    return values | {"ratio": values["synthetic"] / values["real"], "windows": WINDOWS, "seconds": round(seconds, 1)}


def summary(found: Row) -> Row:
    """Mean and standard deviation over the seeds, beside the baselines."""
    out: Row = {}
    for name in SETS:
        table: Row = {}
        for kind in ARMS:
            rows = [row for key, row in found.items() if key.startswith(f"{name}/{kind}/")]
            if not rows:
                continue
            keys = (
                ("synthetic", "real", "noise", "ratio")
                if kind == "lps"
                else ("wql_gluonts", "scaled_crps", "coverage_80")
            )
            table[kind] = {"seeds": len(rows)} | {
                k: [round(float(np.mean([r[k] for r in rows])), 5), round(float(np.std([r[k] for r in rows])), 5)]
                for k in keys
            }  # fmt: skip
        for label, row in found.get(f"{name}/baselines/0", {}).items():
            if isinstance(row, dict):
                table[label] = {k: round(row[k], 5) for k in ("wql_gluonts", "scaled_crps", "coverage_80")}
        out[name] = table
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description="TSDiff on exchange rates and hourly M4.")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--budget", type=float, default=1.0, help="factor on all training steps")
    parser.add_argument("--work", type=Path, default=cache_folder() / "timeseries_reproduction")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message=".*more than half of the context.*|.*no baseline.*")
    runs = Runs(arguments.output, arguments.work, arguments.budget)
    head = {
        "command": "python -m benchmarks.timeseries_reproduction",
        "settings": {k: vars(v) for k, v in SETS.items()} | {"training": TRAINING, "scales": SCALES},
        "machine": {
            "cores": os.cpu_count(), "threads": 1, "processor": platform.processor() or platform.machine(),
            "python": platform.python_version(), "torch": torch.__version__,
            "note": "CPU seconds of a process on a machine that was shared by several others",
        },
    }  # fmt: skip
    runs.change(lambda content: content.update(head))
    for name in arguments.sets:
        runs.run(f"{name}/baselines/0", lambda name=name: baselines(name))
        for kind in arguments.arms:
            for seed in arguments.seeds[:1] if kind == "quantile ddpm" else arguments.seeds:
                runs.run(f"{name}/{kind}/{seed}", lambda n=name, k=kind, s=seed: arm(n, k, s, runs))
    runs.change(lambda content: content.update(summary=summary(content["runs"])))
    for name, table in runs.read()["summary"].items():
        print(name)
        for kind, row in table.items():
            print(f"  {kind:45} {row}")


if __name__ == "__main__":
    main()
