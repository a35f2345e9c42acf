"""The command line: train, resume, evaluate and forecast at toy size, and errors without a traceback."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

pd = pytest.importorskip("pandas")
pytest.importorskip("lightning")
from typer.testing import CliRunner  # noqa: E402

from scidiffuse import timeseries as ts  # noqa: E402
from scidiffuse.timeseries.cli import app, in_flags  # noqa: E402

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
    assert "add --resume" in call(*fit, "--max-steps", 240, code=1)
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


def test_messages_speak_of_flags():
    assert in_flags("pass resume=True, or") == "add --resume, or"
    assert in_flags("with num_samples=1 every") == "with --num-samples 1 every"
    assert in_flags("up to max_steps=2: Shorten context_length") == "up to --max-steps 2: Shorten --context-length"
    assert in_flags("or use QuantileGuidance; the QuantileGuidance(scale=4)").startswith(
        "or use --guidance quantile; the Q"
    )


def test_formats_are_refused_before_any_work(tmp_path):
    """The data do not exist: were anything read first, the message would be about them."""
    words = ["forecast", "nothing", "--out"]
    assert "--plot" in call(*words, tmp_path / "f.csv", "--plot", tmp_path / "x.bmp", code=1)
    assert "--out" in call(*words, tmp_path / "f.xlsx", code=1)
    assert "--level" in call(*words, tmp_path / "f.csv", "--level", "0.8", "--level", "100", code=1)


def test_folder_of_a_training_non_negative_and_the_point_without_coverage(data, tmp_path):
    out = tmp_path / "run"
    fit = ["fit", data, "--out", out, *TINY.split(), "--lr", "0.01", "--ema", "0.9"]
    call(*fit, "--max-steps", 120)
    assert "already at step 120, nothing to do" in call(*fit, "--max-steps", 120, "--resume")
    assert "already at step 120, nothing to do up to --max-steps 3" in call(*fit, "--max-steps", 3, "--resume", code=1)
    quick = ["--model", out, "--scale", "0.05", "--steps", 10, "--num-samples", 4, "--no-progress"]
    shifted = pd.read_csv(data).assign(y=lambda d: d["y"] - 20)
    shifted.to_csv(tmp_path / "zero.csv", index=False)
    lowest = []
    for extra in ([], ["--non-negative"]):
        call("forecast", tmp_path / "zero.csv", "--out", tmp_path / "f.csv", *quick, *extra)
        lowest.append(pd.read_csv(tmp_path / "f.csv")["TSDiff-lo-95"].min())
    assert lowest[0] < 0 and lowest[1] == 0
    text = call("evaluate", data, "--windows", 1, *quick)
    header, *rows = text.splitlines()
    where = header.split().index("coverage_80") - len(header.split())
    assert [row.split()[where] == "-" for row in rows[:3]] == [False, False, True]


def test_an_interrupted_training_says_where_it_is(data, tmp_path):
    out = tmp_path / "run"
    code = (
        "import signal, sys\n"
        "from lightning.pytorch.callbacks import LambdaCallback\n"
        "from scidiffuse.timeseries import cli\n"
        "def stop(trainer, *_):\n"
        "    if trainer.global_step == 7: signal.raise_signal(signal.SIGINT)\n"
        "old = cli._Position.callbacks\n"
        "cli._Position.callbacks = lambda self: old(self) + [LambdaCallback(on_train_batch_end=stop)]\n"
        "cli.app()\n"
    )
    words = ["fit", str(data), "--out", str(out), *TINY.split(), "--max-steps", "50", "--save-every", "5"]
    run = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert run.returncode == 130, run.stderr
    assert "interrupted at step 7; last checkpoint 5; continue with --resume" in run.stderr
    assert "Traceback" not in run.stderr
