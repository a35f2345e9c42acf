"""Bounds of the data prediction: wild networks stay among molecules, sound ones are left alone."""

from __future__ import annotations

import pytest
import torch

from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.sample import sample
from scidiffuse.core.samplers import DDPM
from scidiffuse.molecules.edm.bounds import Bounds
from scidiffuse.molecules.edm.features import Features, space_of
from scidiffuse.molecules.edm.schedule import level, polynomial, times_of

MASK = torch.arange(5) < torch.tensor([5, 3, 5])[:, None]


def drawn(network, hooks):
    schedule = polynomial(1000)
    return sample(
        Denoiser(network, schedule, "noise", label=level), DDPM(), times_of(schedule, 100), hooks=hooks, seed=0,
        shape={"x": (3, 5, 3), "h": (3, 5, 2)}, space=space_of(MASK), condition={"atoms": MASK}, dtype=torch.float64,
    ).x  # fmt: skip


def explosive(x, label, atoms):
    """The noise of a network that answers positions far out with still more noise, as a trained one was seen to do."""
    return {name: -leaf * (1.0 + leaf.square().mean((1, 2), keepdim=True)) for name, leaf in x.items()}


def test_a_network_that_explodes_far_out_is_held():
    with pytest.raises(FloatingPointError):
        drawn(explosive, [])
    out = drawn(explosive, [Bounds(0.9)])
    reach = out["x"].norm(dim=-1).amax(-1)
    assert bool((reach <= 1.6 * MASK.sum(1) + 1e-6).all()) and float(out["h"].abs().max()) <= 0.9 + 1e-9
    assert float(out["x"].sum(1).abs().max()) < 1e-9 and float(out["x"][~MASK].abs().max()) == 0.0


def test_a_sound_network_is_left_alone():
    def sound(x, label, atoms):
        t = (float(label[0]) * 1000 + 1) / 1001
        a, s = polynomial(1000).alpha(t), polynomial(1000).sigma(t)
        return {name: leaf * (s / (0.01 * a * a + s * s)) for name, leaf in x.items()}

    free, held = drawn(sound, []), drawn(sound, [Bounds(0.9)])
    for name in free:
        torch.testing.assert_close(held[name], free[name])


def test_the_largest_feature_is_that_of_the_heaviest_element():
    assert Features(("H", "C", "Br"), ("types", "number"), (4.0, 10.0)).largest == 3.5
    assert Features(("H", "C"), ("types", "number", "valence"), (4.0, 10.0)).largest == 0.8
