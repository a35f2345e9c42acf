"""What GFMDiff adds to EDM; the verbs of both are tested in edm/test_model.py."""

from __future__ import annotations

import pytest
import torch

from scidiffuse.core.training.keys import Keys
from scidiffuse.molecules.data.atoms import Atoms
from scidiffuse.molecules.edm.training import AtomLoss, AtomSet
from scidiffuse.molecules.gfmdiff import GFMDiff, GFMDiffConfig

TINY = {"width": 8, "hidden": 8, "blocks": 1, "heads": 2, "outer": 2, "angle_step": 0.5, "dropout": 0.0}


def waters(n=4):
    x = torch.tensor([[0.0, 0, 0], [0.958, 0, 0], [-0.240, 0.927, 0]]).repeat(n, 1, 1)
    z = torch.tensor([8, 1, 1], dtype=torch.uint8).repeat(n, 1)
    return Atoms(x, z, torch.zeros(n, 3, dtype=torch.int8), z > 0)


def loss_at(model, t, **changes):
    atoms = model.features.check(waters(), 3)
    batch = AtomSet.collate([(AtomSet(atoms, model.features, None), i) for i in range(4)])
    extra = model.extra_loss()
    where = torch.full((4,), t, dtype=torch.float64)
    return AtomLoss(0.0, extra).at(model._build(0), batch, where, Keys.of(0, 0, range(4)).noise, {})


def test_without_weight_the_loss_is_that_of_edm():
    plain, own, double = (GFMDiff.for_dataset(waters(), gf_weight=w, **TINY) for w in (0.0, 1.0, 2.0))
    assert plain.extra_loss() is None
    a, b, c = (loss_at(m, 0.3).detach() for m in (plain, own, double))
    assert float((b - a).min()) > 1e-6  # an untrained network's data prediction has not the valences that it says
    torch.testing.assert_close(c - a, 2 * (b - a), rtol=1e-3, atol=1e-6)


def test_the_loss_on_bonds_looks_at_the_data_prediction_not_at_the_noise():
    """A network that predicts the very noise has the exact molecule as its data prediction: no loss on bonds."""
    model = GFMDiff.for_dataset(waters(), gf_weight=1.0, gf_softness=1e-3, **TINY)
    atoms = model.features.check(waters(), 3)
    batch = AtomSet.collate([(AtomSet(atoms, model.features, None), i) for i in range(4)])
    denoiser = model._build(0)
    t = torch.full((4,), 0.5, dtype=torch.float64)
    schedule, x0 = denoiser.schedule, batch["x"]
    a, s = float(schedule.alpha(0.5)), float(schedule.sigma(0.5))
    denoiser.network = lambda x, label, atoms: {k: (v - a * x0[k]) / s for k, v in x.items()}
    loss = AtomLoss(0.0, model.extra_loss()).at(denoiser, batch, t, Keys.of(0, 0, range(4)).noise, {})
    assert float(loss.max()) < 1e-8


def test_settings_out_of_range():
    for bad, message in (
        ({"heads": 3}, "must divide"),
        ({"geometry": "none"}, "'blocks' or 'input'"),
        ({"outer": 0}, "positive integer or None"),
        ({"chunk": -1}, "positive integer"),
        ({"gf_weight": -1.0}, "at least 0"),
        ({"gf_softness": 0.0}, "positive"),
        ({"dropout": 1.0}, "dropout"),
    ):
        with pytest.raises(ValueError, match=message):
            GFMDiffConfig(**bad)


def test_presets():
    published = GFMDiffConfig.preset("qm9")
    assert (published.blocks, published.width, published.hidden, published.heads) == (5, 256, 512, 8)
    assert (published.diffusion_steps, published.batch_size, published.lr) == (500, 16, 1e-4)
    assert (published.dropout, published.gf_weight, published.gf_power) == (0.1, 0.01, 1.0)
    assert GFMDiffConfig.preset("small", gf_weight=0.0).gf_weight == 0.0
