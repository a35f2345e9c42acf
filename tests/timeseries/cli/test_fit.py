"""Training from files: resumed bit for bit, presets, other systems, interruptions, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from scidiffuse import timeseries as ts
from scidiffuse.timeseries.cli.systems import PRESETS, lags_of, names_of, untrained
from scidiffuse.timeseries.models import load_model


def test_train_and_resume_equal_one_training(data, tmp_path, call, tiny):
    out = tmp_path / "run"
    fit = ["fit", data, "--out", out, *tiny, "--lr", "0.01", "--ema", "0.9", "--holdout", "12"]
    assert "the model is in" in call(*fit, "--max-steps", 20)
    assert "add --resume" in call(*fit, "--max-steps", 60, code=1)
    call(*fit, "--max-steps", 60, "--resume")
    whole = ts.TSDiff(context_length=24, prediction_length=6, channels=8, blocks=1, d_state=8, scaler="standard").fit(
        ts.load(data), max_steps=60, batch_size=8, lr=0.01, ema=0.9, holdout=12, seed=0
    )
    assert np.array_equal(load_model(out).sample(2, steps=3), whole.sample(2, steps=3))
    assert "already at step 60, nothing to do" in call(*fit, "--max-steps", 60, "--resume")
    assert "already at step 60, nothing to do up to --max-steps 3" in call(*fit, "--max-steps", 3, "--resume", code=1)


def test_a_preset_and_single_options_over_it():
    model = untrained("tsdiff", "daily", "paper", None, prediction_length=7, scaler="standard", channels=None)
    assert model.config == ts.TSDiffConfig.preset("D", "paper", prediction_length=7, scaler="standard")
    assert model.config.context_length == 360 and model.config.channels == 64 and model.config.d_state == 128
    assert untrained("tsdiff", "m4_hourly", None, "24,48").config.lags == (24, 48)
    assert untrained("tsdiff", None, None, None).config == ts.TSDiffConfig()
    for word, alias in PRESETS.items():
        assert untrained("tsdiff", word, None, None).config.freq[0] == alias[0]


@pytest.mark.parametrize(
    ("system", "words"),
    [
        ("tsdiff", []),
        ("tsdiff-cond", ["--missing", "random"]),
        ("csdi", ["--layers", 1, "--heads", 2]),
    ],
)
def test_missing_and_dropout_reach_the_configuration(system, words, data, tmp_path, call):
    size = ["--context-length", 24, "--horizon", 6, "--channels", 8, "--batch-size", 4, "--max-steps", 1]
    fit = ["fit", data, "--system", system, *size, "--no-progress", "--out", tmp_path]
    assert "dropout must lie in [0, 1)" in call(*fit, *words, "--dropout", 1, code=1)
    call(*fit, *words, "--dropout", 0.25)
    config = load_model(tmp_path).config
    assert config.dropout == 0.25 and getattr(config, "missing", "random") == "random"
    if system != "tsdiff-cond":
        assert f"--system {system} has no --missing" in call(*fit, "--missing", "none", code=1)


def test_words_of_options():
    assert lags_of("none") is None and lags_of("auto") == "auto" and lags_of("24,168") == (24, 168)
    assert names_of(None) is None and names_of("price, holiday") == ("price", "holiday")
    with pytest.raises(ValueError, match="column names"):
        names_of("price,")


def test_errors_have_no_traceback(data, tmp_path, call, tiny):
    out = ["--out", tmp_path / "x"]
    assert "neither a file nor a named data set" in call("fit", "nothing", *out, code=1)
    assert "--lags is" in call("fit", data, *out, "--lags", "weekly", code=1)
    assert "too short" in call("fit", data, *out, "--no-progress", code=1)
    assert "--preset fortnightly" in call("fit", data, *out, "--preset", "fortnightly", code=1)
    assert "hourly, daily, business" in call("fit", data, *out, "--preset", "fortnightly", code=1)
    assert "give --preset too" in call("fit", data, *out, "--size", "paper", code=1)
    assert "--system tsdiff has no --layers" in call("fit", data, *out, "--layers", 2, code=1)
    assert "configured for" in call("fit", data, *out, "--preset", "daily", "--no-progress", code=1)
    assert "scaler must be" in call("fit", data, *out, "--scaler", "series", code=1)
    assert not (tmp_path / "x").exists()


def test_several_files_zones_and_bad_series(table, tmp_path, call, tiny):
    table(ids=("a",)).to_csv(tmp_path / "a.csv", index=False)
    bad = table(ids=("b", "c"))
    bad.loc[bad.index[-3], "y"] = np.inf
    bad.to_csv(tmp_path / "b.csv", index=False)
    fit = ["fit", tmp_path / "a.csv", tmp_path / "b.csv", *tiny, "--max-steps", 1, "--tz", "Europe/Berlin"]
    assert "series 'c' is infinite" in call(*fit, "--out", tmp_path / "x", code=1)
    text = call(*fit, "--out", tmp_path / "x", "--errors", "skip")
    assert "warning: the data: left out 1: row 448: 'y' is infinite (series 'c')" in text
    until = load_model(tmp_path / "x").trained_until
    assert sorted(until) == ["a", "b", "c"] and until["a"].endswith("+01:00")


def test_an_interrupted_training_says_where_it_is(data, tmp_path, tiny):
    out = tmp_path / "run"
    code = (
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a job in the background inherits it ignored
        "from lightning.pytorch.callbacks import LambdaCallback\n"
        "from scidiffuse.timeseries.cli import app\n"
        "from scidiffuse.core.training.interruption import Position\n"
        "def stop(trainer, *_):\n"
        "    if trainer.global_step == 7: signal.raise_signal(signal.SIGINT)\n"
        "old = Position.callbacks\n"
        "Position.callbacks = lambda self: old(self) + [LambdaCallback(on_train_batch_end=stop)]\n"
        "app()\n"
    )
    words = ["fit", str(data), "--out", str(out), *tiny, "--max-steps", "50", "--save-every", "5"]
    run = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert run.returncode == 130, run.stderr
    assert "interrupted at step 7; last checkpoint 5; continue with --resume" in run.stderr
    assert "Traceback" not in run.stderr
