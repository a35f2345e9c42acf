"""The package as it is installed: what is shipped, what an import costs, what is not pretended."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import scidiffuse

ROOT = Path(scidiffuse.__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text()) if (ROOT / "pyproject.toml").exists() else {}
UNBUILT = [wing for wing in scidiffuse.WINGS if "_unbuilt" in (ROOT / wing / "__init__.py").read_text()]


def python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)


def test_the_installed_package_is_this_repository() -> None:
    assert Path(__file__).resolve().parents[1] == ROOT


def test_list_of_packages_equals_the_disk() -> None:
    folders = {path.parent for top in ("core", *scidiffuse.WINGS) for path in (ROOT / top).rglob("*.py")}
    on_disk = {".".join(["scidiffuse", *folder.relative_to(ROOT).parts]) for folder in folders}
    assert PROJECT["tool"]["setuptools"]["packages"] == sorted({"scidiffuse", *on_disk})
    without_init = [str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").exists()]
    assert not without_init


def test_root_holds_no_other_module() -> None:
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", scidiffuse.__version__)
    assert f"## [{scidiffuse.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
    dist = importlib.import_module("importlib.metadata").distribution("scidiffuse")
    assert dist.version == scidiffuse.__version__


def test_extras_are_those_of_the_design() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    assert {*scidiffuse.WINGS, "all", "dev", "bench", "docs"} <= extras.keys()
    assert all(wing in extras["all"][0] for wing in scidiffuse.WINGS)
    assert all(extras[wing] == [] for wing in UNBUILT), "a wing that is not built yet needs nothing"
    every = " ".join(PROJECT["project"]["dependencies"] + [line for lines in extras.values() for line in lines])
    assert not re.search(r"torch(vision|audio)", every)


def test_constraints_pin_every_dependency() -> None:
    def name(line: str) -> str:
        return re.split(r"[\[<>=~! ;]", line)[0].lower().replace("_", "-")

    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), "exact versions, no local builds"
    pinned = {name(line) for line in lines}
    assert not pinned & {"torchvision", "torchaudio", "scidiffuse"}
    extras = PROJECT["project"]["optional-dependencies"]
    needed = {name(line) for line in [*PROJECT["project"]["dependencies"], *(x for xs in extras.values() for x in xs)]}
    assert needed - pinned - {"build"} == {"scidiffuse"}


def test_import_loads_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys, json, scidiffuse; dir(scidiffuse); print(json.dumps(list(sys.modules)))"
    loaded = json.loads(python(code, tmp_path).stdout)
    assert "scidiffuse" in loaded
    assert not {"torch", "numpy", "scipy", "pandas", "typer", "lightning"} & set(loaded)
    assert not [name for name in loaded if name.startswith("scidiffuse.")]


def test_core_loads_no_wing_and_no_trainer(tmp_path: Path) -> None:
    code = "import sys, json, scidiffuse.core; print(json.dumps(list(sys.modules)))"
    loaded = set(json.loads(python(code, tmp_path).stdout))
    assert not {"lightning", "pandas", "matplotlib", "diffusers", "sklearn"} & loaded
    assert not {f"scidiffuse.{wing}" for wing in scidiffuse.WINGS} & loaded


@pytest.mark.parametrize("name", ["core", *UNBUILT])
def test_bare_import_from_the_root_fails_loudly(name: str) -> None:
    done = python(f"import {name}", ROOT)
    assert done.returncode == 1
    assert "attempted relative import beyond top-level package" in done.stderr


def test_sub_packages_are_attributes() -> None:
    assert scidiffuse.core is importlib.import_module("scidiffuse.core")
    assert {"core", *scidiffuse.WINGS} <= set(dir(scidiffuse))
    with pytest.raises(AttributeError, match=r"no attribute 'biology'; it has core and the wings medical, molecules"):
        scidiffuse.biology  # noqa: B018


@pytest.mark.parametrize("wing", UNBUILT)
def test_an_unbuilt_wing_says_so(wing: str) -> None:
    module = getattr(scidiffuse, wing)
    with pytest.raises(NotImplementedError, match=rf"scidiffuse\.{wing}\.load: the wing '{wing}' is not built yet"):
        module.load  # noqa: B018
    with pytest.raises(NotImplementedError, match="README"):
        exec(f"from scidiffuse.{wing} import Model")
    assert not hasattr(module, "__path_hook__")
    assert [path.name for path in (ROOT / wing).glob("*.py")] == ["__init__.py"], "built: give it a real face"


def test_readme_table_says_what_is_built() -> None:
    works = (ROOT / "README.md").read_text().split("## What works")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", works, flags=re.MULTILINE))
    assert set(rows) == {"core", *scidiffuse.WINGS}
    assert {wing for wing, status in rows.items() if status == "not built yet"} == set(UNBUILT)
