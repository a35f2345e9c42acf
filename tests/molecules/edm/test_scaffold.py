"""Scaffolds in space: held exactly, without a preferred frame, and the law of the rest against a Gaussian's own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("rdkit")

from rdkit import Chem

from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.guidance import TimeTravel
from scidiffuse.core.sample import sample
from scidiffuse.core.samplers import DDPM
from scidiffuse.core.steering import SVDD
from scidiffuse.molecules.data.atoms import Atoms
from scidiffuse.molecules.edm import EDM
from scidiffuse.molecules.edm.features import space_of
from scidiffuse.molecules.edm.scaffold import Scaffold
from scidiffuse.molecules.edm.schedule import level, polynomial, times_of
from scidiffuse.molecules.gfmdiff import GFMDiff


def chain_of(n=4):
    """Covariance (n, n) of atoms on a chain of springs, without their mean."""
    laplacian = torch.diag(torch.tensor([1.0] + [2.0] * (n - 2) + [1.0]))
    laplacian -= torch.diag(torch.ones(n - 1), 1) + torch.diag(torch.ones(n - 1), -1)
    return torch.linalg.pinv(laplacian.double())


def gaussian(schedule, covariance):
    """The exact noise prediction for positions N(0, covariance) and features of variance one."""
    values, vectors = torch.linalg.eigh(covariance)

    def network(x, label, atoms):
        t = (float(label[0]) * (schedule.num_steps - 1) + 1) / schedule.num_steps
        a, s = schedule.alpha(t), schedule.sigma(t)
        inverse = vectors @ torch.diag(s / (a * a * values + s * s)) @ vectors.T
        return {"x": inverse @ x["x"], "h": x["h"] * (s / (a * a + s * s))}

    return Denoiser(network, schedule, "noise", label=level)


def drawn(held, repeats, n=800):
    schedule = polynomial(50)
    mask = torch.ones(n, 4, dtype=torch.bool)
    return sample(
        gaussian(schedule, chain_of()), DDPM(), times_of(schedule, None), shape={"x": (n, 4, 3), "h": (n, 4, 2)},
        space=space_of(mask), condition={"atoms": mask}, hooks=[held, TimeTravel(repeats)], seed=0, dtype=torch.float64,
    ).x  # fmt: skip


def test_repeated_steps_bring_the_rest_to_its_law_given_the_scaffold():
    given = torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]], dtype=torch.float64)
    held = Scaffold(given, torch.ones(2, 2, dtype=torch.float64), torch.tensor([True, False]))
    # atoms 3 and 4 hang on atom 2, free steps of variance one: their mean is its place, their variances 1 and 2
    off, spread = {}, {}
    for repeats in (1, 4, 16):
        x = held.put(drawn(held, repeats))
        assert float(x["x"].sum(1).abs().max()) < 1e-10  # still without a mean
        torch.testing.assert_close(x["x"][:, 1] - x["x"][:, 0], (given[1] - given[0]).expand(len(x["x"]), 3))
        assert bool((x["h"][:, :2, 0] == 1).all()) and float(x["h"][:, :2, 1].std()) > 0.5
        rest = x["x"][:, 2:] - x["x"][:, 1:2]
        off[repeats], spread[repeats] = float(rest.mean(0)[:, 0].abs().max()), rest.var(0).mean(1)
    assert off[1] > 0.5 > off[4] > off[16] and off[16] < 0.3
    torch.testing.assert_close(spread[4], torch.tensor([1.0, 2.0]).double(), rtol=0.2, atol=0)  # coarse steps: small


@pytest.fixture(scope="module", params=[EDM, GFMDiff], ids=["edm", "gfmdiff"])
def model(request):
    rng = np.random.default_rng(0)
    ring = torch.tensor(rng.normal(size=(8, 6, 3)) * 1.2 + np.arange(6)[:, None] * 1.4, dtype=torch.float32)
    numbers = torch.tensor([6, 8, 1, 1, 6, 1], dtype=torch.uint8).expand(8, 6).contiguous()
    atoms = Atoms(ring, numbers, torch.zeros(8, 6, dtype=torch.int8), torch.ones(8, 6, dtype=torch.bool))
    return request.param.for_dataset(atoms, "tiny", diffusion_steps=20).fit(
        atoms, max_steps=2, batch_size=4, seed=0, progress=False, accelerator="cpu"
    )


def piece(numbers=(8, 6), largest=4):
    """A scaffold among absent atoms."""
    x = torch.zeros(1, largest, 3)
    x[0, :2] = torch.tensor([[5.0, 5.0, 5.0], [6.4, 5.0, 5.0]])
    z = torch.zeros(1, largest, dtype=torch.uint8)
    z[0, :2] = torch.tensor(numbers, dtype=torch.uint8)
    return Atoms(x, z, torch.zeros(1, largest, dtype=torch.int8), z > 0)


def test_every_sample_has_the_scaffold_where_it_is(model):
    held = piece()
    out = model.sample(6, steps=10, seed=0, scaffold=held, nodes=[4, 5, 6, 4, 5, 6])
    assert torch.equal(out.atoms.positions[:, :2], held.positions[0, :2].expand(6, 2, 3))
    assert torch.equal(out.atoms.numbers[:, :2], held.numbers[0, :2].expand(6, 2))
    assert out.atoms.num_atoms.tolist() == [4, 5, 6, 4, 5, 6]
    assert out.info["network_calls"] > 10  # steps are repeated
    moved = model.sample(6, steps=10, seed=0, scaffold=replace(held, positions=held.positions + held.mask[..., None]))
    back = model.sample(6, steps=10, seed=0, scaffold=held)
    shift = (moved.atoms.positions - back.atoms.positions)[back.atoms.mask]
    torch.testing.assert_close(shift, torch.ones_like(shift), atol=1e-3, rtol=0)


def test_a_molecule_with_a_conformer_is_taken_and_rewards_steer_around_it(model):
    mol = Chem.MolFromSmiles("CO")
    conformer = Chem.Conformer(2)
    conformer.SetPositions(np.array([[0.0, 0.0, 0.1], [1.4, 0.0, 0.0]]))
    mol.AddConformer(conformer)
    out = model.sample(3, steps=5, seed=0, scaffold=mol, steering=SVDD(lambda m: 1.0, 2, alpha=0.0))
    assert out.atoms.numbers[:, :2].tolist() == [[6, 8]] * 3
    with pytest.raises(ValueError, match="scaffold_repeats=3 would undo what steering chooses"):
        model.sample(3, steps=5, scaffold=mol, scaffold_repeats=3, steering=SVDD(lambda m: 1.0, 2, alpha=0.0))


@pytest.mark.parametrize(
    ("scaffold", "repeats", "error", "text"),
    [
        ("C1CC1", 5, TypeError, "Atoms of one molecule, or an RDKit molecule with a conformer, got 'C1CC1'"),
        (Chem.MolFromSmiles("CO"), 5, ValueError, "without coordinates"),
        (piece((8, 7)), 5, ValueError, r"the model knows the elements .* the scaffold has \['N'\] too"),
        (piece()[[0, 0]], 5, ValueError, "one molecule, got 2"),
        (piece(), 0, ValueError, "repeats must be at least 1, got 0"),
    ],
)
def test_refused_scaffolds(model, scaffold, repeats, error, text):
    with pytest.raises(error, match=text):
        model.sample(2, steps=5, scaffold=scaffold, scaffold_repeats=repeats)


def test_a_scaffold_as_large_as_the_largest_molecule_is_refused(model):
    x = torch.arange(18.0).reshape(1, 6, 3)
    z = torch.full((1, 6), 6, dtype=torch.uint8)
    whole = Atoms(x, z, torch.zeros(1, 6, dtype=torch.int8), z > 0)
    with pytest.raises(ValueError, match="6 atoms, the model's largest molecules 6"):
        model.sample(2, steps=5, scaffold=whole)
