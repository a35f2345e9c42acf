"""Synthetic windows as files, and the report that sets them beside real ones and noise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scidiffuse import timeseries as ts
from scidiffuse.timeseries.cli.sample import _rescaled
from scidiffuse.timeseries.models import load_model


def test_windows_in_both_files(tmp_path, call, trained):
    words = ["sample", "-n", 7, "--model", trained, "--steps", 3, "--seed", 2, "--out"]
    call(*words, tmp_path / "w.npz")
    call(*words, tmp_path / "w.csv")
    expected = load_model(trained).sample(7, steps=3, seed=2)
    with np.load(tmp_path / "w.npz", allow_pickle=False) as read:
        assert np.array_equal(read["windows"], expected) and read["windows"].shape == (7, 30)
        assert (int(read["context_length"]), int(read["prediction_length"]), str(read["freq"])) == (24, 6, "h")
    table = pd.read_csv(tmp_path / "w.csv")
    assert np.allclose(table.pivot(index="window", columns="step", values="y").to_numpy(), expected)


def test_report_tells_real_windows_from_noise(data, call, trained):
    lines = call("sample", "-n", 200, "--model", trained, "--steps", 20, "--no-progress", "--report", data).splitlines()
    header = lines[0].split()
    assert header[:3] == ["lps_ridge", "low95", "high95"]
    value = {line.rsplit(maxsplit=4)[0]: float(line.split()[-4]) for line in lines[1:4]}
    assert list(value) == ["synthetic, TSDiff", "real", "noise"]
    assert value["real"] < 0.1 < value["noise"] and value["synthetic, TSDiff"] < value["noise"]
    panel = ts.to_panel(ts.load(data))
    past = ts.Panel(panel.ids, panel.starts, tuple(v[:-6] for v in panel.values), "h")  # no look at what is scored
    real = ts.linear_predictive_score(ts.scaled_windows(past, 24, 6, 200, 0), panel, 24, 6)
    assert value["real"] == pytest.approx(float(real), rel=1e-3)
    assert "mean 0 and spread 1" in lines[-1]


def test_standardised_windows_take_the_mean_and_spread_of_a_real_context():
    rng = np.random.default_rng(0)
    real = 3 + 2 * rng.normal(size=(5, 30))
    x = rng.normal(size=(5, 30))
    out = _rescaled(x, real, 24)
    assert np.allclose(np.abs(out[:, :24]).mean(axis=1), 1)
    back = real[:, :24].mean(axis=1) + real[:, :24].std(axis=1) * x[:, 29]
    assert np.allclose(out[:, 29] / out[:, 0], back / (real[:, :24].mean(axis=1) + real[:, :24].std(axis=1) * x[:, 0]))


def test_what_is_refused(tmp_path, call, trained):
    assert "nothing to do" in call("sample", code=1)
    assert "-n must be" in call("sample", "-n", 0, "--out", tmp_path / "w.npz", code=1)
    assert "--out" in call("sample", "--out", tmp_path / "w.txt", code=1)
    words = ["--model", trained, "--steps", 3, "-n", 2]
    assert "neither a file nor" in call("sample", *words, "--report", "nothing", code=1)
