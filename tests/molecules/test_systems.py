"""Systems by name, and models of whatever system."""

from __future__ import annotations

from pathlib import Path

import pytest

from scidiffuse import molecules as mo
from scidiffuse.core.checkpoint import CheckpointError
from scidiffuse.core.checkpoint import save as save_checkpoint
from scidiffuse.molecules.cli.options import load
from scidiffuse.molecules.systems import SYSTEMS, kind_of, load_model, pretrained, shipped, system


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_has_the_verbs_and_is_found_by_both_names(name):
    cls = system(name)
    assert cls is system(SYSTEMS[name].name) and cls.__name__ == SYSTEMS[name].name
    for verb in ("for_dataset", "fit", "sample", "save", "load"):
        assert callable(getattr(cls, verb))
    assert kind_of(name) == kind_of(cls) == SYSTEMS[name].data


def test_unknown_names_are_told_with_those_there_are():
    with pytest.raises(ValueError, match="unknown system 'vae': expected one of gdss, digress"):
        system("vae")
    with pytest.raises(ValueError, match="unknown system 'int'"):
        kind_of(3)


def test_a_model_is_loaded_by_what_wrote_it(tmp_path):
    pytest.importorskip("lightning")
    graphs = mo.load("community_small")[:4]
    model = mo.GDSS.for_dataset(graphs, hidden=8, attention=8, layers=2).fit(graphs, max_steps=1, out=tmp_path / "run")
    model.save(tmp_path / "alone")
    for folder in ("alone", "run", "run/model"):
        loaded = load_model(tmp_path / folder)
        assert isinstance(loaded, mo.GDSS) and kind_of(loaded) == "graphs"
        assert loaded.sample(2, steps=2, seed=0).graphs.A.equal(model.sample(2, steps=2, seed=0).graphs.A)


@pytest.mark.parametrize(
    ("name", "data"),
    [("gdss", mo.from_smiles(["CCO", "CN"])), ("sequence", mo.from_strings(["ACGT"], "dna"))],
)
def test_every_system_has_a_preset_for_data(name, data):
    assert system(name)._fitting(data) in system(name).config_class.presets


def test_models_that_ship_have_their_cards_and_are_found_by_name():
    assert shipped() == ["edm-qm9", "gdss-qm9"]
    assert all((pretrained(name) / "CARD.md").is_file() for name in shipped())
    assert [load(None).kind, load(Path("gdss-qm9")).kind, load(Path("edm-qm9")).kind] == ["GDSS", "GDSS", "EDM"]


def test_the_model_in_space_that_ships_draws_atoms_with_bonds():
    out = load_model(pretrained("edm-qm9")).sample(12, steps=40, seed=0)
    assert out.report["atom_stability_edm"].value > 0.5  # 0.97 of real molecules of this size, 0 of noise


def test_what_is_no_generator_is_told(tmp_path):
    import torch

    save_checkpoint(tmp_path / "x", torch.nn.Linear(1, 1), {}, kind="TemplatePolicy")
    with pytest.raises(CheckpointError, match="holds a 'TemplatePolicy', which is no generator of this wing"):
        load_model(tmp_path / "x")
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="no trained model 'nothing' comes with this version"):
        pretrained("nothing")
