"""GDSS end to end at toy size: training, samples, files, steering, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

pytest.importorskip("lightning")
pytest.importorskip("rdkit")

from scidiffuse.core.checkpoint import CheckpointError
from scidiffuse.core.sample import sample
from scidiffuse.core.samplers import S4
from scidiffuse.core.steering import SVDD, FeynmanKac
from scidiffuse.molecules.chem import parse
from scidiffuse.molecules.data.graphs import Graphs
from scidiffuse.molecules.data.smiles import from_smiles
from scidiffuse.molecules.gdss import GDSS
from scidiffuse.molecules.gdss.config import PRESETS, GDSSConfig
from scidiffuse.molecules.gdss.sampling import sampler_of, times_of
from scidiffuse.molecules.gdss.training import build, space_of

SMILES = ["C", "CCO", "C1CC1", "CC(=O)N", "O=C=O", "N#CC", "CF", "C=C", "CCCCO"]
TINY = {"hidden": 8, "attention": 8, "depth": 1, "layers": 2, "linears": 1, "c_hidden": 4, "c_final": 2, "heads": 2}
FAST = {"max_steps": 6, "batch_size": 8, "seed": 0}


def molecules():
    return from_smiles(SMILES, "CNOF", max_atoms=5)


def rings(sizes=(3, 4, 5)):
    """Cycles, as graphs without types."""
    n = max(sizes)
    A, mask = torch.zeros(len(sizes), n, n, dtype=torch.uint8), torch.zeros(len(sizes), n, dtype=torch.bool)
    for b, k in enumerate(sizes):
        i = torch.arange(k)
        A[b, i, (i + 1) % k] = A[b, (i + 1) % k, i] = 1
        mask[b, :k] = True
    return Graphs(A, mask)


@pytest.fixture(scope="module")
def model():
    return GDSS.for_dataset(molecules(), **TINY).fit(molecules(), **FAST)


# ---------------------------------------------------------------- end to end


def test_training_learns_and_samples_have_their_words(model):
    graphs = molecules()
    longer = GDSS.for_dataset(graphs, **TINY).fit(graphs, max_steps=60, batch_size=8, log_every=10, seed=0)
    assert longer.history[-1]["loss"] < 0.85 * longer.history[0]["loss"]
    out = longer.sample(8, sampler="s4", steps=20, seed=0, virtual="argmax")
    assert len(out) == len(out.mols) == len(out.smiles) == 8
    assert set(out.report) == {"valid_uncorrected_gdss", "valid_corrected_gdss", "connected", "neutral"}
    assert all(score.n == 8 for score in out.report.values())
    valid = sum(s is not None for s in out.smiles)
    assert float(out.report["valid_corrected_gdss"]) == valid / 8


def test_graphs_without_types_are_told_by_their_degrees():
    graphs = rings()
    fitted = GDSS.for_dataset(graphs, preset="community_small", **TINY).fit(graphs, **FAST)
    assert (fitted.features, fitted.nodes) == (3, 5)
    out = fitted.sample(5, sampler="s4", steps=4, seed=1, isolated="keep")
    assert out.mols is None and out.smiles is None and out.report == {}
    assert out.graphs.hydrogens is None and len(out.graphs) == 5
    assert set(out.graphs.num_nodes.tolist()) <= {3, 4, 5}
    with pytest.raises(ValueError, match="too small"):
        fitted.fit(Graphs(torch.ones(1, 5, 5, dtype=torch.uint8) - torch.eye(5, dtype=torch.uint8), torch.ones(1, 5, dtype=torch.bool)))  # fmt: skip  # noqa: E501


def test_saved_and_loaded_models_sample_the_same(model, tmp_path):
    model.save(tmp_path / "m")
    again = GDSS.load(tmp_path / "m")
    assert again.config == model.config and again.meaning == model.meaning and again.nodes == model.nodes
    a, b = (m.sample(4, sampler="pc", steps=3, seed=2, virtual="argmax", start="moments") for m in (model, again))
    assert torch.equal(a.A, b.A) and torch.equal(a.X, b.X)
    out = a.write(tmp_path / "s.npz")
    assert torch.equal(Graphs.load(out).A, a.graphs.A)
    lines = a.write(tmp_path / "s.smi").read_text().splitlines()
    assert lines == [f"{s} {i}" for i, s in enumerate(a.smiles) if s is not None]
    with pytest.raises(ValueError, match=r"\.smi or \.npz"):
        a.write(tmp_path / "s.csv")


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path):
    graphs = molecules()
    whole = GDSS.for_dataset(graphs, **TINY, ema=0.9).fit(graphs, max_steps=8, batch_size=3, seed=1)
    part = GDSS.for_dataset(graphs, **TINY, ema=0.9).fit(graphs, max_steps=4, batch_size=3, seed=1, out=tmp_path)
    part.fit(graphs, max_steps=8, batch_size=3, seed=1, out=tmp_path, resume=True)
    for name, value in whole._network().state_dict().items():
        torch.testing.assert_close(part._network().state_dict()[name], value, rtol=0, atol=0)
    other = GDSS.for_dataset(graphs, **(TINY | {"depth": 2}), ema=0.9)
    with pytest.raises(ValueError, match="depth was 1, now 2"):
        other.fit(graphs, max_steps=9, batch_size=3, seed=1, out=tmp_path, resume=True)
    with pytest.raises(ValueError, match="other data"):
        part.fit(graphs[:7], max_steps=9, batch_size=3, seed=1, out=tmp_path, resume=True)
    with pytest.raises(ValueError, match="already at step 8"):
        part.fit(graphs, max_steps=5, batch_size=3, seed=1, out=tmp_path, resume=True)


def test_validation_is_watched_and_its_best_weights_are_kept(tmp_path):
    graphs = molecules()
    fitted = GDSS.for_dataset(graphs, **TINY).fit(
        graphs[:7], val=graphs[7:], out=tmp_path, **(FAST | {"batch_size": 3})
    )
    assert any("val_loss" in row for row in fitted.history)
    assert (tmp_path / "best" / "checkpoint.json").is_file()


# ---------------------------------------------------------------- steering and scaffolds


def heavy(mol):
    return float(sum(atom.GetAtomicNum() for atom in mol.GetAtoms()))


@pytest.mark.parametrize("steering", [SVDD(heavy, candidates=4, alpha=0.0), FeynmanKac(heavy, walkers=4, lam=2.0)])
def test_steering_raises_a_reward_of_molecules(model, steering):
    settings = {"sampler": "s4", "steps": 12, "seed": 0, "nodes": 4, "virtual": "argmax"}
    plain = model.sample(12, **settings)
    steered = model.sample(12, steering=steering, **settings)
    reward = [sum(heavy(mol) for mol in out.mols if mol is not None) / 12 for out in (plain, steered)]
    assert reward[1] > reward[0] + 1.0
    assert steered.info["network_calls"] == 4 * plain.info["network_calls"]
    assert len(steered) == 12 and len(torch.unique(steered.X.flatten(1), dim=0)) == 12  # no two of one group


def test_what_is_no_molecule_has_the_reward_of_invalid(model):
    seen = []

    def reward(mol):
        seen.append(mol)
        return 1.0

    steering = SVDD(reward, candidates=2, alpha=0.0)
    out = model.sample(2, sampler="s4", steps=3, seed=0, steering=steering, invalid=-5.0)
    values = torch.cat([torch.as_tensor(v) for v in out.records["svdd_value"]])
    assert set(values.tolist()) <= {1.0, -5.0} and all(mol is not None for mol in seen)


def test_scaffolds_stay(model):
    out = model.sample(5, sampler="s4", steps=10, seed=0, scaffold="C=CO", virtual="argmax")
    assert int(out.mask.sum(1).min()) >= 4
    assert torch.equal(out.graphs.types[:, :3], torch.tensor([[0, 0, 2]], dtype=torch.uint8).expand(5, 3))
    bonds = torch.tensor([[0, 2, 0], [2, 0, 1], [0, 1, 0]], dtype=torch.uint8)
    assert torch.equal(out.graphs.A[:, :3, :3], bonds.expand(5, 3, 3))
    assert torch.equal(out.A, out.A.mT)
    query = parse("C=CO")  # molecules have it, too, whatever their correction lowers
    assert all(mol.HasSubstructMatch(query) for mol in out.mols)
    with pytest.raises(ValueError, match="no training graph has 6 nodes or more"):
        model.sample(2, steps=2, scaffold="CCCCC")
    with pytest.raises(ValueError, match="6 atoms, its largest molecules have 5; take a smaller scaffold"):
        model.sample(2, steps=2, scaffold="CCCCCC")
    with pytest.raises(ValueError, match="outside the vocabulary"):
        model.sample(2, steps=2, scaffold="CS")
    with pytest.raises(ValueError, match="no molecule"):
        model.sample(2, steps=2, scaffold="C(")


def test_known_elements_walk_to_their_values():
    from scidiffuse.molecules.gdss.steering import Scaffold

    graphs = from_smiles(["C=CO"], "CNOF")
    config = GDSSConfig(**TINY)
    denoiser, mask = build(config, 4, 0), torch.ones(3, 5, dtype=torch.bool)
    hook = Scaffold(graphs.X[0], graphs.A[0].float())
    x = sample(
        denoiser, sampler_of(config, "pc"), times_of(20, 1e-4), space=space_of(mask), condition={"nodes": mask},
        shape={"X": (3, 5, 4), "A": (3, 5, 5)}, seed=0, hooks=[hook],
    ).x  # fmt: skip
    torch.testing.assert_close(x["X"][:, :3], graphs.X.expand(3, -1, -1), atol=1e-5, rtol=0)
    torch.testing.assert_close(x["A"][:, :3, :3], graphs.A.float().expand(3, -1, -1), atol=1e-5, rtol=0)
    assert torch.equal(x["A"], x["A"].mT)


# ---------------------------------------------------------------- bad input


def test_presets_are_the_published_settings():
    for name in PRESETS:
        GDSSConfig.preset(name)
    qm9, grid = GDSSConfig.preset("qm9"), GDSSConfig.preset("grid")
    assert qm9 == GDSSConfig() and (qm9.snr, qm9.scale_eps, qm9.epochs, qm9.batch_size) == (0.2, 0.7, 300, 1024)
    assert grid.a_process == ("VP", 0.2, 0.8) and (grid.depth, grid.layers, grid.batch_size) == (5, 7, 8)
    assert GDSS.for_dataset(molecules()).config == qm9
    assert GDSS.for_dataset(rings()).config == GDSSConfig.preset("community_small")
    with pytest.raises(ValueError, match="no preset 'qm10'; there are community_small"):
        GDSSConfig.preset("qm10")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"x_process": ("EDM", 0.1, 1.0)}, "x_process must be one of VP, VE, subVP"),
        ({"a_process": ("VE", 1.0, 0.1)}, "above sigma_min"),
        ({"a_process": "VP"}, "a name and two numbers"),
        ({"layers": 1}, "at least 2"),
        ({"heads": 3}, "must divide hidden"),
        ({"time": 3}, "even number"),
        ({"coupling": "both"}, "coupling must be one of 'joint'"),
        ({"t_end": 0.0}, "between 0 and 1"),
        ({"depth": 0}, "positive integer"),
    ],
)
def test_settings_out_of_range(settings, words):
    with pytest.raises(ValueError, match=words):
        GDSSConfig(**settings)


def test_a_sampler_of_the_core_has_its_own_settings(model):
    with pytest.raises(ValueError, match=r"\['snr'\] are settings of 'pc' and 's4'"):
        model.sample(2, sampler=S4(), steps=2, snr=0.1)


def test_what_a_model_refuses(model, tmp_path):
    fresh, some = GDSS.for_dataset(molecules(), **TINY), molecules()
    empty = Graphs(some.A[:0], some.mask[:0], some.types[:0], some.vocabulary, "implicit")
    with pytest.raises(RuntimeError, match="not trained"):
        fresh.sample(2)
    with pytest.raises(RuntimeError, match="has seen no graphs"):
        GDSS().inputs(molecules())
    with pytest.raises(ValueError, match="vocabulary"):
        fresh.fit(from_smiles(["CS"], "CS"), **FAST)
    with pytest.raises(ValueError, match="hydrogens"):
        fresh.fit(replace(molecules(), hydrogens="explicit"), **FAST)
    with pytest.raises(ValueError, match="7 nodes, 5 are asked for"):
        fresh.fit(from_smiles(["CCCCCCC"], "CNOF"), **FAST)
    with pytest.raises(ValueError, match="no graphs to train on"):
        fresh.fit(empty, **FAST)
    with pytest.raises(TypeError, match="takes Graphs"):
        fresh.fit(SMILES, **FAST)
    with pytest.raises(TypeError, match=r"GDSS takes Graphs .* got list"):
        GDSS.for_dataset(SMILES)
    with pytest.raises(ValueError, match="not both"):
        fresh.fit(molecules(), epochs=1, max_steps=1)
    for n in (0, 2.0, True):
        with pytest.raises(ValueError, match="positive integer"):
            model.sample(n)
    with pytest.raises(ValueError, match="1 to 5 nodes"):
        model.sample(2, nodes=9)
    with pytest.raises(ValueError, match="one for each of 2 samples"):
        model.sample(2, nodes=[1, 2, 3])
    with pytest.raises(ValueError, match="'pc', 's4'"):
        model.sample(2, sampler="euler")
    with pytest.raises(ValueError, match="no settings of sampling"):
        model.sample(2, depth=3)
    with pytest.raises(TypeError, match=r"core.steering.SVDD"):
        model.sample(2, steering=heavy)
    with pytest.raises(TypeError, match="not both"):
        GDSS(GDSSConfig(), depth=3)
    model.save(tmp_path / "m")
    text = (tmp_path / "m" / "checkpoint.json").read_text()
    (tmp_path / "m" / "checkpoint.json").write_text(text.replace('"depth"', '"width"'))
    with pytest.raises(CheckpointError, match=r"\['width'\]"):
        GDSS.load(tmp_path / "m")
