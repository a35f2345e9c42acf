"""The wing's named data sets: the entries, and the files where they are at hand."""

import pytest

from scidiffuse.core import datasets
from scidiffuse.molecules.registry import DATASETS


def test_importing_registers():
    assert set(DATASETS) == {"enzymes", "spectre_community_small", "uspto50k_test"}
    for name, entry in DATASETS.items():
        assert datasets.info(name) is entry and entry.licence and entry.layout and entry.source


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_files_are_the_named_ones(data, name):
    folder = data / DATASETS[name].folder
    if not all((folder / file).is_file() for file in DATASETS[name].files):
        pytest.skip(f"no {name} in the folder of real files")
    assert datasets.locate(name) == folder
