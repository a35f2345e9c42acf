"""The loss on bonds: what it is at real geometries, what it sees, and what it moves."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from scidiffuse.molecules.data.atoms import Atoms
from scidiffuse.molecules.edm.features import Features
from scidiffuse.molecules.gfmdiff.valency import ValencyLoss, soft_valence
from scidiffuse.molecules.metrics.stability import bond_orders

ELEMENTS = ("H", "C", "N", "O", "F")
FEATURES = Features(ELEMENTS, ("types", "number", "valence"), (4.0, 10.0))
ONE = torch.ones(1, dtype=torch.float64)


def qm9(n=40):
    if importlib.util.find_spec("qm9pack") is None:
        pytest.skip("QM9 comes with qm9pack")
    from scidiffuse.molecules.data.qm9 import qm9_atoms

    return qm9_atoms(n)


def state(atoms):
    return {"x": atoms.positions.double(), "h": FEATURES.encode(atoms).double()}


def test_hard_limit_is_the_bond_orders_of_the_metric():
    """With next to no softness, v is what `bond_orders` counts, on real molecules and on random heaps of atoms."""
    atoms = qm9()
    g = torch.Generator().manual_seed(0)
    heap = Atoms(
        torch.randn(20, 8, 3, generator=g) * 1.2,
        torch.tensor([1, 6, 7, 8, 9], dtype=torch.uint8)[torch.randint(5, (20, 8), generator=g)],
        torch.zeros(20, 8, dtype=torch.int8),
        torch.ones(20, 8, dtype=torch.bool),
    )
    lengths = ValencyLoss(FEATURES).lengths()
    for some in (atoms, heap):
        v = soft_valence(some.positions.double(), some.types(ELEMENTS).double(), some.mask, lengths, 1e-6)
        orders = bond_orders(some.numbers.numpy(), some.positions.numpy(), some.mask.numpy())
        torch.testing.assert_close(v, torch.from_numpy(orders.sum(-1)).double(), rtol=0, atol=1e-6)


def test_real_molecules_have_no_loss_and_a_moved_atom_has_some():
    atoms = qm9()
    loss = ValencyLoss(FEATURES, weight=1.0, softness=1e-3)
    alpha = torch.ones(len(atoms), dtype=torch.float64)
    data = state(atoms)
    assert float(loss(data, atoms.mask, alpha).max()) < 1e-6
    moved = {**data, "x": data["x"].clone()}
    moved["x"][:, 0] += torch.tensor([0.0, 0.0, 4.0], dtype=torch.float64)  # away from all it was bonded to
    assert float(loss(moved, atoms.mask, alpha)[atoms.num_atoms > 1].min()) > 1e-4


def test_the_gradient_pulls_a_stretched_bond_together_and_parts_atoms_too_close():
    """H-F at the largest bond length: said to be bonded, its atoms are pulled together; said to be free, apart."""
    h = torch.zeros(1, 2, 7, dtype=torch.float64)
    h[0, 0, 0] = h[0, 1, 4] = 0.25
    for valence, towards in ((1.0, 1.0), (0.0, -1.0)):
        h[..., -1] = valence / 10
        x = torch.tensor([[[0.0, 0, 0], [1.02, 0, 0]]], dtype=torch.float64, requires_grad=True)
        loss = ValencyLoss(FEATURES, weight=1.0)({"x": x, "h": h}, torch.ones(1, 2, dtype=torch.bool), ONE)
        loss.sum().backward()
        assert float(x.grad[0, 1, 0]) * towards > 1e-4
        assert loss.item() == pytest.approx((0.5 / 10) ** 2, rel=1e-6)  # half a bond at the threshold, 0.92 + 0.10 Å


def test_types_have_no_gradient_and_valences_do():
    atoms = qm9(5)
    data = state(atoms)
    h = data["h"].clone()
    h[..., -1] += 0.02
    h.requires_grad_()
    ValencyLoss(FEATURES)({"x": data["x"], "h": h}, atoms.mask, torch.ones(5, dtype=torch.float64)).sum().backward()
    assert float(h.grad[..., :5].abs().max()) == 0.0
    assert float(h.grad[..., -1][atoms.mask].abs().min()) > 0.0


def test_pads_are_not_seen():
    atoms = qm9(6)
    data = state(atoms)
    data["x"][:, 0] += 0.3
    loss = ValencyLoss(FEATURES, weight=1.0)
    alpha = torch.ones(6, dtype=torch.float64)
    plain = loss(data, atoms.mask, alpha)
    dirty = {k: torch.where(atoms.mask[..., None], v, 0.1) for k, v in data.items()}
    torch.testing.assert_close(loss(dirty, atoms.mask, alpha), plain)
    for b, n in enumerate(atoms.num_atoms.tolist()):
        alone = loss({k: v[b : b + 1, :n] for k, v in data.items()}, atoms.mask[b : b + 1, :n], alpha[:1])
        torch.testing.assert_close(alone[0], plain[b])


def test_weight_and_power_of_alpha():
    h = torch.zeros(1, 2, 7, dtype=torch.float64)
    h[0, :, 1] = 0.25  # two carbons far apart, said to have four bonds each: (4 / 10)^2
    h[..., -1] = 0.4
    data = {"x": torch.tensor([[[0.0, 0, 0], [9, 0, 0]]], dtype=torch.float64), "h": h}
    found = ValencyLoss(FEATURES, 0.01, 2.0)(data, torch.ones(1, 2, dtype=torch.bool), 0.5 * ONE)
    assert found.item() == pytest.approx(0.01 * 0.25 * 0.16)


def test_unknown_elements_are_refused():
    with pytest.raises(ValueError, match=r"no bond lengths for atomic numbers \[26\]"):
        ValencyLoss(Features(("H", "Fe"), ("types", "valence"), (4.0, 10.0))).lengths()
