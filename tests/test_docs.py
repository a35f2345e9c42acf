"""The examples of the README and of CONTRIBUTING run, and what they name exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.sample import sample
from scidiffuse.core.samplers import DDIM, LinearSampler, Row
from scidiffuse.core.samplers import Path as Times
from scidiffuse.core.schedules import VPLinear

ROOT = Path(__file__).parents[1]


def example(page: str, word: str) -> str:
    """The one Python block of a page that holds the word."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if word in block]
    return block


def test_the_sampler_of_contributing_is_ddim() -> None:
    names: dict[str, Any] = {"LinearSampler": LinearSampler, "Path": Times, "Row": Row}
    exec("from dataclasses import dataclass\n" + example("CONTRIBUTING.md", "class MyMethod"), names)
    denoiser = GaussianMixture.example().denoiser(VPLinear())
    ours, ddim = (
        sample(denoiser, method, steps=9, shape=(4, 2), seed=0, dtype=torch.float64).x
        for method in (names["MyMethod"](), DDIM())
    )
    torch.testing.assert_close(ours, ddim, rtol=1e-12, atol=1e-12)


def test_the_core_example_of_the_readme_runs() -> None:
    names: dict[str, Any] = {"network": lambda x, t: 0.1 * x}
    exec(example("README.md", "from scidiffuse.core import DPMSolverPP"), names)
    assert names["x"].shape == (16, 3, 32, 32)
    assert torch.isfinite(names["x"]).all()


def test_the_token_example_of_the_readme_runs() -> None:
    tokens = torch.randint(0, 4, (8, 6), generator=torch.Generator().manual_seed(0))
    names: dict[str, Any] = {"sequences": tokens, "held_out": tokens[:2]}
    code = example("README.md", "from scidiffuse.core.discrete import")
    for long, short in (
        ("width=128, depth=4", "width=8, depth=1"),
        ("max_steps=2000", "max_steps=2"),
        ("(16, 64)", "(2, 6)"),
    ):
        assert long in code
        code = code.replace(long, short)
    exec(code, names)
    assert names["x"].shape == (2, 6)
    assert bool((names["x"] < 4).all())


def test_the_names_of_the_timeseries_example_exist() -> None:
    code = example("README.md", "import timeseries as ts")
    from scidiffuse import timeseries

    assert all(hasattr(timeseries, name) for name in re.findall(r"\bts\.(\w+)", code))


def test_the_names_of_the_molecules_example_exist() -> None:
    code = example("README.md", "import molecules as mo")
    from scidiffuse import molecules

    assert all(hasattr(molecules, name) for name in re.findall(r"\bmo\.(\w+)", code))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_linked_files_exist(page: str) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()) if "://" not in link]
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_make_targets_that_the_pages_name_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert {"demo", "test", "types", "bench", "notebooks", "docs", "clean"} <= targets
    pages = "".join((ROOT / page).read_text() for page in ("README.md", "CONTRIBUTING.md"))
    assert set(re.findall(r"(?:^|`)make (\w+)", pages, flags=re.MULTILINE)) <= targets
