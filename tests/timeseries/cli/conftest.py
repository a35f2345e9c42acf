"""A small data set, a tiny model trained once, and the command line in-process."""

from __future__ import annotations

import numpy as np
import pytest

pd = pytest.importorskip("pandas")
pytest.importorskip("lightning")
from typer.testing import CliRunner  # noqa: E402

from scidiffuse.timeseries.cli import app  # noqa: E402

TINY = (
    "--context-length 24 --horizon 6 --channels 8 --blocks 1 --d-state 8 --batch-size 8 --scaler standard --no-progress"
)


def run_app(*words: object, code: int = 0) -> str:
    """What a command prints, stderr included; a failed command does so without a traceback."""
    result = CliRunner().invoke(app, [part for word in words for part in str(word).split("\n")])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output and (result.exception is None or isinstance(result.exception, SystemExit))
    return result.output


def frame(n=150, ids=("a", "b"), noise=0.5, level=20.0):
    """Daily waves of two series, hourly."""
    rng, t, parts = np.random.default_rng(0), np.arange(n), []
    for k, u in enumerate(ids):
        y = level * (k + 1) + 5 * np.sin(2 * np.pi * t / 24) + noise * rng.normal(size=n)
        ds = pd.date_range("2024-01-01", periods=n, freq="h")
        parts.append(pd.DataFrame({"unique_id": u, "ds": ds, "y": y}))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="session")
def call():
    return run_app


@pytest.fixture(scope="session")
def tiny():
    return TINY.split()


@pytest.fixture(scope="session")
def table():
    return frame


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.csv"
    frame().to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def trained(data, tmp_path_factory):
    """The --out of a short training that never saw the last 12 steps."""
    out = tmp_path_factory.mktemp("model") / "run"
    words = ["fit", data, "--out", out, *TINY.split(), "--lr", "0.01", "--ema", "0.9", "--holdout", 12]
    run_app(*words, "--max-steps", 200)
    return out


@pytest.fixture(scope="session")
def quick(trained):
    """Options of a small sampling."""
    words = ["--model", trained, "--scale", "0.05", "--steps", 10, "--num-samples", 6, "--no-progress"]
    return [str(w) for w in words]
