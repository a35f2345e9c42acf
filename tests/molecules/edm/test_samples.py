"""How samples in space are shown."""

from __future__ import annotations

import torch

from scidiffuse import molecules as mo
from scidiffuse.molecules.edm.samples import AtomSamples


def test_samples_are_shown_in_a_line():
    positions = torch.tensor([[[0.0, 0, 0], [9.0, 0, 0]]] * 2)
    numbers = torch.tensor([[1, 8], [9, 0]], dtype=torch.uint8)
    atoms = mo.Atoms(positions, numbers, torch.zeros(2, 2, dtype=torch.int8), numbers > 0)
    x = {"x": atoms.positions, "h": atoms.positions}
    text = repr(AtomSamples.of(atoms, x, {}, {}, {}))
    assert text.startswith("AtomSamples(2, 2 with a molecule, Atoms(2 molecules with bonds, up to 2 atoms); ")
    assert "connected_edm 0.5" in text and "rdkit.Chem" not in text and len(text) < 300
