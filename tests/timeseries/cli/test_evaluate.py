"""Scores on rolling windows: the table, and a folder in which every file is complete and says the same."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from scidiffuse import timeseries as ts
from scidiffuse.timeseries.models import load_model

FILES = ["fan.png", "metrics.json", "per_horizon.csv", "pit.png", "reliability.png"]


def test_the_folder_holds_what_was_printed(data, tmp_path, call, quick, trained):
    out = tmp_path / "scores"
    text = call("evaluate", data, *quick, "--windows", 2, "--stride", 6, "--out", out)
    assert sorted(p.name for p in out.iterdir()) == FILES
    told = json.loads((out / "metrics.json").read_text(), parse_constant=pytest.fail)  # no NaN in it
    assert list(told["scores"]) == [
        "TSDiff, 6 paths", "seasonal naive, point", "seasonal naive, with intervals", "random walk",
        "random walk with drift",
    ]  # fmt: skip
    assert (told["windows"], told["horizon"], told["in_training_period"]) == (2, 6, 0)
    model = load_model(trained)
    history, actual = ts.rolling(ts.to_panel(ts.load(data)), 6, 2)
    forecast = model.forecast(history, 6, num_samples=6, guidance=ts.QuantileGuidance(0.05), steps=10, seed=0)
    for name, f in (("TSDiff, 6 paths", forecast), ("random walk", ts.random_walk(history, 6))):
        for key, score in ts.scores(f, actual, history).items():
            stored = told["scores"][name][key]
            assert stored["value"] == pytest.approx(score.value, rel=1e-6) and stored["n"] == score.n
            assert stored["definition"] == score.definition and {"low", "high", "uncertainty"} <= set(stored)
    steps = pd.read_csv(out / "per_horizon.csv")
    one = steps[(steps["forecast"] == "random walk") & (steps["metric"] == "crps_exact")]
    expected = [s.value for s in ts.per_horizon(ts.random_walk(history, 6), actual, "crps_exact", history)]
    assert one["step"].tolist() == [1, 2, 3, 4, 5, 6] and np.allclose(one["value"], expected)
    assert not {"coverage_80", "msis_95"} & set(told["scores"]["seasonal naive, point"])  # a point has no interval
    header, *rows = text.splitlines()
    where = header.split().index("coverage_80") - len(header.split())
    assert [row.split()[where] == "-" for row in rows[:5]] == [False, True, False, False, False]
    wql = told["scores"]["TSDiff, 6 paths"]["wql_gluonts"]["value"]
    assert f"{wql:.4g}"[:6] in rows[0]


def test_windows_in_the_training_period_are_counted(data, tmp_path, call, quick):
    text = call("evaluate", data, *quick, "--windows", 4, "--out", tmp_path / "s", "--cluster", "origin")
    assert "warning: 4 forecasts begin inside the training period" in text
    told = json.loads((tmp_path / "s" / "metrics.json").read_text())
    assert told["in_training_period"] == 4
    assert "forecast origins" in told["scores"]["random walk"]["wql_gluonts"]["uncertainty"]


def test_one_series_one_window_has_no_interval(table, tmp_path, call, quick):
    table(ids=("a",)).to_csv(tmp_path / "one.csv", index=False)
    call("evaluate", tmp_path / "one.csv", *quick, "--windows", 1, "--non-negative", "--out", tmp_path / "s")
    told = json.loads((tmp_path / "s" / "metrics.json").read_text())
    assert told["scores"]["random walk"]["wql_gluonts"]["low"] is None
    assert told["model"]["non_negative"] == "clipped at 0"


def test_what_is_refused(data, tmp_path, call, quick):
    words = ["evaluate", data, *quick]
    assert "give a folder" in call(*words, "--out", tmp_path / "scores.json", code=1)
    assert "too few for 99 windows" in call(*words, "--windows", 99, code=1)
    assert "needs statsforecast" in call(*words, "--windows", 1, "--ets", code=1)
