"""Molecules to states and back."""

from __future__ import annotations

import pytest
import torch

from scidiffuse.molecules.data.atoms import Atoms
from scidiffuse.molecules.edm.features import Features, digest_of_atoms, resized, space_of, valences


def molecules():
    """Water and carbon monoxide in their experimental geometries, Å."""
    x = torch.zeros(2, 3, 3)
    x[0] = torch.tensor([[0.0, 0.0, 0.0], [0.958, 0.0, 0.0], [-0.240, 0.927, 0.0]])
    x[1, 1, 0] = 1.128
    numbers = torch.tensor([[8, 1, 1], [6, 8, 0]], dtype=torch.uint8)
    return Atoms(x, numbers, torch.zeros(2, 3, dtype=torch.int8), numbers > 0)


def test_channels_hold_what_they_say():
    atoms = molecules()
    features = Features(("H", "C", "O"), ("types", "number", "valence"), (4.0, 10.0))
    h = features.encode(atoms)
    assert features.width == h.shape[-1] == 5
    torch.testing.assert_close(h[0, 0], torch.tensor([0, 0, 0.25, 0.8, 0.2]))
    torch.testing.assert_close(h[0, 1], torch.tensor([0.25, 0, 0, 0.1, 0.1]))
    torch.testing.assert_close(h[1, 0], torch.tensor([0, 0.25, 0, 0.6, 0.3]))  # CO by distance: a triple bond
    assert float(h[1, 2].abs().max()) == 0.0
    torch.testing.assert_close(features.valence(h), torch.tensor([[2.0, 1, 1], [3, 3, 0]]))
    back = features.decode(atoms.positions, h, atoms.mask)
    assert torch.equal(back.numbers, atoms.numbers) and torch.equal(back.positions, atoms.positions)
    with pytest.raises(ValueError, match="no valence"):
        Features(("H",), ("types", "number"), (4.0, 10.0)).valence(h)
    with pytest.raises(ValueError, match="'types' first"):
        Features(("H",), ("number",), (4.0, 10.0))


def test_given_bonds_count_for_valences():
    atoms = molecules()
    bonds = torch.zeros(2, 3, 3, dtype=torch.uint8)
    bonds[1, 0, 1] = bonds[1, 1, 0] = 2
    with_bonds = Atoms(atoms.positions, atoms.numbers, atoms.charges, atoms.mask, bonds)
    assert valences(with_bonds).tolist() == [[0, 0, 0], [2, 2, 0]]


def test_the_space_has_the_degrees_of_freedom_of_the_atoms():
    mask = torch.tensor([[True, True, True], [True, True, False]])
    space = space_of(mask)
    state = {"x": torch.randn(2, 3, 3), "h": torch.randn(2, 3, 5)}
    assert space.ndof(state).tolist() == [2 * 3 + 3 * 5, 1 * 3 + 2 * 5]
    flat = space.project(state)
    torch.testing.assert_close(flat["x"].sum(1), torch.zeros(2, 3), rtol=0, atol=1e-6)
    assert float(flat["h"][1, 2].abs().max()) == 0.0


def test_resizing_keeps_the_molecules():
    atoms = molecules()
    wide = resized(atoms, 5)
    assert wide.mask.shape == (2, 5) and torch.equal(wide.num_atoms, atoms.num_atoms)
    back = resized(wide, 3)
    assert torch.equal(back.positions, atoms.positions) and back.ids == atoms.ids


def test_refusals_say_what_to_do():
    atoms = molecules()
    features = Features(("H", "C", "O"), ("types",), (4.0, 10.0))
    carbon = torch.tensor([[6, 0, 0]], dtype=torch.uint8)
    single = Atoms(torch.zeros(1, 3, 3), carbon, torch.zeros(1, 3, dtype=torch.int8), carbon > 0, ids=("he",))
    none = torch.zeros(0, 3, dtype=torch.uint8)
    nothing = Atoms(torch.zeros(0, 3, 3), none, none.to(torch.int8), none > 0)
    with pytest.raises(ValueError, match=r"'he'.*single atom.*num_atoms > 1"):
        features.check(single, 3)
    with pytest.raises(ValueError, match="up to 2 atoms, these have up to 3"):
        features.check(atoms, 2)
    with pytest.raises(ValueError, match=r"these molecules have \['C'\] too"):
        Features(("H", "O"), ("types",), (4.0, 10.0)).check(atoms, 3)
    with pytest.raises(ValueError, match="no molecules"):
        features.check(nothing, 3)
    with pytest.raises(TypeError, match="expected Atoms"):
        features.check([1], 3)
    with pytest.raises(ValueError, match=r"no bond lengths are known for atomic numbers \[26\]"):
        Features(("H", "C", "O", "Fe"), ("types", "valence"), (4.0, 10.0)).check(atoms, 3)


def test_charges_are_not_learned_without_a_word():
    charges = torch.zeros(2, 2, dtype=torch.int8)
    charges[1, 0] = 1
    numbers = torch.tensor([[6, 8], [7, 8]], dtype=torch.uint8)
    atoms = Atoms(torch.rand(2, 2, 3), numbers, charges, torch.ones(2, 2, dtype=torch.bool))
    with pytest.warns(UserWarning, match="1 of 2 molecules have charged atoms"):
        Features(atoms.elements, ("types", "number"), (4.0, 10.0)).check(atoms, 2)


def test_digests_tell_data_apart():
    atoms = molecules()
    moved = Atoms(atoms.positions + 1e-3, atoms.numbers, atoms.charges, atoms.mask)
    assert digest_of_atoms(atoms) == digest_of_atoms(molecules()) != digest_of_atoms(moved)
