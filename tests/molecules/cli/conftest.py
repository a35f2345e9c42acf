"""Small files, tiny models trained once, and the command line in-process."""

from __future__ import annotations

import pytest

pytest.importorskip("rdkit")
pytest.importorskip("lightning")
from typer.testing import CliRunner

from scidiffuse.molecules.cli import app

SMILES = """C CC CCC CCCC CO CCO CCCO CC(C)O C=C C=CC CC=C CC#C C#C C=O CC=O CCC=O CC(C)=O OCO COC CCOC OCCO CC(=O)O
C1CC1 CC1CC1 OC1CC1 C1CCC1 CC1CCC1 C1CO1 CC1CO1 O=CC=O CC(C)C CC(C)(C)C CCC(C)C CCCCC C=CC=C C1CCCC1 OCC=O CC(O)C=O
COC=O O=CO"""  # fmt: skip
TINY = """--set hidden=8 --set attention=8 --set heads=2 --set layers=2 --set linears=2 --set depth=1 --set c_hidden=2
--set c_final=2 --batch-size 16 --no-progress"""


def run_app(*words: object, code: int = 0) -> str:
    """What a command prints, stderr included; a failed command does so without a traceback."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output and (result.exception is None or isinstance(result.exception, SystemExit))
    return result.output


@pytest.fixture(scope="session")
def call():
    return run_app


@pytest.fixture(scope="session")
def tiny():
    return TINY.split()


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "data.smi"
    path.write_text("".join(f"{s} m{k}\n" for k, s in enumerate(SMILES.split())))
    return path


@pytest.fixture(scope="session")
def trained(data, tmp_path_factory):
    """The --out of a short training of GDSS, a part held out."""
    out = tmp_path_factory.mktemp("model") / "run"
    words = ["train", "gdss", data, "--out", out, *TINY.split(), "--split", "random", "--shares", "0.8,0.2,0"]
    run_app(*words, "--max-steps", 4)
    return out


@pytest.fixture(scope="session")
def quick(trained):
    """Options of a small sampling."""
    return [str(w) for w in ("--model", trained, "--sampler", "s4", "--steps", 3, "--nodes", 4, "--no-progress")]
