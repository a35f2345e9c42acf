"""Refining other models' forecasts: from tables, from npz, from the baselines made here."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scidiffuse import timeseries as ts
from scidiffuse.timeseries.models import load_model


def test_every_kind_of_base_gives_what_python_gives(data, tmp_path, call, trained):
    model, frame = load_model(trained), ts.load(data)
    words = ["--model", trained, "--no-progress", "--iterations", 2, "--num-samples", 5, "--out", tmp_path / "r.npz"]
    walk = ts.random_walk(frame, 6)
    naive = ts.seasonal_naive_intervals(frame, 6)
    naive.save(tmp_path / "b.npz")
    two = naive.to_long().merge(walk.to_long(), on=["unique_id", "ds"])
    two.to_csv(tmp_path / "b.csv", index=False)
    for base, given, extra in (
        ("seasonal-naive", naive, {}),
        ("random-walk", walk, {}),
        (tmp_path / "b.npz", naive, {}),
        (tmp_path / "b.csv", two, {"column": "RandomWalk"}),
    ):
        flags = [w for k, v in extra.items() for w in (f"--{k}", v)]
        call("refine", base, data, *words, *flags)
        refined = ts.Forecast.load(tmp_path / "r.npz")
        expected = model.refine(given, frame, iterations=2, num_samples=5, seed=0, **extra)
        assert np.allclose(refined.samples, expected.samples, rtol=1e-5) and refined.name.endswith("-refined")


def test_tables_and_settings(data, tmp_path, call, trained):
    words = ["--model", trained, "--no-progress", "--iterations", 2]
    picture = ["--plot", tmp_path / "r.png", "--level", 50]
    text = call("refine", "seasonal-naive", data, *words, "--horizon", 3, "--out", tmp_path / "r.csv", *picture)
    table = pd.read_csv(tmp_path / "r.csv")
    assert len(table) == 6 and "SeasonalNaive-refined-lo-50" in table and f"wrote {tmp_path / 'r.png'}" in text


def test_what_cannot_be_refined(data, tmp_path, call, trained):
    words = [data, "--model", trained, "--no-progress", "--out", tmp_path / "r.csv"]
    assert "BASE theirs.xlsx" in call("refine", "theirs.xlsx", *words, code=1)
    assert "no file none.csv" in call("refine", "none.csv", *words, code=1)
    assert "a file has its own horizon" in call("refine", "none.csv", *words, "--horizon", 3, code=1)
    frame = ts.load(data)
    ts.random_walk(frame.groupby("unique_id").head(100), 6).to_long().to_csv(tmp_path / "early.csv", index=False)
    assert "is not the 6 steps after its history" in call("refine", tmp_path / "early.csv", *words, code=1)
    both = ts.random_walk(frame, 6).to_long().assign(Other=1.0)
    both.to_csv(tmp_path / "two.csv", index=False)
    assert "name one with --column" in call("refine", tmp_path / "two.csv", *words, code=1)
