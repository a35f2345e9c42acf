"""Properties: normalised, drawn from the histogram of (atoms, property), or given."""

from __future__ import annotations

import pytest
import torch

from scidiffuse.molecules.data.atoms import Atoms
from scidiffuse.molecules.edm.conditioning import Conditioning


def atoms(values, sizes):
    mask = torch.arange(4) < torch.tensor(sizes)[:, None]
    blank = torch.zeros(len(sizes), 4, 3)
    numbers = mask.to(torch.uint8)
    return Atoms(
        blank,
        numbers,
        torch.zeros_like(numbers, dtype=torch.int8),
        mask,
        properties={"y": torch.tensor(values).double()},
    )


def test_values_are_centred_and_divided_by_their_mean_deviation():
    known = Conditioning.of(atoms([0.0, 2.0, 4.0, 6.0], [2, 2, 3, 3]), ("y",))
    assert (known.mean, known.mad, known.width) == ((3.0,), (2.0,), 2)
    context = known.context({"y": torch.tensor([3.0, 5.0])})
    assert context.tolist() == [[0.0, 1.0], [1.0, 1.0]]


def test_drawn_values_follow_the_molecules_of_that_size():
    """Size 2 has values in [0, 1], three quarters of them below 1/2; size 3 has one value, 7."""
    values, sizes = [0.0, 0.1, 0.2, 1.0, 7.0], [2, 2, 2, 2, 3]
    known = Conditioning.of(atoms(values, sizes), ("y",))
    counts = torch.tensor([2] * 4000 + [3] * 10)
    drawn = known.asked(None, counts, seed=0)["y"]
    two = drawn[:4000]
    assert float(two.min()) >= 0.0 and float(two.max()) <= 1.0
    assert float((two < 0.5).double().mean()) == pytest.approx(0.75, abs=0.03)
    assert (drawn[4000:] == 7.0).all()
    assert torch.equal(known.asked(None, counts[:5], 0)["y"], drawn[:5])  # sample i depends on (seed, i)


def test_given_values_are_taken():
    known = Conditioning.of(atoms([0.0, 1.0], [2, 2]), ("y",))
    assert known.asked({"y": 0.5}, torch.tensor([2, 2, 9]), 0)["y"].tolist() == [0.5, 0.5, 0.5]
    assert known.asked({"y": [1.0, 2.0]}, torch.tensor([2, 2]), 0)["y"].tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match=r"properties \['y'\], got \['z'\]"):
        known.asked({"z": 1.0}, torch.tensor([2]), 0)
    with pytest.raises(ValueError, match="one finite number, or one for each of 3"):
        known.asked({"y": [1.0, 2.0]}, torch.tensor([2, 2, 2]), 0)
    with pytest.raises(ValueError, match="no training molecule has 9 atoms"):
        known.asked(None, torch.tensor([9]), 0)


def test_refused_properties():
    with pytest.raises(ValueError, match="no property 'z'"):
        Conditioning.of(atoms([0.0, 1.0], [2, 2]), ("z",))
    with pytest.raises(ValueError, match=r"molecule 1 .* is not known"):
        Conditioning.of(atoms([0.0, float("nan")], [2, 2]), ("y",))
    with pytest.raises(ValueError, match="nothing to learn"):
        Conditioning.of(atoms([1.0, 1.0], [2, 2]), ("y",))
