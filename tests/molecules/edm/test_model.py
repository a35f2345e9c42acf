"""EDM and GFMDiff end to end at toy size: training, samples, files, properties, steering, and what they refuse."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("rdkit")

from scidiffuse.core.checkpoint import CheckpointError
from scidiffuse.core.samplers import DDIM
from scidiffuse.core.steering import SVDD, FeynmanKac
from scidiffuse.core.training.keys import Keys
from scidiffuse.molecules.data.atoms import Atoms
from scidiffuse.molecules.data.xyz import read_xyz
from scidiffuse.molecules.edm import EDM, EDMConfig
from scidiffuse.molecules.edm.features import space_of
from scidiffuse.molecules.edm.training import AtomLoss, AtomSet
from scidiffuse.molecules.gfmdiff import GFMDiff, GFMDiffConfig
from scidiffuse.molecules.networks.egnn import EGNN

TINY = {
    EDM: {"hidden": 12, "layers": 2, "diffusion_steps": 20, "ema": None},
    GFMDiff: {"width": 8, "hidden": 8, "blocks": 1, "heads": 2, "outer": 2, "diffusion_steps": 20, "ema": None,
              "angle_step": 0.5, "dropout": 0.0},
}  # fmt: skip
FAST = {"max_steps": 6, "batch_size": 8, "seed": 0}


def molecules(n=12):
    """Waters, carbon dioxides and ammonias with a little jitter; "size" is known of each."""
    g = torch.Generator().manual_seed(0)
    kinds = [
        ([8, 1, 1], [[0.0, 0, 0], [0.958, 0, 0], [-0.240, 0.927, 0]]),
        ([6, 8, 8], [[0.0, 0, 0], [1.2, 0, 0], [-1.2, 0, 0]]),
        ([7, 1, 1, 1], [[0.0, 0, 0.12], [0, 0.94, -0.27], [0.81, -0.47, -0.27], [-0.81, -0.47, -0.27]]),
    ]
    x, z = torch.zeros(n, 4, 3), torch.zeros(n, 4, dtype=torch.uint8)
    for b in range(n):
        numbers, places = kinds[b % 3]
        z[b, : len(numbers)] = torch.tensor(numbers, dtype=torch.uint8)
        x[b, : len(numbers)] = torch.tensor(places) + 0.01 * torch.randn(len(numbers), 3, generator=g)
    size = torch.arange(n, dtype=torch.float64)
    return Atoms(x, z, torch.zeros(n, 4, dtype=torch.int8), z > 0, properties={"size": size})


def build(system, **changes):
    return system.for_dataset(molecules(), **(TINY[system] | changes))


@pytest.fixture(scope="module", params=[EDM, GFMDiff], ids=["edm", "gfmdiff"])
def model(request):
    return build(request.param).fit(molecules(), **FAST)


# ---------------------------------------------------------------- end to end


def test_training_learns_and_samples_have_their_report(model):
    system = type(model)
    longer = build(system).fit(molecules(), max_steps=50, batch_size=12, lr=5e-3, log_every=10, seed=0)
    assert longer.history[-1]["loss"] < 0.85 * longer.history[0]["loss"]
    out = longer.sample(6, seed=0)
    assert len(out) == len(out.mols) == len(out.smiles) == 6
    assert {"atom_stability_edm", "molecule_stability_edm", "valid_rdkit", "connected_edm"} <= set(out.report)
    assert float(out.report["valid_rdkit"]) == sum(m is not None for m in out.mols) / 6
    assert out.info["network_calls"] == 21
    assert set(out.atoms.num_atoms.tolist()) <= {3, 4}
    assert float(out.x.sum(1).abs().max()) < 1e-4
    assert longer.sample(6, steps=4, sampler=DDIM(), seed=0).info["network_calls"] == 4


def test_real_geometries_are_read_back_as_their_molecules(model):
    """Perfect states come out as stable, valid molecules with bonds: nothing is lost on the way."""
    from scidiffuse.molecules.edm.samples import AtomSamples

    atoms = molecules(3)
    h = model.features.encode(atoms)
    decoded = model.features.decode(atoms.positions, h, atoms.mask)
    out = AtomSamples.of(decoded, {"x": atoms.positions, "h": h}, {}, {}, {})
    assert out.smiles == ["O", "O=C=O", "N"]
    assert all(
        float(out.report[k]) == 1.0
        for k in ("atom_stability_edm", "molecule_stability_edm", "valid_rdkit", "connected_edm")
    )
    assert out.mols[0].GetNumAtoms() == 3 and out.mols[0].GetConformer().Is3D()


def test_sample_i_depends_on_seed_and_i_alone(model):
    whole = model.sample(5, seed=3, max_batch=None)
    parts = model.sample(5, seed=3, max_batch=2)
    few = model.sample(3, seed=3)
    torch.testing.assert_close(parts.x, whole.x, rtol=1e-4, atol=1e-4)
    n = few.mask.shape[1]
    torch.testing.assert_close(few.x, whole.x[:3, :n], rtol=1e-4, atol=1e-4)
    assert torch.equal(model.sample(5, seed=3).x, model.sample(5, seed=3).x)
    assert not torch.equal(model.sample(5, seed=4).h, whole.h)


def test_files(model, tmp_path):
    from rdkit import Chem

    again = type(model).load(model.save(tmp_path / "m"))
    assert again.config == model.config and again.features == model.features and again.nodes == model.nodes
    a, b = (m.sample(4, seed=2, nodes=[3, 4, 3, 4]) for m in (model, again))
    assert torch.equal(a.x, b.x) and torch.equal(a.h, b.h)
    back = read_xyz(a.write(tmp_path / "s.xyz"), units="angstrom")
    assert torch.equal(back.numbers, a.atoms.numbers) and torch.equal(back.positions, a.atoms.positions)
    found = list(Chem.SDMolSupplier(str(a.write(tmp_path / "s.sdf")), sanitize=False, removeHs=False))
    for b, mol in enumerate(found):  # whatever molecules they are
        n = mol.GetNumAtoms()
        places = torch.tensor(mol.GetConformer().GetPositions()).float()
        torch.testing.assert_close(places, a.atoms.positions[b, :n], rtol=0, atol=1e-4)
        orders = torch.zeros(n, n, dtype=torch.uint8)
        for bond in mol.GetBonds():
            i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
            orders[i, j] = orders[j, i] = int(bond.GetBondTypeAsDouble())
        assert torch.equal(orders, a.atoms.bonds[b, :n, :n])
    assert torch.equal(Atoms.load(a.write(tmp_path / "s.npz")).positions, a.atoms.positions)
    with pytest.raises(ValueError, match=r"\.sdf, \.xyz or \.npz"):
        a.write(tmp_path / "s.csv")
    with pytest.raises(CheckpointError):
        (GFMDiff if type(model) is EDM else EDM).load(tmp_path / "m")


def test_a_resumed_training_is_the_uninterrupted_one(model, tmp_path):
    system, atoms = type(model), molecules()
    whole = build(system).fit(atoms, **FAST, out=tmp_path / "whole")
    build(system).fit(atoms, **(FAST | {"max_steps": 3}), out=tmp_path / "part")
    resumed = build(system).fit(atoms, **FAST, out=tmp_path / "part", resume=True)
    for a, b in zip(whole._network().parameters(), resumed._network().parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="another model"):
        build(system, precision=1e-4).fit(atoms, **FAST, out=tmp_path / "part", resume=True)
    with pytest.raises(ValueError, match="other data"):
        build(system).fit(atoms[:9], **FAST, out=tmp_path / "part", resume=True)


# ---------------------------------------------------------------- the loss


def test_the_loss_is_the_mean_square_over_what_exists_and_padding_does_not_count():
    atoms, model = molecules(3), build(EDM)
    batch = AtomSet.collate([(AtomSet(atoms, model.features, None), i) for i in range(3)])
    denoiser = model._build(0)
    t, zero = torch.full((3,), 0.5, dtype=torch.float64), {k: torch.zeros_like(v) for k, v in batch["x"].items()}
    denoiser.network = lambda x, label, atoms: zero  # predicts no noise: the loss is the mean square of the noise
    noise = Keys.of(0, 0, range(3)).noise
    loss = AtomLoss().at(denoiser, batch, t, noise, {})
    n = space_of(batch["atoms"]).randn(noise, batch["x"], 0, "noise")
    total = n["x"].square().flatten(1).sum(1) + n["h"].square().flatten(1).sum(1)
    torch.testing.assert_close(loss, total / (atoms.num_atoms * (3 + model.features.width)))


# ---------------------------------------------------------------- properties


def test_properties_are_told_dropped_guided_and_drawn():
    atoms = molecules()
    model = build(EDM, properties=("size",), dropout_properties=0.5).fit(atoms, **FAST)
    assert model.denoiser.network.into.in_features == model.features.width + 1 + 2
    out = model.sample(4, seed=0)
    assert set(out.atoms.properties) == {"size"}
    low, high = model.sample(4, seed=0, nodes=3, condition={"size": 0.0}), model.sample(4, seed=0, nodes=3, condition={"size": 11.0})  # fmt: skip  # noqa: E501
    assert high.atoms.properties["size"].tolist() == [11.0] * 4
    assert not torch.equal(low.x, high.x)
    plain, guided = (model.sample(4, seed=0, nodes=3, condition={"size": 11.0}, guidance_scale=w) for w in (1.0, 3.0))
    assert torch.equal(plain.x, high.x) and not torch.equal(guided.x, high.x)
    assert guided.info["guidance_scale"] == 3.0
    with pytest.raises(ValueError, match=r"properties \['size'\], got \['mass'\]"):
        model.sample(2, condition={"mass": 1.0})
    with pytest.raises(ValueError, match="no property 'mass'"):
        build(EDM, properties=("mass",)).fit(atoms, **FAST)


def test_guidance_needs_dropped_properties(model):
    with pytest.raises(ValueError, match="dropout_properties > 0"):
        model.sample(2, guidance_scale=2.0)


def test_dropping_every_property_trains_on_the_null_condition():
    atoms, model = molecules(4), build(EDM, properties=("size",))
    model.fit(atoms, **FAST)
    batch = AtomSet.collate([(model._rows(model.inputs(atoms)), i) for i in range(4)])
    seen = {}

    class Spy(EGNN):
        def forward(self, x, t, atoms, context=None):
            seen["context"] = context
            return super().forward(x, t, atoms, context)

    denoiser = model._build(0)
    denoiser.network = Spy(model.features.width, 2, 4, 1)
    for share, wanted in ((1.0 - 1e-12, torch.zeros(4, 2)), (0.0, batch["context"])):
        AtomLoss(share)(denoiser, batch, Keys.of(0, 0, range(4)))
        assert torch.equal(seen["context"], wanted)


# ---------------------------------------------------------------- steering


@pytest.mark.parametrize("hook", [SVDD, FeynmanKac])
def test_steering_by_a_reward_of_molecules(model, hook):
    steering = (
        SVDD(lambda mol: float(mol.GetNumBonds()), candidates=3, alpha=0.0)
        if hook is SVDD
        else FeynmanKac(lambda mol: float(mol.GetNumBonds()), walkers=3, lam=2.0)
    )
    out = model.sample(2, seed=0, steps=8, nodes=3, steering=steering, invalid=-1.0)
    assert len(out) == 2 and out.info["network_calls"] == 24 and out.info["steering"] == hook.__name__


def test_steered_choices_have_the_larger_reward():
    """With the best of each three kept at every step, the samples beat unsteered ones at the same noise."""
    model = build(EDM).fit(molecules(), max_steps=80, batch_size=12, lr=3e-3, seed=0)

    def reward(mol):
        return -float(sum(a.GetAtomicNum() == 8 for a in mol.GetAtoms()))

    def oxygens(out):
        return int((out.atoms.numbers == 8).sum())

    plain = model.sample(16, seed=0, nodes=3)
    steered = model.sample(16, seed=0, nodes=3, steering=SVDD(reward, candidates=6, alpha=0.0), invalid=-3.0)
    assert oxygens(steered) < oxygens(plain)


# ---------------------------------------------------------------- what is refused


def test_refusals(model):
    system, atoms = type(model), molecules()
    with pytest.raises(RuntimeError, match="not trained"):
        system().sample(1)
    with pytest.raises(TypeError, match="takes Atoms"):
        system().fit([1, 2], max_steps=1)
    single = Atoms(torch.zeros(1, 1, 3), torch.full((1, 1), 6, dtype=torch.uint8), torch.zeros(1, 1, dtype=torch.int8),
                   torch.ones(1, 1, dtype=torch.bool))  # fmt: skip
    with pytest.raises(ValueError, match="single atom"):
        system.for_dataset(single)
    with pytest.raises(ValueError, match="at least 2 atoms"):
        model.sample(2, nodes=1)
    with pytest.raises(ValueError, match="largest"):
        model.sample(2, nodes=5)
    with pytest.raises(ValueError, match="positive integer"):
        model.sample(0)
    with pytest.raises(ValueError, match="from 2 to the 21 levels"):
        model.sample(1, steps=22)
    with pytest.raises(TypeError, match="SVDD"):
        model.sample(1, steering=lambda mol: 0.0)
    with pytest.raises(ValueError, match="epochs or max_steps"):
        build(system).fit(atoms, epochs=1, max_steps=1)
    with pytest.raises(ValueError, match="epochs must be positive"):
        build(system).fit(atoms, epochs=0)
    with pytest.raises(TypeError, match="not both"):
        system(model.config, lr=1.0)
    with pytest.raises(TypeError, match="config must be"):
        system(GFMDiffConfig() if system is EDM else EDMConfig())
    with pytest.raises(ValueError, match="no preset 'large'; there are qm9, small"):
        system.for_dataset(atoms, "large")
    with pytest.raises(ValueError, match="precision"):
        build(system, precision=0.7)
    with pytest.raises(TypeError, match="tuple of names"):
        build(system, properties="size")
