"""EDM's stability on geometries whose bonds are known, at the very limits of its table, and on real QM9."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from scidiffuse.molecules.data.atoms import Atoms
from scidiffuse.molecules.metrics.stability import BOND_LENGTHS, MARGINS, bond_orders, stability

WATER = ([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
DIOXIDE = ([6, 8, 8], [[0, 0, 0], [1.162, 0, 0], [-1.162, 0, 0]])
NITROGEN = ([7, 7], [[0, 0, 0], [1.10, 0, 0]])
HYDROXYL = ([8, 1], [[0, 0, 0], [0.97, 0, 0]])


def batch(*molecules):
    size = max(len(z) for z, _ in molecules)
    numbers, positions = np.zeros((len(molecules), size), int), np.full((len(molecules), size, 3), np.nan)
    for i, (z, x) in enumerate(molecules):
        numbers[i, : len(z)], positions[i, : len(z)] = z, x
    return numbers, positions


def test_bond_orders_of_small_molecules():
    orders = bond_orders(*batch(WATER, DIOXIDE, NITROGEN))
    assert orders[0].tolist() == [[0, 1, 1], [1, 0, 0], [1, 0, 0]]
    assert orders[1].tolist() == [[0, 2, 2], [2, 0, 0], [2, 0, 0]]
    assert orders[2].tolist() == [[0, 3, 0], [3, 0, 0], [0, 0, 0]]
    assert bond_orders(*batch(NITROGEN), single_only=True).max() == 1


@pytest.mark.parametrize(("pair", "z"), [("C-C", [6, 6]), ("C-N", [6, 7]), ("C-O", [8, 6]), ("N-N", [7, 7])])
def test_limits_of_the_table(pair, z):
    """Just below length + margin the bond has that order, just above the order below it."""
    for order in (1, 2, 3):
        limit = (BOND_LENGTHS[order][pair] + MARGINS[order]) / 100
        for distance, expected in ((limit - 1e-6, order), (limit + 1e-6, order - 1)):
            assert bond_orders(*batch((z, [[0, 0, 0], [0, distance, 0]])))[0, 0, 1] == expected


def test_shares_by_hand():
    """Water, CO2 and N2 are stable; of a hydroxyl radical the hydrogen alone is."""
    scores = stability(*batch(WATER, DIOXIDE, NITROGEN, HYDROXYL))
    assert float(scores["molecule_stability_edm"]) == 3 / 4
    assert float(scores["atom_stability_edm"]) == 9 / 10 and scores["atom_stability_edm"].n == 10
    assert scores["atom_stability_edm"].units == 4
    alone = stability(*batch(HYDROXYL), valences={1: (1,), 8: (1, 2)})
    assert float(alone["molecule_stability_edm"]) == 1.0


def test_moving_turning_renumbering_and_padding_change_nothing(monkeypatch):
    numbers, positions = batch(WATER, DIOXIDE, HYDROXYL)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    moved = positions @ turn + 5.0
    order = [2, 0, 1]
    wider = np.pad(numbers[:, order], ((0, 0), (0, 4)))
    far = np.concatenate([moved[:, order], np.zeros((3, 4, 3))], axis=1)
    assert stability(wider, far) == stability(numbers, positions)
    module = importlib.import_module("scidiffuse.molecules.metrics.stability")
    monkeypatch.setattr(module, "_PAIRS_AT_ONCE", 10)  # one molecule at a time
    assert stability(wider, far) == stability(numbers, positions)


def test_bad_input():
    z, x = batch(WATER)
    with pytest.raises(ValueError, match=r"expected atomic numbers \(B, N\)"):
        stability(z[0], x[0])
    with pytest.raises(ValueError, match="expected a mask"):
        stability(z, x, mask=np.ones((1, 2), bool))
    with pytest.raises(ValueError, match="1 atoms have positions that are not finite"):
        stability(z, np.where(np.arange(3)[:, None] == 1, np.nan, x))
    with pytest.raises(ValueError, match=r"no bond lengths for atomic numbers \[26\]"):
        stability(np.array([[26, 8, 0]]), x)
    with pytest.raises(ValueError, match="1 of them without atoms"):
        stability(np.array([[8, 1, 1], [0, 0, 0]]), np.concatenate([x, x]))
    with pytest.raises(ValueError, match="there are 0 molecules"):
        stability(z[:0], x[:0])


def test_real_molecules_of_qm9():
    """6,000 of the 130,831 molecules that qm9pack ships, drawn by pandas' ``sample(6000, random_state=0)``: 99.36 % of
    atoms, 95.17 % of molecules. (The first 6,000 of the file, the smallest molecules, give 98.79 and 93.53.)"""
    pd = pytest.importorskip("pandas")
    spec = importlib.util.find_spec("qm9pack")
    if spec is None:
        pytest.skip("qm9pack is not installed")
    files = [Path(spec.submodule_search_locations[0]) / "data" / f"qm9_part{part}.csv" for part in (1, 2, 3)]
    table = pd.concat([pd.read_csv(file, usecols=["Elements", "XYZ_Ang"]) for file in files])
    assert len(table) == 130_831
    number = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
    molecules = []
    for elements, text in table.sample(6000, random_state=0).itertuples(index=False):
        z = [number[symbol.strip(" '")] for symbol in elements.strip("[]").split(",")]
        x = np.array(text.replace("[", "").replace("]", "").replace("*^", "e").split(","), dtype=float)
        molecules.append((z, x.reshape(-1, 3)))
    scores = stability(*batch(*molecules), draws=50)
    assert round(100 * float(scores["atom_stability_edm"]), 2) == 99.36
    assert round(100 * float(scores["molecule_stability_edm"]), 2) == 95.17


def test_heavy_atoms_alone_are_warned_of():
    """Ethane without its hydrogens cannot be stable; what needs none (CO2, N2) is no reason to warn."""
    ethane = ([6, 6], [[0, 0, 0], [1.53, 0, 0]])
    with pytest.warns(UserWarning, match="none of the atoms of the 2 molecules is a hydrogen"):
        assert float(stability(*batch(ethane, NITROGEN))["molecule_stability_edm"]) == 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert float(stability(*batch(DIOXIDE, NITROGEN))["molecule_stability_edm"]) == 1.0
        stability(*batch(ethane, WATER))


def test_atoms_are_taken_alone():
    numbers, positions = batch(WATER, NITROGEN)
    mask = numbers > 0
    atoms = Atoms(
        torch.tensor(np.nan_to_num(positions), dtype=torch.float32),
        torch.tensor(numbers, dtype=torch.uint8),
        torch.zeros(2, 3, dtype=torch.int8),
        torch.tensor(mask),
    )
    assert stability(atoms) == stability(numbers, positions, mask)
    assert stability(SimpleNamespace(atoms=atoms)) == stability(atoms)
    assert (bond_orders(atoms) == bond_orders(numbers, positions)).all()
    with pytest.raises(TypeError, match="give them alone"):
        stability(atoms, positions)
    with pytest.raises(TypeError, match="got a ndarray without positions"):
        stability(numbers)


def test_certain_shares_have_an_interval():
    """Resampling molecules that are all stable, or all not, would say that nothing else can come."""
    far = ([8, 1, 1], [[0, 0, 0], [9, 0, 0], [0, 9, 0]])
    good, bad = (stability(*batch(*[one] * 5))["atom_stability_edm"] for one in (WATER, far))
    assert (good.value, good.high) == (1.0, 1.0) and 0.4 < good.low < 0.7
    assert (bad.value, bad.low) == (0.0, 0.0) and 0.3 < bad.high < 0.6
