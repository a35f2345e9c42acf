"""The notebooks: script and executed twin agree. (`make notebooks` executes them.)"""

from __future__ import annotations

from pathlib import Path

import jupytext
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = sorted({path.stem for path in (*FOLDER.glob("*.py"), *FOLDER.glob("*.ipynb"))})


@pytest.mark.parametrize("name", NAMES)
def test_twins_agree(name: str) -> None:
    script, shown = (jupytext.read(FOLDER / f"{name}{suffix}") for suffix in (".py", ".ipynb"))
    assert [(cell.cell_type, cell.source) for cell in shown.cells] == [
        (cell.cell_type, cell.source) for cell in script.cells
    ], f"run: jupytext --to ipynb notebooks/{name}.py; pytest --nbmake --overwrite notebooks/{name}.ipynb"


@pytest.mark.parametrize("name", NAMES)
def test_shown_twin_was_executed_from_top_to_bottom(name: str) -> None:
    cells = [cell for cell in jupytext.read(FOLDER / f"{name}.ipynb").cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs), "a notebook shows something"
    assert sum("assert " in cell.source for cell in cells) >= 3, "a notebook asserts what it claims"
