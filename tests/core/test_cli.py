"""`scidiffuse core`: what the user writes is parsed and never evaluated; what is printed is what was sampled."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from scidiffuse.core import convergence, grids
from scidiffuse.core.cli import app, parse
from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.sample import sample
from scidiffuse.core.samplers import DDIM, DPMSolverPP, Heun
from scidiffuse.core.schedules import VPLinear

KNOWN = {"DDIM": DDIM, "DPMSolverPP": DPMSolverPP}


def run(*args: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(args))
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("DDIM", DDIM()),
        ("DDIM()", DDIM()),
        (" DDIM(0.5) ", DDIM(0.5)),
        ("DPMSolverPP(order=3, compat='published')", DPMSolverPP(order=3, compat="published")),
    ],
)
def test_parse(text: str, value: object) -> None:
    assert parse(text, KNOWN) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a name or a call with literals"),
        ("DDIM(", "expected a name or a call with literals"),
        ("DDIM(eta=1+x)", "expected a name or a call with literals"),
        ("DDIM(eta=open('x'))", "expected a name or a call with literals"),
        ("__import__('os')", "expected one of DDIM, DPMSolverPP"),
        ("os.system('true')", "expected one of DDIM, DPMSolverPP"),
        ("Euler", "expected one of DDIM, DPMSolverPP"),
        ("DDIM(eta=3)", "eta must lie in"),
        ("DDIM(steps=3)", "unexpected keyword argument 'steps'"),
        ("DDIM(**{'eta': 1.0})", "unexpected keyword argument '\\*\\*'"),
    ],
)
def test_parse_refuses(text: str, message: str) -> None:
    with pytest.raises(typer.BadParameter, match=message):
        parse(text, KNOWN)


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_sample_writes_what_the_engine_gives(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"points{suffix}"
    code, text = run(
        "sample", "--sampler", "DDIM", "--grid", "log_snr", "--steps=7", "--n=50", "--seed=3", f"--out={out}"
    )
    assert code == 0, text
    assert "7 network calls" in text and "exact draws" in text
    points = np.load(out) if suffix == ".npy" else np.loadtxt(out, delimiter=",")
    denoiser = GaussianMixture.example().denoiser(VPLinear())
    grid = grids.log_snr(VPLinear(), 7)
    expected = sample(denoiser, DDIM(), grid, shape=(50, 2), seed=3, dtype=torch.float64).x
    np.testing.assert_allclose(points, expected.numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--grid=spiral"], "expected default, uniform, quadratic, log_snr or karras"),
        (["--out=points.txt"], "ends in .csv or .npy"),
        (["--sampler=Magic"], "expected one of AdaptiveDPM"),
        (["--schedule=Sampler()"], "expected one of CondOT"),
        (["--steps=0"], "--steps"),
    ],
)
def test_sample_refuses(args: list[str], message: str) -> None:
    code, text = run("sample", *args)
    assert code == 2
    assert message in text


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One problem, two paths and two methods; DDIM keeps its promise, "Heun" is promised too much."""
    problem = convergence.Problem("VP", VPLinear(), 0.9, 0.1, batch=2)
    methods = (convergence.Method("DDIM", DDIM(), 1), convergence.Method("Heun", Heun(), 3))
    table = convergence.table
    monkeypatch.setattr(convergence, "problems", lambda batch: (problem,))
    monkeypatch.setattr(convergence, "table", lambda steps, **rest: table(steps, methods, tolerances=(), **rest))


@pytest.mark.usefixtures("small")
def test_convergence_prints_orders_writes_them_and_fails_on_a_broken_promise(tmp_path: Path) -> None:
    code, text = run("convergence", f"--out={tmp_path}", "--steps=24,48", "--no-peers")
    assert code == 1, text
    rows = {row["method"]: row for row in json.loads((tmp_path / "convergence.json").read_text())}
    assert rows["DDIM"]["passed"] and not rows["Heun"]["passed"]
    assert all(f"{row['measured']:.2f}" in text for row in rows.values())
    assert "missed: Heun on VP" in text
    assert (tmp_path / "convergence.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--steps=48,24", "increasing"),
        ("--steps=24", "at least two"),
        ("--steps=24,24", "increasing"),
        ("--steps=many", "expected integers"),
        ("--image=txt", "expected png, svg or pdf"),
    ],
)
@pytest.mark.usefixtures("small")
def test_convergence_refuses(tmp_path: Path, option: str, message: str) -> None:
    code, text = run("convergence", f"--out={tmp_path}", option)
    assert code == 2
    assert message in text and not list(tmp_path.iterdir())
