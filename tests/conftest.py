"""Options and fixtures of the whole suite.

``--dtype`` and ``--device`` say where the tests that ask for the fixtures of those names run; ``data`` is the folder of
real files, without which its tests are skipped.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors: threads cost more than they bring, in children, too
torch.set_num_threads(1)
settings.register_profile("scidiffuse", deadline=None, print_blob=True)  # a busy machine is not a failure
settings.load_profile("scidiffuse")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--dtype", default="float64", choices=("float32", "float64"), help="dtype of the tests' tensors")
    parser.addoption("--device", default="cpu", help="device of the tests' tensors")


@pytest.fixture
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return getattr(torch, request.config.getoption("--dtype"))


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real files that ``SCIDIFFUSE_DATA`` names."""
    folder = os.environ.get("SCIDIFFUSE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("SCIDIFFUSE_DATA does not name a folder of real files")
    return Path(folder)
