"""Folders of results: what an earlier run left, what a failed one leaves, what is drawn."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from scidiffuse import molecules as mo
from scidiffuse.molecules.cli.results import clear, folder_for, pictures, report


def test_files_of_an_earlier_run_go_and_others_stay(tmp_path):
    (tmp_path / "before").mkdir()
    folder, other = tmp_path / "before", tmp_path / "other.smi"
    for path in (folder / "samples.sdf", folder / "mine.txt", other):
        path.write_text("x")
    report(folder, {}, [folder / "samples.sdf"], n=3)
    assert json.loads((folder / "report.json").read_text())["files"] == ["report.json", "samples.sdf"]
    clear(folder)
    assert [p.name for p in folder.iterdir()] == ["mine.txt"]
    clear(folder)  # without a report nothing goes
    for content in ("no json", "[]", "{}", json.dumps({"files": ["../other.smi", 3]}), '{"files": "mine.txt"}'):
        (folder / "report.json").write_text(content)
        clear(folder)
    assert {p.name for p in folder.iterdir()} == {"mine.txt", "report.json"} and other.exists()


def test_a_failed_run_leaves_no_empty_folder(tmp_path):
    with pytest.raises(ValueError, match="x"), folder_for(tmp_path / "a" / "b"):
        raise ValueError("x")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileExistsError), folder_for(tmp_path / "a" / "b") as folder:
        (folder / "samples").mkdir() or (folder / "samples").mkdir()
    assert (tmp_path / "a" / "b" / "samples").exists()
    (tmp_path / "own").mkdir()
    with pytest.raises(ValueError, match="x"), folder_for(tmp_path / "own"):
        raise ValueError("x")
    assert (tmp_path / "own").exists()  # it was there before


def test_properties_are_those_of_whole_molecules_and_titles_are_short(tmp_path, monkeypatch):
    kept = {}

    def picture(name):
        def draw(*args, **options):
            kept[name] = (args, options)
            return SimpleNamespace(savefig=_write, save=_write)

        return draw

    for name in ("property_histograms", "molecules_3d", "molecule_grid"):
        monkeypatch.setattr(mo.plots, name, picture(name))
    smiles = [".".join(["[C]"] * 21), "CCO", "C" * 40, None]
    sets = {"other": ["C.C", "CC"], "none": ["C.C"]}
    result = SimpleNamespace(atoms=None, smiles=smiles)
    written = pictures(result, tmp_path, 4, None, {}, sets=sets, legends=list("abcd"))
    assert kept["property_histograms"][0][0] == {"samples": ["CCO", "C" * 40], "other": ["CC"]}
    assert kept["molecules_3d"][1]["titles"] == ["21 fragments", "CCO", "C" * 29 + "…", "no molecule"]
    assert kept["molecule_grid"][0] == (smiles[:3], ["a", "b", "c"])
    assert [p.name for p in written] == ["geometries.png", "molecules.png", "properties.png"]
    result.smiles = smiles[:1]  # nothing in one piece has no properties
    assert [p.name for p in pictures(result, tmp_path, 4, None, {})] == ["geometries.png", "molecules.png"]


def _write(path, **_):
    path.write_bytes(b"x")
