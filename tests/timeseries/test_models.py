"""Models by name, and loading a checkpoint of whatever system."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("pandas")

from scidiffuse import timeseries as ts
from scidiffuse.core import checkpoint
from scidiffuse.timeseries.models import SYSTEMS, load_model, system


def test_every_name_is_a_class_whose_kind_it_is():
    for name, (_, kind) in SYSTEMS.items():
        assert system(name) is system(kind) and system(name).kind == kind and system(name).__name__ == kind
    with pytest.raises(ValueError, match="expected one of tsdiff, tsdiff-cond, csdi"):
        system("deepar")


def test_the_class_is_that_of_the_checkpoint():
    model = load_model(ts.pretrained())
    assert type(model) is ts.TSDiff
    assert np.array_equal(model.sample(1, steps=2), ts.TSDiff.load(ts.pretrained()).sample(1, steps=2))


def test_the_folder_of_a_training_gives_its_best_model_else_its_last(tmp_path):
    one = ts.TSDiff.load(ts.pretrained())
    one.save(tmp_path / "model")
    assert load_model(tmp_path).config == one.config
    one.trained_until = {"best": "2024-01-01"}
    one.save(tmp_path / "best")
    assert load_model(tmp_path).trained_until == {"best": "2024-01-01"}
    assert load_model(tmp_path / "model").trained_until != {"best": "2024-01-01"}


def test_foreign_checkpoints_are_named(tmp_path):
    checkpoint.save(tmp_path, torch.nn.Linear(1, 1), {}, kind="UNet")
    with pytest.raises(checkpoint.CheckpointError, match="holds a 'UNet', which is no model of this wing"):
        load_model(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_model(tmp_path / "none")
