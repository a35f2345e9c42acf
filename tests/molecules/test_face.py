"""The public face: names that are there, and nothing heavy before they are used."""

import json
import subprocess
import sys

import pytest

from scidiffuse import molecules as mo


def test_every_public_name_is_there():
    assert set(mo._MODULE) == set(mo.__all__) <= set(dir(mo))
    for name in mo.__all__:
        assert getattr(mo, name) is not None
    with pytest.raises(AttributeError, match=r"has no attribute .GANs.; it has .*Atoms"):
        mo.GANs  # noqa: B018


def test_import_loads_nothing_heavy(tmp_path):
    code = "import sys, json, scidiffuse.molecules; dir(scidiffuse.molecules); print(json.dumps(list(sys.modules)))"
    loaded = json.loads(
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True).stdout
    )
    assert not {"torch", "numpy", "pandas", "rdkit", "networkx", "torch_geometric"} & set(loaded)


def test_data_load_no_library_of_the_field_before_it_is_needed(tmp_path):
    code = "import sys, json, scidiffuse.molecules.data; print(json.dumps(list(sys.modules)))"
    loaded = json.loads(
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True).stdout
    )
    assert not {"pandas", "rdkit", "networkx", "torch_geometric", "matplotlib", "lightning"} & set(loaded)


def test_a_missing_library_names_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit.Chem", None)
    with pytest.raises(ImportError, match=r'needs rdkit: pip install "scidiffuse\[molecules\]"'):
        mo.from_smiles(["C"])
