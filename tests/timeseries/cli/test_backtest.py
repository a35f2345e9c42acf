"""Rolling origins: the same splits and tests as from Python, one csv of all forecasts, refits that see no future."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from scidiffuse import timeseries as ts
from scidiffuse.timeseries.models import load_model


def test_scores_tests_and_forecasts_of_every_split(data, tmp_path, call, quick, trained):
    out = tmp_path / "bt"
    text = call("backtest", data, *quick, "--windows", 3, "--stride", 3, "--out", out)
    assert sorted(p.name for p in out.iterdir()) == [
        "fan.png", "forecasts.csv", "metrics.json", "per_horizon.csv", "pit.png", "reliability.png"
    ]  # fmt: skip
    told = json.loads((out / "metrics.json").read_text(), parse_constant=pytest.fail)
    splits = list(ts.backtest(ts.load(data), 6, 3, 3))
    assert told["cutoffs"] == [str(s.cutoffs[0]) for s in splits]
    assert "window 1 of 3: known up to 2024-01-06 17:00:00, 2 series" in text
    table = pd.read_csv(out / "forecasts.csv", parse_dates=["ds", "cutoff"])
    assert list(table.columns[:5]) == ["unique_id", "ds", "cutoff", "y", "TSDiff"] and len(table) == 36
    assert (table["ds"] > table["cutoff"]).all() and not table.columns.duplicated().any()
    model = load_model(trained)
    for w, split in enumerate(splits):
        part = table[table["cutoff"] == split.cutoffs[0]]
        assert np.allclose(part["y"], split.actual.ravel())
        walk, naive = ts.random_walk(split.history, 6), ts.seasonal_naive_intervals(split.history, 6)
        f = model.forecast(split.history, 6, num_samples=6, guidance=ts.QuantileGuidance(0.05), steps=10, seed=w)
        for one in (walk, naive, f):
            for column in (one.name, f"{one.name}-lo-80"):
                assert np.allclose(part[column], one.to_long()[column]), column
    c = told["comparisons"]["random walk"]
    assert c["names"] == ["TSDiff, 6 paths", "random walk"] and c["ratio"] == pytest.approx(c["a"] / c["b"])
    assert c["a"] == pytest.approx(told["scores"]["TSDiff, 6 paths"]["wql_gluonts"]["value"])
    assert f"{c['wins']['wins']} of 6" in text and c["test"] is None and "too few for a test" in text


def test_diebold_mariano_where_there_are_origins_enough(data, call, quick, tmp_path):
    call("backtest", data, *quick, "--windows", 11, "--stride", 1, "--out", tmp_path, "--metric", "crps_exact")
    told = json.loads((tmp_path / "metrics.json").read_text())["comparisons"]["random walk"]
    assert told["metric"] == "crps_exact" and told["test"]["n"] == 11 and told["test"]["h"] == 6
    assert 0 <= told["test"]["p_value"] <= 1 and "forecast origins" in told["how"]


def test_refit_of_a_system_takes_the_presets_of_fit(data, call, monkeypatch):
    class Stop(RuntimeError):
        pass

    def fit(self, panel, **settings):
        raise Stop(f"C = {self.config.context_length}, H = {self.config.prediction_length}, {settings['max_steps']}")

    monkeypatch.setattr(ts.TSDiff, "fit", fit)
    words = ["backtest", data, "--refit", "--system", "tsdiff", "--preset", "hourly", "--windows", 2]
    assert "C = 336, H = 24, 1000" in call(*words, code=1)
    assert "C = 24, H = 6, 5" in call(*words, "--context-length", 24, "--horizon", 6, "--max-steps", 5, code=1)


def test_what_is_refused(data, call, quick, trained):
    words = ["backtest", data, "--no-progress"]
    assert "goes with --refit" in call(*words, "--system", "tsdiff", code=1)
    assert "go with --refit and --system" in call(*words, "--refit", "--preset", "daily", code=1)
    assert "not both" in call(*words, "--refit", "--system", "tsdiff", "--model", trained, code=1)
    assert "needed: take fewer windows" in call(*words, *quick, "--windows", 60, code=1)
    assert "scaled_crps" in call(*words, "--metric", "best", code=2)
