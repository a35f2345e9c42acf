"""Forecasts as tables, paths and pictures; steered ones; and what is refused before any work."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from scidiffuse import timeseries as ts
from scidiffuse.timeseries.models import load_model


def test_tables_paths_and_pictures_hold_the_forecast(data, tmp_path, call, quick, trained):
    out = tmp_path / "new" / "f.csv"
    call("forecast", data, *quick, "--out", out, "--plot", tmp_path / "f.png", "--horizon", 3, "--level", 90)
    table = pd.read_csv(out)
    assert list(table.columns) == ["unique_id", "ds", "TSDiff", "TSDiff-median", "TSDiff-lo-90", "TSDiff-hi-90"]
    assert len(table) == 6 and (tmp_path / "f.png").read_bytes()[:4] == b"\x89PNG"
    call("forecast", data, *quick, "--out", tmp_path / "f.npz", "--horizon", 3)
    paths = ts.Forecast.load(tmp_path / "f.npz")
    expected = load_model(trained).forecast(
        ts.load(data), 3, num_samples=6, guidance=ts.QuantileGuidance(0.05), steps=10, seed=0
    )
    assert np.array_equal(paths.samples, expected.samples) and paths.iid is False
    assert np.allclose(table["TSDiff"], expected.to_long()["TSDiff"])


def test_seeds_guidance_and_clipping_reach_the_model(tmp_path, call, quick, table):
    table(level=0.0).to_csv(tmp_path / "zero.csv", index=False)
    found = {}
    for name, extra in {
        "plain": [], "seed": ["--seed", 1], "mse": ["--guidance", "mse"], "clipped": ["--non-negative"],
    }.items():  # fmt: skip
        call("forecast", tmp_path / "zero.csv", *quick, *extra, "--out", tmp_path / "f.npz")
        found[name] = ts.Forecast.load(tmp_path / "f.npz")
    plain = found["plain"].samples
    assert (plain < 0).any() and np.array_equal(found["clipped"].samples, np.maximum(plain, 0))
    assert not np.array_equal(found["seed"].samples, plain) and found["mse"].iid


def test_steering_meets_the_constraint_and_says_how_likely_it_was(data, tmp_path, call, quick):
    out = tmp_path / "f.npz"
    words = ["forecast", data, *quick, "--out", out]
    call(*words)
    usual = ts.Forecast.load(out).samples.sum(axis=2)
    bound = float(np.median(usual[0]))
    text = call(
        *words, "--steer", f"total<={bound}", "--steer", "upper=1000", "--walkers", 4, "--on-violation", "project"
    )
    steered = ts.Forecast.load(out)
    assert (steered.samples.sum(axis=2) <= bound * (1 + 1e-9)).all() and steered.info["steering"]["walkers"] == 4
    assert re.search(r"steering towards total <= [\d.e+]+, y <= 1000.0: [\d.]+ % of the paths met it", text)
    assert "were moved to the nearest that do" in text and re.search(r"  b: ln Z = -inf.* about 0\n", text)
    joint = call(*words, "--steer", f"total(a,b)>={usual.sum() / usual.shape[1] - 50}", "--walkers", 4)
    assert "all series: ln Z = " in joint and "100 % of the paths" in joint
    assert "Take more walkers" in call(*words, "--steer", "lower=900", "--walkers", 2, code=1)
    assert "--on-violation project" in call(*words, "--steer", "lower=900", "--walkers", 2, code=1)


def test_formats_are_refused_before_any_work(tmp_path, call):
    """The data do not exist: were anything read first, the message would be about them."""
    words = ["forecast", "nothing", "--out"]
    assert "--plot" in call(*words, tmp_path / "f.csv", "--plot", tmp_path / "x.bmp", code=1)
    assert "--out" in call(*words, tmp_path / "f.xlsx", code=1)
    assert "--level" in call(*words, tmp_path / "f.csv", "--level", "0.8", "--level", "100", code=1)
    assert "--steer 'total'" in call(*words, tmp_path / "f.csv", "--steer", "total", code=1)
    for flag in (["--walkers", 3], ["--on-violation", "warn"]):
        assert f"{flag[0]} goes with --steer" in call(*words, tmp_path / "f.csv", *flag, code=1)
    assert "neither a file nor" in call(*words, tmp_path / "f.csv", code=1)


def test_models_that_are_none(data, tmp_path, call):
    words = ["forecast", data, "--out", tmp_path / "f.csv", "--model"]
    assert "does not exist" in call(*words, tmp_path / "no", code=1)
    assert "is not a scidiffuse checkpoint" in call(*words, tmp_path, code=1)


@pytest.mark.parametrize("freq", ["D", "15min"])
def test_data_of_another_frequency_are_refused(tmp_path, call, quick, table, freq):
    frame = table(ids=("a",))
    frame["ds"] = pd.date_range("2024-01-01", periods=len(frame), freq=freq)
    frame.to_csv(tmp_path / "other.csv", index=False)
    assert "the model is hourly" in call(
        "forecast", tmp_path / "other.csv", *quick, "--out", tmp_path / "f.csv", code=1
    )
