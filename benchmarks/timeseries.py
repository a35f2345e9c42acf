"""Speed of forecasting and of training: guided samplers, batches, cached kernels, S4D beside dilated convolutions.

    python -m benchmarks.timeseries [--rounds 5] [--output benchmarks/results/timeseries.json]

One process; what is compared takes turns in every round and the smallest time of each counts. Read the ratios, not the
seconds. The weights are random (a fixed seed) where time alone is measured: what a network says does not change what it
costs. What the samplers are worth is measured with the model that ships, on the eight weeks that it never saw: the
scale of each sampler is the best one (16 paths) on 28 validation windows, which end before those weeks; 50 paths.

    samplers      guided DDPM, 100 calls, against guided DDIM, 20 calls: time (one thread) and wQL
    forty series  40 series, 100 paths each, 30 business days from 360, guided DDIM, 20 calls: seconds of a call of
                  `forecast`, with the 32-channel preset and with 64 channels, on all cores
    batches       all series and paths in batches of 256, against one series a call, against one path a call
    kernels       S4D in eval with its cached kernel, against the textbook's Vandermonde matrix at every call
    training      optimizer steps of S4D (3 blocks) and of dilated convolutions (8 blocks) with as many parameters
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from scidiffuse import timeseries as ts
from scidiffuse.benchmarks.networks import (
    forward,
    parameters,
    peer_of,
    rounded,
    smallest_times,
    step,
    with_vandermonde,
)
from scidiffuse.core.networks import S4DBackbone
from scidiffuse.timeseries.data import to_panel
from scidiffuse.timeseries.demo import HOLDOUT

RESULTS = Path(__file__).parent / "results" / "timeseries.json"
LENGTH = 390
SCALES = {"ddpm": (2.0, 4.0, 8.0), "ddim": (0.5, 1.0, 1.5, 2.0)}


def walks(series: int, steps: int, freq: str = "B") -> ts.Panel:
    """Random walks."""
    rng = np.random.default_rng(0)
    values = tuple(10 + 0.1 * rng.standard_normal(steps).cumsum() for _ in range(series))
    return ts.Panel(tuple(f"s{i}" for i in range(series)), (pd.Timestamp("2000-01-03"),) * series, values, freq)


def untrained(channels: int) -> ts.TSDiff:
    """A model whose one optimizer step changes nothing that costs time."""
    config = ts.TSDiffConfig.preset("B", lags=None, channels=channels)
    return ts.TSDiff(config).fit(walks(2, 420), max_steps=1, batch_size=2, seed=0, accelerator="cpu")


def seconds(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def samplers(rounds: int) -> dict[str, Any]:
    """Time of both samplers on one batch; wQL of both with the shipped model."""
    model, panel = untrained(32), walks(1, 400)

    def call(sampler: str, steps: int) -> Any:
        return lambda: model.forecast(
            panel, num_samples=16, sampler=sampler, steps=steps, guidance=ts.QuantileGuidance(0.1),
            on_divergence="warn",
        )  # fmt: skip

    ms = smallest_times({"DDPM, 100 calls": call("ddpm", 100), "DDIM, 20 calls": call("ddim", 20)}, rounds)
    out: dict[str, Any] = {"ms": ms, "ratio": ms["DDPM, 100 calls"] / ms["DDIM, 20 calls"]}
    shipped = ts.TSDiff.load(ts.pretrained())
    for name in ("nycflights13_weather", "elecdemand"):
        whole = to_panel(ts.load(name))
        before = ts.Panel(whole.ids, whole.starts, tuple(v[:-HOLDOUT] for v in whole.values), whole.freq)
        count = 28 // len(whole)
        parts = {"validation": ts.rolling(before, 24, count), "held out": ts.rolling(whole, 24, 8, 188)}
        out[name] = {}
        for sampler, steps in (("ddpm", 100), ("ddim", 20)):
            tuned = {s: wql(shipped, parts["validation"], sampler, steps, s, 16) for s in SCALES[sampler]}
            best = min(tuned, key=tuned.__getitem__)
            row = {"scale": best, "validation": tuned[best]}
            row["held out"] = wql(shipped, parts["held out"], sampler, steps, best, 50)
            out[name][f"{sampler}, {steps} calls"] = row
        worse = out[name]["ddim, 20 calls"]["held out"] / out[name]["ddpm, 100 calls"]["held out"]
        out[name]["wQL of DDIM over that of DDPM"] = worse
    return out


def wql(
    model: ts.TSDiff, part: tuple[ts.Panel, np.ndarray], sampler: str, steps: int, scale: float, paths: int
) -> float:
    history, actual = part
    forecast = model.forecast(
        history, num_samples=paths, sampler=sampler, steps=steps, guidance=ts.QuantileGuidance(scale), max_batch=64,
        on_divergence="warn",
    )  # fmt: skip
    return forecast.wql(actual)


def forty() -> dict[str, Any]:
    """Seconds of the whole job, on all cores."""
    panel, out = walks(40, 400), {}
    for channels in (32, 64):
        model = untrained(channels)
        out[f"{channels} channels"] = seconds(
            lambda model=model: model.forecast(
                panel, 30, num_samples=100, sampler="ddim", steps=20, guidance=ts.QuantileGuidance(0.1),
                on_divergence="warn",
            )
        )  # fmt: skip
    return out


def batches(rounds: int) -> dict[str, Any]:
    """8 series, 16 paths, 5 calls."""
    model, panel = untrained(32), walks(8, 400)
    options: dict[str, Any] = {"sampler": "ddim", "steps": 5, "num_samples": 16, "on_divergence": "warn"}
    options["guidance"] = ts.QuantileGuidance(0.1)

    def one_by_one() -> None:
        for i in range(len(panel)):
            model.forecast(panel.rows([i]), **options)

    ms = smallest_times(
        {
            "together": lambda: model.forecast(panel, **options),
            "one series a call": one_by_one,
            "one path a call": lambda: model.forecast(panel, max_batch=1, **options),
        },
        rounds,
    )
    return {"ms": ms} | {f"{k} / together": v / ms["together"] for k, v in ms.items() if k != "together"}


def kernels(rounds: int) -> dict[str, Any]:
    """One window, as when a handful of paths is asked for, and a batch of 16."""
    out = {}
    for size in (1, 16):
        x, t, net = torch.randn(size, LENGTH, 1), 100 * torch.rand(size), S4DBackbone(1, 64)
        fresh = forward(net, x, t, training=True)
        ms = smallest_times(
            {
                "cached": forward(net, x, t, training=False),
                "fresh": fresh,
                "textbook": with_vandermonde(fresh),
            },
            rounds,
        )
        out[f"batch {size}"] = {
            "ms": ms, "textbook / cached": ms["textbook"] / ms["cached"], "fresh / cached": ms["fresh"] / ms["cached"],
        }  # fmt: skip
    return out


def training(rounds: int) -> dict[str, Any]:
    """Windows a second."""
    x, t = torch.randn(32, LENGTH, 1), 100 * torch.rand(32)
    s4d = S4DBackbone(1, 64)
    peer = peer_of(s4d)
    ms = smallest_times({"S4D": step(s4d, x, t), "dilated convolutions": step(peer, x, t)}, rounds)
    return {
        "parameters": {"S4D": parameters(s4d), "dilated convolutions": parameters(peer)},
        "windows a second": {k: 32e3 / v for k, v in ms.items()},
        "S4D / dilated": ms["dilated convolutions"] / ms["S4D"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="guidance diverged|.*no training window.*|.*validation.*")
    cores = torch.get_num_threads()
    results: dict[str, Any] = {"forty series": forty()}
    torch.set_num_threads(1)
    for part in (samplers, batches, kernels, training):
        results[part.__name__] = part(options.rounds)
    versions = {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine()}
    setting = {"threads": 1, "threads for forty series": cores, "rounds": options.rounds, **versions}
    text = json.dumps(rounded({"setting": setting, "results": results}), indent=2)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
