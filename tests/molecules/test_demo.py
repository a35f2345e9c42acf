"""The section of the demonstration page: its contract, and the count of what is known already."""

from __future__ import annotations

import pytest

pytest.importorskip("rdkit")
pytest.importorskip("lightning")
pytest.importorskip("matplotlib")

from scidiffuse import molecules as mo
from scidiffuse.core.demo import Section, build
from scidiffuse.molecules import demo as module

SMILES = ["CCO", "CCC", "CC=O", "C1CC1", "OCC=O", "CC(C)O", "CNC", "C#N", "CCF"]


@pytest.fixture
def folder(tmp_path):
    graphs = mo.from_smiles(SMILES, "CNOF", max_atoms=5)
    model = mo.GDSS.for_dataset(graphs, hidden=8, attention=8, layers=2, heads=2)
    return model.fit(graphs, max_steps=2, seed=0).save(tmp_path / "model")


def test_known_molecules_are_found_however_they_are_written():
    train = ["OCC", "c1ccccc1O", "C[C@H](N)O", "CCCC"]
    found = ["CCO", mo.chem.canonical("OC1=CC=CC=C1"), "CC(N)O", "CCC"]
    assert module.known_among(found, train) == 3
    assert module.known_among(["CCC"], train) == 0


def test_the_section(tmp_path, folder, monkeypatch):
    for name, value in {"SAMPLES": 12, "STEPS": 3, "GUIDED": 4, "CANDIDATES": 3}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "training_smiles", lambda: SMILES)
    page = build(tmp_path / "page", {"molecules": lambda out: module.demo(out, folder)})
    assert not page.failed
    section = page.sections["molecules"]
    assert isinstance(section, Section) and len(section.figures) == len(section.captions) == 3
    rows = section.metrics
    assert rows["valid_uncorrected_gdss"]["n"] == "12" and rows["novel"]["n"]
    means = {name.removeprefix("mean QED: "): row for name, row in rows.items() if name.startswith("mean QED")}
    assert [row["n"] for row in means.values()] == ["4"] * 4
    best, plain, bare = (means[name]["value"] for name in list(means)[1:])
    assert best > 0
    # the samples of the unguided rows are those of the same seeds in a run of their own
    model = mo.GDSS.load(folder)
    for changes, value in (({}, plain), ({"corrector": "none"}, bare)):
        drawn = [model.sample(2, steps=3, sampler="s4", seed=module.SEED + k, **changes).mols for k in range(2)]
        qed = [0.0 if mol is None else mo.chem.qed(mol) for part in drawn for mol in part]
        assert value == pytest.approx(sum(qed) / 4)


def test_without_qm9_there_is_no_novelty(tmp_path, folder, monkeypatch):
    for name, value in {"SAMPLES": 8, "STEPS": 2, "GUIDED": 2, "CANDIDATES": 2}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "training_smiles", lambda: None)
    tmp_path.joinpath("out").mkdir()
    section = module.demo(tmp_path / "out", folder)
    assert "novel" not in section.metrics and "not in QM9" not in section.summary


def test_the_commands_of_the_section_exist():
    from typer.testing import CliRunner

    from scidiffuse.molecules.cli import app

    for verb in ("sample", "guide"):
        assert CliRunner().invoke(app, [verb, "--help"]).exit_code == 0
