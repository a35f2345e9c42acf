"""The command line's top level: quick, lazy, honest about what is not built."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import scidiffuse
from scidiffuse import __main__ as cli
from scidiffuse.core.demo import Section

UNBUILT = [wing for wing in scidiffuse.WINGS if not (cli.has(wing, "cli.py") or cli.has(wing, "cli/__init__.py"))]
run = CliRunner().invoke


def test_help_names_every_command_and_imports_nothing_heavy(tmp_path: Path) -> None:
    code = """
import json, sys
from scidiffuse.__main__ import app
try:
    app(["--help"])
except SystemExit as done:
    print("\\n", json.dumps([done.code, list(sys.modules)]), sep="")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    status, loaded = json.loads(done.stdout.splitlines()[-1])
    assert status == 0
    assert not {"torch", "numpy", "lightning", "pandas", "matplotlib"} & set(loaded)
    for command in ("demo", "core", *scidiffuse.WINGS):
        assert f"\n  {command} " in done.stdout


def test_version() -> None:
    assert run(cli.app, ["--version"]).stdout == f"{scidiffuse.__version__}\n"


def test_unknown_command_is_refused() -> None:
    done = run(cli.app, ["biology"])
    assert done.exit_code == 2
    assert "biology" in done.output


@pytest.mark.parametrize("wing", UNBUILT)
@pytest.mark.parametrize("args", [[], ["--help"], ["fit", "data.csv"]])
def test_unbuilt_wing_says_so_and_fails(wing: str, args: list[str]) -> None:
    done = run(cli.app, [wing, *args])
    assert done.exit_code == 1
    assert f"scidiffuse {wing}: not built yet" in done.output


@pytest.mark.parametrize("name", ["core", *(wing for wing in scidiffuse.WINGS if wing not in UNBUILT)])
def test_built_part_has_its_own_help(name: str) -> None:
    done = run(cli.app, [name, "--help"])
    assert done.exit_code == 0
    assert f"Usage: root {name} " in done.output or f"Usage: scidiffuse {name} " in done.output


def test_missing_extra_is_one_line_and_a_defect_is_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(message: str) -> None:
        def import_module(name: str, package: str | None = None) -> object:
            raise ImportError(message)

        monkeypatch.setattr(cli.importlib, "import_module", import_module)

    fail('forecast needs pandas: pip install "scidiffuse[timeseries]"')
    done = run(cli.app, ["core", "convergence"])
    assert done.exit_code == 1
    assert done.output == 'scidiffuse core: forecast needs pandas: pip install "scidiffuse[timeseries]"\n'
    fail("cannot import name 'x'")
    assert isinstance(run(cli.app, ["core", "convergence"]).exception, ImportError)


class Fake:
    """A wing's demo module."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def demo(self, folder: Path) -> Section:
        if self.error:
            raise self.error
        return Section("Fake", "No wing.", metrics={"model": {"score": 1.0}})


def demo_of(monkeypatch: pytest.MonkeyPatch, **wings: Fake) -> None:
    monkeypatch.setattr(cli, "has", lambda part, file: part in wings)
    real = cli.importlib.import_module
    monkeypatch.setattr(
        cli.importlib,
        "import_module",
        lambda name, package=None: wings.get(name.removesuffix(".demo").lstrip(".")) or real(name, package),
    )


def test_demo_runs_the_wings_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo_of(monkeypatch, audio=Fake(), motion=Fake(RuntimeError("boom")))
    done = run(cli.app, ["demo", "--out", str(tmp_path), "--wing", "audio"])
    assert done.exit_code == 0
    assert "score\nmodel      1" in done.output
    assert str(tmp_path / "index.html") in done.output and (tmp_path / "index.html").exists()
    assert not (tmp_path / "motion").exists()


def test_demo_fails_when_a_wing_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo_of(monkeypatch, audio=Fake(), motion=Fake(RuntimeError("boom")))
    done = run(cli.app, ["demo", "--out", str(tmp_path)])
    assert done.exit_code == 1
    assert "failed: motion" in done.output
    assert "RuntimeError: boom" in (tmp_path / "index.html").read_text()


def test_demo_refuses_a_wing_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo_of(monkeypatch, audio=Fake())
    done = run(cli.app, ["demo", "--out", str(tmp_path), "--wing", "medical"])
    assert done.exit_code == 2
    assert "medical" in done.output and "audio" in done.output
    assert not list(tmp_path.iterdir())
