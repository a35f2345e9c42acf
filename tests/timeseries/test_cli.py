"""The command line: train, resume, evaluate and forecast at toy size, and errors without a traceback."""

from __future__ import annotations

import json

import numpy as np
import pytest

pd = pytest.importorskip("pandas")
pytest.importorskip("lightning")
from typer.testing import CliRunner  # noqa: E402

from scidiffuse import timeseries as ts  # noqa: E402
from scidiffuse.timeseries.cli import app  # noqa: E402

TINY = (
    "--context-length 24 --horizon 6 --channels 8 --blocks 1 --d-state 8 --batch-size 8 --scaler standard --no-progress"
)


def call(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [part for word in words for part in str(word).split("\n")])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def data(tmp_path):
    t = np.arange(150)
    frame = pd.DataFrame({
        "unique_id": "a",
        "ds": pd.date_range("2024-01-01", periods=150, freq="h"),
        "y": 20 + 5 * np.sin(2 * np.pi * t / 24),
    })  # fmt: skip
    frame.to_csv(tmp_path / "data.csv", index=False)
    return tmp_path / "data.csv"


def test_train_resume_evaluate_forecast(data, tmp_path):
    out = tmp_path / "run"
    fit = ["fit", data, "--out", out, *TINY.split(), "--lr", "0.01", "--ema", "0.9", "--holdout", "12"]
    assert "the model is in" in call(*fit, "--max-steps", 60)
    assert "resume=True" in call(*fit, "--max-steps", 240, code=1)
    call(*fit, "--max-steps", 240, "--resume")
    whole = ts.TSDiff(context_length=24, prediction_length=6, channels=8, blocks=1, d_state=8, scaler="standard").fit(
        ts.load(data), max_steps=240, batch_size=8, lr=0.01, ema=0.9, holdout=12, seed=0
    )
    assert np.array_equal(ts.TSDiff.load(out / "model").sample(2, steps=3), whole.sample(2, steps=3))

    scale = ["--scale", "0.05", "--steps", 10, "--num-samples", 4, "--no-progress"]
    text = call("evaluate", data, "--model", out / "model", "--windows", 2, *scale, "--out", tmp_path / "scores.json")
    assert "seasonal naive, with intervals" in text and "wql_gluonts" in text
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["scores"]["seasonal naive, point"]["wql_gluonts"] == pytest.approx(0, abs=1e-9)  # a pure sine
    assert scores["info"]["steps"] == 10

    call("forecast", data, "--model", out / "model", "--out", tmp_path / "f.csv", "--plot", tmp_path / "f.png", *scale,
         "--horizon", 3, "--level", 90)  # fmt: skip
    table = pd.read_csv(tmp_path / "f.csv")
    assert list(table.columns) == ["unique_id", "ds", "TSDiff", "TSDiff-median", "TSDiff-lo-90", "TSDiff-hi-90"]
    assert len(table) == 3 and (tmp_path / "f.png").stat().st_size > 0


def test_errors_have_no_traceback(data, tmp_path):
    assert "neither a file nor a named data set" in call("fit", "nothing", "--out", tmp_path / "x", code=1)
    assert "--lags is" in call("fit", data, "--out", tmp_path / "x", "--lags", "weekly", code=1)
    assert "does not exist" in call("forecast", data, "--model", tmp_path / "no", "--out", tmp_path / "f.csv", code=1)
    assert "too short" in call("fit", data, "--out", tmp_path / "x", "--no-progress", code=1)
