"""Compare an installed wheel with the repository, then import it: ``check_wheel.py <folder it was installed into>``."""

import subprocess
import sys
import tomllib
from pathlib import Path

root = Path(__file__).resolve().parents[1]
site = Path(sys.argv[1]).resolve()
packages = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]

expected = {Path("scidiffuse/py.typed")}
for package in packages:
    inside = Path(*package.split("."))
    folder = root.joinpath(*package.split(".")[1:])
    files = [*folder.glob("*.py"), *(path for path in folder.glob("assets/**/*") if path.is_file())]
    expected |= {inside / path.relative_to(folder) for path in files}
installed = [path for path in (site / "scidiffuse").rglob("*") if path.is_file() and path.suffix != ".pyc"]
found = {path.relative_to(site) for path in installed}
shipped = {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")} - {"bin"}

if missing := sorted(map(str, expected - found)):
    sys.exit(f"the wheel lacks {missing}")
if extra := sorted(map(str, found - expected)):
    sys.exit(f"the wheel ships {extra}")
if shipped != {"scidiffuse"}:
    sys.exit(f"the wheel ships {sorted(shipped)} at the top level, expected only scidiffuse")

code = "import scidiffuse, scidiffuse.core; print(scidiffuse.__file__)"
run = {"cwd": site, "env": {"PYTHONPATH": str(site), "PATH": ""}, "check": True, "text": True}
where = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, **run).stdout.strip()
if Path(where) != site / "scidiffuse" / "__init__.py":
    sys.exit(f"imported {where}, expected the installed wheel")
subprocess.run([sys.executable, "-m", "scidiffuse", "--help"], stdout=subprocess.DEVNULL, **run)
print(f"{len(found)} files, imported from the installed wheel")
